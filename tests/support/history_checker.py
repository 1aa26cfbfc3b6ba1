"""The checker of histories: what callers asked and were told, against what must always hold.

It knows nothing of how the house works: it reads operations that somebody recorded, and, where
there is one, the journal. It is used by the simulator and by tests with real faults.

    history = History()
    number = history.asked("ref 1", show_id, command, at_ms)
    history.told(number, outcome_or_fault, at_ms)
    verdict = check_history(history.operations, show, journal_events)

An operation that was never told anything, or ``OutcomeUnknown``, may have happened at any time
after it was asked, or never; one that was told ``NotDone`` or a rejection must not have happened.
All attempts with one id are one wish: only if all of them were told no, no is what it must be.

    I2   what was acknowledged is in the journal as it was told; what is in it was asked for, and
         nobody was told that it did not happen
    I5   two acknowledged holds never have one place at one time; a hold keeps it to its deadline
    I6   one id, one answer
    I9   what callers saw of a seat can be put in one order: per-seat linearizability
    I10  no customer ever has more than the policy allows
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

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
    HoldSeats,
    ReleaseHold,
    UnblockSeats,
)
from reservation.events import (
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
from reservation.ids import CustomerId, HoldId
from reservation.show import SalesPolicy, Show
from tests.support.operations import NEVER, History, Operation, Verdict, Violation
from tests.support.seat_linearizability import check_seats

__all__ = [
    "NEVER",
    "History",
    "Operation",
    "Verdict",
    "Violation",
    "check_answers",
    "check_history",
    "check_journal",
    "check_limits",
    "check_seats",
    "identity_of",
]


def check_history(
    operations: Iterable[Operation],
    show: Show,
    journal: Sequence[Event] | None = None,
    *,
    stale_ms: float = 0,
    clock_error_ms: float = 0,
) -> Verdict:
    """Check everything that was said about one show.

    Args:
        operations: any; those of other shows are left out.
        journal: all events of the show in order, read after everything had come to rest.
        stale_ms: by how much an answer that changed nothing (a rejection, a repetition) may lag
            behind what others did; never behind what its own session has seen.
        clock_error_ms: how far the recorder's clock may be from the one of the deadlines.
    """
    mine = [each.without_channel() for each in operations if each.show_id == show.show_id]
    violations = check_answers(mine)
    if journal is not None:
        journal = [e.held if isinstance(e, HeldFromChannel) else e for e in journal]
        violations += check_journal(mine, journal)
        violations += check_limits(show.policy, journal)
    searched = check_seats(mine, stale_ms=stale_ms, clock_error_ms=clock_error_ms)
    return Verdict(violations + searched.violations, searched.undecided)


# -- I6: one id, one answer ------------------------------------------------------------------


def check_answers(operations: Iterable[Operation]) -> list[Violation]:
    """I6: everybody who asked for one thing was told the same, and one of them that it is new."""
    violations: list[Violation] = []
    first: dict[tuple[str, str], Operation] = {}
    made: dict[tuple[str, str], Operation] = {}
    for operation in operations:
        event = operation.event
        key = _wish_of_event(event) if event is not None else None
        if event is None or key is None:
            continue
        earlier = first.setdefault(key, operation)
        if earlier.event != event:
            what = f"{key[1]} is {earlier.event} and {event}"
            violations.append(Violation("I6", what, (earlier.number, operation.number)))
        if operation.is_new and made.setdefault(key, operation) is not operation:
            what = f"{key[1]}: {key[0]} was new twice"
            violations.append(Violation("I6", what, (made[key].number, operation.number)))
    return violations


def _wish_of_event(event: Event) -> tuple[str, str] | None:
    """What can happen only once in the life of an id."""
    match event:
        case SeatsHeld(hold_id=hold_id):
            return "held", hold_id
        case HoldReleased(hold_id=hold_id):
            return "released", hold_id
        case BookingConfirmed(hold_id=hold_id):
            return "confirmed", hold_id
        case BookingCancelled(hold_id=hold_id):
            return "cancelled", hold_id
    return None


# -- I2: the journal -------------------------------------------------------------------------


def check_journal(operations: Sequence[Operation], journal: Iterable[Event]) -> list[Violation]:
    """I2: acknowledged is written as it was told, and written is asked for and not denied."""
    journal = list(journal)
    written = Counter(map(identity_of, journal))
    violations = _check_acknowledged(operations, _with_ends(journal))
    told = Counter(identity_of(each.event) for each in operations if each.is_new and each.event)
    doubted = [operation.command for operation in operations if operation.is_unknown]
    wished = [operation.command for operation in operations]
    for identity, count in written.items():
        _, event = identity
        if isinstance(event, HoldExpired | HoldsForgotten) or told[identity] >= count:
            continue
        if any(_can_make(command, event) for command in doubted):
            continue
        if any(_can_make(command, event) for command in wished):
            violations.append(Violation("I2", f"everybody was told that it is not so: {event}"))
        else:
            violations.append(Violation("I2", f"nobody asked for {event}"))
    return violations


def _with_ends(journal: Iterable[Event]) -> list[Event]:
    """A journal with the end of every hold that ended with its show."""
    events: list[Event] = []
    for event in journal:
        events.append(event)
        if isinstance(event, ShowCancelled):
            events += [HoldReleased(hold_id, event.at_ms) for hold_id in event.hold_ids]
            events.append(event._replace(hold_ids=()))
    return events


def identity_of(event: Event) -> tuple[type, Event]:
    """Something to look an event up by. Two events of one content are equal as tuples, though one
    may be an extension and the other the end."""
    return type(event), event


def _check_acknowledged(
    operations: Iterable[Operation], journal: Iterable[Event]
) -> list[Violation]:
    written = Counter(map(identity_of, journal))
    deadlines: defaultdict[HoldId, set[int]] = defaultdict(set)
    for _, event in written:
        if isinstance(event, SeatsHeld | HoldExtended):
            deadlines[event.hold_id].add(event.expires_at_ms)
    violations: list[Violation] = []
    for operation in operations:
        told = operation.event
        if told is None:
            continue
        is_repeated = not operation.is_new
        if is_repeated and isinstance(told, SeatsBlocked | SeatsAllocated | SeatsDeallocated):
            continue  # That the seats are blocked is true; by whom and when is not told.
        if is_repeated and isinstance(told, HoldExtended):
            is_written = told.expires_at_ms in deadlines[told.hold_id]
        else:
            is_written = identity_of(told) in written
        if not is_written:
            what = f"acknowledged and not in the journal: {told}"
            violations.append(Violation("I2", what, (operation.number,)))
    return violations


def _can_make(command: Command, event: Event) -> bool:
    """Whether this command, if it was carried out, may have made this event."""
    match event:
        case SeatsHeld():
            return isinstance(command, HoldSeats | HoldBestAvailable) and (
                (command.hold_id, command.request_digest) == (event.hold_id, event.request_digest)
            )
        case HoldExtended():
            return isinstance(command, ExtendHold) and command.hold_id == event.hold_id
        case HoldReleased():
            return isinstance(command, ReleaseHold) and command.hold_id == event.hold_id
        case BookingConfirmed():
            return isinstance(command, ConfirmHold) and command.hold_id == event.hold_id
        case BookingCancelled():
            return isinstance(command, CancelBooking) and command.booking_id == event.booking_id
        case SeatsBlocked():
            return isinstance(command, BlockSeats) and set(event.seat_indexes) <= set(
                command.seat_indexes
            )
        case SeatsUnblocked():
            return isinstance(command, UnblockSeats) and event.seat_indexes == command.seat_indexes
        case SeatsAllocated():
            return (
                isinstance(command, AllocateSeats)
                and command.channel_id == event.channel_id
                and set(event.seat_indexes) <= set(command.seat_indexes)
            )
        case SeatsDeallocated():
            return (
                isinstance(command, DeallocateSeats | CloseChannel)
                and command.channel_id == event.channel_id
            )
        case ShowCancelled():
            return isinstance(command, CancelShow) and command.reason == event.reason
    return False


# -- I10: limits -------------------------------------------------------------------------------


def check_limits(policy: SalesPolicy, journal: Iterable[Event]) -> list[Violation]:
    """I10: at no point of the journal a customer has more than the policy allows."""
    violations: list[Violation] = []
    made: dict[HoldId, SeatsHeld] = {}
    live: Counter[CustomerId] = Counter()
    places: Counter[CustomerId] = Counter()
    for event in _with_ends(journal):
        if isinstance(event, SeatsHeld):
            if event.place_count > policy.seats_per_hold_max:
                violations.append(Violation("I10", f"{event.hold_id} is too large"))
            made[event.hold_id] = event
            live[event.customer_id] += 1
            places[event.customer_id] += event.place_count
            if live[event.customer_id] > policy.live_holds_per_customer_max:
                violations.append(Violation("I10", f"{event.hold_id} is a live hold too many"))
            if places[event.customer_id] > policy.seats_per_customer_max:
                violations.append(Violation("I10", f"{event.hold_id} has a place too many"))
        elif isinstance(event, HoldReleased | HoldExpired | BookingCancelled | BookingConfirmed):
            held = made.get(event.hold_id)
            if held is None:
                continue
            if not isinstance(event, BookingCancelled):
                live[held.customer_id] -= 1
            if not isinstance(event, BookingConfirmed):
                places[held.customer_id] -= held.place_count
    return violations
