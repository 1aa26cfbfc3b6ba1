"""A lean HTTP/1.1 client for measurements: one kept connection, one request at a time.

A general client costs more than the server it measures. This one reads a status and a body of
known length and nothing else.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple, cast


class Answer(NamedTuple):
    """What came back."""

    status: int
    body: bytes


class Connection(asyncio.Protocol):
    """One kept connection, opened anew when the server closes it. Not for concurrent use."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._waiting: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        connection = cls(host, port)
        await connection._connect()
        return connection

    async def _connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, *self._address)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See ``asyncio.Protocol``."""
        # uvloop's transports are not instances of asyncio's classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._waiting is None:
            return
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length:
            return
        self._received = b""
        if not self._waiting.done():
            self._waiting.set_result(Answer(int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        self._transport = None
        self._received = b""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed by the server"))

    async def send(self, request: bytes) -> Answer:
        """Send a whole request and wait for its answer.

        A kept connection may be closed by the server at any time, as HAProxy does when it
        takes up a new configuration. The request is then sent once more: every request here
        may be repeated.
        """
        try:
            return await self._send(request)
        except ConnectionError:
            return await self._send(request)

    async def _send(self, request: bytes) -> Answer:
        if self._transport is None:
            await self._connect()
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()


def get(path: str) -> bytes:
    """A request without a body."""
    return f"GET {path} HTTP/1.1\r\nHost: house\r\n\r\n".encode()


def post(path: str, headers: str, body: bytes) -> bytes:
    """A request with a JSON body; ``headers`` are complete lines."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: house\r\nContent-Type: application/json\r\n"
        f"{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
