"""The search for the seats nearest to others that were wanted and are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final

from reservation.orphan_seats import ACCESSIBLE, COMPANION, ORDINARY, TALLY_SIZE_MAX, tally_size
from reservation.plan_tables import SeatBox, SeatClass
from reservation.seat_groups import GroupSearch
from reservation.seat_search import Kind, Offer, Sight
from reservation.seat_sets import flagged, flags_of, windows
from reservation.show import OrphanRule


class NearestSearch:
    """The free seats nearest to named ones, of the same categories and traits.

    Distances are squared, between sums of coordinates: the centre of *n* seats times *n*, so
    that every comparison is one of integers.
    """

    def __init__(self, sight: Sight, seat_indexes: tuple[int, ...]) -> None:
        tables = sight.tables
        self._sight: Final = sight
        self._tables: Final = tables
        self._count: Final = len(seat_indexes)
        self._classes: Final = sorted(tables.class_of[seat] for seat in seat_indexes)
        self._x_sum: Final = sum(tables.plan.x[seat] for seat in seat_indexes)
        self._y_sum: Final = sum(tables.plan.y[seat] for seat in seat_indexes)
        self._rows: Final = {tables.row_of(seat) for seat in seat_indexes}
        self._sections: Final = {tables.section_of_row[row] for row in self._rows}
        self._seats: Final = sight.free & sum(
            tables.classes[index].seats for index in set(self._classes)
        )
        self._known_starts: Final[dict[bool, tuple[str, set[int]]]] = {}
        self._distance_of_row: Final[dict[int, int]] = {}
        self._searches: Final[dict[bool, GroupSearch]] = {}

        counts = {index: self._classes.count(index) for index in self._classes}
        links = (ORDINARY, ORDINARY)
        if any(tables.classes[index].is_accessible for index in counts):
            links = (COMPANION, ACCESSIBLE)
        self._kinds: Final = [
            Kind(count, (index,), self._link_of(tables.classes[index], *links))
            for index, count in counts.items()
        ]

    @staticmethod
    def _link_of(seat_class: SeatClass, companion: int, accessible: int) -> int:
        if seat_class.is_accessible:
            return accessible
        return companion if seat_class.is_companion else ORDINARY

    def best(self, orphan_rule: OrphanRule) -> tuple[int, ...] | None:
        """The seats, or None when too few are free."""
        if not self._sight.has_enough(Offer(tuple(self._kinds))):
            return None
        attempts = self._attempts()
        if orphan_rule is OrphanRule.STRICT:
            order = [(attempt, avoids) for avoids in (True, False) for attempt in attempts]
        elif orphan_rule is OrphanRule.LENIENT:
            order = [(attempt, avoids) for attempt in attempts for avoids in (True, False)]
        else:
            order = [(attempt, False) for attempt in attempts]
        for attempt, avoids_orphans in order:
            seats = attempt(avoids_orphans)
            if seats is not None:
                return seats
        return None

    def _attempts(self) -> list[Callable[[bool], tuple[int, ...] | None]]:
        tables = self._tables
        own = [row for section in self._sections for row in tables.section_rows[section]]
        own_sections = sorted(self._sections)
        all_sections = range(len(tables.section_rows))
        neighbours = [row for row in own if row not in self._rows]
        others = [
            row
            for row, section in enumerate(tables.section_of_row)
            if section not in self._sections
        ]
        side_by_side: list[Callable[[bool], tuple[int, ...] | None]] = [
            lambda avoids: self._side_by_side(self._rows, avoids),
            lambda avoids: self._side_by_side(neighbours, avoids),
            lambda avoids: self._side_by_side(others, avoids),
        ]
        if self._count == 1:
            return side_by_side
        if tally_size(tuple(kind.seat_count for kind in self._kinds)) > TALLY_SIZE_MAX:
            return [*side_by_side, self._kind_by_kind]
        return [
            *side_by_side,
            lambda avoids: self._apart(own_sections, avoids),
            lambda avoids: self._apart(all_sections, avoids),
            lambda avoids: self._apart(None, avoids),
        ]

    def _side_by_side(self, rows: Iterable[int], avoids_orphans: bool) -> tuple[int, ...] | None:
        tables, count = self._tables, self._count
        flags, rows_with_starts = self._starts(avoids_orphans)
        nearest: tuple[int, int] | None = None
        for distance, row in sorted(
            (self._row_distance(row), row) for row in rows_with_starts.intersection(rows)
        ):
            # No seat is nearer than the rectangle of its row.
            if nearest is not None and distance > nearest[0]:
                break
            place = tables.plan.rows[row]
            for start in flagged(flags, place.first, place.end):
                if not self._is_equivalent(start):
                    continue
                found = (self._block_distance(start), start)
                nearest = found if nearest is None else min(nearest, found)
        return None if nearest is None else tuple(range(nearest[1], nearest[1] + count))

    def _starts(self, avoids_orphans: bool) -> tuple[str, set[int]]:
        """Where blocks of as many free seats start: flags per seat, and their rows."""
        known = self._known_starts.get(avoids_orphans)
        if known is not None:
            return known
        tables = self._tables
        starts = windows(self._seats, tables.linked, self._count)
        if avoids_orphans:
            starts &= ~self._sight.leaving_orphans(self._count)
        flags = flags_of(starts)
        rows: set[int] = set()
        start = flags.find("1")
        while start >= 0:
            row = tables.row_of(start)
            rows.add(row)
            start = flags.find("1", tables.row_bounds[row][1])
        self._known_starts[avoids_orphans] = flags, rows
        return flags, rows

    def _is_equivalent(self, start: int) -> bool:
        if len(self._kinds) == 1:
            return True
        return sorted(self._tables.class_of[start : start + self._count]) == self._classes

    def _apart(
        self, sections: Sequence[int] | None, avoids_orphans: bool
    ) -> tuple[int, ...] | None:
        search = self._searches.get(avoids_orphans)
        if search is None:
            search = self._searches[avoids_orphans] = self._sight.group_search(
                self._kinds,
                avoids_orphans=avoids_orphans,
                seat_cost=self._seat_distance,
                row_cost=self._row_distance,
                section_cost=self._section_distance,
            )
        found = search.anywhere() if sections is None else search.in_one_section(sections)
        return None if found is None else found.seat_indexes

    def _kind_by_kind(self, avoids_orphans: bool) -> tuple[int, ...] | None:
        """The nearest seats of each kind: for parties of too many kinds to weigh them all."""
        if avoids_orphans:
            return None
        rows = range(len(self._tables.row_bounds))
        by_distance = sorted((self._row_distance(row), row) for row in rows)
        chosen: list[int] = []
        for kind in self._kinds:
            chosen += self._nearest_of(kind, by_distance)
        chosen.sort()
        return tuple(chosen) if self._keeps_companions(chosen) else None

    def _nearest_of(self, kind: Kind, rows_by_distance: list[tuple[int, int]]) -> list[int]:
        flags = flags_of(self._sight.free_of(kind.classes))
        found: list[tuple[int, int]] = []
        for distance, row in rows_by_distance:
            if len(found) == kind.seat_count and distance > found[-1][0]:
                break
            seats = flagged(flags, *self._tables.row_bounds[row])
            found = sorted([*found, *((self._seat_distance(seat), seat) for seat in seats)])
            del found[kind.seat_count :]
        return [seat for _, seat in found]

    def _keeps_companions(self, chosen: list[int]) -> bool:
        link_of = {index: kind.link for kind in self._kinds for index in kind.classes}
        links_of_group: dict[int, set[int]] = {}
        head = -1
        for before, seat in pairwise([-2, *chosen]):
            if seat != before + 1 or not self._tables.linked >> before & 1:
                head = seat
            links_of_group.setdefault(head, set()).add(link_of[self._tables.class_of[seat]])
        return all(
            COMPANION not in links or ACCESSIBLE in links for links in links_of_group.values()
        )

    def _row_distance(self, row: int) -> int:
        known = self._distance_of_row.get(row)
        if known is None:
            known = self._distance_of_row[row] = self._box_distance(self._tables.row_boxes[row])
        return known

    def _section_distance(self, section: int) -> int:
        return self._box_distance(self._tables.section_boxes[section])

    def _box_distance(self, box: SeatBox) -> int:
        count = self._count
        x_gap = max(count * box.x_min - self._x_sum, 0, self._x_sum - count * box.x_max)
        y_gap = max(count * box.y_min - self._y_sum, 0, self._y_sum - count * box.y_max)
        return x_gap * x_gap + y_gap * y_gap

    def _seat_distance(self, seat: int) -> int:
        plan = self._tables.plan
        x_gap = self._count * plan.x[seat] - self._x_sum
        y_gap = self._count * plan.y[seat] - self._y_sum
        return x_gap * x_gap + y_gap * y_gap

    def _block_distance(self, start: int) -> int:
        end = start + self._count
        x_gap = self._tables.x_sums[end] - self._tables.x_sums[start] - self._x_sum
        y_gap = self._tables.y_sums[end] - self._tables.y_sums[start] - self._y_sum
        return x_gap * x_gap + y_gap * y_gap
