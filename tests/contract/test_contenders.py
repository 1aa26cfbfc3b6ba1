"""One suite for all ways to sell seats that the benchmarks compare: their promises are the same.

See ``benchmarks.contenders.contender``. Ours runs with its own refs, actor and journal in this
process; only Ray is not between them.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
from redis.asyncio import Redis

from actors.clock import SystemClock
from actors.naming import actor_name, placement_of_actor
from actors.show_actor import ShowActor
from actors.show_ref import ShowRefs, Submit
from benchmarks.audit import Audit
from benchmarks.contenders.actor import Actor
from benchmarks.contenders.contender import (
    HOLD_TTL_MS,
    Held,
    HoldAnswer,
    HoldRequest,
    Refusal,
    ShowSpec,
)
from benchmarks.contenders.line_up import (
    OTHERS,
    OURS,
    create_contender_tables,
    make_contender,
)
from benchmarks.contenders.place_tables import PlaceTables, open_contender_pool
from benchmarks.contenders.redlock import RedLock, open_lock_server
from persistence.catalogue import Catalogue
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.embedded_valkey import EmbeddedValkey
from persistence.migrate import migrate
from persistence.provisioning import ensure_database
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from persistence.show_store import open_show_store
from reservation.faults import ShowNotFound
from reservation.ids import CustomerId, ShowId, derive_hold_id
from tests.support.house import end_tickers

SEATS = 40
LEGS = 5
SHORT_TTL_MS = 1_000
"""The shortest that ours accepts."""

_shows = itertools.count(1)
_keys = itertools.count(1)


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="module")
async def dsn(postgres: EmbeddedPostgres) -> str:
    """One database for all: every test has shows of its own."""
    await ensure_database(postgres.dsn(), "contender_contract")
    dsn = postgres.dsn("contender_contract")
    await migrate(dsn)
    await create_contender_tables(dsn)
    return dsn


class Rig:
    """A contender with its audit, and shows for it."""

    def __init__(self, name: str, contender: Any, dsn: str) -> None:
        self.name = name
        self.contender = contender
        self.dsn = dsn

    async def open_show(self, *, legs: int = 1, ttl_ms: int = HOLD_TTL_MS) -> ShowId:
        spec = ShowSpec(f"contract {self.name} {next(_shows)}", SEATS, legs, ttl_ms)
        await self.contender.open_shows([spec])
        return spec.show_id

    async def hold(self, request: HoldRequest) -> HoldAnswer:
        async with asyncio.timeout(30):
            answer: HoldAnswer = await self.contender.hold(self.contender.prepare(request))
            return answer

    async def hold_all(self, requests: list[HoldRequest]) -> list[HoldAnswer]:
        return list(await asyncio.gather(*(self.hold(request) for request in requests)))

    async def faults(
        self, show_id: ShowId, answers: list[HoldAnswer], *, legs: int = 1
    ) -> list[str]:
        audit = Audit()
        promised = [answer.hold_id for answer in answers if isinstance(answer, Held)]
        if self.name == OURS:
            shards = ShardMap.even((self.dsn,))
            await audit.check_ours(shards, [show_id], promised, leg_count=legs)
        else:
            tables: PlaceTables = self.contender
            await audit.check_others(self.dsn, self.name, [tables.number_of(show_id)], promised)
        return audit.faults


async def _open_refs(dsn: str, opened: AsyncExitStack) -> tuple[ShowRefs, Catalogue]:
    pool = await open_pool(dsn, "contract", size_max=2)
    opened.push_async_callback(pool.close)
    catalogue = Catalogue(pool)
    shards = ShardMap.even((dsn,))

    async def locate(show_id: ShowId) -> str:
        placement = await catalogue.placement_of(show_id)
        if placement is None:
            raise ShowNotFound(f"no show {show_id}")
        return actor_name(show_id, placement, shards, 1)

    async def connect(name: str) -> Submit:
        source, journal = await open_show_store(dsn, dsn, owner=name)
        opened.push_async_callback(journal.close)
        actor = ShowActor(
            name,
            placement_of_actor(name),
            source,
            journal,
            SystemClock(),
            passivate_after_ms=60_000,
            mailbox_commands_max=4_096,
        )
        actor.start()
        opened.push_async_callback(end_tickers)
        return actor.submit

    return ShowRefs(locate, connect, ask_deadline_ms=20_000), catalogue


@pytest.fixture(params=[OURS, *OTHERS])
async def rig(
    request: pytest.FixtureRequest, dsn: str, valkey: EmbeddedValkey
) -> AsyncIterator[Rig]:
    name: str = request.param
    async with AsyncExitStack() as opened:
        if name == OURS:
            refs, catalogue = await _open_refs(dsn, opened)
            yield Rig(name, Actor(refs, catalogue), dsn)
            return
        pool = await open_contender_pool(dsn, size=8)
        opened.push_async_callback(pool.close)
        redis = open_lock_server(valkey.url)
        opened.push_async_callback(redis.aclose)
        yield Rig(name, make_contender(name, pool, redis), dsn)


def ask(
    show_id: ShowId,
    *seats: int,
    customer: str = "ann",
    key: str | None = None,
    legs: tuple[int, int] = (0, 1),
) -> HoldRequest:
    """A new hold every time, unless ``key`` says that it is the same one."""
    customer_id = CustomerId(customer)
    hold_id = derive_hold_id(show_id, customer_id, key or f"key {next(_keys)}")
    return HoldRequest(show_id, hold_id, customer_id, seats, *legs)


async def test_a_hold_of_free_seats_is_made(rig: Rig) -> None:
    show_id = await rig.open_show()
    wanted = ask(show_id, 3, 4)
    answer = await rig.hold(wanted)
    assert isinstance(answer, Held)
    assert answer.hold_id == wanted.hold_id
    assert await rig.faults(show_id, [answer]) == []


async def test_a_held_seat_is_not_held_again(rig: Rig) -> None:
    show_id = await rig.open_show()
    assert isinstance(await rig.hold(ask(show_id, 3, 4)), Held)
    assert await rig.hold(ask(show_id, 4, 5, customer="bob")) is Refusal.TAKEN


async def test_a_refused_hold_takes_nothing(rig: Rig) -> None:
    show_id = await rig.open_show()
    await rig.hold(ask(show_id, 5))
    assert await rig.hold(ask(show_id, 4, 5, 6, customer="bob")) is Refusal.TAKEN
    answer = await rig.hold(ask(show_id, 4, 6, customer="cid"))
    assert isinstance(answer, Held)
    assert await rig.faults(show_id, [answer]) == []


async def test_the_same_hold_asked_twice_is_one_hold(rig: Rig) -> None:
    show_id = await rig.open_show()
    wanted = ask(show_id, 7, 8)
    first, second = await rig.hold(wanted), await rig.hold(wanted)
    assert isinstance(first, Held)
    assert second == first
    assert await rig.faults(show_id, [first]) == []


async def test_the_same_hold_asked_at_one_moment_is_one_hold(rig: Rig) -> None:
    show_id = await rig.open_show()
    for pair in range(10):
        wanted = ask(show_id, 2 * pair, 2 * pair + 1)
        answers = await rig.hold_all([wanted] * 6)
        assert isinstance(answers[0], Held)
        assert answers == [answers[0]] * 6
    assert await rig.faults(show_id, []) == []


async def test_a_hold_id_used_for_other_seats_is_refused(rig: Rig) -> None:
    show_id = await rig.open_show()
    assert isinstance(await rig.hold(ask(show_id, 1, key="k")), Held)
    assert await rig.hold(ask(show_id, 2, key="k")) is Refusal.REUSED
    assert isinstance(await rig.hold(ask(show_id, 2, customer="bob")), Held)


async def test_of_many_who_want_one_seat_one_gets_it(rig: Rig) -> None:
    show_id = await rig.open_show()
    answers = await rig.hold_all([ask(show_id, 9, customer=f"c{n}") for n in range(40)])
    assert sum(isinstance(answer, Held) for answer in answers) == 1
    assert await rig.faults(show_id, answers) == []


async def test_overlapping_wishes_in_any_order_neither_deadlock_nor_oversell(rig: Rig) -> None:
    show_id = await rig.open_show()
    wishes = [ask(show_id, n % 12, n % 12 + 1, n % 12 + 2, customer=f"c{n}") for n in range(60)]
    answers = await rig.hold_all(wishes)
    assert any(isinstance(answer, Held) for answer in answers)
    assert not any(answer is Refusal.REUSED for answer in answers)
    assert await rig.faults(show_id, answers) == []


async def test_a_seat_whose_hold_has_ended_can_be_held_again(rig: Rig) -> None:
    show_id = await rig.open_show(ttl_ms=SHORT_TTL_MS)
    first = await rig.hold(ask(show_id, 3, 4))
    assert isinstance(first, Held)
    async with asyncio.timeout(30):
        second = await rig.hold(ask(show_id, 4, 5, customer="bob"))
        while not isinstance(second, Held):
            await asyncio.sleep(0.1)
            second = await rig.hold(ask(show_id, 4, 5, customer="bob"))
    assert second.expires_at_ms > first.expires_at_ms
    assert await rig.faults(show_id, [first, second]) == []


async def test_passengers_who_do_not_meet_share_a_seat(rig: Rig) -> None:
    show_id = await rig.open_show(legs=LEGS)
    answers = [
        await rig.hold(ask(show_id, 6, 7, customer="ann", legs=(0, 2))),
        await rig.hold(ask(show_id, 6, 7, customer="bob", legs=(2, 5))),
        await rig.hold(ask(show_id, 7, 8, customer="cid", legs=(1, 3))),
    ]
    assert [isinstance(answer, Held) for answer in answers] == [True, True, False]
    assert await rig.faults(show_id, answers, legs=LEGS) == []


async def test_a_hold_that_was_answered_is_seen_by_another_connection(rig: Rig) -> None:
    show_id = await rig.open_show()
    wanted = ask(show_id, 11)
    await rig.hold(wanted)
    table = "every_hold" if rig.name == OURS else "place_hold"
    connection = await asyncpg.connect(rig.dsn)
    try:
        query = f"SELECT count(*) FROM {table} WHERE hold_id = $1"
        assert await connection.fetchval(query, wanted.hold_id) == 1
        assert await connection.fetchval("SHOW synchronous_commit") == "on"
        assert await connection.fetchval("SHOW fsync") == "on"
    finally:
        await connection.close()


class TestRedLock:
    """What the lock itself promises."""

    @pytest.fixture
    async def redis(self, valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
        redis = open_lock_server(valkey.url)
        await redis.flushdb()
        yield redis
        await redis.aclose()

    @pytest.fixture
    async def pool(self, dsn: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
        pool = await open_contender_pool(dsn, size=2)
        yield pool
        await pool.close()

    async def test_its_locks_are_gone_after_a_hold(
        self, pool: asyncpg.Pool[asyncpg.Record], redis: Redis
    ) -> None:
        rig = Rig("redlock", RedLock(pool, redis), "")
        show_id = await rig.open_show()
        assert isinstance(await rig.hold(ask(show_id, 1, 2)), Held)
        assert await redis.dbsize() == 0

    async def test_a_holder_never_releases_the_lock_of_another(
        self, pool: asyncpg.Pool[asyncpg.Record], redis: Redis
    ) -> None:
        async def lose_the_lock() -> None:
            for key in await redis.keys("lock:*"):
                await redis.set(key, "somebody else")

        rig = Rig("redlock", RedLock(pool, redis, pause=lose_the_lock), "")
        show_id = await rig.open_show()
        assert isinstance(await rig.hold(ask(show_id, 1, 2)), Held)
        assert [await redis.get(key) for key in await redis.keys("lock:*")] == [
            b"somebody else"
        ] * 2

    async def test_a_lock_that_stays_taken_ends_in_busy_and_takes_no_seat(
        self, pool: asyncpg.Pool[asyncpg.Record], redis: Redis
    ) -> None:
        rig = Rig("redlock", RedLock(pool, redis), "")
        show_id = await rig.open_show()
        number = rig.contender.number_of(show_id)
        await redis.set(f"lock:{number}:2", "somebody else")
        assert await rig.hold(ask(show_id, 1, 2)) is Refusal.BUSY
        assert isinstance(await rig.hold(ask(show_id, 1, customer="bob")), Held)
