"""What a real house has stored, put beside what its clients were told.

The judge is ``history_checker``, the same as the simulator's. Here real records become its
operations, and journals what it compares them with.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence

from actors.show_actor import OWNERSHIP_TRUSTED_MS
from persistence.codec import decode_events
from persistence.queries import load_queries
from persistence.sessions import Pool
from reservation.audit import JournalEntry
from reservation.commands import CancelBooking, ConfirmHold, ExtendHold, HoldSeats, ReleaseHold
from reservation.events import BookingCancelled, BookingConfirmed, Event, HoldReleased
from reservation.faults import NotDone
from reservation.ids import HoldId, ShowId, hold_id_of
from reservation.seat_map import Outcome, Repeated
from reservation.show import Show
from tests.support.history_checker import (
    NEVER,
    Operation,
    Violation,
    check_answers,
    check_journal,
    check_limits,
    check_seats,
)
from tests.support.recorded_history import UNTOLD_AT_MS, Attempt, Told, resolve

_SQL = load_queries("verification.sql")

CLOCK_ERROR_MS = 50
"""Between the machine's clocks, read one after the other."""


async def read_journal(pool: Pool, show_id: ShowId) -> list[JournalEntry]:
    """A show's journal, in order."""
    rows = await pool.fetch(_SQL["read_journal"], show_id)
    return [
        JournalEntry(row["seq"], row["epoch"], row["at_ms"], decode_events(row["events"]))
        for row in rows
    ]


async def history_faults(
    pool: Pool, shows: Sequence[Show], attempts: Sequence[Attempt]
) -> list[str]:
    """Everything that is wrong with these shows; empty when nothing is.

    Call it when everything has come to rest.
    """
    faults = [f"nobody got to know of {command}" for command in resolve(attempts).open]
    by_show: dict[ShowId, list[Attempt]] = {}
    for attempt in attempts:
        by_show.setdefault(attempt.show_id, []).append(attempt)
    for show in shows:
        journal = await read_journal(pool, show.show_id)
        violations = violations_of(show, journal, by_show.get(show.show_id, []))
        faults += [f"{violation.invariant}: {violation.what}" for violation in violations]
        faults += await _outbox_faults(pool, show.show_id, journal)
    return faults


def violations_of(
    show: Show, journal: Iterable[JournalEntry], attempts: Sequence[Attempt]
) -> list[Violation]:
    """What the checker says; a seat that it could not decide on counts as wrong, too."""
    events = [event for entry in journal for event in entry.events]
    operations = operations_of(attempts, events)
    violations = check_answers(operations)
    violations += check_journal(operations, events)
    violations += check_limits(show.policy, events)
    for group in _by_neighbourhood(operations):
        verdict = check_seats(group, stale_ms=OWNERSHIP_TRUSTED_MS, clock_error_ms=CLOCK_ERROR_MS)
        violations += verdict.violations
        violations += [Violation("I9", f"seat {seat} is undecided") for seat in verdict.undecided]
    return violations


def _by_neighbourhood(operations: Iterable[Operation]) -> Iterable[list[Operation]]:
    """Operations apart by the seats they are about, so that no search meets those of all others.

    Seats that were asked for together stay together.
    """
    neighbour: dict[int, int] = {}

    def find(seat: int) -> int:
        while neighbour.setdefault(seat, seat) != seat:
            seat = neighbour[seat]
        return seat

    seat_of: dict[HoldId, int] = {}
    operations = list(operations)
    for operation in operations:
        command = operation.command
        if isinstance(command, HoldSeats):
            assert not command.or_nearest, "which seats it is about is not known beforehand"
            seat_of[command.hold_id] = command.seat_indexes[0]
            for seat in command.seat_indexes:
                neighbour[find(seat)] = find(command.seat_indexes[0])
    groups: dict[int, list[Operation]] = {}
    for operation in operations:
        command = operation.command
        if isinstance(command, CancelBooking):
            hold_id = hold_id_of(command.booking_id)
        else:
            assert isinstance(command, HoldSeats | ConfirmHold | ReleaseHold | ExtendHold)
            hold_id = command.hold_id
        if hold_id in seat_of:
            groups.setdefault(find(seat_of[hold_id]), []).append(operation)
    return groups.values()


def operations_of(attempts: Sequence[Attempt], events: Iterable[Event]) -> list[Operation]:
    """Records as the checker wants them, by the clock that deadlines are measured by."""
    monotonic_ns = time.monotonic_ns()
    offset_ms = (time.time_ns() - monotonic_ns) / 1_000_000
    released = {event.hold_id: event for event in events if isinstance(event, HoldReleased)}
    operations = []
    for number, attempt in enumerate(sorted(attempts, key=lambda each: each.invoked_ns)):
        told: Outcome | NotDone | None = None
        if attempt.told is Told.NOT_DONE:
            told = NotDone(attempt.fault)
        elif attempt.outcome is not None:
            told = _completed(attempt.outcome, released)
        operations.append(
            Operation(
                number,
                attempt.client,
                attempt.show_id,
                attempt.command,
                attempt.invoked_ns / 1_000_000 + offset_ms,
                NEVER if told is None else attempt.answered_ns / 1_000_000 + offset_ms,
                told,
            )
        )
    return operations


def _completed(outcome: Outcome, released: Mapping[HoldId, HoldReleased]) -> Outcome:
    """Over HTTP nobody is told when a hold was released; the journal knows, if it was at all."""
    if isinstance(outcome, Repeated):
        event = _completed(outcome.event, released)
        assert not isinstance(event, Repeated)
        return Repeated(event)  # type: ignore[arg-type]  # An event stays one.
    if isinstance(outcome, HoldReleased) and outcome.at_ms == UNTOLD_AT_MS:
        return released.get(outcome.hold_id, outcome)
    return outcome


async def _outbox_faults(pool: Pool, show_id: ShowId, journal: Iterable[JournalEntry]) -> list[str]:
    """I8: each booking and each cancellation of the journal is in the outbox once."""
    sold = sorted(
        (entry.seq, event.booking_id)
        for entry in journal
        for event in entry.events
        if isinstance(event, BookingConfirmed | BookingCancelled)
    )
    rows = await pool.fetch(
        "SELECT seq, payload ->> 'booking_id' FROM outbox WHERE show_id = $1", show_id
    )
    told = sorted((row[0], row[1]) for row in rows)
    return [] if told == sold else [f"I8: the outbox of {show_id} tells another story"]
