"""Catalogues on real servers, and things to put into them.

A module that imports the fixtures gets servers of its own, and every test a database of its own.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from persistence.catalogue import Catalogue, SearchItem, ShowSearch
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import migrate
from persistence.plan_codec import plan_id_of, route_id_of
from reservation.fares import CategoryFare, FareTable
from reservation.ids import derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.route import Route, Stop
from reservation.seating_plan import AdmissionTier, Category, Run, SeatingPlan, SeatRow
from reservation.show import OrphanRule, Placement, SalesPolicy
from tests.support.quick_postgres import copy_of, quick_postgres

SYSTEM_BINARIES = sorted(Path("/usr/lib/postgresql").glob("15/bin"))
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MONDAY_MS = 1_790_546_400_000
WAIT_S = 20

numbers = itertools.count(1)


def make_plan(name: str, seat_count: int = 6) -> SeatingPlan:
    return SeatingPlan(
        name=name,
        categories=(Category("A", "#ff0000"), Category("B")),
        category_of=array("H", [index % 2 for index in range(seat_count)]),
        traits=bytes(seat_count),
        x=array("i", range(seat_count)),
        y=array("i", range(seat_count)),
        rank=array("i", range(seat_count)),
        rows=(SeatRow("S", "1", 0, seat_count),),
        runs=(Run(0, 2, 0), Run(2, seat_count, 0)),
        admission_tiers=(AdmissionTier("F", "Floor", 1, 100),),
        labels=tuple(f"S-1-{index}" for index in range(seat_count)),
    )


def make_route(*calls: tuple[str, str, int]) -> Route:
    """Stops from (code, name, minute of departure); a stop takes one minute."""
    return Route(
        tuple(
            Stop(code, name, minute * 60 - 60, minute * 60, position * 1000, 6.9, 79.8)
            for position, (code, name, minute) in enumerate(calls)
        )
    )


HALL, COACH = make_plan("Velký sál"), make_plan("Coach", 4)
HALL_ID, COACH_ID = plan_id_of(HALL), plan_id_of(COACH)
LINE = make_route(
    ("KDT", "Kandy", 600), ("PDA", "Peradeniya Junction", 615), ("FOT", "Colombo Fort", 780)
)

LINE_ID = route_id_of(LINE)
FLAT_FARES = FareTable("EUR", (CategoryFare(900), CategoryFare(500)))


def make_show(source_key: str, title: str = "Hamlet", *, day: int = 0) -> ShowListing:
    starts_at_ms = MONDAY_MS + day * DAY_MS + 19 * HOUR_MS
    return ShowListing(
        show_id=derive_show_id(source_key),
        source_key=source_key,
        kind=ShowKind.PERFORMANCE,
        title=title,
        venue="Národní divadlo",
        starts_at_ms=starts_at_ms,
        ends_at_ms=starts_at_ms + 2 * HOUR_MS,
        service_day_at_ms=starts_at_ms,
        time_zone="Europe/Prague",
        plan_id=HALL_ID,
        route_id=None,
        fares=FLAT_FARES,
        placement=Placement.DEDICATED,
    )


def make_run(source_key: str, route: Route = LINE, *, day: int = 0) -> ShowListing:
    service_day_at_ms = MONDAY_MS + day * DAY_MS
    legs = tuple(range(route.leg_count))
    return ShowListing(
        show_id=derive_show_id(source_key),
        source_key=source_key,
        kind=ShowKind.TRAIN,
        title=f"Express {source_key}",
        venue="Sri Lanka Railways",
        starts_at_ms=service_day_at_ms + route.stops[0].departure_s * 1000,
        ends_at_ms=service_day_at_ms + route.stops[-1].arrival_s * 1000,
        service_day_at_ms=service_day_at_ms,
        time_zone="Asia/Colombo",
        plan_id=COACH_ID,
        route_id=route_id_of(route),
        fares=FareTable("LKR", (CategoryFare(10, legs), CategoryFare(20))),
        placement=Placement.POOLED,
        policy=SalesPolicy(orphan_rule=OrphanRule.STRICT, on_sale_until_at_ms=service_day_at_ms),
    )


@pytest.fixture(scope="module", params=["embedded", "15"])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    binaries = None
    if request.param == "15":
        if not SYSTEM_BINARIES:
            pytest.skip("needs PostgreSQL 15 in /usr/lib/postgresql/15")
        binaries = SYSTEM_BINARIES[0]
    with quick_postgres(binaries) as server:
        yield server


@pytest.fixture(scope="module")
async def template(server: EmbeddedPostgres) -> str:
    """A database with a schema and nothing in it, to be copied for every test."""
    connection = await asyncpg.connect(server.dsn())
    await connection.execute("CREATE DATABASE catalogue_template")
    await connection.close()
    await migrate(server.dsn("catalogue_template"))
    return "catalogue_template"


@pytest.fixture
async def dsn(server: EmbeddedPostgres, template: str) -> str:
    name = f"catalogue_{next(numbers)}"
    connection = await asyncpg.connect(server.dsn())
    await connection.execute(f"CREATE DATABASE {name} {copy_of(template)}")
    await connection.close()
    return server.dsn(name)


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool[asyncpg.Record]]:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=6) as pool:
        yield pool


@pytest.fixture
def catalogue(pool: asyncpg.Pool[asyncpg.Record]) -> Catalogue:
    return Catalogue(pool)


@pytest.fixture
async def stocked(catalogue: Catalogue) -> Catalogue:
    """A catalogue with the two plans and the line, and no show."""
    await catalogue.put_plan(HALL_ID, HALL, {"name": "Velký sál"}, {})
    await catalogue.put_plan(COACH_ID, COACH, {}, {})
    await catalogue.put_routes({LINE_ID: ("Main Line", LINE)})
    return catalogue


@asynccontextmanager
async def counted(dsn: str) -> AsyncIterator[tuple[Catalogue, list[str]]]:
    """A catalogue on one connection, and the statements that it sends."""
    sent: list[str] = []

    def note(record: asyncpg.connection.LoggedQuery) -> None:
        # The pool itself resets a connection after each use.
        if "pg_advisory_unlock_all" not in record.query:
            sent.append(record.query)

    async def listen(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        connection.add_query_logger(note)

    async with asyncpg.create_pool(dsn, min_size=1, max_size=1, init=listen) as pool:
        yield Catalogue(pool), sent


async def all_items(catalogue: Catalogue, search: ShowSearch) -> list[SearchItem]:
    """All pages of a search, one after another."""
    items: list[SearchItem] = []
    while True:
        page = await catalogue.search(search)
        assert len(page.items) <= search.limit
        items += page.items
        if page.next is None:
            return items
        assert len(page.items) == search.limit
        search = replace(search, after=page.next)


async def titles(catalogue: Catalogue, **question: object) -> list[str]:
    items = await all_items(catalogue, ShowSearch(**question))  # type: ignore[arg-type]
    return [item.title for item in items]
