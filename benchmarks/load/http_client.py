"""A lean HTTP/1.1 client for measurements: kept connections, one request at a time on each.

A general client costs more than the server it measures. This one reads a status, a head and a
body of known length and nothing else, and calls back instead of waking a task.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, cast

from benchmarks.load.rounds import Round, Tally, Verdict

ANSWER_TIMEOUT_S = 60
"""For the last answers; a server that is silent for longer is broken, not slow."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_ETAG = re.compile(rb"\r\netag: *([^\r]+)", re.IGNORECASE)


class Answer(NamedTuple):
    """What came back; status 0 when the connection broke instead."""

    status: int
    head: bytes
    body: bytes

    @property
    def etag(self) -> bytes | None:
        """The entity tag, when there is one."""
        found = _ETAG.search(self.head)
        return found[1] if found else None


_NOTHING = Answer(0, b"", b"")


class Connection(asyncio.Protocol):
    """One kept connection, opened anew when the server closes it. Not for concurrent use."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._request = b""
        self._on_answer: Callable[[Answer], None] | None = None
        self._may_repeat = False
        self._opening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        connection = cls(host, port)
        await connection._connect()
        return connection

    async def send(self, request: bytes) -> Answer:
        """Send a whole request, wait for its answer; status 0 when the connection broke twice."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def on_answer(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        self.start(request, on_answer)
        return await answered

    def start(self, request: bytes, on_answer: Callable[[Answer], None]) -> None:
        """Send a whole request; the answer goes to ``on_answer``.

        A kept connection may be closed by the server at any time, as HAProxy does when it
        takes up a new configuration. The request is then sent once more: every request here
        may be repeated.
        """
        self._request = request
        self._on_answer = on_answer
        self._may_repeat = True
        if self._transport is None:
            self._reopen()
        else:
            self._transport.write(request)

    def close(self) -> None:
        """Hang up."""
        self._on_answer = None
        if self._transport is not None:
            self._transport.close()

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, *self._address)

    def _reopen(self) -> None:
        async def reopen() -> None:
            try:
                await self._connect()
            except OSError:
                self._finish(_NOTHING)
            else:
                assert self._transport is not None
                self._transport.write(self._request)

        self._opening = asyncio.ensure_future(reopen())

    def _finish(self, answer: Answer) -> None:
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            on_answer(answer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        # uvloop's transports are not instances of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._received:
            data = self._received + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._received = data
            return
        found = _LENGTH.search(data, 0, end)
        length = int(found[1]) if found else 0
        if len(data) < end + 4 + length:
            self._received = data
            return
        self._received = b""
        self._finish(Answer(int(data[9:12]), data[:end], data[end + 4 :]))

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = None
        self._received = b""
        if self._on_answer is None:
            return
        if self._may_repeat:
            self._may_repeat = False
            self._reopen()
        else:
            self._finish(_NOTHING)


class ConnectionPool:
    """Kept connections for an open model: who finds none free waits for one, in order."""

    def __init__(self, connections: list[Connection]) -> None:
        self._free = list(connections)
        self._waiting: deque[asyncio.Future[Connection]] = deque()

    async def send(self, request: bytes) -> Answer:
        """See ``Connection.send``."""
        if self._free:
            connection = self._free.pop()
        else:
            turn: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            connection = await turn
        try:
            return await connection.send(request)
        finally:
            if self._waiting:
                self._waiting.popleft().set_result(connection)
            else:
                self._free.append(connection)


async def open_connections(ports: list[int], count: int) -> list[Connection]:
    """So many connections, spread evenly over the ports of this machine."""
    return [await Connection.open("127.0.0.1", ports[n % len(ports)]) for n in range(count)]


async def run_connections(
    connections: list[Connection],
    seconds: float,
    next_request: Callable[[], tuple[int, bytes] | None],
    judge: Callable[[int, Answer], Verdict],
) -> Round:
    """A closed loop over connections, without a task for any of them.

    Args:
        next_request: the number of the next request, and its bytes; None when there are no more.
        judge: what this answer to the request with this number counts as.
    """
    tally = Tally()
    now = time.perf_counter
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(connections)
    started = now()
    end = started + seconds

    def leave() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            over.set_result(None)

    def drive(connection: Connection) -> None:
        number = 0
        begun = now()

        def ask() -> None:
            nonlocal number, begun
            following = next_request() if begun < end else None
            if following is None:
                leave()
                return
            number, request = following
            connection.start(request, on_answer)

        def on_answer(answer: Answer) -> None:
            nonlocal begun
            answered = now()
            tally.note(judge(number, answer), answered - begun)
            begun = answered
            ask()

        ask()

    for connection in connections:
        drive(connection)
    async with asyncio.timeout(seconds + ANSWER_TIMEOUT_S):
        await over
    return tally.round(now() - started)


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: house\r\n\r\n".encode()


def get_as(path: str, bearer: str) -> bytes:
    """A request by somebody."""
    return (f"GET {path} HTTP/1.1\r\nHost: house\r\nAuthorization: {bearer}\r\n\r\n").encode()


def get_if_changed(path: str, etag: bytes) -> bytes:
    """A request that is answered with 304 when the tag is still right."""
    return b"GET %b HTTP/1.1\r\nHost: house\r\nIf-None-Match: %b\r\n\r\n" % (path.encode(), etag)


def post(path: str, headers: str, body: bytes) -> bytes:
    """A request with a JSON body; ``headers`` are complete lines."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: house\r\nContent-Type: application/json\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
