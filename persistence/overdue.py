"""Finding holds that nobody ended in time: their show is in nobody's memory."""

from __future__ import annotations

import asyncio
import time

from persistence.catalogue import Catalogue
from persistence.queries import load_queries
from persistence.sessions import Pool, open_pool
from persistence.shards import ShardMap
from reservation.ids import ShowId
from reservation.show import Placement

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


class OverdueHolds:
    """Asks every database. Connects on first use."""

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
        await asyncio.gather(*(_make_rows(pool, of_all=is_time) for pool in self._pools))
        found = await asyncio.gather(
            *(
                pool.fetch(_SQL["find_overdue_shows"], OVERDUE_MS, SHOWS_AT_ONCE_MAX)
                for pool in self._pools
            )
        )
        catalogue = Catalogue(self._pools[0])
        shows: list[tuple[ShowId, Placement]] = []
        for rows in found:
            for (show_id,) in rows:
                placement = await catalogue.placement_of(ShowId(show_id))
                if placement is not None:
                    shows.append((ShowId(show_id), placement))
        return shows

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(*(pool.close() for pool in self._pools))
        self._pools = []


async def _make_rows(pool: Pool, *, of_all: bool) -> None:
    """Make rows of new holds that nobody else will make."""
    gone = [row[0] for row in await pool.fetch(_SQL["find_gone_owners"])]
    project = _SQL["project_forgotten_holds"]
    if gone:
        await pool.execute(project, FORGOTTEN_S, SHOWS_AT_ONCE_MAX, gone)
    if of_all:
        await pool.execute(project, NEGLECTED_S, SHOWS_AT_ONCE_MAX, None)
