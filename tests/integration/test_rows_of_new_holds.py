"""Holds whose rows are made later: everybody sees them at once, and every row is made once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from persistence import hold_projector, overdue
from persistence.claim_reader import ClaimReader
from persistence.overdue import OverdueHolds
from persistence.postgres_journal import PostgresJournal
from persistence.queries import load_queries
from persistence.sessions import Pool
from persistence.shards import ShardMap
from persistence.timed_connection import TimedConnection
from persistence.verification import verify_shows
from reservation.events import (
    Arrangement,
    BookingConfirmed,
    Event,
    HoldReleased,
    HoldsForgotten,
    SeatsBlocked,
    SeatsHeld,
)
from reservation.hold import HoldState
from reservation.ids import CustomerId, HoldId, booking_id_of, derive_hold_id
from reservation.route import Segment
from reservation.show import Show
from tests.conftest import House
from tests.support.histories import make_show
from tests.support.lossy_proxy import LossyProxy

SQL = load_queries("journal.sql")
ANN, BOB = CustomerId("cus_ann"), CustomerId("cus_bob")
SHOW = make_show("later", rows=(60,), capacities=(10,))
OTHER = make_show("later, another", rows=(60,))
NEVER_S = 10_000.0
PATIENCE_S = 20.0


@pytest.fixture
async def pool(empty_house: House) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(empty_house.application_dsn, min_size=1, max_size=6) as pool:
        yield pool


@pytest.fixture
def reader(pool: Pool) -> ClaimReader:
    return ClaimReader([pool], ShardMap.even(("only",)))


@pytest.fixture
async def journal(empty_house: House) -> AsyncIterator[PostgresJournal]:
    journal = PostgresJournal(empty_house.application_dsn, "owner")
    await journal.activate(SHOW)
    await journal.activate(OTHER)
    yield journal
    await journal.close()


@pytest.fixture
def never_calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner makes no rows by itself."""
    monkeypatch.setattr(hold_projector, "CALM_S", NEVER_S)


def hold_id(number: int, show: Show = SHOW) -> HoldId:
    return derive_hold_id(show.show_id, ANN, str(number))


def held(number: int, *, show: Show = SHOW, customer: CustomerId = ANN) -> SeatsHeld:
    return SeatsHeld(
        hold_id(number, show),
        customer,
        Segment(0, 1),
        (number,),
        (1_000,),
        (),
        Arrangement.NAMED,
        1_000,
        2**50,
        "digest",
    )


def confirmed(number: int) -> BookingConfirmed:
    made = hold_id(number)
    return BookingConfirmed(made, booking_id_of(made), ANN, "card", 1_000, 2_000)


async def rows(pool: Pool, relation: str = "hold") -> list[str]:
    return [row[0] for row in await pool.fetch(f"SELECT hold_id FROM {relation} ORDER BY seq")]


async def assert_verified(pool: Pool) -> None:
    async for verdict in verify_shows([pool], ShardMap.even(("only",))):
        assert verdict.faults == []


async def until_gone(pool: Pool, owner: str) -> None:
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1"
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval(sessions, owner):  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.02)


async def until_all_have_rows(pool: Pool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await pool.fetchval("SELECT count(*) FROM show_owner WHERE projected_seq < seq"):  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("never_calm")
async def test_a_batch_of_new_holds_makes_no_rows_and_is_complete_all_the_same(
    journal: PostgresJournal, pool: Pool
) -> None:
    for number in range(3):
        await journal.append(SHOW.show_id, [held(number)])
    assert await rows(pool) == []
    assert await rows(pool, "every_hold") == [hold_id(number) for number in range(3)]
    await assert_verified(pool)


async def test_rows_are_made_when_the_owner_is_calm(journal: PostgresJournal, pool: Pool) -> None:
    for number in range(20):
        await journal.append(SHOW.show_id, [held(number)])
        await journal.append(OTHER.show_id, [held(number, show=OTHER)])
    await until_all_have_rows(pool)
    assert len(await rows(pool)) == 40
    await assert_verified(pool)


@pytest.mark.usefixtures("never_calm")
@pytest.mark.parametrize("change", [confirmed(1), HoldReleased(hold_id(1), 3_000)])
async def test_what_becomes_of_one_hold_makes_the_rows_of_its_show_first(
    journal: PostgresJournal, pool: Pool, change: Event
) -> None:
    await journal.append(SHOW.show_id, [held(1), held(2)])
    await journal.append(OTHER.show_id, [held(1, show=OTHER)])
    await journal.append(SHOW.show_id, [held(3), change])
    assert sorted(await rows(pool)) == sorted(hold_id(number) for number in (1, 2, 3))
    await assert_verified(pool)


@pytest.mark.usefixtures("never_calm")
async def test_a_block_or_an_admission_needs_no_rows(journal: PostgresJournal, pool: Pool) -> None:
    admitted = held(1)._replace(admissions=((0, 2, 50),))
    await journal.append(SHOW.show_id, [admitted, SeatsBlocked((9,), "repair", 1_000)])
    assert await rows(pool) == []
    assert await pool.fetchval("SELECT admitted FROM admission_claim") == 2
    await assert_verified(pool)


@pytest.mark.usefixtures("never_calm")
async def test_a_hold_is_found_the_moment_it_is_made(
    journal: PostgresJournal, pool: Pool, reader: ClaimReader
) -> None:
    await journal.append(SHOW.show_id, [held(1)])
    await journal.append(OTHER.show_id, [held(1, show=OTHER)])
    found = await reader.find_hold(hold_id(1))
    assert found is not None
    assert (found.held, found.state) == (held(1), HoldState.HELD)
    assert await rows(pool) == [hold_id(1)], "only what was asked for"
    assert await reader.find_hold(hold_id(2)) is None


@pytest.mark.usefixtures("never_calm")
async def test_a_customer_s_new_holds_are_listed_and_nobody_else_s_rows_made(
    journal: PostgresJournal, pool: Pool, reader: ClaimReader
) -> None:
    await journal.append(SHOW.show_id, [held(1, customer=BOB)])
    await journal.append(OTHER.show_id, [held(2, show=OTHER)])
    listed = await reader.list_live_holds(BOB)
    assert [hold.held for hold in listed] == [held(1, customer=BOB)]
    assert await rows(pool) == [hold_id(1)]
    assert await reader.list_live_holds(CustomerId("cus_b")) == []


@pytest.mark.usefixtures("never_calm")
async def test_a_seat_map_tells_held_from_booked_without_rows(
    journal: PostgresJournal, reader: ClaimReader
) -> None:
    await journal.append(SHOW.show_id, [held(1), confirmed(1)])
    await journal.append(SHOW.show_id, [held(2)])
    snapshot = await reader.seat_map(SHOW.show_id)
    assert (snapshot.taken, snapshot.held) == ({1: 1, 2: 1}, {2: 1})


@pytest.mark.usefixtures("never_calm")
async def test_the_next_owner_knows_the_holds_that_have_no_rows(
    empty_house: House, journal: PostgresJournal, pool: Pool
) -> None:
    await journal.append(SHOW.show_id, [held(1), held(2)])
    heir = PostgresJournal(empty_house.application_dsn, "heir")
    activation = await heir.activate(SHOW)
    made = sorted((hold.held for hold in activation.holds), key=lambda each: each.seat_indexes)
    assert made == [held(1), held(2)]
    assert activation.claimed_seat_legs == 2
    await heir.append(SHOW.show_id, [HoldReleased(hold_id(2), 3_000)])
    await heir.close()
    await assert_verified(pool)


@pytest.mark.usefixtures("never_calm")
async def test_rows_that_an_owner_left_undone_are_made_by_the_search_for_overdue_holds(
    journal: PostgresJournal, pool: Pool
) -> None:
    await journal.append(SHOW.show_id, [held(1)])
    await pool.execute(SQL["project_forgotten_holds"], 3_600, 10, None)
    assert await rows(pool) == [], "its owner may still do it"
    await pool.execute(SQL["project_forgotten_holds"], 0, 10, None)
    assert await rows(pool) == [hold_id(1)]


@pytest.mark.usefixtures("never_calm")
async def test_the_search_for_overdue_holds_leaves_an_owner_alone_that_lives(
    empty_house: House, journal: PostgresJournal, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "FORGOTTEN_S", 0)
    search = OverdueHolds(ShardMap.even((empty_house.application_dsn,)))
    other = PostgresJournal(empty_house.application_dsn, "another owner")
    await other.activate(OTHER)
    await other.append(OTHER.show_id, [held(1, show=OTHER)])
    await journal.append(SHOW.show_id, [held(1)])
    assert await search.find() == []
    assert await rows(pool) == [], "they make the rows themselves when they are calm"
    await other.close()
    await until_gone(pool, "another owner")
    assert await search.find() == [], "its deadline is far away"
    assert await rows(pool) == [hold_id(1, OTHER)]
    monkeypatch.setattr(overdue, "NEGLECTED_S", 0)
    monkeypatch.setattr(overdue, "NEGLECTED_EVERY_S", 0)
    await search.find()
    assert len(await rows(pool)) == 2, "it has had time enough"
    await search.close()


@pytest.mark.usefixtures("never_calm")
async def test_a_database_that_is_silent_does_not_keep_the_search_from_the_others(
    empty_house: House, pool: Pool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(overdue, "FORGOTTEN_S", 0)
    monkeypatch.setattr(TimedConnection, "answer_within_s", 0.5)
    owner = PostgresJournal(empty_house.application_dsn, "owner")
    await owner.activate(SHOW)
    async with LossyProxy(empty_house.application_dsn, tmp_path).running() as line:
        search = OverdueHolds(ShardMap.even((line.dsn, empty_house.application_dsn)))
        assert await search.find() == []
        await owner.append(SHOW.show_id, [held(1)])
        await owner.close()
        await until_gone(pool, "owner")
        line.freeze()
        async with asyncio.timeout(PATIENCE_S):
            assert await search.find() == []
        assert line.happened["frozen"]
        assert await rows(pool) == [hold_id(1)]
        line.thaw()
        await search.close()


@pytest.mark.usefixtures("never_calm")
async def test_an_id_that_was_forgotten_and_given_anew_in_one_batch_has_one_row(
    journal: PostgresJournal, pool: Pool
) -> None:
    again = held(1)._replace(seat_indexes=(7,))
    life: list[Event] = [held(1), HoldReleased(hold_id(1), 3_000), HoldsForgotten((hold_id(1),))]
    await journal.append(SHOW.show_id, [*life, again])
    assert await pool.fetchval("SELECT seats FROM every_hold") == [7]
    await journal.append(SHOW.show_id, [confirmed(1)])
    assert await pool.fetchval("SELECT seats FROM hold") == [7]


async def test_rows_are_made_once_however_many_want_them(
    journal: PostgresJournal, pool: Pool, reader: ClaimReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_projector, "CALM_S", 0.0)
    source, made, is_over = random.Random(3), 0, False

    async def read_on() -> None:
        while not is_over:
            number = source.randrange(60)
            if number < made:
                assert await reader.find_hold(hold_id(number)) is not None
            await reader.list_live_holds(source.choice([ANN, BOB]))
            await pool.execute(SQL["project_forgotten_holds"], 0, 10, None)

    readers = [asyncio.create_task(read_on()) for _ in range(4)]
    for number in range(60):
        events: list[Event] = [held(number, customer=source.choice([ANN, BOB]))]
        if number % 7 == 3:
            events.append(HoldReleased(hold_id(number - 2), 3_000))
        one = journal.append(SHOW.show_id, events)
        other = journal.append(OTHER.show_id, [held(number, show=OTHER)])
        await asyncio.gather(one, other)
        made = number + 1
    is_over = True
    await asyncio.gather(*readers)
    await until_all_have_rows(pool)
    assert len(await rows(pool)) == 120
    await assert_verified(pool)
