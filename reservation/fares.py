"""What a place costs: per category, for the legs it is ridden. Money is integer minor units."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate

from reservation.limits import AMOUNT_MINOR_MAX
from reservation.route import Segment


@dataclass(frozen=True, slots=True)
class CategoryFare:
    """The fare of one category: a base amount once, plus an amount for every leg ridden.

    Units:
        base_minor, leg_minor: minor units of the show's currency, never negative.
    """

    base_minor: int
    leg_minor: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.base_minor < 0 or any(amount < 0 for amount in self.leg_minor):
            raise ValueError("fare: an amount is negative")
        if self.base_minor + sum(self.leg_minor) > AMOUNT_MINOR_MAX:
            raise ValueError(f"fare: an amount is above {AMOUNT_MINOR_MAX}")


class FareTable:
    """The fares of a show's categories, ready to be asked per hold.

    Shapes:
        fares: one entry per category of the seating plan, in the plan's order; each
            ``leg_minor`` is empty (a flat price) or has one amount per leg.

    Example:
        >>> table = FareTable("EUR", (CategoryFare(500, (100, 200, 300)), CategoryFare(900)))
        >>> table.amount_minor(0, Segment(1, 3))
        1000
        >>> table.amount_minor(1, Segment(0, 3))
        900
    """

    __slots__ = ("_ridden", "currency", "fares")

    def __init__(self, currency: str, fares: tuple[CategoryFare, ...]) -> None:
        if re.fullmatch("[A-Z]{3}", currency) is None:
            raise ValueError("currency: not three capital letters (ISO 4217)")
        self.currency = currency
        self.fares = fares
        self._ridden = tuple((0, *accumulate(fare.leg_minor)) for fare in fares)

    def amount_minor(self, category_index: int, segment: Segment) -> int:
        """What one place of this category costs on this segment."""
        ridden = self._ridden[category_index]
        base_minor = self.fares[category_index].base_minor
        if len(ridden) == 1:
            return base_minor
        return base_minor + ridden[segment.to_leg] - ridden[segment.from_leg]

    def __eq__(self, other: object) -> bool:
        """Two tables are equal when they charge the same."""
        if not isinstance(other, FareTable):
            return NotImplemented
        return self.currency == other.currency and self.fares == other.fares

    def __hash__(self) -> int:
        return hash((self.currency, self.fares))
