"""The letters of a seat map against the plain definition of each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from persistence.claim_reader import SeatMapSnapshot
from reservation.route import Segment
from serve_app.api.seat_map_view import etag_of, letters_of

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
    letters = letters_of(snapshot, SEATS, segment).decode()
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
