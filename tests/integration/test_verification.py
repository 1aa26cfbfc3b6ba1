"""``verify`` on Postgres: silent about a sound house, loud about every kind of corruption."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import pytest

from persistence.claim_blocks import BLOCK_BITS_MAX
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.postgres_journal import PostgresJournal
from persistence.sessions import Connection, Pool
from persistence.shards import ShardMap
from persistence.verification import Verdict, verify_shows
from reservation.commands import CancelShow
from reservation.events import SeatsHeld, ShowCancelled
from reservation.hold import HoldState
from reservation.show import Show
from tests.conftest import House, create_database, drop_database, house_of
from tests.support.histories import RandomLife, make_show

LEGS = 3
SHOW = make_show("verified", legs=LEGS, capacities=(6, 2))
OTHER = make_show("verified too", legs=1)


async def sell(dsn: str, show: Show, life: RandomLife, batches: int) -> None:
    journal = PostgresJournal(dsn, f"seller of {show.show_id}")
    await journal.activate(show)
    for batch in life.batches(batches):
        await journal.append(show.show_id, batch)
    await journal.close()
    # What is corrupted here are rows, also of holds whose rows could still wait.
    connection = await asyncpg.connect(dsn)
    await connection.execute("SELECT project_holds($1, $2)", [show.show_id], [batches])
    await connection.close()


def full_life(show: Show, batches: int) -> int:
    """The seed of a life that ends with something of everything, in so many batches."""
    for seed in range(1_000):
        life = RandomLife(show, seed)
        for _ in life.batches(batches):
            pass
        holds = life.seat_map.holds.values()
        states = {hold.state for hold in holds if hold.held.seat_indexes}
        has_cancelled = any(hold.booking and hold.booking.cancelled_at_ms for hold in holds)
        has_booked = any(
            hold.booking and not hold.booking.cancelled_at_ms and hold.held.seat_indexes
            for hold in holds
        )
        is_full = states == set(HoldState) and has_cancelled and has_booked
        house = life.seat_map.house
        has_house_seats = house.blocked and house.channel_of
        if not isinstance(life.history[0], SeatsHeld):
            continue  # Some corruptions are of the first row, and of a hold.
        if is_full and has_house_seats and life.seat_map.occupancy.claimed_place_legs():
            return seed
    raise AssertionError("no such life")


BATCHES = 12


class Sold(NamedTuple):
    """A database to be copied, and what happened to its first show."""

    database_name: str
    life: RandomLife


@pytest.fixture(scope="module")
async def sold(postgres: EmbeddedPostgres, template: str) -> Sold:
    """A show that has sold, and a neighbour that has, too."""
    name = await create_database(postgres, template)
    dsn, life = house_of(postgres, name).application_dsn, RandomLife(SHOW, full_life(SHOW, BATCHES))
    await sell(dsn, SHOW, life, BATCHES)
    await sell(dsn, OTHER, RandomLife(OTHER, 1), 3)
    return Sold(name, life)


@pytest.fixture
async def sold_house(postgres: EmbeddedPostgres, sold: Sold) -> AsyncIterator[House]:
    """A copy of it, for one corruption: selling takes ten times as long as copying."""
    name = await create_database(postgres, sold.database_name)
    yield house_of(postgres, name)
    await drop_database(postgres, name)


@pytest.fixture
def life(sold: Sold) -> RandomLife:
    """What happened to the show of a house that has sold."""
    return sold.life


@pytest.fixture
def house(request: pytest.FixtureRequest) -> House:
    """One that has sold for whoever asks for the life in it, and an empty one else."""
    has_sold = "life" in request.fixturenames
    house: House = request.getfixturevalue("sold_house" if has_sold else "empty_house")
    return house


@pytest.fixture
async def superuser(house: House) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(house.superuser_dsn)
    # A corruption is something that no rule of the database has stopped.
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


@pytest.fixture
async def pool(house: House) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(house.application_dsn, min_size=1, max_size=2) as pool:
        yield pool


async def verdicts_of(pool: Pool, *shows: Show) -> dict[str, Verdict]:
    shards = ShardMap.even(("only",))
    show_ids = [show.show_id for show in shows]
    return {v.show_id: v async for v in verify_shows([pool], shards, show_ids)}


async def corrupt(superuser: Connection, statement: str) -> None:
    """Change exactly one row."""
    status = await superuser.execute(statement)
    assert status.split()[-1] == "1", f"{status}: {statement}"


async def test_a_sound_house_has_no_fault(life: RandomLife, pool: Pool) -> None:
    verdicts = await verdicts_of(pool)
    assert set(verdicts) == {SHOW.show_id, OTHER.show_id}
    verdict = verdicts[SHOW.show_id]
    assert verdict.faults == []
    assert verdict.entries == BATCHES
    assert verdict.seat_legs == life.seat_map.occupancy.claimed_seat_legs() > 0
    assert verdicts[OTHER.show_id].faults == []
    assert list(await verdicts_of(pool, OTHER)) == [OTHER.show_id]


async def test_a_show_that_nobody_asked_for_is_sound(pool: Pool) -> None:
    assert await verdicts_of(pool) == {}
    verdicts = await verdicts_of(pool, SHOW)
    assert verdicts == {SHOW.show_id: Verdict(SHOW.show_id, 0, 0, [])}


async def test_a_claim_bit_that_was_set_is_named_with_seat_and_leg(
    life: RandomLife, superuser: Connection, pool: Pool
) -> None:
    for seat, bits in enumerate(life.seat_map.occupancy.taken):
        for leg in range(LEGS):
            if bits and not bits >> leg & 1:
                await corrupt(superuser, flip(seat, leg, 1))
                verdict = (await verdicts_of(pool))[SHOW.show_id]
                (fault,) = verdict.faults
                assert (fault.seat_index, fault.leg) == (seat, leg)
                assert "the journal says free" in fault.what
                assert fault.at_ms > 1_600_000_000_000
                return
    pytest.fail("every seat is taken on every leg")


async def test_a_claim_bit_that_was_cleared_is_named_with_seat_leg_and_owner(
    life: RandomLife, superuser: Connection, pool: Pool
) -> None:
    booked = next(
        hold.held
        for hold in life.seat_map.holds.values()
        if hold.booking and hold.keeps_places and hold.held.seat_indexes
    )
    seat, leg = booked.seat_indexes[-1], booked.segment.to_leg - 1
    await corrupt(superuser, flip(seat, leg, 0))
    (fault,) = (await verdicts_of(pool))[SHOW.show_id].faults
    assert (fault.seat_index, fault.leg) == (seat, leg)
    assert fault.what.startswith(f"{booked.hold_id} has it in the journal")
    (neighbour,) = (await verdicts_of(pool, OTHER)).values()
    assert neighbour.faults == []


def flip(seat: int, leg: int, bit: int) -> str:
    return (
        f"UPDATE seat_claim SET taken = set_bit(taken, {seat * LEGS + leg}, {bit})"
        f" WHERE show_id = '{SHOW.show_id}' AND block = 0"
    )


async def test_a_claim_row_that_is_gone_is_named_leg_by_leg(
    life: RandomLife, superuser: Connection, pool: Pool
) -> None:
    await corrupt(superuser, f"DELETE FROM seat_claim WHERE show_id = '{SHOW.show_id}'")
    faults = (await verdicts_of(pool))[SHOW.show_id].faults
    assert [(fault.seat_index, fault.leg) for fault in faults] == [
        (seat, leg)
        for seat, bits in enumerate(life.seat_map.occupancy.taken)
        for leg in range(LEGS)
        if (bits & ~life.seat_map.occupancy.reserved.get(seat, 0)) >> leg & 1
    ]


async def test_a_claim_beyond_the_plan_is_named(
    life: RandomLife, superuser: Connection, pool: Pool
) -> None:
    await corrupt(superuser, flip(300, 1, 1))
    await corrupt(superuser, f"INSERT INTO seat_claim VALUES ('{SHOW.show_id}', 2, B'000001')")
    faults = (await verdicts_of(pool))[SHOW.show_id].faults
    beyond = 2 * (BLOCK_BITS_MAX // LEGS) + 1
    assert {(fault.seat_index, fault.leg) for fault in faults} == {(300, 1), (beyond, 2)}


# What is done to one row of the show's holds, bookings and blocks, and what is said about it.
ROW_CORRUPTIONS = {
    "state": ("UPDATE hold SET state = 'released', ended_at_ms = 5 WHERE {held}", "is stored as"),
    "seats": ("UPDATE hold SET seats[1] = seats[1] + 1 WHERE {held}", "with other content"),
    "price": ("UPDATE hold SET seat_minor[1] = 1 WHERE {held}", "with other content"),
    "segment": ("UPDATE hold SET from_leg = 0, to_leg = 1 WHERE {longer}", "with other content"),
    "admissions": ("UPDATE hold SET admissions = '[[0, 9, 1]]' WHERE {held}", "other content"),
    "customer": ("UPDATE hold SET customer_id = 'cus_thief' WHERE {held}", "with other content"),
    "digest": ("UPDATE hold SET request_digest = '' WHERE {held}", "with other content"),
    "deadline": ("UPDATE hold SET deadline_at_ms = 5 WHERE {held}", "another deadline"),
    "end": ("UPDATE hold SET ended_at_ms = 5 WHERE {expired}", "another end"),
    "hold": ("DELETE FROM hold WHERE {held}", "is in the journal but not stored"),
    "extra hold": (
        "INSERT INTO hold SELECT hold_id || '0', show_id, customer_id, from_leg, to_leg, seats,"
        " seat_minor, admissions, arrangement, held_at_ms, expires_at_ms, deadline_at_ms,"
        " ended_at_ms, state, request_digest, seq FROM hold WHERE {held}",
        "is stored but the journal does not know it",
    ),
    "booking": ("DELETE FROM booking WHERE {booked}", "is booked as None"),
    "amount": ("UPDATE booking SET amount_minor = 1 WHERE {booked}", "is booked as"),
    "payment": ("UPDATE booking SET payment = 'none' WHERE {booked}", "is booked as"),
    "booking id": ("UPDATE booking SET booking_id = 'bkg_1' WHERE {booked}", "is booked as"),
    "cancelled": ("UPDATE booking SET cancelled_at_ms = 5 WHERE {booked}", "its cancellation"),
    "revived": ("UPDATE booking SET cancelled_at_ms = NULL WHERE {cancelled}", "its cancellation"),
}


@pytest.mark.parametrize("name", ROW_CORRUPTIONS)
async def test_a_changed_row_of_a_hold_or_a_booking_is_named_with_its_hold(
    life: RandomLife, superuser: Connection, pool: Pool, name: str
) -> None:
    statement, words = ROW_CORRUPTIONS[name]
    holds = life.seat_map.holds.values()
    # The one whose row is changed, in each of the ways that a statement may ask for.
    chosen = {
        "held": next(h for h in holds if h.state is HoldState.HELD and h.held.seat_indexes),
        "longer": next(h for h in holds if h.held.segment.leg_count > 1),
        "expired": next(h for h in holds if h.state is HoldState.EXPIRED),
        "booked": next(h for h in holds if h.booking and h.keeps_places),
        "cancelled": next(h for h in holds if h.booking and h.booking.cancelled_at_ms),
    }
    way = next(way for way in chosen if f"{{{way}}}" in statement)
    hold_id = chosen[way].held.hold_id
    await corrupt(superuser, statement.format(**{way: f"hold_id = '{hold_id}'"}))
    faults = (await verdicts_of(pool))[SHOW.show_id].faults
    assert faults
    assert any(hold_id in fault.what and words in fault.what for fault in faults), faults


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE admission_claim SET admitted = admitted + 1 WHERE {one}", "admitted, journal"),
        ("UPDATE admission_claim SET admitted = admitted - 1 WHERE {one}", "admitted, journal"),
        ("DELETE FROM admission_claim WHERE {one}", "0 admitted, journal"),
    ],
)
async def test_a_changed_counter_is_named_with_tier_and_leg(
    life: RandomLife, superuser: Connection, pool: Pool, statement: str, words: str
) -> None:
    row = await superuser.fetchrow("SELECT ctid::text, * FROM admission_claim WHERE admitted > 0")
    assert row is not None
    await corrupt(superuser, statement.format(one=f"ctid = '{row['ctid']}'"))
    (fault,) = (await verdicts_of(pool))[SHOW.show_id].faults
    assert fault.what.startswith(f"tier {row['tier_index']}:")
    assert words in fault.what
    assert (fault.seat_index, fault.leg) == (None, row["leg"])


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM seat_block WHERE {one}",
        "UPDATE seat_block SET reason = 'forged' WHERE {one}",
        "UPDATE seat_block SET seat_index = 77 WHERE {one}",
    ],
)
async def test_a_changed_block_is_named_with_its_seat(
    life: RandomLife, superuser: Connection, pool: Pool, statement: str
) -> None:
    seat = min(life.seat_map.blocked)
    one = f"show_id = '{SHOW.show_id}' AND seat_index = {seat}"
    await corrupt(superuser, statement.format(one=one))
    faults = (await verdicts_of(pool))[SHOW.show_id].faults
    assert seat in {fault.seat_index for fault in faults}
    assert all(fault.what == "table and journal disagree about a block" for fault in faults)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM channel_seat WHERE {one}",
        "UPDATE channel_seat SET channel_id = 'chn_forged' WHERE {one}",
        "UPDATE channel_seat SET seat_index = 77 WHERE {one}",
    ],
)
async def test_a_changed_channel_is_named_with_its_seat(
    life: RandomLife, superuser: Connection, pool: Pool, statement: str
) -> None:
    seat = min(life.seat_map.house.channel_of)
    one = f"show_id = '{SHOW.show_id}' AND seat_index = {seat}"
    await corrupt(superuser, statement.format(one=one))
    faults = (await verdicts_of(pool))[SHOW.show_id].faults
    assert seat in {fault.seat_index for fault in faults}
    assert all(fault.what == "table and journal disagree about a channel" for fault in faults)


async def test_a_show_that_was_cancelled_by_hand_is_found(
    life: RandomLife, superuser: Connection, pool: Pool
) -> None:
    row = f"('{SHOW.show_id}', 'forged', 5)"
    await corrupt(superuser, f"INSERT INTO cancelled_show VALUES {row}")
    (fault,) = (await verdicts_of(pool))[SHOW.show_id].faults
    assert fault.what == "table and journal disagree about the show's cancellation"


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM cancelled_show",
        "UPDATE cancelled_show SET reason = 'forged'",
        "UPDATE cancelled_show SET at_ms = at_ms + 1",
    ],
)
async def test_a_cancelled_show_cannot_be_put_on_sale_again_by_hand(
    empty_house: House, superuser: Connection, pool: Pool, statement: str
) -> None:
    show = make_show("cancelled")
    journal = PostgresJournal(empty_house.application_dsn, "owner#cancelled")
    life = RandomLife(show, 3)
    await journal.activate(show)
    for batch in life.batches(5):
        await journal.append(show.show_id, batch)
    stop = life.seat_map.decide(CancelShow("storm"), life.now_ms)
    assert isinstance(stop, ShowCancelled)
    life.seat_map.apply(stop)
    await journal.append(show.show_id, [stop])
    await journal.close()
    assert (await verdicts_of(pool))[show.show_id].faults == []
    await corrupt(superuser, statement)
    (fault,) = (await verdicts_of(pool))[show.show_id].faults
    assert fault.what == "table and journal disagree about the show's cancellation"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE show_owner SET seq = seq + 1 WHERE {show}", "the journal ends at 12"),
        ("UPDATE show_owner SET seq = 0, projected_seq = 0 WHERE {show}", "its owner row at 0"),
        ("UPDATE show_owner SET epoch = 0 WHERE {show}", "the journal knows epoch 1"),
        ("UPDATE show_owner SET leg_count = 1 WHERE {show}", "rides legs that do not exist"),
        ("UPDATE show_owner SET seat_count = 1 WHERE {show}", "a seat that does not exist"),
        ("DELETE FROM show_owner WHERE {show}", "its owner row is gone"),
        ("DELETE FROM journal WHERE {show} AND seq = 9", "journal jumps from 8 to 10"),
        ("DELETE FROM journal WHERE {show} AND seq = 12", "the journal ends at 11"),
        (
            "UPDATE journal SET epoch = 9 WHERE {show} AND seq = 9",
            "was written by a replaced epoch",
        ),
        ("UPDATE journal SET epoch = 9 WHERE {show} AND seq = 12", "the journal knows epoch 9"),
        ("UPDATE journal SET events = '7' WHERE {show} AND seq = 9", "unreadable events"),
        ("UPDATE journal SET events = '[{{}}]' WHERE {show} AND seq = 9", "unreadable events"),
        (
            "INSERT INTO journal SELECT show_id, 13, epoch, at, events FROM journal"
            " WHERE {show} AND seq = 1",
            "is held a second time",
        ),
    ],
)
async def test_a_changed_journal_or_owner_row_is_found(
    life: RandomLife, superuser: Connection, pool: Pool, statement: str, words: str
) -> None:
    await corrupt(superuser, statement.format(show=f"show_id = '{SHOW.show_id}'"))
    faults = (await verdicts_of(pool))[SHOW.show_id].faults
    assert any(words in fault.what for fault in faults), faults
    assert (await verdicts_of(pool))[OTHER.show_id].faults == []


async def test_a_journal_that_gives_a_seat_twice_is_found_with_seat_and_leg(
    life: RandomLife, superuser: Connection, pool: Pool
) -> None:
    seq, events, place, seat, leg = await find_theft(superuser)
    events[place]["seats"] = [seat]
    events[place]["seat_minor"] = [1]
    await superuser.execute(
        "UPDATE journal SET events = $1 WHERE show_id = $2 AND seq = $3",
        json.dumps(events),
        SHOW.show_id,
        seq,
    )
    faults = (await verdicts_of(pool))[SHOW.show_id].faults
    thefts = [f for f in faults if " takes what " in f.what]
    assert (seat, leg) in {(fault.seat_index, fault.leg) for fault in thefts}
    assert {fault.what.split()[0] for fault in thefts} >= {events[place]["hold_id"]}


async def find_theft(
    superuser: Connection,
) -> tuple[int, list[dict[str, object]], int, int, int]:
    """A hold in the journal, and a seat that somebody else had on its first leg just then."""
    owners: dict[int, dict[str, object]] = {}
    rows = await superuser.fetch(
        "SELECT seq, events FROM journal WHERE show_id = $1 ORDER BY seq", SHOW.show_id
    )
    for seq, text in rows:
        events = json.loads(text)
        for place, event in enumerate(events):
            if event["kind"] == "seats_held":
                for seat, owner in owners.items():
                    if owner["from_leg"] <= event["from_leg"] < owner["to_leg"]:  # type: ignore
                        return seq, events, place, seat, event["from_leg"]
                owners |= dict.fromkeys(event["seats"], event)
            elif event["kind"] not in ("hold_extended", "booking_confirmed"):
                owners.clear()
    raise AssertionError("no such moment")


@pytest.mark.parametrize("field", ["from_leg", "to_leg", "expires_at_ms", "seats", "admissions"])
async def test_nonsense_in_the_journal_is_reported_and_never_stops_the_verification(
    life: RandomLife, superuser: Connection, pool: Pool, field: str
) -> None:
    held = next(e for e in life.history if isinstance(e, SeatsHeld))
    text = await superuser.fetchval(
        "SELECT events FROM journal WHERE show_id = $1 AND seq = 1", SHOW.show_id
    )
    for nonsense in ("many", None, [1], [[1]], "2026-01-01", 10**14, -5, 1.5):
        events = json.loads(text)
        assert events[0]["hold_id"] == held.hold_id
        events[0][field] = nonsense
        await superuser.execute(
            "UPDATE journal SET events = $1 WHERE show_id = $2 AND seq = 1",
            json.dumps(events),
            SHOW.show_id,
        )
        verdicts = await verdicts_of(pool)
        assert verdicts[SHOW.show_id].faults, nonsense
        assert verdicts[SHOW.show_id].entries == BATCHES
        assert verdicts[OTHER.show_id].faults == []


async def test_two_databases_are_verified_each_for_its_own_shows(
    empty_house: House, fresh_database: str, application_dsn: str
) -> None:
    dsns = (empty_house.application_dsn, application_dsn)
    shards = ShardMap.even(dsns)
    shows = [make_show(f"shard {n}") for n in range(8)]
    for show in shows:
        await sell(dsns[shards.database_of(show.show_id)], show, RandomLife(show, 1), 3)
    assert {shards.database_of(show.show_id) for show in shows} == {0, 1}
    async with (
        asyncpg.create_pool(dsns[0], min_size=1, max_size=1) as one,
        asyncpg.create_pool(dsns[1], min_size=1, max_size=1) as two,
    ):
        verdicts = [verdict async for verdict in verify_shows([one, two], shards)]
        assert {verdict.show_id for verdict in verdicts} == {show.show_id for show in shows}
        assert [verdict.faults for verdict in verdicts] == [[]] * 8
        chosen = [shows[3].show_id, shows[0].show_id]
        some = [v.show_id async for v in verify_shows([one, two], shards, chosen)]
        assert sorted(some) == sorted(chosen)


async def test_a_show_is_verified_while_it_is_selling(empty_house: House, pool: Pool) -> None:
    journal, life = PostgresJournal(empty_house.application_dsn, "busy"), RandomLife(SHOW, 5)
    await journal.activate(SHOW)
    entries = 0
    for batch in life.batches(40):
        written = journal.append(SHOW.show_id, batch)
        verdict = (await verdicts_of(pool, SHOW))[SHOW.show_id]
        assert verdict.faults == []
        assert verdict.entries >= entries
        entries = verdict.entries
        await written
    await journal.close()
