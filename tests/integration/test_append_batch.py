"""append_batch on Postgres: the only way in, what it refuses, and what it leaves in the tables."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from persistence.claim_blocks import BLOCK_BITS_MAX, claims_of, taken_seats
from persistence.codec import encode_events
from persistence.projection import Projection
from persistence.queries import load_queries
from persistence.sessions import Connection
from reservation.commands import CancelShow
from reservation.events import (
    BookingCancelled,
    BookingConfirmed,
    Event,
    HoldReleased,
    SeatsHeld,
    ShowCancelled,
)
from reservation.ids import ShowId, derive_hold_id
from reservation.show import Show
from tests.conftest import House
from tests.support.histories import RandomLife, make_show

SQL = load_queries("journal.sql")
SHOW = make_show("append", legs=3, capacities=(4, 2))
OTHER = make_show("append other", legs=1)
TOPICS = {BookingConfirmed: "booking_confirmed", BookingCancelled: "booking_cancelled"}
TABLES = (
    "show_owner",
    "admission_tier",
    "admission_claim",
    "seat_claim",
    "seat_block",
    "hold",
    "booking",
    "journal",
    "outbox",
    "channel_seat",
    "cancelled_show",
)


@pytest.fixture
async def application(empty_house: House) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_house.application_dsn)
    yield connection
    await connection.close()


@pytest.fixture
async def superuser(empty_house: House) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_house.superuser_dsn)
    yield connection
    await connection.close()


LEGS: dict[ShowId, int] = {}
"""Of every show that was activated here."""


async def activate(connection: Connection, show: Show, owner: str = "test") -> tuple[int, int]:
    LEGS[show.show_id] = show.route.leg_count
    capacities = [tier.capacity for tier in show.plan.admission_tiers]
    row = await connection.fetchrow(
        SQL["activate_show"],
        show.show_id,
        owner,
        show.route.leg_count,
        show.plan.seat_count,
        capacities,
    )
    assert row is not None
    return row[0], row[1]


Part = tuple[ShowId, int, int, list[Event]]


async def append(connection: Connection, *parts: Part) -> None:
    """(show_id, epoch, seq, events) of each show, in one batch."""
    projection = Projection()
    for show_id, _, seq, events in parts:
        projection.add(show_id, seq, events)
    await connection.execute(
        SQL["append_batch"],
        [part[0] for part in parts],
        [part[1] for part in parts],
        [part[2] for part in parts],
        [encode_events(part[3]) for part in parts],
        *claims_of(projection, [(part[0], LEGS.get(part[0], 1)) for part in parts]),
        projection.changed,
        None if projection.is_plain else json.dumps(projection.sections),
    )


def events_of(show: Show, seed: int, steps: int = 60) -> list[Event]:
    life = RandomLife(show, seed)
    for _ in range(steps):
        life.step()
    return life.history


def full_life() -> list[Event]:
    """A history that leaves rows in every table."""
    for seed in range(100):
        life = RandomLife(SHOW, seed)
        for _ in range(60):
            life.step()
        is_booked = any(isinstance(event, BookingConfirmed) for event in life.history)
        cancelled = life.seat_map.decide(CancelShow("storm"), life.now_ms)
        assert isinstance(cancelled, ShowCancelled)
        life.seat_map.apply(cancelled)
        house, places = life.seat_map.house, life.seat_map.occupancy.claimed_place_legs()
        if house.blocked and house.channel_of and places and is_booked:
            return [*life.history, cancelled]
    raise AssertionError("no such life")


async def everything(connection: Connection) -> dict[str, list[Any]]:
    """All rows of all tables, to see whether anything changed."""
    return {
        table: [tuple(row) for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY 1")]
        for table in TABLES
    }


# -- who may do what ------------------------------------------------------------------------------


async def test_the_application_may_append_and_read_everything(application: Connection) -> None:
    assert await activate(application, SHOW) == (1, 0)
    events = full_life()
    await append(application, (SHOW.show_id, 1, 1, events))
    counts = [await application.fetchval(f"SELECT count(*) FROM {table}") for table in TABLES]
    assert all(counts), dict(zip(TABLES, counts, strict=True))


@pytest.mark.parametrize("table", TABLES)
async def test_the_application_cannot_change_a_table_itself(
    application: Connection, superuser: Connection, table: str
) -> None:
    await activate(application, SHOW)
    await append(application, (SHOW.show_id, 1, 1, full_life()))
    before = await everything(superuser)
    for statement in (
        f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM {table}",
        f"UPDATE {table} SET show_id = show_id",
        f"DELETE FROM {table}",
        f"TRUNCATE {table}",
        f"SELECT FROM {table} FOR UPDATE",
        f"DO $$ BEGIN LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE; END $$",
        f"ALTER TABLE {table} ADD COLUMN stolen text",
        f"DROP TABLE {table}",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(statement)
    assert await everything(superuser) == before


async def test_the_application_can_call_no_inner_function_and_disable_nothing(
    application: Connection,
) -> None:
    for call in (
        "keep_holds('{}')",
        "free_places('{}')",
        "forget_holds('{}')",
        "claim_places('{}', '{}', '{}', NULL)",
        "settle_new_holds('{}')",
        "change_admissions('[]', 1)",
        "refuse('HF001', 'x', 1, 1)",
        "change_sales('{}')",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(f"SELECT {call}")
    for statement in (
        "ALTER TABLE show_owner DISABLE TRIGGER ALL",
        "SET session_replication_role = replica",
        "CREATE TABLE mine (n integer)",
        "CREATE FUNCTION bit_count(bit) RETURNS bigint LANGUAGE sql RETURN 0",
        "CREATE OR REPLACE FUNCTION append_batch(text[], bigint[], bigint[], json[], block_claims,"
        " text[], jsonb) RETURNS void LANGUAGE sql AS ''",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(statement)


async def test_a_temporary_table_does_not_take_the_place_of_a_real_one(
    application: Connection, superuser: Connection
) -> None:
    # The functions run as their owner, so what they find by name must not be the caller's.
    for table in TABLES:
        await application.execute(f"CREATE TEMPORARY TABLE {table} (LIKE {table} INCLUDING ALL)")
    assert await activate(application, SHOW) == (1, 0)
    await append(application, (SHOW.show_id, 1, 1, full_life()))
    assert all((await everything(superuser)).values())
    assert await application.fetchval("SELECT count(*) FROM pg_temp.seat_claim") == 0


# -- the fence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "epoch = epoch - 1",
        "epoch = 0",
        "seq = seq - 1",
        "seq = 0",
        "seq = seq + 2",
        "leg_count = leg_count + 1",
        "seat_count = seat_count - 1",
    ],
)
async def test_an_owner_row_never_goes_back_not_even_by_hand(
    application: Connection, superuser: Connection, change: str
) -> None:
    await activate(application, SHOW)
    await append(application, (SHOW.show_id, 1, 1, events_of(SHOW, 1)))
    await append(application, (SHOW.show_id, 1, 2, []))
    with pytest.raises(asyncpg.PostgresError) as raised:
        await superuser.execute(f"UPDATE show_owner SET {change}")
    assert raised.value.sqlstate == "HF003"
    assert raised.value.detail == SHOW.show_id
    assert await activate(application, SHOW) == (2, 2)


async def test_a_show_that_changes_its_shape_cannot_be_activated(application: Connection) -> None:
    await activate(application, SHOW)
    longer = make_show("append", legs=4, capacities=(4, 2))
    assert longer.show_id == SHOW.show_id
    with pytest.raises(asyncpg.PostgresError) as raised:
        await activate(application, longer)
    assert raised.value.sqlstate == "HF003"
    assert await activate(application, SHOW) == (2, 0)


@pytest.mark.parametrize(("epoch", "seq"), [(1, 2), (2, 1), (2, 3), (3, 2), (0, 2)])
async def test_only_the_newest_epoch_writes_and_only_the_next_number(
    application: Connection, superuser: Connection, epoch: int, seq: int
) -> None:
    await activate(application, SHOW)
    await activate(application, OTHER)
    await activate(application, SHOW)
    await append(application, (SHOW.show_id, 2, 1, []))
    before = await everything(superuser)
    events = events_of(SHOW, 1)
    with pytest.raises(asyncpg.PostgresError) as raised:
        await append(application, (SHOW.show_id, epoch, seq, events), (OTHER.show_id, 1, 1, []))
    assert raised.value.sqlstate == "HF004"
    assert (raised.value.detail or "").split() == [SHOW.show_id]
    assert await everything(superuser) == before
    await append(application, (SHOW.show_id, 2, 2, events), (OTHER.show_id, 1, 1, []))


async def test_shows_that_are_not_there_are_named_as_lost(application: Connection) -> None:
    await activate(application, OTHER)
    unknown = make_show("never activated")
    with pytest.raises(asyncpg.PostgresError) as raised:
        await append(
            application,
            (SHOW.show_id, 1, 1, []),
            (OTHER.show_id, 1, 1, []),
            (unknown.show_id, 1, 1, []),
        )
    assert raised.value.sqlstate == "HF004"
    assert set((raised.value.detail or "").split()) == {SHOW.show_id, unknown.show_id}


@pytest.mark.parametrize("legs", [(0, 1, 2), (0, 1)])
async def test_a_claim_that_is_not_there_any_more_cannot_be_given_back(
    application: Connection, superuser: Connection, legs: tuple[int, ...]
) -> None:
    # Only somebody who writes the tables by hand can bring this about.
    await activate(application, SHOW)
    held = next(e for e in full_life() if isinstance(e, SeatsHeld) and e.seat_indexes)
    held = held._replace(segment=SHOW.route.whole)
    await append(application, (SHOW.show_id, 1, 1, [held]))
    seat = held.seat_indexes[0]
    for leg in legs:
        bit = seat * SHOW.route.leg_count + leg
        await superuser.execute("UPDATE seat_claim SET taken = set_bit(taken, $1, 0)", bit)
    before = await everything(superuser)
    with pytest.raises(asyncpg.PostgresError, match="seats to give back are not claimed") as raised:
        await append(application, (SHOW.show_id, 1, 2, [HoldReleased(held.hold_id, 1)]))
    assert raised.value.sqlstate == "HF002"
    assert await everything(superuser) == before


# -- what it leaves -------------------------------------------------------------------------------


async def test_the_outbox_has_every_booking_fact_once_and_without_gaps(
    application: Connection, superuser: Connection
) -> None:
    lives = [RandomLife(show, seed) for seed, show in enumerate((SHOW, OTHER))]
    batches = [life.batches(60) for life in lives]
    for show in (SHOW, OTHER):
        await activate(application, show)
    expected = []
    for seq in range(1, 61):
        parts: list[Part] = [
            (show.show_id, 1, seq, next(life))
            for show, life in zip((SHOW, OTHER), batches, strict=True)
        ]
        await append(application, *parts)
        for show_id, _, _, events in parts:
            facts = [
                e for e in events if type(e).__name__ in ("BookingConfirmed", "BookingCancelled")
            ]
            for n, event in enumerate(facts):
                topic = (
                    "booking_confirmed"
                    if isinstance(event, BookingConfirmed)
                    else "booking_cancelled"
                )
                expected.append((show_id, seq, n, topic, event.hold_id))
    assert len(expected) > 20
    rows = await superuser.fetch(
        "SELECT show_id, seq, n, topic, payload ->> 'hold_id' FROM outbox ORDER BY id"
    )
    assert sorted(tuple(row) for row in rows) == sorted(expected)
    assert await superuser.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL") == 0


async def test_shows_of_one_batch_are_one_transaction(
    application: Connection, superuser: Connection
) -> None:
    for show in (SHOW, OTHER):
        await activate(application, show)
    await append(
        application,
        (SHOW.show_id, 1, 1, events_of(SHOW, 1)),
        (OTHER.show_id, 1, 1, events_of(OTHER, 2)),
    )
    assert await superuser.fetchval("SELECT count(DISTINCT at) FROM journal") == 1
    assert await superuser.fetchval("SELECT count(DISTINCT xmin::text) FROM journal") == 1


@pytest.mark.parametrize("legs", [1, 3, 51, 255])
async def test_claims_of_any_seat_and_leg_are_found_where_they_belong(
    application: Connection, superuser: Connection, legs: int
) -> None:
    # Seats on both sides of every block's border, and random ones; half are given back again.
    show = make_show(f"blocks of {legs}", legs=legs, rows=(50,) * 50)
    await activate(application, show)
    rng = random.Random(legs)
    block_seats = BLOCK_BITS_MAX // legs
    seats = {0, 1, block_seats - 1, block_seats, 2 * block_seats - 1, 2 * block_seats, 2_499}
    seats |= set(rng.sample(range(2_500), 40))
    like = next(e for e in events_of(SHOW, 3) if isinstance(e, SeatsHeld) and e.seat_indexes)
    expected: dict[int, int] = {}
    events: list[Event] = []
    ended: list[Event] = []
    for seat in sorted(seats):
        from_leg = rng.randrange(legs)
        segment = type(like.segment)(from_leg, rng.randint(from_leg + 1, legs))
        hold_id = derive_hold_id(show.show_id, like.customer_id, f"seat {seat}")
        events.append(
            like._replace(
                hold_id=hold_id,
                segment=segment,
                seat_indexes=(seat,),
                seat_minor=(1,),
                admissions=(),
            )
        )
        if rng.random() < 0.5:
            ended.append(HoldReleased(hold_id, 1))
        else:
            expected[seat] = segment.mask
    await append(application, (show.show_id, 1, 1, events))
    await append(application, (show.show_id, 1, 2, ended))
    rows = await superuser.fetch("SELECT block, taken::text FROM seat_claim")
    assert dict(taken_seats(rows, legs)) == expected
    for seat in expected:
        again = like._replace(
            hold_id=derive_hold_id(show.show_id, like.customer_id, f"again {seat}"),
            segment=show.route.whole,
            seat_indexes=(seat,),
            seat_minor=(1,),
            admissions=(),
        )
        with pytest.raises(asyncpg.PostgresError, match="claims overlap"):
            await append(application, (show.show_id, 1, 3, [again]))


@pytest.mark.parametrize("seat", [-1, -1_024, 100, 1_023, 1_024, 2**31 - 1])
async def test_a_seat_that_is_not_there_is_not_claimed(
    application: Connection, superuser: Connection, seat: int
) -> None:
    show = make_show("a hundred seats", legs=1, rows=(50, 50))
    await activate(application, show)
    like = next(e for e in events_of(OTHER, 3) if isinstance(e, SeatsHeld) and e.seat_indexes)
    held = like._replace(seat_indexes=(seat,), seat_minor=(1,), admissions=())
    with pytest.raises(asyncpg.PostgresError):
        await append(application, (show.show_id, 1, 1, [held]))
    assert await superuser.fetchval("SELECT count(*) FROM seat_claim") == 0
    assert await superuser.fetchval("SELECT count(*) FROM hold") == 0


SEVENTH = "SELECT substring(taken FROM 7 * 3 + 1 FOR 3)::text FROM seat_claim WHERE block = 0"


async def test_the_legs_of_a_claim_are_stored_the_first_leg_first(
    application: Connection, superuser: Connection
) -> None:
    await activate(application, SHOW)
    held = next(e for e in events_of(SHOW, 3) if isinstance(e, SeatsHeld) and e.seat_indexes)
    held = held._replace(seat_indexes=(7,), seat_minor=(1,), admissions=())
    segments = {(0, 1): "100", (1, 3): "011", (0, 3): "111", (2, 3): "001"}
    for seq, (segment, bits) in enumerate(segments.items()):
        ride = held._replace(segment=type(held.segment)(*segment))
        await append(application, (SHOW.show_id, 1, 2 * seq + 1, [ride]))
        assert await superuser.fetchval(SEVENTH) == bits
        await append(application, (SHOW.show_id, 1, 2 * seq + 2, [HoldReleased(held.hold_id, 1)]))
        assert await superuser.fetchval(SEVENTH) == "000"
        held = held._replace(hold_id=derive_hold_id(SHOW.show_id, held.customer_id, f"leg {seq}"))


async def test_the_listing_of_bookings_needs_no_sort(
    application: Connection, superuser: Connection
) -> None:
    query = load_queries("claims.sql")["list_bookings"]
    await superuser.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    await superuser.execute(f"PREPARE listing (text, bigint, text, bigint) AS {query}")
    plan = await superuser.fetch("EXPLAIN EXECUTE listing ('cus_ann', 1, '', 20)")
    text = "\n".join(row[0] for row in plan)
    assert "Sort" not in text, text
    assert "booking_by_customer" in text, text
