"""``housefull gateway``: HTTPS in front of a house that runs already."""

from __future__ import annotations

import sys

import typer


def gateway() -> None:
    """Start HTTPS in front of the running house, or of HOUSEFULL_GATEWAY_BACKENDS.

    Ctrl-C stops it; the house goes on. `housefull run --tls` starts both.
    """
    from serve_app.house.data_directory import make_run_directory
    from serve_app.house.guardian import run_guarded

    scratch = str(make_run_directory())
    command = [sys.executable, "-m", "serve_app.house.front_door", "--run-directory", scratch]
    raise typer.Exit(run_guarded(command, scratch=scratch).status)
