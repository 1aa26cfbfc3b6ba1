"""A show that is on sale is changed: nothing is lost, and nothing is sold by what it was before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from actors.show_actor import ShowActor
from actors.show_ref import ShowRefs, Submit
from reservation.commands import CancelShow, Command
from reservation.events import HoldExtended, SeatsHeld, ShowCancelled
from reservation.fares import CategoryFare, FareTable
from reservation.faults import (
    Fault,
    NotDone,
    OutcomeUnknown,
    PlanTooSmall,
    ShowMoved,
    ShowNotFound,
    ShowUnavailable,
)
from reservation.ids import ShowId
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import Repeated
from reservation.show import Show
from tests.support.house import (
    GENEROUS,
    ID,
    SHOW,
    MemoryHouse,
    ask,
    audit,
    clock_of,
    end_tickers,
    extend,
    hold,
    make_plan,
    make_show,
    turn,
)

DEAR = FareTable("EUR", (CategoryFare(9_900),))


@pytest.fixture(autouse=True)
async def _tickers_end() -> AsyncIterator[None]:
    yield
    await end_tickers()


@pytest.fixture
def house() -> MemoryHouse:
    return MemoryHouse(SHOW)


def with_seats(show: Show, count: int) -> Show:
    return replace(show, plan=make_plan(count))


def change(house: MemoryHouse, show: Show) -> None:
    """What the catalogue says from now on."""
    house.shelf.shows[show.show_id] = show


async def insist(actor: ShowActor, show_id: ShowId, command: Command) -> object:
    """Ask as refs do: again, when nothing happened."""
    while isinstance(answer := await ask(actor, show_id, command), NotDone):
        await turn(1)
    return answer


def price(answer: object) -> int:
    assert isinstance(answer, SeatsHeld), answer
    return answer.seat_minor[0]


# -- the owner ------------------------------------------------------------------------------------


async def test_after_a_renewal_a_show_is_sold_by_its_new_facts_and_has_all_its_holds(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    first = hold(ID, 0)
    assert price(await ask(actor, ID, first)) == 1_000
    change(house, replace(SHOW, fares=DEAR, policy=replace(GENEROUS, seats_per_hold_max=1)))
    assert price(await ask(actor, ID, hold(ID, 1))) == 1_000, "nobody has told the owner yet"
    await actor.renew(ID)
    assert price(await ask(actor, ID, hold(ID, 2))) == 9_900
    assert await ask(actor, ID, hold(ID, 3, 4)) == Rejected(Rejection.TOO_MANY_SEATS_PER_HOLD)
    assert await ask(actor, ID, hold(ID, 0, customer="other")) == Rejected(
        Rejection.SEAT_UNAVAILABLE, (0,)
    )
    again = await ask(actor, ID, first)
    assert isinstance(again, Repeated)
    assert price(again.event) == 1_000
    clock_of(house).advance(1_000)
    assert isinstance(await ask(actor, ID, extend(first)), HoldExtended)
    assert house.audit(ID).faults == []


async def test_a_show_that_is_not_in_memory_is_active_after_its_renewal(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    change(house, replace(SHOW, fares=DEAR))
    await actor.renew(ID)
    assert [show.epoch for show in (await actor.status()).shows] == [1]
    assert price(await ask(actor, ID, hold(ID, 0))) == 9_900


async def test_what_is_on_its_way_is_durable_before_a_show_is_renewed(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    house.journals[0].gate.clear()
    answering = asyncio.ensure_future(ask(actor, ID, hold(ID, 1)))
    await turn()
    change(house, replace(SHOW, fares=DEAR))
    renewing = asyncio.ensure_future(actor.renew(ID))
    await turn()
    waiting = asyncio.ensure_future(ask(actor, ID, hold(ID, 2)))
    await turn()
    assert not renewing.done()
    assert not waiting.done(), "who asks meanwhile waits"
    house.journals[0].gate.set()
    await renewing
    assert price(await answering) == 1_000
    assert price(await waiting) == 9_900
    assert await ask(actor, ID, hold(ID, 0, 1, 2)) == Rejected(
        Rejection.SEAT_UNAVAILABLE, (0, 1, 2)
    )


async def test_a_crowd_that_asks_while_a_show_is_renewed_again_and_again_loses_nothing() -> None:
    show = with_seats(make_show("crowd"), 300)
    house = MemoryHouse(show)
    actor, show_id = house.start_actor(), show.show_id
    asking: list[asyncio.Task[object]] = []
    for number in range(300):
        wish = insist(actor, show_id, hold(show_id, number, customer=f"c{number}"))
        asking.append(asyncio.ensure_future(wish))
        if number % 50 == 25:
            fares = FareTable("EUR", (CategoryFare(1_000 + number),))
            change(house, replace(show, fares=fares))
            await actor.renew(show_id)
        if number % 7 == 0:
            await turn(1)
    answers = await asyncio.gather(*asking)
    assert all(isinstance(answer, SeatsHeld) for answer in answers)
    assert house.audit(show_id).faults == []
    assert len(house.store.holds_of(show_id)) == 300
    assert house.store.epoch_of(show_id) > 6
    assert len({price(answer) for answer in answers}) > 3, "the renewals came before or after it"


async def test_an_activation_that_has_begun_with_old_facts_does_not_decide_by_them(
    house: MemoryHouse,
) -> None:
    actor = house.start_actor()
    early = asyncio.ensure_future(ask(actor, ID, hold(ID, 0)))
    while not house.shelf.loads:
        await turn(1)
    change(house, replace(SHOW, fares=DEAR))
    await actor.renew(ID)
    await early
    assert price(await ask(actor, ID, hold(ID, 1))) == 9_900


class _OldNews:
    """A catalogue whose first answer is late, and old when it arrives."""

    def __init__(self, house: MemoryHouse) -> None:
        self._house = house
        self.gate = asyncio.Event()
        self.loads = 0

    async def load_show(self, show_id: ShowId) -> Show | None:
        show = self._house.shelf.shows.get(show_id)
        self.loads += 1
        if self.loads == 1:
            await self.gate.wait()
        return show


async def test_an_owner_that_takes_over_with_old_facts_finds_out_before_it_sells(
    house: MemoryHouse,
) -> None:
    renewed, late = house.start_actor(), house.start_actor()
    news = _OldNews(house)
    late._source = news
    waiting = asyncio.ensure_future(ask(late, ID, hold(ID, 0)))
    await turn()
    change(house, replace(SHOW, fares=DEAR))
    await renewed.renew(ID)
    news.gate.set()
    assert price(await waiting) == 9_900
    assert news.loads == 3


async def test_a_replaced_owner_cannot_sell_by_old_facts_after_a_renewal(
    house: MemoryHouse,
) -> None:
    zombie, current = house.start_actor(), house.start_actor()
    await ask(zombie, ID, hold(ID, 0))
    change(house, replace(SHOW, fares=DEAR))
    await current.renew(ID)
    assert isinstance(await ask(zombie, ID, hold(ID, 1)), NotDone)
    assert price(await ask(current, ID, hold(ID, 1))) == 9_900


async def test_a_renewed_show_may_have_more_seats(house: MemoryHouse) -> None:
    count = SHOW.plan.seat_count
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, count - 1))
    change(house, with_seats(SHOW, count + 2))
    await actor.renew(ID)
    assert isinstance(await ask(actor, ID, hold(ID, count, count + 1)), SeatsHeld)
    assert await ask(actor, ID, hold(ID, count - 1, customer="other")) == Rejected(
        Rejection.SEAT_UNAVAILABLE, (count - 1,)
    )


async def test_a_caller_that_knows_a_newer_plan_lets_the_owner_read_it(house: MemoryHouse) -> None:
    count = SHOW.plan.seat_count
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    change(house, with_seats(SHOW, count + 1))
    reply = await actor.submit([(ID, hold(ID, 1)), (ID, hold(ID, count)), (ID, hold(ID, 2))])
    assert [type(answer) for answer in reply.answers] == [ShowUnavailable] * 3
    for seat in (1, count, 2):
        assert isinstance(await ask(actor, ID, hold(ID, seat)), SeatsHeld)
    assert audit(with_seats(SHOW, count + 1), house.store).faults == []


@pytest.mark.parametrize("has_holds", [True, False])
async def test_a_plan_with_fewer_seats_than_before_is_refused(
    house: MemoryHouse, has_holds: bool
) -> None:
    actor = house.start_actor()
    if has_holds:
        await ask(actor, ID, hold(ID, 0))
    else:
        await actor.renew(ID)
    change(house, with_seats(SHOW, SHOW.plan.seat_count - 1))
    with pytest.raises(PlanTooSmall):
        await actor.renew(ID)
    assert isinstance(await ask(actor, ID, hold(ID, 1)), PlanTooSmall)
    change(house, SHOW)
    assert isinstance(await ask(actor, ID, hold(ID, 1)), SeatsHeld)


async def test_a_cancelled_show_stays_cancelled_when_it_is_renewed(house: MemoryHouse) -> None:
    actor = house.start_actor()
    await ask(actor, ID, hold(ID, 0))
    assert isinstance(await ask(actor, ID, CancelShow("storm")), ShowCancelled)
    await actor.renew(ID)
    assert await ask(actor, ID, hold(ID, 1)) == Rejected(Rejection.SHOW_CANCELLED)
    assert house.audit(ID).faults == []


async def test_a_show_that_is_not_there_cannot_be_renewed(house: MemoryHouse) -> None:
    with pytest.raises(ShowNotFound):
        await house.start_actor().renew(make_show("nobody knows it").show_id)


async def test_an_actor_that_leaves_renews_nothing(house: MemoryHouse) -> None:
    actor = house.start_actor()
    clock_of(house).advance(10 * 60_000)
    assert await actor.drain()
    with pytest.raises(ShowMoved):
        await actor.renew(ID)


# -- the refs -------------------------------------------------------------------------------------


class Renewer:
    """An actor, seen by refs, that says these faults first."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = list(faults)
        self.asked: list[tuple[str, ShowId]] = []

    def refs(self, *, deadline_ms: int = 5_000) -> ShowRefs:
        async def locate(show_id: ShowId) -> str:
            return f"owner {len(self.asked)}"

        async def connect(name: str) -> Submit:
            raise AssertionError("nothing is asked of it")

        return ShowRefs(locate, connect, ask_deadline_ms=deadline_ms, renew=self._renew)

    async def _renew(self, name: str, show_id: ShowId) -> None:
        self.asked.append((name, show_id))
        if self.faults:
            raise self.faults.pop(0)


async def test_refs_renew_until_it_is_done_and_look_the_owner_up_each_time() -> None:
    renewer = Renewer(ShowUnavailable("starting"), OutcomeUnknown("killed"), ShowMoved("left"))
    await renewer.refs().renew(ID)
    assert renewer.asked == [(f"owner {number}", ID) for number in range(4)]


async def test_refs_do_not_insist_on_a_plan_that_is_too_small() -> None:
    renewer = Renewer(PlanTooSmall("fewer seats"))
    with pytest.raises(PlanTooSmall):
        await renewer.refs().renew(ID)
    assert len(renewer.asked) == 1


@pytest.mark.parametrize("fault", [ShowUnavailable("away"), OutcomeUnknown("killed")])
async def test_refs_say_what_the_last_attempt_came_to(fault: Fault) -> None:
    renewer = Renewer(*[fault] * 1_000)
    with pytest.raises(type(fault)):
        await renewer.refs().renew(ID, deadline_ms=200)


async def test_a_renewal_without_an_answer_may_have_happened() -> None:
    async def locate(show_id: ShowId) -> str:
        return "owner"

    async def connect(name: str) -> Submit:
        raise AssertionError("nothing is asked of it")

    async def never(name: str, show_id: ShowId) -> None:
        await asyncio.Event().wait()

    refs = ShowRefs(locate, connect, ask_deadline_ms=100, renew=never)
    with pytest.raises(OutcomeUnknown):
        await refs.renew(ID)
