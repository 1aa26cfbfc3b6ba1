"""The live seat map as clients see it: one letter per seat.

An arena has 50,000 seats and many viewers, so there is never an object per seat: the letters of
all seats are one string, and a row is a slice of it.
"""

from __future__ import annotations

import re
from itertools import groupby

import orjson

from persistence.seat_map_image import SeatMapImage, Shape
from reservation.route import Segment
from reservation.seating_plan import SeatingPlan
from serve_app.api.segments import stops_of
from serve_app.api.show_facts import ShowFacts

_PLAN_LETTERS = 16
"""Of a plan's id, so many that two plans of one show never have the same by chance."""

LETTERS = b"fhbx"
LEGEND = {"f": "free", "h": "held", "b": "booked", "x": "blocked"}

_FORMAT = 2
"""Raise it when the form of the response changes; clients then forget what they kept."""


def etag_of(version: int, segment: Segment, *, with_labels: bool, plan_id: str) -> str:
    """The strong entity tag of a seat map.

    A plan may be revised without any event of the show, so the tag tells it too.
    """
    form = "l" if with_labels else "s"
    plan = plan_id[4:_PLAN_LETTERS]
    return f'"{_FORMAT}-{version}-{segment.from_leg}.{segment.to_leg}-{form}-{plan}"'


def version_named(if_none_match: str, segment: Segment, *, with_labels: bool) -> int:
    """The highest version that ``If-None-Match`` says its sender has of this form; 0 for none.

    Example:
        >>> tag = etag_of(7, Segment(0, 1), with_labels=True, plan_id="pln_00000000000000000000")
        >>> tags = f'{tag}, W/"other"'
        >>> version_named(tags, Segment(0, 1), with_labels=True)
        7
    """
    form = "l" if with_labels else "s"
    tags = re.findall(
        rf'"{_FORMAT}-([0-9]{{1,18}})-{segment.from_leg}\.{segment.to_leg}-{form}-[0-9a-z]*"',
        if_none_match,
    )
    return max(map(int, tags), default=0)


def shape_of(facts: ShowFacts) -> Shape:
    """What an image must have to be this show's."""
    plan = facts.plan
    return Shape(plan.seat_count, facts.route.leg_count, len(plan.admission_tiers))


def write_seat_map(
    facts: ShowFacts, image: SeatMapImage, segment: Segment, *, with_labels: bool
) -> bytes:
    """The response's body."""
    plan = facts.plan
    letters = _by_place(plan, image.statuses(segment, LETTERS))
    view: dict[str, object] = {
        "show_id": facts.listing.show_id,
        "plan_id": facts.listing.plan_id,
        "version": image.seq,
        "counts": {name: letters.count(letter.encode()) for letter, name in LEGEND.items()},
        "legend": LEGEND,
        "sections": _sections(plan, letters.decode("ascii"), with_labels=with_labels),
        "admissions": _admissions(plan, image, segment),
    }
    stops = stops_of(facts.route, segment)
    if stops is not None:
        view["from"], view["to"] = stops
    return orjson.dumps(view)


def _by_place(plan: SeatingPlan, letters: bytes) -> bytes:
    # A seat that is gone has no place, so it is neither shown nor counted.
    return letters if plan.order is None else bytes(map(letters.__getitem__, plan.order))


def _sections(plan: SeatingPlan, letters: str, *, with_labels: bool) -> list[dict[str, object]]:
    sections: list[dict[str, object]] = []
    for name, rows in groupby(plan.rows, key=lambda row: row.section):
        views: list[dict[str, object]] = []
        for row in rows:
            seats = plan.seats_at(row.first, row.end)
            first = seats[0] if seats else row.first
            view: dict[str, object] = {"name": row.name, "first_seat_index": first}
            if list(seats) != list(range(first, first + len(seats))):
                view["seat_indexes"] = list(seats)
            if with_labels:
                view["labels"] = plan.labels_of(seats)
            view["status"] = letters[row.first : row.end]
            views.append(view)
        sections.append({"name": name, "rows": views})
    return sections


def _admissions(
    plan: SeatingPlan, image: SeatMapImage, segment: Segment
) -> list[dict[str, object]]:
    views: list[dict[str, object]] = []
    for tier_index, tier in enumerate(plan.admission_tiers):
        views.append(
            {
                "tier": tier.code,
                "name": tier.name,
                "capacity": tier.capacity,
                "free": tier.capacity - image.admitted_at_most(tier_index, segment),
            }
        )
    return views
