"""The command line ``housefull``.

Commands import what they need when they run: Ray alone takes seconds, and ``--help`` none.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from serve_app.cli_accounts import account_commands, key_commands
from serve_app.cli_gateway import gateway
from serve_app.cli_import import import_commands
from serve_app.cli_reconcile import reconcile
from serve_app.cli_verify import verify
from serve_app.house_error import HouseError

_EXIT_FAILED = 1
_EXITS_EXPLAINED = frozenset({0, HouseError.exit_status, 2})

app = typer.Typer(
    name="housefull",
    help="Sell seats: start the house, fill its catalogue, look after its databases.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(import_commands, name="import")
app.add_typer(account_commands, name="accounts")
app.add_typer(key_commands, name="keys")
app.command()(verify)
app.command()(reconcile)
app.command()(gateway)


def _show_version(is_wanted: bool) -> None:
    if not is_wanted:
        return
    try:
        typer.echo(f"housefull {version('housefull')}")
    except PackageNotFoundError:
        typer.echo("housefull (not installed: run from its source)")
    raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Sell seats: start the house, fill its catalogue, look after its databases."""


@app.command()
def run(
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="HTTP port, over HOUSEFULL_HTTP_PORT; 0 is any."),
    ] = None,
    no_demo: Annotated[
        bool, typer.Option("--no-demo", help="Leave an empty catalogue empty.")
    ] = False,
    tls: Annotated[
        bool, typer.Option("--tls", help="Start the gateway too: HTTPS, limits, one public port.")
    ] = False,
) -> None:
    """Start everything, and stop it on Ctrl-C."""
    from serve_app.house.data_directory import make_run_directory
    from serve_app.house.guardian import run_guarded

    scratch = str(make_run_directory())
    command = [sys.executable, "-m", "serve_app.house.stack", "--launcher-pid", str(os.getpid())]
    command += ["--run-directory", scratch]
    if port is not None:
        command += ["--http-port", str(port)]
    if no_demo:
        command.append("--no-demo")
    if tls:
        command.append("--tls")
    end = run_guarded(command, scratch=scratch)
    if end.status not in _EXITS_EXPLAINED:
        from serve_app.house.data_directory import DataDirectory
        from serve_app.settings import load_settings

        data = DataDirectory(load_settings().data_dir)
        data.clear_after_crash()
        how = "did not stop in time" if end.was_asked else "ended by itself"
        _tell(f"the house {how} (status {end.status}); its logs are in {data.logs}")
    raise typer.Exit(end.status)


@app.command()
def migrate() -> None:
    """Bring the databases to the newest schema."""
    from serve_app.house.databases import open_databases
    from serve_app.settings import load_settings

    with open_databases(load_settings(), "housefull migrate") as databases:
        for name in databases.migrations_applied:
            typer.echo(f"applied {name}")
        if not databases.migrations_applied:
            typer.echo("nothing to do: the schema is the newest")


@app.command()
def settings() -> None:
    """Print the settings in force, with passwords masked."""
    from serve_app.settings import describe, load_settings

    for line in describe(load_settings()):
        typer.echo(f"# {line.description}")
        # Ready to be copied into .env: what is a default stays one.
        mark = "#" if line.is_default else ""
        typer.echo(f"{mark}{line.variable}={line.value}\n")


def main() -> None:
    """The console script. Expected errors are one line each on standard error."""
    with _explained():
        app(prog_name="housefull")


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except HouseError as error:
        _tell(str(error))
        sys.exit(error.exit_status)
    except Exception as error:
        from persistence.child_process import EmbeddedServerError
        from reservation.faults import Fault

        if not isinstance(error, EmbeddedServerError | Fault):
            raise
        _tell(str(error))
        sys.exit(_EXIT_FAILED)


def _tell(text: str) -> None:
    for line in text.splitlines():
        typer.echo(f"housefull: {line}", err=True)
