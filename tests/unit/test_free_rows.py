"""What is counted of a whole plan before any section of it is looked at."""

from __future__ import annotations

import random

import pytest

from reservation.free_rows import FreeRows
from reservation.plan_tables import PlanTables
from reservation.seat_sets import as_seat_set, free_seats
from tests.support.plans import RowSpec, arena, build_plan


def random_tables(source: random.Random, *, row_seats_max: int) -> PlanTables:
    rows: list[RowSpec] = [
        (source.choice("NSW"), str(row), source.choice([0, 1, 2, 7, row_seats_max]), ())
        for row in range(source.randint(1, 12))
    ]
    return PlanTables(build_plan([*rows, ("N", "last", source.randint(0, 3), ())]))


def random_signs(source: random.Random, tables: PlanTables) -> bytes:
    share = source.choice([0, 0.1, 0.5, 0.9, 1])
    taken = [int(source.random() < share) for _ in range(tables.plan.seat_count)]
    return free_seats(taken, 1)


@pytest.mark.parametrize("row_seats_max", [1, 9, 64, 255, 256, 300])
def test_the_free_seats_of_every_row_are_counted_as_one_by_one(row_seats_max: int) -> None:
    source = random.Random(row_seats_max)
    for _ in range(30):
        tables = random_tables(source, row_seats_max=row_seats_max)
        signs = random_signs(source, tables)
        counted = [
            sum(map(bool, signs[slice(*tables.row_bounds[row])]))
            for rows in tables.section_rows
            for row in rows
        ]
        assert list(tables.free_per_row(signs)) == counted


def closest_rows(tables: PlanTables, signs: bytes, section: int, seat_count: int) -> int | None:
    """The fewest rows, one behind the other, that have so many free seats, by trying all."""
    free = [
        sum(map(bool, signs[slice(*tables.row_bounds[row])]))
        for row in tables.section_rows[section]
    ]
    spans = [
        end - start
        for start in range(len(free))
        for end in range(start + 1, len(free) + 1)
        if sum(free[start:end]) >= seat_count
    ]
    return min(spans, default=None)


def test_the_least_span_is_the_one_that_trying_all_rows_finds_and_no_bound_is_above_it() -> None:
    source = random.Random(32)
    found = set()
    for _ in range(300):
        tables = random_tables(source, row_seats_max=9)
        signs = random_signs(source, tables)
        seat_count = source.choice([1, 2, 4, 8, 20])
        rows = FreeRows(tables, signs, seat_count)
        for section in range(len(tables.section_rows)):
            least = closest_rows(tables, signs, section, seat_count)
            found.add(least)
            assert rows.least_span(section) == least
            bound = rows.bounds[section]
            if least is not None:
                assert bound is not None
                assert bound <= least
            assert (bound == 1) == (least == 1)
            if least != 1:
                assert rows.may_be_in_two(section) == (least == 2)
            assert bool(rows.rows_in(section)) == (least == 1)
    assert {None, 1, 2, 3} <= found


@pytest.mark.parametrize("seat_count", [*range(1, 18), 1_203])
def test_a_seat_set_has_a_bit_for_each_seat_that_is_free(seat_count: int) -> None:
    source = random.Random(seat_count)
    for _ in range(20):
        signs = bytes(source.choice([0, 0, 1, 255]) for _ in range(seat_count))
        assert as_seat_set(signs) == sum(1 << seat for seat in range(seat_count) if signs[seat])


def test_part_of_a_pattern_is_that_part_of_the_whole() -> None:
    tables = PlanTables(arena(1_203))
    signs = random_signs(random.Random(3), tables)
    codes = list(range(1, len(tables.classes) + 1))
    whole = tables.pattern(signs, codes)
    assert len(whole) == 1_203
    for first, end in [(0, 1), (7, 300), (1_000, 1_203), (5, 5)]:
        assert tables.pattern(signs, codes, first, end) == whole[first:end]
