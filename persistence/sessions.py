"""How connections to Postgres are opened: one place for every session setting and its reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeAlias

import asyncpg

from persistence.timed_connection import CLOSE_WITHIN_S, WriterConnection, timed_connection
from reservation.faults import Fault, OutcomeUnknown, ShowUnavailable

# asyncpg's own classes take no type argument at run time; their stubs want one.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
PooledConnection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

CONNECT_TIMEOUT_S = 3.0

FREE_WITHIN_S = 10.0
"""So long a request waits for one of its pool's connections to be free."""

_DATABASE_AWAY = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
)

# Postgres has given up and undone the transaction, because others held what it needed.
_GAVE_UP = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)

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
        connection_class=WriterConnection,
        server_settings={**_WRITER_SESSION, "application_name": owner},
    )


async def open_pool(
    dsn: str,
    name: str,
    *,
    size_max: int,
    lock_timeout_ms: int = 2_000,
    answer_within_s: float | None = None,
    role: str | None = None,
) -> Pool:
    """A pool for everything that is not the write path. Connects on first use.

    Args:
        answer_within_s: how long a request may take; None for the time of ``TimedConnection``.
        role: a group whose rights its sessions have instead of those of the DSN's own role; one
            of ``migrate.GROUPS_TO_TAKE_ON``.
    """
    own_role = {} if role is None else {"role": role}
    pool = asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size_max,
        timeout=CONNECT_TIMEOUT_S,
        connection_class=timed_connection(answer_within_s),
        reset=_keep_session,  # type: ignore[arg-type]  # asyncpg hands out the proxy.
        server_settings={
            **_EVERY_SESSION,
            **own_role,
            "lock_timeout": str(lock_timeout_ms),
            "application_name": name,
        },
    )
    return await pool


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[PooledConnection]:
    """A connection to read through.

    Raises:
        ShowUnavailable: the database is away; asking again later is free.
    """
    async with _connected(pool, _unavailable) as connection:
        yield connection


@asynccontextmanager
async def writing(pool: Pool) -> AsyncIterator[PooledConnection]:
    """A connection to write through.

    Raises:
        ShowUnavailable: the database is away, or others held what was needed for too long;
            nothing was written.
        OutcomeUnknown: it went away in the middle; repeat the same write.
    """
    async with _connected(pool, _unknown) as connection:
        yield connection


@asynccontextmanager
async def _connected(
    pool: Pool, when_lost: Callable[[Exception], Fault]
) -> AsyncIterator[PooledConnection]:
    try:
        async with asyncio.timeout(FREE_WITHIN_S):
            connection = await pool.acquire()
    except (*_DATABASE_AWAY, asyncpg.InterfaceError) as error:
        raise _unavailable(error) from error
    try:
        yield connection
    except _GAVE_UP as error:
        raise _unavailable(error) from error
    except _DATABASE_AWAY as error:
        await _suspect(pool)
        raise when_lost(error) from error
    except asyncpg.InterfaceError as error:
        # Said of a connection that is gone, and of mistakes in our own calls.
        if _is_lost(connection):
            await _suspect(pool)
            raise when_lost(error) from error
        raise
    finally:
        # A caller that hung up lets the server cancel the request, and a connection that is not to
        # be used again is closed: over a silent line both would take for ever.
        with suppress(TimeoutError):
            await pool.release(connection, timeout=CLOSE_WITHIN_S)


async def _suspect(pool: Pool) -> None:
    """What became of one connection has probably become of the others: use new ones."""
    await pool.expire_connections()


def has_given_up(fault: Fault) -> bool:
    """Whether a database did not do something because others held what it needed."""
    return isinstance(fault.__cause__, _GAVE_UP)


def _is_lost(connection: PooledConnection) -> bool:
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        # The pool takes a connection that broke away from us by itself.
        return True


def _unavailable(error: Exception) -> Fault:
    return ShowUnavailable(f"the database cannot be reached ({error!r})")


def _unknown(error: Exception) -> Fault:
    return OutcomeUnknown(f"the database went away while it was being changed ({error!r})")


async def _keep_session(connection: PooledConnection) -> None:
    """Leave a released connection as it is: nobody here changes session state.

    asyncpg would send a reset after every release, a second round trip for every query.
    """
