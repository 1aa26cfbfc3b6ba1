"""How much of a booking goes back, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation.limits import AMOUNT_MINOR_MAX
from reservation.price import FeeBasis, FeeTerm, PriceTerms, price_of
from reservation.promo_codes import PricedPlace
from reservation.refund_terms import RefundTerms
from reservation.refunds import (
    BEFORE_START_MS_MAX,
    RefundBand,
    RefundPolicy,
    refund_minor_of,
    refund_minor_of_places,
)

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
POLICY = RefundPolicy(
    (RefundBand(7 * DAY_MS, 10_000), RefundBand(DAY_MS, 5_000), RefundBand(HOUR_MS, 1_000)), 200
)


@pytest.mark.parametrize(
    ("left_ms", "refund_minor"),
    [
        (8 * DAY_MS, 9_801),
        (7 * DAY_MS, 9_801),
        (7 * DAY_MS - 1, 4_801),  # Half of 10,001 is 5,000.5: a half up, less the fee.
        (DAY_MS, 4_801),
        (DAY_MS - 1, 800),
        (HOUR_MS, 800),
        (HOUR_MS - 1, 0),
        (0, 0),
        (-DAY_MS, 0),
        (None, 9_801),
    ],
)
def test_less_goes_back_the_nearer_the_start(left_ms: int | None, refund_minor: int) -> None:
    assert POLICY.refund_minor(10_001, left_ms) == refund_minor


def test_without_words_everything_goes_back_until_the_start() -> None:
    assert RefundPolicy().refund_minor(999, 0) == 999
    assert RefundPolicy().refund_minor(999, -1) == 0


def test_a_policy_without_bands_gives_nothing_back() -> None:
    assert RefundPolicy(()).refund_minor(999, 300 * DAY_MS) == 0


def test_the_fee_is_never_more_than_what_would_go_back() -> None:
    assert POLICY.refund_minor(150, 8 * DAY_MS) == 0


def test_the_fee_is_kept_once_of_a_booking_given_back_in_parts() -> None:
    first = POLICY.refund_minor(3_000, 8 * DAY_MS)
    second = POLICY.refund_minor(2_000, 8 * DAY_MS, is_fee_kept_already=True)
    assert first + second == POLICY.refund_minor(5_000, 8 * DAY_MS)


@pytest.mark.parametrize(
    ("terms", "refund_minor"),
    [(RefundTerms.FULL, 1_000), (RefundTerms.POLICY, 300), (RefundTerms.NONE, 0)],
)
def test_a_house_that_does_not_deliver_keeps_nothing(terms: RefundTerms, refund_minor: int) -> None:
    assert refund_minor_of(terms, 1_000, POLICY, 2 * DAY_MS) == refund_minor


def test_places_give_back_what_was_paid_for_them_and_all_of_them_everything() -> None:
    fees = PriceTerms((FeeTerm("Booking", FeeBasis.ORDER, 100),))
    places = tuple(PricedPlace("Stalls", amount) for amount in (1_000, 1_000, 1_000))
    price = price_of(places, "EUR", fees)
    parts = [refund_minor_of_places(price.paid_minor, [number]) for number in range(3)]
    assert parts == [1_034, 1_033, 1_033]
    assert refund_minor_of_places(price.paid_minor, [0, 2, 1]) == price.total_minor == 3_100
    with pytest.raises(AssertionError):
        refund_minor_of_places(price.paid_minor, [3])


BANDS = st.lists(
    st.tuples(st.integers(0, BEFORE_START_MS_MAX), st.integers(0, 10_000)),
    max_size=20,
    unique_by=lambda band: band[0],
).map(
    lambda drawn: tuple(
        RefundBand(*band)
        for band in zip(
            sorted((before for before, _ in drawn), reverse=True),
            sorted((share for _, share in drawn), reverse=True),
            strict=True,
        )
    )
)
LEFT = st.one_of(st.none(), st.integers(-DAY_MS, BEFORE_START_MS_MAX))


@given(bands=BANDS, kept=st.integers(0, 10**6), paid=st.integers(0, 10**9), left=LEFT)
def test_never_more_goes_back_than_was_paid_nor_less_than_nothing(
    bands: tuple[RefundBand, ...], kept: int, paid: int, left: int | None
) -> None:
    assert 0 <= RefundPolicy(bands, kept).refund_minor(paid, left) <= paid


@given(bands=BANDS, paid=st.integers(0, 10**9), left=st.integers(0, 10**10))
def test_whoever_waits_never_gets_more(bands: tuple[RefundBand, ...], paid: int, left: int) -> None:
    policy = RefundPolicy(bands)
    assert policy.refund_minor(paid, left) <= policy.refund_minor(paid, left + HOUR_MS)


@pytest.mark.parametrize(
    ("bands", "kept_minor", "field"),
    [
        ((RefundBand(-1, 0),), 0, "before_start_ms"),
        ((RefundBand(BEFORE_START_MS_MAX + 1, 0),), 0, "before_start_ms"),
        ((RefundBand(0, 10_001),), 0, "share_basis_points"),
        ((RefundBand(0, -1),), 0, "share_basis_points"),
        ((RefundBand(1, 5), RefundBand(1, 5)), 0, "bands"),
        ((RefundBand(2, 5), RefundBand(1, 6)), 0, "bands"),
        (tuple(RefundBand(30 - n, 5) for n in range(21)), 0, "bands"),
        ((), -1, "kept_minor"),
        ((), AMOUNT_MINOR_MAX + 1, "kept_minor"),
    ],
)
def test_a_policy_names_the_field_that_is_wrong(
    bands: tuple[RefundBand, ...], kept_minor: int, field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        RefundPolicy(bands, kept_minor)
