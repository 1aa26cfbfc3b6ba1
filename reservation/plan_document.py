"""Reading the seating-plan JSON of pretix, the format in which people keep their halls.

A document is read as far as it makes sense. A seat that cannot be sold as it stands (no
label, a label used twice, an unknown category, no place, a place that is taken) is left out;
what does not matter for selling is noted and kept; a document without zones, categories or
places has no plan at all. Whether problems are acceptable is the caller's matter.

What the format has no member for comes from a sibling document (``plan_extras``).
``plan_export`` writes both back.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reservation.limits import SEATS_PER_PLAN_MAX
from reservation.plan_extras import Extras, Ranking, SeatOrder, read_extras
from reservation.plan_findings import POSITION_MAX, Findings, PlanProblem, shown
from reservation.plan_order import find_aisles, order_along_row, rank_by_distance
from reservation.plan_stage import find_stage
from reservation.seating_plan import (
    AdmissionTier,
    Category,
    Run,
    SeatingPlan,
    SeatRow,
    SeatTrait,
)

CATEGORIES_MAX = 1_000
"""Price classes of one plan. A house with more of them has confused them with seats."""

CANVAS_MAX = 10 * POSITION_MAX
"""Width and height of the canvas, in the plan's own unit: room for every place and a margin."""

_DOCUMENT = frozenset({"name", "size", "categories", "zones"})
_SIZE = frozenset({"width", "height"})
_CATEGORY = frozenset({"name", "color"})
_ZONE = frozenset({"name", "zone_id", "uuid", "position", "rows", "areas"})
_ROW = frozenset(
    {"row_number", "row_label", "seat_label", "uuid", "seats", "row_number_position", "position"}
)
_SEAT = frozenset(
    {"seat_guid", "seat_number", "uuid", "start_direction", "radius", "position", "category"}
)
_AREA = frozenset(
    {"color", "border_color", "rotation", "position", "uuid", "shape"}
    | {"polygon", "rectangle", "ellipse", "circle", "text"}
)
_SHAPES = ("polygon", "rectangle", "ellipse", "circle", "text")
# The schema says start, end, both or null; plans in the wild use the other words too.
_ROW_NUMBER_POSITIONS = ("start", "end", "both", "left", "right", "none")


class PlanReading(NamedTuple):
    """A plan, or None when the document has none, and everything that is wrong with it."""

    plan: SeatingPlan | None
    problems: tuple[PlanProblem, ...]


def read_plan(document: object, extras: object = None) -> PlanReading:
    """Read a seating-plan document and its sibling.

    Args:
        document: what the JSON file contains.
        extras: what the sibling file contains (see ``plan_extras``), or None.

    Returns:
        The plan as far as it can be kept, and all problems with their JSON paths. Problems of
        the sibling have paths that begin with ``extras``.
    """
    reader = _PlanReader(extras)
    plan = reader.read(document)
    return PlanReading(plan, reader.findings.problems())


class _Seat(NamedTuple):
    label: str
    category_index: int
    x: int
    y: int


class _PlanReader:
    """One pass over one document; the columns of the plan grow row by row."""

    def __init__(self, extras: object) -> None:
        self.findings = Findings()
        self._extras: Extras = read_extras(extras, self.findings)
        self._categories: list[Category] = []
        self._category_index: dict[str, int] = {}
        self._labels_met: dict[str, str] = {}
        self._places_taken: dict[tuple[int, int], str] = {}
        self._areas_met: dict[str, str] = {}
        self._tiers: list[AdmissionTier] = []
        self._labels: list[str] = []
        self._category_of = array("i")
        self._traits = bytearray()
        self._x = array("i")
        self._y = array("i")
        self._rows: list[SeatRow] = []
        self._runs: list[Run] = []

    def read(self, value: object) -> SeatingPlan | None:
        document = self.findings.members(value, "", "seating plan", _DOCUMENT)
        if document is None:
            return None
        name = self.findings.required_text(document, "name", "name") or ""
        self._read_categories(document)
        zones = self.findings.items(document, "zones", "zones")
        if zones is None or not self._categories:
            return None
        seat_count = _count_seats(zones)
        if seat_count > SEATS_PER_PLAN_MAX:
            self.findings.add(
                "zones", f"{seat_count:,} seats; a plan has at most {SEATS_PER_PLAN_MAX:,}"
            )
            return None
        for index, zone in enumerate(zones):
            self._read_zone(zone, f"zones[{index}]")
        self._report_strangers()
        if not self._labels and not self._tiers:
            self.findings.add("zones", "no seat and no general admission that could be sold")
            return None
        return SeatingPlan(
            name=name,
            categories=tuple(self._categories),
            category_of=self._category_of,
            traits=bytes(self._traits),
            x=self._x,
            y=self._y,
            rank=self._rank(zones, self._read_size(document)),
            rows=tuple(self._rows),
            runs=tuple(self._runs),
            admission_tiers=tuple(self._tiers),
            labels=tuple(self._labels),
        )

    def _read_categories(self, document: Mapping[str, object]) -> None:
        entries = self.findings.items(document, "categories", "categories")
        if entries is None:
            return
        if len(entries) > CATEGORIES_MAX:
            self.findings.add("categories", f"more than {CATEGORIES_MAX:,}")
            return
        for index, value in enumerate(entries):
            path = f"categories[{index}]"
            category = self.findings.members(value, path, "category", _CATEGORY)
            if category is None:
                continue
            name = self.findings.required_text(category, "name", f"{path}.name")
            if name is None:
                continue
            if name in self._category_index:
                self.findings.add(f"{path}.name", f"{shown(name)} is listed already")
                continue
            color = self.findings.text(category, "color", f"{path}.color") or ""
            self._category_index[name] = len(self._categories)
            self._categories.append(Category(name, color))
        if not self._categories:
            self.findings.add("categories", "none that can be used")

    def _read_size(self, document: Mapping[str, object]) -> int | None:
        """The width of the canvas, or None when the document does not tell."""
        value = document.get("size")
        if value is None:
            self.findings.add("size", "missing")
            return None
        size = self.findings.members(value, "size", "size", _SIZE)
        if size is None:
            return None
        sides = []
        for member in ("width", "height"):
            if size.get(member) is None:
                self.findings.add(f"size.{member}", "missing")
            sides.append(self.findings.count(size, member, f"size.{member}", 0, CANVAS_MAX))
        return sides[0]

    def _read_zone(self, value: object, path: str) -> None:
        findings = self.findings
        zone = findings.members(value, path, "zone", _ZONE)
        if zone is None:
            return
        section = findings.text(zone, "name", f"{path}.name")
        section = section or findings.text(zone, "zone_id", f"{path}.zone_id") or ""
        findings.text(zone, "uuid", f"{path}.uuid")
        place = findings.position(zone, path, required=True)
        if place is None:
            findings.add(path, "its rows are placed as if its position were 0, 0")
            place = (0, 0)
        drawn: list[tuple[str, list[_Seat]]] = []
        for index, row in enumerate(findings.items(zone, "rows", f"{path}.rows") or []):
            seats = self._read_row(row, f"{path}.rows[{index}]", place)
            if seats is not None and seats[1]:
                drawn.append(seats)
        self._add_rows(section, drawn)
        if "areas" in zone:
            for index, area in enumerate(findings.items(zone, "areas", f"{path}.areas") or []):
                self._read_area(area, f"{path}.areas[{index}]")

    def _read_row(
        self, value: object, path: str, zone_place: tuple[float, float]
    ) -> tuple[str, list[_Seat]] | None:
        findings = self.findings
        row = findings.members(value, path, "row", _ROW)
        if row is None:
            return None
        if row.get("row_number") is None:
            findings.add(f"{path}.row_number", "missing")
        name = findings.text(row, "row_number", f"{path}.row_number") or ""
        where = row.get("row_number_position")
        if where is not None and where not in _ROW_NUMBER_POSITIONS:
            findings.add(f"{path}.row_number_position", f"{shown(where)} is not a known place")
        for member in ("row_label", "seat_label", "uuid"):
            findings.text(row, member, f"{path}.{member}")
        place = findings.position(row, path, required=False)
        if place is None:
            findings.add(path, "its seats are placed as if its position were 0, 0")
            place = (0, 0)
        origin = (zone_place[0] + place[0], zone_place[1] + place[1])
        seats = []
        for index, entry in enumerate(findings.items(row, "seats", f"{path}.seats") or []):
            seat = self._read_seat(entry, f"{path}.seats[{index}]", origin)
            if seat is not None:
                seats.append(seat)
        return name, seats

    def _read_seat(self, value: object, path: str, origin: tuple[float, float]) -> _Seat | None:
        """A seat that can be sold, or None. All of its problems are noted either way."""
        findings = self.findings
        seat = findings.members(value, path, "seat", _SEAT)
        if seat is None:
            return None
        label = self._read_label(seat, path)
        category_index = None
        category = findings.required_text(seat, "category", f"{path}.category")
        if category is not None:
            category_index = self._category_index.get(category)
            if category_index is None:
                findings.add(f"{path}.category", f"{shown(category)} is not in categories")
        findings.required_text(seat, "seat_number", f"{path}.seat_number")
        for member in ("uuid", "start_direction"):
            findings.text(seat, member, f"{path}.{member}")
        if seat.get("radius") is not None:
            findings.number(seat["radius"], f"{path}.radius")
        place = findings.position(seat, path, required=True)
        if label is None or category_index is None or place is None:
            return None
        position_path = f"{path}.position"
        # Judged in hundredths, where adding parts up leaves no error of the last digit.
        point = (round((origin[0] + place[0]) * 100), round((origin[1] + place[1]) * 100))
        if max(map(abs, point)) > POSITION_MAX * 100:
            reason = f"with its row and zone it is not within {POSITION_MAX:,} of 0"
            findings.add(position_path, reason)
            return None
        neighbour = self._places_taken.setdefault(point, label)
        if neighbour != label:
            findings.add(position_path, f"the place of seat {shown(neighbour)}; left out")
            return None
        return _Seat(label, category_index, *point)

    def _read_label(self, seat: Mapping[str, object], path: str) -> str | None:
        path = f"{path}.seat_guid"
        before = len(self.findings)
        label = self.findings.required_text(seat, "seat_guid", path)
        if label is None or len(self.findings) > before:
            # A label that had to be cut or cleaned would no longer be the organiser's.
            return None
        first = self._labels_met.setdefault(label, path)
        if first != path:
            self.findings.add(path, f"{shown(label)} is the label of {first} already; left out")
            return None
        return label

    def _add_rows(self, section: str, drawn: Sequence[tuple[str, list[_Seat]]]) -> None:
        """Put the rows of one zone into the columns, in order along each row."""
        rows = []
        for name, seats in drawn:
            points = [(seat.x, seat.y) for seat in seats]
            order: Sequence[int] = range(len(seats))
            if self._extras.seat_order is SeatOrder.POSITION:
                order = order_along_row(points)
            rows.append((name, [seats[place] for place in order]))
        aisles = find_aisles([[(seat.x, seat.y) for seat in seats] for _, seats in rows])
        for (name, seats), row_aisles in zip(rows, aisles, strict=True):
            first = run_first = len(self._labels)
            for place, seat in enumerate(seats):
                extra = self._extras.seats.get(seat.label)
                self._labels.append(seat.label)
                self._category_of.append(seat.category_index)
                self._traits.append(extra.traits if extra else 0)
                self._x.append(seat.x)
                self._y.append(seat.y)
                is_last = place == len(seats) - 1
                ends_run = is_last or row_aisles[place]
                if extra and extra.aisle_after is not None and not is_last:
                    ends_run = extra.aisle_after
                if ends_run:
                    self._runs.append(Run(run_first, first + place + 1, len(self._rows)))
                    run_first = first + place + 1
            self._rows.append(SeatRow(section, name, first, len(self._labels)))

    def _read_area(self, value: object, path: str) -> None:
        findings = self.findings
        area = findings.members(value, path, "area", _AREA)
        if area is None:
            return
        shape = area.get("shape")
        if shape is not None and shape not in _SHAPES:
            findings.add(f"{path}.shape", f"{shown(shape)} is none of {', '.join(_SHAPES)}")
        uuid = findings.text(area, "uuid", f"{path}.uuid")
        if not uuid:
            return
        if uuid in self._areas_met:
            findings.add(f"{path}.uuid", f"{shown(uuid)} is used by {self._areas_met[uuid]}")
            return
        self._areas_met[uuid] = path
        extra = self._extras.areas.get(uuid)
        if extra is None:
            return
        extra_path = f'extras.areas["{uuid}"]'
        category_index = self._category_index.get(extra.category)
        if category_index is None:
            where = f"{extra_path}.category"
            findings.add(where, f"{shown(extra.category)} is not in categories")
            return
        code = extra.tier or uuid
        if any(tier.code == code for tier in self._tiers):
            findings.add(f"{extra_path}.tier", f"{shown(code)} is used by another area")
            return
        text = area.get("text")
        drawn_name = None
        if isinstance(text, Mapping):
            drawn_name = findings.text(text, "text", f"{path}.text.text")
        name = extra.name or drawn_name or code
        self._tiers.append(AdmissionTier(code, name, category_index, extra.capacity))

    def _report_strangers(self) -> None:
        """Entries of the sibling that name nothing of the document."""
        for guid in self._extras.seats:
            if guid not in self._labels_met:
                self.findings.add(f'extras.seats["{guid}"]', "no seat of the plan has this label")
        for uuid in self._extras.areas:
            if uuid not in self._areas_met:
                self.findings.add(f'extras.areas["{uuid}"]', "no area of the plan has this uuid")

    def _rank(self, zones: Sequence[object], canvas_width: int | None) -> array[int]:
        if self._extras.ranking is Ranking.ORDER:
            return array("i", range(len(self._labels)))
        if self._extras.ranking is Ranking.GIVEN:
            return self._given_rank()
        focal_point = self._extras.focal_point or find_stage(zones)
        if focal_point is None:
            # People look at the stage, and halls are drawn with the stage on top.
            middle = (min(self._x, default=0) + max(self._x, default=0)) / 200
            focal_point = (middle if canvas_width is None else canvas_width / 2, 0)
        point = (round(focal_point[0] * 100), round(focal_point[1] * 100))
        offered_last = [bool(traits & SeatTrait.RESTRICTED_VIEW) for traits in self._traits]
        return rank_by_distance(self._x, self._y, point, offered_last)

    def _given_rank(self) -> array[int]:
        given: list[int | None] = []
        for label in self._labels:
            extra = self._extras.seats.get(label)
            if extra is None or extra.rank is None:
                where = f'extras.seats["{label}"].rank'
                self.findings.add(where, "missing although ranking is given; the seat ranks last")
            given.append(extra.rank if extra else None)
        worst = max((rank for rank in given if rank is not None), default=0)
        return array("i", [worst if rank is None else rank for rank in given])


def _count_seats(zones: Sequence[object]) -> int:
    """How many seats are listed, without looking at them."""
    total = 0
    for zone in zones:
        rows = zone.get("rows") if isinstance(zone, Mapping) else None
        for row in rows if isinstance(rows, list) else []:
            seats = row.get("seats") if isinstance(row, Mapping) else None
            total += len(seats) if isinstance(seats, list) else 0
    return total
