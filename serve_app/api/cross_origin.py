"""Which pages of other origins may use an application in a browser (CORS)."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.front import AROUND_SERVE
from serve_app.api.security_headers import hardened

METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE"
REQUEST_HEADERS = b"authorization, content-type, idempotency-key, if-none-match, x-device-id"
RESPONSE_HEADERS = (
    b"etag, idempotent-replayed, location, ratelimit, ratelimit-policy, retry-after, x-request-id"
)
PREFLIGHT_KEPT_S = 600

_VARY = (b"vary", b"origin")
_PREFLIGHT = (
    (b"access-control-allow-methods", METHODS),
    (b"access-control-allow-headers", REQUEST_HEADERS),
    (b"access-control-max-age", b"%d" % PREFLIGHT_KEPT_S),
    (b"vary", b"origin, access-control-request-method, access-control-request-headers"),
)


class CrossOrigin:
    """Pure ASGI middleware: lets pages of some other origins use the application.

    It stands outside of everything, so that a page may read problems too. Origins are compared
    as a whole; there are no patterns. Nothing is ever allowed to ``*``, and never with cookies:
    the house has none, tokens travel in a header that a page must set itself.

    Args:
        origins: as browsers write them: ``https://tickets.example``.
    """

    def __init__(self, app: ASGIApp, *, origins: Iterable[str]) -> None:
        self._app = app
        self._granted = {
            origin.encode(): (
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-expose-headers", RESPONSE_HEADERS),
                _VARY,
            )
            for origin in origins
        }
        self._preflights = {
            origin: hardened([granted[0], *_PREFLIGHT]) for origin, granted in self._granted.items()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin, is_preflight = _origin_of(scope)
        granted = self._granted.get(origin)
        if granted is not None and is_preflight:
            preflight: Message = {
                "type": "http.response.start",
                "status": 204,
                "headers": self._preflights[origin],
            }
            await send(preflight)
            await send({"type": "http.response.body"})
            return
        # Caches must know that the answer to another origin differs, also when there is none.
        added = granted or (_VARY,)

        async def send_granted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *added]
            await send(message)

        await self._app(scope, receive, send_granted)


def _origin_of(scope: Scope) -> tuple[bytes, bool]:
    """The origin of the page that asks, or nothing; and whether its browser asks beforehand."""
    origin = b""
    asks_beforehand = False
    for name, value in scope.get(AROUND_SERVE) or scope["headers"]:
        if name == b"origin":
            # Of two, none is believed.
            origin = b"?" if origin else value
        elif name == b"access-control-request-method":
            asks_beforehand = True
    return origin, asks_beforehand and scope["method"] == "OPTIONS"
