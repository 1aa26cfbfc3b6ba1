"""A bad line to PostgreSQL: forwards until it is told to lose something.

It listens on a unix socket of its own, or on TCP, and speaks no protocol beyond knowing where an
answer ends, so that the client on one side and the server on the other are the real ones. Every
fault is commanded and counted, so that a test can say that it happened:

    lose_request(marker)   the first request that contains the marker; the line is cut
    lose_answer(marker)    the answer to that request, all of it or all but its first bytes, once
                           the server has given it whole; the line is cut afterwards
    keep_answer(marker)    the same, but the line stays up and silent until ``cut_lines``
    roll(dice, ...)        requests and answers are lost as the dice fall
    freeze() / thaw()      everything, both ways or one, until it goes on; new lines are silent too
    freeze_lines()         the same for the lines that are there now, for ever; new ones work
    abandon_lines()        the server's half of every line is closed and the client is not told
    cut_lines()            every line ends; over TCP with a reset
    delay_s                every answer comes this much later
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

_CHUNK_BYTES = 1 << 20
# "Ready for query, idle": the last bytes of an answer.
_READY = b"Z\x00\x00\x00\x05I"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_LOOPBACK = "127.0.0.1"

Ways = Literal["both", "requests", "answers"]


class LossyProxy:
    """One proxy in front of one server that listens on a unix socket.

    Shapes:
        dsn: the server's through this proxy; over TCP it is there only while it is running.
        happened: how many lines, requests and answers each kind of fault has met.
    """

    def __init__(self, dsn: str, directory: Path | None) -> None:
        """``directory`` is for the proxy's socket; without it the proxy listens on TCP."""
        self._parts = urlsplit(dsn)
        query = parse_qs(self._parts.query)
        self._port = query["port"][0]
        self._target = f"{query['host'][0]}/.s.PGSQL.{self._port}"
        self._path = None
        self.dsn = ""
        if directory is not None:
            self._path = directory / f".s.PGSQL.{self._port}"
            assert len(os.fspath(self._path)) < 100, "the path of a unix socket is short"
            query_there = f"host={directory}&port={self._port}"
            self.dsn = urlunsplit(self._parts._replace(query=query_there))
        self.lost = asyncio.Event()
        self.happened: Counter[str] = Counter()
        self.line_count = 0
        self.delay_s = 0.0
        self._marker: bytes | None = None
        self._loss: Loss = Loss("request")
        self._dice: random.Random | None = None
        self._chances = (0.0, 0.0)
        self._flowing = {"requests": asyncio.Event(), "answers": asyncio.Event()}
        self.thaw()
        self._lines: set[_Line] = set()
        self._accepting: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LossyProxy]:
        """Accept connections until the block ends; then cut what is left."""
        if self._path is not None:
            server = await asyncio.start_unix_server(self._accept, self._path, limit=_CHUNK_BYTES)
        else:
            server = await asyncio.start_server(self._accept, _LOOPBACK, 0, limit=_CHUNK_BYTES)
            self._listen_on(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for line in list(self._lines):
                line.cut()
            for task in self._accepting:
                task.cancel()
            await asyncio.gather(*self._accepting, return_exceptions=True)
            await server.wait_closed()

    def _listen_on(self, port: int) -> None:
        secret = self._parts.netloc.rpartition("@")[0]
        place = f"{secret}@{_LOOPBACK}:{port}"
        self.dsn = urlunsplit(self._parts._replace(netloc=place, query="sslmode=disable"))

    # -- faults of one request ------------------------------------------------------------

    def lose_request(self, marker: str) -> None:
        """Cut the line instead of forwarding the first request with these words."""
        self._lose(marker, Loss("request"))

    def lose_answer(self, marker: str, *, after_bytes: int = 0) -> None:
        """Forward that request, wait for its answer, and cut the line instead of passing it on.

        ``after_bytes``: so much of the answer is passed on before.
        """
        self._lose(marker, Loss("answer", after_bytes))

    def keep_answer(self, marker: str) -> None:
        """Forward that request, wait for its answer, and pass nothing on: the line is silent."""
        self._lose(marker, Loss("kept answer"))

    def roll(self, dice: random.Random, *, request_chance: float, answer_chance: float) -> None:
        """Lose each request, and the answer to each request, with these chances."""
        self._dice, self._chances = dice, (request_chance, answer_chance)

    def _lose(self, marker: str, loss: Loss) -> None:
        self._marker, self._loss = marker.encode(), loss
        self.lost.clear()

    # -- faults of whole lines ------------------------------------------------------------

    def freeze(self, ways: Ways = "both") -> None:
        """Forward nothing any more, in one direction or in both."""
        self.happened["frozen"] += len(self._lines)
        for way, flowing in self._flowing.items():
            if ways in ("both", way):
                flowing.clear()

    def thaw(self) -> None:
        """Forward again, and what was kept back first."""
        for flowing in self._flowing.values():
            flowing.set()

    def freeze_lines(self) -> None:
        """Never forward anything again on the lines that are there."""
        for line in self._lines:
            self.happened["frozen"] += 1
            line.is_dead = True

    def abandon_lines(self) -> None:
        """Close the server's half of every line; the client is not told: half-open lines."""
        for line in self._lines:
            self.happened["abandoned"] += 1
            line.abandon()

    def cut_lines(self) -> int:
        """Cut every line that is there; over TCP both ends see a reset. Returns how many."""
        lines = list(self._lines)
        for line in lines:
            line.cut()
        self.happened["cut"] += len(lines)
        return len(lines)

    # -- for its lines --------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.line_count += 1
        task = asyncio.current_task()
        assert task is not None
        self._accepting.add(task)
        task.add_done_callback(self._accepting.discard)
        try:
            server = await asyncio.open_unix_connection(self._target, limit=_CHUNK_BYTES)
        except OSError:
            # The server is away; a proxy has nothing better to say than the server itself.
            self.happened["refused"] += 1
            writer.transport.abort()
            return
        line = _Line(self, reader, writer, *server)
        self._lines.add(line)
        try:
            # Who ends the proxy cancels this; nobody else is to be told.
            with suppress(asyncio.CancelledError):
                await line.run()
        finally:
            self._lines.discard(line)

    async def wait_until_flowing(self, way: Literal["requests", "answers"]) -> None:
        """Return when this direction is not frozen."""
        await self._flowing[way].wait()

    def loss_of(self, chunk: bytes) -> Loss | None:
        """What shall be lost about this request; a marker is met only once."""
        if self._marker is not None and self._marker in chunk:
            self._marker = None
            return self._loss
        if self._dice is not None:
            roll = self._dice.random()
            if roll < self._chances[0]:
                return Loss("request")
            if roll < sum(self._chances):
                return Loss("answer")
        return None


class Loss:
    """One thing to lose. ``kind`` is also what it is counted as."""

    def __init__(
        self, kind: Literal["request", "answer", "kept answer"], after_bytes: int = 0
    ) -> None:
        self.kind = kind
        self.after_bytes = after_bytes


class _Line:
    def __init__(
        self,
        proxy: LossyProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        server_reader: asyncio.StreamReader,
        server_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._server_reader, self._server_writer = server_reader, server_writer
        self._loss: Loss | None = None
        # What is said before the server is ready for queries is no request: it has no answer of
        # its own, and it has the name of the caller in it.
        self._is_ready = False
        self.is_dead = False

    async def run(self) -> None:
        ways = [
            asyncio.ensure_future(self._forward_requests()),
            asyncio.ensure_future(self._forward_answers()),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.cut()
            for way in ways:
                way.cancel()
            ended = await asyncio.gather(*ways, return_exceptions=True)
        for error in ended:
            if not isinstance(error, OSError | EOFError | asyncio.CancelledError):
                raise AssertionError("the proxy itself failed") from error

    def cut(self) -> None:
        end = self._writer.get_extra_info("socket")
        # Every line is cut when it ends, also one that was cut before: its socket is closed.
        is_open = not self._writer.transport.is_closing()
        if is_open and end is not None and end.family == socket.AF_INET:
            # Closing it now is a reset, not a polite end.
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        for writer in (self._writer, self._server_writer):
            writer.transport.abort()

    def abandon(self) -> None:
        self.is_dead = True
        self._server_writer.transport.abort()

    async def _forward_requests(self) -> None:
        while True:
            chunk = await self._read(self._reader, "requests")
            loss = self._proxy.loss_of(chunk) if self._is_ready else None
            if loss is not None:
                if loss.kind == "request":
                    self._note(loss)
                    raise EOFError
                self._loss = loss
            self._server_writer.write(chunk)
            await self._server_writer.drain()

    async def _forward_answers(self) -> None:
        while True:
            chunk = await self._read(self._server_reader, "answers")
            if self._loss is not None:
                await self._lose_answer(self._loss, chunk)
            self._is_ready = self._is_ready or chunk.endswith(_READY)
            if self._proxy.delay_s:
                self._proxy.happened["delayed"] += 1
                await asyncio.sleep(self._proxy.delay_s)
            self._writer.write(chunk)
            await self._writer.drain()

    async def _lose_answer(self, loss: Loss, answer: bytes) -> None:
        while not answer.endswith(_READY):
            answer += await self._read(self._server_reader, "answers")
        if loss.after_bytes:
            self._writer.write(answer[: loss.after_bytes])
            await self._writer.drain()
        self._note(loss)
        if loss.kind == "kept answer":
            await asyncio.Event().wait()
        raise EOFError

    def _note(self, loss: Loss) -> None:
        self._proxy.happened[loss.kind] += 1
        self._proxy.lost.set()

    async def _read(
        self, reader: asyncio.StreamReader, way: Literal["requests", "answers"]
    ) -> bytes:
        chunk = await reader.read(_CHUNK_BYTES)
        if not chunk and not (self.is_dead and way == "answers"):
            raise EOFError
        await self._proxy.wait_until_flowing(way)
        if self.is_dead:
            # Also when the server has gone: the client is not told.
            await asyncio.Event().wait()
        return chunk
