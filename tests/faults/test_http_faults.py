"""What breaks in front of the actors: F10, F21 to F24, and F31 over HTTP, in both ingress modes.

The house is the one that users start, with its own Postgres; clients speak HTTP to it. With HAProxy
it is the whole house that others have used before, so nothing here may ask for a house at rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from persistence.catalogue import Catalogue
from persistence.plan_codec import plan_id_of
from persistence.sessions import Pool, open_pool
from persistence.verification import verify_shows
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.plan_export import write_plan
from reservation.rejections import Rejected, Rejection
from reservation.show import Show
from serve_app.settings import haproxy_is_installed
from tests.support.history_of_house import history_faults
from tests.support.house import GENEROUS, confirm, make_listing, make_plan, make_show
from tests.support.house_tokens import tokens_of_house
from tests.support.http_clients import HttpClients, http_clients
from tests.support.launched_house import CHECKOUT, LaunchedHouse, launched_house
from tests.support.ray_load import Load
from tests.support.recorded_history import Attempt, Recorder, Told
from tests.support.whole_house import WholeHouse

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is killed is found in /proc")

measured = logging.getLogger("measured")
logging.getLogger("httpx").setLevel(logging.WARNING)

CROWD = 500
PLAN = make_plan(5_000)
INGRESS = [
    pytest.param(
        "haproxy",
        marks=pytest.mark.skipif(not haproxy_is_installed(), reason="no HAProxy for this system"),
    ),
    pytest.param("proxy", marks=pytest.mark.slow_faults),
]


class HttpHouse:
    """A launched house with a pool to look into its database."""

    def __init__(self, launched: LaunchedHouse, pool: Pool, clients: HttpClients) -> None:
        self.launched = launched
        self.pool = pool
        self.clients = clients

    async def add_show(self, name: str) -> Show:
        show = make_show(name, plan=PLAN, policy=GENEROUS)
        catalogue = Catalogue(self.pool)
        await catalogue.put_plan(plan_id_of(PLAN), PLAN, *write_plan(PLAN))
        counts = await catalogue.put_shows([make_listing(name, show)])
        assert not counts.refused, counts
        return show

    def load(self, *shows: Show, clients: int = 8) -> Load:
        return Load(self.clients.ask, shows, clients=clients, make_hold=self.clients.make_hold)

    async def check(self, show: Show, attempts: list[Attempt]) -> None:
        """What clients were told agrees with what is stored, and both with the rules."""
        shards = self.launched.shards
        verdicts = [v async for v in verify_shows([self.pool], shards, [show.show_id])]
        assert [verdict.faults for verdict in verdicts] == [[]]
        assert verdicts[0].entries > 0
        assert await history_faults(self.pool, [show], attempts) == []


@asynccontextmanager
async def opened(launched: LaunchedHouse) -> AsyncIterator[HttpHouse]:
    pool = await open_pool(launched.admin_dsn, "tests", size_max=2)
    try:
        tokens = await tokens_of_house(launched.admin_dsn)
        async with http_clients(launched.url, PLAN, tokens) as clients:
            yield HttpHouse(launched, pool, clients)
    finally:
        await pool.close()


@pytest.fixture(scope="module", params=INGRESS)
def launched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchedHouse]:
    if request.param == "haproxy":
        shared: WholeHouse = request.getfixturevalue("whole_house")
        yield shared.house
        return
    data = tmp_path_factory.mktemp("http") / request.param
    with launched_house(data, request.param) as house:
        yield house


@pytest.fixture
async def house(launched: LaunchedHouse) -> AsyncIterator[HttpHouse]:
    async with opened(launched) as house:
        yield house


async def test_f21_a_replica_that_is_killed_is_a_failed_request_and_never_a_lost_hold(
    house: HttpHouse,
) -> None:
    show = await house.add_show("f21")
    load = house.load(show)
    await load.until_booked()
    before = house.launched.replicas()
    assert len(before) == 2
    # Requests that it has taken and not answered when it dies.
    before[0].suspend()
    await asyncio.sleep(1)
    killed_ns = time.monotonic_ns()
    before[0].kill()
    await load.until_booked(30)
    await until_replicas(house.launched, without=before[0].pid)
    await load.until_booked()
    await load.stop()
    assert not before[0].is_running()
    waited = [
        attempt
        for attempt in load.recorder.attempts
        if attempt.invoked_ns < killed_ns - 5 * 10**8 and attempt.answered_ns > killed_ns
    ]
    assert waited, "nobody was under way in the replica that died"
    measured.info("a killed replica: %s, all resolved", [attempt.told.value for attempt in waited])
    await house.check(show, load.recorder.attempts)


async def until_replicas(launched: LaunchedHouse, *, without: int) -> None:
    """Wait until there are two replicas again."""
    async with asyncio.timeout(60):
        while len({p.pid for p in launched.replicas()} - {without}) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


# Slow, because Ray Serve looks for a dead ingress every ten seconds and believes it the third time.
@pytest.mark.slow_faults
async def test_f22_an_ingress_that_is_killed_comes_back_and_leaves_no_orphan(
    house: HttpHouse,
) -> None:
    show = await house.add_show("f22")
    load = house.load(show)
    await load.until_booked()
    before = house.launched.ingress()
    assert before
    for process in before:
        process.kill()
    seconds = await load.first_new_hold(show, time.monotonic())
    measured.info("a killed ingress: first new hold after %.2f s", seconds)
    await load.until_booked()
    await load.stop()
    psutil.wait_procs(before, timeout=10)
    after = house.launched.ingress()
    assert after
    assert not {process.pid for process in before} & {process.pid for process in after}
    assert listeners(house.launched) <= {process.pid for process in after}
    assert house.clients.plain_failures > 0, "nobody noticed that the ingress was gone"
    await house.check(show, load.recorder.attempts)


def listeners(launched: LaunchedHouse) -> set[int]:
    """The processes that listen on the house's public port."""
    port = urlsplit(launched.url).port
    return {
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and connection.laddr.port == port
        and connection.pid is not None
    }


async def test_f23_clients_that_hang_up_at_any_moment_leave_everything_in_order(
    house: HttpHouse,
) -> None:
    show = await house.add_show("f23")
    show_id = show.show_id
    recorder = Recorder(house.clients.ask)
    # The first one also starts the actor; the others tell how long a request takes.
    for seat in (4_000, 4_001, 4_002, 4_003):
        last = await recorder.once("first", show_id, house.clients.make_hold(show_id, seat))
    usual_s = 2 * (last.answered_ns - last.invoked_ns) / 10**9
    dice = random.Random(23)
    commands = [house.clients.make_hold(show_id, seat, customer=f"c{seat}") for seat in range(200)]
    ends = {"hung up": 0, "answered": 0}
    for start in range(0, len(commands), 10):
        asking = [
            asyncio.ensure_future(recorder.once(command.customer_id, show_id, command))
            for command in commands[start : start + 10]
        ]
        # Twenty different moments of a request's life.
        await asyncio.sleep(usual_s * (start / 10 + dice.random()) / 20)
        for task in asking:
            if dice.random() < 0.7:
                task.cancel()
        for end in await asyncio.gather(*asking, return_exceptions=True):
            ends["hung up" if isinstance(end, asyncio.CancelledError) else "answered"] += 1
    assert min(ends.values()) > 10, ends
    for command in commands:
        outcome = await recorder.insist(command.customer_id, show_id, command)
        assert isinstance(outcome, SeatsHeld), outcome
    had_happened = recorder.counts[Told.REPEATED] - ends["answered"]
    measured.info("%s of 200 clients; %d holds were made all the same", ends, had_happened)
    await house.check(show, recorder.attempts)


async def test_f31_a_crowd_that_wants_one_seat_is_answered_and_one_gets_it(
    house: HttpHouse,
) -> None:
    show = await house.add_show("f31")
    show_id = show.show_id
    recorder = Recorder(house.clients.ask)

    async def buy(number: int) -> bool:
        name = f"buyer-{number}"
        command = house.clients.make_hold(show_id, 0, customer=name)
        held = await recorder.insist(name, show_id, command)
        if isinstance(held, Rejected):
            assert held == Rejected(Rejection.SEAT_UNAVAILABLE, (0,))
            return False
        assert isinstance(held, SeatsHeld)
        assert isinstance(await recorder.insist(name, show_id, confirm(held)), BookingConfirmed)
        return True

    assert sum(await asyncio.gather(*(buy(number) for number in range(CROWD)))) == 1
    assert recorder.counts[Told.REJECTED] == CROWD - 1
    await house.check(show, recorder.attempts)


@pytest.mark.slow_faults
async def test_f24_a_new_version_that_is_rolled_out_under_load_loses_nothing(
    house: HttpHouse,
) -> None:
    show = await house.add_show("f24")
    load = house.load(show)
    await load.until_booked()
    before = {process.pid for process in house.launched.replicas()}
    rollout = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.faults.roll_out",
        str(house.launched.data),
        house.launched.ingress_mode,
        cwd=CHECKOUT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(120):
            said, _ = await rollout.communicate()
    finally:
        with suppress(ProcessLookupError):
            rollout.kill()
    assert rollout.returncode == 0, said.decode()
    assert "rolled out" in said.decode()
    await load.until_booked()
    await load.stop()
    after = {process.pid for process in house.launched.replicas()}
    assert len(after) == 2
    assert not before & after, "an old replica is still there"
    measured.info("a roll-out: %s", dict(load.recorder.counts))
    await house.check(show, load.recorder.attempts)


# -- the whole house dies -------------------------------------------------------------------------


@pytest.mark.slow_faults
@pytest.mark.parametrize("ingress", INGRESS)
async def test_f10_a_house_that_is_killed_whole_comes_back_with_all_it_was_paid_for(
    ingress: str, tmp_path: Path
) -> None:
    data = tmp_path / "house"
    with launched_house(data, ingress) as first:
        async with opened(first) as house:
            show = await house.add_show("f10")
            load = house.load(show)
            await load.until_booked()
            launcher = psutil.Process(first.launcher.pid)
            everything = [launcher, *launcher.children(recursive=True)]
            for process in everything:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            killed_ns = time.monotonic_ns()
            first.launcher.wait()
            _, alive = psutil.wait_procs(everything, timeout=20)
            assert alive == [], "somebody survived"
            with launched_house(data, ingress) as second:
                assert second.launcher.pid != first.launcher.pid
                house.clients.url = second.url
                await load.until_booked()
                await load.stop()
                assert load.unknown > 0, "nobody was under way when the house died"
                assert load.acknowledged_since(killed_ns) > 0
                async with opened(second) as again:
                    await again.check(show, load.recorder.attempts)
