"""Plans and routes as bytes: nothing is lost, nothing damaged is read, ids follow the content."""

from __future__ import annotations

import math
import zlib
from array import array
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persistence.plan_codec import (
    decode_labels,
    decode_layout,
    decode_stops,
    encode_labels,
    encode_layout,
    encode_stops,
    plan_id_of,
    route_id_of,
)
from reservation.limits import SEATS_PER_PLAN_MAX
from reservation.route import Route, Stop
from reservation.seating_plan import AdmissionTier, Category, Run, SeatingPlan, SeatRow

HALL = SeatingPlan(
    name="Malá scéna",
    categories=(Category("Parkett", "#aa0000"), Category("Balkon")),
    category_of=array("B", [0, 0, 0, 1, 1]),
    traits=bytes([0, 1, 2, 4, 0]),
    x=array("i", [-500, 0, 500, 2**31 - 1, -(2**31)]),
    y=array("l", [0, 0, 0, 100, 100]),
    rank=array("I", [2, 0, 1, 3, 3]),
    rows=(SeatRow("P", "1", 0, 3), SeatRow("B", "1", 3, 5)),
    runs=(Run(0, 2, 0), Run(2, 3, 0), Run(3, 5, 1)),
    admission_tiers=(AdmissionTier("F", "Floor", 0, 250),),
    labels=("P-1-1", "P-1-2", "P-1-3", "B-1-ž", ""),
)
EMPTY = SeatingPlan("", (), array("H"), b"", array("i"), array("i"), array("i"), (), ())
LINE = Route(
    (
        Stop("A", "Kandy", 0, 60, 0, 7.290572, -1e-7),
        Stop("B", "කොළඹ", 3600, 3600, 12_000),
        Stop("A#2", "Kandy", 90_000, 90_000, 24_000, 5.0, 180.0),
    )
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=5)


@st.composite
def plans(draw: st.DrawFn) -> SeatingPlan:
    categories = tuple(Category(draw(TEXTS), draw(TEXTS)) for _ in range(draw(st.integers(1, 3))))
    rows: list[SeatRow] = []
    runs: list[Run] = []
    reached = 0
    for row_index in range(draw(st.integers(0, 4))):
        first = reached
        for length in draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)):
            runs.append(Run(reached, reached + length, row_index))
            reached += length
        rows.append(SeatRow(draw(TEXTS), draw(TEXTS), first, reached))
    places = st.integers(-(2**31), 2**31 - 1)

    def column(values: st.SearchStrategy[int]) -> array[int]:
        return array("q", draw(st.lists(values, min_size=reached, max_size=reached)))

    return SeatingPlan(
        name=draw(TEXTS),
        categories=categories,
        category_of=column(st.integers(0, len(categories) - 1)),
        traits=draw(st.binary(min_size=reached, max_size=reached)),
        x=column(places),
        y=column(places),
        rank=column(st.integers(0, 2**31 - 1)),
        rows=tuple(rows),
        runs=tuple(runs),
        labels=tuple(draw(st.lists(TEXTS, min_size=reached, max_size=reached))),
    )


@settings(deadline=None)
@given(plans())
def test_a_plan_comes_back_as_it_was(plan: SeatingPlan) -> None:
    labels = decode_labels(encode_labels(plan.labels))
    assert decode_layout(encode_layout(plan), labels) == plan


@pytest.mark.parametrize("plan", [HALL, EMPTY], ids=["hall", "empty"])
def test_a_plan_without_labels_is_the_plan_an_actor_needs(plan: SeatingPlan) -> None:
    decoded = decode_layout(encode_layout(plan))
    assert decoded == replace(plan, labels=())
    assert all(isinstance(row, SeatRow) for row in decoded.rows)
    assert all(isinstance(run, Run) for run in decoded.runs)


def test_the_largest_plan_comes_back() -> None:
    count = SEATS_PER_PLAN_MAX
    plan = SeatingPlan(
        name="Stadium",
        categories=(Category("A"),),
        category_of=array("H", bytes(2 * count)),
        traits=bytes(count),
        x=array("i", range(count)),
        y=array("i", range(count)),
        rank=array("i", range(count)),
        rows=tuple(SeatRow("S", str(row), row * 100, row * 100 + 100) for row in range(2000)),
        runs=tuple(Run(row * 100, row * 100 + 100, row) for row in range(2000)),
        labels=tuple(f"seat {index}" for index in range(count)),
    )
    data = encode_layout(plan)
    assert decode_layout(data, decode_labels(encode_labels(plan.labels))) == plan


@pytest.mark.parametrize("plan", [HALL, EMPTY], ids=["hall", "empty"])
def test_no_damaged_byte_of_a_layout_makes_another_plan(plan: SeatingPlan) -> None:
    data, whole = encode_layout(plan), replace(plan, labels=())
    noticed = 0
    for position in range(len(data)):
        for flip in range(1, 256):
            damaged = bytearray(data)
            damaged[position] ^= flip
            try:
                # The last bits of the compressed stream mean nothing, so these do no harm.
                assert decode_layout(bytes(damaged)) == whole
            except ValueError:
                noticed += 1
    assert noticed > 0.98 * 255 * len(data)


@pytest.mark.parametrize("labels", [HALL.labels, ()], ids=["hall", "empty"])
def test_no_damaged_byte_of_labels_makes_other_labels(labels: tuple[str, ...]) -> None:
    data = encode_labels(labels)
    noticed = 0
    for position in range(len(data)):
        for flip in range(1, 256):
            damaged = bytearray(data)
            damaged[position] ^= flip
            try:
                assert decode_labels(bytes(damaged)) == labels
            except ValueError:
                noticed += 1
    assert noticed > 0.9 * 255 * len(data)


def test_every_missing_or_added_end_is_noticed() -> None:
    layout, labels = encode_layout(HALL), encode_labels(HALL.labels)
    for length in range(len(layout)):
        with pytest.raises(ValueError, match="layout: "):
            decode_layout(layout[:length])
    for length in range(len(labels)):
        with pytest.raises(ValueError, match="labels: "):
            decode_labels(labels[:length])
    with pytest.raises(ValueError, match="length is wrong"):
        decode_layout(layout + b"\0")
    with pytest.raises(ValueError, match="labels: damaged"):
        decode_labels(layout)


def test_content_that_does_not_keep_its_own_promises_is_damaged() -> None:
    content = zlib.decompress(encode_layout(HALL)[9:])

    def packed(content: bytes) -> bytes:
        return b"HFSP\x01" + len(content).to_bytes(4, "little") + zlib.compress(content)

    assert decode_layout(packed(content)) == replace(HALL, labels=())
    for broken in (
        content[:-1],
        content + b"\0",
        content.replace(b'"seat_count":5', b'"seat_count":4'),
        content.replace(b'"seat_count":5', b'"seat_count":-'),
        content.replace(b'"run_count"', b'"ran_count"'),
        b"\x02\x00\x00\x00[]",
        b"",
    ):
        with pytest.raises(ValueError, match="layout: damaged"):
            decode_layout(packed(broken))


def test_a_newer_version_is_refused_by_its_number() -> None:
    data = bytearray(encode_layout(HALL))
    data[4] = 3
    with pytest.raises(ValueError, match="layout: version 3 is not known"):
        decode_layout(bytes(data))
    # Without a history there is nothing of what version 2 has more.
    data[4] = 2
    with pytest.raises(ValueError, match="layout: damaged"):
        decode_layout(bytes(data))


def test_labels_must_be_as_many_as_the_seats() -> None:
    with pytest.raises(ValueError, match="labels: 1 labels for 5 seats"):
        decode_layout(encode_layout(HALL), ("only one",))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"traits": b"\0"}, "traits"),
        ({"x": array("i", [0])}, "x"),
        ({"rank": array("q", [2**31, 0, 0, 0, 0])}, "rank"),
        ({"category_of": array("H", [0, 0, 0, 0, 2])}, "category_of"),
        ({"category_of": array("h", [0, 0, 0, 0, -1])}, "category_of"),
        ({"labels": ("a",)}, "labels"),
        ({"rows": (SeatRow("P", "1", 0, 3),)}, "rows"),
        ({"rows": (SeatRow("P", "1", 0, 3), SeatRow("P", "2", 4, 5))}, "rows"),
        ({"runs": (Run(0, 2, 0), Run(2, 5, 1))}, "runs"),
        ({"runs": (Run(0, 3, 0), Run(3, 5, 2))}, "runs"),
        ({"runs": (Run(0, 3, 0), Run(3, 5, -1))}, "runs"),
        ({"admission_tiers": (AdmissionTier("F", "Floor", 2, 1),)}, "admission_tiers"),
        ({"name": "\ud800"}, "plan"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(change: dict[str, object], field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        encode_layout(replace(HALL, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("label", ["a\0b", "\udfff"])
def test_a_label_that_cannot_be_stored_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match=r"^labels: "):
        encode_labels((label,))


def test_no_label_and_one_empty_label_are_different() -> None:
    assert decode_labels(encode_labels(())) == ()
    assert decode_labels(encode_labels(("",))) == ("",)
    assert decode_labels(encode_labels(("", ""))) == ("", "")


def test_plan_ids_follow_the_content_and_nothing_else() -> None:
    plan_id = plan_id_of(HALL)
    assert plan_id == plan_id_of(decode_layout(encode_layout(HALL), HALL.labels))
    assert plan_id.startswith("pln_")
    assert len(plan_id) == 24
    others = {
        plan_id_of(replace(HALL, name="Velká scéna")),
        plan_id_of(replace(HALL, labels=())),
        plan_id_of(replace(HALL, labels=(*HALL.labels[:4], "x"))),
        plan_id_of(replace(HALL, rank=array("i", [2, 0, 1, 3, 4]))),
        plan_id_of(replace(HALL, runs=(Run(0, 3, 0), Run(3, 5, 1)))),
    }
    assert len(others) == 5
    assert plan_id not in others


def test_the_id_of_a_known_plan_never_changes() -> None:
    # Ids are stored: a change of the encoding must not give known plans new ones.
    assert plan_id_of(HALL) == "pln_yrfrcbj0bdaz80s15171"
    assert route_id_of(LINE) == "rte_sxx6qb47bjetws4fm8dw"


@pytest.mark.parametrize("route", [LINE, Route()], ids=["line", "no stops"])
def test_a_route_comes_back_as_it_was(route: Route) -> None:
    assert decode_stops(encode_stops(route)) == route


def test_route_ids_follow_the_content_and_nothing_else() -> None:
    whole_degrees = replace(LINE.stops[2], latitude=5, longitude=180)
    assert route_id_of(Route((*LINE.stops[:2], whole_degrees))) == route_id_of(LINE)
    later = replace(LINE.stops[2], arrival_s=90_001)
    assert route_id_of(Route((*LINE.stops[:2], later))) != route_id_of(LINE)


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"arrival_s": 2**31}, "arrival_s"),
        ({"distance_m": 2**31}, "distance_m"),
        ({"latitude": math.nan}, "latitude"),
        ({"longitude": -math.inf}, "longitude"),
    ],
)
def test_a_stop_that_cannot_be_stored_is_refused(change: dict[str, float], path: str) -> None:
    broken = replace(LINE.stops[2], **change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=rf"^stops\[2\]\.{path}: "):
        encode_stops(Route((*LINE.stops[:2], broken)))


def test_a_stop_name_that_is_no_unicode_is_refused() -> None:
    broken = replace(LINE.stops[2], name="\ud800")
    with pytest.raises(ValueError, match=r"^stops: "):
        encode_stops(Route((*LINE.stops[:2], broken)))


@pytest.mark.parametrize("data", ["", "[1]", '[{"code": "A"}]', "{}x", '[{"x": 1}]'])
def test_damaged_stops_are_noticed(data: str) -> None:
    with pytest.raises(ValueError, match=r"^stops: damaged"):
        decode_stops(data)
