"""Finding holds that nobody ended in time: their show is in nobody's memory."""

from __future__ import annotations

import asyncio

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
"""An owner makes the rows of new holds when it is calm, a quarter of a second after the last. A
show that has been quiet for so long and still has none has no owner. Not longer than the shortest
hold lives, so that its end is found in time."""

SHOWS_AT_ONCE_MAX = 200
"""After a restart of the house thousands may be due; waking all at once would serve nobody."""


class OverdueHolds:
    """Asks every database. Connects on first use."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards
        self._pools: list[Pool] = []

    async def find(self) -> list[tuple[ShowId, Placement]]:
        """Shows with overdue holds, and which kind of actor owns each."""
        if not self._pools:
            self._pools = [
                await open_pool(dsn, "overdue holds", size_max=1) for dsn in self._shards.dsns
            ]
        await asyncio.gather(
            *(
                pool.execute(_SQL["project_forgotten_holds"], FORGOTTEN_S, SHOWS_AT_ONCE_MAX)
                for pool in self._pools
            )
        )
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
