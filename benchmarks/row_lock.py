"""The usual way to sell seats: a row per seat, locked with ``SELECT ... FOR UPDATE``."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

TABLES = """
DROP TABLE IF EXISTS locked_seat, locked_hold;
CREATE TABLE locked_hold (
    hold_id     text PRIMARY KEY,
    show_id     integer NOT NULL,
    customer_id text NOT NULL,
    expires_at  timestamptz NOT NULL
);
CREATE TABLE locked_seat (
    show_id    integer NOT NULL,
    seat_index integer NOT NULL,
    hold_id    text,
    expires_at timestamptz,
    PRIMARY KEY (show_id, seat_index)
) WITH (fillfactor = 70);
"""

LOCK = """
SELECT seat_index FROM locked_seat
WHERE show_id = $1 AND seat_index = ANY ($2::integer[])
    AND (hold_id IS NULL OR expires_at < now())
ORDER BY seat_index FOR UPDATE
"""
HOLD = """
INSERT INTO locked_hold (hold_id, show_id, customer_id, expires_at)
VALUES ($1, $2, $3, now() + interval '10 minutes')
"""
TAKE = """
UPDATE locked_seat SET hold_id = $3, expires_at = now() + interval '10 minutes'
WHERE show_id = $1 AND seat_index = ANY ($2::integer[])
"""


class RowLock:
    """Holds seats under row locks, through a pool of connections.

    Seats are locked in one order, so two buyers of overlapping seats never deadlock, and the
    hold is committed before it is answered.
    """

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def create_tables(self) -> None:
        """Start with empty tables."""
        await self._pool.execute(TABLES)

    async def create_show(self, show_id: int, seat_count: int) -> None:
        """A show with free seats."""
        await self._pool.execute(
            "INSERT INTO locked_seat (show_id, seat_index) SELECT $1, n "
            "FROM generate_series(0, $2::integer - 1) n",
            show_id,
            seat_count,
        )
        await self._pool.execute("VACUUM ANALYZE locked_seat")

    async def hold(
        self, show_id: int, hold_id: str, customer_id: str, seats: Sequence[int]
    ) -> bool:
        """Hold these seats, or none when one of them is taken."""
        async with self._pool.acquire() as connection, connection.transaction():
            free = await connection.fetch(LOCK, show_id, seats)
            if len(free) < len(seats):
                return False
            await connection.execute(HOLD, hold_id, show_id, customer_id)
            await connection.execute(TAKE, show_id, seats, hold_id)
            return True
