"""The show actor without Ray, on a journal in memory and with a clock that we move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from actors.clock import ManualClock, SystemClock
from actors.show_actor import OWNERSHIP_TRUSTED_MS, ShowActor
from reservation.commands import ReleaseHold
from reservation.events import BookingConfirmed, Event, HoldExpired, HoldExtended, SeatsHeld
from reservation.faults import (
    Diverged,
    Fenced,
    NotDone,
    OutcomeUnknown,
    Overloaded,
    ShowMoved,
    ShowNotFound,
    ShowUnavailable,
)
from reservation.ids import ShowId
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import Repeated, SeatMap
from reservation.show import Placement, SalesPolicy, Show
from tests.support.house import (
    GENEROUS,
    MemoryHouse,
    SlowJournal,
    ask,
    ask_all,
    confirm,
    end_tickers,
    extend,
    hold,
    hold_ids,
    make_show,
    turn,
    until,
)

SHOW = make_show("hamlet")
NEIGHBOUR = make_show("macbeth")
ID = SHOW.show_id


@pytest.fixture(autouse=True)
async def _tickers_end() -> AsyncIterator[None]:
    yield
    await end_tickers()


@pytest.fixture
def house() -> MemoryHouse:
    return MemoryHouse(SHOW, NEIGHBOUR)


def clock_of(house: MemoryHouse) -> ManualClock:
    assert isinstance(house.clock, ManualClock)
    return house.clock


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
    assert house.shelf.loads == 1


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


# -- ownership -----------------------------------------------------------------------------------


async def test_a_newer_activation_fences_the_older_one(house: MemoryHouse) -> None:
    older, newer = house.start_actor(), house.start_actor()
    assert isinstance(await ask(older, ID, hold(ID, 0)), SeatsHeld)
    assert isinstance(await ask(newer, ID, hold(ID, 1)), SeatsHeld)
    fault = await ask(older, ID, hold(ID, 2))
    assert isinstance(fault, Fenced)
    assert isinstance(fault, NotDone)
    assert (await older.status()).shows == []
    assert isinstance(await ask(newer, ID, hold(ID, 2)), SeatsHeld)
    assert house.audit(ID).faults == []


async def test_a_fenced_actor_that_is_asked_again_takes_the_show_back_with_all_of_it(
    house: MemoryHouse,
) -> None:
    older, newer = house.start_actor(), house.start_actor()
    await ask(older, ID, hold(ID, 0))
    await ask(newer, ID, hold(ID, 1))
    await ask(older, ID, hold(ID, 2))
    assert await ask(older, ID, hold(ID, 0, 1, 2)) == Rejected(Rejection.SEAT_UNAVAILABLE, (0, 1))
    assert isinstance(await ask(newer, ID, hold(ID, 2)), Fenced)
    assert [entry.epoch for entry in house.store.entries(ID)] == [1, 2]


async def test_after_silence_an_answer_without_a_commit_asks_the_store_for_proof(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    clock_of(house).advance(OWNERSHIP_TRUSTED_MS + 1)
    house.journals[0].gate.clear()  # A memory journal's `lost` waits at the same gate.
    answering = asyncio.ensure_future(ask(actor, ID, hold(ID, 0, customer="bob")))
    await turn()
    assert not answering.done()
    house.journals[0].gate.set()
    assert await answering == Rejected(Rejection.SEAT_UNAVAILABLE, (0,))


async def test_within_the_trusted_time_no_proof_is_asked_for(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    clock_of(house).advance(OWNERSHIP_TRUSTED_MS)
    house.journals[0].gate.clear()
    assert await ask(actor, ID, hold(ID, 0, customer="bob")) == Rejected(
        Rejection.SEAT_UNAVAILABLE, (0,)
    )


async def test_a_show_that_was_lost_in_the_silence_is_not_answered_for(house: MemoryHouse) -> None:
    suspended, newer = house.start_actor(), house.start_actor()
    held = hold(ID, 0)
    await ask(suspended, ID, held)
    await ask(newer, ID, ReleaseHold(held.hold_id, held.customer_id))
    clock_of(house).advance(OWNERSHIP_TRUSTED_MS + 1)
    fault = await ask(suspended, ID, hold(ID, 0, customer="bob"))
    assert isinstance(fault, ShowUnavailable)
    assert (await suspended.status()).shows == []


async def test_a_commit_whose_answer_came_late_does_not_prove_ownership_at_its_arrival(
    house: MemoryHouse,
) -> None:
    """The process was suspended between the commit and the moment it read the answer."""
    suspended, newer = house.start_actor(), house.start_actor()
    await ask(suspended, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    answering = asyncio.ensure_future(ask(suspended, ID, hold(ID, 1)))
    await turn()
    clock_of(house).advance(60_000)
    house.journals[0].gate.set()
    assert isinstance(await answering, SeatsHeld)
    await ask(newer, ID, hold(ID, 2))
    assert isinstance(await ask(suspended, ID, hold(ID, 1, customer="bob")), ShowUnavailable)


async def test_a_store_that_cannot_be_asked_for_proof_makes_the_answer_not_done(
    house: MemoryHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    clock_of(house).advance(OWNERSHIP_TRUSTED_MS + 1)

    async def unreachable(_: object) -> set[ShowId]:
        raise ShowUnavailable("the database is away")

    monkeypatch.setattr(house.journals[0], "lost", unreachable)
    assert isinstance(await ask(actor, ID, hold(ID, 0, customer="bob")), ShowUnavailable)
    monkeypatch.undo()
    assert isinstance(await ask(actor, ID, hold(ID, 0, customer="bob")), Rejected)


# -- neighbours -----------------------------------------------------------------------------------


async def test_a_show_that_is_fenced_does_not_disturb_its_neighbour_in_the_batch(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.store.activate(SHOW)
    other = NEIGHBOUR.show_id
    reply = await actor.submit([(ID, hold(ID, 1)), (other, hold(other, 1)), (ID, hold(ID, 2))])
    assert isinstance(reply.answers[0], Fenced)
    assert isinstance(reply.answers[1], SeatsHeld)
    assert isinstance(reply.answers[2], Fenced)
    assert [show.show_id for show in (await actor.status()).shows] == [other]


async def test_a_show_that_cannot_be_loaded_does_not_disturb_its_neighbour(
    house: MemoryHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = house.start_actor()
    load_show = house.shelf.load_show

    async def broken_shelf(show_id: ShowId) -> Show | None:
        if show_id == ID:
            raise ZeroDivisionError
        return await load_show(show_id)

    monkeypatch.setattr(house.shelf, "load_show", broken_shelf)
    other = NEIGHBOUR.show_id
    reply = await actor.submit([(ID, hold(ID, 1)), (other, hold(other, 1))])
    assert isinstance(reply.answers[0], ShowUnavailable)
    assert isinstance(reply.answers[1], SeatsHeld)
    monkeypatch.undo()
    assert isinstance(await ask(actor, ID, hold(ID, 1)), SeatsHeld)


async def test_a_bug_in_a_decision_stops_only_that_show_and_the_show_reloads(
    house: MemoryHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = house.start_actor()
    other = NEIGHBOUR.show_id
    await actor.submit([(ID, hold(ID, 0)), (other, hold(other, 0))])
    poison = hold(ID, 13)
    decide = SeatMap.decide

    def buggy(seat_map: SeatMap, command: Any, now_ms: int) -> Any:
        if command is poison:
            raise AssertionError("a bug")
        return decide(seat_map, command, now_ms)

    monkeypatch.setattr(SeatMap, "decide", buggy)
    before = hold(ID, 4)
    reply = await actor.submit(
        [
            (ID, before),
            (other, hold(other, 1)),
            (ID, poison),
            (ID, hold(ID, 5)),
            (other, hold(other, 2)),
        ]
    )
    kinds = [type(answer) for answer in reply.answers]
    assert kinds == [OutcomeUnknown, SeatsHeld, OutcomeUnknown, OutcomeUnknown, SeatsHeld]
    assert [show.show_id for show in (await actor.status()).shows] == [other]
    monkeypatch.undo()
    assert isinstance(await ask(actor, ID, before), SeatsHeld), "it was not durable"
    assert await ask(actor, ID, hold(ID, 0)) == Rejected(Rejection.SEAT_UNAVAILABLE, (0,))
    assert house.audit(ID).faults == []


async def test_a_bug_does_not_lose_what_was_decided_before_and_is_still_on_its_way(
    house: MemoryHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    on_its_way = hold(ID, 1)
    answering = asyncio.ensure_future(ask(actor, ID, on_its_way))
    await turn()
    monkeypatch.setattr(SeatMap, "decide", lambda *_: 1 / 0)
    assert isinstance(await ask(actor, ID, hold(ID, 2)), OutcomeUnknown)
    monkeypatch.undo()
    reloaded = asyncio.ensure_future(ask(actor, ID, hold(ID, 1, customer="bob")))
    await turn()
    assert not reloaded.done(), "the show is not loaded before its last events have landed"
    house.journals[0].gate.set()
    assert isinstance(await answering, SeatsHeld)
    assert await reloaded == Rejected(Rejection.SEAT_UNAVAILABLE, (1,))


async def test_a_store_that_contradicts_memory_makes_the_show_reload(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.store._shows[ID].taken[3] = 1  # A claim that no hold explains.
    assert isinstance(await ask(actor, ID, hold(ID, 3)), Diverged)
    refused = await ask(actor, ID, hold(ID, 4))
    assert isinstance(refused, ShowUnavailable), "claims and holds disagree: it stays shut"
    del house.store._shows[ID].taken[3]
    assert isinstance(await ask(actor, ID, hold(ID, 3)), SeatsHeld)


# -- activation -----------------------------------------------------------------------------------


async def test_concurrent_callers_share_one_activation(house: MemoryHouse) -> None:
    actor = house.start_actor()
    answers = await asyncio.gather(*(ask(actor, ID, hold(ID, seat)) for seat in range(50)))
    assert all(isinstance(answer, SeatsHeld) for answer in answers)
    assert house.shelf.loads == 1
    assert house.store.epoch_of(ID) == 1


async def test_an_unknown_show_is_not_found(house: MemoryHouse) -> None:
    actor = house.start_actor()
    stranger = make_show("nobody knows it").show_id
    assert isinstance(await ask(actor, stranger, hold(stranger, 0)), ShowNotFound)


async def test_a_show_that_belongs_to_another_kind_of_actor_has_moved(house: MemoryHouse) -> None:
    pool = house.start_actor(placement=Placement.POOLED)
    assert isinstance(await ask(pool, ID, hold(ID, 0)), ShowMoved)
    assert house.store.entries(ID) == []


async def test_an_activation_ends_the_holds_whose_deadline_has_passed_meanwhile(
    house: MemoryHouse,
) -> None:
    crashed = house.start_actor()
    held = hold(ID, 0)
    await ask(crashed, ID, held)
    clock_of(house).advance(GENEROUS.hold_ttl_ms + 1)
    successor = house.start_actor()
    await successor.wake([ID])
    await turn()
    assert [type(event) for event in house.events(ID)] == [SeatsHeld, HoldExpired]
    assert isinstance(await ask(successor, ID, hold(ID, 0)), SeatsHeld)


async def test_an_extended_hold_keeps_its_deadline_over_an_activation(house: MemoryHouse) -> None:
    crashed = house.start_actor()
    held = hold(ID, 0)
    await ask(crashed, ID, held)
    clock_of(house).advance(GENEROUS.hold_ttl_ms // 2)
    extended = await ask(crashed, ID, extend(held))
    assert isinstance(extended, HoldExtended)
    successor = house.start_actor()
    clock_of(house).advance(GENEROUS.hold_ttl_ms // 2 + 1)
    await successor.wake([ID])
    await turn()
    assert isinstance(await ask(successor, ID, confirm(held)), BookingConfirmed)


async def test_shows_of_one_plan_share_what_is_known_about_the_plan() -> None:
    one = make_show("one", placement=Placement.POOLED)
    two = make_show("two", plan=one.plan, placement=Placement.POOLED)
    house = MemoryHouse(one, two)
    actor = house.start_actor(placement=Placement.POOLED)
    await actor.submit([(show.show_id, hold(show.show_id, 0)) for show in (one, two)])
    assert len(actor._choosers) == 1


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


# -- time -----------------------------------------------------------------------------------------


async def test_a_hold_ends_at_its_deadline_without_any_traffic(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    clock_of(house).advance(GENEROUS.hold_ttl_ms - 1)
    actor.tick()
    await turn()
    assert [type(event) for event in house.events(ID)] == [SeatsHeld]
    clock_of(house).advance(1)
    actor.tick()
    await turn()
    assert [type(event) for event in house.events(ID)] == [SeatsHeld, HoldExpired]
    assert isinstance(await ask(actor, ID, hold(ID, 0, customer="bob")), SeatsHeld)


async def test_an_extended_hold_does_not_end_at_its_old_deadline(house: MemoryHouse) -> None:
    actor = house.start_actor()
    held = hold(ID, 0)
    await ask(actor, ID, held)
    clock_of(house).advance(GENEROUS.hold_ttl_ms - 1)
    await ask(actor, ID, extend(held))
    clock_of(house).advance(2)
    actor.tick()
    await turn()
    assert not any(isinstance(event, HoldExpired) for event in house.events(ID))
    clock_of(house).advance(GENEROUS.hold_ttl_ms)
    actor.tick()
    await turn()
    assert isinstance(house.events(ID)[-1], HoldExpired)


async def test_a_confirmed_hold_does_not_end_at_its_deadline(house: MemoryHouse) -> None:
    actor = house.start_actor()
    held = hold(ID, 0)
    await ask_all(actor, ID, [held, confirm(held)])
    clock_of(house).advance(GENEROUS.hold_life_ms_max)
    actor.tick()
    await turn()
    assert [type(event) for event in house.events(ID)] == [SeatsHeld, BookingConfirmed]


async def test_an_expiry_that_meets_a_newer_owner_makes_the_actor_drop_the_show(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.store.activate(SHOW)
    clock_of(house).advance(GENEROUS.hold_ttl_ms)
    actor.tick()
    await turn()
    assert (await actor.status()).shows == []


async def test_the_real_ticker_ends_a_hold_within_a_second_of_its_deadline() -> None:
    brief = make_show("brief", policy=SalesPolicy(hold_ttl_ms=1_000))
    house = MemoryHouse(brief, clock=SystemClock())
    actor = house.start_actor()
    held = await ask(actor, brief.show_id, hold(brief.show_id, 0))
    assert isinstance(held, SeatsHeld)
    await until(lambda: len(house.events(brief.show_id)) == 2)
    expired = house.events(brief.show_id)[-1]
    assert isinstance(expired, HoldExpired)
    assert 0 <= expired.at_ms - held.expires_at_ms < 1_000


async def test_signs_of_life_that_cannot_be_left_do_not_keep_holds_from_ending() -> None:
    brief = make_show("brief", policy=SalesPolicy(hold_ttl_ms=1_000))
    house = MemoryHouse(brief, clock=SystemClock())
    actor = house.start_actor()

    def full_disk() -> None:
        raise OSError(28, "No space left on device")

    actor._beat = full_disk
    await ask(actor, brief.show_id, hold(brief.show_id, 0))
    await until(lambda: len(house.events(brief.show_id)) == 2)
    assert isinstance(house.events(brief.show_id)[-1], HoldExpired)


# -- leaving memory -------------------------------------------------------------------------------


IDLE_MS = 60_000
PATIENT = SalesPolicy(hold_ttl_ms=20 * 60_000)


def pooled_house() -> tuple[MemoryHouse, ShowActor, ShowId]:
    show = make_show("patient", policy=PATIENT, placement=Placement.POOLED)
    house = MemoryHouse(show)
    return house, house.start_actor(placement=Placement.POOLED), show.show_id


async def shows_in(actor: ShowActor) -> list[ShowId]:
    return [show.show_id for show in (await actor.status()).shows]


async def test_an_idle_show_leaves_memory_and_comes_back_as_it_was() -> None:
    house, actor, show_id = pooled_house()
    held = hold(show_id, 0)
    await ask_all(actor, show_id, [held, confirm(held)])
    clock_of(house).advance(IDLE_MS - 1)
    actor.tick()
    assert await shows_in(actor) == [show_id]
    clock_of(house).advance(1_000)
    actor.tick()
    assert await shows_in(actor) == []
    assert actor._choosers == {}
    assert await ask(actor, show_id, hold(show_id, 0)) == Rejected(Rejection.SEAT_UNAVAILABLE, (0,))


async def test_a_show_with_a_live_hold_stays_in_memory() -> None:
    house, actor, show_id = pooled_house()
    await ask(actor, show_id, hold(show_id, 0))
    clock_of(house).advance(IDLE_MS + 1_000)
    actor.tick()
    assert await shows_in(actor) == [show_id]


async def test_a_show_whose_last_event_is_not_durable_stays_in_memory() -> None:
    house, actor, show_id = pooled_house()
    held = hold(show_id, 0)
    await ask(actor, show_id, held)
    house.journals[0].gate.clear()
    releasing = asyncio.ensure_future(
        ask(actor, show_id, ReleaseHold(held.hold_id, held.customer_id))
    )
    await turn()
    clock_of(house).advance(IDLE_MS + 1_000)
    actor.tick()
    assert await shows_in(actor) == [show_id]
    house.journals[0].gate.set()
    await releasing


async def test_an_unused_dedicated_actor_asks_to_leave_and_drains(house: MemoryHouse) -> None:
    asked: list[bool] = []
    actor = house.start_actor(on_idle=lambda: asked.append(True))
    held = hold(ID, 0)
    await ask_all(actor, ID, [held, confirm(held)])
    assert not await actor.drain()
    clock_of(house).advance(IDLE_MS)
    actor.tick()
    assert asked
    assert await actor.drain()
    fault = await ask(actor, ID, hold(ID, 1))
    assert isinstance(fault, ShowMoved)
    assert len(house.events(ID)) == 2


async def test_a_dedicated_actor_with_a_live_hold_never_leaves(house: MemoryHouse) -> None:
    patient = make_show("patient", policy=PATIENT)
    house = MemoryHouse(patient)
    asked: list[bool] = []
    actor = house.start_actor(on_idle=lambda: asked.append(True))
    await ask(actor, patient.show_id, hold(patient.show_id, 0))
    clock_of(house).advance(IDLE_MS + 1_000)
    actor.tick()
    assert not asked
    assert not await actor.drain()
    assert isinstance(await ask(actor, patient.show_id, hold(patient.show_id, 1)), SeatsHeld)


async def test_an_actor_that_is_still_answering_does_not_leave(house: MemoryHouse) -> None:
    actor = house.start_actor()
    held = hold(ID, 0)
    await ask_all(actor, ID, [held, confirm(held)])
    clock_of(house).advance(OWNERSHIP_TRUSTED_MS + 1)
    house.journals[0].gate.clear()
    asking_for_proof = asyncio.ensure_future(ask(actor, ID, hold(ID, 0)))
    await turn()
    clock_of(house).advance(IDLE_MS)
    actor.tick()
    assert not await actor.drain()
    house.journals[0].gate.set()
    assert isinstance(await asking_for_proof, Rejected | NotDone)


async def test_a_pool_never_asks_to_leave() -> None:
    asked: list[bool] = []
    show = make_show("pooled", placement=Placement.POOLED)
    house = MemoryHouse(show)
    pool = house.start_actor(placement=Placement.POOLED, on_idle=lambda: asked.append(True))
    await ask(pool, show.show_id, hold(show.show_id, 0))
    for _ in range(3):
        clock_of(house).advance(10 * GENEROUS.hold_ttl_ms)
        pool.tick()
        await turn()
    assert await shows_in(pool) == []
    assert not asked


async def test_a_store_that_does_not_let_go_does_not_keep_an_actor_from_leaving(
    house: MemoryHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = house.start_actor()
    await ask(actor, make_show("none").show_id, hold(ID, 0))
    clock_of(house).advance(IDLE_MS)

    async def broken_line() -> None:
        raise ConnectionResetError

    monkeypatch.setattr(house.journals[0], "close", broken_line)
    assert await actor.drain()


async def test_handing_over_finishes_what_is_in_flight(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    answering = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    await turn()
    handing_over = asyncio.ensure_future(actor.hand_over(ID))
    await turn()
    assert not handing_over.done()
    house.journals[0].gate.set()
    await handing_over
    assert isinstance(await answering, SeatsHeld)
    assert (await actor.status()).shows == []
    assert await ask(house.start_actor(), ID, hold(ID, 0, 1)) == Rejected(
        Rejection.SEAT_UNAVAILABLE, (0, 1)
    )


async def test_handing_over_waits_for_an_activation_that_has_begun(house: MemoryHouse) -> None:
    actor = house.start_actor()
    answering = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    await turn(1)
    await actor.hand_over(ID)
    assert (await actor.status()).shows == []
    assert isinstance(await answering, SeatsHeld | ShowUnavailable)
    assert house.audit(ID).faults == []


async def test_ended_holds_are_forgotten_in_time_and_their_names_may_be_used_again(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    held = hold(ID, 0)
    await ask_all(actor, ID, [held, ReleaseHold(held.hold_id, held.customer_id)])
    assert isinstance(await ask(actor, ID, held), Repeated)
    for _ in range(26):
        clock_of(house).advance(60 * 60_000)
        await ask(actor, ID, hold(ID, 1, customer="keeps it awake"))
        actor.tick()
        await turn()
    assert isinstance(await ask(actor, ID, held), SeatsHeld)
    assert house.audit(ID).faults == []


async def test_the_epochs_of_a_reply_are_those_of_the_shows_that_answered(
    house: MemoryHouse,
) -> None:
    house.store.activate(SHOW)
    actor = house.start_actor()
    stranger = make_show("nobody knows it").show_id
    reply = await actor.submit([(ID, hold(ID, 0)), (stranger, hold(stranger, 0))])
    assert reply.epochs == {ID: 2}
