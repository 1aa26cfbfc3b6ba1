"""An accounts store as the application opens it, and people to put into it."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from persistence.accounts import Accounts
from persistence.login_sessions import OpenedSession
from persistence.migrate import ACCOUNTS_GROUP
from persistence.sessions import Pool, open_pool
from reservation.access import Role
from reservation.ids import AccountId, TenantId

NOW_MS = 1_800_000_000_000
MINUTE_MS = 60_000
DAY_MS = 24 * 60 * MINUTE_MS
HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaA"
OTHER_HASH = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$b3RoZXJvdGhlcm90aGVyb3"


@asynccontextmanager
async def opened_pool(
    dsn: str, role: str | None = ACCOUNTS_GROUP, size_max: int = 4
) -> AsyncIterator[Pool]:
    """A pool that works as ``role``."""
    pool = await open_pool(dsn, "tests", size_max=size_max, role=role)
    try:
        yield pool
    finally:
        await pool.close()


def digest(text: str) -> bytes:
    """What is stored of a secret that was mailed or given to a machine."""
    return hashlib.sha256(text.encode()).digest()


async def make_account(
    accounts: Accounts,
    email: str = "ann@example.com",
    role: Role = Role.CUSTOMER,
    tenant_id: TenantId | None = None,
) -> AccountId:
    """Somebody who has just signed up."""
    account_id = await accounts.sign_up(email, HASH, "Ann", NOW_MS, role=role, tenant_id=tenant_id)
    assert account_id is not None
    return account_id


async def log_in(accounts: Accounts, account_id: AccountId, now_ms: int = NOW_MS) -> OpenedSession:
    """A session of this account."""
    opened = await accounts.open_session(account_id, "a browser", now_ms, password_hash=HASH)
    assert opened is not None
    return opened


async def ask(dsn: str, query: str, *arguments: object) -> object:
    """One value, read past the store."""
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query, *arguments)
    finally:
        await connection.close()


async def until_somebody_waits(dsn: str) -> None:
    """Return once a session of this database waits for a lock."""
    connection = await asyncpg.connect(dsn)
    try:
        while not await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            pass
    finally:
        await connection.close()
