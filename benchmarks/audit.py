"""The audit of what was sold: the same checker for ours and for everybody else.

It knows nothing of locks, actors or journals. It reads which holds there are, from when until
when each had its places, and says where two had one place at one time, and which hold somebody
was promised is not there. Ours is verified by the product's own auditor besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from persistence.sessions import open_pool
from persistence.shards import ShardMap
from persistence.verification import verify_shows
from reservation.ids import ShowId

FAULTS_SHOWN_MAX = 20
FOR_EVER_MS = 2**62
AUDIT_WITHIN_S = 600.0

_SOLD_BY_OTHERS = """
SELECT hold_id, places, (extract(epoch FROM held_at) * 1000000)::bigint AS from_us,
    (extract(epoch FROM expires_at) * 1000000)::bigint AS until_us
FROM place_hold WHERE show = ANY ($1::integer[])
"""
_SOLD_BY_US = """
SELECT h.hold_id, h.show_id, h.seats, h.from_leg, h.to_leg, h.held_at_ms,
    CASE WHEN b.hold_id IS NULL THEN coalesce(h.ended_at_ms, h.deadline_at_ms)
         ELSE coalesce(b.cancelled_at_ms, $2) END AS until_ms
FROM every_hold h LEFT JOIN booking b USING (hold_id) WHERE h.show_id = ANY ($1::text[])
"""
_SHOWS_AT_ONCE = 500


class Sold(NamedTuple):
    """One hold: these places of one show, from the first moment to before the last.

    Shapes:
        places: seats, or seat-legs counted as ``seat * legs + leg``.
    """

    hold_id: str
    places: Sequence[int]
    from_us: int
    until_us: int


def sold_twice(holds: Iterable[Sold]) -> list[str]:
    """Every place of one show that two holds had at one time."""
    by_place: dict[int, list[Sold]] = {}
    for hold in holds:
        for place in hold.places:
            by_place.setdefault(place, []).append(hold)
    faults = []
    for place, owners in sorted(by_place.items()):
        owners.sort(key=lambda sold: (sold.from_us, sold.hold_id))
        latest = owners[0]
        for following in owners[1:]:
            if following.from_us < latest.until_us:
                faults.append(f"place {place}: {latest.hold_id} and {following.hold_id}")
            if following.until_us > latest.until_us:
                latest = following
    return faults


@dataclass
class Audit:
    """What was found in a run so far."""

    holds: int = 0
    shows: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def violations(self) -> int:
        """Every single one makes a run fail."""
        return len(self.faults)

    def check(self, where: str, holds: Sequence[Sold], acknowledged: Iterable[str]) -> None:
        """One show that was measured, and the holds that its buyers were promised."""
        self.shows += 1
        self.holds += len(holds)
        self.faults += [f"{where}: sold twice: {fault}" for fault in sold_twice(holds)]
        there = {hold.hold_id for hold in holds}
        self.faults += [
            f"{where}: {hold_id} was acknowledged and is lost"
            for hold_id in acknowledged
            if hold_id not in there
        ]

    async def check_others(
        self, dsn: str, name: str, shows: Sequence[int], acknowledged: Iterable[str]
    ) -> None:
        """Shows of one of the usual ways, by their numbers in its tables."""
        connection = await asyncpg.connect(dsn)
        try:
            left = set(acknowledged)
            for show in shows:
                rows = await connection.fetch(_SOLD_BY_OTHERS, [show])
                holds = [Sold(*row) for row in rows]
                left.difference_update(hold.hold_id for hold in holds)
                self.check(name, holds, ())
            self._note_lost(name, left)
        finally:
            await connection.close()

    async def check_ours(
        self,
        shards: ShardMap,
        show_ids: Sequence[ShowId],
        acknowledged: Iterable[str],
        *,
        leg_count: int = 1,
    ) -> None:
        """Our shows: by the same checker, and by ``housefull verify``."""
        left = set(acknowledged)
        pools = [
            await open_pool(dsn, "audit", size_max=1, answer_within_s=AUDIT_WITHIN_S)
            for dsn in shards.dsns
        ]
        try:
            for pool in pools:
                for first in range(0, len(show_ids), _SHOWS_AT_ONCE):
                    rows = await pool.fetch(
                        _SOLD_BY_US, show_ids[first : first + _SHOWS_AT_ONCE], FOR_EVER_MS // 1_000
                    )
                    for holds in _by_show(rows, leg_count).values():
                        left.difference_update(hold.hold_id for hold in holds)
                        self.check("actor", holds, ())
            self._note_lost("actor", left)
            async for verdict in verify_shows(pools, shards, show_ids):
                self.faults += [f"actor: {verdict.show_id}: {fault}" for fault in verdict.faults]
        finally:
            for pool in pools:
                await pool.close()

    def _note_lost(self, name: str, hold_ids: Iterable[str]) -> None:
        self.faults += [
            f"{name}: {hold_id} was acknowledged and is lost" for hold_id in sorted(hold_ids)
        ]


def _by_show(rows: Iterable[asyncpg.Record], leg_count: int) -> dict[str, list[Sold]]:
    shows: dict[str, list[Sold]] = {}
    for row in rows:
        legs = range(row["from_leg"], row["to_leg"])
        places = [seat * leg_count + leg for seat in row["seats"] for leg in legs]
        sold = Sold(row["hold_id"], places, row["held_at_ms"] * 1_000, row["until_ms"] * 1_000)
        shows.setdefault(row["show_id"], []).append(sold)
    return shows
