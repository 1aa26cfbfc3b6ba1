"""Promo codes: what a code that a customer types takes off an order.

All is counted in integer minor units, and every reduction is spread over the places it is for, so
that a place that is given back later gives back exactly what was paid for it.

The rounding: a percentage is taken of the sum of the places it is for, once, and rounded to the
nearest minor unit, a half up. The reduction is spread in proportion to the prices: everybody gets
the whole units of his share, and the units that are left go to the largest remainders, of equal
ones to the first. So no place costs less than nothing, and the parts add up to the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from reservation.ids import ShowId
from reservation.limits import AMOUNT_MINOR_MAX
from reservation.organiser_ids import SeriesId

BASIS_POINTS_MAX = 10_000
CODE_LENGTH_MAX = 40
SCOPE_SIZE_MAX = 1_000
USES_MAX = 2**31 - 1

_CODE = re.compile(rf"[0-9A-Z](?:[0-9A-Z_-]{{0,{CODE_LENGTH_MAX - 2}}}[0-9A-Z])?")
_CURRENCY = re.compile("[A-Z]{3}")


@dataclass(frozen=True, slots=True)
class PercentageOff:
    """So many hundredths of a percent off the places that the code is for: 2,500 is a quarter."""

    basis_points: int

    def __post_init__(self) -> None:
        if not 1 <= self.basis_points <= BASIS_POINTS_MAX:
            raise ValueError(f"basis_points: not in 1..{BASIS_POINTS_MAX}")


@dataclass(frozen=True, slots=True)
class AmountOff:
    """An amount off the order, or off every place that the code is for; never more than it costs.

    Units:
        amount_minor: minor units of ``currency``.
    """

    amount_minor: int
    currency: str
    each_place: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.amount_minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"amount_minor: not in 1..{AMOUNT_MINOR_MAX}")
        if _CURRENCY.fullmatch(self.currency) is None:
            raise ValueError("currency: not three capital letters (ISO 4217)")


Reduction: TypeAlias = PercentageOff | AmountOff


@dataclass(frozen=True, slots=True)
class PromoTerms:
    """What a promo code promises, and to whom.

    Shapes:
        code: as it is printed; ``code_key`` is how it is compared.
        show_ids, series_ids: the shows it is for, by themselves or by their series; when both are
            empty, every show of its tenant.
        category_names: the categories it is for; empty for all.
        uses_max, uses_per_customer_max: orders that it is good for; None for any number.

    Units:
        valid_from_at_ms, valid_until_at_ms: Unix milliseconds, the second exclusive; None for no
            bound.
    """

    code: str
    reduction: Reduction
    show_ids: frozenset[ShowId] = frozenset()
    series_ids: frozenset[SeriesId] = frozenset()
    category_names: frozenset[str] = frozenset()
    uses_max: int | None = None
    uses_per_customer_max: int | None = None
    valid_from_at_ms: int | None = None
    valid_until_at_ms: int | None = None
    is_active: bool = True

    def __post_init__(self) -> None:
        code_key(self.code)
        for field in ("uses_max", "uses_per_customer_max"):
            count = getattr(self, field)
            if count is not None and not 1 <= count <= USES_MAX:
                raise ValueError(f"{field}: not in 1..{USES_MAX}")
        for field in ("show_ids", "series_ids", "category_names"):
            if len(getattr(self, field)) > SCOPE_SIZE_MAX:
                raise ValueError(f"{field}: more than {SCOPE_SIZE_MAX}")
        opens, closes = self.valid_from_at_ms, self.valid_until_at_ms
        if opens is not None and closes is not None and closes <= opens:
            raise ValueError("valid_until_at_ms: is not after valid_from_at_ms")


class PricedPlace(NamedTuple):
    """One seat or one admission of an order, at its full price."""

    category_name: str
    amount_minor: int


@dataclass(frozen=True, slots=True)
class PromoOrder:
    """What somebody wants to pay for: places of one show."""

    show_id: ShowId
    series_id: SeriesId | None
    currency: str
    places: tuple[PricedPlace, ...]


class PromoUsage(NamedTuple):
    """How often the code was used: by all customers, and by this one."""

    total: int
    by_customer: int


class Discount(NamedTuple):
    """What the code takes off.

    Shapes:
        place_minor: one entry a place of the order, 0 to its price; their sum is ``total_minor``.
    """

    total_minor: int
    place_minor: tuple[int, ...]


class PromoRefusal(StrEnum):
    """Why a code takes nothing off."""

    NOT_ACTIVE = "promo_not_active"
    NOT_YET_VALID = "promo_not_yet_valid"
    NO_LONGER_VALID = "promo_no_longer_valid"
    OTHER_SHOW = "promo_for_other_shows"
    OTHER_CURRENCY = "promo_in_other_currency"
    OTHER_CATEGORIES = "promo_for_other_categories"  #: Or the places it is for cost nothing.
    USED_UP = "promo_used_up"
    USED_BY_CUSTOMER = "promo_used_by_customer"


def code_key(code: str) -> str:
    """What two spellings of one code have in common.

    Raises:
        ValueError: it is not 1 to 40 letters A to Z, digits, and ``-`` or ``_`` inside.

    Example:
        >>> code_key(" summer-26 ")
        'SUMMER-26'
    """
    # Not upper() of anything else: it would make two letters of one, and others of others.
    key = code.strip(" ")
    key = key.upper() if key.isascii() else ""
    if _CODE.fullmatch(key) is None:
        raise ValueError(
            f"code: not 1 to {CODE_LENGTH_MAX} letters A to Z, digits, and - or _ inside"
        )
    return key


def discount_of(
    terms: PromoTerms, order: PromoOrder, usage: PromoUsage, now_ms: int
) -> Discount | PromoRefusal:
    """What the code takes off this order, or why nothing.

    Example:
        >>> order = PromoOrder(
        ...     ShowId("shw_1"), None, "EUR", (PricedPlace("A", 999), PricedPlace("B", 1000))
        ... )
        >>> discount_of(PromoTerms("HALF", PercentageOff(5000)), order, PromoUsage(0, 0), 0)
        Discount(total_minor=1000, place_minor=(500, 500))
    """
    refusal = _refusal_by_terms(terms, order, usage, now_ms)
    if refusal is not None:
        return refusal
    prices = [
        place.amount_minor
        if not terms.category_names or place.category_name in terms.category_names
        else 0
        for place in order.places
    ]
    whole_minor = sum(prices)
    if not whole_minor:
        return PromoRefusal.OTHER_CATEGORIES
    reduction = terms.reduction
    if isinstance(reduction, PercentageOff):
        half_up = BASIS_POINTS_MAX // 2
        total_minor = (whole_minor * reduction.basis_points + half_up) // BASIS_POINTS_MAX
    elif reduction.each_place:
        parts = tuple(min(price, reduction.amount_minor) for price in prices)
        return Discount(sum(parts), parts)
    else:
        total_minor = min(whole_minor, reduction.amount_minor)
    return Discount(total_minor, spread(total_minor, prices))


def _refusal_by_terms(
    terms: PromoTerms, order: PromoOrder, usage: PromoUsage, now_ms: int
) -> PromoRefusal | None:
    if not terms.is_active:
        return PromoRefusal.NOT_ACTIVE
    if terms.valid_from_at_ms is not None and now_ms < terms.valid_from_at_ms:
        return PromoRefusal.NOT_YET_VALID
    if terms.valid_until_at_ms is not None and now_ms >= terms.valid_until_at_ms:
        return PromoRefusal.NO_LONGER_VALID
    if (terms.show_ids or terms.series_ids) and not (
        order.show_id in terms.show_ids or order.series_id in terms.series_ids
    ):
        return PromoRefusal.OTHER_SHOW
    reduction = terms.reduction
    if isinstance(reduction, AmountOff) and reduction.currency != order.currency:
        return PromoRefusal.OTHER_CURRENCY
    if terms.uses_max is not None and usage.total >= terms.uses_max:
        return PromoRefusal.USED_UP
    if terms.uses_per_customer_max is not None and usage.by_customer >= terms.uses_per_customer_max:
        return PromoRefusal.USED_BY_CUSTOMER
    return None


def spread(total_minor: int, weights: Sequence[int]) -> tuple[int, ...]:
    """``total_minor`` in parts as ``weights`` are, exactly; no part is above its weight.

    Args:
        total_minor: 0 to the sum of the weights.

    Example:
        >>> spread(100, [1000, 1000, 1000])
        (34, 33, 33)
    """
    whole = sum(weights)
    assert 0 <= total_minor <= whole, "there is not so much to spread over"
    if not whole:
        return (0,) * len(weights)
    shares = [divmod(total_minor * weight, whole) for weight in weights]
    parts = [units for units, _ in shares]
    by_remainder = sorted(range(len(shares)), key=lambda index: -shares[index][1])
    # Whoever has a remainder has less than his weight, so a unit more is never too much.
    for index in by_remainder[: total_minor - sum(parts)]:
        parts[index] += 1
    return tuple(parts)
