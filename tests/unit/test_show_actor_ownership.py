"""A show actor that takes shows, loses them, and keeps one's trouble from the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.show_actor import OWNERSHIP_TRUSTED_MS
from reservation.commands import ReleaseHold
from reservation.events import BookingConfirmed, HoldExpired, HoldExtended, SeatsHeld
from reservation.faults import (
    Diverged,
    Fenced,
    NotDone,
    OutcomeUnknown,
    ShowMoved,
    ShowNotFound,
    ShowUnavailable,
)
from reservation.ids import ShowId
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import SeatMap
from reservation.show import Placement, Show
from tests.support.house import (
    GENEROUS,
    ID,
    NEIGHBOUR,
    SHOW,
    MemoryHouse,
    ask,
    clock_of,
    confirm,
    end_tickers,
    extend,
    hold,
    make_show,
    turn,
)


@pytest.fixture(autouse=True)
async def _tickers_end() -> AsyncIterator[None]:
    yield
    await end_tickers()


@pytest.fixture
def house() -> MemoryHouse:
    return MemoryHouse(SHOW, NEIGHBOUR)


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
    assert house.shelf.loads == 2, "once before the epoch is taken, and once after it"
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
