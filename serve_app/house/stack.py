"""The house itself: starts everything in order, keeps it up, and stops it in reverse order.

``python -m serve_app.house.stack --launcher-pid PID --run-directory DIRECTORY`` is process C of
``guardian``: it runs until SIGTERM and then ends with status 0. It ends with 2 for settings that
cannot be followed and with 1 when something failed; either is said in one line before.

    starting   PostgreSQL, Valkey, migrations, demo catalogue, Ray, supervisor, HTTP applications,
               and the gateway when it is wanted
    open       once a second: is everything that was started still there?
    stopping   the same in reverse order

SIGTERM ends the starting and the open state at whatever place they are, by an exception in the
main thread; while stopping it changes nothing. Everything is started from the main thread,
because child processes are told to end with the thread that has started them.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import FrameType, TracebackType

from integrations.payments.provider_config import PaymentProvidersConfig
from persistence.accounts import Accounts
from persistence.catalogue import Catalogue, SearchItem
from persistence.child_process import EmbeddedServerError, process_is_alive
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.embedded_valkey import EmbeddedValkey
from persistence.provisioning import connected_pool
from reservation.faults import Fault
from serve_app.hosting.edge_config import EdgeConfig
from serve_app.house.app import compose_applications, compose_edge
from serve_app.house.console import Console
from serve_app.house.data_directory import DataDirectory, RunDirectory, RunningHouse
from serve_app.house.databases import Databases, prepare_configured, prepare_embedded
from serve_app.house.demo_logins import make_demo_logins
from serve_app.house.front_door import FrontDoor, backend_of, compose_front_door
from serve_app.house.payment_sandbox import PaymentSandbox
from serve_app.house.ports import PortChoice, PortReservation
from serve_app.house.ray_runtime import RayRuntime, local_url
from serve_app.house.signing_keys import ensure_signing_key
from serve_app.house.welcome import next_show, welcome
from serve_app.house_error import HouseError
from serve_app.settings import Settings, load_settings

EXIT_FAILED = 1

STOP_DEADLINE_S = 25
"""Below the guardian's own grace, so that the log can still say where stopping got stuck."""

GATEWAY_STOP_TIMEOUT_MS = 3_000

_WATCH_EVERY_S = 1.0
_REVIVALS_MAX = 5
_REVIVAL_WINDOW_S = 600

# Not __name__: that is "__main__" here.
_log = logging.getLogger("serve_app.house.stack")


class StopRequested(BaseException):
    """SIGTERM came. Not an ``Exception``, so that nobody mistakes it for a failure."""


class StopSignal:
    """Turns the first SIGTERM into ``StopRequested``, and everything later into nothing.

    Leaving this context begins the stopping, which has a deadline of its own.
    """

    def __init__(self) -> None:
        self._is_requested = False

    def __enter__(self) -> StopSignal:
        self.arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ignore()
        # A handler of Ray's that was there for a moment aborts the process 3 s after SIGTERM.
        signal.alarm(0)
        # It works in a thread of its own that needs nothing of Python, so it also ends a process
        # that hangs in a library.
        faulthandler.dump_traceback_later(STOP_DEADLINE_S, exit=True)
        if self._is_requested and not isinstance(error, StopRequested):
            # Ray turns an exception that reaches it from a signal into others.
            raise StopRequested from error

    def arm(self) -> None:
        """Take the signals, also back from a library that has taken them."""
        self.check()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request)

    def check(self) -> None:
        """Raise ``StopRequested`` again, in case a library has swallowed it."""
        if self._is_requested:
            raise StopRequested

    def _request(self, number: int, frame: FrameType | None) -> None:
        self._is_requested = True
        self._ignore()
        raise StopRequested

    def _ignore(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)


class Revivals:
    """Counts how often embedded servers were started again; too often means that it is no use."""

    def __init__(self) -> None:
        self._at_s: list[float] = []

    def count(self, name: str) -> None:
        """Note one.

        Raises:
            HouseError: there were too many of late.
        """
        now_s = time.monotonic()
        self._at_s = [at_s for at_s in self._at_s if now_s - at_s < _REVIVAL_WINDOW_S]
        self._at_s.append(now_s)
        if len(self._at_s) > _REVIVALS_MAX:
            raise HouseError(f"{name} keeps dying; its log is in the data directory")


class Stack:
    """One house from start to stop."""

    def __init__(
        self, settings: Settings, launcher_pid: int, run_directory: Path, console: Console
    ) -> None:
        self._settings = settings
        self._launcher_pid = launcher_pid
        self._run_directory = run_directory
        self._console = console
        self._data = DataDirectory(settings.data_dir)
        self._postgres: EmbeddedPostgres | None = None
        self._valkey: EmbeddedValkey | None = None
        self._ray: RayRuntime | None = None
        self._door: FrontDoor | None = None
        self._sandbox: PaymentSandbox | None = None
        self._example: SearchItem | None = None
        self._ports: list[PortChoice] = []

    def run(self) -> None:
        """Start, stay open until SIGTERM, stop.

        Raises:
            HouseError, EmbeddedServerError: it could not be started, or not kept up.
        """
        with ExitStack() as started, StopSignal() as stop:
            started.enter_context(self._data.used_by("housefull run", self._launcher_pid))
            started.callback(self._console.step, "stopped")
            run = started.enter_context(RunDirectory(self._data, self._run_directory))
            ports = started.enter_context(PortReservation())
            http = ports.choose(
                "HTTP", wanted=self._settings.http_port, host=self._settings.http_host
            )
            self._ports.append(http)
            if self._settings.gateway == "on":
                behind = backend_of(local_url(self._settings.http_host, http.port))
                self._door = compose_front_door(
                    self._settings, self._data, run.path / "gateway", [behind], ports
                )
                self._ports += self._door.ports
            if self._settings.has_payment_sandbox:
                self._start_sandbox(started, ports)
            databases = self._start_databases(started)
            redis_url = self._settings.redis_url or self._start_valkey(started)
            stop.check()
            self._example = self._prepare_contents(databases)
            stop.check()
            self._ray = RayRuntime(self._settings, self._data, run, ports)
            edge = compose_edge(
                self._settings,
                databases.shards,
                redis_url,
                str(run.heartbeats),
                gateway_secret=self._settings.gateway_secret or self._data.gateway_secret(),
                providers=self._providers(http),
            )
            self._start_ray(started, stop, edge, http)
            self._open_door(started)
            self._announce(started, databases, redis_url, http)
            self._watch(stop)

    def _start_sandbox(self, started: ExitStack, ports: PortReservation) -> None:
        self._console.step("starting the payment sandbox")
        port = ports.choose("payment sandbox", wanted=self._settings.sandbox_port)
        self._ports.append(port)
        self._sandbox = PaymentSandbox(self._data, port.port)
        started.callback(self._sandbox.stop)
        ports.hand_over(port)
        self._sandbox.start()

    def _providers(self, http: PortChoice) -> PaymentProvidersConfig:
        """With whom money is taken."""
        if self._sandbox is not None:
            self._sandbox.send_webhooks_to(local_url(self._settings.http_host, http.port))
            return self._sandbox.providers
        if self._settings.payments == "off":
            return PaymentProvidersConfig()
        return self._settings.provider_accounts()

    def _start_databases(self, started: ExitStack) -> Databases:
        if not self._settings.is_embedded_postgres:
            self._console.step("looking after the databases' schema")
            databases = prepare_configured(self._settings)
        else:
            postgres = EmbeddedPostgres(self._data.postgres)
            is_first = not self._data.postgres.exists()
            self._console.step(
                f"starting PostgreSQL {postgres.version}" + (" for the first time" * is_first)
            )
            started.callback(postgres.stop)
            started.callback(self._console.step, "stopping PostgreSQL")
            postgres.start()
            self._postgres = postgres
            databases = prepare_embedded(self._settings, self._data, postgres)
        if applied := databases.migrations_applied:
            self._console.step(f"applied migrations {applied[0]} to {applied[-1]}")
        return databases

    def _start_valkey(self, started: ExitStack) -> str:
        self._console.step("starting Valkey")
        valkey = EmbeddedValkey(self._data.valkey)
        started.callback(valkey.stop)
        valkey.start()
        self._valkey = valkey
        return valkey.url

    def _prepare_contents(self, databases: Databases) -> SearchItem | None:
        """Make the first signing key, and fill an empty catalogue; returns a show to try."""

        async def prepare() -> SearchItem | None:
            async with connected_pool(databases.catalogue_admin_url) as pool:
                accounts, catalogue = Accounts(pool), Catalogue(pool)
                await ensure_signing_key(accounts)
                if self._settings.demo == "auto" and await catalogue.count_shows() == 0:
                    if self._settings.is_for_this_machine:
                        self._console.step("making demo logins")
                        await make_demo_logins(accounts, self._data.path)
                    await self._load_demo(catalogue)
                return await next_show(catalogue)

        return asyncio.run(prepare())

    async def _load_demo(self, catalogue: Catalogue) -> None:
        from serve_app.catalogue.demo_catalogue import TIME_ZONE, load_demo

        self._console.step("loading the demo catalogue")
        report = await load_demo(catalogue, datetime.now(TIME_ZONE).date())
        for problem in report.problems:
            _log.warning("demo catalogue: %s", problem)
        self._console.step(f"the demo catalogue has {report.created:,} shows")

    def _start_ray(
        self, started: ExitStack, stop: StopSignal, edge: EdgeConfig, http: PortChoice
    ) -> None:
        assert self._ray is not None
        if self._settings.ray_address is None:
            self._console.step("starting Ray")
        else:
            self._console.step(f"joining the Ray cluster at {self._settings.ray_address}")
        started.callback(self._stop_ray, self._ray)
        self._ray.start()
        stop.arm()
        # Here, because it brings Ray along, and Ray reads its environment when it is imported.
        from actors.supervision import start_supervisor

        start_supervisor(edge.actors)
        self._console.step("starting the HTTP applications")
        self._ray.serve(compose_applications(edge), http.port)
        stop.arm()

    def _stop_ray(self, ray: RayRuntime) -> None:
        self._console.step("stopping the HTTP applications and Ray")
        # Nobody is waited for when the launcher was killed: the guardian will not wait either.
        ray.stop(is_urgent=not process_is_alive(self._launcher_pid))

    def _open_door(self, started: ExitStack) -> None:
        if self._door is None:
            return
        self._console.step("starting the gateway")
        started.callback(self._close_door, self._door)
        self._door.gateway.start()

    def _close_door(self, door: FrontDoor) -> None:
        # As with Ray: when the launcher was killed nobody is waited for.
        is_urgent = not process_is_alive(self._launcher_pid)
        door.gateway.stop(timeout_ms=0 if is_urgent else GATEWAY_STOP_TIMEOUT_MS)

    def _announce(
        self, started: ExitStack, databases: Databases, redis_url: str, http: PortChoice
    ) -> None:
        assert self._ray is not None
        url = local_url(self._settings.http_host, http.port)
        self._data.remember_running(
            RunningHouse(
                pid=self._launcher_pid,
                url=url,
                database_urls=databases.shards.dsns,
                admin_database_urls=databases.admin_urls,
                redis_url=redis_url,
                ray_address=self._ray.address,
                started_at_ms=time.time_ns() // 1_000_000,
                sandbox_url=None if self._sandbox is None else self._sandbox.url,
            )
        )
        started.callback(self._data.forget_running)
        self._console.say(
            welcome(
                self._settings,
                url if self._door is None else self._door.url,
                self._ports,
                self._example,
                started_in_s=self._console.elapsed_s,
                trusted=None if self._door is None else self._door.trusted,
                sandbox_url=None if self._sandbox is None else self._sandbox.url,
            )
        )

    def _watch(self, stop: StopSignal) -> None:
        revivals = Revivals()
        while True:
            time.sleep(_WATCH_EVERY_S)
            stop.check()
            assert self._ray is not None
            if not self._ray.is_alive():
                raise HouseError(f"Ray has ended by itself (logs: {self._data.ray})")
            gateway = self._door.gateway if self._door is not None else None
            if gateway is not None:
                gateway.refresh()
            for name, server in (
                ("PostgreSQL", self._postgres),
                ("Valkey", self._valkey),
                ("the gateway", gateway),
                ("the payment sandbox", self._sandbox),
            ):
                if server is not None and not server.is_running:
                    _log.error("%s has ended by itself; starting it again", name)
                    revivals.count(name)
                    server.start()


def run_house(launcher_pid: int, run_directory: Path, changes: dict[str, object]) -> int:
    """Run a house until SIGTERM; returns the exit status.

    Args:
        run_directory: see ``make_run_directory``.
        changes: settings that are given another value than the environment says.
    """
    try:
        settings = load_settings(**changes)
        DataDirectory(settings.data_dir).create()
    except HouseError as error:
        for line in str(error).splitlines():
            print(f"housefull: {line}", file=sys.stderr)
        return error.exit_status
    console = Console(settings.data_dir / "logs", settings.log_level, settings.log_format)
    return _ended(Stack(settings, launcher_pid, run_directory, console).run, console)


def _ended(run: Callable[[], None], console: Console) -> int:
    try:
        run()
    except (StopRequested, SystemExit):
        # SystemExit is from Ray's own handler of SIGTERM, which is in place while Ray starts.
        return 0
    except HouseError as error:
        console.fail(str(error))
        return error.exit_status
    except (EmbeddedServerError, Fault) as error:
        console.fail(str(error))
    except Exception:
        console.bug("the house failed in a way nobody has foreseen")
    finally:
        faulthandler.cancel_dump_traceback_later()
    return EXIT_FAILED


def main() -> int:
    """Process C's program."""
    parser = argparse.ArgumentParser(prog="python -m serve_app.house.stack")
    parser.add_argument("--launcher-pid", type=int, required=True)
    parser.add_argument("--run-directory", type=Path, required=True)
    parser.add_argument("--http-port", type=int)
    parser.add_argument("--no-demo", action="store_true")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    changes: dict[str, object] = {}
    if options.http_port is not None:
        changes["http_port"] = options.http_port
    if options.no_demo:
        changes["demo"] = "off"
    if options.tls:
        changes["gateway"] = "on"
    return run_house(options.launcher_pid, options.run_directory, changes)


if __name__ == "__main__":
    sys.exit(main())
