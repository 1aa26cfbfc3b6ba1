"""Prices: lines that add up, and places that give back exactly what was paid for them."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.ids import ShowId
from reservation.limits import AMOUNT_MINOR_MAX
from reservation.price import (
    FeeBasis,
    FeeTerm,
    LineKind,
    Price,
    PriceLine,
    PriceTerms,
    TaxBase,
    TaxTerm,
    half_up,
    price_of,
    shares_of,
)
from reservation.promo_codes import (
    Discount,
    PercentageOff,
    PricedPlace,
    PromoOrder,
    PromoTerms,
    PromoUsage,
    discount_of,
)

ORDER_FEE = FeeTerm("Booking", FeeBasis.ORDER, 100)
PLACE_FEE = FeeTerm("Per ticket", FeeBasis.PLACE, 50)
SERVICE = FeeTerm("Service", FeeBasis.PERCENTAGE, 250)
VAT = TaxTerm("VAT", TaxBase.PLACES, 700, is_included=True)


def places(*prices: int) -> tuple[PricedPlace, ...]:
    return tuple(PricedPlace("Stalls", price) for price in prices)


def lines(price: Price) -> list[tuple[str, int]]:
    return [(line.name, line.amount_minor) for line in price.lines]


def half_off(*prices: int) -> Discount:
    order = PromoOrder(ShowId("shw_1"), None, "EUR", places(*prices))
    found = discount_of(PromoTerms("HALF", PercentageOff(5_000)), order, PromoUsage(0, 0), 0)
    assert isinstance(found, Discount)
    return found


# --- by hand


def test_without_terms_a_hold_costs_what_its_places_cost() -> None:
    price = price_of(places(1000, 500), "EUR", PriceTerms())
    assert lines(price) == [("Stalls", 1000), ("Stalls", 500)]
    assert (price.total_minor, price.paid_minor) == (1500, (1000, 500))


def test_lines_come_as_places_discount_fees_and_taxes() -> None:
    terms = PriceTerms((ORDER_FEE, PLACE_FEE, SERVICE), (VAT,))
    price = price_of(places(1001, 500), "EUR", terms, half_off(1001, 500), "HALF")
    # 1501 / 2 is 751 off (a half up), which leaves 750; 2.5 % of it is 18.75.
    assert price.lines == (
        PriceLine(LineKind.PLACE, "Stalls", 1001),
        PriceLine(LineKind.PLACE, "Stalls", 500),
        PriceLine(LineKind.DISCOUNT, "HALF", -751),
        PriceLine(LineKind.FEE, "Booking", 100),
        PriceLine(LineKind.FEE, "Per ticket", 100),
        PriceLine(LineKind.FEE, "Service", 19),
        PriceLine(LineKind.TAX, "VAT", 49, is_included=True),
    )
    assert price.total_minor == 750 + 100 + 100 + 19


@pytest.mark.parametrize(
    ("tax", "amount_minor", "total_minor"),
    [
        (TaxTerm("VAT", TaxBase.PLACES, 700, is_included=True), 70, 1177),
        (TaxTerm("VAT", TaxBase.PLACES, 700, is_included=False), 75, 1252),
        (TaxTerm("VAT", TaxBase.FEES, 1900, is_included=True), 17, 1177),
        (TaxTerm("VAT", TaxBase.FEES, 1900, is_included=False), 20, 1197),
        (TaxTerm("none", TaxBase.PLACES, 0, is_included=False), 0, 1177),
    ],
)
def test_a_tax_is_in_the_price_or_on_top_of_it(
    tax: TaxTerm, amount_minor: int, total_minor: int
) -> None:
    fee = FeeTerm("Booking", FeeBasis.ORDER, 107)
    price = price_of(places(1070), "EUR", PriceTerms((fee,), (tax,)))
    assert price.lines[-1].amount_minor == amount_minor
    assert price.total_minor == total_minor


def test_two_included_taxes_share_one_net_price() -> None:
    halves = tuple(TaxTerm(name, TaxBase.PLACES, 900, is_included=True) for name in ("C", "S"))
    price = price_of(places(1180), "INR", PriceTerms(taxes=halves))
    assert [line.amount_minor for line in price.lines[1:]] == [90, 90]
    assert price.total_minor == 1180


def test_places_that_cost_nothing_share_a_fee_alike() -> None:
    price = price_of(places(0, 0, 0), "EUR", PriceTerms((ORDER_FEE,)))
    assert price.paid_minor == (34, 33, 33)


def test_a_price_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="total_minor"):
        price_of(places(AMOUNT_MINOR_MAX, 1), "EUR", PriceTerms())


# --- for all prices

PRICES = st.lists(st.integers(0, 10**9), min_size=1, max_size=50)
NAMES = st.sampled_from(["one", "two"])
FEES = st.lists(
    st.one_of(
        st.builds(FeeTerm, NAMES, st.just(FeeBasis.ORDER), st.integers(0, 10**6)),
        st.builds(FeeTerm, NAMES, st.just(FeeBasis.PLACE), st.integers(0, 10**6)),
        st.builds(FeeTerm, NAMES, st.just(FeeBasis.PERCENTAGE), st.integers(0, 10_000)),
    ),
    max_size=4,
).map(tuple)


@st.composite
def terms(draw: st.DrawFn) -> PriceTerms:
    included = {base: draw(st.booleans()) for base in TaxBase}
    bases = draw(st.lists(st.sampled_from(TaxBase), max_size=4))
    rates = [draw(st.integers(0, 10_000)) for _ in bases]
    taxes = (
        TaxTerm("tax", base, rate, included[base]) for base, rate in zip(bases, rates, strict=True)
    )
    return PriceTerms(draw(FEES), tuple(taxes))


@given(prices=PRICES, terms=terms(), is_discounted=st.booleans())
def test_lines_and_places_add_up_to_the_same_total(
    prices: list[int], terms: PriceTerms, is_discounted: bool
) -> None:
    discount = half_off(*prices) if is_discounted and any(prices) else None
    price = price_of(places(*prices), "EUR", terms, discount)
    assert price.total_minor == sum(price.paid_minor)
    assert min(price.paid_minor) >= 0
    added = [line.amount_minor for line in price.lines if not line.is_included]
    assert price.total_minor == sum(added)
    kinds = [line.kind for line in price.lines]
    assert kinds == sorted(kinds, key=list(LineKind).index)
    assert kinds.count(LineKind.PLACE) == len(prices)


@given(prices=PRICES, terms=terms())
def test_what_is_included_is_part_of_what_includes_it(prices: list[int], terms: PriceTerms) -> None:
    price = price_of(places(*prices), "EUR", terms)
    included = sum(line.amount_minor for line in price.lines if line.is_included)
    # Each line is rounded by itself, by half a unit at most.
    assert included <= price.total_minor + len(terms.taxes)


@given(numerator=st.integers(0, 10**15), denominator=st.integers(1, 10**6))
def test_a_half_is_rounded_up(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    assert Fraction(-1, 2) < half_up(numerator, denominator) - exact <= Fraction(1, 2)


@given(weights=PRICES, total=st.integers(0, 10**9))
def test_shares_are_fair_to_one_unit_and_lose_none(weights: list[int], total: int) -> None:
    parts = shares_of(total, weights)
    assert sum(parts) == total
    whole = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        share = Fraction(total * weight, whole) if whole else Fraction(total, len(weights))
        assert abs(part - share) < 1


# --- terms that make no sense


@pytest.mark.parametrize(
    ("name", "basis", "rate", "field"),
    [
        ("", FeeBasis.ORDER, 1, "name"),
        ("x" * 61, FeeBasis.ORDER, 1, "name"),
        ("a\nb", FeeBasis.ORDER, 1, "name"),
        ("fee", FeeBasis.ORDER, -1, "rate"),
        ("fee", FeeBasis.PLACE, AMOUNT_MINOR_MAX + 1, "rate"),
        ("fee", FeeBasis.PERCENTAGE, 10_001, "rate"),
    ],
)
def test_fees_name_the_field_that_is_wrong(
    name: str, basis: FeeBasis, rate: int, field: str
) -> None:
    with pytest.raises(ValueError, match=rf"^{field}:"):
        FeeTerm(name, basis, rate)


def test_terms_name_the_field_that_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"^basis_points:"):
        TaxTerm("tax", TaxBase.FEES, 10_001, is_included=False)
    with pytest.raises(ValueError, match=r"^fees:"):
        PriceTerms((ORDER_FEE,) * 11)
    with pytest.raises(ValueError, match=r"^taxes:"):
        PriceTerms(taxes=(VAT,) * 11)
    added = TaxTerm("city", TaxBase.PLACES, 100, is_included=False)
    with pytest.raises(ValueError, match=r"^taxes: some on places"):
        PriceTerms(taxes=(VAT, added))
