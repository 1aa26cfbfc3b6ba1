"""Readers see what actors on a real Ray have sold, through a real Valkey, and wake nobody."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest
import ray

from actors.naming import actor_name
from persistence.claim_reader import ClaimReader
from persistence.embedded_valkey import EmbeddedValkey
from persistence.seat_map_image import SeatMapImage, Shape
from persistence.valkey_seat_map_cache import ValkeySeatMapCache
from reservation.commands import Command
from reservation.events import SeatsHeld
from reservation.faults import Fault
from reservation.route import Segment
from reservation.show import Show
from serve_app.api.seat_maps import SeatMaps
from tests.support.house import confirm, hold, until
from tests.support.meanwhile import begun
from tests.support.ray_house import RayHouse


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


def shape_of(show: Show) -> Shape:
    plan = show.plan
    return Shape(plan.seat_count, show.route.leg_count, len(plan.admission_tiers))


def marks(image: SeatMapImage | None) -> str:
    return "" if image is None else image.statuses(Segment(0, 1), b"fhbx")[:6].decode()


async def published(cache: ValkeySeatMapCache, show: Show, expected: str) -> SeatMapImage:
    """The image in the cache, once it shows this. Nobody else here puts one there."""
    async with asyncio.timeout(20):
        while True:
            image = (await cache.find(show.show_id, None)).image
            if image is not None and marks(image) == expected:
                return image
            await asyncio.sleep(0.005)


async def look_on(cache: ValkeySeatMapCache, show: Show) -> None:
    while True:
        await cache.find(show.show_id, None)
        await asyncio.sleep(0.5)


@pytest.fixture(scope="module", autouse=True)
async def suspended(
    request: pytest.FixtureRequest, ray_house: RayHouse, valkey: EmbeddedValkey
) -> AsyncIterator[asyncio.Future[None]]:
    """Most of it waits for another owner, so this begins before the others."""
    test = "test_a_suspended_owner_that_wakes_up_does_not_bring_its_old_map_back"
    story = suspend_an_owner_and_wake_it_up
    async with begun(request, test, lambda: story(ray_house, valkey)) as told:
        yield told


async def suspend_an_owner_and_wake_it_up(house: RayHouse, valkey: EmbeddedValkey) -> None:
    show = await house.add_show()
    show_id = show.show_id
    refs = house.open_refs(redis_url=valkey.url)
    cache = ValkeySeatMapCache(valkey.url, timeout_ms=5_000)
    await cache.find(show_id, None)
    assert isinstance(await refs.ask(show_id, hold(show_id, 0)), SeatsHeld)
    await published(cache, show, "hfffff")
    pid = await house.pid_of(show)
    # Only what somebody has wanted in the last seconds is published.
    looking = asyncio.ensure_future(look_on(cache, show))
    os.kill(pid, signal.SIGSTOP)
    try:
        # The node's watchdog may end it meanwhile; then the show has a new owner for sure.
        async with asyncio.timeout(60):
            while True:
                try:
                    await refs.ask(show_id, hold(show_id, 1))
                except Fault:
                    await asyncio.sleep(0.1)
                else:
                    break
        owner = await published(cache, show, "hhffff")
    finally:
        looking.cancel()
        if psutil.pid_exists(pid):
            os.kill(pid, signal.SIGCONT)
    seen = set()
    for _ in range(100):
        image = (await cache.find(show_id, None)).image
        if image is not None:
            assert (image.epoch, image.seq) >= (owner.epoch, owner.seq)
            seen.add(marks(image))
        await asyncio.sleep(0.02)
    assert seen <= {"hhffff"}
    await house.verify(show)
    await cache.close()


async def test_an_actor_publishes_what_it_sold_and_so_does_the_one_after_it(
    house: RayHouse, valkey: EmbeddedValkey
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    refs = house.open_refs(redis_url=valkey.url)
    cache = ValkeySeatMapCache(valkey.url, timeout_ms=5_000)
    await cache.find(show_id, None)

    async def insist(command: Command) -> None:
        async with asyncio.timeout(30):
            while True:
                try:
                    await refs.ask(show_id, command)
                except Fault:
                    await asyncio.sleep(0.05)
                else:
                    return

    await insist(hold(show_id, 0))
    first = await published(cache, show, "hfffff")
    pid = await house.pid_of(show)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not psutil.pid_exists(pid))
    # Nobody looks any more for a while: the first one's map is over, and its mark may be.
    await asyncio.sleep(1.1)
    assert (await cache.find(show_id, None)).image is None
    await insist(hold(show_id, 1))
    second = await published(cache, show, "hhffff")
    assert second.epoch > first.epoch
    assert second.seq > first.seq
    await house.verify(show)
    await cache.close()


async def test_readers_start_no_actor_and_let_it_leave(
    house: RayHouse, valkey: EmbeddedValkey
) -> None:
    show = await house.add_show()
    name = actor_name(show.show_id, show.placement, house.config.shards, house.config.pool_slots)
    cache = ValkeySeatMapCache(valkey.url, timeout_ms=5_000)
    maps = SeatMaps(ClaimReader([house.pool], house.config.shards), cache)
    for _ in range(30):
        assert marks(await maps.read(show.show_id, shape_of(show))) == "ffffff"
        await asyncio.sleep(0.05)
    with pytest.raises(ValueError, match="Failed to look up actor"):
        ray.get_actor(name, namespace=house.config.namespace)
    refs = house.open_refs(redis_url=valkey.url, passivate_after_ms=1_000)
    command = hold(show.show_id, 0)
    held = await refs.ask(show.show_id, command)
    assert isinstance(held, SeatsHeld)
    async with asyncio.timeout(20):
        while marks(await maps.read(show.show_id, shape_of(show))) != "hfffff":  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    pid = await house.pid_of(show)
    await refs.ask(show.show_id, confirm(held))
    async with asyncio.timeout(30):
        while psutil.pid_exists(pid):
            # Somebody looks all the time, and the actor leaves all the same.
            assert marks(await maps.read(show.show_id, shape_of(show))) in ("hfffff", "bfffff")
            await asyncio.sleep(0.02)
    assert marks(await maps.read(show.show_id, shape_of(show))) == "bfffff"
    await maps.close()
    await cache.close()


async def test_a_suspended_owner_that_wakes_up_does_not_bring_its_old_map_back(
    suspended: asyncio.Future[None],
) -> None:
    await suspended
