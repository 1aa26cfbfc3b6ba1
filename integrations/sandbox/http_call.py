"""One HTTP call: read it, let it go wrong as planned, answer it.

Everything an operation does is one step of the event loop, so operations never interleave; only
faults wait. A connection is reset by cutting uvicorn's transport with nothing left to linger.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from integrations.sandbox.faults import Fault, FaultKind, FaultPlan

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

BODY_BYTES_MAX = 1024 * 1024
_JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Call:
    """What was asked. Names of headers are in lower case."""

    method: str
    path: str
    ids: dict[str, str]
    headers: dict[str, str]
    query: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; JSON unless a header says otherwise."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Dialect(Protocol):
    """How one provider answers, and what its errors look like."""

    def answer(self, call: Call, *, is_spoiled: bool) -> Answer:
        """Do what is asked. ``is_spoiled``: it happens, and the caller is told a 500."""
        ...

    def at_work(self, call: Call) -> contextlib.AbstractContextManager[bool]:
        """Hold the call's idempotency key; False when another call has it."""
        ...

    def failed(self) -> Answer:
        """A 500 of something that did not happen."""
        ...

    def rate_limited(self) -> Answer:
        """A 429."""
        ...


async def read_call(scope: Scope, receive: Receive) -> Call | None:
    """The whole call; None when the caller went away, or sent more than anybody would."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > BODY_BYTES_MAX:
            return None
        if not message.get("more_body", False):
            break
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope["query_string"].decode("latin-1")
    ids = scope.get("path_params", {})
    return Call(scope["method"], scope["path"], ids, headers, query, body)


async def send_answer(answer: Answer, send: Send) -> None:
    """Send it whole."""
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers]
    if all(name != b"content-type" for name, _ in headers):
        headers.append(_JSON)
    headers.append((b"content-length", str(len(answer.body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def reset_connection(send: Send) -> None:
    """Let the caller see a reset connection.

    Raises:
        ConnectionResetError: there is no connection, because the server is called in process.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if not isinstance(transport, asyncio.BaseTransport) or not hasattr(transport, "abort"):
        raise ConnectionResetError("the sandbox was told to reset this connection")
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def hang(receive: Receive, hang_ms: int) -> None:
    """Say nothing until the caller gives up or the time is over."""

    async def gave_up() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(gave_up(), hang_ms / 1_000)


class Endpoint:
    """One operation of one provider, as an ASGI application."""

    def __init__(self, name: str, dialect: Dialect, faults: FaultPlan) -> None:
        self.name = name
        self.dialect = dialect
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await read_call(scope, receive)
        if call is None:
            return await reset_connection(send)
        fault = self._faults.take(self.name)
        if fault is None:
            return await send_answer(self.dialect.answer(call, is_spoiled=False), send)
        return await self._go_wrong(fault, call, receive, send)

    async def _go_wrong(self, fault: Fault, call: Call, receive: Receive, send: Send) -> None:
        kind = fault.kind
        if kind is FaultKind.RATE_LIMITED:
            await send_answer(self.dialect.rate_limited(), send)
        elif kind is FaultKind.ERROR_BEFORE:
            await send_answer(self.dialect.failed(), send)
        elif kind is FaultKind.DELAY:
            with self.dialect.at_work(call) as is_first:
                if is_first:
                    await asyncio.sleep(fault.delay_ms / 1_000)
            await send_answer(self.dialect.answer(call, is_spoiled=False), send)
        elif kind is FaultKind.ERROR_AFTER:
            await send_answer(self.dialect.answer(call, is_spoiled=True), send)
        else:
            if kind in (FaultKind.HANG_AFTER, FaultKind.RESET_AFTER):
                self.dialect.answer(call, is_spoiled=False)
            if kind in (FaultKind.HANG_BEFORE, FaultKind.HANG_AFTER):
                await hang(receive, fault.delay_ms)
            await reset_connection(send)
