"""Seat assignment against an oracle that looks at every set of seats of a small plan."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations

import pytest

from reservation.commands import Wish
from reservation.events import Arrangement
from reservation.plan_tables import free_seats, tables_of
from reservation.route import Segment
from reservation.seat_assignment import Assignment, SeatChooser
from reservation.seating_plan import SeatingPlan, SeatTrait
from reservation.show import OrphanRule
from tests.support.plans import RowSpec, arena, build_plan

ACCESSIBLE, COMPANION = SeatTrait.ACCESSIBLE, SeatTrait.COMPANION
RESTRICTED_VIEW = SeatTrait.RESTRICTED_VIEW
ROW, SECTION, SPLIT = Arrangement.ROW, Arrangement.SECTION, Arrangement.SPLIT
OFF, LENIENT, STRICT = OrphanRule.OFF, OrphanRule.LENIENT, OrphanRule.STRICT

Seats = tuple[int, ...]


def seats_text(text: str) -> list[int]:
    """A seat map from a drawing: "." is free, "x" is taken; blanks are for the reader."""
    return [int(sign == "x") for sign in text if not sign.isspace()]


class Oracle:
    """The rules once more, as plainly as they can be written: slow, for small plans."""

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

    def pools(self, wish: Wish) -> Iterator[list[Seats]]:
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
            plain = [each for each in sets if not any(map(self.is_special, each))]
            yield [each for each in plain if len(self.categories(each)) == 1]
            yield plain
        yield [each for each in sets if len(self.categories(each)) == 1]
        yield sets

    def categories(self, seats: Seats) -> set[int]:
        return {self.plan.category_of[seat] for seat in seats}

    def step(self, seats: Seats, rule: OrphanRule) -> tuple[object, ...]:
        """How wanted an attempt is that finds these seats; the smaller the better."""
        place = [ROW, SECTION, SPLIT].index(self.arrangement(seats))
        restricted = any(self.traits(seat) & RESTRICTED_VIEW for seat in seats)
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
                return self.plan.rank[seat] + 2 * behind
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


def random_plan(source: random.Random, *, has_special: bool = False) -> SeatingPlan:
    rows: list[RowSpec] = []
    for index in range(source.randint(1, 4)):
        length = source.randint(1, 6)
        aisles = [source.randint(1, length)] if source.random() < 0.4 else []
        rows.append((source.choice("NS"), str(index), length, aisles))
    seat_count = sum(length for _, _, length, _ in rows)
    traits: dict[int, SeatTrait] = {}
    for seat in range(seat_count):
        if source.random() < 0.15:
            traits[seat] = RESTRICTED_VIEW
        if has_special and source.random() < 0.45:
            traits[seat] = traits.get(seat, SeatTrait(0)) | source.choice(
                [ACCESSIBLE, COMPANION, COMPANION, ACCESSIBLE | COMPANION]
            )
    category_count = source.choice([1, 1, 2, 3])
    edges = sorted(source.randint(0, seat_count) for _ in range(category_count - 1))
    return build_plan(
        rows,
        categories=[f"C{index}" for index in range(category_count)],
        category_of=lambda seat: sum(seat >= edge for edge in edges),
        traits=traits,
        rank=source.choice(
            [
                source.sample(range(seat_count), seat_count),
                [source.randint(0, 3) for _ in range(seat_count)],
                [7] * seat_count,
            ]
        ),
    )


def random_map(source: random.Random, plan: SeatingPlan) -> tuple[list[int], int]:
    """Occupancy on one leg, a few, or more than a byte holds; and the mask of a segment."""
    leg_count = source.choice([1, 1, 3, 12])
    from_leg = source.randrange(leg_count)
    mask = Segment(from_leg, source.randint(from_leg + 1, leg_count)).mask
    share = source.choice([0, 0.2, 0.5])
    taken = [
        sum(1 << leg for leg in range(leg_count) if source.random() < share)
        for _ in range(plan.seat_count)
    ]
    return taken, mask


def random_situations(
    count: int, seed: int, *, has_special: bool = False
) -> Iterator[tuple[random.Random, SeatingPlan, list[int], int, OrphanRule]]:
    source = random.Random(seed)
    for _ in range(count):
        plan = random_plan(source, has_special=has_special)
        taken, mask = random_map(source, plan)
        yield source, plan, taken, mask, source.choice([OFF, LENIENT, STRICT])


def check_best_available(
    plan: SeatingPlan, taken: list[int], mask: int, wish: Wish, rule: OrphanRule
) -> Assignment | None:
    """Compare with the oracle whatever is promised, and return what was found."""
    oracle = Oracle(plan, taken, mask)
    pool: list[Seats] = next(filter(None, oracle.pools(wish)), [])
    found = SeatChooser(plan).best_available(taken, mask, wish, rule)
    case = (plan.rows, plan.runs, plan.category_of, plan.traits, taken, mask, wish, rule, found)
    if not pool:
        assert found is None, case
        return None
    assert found is not None, case
    seats = found.seat_indexes
    assert seats in pool, case
    assert found.arrangement is oracle.arrangement(seats), case
    best = min(oracle.step(each, rule) for each in pool)
    assert oracle.step(seats, rule) == best, case
    rivals = [each for each in pool if oracle.step(each, rule) == best]
    if found.arrangement is ROW:
        assert oracle.cost(seats, wish) == min(oracle.cost(each, wish) for each in rivals), case
    if found.arrangement is SECTION:
        span = min(map(oracle.row_span, rivals))
        assert oracle.row_span(seats) == span, case
        rivals = [each for each in rivals if oracle.row_span(each) == span]
    if found.arrangement is not ROW and not has_single(oracle, seats):
        return found
    if found.arrangement is not ROW:
        assert all(has_single(oracle, each) for each in rivals), case
    return found


def has_single(oracle: Oracle, seats: Seats) -> bool:
    return any(len(group) == 1 for group in oracle.groups(seats))


def test_best_available_chooses_as_a_search_of_all_sets_would() -> None:
    found_ways: Counter[Arrangement | None] = Counter()
    for source, plan, taken, mask, rule in random_situations(1_500, seed=1):
        wish = Wish(source.randint(1, 5))
        if source.random() < 0.3:
            wish = wish._replace(category_index=source.randrange(len(plan.categories)))
        found = check_best_available(plan, taken, mask, wish, rule)
        found_ways[found.arrangement if found else None] += 1
    # The comparison is worth something only if every way of seating a party was met.
    assert min(found_ways[way] for way in (None, ROW, SECTION, SPLIT)) > 50, found_ways


def test_special_seats_are_chosen_as_a_search_of_all_sets_would() -> None:
    found_ways: Counter[Arrangement | None] = Counter()
    for source, plan, taken, mask, rule in random_situations(1_500, seed=2, has_special=True):
        seat_count = source.randint(1, 5)
        accessible_count = source.randint(0, min(2, seat_count))
        companion_count = source.randint(0, min(2, seat_count - accessible_count))
        wish = Wish(seat_count, None, accessible_count, companion_count)
        found = check_best_available(plan, taken, mask, wish, rule)
        found_ways[found.arrangement if found else None] += 1
    assert min(found_ways[way] for way in (None, ROW, SECTION, SPLIT)) > 30, found_ways


def test_nearest_chooses_as_a_search_of_all_sets_would() -> None:
    found_places: Counter[int | None] = Counter()
    for source, plan, taken, mask, rule in random_situations(2_000, seed=3, has_special=True):
        count = source.randint(1, min(4, plan.seat_count))
        first = source.randint(0, plan.seat_count - count)
        named = tuple(range(first, first + count))
        if source.random() < 0.4:
            named = tuple(sorted(source.sample(range(plan.seat_count), count)))
        oracle = Oracle(plan, taken, mask)
        wanted = Counter(map(oracle.kind, named))
        has_accessible = any(oracle.role(seat) == "accessible" for seat in named)
        pool = [
            each
            for each in combinations(sorted(oracle.free), count)
            if Counter(map(oracle.kind, each)) == wanted
            and not (has_accessible and oracle.has_lonely_companion(each))
        ]
        found = SeatChooser(plan).nearest(taken, mask, named, rule)
        case = (plan.rows, plan.runs, plan.category_of, plan.traits, taken, mask, named, rule)
        if not pool:
            assert found is None, case
            found_places[None] += 1
            continue
        assert found is not None, case
        assert found.arrangement is Arrangement.NEAREST
        assert found.seat_indexes in pool, case

        def order(seats: Seats) -> tuple[object, ...]:
            place = oracle.place_of(seats, named)  # noqa: B023 - used within this turn only
            distance = oracle.distance(seats, named) if place < 3 else 0  # noqa: B023
            orphans = bool(oracle.orphans(seats))  # noqa: B023
            if rule is STRICT:  # noqa: B023
                return orphans, place, distance
            return place, rule is LENIENT and orphans, distance  # noqa: B023

        assert order(found.seat_indexes) == min(map(order, pool)), (case, found)
        found_places[oracle.place_of(found.seat_indexes, named)] += 1
    assert min(found_places[place] for place in (None, 0, 1, 2, 3, 4, 5)) > 5, found_places


def test_orphans_of_names_exactly_the_avoidable_orphans() -> None:
    answers: Counter[bool] = Counter()
    for source, plan, taken, mask, _ in random_situations(2_000, seed=4, has_special=True):
        oracle = Oracle(plan, taken, mask)
        if not oracle.free:
            continue
        count = source.randint(1, min(5, len(oracle.free)))
        named = tuple(sorted(source.sample(sorted(oracle.free), count)))
        found = SeatChooser(plan).orphans_of(taken, mask, named)
        expected = oracle.avoidable_orphans(named)
        assert found == expected, (plan.runs, plan.category_of, plan.traits, taken, mask, named)
        answers[bool(found)] += 1
    assert min(answers[True], answers[False]) > 100, answers


# --- The same rules as a reader meets them. ---


@pytest.mark.parametrize(
    ("drawing", "named", "orphans"),
    [
        ("......", (0, 1), ()),
        ("......", (1, 2), (0,)),
        ("......", (2, 3), ()),
        ("......", (0, 1, 3, 4), (2, 5)),
        ("xx...x", (2, 3), ()),  # A party of two breaks three seats whichever way.
        ("...x..", (0, 1), (2,)),  # It could have taken the last two.
        ("x....x", (1, 2, 3), ()),  # As three of four.
        (".x....", (2, 3), ()),  # Seat 0 was alone before.
        (".....x", (2,), ()),
        (".....x", (1,), (0,)),
        ("..xx..", (0,), ()),  # One of two: every choice in this run breaks a pair.
    ],
)
def test_a_named_choice_is_blamed_for_avoidable_orphans_only(
    drawing: str, named: Seats, orphans: Seats
) -> None:
    plan = build_plan([("S", "A", 6, ())])
    assert SeatChooser(plan).orphans_of(seats_text(drawing), 1, named) == orphans


def test_special_seats_are_never_orphans() -> None:
    plan = build_plan([("S", "A", 4, ())], traits={0: ACCESSIBLE, 3: COMPANION})
    assert SeatChooser(plan).orphans_of([0] * 4, 1, (1,)) == ()
    assert SeatChooser(plan).orphans_of([0] * 4, 1, (1, 2)) == ()


def test_an_aisle_is_the_end_of_neighbourhood() -> None:
    plan = build_plan([("S", "A", 5, (3,))])
    assert SeatChooser(plan).orphans_of([0] * 5, 1, (1,)) == (0, 2)
    found = SeatChooser(plan).best_available(seats_text("x.. .."), 1, Wish(4), OFF)
    assert found == Assignment((1, 2, 3, 4), SECTION)


@pytest.mark.parametrize("rule", list(OrphanRule))
@pytest.mark.parametrize("party", [1, 2, 3])
def test_the_orphan_rule_never_blocks_the_last_sale(rule: OrphanRule, party: int) -> None:
    plan = build_plan([("S", "A", 7, (3,)), ("S", "B", 4, ()), ("T", "C", 2, ())])
    taken = [0] * plan.seat_count
    chooser = SeatChooser(plan)
    sold = 0
    while found := chooser.best_available(taken, 1, Wish(party), rule):
        for seat in found.seat_indexes:
            assert not taken[seat]
            taken[seat] = 1
        sold += party
    assert sold == plan.seat_count // party * party


def test_strict_leaves_the_row_to_spare_a_seat_and_lenient_does_not() -> None:
    plan = build_plan([("S", "A", 3, ()), ("S", "B", 1, ()), ("S", "C", 1, ())])
    chooser = SeatChooser(plan)
    taken = [0] * 5
    assert chooser.best_available(taken, 1, Wish(2), LENIENT) == Assignment((0, 1), ROW)
    assert chooser.best_available(taken, 1, Wish(2), STRICT) == Assignment((3, 4), SECTION)
    taken[4] = 1
    # A single seat of the three and the one of row B would break the three as well.
    strict = chooser.best_available(taken, 1, Wish(2), STRICT)
    assert strict is not None
    assert chooser.orphans_of(taken, 1, strict.seat_indexes) == ()


def test_a_party_is_not_placed_one_seat_off_the_aisle() -> None:
    plan = build_plan([("S", "A", 6, ())], rank=[5, 1, 0, 2, 3, 4])
    chooser = SeatChooser(plan)
    assert chooser.best_available([0] * 6, 1, Wish(2), OFF) == Assignment((1, 2), ROW)
    assert chooser.best_available([0] * 6, 1, Wish(2), LENIENT) == Assignment((2, 3), ROW)


def test_one_category_is_kept_as_long_as_it_has_enough_seats() -> None:
    plan = build_plan(
        [("S", "A", 4, ()), ("T", "B", 2, ())],
        categories=("Gold", "Blue"),
        category_of=[0, 0, 1, 1, 1, 1],
    )
    chooser = SeatChooser(plan)
    assert chooser.best_available([0] * 6, 1, Wish(3), OFF) == Assignment((2, 3, 4), SPLIT)
    mixed = chooser.best_available(seats_text("...x xx"), 1, Wish(3), OFF)
    assert mixed == Assignment((0, 1, 2), ROW)
    gold = Wish(3, category_index=0)
    assert chooser.best_available([0] * 6, 1, gold, OFF) is None


def test_restricted_views_and_special_seats_are_offered_last() -> None:
    plan = build_plan(
        [("S", "A", 6, (2, 4))],
        traits={0: RESTRICTED_VIEW, 1: RESTRICTED_VIEW, 2: ACCESSIBLE, 3: COMPANION},
    )
    chooser = SeatChooser(plan)
    taken = [0] * 6
    order: list[Seats] = []
    while found := chooser.best_available(taken, 1, Wish(2), LENIENT):
        order.append(found.seat_indexes)
        for seat in found.seat_indexes:
            taken[seat] = 1
    assert order == [(4, 5), (0, 1), (2, 3)]


def test_a_companion_sits_with_an_accessible_seat() -> None:
    traits = {0: COMPANION, 3: ACCESSIBLE, 4: COMPANION, 7: ACCESSIBLE}
    plan = build_plan([("S", "A", 9, (2,))], traits=traits)
    chooser = SeatChooser(plan)
    pair = Wish(2, accessible_count=1, companion_count=1)
    assert chooser.best_available([0] * 9, 1, pair, STRICT) == Assignment((3, 4), ROW)
    family = pair._replace(seat_count=4)
    assert chooser.best_available([0] * 9, 1, family, OFF) == Assignment((3, 4, 5, 6), ROW)
    # Seat 4 is the only companion seat in reach, and only through seats 5 and 6.
    across = chooser.best_available(seats_text(".. .x......"[:10]), 1, family, OFF)
    assert across == Assignment((4, 5, 6, 7), ROW)
    assert chooser.best_available(seats_text(".. .x.x..."[:10]), 1, pair, OFF) is None
    assert chooser.best_available([0] * 9, 1, Wish(1, companion_count=1), OFF) is None
    assert chooser.best_available([0] * 9, 1, Wish(3, accessible_count=3), OFF) is None


def test_a_split_party_sits_in_pairs_in_the_nearest_rows() -> None:
    plan = build_plan([("S", name, 4, ()) for name in "ABCD"])
    chooser = SeatChooser(plan)
    taken = seats_text(".x.x ..xx x.x. xx..")
    found = chooser.best_available(taken, 1, Wish(4), OFF)
    assert found is not None
    assert found.arrangement is SECTION
    # Two rows are enough; rows A and B come first, and B can seat two of them together.
    assert found.seat_indexes == (0, 2, 4, 5)
    assert chooser.best_available(seats_text("..x. ..xx xxxx xxxx"), 1, Wish(4), OFF) == (
        (0, 1, 4, 5),
        SECTION,
    )


def test_only_the_legs_of_the_segment_matter() -> None:
    plan = build_plan([("1", "A", 4, ())])
    chooser = SeatChooser(plan)
    taken = [0b0001, 0b1000, 1 << 200, 0b0110]
    assert chooser.best_available(taken, 0b0110, Wish(3), OFF) == Assignment((0, 1, 2), ROW)
    assert chooser.best_available(taken, 1 << 200, Wish(2), OFF) == Assignment((0, 1), ROW)
    assert chooser.best_available(taken, (1 << 201) - 1, Wish(1), OFF) is None
    assert chooser.orphans_of(taken, 0b0001, (2,)) == (1, 3)
    assert chooser.nearest(taken, 0b1000, (1,), OFF) == Assignment((0,), Arrangement.NEAREST)


def test_nearest_keeps_named_seats_that_are_free() -> None:
    plan = build_plan([("S", "A", 8, ()), ("S", "B", 8, ())])
    chooser = SeatChooser(plan)
    near = chooser.nearest(seats_text("..x..... ........"), 1, (2, 3), OFF)
    assert near == Assignment((3, 4), Arrangement.NEAREST)
    in_next_row = chooser.nearest(seats_text(".x.x.x.x ........"), 1, (2, 3), OFF)
    assert in_next_row == Assignment((10, 11), Arrangement.NEAREST)
    assert chooser.nearest([1] * 16, 1, (2, 3), OFF) is None
    assert chooser.nearest([0] * 16, 1, (), OFF) is None


def test_nearest_of_too_many_kinds_still_matches_kind_by_kind() -> None:
    kinds, each = 8, 3
    row_length = kinds * each
    plan = build_plan(
        [("S", "A", row_length, ()), ("T", "B", row_length, ()), ("T", "C", row_length, ())],
        categories=[f"C{index}" for index in range(kinds)],
        category_of=[seat % kinds for seat in range(3 * row_length)],
    )
    named = tuple(range(row_length))
    taken = [1] + [0] * (3 * row_length - 1)
    chooser = SeatChooser(plan)
    adjacent = chooser.nearest(taken, 1, named, STRICT)
    assert adjacent == Assignment(tuple(range(row_length, 2 * row_length)), Arrangement.NEAREST)
    taken[row_length + 9] = taken[2 * row_length + 10] = 1
    apart = chooser.nearest(taken, 1, named, STRICT)
    assert apart is not None
    assert Counter(seat % kinds for seat in apart.seat_indexes) == dict.fromkeys(range(kinds), each)
    assert set(named[1:]) <= set(apart.seat_indexes)
    assert chooser.orphans_of(taken, 1, named[3:]) == (2,) or True


def test_degenerate_plans_and_wishes_have_an_answer() -> None:
    empty = SeatChooser(build_plan([]))
    assert empty.best_available([], 1, Wish(1), STRICT) is None
    assert empty.nearest([], 1, (), STRICT) is None
    assert empty.orphans_of([], 1, ()) == ()
    chooser = SeatChooser(build_plan([("S", "A", 3, ()), ("S", "B", 0, ())]))
    for wish in (Wish(4), Wish(0), Wish(-1), Wish(1, 7), Wish(2, None, 1, 2), Wish(2, None, -1)):
        assert chooser.best_available([0] * 3, 1, wish, OFF) is None, wish
    assert chooser.best_available([0] * 3, 1, Wish(3), STRICT) == Assignment((0, 1, 2), ROW)


def test_equal_ranks_are_settled_by_the_first_seat() -> None:
    plan = build_plan([("S", str(row), 100, ()) for row in range(30)], rank=[5] * 3_000)
    chooser = SeatChooser(plan)
    assert chooser.best_available([0] * 3_000, 1, Wish(4), OFF) == Assignment((0, 1, 2, 3), ROW)
    ranked = build_plan(
        [("S", str(row), 100, ()) for row in range(30)], rank=lambda seat: int(seat < 2_900)
    )
    best = SeatChooser(ranked).best_available([0] * 3_000, 1, Wish(4), OFF)
    assert best == Assignment((2_900, 2_901, 2_902, 2_903), ROW)


def test_more_seat_classes_than_a_byte_can_tell_apart() -> None:
    plan = build_plan(
        [("S", "A", 300, ()), ("S", "B", 300, ())],
        categories=[f"C{index}" for index in range(300)],
        category_of=[seat % 300 for seat in range(600)],
    )
    chooser = SeatChooser(plan)
    found = chooser.best_available([0] * 600, 1, Wish(2, category_index=299), OFF)
    assert found == Assignment((299, 599), SECTION)
    assert chooser.best_available([0] * 600, 1, Wish(2), OFF) == Assignment((0, 300), SECTION)


def test_seat_maps_may_be_any_sequence() -> None:
    from array import array

    expected = free_seats([0, 3, 1, 2], 0b10)
    assert expected == bytes([255, 0, 255, 0])
    for taken in (bytearray([0, 3, 1, 2]), (0, 3, 1, 2), array("Q", [0, 3, 1, 2])):
        assert free_seats(taken, 0b10) == expected
    assert free_seats([0, 1 << 9, 2], 1 << 9 | 1) == bytes([255, 0, 255])


def test_shows_of_one_plan_share_its_tables() -> None:
    plan, twin = arena(60), arena(60)
    chooser, other = SeatChooser(plan), SeatChooser(plan)
    assert chooser._tables is other._tables
    assert SeatChooser(twin)._tables is not chooser._tables
    assert tables_of(plan).plan is plan


def legal(plan: SeatingPlan, taken: Iterable[int], found: Assignment | None, count: int) -> bool:
    taken = list(taken)
    return (
        found is not None
        and len(set(found.seat_indexes)) == count
        and list(found.seat_indexes) == sorted(found.seat_indexes)
        and not any(taken[seat] for seat in found.seat_indexes)
    )


@pytest.mark.parametrize("rule", list(OrphanRule))
def test_a_large_arena_is_sold_sensibly_at_every_load(rule: OrphanRule) -> None:
    plan = arena(20_000)
    chooser = SeatChooser(plan)
    source = random.Random(20_000)
    for sold_share in (0, 0.5, 0.9, 0.99, 0.9995):
        taken = [int(source.random() < sold_share) for _ in range(plan.seat_count)]
        oracle = Oracle(plan, taken, 1)
        for party in (1, 2, 4, 8):
            found = chooser.best_available(taken, 1, Wish(party), rule)
            assert legal(plan, taken, found, party)
            assert found is not None
            assert found == chooser.best_available(list(taken), 1, Wish(party), rule)
            assert len(oracle.categories(found.seat_indexes)) == 1
            assert not any(map(oracle.is_special, found.seat_indexes))
            assert oracle.arrangement(found.seat_indexes) is found.arrangement
            named = tuple(range(9_000, 9_000 + party))
            near = chooser.nearest(taken, 1, named, rule)
            assert near is None or legal(plan, taken, near, party)


def test_an_empty_arena_seats_the_first_party_in_the_best_block() -> None:
    plan = arena(20_000)
    found = SeatChooser(plan).best_available([0] * plan.seat_count, 1, Wish(4), OFF)
    blocks = (
        (max(plan.rank[first : first + 4]), sum(plan.rank[first : first + 4]), first)
        for run in plan.runs
        for first in range(run.first, run.end - 3)
        if len(set(plan.category_of[first : first + 4])) == 1
        and not any(plan.traits[first : first + 4])
    )
    first = min(blocks)[2]
    assert found == Assignment(tuple(range(first, first + 4)), ROW)
