"""What a place costs: per category, for the legs it is ridden. Money is integer minor units."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from reservation.limits import AMOUNT_MINOR_MAX, FARE_WINDOWS_MAX
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


class FareWindow(NamedTuple):
    """Other fares from an instant on, until the next window begins.

    Units:
        from_at_ms: Unix milliseconds, the first of the window.
    """

    from_at_ms: int
    fares: tuple[CategoryFare, ...]


class FareTable:
    """The fares of a show's categories, ready to be asked per hold.

    A table with windows is a price list over time: ``fares`` is charged until the first window
    begins. ``at`` gives the table of one moment, which has no windows.

    Shapes:
        fares: one entry per category of the seating plan, in the plan's order; each
            ``leg_minor`` is empty (a flat price) or has one amount per leg.
        windows: in the order of time, each with one fare per category.

    Example:
        >>> table = FareTable("EUR", (CategoryFare(500, (100, 200, 300)), CategoryFare(900)))
        >>> table.amount_minor(0, Segment(1, 3))
        1000
        >>> table.amount_minor(1, Segment(0, 3))
        900
        >>> late = FareTable("EUR", (CategoryFare(900),), (FareWindow(50, (CategoryFare(1200),)),))
        >>> late.at(49).fares[0].base_minor, late.at(50).fares[0].base_minor
        (900, 1200)
    """

    __slots__ = ("_flat", "_moments", "_ridden", "currency", "fares", "windows")

    def __init__(
        self,
        currency: str,
        fares: tuple[CategoryFare, ...],
        windows: tuple[FareWindow, ...] = (),
    ) -> None:
        if re.fullmatch("[A-Z]{3}", currency) is None:
            raise ValueError("currency: not three capital letters (ISO 4217)")
        if len(windows) > FARE_WINDOWS_MAX:
            raise ValueError(f"fares: more than {FARE_WINDOWS_MAX} windows")
        if any(earlier.from_at_ms >= later.from_at_ms for earlier, later in pairwise(windows)):
            raise ValueError("fares: a window does not begin after the one before it")
        if any(len(window.fares) != len(fares) for window in windows):
            raise ValueError("fares: a window does not have one fare for each category")
        self.currency = currency
        self.fares = fares
        self.windows = windows
        self._ridden = tuple((0, *accumulate(fare.leg_minor)) for fare in fares)
        is_flat = not any(fare.leg_minor for fare in fares)
        self._flat = tuple([fare.base_minor for fare in fares]) if is_flat else None
        self._moments = (
            (FareTable(currency, fares), *(FareTable(currency, each.fares) for each in windows))
            if windows
            else (self,)
        )

    def at(self, now_ms: int) -> FareTable:
        """The fares of this moment.

        Units:
            now_ms: Unix milliseconds.
        """
        begun = 0
        for window in self.windows:
            if now_ms < window.from_at_ms:
                break
            begun += 1
        return self._moments[begun]

    @property
    def every_fare(self) -> tuple[CategoryFare, ...]:
        """Every fare that is ever charged."""
        return tuple(fare for moment in self._moments for fare in moment.fares)

    def amount_minor(self, category_index: int, segment: Segment) -> int:
        """What one place of this category costs on this segment, before the first window."""
        ridden = self._ridden[category_index]
        base_minor = self.fares[category_index].base_minor
        if len(ridden) == 1:
            return base_minor
        return base_minor + ridden[segment.to_leg] - ridden[segment.from_leg]

    def seats_minor(
        self, category_of: Sequence[int], seat_indexes: Iterable[int], segment: Segment
    ) -> tuple[int, ...]:
        """``amount_minor`` of each of these seats; ``category_of[seat_index]`` is its category."""
        # Where legs cost nothing, as in every theatre, this is one look for each seat.
        flat = self._flat
        if flat is not None:
            return tuple([flat[category_of[index]] for index in seat_indexes])
        amount_minor = self.amount_minor
        return tuple([amount_minor(category_of[index], segment) for index in seat_indexes])

    def __eq__(self, other: object) -> bool:
        """Two tables are equal when they charge the same."""
        if not isinstance(other, FareTable):
            return NotImplemented
        return (self.currency, self.fares, self.windows) == (
            other.currency,
            other.fares,
            other.windows,
        )

    def __hash__(self) -> int:
        return hash((self.currency, self.fares, self.windows))
