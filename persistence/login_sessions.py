"""Logins: one session a login, kept alive by a chain of refresh tokens.

Theory of operation

A session is the family of its refresh tokens. Exactly one token of a family is unused; using it
makes its successor. A used token that is shown again was stolen, or its thief was faster: nobody
can tell which, so the family ends for both. The one exception is a *repetition*: the same client,
within ``REPETITION_GRACE_MS``, while the successor is unused. It gets the same successor again,
because its first answer was lost, or because another window of the same browser was faster.

A session that ends is also written into ``revoked_session``, which every application reads once a
second, so that its access tokens end with it.

Whoever changes a session holds its row; whoever ends all sessions of an account, or opens one,
holds the account's row first. So a password that is changed while somebody logs in with the old
one ends that session too, and no two of them wait for each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from persistence.catalogue_text import checked_text
from persistence.new_ids import new_id
from persistence.queries import load_queries
from persistence.refresh_tokens import (
    draw_refresh_token,
    is_refresh_token,
    seal,
    sha256_of,
    unseal,
)
from persistence.sessions import Pool, PooledConnection, reading, writing
from reservation.access import Principal, Role
from reservation.ids import AccountId, SessionId, TenantId, is_account_id, is_session_id

if TYPE_CHECKING:
    import asyncpg

REFRESH_TOKEN_LIFE_MS = 30 * 24 * 60 * 60_000
"""A session that nobody used for so long is over."""

SESSION_LIFE_MS_MAX = 180 * 24 * 60 * 60_000
"""However often it is refreshed, a session asks for the password again after this."""

REPETITION_GRACE_MS = 10_000
"""How long the same client may repeat the exchange of a token."""

SESSIONS_PER_ACCOUNT_MAX = 50
"""Live ones. The next login ends the one that was not used for the longest time."""

REVOCATION_MEMORY_MS = 60 * 60_000
"""How long a revoked session is remembered. No access token may live longer than this."""

LABEL_LENGTH_MAX = 200

_CLIENT_LENGTH_MAX = 2_000
_QUERIES = load_queries("accounts.sql")


class EndReason(StrEnum):
    """Why a session ended before its time."""

    LOGOUT = "logout"
    REUSE = "reuse"
    PASSWORD = "password"
    ROLE = "role"
    DISABLED = "disabled"
    EXCESS = "excess"


class RefreshRefused(StrEnum):
    """Why a refresh token was not exchanged. The client is told the same in every case."""

    UNKNOWN = "unknown"
    EXPIRED = "expired"
    ENDED = "ended"
    """The session was ended, or the account is disabled."""
    REUSED = "reused"
    """It was used before: its whole family is ended now."""


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A login that succeeded.

    Shapes:
        refresh_token: for the client only; it is stored nowhere.
        expires_at_ms: when that token expires.
    """

    principal: Principal
    refresh_token: str
    expires_at_ms: int

    def __repr__(self) -> str:
        # What ends up in a log by accident must not let anybody in.
        return f"{type(self).__name__}({self.principal!r})"


@dataclass(frozen=True, slots=True, repr=False)
class Rotation(OpenedSession):
    """A refresh token was exchanged, or its exchange was repeated; shapes as in the parent."""

    is_repetition: bool


class SessionRow(NamedTuple):
    """A live session, as its account is told about it."""

    session_id: SessionId
    label: str
    opened_at_ms: int
    refreshed_at_ms: int
    expires_at_ms: int


class LoginSessions:
    """Opens, refreshes and ends sessions.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_accounts``; ``revoked_since``
            works with those of ``housefull_application`` too.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def open_session(
        self, account_id: AccountId, label: str, now_ms: int, *, password_hash: str | None
    ) -> OpenedSession | None:
        """A new session of this account.

        Args:
            label: what the account will be told about it: the device, as it names itself.
            password_hash: the one that the password was checked against; None when the account
                was not asked for its password.

        Returns:
            None when there is no such account, it is disabled, or its password is another one by
            now.

        Raises:
            ValueError: ``label`` cannot be stored.
        """
        checked_text("label", label, LABEL_LENGTH_MAX)
        session_id = SessionId(new_id("ses_"))
        token = draw_refresh_token()
        expires_at_ms = now_ms + REFRESH_TOKEN_LIFE_MS
        async with holding_account(self._pool, account_id) as (connection, account):
            if account is None or account["state"] != "active":
                return None
            if password_hash is not None and account["password_hash"] != password_hash:
                return None
            await connection.execute(
                _QUERIES["end_excess_sessions"],
                account_id,
                SESSIONS_PER_ACCOUNT_MAX - 1,
                EndReason.EXCESS,
                now_ms,
            )
            await connection.execute(
                _QUERIES["open_session"],
                session_id,
                account_id,
                label,
                now_ms,
                expires_at_ms,
                sha256_of(token),
            )
        principal = _principal_of(account, session_id)
        return OpenedSession(principal, token, expires_at_ms)

    async def rotate_refresh(
        self, refresh_token: str, now_ms: int, *, client: str | None
    ) -> Rotation | RefreshRefused:
        """Exchange a refresh token for its successor.

        Of any number of callers with one token exactly one makes the successor. Every other one
        is a repetition and gets the same successor, or is refused and ends the session; see the
        module's docstring.

        Args:
            client: any text by which a repetition is recognised as the same client's; None when
                nothing is known, and then there are no repetitions.

        Raises:
            ValueError: ``client`` cannot be stored.
        """
        if not is_refresh_token(refresh_token):
            return RefreshRefused.UNKNOWN
        if client is not None:
            checked_text("client", client, _CLIENT_LENGTH_MAX)
        successor = draw_refresh_token()
        async with writing(self._pool) as connection:
            row = await connection.fetchrow(
                _QUERIES["rotate_refresh_token"],
                sha256_of(refresh_token),
                sha256_of(successor),
                seal(successor, refresh_token),
                None if client is None else sha256_of(client),
                now_ms,
                REFRESH_TOKEN_LIFE_MS,
                SESSION_LIFE_MS_MAX,
                REPETITION_GRACE_MS,
            )
        assert row is not None
        verdict: str = row["verdict"]
        if verdict not in ("rotated", "repeated"):
            return RefreshRefused(verdict)
        is_repetition = verdict == "repeated"
        if is_repetition:
            successor = unseal(row["sealed_successor"], refresh_token)
        principal = _principal_of(row, SessionId(row["session_id"]))
        return Rotation(principal, successor, row["expires_at_ms"], is_repetition)

    async def revoke_session(
        self, session_id: SessionId, *, account_id: AccountId | None = None
    ) -> bool:
        """End a session and its access tokens: a logout.

        The session of an API key is replaced by a new one: its access tokens end, the key stays.

        Args:
            account_id: end it only if it is this account's.

        Returns:
            False when there is no such session, or it had ended before.
        """
        if not is_session_id(session_id):
            return False
        async with writing(self._pool) as connection:
            ended: bool = await connection.fetchval(
                _QUERIES["revoke_session"], session_id, account_id, new_id("ses_")
            )
        return ended

    async def revoke_all(self, account_id: AccountId) -> int:
        """End every session of this account; the access tokens of its API keys too, not the keys.

        Returns:
            How many logins were alive.
        """
        async with holding_account(self._pool, account_id) as (connection, account):
            if account is None:
                return 0
            return await end_all_access(connection, account_id, EndReason.LOGOUT)

    async def list_sessions(self, account_id: AccountId, now_ms: int) -> list[SessionRow]:
        """The live sessions of an account, the last used first; ``SESSIONS_PER_ACCOUNT_MAX``."""
        if not is_account_id(account_id):
            return []
        async with reading(self._pool) as connection:
            rows = await connection.fetch(
                _QUERIES["list_sessions"], account_id, now_ms, SESSIONS_PER_ACCOUNT_MAX
            )
        return [SessionRow(*row) for row in rows]

    async def revoked_since(self, cursor: int) -> tuple[int, list[SessionId]]:
        """Sessions that were revoked after ``cursor``, and the next cursor.

        Begin with 0: every one whose access tokens may still be alive. No revocation is ever
        missed, however long its transaction took; some are told twice. When the database was
        replaced by an older copy of itself, everything is told again.
        """
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(
                _QUERIES["revoked_since"], str(cursor), REVOCATION_MEMORY_MS
            )
        assert row is not None
        return row["cursor"], [SessionId(session_id) for session_id in row["session_ids"]]


@asynccontextmanager
async def holding_account(
    pool: Pool, account_id: AccountId
) -> AsyncIterator[tuple[PooledConnection, asyncpg.Record | None]]:
    """A transaction that holds the row of an account; None when there is no such account.

    Everything that changes what an account may do, or opens a session of it, happens in one.

    Raises:
        ShowUnavailable: the database cannot be reached; nothing changed.
        OutcomeUnknown: it went away in the middle.
    """
    async with writing(pool) as connection, connection.transaction():
        row = None
        if is_account_id(account_id):
            row = await connection.fetchrow(_QUERIES["lock_account"], account_id)
        yield connection, row


async def end_all_access(
    connection: PooledConnection, account_id: AccountId, reason: EndReason
) -> int:
    """End all sessions of an account whose row the caller's transaction holds.

    The sessions of its API keys are replaced, so that their access tokens end.
    """
    keys = await connection.fetch(_QUERIES["live_key_ids"], account_id)
    if keys:
        await connection.execute(
            _QUERIES["replace_key_sessions"],
            [key["key_id"] for key in keys],
            [new_id("ses_") for _ in keys],
        )
    ended: int = await connection.fetchval(_QUERIES["end_all_sessions"], account_id, reason)
    return ended


def _principal_of(row: asyncpg.Record, session_id: SessionId) -> Principal:
    tenant_id = row["tenant_id"]
    return Principal(
        AccountId(row["account_id"]),
        Role(row["role"]),
        None if tenant_id is None else TenantId(tenant_id),
        session_id,
    )
