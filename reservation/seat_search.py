"""The search for seats among those that are free at one moment: the best, or the nearest."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from reservation.commands import Wish
from reservation.events import Arrangement
from reservation.orphan_seats import (
    ACCESSIBLE,
    COMPANION,
    ORDINARY,
    TALLY_SIZE_MAX,
    SeatUse,
    demand_for,
    tally_size,
)
from reservation.plan_tables import (
    PlanTables,
    SeatClass,
    SeatSet,
    as_seat_set,
    flagged,
    flags_of,
    free_seats,
    reaching,
    seats_in,
    windows,
)
from reservation.seat_groups import GroupSearch
from reservation.show import OrphanRule

_NOT_FREE: Final = SeatUse(0, may_be_orphan=False)
_OTHER_ORDINARY: Final = SeatUse(0, may_be_orphan=True)
_OTHER_SPECIAL: Final = SeatUse(0, may_be_orphan=False)


class Kind(NamedTuple):
    """So many seats out of these classes."""

    seat_count: int
    classes: tuple[int, ...]
    link: int = ORDINARY


class Offer(NamedTuple):
    """Kinds of seats that satisfy a wish together."""

    kinds: tuple[Kind, ...]

    @property
    def classes(self) -> list[int]:
        """The classes of all its seats."""
        return [index for kind in self.kinds for index in kind.classes]


def uses_for(
    classes: Sequence[SeatClass], kinds: Sequence[Kind], steps: Sequence[int]
) -> tuple[tuple[SeatUse, ...], list[int]]:
    """What each seat is good for when these kinds are wanted.

    Returns:
        The uses by code, code 0 being a seat that is not free; and the code of each class.
    """
    uses = [_NOT_FREE, _OTHER_ORDINARY, _OTHER_SPECIAL]
    code_of_class = [2 if each.is_special else 1 for each in classes]
    for kind, step in zip(kinds, steps, strict=True):
        for index in kind.classes:
            use = SeatUse(step, not classes[index].is_special, kind.link)
            if use not in uses[3:]:
                uses.append(use)
            code_of_class[index] = 3 + uses[3:].index(use)
    return tuple(uses), code_of_class


class Sight:
    """The free seats of one segment at one moment.

    Shapes:
        signs: per seat, 255 when it is free and 0 when it is not.
    """

    def __init__(self, tables: PlanTables, taken: Sequence[int], mask: int) -> None:
        assert len(taken) == tables.plan.seat_count, "taken has one entry per seat"
        self.tables: Final = tables
        self.signs: Final = free_seats(taken, mask)
        self.free: Final[SeatSet] = as_seat_set(self.signs)

    def free_of(self, classes: Iterable[int]) -> SeatSet:
        """The free seats of these classes."""
        seats = 0
        for index in classes:
            seats |= self.tables.classes[index].seats
        return seats & self.free

    def has_enough(self, offer: Offer) -> bool:
        """Whether there are seats enough of every kind, wherever they are."""
        return all(
            self.free_of(kind.classes).bit_count() >= kind.seat_count for kind in offer.kinds
        )

    def leaving_orphans(self, seat_count: int) -> SeatSet:
        """The starts of blocks of so many free seats that would leave an orphan beside them."""
        linked = self.tables.linked
        ordinary = self.free & ~self.tables.special
        before_is_free = (self.free & linked) << 1
        after_is_free = linked & (self.free >> 1)
        on_the_left = (ordinary & ~before_is_free & linked) << 1
        on_the_right = (ordinary & ~after_is_free & (linked << 1)) >> seat_count
        return on_the_left | on_the_right

    def group_search(
        self,
        kinds: Sequence[Kind],
        *,
        avoids_orphans: bool,
        seat_cost: Callable[[int], int],
        row_cost: Callable[[int], int],
    ) -> GroupSearch:
        """A search for these kinds of seats in several groups."""
        demand = demand_for(tuple(kind.seat_count for kind in kinds))
        uses, code_of_class = uses_for(self.tables.classes, kinds, demand.steps)
        return GroupSearch(
            self.tables,
            self.tables.pattern(self.signs, code_of_class),
            uses,
            demand,
            avoids_orphans=avoids_orphans,
            seat_cost=seat_cost,
            row_cost=row_cost,
        )


class _Step(NamedTuple):
    """One attempt at an offer."""

    arrangement: Arrangement
    free_view_only: bool
    avoids_orphans: bool


class OfferSearch:
    """The best seats among offers of equal standing: one per category, or one that mixes them."""

    def __init__(
        self, sight: Sight, offers: Sequence[Offer], wish: Wish, *, mixes_categories: bool
    ) -> None:
        tables = sight.tables
        self._sight: Final = sight
        self._tables: Final = tables
        self._wish: Final = wish
        self._linked: Final = tables.linked if mixes_categories else tables.linked_in_category
        self._offers: Final[dict[bool, list[Offer]]] = {False: list(offers)}
        self._offers[True] = [each for each in map(self._with_free_view, offers) if each]
        self._searches: Final[dict[tuple[bool, bool], list[GroupSearch]]] = {}

    def best(self, orphan_rule: OrphanRule) -> tuple[tuple[int, ...], Arrangement] | None:
        """The first attempt that finds seats, by the order of offering of ``seat_assignment``."""
        for step in self._steps(orphan_rule):
            if step.arrangement is Arrangement.ROW:
                seats = self._side_by_side(step)
            else:
                seats = self._apart(step)
            if seats is not None:
                return seats, step.arrangement
        return None

    def _with_free_view(self, offer: Offer) -> Offer | None:
        classes = self._tables.classes
        narrowed = Offer(
            tuple(
                kind._replace(
                    classes=tuple(k for k in kind.classes if not classes[k].is_restricted)
                )
                for kind in offer.kinds
            )
        )
        return narrowed if self._sight.has_enough(narrowed) else None

    def _steps(self, orphan_rule: OrphanRule) -> Iterator[_Step]:
        # One seat is always side by side with itself.
        arrangements = [Arrangement.ROW, Arrangement.SECTION, Arrangement.SPLIT]
        if self._wish.seat_count == 1:
            arrangements = arrangements[:1]
        views = (True, False) if self._offers[True] != self._offers[False] else (False,)
        if orphan_rule is OrphanRule.STRICT:
            for avoids_orphans in (True, False):
                for arrangement in arrangements:
                    for view in views:
                        yield _Step(arrangement, view, avoids_orphans)
            return
        for arrangement in arrangements:
            for view in views:
                if orphan_rule is OrphanRule.LENIENT:
                    yield _Step(arrangement, view, True)
                yield _Step(arrangement, view, False)

    def _side_by_side(self, step: _Step) -> tuple[int, ...] | None:
        tables, wish, count = self._tables, self._wish, self._wish.seat_count
        offers = self._offers[step.free_view_only]
        seats = self._sight.free_of(index for offer in offers for index in offer.classes)
        starts = windows(seats, self._linked, count)
        if starts and step.avoids_orphans:
            starts &= ~self._sight.leaving_orphans(count)
        if starts and wish.accessible_count:
            starts &= reaching(tables.accessible & seats, count)
        if not starts:
            return None
        if not wish.accessible_count:
            first = tables.best_window(starts, count)
            return tuple(range(first, first + count))
        rank, sums = tables.plan.rank, tables.plain_rank_sums
        first = min(
            (start for start in seats_in(starts) if self._has_special_seats(start)),
            key=lambda start: (max(rank[start : start + count]), sums[start + count] - sums[start]),
            default=-1,
        )
        return None if first < 0 else tuple(range(first, first + count))

    def _has_special_seats(self, start: int) -> bool:
        end = start + self._wish.seat_count
        accessible, companion = self._tables.accessible_sums, self._tables.companion_sums
        return (
            accessible[end] - accessible[start] == self._wish.accessible_count
            and companion[end] - companion[start] == self._wish.companion_count
        )

    def _apart(self, step: _Step) -> tuple[int, ...] | None:
        tables = self._tables
        searches = self._searches.get(step[1:])
        if searches is None:
            searches = self._searches[step[1:]] = [
                self._search(offer, step.avoids_orphans)
                for offer in self._offers[step.free_view_only]
            ]
        if step.arrangement is Arrangement.SECTION:
            best = None
            for search in searches:
                best = search.in_one_section(range(len(tables.section_rows)), best)
        else:
            found = [search.anywhere() for search in searches]
            best = min((each for each in found if each is not None), default=None)
        return None if best is None else best.seat_indexes

    def _search(self, offer: Offer, avoids_orphans: bool) -> GroupSearch:
        tables = self._tables
        rank = tables.plan.rank if self._wish.accessible_count else tables.offer_rank
        return self._sight.group_search(
            offer.kinds,
            avoids_orphans=avoids_orphans,
            seat_cost=rank.__getitem__,
            row_cost=tables.row_rank.__getitem__,
        )


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
        self._seats: Final = sight.free_of(set(self._classes))
        self._flags: Final[dict[bool, str]] = {}
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
        flags = self._flags.get(avoids_orphans)
        if flags is None:
            starts = windows(self._seats, tables.linked, count)
            if avoids_orphans:
                starts &= ~self._sight.leaving_orphans(count)
            flags = self._flags[avoids_orphans] = flags_of(starts)
        if "1" not in flags:
            return None
        nearest: tuple[int, int] | None = None
        for distance, row in sorted((self._row_distance(row), row) for row in rows):
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

    def _is_equivalent(self, start: int) -> bool:
        if len(self._kinds) == 1:
            return True
        return sorted(self._tables.class_of[start : start + self._count]) == self._classes

    def _apart(
        self, sections: Iterable[int] | None, avoids_orphans: bool
    ) -> tuple[int, ...] | None:
        search = self._searches.get(avoids_orphans)
        if search is None:
            search = self._searches[avoids_orphans] = self._sight.group_search(
                self._kinds,
                avoids_orphans=avoids_orphans,
                seat_cost=self._seat_distance,
                row_cost=self._row_distance,
            )
        found = search.anywhere() if sections is None else search.in_one_section(sections)
        return None if found is None else found.seat_indexes

    def _kind_by_kind(self, avoids_orphans: bool) -> tuple[int, ...] | None:
        """The nearest seats of each kind: for parties of too many kinds to weigh them all."""
        if avoids_orphans:
            return None
        chosen: list[int] = []
        for kind in self._kinds:
            seats = seats_in(self._sight.free_of(kind.classes))
            chosen += sorted(seats, key=lambda seat: (self._seat_distance(seat), seat))[
                : kind.seat_count
            ]
        chosen.sort()
        return tuple(chosen) if self._keeps_companions(chosen) else None

    def _keeps_companions(self, chosen: list[int]) -> bool:
        link_of = {index: kind.link for kind in self._kinds for index in kind.classes}
        links_of_group: dict[int, set[int]] = {}
        head = -1
        for before, seat in zip([-2, *chosen], chosen, strict=False):
            if seat != before + 1 or not self._tables.linked >> before & 1:
                head = seat
            links_of_group.setdefault(head, set()).add(link_of[self._tables.class_of[seat]])
        return all(
            COMPANION not in links or ACCESSIBLE in links for links in links_of_group.values()
        )

    def _row_distance(self, row: int) -> int:
        known = self._distance_of_row.get(row)
        if known is None:
            known = self._distance_of_row[row] = self._box_distance(row)
        return known

    def _box_distance(self, row: int) -> int:
        box = self._tables.row_boxes[row]
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
