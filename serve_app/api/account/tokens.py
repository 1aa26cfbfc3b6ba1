"""What a session is given: tokens, as answers have them, and how its client is recognised."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from persistence.account_registry import AccountRow
from persistence.login_sessions import OpenedSession
from reservation.access import Principal
from serve_app.access.access_tokens import LIFETIME_S
from serve_app.api.account.desk import AccountDesk
from serve_app.api.edge import json_response
from serve_app.api.hold_views import View
from serve_app.api.instants import write_instant
from serve_app.api.limits import CLIENT_HEADER, RequestLimits, Rule
from serve_app.api.principals import principal_of
from serve_app.api.problems import Problem

CHALLENGE = {"WWW-Authenticate": "Bearer"}

_DEVICE_LENGTH_MAX = 200
_CLIENT_LENGTH_MAX = 1_000


def access_view(desk: AccountDesk, principal: Principal) -> View:
    """A new access token.

    Raises:
        NoSigningKey: there is no key to sign it with.
    """
    return {
        "access_token": desk.issuer.issue(principal, desk.now_ms() // 1_000),
        "token_type": "Bearer",
        "expires_in": LIFETIME_S,
    }


def session_response(desk: AccountDesk, opened: OpenedSession, status: int = 200) -> Response:
    """A session's next pair of tokens."""
    view = {
        **access_view(desk, opened.principal),
        "refresh_token": opened.refresh_token,
        "refresh_expires_at": write_instant(opened.expires_at_ms),
    }
    return json_response(view, status)


def device_of(request: Request) -> str:
    """What the client calls itself, for the list of an account's sessions."""
    text = request.headers.get("user-agent", "")
    return "".join(letter for letter in text if letter.isprintable())[:_DEVICE_LENGTH_MAX]


def client_of(request: Request, key: str | None) -> str | None:
    """By what a repeated refresh is recognised: its idempotency key, else program and address.

    The address is what a gateway says. Without one, anybody could say it; but this is only asked
    about somebody who has the refresh token already.
    """
    if key is not None:
        return f"key {key}"
    program = device_of(request)
    if not program:
        return None
    address = request.headers.get(CLIENT_HEADER.decode(), "")
    return f"program {program} at {address}"[:_CLIENT_LENGTH_MAX]


async def admitted(limits: RequestLimits, request: Request, rule: Rule) -> Principal:
    """Who asks, unless that is too often.

    Raises:
        Problem: ``too_many_requests``.
    """
    principal = principal_of(request)
    await limits.admit(request.scope, rule, principal.account_id)
    return principal


async def find_own(desk: AccountDesk, request: Request) -> AccountRow:
    """The account that asks.

    Raises:
        Problem: ``account_not_found``: its token outlived it.
    """
    account = await desk.accounts.find(principal_of(request).account_id)
    if account is None:
        raise account_not_found()
    return account


def account_not_found() -> Problem:
    """The problem of an id that names no account, or none that concerns whoever asks."""
    return Problem("account_not_found", "There is no account with this id.")
