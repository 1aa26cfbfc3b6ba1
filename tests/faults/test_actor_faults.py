"""A show's actor is killed, frozen, paused or blocked: F1 to F4 (docs/TESTING.md).

Nothing that was acknowledged is lost, nothing is sold twice, and every outcome gets known.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from typing import Any

import psutil
import pytest
import ray

from actors.heartbeat import read_signs
from actors.naming import SUPERVISOR, watchdog_name
from actors.watchdog import SILENCE_MS_MAX
from reservation.events import SeatsHeld
from reservation.faults import OutcomeUnknown
from reservation.seat_map import Repeated
from reservation.show import SalesPolicy
from tests.support.house import hold
from tests.support.lossy_proxy import LossyProxy
from tests.support.ray_house import RayHouse
from tests.support.ray_load import Load

measured = logging.getLogger("measured")

FIRST_HOLD_AFTER_KILL_S_MAX = 3.0
FIRST_HOLD_AFTER_STOP_S_MAX = 6.0
OVERDUE_END_MS_MAX = 2_500
BLOCKED_S = 3.0

BRIEF = SalesPolicy(hold_ttl_ms=3_000)


async def killed_by_watchdog() -> list[int]:
    node_id = ray.get_runtime_context().get_node_id()
    killed: list[int] = await ray.get_actor(watchdog_name(node_id)).killed.remote()
    return killed


async def test_f1_a_killed_actor_loses_nothing_and_sells_again_within_three_seconds(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    load = Load(house.refs.ask, [show])
    await load.until_booked()
    victim = await house.pid_of(show)
    os.kill(victim, signal.SIGKILL)
    seconds = await load.first_new_hold(show, time.monotonic())
    measured.info("kill -9: first new hold after %.2f s", seconds)
    await load.until_booked()
    await load.stop()
    assert not psutil.pid_exists(victim)
    assert await house.pid_of(show) != victim
    assert load.unknown > 0, "nobody was under way when the actor died"
    assert seconds < FIRST_HOLD_AFTER_KILL_S_MAX
    await house.check(load)


async def test_f1_an_actor_killed_between_its_commit_and_its_answer_is_found_to_have_sold(
    house: RayHouse, line: LossyProxy
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    refs = house.open_refs_through(line.dsn)
    await refs.ask(show_id, hold(show_id, 0))
    victim = await house.pid_of(show)
    command = hold(show_id, 1)
    line.keep_answer(show_id)
    asking = asyncio.ensure_future(refs.ask(show_id, command))
    await line.lost.wait()
    assert await house.state_of(command.hold_id) == "held", "it was not committed"
    assert not asking.done()
    os.kill(victim, signal.SIGKILL)
    with pytest.raises(OutcomeUnknown):
        await asking
    load = Load(refs.ask, [show], clients=0)
    assert isinstance(await load.insist(show_id, command), SeatsHeld)
    assert isinstance(await refs.ask(show_id, command), Repeated)
    assert await house.pid_of(show) != victim
    await house.verify(show)


async def test_f2_a_frozen_actor_is_replaced_within_six_seconds_and_nothing_is_lost(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    load = Load(house.refs.ask, [show])
    await load.until_booked()
    victim = await house.pid_of(show)
    os.kill(victim, signal.SIGSTOP)
    seconds = await load.first_new_hold(show, time.monotonic())
    measured.info("SIGSTOP: first new hold after %.2f s", seconds)
    await load.stop()
    assert victim in await killed_by_watchdog()
    assert await house.pid_of(show) != victim
    assert seconds < FIRST_HOLD_AFTER_STOP_S_MAX
    await house.check(load)


async def test_f3_a_pause_of_one_second_costs_nothing_but_time(house: RayHouse) -> None:
    show = await house.add_show()
    load = Load(house.refs.ask, [show])
    await load.until_booked()
    pid = await house.pid_of(show)
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(0.3)
    answered_before_pause = load.acknowledged
    await asyncio.sleep(0.7)
    assert load.acknowledged == answered_before_pause, "the actor was not paused"
    os.kill(pid, signal.SIGCONT)
    await load.until_booked()
    await asyncio.sleep(1)
    await load.stop()
    assert pid not in await killed_by_watchdog()
    assert await house.pid_of(show) == pid
    assert load.unknown == 0
    await house.check(load)


async def test_f4_an_event_loop_that_is_blocked_for_three_seconds_costs_nothing_but_time(
    house: RayHouse,
) -> None:
    assert BLOCKED_S * 1_000 < SILENCE_MS_MAX
    show = await house.add_show()
    load = Load(house.refs.ask, [show])
    await load.until_booked()
    pid = await house.pid_of(show)
    handle = await house.actor_of(show)._find()
    # Shows to wake are walked through on the actor's loop, and this list takes its time.
    blocking: Any = filter(time.sleep, [BLOCKED_S])
    blocked = handle.wake.remote(blocking)
    await asyncio.sleep(0.5)
    # A stopped process would be a different fault.
    assert psutil.Process(pid).status() in (psutil.STATUS_SLEEPING, psutil.STATUS_RUNNING)
    answered_before = load.acknowledged
    await asyncio.sleep(BLOCKED_S - 1.5)
    assert load.acknowledged == answered_before, "the event loop was not blocked"
    await blocked
    await load.until_booked()
    await load.stop()
    assert pid not in await killed_by_watchdog()
    assert await house.pid_of(show) == pid
    assert load.unknown == 0
    await house.check(load)


# -- deadlines without an owner -------------------------------------------------------------------


async def lateness_ms(house: RayHouse, held: SeatsHeld) -> int:
    row = await house.pool.fetchrow(
        "SELECT ended_at_ms - deadline_at_ms AS late_ms FROM hold"
        " WHERE hold_id = $1 AND state = 'expired'",
        held.hold_id,
    )
    assert row is not None
    return int(row["late_ms"])


async def expired(house: RayHouse, held: SeatsHeld) -> None:
    async with asyncio.timeout(20):
        # Postgres tells nobody, so it has to be asked.
        while await house.state_of(held.hold_id) == "held":  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_f1_a_hold_whose_actor_was_killed_ends_without_anybody_asking(
    house: RayHouse,
) -> None:
    show = await house.add_show(policy=BRIEF)
    held = await house.refs.ask(show.show_id, hold(show.show_id, 0))
    assert isinstance(held, SeatsHeld)
    victim = await house.pid_of(show)
    os.kill(victim, signal.SIGKILL)
    await expired(house, held)
    late_ms = await lateness_ms(house, held)
    measured.info("a hold of a killed actor ended %d ms after its deadline", late_ms)
    assert not psutil.pid_exists(victim)
    assert 0 <= late_ms < OVERDUE_END_MS_MAX
    await house.verify(show)


async def test_f1_a_supervisor_that_was_killed_goes_on_with_its_work(house: RayHouse) -> None:
    show = await house.add_show(policy=BRIEF)
    held = await house.refs.ask(show.show_id, hold(show.show_id, 0))
    assert isinstance(held, SeatsHeld)
    (supervisor,) = [
        sign.pid
        for sign in read_signs(house.config.heartbeat_dir)
        if sign.path.name.startswith(f"{SUPERVISOR}.") and psutil.pid_exists(sign.pid)
    ]
    os.kill(supervisor, signal.SIGKILL)
    os.kill(await house.pid_of(show), signal.SIGKILL)
    await expired(house, held)
    assert not psutil.pid_exists(supervisor)
    measured.info(
        "with the supervisor killed too: %d ms after its deadline", await lateness_ms(house, held)
    )
    await house.verify(show)
