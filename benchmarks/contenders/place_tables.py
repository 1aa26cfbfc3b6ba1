"""The tables that the four usual ways share: a row per place, a row per hold.

A place is a seat on one leg, so a run of a train has a row for every seat and leg. No index names
a column that a hold changes, and pages keep room, so every change of a place is a HOT update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg

from benchmarks.contenders.contender import Held, HoldAnswer, HoldRequest, Refusal, ShowSpec
from reservation.ids import ShowId

POOL_SIZE = 16

TABLES = """
CREATE TABLE IF NOT EXISTS place_show (
    number      integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name        text NOT NULL,
    leg_count   integer NOT NULL,
    hold_ttl_ms integer NOT NULL
);
CREATE TABLE IF NOT EXISTS place_hold (
    hold_id     text COLLATE "C" PRIMARY KEY,
    show        integer NOT NULL,
    customer_id text NOT NULL,
    places      integer[] NOT NULL,
    held_at     timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS place (
    show       integer NOT NULL,
    place      integer NOT NULL,
    hold_id    text COLLATE "C",
    expires_at timestamptz,
    PRIMARY KEY (show, place)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
"""

FREE = "hold_id IS NULL OR expires_at <= now()"

_OPEN_SHOW = """
INSERT INTO place_show (name, leg_count, hold_ttl_ms) VALUES ($1, $2, $3) RETURNING number
"""
_FILL_SHOW = "INSERT INTO place SELECT $1, n FROM generate_series(0, $2::integer - 1) n"
_KNOWN = """
SELECT places, (extract(epoch FROM expires_at) * 1000)::bigint
FROM place_hold WHERE hold_id = $1 AND show = $2
"""


class PlaceRequest(NamedTuple):
    """A hold as the tables have it.

    Shapes:
        places: strictly increasing: this is the order of locking, so no two requests deadlock.
    """

    show: int
    hold_id: str
    customer_id: str
    places: list[int]
    ttl_ms: int


class _Opened(NamedTuple):
    number: int
    leg_count: int
    ttl_ms: int


class PlaceTables:
    """The tables of one database, reached through a pool; the shared half of four contenders."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.pool = pool
        self._shows: dict[ShowId, _Opened] = {}

    async def open_shows(self, specs: Sequence[ShowSpec]) -> None:
        """See ``Contender``."""
        async with self.pool.acquire() as connection:
            for spec in specs:
                number = await connection.fetchval(
                    _OPEN_SHOW, spec.name, spec.leg_count, spec.hold_ttl_ms
                )
                await connection.execute(_FILL_SHOW, number, spec.seat_count * spec.leg_count)
                self._shows[spec.show_id] = _Opened(number, spec.leg_count, spec.hold_ttl_ms)
            # A table of this size would otherwise be planned, and read, as if it were empty.
            await connection.execute("VACUUM (ANALYZE, INDEX_CLEANUP off) place")

    def number_of(self, show_id: ShowId) -> int:
        """The key of a show in the tables."""
        return self._shows[show_id].number

    def prepare(self, request: HoldRequest) -> PlaceRequest:
        """See ``Contender``."""
        show = self._shows[request.show_id]
        legs = range(request.from_leg, request.to_leg)
        places = [seat * show.leg_count + leg for seat in request.seats for leg in legs]
        return PlaceRequest(show.number, request.hold_id, request.customer_id, places, show.ttl_ms)

    async def known(self, request: PlaceRequest) -> HoldAnswer:
        """What this hold id was given before, or that its places are taken."""
        row = await self.pool.fetchrow(_KNOWN, request.hold_id, request.show)
        if row is None:
            return Refusal.TAKEN
        return Held(request.hold_id, row[1]) if row[0] == request.places else Refusal.REUSED


async def create_tables(dsn: str, *statements: str) -> None:
    """Make the shared tables, and what a contender needs beside them."""
    connection = await asyncpg.connect(dsn)
    try:
        # Two processes that create one table at one time would disturb each other.
        await connection.execute("SELECT pg_advisory_lock(hashtext('place_tables'))")
        await connection.execute(TABLES)
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def open_contender_pool(dsn: str, *, size: int = POOL_SIZE) -> asyncpg.Pool[asyncpg.Record]:
    """Connections as these contenders like them: opened at once, plans kept, no reset."""

    pool = asyncpg.create_pool(
        dsn,
        min_size=size,
        max_size=size,
        reset=_keep_session,
        server_settings={
            "jit": "off",
            # Planning costs as much as these statements do.
            "plan_cache_mode": "force_generic_plan",
            "application_name": "contender",
        },
    )
    return await pool


async def _keep_session(_: Any) -> None:
    """Leave a released connection as it is: a reset would be a second round trip for every hold."""
