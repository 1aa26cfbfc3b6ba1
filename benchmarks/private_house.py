"""A house below HTTP, for one measurement: Postgres, Ray and the actors, and nothing else."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.config import ActorsConfig
from persistence.catalogue import Catalogue
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import migrate
from persistence.plan_codec import plan_id_of
from persistence.provisioning import ensure_database
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from reservation.fares import CategoryFare, FareTable
from reservation.ids import ShowId, derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.seating_plan import SeatingPlan
from reservation.show import Placement, SalesPolicy

UNLIMITED = SalesPolicy(seats_per_customer_max=10**9, live_holds_per_customer_max=10**9)


@dataclass(frozen=True, slots=True)
class PrivateHouse:
    """Where everything is."""

    dsn: str
    actors: ActorsConfig


@contextmanager
def private_house() -> Iterator[PrivateHouse]:
    """Start a house and stop it again. Call from the main thread, outside an event loop."""
    # Ray reads these when it is imported.
    os.environ.update(
        {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    )
    import ray

    with (
        tempfile.TemporaryDirectory(prefix="hf") as home,
        EmbeddedPostgres(Path(home) / "postgres") as postgres,
    ):
        dsn = postgres.dsn("bench")
        asyncio.run(_prepare(postgres.dsn(), dsn))
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            _temp_dir=f"{home}/ray",
            namespace="housefull",
            log_to_driver=False,
        )
        try:
            yield PrivateHouse(dsn, ActorsConfig(ShardMap.even((dsn,)), f"{home}/heartbeats"))
        finally:
            ray.shutdown()


async def _prepare(server_dsn: str, dsn: str) -> None:
    await ensure_database(server_dsn, "bench")
    await migrate(dsn)


async def put_show(dsn: str, name: str, plan: SeatingPlan) -> ShowId:
    """A dedicated show of this plan, without limits per customer."""
    pool = await open_pool(dsn, "bench", size_max=1)
    catalogue = Catalogue(pool)
    plan_id = plan_id_of(plan)
    await catalogue.put_plan(plan_id, plan, {}, {})
    show_id = derive_show_id(name)
    now_ms = time.time_ns() // 1_000_000
    fares = FareTable("EUR", tuple(CategoryFare(1_000) for _ in plan.categories))
    listing = ShowListing(
        show_id,
        name,
        ShowKind.PERFORMANCE,
        name,
        "bench",
        now_ms,
        now_ms,
        now_ms,
        "UTC",
        plan_id,
        None,
        fares,
        Placement.DEDICATED,
        UNLIMITED,
    )
    await catalogue.put_shows([listing])
    await pool.close()
    return show_id
