"""Seating-plan documents: what is read, what is noticed, what is written back."""

from __future__ import annotations

import copy
import math
from array import array
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reservation.limits import SEATS_PER_PLAN_MAX
from reservation.plan_document import read_plan
from reservation.plan_export import write_plan
from reservation.seating_plan import (
    AdmissionTier,
    Category,
    Run,
    SeatingPlan,
    SeatRow,
    SeatTrait,
)
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
from tests.support.seating_plan_schema import SEATING_PLAN_SCHEMA


class TestReading:
    def test_a_plan_without_problems_keeps_everything_it_says(self) -> None:
        plan = sound(three_seats())
        assert plan.name == "Test hall"
        assert plan.categories == (Category("Stalls", "#aa0000"), Category("Circle", ""))
        assert plan.labels == ("A-1", "A-2", "A-3")
        assert plan.rows == (SeatRow("Hall", "A", 0, 3),)
        assert plan.runs == (Run(0, 3, 0),)
        assert list(plan.category_of) == [0, 0, 0]

    def test_positions_add_up_over_zone_row_and_seat_and_are_kept_in_hundredths(self) -> None:
        plan = sound(document(row("A", seat("A-1", 12.345, 1), y=10.5)))
        assert (plan.x[0], plan.y[0]) == (11_234, 21_150)

    def test_a_row_without_position_stands_at_its_zone(self) -> None:
        value = three_seats()
        del value["zones"][0]["rows"][0]["position"]
        assert list(sound(value).x) == [10_000, 12_500, 15_000]

    def test_a_zone_without_name_is_called_by_its_id(self) -> None:
        value = three_seats()
        del value["zones"][0]["name"]
        value["zones"][0]["zone_id"] = "hall-1"
        assert sound(value).rows[0].section == "hall-1"

    @pytest.mark.parametrize("number", ["12a", "Ⅻ", "007", "Box 3"])
    def test_a_seat_number_need_not_be_a_number(self, number: str) -> None:
        assert sound(document(row("A", seat("A-1", 0, seat_number=number)))).seat_count == 1

    @pytest.mark.parametrize("where", ["start", "end", "both", None, "left", "right", "none"])
    def test_row_numbers_may_stand_where_plans_in_the_wild_put_them(
        self, where: str | None
    ) -> None:
        value = three_seats()
        value["zones"][0]["rows"][0]["row_number_position"] = where
        assert sound(value).seat_count == 3

    def test_a_row_without_seats_is_no_row(self) -> None:
        value = document(row("A"), row("B", seat("B-1", 0)))
        assert sound(value).rows == (SeatRow("Hall", "B", 0, 1),)

    def test_reading_does_not_change_the_document(self) -> None:
        value = three_seats()
        before = copy.deepcopy(value)
        read_plan(value, {"seats": {"A-1": {"accessible": True}}})
        assert value == before


class TestDocumentsWithoutPlan:
    @pytest.mark.parametrize("value", [None, [], "plan", 7, {}])
    def test_what_is_no_plan_object_gives_no_plan_and_a_reason(self, value: object) -> None:
        reading = read_plan(value)
        assert reading.plan is None
        assert reading.problems

    @pytest.mark.parametrize("member", ["zones", "categories"])
    @pytest.mark.parametrize("wrong", ["absent", None, {}, "x", 3])
    def test_without_its_lists_there_is_no_plan(self, member: str, wrong: object) -> None:
        value = three_seats()
        if wrong == "absent":
            del value[member]
        else:
            value[member] = wrong
        reading = read_plan(value)
        assert reading.plan is None
        assert member in told(reading)

    def test_without_any_usable_category_there_is_no_plan(self) -> None:
        value = three_seats()
        value["categories"] = [{"name": ""}, 5]
        reading = read_plan(value)
        assert reading.plan is None
        assert {"categories[0].name", "categories[1]", "categories"} <= told(reading).keys()

    def test_without_seats_and_admission_there_is_no_plan(self) -> None:
        reading = read_plan(document(row("A")))
        assert reading.plan is None
        assert told(reading) == {"zones": "no seat and no general admission that could be sold"}

    def test_a_plan_with_too_many_seats_is_refused_before_its_seats_are_read(self) -> None:
        # One seat object many times: if they were read, there would be as many problems.
        value = document(row("A", *([seat("A-1", 0)] * (SEATS_PER_PLAN_MAX + 1))))
        reading = read_plan(value)
        assert reading.plan is None
        assert told(reading) == {"zones": "200,001 seats; a plan has at most 200,000"}


class TestNotices:
    def test_all_problems_are_told_and_each_seat_that_cannot_be_sold_is_left_out(self) -> None:
        value = document(
            row(
                "A",
                seat("A-1", 0),
                seat("A-1", 25),
                seat("", 50, seat_number="3"),
                seat("A-4", 75, category="Box"),
                seat("A-5", 0),
                seat("A-6", 125),
            )
        )
        reading = read_plan(value)
        assert plan_of(reading).labels == ("A-1", "A-6")
        seats = "zones[0].rows[0].seats"
        assert told(reading) == {
            f"{seats}[1].seat_guid": (
                f"'A-1' is the label of {seats}[0].seat_guid already; left out"
            ),
            f"{seats}[2].seat_guid": "empty",
            f"{seats}[3].category": "'Box' is not in categories",
            f"{seats}[4].position": "the place of seat 'A-1'; left out",
        }

    def test_one_seat_may_have_several_problems(self) -> None:
        reading = read_plan(
            document(row("A", seat("A-1", 0), {"seat_guid": 5, "position": {"x": "1", "y": 2}}))
        )
        assert set(told(reading)) == {
            "zones[0].rows[0].seats[1].seat_guid",
            "zones[0].rows[0].seats[1].category",
            "zones[0].rows[0].seats[1].seat_number",
            "zones[0].rows[0].seats[1].position.x",
        }

    def test_the_same_place_in_another_zone_is_the_same_place(self) -> None:
        value = three_seats()
        value["zones"].append(
            {"position": {"x": 120, "y": 190}, "rows": [row("X", seat("X-1", 5, 10))]}
        )
        assert told(read_plan(value)) == {
            "zones[1].rows[0].seats[0].position": "the place of seat 'A-2'; left out"
        }

    def test_a_zone_without_position_is_told_and_placed_at_the_origin(self) -> None:
        value = three_seats()
        del value["zones"][0]["position"]
        reading = read_plan(value)
        assert list(plan_of(reading).x) == [0, 2_500, 5_000]
        assert told(reading)["zones[0].position"] == "missing"

    @pytest.mark.parametrize(
        "number", [math.nan, math.inf, -math.inf, 1e300, 10**400, 4_000_001, True, "5", None]
    )
    def test_a_coordinate_that_is_no_sensible_number_loses_the_seat(self, number: Any) -> None:
        value = document(row("A", seat("A-1", 0), seat("A-2", number)))
        reading = read_plan(value)
        assert plan_of(reading).labels == ("A-1",)
        assert set(told(reading)) == {"zones[0].rows[0].seats[1].position.x"}

    def test_coordinates_that_add_up_to_too_much_lose_the_seat(self) -> None:
        value = document(row("A", seat("A-1", 0), seat("A-2", 999_901)))
        reading = read_plan(value)
        assert plan_of(reading).labels == ("A-1",)
        assert told(reading) == {
            "zones[0].rows[0].seats[1].position": (
                "with its row and zone it is not within 1,000,000 of 0"
            )
        }

    def test_a_nul_character_in_a_label_loses_the_seat(self) -> None:
        reading = read_plan(document(row("A", seat("A-1", 0), seat("A\0-2", 25))))
        assert plan_of(reading).labels == ("A-1",)
        assert "NUL" in told(reading)["zones[0].rows[0].seats[1].seat_guid"]

    @pytest.mark.parametrize("bad", ["\0", "\ud800"])
    def test_what_no_database_stores_is_cut_out_of_names(self, bad: str) -> None:
        value = document(row(f"A{bad}", seat("A-1", 0, category=f"Sta{bad}lls")))
        value["categories"][0]["name"] = f"Stalls{bad}"
        value["zones"][0]["name"] = f"Ha{bad}ll"
        reading = read_plan(value)
        plan = plan_of(reading)
        assert plan.rows == (SeatRow("Hall", "A", 0, 1),)
        assert plan.categories[0].name == "Stalls"
        assert len(reading.problems) == 4

    def test_a_category_listed_twice_is_told_and_taken_once(self) -> None:
        value = three_seats()
        value["categories"].append({"name": "Stalls", "color": "#0000ff"})
        reading = read_plan(value)
        assert len(plan_of(reading).categories) == 2
        assert told(reading) == {"categories[2].name": "'Stalls' is listed already"}

    def test_members_the_format_does_not_have_are_told_once_and_ignored(self) -> None:
        value = three_seats()
        value["published"] = True
        for entry in value["zones"][0]["rows"][0]["seats"]:
            entry["price"] = 5
        reading = read_plan(value)
        assert plan_of(reading) == sound(three_seats())
        assert told(reading) == {
            "published": "'published' is not a member of a seating plan; ignored",
            "zones[0].rows[0].seats[0].price": (
                "'price' is not a member of a seat; ignored (3 times, first here)"
            ),
        }

    @pytest.mark.parametrize(
        ("member", "wrong"),
        [("name", None), ("size", None), ("size", {"width": 1.5, "height": 2}), ("size", 4)],
    )
    def test_what_selling_does_not_need_is_told_and_the_plan_is_kept(
        self, member: str, wrong: object
    ) -> None:
        value = three_seats()
        value[member] = wrong
        reading = read_plan(value)
        assert plan_of(reading).seat_count == 3
        assert [path.split(".")[0] for path in told(reading)] == [member]

    @pytest.mark.parametrize("wrong", [None, 5, [], "zone"])
    def test_a_zone_row_or_seat_that_is_no_object_is_left_out(self, wrong: object) -> None:
        value = three_seats()
        value["zones"].append(wrong)
        value["zones"][0]["rows"].append(wrong)
        value["zones"][0]["rows"][0]["seats"].append(wrong)
        reading = read_plan(value)
        assert plan_of(reading).labels == ("A-1", "A-2", "A-3")
        assert set(told(reading)) == {
            "zones[1]",
            "zones[0].rows[1]",
            "zones[0].rows[0].seats[3]",
        }

    def test_a_label_that_is_too_long_loses_the_seat(self) -> None:
        reading = read_plan(document(row("A", seat("A-1", 0), seat("x" * 201, 25))))
        assert plan_of(reading).labels == ("A-1",)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)


class TestAnyDocument:
    """Whatever a file says, reading it ends with a plan or with problems."""

    @settings(max_examples=200, deadline=None)
    @given(st.data())
    def test_any_value_in_any_place_is_survived(self, data: st.DataObject) -> None:
        areas = [area("u-1", rotation=90, text={"text": "Stage", "position": {"x": 0, "y": 0}})]
        documents: dict[str, Any] = {
            "document": document(row("A", seat("A-1", 0), seat("A-2", 25)), areas=areas),
            "extras": {
                "seats": {"A-1": {"accessible": True, "rank": 1}},
                "areas": {"u-1": {"tier": "t", "category": "Circle", "capacity": 5}},
                "focal_point": {"x": 1, "y": 2},
                "ranking": "given",
            },
        }
        # Walk down at random, and put anything where the walk ends.
        at: Any = documents
        key: Any = data.draw(st.sampled_from(sorted(documents)))
        while isinstance(at[key], dict | list) and at[key] and data.draw(st.integers(0, 4)):
            at = at[key]
            key = data.draw(
                st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at))))
            )
        at[key] = data.draw(JSON_VALUES)
        reading = read_plan(documents["document"], documents["extras"])
        if reading.plan is None:
            assert reading.problems
            return
        for problem in reading.problems:
            problem.path.encode()
            problem.reason.encode()
        assert_round_trip(reading.plan, is_named=reading.plan.name.strip() != "")


class TestExtras:
    def test_traits_come_from_the_sibling(self) -> None:
        extras = {
            "seats": {
                "A-1": {"accessible": True, "restricted_view": True},
                "A-2": {"companion": True, "accessible": False},
            }
        }
        assert list(sound(three_seats(), extras).traits) == [
            SeatTrait.ACCESSIBLE | SeatTrait.RESTRICTED_VIEW,
            SeatTrait.COMPANION,
            0,
        ]

    def test_an_area_becomes_a_tier(self) -> None:
        value = document(areas=[area("u-1"), area("u-2", text={"text": "Lawn"})])
        extras = {
            "areas": {
                "u-1": {"tier": "pit", "name": "Pit", "category": "Circle", "capacity": 300},
                "u-2": {"category": "Stalls", "capacity": 1},
            }
        }
        assert sound(value, extras).admission_tiers == (
            AdmissionTier("pit", "Pit", 1, 300),
            AdmissionTier("u-2", "Lawn", 0, 1),
        )

    def test_what_is_wrong_with_the_sibling_is_told_by_its_path(self) -> None:
        value = document(
            row("A", seat("A-1", 0)), areas=[area(u) for u in ("u-1", "u-2", "u-3", "u-3", "u-4")]
        )
        extras = {
            "seats": {"A-1": {"accessible": "yes"}, "Z-9": {"accessible": True}, "A-2": 5},
            "areas": {
                "u-1": {"tier": "pit", "category": "Stalls", "capacity": 0},
                "u-2": {"tier": "pit", "category": "Nowhere", "capacity": 5},
                "u-3": {"tier": "pit", "category": "Stalls", "capacity": 5},
                "u-4": {"tier": "pit", "category": "Stalls", "capacity": 5},
                "u-9": {"category": "Stalls", "capacity": 5},
            },
            "ranking": "best",
            "focal_point": {"x": 1},
            "colour": "red",
        }
        reading = read_plan(value, extras)
        assert [tier.code for tier in plan_of(reading).admission_tiers] == ["pit"]
        assert set(told(reading)) == {
            'extras.seats["A-1"].accessible',
            'extras.seats["Z-9"]',
            'extras.seats["A-2"]',
            'extras.areas["u-1"].capacity',
            'extras.areas["u-2"].category',
            'extras.areas["u-4"].tier',
            'extras.areas["u-9"]',
            "extras.ranking",
            "extras.focal_point.y",
            "extras.colour",
            "zones[0].areas[3].uuid",
        }

    def test_a_seat_that_was_left_out_is_no_stranger_to_the_sibling(self) -> None:
        value = document(row("A", seat("A-1", 0), seat("A-2", 25, category="Box")))
        reading = read_plan(value, {"seats": {"A-2": {"accessible": True}}})
        assert set(told(reading)) == {"zones[0].rows[0].seats[1].category"}


@st.composite
def plans(draw: st.DrawFn) -> SeatingPlan:
    """Any plan that can be stored, also ones that no drawing would give."""
    lengths = draw(st.lists(st.integers(1, 6), max_size=5))
    count = sum(lengths)
    places = draw(
        st.lists(
            st.tuples(st.integers(-(10**8), 10**8), st.integers(-(10**8), 10**8)),
            unique=True,
            min_size=count,
            max_size=count,
        )
    )
    rows, runs, first = [], [], 0
    for index, length in enumerate(lengths):
        section = draw(st.sampled_from(["Hall", "Balcony", ""]))
        rows.append(SeatRow(section, draw(st.text("AB1 é", max_size=3)), first, first + length))
        cut = draw(st.integers(0, length - 1))
        if cut:
            runs.append(Run(first, first + cut, index))
        runs.append(Run(first + cut, first + length, index))
        first += length
    each: dict[str, Any] = {"min_size": count, "max_size": count}
    tier_count = draw(st.integers(0 if count else 1, 3))
    return SeatingPlan(
        name="Any",
        categories=(Category("One", "#ffffff"), Category("Two")),
        category_of=array("H", draw(st.lists(st.integers(0, 1), **each))),
        traits=bytes(draw(st.lists(st.integers(0, 7), **each))),
        x=array("i", [x for x, _ in places]),
        y=array("i", [y for _, y in places]),
        rank=array("i", draw(st.lists(st.integers(0, 2**31 - 1), **each))),
        rows=tuple(rows),
        runs=tuple(runs),
        admission_tiers=tuple(
            AdmissionTier(f"tier-{n}", f"Tier {n}", n % 2, n + 1) for n in range(tier_count)
        ),
        labels=tuple(f"row-{n}" for n in range(count)),
    )


class TestWriting:
    def test_a_plan_with_everything_comes_back_equal(self) -> None:
        xs = [0, 25.25, 50, 110, 135]
        value = document(
            row("A", *(seat(f"A-{n}", x) for n, x in enumerate(xs))),
            row("B", *(seat(f"B-{n}", x, category="Circle") for n, x in enumerate(xs)), y=30),
            areas=[area("u-1", text={"text": "Lawn", "position": {"x": 0, "y": 0}})],
        )
        extras = {
            "seats": {
                "A-0": {"accessible": True, "aisle_after": True},
                "B-1": {"restricted_view": True},
            },
            "areas": {"u-1": {"tier": "lawn", "category": "Circle", "capacity": 70}},
        }
        assert_round_trip(sound(value, extras))

    @settings(max_examples=60, deadline=None)
    @given(plans())
    def test_any_plan_comes_back_equal(self, plan: SeatingPlan) -> None:
        assert_round_trip(plan)

    def test_the_sibling_of_a_plain_vehicle_says_nothing_but_the_ranking(self) -> None:
        plan = sound(three_seats(), {"ranking": "order"})
        assert write_plan(plan)[1] == {"ranking": "order"}

    def test_the_schema_of_these_tests_refuses_other_members(self) -> None:
        exported, _ = write_plan(sound(three_seats()))
        exported["accessible"] = True
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(exported, SEATING_PLAN_SCHEMA)
