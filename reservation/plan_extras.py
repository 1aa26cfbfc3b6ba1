"""The sibling of a seating-plan document: what the original format has no member for.

    {"seats": {"A-12": {"accessible": true, "companion": true, "restricted_view": true,
                        "aisle_after": true, "rank": 3}},
     "areas": {"<uuid of an area>": {"tier": "standing", "name": "Standing",
                                     "category": "Floor", "capacity": 800}},
     "focal_point": {"x": 400, "y": 20},
     "ranking": "focal_point" | "order" | "given",
     "seat_order": "position" | "list"}

Every member is optional. ``aisle_after`` overrules what the drawing says about the step to
the next seat of the row; ``rank`` counts only under the ranking ``given``; ``seat_order``
``list`` keeps the order in which the document lists the seats of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple, TypeVar

from reservation.limits import ADMISSION_CAPACITY_MAX
from reservation.plan_findings import Findings, shown
from reservation.seating_plan import SeatTrait

RANK_MAX = 2**31 - 1
"""Ranks are kept in 32 bits."""

TRAIT_MEMBERS = {
    "accessible": SeatTrait.ACCESSIBLE,
    "companion": SeatTrait.COMPANION,
    "restricted_view": SeatTrait.RESTRICTED_VIEW,
}

_Choice = TypeVar("_Choice", bound=StrEnum)

_EXTRAS = frozenset({"seats", "areas", "focal_point", "ranking", "seat_order"})
_SEAT = frozenset({*TRAIT_MEMBERS, "aisle_after", "rank"})
_AREA = frozenset({"tier", "name", "category", "capacity"})
_POINT = frozenset({"x", "y"})


class Ranking(StrEnum):
    """How the quality of a seat is told."""

    FOCAL_POINT = "focal_point"  #: By distance to the point people look at.
    ORDER = "order"  #: By the order of the plan: vehicles are filled from the front.
    GIVEN = "given"  #: By each seat's ``rank``.


class SeatOrder(StrEnum):
    """What orders the seats of a row."""

    POSITION = "position"  #: Where they are drawn.
    LIST = "list"  #: The list of the document.


class SeatExtra(NamedTuple):
    """What the sibling says about one seat. None: it does not say."""

    traits: int
    aisle_after: bool | None
    rank: int | None


class AreaExtra(NamedTuple):
    """A general-admission tier that is drawn as an area. None: take it from the area."""

    tier: str | None
    name: str | None
    category: str
    capacity: int


class Extras(NamedTuple):
    """The sibling document, read."""

    seats: Mapping[str, SeatExtra]
    areas: Mapping[str, AreaExtra]
    focal_point: tuple[float, float] | None
    ranking: Ranking
    seat_order: SeatOrder


NO_EXTRAS = Extras({}, {}, None, Ranking.FOCAL_POINT, SeatOrder.POSITION)


def read_extras(document: object, findings: Findings) -> Extras:
    """Read the sibling document; what is wrong with it goes to ``findings`` and is skipped."""
    if document is None:
        return NO_EXTRAS
    extras = findings.members(document, "extras", "extras document", _EXTRAS)
    if extras is None:
        return NO_EXTRAS
    return Extras(
        seats=_read_seats(extras, findings),
        areas=_read_areas(extras, findings),
        focal_point=_read_focal_point(extras, findings),
        ranking=_read_choice(extras, "ranking", Ranking.FOCAL_POINT, findings),
        seat_order=_read_choice(extras, "seat_order", SeatOrder.POSITION, findings),
    )


def _read_seats(extras: Mapping[str, object], findings: Findings) -> dict[str, SeatExtra]:
    seats: dict[str, SeatExtra] = {}
    for guid, path, entry in _entries(extras, "seats", findings):
        seat = findings.members(entry, path, "seat of the extras", _SEAT)
        if seat is None:
            continue
        traits = 0
        for member, trait in TRAIT_MEMBERS.items():
            if findings.flag(seat, member, f"{path}.{member}"):
                traits |= trait
        aisle_after = findings.flag(seat, "aisle_after", f"{path}.aisle_after")
        rank = findings.count(seat, "rank", f"{path}.rank", 0, RANK_MAX)
        seats[guid] = SeatExtra(traits, aisle_after, rank)
    return seats


def _read_areas(extras: Mapping[str, object], findings: Findings) -> dict[str, AreaExtra]:
    areas: dict[str, AreaExtra] = {}
    for uuid, path, entry in _entries(extras, "areas", findings):
        area = findings.members(entry, path, "area of the extras", _AREA)
        if area is None:
            continue
        category = findings.required_text(area, "category", f"{path}.category")
        if area.get("capacity") is None:
            findings.add(f"{path}.capacity", "missing")
        where = f"{path}.capacity"
        capacity = findings.count(area, "capacity", where, 1, ADMISSION_CAPACITY_MAX)
        tier = findings.text(area, "tier", f"{path}.tier")
        name = findings.text(area, "name", f"{path}.name")
        if category is not None and capacity is not None:
            areas[uuid] = AreaExtra(tier or None, name or None, category, capacity)
    return areas


def _entries(
    extras: Mapping[str, object], member: str, findings: Findings
) -> list[tuple[str, str, object]]:
    """The entries of a keyed object: key, JSON path, value."""
    value = extras.get(member)
    if value is None:
        return []
    if not isinstance(value, Mapping):
        findings.add(f"extras.{member}", f"{shown(value)} is not an object")
        return []
    return [(str(key), f'extras.{member}["{key}"]', entry) for key, entry in value.items()]


def _read_focal_point(
    extras: Mapping[str, object], findings: Findings
) -> tuple[float, float] | None:
    value = extras.get("focal_point")
    if value is None:
        return None
    point = findings.members(value, "extras.focal_point", "point", _POINT)
    if point is None:
        return None
    x = findings.number(point.get("x"), "extras.focal_point.x")
    y = findings.number(point.get("y"), "extras.focal_point.y")
    return None if x is None or y is None else (x, y)


def _read_choice(
    extras: Mapping[str, object], member: str, default: _Choice, findings: Findings
) -> _Choice:
    value = extras.get(member)
    if value is None:
        return default
    for choice in type(default):
        if choice.value == value:
            return choice
    known = ", ".join(type(default))
    findings.add(f"extras.{member}", f"{shown(value)} is none of {known}")
    return default
