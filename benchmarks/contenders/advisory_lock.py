"""One advisory lock per show, held to the end of the transaction: buyers of a show queue.

Everything happens in one function call, because whatever the lock waits for, all buyers wait for.
Each statement of the function sees what was committed before the lock was got; one statement that
took the lock and decided would decide on what it had seen before.
"""

from __future__ import annotations

from benchmarks.contenders.contender import Held, HoldAnswer
from benchmarks.contenders.place_tables import FREE, PlaceRequest, PlaceTables

FUNCTION = f"""
CREATE OR REPLACE FUNCTION hold_under_advisory_lock(
    p_show integer, p_places integer[], p_hold_id text, p_customer_id text, p_ttl_ms integer
) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    v_expires_at timestamptz := now() + p_ttl_ms * interval '1 millisecond';
BEGIN
    PERFORM pg_advisory_xact_lock(p_show);
    INSERT INTO place_hold (hold_id, show, customer_id, places, expires_at)
    SELECT p_hold_id, p_show, p_customer_id, p_places, v_expires_at
    WHERE (SELECT count(*) FROM place
           WHERE show = p_show AND place = ANY (p_places) AND ({FREE})) = cardinality(p_places)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    UPDATE place SET hold_id = p_hold_id, expires_at = v_expires_at
    WHERE show = p_show AND place = ANY (p_places);
    RETURN (extract(epoch FROM v_expires_at) * 1000)::bigint;
END $$;
"""

_HOLD = "SELECT hold_under_advisory_lock($1, $2, $3, $4, $5)"


class AdvisoryLock(PlaceTables):
    """See ``Contender``."""

    async def hold(self, prepared: PlaceRequest) -> HoldAnswer:
        """See ``Contender``."""
        show, hold_id, customer_id, places, ttl_ms = prepared
        expires_at_ms = await self.pool.fetchval(_HOLD, show, places, hold_id, customer_id, ttl_ms)
        if expires_at_ms is not None:
            return Held(hold_id, expires_at_ms)
        return await self.known(prepared)
