"""``SKIP LOCKED``: a buyer never waits for another one; a locked place counts as taken.

The hold is inserted first. A second request with the same id then waits at its primary key until
the first has ended, and finds the hold; with the places first it would skip its own locks and be
told that they are taken.
"""

from __future__ import annotations

from benchmarks.contenders.contender import Held, HoldAnswer, Refusal
from benchmarks.contenders.place_tables import FREE, PlaceRequest, PlaceTables

# The places are looked at without a lock, so that a hopeless hold writes nothing.
_INSERT = f"""
INSERT INTO place_hold (hold_id, show, customer_id, places, expires_at)
SELECT $3, $1, $4, $2::integer[], now() + $5::integer * interval '1 millisecond'
WHERE (SELECT count(*) FROM place
       WHERE show = $1 AND place = ANY ($2::integer[]) AND ({FREE})) = cardinality($2::integer[])
ON CONFLICT DO NOTHING RETURNING (extract(epoch FROM expires_at) * 1000)::bigint
"""
_TAKE = f"""
WITH free AS MATERIALIZED (
    SELECT place FROM place WHERE show = $1 AND place = ANY ($2::integer[]) AND ({FREE})
    ORDER BY place FOR UPDATE SKIP LOCKED)
UPDATE place SET hold_id = $3, expires_at = now() + $4::integer * interval '1 millisecond'
WHERE show = $1 AND place = ANY ($2::integer[])
    AND (SELECT count(*) FROM free) = cardinality($2::integer[])
"""


class _SomebodyWasFaster(Exception):
    """Ends the transaction."""


class SkipLocked(PlaceTables):
    """See ``Contender``."""

    async def hold(self, prepared: PlaceRequest) -> HoldAnswer:
        """See ``Contender``."""
        show, hold_id, customer_id, places, ttl_ms = prepared
        try:
            async with self.pool.acquire() as connection, connection.transaction():
                expires_at_ms = await connection.fetchval(
                    _INSERT, show, places, hold_id, customer_id, ttl_ms
                )
                if expires_at_ms is not None:
                    taken = await connection.execute(_TAKE, show, places, hold_id, ttl_ms)
                    if taken == "UPDATE 0":
                        raise _SomebodyWasFaster
                    return Held(hold_id, expires_at_ms)
        except _SomebodyWasFaster:
            return Refusal.TAKEN
        return await self.known(prepared)
