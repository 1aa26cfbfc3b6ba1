"""A short line between a ref and an actor on the same node: batches over a Unix socket.

A remote call of Ray costs each side more than a millisecond of processor time, as much as fifty
commands. Where both live on one node, batches travel over a socket instead: same commands, same
answers, same meaning of failure. Ray still finds, starts, restarts and ends the actors
(docs/decisions/0014-batches-travel-over-a-socket-on-one-node.md).

The socket lies in a folder that only the house's own user can enter, because what comes out of
it is unpickled. Frames are a length, a number and a pickle; number 0 is the actor's good-bye.

What the end of a line means for a batch that has no answer yet:

    after a good-bye    it was never taken, because the actor answers everything it has taken
                        before it says good-bye: NotDone
    without one         the actor crashed: OutcomeUnknown
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

from actors.messages import Reply, Request
from actors.wire import pack_reply, pack_requests, unpack_reply, unpack_requests
from reservation.faults import OutcomeUnknown, ShowMoved, ShowUnavailable

log = logging.getLogger(__name__)

_HEAD = struct.Struct(">IQ")
_GOOD_BYE = 0
PATH_BYTES_MAX = 100
"""Unix sockets have no longer paths (107 bytes on Linux); without a line Ray's calls are used."""


class _Frames(asyncio.Protocol):
    """Cuts what arrives into frames."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not instances of asyncio's classes.
        self.transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _HEAD.size:
            length, number = _HEAD.unpack_from(received, start)
            end = start + _HEAD.size + length
            if len(received) < end:
                break
            self.frame_received(number, bytes(received[start + _HEAD.size : end]))
            start = end
        del received[:start]

    def frame_received(self, number: int, content: bytes) -> None:
        raise NotImplementedError

    def send(self, number: int, content: bytes) -> None:
        """Send one frame, if there is still somebody at the other end."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(_HEAD.pack(len(content), number) + content)


class LineServer:
    """The actor's end: answers the batches of every ref on this node."""

    def __init__(self, directory: str, name: str) -> None:
        """Nothing is opened yet."""
        self._path = Path(directory) / name.replace(":", "_")
        self._server: asyncio.AbstractServer | None = None
        self._callers: set[_Caller] = set()

    async def open(self, submit: Callable[[list[Request]], Awaitable[Reply]]) -> str | None:
        """Listen. Returns where, or None when there can be no line here."""
        path = str(self._path)
        if len(os.fsencode(path)) > PATH_BYTES_MAX:
            return None
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            # Of an earlier incarnation. Its callers keep their lines; new ones come here.
            self._path.unlink()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(lambda: _Caller(submit, self._callers), path)
        return path

    async def close(self) -> None:
        """Say good-bye to everybody. Everything that was taken must have been answered."""
        if self._server is None:
            return
        self._server.close()
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()
        for caller in list(self._callers):
            caller.say_good_bye()


class _Caller(_Frames):
    """One ref, seen from the actor."""

    def __init__(
        self, submit: Callable[[list[Request]], Awaitable[Reply]], callers: set[_Caller]
    ) -> None:
        super().__init__()
        self._submit = submit
        self._callers = callers
        self._answering: set[asyncio.Task[None]] = set()
        self._has_left = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._callers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        # What was taken is decided and answered all the same; nobody listens any more.
        self._callers.discard(self)

    def say_good_bye(self) -> None:
        """Take nothing more, say so, and close the line."""
        self._has_left = True
        self.send(_GOOD_BYE, b"")
        if self.transport is not None:
            self.transport.close()

    def frame_received(self, number: int, content: bytes) -> None:
        if self._has_left:
            return
        task = asyncio.ensure_future(self._answer(number, content))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, number: int, content: bytes) -> None:
        try:
            requests = unpack_requests(content)
            reply = pack_reply(await self._submit(requests), requests)
        except Exception:
            # Who waits for this answer must not wait for ever: the end of the line is one.
            log.exception("bug: a batch could not be answered")
            if self.transport is not None:
                self.transport.abort()
        else:
            self.send(number, reply)


class LocalLine(_Frames):
    """A ref's end of the line to one actor. Calling it submits a batch."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._numbers = itertools.count(_GOOD_BYE + 1)
        self._waiting: dict[int, tuple[asyncio.Future[Reply], list[Request]]] = {}
        self._was_told = False

    @classmethod
    async def connect(cls, path: str, name: str) -> LocalLine:
        """Open a line.

        Raises:
            ShowUnavailable: nobody listens there any more.
        """
        try:
            loop = asyncio.get_running_loop()
            _, line = await loop.create_unix_connection(lambda: cls(name), path)
        except OSError as error:
            raise ShowUnavailable(f"{name} does not listen any more") from error
        return line

    @property
    def is_open(self) -> bool:
        """Whether a batch can be sent."""
        return self.transport is not None and not self.transport.is_closing()

    async def __call__(self, requests: list[Request]) -> Reply:
        """Submit a batch.

        Raises:
            NotDone: it was not taken.
            OutcomeUnknown: it may have been.
        """
        if not self.is_open:
            raise ShowUnavailable(f"the line to {self._name} is closed")
        number = next(self._numbers)
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer, requests
        self.send(number, pack_requests(requests))
        try:
            return await answer
        finally:
            self._waiting.pop(number, None)

    def frame_received(self, number: int, content: bytes) -> None:
        if number == _GOOD_BYE:
            self._was_told = True
            return
        waiting = self._waiting.get(number)
        if waiting is not None and not waiting[0].done():
            answer, requests = waiting
            answer.set_result(unpack_reply(content, requests))

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        for answer, _ in self._waiting.values():
            if answer.done():
                continue
            if self._was_told:
                answer.set_exception(ShowMoved(f"{self._name} has left", retry_after_ms=50))
            else:
                answer.set_exception(OutcomeUnknown(f"{self._name} stopped while it was asked"))
