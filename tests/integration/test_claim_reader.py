"""The claim reader: it shows what the owner's seat map says, and only to whom it belongs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.claim_reader import CHANNEL_REASON, ClaimReader, SeatMapSnapshot
from persistence.postgres_journal import PostgresJournal
from persistence.sessions import Pool
from persistence.shards import ShardMap
from reservation.commands import ConfirmHold, HoldSeats
from reservation.events import BookingConfirmed, Event, SeatsHeld
from reservation.hold import BookingState, Hold, HoldState
from reservation.ids import CustomerId, HoldId, ShowId, derive_hold_id
from reservation.route import Segment
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import SeatMap
from reservation.show import SalesPolicy, Show
from tests.conftest import House
from tests.support.histories import CUSTOMERS, RandomLife, make_show

ANN, BOB, EVE = CUSTOMERS
ROOMY = SalesPolicy(live_holds_per_customer_max=1_000, seats_per_customer_max=1_000)


@pytest.fixture
async def pool(empty_house: House) -> AsyncIterator[Pool]:
    async with asyncpg.create_pool(empty_house.application_dsn, min_size=1, max_size=2) as pool:
        yield pool


@pytest.fixture
def reader(pool: Pool) -> ClaimReader:
    return ClaimReader([pool], ShardMap.even(("only",)))


@pytest.fixture
async def journal(empty_house: House) -> AsyncIterator[PostgresJournal]:
    journal = PostgresJournal(empty_house.application_dsn, "owner")
    yield journal
    await journal.close()


class Owner:
    """A show whose every command is durable before the next one."""

    def __init__(self, show: Show, journal: PostgresJournal, now_ms: int) -> None:
        self.show = show
        self.seat_map = SeatMap(show, SeatChooser(show.plan))
        self.now_ms = now_ms
        self._journal = journal

    async def hold(self, customer: CustomerId, key: str, *seats: int) -> HoldId:
        hold_id = derive_hold_id(self.show.show_id, customer, key)
        whole = self.show.route.whole
        await self._do(HoldSeats(hold_id, customer, whole, seats, (), False, key))
        return hold_id

    async def book(self, customer: CustomerId, key: str, *seats: int) -> BookingConfirmed:
        hold_id = await self.hold(customer, key, *seats)
        event = await self._do(ConfirmHold(hold_id, customer, "card"))
        assert isinstance(event, BookingConfirmed)
        return event

    async def _do(self, command: HoldSeats | ConfirmHold) -> Event:
        event = self.seat_map.decide(command, self.now_ms)
        assert isinstance(event, SeatsHeld | BookingConfirmed), event
        self.seat_map.apply(event)
        await self._journal.append(self.show.show_id, [event])
        return event


async def open_owner(journal: PostgresJournal, name: str, *, rows: int = 60) -> Owner:
    show = make_show(name, rows=(rows,), policy=ROOMY)
    await journal.activate(show)
    return Owner(show, journal, await journal.now_ms())


# -- seat maps ------------------------------------------------------------------------------------


def snapshot_of(seat_map: SeatMap, seq: int) -> SeatMapSnapshot:
    """What the reader must say about a map."""
    taken = {seat: bits for seat, bits in enumerate(seat_map.occupancy.taken) if bits}
    held: dict[int, int] = {}
    for hold in seat_map.holds.values():
        if hold.state is HoldState.HELD:
            for seat in hold.held.seat_indexes:
                held[seat] = held.get(seat, 0) | hold.held.segment.mask
    admitted = {
        tier: {leg: count for leg, count in enumerate(counters) if count}
        for tier, counters in enumerate(seat_map.occupancy.admitted)
        if any(counters)
    }
    channel_of = seat_map.house.channel_of
    held = {seat: legs for seat, legs in held.items() if seat not in channel_of}
    blocked = {**seat_map.blocked, **dict.fromkeys(channel_of, CHANNEL_REASON)}
    return SeatMapSnapshot(seq, taken, held, blocked, admitted)


def without_empty_counters(snapshot: SeatMapSnapshot) -> SeatMapSnapshot:
    admitted = {
        tier: {leg: count for leg, count in counters.items() if count}
        for tier, counters in snapshot.admitted.items()
    }
    return SeatMapSnapshot(
        snapshot.seq,
        snapshot.taken,
        snapshot.held,
        snapshot.blocked,
        {tier: counters for tier, counters in admitted.items() if counters},
    )


@pytest.mark.parametrize("legs", [1, 2, 8, 51, 255])
async def test_a_seat_map_is_the_owner_s_at_every_moment(
    reader: ClaimReader, journal: PostgresJournal, legs: int
) -> None:
    show = make_show(f"map {legs}", legs=legs, capacities=(6, 2))
    life = RandomLife(show, legs)
    await journal.activate(show)
    assert await reader.seat_map(show.show_id) == SeatMapSnapshot(0, {}, {}, {}, {})
    for batch in life.batches(40):
        seq = await journal.append(show.show_id, batch)
        snapshot = await reader.seat_map(show.show_id)
        assert without_empty_counters(snapshot) == snapshot_of(life.seat_map, seq)
        assert await reader.version_of(show.show_id) == seq


async def test_who_knows_a_seat_map_already_hears_where_the_show_is_and_no_more(
    reader: ClaimReader, journal: PostgresJournal
) -> None:
    show = make_show("known map")
    nothing = SeatMapSnapshot(0, {}, {}, {}, {})
    assert await reader.seat_map_since(show.show_id, 0) == ((0, 0), None)
    assert await reader.seat_map_since(show.show_id, -1) == ((0, 0), nothing)
    await journal.activate(show)
    for batch in RandomLife(show, 3).batches(5):
        seq = await journal.append(show.show_id, batch)
        assert await reader.seat_map_since(show.show_id, seq) == ((1, seq), None)
        news = await reader.seat_map_since(show.show_id, seq - 1)
        assert news == ((1, seq), await reader.seat_map(show.show_id))


async def test_a_seat_map_of_a_show_that_nobody_asked_for_is_empty(reader: ClaimReader) -> None:
    show_id = make_show("quiet").show_id
    assert await reader.seat_map(show_id) == SeatMapSnapshot(0, {}, {}, {}, {})
    assert await reader.version_of(show_id) == 0


async def test_neighbours_do_not_appear_in_a_seat_map(
    reader: ClaimReader, journal: PostgresJournal
) -> None:
    one, other = await open_owner(journal, "one"), await open_owner(journal, "other")
    await one.hold(ANN, "a", 3)
    await other.book(ANN, "a", 4, 5)
    assert (await reader.seat_map(one.show.show_id)).taken == {3: 1}
    assert (await reader.seat_map(other.show.show_id)).taken == {4: 1, 5: 1}


async def test_a_seat_map_is_one_moment_while_the_show_is_selling(
    reader: ClaimReader, journal: PostgresJournal
) -> None:
    show = make_show("busy", legs=4, capacities=(6,))
    life = RandomLife(show, 9)
    await journal.activate(show)
    expected = {0: snapshot_of(life.seat_map, 0)}
    seen = set()
    for seq, batch in enumerate(life.batches(120), start=1):
        expected[seq] = snapshot_of(life.seat_map, seq)
        written = journal.append(show.show_id, batch)
        snapshot = await reader.seat_map(show.show_id)
        assert without_empty_counters(snapshot) == expected[snapshot.seq]
        seen.add(snapshot.seq)
        assert await written == seq
    assert len(seen) > 10


# -- holds and bookings ---------------------------------------------------------------------------


async def find(reader: ClaimReader, hold: Hold) -> tuple[HoldState, BookingState | None]:
    """Find a hold, compare it with the one in memory, and say in which states it is."""
    found = await reader.find_hold(hold.held.hold_id)
    assert found is not None
    assert found.held == hold.held
    assert (found.state, found.ended_at_ms) == (hold.state, hold.ended_at_ms)
    assert found.expires_at_ms == hold.expires_at_ms
    booking = hold.booking
    assert (found.booking and found.booking.confirmed) == (booking and booking.confirmed)
    assert (found.booking and found.booking.state) == (booking and booking.state)
    return found.state, booking and booking.state


async def test_a_hold_is_found_in_each_of_its_states(
    reader: ClaimReader, journal: PostgresJournal
) -> None:
    show = make_show("states", legs=3, capacities=(6, 2))
    life = RandomLife(show, 4)
    await journal.activate(show)
    states = set()
    for number, batch in enumerate(life.batches(60)):
        await journal.append(show.show_id, batch)
        if number % 4 == 0:
            for hold in life.seat_map.holds.values():
                states.add(await find(reader, hold))
    assert states >= {
        (HoldState.HELD, None),
        (HoldState.RELEASED, None),
        (HoldState.EXPIRED, None),
        (HoldState.CONFIRMED, BookingState.CONFIRMED),
        (HoldState.CONFIRMED, BookingState.CANCELLED),
    }
    assert await reader.find_hold(derive_hold_id(show.show_id, ANN, "never asked")) is None


async def test_live_holds_are_listed_for_their_customer_the_first_to_end_at_the_top(
    reader: ClaimReader, journal: PostgresJournal
) -> None:
    one, other = await open_owner(journal, "first"), await open_owner(journal, "second")
    late = await one.hold(ANN, "late", 1)
    other.now_ms -= 60_000
    early = await other.hold(ANN, "early", 1)
    await one.hold(BOB, "stranger", 2)
    await one.book(ANN, "booked", 3)
    one.now_ms -= 3_600_000
    await one.hold(ANN, "over", 4)
    listed = await reader.list_live_holds(ANN)
    assert [hold.held.hold_id for hold in listed] == [early, late]
    assert await reader.list_live_holds(EVE) == []
    assert [h.held.customer_id for h in await reader.list_live_holds(BOB)] == [BOB]


async def all_pages(reader: ClaimReader, customer: CustomerId, limit: int) -> list[list[HoldId]]:
    pages, cursor = [], None
    while True:
        page = await reader.list_bookings(customer, limit=limit, after=cursor)
        pages.append([hold.held.hold_id for hold in page.holds])
        assert {hold.held.customer_id for hold in page.holds} <= {customer}
        assert all(hold.booking is not None for hold in page.holds)
        cursor = page.next
        if cursor is None:
            return pages


@pytest.mark.parametrize("limit", [1, 3, 4, 12, 13, 100])
async def test_bookings_are_paged_the_newest_first_each_once(
    reader: ClaimReader, journal: PostgresJournal, limit: int
) -> None:
    owner = await open_owner(journal, "paged")
    booked: list[tuple[int, str, HoldId]] = []
    for number in range(12):
        # Several bookings in one millisecond: only the id tells them apart.
        owner.now_ms += number % 3 // 2
        event = await owner.book(ANN, str(number), number)
        booked.append((event.at_ms, event.booking_id, event.hold_id))
        await owner.book(BOB, str(number), 20 + number)
    expected = [hold_id for _, _, hold_id in sorted(booked, reverse=True)]
    pages = await all_pages(reader, ANN, limit)
    assert [hold_id for page in pages for hold_id in page] == expected
    assert all(len(page) == limit for page in pages[:-1])
    assert 0 < len(pages[-1]) <= limit


async def test_a_customer_without_bookings_has_one_empty_page(reader: ClaimReader) -> None:
    assert await all_pages(reader, EVE, 5) == [[]]


async def test_a_booking_made_while_somebody_pages_moves_nothing(
    reader: ClaimReader, journal: PostgresJournal
) -> None:
    owner = await open_owner(journal, "moving")
    hold_ids = []
    for number in range(6):
        owner.now_ms += 1
        hold_ids.append((await owner.book(ANN, str(number), number)).hold_id)
    first = await reader.list_bookings(ANN, limit=3, after=None)
    owner.now_ms += 1
    newest = (await owner.book(ANN, "newest", 30)).hold_id
    second = await reader.list_bookings(ANN, limit=3, after=first.next)
    listed = [hold.held.hold_id for page in (first, second) for hold in page.holds]
    assert listed == hold_ids[::-1]
    assert second.next is None
    again = await reader.list_bookings(ANN, limit=1, after=None)
    assert [hold.held.hold_id for hold in again.holds] == [newest]


async def test_pages_are_merged_from_all_databases(
    empty_house: House, application_dsn: str
) -> None:
    dsns = (empty_house.application_dsn, application_dsn)
    shards = ShardMap.even(dsns)
    journals = [PostgresJournal(dsn, "owner") for dsn in dsns]
    rng = random.Random(1)
    booked: list[tuple[int, str, HoldId]] = []
    live: list[tuple[int, HoldId]] = []
    for number in range(8):
        show_id = make_show(f"merged {number}").show_id
        owner = await open_owner(journals[shards.database_of(show_id)], f"merged {number}")
        assert owner.show.show_id == show_id
        owner.now_ms -= rng.randrange(3)
        for seat in range(3):
            event = await owner.book(ANN, str(seat), seat)
            booked.append((event.at_ms, event.booking_id, event.hold_id))
        hold_id = await owner.hold(ANN, "live", 9)
        live.append((owner.seat_map.holds[hold_id].expires_at_ms, hold_id))
    assert {shards.database_of(ShowId("shw_" + b[2][4:20])) for b in booked} == {0, 1}
    async with (
        asyncpg.create_pool(dsns[0], min_size=1, max_size=1) as one,
        asyncpg.create_pool(dsns[1], min_size=1, max_size=1) as two,
    ):
        reader = ClaimReader([one, two], shards)
        expected = [hold_id for _, _, hold_id in sorted(booked, reverse=True)]
        for limit in (5, 24, 100):
            pages = await all_pages(reader, ANN, limit)
            assert [hold_id for page in pages for hold_id in page] == expected
        listed = [hold.held.hold_id for hold in await reader.list_live_holds(ANN)]
        assert listed == [hold_id for _, hold_id in sorted(live)]
        found = await asyncio.gather(*(reader.find_hold(hold_id) for hold_id in expected))
        assert all(found)
    for journal in journals:
        await journal.close()


async def test_a_seat_of_many_riders_is_held_on_each_of_their_legs(
    reader: ClaimReader, journal: PostgresJournal
) -> None:
    show = make_show("riders", legs=5, policy=ROOMY)
    seat_map = SeatMap(show, SeatChooser(show.plan))
    await journal.activate(show)
    for number, (low, high) in enumerate([(0, 1), (1, 3), (4, 5)]):
        hold_id = derive_hold_id(show.show_id, ANN, str(number))
        command = HoldSeats(hold_id, ANN, Segment(low, high), (2,), (), False, "digest")
        held = seat_map.decide(command, await journal.now_ms())
        assert isinstance(held, SeatsHeld)
        seat_map.apply(held)
        await journal.append(show.show_id, [held])
    booked = seat_map.decide(
        ConfirmHold(derive_hold_id(show.show_id, ANN, "1"), ANN, "card"), await journal.now_ms()
    )
    assert isinstance(booked, BookingConfirmed)
    await journal.append(show.show_id, [booked])
    snapshot = await reader.seat_map(show.show_id)
    assert snapshot.taken == {2: 0b10111}
    assert snapshot.held == {2: 0b10001}
