"""Where seats stand tells which are neighbours: order along a row, aisles, ranks, coaches.

A drawn row is a set of points. The list order of a plan is often not the order in space: rows
run right to left, odd numbers stand left of the middle and even ones right, arcs bend by more
than half a circle. So a row is ordered along the shortest of a few plausible paths through
its points, always told from its left end, and an aisle is a step along that path that is much
longer than the row's usual step.

Units:
    x, y: hundredths of the plan's own unit, as in ``SeatingPlan``.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import pairwise

from reservation.limits import ADMISSION_CAPACITY_MAX, SEATS_PER_PLAN_MAX
from reservation.plan_findings import POSITION_MAX
from reservation.seating_plan import AdmissionTier, Run, SeatingPlan, SeatRow

AISLE_RATIO = 1.6
"""A step this many times the row's usual step is an aisle. Seats drawn a little wider for an
armrest or a curve stay below it; the narrowest aisle drawn in practice is one seat wide (2.0)."""

_SHORTER = 1 - 1e-9

Point = tuple[int, int]


def order_along_row(points: Sequence[Point]) -> list[int]:
    """The positions in ``points`` in the order in which a person walks along the row.

    The walk starts at the left end (the upper one, when both ends are equally far left).
    Ordering an ordered row changes nothing.

    Example:
        >>> order_along_row([(30, 0), (10, 0), (20, 0)])
        [1, 2, 0]
    """
    listed = list(range(len(points)))
    best = listed
    best_length = _path_length(points, listed)
    if len(points) > 2 and best_length > math.dist(points[0], points[-1]) * (1 + 1e-9):
        for order in (_along_axis(points), _around_circle(points)):
            length = _path_length(points, order)
            if length < best_length * _SHORTER:
                best, best_length = order, length
    if len(points) > 1 and points[best[-1]] < points[best[0]]:
        best = best[::-1]
    return best


def _path_length(points: Sequence[Point], order: Sequence[int]) -> float:
    return sum(math.dist(points[a], points[b]) for a, b in pairwise(order))


def _along_axis(points: Sequence[Point]) -> list[int]:
    """Order along the line on which the points spread most."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread_x = sum((x - mean_x) ** 2 for x, _ in points)
    spread_y = sum((y - mean_y) ** 2 for _, y in points)
    together = sum((x - mean_x) * (y - mean_y) for x, y in points)
    angle = math.atan2(2 * together, spread_x - spread_y) / 2
    along_x, along_y = math.cos(angle), math.sin(angle)
    return sorted(range(len(points)), key=lambda i: points[i][0] * along_x + points[i][1] * along_y)


def _around_circle(points: Sequence[Point]) -> list[int]:
    """Order around the circle that fits the points best, cut open at its widest gap.

    Source: the algebraic circle fit of I. Kåsa (1976), in coordinates centred on the mean.
    """
    count = len(points)
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    moved = [(x - mean_x, y - mean_y) for x, y in points]
    suu = sum(u * u for u, _ in moved)
    svv = sum(v * v for _, v in moved)
    suv = sum(u * v for u, v in moved)
    right_u = sum(u * (u * u + v * v) for u, v in moved) / 2
    right_v = sum(v * (u * u + v * v) for u, v in moved) / 2
    determinant = suu * svv - suv * suv
    if abs(determinant) <= 1e-12 * suu * svv or determinant == 0:
        return list(range(count))  # A straight line has no circle; the caller keeps its order.
    centre_u = (right_u * svv - right_v * suv) / determinant
    centre_v = (suu * right_v - suv * right_u) / determinant
    angle = [math.atan2(v - centre_v, u - centre_u) for u, v in moved]
    order = sorted(range(count), key=angle.__getitem__)
    widest, cut = 2 * math.pi + angle[order[0]] - angle[order[-1]], 0
    for place in range(1, count):
        gap = angle[order[place]] - angle[order[place - 1]]
        if gap > widest:
            widest, cut = gap, place
    return order[cut:] + order[:cut]


def find_aisles(rows: Sequence[Sequence[Point]]) -> list[list[bool]]:
    """For each row of a zone, whether an aisle follows each seat but the last.

    The usual step of a row is its median step, or its smallest when it has at most three
    (a vehicle with 2 + 2 or 1 + 2 + 1 seats has as many aisle steps as others). A row of two
    seats has no usual step of its own and is compared with the other rows of its zone.

    Shapes:
        rows: the points of each row, ordered along the row.

    Example:
        >>> find_aisles([[(0, 0), (40, 0), (120, 0), (160, 0)]])
        [[False, True, False]]
    """
    steps = [[math.dist(a, b) for a, b in pairwise(row)] for row in rows]
    usual = [_usual_step(row_steps) for row_steps in steps]
    known = sorted(u for u, row_steps in zip(usual, steps, strict=True) if len(row_steps) > 1)
    if not known:
        known = sorted(row_steps[0] for row_steps in steps if row_steps)
    zone_usual = known[(len(known) - 1) // 2] if known else 0.0
    return [
        [step > AISLE_RATIO * (u if len(row_steps) > 1 else zone_usual) for step in row_steps]
        for u, row_steps in zip(usual, steps, strict=True)
    ]


def _usual_step(row_steps: list[float]) -> float:
    if not row_steps:
        return 0.0
    ordered = sorted(row_steps)
    return ordered[0] if len(ordered) <= 3 else ordered[(len(ordered) - 1) // 2]


def rank_by_distance(
    x: Sequence[int], y: Sequence[int], focal_point: Point, offered_last: Sequence[bool]
) -> array[int]:
    """Ranks by distance to the point people look at; equally far seats share a rank.

    Shapes:
        offered_last: one entry per seat; these seats rank behind all others.
    """
    focal_x, focal_y = focal_point
    keys = [
        (last, (seat_x - focal_x) ** 2 + (seat_y - focal_y) ** 2)
        for seat_x, seat_y, last in zip(x, y, offered_last, strict=True)
    ]
    rank_of = {key: rank for rank, key in enumerate(sorted(set(keys)))}
    return array("i", [rank_of[key] for key in keys])


def repeat_plan(plan: SeatingPlan, coaches: int) -> SeatingPlan:
    """A train of ``coaches`` coaches that all look like ``plan``.

    Labels get the prefix ``C1-``, ``C2-`` and so on, sections are called ``Coach 1``. The
    coaches stand behind one another along the plan's longer side, and the first is offered
    first. Unnumbered places are counted for the whole train. One coach is the plan itself.

    Raises:
        ValueError: no coach at all, more seats or places than one show may have, or a drawing
            that leaves the canvas a plan may have.
    """
    if coaches < 1:
        raise ValueError(f"coaches: {coaches} is below 1")
    if plan.seat_count * coaches > SEATS_PER_PLAN_MAX:
        raise ValueError(
            f"coaches: {coaches} of {plan.seat_count} seats are more than {SEATS_PER_PLAN_MAX:,}"
        )
    if any(tier.capacity * coaches > ADMISSION_CAPACITY_MAX for tier in plan.admission_tiers):
        raise ValueError(f"coaches: a tier has more than {ADMISSION_CAPACITY_MAX:,} places")
    if coaches == 1:
        return plan
    assert plan.order is None, "a coach is repeated before anything of it is sold"
    step_x, step_y = _coach_step(plan)
    farthest = max((abs(value) for value in (*plan.x, *plan.y)), default=0)
    if farthest + (coaches - 1) * max(step_x, step_y) > POSITION_MAX * 100:
        raise ValueError(f"coaches: {coaches} are drawn farther than {POSITION_MAX:,} from 0")
    rank_count = max(plan.rank, default=-1) + 1
    sections = {row.section for row in plan.rows}
    rows: list[SeatRow] = []
    runs: list[Run] = []
    x, y, rank = array("i"), array("i"), array("i")
    for coach in range(coaches):
        first = coach * plan.seat_count
        for row in plan.rows:
            section = f"Coach {coach + 1}"
            if len(sections) > 1 and row.section:
                section = f"{section}, {row.section}"
            rows.append(SeatRow(section, row.name, row.first + first, row.end + first))
        for run in plan.runs:
            row_index = run.row_index + coach * len(plan.rows)
            runs.append(Run(run.first + first, run.end + first, row_index))
        x.extend(value + coach * step_x for value in plan.x)
        y.extend(value + coach * step_y for value in plan.y)
        rank.extend(value + coach * rank_count for value in plan.rank)
    return SeatingPlan(
        name=f"{plan.name}, {coaches} coaches",
        categories=plan.categories,
        category_of=plan.category_of * coaches,
        traits=plan.traits * coaches,
        x=x,
        y=y,
        rank=rank,
        rows=tuple(rows),
        runs=tuple(runs),
        admission_tiers=tuple(
            AdmissionTier(tier.code, tier.name, tier.category_index, tier.capacity * coaches)
            for tier in plan.admission_tiers
        ),
        labels=tuple(f"C{coach + 1}-{label}" for coach in range(coaches) for label in plan.labels),
    )


def _coach_step(plan: SeatingPlan) -> Point:
    """How far one coach is drawn from the next: its length and a gap one can see."""
    if not plan.seat_count:
        return (0, 0)
    width = max(plan.x) - min(plan.x)
    length = max(plan.y) - min(plan.y)
    gap = 100_00
    return (width + gap, 0) if width > length else (0, length + gap)
