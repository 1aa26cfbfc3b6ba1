"""The demo's own files: plans and feeds without a single problem, and what they promise."""

from __future__ import annotations

import json
from datetime import date, timedelta

import jsonschema
import pytest

from integrations.gtfs_feed import read_feed
from integrations.gtfs_timetable import Timetable
from reservation.plan_document import read_plan
from reservation.seating_plan import SeatingPlan, SeatTrait
from serve_app.catalogue.demo_catalogue import DEMO_DIRECTORY, arena_documents
from serve_app.catalogue.importing import read_plan_files
from tests.support.seating_plan_schema import SEATING_PLAN_SCHEMA

PLANS = ("theatre", "coach", "train-coach")


def plan_named(name: str) -> SeatingPlan:
    files = read_plan_files(DEMO_DIRECTORY / f"{name}.json", DEMO_DIRECTORY / f"{name}-extras.json")
    assert files.problems == ()
    return files.plan


def seats_with(plan: SeatingPlan, trait: SeatTrait) -> int:
    return sum(1 for traits in plan.traits if traits & trait)


@pytest.mark.parametrize("name", PLANS)
def test_plans_validate_against_the_schema_of_the_format(name: str) -> None:
    document = json.loads((DEMO_DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    jsonschema.validate(document, SEATING_PLAN_SCHEMA)


@pytest.mark.parametrize(
    ("name", "seat_count", "category_count"),
    [("theatre", 368, 3), ("coach", 49, 2), ("train-coach", 64, 2)],
)
def test_plans_have_no_problems_and_the_seats_they_promise(
    name: str, seat_count: int, category_count: int
) -> None:
    plan = plan_named(name)
    assert plan.seat_count == seat_count
    assert set(plan.category_of) == set(range(category_count))


def test_the_playhouse_has_stalls_and_a_balcony_with_two_aisles_in_every_row() -> None:
    plan = plan_named("theatre")
    assert {row.section for row in plan.rows} == {"Stalls", "Balcony"}
    assert len(plan.runs) == 3 * len(plan.rows)
    assert seats_with(plan, SeatTrait.ACCESSIBLE) == 4
    assert seats_with(plan, SeatTrait.COMPANION) == 4
    assert seats_with(plan, SeatTrait.RESTRICTED_VIEW) == 12


@pytest.mark.parametrize("name", PLANS)
def test_every_companion_seat_has_an_accessible_neighbour(name: str) -> None:
    plan = plan_named(name)
    assert seats_with(plan, SeatTrait.COMPANION) > 0
    for run in plan.runs:
        for index in range(run.first, run.end):
            if plan.traits[index] & SeatTrait.COMPANION:
                beside = [n for n in (index - 1, index + 1) if run.first <= n < run.end]
                assert any(plan.traits[n] & SeatTrait.ACCESSIBLE for n in beside)


def test_the_coach_has_an_aisle_in_every_row_but_the_last() -> None:
    plan = plan_named("coach")
    lengths = [run.end - run.first for run in plan.runs]
    assert lengths == [2] * 22 + [5]


def test_the_arena_is_large_and_its_documents_are_sound() -> None:
    document, extras = arena_documents()
    jsonschema.validate(document, SEATING_PLAN_SCHEMA)
    reading = read_plan(document, extras)
    assert reading.problems == ()
    assert reading.plan is not None
    assert reading.plan.seat_count >= 20_000
    assert len(reading.plan.categories) == 4
    assert sum(tier.capacity for tier in reading.plan.admission_tiers) == 4_000
    # Rows are curved and unbroken: each is one run.
    assert len(reading.plan.runs) == len(reading.plan.rows)


@pytest.mark.parametrize(
    ("folder", "line_count", "longest"), [("bus-network", 5, 7), ("train-line", 1, 8)]
)
def test_feeds_have_no_problems_and_run_every_week_of_twenty_years(
    folder: str, line_count: int, longest: int
) -> None:
    feed = read_feed(DEMO_DIRECTORY / folder)
    assert len(feed.routes) == line_count
    first = date(2026, 7, 6)
    trips = list(Timetable(feed, first, first + timedelta(days=6)).trips())
    assert feed.problems.count == 0
    assert len(trips) == len(feed.trips)
    assert max(len(trip.route.stops) for trip in trips) == longest
    for year in range(2020, 2041):
        monday = date(year, 3, 1)
        assert Timetable(feed, monday, monday + timedelta(days=6)).run_count == sum(
            len(trip.days) for trip in trips
        )


def test_a_coach_goes_round_and_another_through_the_night() -> None:
    feed = read_feed(DEMO_DIRECTORY / "bus-network")
    trips = list(Timetable(feed, date(2026, 7, 6), date(2026, 7, 12)).trips())
    codes = [stop.code for trip in trips for stop in trip.route.stops]
    assert "AVE#2" in codes
    assert any(trip.route.stops[-1].arrival_s > 24 * 3600 for trip in trips)


def test_no_file_of_the_demo_is_large() -> None:
    files = [path for path in DEMO_DIRECTORY.rglob("*") if path.is_file()]
    assert len(files) == 6 + 2 * 6
    assert max(path.stat().st_size for path in files) < 64 * 1024
    assert all(path.suffix in (".json", ".txt") for path in files)
