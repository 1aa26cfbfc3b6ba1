"""A thousand clients want a hundred seats: each seat is sold once, all are sold, nobody is lied to.

The control twins run the same crowd against a step that lets go of the event loop between
deciding and applying. Without the other safeguards it must oversell, or the crowd proves
nothing; with them nothing may be sold twice even then.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from actors.clock import SystemClock
from actors.messages import Reply, Request
from actors.show_actor import ShowActor, _Step
from actors.show_ref import ShowRefs, Submit
from persistence.journal import Journal
from persistence.memory_journal import Entry, MemoryJournal, MemoryStore
from persistence.postgres_journal import PostgresJournal
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from persistence.store import Part
from persistence.verification import verify_shows
from reservation.commands import Command, HoldBestAvailable, ReleaseHold, Wish, digest_request
from reservation.events import BookingConfirmed, HoldReleased, SeatsHeld
from reservation.faults import Diverged, Fault, NotDone, OutcomeUnknown
from reservation.ids import CustomerId, ShowId, derive_hold_id
from reservation.occupancy import Occupancy
from reservation.rejections import Rejected
from reservation.route import Route
from reservation.seat_map import Outcome, Repeated
from reservation.show import Placement, Show
from tests.conftest import House
from tests.support.house import Shelf, audit, confirm, end_tickers, hold, make_plan, make_show

SEATS = 100
CLIENTS = 1_000
CALLING_PROCESSES = 4
DEADLINE_MS = 60_000
RUNS = range(20)
RUNS_IN_MEMORY = [
    run if run < 5 else pytest.param(run, marks=pytest.mark.slow_faults) for run in RUNS
]
"""Fewer by default: twenty of twenty is promised of what is in Postgres afterwards."""


class Crowd:
    """A thousand clients of one show, and what they were told."""

    def __init__(
        self,
        actor: ShowActor,
        show: Show,
        seed: int,
        *,
        attempts_max: int = 10_000,
    ) -> None:
        self._show_id = show.show_id
        self._random = random.Random(seed)
        self._attempts_max = attempts_max
        self._refs = [_refs_to(actor) for _ in range(CALLING_PROCESSES)]
        self.booked: list[tuple[int, str]] = []
        self.rejected = 0
        self.released = 0
        self.faults: list[Fault] = []

    async def rush(self) -> None:
        """Let all of them loose at once; ends when nobody wants anything any more."""
        clients = list(range(CLIENTS))
        self._random.shuffle(clients)
        async with asyncio.TaskGroup() as crowd:
            for number in clients:
                crowd.create_task(self._client(number))

    async def _client(self, number: int) -> None:
        customer = f"client {number}"
        wanted = self._random.randrange(SEATS)
        held = await self._ask(number, hold(self._show_id, wanted, customer=customer))
        attempt = 0
        while len(self.booked) < SEATS and attempt < self._attempts_max:
            if isinstance(held, SeatsHeld):
                if attempt == 0 and number % 7 == 0:
                    await self._let_go(number, held)
                elif await self._pay(number, held):
                    return
            elif isinstance(held, Rejected):
                self.rejected += 1
            else:
                return
            attempt += 1
            held = await self._ask(number, self._any_seat(customer, attempt))

    async def _let_go(self, number: int, held: SeatsHeld) -> None:
        released = await self._ask(number, ReleaseHold(held.hold_id, held.customer_id))
        self.released += isinstance(released, HoldReleased)

    async def _pay(self, number: int, held: SeatsHeld) -> bool:
        booking = await self._ask(number, confirm(held))
        if isinstance(booking, BookingConfirmed):
            self.booked.append((held.seat_indexes[0], booking.booking_id))
            return True
        return False

    def _any_seat(self, customer: str, attempt: int) -> HoldBestAvailable:
        customer_id = CustomerId(customer)
        return HoldBestAvailable(
            derive_hold_id(self._show_id, customer_id, f"attempt {attempt}"),
            customer_id,
            Route().whole,
            Wish(1),
            digest_request("any"),
        )

    async def _ask(self, number: int, command: Command) -> Outcome | None:
        try:
            return await self._refs[number % CALLING_PROCESSES].ask(self._show_id, command)
        except (NotDone, OutcomeUnknown) as fault:
            self.faults.append(fault)
            return None


def _refs_to(actor: ShowActor) -> ShowRefs:
    async def locate(_: ShowId) -> str:
        return "the only one"

    async def connect(_: str) -> Submit:
        return actor.submit

    return ShowRefs(locate, connect, ask_deadline_ms=DEADLINE_MS)


def start_actor(
    show: Show, journal: Journal, actor_class: type[ShowActor] = ShowActor
) -> ShowActor:
    return actor_class(
        "show:race",
        Placement.DEDICATED,
        Shelf(show),
        journal,
        SystemClock(),
        passivate_after_ms=600_000,
        mailbox_commands_max=4_096,
    )


@pytest.fixture(autouse=True)
async def _tickers_end() -> AsyncIterator[None]:
    yield
    await end_tickers()


def assert_sold_out_once(crowd: Crowd) -> None:
    assert crowd.faults == []
    assert len(crowd.booked) == SEATS
    assert len({seat for seat, _ in crowd.booked}) == SEATS
    assert crowd.rejected > 0, "without losers there was no race"
    assert crowd.released > 0


@pytest.mark.parametrize("run", RUNS_IN_MEMORY)
async def test_a_hundred_seats_are_sold_once_each_in_memory(run: int) -> None:
    show, store = make_show(f"memory race {run}", plan=make_plan(SEATS)), MemoryStore()
    crowd = Crowd(start_actor(show, MemoryJournal(store)), show, seed=run)
    await crowd.rush()
    assert_sold_out_once(crowd)
    auditor = audit(show, store)
    assert auditor.faults == []
    booked = [book.confirmed for book in auditor.books.holds.values() if book.confirmed]
    assert {confirmed.booking_id for confirmed in booked} == {
        booking_id for _, booking_id in crowd.booked
    }


@pytest.mark.parametrize("run", RUNS)
async def test_a_hundred_seats_are_sold_once_each_on_postgres(run: int, empty_house: House) -> None:
    show = make_show(f"postgres race {run}", plan=make_plan(SEATS))
    journal = PostgresJournal(empty_house.application_dsn, f"race#{run}")
    crowd = Crowd(start_actor(show, journal), show, seed=run)
    await crowd.rush()
    assert_sold_out_once(crowd)
    assert await _booked_in(empty_house, show) == sorted(crowd.booked)
    await end_tickers()
    await journal.close()


async def _booked_in(house: House, show: Show) -> list[tuple[int, str]]:
    """What Postgres has sold, once everything in it has been found to agree."""
    pool = await open_pool(house.superuser_dsn, "race", size_max=1)
    try:
        async for verdict in verify_shows([pool], ShardMap.even((house.superuser_dsn,))):
            assert verdict.show_id == show.show_id
            assert verdict.faults == []
        rows = await pool.fetch(
            "SELECT seats, booking_id FROM hold JOIN booking USING (hold_id)"
            " WHERE cancelled_at_ms IS NULL"
        )
        return sorted((seat, row["booking_id"]) for row in rows for seat in row["seats"])
    finally:
        await pool.close()


# -- control twins --------------------------------------------------------------------------------


class HesitantActor(ShowActor):
    """A show actor that does what must not be done: it awaits between decide and apply."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.bad_news: list[Fault] = []

    async def submit(self, requests: Sequence[Request]) -> Reply:
        missing = {show_id for show_id, _ in requests if show_id not in self._live}
        faults = await self._activate_all(missing) if missing else {}
        step = _Step([], {}, {}, set(), {})
        for show_id, command in requests:
            live = self._live.get(show_id)
            if live is None:
                step.answers.append(faults.get(show_id, NotDone("it reloads")))
                continue
            outcome = live.seat_map.decide(command, self._clock.now_ms())
            await asyncio.sleep(0)
            if not isinstance(outcome, Rejected | Repeated):
                live._happened(outcome)
            step.answers.append(outcome)
            step.touched[show_id] = live
        for show_id, live in step.touched.items():
            if self._append(show_id, live):
                step.written.add(show_id)
            step.tails[show_id] = live.tail
        bad_news = await self._wait_durable(step)
        self.bad_news.extend(bad_news.values())
        return self._reply(requests, step, bad_news)


class CarelessStore(MemoryStore):
    """A store that writes down what it is told."""

    def write(self, parts: Sequence[Part]) -> None:
        for part in parts:
            stored = self._shows[part.show_id]
            stored.seq = part.seq
            stored.entries.append(Entry(part.seq, part.epoch, tuple(part.events)))


@pytest.fixture
def careless_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away the assertion with which memory notices that it sells a seat twice."""

    def claim(occupancy: Occupancy, seat_indexes: Sequence[int], mask: int) -> None:
        for index in seat_indexes:
            occupancy.taken[index] |= mask

    def release(occupancy: Occupancy, seat_indexes: Sequence[int], mask: int) -> None:
        for index in seat_indexes:
            occupancy.taken[index] &= ~mask

    monkeypatch.setattr(Occupancy, "claim", claim)
    monkeypatch.setattr(Occupancy, "release", release)


@pytest.mark.usefixtures("careless_memory")
async def test_control_an_await_between_decide_and_apply_oversells() -> None:
    show, store = make_show("control", plan=make_plan(SEATS)), CarelessStore()
    actor = start_actor(show, MemoryJournal(store), HesitantActor)
    crowd = Crowd(actor, show, seed=1, attempts_max=3)
    await crowd.rush()
    sold = Counter(seat for seat, _ in crowd.booked)
    assert max(sold.values()) > 1
    assert any("takes what" in fault.what for fault in audit(show, store).faults)


@pytest.mark.usefixtures("careless_memory")
async def test_control_the_same_crowd_is_served_right_without_the_await() -> None:
    """What oversells above is the await, not the missing assertion or the careless store."""
    show, store = make_show("control", plan=make_plan(SEATS)), CarelessStore()
    crowd = Crowd(start_actor(show, MemoryJournal(store)), show, seed=1)
    await crowd.rush()
    assert_sold_out_once(crowd)
    assert audit(show, store).faults == []


@pytest.mark.usefixtures("careless_memory")
async def test_control_postgres_sells_no_seat_twice_even_for_an_actor_that_oversells(
    empty_house: House,
) -> None:
    show = make_show("control on postgres", plan=make_plan(SEATS))
    journal = PostgresJournal(empty_house.application_dsn, "hesitant")
    actor = start_actor(show, journal, HesitantActor)
    assert isinstance(actor, HesitantActor)
    crowd = Crowd(actor, show, seed=1, attempts_max=3)
    rush = asyncio.ensure_future(crowd.rush())
    async with asyncio.timeout(60):
        while not any(isinstance(news, Diverged) for news in actor.bad_news):
            assert not rush.done(), "the race was not met"
            await asyncio.sleep(0.01)
    # Of an actor that never gets anything right, a patient crowd would ask for ever.
    await asyncio.wait([rush], timeout=0.5)
    rush.cancel()
    await asyncio.wait([rush])
    booked = await _booked_in(empty_house, show)
    assert len({seat for seat, _ in booked}) == len(booked)
    assert set(crowd.booked) <= set(booked)
    await journal.close()
