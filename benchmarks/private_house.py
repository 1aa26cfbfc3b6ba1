"""A house below HTTP, for one measurement: Postgres, Ray and the actors, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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

DATABASE = "bench"

UNLIMITED = SalesPolicy(seats_per_customer_max=10**9, live_holds_per_customer_max=10**9)


@dataclass(frozen=True, slots=True)
class PrivateHouse:
    """Where everything is."""

    dsn: str
    actors: ActorsConfig


@contextmanager
def private_house(postgres: EmbeddedPostgres | None = None) -> Iterator[PrivateHouse]:
    """Start a house and stop it again. Call from the main thread, outside an event loop.

    Args:
        postgres: a running server to use; without it the house starts one of its own.
    """
    # Ray reads these when it is started.
    os.environ.update(
        {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    )
    import ray

    with ExitStack() as started:
        home = started.enter_context(tempfile.TemporaryDirectory(prefix="hf"))
        if postgres is None:
            postgres = started.enter_context(EmbeddedPostgres(Path(home) / "postgres"))
        dsn = postgres.dsn(DATABASE)
        asyncio.run(_prepare(postgres.dsn(), dsn))
        started.callback(ray.shutdown)
        handler = signal.getsignal(signal.SIGTERM)
        ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            _temp_dir=f"{home}/ray",
            namespace="housefull",
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
        # Ray's own would abort this process, and nobody would stop the servers.
        signal.signal(signal.SIGTERM, handler)
        yield PrivateHouse(dsn, ActorsConfig(ShardMap.even((dsn,)), f"{home}/heartbeats"))


async def _prepare(server_dsn: str, dsn: str) -> None:
    await ensure_database(server_dsn, DATABASE)
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
