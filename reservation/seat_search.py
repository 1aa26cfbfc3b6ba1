"""What is free at one moment, and the search for the best seats among it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from reservation.commands import Wish
from reservation.events import Arrangement
from reservation.free_rows import FreeRows
from reservation.orphan_seats import (
    ORDINARY,
    SeatUse,
    demand_for,
)
from reservation.plan_tables import PlanTables, SeatClass
from reservation.seat_groups import GroupSearch
from reservation.seat_sets import (
    SeatSet,
    as_seat_set,
    free_seats,
    reaching,
    seats_in,
    windows,
)
from reservation.show import OrphanRule
from reservation.wanted_seats import WantedSeats

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
        self._free_rows: Final[dict[int, FreeRows]] = {}

    def free_of(self, classes: tuple[int, ...]) -> SeatSet:
        """The free seats of these classes."""
        return self.tables.seats_of(classes) & self.free

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
        section_cost: Callable[[int], int],
    ) -> GroupSearch:
        """A search for these kinds of seats in several groups."""
        demand = demand_for(tuple(kind.seat_count for kind in kinds))
        uses, code_of_class = uses_for(self.tables.classes, kinds, demand.steps)
        free_rows = self._free_rows.get(demand.seat_count)
        if free_rows is None:
            free_rows = FreeRows(self.tables, self.signs, demand.seat_count)
            self._free_rows[demand.seat_count] = free_rows
        return GroupSearch(
            self.tables,
            WantedSeats(self.tables, self.signs, code_of_class, uses, demand),
            free_rows,
            uses,
            demand,
            avoids_orphans=avoids_orphans,
            seat_cost=seat_cost,
            row_cost=row_cost,
            section_cost=section_cost,
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
        # The last resort of those who asked for no special seat is to take as few as can be.
        takes_special = any(tables.classes[k].is_special for each in offers for k in each.classes)
        self._looks_at_views: Final = bool(wish.accessible_count) or not takes_special
        self._known_blocks: Final[dict[bool, tuple[SeatSet, SeatSet]]] = {}
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
        views = [True, False]
        if not self._looks_at_views or self._offers[True] == self._offers[False]:
            views = [False]
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
        seats, starts = self._blocks(step.free_view_only)
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

    def _blocks(self, free_view_only: bool) -> tuple[SeatSet, SeatSet]:
        """The free seats of all offers, and where blocks of them start."""
        known = self._known_blocks.get(free_view_only)
        if known is None:
            seats = 0
            for offer in self._offers[free_view_only]:
                for kind in offer.kinds:
                    seats |= self._sight.free_of(kind.classes)
            known = seats, windows(seats, self._linked, self._wish.seat_count)
            self._known_blocks[free_view_only] = known
        return known

    def _has_special_seats(self, start: int) -> bool:
        end = start + self._wish.seat_count
        accessible, companion = self._tables.accessible_sums, self._tables.companion_sums
        return (
            accessible[end] - accessible[start] == self._wish.accessible_count
            and companion[end] - companion[start] == self._wish.companion_count
        )

    def _apart(self, step: _Step) -> tuple[int, ...] | None:
        tables = self._tables
        offers = self._offers[step.free_view_only]
        searches = self._searches.get(step[1:])
        if searches is None:
            searches = self._searches[step[1:]] = [
                self._search(offer, step.avoids_orphans) for offer in offers
            ]
        if step.arrangement is Arrangement.SECTION:
            best = None
            for offer, search in zip(offers, searches, strict=True):
                best = search.in_one_section(tables.sections_of(offer.classes), best)
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
            section_cost=tables.section_rank.__getitem__,
        )
