"""Accounts that need no database: any account, with any role, has a valid token in a moment.

Names stand for accounts: ``account_named("ann")`` is always the same one. What is a customer's id
in a command is an account's id over HTTP.
"""

from __future__ import annotations

import hashlib
import time
from functools import lru_cache
from typing import NamedTuple

from reservation.access import HOUSE_TENANT, TENANT_ROLES, Principal, Role
from reservation.ids import ALPHABET, AccountId, SessionId, TenantId
from serve_app.access.access_tokens import TokenIssuer, TokenVerifier
from serve_app.access.key_ring import SigningKey, new_signing_key
from serve_app.api.principals import Gate

OTHER_TENANT = TenantId("tnt_" + "1" * 20)
"""A house that owns none of the shows here."""

_TOKEN_AGE_MAX_S = 300
"""Half of its life: what was prepared with a token may be sent some minutes later."""

_TOKENS_KEPT_MAX = 5_000


class _Issued(NamedTuple):
    header: str
    at_s: float


class Tokens:
    """Tokens signed with one key. They are renewed in time, however long a test lasts."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key
        self._issuer = TokenIssuer([key])
        self._issued: dict[Principal, _Issued] = {}

    def bearer(self, principal: Principal) -> str:
        """The value of the header ``Authorization`` for this principal."""
        now_s = time.time()
        issued = self._issued.get(principal)
        if issued is None or now_s - issued.at_s > _TOKEN_AGE_MAX_S:
            token = self._issuer.issue(principal, int(now_s))
            issued = self._issued[principal] = _Issued(f"Bearer {token}", now_s)
            if len(self._issued) > _TOKENS_KEPT_MAX:
                del self._issued[next(iter(self._issued))]
        return issued.header


def account_named(name: str) -> AccountId:
    """The account that goes by this name in tests."""
    return AccountId("acc_" + _letters(name))


def principal_named(
    name: str, role: Role = Role.CUSTOMER, tenant_id: TenantId = HOUSE_TENANT
) -> Principal:
    """The account of this name, signed in; the tenant matters only where a role has one."""
    tenant = tenant_id if role in TENANT_ROLES else None
    return Principal(account_named(name), role, tenant, SessionId("ses_" + _letters(name)))


@lru_cache(maxsize=1)
def tokens_of_tests() -> Tokens:
    """Tokens that ``open_gate`` accepts."""
    return Tokens(new_signing_key())


def open_gate() -> Gate:
    """A gate that knows the key of the tests, and of no revoked session."""
    verifier = TokenVerifier()
    verifier.use_keys([tokens_of_tests().key.public])
    verifier.revoke([], time.time())
    return Gate(verifier)


def signed_in(
    name: str, role: Role = Role.CUSTOMER, tenant_id: TenantId = HOUSE_TENANT
) -> dict[str, str]:
    """Headers of an account, for applications behind ``open_gate``."""
    return {"Authorization": tokens_of_tests().bearer(principal_named(name, role, tenant_id))}


def _letters(name: str) -> str:
    digest = hashlib.blake2b(name.encode(), digest_size=20).digest()
    return "".join(ALPHABET[octet & 31] for octet in digest)
