"""The gate: who is asking, from the bearer token, and whether a route is for such.

Every route says which roles it is for (``api_document.Operation``); there is no default. The gate
stands before the handler, and before anything of the request but its headers is looked at. It
makes no call: ``access.access_tokens`` knows by itself whom a token speaks for.

Who may come is about the kind of account only. Whether *this* hold, booking or show is the
account's own is the handler's to know, and a foreign one is answered as if it were not there.

Where a request came from says nothing about who sent it, so addresses are not looked at here,
least of all those that clients and proxies write into headers.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum
from typing import Final

from starlette.requests import Request
from starlette.types import Scope

from reservation.access import Principal, Role
from reservation.ids import CustomerId
from serve_app.access.access_tokens import Refusal, TokenRefused, TokenVerifier
from serve_app.api.problems import Problem

log = logging.getLogger(__name__)


class Public(Enum):
    """The type of ``PUBLIC``."""

    PUBLIC = "public"


PUBLIC: Final = Public.PUBLIC
"""Instead of roles: whoever asks, with or without a token. No token is looked at."""

SIGNED_IN: Final = frozenset(Role)
"""Every account, whatever it is for."""

Audience = frozenset[Role] | Public
"""Whom a route is for."""

_SCOPE_KEY = "housefull.principal"
_SCHEME = b"bearer "
_CHALLENGE = {"WWW-Authenticate": "Bearer"}
# So common that a log of each would be read by nobody.
_ORDINARY = frozenset({Refusal.OVER, Refusal.REVOKED})


class Gate:
    """Says who is asking, and lets in those for whom a route is."""

    def __init__(self, verifier: TokenVerifier, *, now_s: Callable[[], float] = time.time) -> None:
        self._verifier = verifier
        self._now_s = now_s

    def admit(self, scope: Scope, roles: frozenset[Role]) -> None:
        """Let this request in; ``principal_of`` has who it is afterwards.

        Raises:
            Problem: ``token_missing``, ``token_invalid`` or ``role_not_allowed``.
            KeysUnknown: tokens cannot be told from each other yet.
        """
        token: bytes | None = None
        for name, value in scope["headers"]:
            if name == b"authorization":
                if token is not None:
                    # Whatever stands in front of us may have read the other one.
                    raise _invalid()
                token = value
        if token is None:
            raise _missing()
        if token[:7].lower() != _SCHEME:
            raise _invalid()
        try:
            principal = self._verifier.verify(token[7:], self._now_s())
        except TokenRefused as refused:
            if refused.reason not in _ORDINARY:
                log.info("a token was refused: %s", refused.reason)
            raise _invalid() from None
        # Python hashes a member of an enumeration slowly, and most routes are for everybody.
        if roles is not SIGNED_IN and principal.role not in roles:
            raise Problem("role_not_allowed", f"This is not for the role {principal.role}.")
        scope[_SCOPE_KEY] = principal


def principal_of(request: Request) -> Principal:
    """Who is asking; only for handlers of routes that are not public."""
    principal: Principal = request.scope[_SCOPE_KEY]
    return principal


def customer_of(request: Request) -> CustomerId:
    """For whom this request buys: everybody buys for himself."""
    return CustomerId(principal_of(request).account_id)


def _missing() -> Problem:
    return Problem(
        "token_missing",
        "This needs an access token in the header Authorization: Bearer ….",
        headers=_CHALLENGE,
    )


def _invalid() -> Problem:
    # One answer for everything that is wrong with a token: it helps only those who make some.
    return Problem("token_invalid", "The access token is not valid now.", headers=_CHALLENGE)
