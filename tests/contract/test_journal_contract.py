"""What every journal promises (``persistence/journal.py``), in memory and on Postgres."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Protocol

import asyncpg
import pytest

from persistence.codec import decode_events
from persistence.journal import Activation, Journal
from persistence.memory_journal import MemoryJournal, MemoryStore
from persistence.payments import Payments
from persistence.postgres_journal import PostgresJournal
from persistence.sessions import open_pool
from reservation.audit import Auditor, JournalEntry
from reservation.checkout import Checkout
from reservation.commands import CancelBooking, ConfirmHold, ExtendHold, ReleaseHold
from reservation.events import (
    Arrangement,
    BookingCancelled,
    BookingConfirmed,
    Event,
    HeldFromChannel,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    HoldsForgotten,
    SeatsAllocated,
    SeatsBlocked,
    SeatsDeallocated,
    SeatsHeld,
    SeatsUnblocked,
    ShowCancelled,
)
from reservation.faults import Diverged, Fault, Fenced, PlanTooSmall
from reservation.hold import HoldState
from reservation.ids import (
    ChannelId,
    CustomerId,
    HoldId,
    PaymentId,
    booking_id_of,
    derive_hold_id,
)
from reservation.payment import CaptureMode, Payment, PaymentState
from reservation.refund_terms import RefundTerms
from reservation.route import Segment
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import SeatMap
from reservation.show import Show
from tests.support.histories import RandomLife, make_show
from tests.support.stored_payments import begun, new_payment, read
from tests.support.transcript import assert_books_agree, replayed, state_of

Rows = list[tuple[int, int, list[Event]]]
ANN = CustomerId("cus_ann")
AT_MS = 1_700_000_000_000
LEGS = 3
SHOW = make_show("hall", legs=LEGS, capacities=(4, 2))
OTHER = make_show("neighbour", legs=2)
FANS, PRESS = ChannelId("chn_fans"), ChannelId("chn_press")


class Store(Protocol):
    """What survives a journal, and any number of journals on it."""

    def open(self) -> Journal:
        """Another journal, as another process has."""
        ...

    def held_back(self, journal: Journal, *shows: Show) -> AbstractAsyncContextManager[None]:
        """Inside, nothing that is appended to these shows becomes durable."""
        ...

    async def rows(self, show: Show) -> Rows:
        """(seq, epoch, events) of a show's journal."""
        ...

    async def put_payment(self, payment: Payment) -> None:
        """Bring a payment that nothing was booked with to where it is now."""
        ...

    async def payment(self, payment_id: PaymentId) -> Payment:
        """A payment as it is stored."""
        ...


class InMemory:
    def __init__(self) -> None:
        self._store = MemoryStore()

    def open(self) -> Journal:
        return MemoryJournal(self._store)

    @asynccontextmanager
    async def held_back(self, journal: Journal, *shows: Show) -> AsyncIterator[None]:
        assert isinstance(journal, MemoryJournal)
        journal.gate.clear()
        yield
        journal.gate.set()

    async def rows(self, show: Show) -> Rows:
        return [(e.seq, e.epoch, list(e.events)) for e in self._store.entries(show.show_id)]

    async def put_payment(self, payment: Payment) -> None:
        self._store.payments.put(payment)

    async def payment(self, payment_id: PaymentId) -> Payment:
        payment = self._store.payments.find(payment_id)
        assert payment is not None
        return payment


class OnPostgres:
    def __init__(self, application_dsn: str, superuser: asyncpg.Connection[asyncpg.Record]) -> None:
        self._dsn = application_dsn
        self._superuser = superuser
        self.journals: list[PostgresJournal] = []

    def open(self) -> Journal:
        journal = PostgresJournal(self._dsn, f"contract#{len(self.journals)}")
        self.journals.append(journal)
        return journal

    @asynccontextmanager
    async def held_back(self, journal: Journal, *shows: Show) -> AsyncIterator[None]:
        ids = [show.show_id for show in shows]
        async with self._superuser.transaction():
            await self._superuser.execute(
                "SELECT FROM show_owner WHERE show_id = ANY ($1) ORDER BY show_id FOR UPDATE", ids
            )
            yield

    async def rows(self, show: Show) -> Rows:
        records = await self._superuser.fetch(
            "SELECT seq, epoch, events FROM journal WHERE show_id = $1 ORDER BY seq", show.show_id
        )
        return [(row[0], row[1], decode_events(row[2])) for row in records]

    async def put_payment(self, payment: Payment) -> None:
        async with self._payments() as payments:
            first = replace(payment, state=PaymentState.CREATED, captured_minor=0, version=0)
            stored = await begun(payments, first)
            assert await payments.save(stored.checkout, Checkout(payment)) is not None

    async def payment(self, payment_id: PaymentId) -> Payment:
        async with self._payments() as payments:
            return (await read(payments, payment_id)).payment

    @asynccontextmanager
    async def _payments(self) -> AsyncIterator[Payments]:
        pool = await open_pool(self._dsn, "contract payments", size_max=1)
        yield Payments(pool)
        await pool.close()


@pytest.fixture(params=["memory", "postgres"])
def dsns(request: pytest.FixtureRequest) -> tuple[str, str] | None:
    """The database to use; none for the store in memory, which needs no server."""
    return None if request.param == "memory" else request.getfixturevalue("empty_house")


@pytest.fixture
async def store(dsns: tuple[str, str] | None) -> AsyncIterator[Store]:
    if dsns is None:
        yield InMemory()
        return
    superuser_dsn, application_dsn = dsns
    superuser = await asyncpg.connect(superuser_dsn)
    store = OnPostgres(application_dsn, superuser)
    yield store
    for journal in store.journals:
        await journal.close()
    await superuser.close()


# -- building events ------------------------------------------------------------------------------


def hold_id(number: int, show: Show = SHOW) -> HoldId:
    return derive_hold_id(show.show_id, ANN, str(number))


def held(
    number: int,
    *seats: int,
    segment: tuple[int, int] = (0, 1),
    places: tuple[tuple[int, int], ...] = (),
    show: Show = SHOW,
) -> SeatsHeld:
    return SeatsHeld(
        hold_id(number, show),
        ANN,
        Segment(*segment),
        seats,
        (1_000,) * len(seats),
        tuple((tier, count, 50) for tier, count in places),
        Arrangement.NAMED,
        AT_MS,
        AT_MS + 10_000,
        f"digest {number}",
    )


def extended(number: int) -> HoldExtended:
    return HoldExtended(hold_id(number), AT_MS + 20_000)


def released(number: int) -> HoldReleased:
    return HoldReleased(hold_id(number), AT_MS + 2_000)


def expired(number: int) -> HoldExpired:
    return HoldExpired(hold_id(number), AT_MS + 30_000)


def confirmed(number: int) -> BookingConfirmed:
    booking_id = booking_id_of(hold_id(number))
    return BookingConfirmed(hold_id(number), booking_id, ANN, "card", 1_000, AT_MS + 3_000)


def cancelled(number: int) -> BookingCancelled:
    return BookingCancelled(hold_id(number), booking_id_of(hold_id(number)), AT_MS + 4_000)


def blocked(*seats: int) -> SeatsBlocked:
    return SeatsBlocked(seats, "repair", AT_MS)


def unblocked(*seats: int) -> SeatsUnblocked:
    return SeatsUnblocked(seats, AT_MS + 1)


def forgotten(*numbers: int) -> HoldsForgotten:
    return HoldsForgotten(tuple(hold_id(number) for number in numbers))


def restore(show: Show, activation: Activation) -> SeatMap:
    """The map as an actor would have it; its claims must be those that the store counted."""
    seat_map = SeatMap(show, SeatChooser(show.plan))
    seat_map.restore(
        activation.holds, activation.blocked, activation.allocated, activation.cancelled
    )
    assert seat_map.occupancy.claimed_seat_legs() == activation.claimed_seat_legs
    assert seat_map.occupancy.claimed_place_legs() == activation.claimed_place_legs
    return seat_map


def map_after(show: Show, events: Sequence[Event]) -> SeatMap:
    return replayed(SeatMap(show, SeatChooser(show.plan)), events)


async def fault_of(future: asyncio.Future[int]) -> Fault:
    with pytest.raises(Fault) as raised:
        await future
    return raised.value


# -- epochs and sequence numbers ------------------------------------------------------------------


async def test_every_activation_takes_the_next_epoch_and_knows_how_far_the_journal_is(
    store: Store,
) -> None:
    one, two = store.open(), store.open()
    first = await one.activate(SHOW)
    assert (first.epoch, first.seq) == (1, 0)
    assert (list(first.holds), list(first.blocked)) == ([], [])
    assert await one.append(SHOW.show_id, [held(1, 0)]) == 1
    assert await one.append(SHOW.show_id, [held(2, 1)]) == 2
    second = await two.activate(SHOW)
    assert (second.epoch, second.seq) == (2, 2)
    assert await two.append(SHOW.show_id, [released(1)]) == 3
    third = await two.activate(SHOW)
    assert (third.epoch, third.seq) == (3, 3)
    assert await store.rows(SHOW) == [
        (1, 1, [held(1, 0)]),
        (2, 1, [held(2, 1)]),
        (3, 2, [released(1)]),
    ]
    assert (await one.activate(OTHER)).epoch == 1


async def test_the_store_has_a_clock(store: Store) -> None:
    assert await store.open().now_ms() > 1_600_000_000_000


async def test_appends_of_one_step_share_a_sequence_number_in_their_order(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await journal.activate(OTHER)
    futures = [journal.append(SHOW.show_id, [held(number, number)]) for number in range(5)]
    futures.append(journal.append(SHOW.show_id, [released(3), extended(4)]))
    neighbour = journal.append(OTHER.show_id, [held(1, 0, show=OTHER)])
    assert await asyncio.gather(*futures) == [1] * 6
    assert await neighbour == 1
    events = [*(held(number, number) for number in range(5)), released(3), extended(4)]
    assert await store.rows(SHOW) == [(1, 1, events)]
    assert await store.rows(OTHER) == [(1, 1, [held(1, 0, show=OTHER)])]


async def test_what_is_appended_while_a_batch_is_under_way_leaves_in_the_next_one(
    store: Store,
) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    async with store.held_back(journal, SHOW):
        first = journal.append(SHOW.show_id, [held(1, 1)])
        await under_way(journal)
        later = [journal.append(SHOW.show_id, [held(number, number)]) for number in (2, 3, 4)]
        assert not first.done()
    assert await first == 1
    assert await asyncio.gather(*later) == [2, 2, 2]
    assert [(seq, len(events)) for seq, _, events in await store.rows(SHOW)] == [(1, 1), (2, 3)]


async def under_way(journal: Journal) -> None:
    """Let the open batch leave. It is held back, so it cannot arrive."""
    await asyncio.sleep(0.05)
    assert journal.waiting_commands


async def test_a_thousand_appends_one_after_another_are_durable_in_order(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    futures = []
    for number in range(200):
        futures.append(journal.append(SHOW.show_id, [held(number, number % 11)]))
        futures.append(journal.append(SHOW.show_id, [released(number)]))
        if number % 7 == 0:
            await asyncio.sleep(0)
    seqs = await asyncio.gather(*futures)
    assert seqs == sorted(seqs)
    rows = await store.rows(SHOW)
    assert [seq for seq, _, _ in rows] == list(range(1, len(rows) + 1))
    stored = [event for _, _, events in rows for event in events]
    assert stored == [event for n in range(200) for event in (held(n, n % 11), released(n))]


# -- what comes back ------------------------------------------------------------------------------

# What was stored before, and what then happens in one batch.
BATCHES: list[tuple[list[Event], list[Event]]] = [
    ([], [held(1, 0, 1, segment=(0, 3), places=((0, 2), (1, 1)))]),
    ([], [held(1, 0), extended(1)]),
    ([], [held(1, 0), released(1)]),
    ([], [held(1, 0), expired(1)]),
    ([], [held(1, 0), extended(1), expired(1)]),
    ([], [held(1, 0, places=((0, 1),)), confirmed(1)]),
    ([], [held(1, 0, places=((0, 1),)), confirmed(1), cancelled(1)]),
    ([], [held(1, 0, places=((0, 4),)), released(1), held(2, 0, places=((0, 4),))]),
    ([], [held(1, 0), confirmed(1), cancelled(1), held(2, 0), confirmed(2)]),
    ([], [held(1, 0, segment=(0, 1)), held(2, 0, segment=(1, 2)), held(3, 0, segment=(2, 3))]),
    ([], [held(1, places=((0, 4),), segment=(0, 2)), held(2, places=((0, 4),), segment=(2, 3))]),
    ([], [blocked(0, 1)]),
    ([], [blocked(0, 1), unblocked(1)]),
    ([], [blocked(0), unblocked(0), blocked(0)]),
    ([], [blocked(0), unblocked(0), held(1, 0)]),
    ([], [held(1, 0), released(1), blocked(0)]),
    ([], [held(1, 0), released(1), forgotten(1)]),
    ([], [held(1, 0), released(1), forgotten(1), held(1, 2)]),
    ([held(1, 0, segment=(0, 3), places=((0, 2),))], [released(1)]),
    ([held(1, 0)], [expired(1)]),
    ([held(1, 0)], [extended(1)]),
    ([held(1, 0)], [extended(1), released(1)]),
    ([held(1, 0)], [extended(1), expired(1)]),
    ([held(1, 0)], [extended(1), confirmed(1)]),
    ([held(1, 0)], [confirmed(1)]),
    ([held(1, 0, segment=(0, 3))], [confirmed(1), cancelled(1)]),
    ([held(1, 0), confirmed(1)], [cancelled(1)]),
    ([held(1, 0), confirmed(1)], [cancelled(1), held(2, 0), confirmed(2)]),
    ([held(1, 0, 1)], [released(1), held(2, 0), held(3, 1)]),
    ([held(1, 0, segment=(0, 3))], [expired(1), held(2, 0, segment=(1, 3)), blocked(4)]),
    ([held(1, 0)], [released(1), blocked(0)]),
    ([held(1, 0)], [released(1), forgotten(1)]),
    ([held(1, 0)], [released(1), forgotten(1), held(1, 0)]),
    ([held(1, 0), released(1)], [forgotten(1)]),
    ([held(1, 0), released(1)], [forgotten(1), held(1, 0), confirmed(1)]),
    ([blocked(0, 1)], [unblocked(0)]),
    ([blocked(0)], [unblocked(0), blocked(0)]),
    ([blocked(0)], [unblocked(0), held(1, 0)]),
    ([blocked(0)], [unblocked(0), held(1, 0), released(1), blocked(0), unblocked(0)]),
    ([held(1, places=((0, 4),))], [released(1), held(2, places=((0, 4),)), confirmed(2)]),
]


def name_of(batch: list[Event]) -> str:
    return "+".join(type(event).__name__ for event in batch) or "nothing"


@pytest.mark.parametrize(("before", "batch"), BATCHES, ids=name_of)
async def test_what_happened_in_one_batch_comes_back(
    store: Store, before: list[Event], batch: list[Event]
) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    if before:
        await journal.append(SHOW.show_id, before)
    await journal.append(SHOW.show_id, batch)
    activation = await store.open().activate(SHOW)
    expected = map_after(SHOW, [*before, *batch])
    assert state_of(restore(SHOW, activation)) == state_of(expected)


@pytest.mark.parametrize("seed", range(4))
async def test_random_lives_come_back_and_their_journals_are_clean(store: Store, seed: int) -> None:
    shows = [make_show(f"life {seed} {n}", legs=1 + 4 * n, capacities=(6, 2)) for n in range(3)]
    lives = [RandomLife(show, seed) for show in shows]
    journal = store.open()
    for show in shows:
        await journal.activate(show)
    batches = [life.batches(40) for life in lives]
    for round_number in range(40):
        futures = [
            journal.append(show.show_id, next(life))
            for show, life in zip(shows, batches, strict=True)
        ]
        # The three shows share a batch; sometimes the next round joins it, too.
        if round_number % 3:
            await asyncio.gather(*futures)
    other = store.open()
    for show, life in zip(shows, lives, strict=True):
        tail = journal.tail(show.show_id)
        if tail is not None:
            await tail
        activation = await other.activate(show)
        assert state_of(restore(show, activation)) == state_of(life.seat_map)
        rows = await store.rows(show)
        assert [event for _, _, events in rows for event in events] == life.history
        assert activation.seq == len(rows)
        capacities = [tier.capacity for tier in show.plan.admission_tiers]
        auditor = Auditor(show.route.leg_count, show.plan.seat_count, capacities)
        auditor.replay(JournalEntry(seq, epoch, 0, events) for seq, epoch, events in rows)
        assert_books_agree(life.seat_map, auditor)


async def test_ended_holds_come_back_in_the_order_they_ended(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [held(n, n) for n in range(1, 6)])
    ends = [(3, 5), (1, 6), (5, 7), (2, 8)]
    await journal.append(
        SHOW.show_id, [HoldReleased(hold_id(n), AT_MS + later) for n, later in ends]
    )
    activation = await journal.activate(SHOW)
    ended = [hold.held.hold_id for hold in activation.holds if hold.ended_at_ms is not None]
    assert ended == [hold_id(n) for n, _ in ends]


async def test_what_came_back_is_answered_for_and_changed_as_if_it_had_never_been_away(
    store: Store,
) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    made: list[Event] = [held(1, 0, places=((0, 1),)), held(2, 1), confirmed(1), confirmed(2)]
    await journal.append(SHOW.show_id, made)
    activation = await journal.activate(SHOW)
    seat_map, expected = restore(SHOW, activation), map_after(SHOW, made)

    late_ms = AT_MS + 5_000
    for command in (
        ConfirmHold(hold_id(1), ANN, "counter"),
        ExtendHold(hold_id(1), ANN),
        ReleaseHold(hold_id(2), ANN),
        CancelBooking(booking_id_of(hold_id(1)), ANN),
    ):
        assert seat_map.decide(command, late_ms) == expected.decide(command, late_ms)

    for each in (seat_map, expected):
        each.apply(cancelled(1))
    assert state_of(seat_map) == state_of(expected)
    repeated = CancelBooking(booking_id_of(hold_id(1)), ANN)
    assert seat_map.decide(repeated, late_ms) == expected.decide(repeated, late_ms)
    await journal.append(SHOW.show_id, [cancelled(1)])
    again = restore(SHOW, await journal.activate(SHOW))
    assert again.occupancy.taken == expected.occupancy.taken
    assert again.occupancy.admitted == expected.occupancy.admitted


# -- fencing --------------------------------------------------------------------------------------


async def test_an_older_epoch_is_fenced_and_nothing_of_it_is_stored(store: Store) -> None:
    old, new = store.open(), store.open()
    await old.activate(SHOW)
    await old.append(SHOW.show_id, [held(1, 0)])
    await new.activate(SHOW)
    assert type(await fault_of(old.append(SHOW.show_id, [held(2, 1)]))) is Fenced
    assert await new.append(SHOW.show_id, [held(3, 1)]) == 2
    # Also the second attempt of the old one fails, until it has activated the show anew.
    assert type(await fault_of(old.append(SHOW.show_id, [held(2, 1)]))) is Fenced
    assert (await old.activate(SHOW)).epoch == 3
    assert await old.append(SHOW.show_id, [held(2, 2)]) == 3
    assert type(await fault_of(new.append(SHOW.show_id, [held(4, 4)]))) is Fenced
    stored = [event for _, _, events in await store.rows(SHOW) for event in events]
    assert stored == [held(1, 0), held(3, 1), held(2, 2)]


async def test_a_show_that_was_never_activated_here_is_fenced(store: Store) -> None:
    journal = store.open()
    assert type(await fault_of(journal.append(SHOW.show_id, [held(1, 0)]))) is Fenced
    await store.open().activate(SHOW)
    assert type(await fault_of(journal.append(SHOW.show_id, [held(1, 0)]))) is Fenced
    assert await store.rows(SHOW) == []


async def test_a_fenced_show_does_not_disturb_its_neighbours_in_the_same_batch(
    store: Store,
) -> None:
    shows = [make_show(f"show {n}") for n in range(5)]
    old, new = store.open(), store.open()
    for show in shows:
        await old.activate(show)
    for show in (shows[1], shows[3]):
        await new.activate(show)
    futures = [old.append(show.show_id, [held(1, 0, show=show)]) for show in shows]
    outcomes = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [int, Fenced, int, Fenced, int]
    assert [len(await store.rows(show)) for show in shows] == [1, 0, 1, 0, 1]
    again = [old.append(show.show_id, [held(2, 1, show=show)]) for show in shows[::2]]
    assert await asyncio.gather(*again) == [2, 2, 2]


async def test_what_was_appended_after_a_failed_batch_fails_with_it(store: Store) -> None:
    old, new = store.open(), store.open()
    await old.activate(SHOW)
    await old.activate(OTHER)
    await new.activate(SHOW)
    async with store.held_back(old, OTHER):
        first = old.append(SHOW.show_id, [held(1, 0)])
        neighbour = old.append(OTHER.show_id, [held(1, 0, show=OTHER)])
        await under_way(old)
        second = old.append(SHOW.show_id, [held(2, 1)])
        third = old.append(SHOW.show_id, [held(3, 2)])
    for future in (first, second, third):
        assert isinstance(await fault_of(future), Fenced)
    assert await neighbour == 1
    assert old.waiting_commands == 0
    assert await store.rows(SHOW) == []


# -- the last line of defence ---------------------------------------------------------------------

# What is stored, and what no owner with a right memory would append then.
CONTRADICTIONS: dict[str, tuple[list[Event], list[Event]]] = {
    "two holds of one seat in one batch": ([], [held(1, 0), held(2, 0)]),
    "two holds of one seat in two batches": ([held(1, 0)], [held(2, 0)]),
    "two holds that share one leg": (
        [held(1, 0, segment=(0, 2))],
        [held(2, 0, segment=(1, 3))],
    ),
    "two holds that share one leg in one batch": (
        [],
        [held(1, 0, segment=(0, 2)), held(2, 0, segment=(1, 3))],
    ),
    "one seat of several": ([held(1, 4)], [held(2, 3, 4, 5)]),
    "a booked seat": ([held(1, 0), confirmed(1)], [held(2, 0)]),
    "a blocked seat": ([blocked(0)], [held(1, 0, segment=(2, 3))]),
    "a block of a held seat": ([held(1, 0, segment=(1, 2))], [blocked(0)]),
    "a block and a hold in one batch": ([], [held(1, 0, segment=(1, 2)), blocked(0)]),
    "a seat blocked twice": ([blocked(0)], [blocked(0)]),
    "a seat twice in one hold": ([], [held(1, 0, 0)]),
    "the same hold twice in one batch": ([], [held(1, 0), held(1, 1)]),
    "a seat beyond the plan": ([], [held(1, 11)]),
    "a seat below zero": ([], [held(1, -1)]),
    "a block beyond the plan": ([], [blocked(11)]),
    "a segment beyond the route": ([], [held(1, 0, segment=(1, LEGS + 1))]),
    "a segment behind the route": ([], [held(1, 0, segment=(LEGS, LEGS + 1))]),
    "an admission beyond the route": (
        [],
        [held(1, segment=(1, LEGS + 1), places=((0, 1),))],
    ),
    "an ended hold beyond the route": ([], [held(1, 0, segment=(0, LEGS + 1)), released(1)]),
    "an oversold tier": ([held(1, places=((0, 3),))], [held(2, places=((0, 2),))]),
    "an oversold tier in one batch": (
        [],
        [held(1, places=((0, 3),)), held(2, places=((0, 2),))],
    ),
    "a tier oversold on one leg": (
        [held(1, places=((1, 2),), segment=(2, 3))],
        [held(2, places=((1, 1),), segment=(0, 3))],
    ),
    "a tier that is not there": ([], [held(1, places=((2, 1),))]),
    "a release of a hold nobody made": ([], [released(1)]),
    "a release twice": ([held(1, 0), released(1)], [released(1)]),
    "a release twice in one batch": ([held(1, 0)], [released(1), released(1)]),
    "a release of a booking": ([held(1, 0), confirmed(1)], [released(1)]),
    "an expiry of a released hold": ([held(1, 0), released(1)], [expired(1)]),
    "a confirmation of a released hold": ([held(1, 0), released(1)], [confirmed(1)]),
    "a confirmation of an expired hold": ([held(1, 0), expired(1)], [confirmed(1)]),
    "a confirmation twice": ([held(1, 0), confirmed(1)], [confirmed(1)]),
    "a confirmation of a hold nobody made": ([], [confirmed(1)]),
    "an extension of a released hold": ([held(1, 0), released(1)], [extended(1)]),
    "an extension of a hold nobody made": ([], [extended(1)]),
    "a cancellation without a booking": ([held(1, 0)], [cancelled(1)]),
    "a cancellation twice": ([held(1, 0), confirmed(1), cancelled(1)], [cancelled(1)]),
    "a cancellation of a new hold without a booking": ([], [held(1, 0), cancelled(1)]),
    "an unblocking of a free seat": ([], [unblocked(0)]),
    "an unblocking of a held seat": ([held(1, 0, segment=(0, LEGS))], [unblocked(0)]),
    "a forgotten hold that is held": ([held(1, 0)], [forgotten(1)]),
    "a forgotten booking": ([held(1, 0), confirmed(1)], [forgotten(1)]),
    "a forgotten hold nobody made": ([], [forgotten(1)]),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
async def test_a_contradiction_is_refused_whatever_its_writer_believes(
    store: Store, name: str
) -> None:
    before, wrong = CONTRADICTIONS[name]
    journal = store.open()
    await journal.activate(SHOW)
    await journal.activate(OTHER)
    if before:
        await journal.append(SHOW.show_id, before)
    refused = journal.append(SHOW.show_id, [held(90, 7), *wrong])
    neighbour = journal.append(OTHER.show_id, [held(1, 0, show=OTHER)])
    assert type(await fault_of(refused)) is Diverged
    assert await neighbour == 1
    # Nothing of it is stored, and the show must be activated before it goes on.
    assert isinstance(await fault_of(journal.append(SHOW.show_id, [held(91, 8)])), Fault)
    activation = await journal.activate(SHOW)
    assert state_of(restore(SHOW, activation)) == state_of(map_after(SHOW, before))
    assert activation.seq == len(await store.rows(SHOW)) == (1 if before else 0)
    assert await journal.append(SHOW.show_id, [held(90, 7)]) == activation.seq + 1


# -- payments -------------------------------------------------------------------------------------

AUTHORISED = replace(new_payment(1, show=SHOW, customer=ANN), state=PaymentState.AUTHORISED)
CAPTURED = replace(
    new_payment(2, show=SHOW, customer=ANN, mode=CaptureMode.AUTOMATIC),
    state=PaymentState.CAPTURED,
    captured_minor=1_000,
)


def paid_with(number: int, payment: Payment) -> BookingConfirmed:
    return confirmed(number)._replace(payment=payment.payment_id)


@pytest.mark.parametrize("payment", [AUTHORISED, CAPTURED], ids=["authorised", "captured"])
@pytest.mark.parametrize("terms", RefundTerms)
@pytest.mark.parametrize("batches", [1, 2, 3])
async def test_a_booking_moves_its_payment_and_so_does_its_cancellation(
    store: Store, payment: Payment, terms: RefundTerms, batches: int
) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await store.put_payment(payment)
    events: list[Event] = [held(1, 0), paid_with(1, payment), cancelled(1)._replace(refund=terms)]
    parts: dict[int, list[list[Event]]] = {
        1: [events],
        2: [events[:2], events[2:]],
        3: [[each] for each in events],
    }
    seen = []
    for part in parts[batches]:
        await journal.append(SHOW.show_id, part)
        seen.append(await store.payment(payment.payment_id))
    booked = PaymentState.BOOKED if payment is AUTHORISED else PaymentState.SETTLED
    assert (seen[-1].state, seen[-1].booking_hold_id) == (booked, hold_id(1))
    assert (seen[-1].refund_terms, seen[-1].cancelled_at_ms) == (terms, AT_MS + 4_000)
    assert seen[-1].due_at_ms == AT_MS + 4_000
    if batches > 1:
        assert (seen[-2].state, seen[-2].cancelled_at_ms) == (booked, None)
        assert seen[-2].due_at_ms == seen[-2].state_at_ms == AT_MS + 3_000
        assert seen[-2].version < seen[-1].version
    activation = await store.open().activate(SHOW)
    assert state_of(restore(SHOW, activation)) == state_of(map_after(SHOW, events))


UNUSABLE = {
    "nobody paid": replace(AUTHORISED, state=PaymentState.OPEN),
    "it is to be voided": replace(AUTHORISED, state=PaymentState.VOID_DUE),
    "it is to be refunded": replace(CAPTURED, state=PaymentState.REFUND_DUE),
    "less was captured": replace(CAPTURED, captured_minor=999),
    "it is of another show": replace(
        new_payment(1, show=OTHER, customer=ANN), state=PaymentState.AUTHORISED
    ),
    "it is another customer's": replace(
        new_payment(1, show=SHOW, customer=CustomerId("cus_bob")), state=PaymentState.AUTHORISED
    ),
    "it is not there": None,
}


@pytest.mark.parametrize("in_one_batch", [False, True])
@pytest.mark.parametrize("why", UNUSABLE)
async def test_a_booking_with_a_payment_that_cannot_be_used_is_refused(
    store: Store, why: str, in_one_batch: bool
) -> None:
    payment = UNUSABLE[why]
    journal = store.open()
    await journal.activate(SHOW)
    await journal.activate(OTHER)
    if payment is not None:
        await store.put_payment(payment)
        before = await store.payment(payment.payment_id)
    wrong = paid_with(1, payment or AUTHORISED)
    if in_one_batch:
        refused = journal.append(SHOW.show_id, [held(1, 0), wrong])
    else:
        await journal.append(SHOW.show_id, [held(1, 0)])
        refused = journal.append(SHOW.show_id, [wrong])
    neighbour = journal.append(OTHER.show_id, [held(1, 0, show=OTHER)])
    assert type(await fault_of(refused)) is Diverged
    assert await neighbour == 1
    stored = map_after(SHOW, [] if in_one_batch else [held(1, 0)])
    assert state_of(restore(SHOW, await journal.activate(SHOW))) == state_of(stored)
    if payment is not None:
        assert await store.payment(payment.payment_id) == before


async def test_one_payment_is_used_once(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await store.put_payment(AUTHORISED)
    await journal.append(SHOW.show_id, [held(1, 0), held(2, 1), held(3, 2)])
    both = journal.append(SHOW.show_id, [paid_with(1, AUTHORISED), paid_with(2, AUTHORISED)])
    assert type(await fault_of(both)) is Diverged
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [paid_with(2, AUTHORISED)])
    third = journal.append(SHOW.show_id, [paid_with(3, AUTHORISED)])
    assert type(await fault_of(third)) is Diverged
    assert (await store.payment(AUTHORISED.payment_id)).booking_hold_id == hold_id(2)


async def test_shows_of_one_batch_are_paid_each_by_its_own_payment(store: Store) -> None:
    shows = [make_show(f"paid {number}") for number in range(4)]
    journal = store.open()
    paid = []
    for show in shows:
        await journal.activate(show)
        payment = new_payment(1, show=show, customer=ANN)
        paid.append(replace(payment, state=PaymentState.AUTHORISED))
        await store.put_payment(paid[-1])
    futures = []
    for show, payment in zip(shows, paid, strict=True):
        claim = held(1, 0, show=show)
        booking_id = booking_id_of(claim.hold_id)
        booked = BookingConfirmed(claim.hold_id, booking_id, ANN, payment.payment_id, 1_000, AT_MS)
        futures.append(journal.append(show.show_id, [claim, booked]))
    assert await asyncio.gather(*futures) == [1] * 4
    for payment in paid:
        assert (await store.payment(payment.payment_id)).state is PaymentState.BOOKED


SECOND_LIVES = {
    "the same hold twice": ([held(1, 0)], [held(1, 1)]),
    "an ended hold again": ([held(1, 0), released(1)], [held(1, 0)]),
}


@pytest.mark.parametrize("name", SECOND_LIVES)
async def test_a_hold_that_is_made_twice_is_noticed_before_anything_becomes_of_it(
    store: Store, name: str
) -> None:
    before, wrong = SECOND_LIVES[name]
    journal = store.open()
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, before)
    try:
        await journal.append(SHOW.show_id, wrong)
    except Diverged:
        pass
    else:
        # Its row is made later, and cannot be.
        assert type(await fault_of(journal.append(SHOW.show_id, [confirmed(1)]))) is Diverged
    assert isinstance(await fault_of(journal.append(SHOW.show_id, [held(91, 8)])), Fault)


# -- waiting, leaving -----------------------------------------------------------------------------


async def test_tail_is_the_newest_append_that_is_not_durable_yet(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await journal.activate(OTHER)
    assert journal.tail(SHOW.show_id) is None
    async with store.held_back(journal, SHOW):
        first = journal.append(SHOW.show_id, [held(1, 0)])
        assert journal.tail(SHOW.show_id) is first
        await under_way(journal)
        assert journal.tail(SHOW.show_id) is first
        second = journal.append(SHOW.show_id, [held(2, 1)])
        assert second is not first
        assert journal.tail(SHOW.show_id) is second
        assert journal.tail(OTHER.show_id) is None
    assert await second == 2
    assert first.result() == 1
    assert journal.tail(SHOW.show_id) is None


async def test_tail_forgets_a_failed_append_even_while_its_neighbours_wait(store: Store) -> None:
    old, new = store.open(), store.open()
    await old.activate(SHOW)
    await old.activate(OTHER)
    await new.activate(SHOW)
    lost = old.append(SHOW.show_id, [held(1, 0)])
    neighbour = old.append(OTHER.show_id, [held(1, 0, show=OTHER)])
    await fault_of(lost)
    assert old.tail(SHOW.show_id) is None
    assert await neighbour == 1
    assert old.tail(OTHER.show_id) is None


async def test_waiting_commands_counts_events_that_are_not_durable(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    assert journal.waiting_commands == 0
    async with store.held_back(journal, SHOW):
        journal.append(SHOW.show_id, [held(1, 0), released(1)])
        assert journal.waiting_commands == 2
        await under_way(journal)
        last = journal.append(SHOW.show_id, [held(2, 0)])
        assert journal.waiting_commands == 3
    await last
    assert journal.waiting_commands == 0
    await fault_of(journal.append(SHOW.show_id, [held(3, 0)]))
    assert journal.waiting_commands == 0
    assert journal.stalled_ms == 0


async def test_somebody_who_stops_waiting_disturbs_nobody(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    async with store.held_back(journal, SHOW):
        future = journal.append(SHOW.show_id, [held(1, 0)])
        waiter = asyncio.ensure_future(_wait(future))
        await under_way(journal)
        waiter.cancel()
        second = journal.append(SHOW.show_id, [held(2, 1)])
    assert await second == 2
    assert future.cancelled()
    assert journal.waiting_commands == 0
    assert [seq for seq, _, _ in await store.rows(SHOW)] == [1, 2]


async def _wait(future: asyncio.Future[int]) -> int:
    # Without a shield, as nobody should, a cancelled waiter cancels the future itself.
    return await future


async def test_a_failure_that_nobody_waits_for_is_no_error_of_the_event_loop(
    store: Store,
) -> None:
    journal = store.open()
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    try:
        future = journal.append(SHOW.show_id, [held(1, 0)])
        await asyncio.wait([future])
        del future
        gc.collect()
        await asyncio.sleep(0)
    finally:
        loop.set_exception_handler(handler)
    assert complaints == []


async def test_lost_names_the_shows_that_a_newer_epoch_owns(store: Store) -> None:
    old, new = store.open(), store.open()
    third = make_show("third")
    await old.activate(SHOW)
    await old.activate(OTHER)
    assert await old.lost([SHOW.show_id, OTHER.show_id]) == set()
    await new.activate(SHOW)
    assert await old.lost([SHOW.show_id, OTHER.show_id, third.show_id]) == {
        SHOW.show_id,
        third.show_id,
    }
    assert await old.lost([]) == set()
    assert await new.lost([SHOW.show_id, OTHER.show_id]) == {OTHER.show_id}


async def test_a_forgotten_show_is_not_owned_any_more(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [held(1, 0)])
    journal.forget(SHOW.show_id)
    journal.forget(SHOW.show_id)
    assert await journal.lost([SHOW.show_id]) == {SHOW.show_id}
    assert isinstance(await fault_of(journal.append(SHOW.show_id, [held(2, 1)])), Fenced)
    activation = await journal.activate(SHOW)
    assert (activation.epoch, activation.seq) == (2, 1)
    assert await journal.append(SHOW.show_id, [held(2, 1)]) == 2


async def test_close_finishes_what_is_in_flight(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    future = journal.append(SHOW.show_id, [held(1, 0)])
    await journal.close()
    assert future.result() == 1


async def test_a_store_hands_out_copies(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [held(1, 0)])
    (hold,) = (await journal.activate(SHOW)).holds
    hold.expires_at_ms = 1
    (again,) = (await journal.activate(SHOW)).holds
    assert again.expires_at_ms == AT_MS + 10_000


# -- changes of a show on sale ---------------------------------------------------------------------


async def test_channels_and_the_end_of_a_show_are_remembered(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    through = HeldFromChannel(FANS, held(1, 0))
    events: list[Event] = [SeatsAllocated(FANS, (0, 1, 2), AT_MS), through]
    await journal.append(SHOW.show_id, events)
    await journal.append(SHOW.show_id, [SeatsDeallocated(FANS, (1,), AT_MS)])
    await journal.append(SHOW.show_id, [SeatsAllocated(PRESS, (1, 3), AT_MS)])
    activation = await journal.activate(SHOW)
    assert sorted(activation.allocated) == [(0, FANS), (1, PRESS), (2, FANS), (3, PRESS)]
    assert activation.claimed_seat_legs == 1, "a channel's free seats are nobody's"
    assert activation.cancelled is None
    assert restore(SHOW, activation).house.channel_of == dict(activation.allocated)
    ended = ShowCancelled("storm", (hold_id(1),), AT_MS + 5)
    await journal.append(SHOW.show_id, [ended])
    activation = await journal.activate(SHOW)
    assert activation.cancelled == ShowCancelled("storm", (), AT_MS + 5)
    assert activation.claimed_seat_legs == 0
    (hold,) = activation.holds
    assert (hold.state, hold.ended_at_ms) == (HoldState.RELEASED, AT_MS + 5)
    _, _, first = (await store.rows(SHOW))[0]
    assert first == [
        SeatsAllocated(FANS, (0, 1, 2), AT_MS),
        through,
    ]


async def test_a_seat_goes_through_many_hands_in_one_batch(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [SeatsAllocated(FANS, (0, 1), AT_MS)])
    await journal.append(
        SHOW.show_id,
        [
            HeldFromChannel(FANS, held(1, 0)),
            released(1),
            SeatsDeallocated(FANS, (0, 1), AT_MS),
            SeatsAllocated(PRESS, (1, 2), AT_MS),
            held(2, 0),
            released(2),
            blocked(0),
            unblocked(0),
            SeatsAllocated(FANS, (0,), AT_MS),
            HeldFromChannel(FANS, held(3, 0)),
            SeatsDeallocated(PRESS, (2,), AT_MS),
        ],
    )
    activation = await journal.activate(SHOW)
    assert sorted(activation.allocated) == [(0, FANS), (1, PRESS)]
    assert activation.claimed_seat_legs == 1
    restore(SHOW, activation)


@pytest.mark.parametrize(
    "event",
    [
        SeatsAllocated(PRESS, (0,), AT_MS),
        SeatsAllocated(PRESS, (10_000,), AT_MS),
        SeatsDeallocated(PRESS, (0,), AT_MS),
        SeatsDeallocated(FANS, (5,), AT_MS),
    ],
    ids=["another's seat", "no seat", "a stranger's seat", "a free seat"],
)
async def test_a_channel_that_memory_has_wrong_diverges(store: Store, event: Event) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [SeatsAllocated(FANS, (0,), AT_MS)])
    assert isinstance(await fault_of(journal.append(SHOW.show_id, [event])), Diverged)
    activation = await journal.activate(SHOW)
    assert (activation.seq, list(activation.allocated)) == (1, [(0, FANS)])


async def test_a_show_is_cancelled_once(store: Store) -> None:
    journal = store.open()
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [ShowCancelled("storm", (), AT_MS)])
    again = ShowCancelled("again", (), AT_MS)
    assert isinstance(await fault_of(journal.append(SHOW.show_id, [again])), Diverged)
    assert (await journal.activate(SHOW)).cancelled == ShowCancelled("storm", (), AT_MS)


async def test_a_fenced_owner_cannot_change_the_sales_of_a_show(store: Store) -> None:
    old, new = store.open(), store.open()
    await old.activate(SHOW)
    await new.activate(SHOW)
    change = SeatsAllocated(FANS, (0,), AT_MS)
    assert isinstance(await fault_of(old.append(SHOW.show_id, [change])), Fenced)
    assert list((await new.activate(SHOW)).allocated) == []


def revised(**changes: object) -> Show:
    return replace(SHOW, plan=make_show("contract", **changes).plan)  # type: ignore[arg-type]


async def test_a_plan_may_grow_while_its_show_is_on_sale(store: Store) -> None:
    journal = store.open()
    seat_count = SHOW.plan.seat_count
    places = [tier.capacity for tier in SHOW.plan.admission_tiers]
    larger = revised(rows=(seat_count, 4), capacities=(*(count + 1 for count in places), 7))
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [held(1, 0, seat_count - 1)])
    assert (await journal.activate(larger)).epoch == 2
    await journal.append(
        SHOW.show_id, [held(2, seat_count, seat_count + 3, places=((len(places), 7),))]
    )
    activation = await journal.activate(larger)
    assert activation.claimed_seat_legs == 4
    restore(larger, activation)
    beyond = journal.append(SHOW.show_id, [held(3, seat_count + 4)])
    assert isinstance(await fault_of(beyond), Diverged)
    taken = journal.append(SHOW.show_id, [held(4, seat_count - 1)])
    assert isinstance(await fault_of(taken), Diverged | Fenced)


async def test_a_plan_that_is_too_small_is_refused_and_changes_nothing(store: Store) -> None:
    journal = store.open()
    large = revised(rows=(6,), capacities=(5, 5))
    await journal.activate(large)
    await journal.append(SHOW.show_id, [held(1, 0, places=((0, 4),))])
    for smaller in (
        revised(rows=(5,), capacities=(5, 5)),
        revised(rows=(6,), capacities=(5,)),
        revised(rows=(6,), capacities=(3, 5)),
    ):
        with pytest.raises(PlanTooSmall):
            await journal.activate(smaller)
    assert await journal.append(SHOW.show_id, [held(2, 1)]) == 2, "it goes on as it was"
    fewer = revised(rows=(6,), capacities=(4, 5))
    assert (await journal.activate(fewer)).epoch == 2
    full = journal.append(SHOW.show_id, [held(3, places=((0, 1),))])
    assert isinstance(await fault_of(full), Diverged)
