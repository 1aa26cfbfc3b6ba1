"""What every answer tells browsers, and which pages of other origins may read answers."""

from __future__ import annotations

import pytest
from starlette.types import Message, Receive, Scope, Send

from serve_app.api.cross_origin import CrossOrigin
from serve_app.api.front import AROUND_SERVE, Front
from serve_app.api.problems import Problem

SHOP = "https://tickets.example"
OTHER = "https://evil.example"
Headers = list[tuple[bytes, bytes]]


def scope_of(
    *headers: tuple[str, str], method: str = "GET", around_serve: bool = False, path: str = "/x"
) -> Scope:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": raw,
    }
    if around_serve:
        scope[AROUND_SERVE] = raw
        scope["headers"] = []
    return scope


class Application:
    """Answers with these headers; notes whether it was asked."""

    def __init__(self, *headers: tuple[str, str]) -> None:
        self._headers = [(name.encode(), value.encode()) for name, value in headers]
        self.methods: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.methods.append(scope["method"])
        if scope["path"] == "/bug":
            raise RuntimeError("Traceback: secret")
        if scope["path"] == "/problem":
            raise Problem("not_found", "x")
        start = {"type": "http.response.start", "status": 200, "headers": [*self._headers]}
        await send(start)
        await send({"type": "http.response.body", "body": b"{}"})


async def answer(app: object, scope: Scope) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body; no header may be there twice."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    assert callable(app)
    await app(scope, receive, send)
    names = [name for name, _ in sent[0]["headers"]]
    assert len(names) == len(set(names)), names
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


@pytest.mark.parametrize("path", ["/x", "/bug", "/%ff"])
async def test_every_answer_is_hardened(path: str) -> None:
    _, headers, _ = await answer(Front(Application()), scope_of(path=path))
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"


async def test_what_says_how_long_it_may_be_kept_keeps_its_word() -> None:
    app = Front(Application(("cache-control", "public, max-age=5"), ("etag", '"1"')))
    _, headers, _ = await answer(app, scope_of())
    assert headers["cache-control"] == "public, max-age=5"
    assert headers["etag"] == '"1"'
    assert headers["x-content-type-options"] == "nosniff"


async def test_a_bug_is_told_without_a_word_about_it() -> None:
    status, _, body = await answer(Front(Application()), scope_of(path="/bug"))
    assert status == 500
    assert b"Traceback" not in body
    assert b"secret" not in body


def shop_front(*headers: tuple[str, str]) -> tuple[CrossOrigin, Application]:
    application = Application(*headers)
    return CrossOrigin(Front(application), origins=[SHOP, "http://localhost:5173"]), application


@pytest.mark.parametrize("around_serve", [False, True])
@pytest.mark.parametrize("path", ["/x", "/bug", "/%ff"])
async def test_a_page_of_an_allowed_origin_may_read_every_answer(
    path: str, around_serve: bool
) -> None:
    app, _ = shop_front()
    scope = scope_of(("Origin", SHOP), path=path, around_serve=around_serve)
    _, headers, _ = await answer(app, scope)
    assert headers["access-control-allow-origin"] == SHOP
    assert "retry-after" in headers["access-control-expose-headers"]
    assert headers["vary"] == "origin"
    assert "access-control-allow-credentials" not in headers


@pytest.mark.parametrize(
    "origin",
    [
        OTHER,
        "null",
        "*",
        "",
        SHOP + "/",
        SHOP + ":443",
        SHOP.upper(),
        SHOP + ".evil.example",
        "http://tickets.example",
        "https://xtickets.example",
        f"{SHOP} {OTHER}",
    ],
)
async def test_a_page_of_any_other_origin_may_read_nothing(origin: str) -> None:
    app, application = shop_front()
    _, headers, _ = await answer(app, scope_of(("Origin", origin)))
    assert not [name for name in headers if name.startswith("access-control-")]
    assert headers["vary"] == "origin"
    preflight = scope_of(
        ("Origin", origin), ("Access-Control-Request-Method", "POST"), method="OPTIONS"
    )
    _, headers, _ = await answer(app, preflight)
    assert not [name for name in headers if name.startswith("access-control-")]
    assert application.methods == ["GET", "OPTIONS"], "the application itself refuses the method"


async def test_two_origins_are_none() -> None:
    app, _ = shop_front()
    _, headers, _ = await answer(app, scope_of(("Origin", SHOP), ("Origin", SHOP)))
    assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("around_serve", [False, True])
async def test_a_browser_that_asks_beforehand_is_told_what_a_page_may_send(
    around_serve: bool,
) -> None:
    app, application = shop_front()
    scope = scope_of(
        ("Origin", SHOP),
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,idempotency-key"),
        method="OPTIONS",
        around_serve=around_serve,
    )
    status, headers, body = await answer(app, scope)
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == SHOP
    assert "POST" in headers["access-control-allow-methods"]
    for header in ("authorization", "idempotency-key", "content-type", "if-none-match"):
        assert header in headers["access-control-allow-headers"]
    assert headers["access-control-max-age"] == "600"
    assert headers["vary"].startswith("origin")
    assert "access-control-allow-credentials" not in headers
    assert application.methods == []


async def test_options_without_a_question_is_the_application_s() -> None:
    app, application = shop_front()
    await answer(app, scope_of(("Origin", SHOP), method="OPTIONS"))
    assert application.methods == ["OPTIONS"]


async def test_without_an_origin_caches_still_learn_that_it_matters() -> None:
    app, _ = shop_front()
    _, headers, _ = await answer(app, scope_of())
    assert headers["vary"] == "origin"
    assert "access-control-allow-origin" not in headers
