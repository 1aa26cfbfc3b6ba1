"""Times of a trip that contradict each other: which ones are kept, and what is told."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from datetime import date
from itertools import chain, combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.gtfs_calls import Slip, TripFault, clock, longest_rise, times_of
from integrations.gtfs_feed import Call, read_feed
from integrations.gtfs_timetable import Timetable
from tests.unit.test_gtfs_feed import REAL_FEED, needs_real_feed
from tests.unit.test_gtfs_timetable import call, stop_times, timetable, told

WEEK = date(2026, 12, 1), date(2026, 12, 7)
ONE_STOP_TRIP = "8718"


def minutes(*given: tuple[int, ...] | None) -> list[Call]:
    """Calls at A, B, C, ... on lines 2, 3, 4, ... at these minutes; None has no time."""
    return [
        call(chr(ord("A") + n), *(60 * minute for minute in pair or ()), line=n + 2)
        for n, pair in enumerate(given)
    ]


def in_minutes(times: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(arrival_s / 60, departure_s / 60) for arrival_s, departure_s in times]


def rank(kept: Sequence[int]) -> tuple[int, int, int]:
    """More times, then a shorter ride, then earlier times."""
    return (len(kept), kept[0] - kept[-1], -sum(kept)) if kept else (0, 0, 0)


def best_by_trying_all(given: list[int]) -> tuple[int, int, int]:
    """The rank of the best part that never falls: every part is looked at."""
    parts = chain.from_iterable(combinations(given, size) for size in range(len(given) + 1))
    return max(rank(part) for part in parts if list(part) == sorted(part))


SIDES = {"arrival": (0,), "departure": (1,), "time": (0, 1)}


def wrong_times(calls: list[Call], slips: list[Slip]) -> set[tuple[int, int]]:
    """Position of the call, and 0 for the arrival or 1 for the departure, of all times told."""
    position_of = {each.line: position for position, each in enumerate(calls)}
    return {
        (position_of[slip.line], side) for slip in slips for side in SIDES[slip.reason.split()[0]]
    }


class TestRule:
    @pytest.mark.parametrize(
        ("given", "taken", "told_on"),
        [
            pytest.param(
                [(0, 0), (10, 12), (5, 20), (25, 25)],
                [(0, 0), (10, 12), (20, 20), (25, 25)],
                {4: "arrival 00:05:00 at C is before departure 00:12:00 at B; taken as 00:20:00"},
                id="an arrival is too early",
            ),
            pytest.param(
                [(0, 0), (10, 700), (20, 20), (25, 25)],
                [(0, 0), (10, 10), (20, 20), (25, 25)],
                {3: "departure 11:40:00 at B is after time 00:20:00 at C; taken as 00:10:00"},
                id="a departure is too late by hours",
            ),
            pytest.param(
                [(0, 0), (13, 12), (20, 20)],
                [(0, 0), (12, 12), (20, 20)],
                {3: "arrival 00:13:00 at B is after departure 00:12:00 at B; taken as 00:12:00"},
                id="a stay is reversed: the earlier time stands",
            ),
            pytest.param(
                [(1143, 544), (1154, 1155), (1171, 1171)],
                [(1143, 1143), (1154, 1155), (1171, 1171)],
                {2: "departure 09:04:00 at A is before arrival 19:03:00 at A; taken as 19:03:00"},
                id="the first call: the shorter ride stands",
            ),
            pytest.param(
                [(600, 0), (10, 12), (20, 20)],
                [(0, 0), (10, 12), (20, 20)],
                {2: "arrival 10:00:00 at A is after departure 00:00:00 at A; taken as 00:00:00"},
                id="the first call arrives too late",
            ),
            pytest.param(
                [(0, 0), (10, 12), (620, 20)],
                [(0, 0), (10, 12), (20, 20)],
                {4: "arrival 10:20:00 at C is after departure 00:20:00 at C; taken as 00:20:00"},
                id="the last call arrives too late: the shorter ride stands",
            ),
            pytest.param(
                [(60, 60), (70, 72), (80, 8)],
                [(60, 60), (70, 72), (80, 80)],
                {4: "departure 00:08:00 at C is before arrival 01:20:00 at C; taken as 01:20:00"},
                id="the last call departs too early",
            ),
            pytest.param(
                [(0, 0), (600, 610), (20, 22), (30, 30)],
                [(0, 0), (10, 10), (20, 22), (30, 30)],
                {
                    3: "arrival 10:00:00 at B is after arrival 00:20:00 at C; taken as 00:10:00",
                    # Both times of one row are told.
                    -3: "departure 10:10:00 at B is after arrival 00:20:00 at C; taken as 00:10:00",
                },
                id="a call that keeps none lies between its neighbours",
            ),
            pytest.param(
                [(60, 60), (7,), None, (90, 90)],
                [(60, 60), (70, 70), (80, 80), (90, 90)],
                {3: "time 00:07:00 at B is before time 01:00:00 at A; taken as 01:10:00"},
                id="one wrong time of a call with one time is told once",
            ),
            pytest.param(
                [(60, 60), (70, 7), (80, 80), (800, 82), (90, 90)],
                [(60, 60), (70, 70), (80, 80), (82, 82), (90, 90)],
                {
                    3: "departure 00:07:00 at B is before arrival 01:10:00 at B; taken as 01:10:00",
                    5: "arrival 13:20:00 at D is after departure 01:22:00 at D; taken as 01:22:00",
                },
                id="two errors",
            ),
        ],
    )
    def test_a_time_that_the_others_contradict_is_told_and_counts_as_missing(
        self,
        given: list[tuple[int, ...] | None],
        taken: list[tuple[int, int]],
        told_on: dict[int, str],
    ) -> None:
        times, slips = times_of(minutes(*given))
        assert in_minutes(times) == taken
        assert slips == [Slip(abs(line), reason) for line, reason in told_on.items()]

    @pytest.mark.parametrize(
        ("given", "line", "reason"),
        [
            (
                [(600, 610), (10, 12), (20, 22), (30, 30)],
                2,
                "no time at the first stop: arrival 10:00:00 at A is after arrival 00:10:00 at B",
            ),
            (
                [(60, 60), (70, 72), (80, 82), (9, 9)],
                5,
                "no time at the last stop: time 00:09:00 at D is before departure 01:22:00 at C",
            ),
            (
                [(40, 40), (30, 30), (20, 20), (10, 10)],
                2,
                "6 of 8 times contradict the others: "
                "time 00:40:00 at A is after time 00:10:00 at D",
            ),
        ],
    )
    def test_a_trip_of_which_nobody_can_tell_what_is_meant_is_a_fault(
        self, given: list[tuple[int, ...]], line: int, reason: str
    ) -> None:
        with pytest.raises(TripFault) as caught:
            times_of(minutes(*given))
        assert (caught.value.line, caught.value.reason) == (line, reason)

    def test_a_third_of_the_times_may_be_wrong(self) -> None:
        times, slips = times_of(minutes((60, 60), (1, 2), (80, 80)))
        assert in_minutes(times) == [(60, 60), (70, 70), (80, 80)]
        assert [slip.line for slip in slips] == [3, 3]

    def test_more_than_a_third_of_the_times_may_not_be_wrong(self) -> None:
        with pytest.raises(TripFault, match="3 of 6 times contradict the others"):
            times_of(minutes((60, 6), (70, 7), (80, 8)))

    def test_a_trip_with_a_wrong_time_is_imported_and_its_row_is_named(
        self, tmp_path: Path
    ) -> None:
        rows = stop_times(
            "T1,08:00:00,08:00:00,A,1", "T1,08:10:00,18:12:00,B,2", "T1,08:20:00,08:20:00,C,3"
        )
        trips, feed = timetable(tmp_path, {"stop_times.txt": rows})
        assert [(s.arrival_s, s.departure_s) for s in trips[0].route.stops] == [
            (28_800, 28_800),
            (29_400, 29_400),
            (30_000, 30_000),
        ]
        assert told(feed) == [
            "stop_times.txt, line 3: trip T1: departure 18:12:00 at B is after time 08:20:00 at C; "
            "taken as 08:10:00"
        ]

    @settings(max_examples=500)
    @given(st.lists(st.integers(0, 9), max_size=9))
    def test_the_longest_rise_is_the_best_of_all_parts(self, numbers: list[int]) -> None:
        indices = longest_rise(numbers)
        assert indices == sorted(set(indices))
        rise = [numbers[index] for index in indices]
        assert rise == sorted(rise)
        assert rank(rise) == best_by_trying_all(numbers)

    @given(
        st.lists(
            st.one_of(st.none(), st.tuples(st.integers(0, 9), st.integers(0, 9))),
            min_size=2,
            max_size=6,
        )
    )
    def test_as_many_times_are_kept_as_trying_all_parts_finds(
        self, given_times: list[tuple[int, int] | None]
    ) -> None:
        calls = [call("A", *(pair or ()), line=n) for n, pair in enumerate(given_times)]
        flat = [moment for pair in given_times if pair for moment in pair]
        best = best_by_trying_all(flat)
        fault = ""
        try:
            times, slips = times_of(calls)
        except TripFault as error:
            fault = error.reason
        if 3 * (len(flat) - best[0]) > len(flat):
            assert "times contradict the others" in fault
            return
        if fault:
            assert fault.startswith(("no time at the first stop", "no time at the last stop"))
            return
        all_times = [moment for pair in times for moment in pair]
        assert all_times == sorted(all_times)
        wrong = wrong_times(calls, slips)
        kept = []
        for position, pair in enumerate(given_times):
            for side in (0, 1):
                if pair is not None and (position, side) not in wrong:
                    assert times[position][side] == pair[side]
                    kept.append(pair[side])
        assert rank(kept) == best

    @given(
        st.lists(st.tuples(st.integers(1, 40), st.integers(1, 5)), min_size=3, max_size=20),
        st.data(),
    )
    def test_one_wrong_time_changes_no_other_stop_and_its_row_is_told(
        self, legs: list[tuple[int, int]], data: st.DataObject
    ) -> None:
        now, good = 1_000, []
        for ride, stay in legs:
            good.append((now + ride, now + ride + stay))
            now += ride + stay
        position = data.draw(st.integers(0, len(good) - 1), label="position")
        side = data.draw(st.integers(0, 1), label="side")
        # Far off, so that it contradicts every time on one side. Nobody can notice that the
        # first time is too early or the last one too late.
        far = data.draw(st.integers(1_001, 2_000), label="far")
        is_late = data.draw(st.booleans(), label="is late")
        if (position, side) == (0, 0):
            is_late = True
        elif (position, side) == (len(good) - 1, 1):
            is_late = False
        bad = list(good[position])
        bad[side] = far + 1_000 if is_late else far - 1_001
        given_times = [*good[:position], (bad[0], bad[1]), *good[position + 1 :]]
        times, slips = times_of(minutes(*given_times))
        other = good[position][1 - side]
        good[position] = (other, other)
        assert in_minutes(times) == good
        assert [slip.line for slip in slips] == [position + 2]
        assert slips[0].reason.startswith(("arrival", "departure")[side])
        assert slips[0].reason.endswith(f"taken as {clock(60 * other)}")


def longest_by_table(given: list[str]) -> int:
    """How many of these times can be kept. Texts of one width compare like times."""
    longest: list[int] = []
    for n, last in enumerate(given):
        longest.append(1 + max((longest[m] for m in range(n) if given[m] <= last), default=0))
    return max(longest)


@needs_real_feed
class TestRealFeed:
    def test_as_few_times_as_possible_are_corrected_and_all_others_are_as_given(self) -> None:
        feed = read_feed(REAL_FEED)
        taken = {
            trip.source.split(":")[2]: [
                clock(moment)
                for stop in trip.route.stops
                for moment in (stop.arrival_s, stop.departure_s)
            ]
            for trip in Timetable(feed, *WEEK).trips()
        }
        given_by: dict[str, list[str]] = {}
        with (REAL_FEED / "stop_times.txt").open(encoding="utf-8") as stream:
            rows = sorted(csv.DictReader(stream), key=lambda row: int(row["stop_sequence"]))
        for row in rows:
            given_by.setdefault(row["trip_id"], []).extend(
                (row["arrival_time"], row["departure_time"])
            )
        corrections = 0
        for trip_id in given_by.keys() - {ONE_STOP_TRIP}:
            given_times = given_by[trip_id]
            needed = len(given_times) - longest_by_table(given_times)
            differing = sum(
                one != other for one, other in zip(given_times, taken[trip_id], strict=True)
            )
            assert differing == needed, trip_id
            corrections += needed
        assert corrections > 0
        reasons = [problem.reason for problem in feed.problems.kept]
        assert sum("; taken as " in reason for reason in reasons) == corrections

    @pytest.mark.parametrize(
        ("trip_id", "stop", "departure"),
        [
            ("1015", "RDL", "14:04:06"),
            ("1553", "VGD", "13:30:00"),
            ("3423", "DAG", "17:04:00"),
            ("3823", "KWW", "16:07:00"),
            ("4470", "APS", "19:03:00"),
        ],
    )
    def test_a_departure_that_is_hours_off_is_the_arrival(
        self, trip_id: str, stop: str, departure: str
    ) -> None:
        trips = Timetable(read_feed(REAL_FEED), *WEEK).trips()
        route = next(trip.route for trip in trips if trip.source == f"gtfs:CR:{trip_id}")
        position = route.position_of(stop)
        assert position is not None
        assert clock(route.stops[position].departure_s) == departure
        assert clock(route.stops[position].arrival_s) == departure
