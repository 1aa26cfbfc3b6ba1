"""Neighbours, aisles, ranks and coaches: what the places of seats tell."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.plan_document import read_plan
from reservation.plan_order import find_aisles, order_along_row, repeat_plan
from reservation.seating_plan import AdmissionTier, Run, SeatingPlan, SeatRow
from tests.support.plan_documents import (
    area,
    assert_round_trip,
    document,
    plan_of,
    row,
    seat,
    sound,
    three_seats,
    told,
)


class TestNeighbours:
    def test_a_row_drawn_right_to_left_is_ordered_from_its_left_end(self) -> None:
        plan = sound(document(row("A", *(seat(f"A-{n}", 200 - 25 * n) for n in range(1, 6)))))
        assert plan.labels == ("A-5", "A-4", "A-3", "A-2", "A-1")
        assert plan.runs == (Run(0, 5, 0),)

    def test_odd_numbers_left_and_even_numbers_right_are_ordered_by_place(self) -> None:
        odd = [seat(f"A-{n}", 100 - 25 * (n // 2)) for n in (1, 3, 5)]
        even = [seat(f"A-{n}", 100 + 25 * (n // 2)) for n in (2, 4, 6)]
        plan = sound(document(row("A", *odd, *even)))
        assert plan.labels == ("A-5", "A-3", "A-1", "A-2", "A-4", "A-6")
        assert plan.runs == (Run(0, 6, 0),)

    def test_an_aisle_parts_seats_that_stand_beside_each_other_in_the_list(self) -> None:
        xs = [0, 25, 50, 110, 135, 160]
        plan = sound(document(row("A", *(seat(f"A-{n}", x) for n, x in enumerate(xs)))))
        assert plan.runs == (Run(0, 3, 0), Run(3, 6, 0))
        assert plan.rows == (SeatRow("Hall", "A", 0, 6),)

    def test_a_gap_below_the_ratio_is_no_aisle_and_one_above_is(self) -> None:
        assert find_aisles([[(0, 0), (100, 0), (200, 0), (300, 0), (460, 0)]]) == [[False] * 4]
        assert find_aisles([[(0, 0), (100, 0), (200, 0), (300, 0), (461, 0)]])[0][3]

    @pytest.mark.parametrize("span", [0.5, 2.5, 4.0, 6.0])
    def test_seats_of_a_curved_row_are_neighbours_along_the_curve(self, span: float) -> None:
        count = 24
        points = [
            (round(30_000 * math.sin(a)), round(30_000 * math.cos(a)))
            for a in (span * (n / (count - 1) - 0.5) for n in range(count))
        ]
        if points[0] > points[-1]:
            points.reverse()
        shuffled = random.Random(7).sample(range(count), count)
        order = order_along_row([points[index] for index in shuffled])
        assert [shuffled[place] for place in order] == list(range(count))
        assert find_aisles([points]) == [[False] * (count - 1)]

    def test_an_aisle_in_a_curved_row_is_found_although_x_hardly_changes(self) -> None:
        # A quarter of a circle: at its end the seats stand below each other.
        angles = [n * 0.06 for n in range(20)] + [n * 0.06 + 0.12 for n in range(20, 26)]
        points = [(round(40_000 * math.sin(a)), round(-40_000 * math.cos(a))) for a in angles]
        assert [place for place, aisle in enumerate(find_aisles([points])[0]) if aisle] == [19]

    @pytest.mark.parametrize(
        ("xs", "aisles"),
        [
            ([0, 40, 120, 160], [1]),
            ([0, 40, 120], [1]),
            ([0, 80, 120, 200], [0, 2]),
            ([0, 40, 80, 120, 160], []),
        ],
        ids=["2+2", "2+1", "1+2+1", "back row"],
    )
    def test_rows_of_vehicles_have_their_aisles(self, xs: list[int], aisles: list[int]) -> None:
        found = find_aisles([[(x, 0) for x in xs]])[0]
        assert [place for place, aisle in enumerate(found) if aisle] == aisles

    def test_two_seats_are_compared_with_the_other_rows_of_their_zone(self) -> None:
        full = [(0, 0), (40, 0), (120, 0), (160, 0)]
        assert find_aisles([full, [(0, 40), (160, 40)], [(0, 80), (40, 80)]])[1:] == [
            [True],
            [False],
        ]

    def test_rows_that_stand_upright_are_ordered_from_the_top(self) -> None:
        plan = sound(document(row("1", seat("1C", 0, 80), seat("1B", 0, 40), seat("1A", 0, 0))))
        assert plan.labels == ("1A", "1B", "1C")

    def test_the_sibling_overrules_what_the_drawing_says_about_aisles(self) -> None:
        xs = [0, 25, 50, 110, 135]
        value = document(row("A", *(seat(f"A-{n}", x) for n, x in enumerate(xs))))
        extras = {"seats": {"A-0": {"aisle_after": True}, "A-2": {"aisle_after": False}}}
        assert sound(value, extras).runs == (Run(0, 1, 0), Run(1, 5, 0))

    @given(
        st.lists(
            st.tuples(st.integers(-5_000, 5_000), st.integers(-5_000, 5_000)),
            unique=True,
            max_size=12,
        )
    )
    def test_ordering_an_ordered_row_changes_nothing(self, points: list[tuple[int, int]]) -> None:
        order = order_along_row(points)
        assert sorted(order) == list(range(len(points)))
        ordered = [points[place] for place in order]
        assert order_along_row(ordered) == list(range(len(points)))


class TestRanks:
    def best(self, plan: SeatingPlan) -> list[str]:
        ranked = sorted(range(plan.seat_count), key=lambda index: plan.rank[index])
        return plan.labels_of(ranked)

    def test_without_a_stage_the_top_middle_of_the_canvas_is_looked_at(self) -> None:
        # Zone at x = 100 and canvas 400 wide: x = 100 of the seat is the middle.
        value = document(row("A", *(seat(f"A-{x}", x) for x in (0, 60, 120, 180))))
        plan = sound(value)
        assert self.best(plan) == ["A-120", "A-60", "A-180", "A-0"]
        assert list(plan.rank) == [3, 1, 0, 2]

    def test_equally_far_seats_share_a_rank(self) -> None:
        value = document(row("A", *(seat(f"A-{x}", x) for x in (80, 100, 120))))
        assert list(sound(value).rank) == [1, 0, 1]

    @pytest.mark.parametrize("text", ["Stage", "BÜHNE", "Bu\u0308hne", "Scène", "The stage"])
    def test_an_area_that_says_stage_is_looked_at(self, text: str) -> None:
        stage = area(
            "s",
            position={"x": 300, "y": 0},
            rectangle={"width": 40, "height": 20},
            text={"text": text, "position": {"x": 0, "y": 0}},
        )
        value = document(
            row("A", seat("A-1", 0), seat("A-2", 150), seat("A-3", 250)), areas=[stage]
        )
        assert self.best(sound(value)) == ["A-3", "A-2", "A-1"]

    def test_the_middle_of_a_turned_stage_is_where_it_is_drawn(self) -> None:
        # Turned by 180 degrees around its position, the stage lies to the left of it.
        stage = area(
            "s",
            position={"x": 200, "y": 0},
            rotation=180,
            rectangle={"width": 400, "height": 2},
            text={"text": "Stage", "position": {"x": 0, "y": 0}},
        )
        value = document(
            row("A", seat("A-1", 0), seat("A-2", 200), seat("A-3", 400)), areas=[stage]
        )
        assert self.best(sound(value)) == ["A-1", "A-2", "A-3"]

    def test_the_stage_itself_wins_over_its_door(self) -> None:
        door = area("d", text={"text": "Stage door", "position": {"x": 0, "y": 0}})
        stage = area(
            "s", position={"x": 250, "y": 0}, text={"text": "Stage", "position": {"x": 0, "y": 0}}
        )
        value = document(row("A", seat("A-1", 0), seat("A-2", 250)), areas=[door, stage])
        assert self.best(sound(value)) == ["A-2", "A-1"]

    def test_the_sibling_says_where_people_look(self) -> None:
        extras = {"focal_point": {"x": 150, "y": 200}}
        assert list(sound(three_seats(), extras).rank) == [2, 1, 0]

    def test_vehicles_rank_by_the_order_of_the_plan(self) -> None:
        assert list(sound(three_seats(), {"ranking": "order"}).rank) == [0, 1, 2]

    def test_seats_with_a_restricted_view_rank_behind_all_others(self) -> None:
        extras = {"focal_point": {"x": 100, "y": 200}, "seats": {"A-1": {"restricted_view": True}}}
        assert self.best(sound(three_seats(), extras)) == ["A-2", "A-3", "A-1"]

    def test_given_ranks_are_taken_and_a_missing_one_is_told(self) -> None:
        extras = {"ranking": "given", "seats": {"A-1": {"rank": 7}, "A-3": {"rank": 0}}}
        reading = read_plan(three_seats(), extras)
        assert list(plan_of(reading).rank) == [7, 7, 0]
        assert set(told(reading)) == {'extras.seats["A-2"].rank'}


class TestCoaches:
    def coach(self) -> SeatingPlan:
        value = document(
            row("1", seat("1A", 0), seat("1B", 40), seat("1C", 120)),
            row("2", seat("2A", 0), seat("2B", 40), seat("2C", 120), y=300),
            areas=[area("u-1")],
        )
        areas = {"u-1": {"tier": "standing", "category": "Circle", "capacity": 20}}
        return sound(value, {"ranking": "order", "areas": areas})

    def test_a_train_has_the_seats_of_every_coach_under_their_own_labels(self) -> None:
        train = repeat_plan(self.coach(), 3)
        assert train.seat_count == 18
        assert train.labels[:2] == ("C1-1A", "C1-1B")
        assert train.labels[-1] == "C3-2C"
        assert train.rows[2] == SeatRow("Coach 2", "1", 6, 9)
        assert train.runs[-1] == Run(17, 18, 5)
        assert list(train.rank) == list(range(18))
        assert train.admission_tiers == (AdmissionTier("standing", "standing", 1, 60),)
        assert_round_trip(train)

    def test_coaches_stand_behind_one_another(self) -> None:
        train = repeat_plan(self.coach(), 2)
        assert max(train.y[:6]) < min(train.y[6:])
        assert list(train.x[:6]) == list(train.x[6:])

    def test_sections_keep_their_names_when_a_coach_has_several(self) -> None:
        value = three_seats()
        value["zones"].append(
            {"name": "Upper deck", "position": {"x": 0, "y": 0}, "rows": [row("U", seat("U", 0))]}
        )
        sections = [entry.section for entry in repeat_plan(sound(value), 2).rows]
        assert sections == [
            "Coach 1, Hall",
            "Coach 1, Upper deck",
            "Coach 2, Hall",
            "Coach 2, Upper deck",
        ]

    def test_one_coach_is_the_plan_itself(self) -> None:
        plan = self.coach()
        assert repeat_plan(plan, 1) is plan

    @pytest.mark.parametrize("coaches", [0, -1, 100_000])
    def test_no_coach_and_too_many_are_refused(self, coaches: int) -> None:
        with pytest.raises(ValueError, match="coaches"):
            repeat_plan(self.coach(), coaches)

    def test_coaches_that_leave_the_canvas_are_refused(self) -> None:
        value = document(row("1", seat("1A", 0), seat("1B", 600_000)))
        with pytest.raises(ValueError, match="farther"):
            repeat_plan(sound(value), 2)
