"""Seating-plan documents for tests: small ones by hand, and what must be true of all exports."""

from __future__ import annotations

from typing import Any

import jsonschema

from reservation.plan_document import PlanReading, read_plan
from reservation.plan_export import write_plan
from reservation.seating_plan import SeatingPlan
from tests.support.seating_plan_schema import SEATING_PLAN_SCHEMA

Json = dict[str, Any]


def seat(guid: str, x: float, y: float = 0, **members: object) -> Json:
    return {
        "seat_guid": guid,
        "seat_number": guid,
        "position": {"x": x, "y": y},
        "category": "Stalls",
        **members,
    }


def row(number: str, *seats: Json, y: float = 0) -> Json:
    return {"row_number": number, "position": {"x": 0, "y": y}, "seats": list(seats)}


def document(*rows: Json, areas: list[Json] | None = None) -> Json:
    zone: Json = {"name": "Hall", "position": {"x": 100, "y": 200}, "rows": list(rows)}
    if areas is not None:
        zone["areas"] = areas
    return {
        "name": "Test hall",
        "size": {"width": 400, "height": 300},
        "categories": [{"name": "Stalls", "color": "#aa0000"}, {"name": "Circle"}],
        "zones": [zone],
    }


def plan_of(reading: PlanReading) -> SeatingPlan:
    assert reading.plan is not None, reading.problems
    return reading.plan


def sound(value: object, extras: object = None) -> SeatingPlan:
    reading = read_plan(value, extras)
    assert reading.problems == ()
    return plan_of(reading)


def told(reading: PlanReading) -> dict[str, str]:
    return {problem.path: problem.reason for problem in reading.problems}


def three_seats() -> Json:
    return document(row("A", seat("A-1", 0), seat("A-2", 25), seat("A-3", 50)))


def area(uuid: str, **members: object) -> Json:
    return {"uuid": uuid, "shape": "rectangle", "position": {"x": 0, "y": 0}} | members


def assert_round_trip(plan: SeatingPlan, *, is_named: bool = True) -> None:
    """Exporting and reading again gives an equal plan, and the export is of the format.

    A plan without a name is told as a problem of its document, and of nothing else.
    """
    exported, extras = write_plan(plan)
    jsonschema.validate(exported, SEATING_PLAN_SCHEMA)
    reading = read_plan(exported, extras)
    assert [problem.path for problem in reading.problems] == ([] if is_named else ["name"])
    assert reading.plan == plan
