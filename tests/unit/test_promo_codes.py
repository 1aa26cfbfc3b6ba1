"""Promo codes: who may use them, and reductions that add up to the last minor unit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.ids import ShowId
from reservation.organiser_ids import SeriesId
from reservation.promo_codes import (
    AmountOff,
    Discount,
    PercentageOff,
    PricedPlace,
    PromoOrder,
    PromoRefusal,
    PromoTerms,
    PromoUsage,
    code_key,
    discount_of,
    spread,
)

SHOW, OTHER_SHOW = ShowId("shw_a"), ShowId("shw_b")
SERIES, OTHER_SERIES = SeriesId("ser_a"), SeriesId("ser_b")
UNUSED = PromoUsage(0, 0)
HALF = PromoTerms("HALF", PercentageOff(5000))


def order(*prices: int, categories: str = "", currency: str = "EUR") -> PromoOrder:
    """One place a price; the letters of ``categories`` are what they are of, else ``A``."""
    names = categories or "A" * len(prices)
    places = tuple(map(PricedPlace, names, prices))
    return PromoOrder(SHOW, SERIES, currency, places)


def taken_off(terms: PromoTerms, wanted: PromoOrder) -> tuple[int, ...]:
    found = discount_of(terms, wanted, UNUSED, 0)
    assert isinstance(found, Discount), found
    assert found.total_minor == sum(found.place_minor)
    return found.place_minor


# --- amounts


@pytest.mark.parametrize(
    ("reduction", "prices", "parts"),
    [
        (PercentageOff(5000), (1000, 500), (500, 250)),
        (PercentageOff(10_000), (1000, 1), (1000, 1)),
        (PercentageOff(1), (4999,), (0,)),
        (PercentageOff(1), (5000,), (1,)),
        (PercentageOff(3333), (100, 100, 100), (34, 33, 33)),
        (PercentageOff(5000), (1, 1, 1), (1, 1, 0)),
        (PercentageOff(5000), (999, 1000), (500, 500)),
        (AmountOff(1000, "EUR"), (300, 300), (300, 300)),
        (AmountOff(100, "EUR"), (300, 100), (75, 25)),
        (AmountOff(100, "EUR"), (0, 100), (0, 100)),
        (AmountOff(100, "EUR", each_place=True), (300, 50, 0), (100, 50, 0)),
    ],
)
def test_reductions_by_hand(
    reduction: PercentageOff | AmountOff, prices: tuple[int, ...], parts: tuple[int, ...]
) -> None:
    assert taken_off(PromoTerms("CODE", reduction), order(*prices)) == parts


def test_only_places_of_the_named_categories_get_cheaper() -> None:
    terms = replace(HALF, category_names=frozenset({"B", "C"}))
    assert taken_off(terms, order(100, 200, 300, categories="ABC")) == (0, 100, 150)


PRICES = st.lists(st.integers(0, 10**12), min_size=1, max_size=50)


@given(prices=PRICES, basis_points=st.integers(1, 10_000))
def test_a_percentage_is_exact_to_half_a_minor_unit_of_the_whole(
    prices: list[int], basis_points: int
) -> None:
    terms = PromoTerms("CODE", PercentageOff(basis_points))
    found = discount_of(terms, order(*prices), UNUSED, 0)
    if not sum(prices):
        assert found is PromoRefusal.OTHER_CATEGORIES
        return
    assert isinstance(found, Discount)
    exact = Fraction(sum(prices) * basis_points, 10_000)
    assert abs(found.total_minor - exact) <= Fraction(1, 2)
    assert not (found.total_minor < exact and exact - found.total_minor == Fraction(1, 2))


@given(prices=PRICES, data=st.data())
def test_parts_add_up_stay_within_their_price_and_are_fair_to_one_unit(
    prices: list[int], data: st.DataObject
) -> None:
    total = data.draw(st.integers(0, sum(prices)))
    parts = spread(total, prices)
    assert sum(parts) == total
    assert all(0 <= part <= price for part, price in zip(parts, prices, strict=True))
    whole = sum(prices)
    for part, price in zip(parts, prices, strict=True):
        assert abs(part - Fraction(total * price, whole or 1)) < 1


@given(prices=st.lists(st.integers(0, 10**6), min_size=2, max_size=12, unique=True), data=st.data())
def test_the_order_of_places_changes_the_part_of_each_by_one_unit_at_most(
    prices: list[int], data: st.DataObject
) -> None:
    total = data.draw(st.integers(0, sum(prices)))
    shuffled = data.draw(st.permutations(prices))
    parts = dict(zip(prices, spread(total, prices), strict=True))
    again = dict(zip(shuffled, spread(total, shuffled), strict=True))
    assert all(abs(parts[price] - again[price]) <= 1 for price in prices)


@given(
    prices=PRICES,
    amount=st.integers(1, 10**12),
    each_place=st.booleans(),
    letters=st.text("AB", min_size=50, max_size=50),
    named=st.sets(st.sampled_from("ABC")),
)
def test_an_amount_takes_off_as_much_as_there_is_and_no_more(
    prices: list[int], amount: int, each_place: bool, letters: str, named: set[str]
) -> None:
    terms = PromoTerms(
        "CODE", AmountOff(amount, "EUR", each_place), category_names=frozenset(named)
    )
    letters = letters[: len(prices)]
    found = discount_of(terms, order(*prices, categories=letters), UNUSED, 0)
    meant = [
        price if not named or letter in named else 0
        for price, letter in zip(prices, letters, strict=True)
    ]
    if not sum(meant):
        assert found is PromoRefusal.OTHER_CATEGORIES
        return
    assert isinstance(found, Discount)
    expected = sum(min(price, amount) for price in meant) if each_place else min(sum(meant), amount)
    assert found.total_minor == sum(found.place_minor) == expected
    assert all(0 <= part <= price for part, price in zip(found.place_minor, meant, strict=True))


# --- who may use them


@pytest.mark.parametrize(
    ("change", "usage", "now_ms", "outcome"),
    [
        ({"is_active": False}, UNUSED, 0, PromoRefusal.NOT_ACTIVE),
        ({"valid_from_at_ms": 10}, UNUSED, 9, PromoRefusal.NOT_YET_VALID),
        ({"valid_from_at_ms": 10}, UNUSED, 10, None),
        ({"valid_until_at_ms": 10}, UNUSED, 9, None),
        ({"valid_until_at_ms": 10}, UNUSED, 10, PromoRefusal.NO_LONGER_VALID),
        ({"show_ids": {OTHER_SHOW}}, UNUSED, 0, PromoRefusal.OTHER_SHOW),
        ({"series_ids": {OTHER_SERIES}}, UNUSED, 0, PromoRefusal.OTHER_SHOW),
        ({"show_ids": {SHOW}, "series_ids": {OTHER_SERIES}}, UNUSED, 0, None),
        ({"show_ids": {OTHER_SHOW}, "series_ids": {SERIES}}, UNUSED, 0, None),
        ({"category_names": frozenset({"B"})}, UNUSED, 0, PromoRefusal.OTHER_CATEGORIES),
        ({"reduction": AmountOff(1, "USD")}, UNUSED, 0, PromoRefusal.OTHER_CURRENCY),
        ({"uses_max": 2}, PromoUsage(1, 1), 0, None),
        ({"uses_max": 2}, PromoUsage(2, 0), 0, PromoRefusal.USED_UP),
        ({"uses_per_customer_max": 1}, PromoUsage(9, 0), 0, None),
        ({"uses_per_customer_max": 1}, PromoUsage(9, 1), 0, PromoRefusal.USED_BY_CUSTOMER),
    ],
)
def test_who_may_use_a_code_and_when(
    change: dict[str, Any], usage: PromoUsage, now_ms: int, outcome: PromoRefusal | None
) -> None:
    found = discount_of(replace(HALF, **change), order(1000), usage, now_ms)
    if outcome is None:
        assert found == Discount(500, (500,))
    else:
        assert found is outcome


def test_a_code_for_a_series_is_not_for_shows_without_one() -> None:
    terms = replace(HALF, series_ids=frozenset({SERIES}))
    alone = replace(order(1000), series_id=None)
    assert discount_of(terms, alone, UNUSED, 0) is PromoRefusal.OTHER_SHOW


# --- codes and terms


@pytest.mark.parametrize(
    ("code", "key"),
    [("summer-26", "SUMMER-26"), (" A ", "A"), ("a_b", "A_B"), ("9", "9"), ("x" * 40, "X" * 40)],
)
def test_codes_are_compared_without_case_and_outer_spaces(code: str, key: str) -> None:
    assert code_key(code) == key
    assert code_key(key) == key


@pytest.mark.parametrize(
    "code", ["", " ", "-A", "A-", "A B", "ŽLUŤ", "straße", "ı", "A\n", "A\0", "x" * 41, "ﬁ"]
)
def test_what_cannot_be_typed_everywhere_is_no_code(code: str) -> None:
    with pytest.raises(ValueError, match=r"^code: "):
        code_key(code)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PercentageOff(0), "basis_points"),
        (lambda: PercentageOff(10_001), "basis_points"),
        (lambda: AmountOff(0, "EUR"), "amount_minor"),
        (lambda: AmountOff(10**12 + 1, "EUR"), "amount_minor"),
        (lambda: AmountOff(1, "eur"), "currency"),
        (lambda: replace(HALF, code="?"), "code"),
        (lambda: replace(HALF, uses_max=0), "uses_max"),
        (lambda: replace(HALF, uses_per_customer_max=2**31), "uses_per_customer_max"),
        (lambda: replace(HALF, valid_from_at_ms=5, valid_until_at_ms=5), "valid_until_at_ms"),
        (
            lambda: replace(HALF, show_ids=frozenset(ShowId(f"{n}") for n in range(1001))),
            "show_ids",
        ),
    ],
)
def test_terms_that_cannot_be_are_refused_by_their_field(make: Any, field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        make()
