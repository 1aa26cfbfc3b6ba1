"""Which seats a customer gets: the best that are free, the nearest to some, and no orphans.

Everything here is a pure choice: it reads a seat map and changes nothing.

The words:
    free: no leg of the asked segment is taken.
    special: an accessible or a companion seat.
    orphan: a free seat that is not special and has no free neighbour in its run. A choice
        *leaves* an orphan when it takes the last free neighbour of such a seat; a seat that
        was alone before does not count.

The order of offering, first rule first:
    1. Special seats go only to those who ask for them, unless no other set of seats is left;
       then, side by side, as few of them as possible, whatever the view.
    2. Of any category wished: side by side in one category, else side by side in several, else
       apart in one category, else apart in several.
    3. The orphan rule. STRICT: no set that leaves an orphan while rules 1 and 2 allow another
       one in any arrangement. LENIENT: none while another one of the same arrangement and the
       same view is there. OFF: not looked at.
    4. Side by side in one run, then in one section, then wherever seats are left.
    5. Free views before restricted ones; for STRICT this comes after avoiding an orphan.
    6. Side by side: the lowest worst rank, then the lowest sum of ranks, then the first seat.
       Otherwise: the fewest rows, nobody alone, few groups, low ranks (see ``seat_groups``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from reservation.commands import Wish
from reservation.drawing_order import DrawingOrder, drawing_order_of
from reservation.events import Arrangement
from reservation.nearest_seats import NearestSearch
from reservation.orphan_seats import (
    ACCESSIBLE,
    COMPANION,
    TALLY_SIZE_MAX,
    add_tallies,
    demand_for,
    rules_for,
    tally_size,
)
from reservation.plan_tables import PlanTables
from reservation.seat_search import Kind, Offer, OfferSearch, Sight, uses_for
from reservation.seat_sets import free_seats
from reservation.seating_plan import SeatingPlan
from reservation.show import OrphanRule


class Assignment(NamedTuple):
    """Seats for one party.

    Shapes:
        seat_indexes: strictly increasing.
    """

    seat_indexes: tuple[int, ...]
    arrangement: Arrangement


class _Pool(NamedTuple):
    """Offers of equal standing: one per category, or a single one that mixes them."""

    offers: tuple[Offer, ...]
    is_mixed: bool


class SeatChooser:
    """Chooses seats of one plan.

    Cheap to construct: the tables behind it are shared by all choosers of the same plan
    object, and made at the first question: most holds name their seats, and a show that comes
    back must not wait for them. It holds nothing about a show; every question brings the show's
    seat map along.

    The seats of a revised plan that are gone are never chosen, and count as no neighbours.

    Shapes:
        taken: per seat, one bit per leg on which it is held, booked or blocked. A ``list`` or
            a ``bytearray`` is read fastest.
        mask: one bit per leg of the segment asked for.
    """

    __slots__ = ("_known_classes", "_known_order", "_plan")

    def __init__(self, plan: SeatingPlan) -> None:
        self._plan = plan
        self._known_order: DrawingOrder | None = None
        self._known_classes: dict[tuple[frozenset[int], bool], tuple[tuple[int, ...], ...]] = {}

    @property
    def _order(self) -> DrawingOrder:
        # Seats are chosen by their places; they come in and go out by their indexes.
        if self._known_order is None:
            self._known_order = drawing_order_of(self._plan)
        return self._known_order

    @property
    def _tables(self) -> PlanTables:
        return self._order.tables

    def best_available(
        self, taken: Sequence[int], mask: int, wish: Wish, orphan_rule: OrphanRule
    ) -> Assignment | None:
        """The best seats for this wish in the order of offering above.

        A wish without ``category_index`` gets seats side by side in one category, else side by
        side across categories, else apart in one category, else wherever there are enough:
        people who name no category care more for sitting together.

        With ``accessible_count`` or ``companion_count`` the set has exactly so many accessible
        and companion seats (a seat with both traits is an accessible one), every companion
        seat in one unbroken group with an accessible seat of the set, and no special seat
        among the others.

        ``orphan_rule`` is the rule to apply; ``wish.orphan_rule`` is the caller's to resolve.

        Returns:
            None when no set of free seats satisfies the wish.
        """
        others = wish.seat_count - wish.accessible_count - wish.companion_count
        if (
            not 1 <= wish.seat_count <= self._plan.place_count
            or min(others, wish.accessible_count, wish.companion_count) < 0
            or (wish.companion_count and not wish.accessible_count)
        ):
            return None
        sight = Sight(self._tables, self._order.by_place(taken), mask)
        apart: Assignment | None = None
        for pool in self._pools(wish):
            if apart is not None and not pool.is_mixed:
                return apart
            offers = [each for each in pool.offers if sight.has_enough(each)]
            if offers:
                search = OfferSearch(sight, offers, wish, mixes_categories=pool.is_mixed)
                found = search.best(orphan_rule)
                if found is not None and found[1] is Arrangement.ROW:
                    return self._assignment(*found)
                if found is not None and apart is None:
                    apart = self._assignment(*found)
        return apart

    def nearest(
        self,
        taken: Sequence[int],
        mask: int,
        seat_indexes: tuple[int, ...],
        orphan_rule: OrphanRule,
    ) -> Assignment | None:
        """The free set nearest to the named seats with the same categories and traits.

        As many seats of every category with the same traits as were named; named seats that
        are free may be among them. Sought in this order, each by the distance between the
        centres of the two sets: side by side in a row of the named seats, in another row of
        their sections, in any other section; then apart within their sections, within one
        other section, anywhere. The orphan rule works as in ``best_available``, LENIENT
        within each of these six. When accessible seats were named, companion seats stay in
        one group with an accessible seat.

        Returns:
            None when too few equivalent seats are free, or a named one is gone.
        """
        named = self._order.places_of(seat_indexes)
        if not named or len(named) != len(seat_indexes):
            return None
        sight = Sight(self._tables, self._order.by_place(taken), mask)
        places = NearestSearch(sight, named).best(orphan_rule)
        return None if places is None else self._assignment(places, Arrangement.NEAREST)

    def _assignment(self, places: tuple[int, ...], arrangement: Arrangement) -> Assignment:
        return Assignment(self._order.seats_at(places), arrangement)

    def orphans_of(
        self, taken: Sequence[int], mask: int, seat_indexes: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The seats that taking exactly these would leave as orphans without need.

        Precisely: a seat is returned when it is free, not special, not named, had a free
        neighbour before and has none once the named seats are taken; **and** its run offers
        another choice, which is: as many free seats of the run as were named in it, the same
        number of each category with the same traits, in at most as many groups (seats side by
        side), that leaves no orphan at all. So the last three free seats of a run may be
        broken by a party of two, who have no better way.

        Named seats that are not free are ignored. When a run's named seats are of so many
        kinds that comparing them is too costly, kinds are not told apart.
        """
        tables = self._tables
        signs = free_seats(self._order.by_place(taken), mask)
        named = set(self._order.places_of(seat_indexes))
        orphans: list[int] = []
        for row in sorted({tables.row_of(seat) for seat in named}):
            for first, end in tables.row_runs[row]:
                chosen = [seat for seat in range(first, end) if signs[seat] and seat in named]
                if not chosen:
                    continue
                left = self._left_alone(signs, first, end, named)
                if left and self._has_gentler_choice(signs, first, end, chosen):
                    orphans.extend(left)
        return self._order.seats_at(orphans)

    def _left_alone(self, signs: bytes, first: int, end: int, named: set[int]) -> list[int]:
        special = self._tables.special

        def is_free(seat: int) -> bool:
            return first <= seat < end and bool(signs[seat])

        return [
            seat
            for seat in range(first, end)
            if is_free(seat)
            and seat not in named
            and not special >> seat & 1
            and (is_free(seat - 1) or is_free(seat + 1))
            and not any(is_free(near) and near not in named for near in (seat - 1, seat + 1))
        ]

    def _has_gentler_choice(self, signs: bytes, first: int, end: int, chosen: list[int]) -> bool:
        tables = self._tables
        group_count = 1 + sum(seat != before + 1 for before, seat in pairwise(chosen))
        counts: dict[int, int] = {}
        for seat in chosen:
            counts[tables.class_of[seat]] = counts.get(tables.class_of[seat], 0) + 1
        kinds = tuple(Kind(count, (index,)) for index, count in counts.items())
        if tally_size((*counts.values(), group_count)) > TALLY_SIZE_MAX:
            kinds = (Kind(len(chosen), tuple(range(len(tables.classes)))),)
        demand = demand_for(tuple(kind.seat_count for kind in kinds), group_count)
        uses, code_of_class = uses_for(tables.classes, kinds, demand.steps)
        rules = rules_for(uses, demand, avoids_orphans=True, avoids_singles=False)
        codes = bytes(
            [code_of_class[tables.class_of[k]] if signs[k] else 0 for k in range(first, end)]
        )
        tallies = 1
        for stretch in codes.split(b"\0"):
            tallies = add_tallies(tallies, rules.options(stretch), demand.bound)
        return any(
            tallies >> demand.target + groups * demand.group_step & 1
            for groups in range(1, group_count + 1)
        )

    def _pools(self, wish: Wish) -> Iterable[_Pool]:
        """What may be offered for this wish, pool after pool."""
        classes = self._tables.classes
        categories = sorted({each.category_index for each in classes})
        if wish.category_index is not None:
            categories = [wish.category_index] if wish.category_index in categories else []
        # Asking for special seats is asking for exactly those; there is no last resort.
        for takes_special in (False,) if wish.accessible_count else (False, True):
            yield _Pool(
                tuple(self._offer(wish, {each}, takes_special) for each in categories), False
            )
            if len(categories) > 1:
                yield _Pool((self._offer(wish, set(categories), takes_special),), True)

    def _offer(self, wish: Wish, categories: set[int], takes_special: bool) -> Offer:
        others, companion, accessible = self._classes_of(frozenset(categories), takes_special)
        other_count = wish.seat_count - wish.accessible_count - wish.companion_count
        kinds = (
            Kind(other_count, others),
            Kind(wish.companion_count, companion, COMPANION),
            Kind(wish.accessible_count, accessible, ACCESSIBLE),
        )
        return Offer(tuple(kind for kind in kinds if kind.seat_count))

    def _classes_of(
        self, categories: frozenset[int], takes_special: bool
    ) -> tuple[tuple[int, ...], ...]:
        """The classes of other, companion and accessible seats of these categories."""
        known = self._known_classes.get((categories, takes_special))
        if known is None:
            within = [
                (index, each)
                for index, each in enumerate(self._tables.classes)
                if each.category_index in categories
            ]
            known = self._known_classes[categories, takes_special] = (
                tuple(index for index, each in within if takes_special or not each.is_special),
                tuple(index for index, each in within if each.is_companion),
                tuple(index for index, each in within if each.is_accessible),
            )
        return known
