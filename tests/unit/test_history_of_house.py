"""Records of a real house before the checker: a lie of each kind is found, the truth is not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from actors.clock import SystemClock
from actors.show_actor import ShowActor
from reservation.audit import JournalEntry
from reservation.commands import CancelBooking, Command, ReleaseHold
from reservation.events import BookingConfirmed, HoldReleased, SeatsHeld
from reservation.faults import OutcomeUnknown
from reservation.ids import ShowId
from reservation.seat_map import Outcome
from tests.support.history_of_house import violations_of
from tests.support.house import ID, SHOW, MemoryHouse, ask, confirm, end_tickers, hold
from tests.support.recorded_history import (
    UNTOLD_AT_MS,
    Attempt,
    NotResolved,
    Recorder,
    Told,
    resolve,
)


@dataclass
class Asked:
    """A house in memory, asked through a recorder that can be made deaf."""

    house: MemoryHouse
    actor: ShowActor
    recorder: Recorder

    async def tell(self, *commands: Command) -> list[Outcome]:
        return [await self.recorder.insist("ann", ID, command) for command in commands]

    def found(self, attempts: list[Attempt] | None = None) -> list[str]:
        """The invariants that these records violate; those that were made without any."""
        journal = [
            JournalEntry(e.seq, e.epoch, 0, list(e.events)) for e in self.house.store.entries(ID)
        ]
        violations = violations_of(SHOW, journal, attempts or self.recorder.attempts)
        return [violation.invariant for violation in violations]


@pytest.fixture
async def asked() -> AsyncIterator[Asked]:
    house = MemoryHouse(clock=SystemClock())
    actor = house.start_actor()
    deaf_after: list[Command] = []

    async def reach(show_id: ShowId, command: Command) -> Outcome:
        outcome = await ask(actor, show_id, command)
        if isinstance(command, CancelBooking) and command not in deaf_after:
            deaf_after.append(command)
            raise OutcomeUnknown("the answer got lost")
        assert not isinstance(outcome, Exception)
        return outcome

    yield Asked(house, actor, Recorder(reach))
    await end_tickers()


async def test_a_true_story_violates_nothing(asked: Asked) -> None:
    first, second = hold(ID, 1, 2), hold(ID, 3)
    held, _ = await asked.tell(first, second)
    booked, *_ = await asked.tell(confirm(first), ReleaseHold(second.hold_id, second.customer_id))
    assert isinstance(held, SeatsHeld)
    assert isinstance(booked, BookingConfirmed)
    # Its answer gets lost once; asking again tells that it had happened.
    await asked.tell(CancelBooking(booked.booking_id, first.customer_id), hold(ID, 1))
    assert asked.recorder.counts[Told.UNKNOWN] == 1
    resolution = resolve(asked.recorder.attempts)
    assert (resolution.unknown_answers, resolution.had_happened, resolution.open) == (1, 1, [])
    assert asked.found() == []


async def test_a_promise_that_the_journal_does_not_know_is_found(asked: Asked) -> None:
    await asked.tell(hold(ID, 1))
    told = asked.recorder.attempts[0]
    invented = hold(ID, 9)
    assert isinstance(told.outcome, SeatsHeld)
    lie = told.outcome._replace(hold_id=invented.hold_id, seat_indexes=(9,))
    assert "I2" in asked.found([told, told._replace(command=invented, outcome=lie)])


async def test_a_hold_that_nobody_asked_for_is_found(asked: Asked) -> None:
    await asked.tell(hold(ID, 1), hold(ID, 2))
    assert asked.found(asked.recorder.attempts[:1]) == ["I2"]


async def test_a_seat_that_two_were_promised_is_found(asked: Asked) -> None:
    await asked.tell(hold(ID, 1))
    told = asked.recorder.attempts[0]
    other = hold(ID, 1, customer="bob")
    assert isinstance(told.outcome, SeatsHeld)
    lie = told.outcome._replace(hold_id=other.hold_id, customer_id=other.customer_id)
    assert "I9" in asked.found([told, told._replace(client="bob", command=other, outcome=lie)])


async def test_a_refusal_of_a_seat_that_was_free_is_found(asked: Asked) -> None:
    await asked.tell(hold(ID, 1), hold(ID, 1, customer="bob"))
    held, refused = asked.recorder.attempts
    assert refused.told is Told.REJECTED
    # Ten seconds before anybody had it: longer than an answer may lag behind.
    early_ns = held.invoked_ns - 10 * 10**9
    early = refused._replace(invoked_ns=early_ns, answered_ns=early_ns + 1)
    assert asked.found([early, held]) == ["I9"]


async def test_a_release_whose_time_was_not_told_is_completed_and_still_checked(
    asked: Asked,
) -> None:
    kept, released = hold(ID, 1), hold(ID, 2)
    await asked.tell(kept, released, ReleaseHold(released.hold_id, released.customer_id))
    *holds, release = asked.recorder.attempts
    untold = release._replace(outcome=HoldReleased(released.hold_id, UNTOLD_AT_MS))
    assert asked.found([*holds, untold]) == []
    lie = release._replace(
        command=ReleaseHold(kept.hold_id, kept.customer_id),
        outcome=HoldReleased(kept.hold_id, UNTOLD_AT_MS),
    )
    assert "I2" in asked.found([*holds, release, lie])


async def test_a_command_that_nobody_got_to_know_about_stays_open() -> None:
    async def reach(show_id: ShowId, command: Command) -> Outcome:
        raise OutcomeUnknown("nobody answers")

    recorder, command = Recorder(reach), hold(ID, 1)
    with pytest.raises(NotResolved):
        await recorder.insist("ann", ID, command, within_s=0.05)
    assert recorder.unresolved == [command]
    assert resolve(recorder.attempts).open == [command]
