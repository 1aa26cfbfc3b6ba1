"""What is promised about a choice of seats, as plainly as it can be written: for small plans."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import combinations

from reservation.commands import Wish
from reservation.events import Arrangement
from reservation.seating_plan import SeatingPlan, SeatTrait
from reservation.show import OrphanRule

Seats = tuple[int, ...]

ACCESSIBLE, COMPANION = SeatTrait.ACCESSIBLE, SeatTrait.COMPANION
RESTRICTED_VIEW = SeatTrait.RESTRICTED_VIEW
ROW, SECTION, SPLIT = Arrangement.ROW, Arrangement.SECTION, Arrangement.SPLIT
LENIENT, STRICT = OrphanRule.LENIENT, OrphanRule.STRICT


class Oracle:
    """Answers by looking at every set of seats; knows nothing of how the product chooses."""

    def __init__(self, plan: SeatingPlan, taken: Sequence[int], mask: int) -> None:
        self.plan = plan
        self.free = {seat for seat in range(plan.seat_count) if not taken[seat] & mask}
        self.run_of = {
            seat: index for index, run in enumerate(plan.runs) for seat in range(run.first, run.end)
        }
        self.row_of = {seat: run.row_index for run in plan.runs for seat in range(*run[:2])}

    def traits(self, seat: int) -> SeatTrait:
        return SeatTrait(self.plan.traits[seat])

    def is_special(self, seat: int) -> bool:
        return bool(self.traits(seat) & (ACCESSIBLE | COMPANION))

    def role(self, seat: int) -> str:
        if self.traits(seat) & ACCESSIBLE:
            return "accessible"
        return "companion" if self.traits(seat) & COMPANION else "ordinary"

    def kind(self, seat: int) -> tuple[int, int]:
        return self.plan.category_of[seat], self.plan.traits[seat]

    def section(self, seat: int) -> str:
        return self.plan.rows[self.row_of[seat]].section

    def are_neighbours(self, left: int, right: int) -> bool:
        return abs(left - right) == 1 and self.run_of.get(left) == self.run_of.get(right)

    def groups(self, seats: Seats) -> list[list[int]]:
        groups: list[list[int]] = []
        for seat in seats:
            if groups and self.are_neighbours(groups[-1][-1], seat):
                groups[-1].append(seat)
            else:
                groups.append([seat])
        return groups

    def has_lonely_companion(self, seats: Seats) -> bool:
        for group in self.groups(seats):
            roles = {self.role(seat) for seat in group}
            if "companion" in roles and "accessible" not in roles:
                return True
        return False

    def orphans(self, seats: Seats) -> Seats:
        free_after = self.free - set(seats)

        def neighbours(seat: int, among: set[int]) -> list[int]:
            return [k for k in (seat - 1, seat + 1) if k in among and self.are_neighbours(k, seat)]

        return tuple(
            seat
            for seat in sorted(free_after)
            if not self.is_special(seat)
            and neighbours(seat, self.free)
            and not neighbours(seat, free_after)
        )

    def arrangement(self, seats: Seats) -> Arrangement:
        if len(self.groups(seats)) == 1:
            return ROW
        return SECTION if len({self.section(seat) for seat in seats}) == 1 else SPLIT

    def row_span(self, seats: Seats) -> int:
        rows = [
            index
            for index, row in enumerate(self.plan.rows)
            if row.section == self.section(seats[0])
        ]
        positions = [rows.index(self.row_of[seat]) for seat in seats]
        return max(positions) - min(positions) + 1

    def pool(self, wish: Wish, rule: OrphanRule) -> list[Seats]:
        """The sets among which the best one is to be found; empty when nothing will do.

        Ordinary seats before special ones; then one category if that gives seats side by
        side, all categories if those do, and else one category again.
        """

        def is_row(sets: list[Seats]) -> bool:
            best = min(sets, key=lambda each: self.step(each, rule, wish.accessible_count > 0))
            return self.arrangement(best) is ROW

        for sets in self._levels(wish):
            single = [each for each in sets if len(self.categories(each)) == 1]
            if single and (is_row(single) or not is_row(sets)):
                return single
            if sets:
                return sets
        return []

    def _levels(self, wish: Wish) -> Iterator[list[Seats]]:
        """The sets that satisfy the wish; each list only if the ones before are empty."""
        if wish.seat_count < 1:
            return
        candidates = [
            seat
            for seat in sorted(self.free)
            if wish.category_index in (None, self.plan.category_of[seat])
        ]
        sets = list(combinations(candidates, wish.seat_count))
        if wish.accessible_count or wish.companion_count:
            wanted = Counter(accessible=wish.accessible_count, companion=wish.companion_count)
            wanted["ordinary"] = wish.seat_count - wanted.total()
            sets = [
                each
                for each in sets
                if Counter(map(self.role, each)) == wanted and not self.has_lonely_companion(each)
            ]
        else:
            yield [each for each in sets if not any(map(self.is_special, each))]
        yield sets

    def categories(self, seats: Seats) -> set[int]:
        return {self.plan.category_of[seat] for seat in seats}

    def step(self, seats: Seats, rule: OrphanRule, asks_for_special: bool) -> tuple[object, ...]:
        """How wanted an attempt is that finds these seats; the smaller the better."""
        place = [ROW, SECTION, SPLIT].index(self.arrangement(seats))
        restricted = any(self.traits(seat) & RESTRICTED_VIEW for seat in seats)
        if any(map(self.is_special, seats)) and not asks_for_special:
            restricted = False
        leaves_orphan = bool(self.orphans(seats))
        if rule is STRICT:
            return leaves_orphan, place, restricted
        return place, restricted, rule is LENIENT and leaves_orphan

    def cost(self, seats: Seats, wish: Wish) -> tuple[int, ...]:
        def offer_rank(seat: int) -> int:
            behind = max(self.plan.rank) + 1
            if wish.accessible_count:
                return self.plan.rank[seat]
            if self.is_special(seat):
                return 1_000 * behind
            return self.plan.rank[seat] + behind * bool(self.traits(seat) & RESTRICTED_VIEW)

        ranks = [offer_rank(seat) for seat in seats]
        return max(ranks), sum(ranks), seats[0]

    def place_of(self, seats: Seats, named: Seats) -> int:
        """Which of the six attempts of ``nearest`` finds these seats."""
        own_sections = {self.section(seat) for seat in named}
        sections = {self.section(seat) for seat in seats}
        if len(self.groups(seats)) == 1:
            if self.row_of[seats[0]] in {self.row_of[seat] for seat in named}:
                return 0
            return 1 if sections <= own_sections else 2
        if len(sections) > 1:
            return 5
        return 3 if sections <= own_sections else 4

    def nearest_step(self, seats: Seats, named: Seats, rule: OrphanRule) -> tuple[object, ...]:
        """How wanted these seats are instead of the named ones; the smaller the better."""
        place = self.place_of(seats, named)
        distance = self.distance(seats, named) if place < 3 else 0
        leaves_orphan = bool(self.orphans(seats))
        if rule is STRICT:
            return leaves_orphan, place, distance
        return place, rule is LENIENT and leaves_orphan, distance

    def distance(self, seats: Seats, named: Seats) -> int:
        plan = self.plan
        x_gap = sum(plan.x[seat] for seat in seats) - sum(plan.x[seat] for seat in named)
        y_gap = sum(plan.y[seat] for seat in seats) - sum(plan.y[seat] for seat in named)
        return x_gap**2 + y_gap**2

    def avoidable_orphans(self, named: Seats) -> Seats:
        left: list[int] = []
        for run in self.plan.runs:
            within = [seat for seat in range(run.first, run.end) if seat in self.free]
            chosen = tuple(seat for seat in named if seat in within)
            orphans = [seat for seat in self.orphans(chosen) if seat in within]
            if orphans and any(
                not self.orphans(other)
                for other in combinations(within, len(chosen))
                if Counter(map(self.kind, other)) == Counter(map(self.kind, chosen))
                and len(self.groups(other)) <= len(self.groups(chosen))
            ):
                left += orphans
        return tuple(sorted(left))
