"""The layers around the routes as plain ASGI: bodies, addresses, request ids, the last catch."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.body_guard import BodyGuard, body_of
from serve_app.api.front import AROUND_SERVE, Front
from serve_app.api.serve_headers import serve_middlewares

Headers = list[tuple[bytes, bytes]]


def scope_of(headers: Headers | None = None, **more: Any) -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "raw_path": b"/x",
        "query_string": b"",
        "headers": headers or [],
        "client": ("127.0.0.1", 1),
        **more,
    }


async def run(app: ASGIApp, scope: Scope, messages: list[Message]) -> list[Message]:
    """What the application sends; after the messages the client just waits."""
    sent: list[Message] = []
    pending = list(messages)

    async def receive() -> Message:
        if pending:
            return pending.pop(0)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with the body, as the guard left it and as the application receives it."""
    message = await receive()
    assert message["body"] == body_of(scope)
    assert not message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body_of(scope)})


CHUNKED: Headers = [(b"transfer-encoding", b"chunked")]


async def test_a_body_in_pieces_arrives_whole() -> None:
    pieces = [part(b"ab", more=True), part(b"", more=True), part(b"cd", more=False)]
    sent = await run(BodyGuard(echo, bytes_max=4), scope_of(CHUNKED), pieces)
    assert sent[1]["body"] == b"abcd"


async def test_a_chunked_body_is_counted_while_it_comes() -> None:
    endless = [part(b"x" * 3, more=True)] * 100
    sent = await run(BodyGuard(echo, bytes_max=4), scope_of(CHUNKED), endless)
    assert sent[0]["status"] == 413


async def test_who_sends_too_much_is_listened_to_so_that_he_hears_why() -> None:
    taken: list[int] = []

    async def receive() -> Message:
        taken.append(len(taken))
        return part(b"x" * 3, more=len(taken) < 20)

    async def send(message: Message) -> None:
        assert len(taken) == 20, "a connection with bytes under way would be reset"
        if message["type"] == "http.response.start":
            assert message["status"] == 413

    for headers in (CHUNKED, [(b"content-length", b"60")]):
        taken.clear()
        await BodyGuard(echo, bytes_max=4)(scope_of(headers), receive, send)
        assert len(taken) == 20


async def test_who_asks_before_he_sends_too_much_need_not_send_it() -> None:
    headers = [(b"content-length", b"5"), (b"expect", b"100-continue")]
    sent: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("to ask for the body is to say that it may come")

    async def send(message: Message) -> None:
        sent.append(message)

    await BodyGuard(echo, bytes_max=4)(scope_of(headers), receive, send)
    assert sent[0]["status"] == 413


async def test_an_announced_body_is_refused_before_it_comes() -> None:
    headers = [(b"content-length", b"5")]
    sent = await run(BodyGuard(echo, bytes_max=4), scope_of(headers), [])
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


async def test_a_body_that_is_longer_than_announced_is_refused() -> None:
    headers = [(b"content-length", b"2")]
    pieces = [part(b"x" * 5, more=False)]
    sent = await run(BodyGuard(echo, bytes_max=4), scope_of(headers), pieces)
    assert sent[0]["status"] == 413


@pytest.mark.parametrize("length", [b"", b"-1", b"abc", b"1e3", b"9" * 30])
async def test_a_length_that_is_none_is_refused(length: bytes) -> None:
    sent = await run(BodyGuard(echo, bytes_max=4), scope_of([(b"content-length", length)]), [])
    assert sent[0]["status"] == 400


async def test_two_different_lengths_are_refused() -> None:
    headers = [(b"content-length", b"1"), (b"content-length", b"2")]
    sent = await run(BodyGuard(echo, bytes_max=4), scope_of(headers), [])
    assert sent[0]["status"] == 400


async def test_a_body_that_trickles_in_is_given_up() -> None:
    guard = BodyGuard(echo, bytes_max=1_000, deadline_ms=30)
    sent = await run(guard, scope_of(CHUNKED), [part(b"x", more=True)])
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == "body_too_slow"


async def test_nobody_is_answered_who_hung_up_in_the_middle() -> None:
    gone: Message = {"type": "http.disconnect"}
    pieces = [part(b"x", more=True), gone]
    assert await run(BodyGuard(echo, bytes_max=4), scope_of(CHUNKED), pieces) == []


async def test_a_request_without_a_body_is_not_waited_for() -> None:
    sent = await run(BodyGuard(echo, bytes_max=4), scope_of(), [])
    assert sent[1]["body"] == b""


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def broken(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("password=hunter2")


def ids_of(sent: list[Message]) -> list[bytes]:
    return [value for name, value in sent[0]["headers"] if name == b"x-request-id"]


async def test_a_well_formed_request_id_is_echoed_and_a_broken_one_replaced() -> None:
    for given in (b"a", b"3f1c9e0a-7d1b-4c55", b"a" * 128):
        sent = await run(Front(fine), scope_of([(b"x-request-id", given)]), [])
        assert ids_of(sent) == [given]
    for given in (b"", b"a b", b"\xff", b"a" * 129, b"<x>"):
        sent = await run(Front(fine), scope_of([(b"x-request-id", given)]), [])
        assert len(ids_of(sent)[0]) == 32


async def test_behind_a_server_that_echoes_only_ids_made_here_are_added() -> None:
    def shown(headers: Headers) -> Scope:
        return scope_of([], **{AROUND_SERVE: headers})

    front = Front(fine)
    assert ids_of(await run(front, shown([(b"x-request-id", b"a")]), [])) == []
    assert len(ids_of(await run(front, shown([(b"x-request-id", b"a b")]), []))) == 1


async def test_an_unexpected_error_is_logged_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.ERROR):
        sent = await run(Front(broken), scope_of([(b"x-request-id", b"trace-7")]), [])
    assert sent[0]["status"] == 500
    assert json.loads(sent[1]["body"])["code"] == "internal_error"
    assert b"hunter2" not in sent[1]["body"]
    assert "trace-7" in caplog.text
    assert "hunter2" in caplog.text
    assert ids_of(sent) == [b"trace-7"]


async def test_an_answer_that_breaks_off_is_not_completed_as_if_nothing_were() -> None:
    async def half(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        await run(Front(half), scope_of(), [])


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        (b"q=%00", ["q"]),
        (b"q=%FF&z=%fe", ["q", "z"]),
        (b"%FF=1", ["�"]),
        (b"a=1&a=2", ["a"]),
        (b"a=1&%61=2", ["a"]),
        (b"&".join(b"a%d=1" % n for n in range(101)), ["query"]),
    ],
)
async def test_a_query_that_means_two_things_or_none_is_refused(
    query: bytes, fields: list[str]
) -> None:
    sent = await run(Front(fine), scope_of(query_string=query), [])
    assert sent[0]["status"] == 400
    assert [error["field"] for error in json.loads(sent[1]["body"])["errors"]] == fields


async def test_ordinary_queries_pass() -> None:
    for query in (b"", b"q=a+b", b"q=%C5%BD&x=%2B", b"q", b"=", b"q=1&r=1"):
        assert (await run(Front(fine), scope_of(query_string=query), []))[0]["status"] == 204


async def headers_behind(
    *headers: tuple[bytes, bytes], serve_sees: Headers | None = None
) -> Headers:
    """What Serve sees of these headers, or, when ``serve_sees`` takes those, the application."""
    seen: Headers = [] if serve_sees is None else serve_sees
    application_sees: Headers = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        application_sees.extend(scope["headers"])

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])
        await Front(application)(scope, receive, send)

    (middleware,) = serve_middlewares()
    wrapped = middleware.cls(serve, *middleware.args, **middleware.kwargs)
    await run(wrapped, scope_of([*headers]), [])
    return seen if serve_sees is None else application_sees


async def test_serve_never_sees_headers_that_it_would_obey_or_cannot_read() -> None:
    for name in (
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve_multiplexed_model_id",
        b"serve-multiplexed-model-id",
        b"x-session-id",
        b"x_session_id",
        b"traceparent",
        b"tracestate",
        b"anything-else",
    ):
        serve_sees: Headers = []
        given = ((b"host", b"x"), (name, b"\xff"), (b"accept", b"*/*"))
        seen = await headers_behind(*given, serve_sees=serve_sees)
        assert [header for header in seen if header[0] != b"x-request-id"] == [*given]
        assert (name, b"\xff") not in serve_sees
        assert {header[0] for header in serve_sees} == {
            b"x-request-id",
            b"x-request-disconnect-disabled",
        }


async def test_what_traces_a_request_is_shown_to_serve() -> None:
    for name in (b"traceparent", b"tracestate"):
        assert (name, b"00-4bf9-1") in await headers_behind((name, b"00-4bf9-1"))


async def test_a_request_has_the_same_id_for_serve_and_for_the_application() -> None:
    def ids(headers: Headers) -> list[bytes]:
        return [value for name, value in headers if name == b"x-request-id"]

    for given in (b"trace-1", b"two words", b"\xff", None):
        serve_sees: Headers = []
        headers = [] if given is None else [(b"x-request-id", given), (b"x-request-id", b"other")]
        seen = await headers_behind(*headers, serve_sees=serve_sees)
        assert len(ids(seen)) == 1
        assert ids(seen) == ids(serve_sees)


async def test_serve_gets_one_request_id_that_it_can_repeat() -> None:
    def ids(headers: Headers) -> list[bytes]:
        return [value for name, value in headers if name == b"x-request-id"]

    assert ids(await headers_behind((b"x-request-id", b"trace-1"))) == [b"trace-1"]
    assert ids(await headers_behind((b"x-request-id", b"a"), (b"x-request-id", b"b"))) == [b"a"]
    for broken in (b"\xff", b"two words", b""):
        (made,) = ids(await headers_behind((b"x-request-id", broken)))
        assert len(made) == 32
    first, second = ids(await headers_behind()), ids(await headers_behind())
    assert first != second
