"""What happens in one seed: shows, clients that want seats, faults, and the healing.

for ``STORY_MS``      clients ask, faults happen: those kinds of them that the seed chose
healing               every fault stops; stopped processes go on, zombies end
afterwards            whoever was left without an answer asks again with the same command,
                      until the answer is certain; then all holds are left to expire
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from actors.show_ref import ShowRefs
from reservation.commands import (
    AllocateSeats,
    BlockSeats,
    CancelBooking,
    CancelShow,
    CloseChannel,
    Command,
    ConfirmHold,
    DeallocateSeats,
    ExtendHold,
    HoldBestAvailable,
    HoldFromChannel,
    HoldSeats,
    ReleaseHold,
    UnblockSeats,
    Wish,
    digest_request,
)
from reservation.events import BookingConfirmed, HeldFromChannel, SeatsHeld
from reservation.fares import CategoryFare, FareTable
from reservation.faults import Fault, NotDone
from reservation.ids import ChannelId, CustomerId, HoldId, ShowId, booking_id_of, derive_hold_id
from reservation.rejections import Rejected
from reservation.route import Segment
from reservation.seat_map import Outcome, Repeated
from reservation.show import OrphanRule, SalesPolicy, Show
from tests.simulation.world import Process, World
from tests.support.histories import make_show
from tests.support.history_checker import History

STORY_MS = 4_000
CLIENTS_MAX = 4
ATTEMPTS_AFTER_HEALING_MAX = 40

CHANNELS = (ChannelId("chn_fans"), ChannelId("chn_press"))
REVISION_MINOR = 100_000
"""How much dearer each revision of a show is: a price tells by which facts it was decided."""

REVISIONS_WITH_SEATS_MAX = 2


@cache
def show_of(name: str, rows: tuple[int, ...], legs: int, places: int, ttl_ms: int) -> Show:
    """One of the shows that stories are about; made once, they never change."""
    policy = SalesPolicy(
        hold_ttl_ms=ttl_ms,
        hold_life_ms_max=2 * ttl_ms,
        live_holds_per_customer_max=3,
        seats_per_customer_max=7,
        orphan_rule=OrphanRule.OFF,
    )
    return make_show(
        name, rows=rows, legs=legs, capacities=(places,) if places else (), policy=policy
    )


def draw_shows(chance: random.Random) -> list[Show]:
    """One show, or sometimes two that share their owner."""
    count = 1 if chance.random() < 0.75 else 2
    return [
        show_of(
            f"story {number}",
            chance.choice(((4,), (3, 2), (5, 3))),
            chance.randint(1, 3),
            chance.choice((0, 0, 3)),
            chance.choice((1_000, 1_500, 2_500)),
        )
        for number in range(count)
    ]


def revision_of(show: Show) -> int:
    """How often the show has been changed."""
    return show.fares.fares[0].base_minor // REVISION_MINOR


def revise(show: Show, rows: tuple[int, ...]) -> Show:
    """The show, dearer, and in its first revisions with a row of one more seat."""
    revision = revision_of(show) + 1
    rows = (*rows, *(1,) * min(revision, REVISIONS_WITH_SEATS_MAX))
    plan = make_show("revised", rows=rows, legs=show.route.leg_count).plan
    plan = replace(plan, admission_tiers=show.plan.admission_tiers)
    (fare,) = show.fares.fares
    dearer = CategoryFare(fare.base_minor + REVISION_MINOR, fare.leg_minor)
    return replace(show, plan=plan, fares=FareTable(show.fares.currency, (dearer,)))


class Renewal(NamedTuple):
    """A show was changed in the catalogue, and its owner was let know.

    ``told`` says when that was done; see ``World.next_order``.
    """

    show_id: ShowId
    revision: int
    told: int


class Desk:
    """A calling process: refs, the clients behind it, and a record of what they hear."""

    def __init__(self, world: World, process: Process, history: History) -> None:
        self.world = world
        self.process = process
        self.history = history
        self.refs: ShowRefs
        self.orders: dict[int, tuple[int, int]] = {}
        self.hang_up = 0.0
        self.shelf: dict[ShowId, Show]
        self.offers: dict[tuple[ShowId, ChannelId], tuple[int, ...]]
        self.renewals: list[Renewal] = []

    async def ask(self, show: Show, command: Command) -> Outcome | Fault | None:
        """Ask and write down; None when the caller hung up before there was an answer."""
        world = self.world
        number = self.history.asked(self.process.name, show.show_id, command, _exact_ms(world))
        asked = world.next_order()
        answer: Outcome | Fault | None
        question = asyncio.ensure_future(self.refs.ask(show.show_id, command))
        try:
            if world.random.random() < self.hang_up:
                await asyncio.wait({question}, timeout=world.random.uniform(0, 0.2))
                if not question.done():
                    world.faults["caller hangs up"] += 1
                    question.cancel()
            answer = await question
        except asyncio.CancelledError:
            answer = None
        except Fault as fault:
            answer = fault
        self.orders[number] = (asked, world.next_order())
        self.history.told(number, answer, _exact_ms(world))
        world.outcomes[_name_of(answer)] += 1
        if world.log is not None:
            world.say(f"{self.process.name} {number}: {command} -> {_show(answer)}")
        return answer

    async def change(self, show: Show) -> None:
        """Change a show as an organiser does: first the catalogue, then its owner."""
        world = self.world
        now = self.shelf[show.show_id]
        rows = tuple(row.end - row.first for row in show.plan.rows)
        self.shelf[show.show_id] = changed = revise(now, rows)
        try:
            await self.refs.renew(show.show_id)
        except Fault as fault:
            world.outcomes[f"renewal: {type(fault).__name__}"] += 1
            return
        world.outcomes["renewal: done"] += 1
        self.renewals.append(Renewal(show.show_id, revision_of(changed), world.next_order()))


class Customer:
    """What somebody has and wants; two clients of one customer are two windows of a browser."""

    def __init__(self, name: str) -> None:
        self.customer_id = CustomerId(name)
        self.count = 0
        self.held: list[tuple[Show, SeatsHeld]] = []
        self.booked: list[tuple[Show, HoldId]] = []
        self.asked: list[tuple[Show, Command]] = []


class Client:
    """Somebody who asks on behalf of a customer, or with ``is_staff`` blocks seats.

    ``repeats`` is how often they ask for what they have asked for before.
    """

    def __init__(
        self,
        customer: Customer,
        desk: Desk,
        shows: list[Show],
        *,
        is_staff: bool,
        repeats: float,
    ) -> None:
        self.customer = customer
        self._customer_id = customer.customer_id
        self.desk = desk
        self._shows = shows
        self._random = random.Random(desk.world.random.random())
        self._is_staff = is_staff
        # Most stories are about what customers do to each other.
        self._cancels = is_staff and self._random.random() < 0.1
        self._changes = is_staff and self._random.random() < 0.5
        self._allocates = is_staff and self._random.random() < 0.6
        self._repeats = repeats
        self._blocked: list[tuple[Show, tuple[int, ...]]] = []
        self._doubts: list[tuple[Show, Command]] = []
        self.has_stopped = False
        self.is_done = False
        self.is_stuck = False

    async def live(self, until_us: int, quiet_ms: int) -> None:
        """Want things until it is over, in rushes with ``quiet_ms`` between them."""
        world = self.desk.world
        await asyncio.sleep(self._random.uniform(0, 1.0))
        while world.now_us < until_us:
            if self._changes and self._random.random() < 0.2:
                await self.desk.change(self._random.choice(self._shows))
            else:
                await self._do(*self._choose())
            in_a_rush = self._random.random() < 0.5
            pause_ms = self._random.uniform(0, 30 if in_a_rush else quiet_ms)
            await asyncio.sleep(pause_ms / 1_000)
        self.has_stopped = True

    async def settle(self) -> None:
        """After the healing: ask again, with the same command, until nothing is in doubt."""
        for show, command in self._doubts:
            for _ in range(ATTEMPTS_AFTER_HEALING_MAX):
                answer = await self.desk.ask(show, command)
                if answer is not None and not isinstance(answer, Fault):
                    self._learn(show, command, answer)
                    break
                await asyncio.sleep(0.1)
            else:
                self.is_stuck = True
        self.is_done = True

    async def _do(self, show: Show, command: Command) -> None:
        self.customer.asked.append((show, command))
        answer = await self.desk.ask(show, command)
        while _is_doubtful(answer) and self._random.random() < 0.6:
            await asyncio.sleep(self._random.uniform(0, 0.3))
            answer = await self.desk.ask(show, self._again(command))
        if _is_doubtful(answer):
            self._doubts.append((show, command))
        elif answer is not None and not isinstance(answer, Fault):
            self._learn(show, command, answer)

    def _again(self, command: Command) -> Command:
        """The same command: that is what the house asks of its callers."""
        return command

    def _learn(self, show: Show, command: Command, answer: Outcome) -> None:
        event = answer.event if isinstance(answer, Repeated) else answer
        event = event.held if isinstance(event, HeldFromChannel) else event
        if isinstance(event, SeatsHeld):
            self.customer.held.append((show, event))
        elif isinstance(event, BookingConfirmed):
            self.customer.booked.append((show, event.hold_id))
        elif isinstance(command, AllocateSeats) and not isinstance(answer, Rejected):
            self.desk.offers[show.show_id, command.channel_id] = command.seat_indexes
        elif isinstance(command, BlockSeats) and not isinstance(answer, Rejected):
            self._blocked.append((show, command.seat_indexes))

    # -- what to ask for ------------------------------------------------------------------

    def _choose(self) -> tuple[Show, Command]:
        chance = self._random
        if self._is_staff:
            return self._choose_block()
        choice = chance.random()
        if self.customer.asked and chance.random() < self._repeats:
            return chance.choice(self.customer.asked[-4:])
        if self.customer.held and choice < 0.50:
            show, held = chance.choice(self.customer.held[-3:])
            keys = (held.hold_id, held.customer_id)
            kind = chance.random()
            if kind < 0.35:
                return show, ConfirmHold(*keys, "card")
            if kind < 0.65:
                return show, ReleaseHold(*keys)
            return show, ExtendHold(*keys)
        if self.customer.booked and choice < 0.62:
            show, hold_id = chance.choice(self.customer.booked)
            return show, CancelBooking(booking_id_of(hold_id), self._customer_id)
        return self._choose_claim()

    def _choose_claim(self) -> tuple[Show, Command]:
        show, claim = self._choose_plain_claim()
        channel_id = self._random.choice(CHANNELS)
        offer = self.desk.offers.get((show.show_id, channel_id))
        if offer is None or self._random.random() < 0.5:
            return show, claim
        if self._random.random() < 0.7:
            seats = tuple(sorted(self._random.sample(offer, self._random.randint(1, len(offer)))))
            digest = digest_request(seats, claim.segment, channel_id)
            claim = HoldSeats(
                claim.hold_id, self._customer_id, claim.segment, seats, (), False, digest
            )
        return show, HoldFromChannel(channel_id, claim)

    def _choose_plain_claim(self) -> tuple[Show, HoldSeats | HoldBestAvailable]:
        chance = self._random
        show = chance.choice(self._shows)
        self.customer.count += 1
        hold_id = derive_hold_id(show.show_id, self._customer_id, str(self.customer.count))
        low, high = sorted(chance.sample(range(show.route.leg_count + 1), 2))
        segment = Segment(low, high)
        if self.customer.held and chance.random() < 0.03:
            of_show, held = chance.choice(self.customer.held)
            # The same id with another content: a client with a bug of its own.
            return of_show, HoldSeats(
                held.hold_id, self._customer_id, held.segment, (0,), (), False, "other"
            )
        if chance.random() < 0.2:
            wish = Wish(chance.randint(1, 2))
            digest = digest_request(wish, segment)
            return show, HoldBestAvailable(hold_id, self._customer_id, segment, wish, digest)
        # Callers know the newest plan, perhaps before the owner does.
        seat_count = self.desk.shelf[show.show_id].plan.seat_count
        seats = tuple(sorted(chance.sample(range(seat_count), chance.choice((1, 1, 2)))))
        admissions: tuple[tuple[int, int], ...] = ()
        if show.plan.admission_tiers and chance.random() < 0.4:
            admissions = ((0, chance.randint(1, 2)),)
            seats = seats if chance.random() < 0.5 else ()
        or_nearest = bool(seats) and chance.random() < 0.2
        digest = digest_request(seats, segment, admissions, or_nearest)
        return show, HoldSeats(
            hold_id, self._customer_id, segment, seats, admissions, or_nearest, digest
        )

    def _choose_block(self) -> tuple[Show, Command]:
        chance = self._random
        if self._cancels and chance.random() < 0.05:
            return chance.choice(self._shows), CancelShow("storm")
        if self._allocates and chance.random() < 0.6:
            return self._choose_allocation()
        if self._blocked and chance.random() < 0.6:
            show, seats = self._blocked.pop(chance.randrange(len(self._blocked)))
            return show, UnblockSeats(seats)
        show = chance.choice(self._shows)
        seats = tuple(sorted(chance.sample(range(show.plan.seat_count), chance.choice((1, 1, 2)))))
        return show, BlockSeats(seats, "repair")

    def _choose_allocation(self) -> tuple[Show, Command]:
        chance, channel_id = self._random, self._random.choice(CHANNELS)
        show = chance.choice(self._shows)
        seats = tuple(sorted(chance.sample(range(show.plan.seat_count), chance.choice((1, 1, 2)))))
        choice = chance.random()
        if choice < 0.1:
            return show, CloseChannel(channel_id)
        if choice < 0.3:
            return show, DeallocateSeats(channel_id, seats)
        return show, AllocateSeats(channel_id, seats)


def _exact_ms(world: World) -> float:
    return world.now_ms + world.now_us % 1_000 / 1_000


def _is_doubtful(answer: Outcome | Fault | None) -> bool:
    return answer is None or (isinstance(answer, Fault) and not isinstance(answer, NotDone))


def _name_of(answer: Outcome | Fault | None) -> str:
    if answer is None:
        return "unknown: hung up"
    if isinstance(answer, NotDone):
        return f"not done: {type(answer).__name__}"
    if isinstance(answer, Fault):
        return "unknown: OutcomeUnknown"
    if isinstance(answer, Rejected):
        return f"rejected: {answer.code.value}"
    if isinstance(answer, Repeated):
        return f"repeated: {type(answer.event).__name__}"
    return f"event: {type(answer).__name__}"


def _show(answer: Outcome | Fault | None) -> str:
    return repr(answer) if answer is not None else "(hung up)"
