"""What every HTTP application of the house has: its layers, its errors, its health.

CrossOrigin    pages of other origins; not there when none are allowed
Front          request id, address, security headers, the last catch
AddressLimit   requests of one client address; not there without a gateway
BodyGuard      the body, bounded in bytes and time
DirectRoutes   the routes with an id in their address, found in a dictionary
   or
framework      the other routes, wrong methods, unknown addresses, the description

In the last two a Problem, a Fault or an error of the framework becomes a problem.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from reservation.faults import Fault, ShowUnavailable
from serve_app.api.api_document import HEALTHZ, READYZ, problems
from serve_app.api.body_guard import BodyGuard
from serve_app.api.cross_origin import CrossOrigin
from serve_app.api.front import Front
from serve_app.api.limits import AddressLimit, RequestLimits
from serve_app.api.problems import FieldError, Problem, bad_field, bad_request, response_to
from serve_app.api.short_way import Api
from serve_app.api.strict_json import field_path

log = logging.getLogger(__name__)

VERSION = "1"
PROBE_TIMEOUT_S = 2.0
IDEMPOTENCY_KEY = "Idempotency-Key"

_KEY = re.compile(rb"[\x21-\x7e]{1,255}")
_NO_HEADERS: Mapping[str, str] = {}
_ALIVE = b'{"status":"ok"}'


class Desk(Protocol):
    """Whoever the routes of an application turn to."""

    async def probe(self) -> None:
        """Reach everything that answering takes.

        Raises:
            Fault: something cannot be reached.
        """
        ...


class Opened:
    """Where the routes find their desk while the application runs."""

    def __init__(self) -> None:
        self.desk: Any = None


def make_api(
    opened: Opened,
    open_desk: Callable[[], AbstractAsyncContextManager[Desk]],
    *,
    title: str,
    summary: str,
    description: str,
    body_bytes_max: int,
    leaves_unread: Callable[[Scope], bool] | None = None,
    limits: RequestLimits | None = None,
    spares: Callable[[Scope], bool] | None = None,
    cors_origins: Sequence[str] = (),
) -> Api:
    """An application without routes of its own.

    ``open_desk`` is entered when the application starts, on its event loop, and left when it
    stops. It should not wait for a database: a house starts in any order. See
    ``body_guard.BodyGuard`` for ``leaves_unread``. ``limits`` are closed with the desk; ``spares``
    names requests that the limit of an address is not for, which are bounded by their routes;
    ``cors_origins`` are those whose pages may use the application.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with open_desk() as desk:
            opened.desk = desk
            try:
                yield
            finally:
                opened.desk = None
                if limits is not None:
                    await limits.close()

    layers = [
        Middleware(Front),
        Middleware(BodyGuard, bytes_max=body_bytes_max, leaves_unread=leaves_unread),
    ]
    if limits is not None and limits.know_addresses:
        layers.insert(1, Middleware(AddressLimit, limits=limits, spares=spares))
    if cors_origins:
        layers.insert(0, Middleware(CrossOrigin, origins=cors_origins))
    app = Api(
        layers,
        title=title,
        version=VERSION,
        summary=summary,
        description=description,
        lifespan=lifespan,
        redirect_slashes=False,
        # The pages behind these load scripts from elsewhere; the description itself is enough.
        docs_url=None,
        redoc_url=None,
        responses=problems(),
        # Nobody listens, so every request need not look for listeners.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.add_exception_handler(Problem, _on_bad_news)
    app.add_exception_handler(Fault, _on_bad_news)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    _add_health(app, opened)
    return app


def json_response(
    value: object, status: int = 200, headers: Mapping[str, str] = _NO_HEADERS
) -> Response:
    """``value`` as a JSON response."""
    return _Json(orjson.dumps(value), status, headers)


def idempotency_key_of(scope: Scope) -> str | None:
    """The request's idempotency key, or None when it has none.

    Raises:
        Problem: ``invalid_header``: it is not 1 to 255 visible ASCII characters, or is there
            twice.
    """
    key: bytes | None = None
    for name, value in scope["headers"]:
        if name == b"idempotency-key":
            if key is not None:
                raise bad_field(IDEMPOTENCY_KEY, "is given twice", "invalid_header")
            key = value
    if key is None:
        return None
    if _KEY.fullmatch(key) is None:
        reason = "must be 1 to 255 visible ASCII characters"
        raise bad_field(IDEMPOTENCY_KEY, reason, "invalid_header")
    return key.decode()


class _Json(Response):
    """A response whose body is JSON already.

    The framework's own constructor looks for headers and encodings that are not in question here.
    """

    def __init__(self, body: bytes, status: int, headers: Mapping[str, str]) -> None:
        self.status_code = status
        self.background = None
        self.body = body
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        raw.append((b"content-length", b"%d" % len(body)))
        raw.append((b"content-type", b"application/json"))
        self.raw_headers = raw


async def probe_all(probes: list[Awaitable[object]]) -> None:
    """Wait for all probes together, not longer than two seconds.

    Raises:
        ShowUnavailable: one of them failed, or they took too long.
    """
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            await asyncio.gather(*probes)
    except Exception as error:
        # Whatever it is, whoever asked wants to know one thing only.
        raise ShowUnavailable(f"a database does not answer ({error!r})") from error


def _add_health(app: FastAPI, opened: Opened) -> None:
    async def healthz(request: Request) -> Response:
        return Response(_ALIVE, media_type="application/json")

    async def readyz(request: Request) -> Response:
        if opened.desk is None:
            raise Problem("not_done", "The application is starting or stopping.")
        await opened.desk.probe()
        return Response(_ALIVE, media_type="application/json")

    HEALTHZ.add_to(app, healthz)
    READYZ.add_to(app, readyz)


async def _on_bad_news(_: Request, error: Exception) -> Response:
    assert isinstance(error, Problem | Fault)
    return response_to(error)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    headers = error.headers or {}
    if error.status_code == 404:
        return Problem("not_found", "There is nothing at this address.").response()
    if error.status_code == 405:
        detail = f"{request.method} is not among the methods of this address."
        allowed = {"Allow": ", ".join(_methods_at(request))}
        return Problem("method_not_allowed", detail, headers=allowed).response()
    detail = "The framework refused the request."
    return Problem("http_error", detail, status=error.status_code, headers=headers).response()


def _methods_at(request: Request) -> list[str]:
    """The methods of an address; the framework itself names those of one of its routes only.

    Where an address is written out in one route and could be an id in another, the former counts.
    """
    found: dict[int, set[str]] = {}
    for route in request.app.router.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found.setdefault(route.path.count("{"), set()).update(route.methods or ())
    return sorted(found[min(found)]) if found else []


async def _on_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = []
    for found in error.errors():
        reason = "is not known here" if found["type"] == "extra_forbidden" else found["msg"]
        reason = "is missing" if found["type"] == "missing" else reason
        where, *path = found["loc"]
        errors.append(FieldError(field_path(tuple(path)) if path else str(where), reason))
    return bad_request(errors).response()
