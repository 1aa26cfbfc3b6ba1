"""What time it is by a database: the clock that all instants of its rows are by."""

from __future__ import annotations

from persistence.queries import load_queries
from persistence.sessions import Pool, reading

_QUERIES = load_queries("journal.sql")


async def house_now_ms(pool: Pool) -> int:
    """The present instant by the database's clock.

    Raises:
        ShowUnavailable: it cannot be reached.
    """
    async with reading(pool) as connection:
        now_ms: int = await connection.fetchval(_QUERIES["now_ms"])
    return now_ms
