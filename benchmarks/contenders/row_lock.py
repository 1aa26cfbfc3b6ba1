"""Row locks: the usual way to sell seats, and the one most books recommend.

A transaction locks the rows of its places with ``SELECT ... FOR UPDATE`` in one order, decides,
writes and commits. ``RowLock`` decides in the application, between two statements, as most do.
``RowLockOneTrip`` puts lock, decision and writes into one statement: a single round trip, and the
shortest time that a row lock can be held.
"""

from __future__ import annotations

from benchmarks.contenders.contender import Held, HoldAnswer
from benchmarks.contenders.place_tables import FREE, PlaceRequest, PlaceTables

_LOCK = f"""
SELECT place FROM place WHERE show = $1 AND place = ANY ($2::integer[]) AND ({FREE})
ORDER BY place FOR UPDATE
"""
_WRITE = """
WITH made AS (
    INSERT INTO place_hold (hold_id, show, customer_id, places, expires_at)
    VALUES ($3, $1, $4, $2::integer[], now() + $5::integer * interval '1 millisecond')
    ON CONFLICT DO NOTHING RETURNING expires_at)
UPDATE place p SET hold_id = $3, expires_at = made.expires_at
FROM made WHERE p.show = $1 AND p.place = ANY ($2::integer[])
RETURNING (extract(epoch FROM made.expires_at) * 1000)::bigint
"""
_ONE_TRIP = f"""
WITH free AS MATERIALIZED (
    SELECT place FROM place WHERE show = $1 AND place = ANY ($2::integer[]) AND ({FREE})
    ORDER BY place FOR UPDATE),
made AS (
    INSERT INTO place_hold (hold_id, show, customer_id, places, expires_at)
    SELECT $3, $1, $4, $2::integer[], now() + $5::integer * interval '1 millisecond'
    WHERE (SELECT count(*) FROM free) = cardinality($2::integer[])
    ON CONFLICT DO NOTHING RETURNING expires_at)
UPDATE place p SET hold_id = $3, expires_at = made.expires_at
FROM made WHERE p.show = $1 AND p.place = ANY ($2::integer[])
RETURNING (extract(epoch FROM made.expires_at) * 1000)::bigint
"""


class RowLock(PlaceTables):
    """Lock, decide, write, commit; see ``Contender``."""

    async def hold(self, prepared: PlaceRequest) -> HoldAnswer:
        """See ``Contender``."""
        show, hold_id, customer_id, places, ttl_ms = prepared
        async with self.pool.acquire() as connection, connection.transaction():
            free = await connection.fetch(_LOCK, show, places)
            if len(free) == len(places):
                expires_at_ms = await connection.fetchval(
                    _WRITE, show, places, hold_id, customer_id, ttl_ms
                )
                if expires_at_ms is not None:
                    return Held(hold_id, expires_at_ms)
        return await self.known(prepared)


class RowLockOneTrip(PlaceTables):
    """The same in one statement; see ``Contender``."""

    async def hold(self, prepared: PlaceRequest) -> HoldAnswer:
        """See ``Contender``."""
        show, hold_id, customer_id, places, ttl_ms = prepared
        expires_at_ms = await self.pool.fetchval(
            _ONE_TRIP, show, places, hold_id, customer_id, ttl_ms
        )
        if expires_at_ms is not None:
            return Held(hold_id, expires_at_ms)
        return await self.known(prepared)
