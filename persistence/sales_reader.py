"""What was sold of a show, and to whom: attendee lists, sales figures, blocked and allocated seats.

Bookings live with their show, and names and addresses of customers with the accounts, which is
often another database. So a page of bookings is read first and the names that it needs after it.

Nothing here knows tenants: bookings are read by show, and the caller has made sure that the show is
its tenant's (``OrganiserShows.find``).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import asyncpg
import orjson

from persistence.account_registry import AccountRegistry, Contact
from persistence.queries import load_queries
from persistence.sessions import Pool, reading
from persistence.shards import ShardMap
from reservation.ids import (
    AccountId,
    BookingId,
    ChannelId,
    CustomerId,
    ShowId,
    is_account_id,
    is_booking_id,
    is_show_id,
    show_id_of,
)
from reservation.payment import PaymentState
from reservation.route import Segment
from reservation.seating_plan import SeatingPlan

_QUERIES = load_queries("sales.sql")

ATTENDEES_PER_PAGE_MAX = 1_000
SEATS_PER_PAGE_MAX = 1_000


class AdmissionLine(NamedTuple):
    """Unnumbered places of a booking; ``each_minor`` is what one of them cost."""

    tier_index: int
    place_count: int
    each_minor: int


class AttendeeMoney(NamedTuple):
    """What became of the payment that a booking was made with.

    Shapes:
        price_minor: what was to be paid: places less discount, with fees and taxes.
        refunding_minor: what is on its way back, or about to be.
    """

    state: PaymentState
    price_minor: int
    captured_minor: int
    refunded_minor: int
    refunding_minor: int


@dataclass(frozen=True, slots=True)
class AttendeeRow:
    """One booking and who made it.

    Shapes:
        email, name: None when the customer has no account any more.
        seats: ``(seat_index, amount_minor)`` of each.
        money: None when it was not paid with a payment provider.
    """

    booking_id: BookingId
    customer_id: CustomerId
    email: str | None
    name: str | None
    segment: Segment
    seats: tuple[tuple[int, int], ...]
    admissions: tuple[AdmissionLine, ...]
    payment: str
    amount_minor: int
    confirmed_at_ms: int
    cancelled_at_ms: int | None
    money: AttendeeMoney | None = None


class AttendeePage(NamedTuple):
    """Some bookings by their ids; ``next`` is where to go on, None on the last page."""

    items: tuple[AttendeeRow, ...]
    next: BookingId | None


class PaymentFigures(NamedTuple):
    """Bookings of one way of payment."""

    payment: str
    is_cancelled: bool
    booking_count: int
    seat_count: int
    amount_minor: int


class CategoryFigures(NamedTuple):
    """Places of one category; a seat that is booked for two parts of a route counts twice."""

    category_index: int
    place_count: int
    amount_minor: int


class DayFigures(NamedTuple):
    """Bookings of one day; ``day`` is a date as ISO 8601 writes it."""

    day: str
    booking_count: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class SalesFigures:
    """How a show sells, at one moment.

    Shapes:
        by_payment: cancelled bookings apart. by_category, by_day: without cancelled ones.
        seat_count, admission_count: booked places.
    """

    booking_count: int
    seat_count: int
    admission_count: int
    amount_minor: int
    cancelled_count: int
    cancelled_amount_minor: int
    held_count: int
    held_seat_count: int
    held_admission_count: int
    by_payment: tuple[PaymentFigures, ...]
    by_category: tuple[CategoryFigures, ...]
    by_day: tuple[DayFigures, ...]


class BlockPage(NamedTuple):
    """Blocked seats and why; ``next`` is the seat to go on after, None on the last page."""

    items: tuple[tuple[int, str], ...]
    next: int | None


class AllocationPage(NamedTuple):
    """Seats of channels; ``next`` is the seat to go on after, None on the last page."""

    items: tuple[tuple[int, ChannelId], ...]
    next: int | None


class SalesReader:
    """Reads what a show has sold.

    Raises:
        ShowUnavailable: from every method, when a database that it needs is away.

    Args:
        shard_pools: in the order of the shard map's databases, with the rights of
            ``housefull_application``.
        organiser_pool: the first database, with the rights of ``housefull_organiser``.
    """

    def __init__(self, shard_pools: Sequence[Pool], shards: ShardMap, organiser_pool: Pool) -> None:
        self._pools = shard_pools
        self._shards = shards
        self._accounts = AccountRegistry(organiser_pool)

    async def attendees(
        self, show_id: ShowId, limit: int = 100, after: BookingId | None = None
    ) -> AttendeePage:
        """Bookings of a show by their ids, cancelled ones included.

        Raises:
            ValueError: ``limit`` is not in 1..1000, or ``after`` is no booking of this show.
        """
        if not 1 <= limit <= ATTENDEES_PER_PAGE_MAX:
            raise ValueError(f"limit: not in 1..{ATTENDEES_PER_PAGE_MAX}")
        if after is not None and not (is_booking_id(after) and show_id_of(after) == show_id):
            raise ValueError("after: not a booking of this show")
        if not is_show_id(show_id):
            return AttendeePage((), None)
        start = "hld_" + (show_id if after is None else after)[4:]
        async with reading(self._pool_of(show_id)) as connection:
            records = await connection.fetch(
                _QUERIES["list_bookings_of_show"], show_id, start, limit + 1
            )
        following = records[limit - 1]["booking_id"] if len(records) > limit else None
        records = records[:limit]
        contacts = await self._contacts_of(record["customer_id"] for record in records)
        return AttendeePage(
            tuple(_attendee_of(record, contacts) for record in records),
            None if following is None else BookingId(following),
        )

    async def all_attendees(self, show_id: ShowId) -> AsyncIterator[AttendeeRow]:
        """All bookings of a show by their ids, a page at a time: for exports of any length.

        Each page is a moment of its own, and no connection is kept between two of them.
        """
        after: BookingId | None = None
        while True:
            page = await self.attendees(show_id, ATTENDEES_PER_PAGE_MAX, after)
            for row in page.items:
                yield row
            if page.next is None:
                return
            after = page.next

    async def sales(self, show_id: ShowId, plan: SeatingPlan, time_zone: str) -> SalesFigures:
        """How a show sells.

        Args:
            plan: the show's plan as it is now; it says which category a seat is of.
            time_zone: in which days begin and end.
        """
        async with (
            reading(self._pool_of(show_id)) as connection,
            # One moment for all figures, so that they add up.
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            payments = await connection.fetch(_QUERIES["sum_bookings_by_payment"], show_id)
            days = await connection.fetch(_QUERIES["sum_bookings_by_day"], show_id, time_zone)
            seats = await connection.fetch(_QUERIES["sum_seats"], show_id)
            admissions = await connection.fetch(_QUERIES["sum_admissions"], show_id)
            held = await connection.fetchrow(_QUERIES["sum_live_holds"], show_id)
        assert held is not None, "a sum without groups is one row"
        by_payment = tuple(PaymentFigures(*record.values()) for record in payments)
        booked = [figures for figures in by_payment if not figures.is_cancelled]
        cancelled = [figures for figures in by_payment if figures.is_cancelled]
        return SalesFigures(
            booking_count=sum(figures.booking_count for figures in booked),
            seat_count=sum(figures.seat_count for figures in booked),
            admission_count=sum(record["place_count"] for record in admissions),
            amount_minor=sum(figures.amount_minor for figures in booked),
            cancelled_count=sum(figures.booking_count for figures in cancelled),
            cancelled_amount_minor=sum(figures.amount_minor for figures in cancelled),
            held_count=held["hold_count"],
            held_seat_count=held["seat_count"],
            held_admission_count=held["admission_count"],
            by_payment=by_payment,
            by_category=_by_category(plan, seats, admissions),
            by_day=tuple(DayFigures(*record.values()) for record in days),
        )

    async def blocks(
        self, show_id: ShowId, limit: int = 100, after: int | None = None
    ) -> BlockPage:
        """Blocked seats in their order, and why they are blocked."""
        records = await self._seats("list_blocks_of_show", show_id, limit, after)
        items = tuple((record["seat_index"], record["reason"]) for record in records[:limit])
        return BlockPage(items, items[-1][0] if len(records) > limit else None)

    async def allocations(
        self, show_id: ShowId, limit: int = 100, after: int | None = None
    ) -> AllocationPage:
        """Seats that channels sell, in their order, and whose they are."""
        records = await self._seats("list_allocations_of_show", show_id, limit, after)
        items = tuple(
            (record["seat_index"], ChannelId(record["channel_id"])) for record in records[:limit]
        )
        return AllocationPage(items, items[-1][0] if len(records) > limit else None)

    async def shows_of_channel(self, channel_id: ChannelId) -> list[ShowId]:
        """The shows, of all databases, that a channel has seats of."""
        shows: list[ShowId] = []
        for pool in self._pools:
            async with reading(pool) as connection:
                records = await connection.fetch(_QUERIES["list_shows_of_channel"], channel_id)
            shows += [ShowId(record["show_id"]) for record in records]
        return shows

    async def _seats(
        self, query: str, show_id: ShowId, limit: int, after: int | None
    ) -> list[asyncpg.Record]:
        if not 1 <= limit <= SEATS_PER_PAGE_MAX:
            raise ValueError(f"limit: not in 1..{SEATS_PER_PAGE_MAX}")
        start = -1 if after is None else after
        if not -1 <= start < 2**31 - 1:
            raise ValueError("after: not a seat index")
        async with reading(self._pool_of(show_id)) as connection:
            return await connection.fetch(_QUERIES[query], show_id, start, limit + 1)

    async def _contacts_of(self, customer_ids: Iterable[str]) -> dict[AccountId, Contact]:
        wanted = [AccountId(each) for each in set(customer_ids) if is_account_id(each)]
        return await self._accounts.find_contacts(wanted) if wanted else {}

    def _pool_of(self, show_id: ShowId) -> Pool:
        return self._pools[self._shards.database_of(show_id)]


def _attendee_of(record: asyncpg.Record, contacts: dict[AccountId, Contact]) -> AttendeeRow:
    contact = contacts.get(record["customer_id"])
    return AttendeeRow(
        BookingId(record["booking_id"]),
        CustomerId(record["customer_id"]),
        None if contact is None else contact.email,
        None if contact is None else contact.name,
        Segment(record["from_leg"], record["to_leg"]),
        tuple(zip(record["seats"], record["seat_minor"], strict=True)),
        tuple(AdmissionLine(*line) for line in orjson.loads(record["admissions"])),
        record["payment"],
        record["amount_minor"],
        record["confirmed_at_ms"],
        record["cancelled_at_ms"],
        _money_of(record),
    )


def _money_of(record: asyncpg.Record) -> AttendeeMoney | None:
    if record["payment_state"] is None:
        return None
    return AttendeeMoney(
        PaymentState(record["payment_state"]),
        record["price_minor"],
        record["captured_minor"],
        record["refunded_minor"],
        record["refunding_minor"],
    )


def _by_category(
    plan: SeatingPlan, seats: list[asyncpg.Record], admissions: list[asyncpg.Record]
) -> tuple[CategoryFigures, ...]:
    totals: defaultdict[int, list[int]] = defaultdict(lambda: [0, 0])
    for record in seats:
        total = totals[plan.category_of[record["seat_index"]]]
        total[0] += record["place_count"]
        total[1] += record["amount_minor"]
    for record in admissions:
        total = totals[plan.admission_tiers[record["tier_index"]].category_index]
        total[0] += record["place_count"]
        total[1] += record["amount_minor"]
    return tuple(CategoryFigures(index, *total) for index, total in sorted(totals.items()))
