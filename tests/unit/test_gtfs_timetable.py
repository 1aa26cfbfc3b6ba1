"""From a feed to routes, runs and fares."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.gtfs_calls import stops_of, times_of
from integrations.gtfs_feed import Call, FeedStop, GtfsFeed, read_feed
from integrations.gtfs_timetable import (
    FareRule,
    Timetable,
    TimetabledTrip,
    fares_of,
    listings_of,
)
from reservation.fares import FareTable
from reservation.ids import derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.route import Route, Segment, Stop
from reservation.show import Placement
from tests.support.gtfs import SMALL_FEED, Files, write_feed
from tests.unit.test_gtfs_feed import REAL_FEED, needs_real_feed

DAY = date(2026, 7, 6)
FARES = FareTable("EUR", ())


def timetable(
    folder: Path, changes: Files | None = None, *, first: date = DAY, last: date = DAY
) -> tuple[list[TimetabledTrip], GtfsFeed]:
    feed = read_feed(write_feed(folder, changes))
    return list(Timetable(feed, first, last).trips()), feed


def listings(trip: TimetabledTrip) -> list[ShowListing]:
    return list(listings_of(trip, plan_id="pln_1", route_id="rte_1", fares=FARES))


def told(feed: GtfsFeed) -> list[str]:
    return [str(problem) for problem in feed.problems.kept]


def stop_times(*rows: str, more: str = "") -> str:
    header = f"trip_id,arrival_time,departure_time,stop_id,stop_sequence{more}\n"
    return header + "".join(f"{row}\n" for row in rows)


def call(stop_id: str, *times_s: int | None, line: int = 2, distance: float | None = None) -> Call:
    arrival_s = times_s[0] if times_s else None
    departure_s = times_s[-1] if times_s else None
    return Call(line, line, stop_id, arrival_s, departure_s, distance)


def places(**degrees_north: float | None) -> dict[str, FeedStop]:
    """Stops on one meridian; None is a stop that is not on the map."""
    return {
        stop_id: FeedStop(stop_id, stop_id, north, None if north is None else 10.0)
        for stop_id, north in degrees_north.items()
    }


class TestShows:
    def test_a_run_becomes_a_show_with_everything_that_is_known_about_it(
        self, tmp_path: Path
    ) -> None:
        trips, feed = timetable(tmp_path)
        (listing,) = listings(trips[0])
        day_ms = int(datetime(2026, 7, 5, 22, tzinfo=UTC).timestamp()) * 1000
        assert listing == ShowListing(
            show_id=derive_show_id("gtfs:TR:T1:2026-07-06"),
            source_key="gtfs:TR:T1:2026-07-06",
            kind=ShowKind.TRAIN,
            title="T1 Alpha - Gamma",
            venue="Test Rail",
            starts_at_ms=day_ms + 8 * 3_600_000,
            ends_at_ms=day_ms + 8 * 3_600_000 + 20 * 60_000,
            service_day_at_ms=day_ms,
            time_zone="Europe/Berlin",
            plan_id="pln_1",
            route_id="rte_1",
            fares=FARES,
            placement=Placement.POOLED,
        )
        assert trips[0].route_name == "Alpha to Delta"
        assert told(feed) == []

    def test_there_is_a_show_for_every_day_of_the_range_and_none_beyond(
        self, tmp_path: Path
    ) -> None:
        last = DAY + timedelta(days=6)
        trips, _ = timetable(tmp_path, last=last)
        keys = [listing.source_key for listing in listings(trips[0])]
        assert keys[0].endswith("2026-07-06")
        assert keys[-1].endswith("2026-07-12")
        assert len(set(keys)) == 7

    @pytest.mark.parametrize(
        ("day", "service_day_utc", "departure_utc"),
        [
            # The clocks go forward at 2:00: noon minus 12 hours is 23:00 of the day before,
            # and 8:00 on the clock is 8 hours after it.
            ("2026-03-29", "2026-03-28T22:00", "2026-03-29T06:00"),
            # The clocks go back at 3:00: noon minus 12 hours is 1:00.
            ("2026-10-25", "2026-10-24T23:00", "2026-10-25T07:00"),
            ("2026-10-26", "2026-10-25T23:00", "2026-10-26T07:00"),
        ],
    )
    def test_days_on_which_clocks_change_depart_at_the_time_that_clocks_show(
        self, tmp_path: Path, day: str, service_day_utc: str, departure_utc: str
    ) -> None:
        on = date.fromisoformat(day)
        trips, _ = timetable(tmp_path, first=on, last=on)
        (listing,) = listings(trips[0])

        def at_ms(text: str) -> int:
            return int(datetime.fromisoformat(f"{text}:00+00:00").timestamp()) * 1000

        assert listing.service_day_at_ms == at_ms(service_day_utc)
        assert listing.starts_at_ms == at_ms(departure_utc)

    def test_a_run_past_midnight_belongs_to_the_day_on_which_it_starts(
        self, tmp_path: Path
    ) -> None:
        rows = stop_times("T1,23:50:00,23:50:00,A,1", "T1,24:30:00,25:00:00,B,2")
        trips, _ = timetable(tmp_path, {"stop_times.txt": rows})
        (listing,) = listings(trips[0])
        assert listing.source_key == "gtfs:TR:T1:2026-07-06"
        assert listing.ends_at_ms - listing.starts_at_ms == 40 * 60_000
        assert trips[0].route.stops[1].departure_s == 90_000

    @pytest.mark.parametrize(
        ("route_type", "kind"),
        [
            ("2", ShowKind.TRAIN),
            ("100", ShowKind.TRAIN),
            ("199", ShowKind.TRAIN),
            ("3", ShowKind.BUS),
            ("200", ShowKind.BUS),
            ("704", ShowKind.BUS),
            ("0", ShowKind.OTHER_RUN),
            ("4", ShowKind.OTHER_RUN),
            ("800", ShowKind.OTHER_RUN),
            ("", ShowKind.OTHER_RUN),
        ],
    )
    def test_the_kind_of_a_show_comes_from_the_kind_of_vehicle(
        self, tmp_path: Path, route_type: str, kind: ShowKind
    ) -> None:
        routes = SMALL_FEED["routes.txt"].replace("Delta,2", f"Delta,{route_type}")
        trips, _ = timetable(tmp_path, {"routes.txt": routes})
        assert trips[0].kind is kind

    @pytest.mark.parametrize(
        ("short_name", "headsign", "title"),
        [
            ("IC 204", "", "IC 204 Alpha - Gamma"),
            ("", "Gamma", "T1 Alpha - Gamma"),
            ("204 to Gamma", "", "T1 Alpha - Gamma"),
            ("204 to Airport", "Airport", "T1 Alpha - Gamma"),
        ],
    )
    def test_a_title_says_the_run_and_its_ends_once(
        self, tmp_path: Path, short_name: str, headsign: str, title: str
    ) -> None:
        rows = (
            "route_id,service_id,trip_id,trip_short_name,trip_headsign\n"
            f"L1,daily,T1,{short_name},{headsign}\n"
        )
        trips, _ = timetable(tmp_path, {"trips.txt": rows})
        assert trips[0].title == title

    def test_two_sources_never_share_a_key(self, tmp_path: Path) -> None:
        def source(folder: str, agency: str, trip: str) -> str:
            changes: Files = {
                "agency.txt": SMALL_FEED["agency.txt"].replace("\nTR,", f"\n{agency},"),
                "routes.txt": SMALL_FEED["routes.txt"].replace(",TR,", f",{agency},"),
                "trips.txt": SMALL_FEED["trips.txt"].replace("T1", trip),
                "stop_times.txt": SMALL_FEED["stop_times.txt"].replace("T1", trip),
            }
            return timetable(tmp_path / folder, changes)[0][0].source

        sources = {source("1", "a:b", "c"), source("2", "a", "b:c"), source("3", "a%3Ab", "c")}
        assert len(sources) == 3

    def test_days_in_the_wrong_order_or_too_many_are_refused(self, tmp_path: Path) -> None:
        feed = read_feed(write_feed(tmp_path))
        with pytest.raises(ValueError, match="before first day"):
            Timetable(feed, DAY, DAY - timedelta(days=1))
        with pytest.raises(ValueError, match="more than 400 days"):
            Timetable(feed, DAY, DAY + timedelta(days=400))


class TestTimes:
    def test_missing_times_lie_evenly_between_the_ones_that_are_given(self) -> None:
        calls = [
            call("A", 0),
            call("B"),
            call("C"),
            call("D", 3_000, 3_600),
            call("E"),
            call("F", 4_000),
        ]
        assert times_of(calls)[0] == [
            (0, 0),
            (1_000, 1_000),
            (2_000, 2_000),
            (3_000, 3_600),
            (3_800, 3_800),
            (4_000, 4_000),
        ]

    def test_missing_times_follow_the_distance_where_the_feed_gives_it(self) -> None:
        calls = [
            call("A", 0, distance=5),
            call("B", distance=6),
            call("C", distance=13),
            call("D", 1_000, distance=15),
        ]
        assert [arrival for arrival, _ in times_of(calls)[0]] == [0, 100, 800, 1_000]

    def test_distances_that_fall_are_not_used_for_times(self) -> None:
        calls = [
            call("A", 0, distance=5),
            call("B", distance=4),
            call("C", 1_000, distance=15),
        ]
        assert times_of(calls)[0][1] == (500, 500)

    @pytest.mark.parametrize("missing", [0, 2])
    def test_a_trip_without_a_time_at_an_end_is_left_out(
        self, tmp_path: Path, missing: int
    ) -> None:
        rows = ["T1,08:00:00,08:00:00,A,1", "T1,08:10:00,08:10:00,B,2", "T1,08:20:00,08:20:00,C,3"]
        rows[missing] = rows[missing].replace("08:00:00", "").replace("08:20:00", "")
        trips, feed = timetable(tmp_path, {"stop_times.txt": stop_times(*rows)})
        assert trips == []
        end = "first" if missing == 0 else "last"
        assert told(feed) == [
            f"stop_times.txt, line {missing + 2}: trip T1: no time at the {end} stop; "
            "the trip is left out"
        ]

    @pytest.mark.parametrize(
        ("rows", "place"),
        [(["T1,08:00:00,08:00:00,A,1"], "stop_times.txt, line 2"), ([], "trips.txt, line 2")],
    )
    def test_a_trip_with_one_stop_or_none_is_left_out(
        self, tmp_path: Path, rows: list[str], place: str
    ) -> None:
        trips, feed = timetable(tmp_path, {"stop_times.txt": stop_times(*rows)})
        assert trips == []
        count = "one stop only" if rows else "no stop"
        assert told(feed) == [f"{place}: trip T1: {count}; the trip is left out"]

    def test_a_trip_with_too_many_stops_is_left_out(self, tmp_path: Path) -> None:
        rows = [f"T1,08:00:00,08:00:00,A,{n}" for n in range(257)]
        trips, feed = timetable(tmp_path, {"stop_times.txt": stop_times(*rows)})
        assert trips == []
        assert "more than 256 stops" in told(feed)[0]


class TestStops:
    def test_a_place_called_at_twice_has_two_codes(self) -> None:
        here = places(A=50.0, B=50.1)
        calls = [call("A", 0), call("B", 60), call("A", 120), call("A", 180)]
        assert [stop.code for stop in stops_of(calls, here)[0]] == ["A", "B", "A#2", "A#3"]

    def test_a_code_that_another_stop_has_already_is_not_made(self) -> None:
        here = {"A": FeedStop("A", "A", None, None), "A#2": FeedStop("A#2", "A2", None, None)}
        calls = [call("A", 0), call("A#2", 60), call("A", 120)]
        assert [stop.code for stop in stops_of(calls, here)[0]] == ["A", "A#2", "A#3"]

    def test_distances_are_straight_lines_on_the_earth(self) -> None:
        # A degree of latitude is 111,195 m on a sphere of the mean radius.
        here = places(A=50.0, B=51.0, C=53.0)
        stops, _ = stops_of([call("A", 0), call("B", 600), call("C", 1_200)], here)
        assert [stop.distance_m for stop in stops] == [0, 111_195, 333_585]

    @pytest.mark.parametrize(
        ("unit_m", "name"), [(0.3048, "foot"), (1, "metre"), (1_000, "km"), (1_609.344, "mile")]
    )
    def test_shape_distances_are_read_in_the_unit_that_fits_the_map(
        self, unit_m: float, name: str
    ) -> None:
        here = places(A=50.0, B=51.0)
        way_m = 130_000
        shape = [3 / unit_m, (way_m + 3) / unit_m]
        calls = [call("A", 0, distance=shape[0]), call("B", 600, distance=shape[1])]
        assert [stop.distance_m for stop in stops_of(calls, here)[0]] == [0, way_m], name

    def test_shape_distances_that_fit_no_map_are_not_used(self) -> None:
        here = places(A=50.0, B=51.0)
        calls = [call("A", 0, distance=0), call("B", 600, distance=1.0)]
        assert stops_of(calls, here)[0][1].distance_m == 111_195

    def test_shape_distances_without_a_map_are_metres(self) -> None:
        calls = [call("A", 0, distance=10), call("B", 600, distance=1_210)]
        assert stops_of(calls, places(A=None, B=None))[0][1].distance_m == 1_200

    def test_a_stop_that_is_not_on_the_map_lies_where_its_time_says(self) -> None:
        here = places(A=None, B=50.0, C=None, D=51.0, E=None)
        calls = [call("A", 0), call("B", 100), call("C", 125), call("D", 200), call("E", 300)]
        distances = [stop.distance_m for stop in stops_of(calls, here)[0]]
        assert distances == [0, 111_195, 138_994, 222_390, 333_585]

    def test_without_any_map_or_shape_distances_are_0(self) -> None:
        stops, _ = stops_of([call("A", 0), call("B", 600)], places(A=None, B=None))
        assert [stop.distance_m for stop in stops] == [0, 0]

    @given(
        st.lists(
            st.tuples(
                st.one_of(st.none(), st.floats(-90, 90)), st.integers(0, 500), st.integers(0, 90)
            ),
            min_size=2,
            max_size=15,
        )
    )
    def test_distances_never_fall(self, legs: list[tuple[float | None, int, int]]) -> None:
        here = places(**{str(n): north for n, (north, _, _) in enumerate(legs)})
        now_s, calls = 0, []
        for n, (_, ride_s, wait_s) in enumerate(legs):
            calls.append(call(str(n), now_s + ride_s, now_s + ride_s + wait_s))
            now_s += ride_s + wait_s
        distances = [stop.distance_m for stop in stops_of(calls, here)[0]]
        assert distances[0] == 0
        assert distances == sorted(distances)


def route(*distances_m: int) -> Route:
    return Route(tuple(Stop(f"S{n}", "", 0, 0, d) for n, d in enumerate(distances_m)))


class TestFares:
    def test_a_ride_costs_its_base_and_its_kilometres(self) -> None:
        table = fares_of(route(0, 10_000, 25_000), "EUR", [FareRule(200, 10), FareRule(500, 0)])
        assert table.amount_minor(0, Segment(0, 2)) == 450
        assert table.amount_minor(0, Segment(1, 2)) == 350
        assert table.amount_minor(1, Segment(0, 1)) == 500

    def test_amounts_are_rounded_half_up_on_the_way_from_the_first_stop(self) -> None:
        # 0.5, 1.0 and 1.5 minor units: legs of 1, 0 and 1 add up to the whole way's 2.
        table = fares_of(route(0, 500, 1_000, 1_500), "EUR", [FareRule(0, Decimal("1"))])
        assert table.fares[0].leg_minor == (1, 0, 1)

    def test_a_fraction_that_floats_cannot_hold_is_rounded_as_it_is_written(self) -> None:
        # 1.005 * 100 is 100.49999999999999 in floats.
        table = fares_of(route(0, 100_000), "EUR", [FareRule(0, 1.005)])
        assert table.fares[0].leg_minor == (101,)

    @given(
        st.lists(st.integers(0, 200_000), min_size=1, max_size=20),
        st.decimals(0, 1_000, places=3),
    )
    def test_legs_are_never_negative_and_add_up_to_the_whole_way(
        self, legs_m: list[int], per_km: Decimal
    ) -> None:
        distances, total = [0], 0
        for leg_m in legs_m:
            total += leg_m
            distances.append(total)
        (fare,) = fares_of(route(*distances), "EUR", [FareRule(0, per_km)]).fares
        assert min(fare.leg_minor) >= 0
        whole = per_km * total / 1000
        assert abs(sum(fare.leg_minor) - whole) <= Decimal("0.5")

    @pytest.mark.parametrize("rule", [(-1, 0.0), (0, -0.5), (0, float("nan")), (0, float("inf"))])
    def test_a_rule_that_is_no_price_is_refused(self, rule: tuple[int, float]) -> None:
        with pytest.raises(ValueError, match="minor"):
            FareRule(*rule)


@needs_real_feed
class TestRealFeed:
    FIRST = date(2026, 12, 1)
    LAST = date(2026, 12, 7)
    # The one trip with a single stop.
    LEFT_OUT = frozenset({"8718"})

    def rows(self, name: str) -> list[dict[str, str]]:
        with (REAL_FEED / name).open(encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def test_a_week_has_as_many_runs_as_the_calendar_says(self) -> None:
        feed = read_feed(REAL_FEED)
        trips = list(Timetable(feed, self.FIRST, self.LAST).trips())
        # A week from any day on has each weekday once: the columns of calendar.txt add up.
        weekdays = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
        per_week = {
            row["service_id"]: sum(int(row[day]) for day in weekdays)
            for row in self.rows("calendar.txt")
        }
        expected = Counter(
            {row["trip_id"]: per_week[row["service_id"]] for row in self.rows("trips.txt")}
        )
        for trip_id in self.LEFT_OUT:
            del expected[trip_id]
        found = Counter({trip.source.split(":")[2]: len(trip.days) for trip in trips})
        assert found == expected
        keys = [listing.source_key for trip in trips for listing in listings(trip)]
        assert len(keys) == len(set(keys)) == expected.total()

    def test_only_true_problems_are_told(self) -> None:
        feed = read_feed(REAL_FEED)
        trips = list(Timetable(feed, self.FIRST, self.LAST).trips())
        assert len(trips) == 334 - len(self.LEFT_OUT)
        assert {problem.file for problem in feed.problems.kept} == {"stop_times.txt"}
        lines = (REAL_FEED / "stop_times.txt").read_text(encoding="utf-8").splitlines()
        left_out = set()
        for problem in feed.problems.kept:
            trip_id = lines[problem.line - 1].split(",")[0]
            assert problem.reason.startswith(f"trip {trip_id}: ")
            if "left out" in problem.reason:
                left_out.add(trip_id)
        assert left_out == self.LEFT_OUT

    def test_routes_have_up_to_51_legs_and_lie_where_the_railway_is(self) -> None:
        trips = list(Timetable(read_feed(REAL_FEED), self.FIRST, self.LAST).trips())
        assert max(trip.route.leg_count for trip in trips) == 51
        night = next(trip for trip in trips if trip.source == "gtfs:CR:1045")
        assert night.title == "1045 Colombo Fort - Badulla"
        assert night.route.stops[-1].arrival_s > 24 * 3600
        # By Pythagoras, with 111 km to a degree: a railway through mountains is longer than the
        # straight line between its ends, and not by several times.
        ends = night.route.stops[0], night.route.stops[-1]
        north, east = (
            (getattr(ends[1], axis) - getattr(ends[0], axis)) * 111_000
            for axis in ("latitude", "longitude")
        )
        straight_m = (north**2 + east**2) ** 0.5
        assert straight_m < ends[1].distance_m < 3 * straight_m
