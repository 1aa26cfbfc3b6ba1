"""Headers that Ray Serve itself would obey, kept away from it.

Serve lets any client set a request's time-out, turn off its watch for hang-ups, or choose a model
by headers, and it decodes these headers before an application sees the request: one byte that is
not UTF-8 and Serve answers 500 in plain text. It also repeats whatever ``X-Request-Id`` it is sent.

``serve_middlewares`` is what Serve calls when the environment says
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_app.api.serve_headers.serve_middlewares``; what it
returns runs outside of everything else, in replicas and in Serve's own proxy.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.front import REQUEST_ID, is_request_id, new_request_id

# Serve takes "-" and "_" for the same in the last two.
_OBEYED = frozenset(
    {
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"serve-multiplexed-model-id",
        b"x-session-id",
    }
)
# A client that hangs up must not cancel a command in the middle: whether it is done is decided
# by the show, never by the line. It also spares Serve two tasks for each request.
_NO_WATCH = (b"x-request-disconnect-disabled", b"?1")


class ServeHeaders:
    """Pure ASGI middleware; see the module's docstring."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with headers that Serve can read."""
        if scope["type"] == "http":
            headers = [_NO_WATCH]
            request_id = b""
            for name, value in scope["headers"]:
                if name == REQUEST_ID:
                    request_id = request_id or value
                elif name.replace(b"_", b"-") not in _OBEYED:
                    headers.append((name, value))
            if not is_request_id(request_id):
                request_id = new_request_id()
            headers.append((REQUEST_ID, request_id))
            scope["headers"] = headers
        await self._app(scope, receive, send)


def serve_middlewares() -> list[Middleware]:
    """What Serve wraps around every request."""
    return [Middleware(ServeHeaders)]
