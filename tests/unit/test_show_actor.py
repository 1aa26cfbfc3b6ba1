"""The show actor without Ray, on a journal in memory: when it answers, and what to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from actors.show_actor import ShowActor
from actors.show_ref import ShowRefs, Submit
from reservation.commands import HoldSeats, ReleaseHold
from reservation.events import BookingConfirmed, Event, SeatsHeld
from reservation.faults import (
    Fenced,
    Overloaded,
    ShowUnavailable,
)
from reservation.ids import ShowId
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import Repeated
from reservation.show import Show
from tests.support.house import (
    ID,
    NEIGHBOUR,
    SHOW,
    MemoryHouse,
    Shelf,
    SlowJournal,
    ask,
    ask_all,
    confirm,
    end_tickers,
    hold,
    hold_ids,
    turn,
)


@pytest.fixture(autouse=True)
async def _tickers_end() -> AsyncIterator[None]:
    yield
    await end_tickers()


@pytest.fixture
def house() -> MemoryHouse:
    return MemoryHouse(SHOW, NEIGHBOUR)


# -- durable before any answer ---------------------------------------------------------------


async def test_a_hold_is_answered_only_when_it_is_durable(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    answering = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    await turn()
    assert not answering.done()
    assert len(house.events(ID)) == 1
    house.journals[0].gate.set()
    assert isinstance(await answering, SeatsHeld)
    assert len(house.events(ID)) == 2


async def test_a_rejection_waits_for_the_hold_that_caused_it(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    winner = asyncio.ensure_future(ask(actor, ID, hold(ID, 5)))
    await turn()
    loser = asyncio.ensure_future(ask(actor, ID, hold(ID, 5, customer="bob")))
    await turn()
    assert not loser.done()
    house.journals[0].gate.set()
    assert isinstance(await winner, SeatsHeld)
    assert await loser == Rejected(Rejection.SEAT_UNAVAILABLE, (5,))


async def test_a_repeated_command_waits_for_the_first_one_to_be_durable(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    command = hold(ID, 5)
    first = asyncio.ensure_future(ask(actor, ID, command))
    second = asyncio.ensure_future(ask(actor, ID, command))
    await turn()
    assert not second.done()
    house.journals[0].gate.set()
    held = await first
    assert await second == Repeated(held)
    assert len(house.events(ID)) == 2


async def test_one_batch_is_answered_in_the_order_of_its_commands(house: MemoryHouse) -> None:
    actor = house.start_actor()
    first = hold(ID, 1, 2)
    answers = await ask_all(actor, ID, [first, hold(ID, 2, 3), confirm(first), hold(ID, 3)])
    assert [type(answer) for answer in answers] == [
        SeatsHeld,
        Rejected,
        BookingConfirmed,
        SeatsHeld,
    ]
    assert len(house.store.entries(ID)) == 1


async def test_nothing_is_answered_for_a_hold_whose_append_fails(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    winner = asyncio.ensure_future(ask(actor, ID, hold(ID, 5)))
    loser = asyncio.ensure_future(ask(actor, ID, hold(ID, 5, customer="bob")))
    await turn()
    house.store.activate(SHOW)
    house.journals[0].gate.set()
    assert isinstance(await winner, Fenced)
    assert isinstance(await loser, Fenced)
    assert len(house.events(ID)) == 1


# -- callers that hang up ----------------------------------------------------------------------


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_caller_leaves_a_hold_that_is_durable_or_absent(
    house: MemoryHouse, turns: int
) -> None:
    actor = house.start_actor()
    command = hold(ID, 7)
    caller = asyncio.ensure_future(ask(actor, ID, command))
    await turn(turns)
    caller.cancel()
    await turn()
    is_durable = command.hold_id in hold_ids(house.events(ID))
    again = await ask(actor, ID, command)
    assert isinstance(again, Repeated if is_durable else SeatsHeld)
    assert hold_ids(house.events(ID)) == [command.hold_id]
    assert await ask(actor, ID, hold(ID, 7, customer="bob")) == Rejected(
        Rejection.SEAT_UNAVAILABLE, (7,)
    )


async def test_cancelled_callers_were_met_before_during_and_after_the_decision() -> None:
    """The test above covers what it says only if its cancellations fall on both sides."""
    met = set()
    for turns in range(12):
        house = MemoryHouse(SHOW)
        actor = house.start_actor()
        caller = asyncio.ensure_future(ask(actor, ID, hold(ID, 7)))
        await turn(turns)
        met.add((caller.done(), bool(house.events(ID))))
        caller.cancel()
        await turn()
        met.add(("later", bool(house.events(ID))))
    assert {(False, False), (True, True), ("later", False), ("later", True)} <= met


async def test_a_cancelled_caller_does_not_cancel_what_another_one_waits_for(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    impatient = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    patient = asyncio.ensure_future(ask(actor, ID, hold(ID, 2)))
    await turn()
    impatient.cancel()
    await turn()
    house.journals[0].gate.set()
    assert isinstance(await patient, SeatsHeld)
    assert len(house.events(ID)) == 3


async def test_a_cancelled_caller_does_not_cancel_an_activation_that_others_wait_for(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    impatient = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    patient = asyncio.ensure_future(ask(actor, ID, hold(ID, 2)))
    await turn(1)
    impatient.cancel()
    assert isinstance(await patient, SeatsHeld)
    assert house.shelf.loads == 2, "once before the epoch is taken, and once after it"


class Closed(Shelf):
    """A source that does not answer for one show until it is opened."""

    def __init__(self, closed: ShowId, *shows: Show) -> None:
        super().__init__(*shows)
        self.closed = closed
        self.opened = asyncio.Event()

    async def load_show(self, show_id: ShowId) -> Show | None:
        if show_id == self.closed:
            await self.opened.wait()
        return await super().load_show(show_id)


@pytest.fixture
def closed(house: MemoryHouse, monkeypatch: pytest.MonkeyPatch) -> Closed:
    """The neighbour cannot be read; the other show has all the time that a busy machine takes."""
    monkeypatch.setattr("actors.show_actor.ACTIVATION_AWAITED_S", 20.0)
    house.shelf = Closed(NEIGHBOUR.show_id, SHOW, NEIGHBOUR)
    return house.shelf


async def test_a_show_that_is_slow_to_activate_holds_up_nobody_else(
    house: MemoryHouse, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    monkeypatch.setattr("actors.show_actor.ACTIVATION_AWAITED_S", 0.05)
    early, late = hold(NEIGHBOUR.show_id, 1), hold(NEIGHBOUR.show_id, 2)

    async def ask_both(command: HoldSeats, seat: int) -> list[object]:
        batch = [(NEIGHBOUR.show_id, command), (ID, hold(ID, seat))]
        async with asyncio.timeout(20):
            return list((await actor.submit(batch)).answers)

    waiting, held = await ask_both(early, 1)
    assert isinstance(waiting, ShowUnavailable)
    assert isinstance(held, SeatsHeld)
    # It is late already, and nobody waits for it any more.
    second = asyncio.ensure_future(ask_both(late, 2))
    await turn()
    waiting, held = second.result()
    assert isinstance(waiting, ShowUnavailable)
    assert isinstance(held, SeatsHeld)
    assert house.events(NEIGHBOUR.show_id) == []
    closed.opened.set()
    await turn()
    assert isinstance(await ask(actor, NEIGHBOUR.show_id, early), SeatsHeld)
    assert isinstance(await ask(actor, NEIGHBOUR.show_id, late), SeatsHeld)
    assert closed.loads == 4, "each show once before its epoch is taken, and once after it"


def refs_to(actor: ShowActor, *, ask_deadline_ms: int) -> ShowRefs:
    async def locate(show_id: ShowId) -> str:
        return actor.name

    async def connect(name: str) -> Submit:
        return actor.submit

    return ShowRefs(locate, connect, ask_deadline_ms=ask_deadline_ms)


async def test_callers_of_a_slow_show_are_answered_as_soon_as_it_is_active(
    house: MemoryHouse, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.show_actor.ACTIVATION_AWAITED_S", 0.05)
    refs = refs_to(house.start_actor(), ask_deadline_ms=20_000)
    asking = asyncio.ensure_future(refs.ask(NEIGHBOUR.show_id, hold(NEIGHBOUR.show_id, 1)))
    assert isinstance(await refs.ask(ID, hold(ID, 1)), SeatsHeld)
    assert not asking.done()
    closed.opened.set()
    assert isinstance(await asking, SeatsHeld)


async def test_callers_of_a_show_that_does_not_activate_know_that_nothing_was_done(
    house: MemoryHouse, closed: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("actors.show_actor.ACTIVATION_AWAITED_S", 0.05)
    # The first answer is the last one: after the pause it would be too late for another.
    monkeypatch.setattr("actors.show_ref.RETRY_PAUSE_MS", 10_000)
    refs = refs_to(house.start_actor(), ask_deadline_ms=1_000)
    with pytest.raises(ShowUnavailable):
        await refs.ask(NEIGHBOUR.show_id, hold(NEIGHBOUR.show_id, 1))


async def test_a_hold_whose_caller_hung_up_and_whose_append_failed_is_never_acknowledged(
    house: MemoryHouse,
) -> None:
    """Nobody waits for the append any more, and still memory must not keep what it claimed."""
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    phantom = hold(ID, 9)
    caller = asyncio.ensure_future(ask(actor, ID, phantom))
    await turn()
    caller.cancel()
    await turn()
    house.store.activate(SHOW)
    house.journals[0].gate.set()
    await turn()
    assert isinstance(await ask(actor, ID, hold(ID, 9, customer="bob")), SeatsHeld)
    assert await ask(actor, ID, phantom) == Rejected(Rejection.SEAT_UNAVAILABLE, (9,))


class HandOperatedJournal(SlowJournal):
    """Its appends end when and as the test says."""

    def __init__(self, house: MemoryHouse) -> None:
        super().__init__(house.store)
        self.is_operated = False
        self.appended: list[asyncio.Future[int]] = []

    def append(self, show_id: ShowId, events: Sequence[Event]) -> asyncio.Future[int]:
        if not self.is_operated:
            return super().append(show_id, events)
        self.appended.append(asyncio.get_running_loop().create_future())
        return self.appended[-1]


async def test_no_rejection_leaves_in_the_moment_between_a_failure_and_its_discovery(
    house: MemoryHouse,
) -> None:
    """A failed append is known one event-loop step before anybody who waits for it wakes up."""
    journal = HandOperatedJournal(house)
    actor = house.start_actor(journal=journal)
    await ask(actor, ID, hold(ID, 0))
    journal.is_operated = True
    phantom = asyncio.ensure_future(ask(actor, ID, hold(ID, 9)))
    await turn()
    # This caller's turn comes after the failure and before the news of it.
    bystander = asyncio.ensure_future(ask(actor, ID, hold(ID, 9, customer="bob")))
    journal.appended[0].set_exception(Fenced("a newer owner exists"))
    assert isinstance(await phantom, Fenced)
    assert isinstance(await bystander, Fenced)


# -- the mailbox ----------------------------------------------------------------------------------


async def test_a_full_mailbox_refuses_claims_and_still_settles(house: MemoryHouse) -> None:
    actor = house.start_actor(mailbox_commands_max=4)
    first = [hold(ID, seat) for seat in range(4)]
    await ask_all(actor, ID, first)
    house.journals[0].gate.clear()
    waiting = [asyncio.ensure_future(ask(actor, ID, hold(ID, seat))) for seat in range(10, 14)]
    await turn()
    refused = await ask(actor, ID, hold(ID, 20))
    assert isinstance(refused, Overloaded)
    confirming = [asyncio.ensure_future(ask(actor, ID, confirm(held))) for held in first]
    await turn()
    assert not any(task.done() for task in confirming)
    released = await ask(actor, ID, ReleaseHold(first[0].hold_id, first[0].customer_id))
    assert isinstance(released, Overloaded), "twice of the limit is full for everybody"
    house.journals[0].gate.set()
    assert all(isinstance(answer, SeatsHeld) for answer in await asyncio.gather(*waiting))
    assert all(isinstance(done, BookingConfirmed) for done in await asyncio.gather(*confirming))
    assert isinstance(await ask(actor, ID, hold(ID, 20)), SeatsHeld)


async def test_a_refused_claim_has_changed_nothing(house: MemoryHouse) -> None:
    actor = house.start_actor(mailbox_commands_max=1)
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    waiting = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    await turn()
    refused = hold(ID, 2)
    assert isinstance(await ask(actor, ID, refused), Overloaded)
    house.journals[0].gate.set()
    await waiting
    assert isinstance(await ask(actor, ID, hold(ID, 2, customer="bob")), SeatsHeld)
    assert refused.hold_id not in hold_ids(house.events(ID))


async def test_while_the_store_is_silent_claims_are_refused_and_settling_waits(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    held = hold(ID, 0)
    await ask(actor, ID, held)
    house.journals[0].gate.clear()
    house.journals[0].silence_ms = 1_501
    assert isinstance(await ask(actor, ID, hold(ID, 1)), ShowUnavailable)
    confirming = asyncio.ensure_future(ask(actor, ID, confirm(held)))
    await turn()
    assert not confirming.done()
    house.journals[0].silence_ms = 0
    house.journals[0].gate.set()
    assert isinstance(await confirming, BookingConfirmed)
