"""The catalogue on real servers: what is stored, shared, refused and survived."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import asyncpg
import pytest

from persistence.catalogue import Catalogue, Listed, PutCounts, StopMatch
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import ORGANISER_GROUP, ensure_application_role
from persistence.plan_codec import plan_id_of, route_id_of
from persistence.sessions import open_pool
from reservation.fares import CategoryFare, FareTable
from reservation.faults import OutcomeUnknown, ShowNotFound, ShowUnavailable
from reservation.ids import ShowId, derive_show_id
from reservation.listing import ShowKind
from reservation.route import Route, Stop
from reservation.seating_plan import SeatingPlan
from reservation.show import Placement, SalesPolicy
from tests.support import catalogue_house
from tests.support.catalogue_house import (
    COACH,
    COACH_ID,
    DAY_MS,
    FLAT_FARES,
    HALL,
    HALL_ID,
    LINE,
    LINE_ID,
    MONDAY_MS,
    WAIT_S,
    counted,
    make_plan,
    make_route,
    make_run,
    make_show,
    titles,
)

if TYPE_CHECKING:
    pass

# Fixtures are found by their names in the module that uses them.
server = catalogue_house.server
template = catalogue_house.template
dsn = catalogue_house.dsn
pool = catalogue_house.pool
catalogue = catalogue_house.catalogue
stocked = catalogue_house.stocked


# --- shows, plans and routes come back as they were put in


async def test_a_listing_comes_back_as_it_was(stocked: Catalogue) -> None:
    for listing in (make_show("theatre:1"), make_run("gtfs:1")):
        assert await stocked.put_shows([listing]) == PutCounts(1, 0, 0)
        assert await stocked.find_listing(listing.show_id) == listing
    assert await stocked.count_shows() == 2


async def test_any_text_and_any_instant_comes_back_as_it_was(stocked: Catalogue) -> None:
    listing = replace(
        make_show("key:\u00e9'\"\\%_\U0001f3ad"),
        title="\U0001f3ad 'Řeka' \\u0000 \"x\" \u202e\ufffe\n\t",
        venue="",
        starts_at_ms=-2_208_988_800_000,
        ends_at_ms=253_370_764_799_999,
        service_day_at_ms=1_790_546_400_001,
    )
    assert (await stocked.put_shows([listing])).refused == ()
    assert await stocked.find_listing(listing.show_id) == listing


async def test_an_actor_gets_what_it_needs_without_labels(stocked: Catalogue) -> None:
    run = make_run("gtfs:1")
    await stocked.put_shows([run, make_show("theatre:1")])
    show = await stocked.load_show(run.show_id)
    assert show is not None
    assert show.show_id == run.show_id
    assert show.plan == replace(COACH, labels=())
    assert show.route == LINE
    assert (show.fares, show.policy, show.placement) == (run.fares, run.policy, run.placement)
    performance = await stocked.load_show(derive_show_id("theatre:1"))
    assert performance is not None
    assert performance.route == Route()


async def test_a_plan_comes_back_with_labels_and_its_drawing(stocked: Catalogue) -> None:
    assert await stocked.load_plan(HALL_ID) == HALL
    assert await stocked.load_plan_document(HALL_ID) == ({"name": "Velký sál"}, {})
    assert await stocked.load_route(LINE_ID) == LINE


@pytest.mark.parametrize(
    "unknown", ["", "shw_0000000000000000", "pln_00000000000000000000", "a\0b", "\ud800", "ž" * 99]
)
async def test_what_is_not_there_is_none(stocked: Catalogue, unknown: str) -> None:
    show_id = ShowId(unknown)
    assert await stocked.load_show(show_id) is None
    assert await stocked.placement_of(show_id) is None
    assert await stocked.find_listing(show_id) is None
    assert await stocked.load_plan(unknown) is None
    assert await stocked.load_plan_document(unknown) is None
    assert await stocked.load_route(unknown) is None
    with pytest.raises(ShowNotFound):
        await stocked.set_placement(show_id, Placement.POOLED)


async def test_a_show_whose_plan_and_route_are_in_memory_takes_one_statement(
    stocked: Catalogue, dsn: str
) -> None:
    runs = [make_run(f"gtfs:{number}", day=number) for number in range(20)]
    await stocked.put_shows(runs)
    async with counted(dsn) as (catalogue, sent):
        await catalogue.load_show(runs[0].show_id)
        assert len(sent) == 3
        shows = [await catalogue.load_show(run.show_id) for run in runs]
        assert len(sent) == 3 + len(runs)
    assert len({id(show.plan) for show in shows if show is not None}) == 1
    assert len({id(show.route) for show in shows if show is not None}) == 1


async def test_many_shows_loaded_at_once_share_plan_and_route(stocked: Catalogue, dsn: str) -> None:
    runs = [make_run(f"gtfs:{number}", day=number) for number in range(40)]
    await stocked.put_shows(runs)
    async with counted(dsn) as (catalogue, sent):
        shows = await asyncio.gather(*(catalogue.load_show(run.show_id) for run in runs))
        assert len(sent) == len(runs) + 2
    assert len({(id(show.plan), id(show.route)) for show in shows if show is not None}) == 1


async def test_a_show_can_be_given_to_another_actor_and_an_import_leaves_it_there(
    stocked: Catalogue,
) -> None:
    run = make_run("gtfs:1")
    await stocked.put_shows([run])
    assert await stocked.placement_of(run.show_id) is Placement.POOLED
    await stocked.set_placement(run.show_id, Placement.DEDICATED)
    assert await stocked.put_shows([run]) == PutCounts(0, 0, 1)
    assert await stocked.put_shows([replace(run, title="Renamed")]) == PutCounts(
        0, 1, 0, updated_ids=(run.show_id,)
    )
    assert await stocked.placement_of(run.show_id) is Placement.DEDICATED


# --- writing plans and routes


async def test_a_plan_keeps_its_seats_and_takes_the_newer_drawing(stocked: Catalogue) -> None:
    await stocked.put_plan(HALL_ID, HALL, {"stage": "round"}, {"A-1": {"accessible": True}})
    assert await stocked.load_plan_document(HALL_ID) == (
        {"stage": "round"},
        {"A-1": {"accessible": True}},
    )
    assert await stocked.load_plan(HALL_ID) == HALL


async def test_a_plan_under_another_id_is_refused(stocked: Catalogue) -> None:
    with pytest.raises(ValueError, match=r"^plan_id: "):
        await stocked.put_plan(COACH_ID, HALL, {}, {})
    with pytest.raises(ValueError, match=r"^plan_id: "):
        await stocked.put_plan("pln_\0", HALL, {}, {})


@pytest.mark.parametrize(
    ("document", "extras", "field"),
    [
        ({"a": "\0"}, {}, "document"),
        ({}, {"deep": [{"\0": 1}]}, "extras"),
        ({"a": "\\\0"}, {}, "document"),
        ({"a": "\ud800"}, {}, "document"),
        ({}, {"n": 2**64}, "extras"),
        ({"a": object()}, {}, "document"),
    ],
)
async def test_a_drawing_that_cannot_be_stored_is_refused(
    stocked: Catalogue, document: dict[str, object], extras: dict[str, object], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        await stocked.put_plan(HALL_ID, HALL, document, extras)


async def test_a_drawing_may_speak_of_zero_characters(stocked: Catalogue) -> None:
    document = {"text": r"\u0000", "more": r"\\u0000", "path": "C:\\u0000"}
    await stocked.put_plan(HALL_ID, HALL, document, {})
    assert await stocked.load_plan_document(HALL_ID) == (document, {})


async def put_under_own_id(catalogue: Catalogue, plan: SeatingPlan) -> None:
    await catalogue.put_plan(plan_id_of(plan), plan, {}, {})


@pytest.mark.parametrize("name", ["\0", "\ud800", "x" * 501])
async def test_a_plan_whose_name_cannot_be_stored_is_refused(stocked: Catalogue, name: str) -> None:
    plan = replace(make_plan("x"), name=name)
    with pytest.raises(ValueError, match=r"^(name|plan): "):
        await put_under_own_id(stocked, plan)


async def test_only_new_routes_are_stored(stocked: Catalogue) -> None:
    other = make_route(("A", "Alpha", 10), ("B", "Beta", 20))
    routes = {LINE_ID: ("Another name", LINE), route_id_of(other): ("Other", other)}
    assert await stocked.put_routes(routes) == 1
    assert await stocked.put_routes(routes) == 0
    assert await stocked.put_routes({}) == 0
    assert await stocked.load_route(route_id_of(other)) == other


async def test_imports_of_the_same_routes_at_once_do_not_block_each_other(
    stocked: Catalogue,
) -> None:
    made = [
        make_route(*((f"S{stop}", f"Stop {stop}", 10 + number + stop) for stop in range(12)))
        for number in range(60)
    ]
    routes = {route_id_of(route): ("Line", route) for route in made}
    backwards = dict(reversed(routes.items()))
    counts = await asyncio.wait_for(
        asyncio.gather(*(stocked.put_routes(some) for some in (routes, backwards) * 3)), WAIT_S
    )
    assert sum(counts) == len(routes)
    for route_id, (_, route) in routes.items():
        assert await stocked.load_route(route_id) == route


@pytest.mark.parametrize(
    ("stop", "path"),
    [
        (Stop("B", "\0", 60, 60, 1), r"stops\[1\]\.name"),
        (Stop("B\ud800", "B", 60, 60, 1), r"stops\[1\]\.code"),
        (Stop("B", "b" * 301, 60, 60, 1), r"stops\[1\]\.name"),
        (Stop("B", "B", 2**31, 60, 1), r"stops\[1\]\.arrival_s"),
    ],
)
async def test_a_route_that_cannot_be_stored_is_refused_with_its_path(
    stocked: Catalogue, stop: Stop, path: str
) -> None:
    route = Route((Stop("A", "A", 0, 0, 0), stop))
    with pytest.raises(ValueError, match=rf"^routes\[rte_x\]\.{path}: "):
        await stocked.put_routes({"rte_x": ("Line", route)})


async def test_a_route_under_another_id_is_refused_and_nothing_is_stored(
    stocked: Catalogue,
) -> None:
    other = make_route(("A", "Alpha", 10), ("B", "Beta", 20))
    with pytest.raises(ValueError, match="this is not the id of this route"):
        await stocked.put_routes({route_id_of(other): ("Other", other), "rte_z": ("Line", LINE)})
    assert await stocked.load_route(route_id_of(other)) is None


# --- writing shows


async def test_the_same_import_again_changes_nothing(
    stocked: Catalogue, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    listings = [make_run(f"gtfs:{number}", day=number) for number in range(50)]
    listings += [make_show(f"theatre:{number}", day=number) for number in range(50)]
    assert await stocked.put_shows(listings) == PutCounts(100, 0, 0)
    before = await pool.fetch("SELECT *, xmin FROM show ORDER BY show_id")
    random.Random(1).shuffle(listings)
    assert await stocked.put_shows(listings) == PutCounts(0, 0, 100)
    after = await pool.fetch("SELECT updated_at FROM show ORDER BY show_id")
    assert [row["updated_at"] for row in before] == [row["updated_at"] for row in after]
    assert await stocked.put_shows([]) == PutCounts(0, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        {"title": "Macbeth"},
        {"venue": "Stavovské divadlo"},
        {"kind": ShowKind.OTHER_RUN},
        {"starts_at_ms": MONDAY_MS + 1},
        {"ends_at_ms": MONDAY_MS + 30 * DAY_MS},
        {"service_day_at_ms": MONDAY_MS},
        {"time_zone": "Europe/Brussels"},
        {"fares": FareTable("EUR", (CategoryFare(900), CategoryFare(501)))},
        {"fares": FareTable("CZK", FLAT_FARES.fares)},
        {"policy": SalesPolicy(seats_per_customer_max=3)},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_may_change_is_renewed(stocked: Catalogue, change: dict[str, object]) -> None:
    listing = make_show("theatre:1")
    await stocked.put_shows([listing])
    renewed = replace(listing, **change)  # type: ignore[arg-type]
    assert await stocked.put_shows([renewed]) == PutCounts(0, 1, 0, updated_ids=(renewed.show_id,))
    assert await stocked.find_listing(listing.show_id) == renewed


async def test_only_what_has_changed_is_read_again(stocked: Catalogue) -> None:
    listings = [make_show("theatre:1"), make_show("theatre:2")]
    await stocked.put_shows(listings)
    first, second = (listing.show_id for listing in listings)
    nothing = make_show("theatre:3").show_id
    asked: dict[ShowId, int | None] = {first: None, second: None, nothing: None, ShowId("\0"): None}
    known = await stocked.renew_listings(asked)
    assert {show_id: listed.listing for show_id, listed in known.items()} == {
        listing.show_id: listing for listing in listings
    }
    versions = {show_id: listed.version for show_id, listed in known.items()}
    assert await stocked.renew_listings({**versions, nothing: None}) == {}
    renewed = replace(listings[0], title="Another one")
    await stocked.put_shows([renewed])
    changed = await stocked.renew_listings({**versions, nothing: 7})
    assert changed[first].listing == renewed
    assert changed[nothing] == Listed(None, None)
    assert set(changed) == {first, nothing}


async def test_a_renewed_title_is_found_and_the_old_one_is_not(stocked: Catalogue) -> None:
    await stocked.put_shows([make_show("theatre:1")])
    await stocked.put_shows([make_show("theatre:1", "Macbeth")])
    assert await titles(stocked, text="macb") == ["Macbeth"]
    assert await titles(stocked, text="hamlet") == []


async def test_plan_and_route_of_a_show_never_change(stocked: Catalogue) -> None:
    other = make_route(("A", "Alpha", 10), ("B", "Beta", 20), ("C", "Gamma", 30))
    await stocked.put_routes({route_id_of(other): ("Other", other)})
    performance, run = make_show("theatre:1"), make_run("gtfs:1")
    await stocked.put_shows([performance, run])
    counts = await stocked.put_shows(
        [
            replace(performance, plan_id=COACH_ID, title="New"),
            replace(run, route_id=route_id_of(other), title="New"),
            make_show("theatre:2"),
        ]
    )
    assert (counts.created, counts.updated, counts.unchanged) == (1, 0, 0)
    assert dict(counts.refused) == {
        "theatre:1": f"plan_id: the show is sold with plan {HALL_ID} already",
        "gtfs:1": f"route_id: the show is sold with route {LINE_ID} already",
    }
    assert await stocked.find_listing(performance.show_id) == performance
    assert await stocked.find_listing(run.show_id) == run
    counts = await stocked.put_shows([replace(run, route_id=None, fares=FLAT_FARES)])
    assert [refused.reason.split(":")[0] for refused in counts.refused] == ["route_id"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"show_id": derive_show_id("another")}, "show_id"),
        ({"show_id": "x\0"}, "show_id"),
        ({"source_key": ""}, "source_key"),
        ({"source_key": "a\0"}, "source_key"),
        ({"source_key": "\ud800"}, "source_key"),
        ({"source_key": "k" * 501}, "source_key"),
        ({"title": "a\0b"}, "title"),
        ({"title": "t" * 501}, "title"),
        ({"venue": "\udfff"}, "venue"),
        ({"time_zone": ""}, "time_zone"),
        ({"time_zone": "\0"}, "time_zone"),
        ({"starts_at_ms": 10**18}, "starts_at_ms"),
        ({"starts_at_ms": -2_208_988_800_001}, "starts_at_ms"),
        ({"ends_at_ms": 253_370_764_800_000}, "ends_at_ms"),
        ({"ends_at_ms": MONDAY_MS - DAY_MS}, "ends_at_ms"),
        ({"service_day_at_ms": -(10**15)}, "service_day_at_ms"),
        ({"plan_id": "pln_00000000000000000000"}, "plan_id"),
        ({"plan_id": "\0\ud800"}, "plan_id"),
        ({"route_id": "rte_00000000000000000000"}, "route_id"),
        ({"route_id": "\0"}, "route_id"),
        ({"route_id": ""}, "route_id"),
        ({"route_id": LINE_ID, "fares": FareTable("EUR", (CategoryFare(1, (1,)),) * 2)}, "fares"),
        ({"fares": FareTable("EUR", (CategoryFare(1),))}, "fares"),
        ({"fares": FareTable("EUR", (CategoryFare(1, (1, 2)),) * 2)}, "fares"),
        ({"policy": SalesPolicy(on_sale_from_at_ms=2**64)}, "policy"),
    ],
)
async def test_a_show_that_cannot_be_stored_is_refused_and_its_neighbours_are_stored(
    stocked: Catalogue, change: dict[str, object], field: str
) -> None:
    broken = replace(make_show("theatre:1"), **change)  # type: ignore[arg-type]
    neighbour = make_show("theatre:2")
    counts = await stocked.put_shows([broken, neighbour])
    assert (counts.created, counts.unchanged) == (1, 0)
    assert [refused.reason.split(":")[0] for refused in counts.refused] == [field]
    text = "".join(counts.refused[0])
    assert "\0" not in text
    assert text.encode()
    assert await stocked.count_shows() == 1


async def test_a_show_twice_in_one_import_counts_once_or_is_refused(stocked: Catalogue) -> None:
    listing = make_show("theatre:1")
    assert await stocked.put_shows([listing, listing]) == PutCounts(1, 0, 1)
    counts = await stocked.put_shows([listing, replace(listing, title="Other")])
    assert (counts.created, counts.updated, counts.unchanged) == (0, 0, 1)
    assert [refused.reason.split(":")[0] for refused in counts.refused] == ["source_key"]
    assert await stocked.find_listing(listing.show_id) == listing


async def test_imports_of_the_same_shows_at_once_store_each_once(stocked: Catalogue) -> None:
    listings = [make_show(f"theatre:{number}", day=number) for number in range(300)]
    orders = [random.Random(seed).sample(listings, len(listings)) for seed in range(6)]
    counts = await asyncio.wait_for(
        asyncio.gather(*(stocked.put_shows(order) for order in orders)), WAIT_S
    )
    assert sum(count.created for count in counts) == 300
    assert sum(count.unchanged for count in counts) == 5 * 300
    assert await stocked.count_shows() == 300


async def test_an_organiser_role_may_import_and_a_reader_may_only_read(
    server: EmbeddedPostgres, stocked: Catalogue, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    async with pool.acquire() as connection:
        database = await connection.fetchval("SELECT current_database()")
        await ensure_application_role(connection, "importer", "one")
        await ensure_application_role(connection, "customer", "two")
    listing, route = make_run("gtfs:1"), make_route(("A", "Alpha", 10), ("B", "Beta", 20))
    some = await open_pool(
        server.dsn(database, "importer", "one"), "importer", size_max=1, role=ORGANISER_GROUP
    )
    async with some:
        importer = Catalogue(some)
        await importer.put_plan(COACH_ID, COACH, {"new": 1}, {})
        assert await importer.put_routes({route_id_of(route): ("Line", route)}) == 1
        assert await importer.put_shows([listing]) == PutCounts(1, 0, 0)
        renewed = replace(listing, title="New")
        assert await importer.put_shows([renewed]) == PutCounts(
            0, 1, 0, updated_ids=(renewed.show_id,)
        )
        await importer.set_placement(listing.show_id, Placement.DEDICATED)
    async with asyncpg.create_pool(server.dsn(database, "customer", "two"), min_size=1) as some:
        customer = Catalogue(some)
        assert await customer.load_show(listing.show_id) is not None
        assert await titles(customer, from_stop="KDT") == ["New"]
        assert await customer.stops_matching("alph") == (StopMatch("A", "Alpha"),)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await customer.put_shows([listing])


# --- when the database goes away


async def test_a_closed_pool_is_a_fault_that_says_nothing_was_done(
    dsn: str, stocked: Catalogue
) -> None:
    pool = await asyncpg.create_pool(dsn, min_size=1)
    catalogue = Catalogue(pool)
    await pool.close()
    with pytest.raises(ShowUnavailable):
        await catalogue.load_show(derive_show_id("t:1"))
    with pytest.raises(ShowUnavailable):
        await catalogue.put_shows([make_show("t:1")])


async def test_a_read_that_loses_its_connection_is_not_done_and_the_next_one_works(
    dsn: str, stocked: Catalogue
) -> None:
    listing = make_show("t:1")
    await stocked.put_shows([listing])
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        catalogue = Catalogue(pool)
        own_pid = await pool.fetchval("SELECT pg_backend_pid()")
        blocker = await asyncpg.connect(dsn)
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE show")
            reading = asyncio.create_task(catalogue.load_show(listing.show_id))
            await wait_until_blocked(blocker, own_pid)
            await blocker.fetchval("SELECT pg_terminate_backend($1)", own_pid)
            with pytest.raises(ShowUnavailable):
                await reading
        await blocker.close()
        assert await catalogue.load_show(listing.show_id) is not None


async def test_a_write_that_loses_its_connection_is_unknown_and_may_be_repeated(
    dsn: str, stocked: Catalogue
) -> None:
    listing = make_show("t:1")
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        catalogue = Catalogue(pool)
        own_pid = await pool.fetchval("SELECT pg_backend_pid()")
        blocker = await asyncpg.connect(dsn)
        async with blocker.transaction():
            await blocker.execute("LOCK TABLE show")
            writing = asyncio.create_task(catalogue.put_shows([listing]))
            await wait_until_blocked(blocker, own_pid)
            await blocker.fetchval("SELECT pg_terminate_backend($1)", own_pid)
            with pytest.raises(OutcomeUnknown):
                await writing
        await blocker.close()
        assert await catalogue.count_shows() == 0
        assert await catalogue.put_shows([listing]) == PutCounts(1, 0, 0)


async def wait_until_blocked(connection: asyncpg.Connection[asyncpg.Record], pid: int) -> None:
    async with asyncio.timeout(WAIT_S):
        # Postgres tells nobody when a session starts to wait: it has to be asked.
        while not await connection.fetchval("SELECT cardinality(pg_blocking_pids($1))", pid):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
