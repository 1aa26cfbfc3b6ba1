"""Reads every request's body before the application sees it: bounded in bytes and in time.

Neither Serve nor its HTTP server limits either. A body that is announced or turns out larger
than the limit ends in 413, chunked ones too; one that trickles in ends in 408. What passes is
left in the scope, so that a route gets at it without another ``await``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.problems import Problem, bad_field

BODY_DEADLINE_MS = 15_000
"""Whole body. A phone on a bad line needs a second for 64 KiB."""

_THROWN_AWAY_BYTES_MAX = 1_048_576
_THROWN_AWAY_S_MAX = 1.0
_SCOPE_KEY = "housefull.body"
_Result = TypeVar("_Result")


def body_of(scope: Scope) -> bytes:
    """The complete body of this request."""
    body: bytes = scope[_SCOPE_KEY]
    return body


class BodyGuard:
    """Pure ASGI middleware; see the module's docstring.

    ``leaves_unread`` names the requests whose bodies are larger than others may be: their routes
    read them (``read_large_body``, ``large_body_parts``) when they know who is asking.

    Units:
        deadline_ms: from the moment the headers are here until the last byte of the body.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        bytes_max: int,
        deadline_ms: int = BODY_DEADLINE_MS,
        leaves_unread: Callable[[Scope], bool] | None = None,
    ) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._deadline_s = deadline_ms / 1_000
        self._leaves_unread = leaves_unread

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._leaves_unread is not None and self._leaves_unread(scope):
            await _leave_unread(self._app, scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except Problem as problem:
            await _refuse(problem, scope, receive, send)
            return
        if body is None:
            return  # The client hung up; nobody waits for an answer.
        scope[_SCOPE_KEY] = body
        await self._app(scope, _Replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        length = _announced_length(scope)
        if length == 0:
            return b""
        if length is not None and length > self._bytes_max:
            raise _too_large(self._bytes_max)
        try:
            return await _within(self._collect(receive), self._deadline_s)
        except TimeoutError:
            raise _too_slow(self._deadline_s) from None

    async def _collect(self, receive: Receive) -> bytes | None:
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > self._bytes_max:
                raise _too_large(self._bytes_max)
            parts.append(part)
            if not message.get("more_body", False):
                return part if len(parts) == 1 else b"".join(parts)


async def read_large_body(request: Request, *, bytes_max: int, deadline_ms: int) -> None:
    """Read a body that the guard left unread; ``body_of`` has it afterwards.

    Raises:
        Problem: ``body_too_large`` or ``body_too_slow``.
        ClientDisconnect: nobody waits for an answer any more.
    """
    parts = large_body_parts(request, bytes_max=bytes_max, deadline_ms=deadline_ms)
    request.scope[_SCOPE_KEY] = b"".join([part async for part in parts])


async def large_body_parts(
    request: Request, *, bytes_max: int, deadline_ms: int
) -> AsyncIterator[bytes]:
    """The parts of a body that the guard left unread, as they come.

    Raises:
        Problem: ``body_too_large`` or ``body_too_slow``; what came until then is of no use.
        ClientDisconnect: the client hung up in the middle.
    """
    length = _announced_length(request.scope)
    if length is not None and length > bytes_max:
        raise _too_large(bytes_max)
    size = 0
    deadline_s = asyncio.get_running_loop().time() + deadline_ms / 1_000
    more_body = length != 0
    while more_body:
        try:
            async with asyncio.timeout_at(deadline_s):
                message = await request.receive()
        except TimeoutError:
            raise _too_slow(deadline_ms / 1_000) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part: bytes = message.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        more_body = message.get("more_body", False)
        if part:
            yield part


def _too_large(bytes_max: int) -> Problem:
    return Problem("body_too_large", f"A body may have {bytes_max} bytes.")


def _too_slow(deadline_s: float) -> Problem:
    return Problem("body_too_slow", f"The body was not complete after {deadline_s:g} s.")


async def _refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    if problem.code == "body_too_large":
        await _throw_away(scope, receive)
    # What may be left of the body is not read, so the connection cannot be used again.
    response = problem.response()
    response.headers["Connection"] = "close"
    await response(scope, receive, send)


async def _throw_away(scope: Scope, receive: Receive) -> None:
    """Read some of a body that nobody wants, so that its sender can hear why.

    A connection that is closed while bytes are coming is reset, and a reset takes back an answer
    that was sent already.
    """
    if any(name == b"expect" for name, _ in scope["headers"]):
        return  # This client asks before it sends; reading would say yes.
    size = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_THROWN_AWAY_S_MAX):
            while size <= _THROWN_AWAY_BYTES_MAX:
                message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
                size += len(message.get("body", b""))


async def _leave_unread(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let the application read; a connection that it leaves bytes on cannot be used again."""
    try:
        is_read = _announced_length(scope) == 0
    except Problem as problem:
        await _refuse(problem, scope, receive, send)
        return

    async def receive_and_note() -> Message:
        nonlocal is_read
        message = await receive()
        is_read = is_read or not message.get("more_body", False)
        return message

    async def send_and_close(message: Message) -> None:
        if message["type"] == "http.response.start" and not is_read:
            await _throw_away(scope, receive_and_note)
            message["headers"] = [*message["headers"], (b"connection", b"close")]
        await send(message)

    try:
        await app(scope, receive_and_note, send_and_close)
    except ClientDisconnect:
        return


async def _within(work: Coroutine[Any, Any, _Result], timeout_s: float) -> _Result:
    """What ``work`` returns; nothing is spent on the time limit if it need not wait.

    Most bodies come together with their headers, and a clock for each costs more than reading.

    Raises:
        TimeoutError: it was not done in time.
    """
    try:
        waiting_for = work.send(None)
    except StopIteration as done:
        result: _Result = done.value
        return result
    async with asyncio.timeout(timeout_s):
        return await _go_on(work, waiting_for)


@coroutine
def _go_on(work: Coroutine[Any, Any, _Result], waiting_for: object) -> Generator[Any, Any, _Result]:
    """The rest of a coroutine that was begun by hand and now waits for something."""
    try:
        yield waiting_for
    except BaseException:
        work.close()  # Cancelled, or out of time: nobody wants the rest.
        raise
    result: _Result = yield from work
    return result


class _Replay:
    """``receive`` for the application: the body once, then whatever the client does."""

    __slots__ = ("_body", "_receive")

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _announced_length(scope: Scope) -> int | None:
    """What the headers say: a length, 0 for no body at all, None for a chunked one."""
    length: bytes | None = None
    is_chunked = False
    for name, value in scope["headers"]:
        if name == b"content-length":
            if length is not None and length != value:
                raise bad_field("Content-Length", "there are two of them", "invalid_header")
            length = value
        elif name == b"transfer-encoding":
            is_chunked = True
    if length is not None:
        if not length.isdigit() or len(length) > 18:
            raise bad_field("Content-Length", "is not a length", "invalid_header")
        return int(length)
    # HTTP/1.1 says that a request without either has no body.
    return None if is_chunked else 0
