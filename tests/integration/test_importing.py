"""Imports into a real catalogue: once, twice, wrong, and the demo."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from integrations.gtfs_timetable import FareRule
from persistence.catalogue import Catalogue
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import migrate
from reservation.ids import derive_show_id
from reservation.limits import AMOUNT_MINOR_MAX
from reservation.plan_document import read_plan
from reservation.show import OrphanRule, Placement, SalesPolicy
from serve_app.catalogue.demo_catalogue import DEMO_DIRECTORY, load_demo
from serve_app.catalogue.importing import (
    FareTerms,
    ImportProblem,
    ImportRefused,
    ImportReport,
    import_gtfs,
    import_seating_plan,
    read_plan_files,
)
from serve_app.catalogue.json_file import JsonFault, read_json
from tests.support.gtfs import SMALL_FEED, Files, write_feed, zip_feed
from tests.support.quick_postgres import quick_postgres

DAY = date(2026, 7, 6)
WEEK = DAY + timedelta(days=6)
FARES = FareTerms("EUR", FareRule(100, 10))


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with quick_postgres() as running:
        yield running


@pytest.fixture
async def catalogue(server: EmbeddedPostgres) -> AsyncIterator[Catalogue]:
    """An empty catalogue."""
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute("DROP DATABASE IF EXISTS importing WITH (FORCE)")
        await connection.execute("CREATE DATABASE importing")
    finally:
        await connection.close()
    await migrate(server.dsn("importing"))
    pool = await asyncpg.create_pool(server.dsn("importing"), min_size=1, max_size=2)
    try:
        yield Catalogue(pool)
    finally:
        await pool.close()


def coach(**members: object) -> dict[str, Any]:
    seats = [
        {"seat_guid": f"1{letter}", "seat_number": letter, "position": {"x": x, "y": 0}}
        | {"category": "Standard"}
        for letter, x in (("A", 0), ("B", 40), ("C", 120))
    ]
    return {
        "name": "Coach",
        "size": {"width": 200, "height": 100},
        "categories": [{"name": "Standard"}, {"name": "First"}],
        "zones": [{"position": {"x": 0, "y": 0}, "rows": [{"row_number": "1", "seats": seats}]}],
        **members,
    }


@pytest.fixture
def plan_path(tmp_path: Path) -> Path:
    return write_json(tmp_path / "coach.json", coach())


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


async def import_week(
    catalogue: Catalogue, feed_path: Path, plan_path: Path, **options: Any
) -> ImportReport:
    defaults: dict[str, Any] = {"from_date": DAY, "to_date": WEEK, "fares": FARES}
    return await import_gtfs(catalogue, feed_path, plan_path=plan_path, **(defaults | options))


class TestSeatingPlans:
    async def test_a_plan_is_created_once_and_then_unchanged(
        self, catalogue: Catalogue, plan_path: Path
    ) -> None:
        first = await import_seating_plan(catalogue, plan_path)
        second = await import_seating_plan(catalogue, plan_path)
        assert (first.created, first.updated, first.unchanged) == (1, 0, 0)
        assert (second.created, second.updated, second.unchanged) == (0, 0, 1)
        assert first.plan_ids == second.plan_ids
        stored = await catalogue.load_plan(first.plan_ids[0])
        assert stored == read_plan_files(plan_path).plan
        assert await catalogue.load_plan_document(first.plan_ids[0]) == (coach(), {})

    async def test_a_plan_that_is_only_drawn_differently_is_updated(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        first = await import_seating_plan(catalogue, plan_path)
        write_json(plan_path, coach(size={"width": 200, "height": 777}))
        second = await import_seating_plan(catalogue, plan_path)
        assert (second.updated, second.plan_ids) == (1, first.plan_ids)

    async def test_a_strict_import_of_a_plan_with_a_problem_stores_nothing(
        self, catalogue: Catalogue, plan_path: Path
    ) -> None:
        write_json(plan_path, coach(published=True))
        with pytest.raises(ImportRefused) as caught:
            await import_seating_plan(catalogue, plan_path, strict=True)
        reason = "'published' is not a member of a seating plan; ignored"
        assert caught.value.problems == (ImportProblem("coach.json", "published", reason),)
        lenient = await import_seating_plan(catalogue, plan_path)
        assert lenient.created == 1
        assert lenient.problems == caught.value.problems

    async def test_what_the_database_cannot_store_does_not_reach_it(
        self, catalogue: Catalogue, plan_path: Path
    ) -> None:
        value = coach(name="Co\0ach \ud800")
        value["zones"][0]["areas"] = [{"rotation": float("nan"), "color": "\0", "text\0": 10**30}]
        write_json(plan_path, value)
        report = await import_seating_plan(catalogue, plan_path)
        assert report.created == 1
        stored = await catalogue.load_plan_document(report.plan_ids[0])
        assert stored is not None
        assert stored[0]["name"] == "Coach "

    async def test_a_train_is_stored_with_a_document_that_draws_every_coach(
        self, catalogue: Catalogue, plan_path: Path
    ) -> None:
        report = await import_seating_plan(catalogue, plan_path, coaches=3)
        plan = await catalogue.load_plan(report.plan_ids[0])
        documents = await catalogue.load_plan_document(report.plan_ids[0])
        assert plan is not None
        assert documents is not None
        assert plan.labels[3] == "C2-1A"
        assert read_plan(*documents).plan == plan

    async def test_the_sibling_is_read_and_its_problems_name_its_file(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        extras = {"seats": {"1A": {"accessible": True}, "9Z": {"accessible": True}}}
        extras_path = write_json(tmp_path / "coach-extras.json", extras)
        report = await import_seating_plan(catalogue, plan_path, extras_path=extras_path)
        plan = await catalogue.load_plan(report.plan_ids[0])
        assert plan is not None
        assert plan.traits == bytes((1, 0, 0))
        reason = "no seat of the plan has this label"
        assert report.problems == (ImportProblem("coach-extras.json", 'seats["9Z"]', reason),)

    async def test_a_plan_that_cannot_be_used_is_refused(
        self, catalogue: Catalogue, plan_path: Path
    ) -> None:
        write_json(plan_path, {"name": "x"})
        with pytest.raises(ImportRefused, match=r"coach\.json has no seating plan") as caught:
            await import_seating_plan(catalogue, plan_path)
        assert "categories" in {problem.place for problem in caught.value.problems}
        write_json(plan_path, coach())
        with pytest.raises(ImportRefused, match="coaches: 0 is below 1"):
            await import_seating_plan(catalogue, plan_path, coaches=0)


class TestTimetables:
    async def test_the_second_import_changes_nothing(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        feed_path = write_feed(tmp_path / "feed")
        first = await import_week(catalogue, feed_path, plan_path)
        second = await import_week(catalogue, zip_feed(tmp_path / "feed.zip"), plan_path)
        assert (first.created, first.updated, first.unchanged, first.problems) == (7, 0, 0, ())
        assert (second.created, second.updated, second.unchanged) == (0, 0, 7)
        assert await catalogue.count_shows() == 7

    async def test_a_show_is_stored_with_its_seats_stops_fares_and_policy(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        policy = SalesPolicy(orphan_rule=OrphanRule.STRICT)
        fares = FareTerms("EUR", FareRule(100, 10), {"First": FareRule(900, 0)})
        await import_week(
            catalogue,
            write_feed(tmp_path / "feed"),
            plan_path,
            coaches=2,
            fares=fares,
            policy=policy,
        )
        show = await catalogue.load_show(derive_show_id("gtfs:TR:T1:2026-07-08"))
        assert show is not None
        assert show.plan.seat_count == 6
        assert [stop.code for stop in show.route.stops] == ["A", "B", "C"]
        # 11.119 km a leg at 10 minor units: 111, and 222 for both.
        assert [fare.leg_minor for fare in show.fares.fares] == [(111, 111), (0, 0)]
        assert [fare.base_minor for fare in show.fares.fares] == [100, 900]
        assert show.policy == policy
        assert show.placement is Placement.POOLED

    async def test_other_fares_update_the_shows(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        feed_path = write_feed(tmp_path / "feed")
        await import_week(catalogue, feed_path, plan_path)
        dearer = replace(FARES, every_category=FareRule(200, 10))
        report = await import_week(catalogue, feed_path, plan_path, fares=dearer)
        assert (report.created, report.updated, report.unchanged) == (0, 7, 0)

    async def test_a_show_whose_stops_have_changed_is_refused_and_told(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        await import_week(catalogue, write_feed(tmp_path / "old"), plan_path)
        rows = SMALL_FEED["stop_times.txt"].replace("08:10:00", "08:09:00")
        changed = write_feed(tmp_path / "new", {"stop_times.txt": rows})
        report = await import_week(catalogue, changed, plan_path)
        assert (report.created, report.updated, report.unchanged) == (0, 0, 0)
        assert sorted(problem.place for problem in report.problems) == [
            f"gtfs:TR:T1:{(DAY + timedelta(days=n)).isoformat()}" for n in range(7)
        ]
        assert all("sold with route" in problem.reason for problem in report.problems)

    async def test_bad_rows_are_told_and_the_rest_is_imported_unless_strict(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        changes: Files = {
            "trips.txt": "route_id,service_id,trip_id\nL1,daily,T1\nL1,daily,T2\n",
            "stop_times.txt": SMALL_FEED["stop_times.txt"] + "T2,09:00:00,09:00:00,Q,1\n",
        }
        feed_path = write_feed(tmp_path / "feed", changes)
        with pytest.raises(ImportRefused, match="because of 2 problems") as caught:
            await import_week(catalogue, feed_path, plan_path, strict=True)
        assert await catalogue.count_shows() == 0
        report = await import_week(catalogue, feed_path, plan_path)
        assert report.created == 7
        assert report.problems == caught.value.problems
        assert [str(problem) for problem in report.problems] == [
            "stop_times.txt: line 5: stop_id 'Q' is no stop of stops.txt; left out",
            "trips.txt: line 3: trip T2: no stop; the trip is left out",
        ]

    async def test_a_wrong_time_is_told_and_its_trip_is_imported_unless_strict(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        rows = SMALL_FEED["stop_times.txt"].replace("08:12:00", "18:12:00")
        feed_path = write_feed(tmp_path / "feed", {"stop_times.txt": rows})
        with pytest.raises(ImportRefused, match="because of 1 problem:") as caught:
            await import_week(catalogue, feed_path, plan_path, strict=True)
        assert await catalogue.count_shows() == 0
        report = await import_week(catalogue, feed_path, plan_path)
        assert (report.created, report.problems) == (7, caught.value.problems)
        assert [str(problem) for problem in report.problems] == [
            "stop_times.txt: line 3: trip T1: departure 18:12:00 at B is after time 08:20:00 at C; "
            "taken as 08:10:00"
        ]
        show = await catalogue.load_show(derive_show_id("gtfs:TR:T1:2026-07-08"))
        assert show is not None
        assert [(stop.arrival_s, stop.departure_s) for stop in show.route.stops] == [
            (28_800, 28_800),
            (29_400, 29_400),
            (30_000, 30_000),
        ]

    async def test_a_strict_import_of_a_sound_feed_imports_it(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        feed_path = write_feed(tmp_path / "feed")
        report = await import_week(catalogue, feed_path, plan_path, strict=True)
        assert report.created == 7

    @pytest.mark.parametrize(
        "changes", [{"stops.txt": None}, {"stop_times.txt": "trip_id\nT1\n"}, {"trips.txt": ""}]
    )
    async def test_an_unusable_feed_stores_nothing_not_even_the_plan(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path, changes: Files
    ) -> None:
        with pytest.raises(ImportRefused) as caught:
            await import_week(catalogue, write_feed(tmp_path / "feed", changes), plan_path)
        assert {problem.file for problem in caught.value.problems} == set(changes)
        assert (await import_seating_plan(catalogue, plan_path)).created == 1

    async def test_days_on_which_nothing_runs_are_refused(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        with pytest.raises(ImportRefused, match="no trip runs from 2031-01-01 to 2031-01-02"):
            await import_week(
                catalogue,
                write_feed(tmp_path / "feed"),
                plan_path,
                from_date=date(2031, 1, 1),
                to_date=date(2031, 1, 2),
            )

    async def test_a_fare_for_a_category_that_is_not_there_is_refused(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        fares = FareTerms("EUR", FareRule(1, 1), {"Sleeper": FareRule(5, 5)})
        with pytest.raises(ImportRefused, match="Sleeper: the plan has First, Standard"):
            await import_week(catalogue, write_feed(tmp_path / "feed"), plan_path, fares=fares)

    async def test_a_fare_beyond_every_bound_leaves_the_trip_out(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        fares = FareTerms("EUR", FareRule(0, AMOUNT_MINOR_MAX))
        report = await import_week(catalogue, write_feed(tmp_path / "feed"), plan_path, fares=fares)
        assert report.created == 0
        assert "an amount is above" in report.problems[0].reason

    async def test_progress_tells_of_files_and_then_of_all_shows(
        self, catalogue: Catalogue, tmp_path: Path, plan_path: Path
    ) -> None:
        heard: list[tuple[str, int, int]] = []
        await import_week(
            catalogue,
            write_feed(tmp_path / "feed"),
            plan_path,
            progress=lambda *step: heard.append(step),
        )
        assert heard[-1] == ("shows", 7, 7)
        assert "stop_times.txt" in [name for name, _, _ in heard]


class TestJsonFiles:
    @pytest.mark.parametrize(
        ("content", "place", "reason"),
        [
            (b'{\n  "a": 1,,\n}', "line 2, column 10", "not JSON"),
            (b"", "line 1, column 1", "not JSON"),
            (b'{"a":\n "\xe4"}', "line 2, byte 3", "not UTF-8"),
            (b"[" * 100_000, "", "more than 64 objects"),
            (b"[" * 65 + b"]" * 65, "", "more than 64 objects"),
            (b'"' + b"x" * 100 + b'"', "", "larger than 100 bytes"),
        ],
    )
    def test_what_is_no_json_is_told_by_line_and_column(
        self, tmp_path: Path, content: bytes, place: str, reason: str
    ) -> None:
        path = tmp_path / "file.json"
        path.write_bytes(content)
        bytes_max = 100 if "larger" in reason else 10**6
        with pytest.raises(JsonFault) as caught:
            read_json(path, bytes_max=bytes_max)
        assert caught.value.place == place
        assert reason in caught.value.reason

    def test_a_file_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(JsonFault, match="cannot be read: No such file"):
            read_json(tmp_path / "nothing.json")

    def test_a_byte_order_mark_and_endless_numbers_are_read(self, tmp_path: Path) -> None:
        path = tmp_path / "file.json"
        path.write_bytes(b"\xef\xbb\xbf[" + b"9" * 5_000 + b", 12, -7, NaN]")
        value = read_json(path).value
        assert isinstance(value, list)
        assert value[:3] == [float("inf"), 12, -7]

    def test_keys_that_are_there_twice_are_told_by_their_path(self, tmp_path: Path) -> None:
        path = tmp_path / "file.json"
        path.write_text(
            '{"a": [{"b": 1, "c": 2, "b": 3, "b": 4}, {"d": {"e": 1, "e": 2}}], "a2": 1}'
        )
        content = read_json(path)
        assert content.repeated == ("a[0].b", "a[0].b", "a[1].d.e")
        assert content.value == {"a": [{"b": 4, "c": 2}, {"d": {"e": 2}}], "a2": 1}

    async def test_keys_that_are_there_twice_are_problems_of_an_import(
        self, catalogue: Catalogue, plan_path: Path
    ) -> None:
        text = json.dumps(coach()).replace('"name": "Coach"', '"name": "Old", "name": "Coach"')
        plan_path.write_text(text, encoding="utf-8")
        report = await import_seating_plan(catalogue, plan_path)
        assert [(problem.place, problem.reason) for problem in report.problems] == [
            ("name", "this key is in its object twice; the last one counts")
        ]


class TestDemo:
    async def test_the_demo_fills_an_empty_catalogue_and_a_second_time_changes_nothing(
        self, catalogue: Catalogue
    ) -> None:
        heard: list[tuple[str, int, int]] = []
        first = await load_demo(catalogue, DAY, lambda *step: heard.append(step))
        assert first.problems == ()
        # 14 evenings, 4 concerts, and every trip on each day of a week on which it runs.
        per_week = {"daily": 7, "weekdays": 5, "weekend": 2}
        runs = 0
        for folder in ("bus-network", "train-line"):
            with (DEMO_DIRECTORY / folder / "trips.txt").open(encoding="utf-8") as stream:
                runs += sum(per_week[row["service_id"]] for row in csv.DictReader(stream))
        assert (first.created, first.updated, first.unchanged) == (14 + 4 + runs, 0, 0)
        assert await catalogue.count_shows() == first.created
        assert len(first.plan_ids) == 4
        assert heard[-1][1] == heard[-1][2]
        second = await load_demo(catalogue, DAY)
        assert (second.created, second.updated, second.unchanged) == (0, 0, first.created)

    async def test_a_day_later_the_demo_adds_what_has_come_into_reach(
        self, catalogue: Catalogue
    ) -> None:
        first = await load_demo(catalogue, DAY)
        later = await load_demo(catalogue, DAY + timedelta(days=1))
        assert later.updated == 0
        assert 0 < later.created < first.created
