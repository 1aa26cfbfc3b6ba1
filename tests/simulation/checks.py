"""What must hold in every world, whatever went wrong in it. Written once, named as in the plan.

I0   no exception that nobody expected
I1   no seat-leg, and no place, is held or sold twice
I2   acknowledged means durable, at that moment and as it was told; nothing else happened
I4   a hold whose show is in memory ends within a second of its deadline, the others soon
I5   no hold ends before its deadline, by the one clock that counts
I6   one id, one answer
I7   one journal: no gap, no replaced epoch, epochs only rise; memory is what a replay gives
I9   what callers saw is true: seats are linearizable, a session never sees time go back
I10  no customer has more than the policy allows
I11  after the healing everybody gets an answer
I12  after a show was renewed nothing is sold by what it was before
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from actors.live_show import LiveShow
from reservation.audit import AuditFault, Auditor, JournalEntry
from reservation.commands import AllocateSeats, CancelBooking, DeallocateSeats, HoldFromChannel
from reservation.events import (
    BookingCancelled,
    BookingConfirmed,
    Event,
    HeldFromChannel,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    SeatsAllocated,
    SeatsBlocked,
    SeatsDeallocated,
    SeatsHeld,
    SeatsUnblocked,
    ShowCancelled,
)
from reservation.hold import HoldState
from reservation.ids import ChannelId, HoldId, hold_id_of
from reservation.rejections import Rejected, Rejection
from reservation.show import Show
from tests.simulation.database import Written
from tests.simulation.hosting import Incarnation
from tests.simulation.story import REVISION_MINOR
from tests.support.history_checker import (
    Operation,
    Violation,
    check_history,
    identity_of,
)
from tests.support.transcript import assert_books_agree, replayed, state_of

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

LATE_MS_MAX = 1_000
WOKEN_WITHIN_MS = 3_000
"""A round of the supervisor, a start and an activation, for a show that is in nobody's memory."""

LOOK_EVERY_MS = 250
CLOCK_STEP_MS = 2
"""Both clocks that measure the age of a proof of ownership cut fractions of a millisecond off."""


def digest(text: str) -> int:
    """A number for a text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big")


def owner_of(simulation: Simulation) -> Incarnation | None:
    """The incarnation that has every show in memory and the right to change it, if there is one."""
    current = simulation.hosting.current
    if current is None or current.actor is None:
        return None
    for show in simulation.shows:
        live = current.actor._live.get(show.show_id)
        if live is None or live.epoch != simulation.database.store.epoch_of(show.show_id):
            return None
        if live.tail is not None:
            return None  # Memory is ahead of the journal for a moment.
    return current


# -- while it happens ----------------------------------------------------------------------


class Watch:
    """Looks into the memory of every owner that runs, now and then."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._world = simulation.world
        self._since_us: dict[int, tuple[LiveShow, int]] = {}
        self._reported: set[HoldId] = set()
        self.violations: list[Violation] = []
        self.healed_at_ms = 0

    def start(self) -> None:
        """Begin to look."""
        self._world.after(LOOK_EVERY_MS, self._look)

    def healed(self) -> None:
        """From now on there is no excuse."""
        self.healed_at_ms = self._world.now_ms

    def _look(self) -> None:
        self._world.after(LOOK_EVERY_MS, self._look)
        for incarnation in self._simulation.hosting.living:
            if incarnation.actor is not None and not incarnation.process.is_stopped:
                for live in incarnation.actor._live.values():
                    self._look_at(incarnation, live)

    def _look_at(self, incarnation: Incarnation, live: LiveShow) -> None:
        now_us = self._world.now_us
        _, since_us = self._since_us.setdefault(id(live), (live, now_us))
        undisturbed_us = now_us - max(since_us, incarnation.process.resumed_at_us)
        if undisturbed_us <= LATE_MS_MAX * 1_000:
            return
        for hold_id, hold in live.seat_map.holds.items():
            if hold.state is not HoldState.HELD or hold_id in self._reported:
                continue
            late_ms = self._world.now_ms - hold.expires_at_ms
            if late_ms > LATE_MS_MAX:
                self._reported.add(hold_id)
                what = f"{hold_id} is {late_ms} ms overdue in memory of {incarnation.process.name}"
                self.violations.append(Violation("I4", what))


# -- afterwards ----------------------------------------------------------------------------


def check_all(simulation: Simulation, watch: Watch) -> tuple[list[Violation], int]:
    """Everything that must hold. Returns the violations, and how many seats stay undecided."""
    violations = [Violation("I0", bug) for bug in simulation.world.bugs]
    violations += watch.violations
    undecided = 0
    # Answers that changed nothing rest on a proof of ownership that may be so old.
    stale_ms = simulation.settings.trusted_ms + CLOCK_STEP_MS
    orders: dict[int, tuple[int, int]] = {}
    for desk in simulation.desks:
        orders.update(desk.orders)
    for client in simulation.clients:
        if not client.has_stopped:
            violations.append(Violation("I0", "a client's life has ended too early"))
        if not client.is_done or client.is_stuck:
            violations.append(Violation("I11", "a client never got a certain answer"))
    for made in simulation.shows:
        show = simulation.hosting.shelf.shows[made.show_id]
        journal = simulation.database.journals.get(show.show_id, [])
        told = [each for each in simulation.history.operations if each.show_id == show.show_id]
        events = [event for row in journal for event in row.events]
        violations += _check_journal(simulation, show, journal)
        violations += _check_ends(journal, watch.healed_at_ms)
        violations += _check_renewals(simulation, show, journal)
        violations += _check_durable_when_told(told, orders, journal)
        violations += _check_refusals(told, orders, journal, show, stale_ms)
        verdict = check_history(told, show, events, stale_ms=stale_ms)
        violations += verdict.violations
        undecided += len(verdict.undecided)
        violations += _check_memory(simulation, show, events)
    return violations, undecided


def _check_journal(
    simulation: Simulation, show: Show, journal: Sequence[Written]
) -> list[Violation]:
    """I1 and I7: the auditor finds no contradiction, and epochs only rise."""
    auditor = _audit(show, journal)
    violations = [Violation(_invariant_of(fault), str(fault)) for fault in auditor.faults]
    taken = simulation.database.epochs_taken.get(show.show_id, [])
    if taken != sorted(set(taken)):
        violations.append(Violation("I7", f"epochs do not rise: {taken}"))
    return violations


def _audit(show: Show, journal: Sequence[Written]) -> Auditor:
    capacities = [tier.capacity for tier in show.plan.admission_tiers]
    auditor = Auditor(show.route.leg_count, show.plan.seat_count, capacities)
    auditor.replay(JournalEntry(row.seq, row.epoch, row.at_ms, list(row.events)) for row in journal)
    return auditor


def _invariant_of(fault: AuditFault) -> str:
    if fault.what.startswith("journal"):
        return "I7"
    return "I5" if "its deadline" in fault.what else "I1"


def _check_ends(journal: Sequence[Written], healed_at_ms: int) -> list[Violation]:
    """I4 and I5: no hold ended too early, by the database's own clock, and none too late."""
    violations: list[Violation] = []
    deadlines: dict[HoldId, int] = {}
    ended: dict[HoldId, int] = {}
    for row in journal:
        for event in map(_unwrapped, row.events):
            if isinstance(event, ShowCancelled):
                ended.update(dict.fromkeys(event.hold_ids, row.at_ms))
            elif isinstance(event, SeatsHeld | HoldExtended):
                deadlines[event.hold_id] = event.expires_at_ms
            elif isinstance(event, HoldExpired | HoldReleased | BookingConfirmed):
                ended[event.hold_id] = row.at_ms
                if isinstance(event, HoldExpired) and row.at_ms < deadlines[event.hold_id]:
                    early_ms = deadlines[event.hold_id] - row.at_ms
                    what = f"{event.hold_id} ended {early_ms} ms before its deadline"
                    violations.append(Violation("I5", what))
    for hold_id, deadline_ms in deadlines.items():
        due_ms = max(deadline_ms, healed_at_ms) + WOKEN_WITHIN_MS
        if hold_id not in ended:
            violations.append(Violation("I4", f"{hold_id} never ended"))
        elif ended[hold_id] > due_ms:
            violations.append(Violation("I4", f"{hold_id} ended {ended[hold_id] - due_ms} ms late"))
    return violations


def _unwrapped(event: Event) -> Event:
    return event.held if isinstance(event, HeldFromChannel) else event


def _check_renewals(
    simulation: Simulation, show: Show, journal: Sequence[Written]
) -> list[Violation]:
    """I12: what is written after a renewal was done has the price of that revision or a later."""
    violations: list[Violation] = []
    renewals = [
        renewal
        for desk in simulation.desks
        for renewal in desk.renewals
        if renewal.show_id == show.show_id
    ]
    for row in journal:
        revision = max((each.revision for each in renewals if each.told < row.order), default=0)
        for event in map(_unwrapped, row.events):
            if isinstance(event, SeatsHeld) and any(
                each // REVISION_MINOR < revision for each in event.seat_minor
            ):
                what = f"{event.hold_id} was sold by what its show was before revision {revision}"
                violations.append(Violation("I12", what))
    return violations


def _check_durable_when_told(
    told: Sequence[Operation], orders: dict[int, tuple[int, int]], journal: Sequence[Written]
) -> list[Violation]:
    """I2: at the moment when somebody is told that something happened, it is durable."""
    written: dict[tuple[type, Event], int] = {}
    for row in journal:
        for event in row.events:
            written.setdefault(identity_of(event), row.order)
            written.setdefault(identity_of(_unwrapped(event)), row.order)
    violations: list[Violation] = []
    for operation in told:
        if operation.event is None:
            continue
        order = written.get(identity_of(operation.event), 0)
        if order > orders[operation.number][1]:
            what = f"told before it was durable: {operation.event}"
            violations.append(Violation("I2", what, (operation.number,)))
    return violations


def _check_memory(simulation: Simulation, show: Show, events: Sequence[Event]) -> list[Violation]:
    """I7: the owner's memory is what a replay of the journal gives."""
    owner = owner_of(simulation)
    if owner is None or owner.actor is None:
        return [Violation("I11", "no owner could be woken")]
    live = owner.actor._live[show.show_id]
    try:
        again = replayed(live.seat_map, events)
        if state_of(again) != state_of(live.seat_map):
            return [Violation("I7", "memory is not what the journal gives")]
        auditor = _audit(show, simulation.database.journals.get(show.show_id, []))
        auditor.faults.clear()
        assert_books_agree(live.seat_map, auditor)
    except (AssertionError, KeyError) as error:
        return [Violation("I7", f"memory is not what the journal gives: {error!r}"[:200])]
    return []


# -- I9: refusals that were true when they were given ---------------------------------------


class _Picture(NamedTuple):
    """The show after one event of the journal.

    Shapes:
        taken: one integer a seat, one bit a leg: held, booked or blocked.
        channel_of: seat -> the channel that it belongs to.
        states: what became of every hold that was made.
    """

    taken: tuple[int, ...]
    blocked: frozenset[int]
    channel_of: dict[int, ChannelId]
    is_cancelled: bool
    states: dict[HoldId, str]


def _pictures(show: Show, journal: Sequence[Written]) -> tuple[list[_Picture], list[Written]]:
    """The show before the first event and after each, and the row each event came with."""
    taken = [0] * show.plan.seat_count
    blocked: set[int] = set()
    channel_of: dict[int, ChannelId] = {}
    is_cancelled = False
    states: dict[HoldId, str] = {}
    held: dict[HoldId, SeatsHeld] = {}
    pictures = [_Picture(tuple(taken), frozenset(), {}, False, {})]
    rows: list[Written] = []
    for row in journal:
        for event in map(_unwrapped, row.events):
            match event:
                case SeatsHeld():
                    held[event.hold_id] = event
                    states[event.hold_id] = "held"
                    for seat in event.seat_indexes:
                        taken[seat] |= event.segment.mask
                case HoldReleased() | HoldExpired() | BookingCancelled():
                    states[event.hold_id] = _STATES[type(event)]
                    made = held[event.hold_id]
                    for seat in made.seat_indexes:
                        taken[seat] &= ~made.segment.mask
                case BookingConfirmed():
                    states[event.hold_id] = "booked"
                case SeatsBlocked():
                    blocked |= set(event.seat_indexes)
                    for seat in event.seat_indexes:
                        taken[seat] |= show.route.whole.mask
                case SeatsUnblocked():
                    blocked -= set(event.seat_indexes)
                    for seat in event.seat_indexes:
                        taken[seat] &= ~show.route.whole.mask
                case SeatsAllocated():
                    channel_of.update(dict.fromkeys(event.seat_indexes, event.channel_id))
                case SeatsDeallocated():
                    for seat in event.seat_indexes:
                        del channel_of[seat]
                case ShowCancelled():
                    is_cancelled = True
                    for hold_id in event.hold_ids:
                        states[hold_id] = "released"
                        for seat in held[hold_id].seat_indexes:
                            taken[seat] &= ~held[hold_id].segment.mask
            pictures.append(
                _Picture(
                    tuple(taken), frozenset(blocked), dict(channel_of), is_cancelled, dict(states)
                )
            )
            rows.append(row)
    return pictures, rows


_STATES: dict[type, str] = {
    HoldReleased: "released",
    HoldExpired: "expired",
    BookingCancelled: "cancelled",
}


def _check_refusals(
    told: Sequence[Operation],
    orders: dict[int, tuple[int, int]],
    journal: Sequence[Written],
    show: Show,
    stale_ms: float,
) -> list[Violation]:
    """I9: at some point between question and answer the journal says what the refusal says.

    An owner may rest on a proof of ownership that is ``stale_ms`` old, but what a session was
    told has happened, it must never be told otherwise.
    """
    refused = [each for each in told if isinstance(each.told, Rejected)]
    if not refused:
        return []
    pictures, rows = _pictures(show, journal)
    place_of = {
        identity_of(event): place
        for place, event in enumerate((e for row in journal for e in row.events), start=1)
    }
    seen = _seen_by_session(told, orders, place_of)
    written_at_ms = [row.at_ms for row in rows]
    written_order = [row.order for row in rows]
    violations: list[Violation] = []
    for operation in refused:
        is_true = _says(operation, show)
        if is_true is None:
            continue
        asked, answered = orders[operation.number]
        first = bisect_left(written_at_ms, operation.asked_at_ms - stale_ms)
        for told_order, place in seen[operation.session]:
            if told_order < asked:
                first = max(first, place)
        last = bisect_right(written_order, answered)
        if not any(is_true(picture) for picture in pictures[first : last + 1]):
            what = f"never so: {operation.told} to {operation.command}"
            violations.append(Violation("I9", what, (operation.number,)))
    return violations


def _seen_by_session(
    told: Sequence[Operation],
    orders: dict[int, tuple[int, int]],
    place_of: dict[tuple[type, Event], int],
) -> defaultdict[str, list[tuple[int, int]]]:
    """For every session when it was told of events, and where in the journal they are."""
    seen: defaultdict[str, list[tuple[int, int]]] = defaultdict(list)
    for operation in told:
        if operation.is_new and operation.event is not None:
            place = place_of.get(identity_of(operation.event), 0)
            seen[operation.session].append((orders[operation.number][1], place))
    return seen


def _says(operation: Operation, show: Show) -> Callable[[_Picture], bool] | None:
    """What a refusal says about the show; None where that cannot be seen in a picture."""
    command, told, claim = operation.command, operation.told, operation.claim
    assert isinstance(told, Rejected)
    seats = told.seat_indexes
    if told.code is Rejection.SEAT_UNAVAILABLE:
        mask = show.route.whole.mask if claim is None else claim.segment.mask
        # Somebody else's channel is as good as taken; nobody has a channel of this name.
        own = command.channel_id if isinstance(command, HoldFromChannel | AllocateSeats) else ""
        return lambda picture: all(
            picture.taken[seat] & mask or picture.channel_of.get(seat, own) != own for seat in seats
        )
    if told.code is Rejection.SHOW_CANCELLED:
        return lambda picture: picture.is_cancelled
    if told.code is Rejection.CHANNEL_NOT_FOUND:
        assert isinstance(command, HoldFromChannel)
        channel_id = command.channel_id
        return lambda picture: channel_id not in picture.channel_of.values()
    if told.code is Rejection.SEAT_NOT_ALLOCATED:
        assert isinstance(command, DeallocateSeats)
        mine = command.channel_id
        return lambda picture: all(picture.channel_of.get(seat) != mine for seat in seats)
    if told.code is Rejection.SEAT_NOT_BLOCKED:
        return lambda picture: not picture.blocked & set(seats)
    states = _STATES_OF_REFUSAL.get(told.code)
    if states is None:
        return None
    if isinstance(command, CancelBooking):
        hold_id = hold_id_of(command.booking_id)
    else:
        hold_id = (claim or command).hold_id  # type: ignore[union-attr]
    return lambda picture: picture.states.get(hold_id, "absent") in states


_STATES_OF_REFUSAL = {
    Rejection.HOLD_NOT_FOUND: ("absent",),
    Rejection.HOLD_EXPIRED: ("held", "expired"),
    Rejection.HOLD_RELEASED: ("released",),
    Rejection.HOLD_ALREADY_CONFIRMED: ("booked", "cancelled"),
    Rejection.EXTENSION_CAP_REACHED: ("held",),
    Rejection.BOOKING_NOT_FOUND: ("absent", "held", "released", "expired"),
    Rejection.BOOKING_CANCELLED: ("cancelled",),
    Rejection.EXISTS_WITH_DIFFERENT_REQUEST: (
        "held",
        "released",
        "expired",
        "booked",
        "cancelled",
    ),
}
