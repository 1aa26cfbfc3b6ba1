"""What organisers read about the sale: bookings in one database, and who made them in another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from persistence.account_registry import AccountRegistry
from persistence.migrate import ACCOUNTS_GROUP, ORGANISER_GROUP
from persistence.postgres_journal import PostgresJournal
from persistence.sales_reader import (
    AdmissionLine,
    CategoryFigures,
    DayFigures,
    PaymentFigures,
    SalesReader,
)
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from reservation.commands import (
    AllocateSeats,
    BlockSeats,
    CancelBooking,
    Command,
    ConfirmHold,
    HoldSeats,
)
from reservation.events import BookingConfirmed, Event
from reservation.fares import CategoryFare, FareTable
from reservation.faults import ShowUnavailable
from reservation.ids import (
    BookingId,
    ChannelId,
    CustomerId,
    ShowId,
    derive_hold_id,
    derive_show_id,
)
from reservation.rejections import Rejected
from reservation.route import Route, Segment, Stop
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Repeated, SeatMap
from reservation.seating_plan import SeatingPlan
from reservation.show import OrphanRule, SalesPolicy, Show
from tests.conftest import House
from tests.support.plans import build_plan

SHARDS = ShardMap.even(("first", "second"))
CHANNEL = ChannelId("chn_" + "a" * 20)
STRANGER = CustomerId("somebody from before there were accounts")
ROOMY = SalesPolicy(
    orphan_rule=OrphanRule.OFF, live_holds_per_customer_max=10_000, seats_per_customer_max=10_000
)
PLAN = build_plan(
    [("S", "A", 40, ())],
    categories=("Stalls", "Circle"),
    category_of=lambda seat: seat % 2,
    admission_tiers=[("floor", 50)],
)
FARES = FareTable("EUR", (CategoryFare(1000), CategoryFare(600)))
TWO_LEGS = Route(
    tuple(
        Stop(code, code, position * 600, position * 600, position)
        for position, code in enumerate("ABC")
    )
)


def name_in(database: int) -> ShowId:
    """A show that lives in this one of the two databases."""
    names = (derive_show_id(f"show {number}") for number in range(1000))
    return next(name for name in names if SHARDS.database_of(name) == database)


class SaleHouse(NamedTuple):
    reader: SalesReader
    accounts: AccountRegistry
    journals: list[PostgresJournal]


@pytest.fixture
async def house(empty_house: House, application_dsn: str) -> AsyncIterator[SaleHouse]:
    """The accounts are in the first database; shows are in both."""
    dsns = (empty_house.application_dsn, application_dsn)
    journals = [PostgresJournal(dsn, f"owner-{number}") for number, dsn in enumerate(dsns)]
    async with (
        await open_pool(dsns[0], "first", size_max=2) as first,
        await open_pool(dsns[1], "second", size_max=2) as second,
        await open_pool(dsns[0], "organiser", size_max=2, role=ORGANISER_GROUP) as organiser,
        await open_pool(dsns[0], "accounts", size_max=1, role=ACCOUNTS_GROUP) as accounts,
    ):
        reader = SalesReader([first, second], SHARDS, organiser)
        yield SaleHouse(reader, AccountRegistry(accounts), journals)
    for journal in journals:
        await journal.close()


class Sale:
    """A show on sale whose every command is durable before the next one."""

    def __init__(self, show: Show, journal: PostgresJournal, now_ms: int) -> None:
        self.show_id = show.show_id
        self.now_ms = now_ms
        self._whole = show.route.whole
        self._seat_map = SeatMap(show, SeatChooser(show.plan))
        self._journal = journal

    async def do(self, command: Command) -> Event:
        event = self._seat_map.decide(command, self.now_ms)
        assert not isinstance(event, Rejected | Repeated), event
        self._seat_map.apply(event)
        await self._journal.append(self.show_id, [event])
        return event

    async def hold(
        self,
        customer: CustomerId,
        *seats: int,
        floor: int = 0,
        segment: Segment | None = None,
    ) -> Event:
        key = f"{seats} {floor} {segment}"
        hold_id = derive_hold_id(self.show_id, customer, key)
        admissions = ((0, floor),) if floor else ()
        return await self.do(
            HoldSeats(hold_id, customer, segment or self._whole, seats, admissions, False, key)
        )

    async def book(
        self,
        customer: CustomerId,
        *seats: int,
        floor: int = 0,
        segment: Segment | None = None,
        payment: str = "card",
    ) -> BookingId:
        await self.hold(customer, *seats, floor=floor, segment=segment)
        hold_id = derive_hold_id(self.show_id, customer, f"{seats} {floor} {segment}")
        event = await self.do(ConfirmHold(hold_id, customer, payment))
        assert isinstance(event, BookingConfirmed)
        return event.booking_id


async def open_sale(
    house: SaleHouse,
    database: int = 1,
    *,
    plan: SeatingPlan = PLAN,
    route: Route | None = None,
    fares: FareTable = FARES,
) -> Sale:
    show = Show(name_in(database), plan, route or Route(), fares, ROOMY)
    journal = house.journals[database]
    await journal.activate(show)
    return Sale(show, journal, await journal.now_ms())


async def customer(house: SaleHouse, name: str) -> CustomerId:
    account_id = await house.accounts.sign_up(f"{name}@example.org", "x" * 60, name.title(), 1)
    assert account_id is not None
    return CustomerId(account_id)


# --- attendees


@pytest.mark.parametrize("database", [0, 1])
async def test_every_booking_comes_with_who_made_it(house: SaleHouse, database: int) -> None:
    sale = await open_sale(house, database)
    ann, bob = await customer(house, "ann"), await customer(house, "bob")
    first = await sale.book(ann, 0, 1, floor=2)
    second = await sale.book(bob, 2, payment="counter")
    third = await sale.book(STRANGER, 3)
    await sale.do(CancelBooking(second, bob))
    await sale.hold(ann, 9)
    page = await house.reader.attendees(sale.show_id)
    assert page.next is None
    rows = {row.booking_id: row for row in page.items}
    assert set(rows) == {first, second, third}
    row = rows[first]
    assert (row.customer_id, row.email, row.name) == (ann, "ann@example.org", "Ann")
    assert row.seats == ((0, 1000), (1, 600))
    assert row.admissions == (AdmissionLine(0, 2, 1000),)
    assert (row.segment, row.payment, row.amount_minor) == (Segment(0, 1), "card", 3600)
    assert row.confirmed_at_ms == sale.now_ms
    assert row.cancelled_at_ms is None
    assert (rows[second].payment, rows[second].cancelled_at_ms) == ("counter", sale.now_ms)
    assert (rows[third].email, rows[third].name) == (None, None)


async def test_attendees_are_paged_by_booking_and_all_are_streamed(house: SaleHouse) -> None:
    sale = await open_sale(house)
    ann = await customer(house, "ann")
    booked = sorted([await sale.book(ann, seat) for seat in range(23)])
    found: list[BookingId] = []
    after: BookingId | None = None
    while True:
        page = await house.reader.attendees(sale.show_id, 5, after)
        found += [row.booking_id for row in page.items]
        if page.next is None:
            break
        assert len(page.items) == 5
        after = page.next
    assert found == booked
    streamed = [row.booking_id async for row in house.reader.all_attendees(sale.show_id)]
    assert streamed == booked


async def test_an_export_of_more_than_a_page_misses_nobody(
    house: SaleHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("persistence.sales_reader.ATTENDEES_PER_PAGE_MAX", 4)
    sale = await open_sale(house)
    booked = sorted([await sale.book(STRANGER, seat) for seat in range(12)])
    assert [row.booking_id async for row in house.reader.all_attendees(sale.show_id)] == booked


async def test_a_show_sees_nothing_of_another_one(house: SaleHouse) -> None:
    first, second = await open_sale(house, 0), await open_sale(house, 1)
    booking = await first.book(STRANGER, 1)
    assert (await house.reader.attendees(second.show_id)).items == ()
    assert (await house.reader.sales(second.show_id, PLAN, "UTC")).booking_count == 0
    with pytest.raises(ValueError, match=r"^after: not a booking of this show"):
        await house.reader.attendees(second.show_id, after=booking)
    for limit in (0, 1001):
        with pytest.raises(ValueError, match=r"^limit: "):
            await house.reader.attendees(first.show_id, limit)


# --- figures


async def test_figures_add_up(house: SaleHouse) -> None:
    sale = await open_sale(house)
    await sale.book(STRANGER, 0, 1, floor=3)
    await sale.book(STRANGER, 2, payment="counter")
    await sale.do(CancelBooking(await sale.book(STRANGER, 4, 5), STRANGER))
    await sale.hold(STRANGER, 6, 7, 8, floor=4)
    figures = await house.reader.sales(sale.show_id, PLAN, "UTC")
    assert (figures.booking_count, figures.seat_count, figures.admission_count) == (2, 3, 3)
    assert figures.amount_minor == 1000 + 600 + 3 * 1000 + 1000
    assert (figures.cancelled_count, figures.cancelled_amount_minor) == (1, 1600)
    assert (figures.held_count, figures.held_seat_count, figures.held_admission_count) == (1, 3, 4)
    assert figures.by_payment == (
        PaymentFigures("card", False, 1, 2, 4600),
        PaymentFigures("card", True, 1, 2, 1600),
        PaymentFigures("counter", False, 1, 1, 1000),
    )
    assert figures.by_category == (
        CategoryFigures(0, 5, 5000),
        CategoryFigures(1, 1, 600),
    )
    assert sum(category.amount_minor for category in figures.by_category) == figures.amount_minor
    assert [day.booking_count for day in figures.by_day] == [2]


async def test_days_begin_at_midnight_of_the_shows_own_clock(house: SaleHouse) -> None:
    sale = await open_sale(house)
    # 30 June 2026, 22:30 UTC is half past midnight in Prague.
    sale.now_ms = 1_782_858_600_000
    await sale.book(STRANGER, 0)
    for zone, day in (("UTC", "2026-06-30"), ("Europe/Prague", "2026-07-01")):
        figures = await house.reader.sales(sale.show_id, PLAN, zone)
        assert figures.by_day == (DayFigures(day, 1, 1000),)


async def test_a_seat_that_is_sold_twice_on_a_route_counts_twice(house: SaleHouse) -> None:
    fares = FareTable("EUR", (CategoryFare(100, (10, 20)), CategoryFare(50)))
    sale = await open_sale(house, route=TWO_LEGS, fares=fares)
    await sale.book(STRANGER, 0, segment=Segment(0, 1))
    await sale.book(STRANGER, 0, segment=Segment(1, 2))
    figures = await house.reader.sales(sale.show_id, PLAN, "UTC")
    assert figures.by_category == (CategoryFigures(0, 2, 230),)
    assert figures.seat_count == 2


async def test_a_show_that_nobody_has_asked_for_has_sold_nothing(house: SaleHouse) -> None:
    figures = await house.reader.sales(name_in(0), PLAN, "UTC")
    assert (figures.booking_count, figures.amount_minor, figures.by_payment) == (0, 0, ())
    assert (await house.reader.attendees(name_in(0))).items == ()
    assert (await house.reader.blocks(name_in(0))).items == ()


# --- seats that are off sale


async def test_blocks_and_allocations_are_listed_in_the_order_of_seats(house: SaleHouse) -> None:
    sale = await open_sale(house)
    await sale.do(BlockSeats((3, 5, 7), "camera"))
    await sale.do(BlockSeats((4,), "broken"))
    await sale.do(AllocateSeats(CHANNEL, (10, 12, 14)))
    page = await house.reader.blocks(sale.show_id, 3)
    assert page.items == ((3, "camera"), (4, "broken"), (5, "camera"))
    assert await house.reader.blocks(sale.show_id, 3, page.next) == (((7, "camera"),), None)
    allocated = await house.reader.allocations(sale.show_id, 2)
    assert allocated.items == ((10, CHANNEL), (12, CHANNEL))
    assert await house.reader.allocations(sale.show_id, 2, allocated.next) == (
        ((14, CHANNEL),),
        None,
    )
    other = await open_sale(house, 0)
    await other.do(AllocateSeats(CHANNEL, (1,)))
    assert sorted(await house.reader.shows_of_channel(CHANNEL)) == sorted(
        [sale.show_id, other.show_id]
    )
    assert await house.reader.shows_of_channel(ChannelId("chn_" + "b" * 20)) == []
    for limit, after in ((0, None), (1001, None), (1, 2**31), (1, -2)):
        with pytest.raises(ValueError, match=r"^(limit|after): "):
            await house.reader.blocks(sale.show_id, limit, after)


async def test_a_database_that_is_away_is_a_fault(house: SaleHouse) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/none"
    async with await open_pool(nowhere, "away", size_max=1) as pool:
        reader = SalesReader([pool], ShardMap.even(("only",)), pool)
        with pytest.raises(ShowUnavailable):
            await reader.attendees(name_in(0))
