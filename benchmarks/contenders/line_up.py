"""Who takes part, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import asyncpg
from redis.asyncio import Redis

from benchmarks.contenders.advisory_lock import FUNCTION, AdvisoryLock
from benchmarks.contenders.place_tables import PlaceTables, create_tables
from benchmarks.contenders.redlock import RedLock
from benchmarks.contenders.row_lock import RowLock, RowLockOneTrip
from benchmarks.contenders.skip_locked import SkipLocked

OURS = "actor"

_Maker: TypeAlias = Callable[["asyncpg.Pool[asyncpg.Record]", Redis], Any]

_MAKERS: dict[str, _Maker] = {
    "row_lock": lambda pool, _: RowLock(pool),
    "row_lock_one_trip": lambda pool, _: RowLockOneTrip(pool),
    "skip_locked": lambda pool, _: SkipLocked(pool),
    "advisory_lock": lambda pool, _: AdvisoryLock(pool),
    "redlock": lambda pool, redis: RedLock(pool, redis),
    "redlock_per_show": lambda pool, redis: RedLock(pool, redis, scope="show"),
}

FOUR = ("row_lock", "skip_locked", "advisory_lock", "redlock")
"""The usual ways that the aims compare with."""

VARIANTS = ("row_lock_one_trip", "redlock_per_show")
"""Other shapes of the same ways, measured so that the choice between them is no opinion."""

OTHERS = (*FOUR, *VARIANTS)


def make_contender(name: str, pool: asyncpg.Pool[asyncpg.Record], redis: Redis) -> PlaceTables:
    """The contender with this name; its tables must be there."""
    made: PlaceTables = _MAKERS[name](pool, redis)
    return made


async def create_contender_tables(dsn: str) -> None:
    """Everything that all of ``OTHERS`` need in a database."""
    await create_tables(dsn, FUNCTION)
