"""One hot show over HTTP: holds of two seats against a no-op route of the same application.

    python -m benchmarks.http_hot_show [--url URL] [--rounds N] [--seconds N] [--clients N]

Without ``--url`` it starts a house of its own and stops it again. Rounds are interleaved; quote
the ratio, machines differ. The no-op is ``GET /api/booking/healthz``: same ingress, same replica.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import uvloop

from benchmarks.closed_loop import Round, run_clients
from benchmarks.http_client import Connection, get, post

START_TIMEOUT_S = 120
NO_OP = get("/api/booking/healthz")


@contextmanager
def own_house() -> Iterator[str]:
    """Start a house with demo data on a free port; its URL."""
    with tempfile.TemporaryDirectory(prefix="hf") as home:
        environment = {**os.environ, "HOUSEFULL_DATA_DIR": home}
        house = subprocess.Popen(
            [sys.executable, "-m", "serve_app", "run", "--port", "0"],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        try:
            yield _wait_for_url(Path(home) / "running.json", house)
        finally:
            house.send_signal(signal.SIGINT)
            house.wait(60)


def _wait_for_url(notes: Path, house: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert house.poll() is None, "the house did not start"
        if notes.exists():
            url: str = json.loads(notes.read_text())["url"]
            return url
        time.sleep(0.2)
    raise TimeoutError("the house did not start in time")


class HotShows:
    """The largest demo shows, one a round, and their seats two by two."""

    def __init__(self, url: str) -> None:
        with urlopen(
            f"{url}/api/browse/shows?kind=performance&limit=100&q={quote('arena')}"
        ) as got:
            self._shows = [show["show_id"] for show in json.load(got)["shows"]]
        self._url = url

    def __len__(self) -> int:
        return len(self._shows)

    def open(self, number: int) -> tuple[str, list[bytes]]:
        """A show nobody has bought from, and bodies that ask for its seats."""
        show_id = self._shows[number]
        with urlopen(f"{self._url}/api/browse/shows/{show_id}/seat-map") as got:
            sections = json.load(got)["sections"]
        bodies = [
            json.dumps({"seats": list(pair)}).encode()
            for section in sections
            for row in section["rows"]
            for pair in zip(row["labels"][::2], row["labels"][1::2], strict=False)
        ]
        return show_id, bodies


async def hold_round(
    connections: list[Connection], shows: HotShows, number: int, seconds: float
) -> Round:
    """Each client holds its next two seats, as a customer of its own."""
    show_id, bodies = await asyncio.to_thread(shows.open, number)
    path = f"/api/booking/shows/{show_id}/holds"
    numbers = itertools.count()

    async def ask(client: int) -> bool | None:
        hold = next(numbers)
        if hold >= len(bodies):
            return None
        headers = f"X-Customer-Id: c{number}-{hold}\r\nIdempotency-Key: bench-{number}-{hold}\r\n"
        answer = await connections[client].send(post(path, headers, bodies[hold]))
        return answer.status == 201

    await run_clients(1, 0.1, ask)  # Activates the show; that is measured elsewhere.
    return await run_clients(len(connections), seconds, ask)


async def no_op_round(connections: list[Connection], seconds: float) -> Round:
    """The same clients ask for nothing."""

    async def ask(client: int) -> bool | None:
        return (await connections[client].send(NO_OP)).status == 200

    return await run_clients(len(connections), seconds, ask)


async def measure(url: str, rounds: int, seconds: float, clients: int) -> None:
    """Interleaved rounds, a table and the ratio."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    connections = [await Connection.open(parts.hostname, parts.port) for _ in range(clients)]
    shows = HotShows(url)
    await no_op_round(connections, 1.0)
    ratios: list[float] = []
    print(f"{clients} clients, holds of two seats, {seconds:g} s a round")
    print("round      no-op/s  p50 ms  p99 ms      holds/s  p50 ms  p99 ms  refused    ratio")
    for number in range(min(rounds, len(shows))):
        no_op = await no_op_round(connections, seconds)
        held = await hold_round(connections, shows, number, seconds)
        ratios.append(held.rate_per_s / no_op.rate_per_s)
        print(
            f"{number + 1:5}{no_op.rate_per_s:13,.0f}{no_op.p50_ms:8.1f}{no_op.p99_ms:8.1f}"
            f"{held.rate_per_s:13,.0f}{held.p50_ms:8.1f}{held.p99_ms:8.1f}{held.refused:9}"
            f"{ratios[-1]:9.2f}"
        )
    print(f"median ratio {statistics.median(ratios):.2f}")
    for connection in connections:
        connection.close()


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="One hot show over HTTP against a no-op route.")
    parser.add_argument("--url", help="a running house with demo data that nobody has bought from")
    parser.add_argument("--rounds", type=int, default=4, help="at most one for each arena show")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=128)
    options = parser.parse_args()
    if options.url:
        uvloop.run(measure(options.url, options.rounds, options.seconds, options.clients))
    else:
        with own_house() as url:
            uvloop.run(measure(url, options.rounds, options.seconds, options.clients))


if __name__ == "__main__":
    main()
