"""Which seat is taken on which leg, and how full each general-admission tier is.

One integer per seat, one bit per leg: a claim is an OR, a release is an AND with the
complement, and "is it free for this segment" is one AND. The assertions are the same rule
that Postgres enforces on its side; if one of them fires, memory is wrong and the actor stops.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from reservation.route import Route, Segment
from reservation.seating_plan import SeatingPlan


class Occupancy:
    """The live claims of one show.

    Shapes:
        taken: one integer per seat; bit *i* is set while leg *i* is held, booked, blocked or
            reserved.
        reserved: the legs that are nobody's but not on general sale either, of the seats that
            channels have (see ``house_seats``). Postgres does not count them as claims.
        admitted: per tier, one counter per leg.
    """

    __slots__ = ("_capacity", "_every_leg", "admitted", "reserved", "taken")

    def __init__(self, plan: SeatingPlan, route: Route) -> None:
        self.taken: list[int] = [0] * plan.seat_count
        self.reserved: dict[int, int] = {}
        self.admitted: list[list[int]] = [[0] * route.leg_count for _ in plan.admission_tiers]
        self._capacity = [tier.capacity for tier in plan.admission_tiers]
        self._every_leg = route.whole.mask

    def clashes(self, seat_indexes: Sequence[int], mask: int) -> tuple[int, ...]:
        """The seats among these that are taken on a leg of the mask."""
        taken = self.taken
        return tuple([index for index in seat_indexes if taken[index] & mask])

    def room(self, tier_index: int, segment: Segment) -> int:
        """Places of a tier that are free on every leg of the segment."""
        busiest = max(self.admitted[tier_index][segment.from_leg : segment.to_leg])
        return self._capacity[tier_index] - busiest

    def claim(self, seat_indexes: Iterable[int], mask: int) -> None:
        """Take these seats on these legs."""
        taken = self.taken
        for index in seat_indexes:
            assert not taken[index] & mask, f"seat {index} claimed twice"
            taken[index] |= mask

    def release(self, seat_indexes: Iterable[int], mask: int) -> None:
        """Give these seats back on these legs."""
        taken = self.taken
        for index in seat_indexes:
            assert taken[index] & mask == mask, f"seat {index} released but not claimed"
            taken[index] &= ~mask

    def admit(self, tier_index: int, segment: Segment, count: int) -> None:
        """Change a tier's counters by ``count``, which is negative to give places back."""
        counters = self.admitted[tier_index]
        for leg in range(segment.from_leg, segment.to_leg):
            counters[leg] += count
            assert 0 <= counters[leg] <= self._capacity[tier_index], f"tier {tier_index} oversold"

    def block(self, seat_indexes: Iterable[int]) -> None:
        """Take seats off sale on every leg."""
        self.claim(seat_indexes, self._every_leg)

    def unblock(self, seat_indexes: Iterable[int]) -> None:
        """Put blocked seats back on sale."""
        self.release(seat_indexes, self._every_leg)

    def reserve(self, seat_index: int, legs: int) -> None:
        """Keep a seat off general sale on those of these legs on which nobody has it."""
        free = legs & ~self.taken[seat_index]
        self.reserved[seat_index] = self.reserved.get(seat_index, 0) | free
        self.taken[seat_index] |= free

    def unreserve(self, seat_index: int) -> None:
        """Put what is reserved of a seat on general sale."""
        self.taken[seat_index] &= ~self.reserved.pop(seat_index)

    def let_through(self, seat_index: int, legs: int) -> None:
        """Give up what is reserved of a seat on these legs, for a claim that comes now."""
        assert self.reserved[seat_index] & legs == legs, f"seat {seat_index} is not reserved"
        self.reserved[seat_index] &= ~legs
        self.taken[seat_index] &= ~legs

    def claimed_seat_legs(self) -> int:
        """How many seat-legs are claimed in all; Postgres counts the same number."""
        taken = sum(bits.bit_count() for bits in self.taken)
        return taken - sum(bits.bit_count() for bits in self.reserved.values())

    def claimed_place_legs(self) -> int:
        """How many admission place-legs are taken in all."""
        return sum(sum(counters) for counters in self.admitted)
