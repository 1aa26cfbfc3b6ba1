"""Everything that is stored about accounts, through one pool."""

from __future__ import annotations

from typing import NamedTuple

from persistence.account_registry import AccountRegistry
from persistence.api_keys import KEY_MEMORY_MS, ApiKeys
from persistence.audit_log import AuditLog
from persistence.login_sessions import REPETITION_GRACE_MS, REVOCATION_MEMORY_MS, LoginSessions
from persistence.mailed_tokens import MailedTokens
from persistence.queries import load_queries
from persistence.sessions import Pool, writing
from persistence.signing_keys import SigningKeys
from persistence.tenants import Tenants

SESSION_MEMORY_MS = 24 * 60 * 60_000
"""How long a session that is over is kept, so that a token of it is refused as used or ended."""

_ROWS_PER_ROUND = 1_000
_LOCK = int.from_bytes(b"purge ac", "big") >> 1
_QUERIES = load_queries("accounts.sql")


class PurgeCounts(NamedTuple):
    """How many rows were removed, or tidied up, of each kind."""

    tokens: int
    revocations: int
    refresh_tokens: int
    seals: int
    sessions: int
    api_keys: int
    signing_keys: int


class Accounts(
    AccountRegistry, MailedTokens, LoginSessions, ApiKeys, SigningKeys, Tenants, AuditLog
):
    """The accounts database.

    Each of its parts can also be used alone, with as few rights as it needs.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_accounts``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def purge(self, now_ms: int) -> PurgeCounts:
        """Remove what is over: expired tokens, ended sessions, old revocations, dead keys.

        Safe at any time and from any number of processes; while one is at it, the others find
        nothing to do. The audit log is not touched.
        """
        total = PurgeCounts(0, 0, 0, 0, 0, 0, 0)
        while True:
            removed = await self._purge_some(now_ms)
            total = PurgeCounts(*map(sum, zip(total, removed, strict=True)))
            if max(removed) < _ROWS_PER_ROUND:
                return total

    async def _purge_some(self, now_ms: int) -> PurgeCounts:
        before_ms = {
            "purge_tokens": now_ms,
            "purge_revocations": now_ms - REVOCATION_MEMORY_MS,
            "purge_refresh_tokens": now_ms,
            "purge_seals": now_ms - REPETITION_GRACE_MS,
            "purge_sessions": now_ms - SESSION_MEMORY_MS,
            "purge_api_keys": now_ms - KEY_MEMORY_MS,
            "purge_signing_keys": now_ms,
        }
        counts = []
        async with writing(self._pool) as connection, connection.transaction():
            if not await connection.fetchval(_QUERIES["may_purge"], _LOCK):
                return PurgeCounts(0, 0, 0, 0, 0, 0, 0)
            for query, until_ms in before_ms.items():
                status = await connection.execute(_QUERIES[query], until_ms, _ROWS_PER_ROUND)
                counts.append(int(status.rpartition(" ")[2]))
        return PurgeCounts(*counts)
