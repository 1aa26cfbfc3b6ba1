"""Which process a show lives in: alone, with many others, moved, or in none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import psutil
import pytest

from actors.activation import RemoteShowActor
from persistence.plan_codec import plan_id_of
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.rejections import Rejected, Rejection
from reservation.show import Placement
from tests.support.house import confirm, hold, make_listing, make_plan, make_show, until
from tests.support.meanwhile import begun
from tests.support.ray_house import RayHouse
from tests.support.ray_load import Load
from tests.support.recorded_history import Recorder

measured = logging.getLogger("measured")


@pytest.fixture(scope="module", autouse=True)
async def leaving(
    request: pytest.FixtureRequest, ray_house: RayHouse
) -> AsyncIterator[asyncio.Future[None]]:
    """It is quiet most of the time, so this begins before the others."""
    test = "test_an_actor_that_leaves_while_it_is_wanted_again_turns_nobody_away"
    story = commands_for_an_actor_that_is_about_to_leave
    async with begun(request, test, lambda: story(ray_house)) as told:
        yield told


async def commands_for_an_actor_that_is_about_to_leave(house: RayHouse) -> None:
    """They arrive just when it decides to go, over and over."""
    show = await house.add_show()
    show_id = show.show_id
    refs = house.open_refs(passivate_after_ms=1_000)
    pids = set()
    for seat in range(6):
        command = hold(show_id, seat)
        assert isinstance(await refs.ask(show_id, command), SeatsHeld)
        assert isinstance(await refs.ask(show_id, confirm(command)), BookingConfirmed)
        pids.add(await house.pid_of(show))
        if seat < 5:
            # A show leaves memory at the first housekeeping after a second of quiet.
            await asyncio.sleep(1.7 + 0.1 * seat)
    assert len(pids) > 1, "the actor never left"
    await house.verify(show)


async def test_an_unused_actor_gives_its_process_back_and_comes_again_with_all_it_knew(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    refs = house.open_refs(passivate_after_ms=1_000)
    command = hold(show_id, 0)
    assert isinstance(await refs.ask(show_id, command), SeatsHeld)
    status = await house.actor_of(show).status()
    await asyncio.sleep(3)
    assert psutil.pid_exists(status.pid), "an actor with a live hold must stay"
    assert isinstance(await refs.ask(show_id, confirm(command)), BookingConfirmed)
    await until(lambda: not psutil.pid_exists(status.pid), timeout_s=20)
    measured.info("passivation gave %.1f MiB back", status.private_bytes / 2**20)
    # The same refs still have the handle of the one that left.
    assert await refs.ask(show_id, hold(show_id, 0)) == Rejected(Rejection.SEAT_UNAVAILABLE, (0,))
    assert await house.pid_of(show) != status.pid
    await house.verify(show)


async def test_many_quiet_shows_share_few_processes(house: RayHouse) -> None:
    plan = make_plan(60)
    await house.catalogue.put_plan(plan_id_of(plan), plan, {}, {})
    shows = {
        f"run {number}": make_show(f"run {number}", plan=plan, placement=Placement.POOLED)
        for number in range(300)
    }
    await house.catalogue.put_shows([make_listing(name, show) for name, show in shows.items()])
    outcomes = await asyncio.gather(
        *(house.refs.ask(show.show_id, hold(show.show_id, 0)) for show in shows.values())
    )
    assert all(isinstance(outcome, SeatsHeld) for outcome in outcomes)
    pools = [RemoteShowActor(f"pool:0:{slot}", house.config) for slot in range(2)]
    statuses = [await pool.status() for pool in pools]
    assert len({status.pid for status in statuses}) == 2
    living = {show.show_id for status in statuses for show in status.shows}
    assert {show.show_id for show in shows.values()} <= living
    for status in statuses:
        measured.info(
            "%s: %d shows in %.1f MiB", status.name, len(status.shows), status.private_bytes / 2**20
        )
        assert len(status.shows) > 50
    await house.verify(*shows.values())


async def test_a_show_that_is_moved_under_load_loses_nothing(house: RayHouse) -> None:
    pooled = await house.add_show(placement=Placement.POOLED)
    neighbour = await house.add_show(placement=Placement.POOLED)
    load = Load(house.refs.ask, [pooled, neighbour])
    await load.until_booked(20)
    pool = house.actor_of(pooled)
    assert pooled.show_id in {show.show_id for show in (await pool.status()).shows}
    await house.catalogue.set_placement(pooled.show_id, Placement.DEDICATED)
    await pool.hand_over(pooled.show_id)
    await load.until_booked(40)
    moved = house.actor_of(pooled, Placement.DEDICATED)
    assert [show.show_id for show in (await moved.status()).shows] == [pooled.show_id]
    assert pooled.show_id not in {show.show_id for show in (await pool.status()).shows}
    # And back again, this time without telling the owner: the fence tells it.
    await house.catalogue.set_placement(pooled.show_id, Placement.POOLED)
    impatient = Recorder(house.open_refs().ask)
    attempt = await impatient.once("impatient", pooled.show_id, hold(pooled.show_id, 19_999))
    assert isinstance(attempt.outcome, SeatsHeld)
    await load.until_booked(40)
    await load.stop()
    assert pooled.show_id in {show.show_id for show in (await pool.status()).shows}
    assert load.unknown == 0
    await house.check_history(load.shows, [*load.recorder.attempts, attempt])


async def test_two_processes_that_start_one_actor_at_one_time_get_the_same(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    processes = [house.open_refs() for _ in range(6)]
    outcomes = await asyncio.gather(
        *(refs.ask(show_id, hold(show_id, seat)) for seat, refs in enumerate(processes))
    )
    assert all(isinstance(outcome, SeatsHeld) for outcome in outcomes)
    status = await house.actor_of(show).status()
    assert [(live.show_id, live.epoch) for live in status.shows] == [(show_id, 1)]


async def test_an_actor_that_leaves_while_it_is_wanted_again_turns_nobody_away(
    leaving: asyncio.Future[None],
) -> None:
    await leaving
