"""What a soak runs on: a house, a bad line between it and its Postgres, and client processes."""

from __future__ import annotations

import asyncio
import pickle
import re
import secrets
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import psutil

from benchmarks.audit import AUDIT_WITHIN_S
from benchmarks.soak.clients import TOLD, Job
from persistence.catalogue import Catalogue
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.plan_codec import plan_id_of
from persistence.provisioning import ensure_database, prepare_database
from persistence.sessions import Pool, open_pool
from persistence.shards import ShardMap
from reservation.plan_export import write_plan
from reservation.seating_plan import SeatingPlan
from reservation.show import OrphanRule, Placement, SalesPolicy, Show
from tests.support.house import make_listing, make_plan, make_show
from tests.support.house_tokens import tokens_of_house
from tests.support.launched_house import LaunchedHouse, launched_house
from tests.support.lossy_proxy import LossyProxy
from tests.support.recorded_history import Attempt, read_records

SEATS = 20_000
POLICY = SalesPolicy(
    hold_ttl_ms=6_000,
    hold_life_ms_max=15_000,
    orphan_rule=OrphanRule.OFF,
    seats_per_customer_max=5,
    live_holds_per_customer_max=2,
)
PLACEMENTS = (Placement.DEDICATED, Placement.DEDICATED, Placement.POOLED, Placement.POOLED)
CLIENT_PROCESSES = 2
CLIENTS_EACH = 12
STOP_S = 120
_PROGRESS = re.compile(rf"{TOLD} (\d+) (\d+) (\d+)")


@dataclass(slots=True)
class Ground:
    """Everything that faults are done to, and what is needed to look at it afterwards.

    Shapes:
        pool: straight to Postgres, beside the bad line.
    """

    directory: Path
    postgres: EmbeddedPostgres
    pool: Pool
    shards: ShardMap
    line: LossyProxy
    heartbeat_dir: str
    shows: list[Show]
    job: Job
    house: LaunchedHouse | None = None
    client_processes: list[asyncio.subprocess.Process] = field(default_factory=list)
    told: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def is_over_http(self) -> bool:
        """Whether clients come over HTTP."""
        return self.house is not None

    def replicas(self) -> list[psutil.Process]:
        """The processes that answer HTTP."""
        return [] if self.house is None else self.house.replicas()

    async def start_clients(self) -> None:
        """Let the clients in."""
        self.told = [(0, 0, 0)] * CLIENT_PROCESSES
        for number in range(CLIENT_PROCESSES):
            path = self.directory / f"job{number}"
            path.write_bytes(pickle.dumps(replace(self.job, number=number)))
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-W", "ignore", "-m", "benchmarks.soak.clients"),
                *(str(path), str(self._records(number))),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=(self.directory / f"clients{number}.log").open("wb"),
                start_new_session=True,
            )
            self.client_processes.append(process)
        self._listening = [asyncio.ensure_future(self._listen(n)) for n in range(CLIENT_PROCESSES)]

    async def stop_clients(self) -> list[Attempt]:
        """Let every client finish what it has begun; returns all that they were told."""
        for process in self.client_processes:
            assert process.stdin is not None
            process.stdin.close()
        async with asyncio.timeout(STOP_S):
            ends = await asyncio.gather(*(process.wait() for process in self.client_processes))
        if any(ends):
            raise RuntimeError(f"clients ended with {ends}: see {self.directory}")
        attempts = [
            each for n in range(CLIENT_PROCESSES) for each in read_records(self._records(n))
        ]
        return sorted(attempts, key=lambda attempt: attempt.invoked_ns)

    def _records(self, number: int) -> Path:
        return self.directory / f"records{number}"

    _listening: list[asyncio.Future[None]] = field(default_factory=list)

    async def _listen(self, number: int) -> None:
        output = self.client_processes[number].stdout
        assert output is not None
        async for line in output:
            # Ray says things here, too, and not always on lines of its own.
            told = _PROGRESS.fullmatch(line.decode(errors="replace").strip())
            if told is not None:
                certain, unknown, not_done = map(int, told.groups())
                self.told[number] = (certain, unknown, not_done)


async def _add_shows(pool: Pool, plan: SeatingPlan) -> list[Show]:
    catalogue = Catalogue(pool)
    await catalogue.put_plan(plan_id_of(plan), plan, *write_plan(plan))
    shows = [
        make_show(f"soak {n}", plan=plan, policy=POLICY, placement=placement)
        for n, placement in enumerate(PLACEMENTS)
    ]
    counts = await catalogue.put_shows(
        [make_listing(f"soak {n}", show) for n, show in enumerate(shows)]
    )
    assert not counts.refused, counts
    return shows


@contextmanager
def ray_of_our_own() -> Iterator[None]:
    """A Ray for a house below HTTP; call from the main thread, outside an event loop."""
    from tests.support.ray_house import running_ray

    with running_ray():
        yield


@asynccontextmanager
async def ground_below_http(seed: int, epoch_s: float) -> AsyncIterator[Ground]:
    """Ray, actors, supervisor and Postgres, and clients with refs of their own."""
    import ray

    from tests.support.ray_house import open_ray_house

    with tempfile.TemporaryDirectory(prefix="hfsoak") as name:
        directory = Path(name)
        async with (
            open_ray_house(directory) as house,
            _line(house.dsn, directory) as line,
        ):
            shows = await _add_shows(house.pool, make_plan(SEATS))
            config = replace(house.config, shards=ShardMap.even((line.dsn,)))
            job = Job(
                0,
                CLIENT_PROCESSES,
                CLIENTS_EACH,
                seed,
                shows,
                epoch_s,
                house.dsn,
                str(ray.get_runtime_context().gcs_address),
                config,
            )
            yield Ground(
                directory,
                house.postgres,
                house.pool,
                house.config.shards,
                line,
                house.config.heartbeat_dir,
                shows,
                job,
            )


@asynccontextmanager
async def ground_over_http(seed: int, epoch_s: float, ingress: str) -> AsyncIterator[Ground]:
    """A whole house, started as users start it, on a Postgres of the soak's own."""
    with (
        tempfile.TemporaryDirectory(prefix="hfsoak") as name,
        EmbeddedPostgres(Path(name) / "postgres") as postgres,
    ):
        directory = Path(name)
        await ensure_database(postgres.dsn(), "soak")
        admin, password = postgres.dsn("soak"), secrets.token_urlsafe(16)
        await prepare_database(admin, role="soaked", password=password)
        application = postgres.dsn("soak", "soaked", quote(password))
        pool = await open_pool(admin, "soak", size_max=2, answer_within_s=AUDIT_WITHIN_S)
        async with _line(application, directory) as line:
            shows = await _add_shows(pool, make_plan(SEATS))
            # The house waits for its database while it starts, and the line is ours to run.
            opening = launched_house(
                directory / "house",
                ingress,
                database_urls=line.dsn,
                admin_database_urls=admin,
            )
            house = await asyncio.to_thread(opening.__enter__)
            try:
                heartbeats = (house.data / "run").readlink() / "heartbeats"
                job = Job(
                    0,
                    CLIENT_PROCESSES,
                    CLIENTS_EACH,
                    seed,
                    shows,
                    epoch_s,
                    admin,
                    url=house.url,
                    signing_key=(await tokens_of_house(admin)).key,
                )
                yield Ground(
                    directory,
                    postgres,
                    pool,
                    ShardMap.even((admin,)),
                    line,
                    str(heartbeats),
                    shows,
                    job,
                    house,
                )
            finally:
                await asyncio.to_thread(opening.__exit__, None, None, None)
                await pool.close()


@asynccontextmanager
async def _line(dsn: str, directory: Path) -> AsyncIterator[LossyProxy]:
    sockets = directory / "line"
    sockets.mkdir()
    async with LossyProxy(dsn, sockets).running() as line:
        yield line
