"""Reading holds, bookings and seat maps without waking a show's actor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import asyncpg
import orjson

from persistence.claim_blocks import taken_seats
from persistence.coalesced import Coalesced
from persistence.hold_rows import hold_of
from persistence.queries import load_queries
from persistence.sessions import Pool, reading
from persistence.shards import ShardMap
from reservation.hold import Hold
from reservation.ids import BookingId, CustomerId, HoldId, ShowId, hold_id_of, show_id_of

_SQL = load_queries("claims.sql")

LIVE_HOLDS_LISTED_MAX = 200

CHANNEL_REASON = "channel"
"""Why a seat is off general sale that only a channel sells."""

_BEFORE_EVERYTHING = -1
_AFTER_EVERYTHING = 2**63 - 1


class BookingCursor(NamedTuple):
    """Where a listing of bookings goes on: after this one."""

    confirmed_at_ms: int
    booking_id: BookingId


class BookingPage(NamedTuple):
    """Bookings, the newest first; ``next`` is None on the last page."""

    holds: list[Hold]
    next: BookingCursor | None


class ShowPosition(NamedTuple):
    """How far a show's journal is, and which epoch may write it; zeros before there is one."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class SeatMapSnapshot:
    """One moment of a show's claims.

    Shapes:
        seq: the journal's sequence number at that moment; 0 before the first event.
        taken: seat_index -> legs that are held, booked or blocked, one bit a leg.
        held: the part of ``taken`` that is held and not yet booked.
        blocked: seat_index -> reason; blocked seats are taken on every leg. A channel's seat is
            among them, ``CHANNEL_REASON``, whoever has it: for everybody else it is off sale.
        admitted: tier_index -> leg -> places held or booked.
    """

    seq: int
    taken: dict[int, int]
    held: dict[int, int]
    blocked: dict[int, str]
    admitted: dict[int, dict[int, int]]


class ClaimReader:
    """Reads what the owners wrote. Changes none of it, and never asks an actor.

    New holds may have no rows yet (``persistence.hold_projector``); those that are asked for are
    given theirs before they are read.

    Every method raises ``ShowUnavailable`` when its database is away.
    """

    def __init__(self, pools: Sequence[Pool], shards: ShardMap) -> None:
        """``pools`` are in the order of the shard map's databases."""
        self._pools = pools
        self._shards = shards
        self._finds = [
            Coalesced(partial(_find_holds, pool), waits_for_company=True) for pool in pools
        ]
        self._finds_booked = [
            Coalesced(partial(_find_bookings, pool), waits_for_company=True) for pool in pools
        ]

    async def find_hold(self, hold_id: HoldId) -> Hold | None:
        """The hold, with its booking when it was confirmed; None when there is none.

        Those who look at the same time share their questions to a database.
        """
        found = await self._finds[self._shards.database_of(show_id_of(hold_id))]([hold_id])
        assert found is not None, "there is an answer"
        return found[0]

    async def find_booking(self, booking_id: BookingId) -> Hold | None:
        """The hold with its booking, cancelled or not; None when there is no such booking.

        Whoever has paid asks for it again and again until it is there, so this costs less than
        ``find_hold`` as long as it is not.
        """
        hold_id = hold_id_of(booking_id)
        found = await self._finds_booked[self._shards.database_of(show_id_of(hold_id))]([hold_id])
        assert found is not None, "there is an answer"
        return found[0]

    async def list_live_holds(self, customer_id: CustomerId) -> list[Hold]:
        """A customer's live holds on all shows, the one that ends first at the top."""
        await asyncio.gather(
            *(_fetch(pool, _SQL["project_named"], [customer_id], None) for pool in self._pools)
        )
        pages = await asyncio.gather(
            *(
                _fetch(pool, _SQL["list_live_holds"], customer_id, LIVE_HOLDS_LISTED_MAX)
                for pool in self._pools
            )
        )
        holds = [hold_of(row) for page in pages for row in page]
        return sorted(holds, key=lambda hold: (hold.expires_at_ms, hold.held.hold_id))

    async def list_bookings(
        self, customer_id: CustomerId, *, limit: int, after: BookingCursor | None
    ) -> BookingPage:
        """A customer's bookings on all shows, the newest first."""
        at_ms, booking_id = after or (_AFTER_EVERYTHING, "")
        pages = await asyncio.gather(
            *(
                _fetch(pool, _SQL["list_bookings"], customer_id, at_ms, booking_id, limit + 1)
                for pool in self._pools
            )
        )
        holds = sorted(
            (hold_of(row) for page in pages for row in page), key=_cursor_of, reverse=True
        )
        more = len(holds) > limit
        return BookingPage(holds[:limit], _cursor_of(holds[limit - 1]) if more else None)

    async def version_of(self, show_id: ShowId) -> int:
        """The show's sequence number; it rises with every change of the seat map."""
        async with reading(self._pool(show_id)) as connection:
            return await connection.fetchval(_SQL["version_of"], show_id) or 0

    async def position_of(self, show_id: ShowId) -> ShowPosition:
        """How far the show's journal is, and who may write it."""
        async with reading(self._pool(show_id)) as connection:
            row = await connection.fetchrow(_SQL["position_of"], show_id)
        return ShowPosition(*row) if row is not None else ShowPosition(0, 0)

    async def seat_map(self, show_id: ShowId) -> SeatMapSnapshot:
        """All claims of a show at one moment."""
        _, snapshot = await self.seat_map_since(show_id, _BEFORE_EVERYTHING)
        assert snapshot is not None, "everything is news"
        return snapshot

    async def seat_map_since(
        self, show_id: ShowId, seq: int
    ) -> tuple[ShowPosition, SeatMapSnapshot | None]:
        """Where a show is, and all its claims at that moment; None when it is at ``seq`` still."""
        async with reading(self._pool(show_id)) as connection:
            row = await connection.fetchrow(_SQL["seat_map"], show_id, seq)
        assert row is not None
        position, content = ShowPosition(*row[:2]), row[2:]
        return position, None if position.seq == seq else _snapshot_of(position.seq, *content)

    def _pool(self, show_id: ShowId) -> Pool:
        return self._pools[self._shards.database_of(show_id)]


def _snapshot_of(
    seq: int,
    leg_count: int,
    claims: str,
    holds: str,
    blocks: str,
    admissions: str,
    channel_seats: str,
) -> SeatMapSnapshot:
    taken = dict(taken_seats(orjson.loads(claims), leg_count))
    held: dict[int, int] = {}
    for from_leg, to_leg, seats in orjson.loads(holds):
        mask = (1 << to_leg) - (1 << from_leg)
        for seat_index in seats:
            held[seat_index] = held.get(seat_index, 0) | mask
    admitted: dict[int, dict[int, int]] = {}
    for tier_index, leg, count in orjson.loads(admissions):
        admitted.setdefault(tier_index, {})[leg] = count
    blocked = dict(orjson.loads(blocks))
    for seat_index in orjson.loads(channel_seats):
        blocked[seat_index] = CHANNEL_REASON
        taken[seat_index] = (1 << leg_count) - 1
        held.pop(seat_index, None)
    return SeatMapSnapshot(seq, taken, held, blocked, admitted)


async def _find_holds(pool: Pool, hold_ids: Sequence[HoldId]) -> list[Hold | None]:
    async with reading(pool) as connection:
        rows = await connection.fetch(_SQL["find_holds"], hold_ids)
        found = {row["hold_id"]: row for row in rows}
        missing = [hold_id for hold_id in hold_ids if hold_id not in found]
        if missing:
            show_ids = {show_id_of(hold_id) for hold_id in missing}
            await connection.execute(_SQL["project_named"], missing, list(show_ids))
            rows = await connection.fetch(_SQL["find_holds"], missing)
            found.update((row["hold_id"], row) for row in rows)
    return [hold_of(found[hold_id]) if hold_id in found else None for hold_id in hold_ids]


async def _find_bookings(pool: Pool, hold_ids: Sequence[HoldId]) -> list[Hold | None]:
    rows = await _fetch(pool, _SQL["find_bookings"], hold_ids)
    found = {row["hold_id"]: hold_of(row) for row in rows}
    return [found.get(hold_id) for hold_id in hold_ids]


async def _fetch(pool: Pool, query: str, *arguments: object) -> list[asyncpg.Record]:
    async with reading(pool) as connection:
        return await connection.fetch(query, *arguments)


def _cursor_of(hold: Hold) -> BookingCursor:
    assert hold.booking is not None
    return BookingCursor(hold.booking.confirmed.at_ms, hold.booking.confirmed.booking_id)
