"""Searching the catalogue on real servers: shows, rides and stops."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from persistence.catalogue import Catalogue, Cursor, SearchItem, ShowSearch, StopMatch
from persistence.plan_codec import route_id_of
from reservation.ids import derive_show_id
from reservation.listing import ShowKind
from reservation.route import Route, Segment, Stop
from tests.support import catalogue_house
from tests.support.catalogue_house import (
    COACH,
    COACH_ID,
    DAY_MS,
    HOUR_MS,
    LINE,
    MONDAY_MS,
    all_items,
    make_route,
    make_run,
    make_show,
    titles,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable

# Fixtures are found by their names in the module that uses them.
server = catalogue_house.server
template = catalogue_house.template
dsn = catalogue_house.dsn
pool = catalogue_house.pool
catalogue = catalogue_house.catalogue
stocked = catalogue_house.stocked


# --- searching shows


async def test_pages_have_every_show_once_in_the_order_of_starts(stocked: Catalogue) -> None:
    # Many shows at one instant: the order among them is by id, and no page may lose one.
    listings = [make_show(f"theatre:{number}", day=number % 7) for number in range(60)]
    await stocked.put_shows(listings)
    expected = sorted((show.starts_at_ms, show.show_id) for show in listings)
    for limit in (1, 7, 59, 60, 61):
        items = await all_items(stocked, ShowSearch(limit=limit))
        assert [(item.starts_at_ms, item.show_id) for item in items] == expected


async def test_a_page_goes_on_rightly_while_shows_are_added(stocked: Catalogue) -> None:
    await stocked.put_shows([make_show(f"theatre:{day}", f"Day {day}", day=day) for day in (1, 3)])
    first = await stocked.search(ShowSearch(limit=1))
    assert first.next is not None
    await stocked.put_shows([make_show(f"theatre:{day}", f"Day {day}", day=day) for day in (0, 2)])
    second = await stocked.search(ShowSearch(limit=5, after=first.next))
    assert [item.title for item in second.items] == ["Day 2", "Day 3"]
    assert second.next is None


async def test_an_item_tells_what_the_listing_says(stocked: Catalogue) -> None:
    listing = make_show("theatre:1")
    await stocked.put_shows([listing])
    (item,) = (await stocked.search(ShowSearch())).items
    shared = {field.name for field in fields(SearchItem)} - {"ride"}
    assert {name: getattr(item, name) for name in shared} == {
        name: getattr(listing, name) for name in shared
    }
    assert item.ride is None


async def test_bounds_include_the_first_instant_and_exclude_the_last(stocked: Catalogue) -> None:
    await stocked.put_shows([make_show(f"t:{day}", f"Day {day}", day=day) for day in range(4)])
    starts = MONDAY_MS + 19 * HOUR_MS
    bounds = {"starts_from_ms": starts + DAY_MS, "starts_before_ms": starts + 3 * DAY_MS}
    for more in ({}, {"text": "day"}, {"kind": ShowKind.PERFORMANCE},
                 {"text": "day", "kind": ShowKind.PERFORMANCE}):  # fmt: skip
        assert await titles(stocked, **bounds, **more) == ["Day 1", "Day 2"]
    # A cursor from before the bound does not widen it.
    assert await titles(stocked, **bounds, after=Cursor(0, "shw_x")) == ["Day 1", "Day 2"]
    assert await titles(stocked, starts_from_ms=2 * starts, starts_before_ms=0) == []


async def test_words_are_found_by_their_beginnings_in_any_order(stocked: Catalogue) -> None:
    await stocked.put_shows(
        [
            make_show("t:0", "Žižkov Blues Night", day=0),
            make_show("t:1", "R9 Praha hl.n. – Brno", day=1),
            make_show("t:2", "Blue Note: L'Été", day=2),
        ]
    )
    assert await titles(stocked, text="blue") == ["Žižkov Blues Night", "Blue Note: L'Été"]
    assert await titles(stocked, text="nigh ZIZ") == ["Žižkov Blues Night"]
    assert await titles(stocked, text="DIVADLO ete") == ["Blue Note: L'Été"]
    assert await titles(stocked, text="brno-praha HL.N., r9") == ["R9 Praha hl.n. – Brno"]
    assert await titles(stocked, text="blues note") == []
    assert await titles(stocked, text="lues") == []
    assert len(await titles(stocked, text="  ")) == 3
    assert await titles(stocked, text="?!'") == []
    assert await titles(stocked, text="x' | 'blue") == []


async def test_words_are_found_beyond_the_next_two_thousand_shows(stocked: Catalogue) -> None:
    filler = [make_show(f"f:{number}", "Filler", day=number % 3) for number in range(2_050)]
    late = [make_show(f"l:{number}", f"Late {number}", day=10 + number) for number in range(5)]
    early = make_show("e:1", "Late but early", day=0)
    run = make_run("gtfs:1", day=30)
    await stocked.put_shows([*filler, *late, early, replace(run, title="Late train")])
    expected = ["Late but early", *(f"Late {number}" for number in range(5))]
    assert await titles(stocked, text="late", limit=2) == [*expected, "Late train"]
    assert await titles(stocked, text="late", kind=ShowKind.PERFORMANCE, limit=2) == expected
    assert await titles(stocked, text="late", kind=ShowKind.TRAIN) == ["Late train"]
    assert len(await titles(stocked, text="filler", limit=100)) == 2_050


async def test_kinds_are_kept_apart(stocked: Catalogue) -> None:
    await stocked.put_shows([make_show("t:1"), make_run("gtfs:1")])
    assert await titles(stocked, kind=ShowKind.TRAIN) == ["Express gtfs:1"]
    assert await titles(stocked, kind=ShowKind.PERFORMANCE) == ["Hamlet"]
    assert await titles(stocked, kind=ShowKind.BUS) == []


async def test_a_cancelled_show_is_not_found_but_still_loaded(
    stocked: Catalogue, pool: asyncpg.Pool[asyncpg.Record]
) -> None:
    run = make_run("gtfs:1")
    await stocked.put_shows([run])
    await pool.execute("UPDATE show SET status = 'cancelled'")
    for question in ({}, {"text": "express"}, {"kind": ShowKind.TRAIN}, {"from_stop": "KDT"}):
        assert await titles(stocked, **question) == []
    assert await stocked.load_show(run.show_id) is not None


@pytest.mark.parametrize("bad", ["\0", "a\0b", "\ud800", "x" * 301])
@pytest.mark.parametrize("field", ["text", "from_stop", "to_stop", "after", "prefix"])
async def test_text_that_postgres_cannot_read_is_refused_by_its_field(
    stocked: Catalogue, field: str, bad: str
) -> None:
    asking: Awaitable[object]
    if field == "prefix":
        asking = stocked.stops_matching(bad)
    else:
        asked: dict[str, Any] = {field: Cursor(0, bad) if field == "after" else bad}
        asking = stocked.search(ShowSearch(**asked))
    with pytest.raises(ValueError, match=f"^{field}: "):
        await asking


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"starts_from_ms": 10**18}, "starts_from_ms"),
        ({"starts_before_ms": -(10**18)}, "starts_before_ms"),
        ({"after": Cursor(10**18, "x")}, "after"),
    ],
)
async def test_a_number_out_of_bounds_is_refused_by_its_field(
    stocked: Catalogue, question: dict[str, object], field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        await stocked.search(ShowSearch(**question))  # type: ignore[arg-type]


# --- searching rides


async def put_lines(catalogue: Catalogue, *lines: tuple[Route, int]) -> None:
    """One run for each route and day, called ``gtfs:0``, ``gtfs:1`` and so on."""
    await catalogue.put_plan(COACH_ID, COACH, {}, {})
    await catalogue.put_routes({route_id_of(route): ("Line", route) for route, _ in lines})
    runs = [make_run(f"gtfs:{n}", route, day=day) for n, (route, day) in enumerate(lines)]
    assert (await catalogue.put_shows(runs)).refused == ()


async def test_a_ride_is_found_by_code_or_name_in_its_direction_only(catalogue: Catalogue) -> None:
    await put_lines(catalogue, (LINE, 0))
    for from_stop, to_stop in (("PDA", "FOT"), ("peradeniya  JUNCTION", "colombo-fort")):
        (item,) = (await catalogue.search(ShowSearch(from_stop=from_stop, to_stop=to_stop))).items
        assert item.ride is not None
        assert item.ride.segment == Segment(1, 2) == LINE.segment("PDA", "FOT")
        assert (item.ride.from_code, item.ride.from_name) == ("PDA", "Peradeniya Junction")
        assert (item.ride.to_code, item.ride.to_name) == ("FOT", "Colombo Fort")
        assert item.ride.departs_at_ms == MONDAY_MS + 615 * 60_000
        assert item.ride.arrives_at_ms == MONDAY_MS + 779 * 60_000
    assert await titles(catalogue, from_stop="FOT", to_stop="PDA") == []
    assert await titles(catalogue, from_stop="PDA", to_stop="PDA") == []
    assert await titles(catalogue, from_stop="PDA", to_stop="nowhere") == []
    assert await titles(catalogue, from_stop="fot", to_stop="PDA") == []


async def test_one_stop_alone_is_a_ride_to_or_from_the_end_of_the_run(
    catalogue: Catalogue,
) -> None:
    await put_lines(catalogue, (LINE, 0))

    async def segments(**question: str) -> list[Segment]:
        page = await catalogue.search(ShowSearch(**question))  # type: ignore[arg-type]
        return [item.ride.segment for item in page.items if item.ride is not None]

    assert await segments(from_stop="PDA") == [Segment(1, 2)]
    assert await segments(from_stop="KDT", to_stop="  ") == [Segment(0, 2)]
    assert await segments(from_stop="FOT") == []
    assert await segments(to_stop="PDA") == [Segment(0, 1)]
    assert await segments(to_stop="KDT") == []


async def test_a_stop_called_at_twice_gives_the_earliest_pair(catalogue: Catalogue) -> None:
    ring = make_route(
        ("B", "Beta", 5), ("A", "Alpha", 10), ("B#2", "Beta", 20), ("A#2", "Alpha", 30),
        ("C", "Gamma", 40), ("B#3", "Beta", 50),
    )  # fmt: skip
    await put_lines(catalogue, (ring, 0))

    async def codes(from_stop: str, to_stop: str) -> list[tuple[str, str]]:
        page = await catalogue.search(ShowSearch(from_stop=from_stop, to_stop=to_stop))
        return [(item.ride.from_code, item.ride.to_code) for item in page.items if item.ride]

    assert await codes("A", "B") == [("A", "B#2")]
    assert await codes("beta", "alpha") == [("B", "A")]
    assert await codes("A", "A") == [("A", "A#2")]
    assert await codes("C", "B") == [("C", "B#3")]
    assert await codes("A#2", "B#3") == [("A", "B#2")]


async def test_one_code_of_two_timetables_is_not_one_place(catalogue: Catalogue) -> None:
    here = make_route(("1", "Kandy", 10), ("2", "Colombo Fort", 20))
    there = make_route(("1", "Praha", 10), ("2", "Brno", 20))
    await put_lines(catalogue, (here, 0), (there, 0))
    assert await titles(catalogue, from_stop="praha", to_stop="brno") == ["Express gtfs:1"]
    assert await titles(catalogue, from_stop="praha", to_stop="colombo fort") == []
    assert len(await titles(catalogue, from_stop="1", to_stop="2")) == 2
    assert await catalogue.stops_matching("1") == (
        StopMatch("1", "Kandy"),
        StopMatch("1", "Praha"),
    )


async def test_bounds_are_of_the_departure_where_one_boards(catalogue: Catalogue) -> None:
    night = make_route(("A", "Alpha", 23 * 60), ("B", "Beta", 25 * 60), ("C", "Gamma", 27 * 60))
    await put_lines(catalogue, (night, 0), (night, 1))
    departs_ms = MONDAY_MS + 25 * HOUR_MS
    question = {"from_stop": "B", "to_stop": "C"}
    for from_ms, before_ms, expected in (
        (departs_ms, departs_ms + 1, ["Express gtfs:0"]),
        (departs_ms + 1, departs_ms + DAY_MS, []),
        (departs_ms + 1, None, ["Express gtfs:1"]),
        (departs_ms - 2 * HOUR_MS, departs_ms, []),
    ):
        found = await titles(
            catalogue, **question, starts_from_ms=from_ms, starts_before_ms=before_ms
        )
        assert found == expected


async def test_rides_agree_with_a_plain_reading_of_the_timetable(catalogue: Catalogue) -> None:
    dice = random.Random(7)
    places = [(f"P{number}", f"Place {number}") for number in range(6)]
    lines: list[tuple[Route, int]] = []
    for _ in range(40):
        minute, calls, visits = dice.randrange(60, 1400), [], dict.fromkeys(places, 0)
        for place in dice.choices(places, k=dice.randrange(2, 7)):
            visits[place] += 1
            code = place[0] if visits[place] == 1 else f"{place[0]}#{visits[place]}"
            calls.append((code, place[1], minute))
            minute += dice.randrange(1, 90)
        route = make_route(*calls)
        lines += [(route, day) for day in dice.sample(range(9), dice.randrange(1, 5))]
    lines = list(dict.fromkeys(lines))
    await put_lines(catalogue, *lines)

    def ride_of(route: Route, from_code: str | None, to_code: str | None) -> Segment | None:
        def is_at(stop: Stop, code: str) -> bool:
            return stop.code.split("#")[0] == code

        last = len(route.stops) - 1
        for board, boarding in enumerate(route.stops):
            if not is_at(boarding, from_code) if from_code else board != 0:
                continue
            for alight in range(board + 1, last + 1):
                if is_at(route.stops[alight], to_code) if to_code else alight == last:
                    return Segment(board, alight)
        return None

    for _ in range(120):
        from_place, to_place = dice.choice([*places, None]), dice.choice([*places, None])
        if from_place is None and to_place is None:
            continue
        from_ms = MONDAY_MS + dice.randrange(9 * 24) * HOUR_MS
        before_ms = None if dice.random() < 0.5 else from_ms + dice.randrange(72) * HOUR_MS
        expected = []
        for number, (route, day) in enumerate(lines):
            ride = ride_of(route, from_place and from_place[0], to_place and to_place[0])
            if ride is None:
                continue
            seconds = route.stops[ride.from_leg].departure_s
            departs_ms = MONDAY_MS + day * DAY_MS + seconds * 1000
            if from_ms <= departs_ms < (before_ms or 10**15):
                expected.append((departs_ms, derive_show_id(f"gtfs:{number}"), ride))
        by_name = dice.random() < 0.5
        search = ShowSearch(
            from_stop=from_place and from_place[by_name],
            to_stop=to_place and to_place[by_name],
            starts_from_ms=from_ms,
            starts_before_ms=before_ms,
            limit=dice.choice([1, 3, 100]),
        )
        items = await all_items(catalogue, search)
        found = [
            (item.ride.departs_at_ms, item.show_id, item.ride.segment)
            for item in items
            if item.ride is not None
        ]
        assert found == sorted(expected), search


async def test_rides_can_be_asked_for_by_kind_and_words_too(stocked: Catalogue) -> None:
    runs = [make_run(f"gtfs:{number}", day=number) for number in range(4)]
    runs[2] = replace(runs[2], kind=ShowKind.BUS, title="Night coach")
    await stocked.put_shows([*runs, make_show("t:1")])
    question = {"from_stop": "KDT", "to_stop": "FOT"}
    assert await titles(stocked, **question, kind=ShowKind.BUS) == ["Night coach"]
    assert await titles(stocked, **question, text="sri coa") == ["Night coach"]
    assert len(await titles(stocked, **question, text="expr", kind=ShowKind.TRAIN, limit=1)) == 3


async def test_stops_for_a_search_box_are_different_and_in_a_useful_order(
    catalogue: Catalogue,
) -> None:
    await put_lines(
        catalogue,
        (make_route(("FOT", "Colombo Fort", 10), ("MDA", "Maradana Colombo", 20)), 0),
        (make_route(("MDA", "Maradana Colombo", 30), ("FOT", "Colombo Fort", 40)), 0),
        (make_route(("MDA#2", "Maradana Colombo", 5), ("COL", "Żabno", 9)), 0),
    )

    async def codes(prefix: str, limit: int = 20) -> list[str]:
        return [stop.code for stop in await catalogue.stops_matching(prefix, limit)]

    assert await codes("colombo") == ["FOT", "MDA", "MDA#2"]
    assert await codes("COL") == ["COL", "FOT", "MDA", "MDA#2"]
    assert await codes("col", 2) == ["FOT", "MDA"]
    assert await codes("zab") == ["COL"]
    assert await codes("colo mar") == ["MDA", "MDA#2"]
    assert await codes("  ") == []
    assert await codes("'!") == []
    for limit in (0, 101):
        with pytest.raises(ValueError, match=r"^limit: "):
            await catalogue.stops_matching("a", limit)
