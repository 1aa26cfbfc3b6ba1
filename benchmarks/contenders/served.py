"""The usual ways as processes: so many plain uvicorn servers, started and stopped here.

Every server has a port of its own and the clients spread over the ports evenly, which is the best
that a load balancer could do, for nothing. A pool of 16 is shared: each of two servers has 8.

Run as a program, it is one such server: its stores come on standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn

from actors.process import calm_collector
from benchmarks.contenders.application import Stores, build_application
from benchmarks.contenders.place_tables import POOL_SIZE
from persistence import child_process
from persistence.server_directory import free_tcp_port

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 10
_CHECKOUT = Path(__file__).resolve().parents[2]


@contextmanager
def contender_servers(dsn: str, redis_url: str, workers: int) -> Iterator[list[int]]:
    """Start servers and stop them again; their ports. Call from the main thread."""
    with ExitStack() as started:
        ports = []
        for worker in range(workers):
            size = POOL_SIZE // workers + (worker < POOL_SIZE % workers)
            port = free_tcp_port()
            process = _start(port, {"dsn": dsn, "redis_url": redis_url, "pool_size": size})
            started.callback(_stop, process)
            ports.append((port, process))
        for port, process in ports:
            _wait_until_ready(port, process)
        yield [port for port, _ in ports]


def _start(port: int, stores: dict[str, object]) -> subprocess.Popen[bytes]:
    # The wrapper lets the server end with us, in whatever way we end.
    wrapper = [sys.executable, "-I", "-S", str(Path(child_process.__file__).resolve())]
    wrapper += ["--pdeathsig", "TERM", "--parent", str(os.getpid()), "--"]
    program = [sys.executable, "-m", "benchmarks.contenders.served", str(port)]
    process = subprocess.Popen(
        [*wrapper, *program],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        cwd=_CHECKOUT,
        start_new_session=True,
    )
    assert process.stdin is not None
    with process.stdin as secrets:
        # Not an argument: everybody can read those.
        secrets.write(json.dumps(stores).encode())
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_until_ready(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"a contender's server ended with {process.returncode} at its start")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise TimeoutError("a contender's server did not start in time")


def main() -> None:
    """One server, until SIGTERM."""
    stores = Stores(**json.load(sys.stdin))
    calm_collector()
    uvicorn.run(
        build_application(stores),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=2,
    )


if __name__ == "__main__":
    main()
