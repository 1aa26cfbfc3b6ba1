"""Seating plans for tests and benchmarks: any small plan by hand, and an arena of any size."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from reservation.seating_plan import (
    AdmissionTier,
    Category,
    Run,
    SeatingPlan,
    SeatRow,
    SeatTrait,
)

SEAT_PITCH = 100
"""Between two neighbours, and between two rows."""

AISLE_WIDTH = 100

RowSpec = tuple[str, str, int, Sequence[int]]
"""Section, name, seat count, and after how many seats of the row each aisle comes."""


def build_plan(
    rows: Iterable[RowSpec],
    *,
    name: str = "plan",
    categories: Sequence[str] = ("Standard",),
    category_of: Callable[[int], int] | Mapping[int, int] | Sequence[int] = lambda seat: 0,
    traits: Mapping[int, SeatTrait] | None = None,
    rank: Callable[[int], int] | Sequence[int] | None = None,
    admission_tiers: Iterable[tuple[str, int]] = (),
) -> SeatingPlan:
    """A plan from a list of rows, front row first.

    Row *r* lies at ``y = 100 r``; its seats start at ``x = 0``, 100 apart, with 100 more for
    each aisle. Seat labels are ``section-row-number`` with numbers from 1.

    Args:
        rows: ``(section, row name, seat count, aisles)``; an aisle at 4 lies between the 4th
            and the 5th seat and ends a run. Rows of one section need not follow each other.
        categories: names of the categories.
        category_of: the category index of each seat index: a function, a complete sequence,
            or a mapping in which missing seats are of category 0.
        traits: the traits of the seats that have any.
        rank: the rank of each seat index: a function or a complete sequence; without it the
            seat index itself, so that the first seat is the best one.
        admission_tiers: ``(code, capacity)`` of each tier; all of category 0.

    Example:
        >>> plan = build_plan([("Stalls", "A", 6, (2,)), ("Stalls", "B", 3, ())])
        >>> plan.seat_count, [(run.first, run.end) for run in plan.runs]
        (9, [(0, 2), (2, 6), (6, 9)])
        >>> plan.labels_of([0, 8]), plan.x[2]
        (['Stalls-A-1', 'Stalls-B-3'], 300)
    """
    seat_rows: list[SeatRow] = []
    runs: list[Run] = []
    labels: list[str] = []
    x = array("l")
    y = array("l")
    for row_index, (section, row_name, seat_count, aisles) in enumerate(rows):
        first = len(labels)
        edges = [0, *sorted(set(aisles) - {0, seat_count}), seat_count]
        for aisle_index, (start, end) in enumerate(pairwise(edges)):
            if start == end:
                continue
            runs.append(Run(first + start, first + end, row_index))
            for number in range(start, end):
                labels.append(f"{section}-{row_name}-{number + 1}")
                x.append(number * SEAT_PITCH + aisle_index * AISLE_WIDTH)
                y.append(row_index * SEAT_PITCH)
        seat_rows.append(SeatRow(section, row_name, first, len(labels)))
    seats = range(len(labels))
    known_traits = traits or {}
    return SeatingPlan(
        name=name,
        categories=tuple(map(Category, categories)),
        category_of=array("l", [_value(category_of, seat) for seat in seats]),
        traits=bytes(int(known_traits.get(seat, 0)) for seat in seats),
        x=x,
        y=y,
        rank=array("l", seats if rank is None else [_value(rank, seat) for seat in seats]),
        rows=tuple(seat_rows),
        runs=tuple(runs),
        admission_tiers=tuple(
            AdmissionTier(code, code, 0, capacity) for code, capacity in admission_tiers
        ),
        labels=tuple(labels),
    )


def arena(seat_count: int) -> SeatingPlan:
    """An arena of exactly so many seats, with all that makes choosing seats interesting.

    Sections of 20 rows of 25 seats, ten of them side by side and as many such tiers as it
    takes; the middle of a row is broken by an aisle in every other section. Four categories
    by distance from the stage. In the last row of every fourth section two accessible seats
    with a companion seat each; the outer five seats of the outermost sections have a
    restricted view. The rank is the distance from the middle of the front row.

    Example:
        >>> plan = arena(1_203)
        >>> plan.seat_count, len(plan.rows), sorted(set(plan.category_of))
        (1203, 49, [0, 1, 2, 3])
    """
    row_seats, section_rows, sections_per_tier = 25, 20, 10
    rows: list[RowSpec] = []
    row_positions: list[tuple[int, int]] = []  # Across and away from the stage, in seats.
    traits: dict[int, SeatTrait] = {}
    first = 0
    while first < seat_count:
        section, row = divmod(len(rows), section_rows)
        tier, column = divmod(section, sections_per_tier)
        length = min(row_seats, seat_count - first)
        rows.append((f"{100 * (tier + 1) + column}", str(row + 1), length, (12,) * (section % 2)))
        row_positions.append((column * (row_seats + 3), tier * (section_rows + 4) + row))
        if column in (0, sections_per_tier - 1):
            outer = range(5) if column == 0 else range(row_seats - 5, row_seats)
            traits |= {first + k: SeatTrait.RESTRICTED_VIEW for k in outer if k < length}
        if section % 4 == 1 and row == section_rows - 1 and length == row_seats:
            for offset in (8, 18):
                traits[first + offset] = SeatTrait.ACCESSIBLE
                traits[first + offset + 1] = SeatTrait.COMPANION
        first += length
    plain = build_plan(rows)
    middle = sections_per_tier * (row_seats + 3) * SEAT_PITCH // 2
    for (across, away), row_of in zip(row_positions, plain.rows, strict=True):
        for seat in range(row_of.first, row_of.end):
            plain.x[seat] += across * SEAT_PITCH
            plain.y[seat] = away * SEAT_PITCH
    distance = [
        int(((a - middle) ** 2 + (b + 10 * SEAT_PITCH) ** 2) ** 0.5)
        for a, b in zip(plain.x, plain.y, strict=True)
    ]
    nearest = min(distance, default=0)
    depth = max(distance, default=0) + 1 - nearest
    return SeatingPlan(
        name=f"Arena {seat_count}",
        categories=tuple(map(Category, ("Gold", "Silver", "Bronze", "Value"))),
        category_of=array("l", [4 * (each - nearest) // depth for each in distance]),
        traits=bytes(int(traits.get(seat, 0)) for seat in range(seat_count)),
        x=plain.x,
        y=plain.y,
        rank=array("l", distance),
        rows=plain.rows,
        runs=plain.runs,
        labels=plain.labels,
    )


def _value(source: Callable[[int], int] | Mapping[int, int] | Sequence[int], seat: int) -> int:
    if isinstance(source, Mapping):
        return source.get(seat, 0)
    return source(seat) if callable(source) else source[seat]
