"""The line between an actor and Postgres is bad: F13, F32 and F33 (docs/TESTING.md).

What one journal does about each of these is in ``tests/integration/test_postgres_journal.py``.
Here they meet clients, refs, an actor of Ray's and its line all at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from reservation.commands import Command
from reservation.events import SeatsHeld
from reservation.ids import ShowId
from reservation.seat_map import Outcome, Repeated
from tests.support.house import hold, until
from tests.support.lossy_proxy import LossyProxy
from tests.support.meanwhile import begun
from tests.support.ray_house import RayHouse
from tests.support.ray_load import Load

measured = logging.getLogger("measured")

SECOND_TRY_BYTES = 30


@pytest.fixture(scope="module", autouse=True)
async def half_open(
    request: pytest.FixtureRequest, ray_house: RayHouse
) -> AsyncIterator[asyncio.Future[None]]:
    """It takes a quarter of a minute to wait for nothing, so this begins before the others."""
    test = "test_f13_half_open_connections_are_given_up_and_everything_goes_on"
    async with (
        LossyProxy(ray_house.dsn, None).running() as line,
        begun(request, test, lambda: half_open_connections(ray_house, line)) as story,
    ):
        yield story


async def half_open_connections(house: RayHouse, tcp_line: LossyProxy) -> None:
    show = await house.add_show()
    refs = house.open_refs_through(tcp_line.dsn)
    load = Load(refs.ask, [show])
    await load.until_booked()
    tcp_line.abandon_lines()
    abandoned_ns = time.monotonic_ns()
    assert tcp_line.happened["abandoned"] > 0
    seconds = await load.first_new_hold(show, time.monotonic())
    measured.info("half-open connections: first new hold after %.2f s", seconds)
    await load.until_booked()
    await load.stop()
    # Nobody told the actor, so it must have waited before it gave the line up.
    silent_ns = abandoned_ns + 2 * 10**9
    assert load.answered_between(abandoned_ns + 10**8, silent_ns) == 0
    # The catalogue is read over the same line, and a show that is read anew must not wait for ever.
    tcp_line.abandon_lines()
    await refs.renew(show.show_id, deadline_ms=60_000)
    await house.check(load)


async def test_f13_a_line_that_is_two_seconds_slow_costs_nothing_but_time(
    house: RayHouse, line: LossyProxy
) -> None:
    show = await house.add_show()
    load = Load(house.open_refs_through(line.dsn).ask, [show])
    await load.until_booked()
    line.delay_s = 2.0
    slow_ns = time.monotonic_ns()

    def was_answered_late() -> bool:
        asked = [each for each in load.recorder.certain() if each.invoked_ns > slow_ns]
        return any(each.answered_ns - each.invoked_ns > 2 * 10**9 for each in asked)

    # Whoever asks now may have to wait for two answers of the database, one after the other.
    await until(was_answered_late, timeout_s=20)
    line.delay_s = 0.0
    assert line.happened["delayed"] >= 1
    await load.until_booked()
    await load.stop()
    assert load.unknown == 0
    await house.check(load)


async def test_f13_connections_that_are_reset_over_and_over_lose_and_double_nothing(
    house: RayHouse, tcp_line: LossyProxy
) -> None:
    show = await house.add_show()
    load = Load(house.open_refs_through(tcp_line.dsn).ask, [show])
    await load.until_booked()
    resets = 0
    for _ in range(12):
        resets += tcp_line.cut_lines()
        await asyncio.sleep(0.15)
    await load.until_booked()
    await load.stop()
    assert resets >= 6, "hardly any line was there to be reset"
    assert tcp_line.line_count > resets
    await house.check(load)


async def test_f13_an_answer_that_is_lost_after_its_commit_is_found_and_not_sold_again(
    house: RayHouse, tcp_line: LossyProxy
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    refs = house.open_refs_through(tcp_line.dsn)
    load = Load(refs.ask, [show])
    await load.until_booked()
    for after_bytes in (0, 1, SECOND_TRY_BYTES):
        tcp_line.lose_answer(show_id, after_bytes=after_bytes)
        async with asyncio.timeout(20):
            await tcp_line.lost.wait()
        await load.until_booked(10)
        tcp_line.lose_request(show_id)
        async with asyncio.timeout(20):
            await tcp_line.lost.wait()
        await load.until_booked(10)
    await load.stop()
    assert (tcp_line.happened["answer"], tcp_line.happened["request"]) == (3, 3)
    # The journal finds out by itself what became of a batch: no client is told "unknown".
    assert load.unknown == 0
    await house.check(load)


async def test_f13_a_black_hole_for_answers_only_is_no_reason_to_write_twice(
    house: RayHouse, line: LossyProxy
) -> None:
    show = await house.add_show()
    load = Load(house.open_refs_through(line.dsn).ask, [show])
    await load.until_booked()
    line.freeze("answers")
    frozen_ns = time.monotonic_ns()
    before = await house.pool.fetchval(
        "SELECT seq FROM show_owner WHERE show_id = $1", show.show_id
    )
    await asyncio.sleep(2)
    # Requests arrive all the same: one batch was committed, and its answer is under way for ever.
    after = await house.pool.fetchval("SELECT seq FROM show_owner WHERE show_id = $1", show.show_id)
    assert after >= before
    assert load.answered_between(frozen_ns + 10**8, time.monotonic_ns()) == 0
    line.thaw()
    await load.until_booked()
    await load.stop()
    assert line.happened["frozen"] > 0
    await house.check(load)


async def test_f32_lines_that_go_silent_one_by_one_and_come_back_in_any_order(
    house: RayHouse,
) -> None:
    """Swizzle-clog, as FoundationDB calls it: it finds what an all-or-nothing cut does not."""
    shows = [await house.add_show() for _ in range(3)]
    dice = random.Random(11)
    async with AsyncExitStack() as opened:
        directories = [
            Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="line"))) for _ in shows
        ]
        lines = [
            await opened.enter_async_context(LossyProxy(house.dsn, directory).running())
            for directory in directories
        ]
        refs = {
            show.show_id: house.open_refs_through(line.dsn)
            for show, line in zip(shows, lines, strict=True)
        }

        async def ask(show_id: ShowId, command: Command) -> Outcome:
            return await refs[show_id].ask(show_id, command)

        load = Load(ask, shows, clients=9)
        await load.until_booked(30)
        for _ in range(2):
            clogged = dice.sample(lines, dice.randint(2, 3))
            for line in clogged:
                line.freeze()
                await asyncio.sleep(dice.random() * 0.5)
            for line in dice.sample(clogged, len(clogged)):
                if dice.random() < 0.5:
                    line.cut_lines()
                line.thaw()
                await asyncio.sleep(dice.random() * 0.5)
            await load.until_booked(10)
        await load.stop()
        assert sum(line.happened["frozen"] for line in lines) >= 4
        assert sum(line.happened["cut"] for line in lines) >= 1
        await house.check(load)


async def test_f33_requests_and_answers_that_are_lost_by_the_dice_lose_and_double_nothing(
    house: RayHouse, line: LossyProxy
) -> None:
    """The points before and after every commit, each with a chance of one in fifty."""
    show = await house.add_show()
    refs = house.open_refs_through(line.dsn)
    load = Load(refs.ask, [show], clients=6)
    await load.until_booked()
    line.roll(random.Random(33), request_chance=0.02, answer_chance=0.02)
    await until(lambda: min(line.happened["request"], line.happened["answer"]) >= 5, timeout_s=60)
    line.roll(random.Random(33), request_chance=0.0, answer_chance=0.0)
    await load.until_booked()
    await load.stop()
    await house.check(load)


async def test_f33_an_answer_that_is_lost_before_the_actor_is_active_leaves_no_trace(
    house: RayHouse, line: LossyProxy
) -> None:
    """An epoch may be used up; nobody minds."""
    show = await house.add_show()
    show_id = show.show_id
    refs = house.open_refs_through(line.dsn)
    # The first request about this show that is written, not read, is its activation.
    line.lose_answer(show_id)
    command = hold(show_id, 0)
    load = Load(refs.ask, [show], clients=0)
    assert isinstance(await load.insist(show_id, command), SeatsHeld)
    assert line.lost.is_set()
    assert isinstance(await refs.ask(show_id, command), Repeated)
    await house.check_history([show], load.recorder.attempts)


async def test_f13_half_open_connections_are_given_up_and_everything_goes_on(
    half_open: asyncio.Future[None],
) -> None:
    await half_open
