"""How Ray words bad news. ``actors.activation`` tells *not done* from *unknown* by it.

These tests are for the day on which Ray is renewed: what fails here has to be looked at before
anything is said to be *not done*.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import ray

from actors.activation import RemoteShowActor
from reservation.faults import Fault, NotDone, OutcomeUnknown, ShowUnavailable
from tests.support.ray_house import RayHouse

CONSTRUCTION_S = 1.5


def actor_class() -> Any:
    """An actor that is started as ``activation`` starts its own, and takes its time to come."""

    class Slow:
        def __init__(self) -> None:
            time.sleep(CONSTRUCTION_S)

        async def status(self) -> int:
            return os.getpid()

        async def line(self) -> None:
            """It has no line, so that its callers use Ray's calls."""

        async def submit(self, requests: list[object]) -> None:
            await asyncio.sleep(30)

        async def wake(self, show_ids: list[str]) -> None:
            ray.actor.exit_actor()

    return ray.remote(Slow)


class Probe:
    """The actor as ``activation`` sees it."""

    def __init__(self, house: RayHouse) -> None:
        self.handle = (
            actor_class()
            .options(
                lifetime="detached",
                name=f"probe {time.monotonic_ns()}",
                namespace=house.config.namespace,
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=1_000,
                num_cpus=0,
            )
            .remote()
        )
        self.remote = RemoteShowActor("probe", house.config)
        self.remote._handle = self.handle

    async def pid(self) -> int:
        pid: Any = await self.remote.status()
        return int(pid)

    async def fault_of_a_status(self) -> Fault | None:
        try:
            await self.remote.status()
        except Fault as fault:
            return fault
        return None


@pytest.fixture
async def probe(house: RayHouse) -> AsyncIterator[Probe]:
    probe = Probe(house)
    yield probe
    ray.kill(probe.handle, no_restart=True)


async def test_a_command_under_way_when_its_actor_crashes_is_unknown(probe: Probe) -> None:
    pid = await probe.pid()
    asking = asyncio.ensure_future(probe.remote([]))
    await asyncio.sleep(0.3)
    assert probe.remote._is_far
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(OutcomeUnknown):
        await asking
    assert not probe.remote._is_far, "the next command has to ask whether it came back here"


async def test_a_command_to_an_actor_that_is_being_restarted_is_not_done(probe: Probe) -> None:
    pid = await probe.pid()
    os.kill(pid, signal.SIGKILL)
    faults: list[Fault] = []
    async with asyncio.timeout(20):
        while (fault := await probe.fault_of_a_status()) is not None:
            faults.append(fault)
            await asyncio.sleep(0.05)
    # The first ones may have been sent before anybody knew.
    while faults and isinstance(faults[0], OutcomeUnknown):
        faults.pop(0)
    assert len(faults) > 5, "the restart was over before it was met"
    assert all(isinstance(fault, ShowUnavailable) for fault in faults)
    assert await probe.pid() != pid


async def test_a_command_to_an_actor_that_has_left_on_purpose_is_not_done(probe: Probe) -> None:
    await probe.pid()
    with pytest.raises(Fault):
        await probe.remote.wake([])
    probe.remote._handle = probe.handle
    async with asyncio.timeout(20):
        # The first ones may have been sent before Ray knew why the process went away.
        while not isinstance(await probe.fault_of_a_status(), NotDone):
            probe.remote._handle = probe.handle
            await asyncio.sleep(0.05)
    assert probe.remote._handle is None, "the next command has to find another one"


async def test_a_command_under_way_when_its_actor_is_killed_for_good_is_unknown(
    probe: Probe,
) -> None:
    await probe.pid()
    asking = asyncio.ensure_future(probe.remote([]))
    await asyncio.sleep(0.3)
    ray.kill(probe.handle, no_restart=True)
    with pytest.raises(OutcomeUnknown):
        await asking
    assert probe.remote._handle is None, "the next command has to find another one"
