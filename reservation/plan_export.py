"""Writing a seating plan as the documents that ``plan_document`` reads.

The first document validates against the original schema of pretix; what that schema has no
member for goes into the sibling. Reading both gives an equal plan again. A plan remembers
neither decoration nor the names of tables and bars, so whoever still has the document that
a plan was read from keeps that one.
"""

from __future__ import annotations

import hashlib
from itertools import groupby

from reservation.drawing_order import drawn_plan
from reservation.plan_extras import TRAIT_MEMBERS, Ranking, SeatOrder
from reservation.plan_findings import POSITION_MAX
from reservation.plan_order import find_aisles, order_along_row
from reservation.seating_plan import SeatingPlan, SeatRow

Document = dict[str, object]

_MARGIN = 40
_TIER_WIDTH = 200
_TIER_HEIGHT = 60


def write_plan(plan: SeatingPlan) -> tuple[Document, Document]:
    """The plan as a seating-plan document and its sibling.

    Of a revised plan this is the drawing as it is now: seats that are gone are not in it, and
    reading it gives every seat the index of its place.

    Returns:
        (document, extras): JSON values only.
    """
    plan = drawn_plan(plan)
    seats: dict[str, Document] = {}
    zones = [
        _zone(plan, section, list(rows))
        for section, rows in groupby(plan.rows, key=lambda row: row.section)
    ]
    _write_aisles(plan, seats)
    _write_traits(plan, seats)
    extras: Document = {"ranking": Ranking.ORDER.value}
    if list(plan.rank) != list(range(plan.seat_count)):
        extras["ranking"] = Ranking.GIVEN.value
        for label, rank in zip(plan.labels, plan.rank, strict=True):
            seats.setdefault(label, {})["rank"] = rank
    if any(not _is_in_order(plan, row) for row in plan.rows):
        extras["seat_order"] = SeatOrder.LIST.value
    bottom = max(plan.y, default=0) // 100 + _MARGIN
    if plan.admission_tiers:
        zone, areas = _tier_zone(plan, min(bottom, POSITION_MAX))
        zones.append(zone)
        extras["areas"] = areas
        bottom += _TIER_HEIGHT * len(plan.admission_tiers) + _MARGIN
    if seats:
        extras["seats"] = seats
    categories: list[Document] = [
        {"name": category.name, "color": category.color}
        if category.color
        else {"name": category.name}
        for category in plan.categories
    ]
    width = max(max(plan.x, default=0) // 100, _TIER_WIDTH) + _MARGIN
    size: Document = {"width": width, "height": max(bottom, _MARGIN)}
    document: Document = {
        "name": plan.name,
        "size": size,
        "categories": categories,
        "zones": zones,
    }
    return document, extras


def _zone(plan: SeatingPlan, section: str, rows: list[SeatRow]) -> Document:
    return {
        "name": section,
        "position": {"x": 0, "y": 0},
        "rows": [_row(plan, row) for row in rows if row.end > row.first],
    }


def _row(plan: SeatingPlan, row: SeatRow) -> Document:
    origin_x, origin_y = plan.x[row.first], plan.y[row.first]
    numbers = _numbers(plan.labels[row.first : row.end])
    written: list[Document] = [
        {
            "seat_guid": plan.labels[index],
            "seat_number": numbers[index - row.first],
            "category": plan.categories[plan.category_of[index]].name,
            "position": _position(plan.x[index] - origin_x, plan.y[index] - origin_y),
        }
        for index in range(row.first, row.end)
    ]
    return {
        "row_number": row.name,
        "row_number_position": "both",
        "position": _position(origin_x, origin_y),
        "seats": written,
    }


def _numbers(labels: tuple[str, ...]) -> list[str]:
    """What to print on each seat of a row: the end of its label when that tells them apart."""
    tails = [label.rpartition("-")[2] for label in labels]
    return tails if all(tails) and len(set(tails)) == len(tails) else list(labels)


def _position(x: int, y: int) -> Document:
    # Hundredths of whole numbers stay whole, as a person would have written them.
    return {
        "x": x // 100 if x % 100 == 0 else x / 100,
        "y": y // 100 if y % 100 == 0 else y / 100,
    }


def _points(plan: SeatingPlan, row: SeatRow) -> list[tuple[int, int]]:
    return [(plan.x[index], plan.y[index]) for index in range(row.first, row.end)]


def _is_in_order(plan: SeatingPlan, row: SeatRow) -> bool:
    """Whether a reader would order the row's seats as the plan does."""
    return order_along_row(_points(plan, row)) == list(range(row.end - row.first))


def _write_aisles(plan: SeatingPlan, seats: dict[str, Document]) -> None:
    """Say where an aisle is, or is not, wherever the drawing alone says otherwise."""
    ends_run = {run.end for run in plan.runs}
    for _, group in groupby(plan.rows, key=lambda row: row.section):
        rows = [row for row in group if row.end > row.first]
        aisles = find_aisles([_points(plan, row) for row in rows])
        for row, row_aisles in zip(rows, aisles, strict=True):
            for place, drawn in enumerate(row_aisles):
                index = row.first + place
                meant = index + 1 in ends_run
                if meant != drawn:
                    seats.setdefault(plan.labels[index], {})["aisle_after"] = meant


def _write_traits(plan: SeatingPlan, seats: dict[str, Document]) -> None:
    for label, traits in zip(plan.labels, plan.traits, strict=True):
        for member, trait in TRAIT_MEMBERS.items():
            if traits & trait:
                seats.setdefault(label, {})[member] = True


def _tier_zone(plan: SeatingPlan, top: int) -> tuple[Document, Document]:
    """A zone that draws the general-admission tiers below the seats, and their extras."""
    areas: list[Document] = []
    extras: Document = {}
    for index, tier in enumerate(plan.admission_tiers):
        uuid = _uuid(f"{plan.name}\0{tier.code}")
        category = plan.categories[tier.category_index]
        middle: Document = {"x": _TIER_WIDTH // 2, "y": _TIER_HEIGHT // 2}
        areas.append(
            {
                "uuid": uuid,
                "shape": "rectangle",
                "color": category.color or "#dddddd",
                "border_color": "#333333",
                "rotation": 0,
                "position": {"x": 0, "y": index * _TIER_HEIGHT},
                "rectangle": {"width": _TIER_WIDTH, "height": _TIER_HEIGHT},
                "text": {"text": tier.name, "position": middle},
            }
        )
        extras[uuid] = {
            "tier": tier.code,
            "name": tier.name,
            "category": category.name,
            "capacity": tier.capacity,
        }
    zone: Document = {
        "name": "General admission",
        "position": {"x": 0, "y": top},
        "rows": [],
        "areas": areas,
    }
    return zone, extras


def _uuid(source: str) -> str:
    """A UUID of version 4's form that is the same for the same source."""
    digest = bytearray(hashlib.blake2b(source.encode(), digest_size=16).digest())
    digest[6] = digest[6] & 0x0F | 0x40
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
