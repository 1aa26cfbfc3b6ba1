"""Where a show goes: stops, the legs between them, and the segment one passenger rides.

A theatre performance is a route of one leg without stops. Leg *i* runs from stop *i* to
stop *i + 1*; a segment ``[from_leg, to_leg)`` is the run of legs between boarding at stop
``from_leg`` and alighting at stop ``to_leg``. Occupancy is one bit per leg.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from reservation.limits import LEGS_PER_ROUTE_MAX


class Segment(NamedTuple):
    """A run of legs, ``0 <= from_leg < to_leg <= leg_count``."""

    from_leg: int
    to_leg: int

    @property
    def mask(self) -> int:
        """One bit per leg of the run.

        Example:
            >>> bin(Segment(1, 4).mask)
            '0b1110'
        """
        return (1 << self.to_leg) - (1 << self.from_leg)

    @property
    def leg_count(self) -> int:
        """How many legs the run has."""
        return self.to_leg - self.from_leg


@dataclass(frozen=True, slots=True)
class Stop:
    """One call of a route at a place.

    Units:
        arrival_s, departure_s: seconds after the service day's start (noon minus 12 hours
            in the agency's time zone); above 86,400 when the run passes midnight.
        distance_m: metres from the first stop along the route.

    ``code`` is unique within the route: a place called at twice is ``X`` and then ``X#2``.
    """

    code: str
    name: str
    arrival_s: int
    departure_s: int
    distance_m: int
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The stops of one run in order; empty for a show that goes nowhere.

    Raises:
        ValueError: one stop only, too many stops, a repeated code, or a distance that falls.
    """

    stops: tuple[Stop, ...] = ()

    def __post_init__(self) -> None:
        if len(self.stops) == 1:
            raise ValueError("stops: a route has no stop or at least two")
        if len(self.stops) > LEGS_PER_ROUTE_MAX + 1:
            raise ValueError(f"stops: more than {LEGS_PER_ROUTE_MAX + 1} stops on one route")
        seen: set[str] = set()
        for earlier, later in pairwise(self.stops):
            if later.distance_m < earlier.distance_m:
                raise ValueError(f"distance_m: falls between {earlier.code} and {later.code}")
        for stop in self.stops:
            if stop.code in seen:
                raise ValueError(f"code: stop {stop.code} appears twice on the route")
            seen.add(stop.code)

    @property
    def leg_count(self) -> int:
        """Legs between consecutive stops; 1 for a show without stops."""
        return max(1, len(self.stops) - 1)

    @property
    def whole(self) -> Segment:
        """The segment from the first stop to the last."""
        return Segment(0, self.leg_count)

    def position_of(self, code: str) -> int | None:
        """The position of the stop with this code, or None when the route does not call there."""
        for position, stop in enumerate(self.stops):
            if stop.code == code:
                return position
        return None

    def segment(self, from_code: str | None, to_code: str | None) -> Segment | None:
        """The segment between two stops; a missing end means the route's own end.

        Returns:
            None when a code is unknown or the stops are not in travelling order.
        """
        from_leg = 0 if from_code is None else self.position_of(from_code)
        to_leg = self.leg_count if to_code is None else self.position_of(to_code)
        if from_leg is None or to_leg is None or from_leg >= to_leg:
            return None
        return Segment(from_leg, to_leg)
