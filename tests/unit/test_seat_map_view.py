"""The letters of a seat map against the plain definition of each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from persistence.claim_reader import SeatMapSnapshot
from persistence.seat_map_image import Shape, image_of_snapshot
from reservation.ids import derive_show_id
from reservation.route import Segment
from serve_app.api.seat_map_view import LETTERS, etag_of, version_named

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
        etag_of(version, segment, with_labels=with_labels)
        for version in (1, 12)
        for segment in (Segment(0, 1), Segment(0, 2), Segment(1, 2))
        for with_labels in (True, False)
    }
    assert len(tags) == 12
    assert all(tag.startswith('"') and tag.endswith('"') for tag in tags)


def test_the_version_is_read_back_from_tags_of_the_same_form_only() -> None:
    segment = Segment(2, 10)

    def named(tags: str) -> int:
        return version_named(tags, segment, with_labels=True)

    tag = etag_of(12, segment, with_labels=True)
    assert named(tag) == named(f"W/{tag}") == named(f'"other", {tag} ,W/"x"') == 12
    assert named(f"{tag}, {etag_of(900, segment, with_labels=True)}") == 900
    assert named(etag_of(12, segment, with_labels=False)) == 0
    assert named(etag_of(12, Segment(2, 1), with_labels=True)) == 0
    assert named(etag_of(12, Segment(2, 100), with_labels=True)) == 0
    for nothing in ("*", "", '"', '"1--2.10-l"', '"1-x-2.10-l"', '"1-' + "9" * 19 + '-2.10-l"'):
        assert named(nothing) == 0
    assert named('"1-' + "9" * 18 + '-2.10-l"') == 10**18 - 1
