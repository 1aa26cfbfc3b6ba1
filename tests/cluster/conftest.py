"""One real Ray and one real Postgres for all tests of this folder, with the house's supervisor.

Ray and Postgres are this folder's own, because the tests here stop and kill them.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil
import pytest
import ray

from actors.activation import RemoteShowActor, connect_refs
from actors.config import ActorsConfig
from actors.naming import actor_name
from actors.show_ref import ShowRefs
from actors.supervision import start_supervisor
from persistence.catalogue import Catalogue
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import migrate
from persistence.plan_codec import plan_id_of
from persistence.sessions import Pool, open_pool
from persistence.shards import ShardMap
from persistence.verification import verify_shows
from reservation.commands import Command
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.faults import NotDone, OutcomeUnknown
from reservation.ids import BookingId, HoldId, ShowId
from reservation.seat_map import Outcome, Repeated
from reservation.seating_plan import SeatingPlan
from reservation.show import Placement, SalesPolicy, Show
from tests.support.house import GENEROUS, confirm, hold, make_listing, make_plan, make_show

CHECKOUT = Path(__file__).resolve().parents[2]

ENVIRONMENT = {
    "PYTHONPATH": str(CHECKOUT),
    # Said on purpose: Ray's own choice depends on what lies in the home directory.
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_kill_worker_timeout_milliseconds": "500",
    # Without it a caller of an actor that crashed hears of it a second later.
    "RAY_timeout_ms_task_wait_for_death_info": "0",
}

_numbers = itertools.count(1)


class RayHouse:
    """A house that is open: shows can be put in, asked for, and looked into afterwards."""

    def __init__(
        self, postgres: EmbeddedPostgres, config: ActorsConfig, pool: Pool, plan: SeatingPlan
    ) -> None:
        self.postgres = postgres
        self.config = config
        self.pool = pool
        self.catalogue = Catalogue(pool)
        self.plan = plan
        self.refs = self.open_refs()

    @property
    def dsn(self) -> str:
        return self.config.shards.catalogue_dsn

    def open_refs(self, **changes: object) -> ShowRefs:
        """Refs as another process has them; ``changes`` to the configuration it knows."""
        config = replace(self.config, **changes)  # type: ignore[arg-type]
        return connect_refs(config, self.catalogue.placement_of)

    async def add_show(
        self, *, placement: Placement = Placement.DEDICATED, policy: SalesPolicy = GENEROUS
    ) -> Show:
        """A new show of the house's plan."""
        name = f"show {next(_numbers)}"
        show = make_show(name, plan=self.plan, placement=placement, policy=policy)
        counts = await self.catalogue.put_shows([make_listing(name, show)])
        assert not counts.refused, counts
        return show

    def actor_of(self, show: Show, placement: Placement | None = None) -> RemoteShowActor:
        """The actor that owns the show, to be asked directly."""
        name = actor_name(
            show.show_id,
            placement or show.placement,
            self.config.shards,
            self.config.pool_slots,
        )
        return RemoteShowActor(name, self.config)

    async def pid_of(self, show: Show) -> int:
        return (await self.actor_of(show).status()).pid

    async def verify(self, *shows: Show) -> None:
        """Journal, tables and claims of these shows tell one story, and no seat is sold twice."""
        wanted = [show.show_id for show in shows]
        verdicts = [v async for v in verify_shows([self.pool], self.config.shards, wanted)]
        assert {verdict.show_id for verdict in verdicts} == set(wanted)
        for verdict in verdicts:
            assert verdict.faults == []
            assert verdict.entries > 0

    async def state_of(self, hold_id: HoldId) -> str | None:
        return await self.pool.fetchval("SELECT state FROM hold WHERE hold_id = $1", hold_id)


class Load:
    """Clients that hold and confirm seats until told to stop, and remember what they were told.

    Every client asks again with the same command until it is told something certain.
    """

    def __init__(self, house: RayHouse, *shows: Show, clients: int = 8) -> None:
        self.house = house
        self.shows = shows
        self.held: set[HoldId] = set()
        self.booked: set[BookingId] = set()
        self.unknown = 0
        self.not_done = 0
        self.acknowledged_at: list[float] = []
        self._is_over = False
        self._seats = {show.show_id: iter(range(show.plan.seat_count - 200)) for show in shows}
        self._clients = [asyncio.ensure_future(self._client(n)) for n in range(clients)]

    async def _client(self, number: int) -> None:
        for turn in itertools.count():
            show_id = self.shows[(number + turn) % len(self.shows)].show_id
            seat = next(self._seats[show_id], None)
            if self._is_over or seat is None:
                return
            held = await self.insist(show_id, hold(show_id, seat, customer=f"client {number}"))
            assert isinstance(held, SeatsHeld), held
            self.held.add(held.hold_id)
            if turn % 2:
                booking = await self.insist(show_id, confirm(held))
                assert isinstance(booking, BookingConfirmed), booking
                self.booked.add(booking.booking_id)
            await asyncio.sleep(0.005)

    async def insist(self, show_id: ShowId, command: Command) -> Outcome:
        """The certain outcome of a command, however often it takes."""
        async with asyncio.timeout(30):
            while True:
                try:
                    outcome = await self.house.refs.ask(show_id, command)
                except OutcomeUnknown:
                    self.unknown += 1
                except NotDone:
                    self.not_done += 1
                else:
                    self.acknowledged_at.append(time.monotonic())
                    return outcome.event if isinstance(outcome, Repeated) else outcome
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Let every client finish what it has begun."""
        self._is_over = True
        await asyncio.gather(*self._clients)

    async def verify(self) -> None:
        """Everything that was acknowledged is there, and nothing contradicts anything."""
        assert self.held
        assert self.booked
        await self.house.verify(*self.shows)
        rows = await self.house.pool.fetch(
            "SELECT hold_id, state, booking_id, cancelled_at_ms"
            " FROM hold LEFT JOIN booking USING (hold_id)"
            " WHERE hold.show_id = ANY ($1::text[])",
            [show.show_id for show in self.shows],
        )
        states = {row["hold_id"]: row["state"] for row in rows}
        assert {states.get(hold_id) for hold_id in self.held} <= {"held", "confirmed"}
        assert self.booked <= {row["booking_id"] for row in rows if row["booking_id"]}
        assert all(row["cancelled_at_ms"] is None for row in rows)


async def first_new_hold_after(load: Load, show: Show, fault_at: float) -> float:
    """Seconds from the fault until one client, asking on and on, has a hold it did not have."""
    command = hold(show.show_id, show.plan.seat_count - next(_numbers) % 200 - 1, customer="last")
    held = await load.insist(show.show_id, command)
    assert isinstance(held, SeatsHeld), held
    return time.monotonic() - fault_at


@pytest.fixture(scope="session")
def _running_ray() -> Iterator[None]:
    # Short, because sockets lie in it and their paths may not be long.
    directory = tempfile.mkdtemp(prefix="hfcluster-", dir="/tmp")
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    others = set(psutil.Process().children(recursive=True))
    try:
        ray.init(
            address="local",
            namespace="housefull",
            include_dashboard=False,
            num_cpus=2,
            object_store_memory=100 * 2**20,
            _temp_dir=directory,
            log_to_driver=False,
        )
        yield
    finally:
        started = set(psutil.Process().children(recursive=True)) - others
        ray.shutdown()
        _, alive = psutil.wait_procs(started, timeout=20)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(directory)
    assert alive == []


@pytest.fixture(scope="session")
async def house(
    _running_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RayHouse]:
    directory = tmp_path_factory.mktemp("cluster")
    with EmbeddedPostgres(directory / "postgres") as postgres:
        connection = await asyncpg.connect(postgres.dsn())
        await connection.execute("CREATE DATABASE housefull")
        await connection.close()
        dsn = postgres.dsn("housefull")
        await migrate(dsn)
        pool = await open_pool(dsn, "tests", size_max=4)
        plan = make_plan(20_000)
        await Catalogue(pool).put_plan(plan_id_of(plan), plan, {}, {})
        config = ActorsConfig(ShardMap.even((dsn,)), str(directory / "heartbeats"))
        await asyncio.to_thread(start_supervisor, config)
        yield RayHouse(postgres, config, pool, plan)
        await pool.close()
