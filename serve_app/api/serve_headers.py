"""What Ray Serve is shown of a request's headers: an id, and what traces it.

Serve lets any client set a request's time-out, turn off its watch for hang-ups, or choose a model
by headers, and it decodes these headers before an application sees the request: one byte that is
not UTF-8 and Serve answers 500 in plain text. It also repeats whatever ``X-Request-Id`` it is sent,
and compares the name of every header with several of its own. So the client's headers go around
Serve: ``front.Front`` puts them back.

``serve_middlewares`` is what Serve calls when the environment says
``RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve_app.api.serve_headers.serve_middlewares``; what it
returns runs outside of everything else, in replicas and in Serve's own proxy.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from serve_app.api.front import AROUND_SERVE, REQUEST_ID, is_request_id, new_request_id

_TRACES = frozenset({b"traceparent", b"tracestate"})
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
        await self._app(scope, receive, send)


def serve_middlewares() -> list[Middleware]:
    """What Serve wraps around every request."""
    return [Middleware(ServeHeaders)]
