"""A show on sale is changed while a crowd buys: over real processes, refs and databases."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from persistence.plan_codec import plan_id_of
from reservation.commands import CancelShow
from reservation.events import SeatsHeld, ShowCancelled
from reservation.fares import CategoryFare, FareTable
from reservation.faults import PlanTooSmall
from reservation.rejections import Rejected, Rejection
from reservation.show import Placement
from tests.support.house import hold, make_listing, make_plan, make_show
from tests.support.ray_house import RayHouse
from tests.support.ray_load import Load


@pytest.mark.parametrize("placement", Placement)
async def test_a_show_that_is_changed_under_load_is_sold_by_its_new_facts_and_loses_nothing(
    house: RayHouse, placement: Placement
) -> None:
    name, plan = f"renewed {placement.value}", make_plan(2_000)
    await house.catalogue.put_plan(plan_id_of(plan), plan, {}, {})
    show = make_show(name, plan=plan, placement=placement)
    show_id = show.show_id
    assert not (await house.catalogue.put_shows([make_listing(name, show)])).refused
    load = Load(house.refs.ask, [show])
    await load.until_booked(20)
    before = await house.actor_of(show).status()
    for euros in (20, 30, 40):
        fares = FareTable("EUR", tuple(CategoryFare(100 * euros) for _ in plan.categories))
        changed = replace(make_listing(name, show), fares=fares)
        assert not (await house.catalogue.put_shows([changed])).refused
        await house.refs.renew(show_id)
        seats = range(1_900 + euros, 1_910 + euros)
        answers = await asyncio.gather(
            *(house.refs.ask(show_id, hold(show_id, seat, customer=name)) for seat in seats)
        )
        for answer in answers:
            assert isinstance(answer, SeatsHeld | Rejected)
            if isinstance(answer, SeatsHeld):
                assert answer.seat_minor == (100 * euros,)
        assert any(isinstance(answer, SeatsHeld) for answer in answers)
        await load.until_booked(20)
    await load.stop()
    after = await house.actor_of(show).status()
    assert after.pid == before.pid, "a renewal needs no new process"
    assert load.unknown == 0
    await house.verify(show)
    cancelled = await house.refs.ask(show_id, CancelShow("storm"))
    assert isinstance(cancelled, ShowCancelled)
    await house.refs.renew(show_id)
    refused = await house.refs.ask(show_id, hold(show_id, 0))
    assert refused == Rejected(Rejection.SHOW_CANCELLED)
    await house.verify(show)


async def test_what_an_owner_says_about_its_renewal_arrives_as_it_was_said(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    assert isinstance(await house.refs.ask(show_id, hold(show_id, 0)), SeatsHeld)
    small = make_plan(30)
    await house.catalogue.put_plan(plan_id_of(small), small, {}, {})
    await house.pool.execute(
        "UPDATE show SET plan_id = $2 WHERE show_id = $1", show_id, plan_id_of(small)
    )
    with pytest.raises(PlanTooSmall):
        await house.refs.renew(show_id)
    await house.pool.execute(
        "UPDATE show SET plan_id = $2 WHERE show_id = $1", show_id, plan_id_of(show.plan)
    )
    await house.refs.renew(show_id)
    assert isinstance(await house.refs.ask(show_id, hold(show_id, 1)), SeatsHeld)
    await house.verify(show)
