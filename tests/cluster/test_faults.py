"""What breaks under load, and that nothing which was acknowledged is lost by it."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time

import asyncpg
import psutil
import pytest
import ray

from actors.clock import SystemClock
from actors.heartbeat import read_signs
from actors.naming import SUPERVISOR, watchdog_name
from actors.show_actor import ShowActor
from persistence.postgres_journal import PostgresJournal
from reservation.commands import ReleaseHold
from reservation.events import HoldReleased, SeatsHeld
from reservation.faults import Fenced, NotDone
from reservation.rejections import Rejected
from reservation.seat_map import Repeated
from reservation.show import Placement, SalesPolicy, Show
from tests.cluster.conftest import Load, RayHouse, first_new_hold_after
from tests.support.house import ask, end_tickers, hold, until

measured = logging.getLogger("measured")

FIRST_HOLD_AFTER_KILL_S_MAX = 3.0
FIRST_HOLD_AFTER_STOP_S_MAX = 6.0
OVERDUE_END_MS_MAX = 2_500

BRIEF = SalesPolicy(hold_ttl_ms=3_000)


async def killed_by_watchdog() -> list[int]:
    node_id = ray.get_runtime_context().get_node_id()
    return await ray.get_actor(watchdog_name(node_id)).killed.remote()


async def test_a_killed_actor_loses_nothing_and_sells_again_within_three_seconds(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    load = Load(house, show)
    await until(lambda: len(load.booked) > 20, timeout_s=30)
    victim = await house.pid_of(show)
    os.kill(victim, signal.SIGKILL)
    seconds = await first_new_hold_after(load, show, time.monotonic())
    measured.info("kill -9: first new hold after %.2f s", seconds)
    booked = len(load.booked)
    await until(lambda: len(load.booked) > booked + 20, timeout_s=30)
    await load.stop()
    assert not psutil.pid_exists(victim)
    assert await house.pid_of(show) != victim
    assert load.unknown > 0, "nobody was under way when the actor died"
    assert seconds < FIRST_HOLD_AFTER_KILL_S_MAX
    await load.verify()


async def test_a_frozen_actor_is_replaced_within_six_seconds_and_nothing_is_lost(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    load = Load(house, show)
    await until(lambda: len(load.booked) > 20, timeout_s=30)
    victim = await house.pid_of(show)
    os.kill(victim, signal.SIGSTOP)
    seconds = await first_new_hold_after(load, show, time.monotonic())
    measured.info("SIGSTOP: first new hold after %.2f s", seconds)
    await load.stop()
    assert victim in await killed_by_watchdog()
    assert await house.pid_of(show) != victim
    assert seconds < FIRST_HOLD_AFTER_STOP_S_MAX
    await load.verify()


async def test_a_pause_of_one_second_costs_nothing_but_time(house: RayHouse) -> None:
    show = await house.add_show()
    load = Load(house, show)
    await until(lambda: len(load.booked) > 20, timeout_s=30)
    pid = await house.pid_of(show)
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(0.3)
    answered_before_pause = len(load.acknowledged_at)
    await asyncio.sleep(0.7)
    assert len(load.acknowledged_at) == answered_before_pause, "the actor was not paused"
    os.kill(pid, signal.SIGCONT)
    await until(lambda: len(load.acknowledged_at) > answered_before_pause + 20, timeout_s=30)
    await asyncio.sleep(1)
    await load.stop()
    assert pid not in await killed_by_watchdog()
    assert await house.pid_of(show) == pid
    assert load.unknown == 0
    await load.verify()


async def test_postgres_that_crashes_loses_nothing_and_every_outcome_gets_known(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    load = Load(house, show)
    await until(lambda: len(load.booked) > 20, timeout_s=30)
    postmaster = house.postgres.pid
    await asyncio.to_thread(house.postgres.stop, "immediate")
    stopped_at = time.monotonic()
    await asyncio.sleep(2)
    assert max(load.acknowledged_at) < stopped_at, "something was acknowledged without a store"
    # From the main thread: the server ends with the thread that has started it.
    house.postgres.start()
    started_at = time.monotonic()
    assert house.postgres.pid != postmaster
    seconds = await first_new_hold_after(load, show, started_at)
    measured.info("Postgres crash: first new hold %.2f s after it was back", seconds)
    booked = len(load.booked)
    await until(lambda: len(load.booked) > booked + 20, timeout_s=30)
    await load.stop()
    await load.verify()


# -- two owners at one time -----------------------------------------------------------------------


def second_owner(house: RayHouse, show: Show) -> tuple[ShowActor, PostgresJournal]:
    """Another live incarnation of the show's actor, in this process."""
    journal = PostgresJournal(house.dsn, f"second#{show.show_id[-8:]}")
    actor = ShowActor(
        "show:second",
        Placement.DEDICATED,
        house.catalogue,
        journal,
        SystemClock(),
        passivate_after_ms=600_000,
        mailbox_commands_max=4_096,
    )
    return actor, journal


async def close(journal: PostgresJournal) -> None:
    await end_tickers()
    await journal.close()


async def epochs_of(house: RayHouse, show: Show) -> list[int]:
    rows = await house.pool.fetch(
        "SELECT epoch FROM journal WHERE show_id = $1 ORDER BY seq", show.show_id
    )
    return [row["epoch"] for row in rows]


async def test_a_second_live_owner_is_the_only_one_that_postgres_lets_write(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    assert isinstance(await house.refs.ask(show_id, hold(show_id, 0)), SeatsHeld)
    actor, journal = second_owner(house, show)
    assert isinstance(await ask(actor, show_id, hold(show_id, 1)), SeatsHeld)
    before = await epochs_of(house, show)
    refused = hold(show_id, 2)
    reply = await house.actor_of(show)([(show_id, refused)])
    assert isinstance(reply.answers[0], Fenced)
    assert await epochs_of(house, show) == before == [1, 2]
    assert await house.state_of(refused.hold_id) is None
    # The one that was fenced is asked again: it takes the show back, with all that was sold.
    assert isinstance(await house.refs.ask(show_id, hold(show_id, 0, 1)), Rejected)
    assert isinstance(await house.refs.ask(show_id, hold(show_id, 2)), SeatsHeld)
    assert isinstance(await ask(actor, show_id, hold(show_id, 3)), Fenced)
    assert await epochs_of(house, show) == [1, 2, 3]
    await close(journal)
    await house.verify(show)


async def test_an_actor_that_wakes_up_from_a_freeze_writes_nothing_and_answers_nothing_stale(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    # Its signs of life go to a folder that no watchdog reads: it shall live through the freeze.
    unwatched = house.open_refs(heartbeat_dir=f"{house.config.heartbeat_dir}-unwatched")
    first = hold(show_id, 0)
    assert isinstance(await unwatched.ask(show_id, first), SeatsHeld)
    pid = await house.pid_of(show)
    frozen = house.actor_of(show)
    await frozen.status()
    os.kill(pid, signal.SIGSTOP)
    claims = [hold(show_id, seat) for seat in range(10, 20)]
    claiming = [asyncio.ensure_future(frozen([(show_id, claim)])) for claim in claims]
    stale = asyncio.ensure_future(frozen([(show_id, hold(show_id, 0, customer="bob"))]))
    await asyncio.sleep(2.5)
    actor, journal = second_owner(house, show)
    released = await ask(actor, show_id, ReleaseHold(first.hold_id, first.customer_id))
    assert isinstance(released, HoldReleased)
    assert isinstance(await ask(actor, show_id, hold(show_id, 10)), SeatsHeld)
    assert not any(task.done() for task in [*claiming, stale])
    before = await epochs_of(house, show)
    os.kill(pid, signal.SIGCONT)
    replies = await asyncio.gather(*claiming, stale)
    assert (await frozen.status()).pid == pid, "the frozen actor did not live on"
    assert (await epochs_of(house, show))[: len(before)] == before
    # What was in line is not done under the old epoch. After its first refusal the actor may
    # load the show anew, and then it owns it as rightly as anybody.
    for claim, reply in zip(claims, replies[:-1], strict=True):
        answer = reply.answers[0]
        assert isinstance(answer, NotDone | Rejected | SeatsHeld)
        if isinstance(answer, SeatsHeld):
            assert reply.epochs[show_id] > before[-1]
            assert await house.state_of(claim.hold_id) == "held"
        else:
            assert await house.state_of(claim.hold_id) is None
    assert any(isinstance(reply.answers[0], NotDone) for reply in replies)
    last = replies[-1]
    assert isinstance(last.answers[0], NotDone) or last.epochs[show_id] > before[-1]
    assert 1 not in (await epochs_of(house, show))[len(before) :]
    await close(journal)
    await house.verify(show)


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


async def test_a_hold_whose_actor_was_killed_ends_without_anybody_asking(house: RayHouse) -> None:
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


async def test_a_supervisor_that_was_killed_goes_on_with_its_work(house: RayHouse) -> None:
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


# -- callers that hang up -------------------------------------------------------------------------


async def test_callers_that_hang_up_at_any_moment_leave_everything_in_order(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    await house.refs.ask(show_id, hold(show_id, 9_999))
    dice = random.Random(7)
    commands = [hold(show_id, seat, customer=f"c{seat}") for seat in range(300)]
    outcomes = {"cancelled": 0, "answered": 0}
    for start in range(0, len(commands), 30):
        asking = [
            asyncio.ensure_future(house.refs.ask(show_id, command))
            for command in commands[start : start + 30]
        ]
        await asyncio.sleep(dice.random() * 0.008)
        for task in asking:
            if dice.random() < 0.7:
                task.cancel()
        for result in await asyncio.gather(*asking, return_exceptions=True):
            was_cancelled = isinstance(result, asyncio.CancelledError)
            outcomes["cancelled" if was_cancelled else "answered"] += 1
            assert was_cancelled or isinstance(result, SeatsHeld)
    assert min(outcomes.values()) > 10, outcomes
    stored = await house.pool.fetchval("SELECT count(*) FROM hold WHERE show_id = $1", show_id)
    again = await asyncio.gather(*(house.refs.ask(show_id, command) for command in commands))
    assert all(isinstance(outcome, SeatsHeld | Repeated) for outcome in again)
    assert sum(isinstance(outcome, Repeated) for outcome in again) >= outcomes["answered"]
    measured.info("%s of 300 callers; %d holds were durable all the same", outcomes, stored)
    await house.verify(show)


async def test_a_database_that_refuses_everybody_makes_commands_not_done_and_not_unknown(
    house: RayHouse,
) -> None:
    """No store, no actor in memory: nothing can have happened, and the caller is told so."""
    show = await house.add_show()
    connection = await asyncpg.connect(house.postgres.dsn())
    try:
        await connection.execute("ALTER DATABASE housefull ALLOW_CONNECTIONS false")
        with pytest.raises(NotDone):
            await house.refs.ask(show.show_id, hold(show.show_id, 0), deadline_ms=4_000)
    finally:
        await connection.execute("ALTER DATABASE housefull ALLOW_CONNECTIONS true")
        await connection.close()
    assert isinstance(await house.refs.ask(show.show_id, hold(show.show_id, 0)), SeatsHeld)
