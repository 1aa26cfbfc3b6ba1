"""A house below HTTP on one real Ray and one real Postgres, for tests that stop and kill things.

``tests/conftest.py`` opens one for the whole run, because a process can be in one Ray only.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import psutil
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
from reservation.ids import HoldId
from reservation.seating_plan import SeatingPlan
from reservation.show import Placement, SalesPolicy, Show
from tests.support.history_of_house import history_faults
from tests.support.house import GENEROUS, make_listing, make_plan, make_show
from tests.support.ray_load import Load
from tests.support.recorded_history import Attempt

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
SEATS = 20_000

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

    def open_refs_through(self, dsn: str) -> ShowRefs:
        """Refs whose actors reach the database through this DSN, if they start the actor."""
        return self.open_refs(shards=ShardMap.even((dsn,)))

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
            assert verdict.faults == [], verdict.faults[:10]
            assert verdict.entries > 0

    async def check(self, load: Load) -> None:
        """The whole check after a fault, of the shows that this load was on."""
        assert load.held
        assert load.booked
        await self.check_history(load.shows, load.recorder.attempts)

    async def check_history(self, shows: Sequence[Show], attempts: Sequence[Attempt]) -> None:
        """What clients were told agrees with what is stored, and both with the rules."""
        await self.verify(*shows)
        faults = await history_faults(self.pool, shows, attempts)
        assert faults == [], faults[:10]

    async def state_of(self, hold_id: HoldId) -> str | None:
        state: str | None = await self.pool.fetchval(
            "SELECT state FROM every_hold WHERE hold_id = $1", hold_id
        )
        return state


@contextmanager
def running_ray() -> Iterator[None]:
    """A Ray of our own, and nothing of it left afterwards."""
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
    assert alive == [], f"still there: {alive}"


@asynccontextmanager
async def open_ray_house(directory: Path) -> AsyncIterator[RayHouse]:
    """A house on the Ray that is running, with a Postgres of its own, and its supervisor."""
    with EmbeddedPostgres(directory / "postgres") as postgres:
        connection = await asyncpg.connect(postgres.dsn())
        await connection.execute("CREATE DATABASE housefull")
        await connection.close()
        dsn = postgres.dsn("housefull")
        await migrate(dsn)
        pool = await open_pool(dsn, "tests", size_max=4)
        plan = make_plan(SEATS)
        await Catalogue(pool).put_plan(plan_id_of(plan), plan, {}, {})
        config = ActorsConfig(ShardMap.even((dsn,)), str(directory / "heartbeats"))
        await asyncio.to_thread(start_supervisor, config)
        yield RayHouse(postgres, config, pool, plan)
        await pool.close()
