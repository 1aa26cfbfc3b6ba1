"""How connections to Postgres are opened: one place for every session setting and its reason."""

from __future__ import annotations

from typing import TypeAlias

import asyncpg

# asyncpg's own classes take no type argument at run time; their stubs want one.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

CONNECT_TIMEOUT_S = 3.0

_EVERY_SESSION = {
    # A session that stops in the middle of a transaction must not keep its locks.
    "idle_in_transaction_session_timeout": "2000",
    "jit": "off",
}

_WRITER_SESSION = {
    **_EVERY_SESSION,
    "lock_timeout": "2000",
    # The statement of a batch joins a handful of parameters with indexed rows. Planned by the
    # table's statistics it flips to full scans; measured, a third of the throughput
    # (docs/decisions/0011-seat-claims-are-one-row-per-seat.md).
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}


async def open_writer(dsn: str, owner: str) -> Connection:
    """The connection that a journal writes through.

    It has no statement time-out on purpose: a statement cancelled while it waits for a
    synchronous replica is reported as a success.
    """
    return await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT_S,
        server_settings={**_WRITER_SESSION, "application_name": owner},
    )


async def open_pool(dsn: str, name: str, *, size_max: int, lock_timeout_ms: int = 2_000) -> Pool:
    """A pool for everything that is not the write path. Connects on first use."""
    pool = asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size_max,
        timeout=CONNECT_TIMEOUT_S,
        reset=_keep_session,
        server_settings={
            **_EVERY_SESSION,
            "lock_timeout": str(lock_timeout_ms),
            "application_name": name,
        },
    )
    return await pool


async def _keep_session(connection: PooledConnection) -> None:
    """Leave a released connection as it is: nobody here changes session state.

    asyncpg would send a reset after every release, a second round trip for every query.
    """
