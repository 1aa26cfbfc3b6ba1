"""A crowd of clients in a process of its own: who is measured shares no event loop with it.

    with Crowd(port, Way.LOGINS_AT_ONCE, size=200) as crowd:
        ...measure...
        crowd.end()         # the statuses that it heard

The process reads nothing but the end of its standard input, which is how it is told to stop, and
ends with its parent in whatever way that ends. Requests are encoded before the first is sent.

It gives way to the client that measures. Real crowds compute on machines of their own; here that
client would be late for its own requests, and this would pass for slowness of the house.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from types import TracebackType

import uvloop

from benchmarks.load.http_client import Connection, get, open_connections, post

EVERY_S = 1.0
STOP_TIMEOUT_S = 30
GIVING_WAY = 19
REQUESTS_ENCODED = 20_000
"""More than a crowd gets answered in a round; after that they come round again."""

_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
_CHECKOUT = Path(__file__).resolve().parents[2]


class Way(StrEnum):
    """What the crowd does."""

    LOGINS_AT_ONCE = "logins_at_once"  #: All log in at one moment, and again every second.
    LOGINS_KEPT_UP = "logins_kept_up"  #: Each has a login under way, or waits as it was told to.
    NO_OPS_AT_ONCE = "no_ops_at_once"  #: All ask for nothing at one moment, and again.


class Crowd:
    """See the module's docstring. ``size`` clients of the account application, on loopback."""

    def __init__(self, port: int, way: Way, size: int) -> None:
        """Nothing is started yet."""
        self._arguments = [str(port), way.value, str(size)]
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Crowd:
        """Start, and wait until every client is connected and about to ask."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load.crowd", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=_CHECKOUT,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError("the crowd did not come")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def end(self) -> Counter[int]:
        """Send everybody home; how often each status was heard, 0 for broken connections."""
        assert self._process is not None
        told, _ = self._process.communicate(timeout=STOP_TIMEOUT_S)
        return Counter({int(status): count for status, count in json.loads(told).items()})


async def _run(port: int, way: Way, size: int) -> None:
    connections = await open_connections([port], size)
    requests = _no_ops() if way is Way.NO_OPS_AT_ONCE else _logins(port)
    heard: Counter[int] = Counter()
    asking = _keep_up if way is Way.LOGINS_KEPT_UP else _at_once
    print("ready", flush=True)
    crowd = asyncio.ensure_future(asking(connections, heard, requests))
    # Standard input ends when the parent says so, and when it is gone.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    crowd.cancel()
    await asyncio.gather(crowd, return_exceptions=True)
    print(json.dumps(heard), flush=True)


def _no_ops() -> Iterator[bytes]:
    return itertools.repeat(get("/api/account/healthz"))


def _logins(port: int) -> Iterator[bytes]:
    """Each for an address of its own that has no account."""
    # No two crowds of one run ask for the same addresses.
    own = asyncio.get_running_loop().time()
    bodies = (
        {"email": f"nobody{own:.6f}.{number}@flood.example", "password": "a wrong password"}
        for number in range(REQUESTS_ENCODED)
    )
    return itertools.cycle(
        [post("/api/account/sessions", "", json.dumps(body).encode()) for body in bodies]
    )


async def _at_once(
    connections: list[Connection], heard: Counter[int], requests: Iterator[bytes]
) -> None:
    """All at one moment, and again every second, or as soon as all of the last were answered."""
    loop = asyncio.get_running_loop()
    while True:
        next_at_s = loop.time() + EVERY_S
        await asyncio.gather(
            *(_ask(connection, heard, next(requests)) for connection in connections)
        )
        await asyncio.sleep(max(0.0, next_at_s - loop.time()))


async def _keep_up(
    connections: list[Connection], heard: Counter[int], requests: Iterator[bytes]
) -> None:
    """Each always has a request under way, or waits as long as it was told to."""

    async def go_on(connection: Connection) -> None:
        while True:
            again_s = await _ask(connection, heard, next(requests))
            await asyncio.sleep(again_s)

    await asyncio.gather(*map(go_on, connections))


async def _ask(connection: Connection, heard: Counter[int], request: bytes) -> float:
    """Try once; how many seconds the house wants to be left alone."""
    answer = await connection.send(request)
    heard[answer.status] += 1
    if answer.status == 0:
        return EVERY_S
    told = _RETRY_AFTER.search(answer.head)
    return float(told[1]) if told else 0.0


if __name__ == "__main__":
    os.nice(GIVING_WAY)
    uvloop.run(_run(int(sys.argv[1]), Way(sys.argv[2]), int(sys.argv[3])))
