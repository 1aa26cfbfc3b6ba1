"""A whole house as a user starts it, for tests that kill its parts while clients use it.

The house has databases of its own in a data directory, so what one house has stored, the next
one in the same directory finds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from persistence import child_process
from persistence.shards import ShardMap

CHECKOUT = Path(__file__).resolve().parents[2]
START_S = 180
STOP_S = 60

RUN = (sys.executable, "-m", "serve_app", "run")


class LaunchedHouse:
    """A running house and its processes."""

    def __init__(
        self,
        data: Path,
        ingress_mode: str,
        launcher: subprocess.Popen[bytes],
        notes: dict[str, object],
    ) -> None:
        self.data = data
        self.ingress_mode = ingress_mode
        self.launcher = launcher
        self.notes = notes

    @property
    def url(self) -> str:
        """Where it answers."""
        return str(self.notes["url"])

    @property
    def output(self) -> str:
        """What its launcher has said, and what those in the same directory had said before."""
        return _output_of(self.data).read_text()

    @property
    def admin_dsn(self) -> str:
        """Its database, as a role that may change the catalogue."""
        urls = self.notes["admin_database_urls"]
        assert isinstance(urls, list)
        return str(urls[0])

    @property
    def shards(self) -> ShardMap:
        """Its database, as the checks want it."""
        return ShardMap.even((self.admin_dsn,))

    def processes(self, is_wanted: Callable[[str], bool]) -> list[psutil.Process]:
        """Those of its processes whose command line is wanted."""
        found = []
        for process in psutil.Process(self.launcher.pid).children(recursive=True):
            try:
                if process.status() != psutil.STATUS_ZOMBIE and is_wanted(
                    " ".join(process.cmdline())
                ):
                    found.append(process)
            except psutil.NoSuchProcess:
                continue
        return found

    def replicas(self) -> list[psutil.Process]:
        """The processes of the booking application."""
        return self.processes(lambda line: line.startswith("ray::ServeReplica:booking"))

    def ingress(self) -> list[psutil.Process]:
        """The processes that listen on the public port."""
        return self.processes(
            lambda line: line.startswith("ray::ProxyActor") or "/haproxy -" in line
        )


@contextmanager
def launched_house(
    data: Path, ingress: str, *, command: Sequence[str] = RUN, **settings: str
) -> Iterator[LaunchedHouse]:
    """Start a house without demo shows and limits of requests, and stop it again.

    Call from the main thread.

    Args:
        command: what a user would type.
        settings: further variables, without their prefix.
    """
    variables = {
        "data_dir": str(data),
        "http_port": "0",
        "http_replicas": "2",
        "demo": "off",
        "ingress": ingress,
        # A fault that turns many away would turn into a limit that turns more away.
        "limits": "off",
        **settings,
    }
    environment = {f"HOUSEFULL_{name.upper()}": value for name, value in variables.items()}
    output = _output_of(data).open("ab")
    # The wrapper lets the house end with us, in whatever way we end.
    wrapper = [sys.executable, "-I", "-S", str(Path(child_process.__file__).resolve())]
    wrapper += ["--pdeathsig", "TERM", "--parent", str(os.getpid()), "--"]
    launcher = subprocess.Popen(
        [*wrapper, *command],
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for the tests; they stop the house themselves.
        start_new_session=True,
    )
    try:
        yield LaunchedHouse(data, ingress, launcher, _wait_for_notes(data, launcher))
    finally:
        output.close()
        if launcher.poll() is None:
            launcher.send_signal(signal.SIGTERM)
            launcher.wait(STOP_S)


def _wait_for_notes(data: Path, launcher: subprocess.Popen[bytes]) -> dict[str, object]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert launcher.poll() is None, _output_of(data).read_text()
        path = data / "running.json"
        if path.exists():
            notes: dict[str, object] = json.loads(path.read_text())
            # A house that was killed leaves its notes for the next one to overwrite.
            if notes["pid"] == launcher.pid:
                return notes
        time.sleep(0.1)
    raise TimeoutError("the house did not open in time")


def _output_of(data: Path) -> Path:
    return data.parent / f"{data.name}.output"
