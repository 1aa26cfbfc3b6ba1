"""What a show actor does when time passes: holds end, shows leave memory, it leaves itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from actors import show_actor
from actors.clock import SystemClock
from actors.show_actor import OWNERSHIP_TRUSTED_MS, ShowActor
from reservation.commands import ReleaseHold
from reservation.events import BookingConfirmed, HoldExpired, SeatsHeld
from reservation.faults import (
    NotDone,
    ShowMoved,
    ShowUnavailable,
)
from reservation.ids import ShowId
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import Repeated
from reservation.show import Placement, SalesPolicy
from tests.support.house import (
    GENEROUS,
    ID,
    NEIGHBOUR,
    SHOW,
    MemoryHouse,
    ask,
    ask_all,
    clock_of,
    confirm,
    end_tickers,
    extend,
    hold,
    make_show,
    turn,
    until,
)


@pytest.fixture(autouse=True)
async def _tickers_end() -> AsyncIterator[None]:
    yield
    await end_tickers()


@pytest.fixture
def house() -> MemoryHouse:
    return MemoryHouse(SHOW, NEIGHBOUR)


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
    assert len(actor._choosers) == 0
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


async def test_many_shows_are_looked_after_a_few_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(show_actor, "SHOWS_KEPT_AT_ONCE_MAX", 2)
    shows = [make_show(f"pooled {number}", placement=Placement.POOLED) for number in range(5)]
    house = MemoryHouse(*shows)
    pool = house.start_actor(placement=Placement.POOLED)
    for show in shows:
        held = hold(show.show_id, 0)
        await ask_all(pool, show.show_id, [held, ReleaseHold(held.hold_id, held.customer_id)])
    clock_of(house).advance(IDLE_MS)
    left = []
    for _ in range(3):
        pool.tick()
        await turn()
        left.append(len(await shows_in(pool)))
    assert left == [3, 1, 0]


async def test_however_many_shows_there_are_the_last_one_has_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(show_actor, "SHOWS_KEPT_AT_ONCE_MAX", 2)
    shows = [make_show(f"pooled {number}", placement=Placement.POOLED) for number in range(5)]
    house = MemoryHouse(*shows)
    pool = house.start_actor(placement=Placement.POOLED)
    *busy, last = shows
    for show in busy:  # These come first.
        await ask(pool, show.show_id, hold(show.show_id, 0))
    held = hold(last.show_id, 0)
    released = ReleaseHold(held.hold_id, held.customer_id)
    await ask_all(pool, last.show_id, [held, released])
    clock_of(house).advance(IDLE_MS)
    for show in busy:
        await ask(pool, show.show_id, hold(show.show_id, 1))
    for _ in range(10):
        clock_of(house).advance(show_actor.HOUSEKEEPING_MS)
        pool.tick()
        await turn()
    assert await shows_in(pool) == [show.show_id for show in busy]


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
    assert isinstance(await answering, SeatsHeld | ShowUnavailable)
    assert (await actor.status()).shows == []
    assert house.store.epoch_of(ID) == 1, "there was no activation to wait for"
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
