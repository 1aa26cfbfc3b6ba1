"""Routes, segments, fares and policies: what they compute and what they refuse."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation import limits
from reservation.fares import CategoryFare, FareTable
from reservation.route import Route, Segment, Stop
from reservation.show import SalesPolicy


def stop(code: str, distance_m: int = 0) -> Stop:
    return Stop(code, f"Station {code}", 0, 0, distance_m)


LINE = Route(tuple(stop(code, 1_000 * n) for n, code in enumerate(("A", "B", "C", "B#2", "D"))))


def test_a_show_that_goes_nowhere_has_one_leg() -> None:
    route = Route()
    assert route.leg_count == 1
    assert route.whole == Segment(0, 1)
    assert route.segment(None, None) == Segment(0, 1)
    assert route.segment("A", None) is None
    assert route.segment(None, "A") is None


@pytest.mark.parametrize(
    ("from_code", "to_code", "legs"),
    [
        ("A", "B", (0, 1)),
        ("A", "D", (0, 4)),
        ("B", "B#2", (1, 3)),
        ("B#2", None, (3, 4)),
        (None, "C", (0, 2)),
        (None, None, (0, 4)),
        ("B", "A", None),
        ("C", "C", None),
        ("D", None, None),
        (None, "A", None),
        ("X", "B", None),
        ("A", "X", None),
        ("a", "B", None),
    ],
)
def test_a_segment_runs_between_two_stops_in_travelling_order(
    from_code: str | None, to_code: str | None, legs: tuple[int, int] | None
) -> None:
    assert LINE.segment(from_code, to_code) == legs


def test_masks_of_segments_are_their_legs_and_overlap_exactly_when_legs_are_shared() -> None:
    segments = [Segment(low, high) for low, high in combinations(range(9), 2)]
    for one in segments:
        legs = set(range(*one))
        assert one.mask == sum(1 << leg for leg in legs)
        assert one.leg_count == len(legs) == one.mask.bit_count()
        for other in segments:
            assert bool(one.mask & other.mask) == bool(legs & set(range(*other)))


@pytest.mark.parametrize(
    ("stops", "words"),
    [
        ([stop("A")], "stops: a route has no stop or at least two"),
        ([stop("A"), stop("A")], "code: stop A appears twice"),
        ([stop("A", 5), stop("B", 4)], "distance_m: falls between A and B"),
        ([stop(str(n), n) for n in range(257)], "stops: more than 256"),
    ],
)
def test_a_route_that_cannot_be_is_refused_with_the_field(stops: list[Stop], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Route(tuple(stops))


def test_the_longest_route_has_255_legs() -> None:
    route = Route(tuple(stop(str(n), n) for n in range(256)))
    assert route.leg_count == limits.LEGS_PER_ROUTE_MAX == 255
    assert route.whole.mask == (1 << 255) - 1


@given(
    st.integers(0, 10_000),
    st.lists(st.integers(0, 10_000), min_size=1, max_size=12),
    st.data(),
)
def test_a_fare_is_its_base_and_every_leg_that_is_ridden(
    base_minor: int, leg_minor: list[int], data: st.DataObject
) -> None:
    table = FareTable("EUR", (CategoryFare(base_minor, tuple(leg_minor)), CategoryFare(7)))
    from_leg = data.draw(st.integers(0, len(leg_minor) - 1))
    to_leg = data.draw(st.integers(from_leg + 1, len(leg_minor)))
    expected = base_minor + sum(leg_minor[from_leg:to_leg])
    assert table.amount_minor(0, Segment(from_leg, to_leg)) == expected
    assert table.amount_minor(1, Segment(from_leg, to_leg)) == 7


@given(
    st.lists(st.integers(0, 10_000), min_size=1, max_size=4),
    st.lists(st.integers(0, 10_000), max_size=5),
    st.data(),
)
def test_seats_cost_what_each_of_them_costs(
    bases: list[int], leg_minor: list[int], data: st.DataObject
) -> None:
    # One category whose legs cost something makes all of them looked up by their legs.
    fares = (*map(CategoryFare, bases), CategoryFare(7, tuple(leg_minor)))
    table = FareTable("EUR", fares)
    category_of = data.draw(st.lists(st.integers(0, len(bases)), min_size=1, max_size=9))
    seats = data.draw(st.sets(st.integers(0, len(category_of) - 1)))
    ride = Segment(0, max(1, len(leg_minor)))
    assert table.seats_minor(category_of, sorted(seats), ride) == tuple(
        table.amount_minor(category_of[seat], ride) for seat in sorted(seats)
    )


@pytest.mark.parametrize("currency", ["", "EU", "EURO", "eur", "EUr", "EU1", "E R", "123", "ЕUR"])
def test_a_currency_is_three_capital_letters(currency: str) -> None:
    with pytest.raises(ValueError, match="currency"):
        FareTable(currency, ())


def test_amounts_are_bounded() -> None:
    CategoryFare(limits.AMOUNT_MINOR_MAX)
    CategoryFare(0, (limits.AMOUNT_MINOR_MAX,))
    for base_minor, leg_minor in (
        (-1, ()),
        (0, (1, -1)),
        (limits.AMOUNT_MINOR_MAX + 1, ()),
        (1, (limits.AMOUNT_MINOR_MAX,)),
    ):
        with pytest.raises(ValueError, match="fare: an amount"):
            CategoryFare(base_minor, leg_minor)


def test_tables_that_charge_the_same_are_equal() -> None:
    one = FareTable("EUR", (CategoryFare(1, (2,)),))
    assert one == FareTable("EUR", (CategoryFare(1, (2,)),))
    assert hash(one) == hash(FareTable("EUR", (CategoryFare(1, (2,)),)))
    assert one != FareTable("CZK", (CategoryFare(1, (2,)),))
    assert one != FareTable("EUR", (CategoryFare(2, (2,)),))
    assert one != "EUR"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hold_ttl_ms", limits.HOLD_TTL_MS_MIN - 1),
        ("hold_ttl_ms", limits.HOLD_TTL_MS_MAX + 1),
        ("hold_life_ms_max", limits.HOLD_TTL_MS_DEFAULT - 1),
        ("hold_life_ms_max", limits.HOLD_LIFE_MS_MAX + 1),
        ("live_holds_per_customer_max", 0),
        ("seats_per_customer_max", 0),
    ],
)
def test_a_policy_out_of_bounds_is_refused_with_the_field(field: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        SalesPolicy(**{field: value})
