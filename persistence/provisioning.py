"""Makes a PostgreSQL server ready for a house, and connects those who prepare or repair one."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg

from persistence.migrate import (
    ensure_application_role,
    grant_to_take_on,
    groups_missing,
    migrate,
    take_on_groups,
)
from reservation.faults import NotDone

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECT_PATIENCE_MS = 15_000
"""A database that is starting at the same moment as the house gets this long."""

_RETRY_PAUSE_S = 0.25
_CONNECT_TIMEOUT_S = 5
_AWAY = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError)
_WRONG = (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError)


class DatabaseUnusable(NotDone):
    """The database cannot be reached, or does not let this user in; the message has no secret."""


async def ensure_database(dsn: str, name: str) -> None:
    """Make sure that the server behind ``dsn`` has a database ``name``."""
    async with connected(dsn) as connection:
        if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            return
        quoted = await connection.fetchval("SELECT quote_ident($1)", name)
        try:
            await connection.execute(f"CREATE DATABASE {quoted}")
        except asyncpg.DuplicateDatabaseError:
            return


async def prepare_database(
    dsn: str, *, role: str | None = None, password: str | None = None
) -> list[str]:
    """Bring one database to the newest schema and let ``role`` use it.

    Args:
        role: None when the application logs in as the user of this DSN itself.

    Returns:
        The names of the migrations applied now.

    Raises:
        DatabaseUnusable: it cannot be reached, this user may not enter or not do what is needed,
            or the application could not take on the groups that its parts work as.
        MigrationFault: a migration could not be applied.
    """
    async with connected(dsn) as connection:
        user = await connection.fetchval("SELECT current_user")
        try:
            applied = await migrate(connection)
            if role is not None:
                await ensure_application_role(connection, role, password)
            else:
                await take_on_groups(connection)
        except asyncpg.InsufficientPrivilegeError as error:
            hint = await _hint(connection, role or user)
            raise DatabaseUnusable(f"{user} lacks rights: {_reason(error)}; {hint}") from error
        return applied


async def _hint(connection: asyncpg.Connection[asyncpg.Record], role: str) -> str:
    groups = await groups_missing(connection, role)
    if not groups:
        return "an administrator has to prepare this database"
    grant = await grant_to_take_on(connection, groups, role)
    return f"an administrator has to prepare this database, or to run: {grant}"


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """One connection, waiting a moment for a server that is just starting.

    Raises:
        DatabaseUnusable: see the class.
    """
    connection = await _connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def connected_pool(
    dsn: str, *, connections_max: int = 4
) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    """A small pool for a command that works alone.

    Raises:
        DatabaseUnusable: see the class.
    """
    async with connected(dsn):
        pass
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=connections_max)
    try:
        yield pool
    finally:
        await pool.close()


async def _connect(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    deadline = time.monotonic() + CONNECT_PATIENCE_MS / 1000
    while True:
        try:
            return await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT_S)
        except _AWAY as error:
            if time.monotonic() > deadline:
                raise DatabaseUnusable(f"cannot be reached: {_reason(error)}") from error
            await asyncio.sleep(_RETRY_PAUSE_S)
        except _WRONG as error:
            raise DatabaseUnusable(f"cannot be used: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    text = str(error).partition("\n")[0]
    return text or type(error).__name__
