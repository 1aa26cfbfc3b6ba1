"""A bad line to PostgreSQL: forwards until it is told to lose something.

It listens on a unix socket of its own and speaks no protocol, so that the client on one side and
the server on the other are the real ones. What can be lost:

    lose_request(marker)   the first request that contains the marker; the line is cut
    lose_answer(marker)    the whole answer to that request; the line is cut afterwards
    freeze() / thaw()      everything, both ways, until it goes on; new lines are silent too
    freeze_lines()         the same for the lines that are there now, for ever; new ones work
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit, urlunsplit

_CHUNK_BYTES = 1 << 20
# "Ready for query, idle": the last bytes of an answer.
_READY = b"Z\x00\x00\x00\x05I"


class LossyProxy:
    """One proxy in front of one server."""

    def __init__(self, dsn: str, directory: Path) -> None:
        parts = urlsplit(dsn)
        query = parse_qs(parts.query)
        self._port = query["port"][0]
        self._target = f"{query['host'][0]}/.s.PGSQL.{self._port}"
        self._path = directory / f".s.PGSQL.{self._port}"
        assert len(os.fspath(self._path)) < 100, "the path of a unix socket is short"
        self.dsn = urlunsplit(parts._replace(query=f"host={directory}&port={self._port}"))
        self.lost = asyncio.Event()
        self.line_count = 0
        self._marker: bytes | None = None
        self._keeps_request = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._lines: set[_Line] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LossyProxy]:
        """Accept connections until the block ends; then cut what is left."""
        server = await asyncio.start_unix_server(self._accept, self._path, limit=_CHUNK_BYTES)
        try:
            yield self
        finally:
            server.close()
            for line in list(self._lines):
                line.cut()
            await server.wait_closed()

    def lose_request(self, marker: str) -> None:
        """Cut the line instead of forwarding the first request with these words."""
        self._marker, self._keeps_request = marker.encode(), False
        self.lost.clear()

    def lose_answer(self, marker: str) -> None:
        """Forward that request, wait for its answer, and cut the line instead of passing it on."""
        self._marker, self._keeps_request = marker.encode(), True
        self.lost.clear()

    def freeze(self) -> None:
        """Forward nothing any more."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Forward again, and what was kept back first."""
        self._flowing.set()

    def freeze_lines(self) -> None:
        """Never forward anything again on the lines that are there."""
        for line in self._lines:
            line.is_dead = True

    def cut_lines(self) -> None:
        """Cut every line that is there."""
        for line in list(self._lines):
            line.cut()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.line_count += 1
        server_reader, server_writer = await asyncio.open_unix_connection(
            self._target, limit=_CHUNK_BYTES
        )
        line = _Line(self, reader, writer, server_reader, server_writer)
        self._lines.add(line)
        try:
            await line.run()
        finally:
            self._lines.discard(line)

    async def wait_until_flowing(self) -> None:
        """Return when the proxy is not frozen."""
        await self._flowing.wait()

    def takes(self, chunk: bytes) -> bool:
        """Whether this request is the one to lose; it is taken only once."""
        if self._marker is None or self._marker not in chunk:
            return False
        self._marker = None
        return True

    @property
    def keeps_request(self) -> bool:
        """Whether the request to lose reaches the server."""
        return self._keeps_request


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
        self._loses_answer = False
        self.is_dead = False

    async def run(self) -> None:
        try:
            await asyncio.gather(self._forward_requests(), self._forward_answers())
        except (OSError, EOFError):
            pass
        finally:
            self.cut()

    def cut(self) -> None:
        for writer in (self._writer, self._server_writer):
            writer.transport.abort()

    async def _forward_requests(self) -> None:
        while True:
            chunk = await self._read(self._reader)
            if self._proxy.takes(chunk):
                if not self._proxy.keeps_request:
                    self._proxy.lost.set()
                    raise EOFError
                self._loses_answer = True
            self._server_writer.write(chunk)
            await self._server_writer.drain()

    async def _forward_answers(self) -> None:
        while True:
            chunk = await self._read(self._server_reader)
            if self._loses_answer:
                while not chunk.endswith(_READY):
                    chunk += await self._read(self._server_reader)
                self._proxy.lost.set()
                raise EOFError
            self._writer.write(chunk)
            await self._writer.drain()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        chunk = await reader.read(_CHUNK_BYTES)
        if not chunk:
            raise EOFError
        await self._proxy.wait_until_flowing()
        if self.is_dead:
            await asyncio.Event().wait()
        return chunk
