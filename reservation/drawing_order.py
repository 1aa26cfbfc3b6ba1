"""Between the seats of a revised plan and their places in its drawing.

Seats are chosen by sets of neighbours, which are quick only while neighbours are next to each
other (``plan_tables``). So they are chosen among *places*, on a plain plan whose seats stand in the
order of the drawing, and what goes in and out is translated here. Everything else knows a seat by
its index.

Most of a revised plan is long stretches whose seats stand as they always did. A seat map is
translated stretch by stretch, which costs about as much as copying it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Final
from weakref import WeakValueDictionary

from reservation.plan_tables import PlanTables, tables_of
from reservation.seating_plan import SeatingPlan

_NOWHERE: Final = -1


def drawn_plan(plan: SeatingPlan) -> SeatingPlan:
    """A plan without history that looks like this one: seats in the order of the drawing.

    Returns:
        The plan itself when it has no history.
    """
    order = plan.order
    if order is None:
        return plan
    return SeatingPlan(
        name=plan.name,
        categories=plan.categories,
        category_of=_taken_from(plan.category_of, order),
        traits=bytes(map(plan.traits.__getitem__, order)),
        x=_taken_from(plan.x, order),
        y=_taken_from(plan.y, order),
        rank=_taken_from(plan.rank, order),
        rows=plan.rows,
        runs=plan.runs,
        admission_tiers=plan.admission_tiers,
        labels=tuple(map(plan.labels.__getitem__, order)) if plan.labels else (),
    )


def _taken_from(column: array[int], order: array[int]) -> array[int]:
    return array(column.typecode, map(column.__getitem__, order))


class DrawingOrder:
    """Translates between the seats of one plan and the places of its drawing.

    Shapes:
        tables: those of the drawing; they speak of places.
    """

    def __init__(self, plan: SeatingPlan) -> None:
        self.plan: Final = plan
        self.tables: Final[PlanTables] = tables_of(drawn_plan(plan))
        self._order: Final = plan.order
        self._stretches: Final = [] if plan.order is None else _stretches_of(plan.order)
        self._place_of: Final = array("i")
        if plan.order is not None:
            self._place_of.extend([_NOWHERE] * plan.seat_count)
            for place, seat_index in enumerate(plan.order):
                self._place_of[seat_index] = place

    def by_place(self, by_seat: Sequence[int]) -> Sequence[int]:
        """One entry per place of what has one entry per seat."""
        if self._order is None:
            return by_seat
        placed = by_seat[:0] if isinstance(by_seat, bytearray) else []
        for first, end in self._stretches:
            placed += by_seat[first:end]
        return placed

    def places_of(self, seat_indexes: Iterable[int]) -> tuple[int, ...]:
        """The places of these seats, increasing; those that are gone have none."""
        if self._order is None:
            return tuple(seat_indexes)
        places = map(self._place_of.__getitem__, seat_indexes)
        return tuple(sorted(place for place in places if place != _NOWHERE))

    def seats_at(self, places: Iterable[int]) -> tuple[int, ...]:
        """The seats at these places, by increasing index."""
        if self._order is None:
            return tuple(places)
        return tuple(sorted(map(self._order.__getitem__, places)))


def _stretches_of(order: array[int]) -> list[tuple[int, int]]:
    """The order as ranges ``(first, end)`` of seat indexes."""
    stretches: list[tuple[int, int]] = []
    first = end = _NOWHERE
    for seat_index in order:
        if seat_index != end:
            if end != _NOWHERE:
                stretches.append((first, end))
            first = seat_index
        end = seat_index + 1
    if end != _NOWHERE:
        stretches.append((first, end))
    return stretches


_ORDERS: WeakValueDictionary[int, DrawingOrder] = WeakValueDictionary()


def drawing_order_of(plan: SeatingPlan) -> DrawingOrder:
    """The order of this plan object, made at the first call and shared while in use."""
    known = _ORDERS.get(id(plan))
    # It keeps its plan alive, so an id found here cannot have been reused.
    if known is None:
        known = _ORDERS[id(plan)] = DrawingOrder(plan)
    return known
