"""What Ray Serve is shown of a request: only what is its affair.

*Commands and logins go around Serve.* Between the server of a replica and the application, Serve
names each request for its metrics, makes a context for it, counts it and looks after it; for a hold
that costs as much as everything else in the replica. Of that, commands need the count. So a request
that the application of this very process can answer the short way (``short_way``) goes to it at
once, as long as not too many are under way; beyond that it is for Serve to say no. A replica that
is stopped waits for them all the same: its server does, before Serve ends the process.

*The headers of all others go around Serve.* It lets any client set a request's time-out, turn off
its watch for hang-ups, or choose a model by headers, and it decodes these headers before an
application sees the request: one byte that is not UTF-8 and Serve answers 500 in plain text. It
also repeats whatever ``X-Request-Id`` it is sent, and compares the name of every header with
several of its own. So Serve sees an id and what traces the request; ``front.Front`` puts the others
back.

``serve_middlewares`` is what Serve calls when the environment says
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_app.api.serve_headers.serve_middlewares``; what it
returns runs outside of everything else, in replicas and in Serve's own proxy.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.front import AROUND_SERVE, REQUEST_ID, is_request_id, new_request_id
from serve_app.api.short_way import Api

SHORT_REQUESTS_MAX = 1_000
"""So many requests may be under way around Serve in one process, as many as Serve takes itself."""

_TRACES = frozenset({b"traceparent", b"tracestate"})
# A client that hangs up must not cancel a command in the middle: whether it is done is decided
# by the show, never by the line. It also spares Serve two tasks for each request.
_NO_WATCH = (b"x-request-disconnect-disabled", b"?1")


class _Hosted:
    """The application of this process, where there is one: in a replica, not in a proxy."""

    def __init__(self) -> None:
        self._app: Api | None = None
        self._prefix = ""
        self._under_way = 0

    def use(self, app: Api, prefix: str) -> None:
        self._app, self._prefix = app, prefix

    def takes(self, scope: Scope) -> bool:
        prefix, path = self._prefix, scope["path"]
        return (
            self._app is not None
            and self._under_way < SHORT_REQUESTS_MAX
            # A server that is itself behind a prefix is Serve's to understand.
            and not scope.get("root_path")
            and path.startswith(prefix)
            and self._app.takes(scope, path[len(prefix) :])
        )

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert self._app is not None
        scope["root_path"] = self._prefix
        self._under_way += 1
        try:
            await self._app.answer_shortly(scope, receive, send)
        finally:
            self._under_way -= 1


_hosted = _Hosted()


def host_here(app: Api, prefix: str) -> None:
    """Say that ``app`` is this process's, and serves the addresses below ``prefix``."""
    _hosted.use(app, prefix)


class ServeHeaders:
    """Pure ASGI middleware; see the module's docstring."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on with headers that Serve can read."""
        if scope["type"] == "http":
            if _hosted.takes(scope):
                await _hosted.answer(scope, receive, send)
                return
            _show_little(scope)
        await self._app(scope, receive, send)


def _show_little(scope: Scope) -> None:
    request_id = b""
    headers = []
    shown = []
    for header in scope["headers"]:
        name = header[0]
        if name == REQUEST_ID:
            request_id = request_id or header[1]
            continue
        headers.append(header)
        if name in _TRACES and header[1].isascii():
            shown.append(header)
    if not request_id or not is_request_id(request_id):
        request_id = new_request_id()
    identity = (REQUEST_ID, request_id)
    headers.append(identity)
    scope[AROUND_SERVE] = headers
    # Serve looks for the id one header after the other.
    scope["headers"] = [identity, _NO_WATCH, *shown]


def serve_middlewares() -> list[Middleware]:
    """What Serve wraps around every request."""
    return [Middleware(ServeHeaders)]
