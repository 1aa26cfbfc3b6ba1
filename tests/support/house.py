"""Shows, customers and actors for tests: everything between a seating plan and an answer."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Sequence

from actors.clock import Clock, ManualClock
from actors.messages import Reply, Request
from actors.seat_map_publisher import Publisher
from actors.show_actor import ShowActor
from persistence.journal import Journal
from persistence.memory_journal import MemoryJournal, MemoryStore
from persistence.plan_codec import plan_id_of
from reservation.audit import AuditFault, Auditor, JournalEntry
from reservation.commands import Command, ConfirmHold, ExtendHold, HoldSeats, digest_request
from reservation.events import Arrangement, SeatsHeld
from reservation.fares import CategoryFare, FareTable
from reservation.faults import Fault
from reservation.ids import CustomerId, HoldId, ShowId, derive_hold_id, derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.route import Route
from reservation.seat_map import Outcome
from reservation.seating_plan import SeatingPlan
from reservation.show import OrphanRule, Placement, SalesPolicy, Show
from tests.support.plans import build_plan

STARTS_AT_MS = 1_900_000_000_000

GENEROUS = SalesPolicy(
    orphan_rule=OrphanRule.OFF, seats_per_customer_max=10**6, live_holds_per_customer_max=10**6
)
"""No limit per customer, no opinion about orphan seats: what is left is who comes first."""

_numbers = itertools.count(1)


def make_plan(seat_count: int = 100) -> SeatingPlan:
    """Rows of ten, and a tier of 50 unnumbered places."""
    full, rest = divmod(seat_count, 10)
    rows = [("Stalls", str(row + 1), 10, ()) for row in range(full)]
    if rest:
        rows.append(("Stalls", str(full + 1), rest, ()))
    return build_plan(rows, admission_tiers=[("floor", 50)])


def make_show(
    name: str = "hamlet",
    *,
    plan: SeatingPlan | None = None,
    policy: SalesPolicy = GENEROUS,
    placement: Placement = Placement.DEDICATED,
) -> Show:
    """A show of one leg."""
    plan = plan or make_plan()
    fares = FareTable("EUR", tuple(CategoryFare(1_000) for _ in plan.categories))
    return Show(derive_show_id(name), plan, Route(), fares, policy, placement)


def make_listing(name: str, show: Show) -> ShowListing:
    """The same show as the catalogue lists it; ``name`` is what ``make_show`` was given."""
    return ShowListing(
        show_id=show.show_id,
        source_key=name,
        kind=ShowKind.PERFORMANCE,
        title=name,
        venue="Theatre",
        starts_at_ms=STARTS_AT_MS,
        ends_at_ms=STARTS_AT_MS,
        service_day_at_ms=STARTS_AT_MS,
        time_zone="UTC",
        plan_id=plan_id_of(show.plan),
        route_id=None,
        fares=show.fares,
        placement=show.placement,
        policy=show.policy,
    )


def hold(
    show_id: ShowId, *seat_indexes: int, customer: str = "ann", key: str | None = None
) -> HoldSeats:
    """A new command every time, unless ``key`` says that it is the same one."""
    customer_id = CustomerId(customer)
    return HoldSeats(
        hold_id=derive_hold_id(show_id, customer_id, key or f"key {next(_numbers)}"),
        customer_id=customer_id,
        segment=Route().whole,
        seat_indexes=seat_indexes,
        admissions=(),
        or_nearest=False,
        request_digest=digest_request(seat_indexes),
    )


def confirm(held: HoldSeats | SeatsHeld) -> ConfirmHold:
    """Pay for a hold."""
    return ConfirmHold(held.hold_id, held.customer_id, "counter")


def extend(held: HoldSeats | SeatsHeld) -> ExtendHold:
    """Ask for more time."""
    return ExtendHold(held.hold_id, held.customer_id)


class Shelf:
    """A ``ShowSource`` in memory."""

    def __init__(self, *shows: Show) -> None:
        self.shows = {show.show_id: show for show in shows}
        self.loads = 0

    async def load_show(self, show_id: ShowId) -> Show | None:
        self.loads += 1
        await asyncio.sleep(0)
        return self.shows.get(show_id)


class SlowJournal(MemoryJournal):
    """A memory journal that can also say that its store has been silent."""

    silence_ms = 0

    @property
    def stalled_ms(self) -> int:
        return self.silence_ms


class MemoryHouse:
    """A store in memory and any number of actors on it, with one clock for all."""

    def __init__(self, *shows: Show, clock: Clock | None = None) -> None:
        self.shelf = Shelf(*(shows or (make_show(),)))
        self.store = MemoryStore()
        self.clock = clock or ManualClock()
        self.journals: list[SlowJournal] = []

    def start_actor(
        self,
        *,
        placement: Placement = Placement.DEDICATED,
        mailbox_commands_max: int = 4_096,
        on_idle: Callable[[], None] = lambda: None,
        journal: Journal | None = None,
        actor_class: type[ShowActor] = ShowActor,
        publisher: Publisher | None = None,
    ) -> ShowActor:
        """One more incarnation, with a journal of its own."""
        if journal is None:
            self.journals.append(SlowJournal(self.store, now_ms=self.clock.now_ms()))
            journal = self.journals[-1]
        return actor_class(
            "show:test",
            placement,
            self.shelf,
            journal,
            self.clock,
            passivate_after_ms=60_000,
            mailbox_commands_max=mailbox_commands_max,
            on_idle=on_idle,
            publisher=publisher,
        )

    def events(self, show_id: ShowId) -> list[object]:
        """Everything that is durable, in order."""
        return [event for entry in self.store.entries(show_id) for event in entry.events]

    def audit(self, show_id: ShowId) -> Auditor:
        """The auditor after it has read everything that is durable."""
        return audit(self.shelf.shows[show_id], self.store)


def audit(show: Show, store: MemoryStore) -> Auditor:
    """Let the auditor read a show's journal."""
    capacities = [tier.capacity for tier in show.plan.admission_tiers]
    auditor = Auditor(show.route.leg_count, show.plan.seat_count, capacities)
    auditor.replay(
        JournalEntry(entry.seq, entry.epoch, 0, list(entry.events))
        for entry in store.entries(show.show_id)
    )
    return auditor


def faults_of(auditor: Auditor) -> list[AuditFault]:
    """What the auditor found."""
    return auditor.faults


async def ask(actor: ShowActor, show_id: ShowId, command: Command) -> Outcome | Fault:
    """One command alone."""
    return (await ask_all(actor, show_id, [command]))[0]


async def ask_all(
    actor: ShowActor, show_id: ShowId, commands: Iterable[Command]
) -> list[Outcome | Fault]:
    """Several commands as one batch."""
    # Whoever waits for what never comes shall fail, and not hang.
    async with asyncio.timeout(20):
        return (await actor.submit([(show_id, command) for command in commands])).answers


async def turn(times: int = 20) -> None:
    """Let everything happen that needs no time to pass."""
    for _ in range(times):
        await asyncio.sleep(0)


async def end_tickers() -> None:
    """Every actor starts a ticker, and nobody stops the actors of a test."""
    tickers = [
        task
        for task in asyncio.all_tasks()
        if getattr(task.get_coro(), "__qualname__", "") == "ShowActor._tick_forever"
    ]
    for ticker in tickers:
        ticker.cancel()
    await asyncio.gather(*tickers, return_exceptions=True)


async def until(holds: Callable[[], bool], *, timeout_s: float = 10) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - the thing waited for knows nothing of an event.
            await asyncio.sleep(0.02)


class FakeActor:
    """A ``Submit`` whose answers a test decides."""

    def __init__(self, epoch: int = 1) -> None:
        self.epoch = epoch
        self.batches: list[list[Request]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.faults: list[Exception] = []
        self.answer: Callable[[Request], Outcome | Fault] = lambda request: _held(request[1])

    async def __call__(self, requests: Sequence[Request]) -> Reply:
        self.batches.append(list(requests))
        await self.gate.wait()
        if self.faults:
            raise self.faults.pop(0)
        await asyncio.sleep(0)
        return Reply(
            [self.answer(request) for request in requests],
            {show_id: self.epoch for show_id, _ in requests},
        )

    @property
    def commands(self) -> list[Command]:
        """Everything that arrived, in order."""
        return [command for batch in self.batches for _, command in batch]


def _held(command: Command) -> SeatsHeld:
    assert isinstance(command, HoldSeats)
    return SeatsHeld(
        command.hold_id,
        command.customer_id,
        command.segment,
        command.seat_indexes,
        tuple(1_000 for _ in command.seat_indexes),
        (),
        Arrangement.NAMED,
        0,
        1,
        command.request_digest,
    )


def hold_ids(events: Iterable[object]) -> list[HoldId]:
    """The holds that were made, in order."""
    return [event.hold_id for event in events if isinstance(event, SeatsHeld)]


SHOW = make_show("hamlet")
NEIGHBOUR = make_show("macbeth")
ID = SHOW.show_id


def clock_of(house: MemoryHouse) -> ManualClock:
    """The clock of a house that has a manual one."""
    assert isinstance(house.clock, ManualClock)
    return house.clock
