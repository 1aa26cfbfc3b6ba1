"""What a hold costs, line by line, and what of it was paid for each place.

The lines of a price, in this order: one for each place, one for the discount, one for each fee, one
for each tax. Their sum is the price, to the minor unit; a tax that is *included* is shown, and not
added, because the lines above it contain it already.

The same money is spread over the places, so that one that is given back gives back exactly what was
paid for it, and all of them everything.

The rounding
------------
Each fee and each tax is computed once, of the whole it is on, and rounded to the nearest minor
unit, a half up. It is spread in proportion to what the places cost after the discount (over all
alike, when that is nothing): every place gets the whole units of its share, and the units that are
left go to the largest remainders, of equal ones to the first.

* A percentage fee is of the places after the discount.
* An added tax of ``r`` basis points on an amount ``a`` is ``a * r / 10,000``.
* Of included taxes of ``r1, r2, ...`` on ``a``, each is ``a * ri / (10,000 + r1 + r2 + ...)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from reservation.limits import (
    AMOUNT_MINOR_MAX,
    FEES_PER_SHOW_MAX,
    PRICE_LINE_NAME_LENGTH_MAX,
    TAXES_PER_SHOW_MAX,
)
from reservation.promo_codes import Discount, PricedPlace

BASIS_POINTS_WHOLE = 10_000


class FeeBasis(StrEnum):
    """What a fee is charged for."""

    ORDER = "order"  #: Once, an amount.
    PLACE = "place"  #: An amount for every place, also for one that costs nothing.
    PERCENTAGE = "percentage"  #: Basis points of the places after the discount.


@dataclass(frozen=True, slots=True)
class FeeTerm:
    """A fee that is charged on top.

    Units:
        rate: minor units of the show's currency, or basis points of a percentage.
    """

    name: str
    basis: FeeBasis
    rate: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        top = BASIS_POINTS_WHOLE if self.basis is FeeBasis.PERCENTAGE else AMOUNT_MINOR_MAX
        if not 0 <= self.rate <= top:
            raise ValueError(f"rate: not in 0..{top}")


class TaxBase(StrEnum):
    """Which lines a tax is on."""

    PLACES = "places"  #: The places after the discount.
    FEES = "fees"  #: All fees.


@dataclass(frozen=True, slots=True)
class TaxTerm:
    """A tax, added on top or included in what it is on."""

    name: str
    base: TaxBase
    basis_points: int
    is_included: bool

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not 0 <= self.basis_points <= BASIS_POINTS_WHOLE:
            raise ValueError(f"basis_points: not in 0..{BASIS_POINTS_WHOLE}")


@dataclass(frozen=True, slots=True)
class PriceTerms:
    """What a show charges besides its fares. Without any, a hold costs what its places cost."""

    fees: tuple[FeeTerm, ...] = ()
    taxes: tuple[TaxTerm, ...] = ()

    def __post_init__(self) -> None:
        if len(self.fees) > FEES_PER_SHOW_MAX:
            raise ValueError(f"fees: more than {FEES_PER_SHOW_MAX}")
        if len(self.taxes) > TAXES_PER_SHOW_MAX:
            raise ValueError(f"taxes: more than {TAXES_PER_SHOW_MAX}")
        for base in TaxBase:
            if len({tax.is_included for tax in self.taxes if tax.base is base}) > 1:
                raise ValueError(f"taxes: some on {base} are included and some are added")


class LineKind(StrEnum):
    """What a line of a price is for."""

    PLACE = "place"
    DISCOUNT = "discount"
    FEE = "fee"
    TAX = "tax"


class PriceLine(NamedTuple):
    """One line of a receipt.

    Shapes:
        name: the category of a place, the promo code, the name of the fee or the tax.
        is_included: a tax that the lines above contain; not part of the sum.
    """

    kind: LineKind
    name: str
    amount_minor: int
    is_included: bool = False


@dataclass(frozen=True, slots=True)
class Price:
    """What a hold costs.

    Shapes:
        lines: see the module's docstring.
        paid_minor: one entry a place, in the order of the places; their sum is ``total_minor``.
    """

    currency: str
    lines: tuple[PriceLine, ...]
    paid_minor: tuple[int, ...]

    @property
    def total_minor(self) -> int:
        """What is to be paid."""
        return sum(line.amount_minor for line in self.lines if not line.is_included)


def price_of(
    places: Sequence[PricedPlace],
    currency: str,
    terms: PriceTerms,
    discount: Discount | None = None,
    discount_name: str = "",
) -> Price:
    """What these places cost.

    Args:
        discount: what a promo code takes off, one part a place (``promo_codes.discount_of``).

    Raises:
        ValueError: it is more than any payment may be.

    Example:
        >>> terms = PriceTerms(
        ...     fees=(FeeTerm("Booking fee", FeeBasis.ORDER, 150),),
        ...     taxes=(TaxTerm("VAT 7 %", TaxBase.PLACES, 700, is_included=True),),
        ... )
        >>> places = (PricedPlace("Stalls", 2000), PricedPlace("Stalls", 1000))
        >>> price = price_of(places, "EUR", terms)
        >>> price.total_minor, price.paid_minor, price.lines[-1].amount_minor
        (3150, (2100, 1050), 196)
    """
    assert places, "a price of nothing"
    parts = (0,) * len(places) if discount is None else discount.place_minor
    net = [place.amount_minor - part for place, part in zip(places, parts, strict=True)]
    assert min(net) >= 0, "a discount above the price"
    lines = [PriceLine(LineKind.PLACE, place.category_name, place.amount_minor) for place in places]
    if discount is not None:
        lines.append(PriceLine(LineKind.DISCOUNT, discount_name, -discount.total_minor))
    paid = list(net)
    fees_minor = 0
    for fee in terms.fees:
        shares = _fee_shares(fee, net)
        lines.append(PriceLine(LineKind.FEE, fee.name, sum(shares)))
        fees_minor += sum(shares)
        paid = [so_far + share for so_far, share in zip(paid, shares, strict=True)]
    bases = {TaxBase.PLACES: sum(net), TaxBase.FEES: fees_minor}
    for tax in terms.taxes:
        amount_minor = _tax_minor(tax, bases[tax.base], terms)
        lines.append(PriceLine(LineKind.TAX, tax.name, amount_minor, tax.is_included))
        if not tax.is_included:
            shares = shares_of(amount_minor, net)
            paid = [so_far + share for so_far, share in zip(paid, shares, strict=True)]
    price = Price(currency, tuple(lines), tuple(paid))
    if price.total_minor > AMOUNT_MINOR_MAX:
        raise ValueError(f"total_minor: above {AMOUNT_MINOR_MAX}")
    return price


def _fee_shares(fee: FeeTerm, net: Sequence[int]) -> tuple[int, ...]:
    if fee.basis is FeeBasis.PLACE:
        return (fee.rate,) * len(net)
    if fee.basis is FeeBasis.ORDER:
        return shares_of(fee.rate, net)
    return shares_of(half_up(sum(net) * fee.rate, BASIS_POINTS_WHOLE), net)


def _tax_minor(tax: TaxTerm, base_minor: int, terms: PriceTerms) -> int:
    whole = BASIS_POINTS_WHOLE
    if tax.is_included:
        whole += sum(each.basis_points for each in terms.taxes if each.base is tax.base)
    return half_up(base_minor * tax.basis_points, whole)


def half_up(numerator: int, denominator: int) -> int:
    """The quotient, which is not negative, rounded to the nearest integer, a half up.

    Example:
        >>> half_up(5, 2), half_up(7, 3)
        (3, 2)
    """
    return (2 * numerator + denominator) // (2 * denominator)


def shares_of(total_minor: int, weights: Sequence[int]) -> tuple[int, ...]:
    """``total_minor`` in parts as ``weights`` are, exactly; in equal parts, if they are all 0.

    Example:
        >>> shares_of(100, (2, 1)), shares_of(100, (0, 0, 0))
        ((67, 33), (34, 33, 33))
    """
    if not any(weights):
        weights = (1,) * len(weights)
    whole = sum(weights)
    shares = [divmod(total_minor * weight, whole) for weight in weights]
    parts = [units for units, _ in shares]
    by_remainder = sorted(range(len(shares)), key=lambda index: -shares[index][1])
    for index in by_remainder[: total_minor - sum(parts)]:
        parts[index] += 1
    return tuple(parts)


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= PRICE_LINE_NAME_LENGTH_MAX or not name.isprintable():
        raise ValueError(f"name: not 1 to {PRICE_LINE_NAME_LENGTH_MAX} printable characters")
