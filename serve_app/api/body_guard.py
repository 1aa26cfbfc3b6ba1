"""Reads every request's body before the application sees it: bounded in bytes and in time.

Neither Serve nor its HTTP server limits either. A body that is announced or turns out larger
than the limit ends in 413, chunked ones too; one that trickles in ends in 408. What passes is
left in the scope, so that a route gets at it without another ``await``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.problems import Problem, bad_field

BODY_DEADLINE_MS = 15_000
"""Whole body. A phone on a bad line needs a second for 64 KiB."""

_SCOPE_KEY = "housefull.body"
_Result = TypeVar("_Result")


def body_of(scope: Scope) -> bytes:
    """The complete body of this request."""
    body: bytes = scope[_SCOPE_KEY]
    return body


class BodyGuard:
    """Pure ASGI middleware; see the module's docstring.

    Units:
        deadline_ms: from the moment the headers are here until the last byte of the body.
    """

    def __init__(
        self, app: ASGIApp, *, bytes_max: int, deadline_ms: int = BODY_DEADLINE_MS
    ) -> None:
        self._app = app
        self._bytes_max = bytes_max
        self._deadline_s = deadline_ms / 1_000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse its body."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(scope, receive)
        except Problem as problem:
            # What is left of the body is not read, so the connection cannot be used again.
            response = problem.response()
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
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
            raise self._too_large()
        try:
            return await _within(self._collect(receive), self._deadline_s)
        except TimeoutError:
            raise Problem(
                "body_too_slow", f"The body was not complete after {self._deadline_s:g} s."
            ) from None

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
                raise self._too_large()
            parts.append(part)
            if not message.get("more_body", False):
                return part if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> Problem:
        return Problem("body_too_large", f"A body may have {self._bytes_max} bytes.")


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
