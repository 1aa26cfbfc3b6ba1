"""The letters of a seat map against the plain definition of each."""

from __future__ import annotations

from dataclasses import replace

import orjson
from hypothesis import given
from hypothesis import strategies as st

from persistence.claim_reader import SeatMapSnapshot
from persistence.plan_codec import plan_id_of
from persistence.seat_map_image import Shape, image_of_snapshot
from reservation.ids import derive_show_id
from reservation.plan_revision import Revision, revise
from reservation.route import Route, Segment
from serve_app.api.seat_map_view import LETTERS, etag_of, version_named, write_seat_map
from serve_app.api.show_facts import ShowFacts
from tests.support.catalogue_house import make_show
from tests.support.drawings import Drawing, DrawnRow, imported

PLAN_ID = "pln_" + "0" * 20

SEATS, LEGS = 6, 4
MASKS = st.integers(0, 2**LEGS - 1)


def plain_letter(snapshot: SeatMapSnapshot, seat: int, segment: Segment) -> str:
    """The worst of what every single leg says."""
    worst = 0
    for leg in range(segment.from_leg, segment.to_leg):
        bit = 1 << leg
        if snapshot.taken.get(seat, 0) & bit:
            worst = max(worst, 1 if snapshot.held.get(seat, 0) & bit else 2)
    return "x" if seat in snapshot.blocked else "fhb"[worst]


@st.composite
def snapshots(draw: st.DrawFn) -> SeatMapSnapshot:
    taken = draw(st.dictionaries(st.integers(0, SEATS - 1), MASKS))
    held = {seat: legs & draw(MASKS) for seat, legs in taken.items()}
    blocked = draw(st.sets(st.integers(0, SEATS - 1)))
    for seat in blocked:
        taken[seat] = 2**LEGS - 1
        held[seat] = 0
    return SeatMapSnapshot(1, taken, held, dict.fromkeys(blocked, "why"), {})


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    from_leg = draw(st.integers(0, LEGS - 1))
    return Segment(from_leg, draw(st.integers(from_leg + 1, LEGS)))


@given(snapshots(), segments())
def test_each_letter_is_the_worst_over_the_legs(
    snapshot: SeatMapSnapshot, segment: Segment
) -> None:
    image = image_of_snapshot(derive_show_id("s"), 1, Shape(SEATS, LEGS, 0), snapshot)
    letters = image.statuses(segment, LETTERS).decode()
    assert letters == "".join(plain_letter(snapshot, seat, segment) for seat in range(SEATS))


def test_the_tag_differs_with_everything_the_body_depends_on() -> None:
    tags = {
        etag_of(version, segment, with_labels=with_labels, plan_id=plan_id)
        for version in (1, 12)
        for segment in (Segment(0, 1), Segment(0, 2), Segment(1, 2))
        for with_labels in (True, False)
        for plan_id in (PLAN_ID, "pln_" + "1" * 20)
    }
    assert len(tags) == 24
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


def test_the_version_is_read_back_from_tags_of_the_same_form_only() -> None:
    segment = Segment(2, 10)

    def named(tags: str) -> int:
        return version_named(tags, segment, with_labels=True)

    def tag_of(version: int, segment: Segment, *, with_labels: bool = True) -> str:
        return etag_of(version, segment, with_labels=with_labels, plan_id=PLAN_ID)

    tag = tag_of(12, segment)
    assert named(tag) == named(f"W/{tag}") == named(f'"other", {tag} ,W/"x"') == 12
    assert named(f"{tag}, {tag_of(900, segment)}") == 900
    assert named(tag_of(12, segment, with_labels=False)) == 0
    assert named(tag_of(12, Segment(2, 1))) == 0
    assert named(tag_of(12, Segment(2, 100))) == 0
    for nothing in (
        "*",
        "",
        '"',
        '"2--2.10-l-0"',
        '"2-x-2.10-l-0"',
        '"1-7-2.10-l-0"',
        '"2-' + "9" * 19 + '-2.10-l-0"',
    ):
        assert named(nothing) == 0
    assert named('"2-' + "9" * 18 + '-2.10-l-0"') == 10**18 - 1
    # What the sender saw of the plan before is a version of the same show.
    other = etag_of(12, segment, with_labels=True, plan_id="pln_" + "1" * 20)
    assert named(other) == 12


def revised_facts(old: Drawing, new: Drawing) -> ShowFacts:
    """A show whose plan was redrawn."""
    revision = revise(imported(old), imported(new))
    assert isinstance(revision, Revision)
    listing = replace(make_show("revised"), plan_id=plan_id_of(revision.plan))
    return ShowFacts(listing, revision.plan, Route())


def drawn(*runs: str) -> Drawing:
    return (DrawnRow("Hall", "A", tuple(tuple(run.split()) for run in runs)),)


def test_a_revised_map_shows_the_drawing_and_leaves_out_what_is_gone() -> None:
    facts = revised_facts(drawn("a b c", "d e"), drawn("a x c", "d e"))
    shape = Shape(facts.plan.seat_count, 1, 1)
    # Seat b is gone and blocked, seat c is booked, the new seat x is held.
    snapshot = SeatMapSnapshot(9, {1: 1, 2: 1, 5: 1}, {5: 1}, {1: "plan_change"}, {})
    image = image_of_snapshot(facts.listing.show_id, 1, shape, snapshot)
    view = orjson.loads(write_seat_map(facts, image, Segment(0, 1), with_labels=True))
    assert view["counts"] == {"free": 3, "held": 1, "booked": 1, "blocked": 0}
    (row,) = view["sections"][0]["rows"]
    assert row == {
        "name": "A",
        "first_seat_index": 0,
        "seat_indexes": [0, 5, 2, 3, 4],
        "labels": ["a", "x", "c", "d", "e"],
        "status": "fhbff",
    }


def test_a_row_that_was_not_touched_looks_as_before() -> None:
    before, after = drawn("a b"), drawn("a b")
    other = DrawnRow("Hall", "B", (("c", "d"),))
    facts = revised_facts((*before, other), (other, *after))
    shape = Shape(facts.plan.seat_count, 1, 1)
    image = image_of_snapshot(
        facts.listing.show_id, 1, shape, SeatMapSnapshot(1, {0: 1}, {}, {}, {})
    )
    view = orjson.loads(write_seat_map(facts, image, Segment(0, 1), with_labels=False))
    assert view["sections"][0]["rows"] == [
        {"name": "B", "first_seat_index": 2, "status": "ff"},
        {"name": "A", "first_seat_index": 0, "status": "bf"},
    ]
