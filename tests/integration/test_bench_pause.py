"""The pause fault of the benchmarks: without a guard in the database a lock sells twice.

The same audit finds it there and finds nothing at ours, so it can find and is not blind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import NamedTuple

import asyncpg
import pytest
from redis.asyncio import Redis

from benchmarks.contenders.line_up import create_contender_tables
from benchmarks.contenders.place_tables import open_contender_pool
from benchmarks.contenders.redlock import open_lock_server
from benchmarks.paused_holder import WANTED, pause_actor, pause_redlock
from persistence.embedded_valkey import EmbeddedValkey


class Stores(NamedTuple):
    """Where locks and places are."""

    dsn: str
    pool: asyncpg.Pool[asyncpg.Record]
    redis: Redis


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
async def stores(fresh_database: str, valkey: EmbeddedValkey) -> AsyncIterator[Stores]:
    await create_contender_tables(fresh_database)
    async with AsyncExitStack() as opened:
        pool = await open_contender_pool(fresh_database, size=4)
        opened.push_async_callback(pool.close)
        redis = open_lock_server(valkey.url)
        opened.push_async_callback(redis.aclose)
        yield Stores(fresh_database, pool, redis)


async def test_a_redis_lock_without_a_database_guard_sells_twice_after_a_pause(
    stores: Stores,
) -> None:
    found = await pause_redlock(*stores, is_guarded=False)
    assert (found.first, found.second) == (True, True)
    places = [fault.split("place ")[1].split(":")[0] for fault in found.faults]
    assert places == [str(place) for place in WANTED]


async def test_with_a_guard_the_paused_holder_is_refused(stores: Stores) -> None:
    found = await pause_redlock(*stores, is_guarded=True)
    assert (found.first, found.second) == (False, True)
    assert found.faults == []


async def test_our_paused_owner_is_refused_by_its_epoch(fresh_database: str) -> None:
    found = await pause_actor(fresh_database)
    assert (found.first, found.second) == (False, True)
    assert found.faults == []
