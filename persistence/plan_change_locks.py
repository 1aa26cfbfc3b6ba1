"""One change of a show's seating plan at a time, whichever process makes it.

A change has steps in the show's actor and in the catalogue, and two changes of one show that run
at once could each undo what the other counts on. The lock belongs to a session of Postgres: a
process that dies gives it back, and so does one that loses its connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from persistence.sessions import Pool, PooledConnection, reading
from reservation.ids import ShowId

HELD_AT_ONCE_MAX = 2
"""Each keeps a connection of the pool, and its holder needs others."""

# Beside whatever else takes advisory locks in this database.
_CLASS = 0x706C616E
_TAKE = "SELECT pg_try_advisory_lock($1, hashtext($2))"
_GIVE_BACK = "SELECT pg_advisory_unlock($1, hashtext($2))"


class PlanChangeLocks:
    """Locks, one for each show. Belongs to one event loop.

    Raises:
        ShowUnavailable: the database cannot be reached.

    Args:
        pool: stays the caller's; any role may take the locks. More than ``HELD_AT_ONCE_MAX``
            connections.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._some = asyncio.Semaphore(HELD_AT_ONCE_MAX)

    @asynccontextmanager
    async def held(self, show_id: ShowId) -> AsyncIterator[bool]:
        """Keep the lock of a show; False when somebody else has it, and then nothing is kept."""
        async with self._some, reading(self._pool) as connection:
            is_ours: bool = await connection.fetchval(_TAKE, _CLASS, show_id)
            try:
                yield is_ours
            finally:
                if is_ours:
                    # Also when whoever asked has hung up: the pool would keep the lock for ever.
                    await asyncio.shield(_give_back(connection, show_id))


async def _give_back(connection: PooledConnection, show_id: ShowId) -> None:
    try:
        await connection.fetchval(_GIVE_BACK, _CLASS, show_id)
    except BaseException:
        connection.terminate()
        raise
