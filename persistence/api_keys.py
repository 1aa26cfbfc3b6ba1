"""API keys: how machines get in.

A key belongs to an account and has a role that is not above the account's. It is exchanged for
access tokens, which name the key's own session: revoking the key ends them too.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from persistence.account_fields import PAGE_LENGTH_MAX, checked_limit, checked_sha256
from persistence.catalogue_text import checked_text
from persistence.login_sessions import holding_account
from persistence.new_ids import new_id
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.access import TENANT_ROLES, Principal, Role, key_roles_of
from reservation.ids import (
    AccountId,
    ApiKeyId,
    SessionId,
    TenantId,
    is_account_id,
    is_api_key_id,
)

API_KEYS_PER_ACCOUNT_MAX = 20
"""Keys that work, of one account."""

KEY_MEMORY_MS = 30 * 24 * 60 * 60_000
"""How long a key that ended is still listed."""

NAME_LENGTH_MAX = 100

_END_OF_TIME_MS = 253_402_300_800_000
_QUERIES = load_queries("accounts.sql")


class ApiKeyRow(NamedTuple):
    """A key, as its account is told about it."""

    key_id: ApiKeyId
    name: str
    role: Role
    created_at_ms: int
    expires_at_ms: int | None
    last_used_at_ms: int | None
    revoked_at_ms: int | None


class ApiKeyPage(NamedTuple):
    """Some keys; ``next`` is where to go on, None on the last page."""

    keys: list[ApiKeyRow]
    next: ApiKeyId | None


class ApiKeyUse(NamedTuple):
    """A key that lets somebody in, and as whom."""

    key_id: ApiKeyId
    principal: Principal


class ApiKeyRefused(StrEnum):
    """Why a key was not made."""

    NO_ACCOUNT = "no_account"
    """There is no such account, or it is disabled."""
    ROLE_ABOVE_ACCOUNT = "role_above_account"
    TOO_MANY = "too_many"


class ApiKeys:
    """Makes, lists, uses and revokes keys.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_accounts``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create_api_key(
        self,
        account_id: AccountId,
        name: str,
        role: Role,
        key_sha256: bytes,
        expires_at_ms: int | None,
        now_ms: int,
    ) -> ApiKeyId | ApiKeyRefused:
        """A new key of this account; ``expires_at_ms`` None is never.

        Raises:
            ValueError: a field cannot be stored; the message begins with its name.
        """
        if not checked_text("name", name, NAME_LENGTH_MAX).strip():
            raise ValueError("name: blank")
        checked_sha256("key_sha256", key_sha256)
        if expires_at_ms is not None and not now_ms < expires_at_ms < _END_OF_TIME_MS:
            raise ValueError("expires_at_ms: not in the future, or after the year 9999")
        key_id = ApiKeyId(new_id("key_"))
        async with holding_account(self._pool, account_id) as (connection, account):
            if account is None or account["state"] != "active":
                return ApiKeyRefused.NO_ACCOUNT
            if role not in key_roles_of(Role(account["role"])):
                return ApiKeyRefused.ROLE_ABOVE_ACCOUNT
            key_count = await connection.fetchval(
                _QUERIES["count_working_keys"], account_id, now_ms
            )
            if key_count >= API_KEYS_PER_ACCOUNT_MAX:
                return ApiKeyRefused.TOO_MANY
            await connection.execute(
                _QUERIES["create_api_key"],
                key_id,
                account_id,
                name,
                role,
                key_sha256,
                new_id("ses_"),
                now_ms,
                expires_at_ms,
            )
        return key_id

    async def list_api_keys(
        self, account_id: AccountId, after: ApiKeyId | None = None, limit: int = PAGE_LENGTH_MAX
    ) -> ApiKeyPage:
        """A page of the keys of an account, in the order of their ids.

        Keys that ended are among them for ``KEY_MEMORY_MS``.

        Raises:
            ValueError: ``limit`` is not in 1..100, or ``after`` is no key's id.
        """
        checked_limit(limit)
        if after is not None and not is_api_key_id(after):
            raise ValueError("after: not the id of a key")
        if not is_account_id(account_id):
            return ApiKeyPage([], None)
        async with reading(self._pool) as connection:
            rows = await connection.fetch(
                _QUERIES["list_api_keys"], account_id, after or "", limit + 1
            )
        keys = [ApiKeyRow(*row)._replace(role=Role(row["role"])) for row in rows[:limit]]
        return ApiKeyPage(keys, keys[-1].key_id if len(rows) > limit else None)

    async def revoke_api_key(
        self, key_id: ApiKeyId, *, account_id: AccountId | None = None
    ) -> bool:
        """Stop a key and its access tokens.

        Args:
            account_id: only if it is this account's.

        Returns:
            False when there is no such key, or it was revoked before.
        """
        if not is_api_key_id(key_id):
            return False
        async with writing(self._pool) as connection:
            revoked: bool = await connection.fetchval(
                _QUERIES["revoke_api_key"], key_id, account_id
            )
        return revoked

    async def use_api_key(self, key_sha256: bytes, now_ms: int) -> ApiKeyUse | None:
        """Who the holder of this key is, and remember that it was used.

        Returns:
            None when there is no such key, it is over, or its account is disabled or must not
            have a key with this role any more.
        """
        checked_sha256("key_sha256", key_sha256)
        async with writing(self._pool) as connection:
            row = await connection.fetchrow(_QUERIES["use_api_key"], key_sha256, now_ms)
        if row is None:
            return None
        role = Role(row["role"])
        if role not in key_roles_of(Role(row["account_role"])):
            return None
        tenant_id = TenantId(row["tenant_id"]) if role in TENANT_ROLES else None
        principal = Principal(
            AccountId(row["account_id"]), role, tenant_id, SessionId(row["session_id"])
        )
        return ApiKeyUse(ApiKeyId(row["key_id"]), principal)
