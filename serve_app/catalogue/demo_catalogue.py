"""A catalogue to try Housefull with: a playhouse, an arena, coaches and a railway.

Everything happens on Dogger Island, which is not on any map; the works performed are old
enough to belong to everybody. The files in ``demo/`` are ordinary input: a seating plan or a
feed of one's own can be imported in the same way. The arena is drawn by this module, because
a file of 23,000 seats is nothing that a person would read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from integrations.gtfs_timetable import FareRule
from persistence.catalogue import Catalogue
from reservation.fares import CategoryFare, FareTable
from reservation.ids import derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.plan_document import read_plan
from reservation.show import Placement
from serve_app.catalogue.importing import (
    FareTerms,
    ImportReport,
    PlanFiles,
    Progress,
    import_gtfs,
    read_plan_files,
    store_plan,
    store_shows,
)

DEMO_DIRECTORY = Path(__file__).parent / "demo"
TIME_ZONE = ZoneInfo("Europe/Amsterdam")
EVENING_COUNT = 14
RUN_DAYS = 7

_CURRENCY = "EUR"
_CONCERTS = (
    ("Holst: The Planets", 6),
    ("Dvořák: From the New World", 13),
    ("Beethoven: Symphony No. 9", 20),
    ("Handel: Messiah, everybody sings", 27),
)

_BLOCK_COUNT = 24
# Rows stand on circles around the floor; a gap of 40 degrees is left behind the stage.
_BLOCK_DEGREES = 320 / _BLOCK_COUNT
_ARENA_MIDDLE = 8_500
_SEAT_PITCH = 50
_ROW_PITCH = 80
_FRONT_UUID = "7d3c1f52-0e8a-4b7e-9a55-3f6d1c2b8a01"
_REAR_UUID = "7d3c1f52-0e8a-4b7e-9a55-3f6d1c2b8a02"
_ROW_NAMES = "ABCDEFGHJKLMNPQRSTUVWXYZ"


async def load_demo(
    catalogue: Catalogue, today: date, progress: Progress | None = None
) -> ImportReport:
    """Fill the catalogue: 14 evenings at the playhouse, 4 concerts, a week of runs.

    Loading it again on the same day changes nothing; on a later day it adds the days that
    have come into reach.

    Returns:
        Counts of shows.
    """
    report = ImportReport()
    for step, (name, load) in enumerate(
        (("playhouse", _load_playhouse), ("arena", _load_arena)), start=1
    ):
        report += await load(catalogue, today)
        if progress is not None:
            progress(f"demo {name}", step, 2)
    last_day = today + timedelta(days=RUN_DAYS - 1)
    report += await import_gtfs(
        catalogue,
        DEMO_DIRECTORY / "bus-network",
        from_date=today,
        to_date=last_day,
        plan_path=DEMO_DIRECTORY / "coach.json",
        extras_path=DEMO_DIRECTORY / "coach-extras.json",
        fares=FareTerms(_CURRENCY, FareRule(250, 12.5), {"Comfort": FareRule(400, 16.5)}),
        progress=progress,
    )
    report += await import_gtfs(
        catalogue,
        DEMO_DIRECTORY / "train-line",
        from_date=today,
        to_date=last_day,
        plan_path=DEMO_DIRECTORY / "train-coach.json",
        extras_path=DEMO_DIRECTORY / "train-coach-extras.json",
        coaches=4,
        fares=FareTerms(_CURRENCY, FareRule(300, 17), {"Quiet": FareRule(450, 19)}),
        progress=progress,
    )
    return report


async def _load_playhouse(catalogue: Catalogue, today: date) -> ImportReport:
    files = read_plan_files(DEMO_DIRECTORY / "theatre.json", DEMO_DIRECTORY / "theatre-extras.json")
    plan_id = (await store_plan(catalogue, files)).plan_ids[0]
    fares = FareTable(_CURRENCY, (CategoryFare(6500), CategoryFare(4500), CategoryFare(2500)))
    evenings = (
        _evening(
            source_key=f"demo:playhouse:twelfth-night:{day.isoformat()}",
            title="Twelfth Night",
            venue="Marram Playhouse",
            day=day,
            begins=time(19, 30),
            minutes=150,
            plan_id=plan_id,
            fares=fares,
        )
        for day in (today + timedelta(days=1 + offset) for offset in range(EVENING_COUNT))
    )
    report = await store_shows(catalogue, evenings)
    return replace(report, problems=(*files.problems, *report.problems), plan_ids=(plan_id,))


async def _load_arena(catalogue: Catalogue, today: date) -> ImportReport:
    document, extras = arena_documents()
    reading = read_plan(document, extras)
    # Both documents are written above, so a problem in them is a bug.
    assert reading.plan is not None
    assert not reading.problems
    files = PlanFiles(reading.plan, document, extras, ())
    plan_id = (await store_plan(catalogue, files)).plan_ids[0]
    fares = FareTable(
        _CURRENCY,
        (CategoryFare(4800), CategoryFare(7200), CategoryFare(5500), CategoryFare(3400)),
    )
    concerts = (
        _evening(
            source_key=f"demo:arena:{(today + timedelta(days=in_days)).isoformat()}",
            title=f"Promenade concert. {title}",
            venue="Gannet Arena, Port Averil",
            day=today + timedelta(days=in_days),
            begins=time(20),
            minutes=180,
            plan_id=plan_id,
            fares=fares,
        )
        for title, in_days in _CONCERTS
    )
    report = await store_shows(catalogue, concerts)
    return replace(report, plan_ids=(plan_id,))


def _evening(
    *,
    source_key: str,
    title: str,
    venue: str,
    day: date,
    begins: time,
    minutes: int,
    plan_id: str,
    fares: FareTable,
) -> ShowListing:
    starts_at = datetime.combine(day, begins, tzinfo=TIME_ZONE)
    starts_at_ms = int(starts_at.timestamp()) * 1000
    return ShowListing(
        show_id=derive_show_id(source_key),
        source_key=source_key,
        kind=ShowKind.PERFORMANCE,
        title=title,
        venue=venue,
        starts_at_ms=starts_at_ms,
        ends_at_ms=starts_at_ms + minutes * 60_000,
        service_day_at_ms=starts_at_ms,
        time_zone=TIME_ZONE.key,
        plan_id=plan_id,
        route_id=None,
        fares=fares,
        placement=Placement.DEDICATED,
    )


def arena_documents() -> tuple[dict[str, object], dict[str, object]]:
    """The arena as a seating-plan document and its sibling: 23,424 seats, 4,000 standing.

    Example:
        >>> document, extras = arena_documents()
        >>> read_plan(document, extras).plan.seat_count
        23424
    """
    zones = [_floor()]
    seats: dict[str, object] = {}
    for block in range(_BLOCK_COUNT):
        lower = _block_rows(block, f"L{101 + block}", 4_600, 18, 20, "Lower tier")
        zones.append(_block(f"Block L{101 + block}", lower))
        if block % 4 == 1:
            # The first row of some blocks is step-free, with a seat beside for company.
            label = f"L{101 + block}-A-"
            seats |= {f"{label}{n}": {"accessible": True} for n in (1, 3, 18, 20)}
            seats |= {f"{label}{n}": {"companion": True} for n in (2, 19)}
        front = _block_rows(block, f"U{201 + block}", 6_400, 9, 28, "Upper tier, front")
        back_radius = 6_400 + 9 * _ROW_PITCH
        back = _block_rows(
            block, f"U{201 + block}", back_radius, 13, 28, "Upper tier, back", first_row=9
        )
        zones.append(_block(f"Block U{201 + block}", [*front, *back]))
    document: dict[str, object] = {
        "name": "Gannet Arena",
        "size": {"width": 2 * _ARENA_MIDDLE, "height": 2 * _ARENA_MIDDLE},
        "categories": [
            {"name": "Standing", "color": "#c98a2b"},
            {"name": "Lower tier", "color": "#8e3b46"},
            {"name": "Upper tier, front", "color": "#3f6c8f"},
            {"name": "Upper tier, back", "color": "#5f8f4e"},
        ],
        "zones": zones,
    }
    extras: dict[str, object] = {
        "seats": seats,
        "areas": {
            _FRONT_UUID: _standing("front-standing", "Standing, in front of the stage", 1_200),
            _REAR_UUID: _standing("standing", "Standing", 2_800),
        },
    }
    return document, extras


def _standing(tier: str, name: str, capacity: int) -> dict[str, object]:
    return {"tier": tier, "name": name, "category": "Standing", "capacity": capacity}


def _floor() -> dict[str, object]:
    return {
        "name": "Floor",
        "zone_id": "floor",
        "position": {"x": _ARENA_MIDDLE - 3_000, "y": _ARENA_MIDDLE - 4_200},
        "rows": [],
        "areas": [
            _rectangle("7d3c1f52-0e8a-4b7e-9a55-3f6d1c2b8a00", "Stage", 0, 1_400, "#d9d4c7"),
            _rectangle(_FRONT_UUID, "Standing, in front of the stage", 1_500, 1_800, "#e3b567"),
            _rectangle(_REAR_UUID, "Standing", 3_400, 4_000, "#ecd3a4"),
        ],
    }


def _rectangle(uuid: str, text: str, y: int, height: int, color: str) -> dict[str, object]:
    return {
        "uuid": uuid,
        "shape": "rectangle",
        "color": color,
        "border_color": "#6b6558",
        "rotation": 0,
        "position": {"x": 0, "y": y},
        "rectangle": {"width": 6_000, "height": height},
        "text": {"text": text, "size": 240, "position": {"x": 3_000, "y": height // 2}},
    }


def _block(name: str, rows: list[dict[str, object]]) -> dict[str, object]:
    return {
        "name": name,
        "zone_id": name.removeprefix("Block "),
        "position": {"x": _ARENA_MIDDLE, "y": _ARENA_MIDDLE},
        "rows": rows,
    }


def _block_rows(
    block: int,
    label: str,
    radius: int,
    row_count: int,
    seats_per_row: int,
    category: str,
    first_row: int = 0,
) -> list[dict[str, object]]:
    """Rows one behind another on circles around the middle of the floor."""
    middle = math.radians(20 + _BLOCK_DEGREES * (block + 0.5))
    rows: list[dict[str, object]] = []
    for row in range(row_count):
        name = _ROW_NAMES[first_row + row]
        places = _arc(middle, radius + row * _ROW_PITCH, seats_per_row)
        rows.append(
            {
                "row_number": name,
                "row_number_position": "both",
                "seats": [
                    {
                        "seat_guid": f"{label}-{name}-{number}",
                        "seat_number": str(number),
                        "position": {"x": x, "y": y},
                        "category": category,
                    }
                    for number, (x, y) in enumerate(places, start=1)
                ],
            }
        )
    return rows


def _arc(middle: float, radius: int, seats_per_row: int) -> Iterator[tuple[int, int]]:
    """Points on a circle, one seat pitch apart. Angle 0 is up, where the stage is."""
    for number in range(seats_per_row):
        angle = middle + (number - (seats_per_row - 1) / 2) * _SEAT_PITCH / radius
        yield round(radius * math.sin(angle)), round(-radius * math.cos(angle))
