"""Finding holds that nobody ended in time: their show is in nobody's memory."""

from __future__ import annotations

import asyncio
import logging
import time

from persistence.catalogue import Catalogue
from persistence.queries import load_queries
from persistence.sessions import Pool, open_pool, reading, writing
from persistence.shards import ShardMap
from reservation.faults import Fault
from reservation.ids import ShowId
from reservation.show import Placement

log = logging.getLogger(__name__)

_SQL = load_queries("journal.sql")

OVERDUE_MS = 500
"""An owner ends a hold within a tenth of a second; half a second means that there is none."""

FORGOTTEN_S = 1
"""A show of an owner that has no session in the database any more gets the rows of its new holds
after this: nobody else will make them. Not longer than the shortest hold lives, so that its end is
found in time."""

NEGLECTED_S = 300
"""An owner makes these rows itself, when it is calm or they have waited for half a minute, and
takes its time (``persistence.hold_projector``). But its session may be all that is left of it, on a
node that was lost, or making them may have failed."""

NEGLECTED_EVERY_S = 10
"""Looking at the shows of all owners takes a busy database some milliseconds."""

SHOWS_AT_ONCE_MAX = 200
"""After a restart of the house thousands may be due; waking all at once would serve nobody."""

ROWS_WITHIN_S = 60.0
"""All rows that a crowd's owner left behind are made in one statement; hundreds of thousands of
them take that long on a busy database."""


class OverdueHolds:
    """Asks every database; one that is away does not keep the others' holds from ending.

    Connects on first use.
    """

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards
        self._pools: list[Pool] = []
        self._neglected_at_s = 0.0

    async def find(self) -> list[tuple[ShowId, Placement]]:
        """Shows with overdue holds, and which kind of actor owns each."""
        if not self._pools:
            self._pools = [
                await open_pool(dsn, "overdue holds", size_max=1) for dsn in self._shards.dsns
            ]
        now_s = time.monotonic()
        is_time = now_s - self._neglected_at_s >= NEGLECTED_EVERY_S
        if is_time:
            self._neglected_at_s = now_s
        found = await asyncio.gather(*(_find(pool, of_all=is_time) for pool in self._pools))
        catalogue = Catalogue(self._pools[0])
        shows: list[tuple[ShowId, Placement]] = []
        for show_ids in found:
            for show_id in show_ids:
                placement = await catalogue.placement_of(show_id)
                if placement is not None:
                    shows.append((show_id, placement))
        return shows

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(*(pool.close() for pool in self._pools))
        self._pools = []


async def _find(pool: Pool, *, of_all: bool) -> list[ShowId]:
    """Shows of one database with overdue holds; none while it is away."""
    try:
        await _make_rows(pool, of_all=of_all)
    except Fault as trouble:
        log.warning("rows of forgotten holds cannot be made: %s", trouble)
    try:
        async with reading(pool) as connection:
            rows = await connection.fetch(_SQL["find_overdue_shows"], OVERDUE_MS, SHOWS_AT_ONCE_MAX)
    except Fault as trouble:
        log.warning("a database cannot be asked for overdue holds: %s", trouble)
        return []
    return [ShowId(row[0]) for row in rows]


async def _make_rows(pool: Pool, *, of_all: bool) -> None:
    """Make rows of new holds that nobody else will make."""
    project = _SQL["project_forgotten_holds"]
    async with writing(pool) as connection:
        gone = [row[0] for row in await connection.fetch(_SQL["find_gone_owners"])]
        if gone:
            await connection.execute(
                project, FORGOTTEN_S, SHOWS_AT_ONCE_MAX, gone, timeout=ROWS_WITHIN_S
            )
        if of_all:
            await connection.execute(
                project, NEGLECTED_S, SHOWS_AT_ONCE_MAX, None, timeout=ROWS_WITHIN_S
            )
