"""The outermost layer of every application: request ids, addresses, and the last catch.

Pure ASGI, because everything here happens to every request.
"""

from __future__ import annotations

import itertools
import logging
import re
import secrets
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve_app.api.problems import FieldError, Problem, bad_request, shorten
from serve_app.api.security_headers import hardened

log = logging.getLogger(__name__)

REQUEST_ID = b"x-request-id"

AROUND_SERVE = "housefull.headers"
"""Where the scope has the request's headers when Serve was shown others: see ``serve_headers``."""

_SCOPE_KEY = "housefull.request_id"
_WELL_FORMED = re.compile(rb"[A-Za-z0-9._:+/=@-]{1,128}")
_QUERY_PARAMETERS_MAX = 100
_PROCESS = secrets.token_hex(8).encode()
_numbers = itertools.count(1)


class Front:
    """Gives every request an id, refuses addresses that are no text, and lets nothing escape.

    Every response gets the headers that harden it (``security_headers``).

    What follows sees the headers that the client sent.

    ``X-Request-Id`` is taken over when it is well-formed and made here otherwise; the response
    carries it. Behind Ray Serve, which adds the header of the request to the response itself, only
    an id made here is added.

    An exception that nobody expected is logged with the request's id and answered with a
    problem that says nothing about it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers_around = scope.get(AROUND_SERVE)
        if headers_around is not None:
            scope["headers"] = headers_around
        request_id, is_own = _request_id_of(scope)
        scope[_SCOPE_KEY] = request_id
        has_started = False

        async def send_with_id(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = hardened(message["headers"])
                if is_own or headers_around is None:
                    headers.append((REQUEST_ID, request_id))
                message["headers"] = headers
            await send(message)

        try:
            problem = _problem_of_target(scope)
            if problem is not None:
                await problem.response()(scope, receive, send_with_id)
                return
            await self._app(scope, receive, send_with_id)
        except Exception:
            log.exception(
                "bug: %s %s (request %s)", scope["method"], scope["path"], request_id.decode()
            )
            if has_started:
                raise  # Half an answer is out; only closing the connection tells the client.
            problem = Problem("internal_error", "This is our mistake; it has been logged.")
            await problem.response()(scope, receive, send_with_id)


def new_request_id() -> bytes:
    """An id of its own for a request: this process, then a number.

    Nobody has to be unable to guess it, and asking the system for randomness costs more than
    everything else here.
    """
    return b"%s%016x" % (_PROCESS, next(_numbers))


def is_request_id(value: bytes) -> bool:
    """Whether this is an id that may be taken over from a client."""
    return _WELL_FORMED.fullmatch(value) is not None


def request_id_of(scope: Scope) -> str:
    """The id of this request, for whoever writes down what it did."""
    request_id: bytes = scope[_SCOPE_KEY]
    return request_id.decode()


def _request_id_of(scope: Scope) -> tuple[bytes, bool]:
    """The id of this request, and whether it was made here."""
    for name, value in scope["headers"]:
        if name == REQUEST_ID:
            if is_request_id(value):
                return value, False
            break
    return new_request_id(), True


def _problem_of_target(scope: Scope) -> Problem | None:
    """What is wrong with the address as text, before anybody replaces what is not UTF-8."""
    raw_path: bytes = scope.get("raw_path") or b""
    query: bytes = scope["query_string"]
    if not query and b"%" not in raw_path:
        return None
    errors: list[FieldError] = []
    if b"%" in raw_path:
        reason = _objection_to(raw_path.partition(b"?")[0])
        if reason is not None:
            errors.append(FieldError("path", reason))
    if query:
        errors.extend(_errors_of_query(query))
    return bad_request(errors, "invalid_target") if errors else None


def _errors_of_query(query: bytes) -> list[FieldError]:
    errors: list[FieldError] = []
    seen: set[bytes] = set()
    pairs = query.split(b"&")
    if len(pairs) > _QUERY_PARAMETERS_MAX:
        return [FieldError("query", f"more than {_QUERY_PARAMETERS_MAX} parameters")]
    for pair in pairs:
        raw_name, _, raw_value = pair.partition(b"=")
        name = unquote_to_bytes(raw_name.replace(b"+", b" "))
        shown = shorten(name.decode(errors="replace"))
        reason = _objection_to(raw_name) or _objection_to(raw_value)
        if reason is not None:
            errors.append(FieldError(shown, reason))
        elif name in seen:
            errors.append(FieldError(shown, "is given twice"))
        seen.add(name)
    return errors


def _objection_to(quoted: bytes) -> str | None:
    """Why this percent-encoded text is no text that can be stored, or None."""
    octets = unquote_to_bytes(quoted) if b"%" in quoted else quoted
    if b"\0" in octets:
        return "has a zero character"
    try:
        octets.decode()
    except UnicodeDecodeError:
        return "is not UTF-8"
    return None
