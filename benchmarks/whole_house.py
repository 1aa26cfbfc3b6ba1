"""A whole house, HTTP and all, as ``scripts/run`` starts it, for measurements."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from persistence import child_process
from persistence.shards import ShardMap

START_TIMEOUT_S = 180
STOP_TIMEOUT_S = 60
LOG_TAIL_LINES = 30
_SANDBOX_TIMEOUT_S = 30
_CHECKOUT = Path(__file__).resolve().parents[1]
_SHOW_ACTOR = "ray::HostedShowActor"


@dataclass(frozen=True, slots=True)
class WholeHouse:
    """A running house.

    Shapes:
        dsn: its database, as a role that may change the catalogue.
        sandbox_url: where its payment sandbox answers.
    """

    dsn: str
    port: int
    launcher: psutil.Process
    sandbox_url: str

    @property
    def shards(self) -> ShardMap:
        """Its database, as the audit wants it."""
        return ShardMap.even((self.dsn,))

    def sandbox(self, method: str, path: str, /, **told: object) -> Any:
        """Ask the control plane of its payment sandbox."""
        request = urllib.request.Request(
            f"{self.sandbox_url}/sandbox/{path}",
            json.dumps(told).encode() if method != "GET" else None,
            {"Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=_SANDBOX_TIMEOUT_S) as response:
            return json.load(response)

    def show_actors(self) -> dict[int, int]:
        """The processes of all show actors, and the memory that each of them uses alone.

        Units:
            values: bytes, as the kernel counts them.
        """
        return {
            process.pid: process.memory_full_info().uss
            for process in self.launcher.children(recursive=True)
            if " ".join(process.cmdline()).startswith(_SHOW_ACTOR)
        }


@contextmanager
def whole_house(database_url: str, admin_database_url: str, redis_url: str) -> Iterator[WholeHouse]:
    """Start a house on these servers, without demo data, and stop it again.

    Call from the main thread. Requests have no limits; everything else about the house is as its
    users get it.
    """
    with tempfile.TemporaryDirectory(prefix="hf") as home:
        settings = {
            "HOUSEFULL_DATA_DIR": home,
            "HOUSEFULL_DATABASE_URLS": database_url,
            "HOUSEFULL_ADMIN_DATABASE_URLS": admin_database_url,
            "HOUSEFULL_REDIS_URL": redis_url,
            "HOUSEFULL_DEMO": "off",
            "HOUSEFULL_PAYMENTS": "sandbox",
            "HOUSEFULL_SANDBOX_PORT": "0",
            # A few clients stand for a crowd; what they would measure is how fast 429 comes.
            "HOUSEFULL_LIMITS": "off",
        }
        # The wrapper lets the house end with us, in whatever way we end.
        wrapper = [sys.executable, "-I", "-S", str(Path(child_process.__file__).resolve())]
        wrapper += ["--pdeathsig", "TERM", "--parent", str(os.getpid()), "--"]
        house = subprocess.Popen(
            [*wrapper, sys.executable, "-m", "serve_app", "run", "--port", "0"],
            env=_without_settings() | settings,
            stdout=subprocess.DEVNULL,
            cwd=_CHECKOUT,
            # Ctrl-C is for us; we stop the house when we have no more use for it.
            start_new_session=True,
        )
        try:
            notes = _wait_for_notes(Path(home), house)
            port = urlsplit(notes["url"]).port
            assert port is not None
            launcher = psutil.Process(house.pid)
            yield WholeHouse(admin_database_url, port, launcher, notes["sandbox_url"])
        finally:
            house.send_signal(signal.SIGTERM)
            try:
                house.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                # Its guardian then ends what is left of it.
                house.kill()
                house.wait()


def _without_settings() -> dict[str, str]:
    """Our environment without what would make it another house than users get."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HOUSEFULL_")}


def _wait_for_notes(home: Path, house: subprocess.Popen[bytes]) -> dict[str, Any]:
    notes = home / "running.json"
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if house.poll() is not None:
            # Its directory is about to go.
            log = home / "logs" / "house.log"
            tail = log.read_text().splitlines()[-LOG_TAIL_LINES:] if log.exists() else []
            told = "\n".join(tail)
            raise RuntimeError(f"the house ended with {house.returncode} at its start:\n{told}")
        if notes.exists():
            written: dict[str, Any] = json.loads(notes.read_text())
            return written
        time.sleep(0.1)
    raise TimeoutError("the house did not start in time")
