"""Bodies that the guard leaves to their routes: read when it is known who asks, and bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.body_guard import (
    BodyGuard,
    body_of,
    large_body_parts,
    read_large_body,
)
from serve_app.api.problems import Problem

LARGE = 100


def guarded(handle: Callable[[Request], object]) -> ASGIApp:
    """An application whose only route may have a large body, behind a guard for small ones."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            result = handle(Request(scope, receive, send))
            response = await result if asyncio.iscoroutine(result) else result
        except Problem as problem:
            response = problem.response()
        assert isinstance(response, Response)
        await response(scope, receive, send)

    return BodyGuard(app, bytes_max=10, leaves_unread=lambda scope: scope["path"] == "/large")


async def whole(request: Request) -> Response:
    await read_large_body(request, bytes_max=LARGE, deadline_ms=200)
    return Response(body_of(request.scope))


async def send(handle: Callable[[Request], object], path: str, **more: object) -> httpx.Response:
    transport = httpx.ASGITransport(guarded(handle))
    async with httpx.AsyncClient(transport=transport, base_url="http://house") as client:
        return await client.post(path, **more)  # type: ignore[arg-type]


async def stream(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x"


async def test_a_large_body_arrives_whole_however_it_is_sent() -> None:
    assert (await send(whole, "/large", content=b"y" * LARGE)).content == b"y" * LARGE
    assert (await send(whole, "/large", content=stream(LARGE))).content == b"x" * LARGE
    assert (await send(whole, "/large")).content == b""


async def test_a_body_beyond_its_own_limit_is_refused_announced_or_not() -> None:
    for content in (b"y" * (LARGE + 1), stream(LARGE + 1)):
        refused = await send(whole, "/large", content=content)
        assert refused.status_code == 413
    announced = await send(whole, "/large", content=b"y", headers={"Content-Length": "101"})
    assert announced.status_code == 413
    assert announced.headers["connection"] == "close"


async def test_other_routes_keep_the_small_limit() -> None:
    refused = await send(whole, "/small", content=b"y" * 11)
    assert refused.status_code == 413


async def test_after_a_refusal_no_endless_body_is_read_and_the_connection_is_given_up() -> None:
    def refuse(_: Request) -> Response:
        raise Problem("not_found", "Nothing for you.")

    read = 0

    async def receive() -> Message:
        nonlocal read
        read += 1
        assert read <= 1_000, "it would go on for ever"
        return {"type": "http.request", "body": bytes(1024 * 1024), "more_body": True}

    sent: list[Message] = []

    async def note(message: Message) -> None:
        sent.append(message)

    for length, is_given_up in ((b"99999999999", True), (b"0", False)):
        sent.clear()
        await guarded(refuse)(scope_of((b"content-length", length)), receive, note)
        assert sent[0]["status"] == 404
        assert ((b"connection", b"close") in sent[0]["headers"]) is is_given_up


async def test_a_length_that_is_none_is_refused() -> None:
    odd = await send(whole, "/large", content=b"y", headers={"Content-Length": "1x"})
    assert odd.status_code == 400


def scope_of(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "method": "POST", "path": "/large", "headers": list(headers)}


def request_of(*messages: Message) -> Request:
    waiting = list(messages)

    async def receive() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    return Request(scope_of((b"transfer-encoding", b"chunked")), receive)


async def test_a_body_that_trickles_in_is_given_up() -> None:
    request = request_of({"type": "http.request", "body": b"x", "more_body": True})
    with pytest.raises(Problem, match="body_too_slow"):
        await read_large_body(request, bytes_max=LARGE, deadline_ms=20)


async def test_a_client_that_hangs_up_ends_the_reading() -> None:
    request = request_of(
        {"type": "http.request", "body": b"x", "more_body": True}, {"type": "http.disconnect"}
    )
    parts = large_body_parts(request, bytes_max=LARGE, deadline_ms=1_000)
    assert await anext(parts) == b"x"
    with pytest.raises(ClientDisconnect):
        await anext(parts)


async def test_a_client_that_hung_up_is_answered_with_nothing() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def note(message: Message) -> None:
        sent.append(message)

    await guarded(whole)(scope_of((b"transfer-encoding", b"chunked")), receive, note)
    assert sent == []
