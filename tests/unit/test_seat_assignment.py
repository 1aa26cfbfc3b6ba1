"""Seat assignment against an oracle that looks at every set of seats of a small plan."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations

import pytest

from reservation.commands import Wish
from reservation.events import Arrangement
from reservation.plan_tables import tables_of
from reservation.route import Segment
from reservation.seat_assignment import Assignment, SeatChooser
from reservation.seat_sets import free_seats
from reservation.seating_plan import SeatingPlan, SeatTrait
from reservation.show import OrphanRule
from tests.support.plans import RowSpec, arena, build_plan
from tests.support.seat_oracle import Oracle, Seats

ACCESSIBLE, COMPANION = SeatTrait.ACCESSIBLE, SeatTrait.COMPANION
RESTRICTED_VIEW = SeatTrait.RESTRICTED_VIEW
ROW, SECTION, SPLIT = Arrangement.ROW, Arrangement.SECTION, Arrangement.SPLIT
OFF, LENIENT, STRICT = OrphanRule.OFF, OrphanRule.LENIENT, OrphanRule.STRICT


def seats_text(text: str) -> list[int]:
    """A seat map from a drawing: "." is free, "x" is taken; blanks are for the reader."""
    return [int(sign == "x") for sign in text if not sign.isspace()]


def random_plan(source: random.Random, *, has_special: bool = False) -> SeatingPlan:
    rows: list[RowSpec] = []
    for index in range(source.randint(1, 4)):
        length = source.choice([1, 2, 3, 3, 4, 6])
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
    pool = oracle.pool(wish, rule)
    found = SeatChooser(plan).best_available(taken, mask, wish, rule)
    case = (plan.rows, plan.runs, plan.category_of, plan.traits, taken, mask, wish, rule, found)
    if not pool:
        assert found is None, case
        return None
    assert found is not None, case
    seats = found.seat_indexes
    assert seats in pool, case
    assert found.arrangement is oracle.arrangement(seats), case
    asks_for_special = wish.accessible_count > 0
    steps = {each: oracle.step(each, rule, asks_for_special) for each in pool}
    best = min(steps.values())
    assert steps[seats] == best, case
    rivals = [each for each in pool if steps[each] == best]
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
    for source, plan, taken, mask, rule in random_situations(600, seed=1):
        wish = Wish(source.choice([1, 2, 2, 3, 3, 4, 4, 5]))
        if source.random() < 0.3:
            wish = wish._replace(category_index=source.randrange(len(plan.categories)))
        found = check_best_available(plan, taken, mask, wish, rule)
        found_ways[found.arrangement if found else None] += 1
    # The comparison is worth something only if every way of seating a party was met.
    assert min(found_ways[way] for way in (None, ROW, SECTION, SPLIT)) > 20, found_ways


def test_special_seats_are_chosen_as_a_search_of_all_sets_would() -> None:
    found_ways: Counter[Arrangement | None] = Counter()
    for source, plan, taken, mask, rule in random_situations(600, seed=2, has_special=True):
        seat_count = source.randint(1, 5)
        accessible_count = source.randint(0, min(2, seat_count))
        companion_count = source.randint(0, min(2, seat_count - accessible_count))
        wish = Wish(seat_count, None, accessible_count, companion_count)
        found = check_best_available(plan, taken, mask, wish, rule)
        found_ways[found.arrangement if found else None] += 1
    assert min(found_ways[way] for way in (None, ROW, SECTION, SPLIT)) > 10, found_ways


def test_nearest_chooses_as_a_search_of_all_sets_would() -> None:
    found_places: Counter[int | None] = Counter()
    for source, plan, taken, mask, rule in random_situations(1_500, seed=3, has_special=True):
        count = source.randint(1, min(4, plan.seat_count))
        first = source.randint(0, plan.seat_count - count)
        named = tuple(range(first, first + count))
        if source.random() < 0.4:
            named = tuple(sorted(source.sample(range(plan.seat_count), count)))
        if source.random() < 0.2:
            # Nothing is left near the named seats, and elsewhere no two seats side by side.
            near = {Oracle(plan, taken, mask).section(seat) for seat in named}
            for run in plan.runs:
                step = 1 if plan.rows[run.row_index].section in near else 2
                for seat in range(run.first, run.end):
                    taken[seat] = mask if (seat - run.first + 1) % step == 0 else 0
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
        best = min(oracle.nearest_step(each, named, rule) for each in pool)
        assert oracle.nearest_step(found.seat_indexes, named, rule) == best, (case, found)
        found_places[oracle.place_of(found.seat_indexes, named)] += 1
    assert min(found_places[place] for place in range(6)) > 3, found_places


def test_orphans_of_names_exactly_the_avoidable_orphans() -> None:
    answers: Counter[bool] = Counter()
    for source, plan, taken, mask, _ in random_situations(1_500, seed=4, has_special=True):
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
    assert chooser.best_available(taken, 1, Wish(2), STRICT) == Assignment((0, 3), SECTION)
    taken[3] = taken[4] = 1
    # Now every choice of two breaks the three, and the sale matters more.
    assert chooser.best_available(taken, 1, Wish(2), STRICT) == Assignment((0, 1), ROW)


def test_a_party_is_not_placed_one_seat_off_the_aisle() -> None:
    plan = build_plan([("S", "A", 6, ())], rank=[5, 1, 0, 2, 3, 4])
    chooser = SeatChooser(plan)
    assert chooser.best_available([0] * 6, 1, Wish(2), OFF) == Assignment((1, 2), ROW)
    assert chooser.best_available([0] * 6, 1, Wish(2), LENIENT) == Assignment((2, 3), ROW)


def test_categories_are_mixed_to_sit_side_by_side_and_not_otherwise() -> None:
    plan = build_plan(
        [("S", "A", 4, ()), ("T", "B", 2, ())],
        categories=("Gold", "Blue"),
        category_of=[0, 0, 1, 1, 1, 1],
    )
    chooser = SeatChooser(plan)
    assert chooser.best_available([0] * 6, 1, Wish(3), OFF) == Assignment((0, 1, 2), ROW)
    assert chooser.best_available([0] * 6, 1, Wish(2), OFF) == Assignment((0, 1), ROW)
    apart = chooser.best_available(seats_text(".x.. .x"), 1, Wish(3), OFF)
    assert apart == Assignment((2, 3, 4), SPLIT)
    mixed = chooser.best_available(seats_text(".x.. xx"), 1, Wish(3), OFF)
    assert mixed == Assignment((0, 2, 3), SECTION)
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
    assert chooser.best_available([0] * 9, 1, family, OFF) == Assignment((2, 3, 4, 5), ROW)
    # Seat 4 is the only companion seat in reach, and only through seats 5 and 6.
    across = chooser.best_available(seats_text(".. .x....."), 1, family, OFF)
    assert across == Assignment((4, 5, 6, 7), ROW)
    assert chooser.best_available(seats_text(".. .x.x..."), 1, pair, OFF) is None
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


def test_nearest_is_by_distance_and_not_by_row() -> None:
    plan = build_plan([("S", name, 12, ()) for name in "ABC"])
    taken = seats_text("xxxxxxxxxxxx ..xxxxxxxxxx xxxxxxxx..xx")
    found = SeatChooser(plan).nearest(taken, 1, (8, 9), OFF)
    assert found == Assignment((32, 33), Arrangement.NEAREST)


def test_the_last_resort_takes_as_few_special_seats_as_possible() -> None:
    plan = build_plan(
        [("S", "A", 2, ()), ("S", "B", 2, ())],
        traits={0: ACCESSIBLE, 1: COMPANION, 2: RESTRICTED_VIEW, 3: ACCESSIBLE},
    )
    found = SeatChooser(plan).best_available([0] * 4, 1, Wish(2), LENIENT)
    assert found == Assignment((2, 3), ROW)


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
    oracle = Oracle(plan, taken, 1)
    for kind in range(kinds):
        own = [seat for seat in apart.seat_indexes if seat % kinds == kind]
        others = [seat for seat in oracle.free - set(own) if seat % kinds == kind]
        furthest = max(distance_to_centre(plan, named, seat) for seat in own)
        assert furthest <= min(distance_to_centre(plan, named, seat) for seat in others)


def distance_to_centre(plan: SeatingPlan, named: Seats, seat: int) -> float:
    x = sum(plan.x[each] for each in named) / len(named)
    y = sum(plan.y[each] for each in named) / len(named)
    return (plan.x[seat] - x) ** 2 + (plan.y[seat] - y) ** 2


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
    assert chooser.best_available([0] * 600, 1, Wish(2), OFF) == Assignment((0, 1), ROW)


def test_seat_maps_may_be_any_sequence() -> None:
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
    for sold_share in (0, 0.5, 0.9, 0.99, 0.998):
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
