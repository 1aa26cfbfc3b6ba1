"""The live seat map as clients see it: one letter per seat.

An arena has 50,000 seats and many viewers, so there is never an object per seat: the letters of
all seats are one ``bytearray``, and a row is a slice of it.
"""

from __future__ import annotations

from itertools import groupby

import orjson

from persistence.claim_reader import SeatMapSnapshot
from reservation.route import Segment
from reservation.seating_plan import SeatingPlan
from serve_app.api.segments import stops_of
from serve_app.api.show_facts import ShowFacts

FREE, HELD, BOOKED, BLOCKED = b"fhbx"

LEGEND = {"f": "free", "h": "held", "b": "booked", "x": "blocked"}

_FORMAT = 1
"""Raise it when the form of the response changes; clients then forget what they kept."""


def etag_of(version: int, segment: Segment, *, with_labels: bool) -> str:
    """The strong entity tag of a seat map."""
    form = "l" if with_labels else "s"
    return f'"{_FORMAT}-{version}-{segment.from_leg}.{segment.to_leg}-{form}"'


def letters_of(snapshot: SeatMapSnapshot, seat_count: int, segment: Segment) -> bytearray:
    """One letter per seat: the worst state over the legs of the segment.

    Blocked is worse than booked, booked worse than held, held worse than free.
    """
    mask = segment.mask
    held = snapshot.held
    letters = bytearray(b"f") * seat_count
    for seat_index, legs in snapshot.taken.items():
        taken = legs & mask
        if taken:
            letters[seat_index] = BOOKED if taken & ~held.get(seat_index, 0) else HELD
    for seat_index in snapshot.blocked:
        letters[seat_index] = BLOCKED
    return letters


def write_seat_map(
    facts: ShowFacts, snapshot: SeatMapSnapshot, segment: Segment, *, with_labels: bool
) -> bytes:
    """The response's body."""
    plan = facts.plan
    letters = letters_of(snapshot, plan.seat_count, segment)
    view: dict[str, object] = {
        "show_id": facts.listing.show_id,
        "plan_id": facts.listing.plan_id,
        "version": snapshot.seq,
        "counts": {name: letters.count(letter.encode()) for letter, name in LEGEND.items()},
        "legend": LEGEND,
        "sections": _sections(plan, letters.decode("ascii"), with_labels=with_labels),
        "admissions": _admissions(plan, snapshot, segment),
    }
    stops = stops_of(facts.route, segment)
    if stops is not None:
        view["from"], view["to"] = stops
    return orjson.dumps(view)


def _sections(plan: SeatingPlan, letters: str, *, with_labels: bool) -> list[dict[str, object]]:
    sections: list[dict[str, object]] = []
    for name, rows in groupby(plan.rows, key=lambda row: row.section):
        views: list[dict[str, object]] = []
        for row in rows:
            view: dict[str, object] = {"name": row.name, "first_seat_index": row.first}
            if with_labels:
                view["labels"] = plan.labels[row.first : row.end]
            view["status"] = letters[row.first : row.end]
            views.append(view)
        sections.append({"name": name, "rows": views})
    return sections


def _admissions(
    plan: SeatingPlan, snapshot: SeatMapSnapshot, segment: Segment
) -> list[dict[str, object]]:
    views: list[dict[str, object]] = []
    for tier_index, tier in enumerate(plan.admission_tiers):
        admitted = snapshot.admitted.get(tier_index, {})
        busiest = max(admitted.get(leg, 0) for leg in range(segment.from_leg, segment.to_leg))
        views.append(
            {
                "tier": tier.code,
                "name": tier.name,
                "capacity": tier.capacity,
                "free": tier.capacity - busiest,
            }
        )
    return views
