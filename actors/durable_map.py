"""What of a live show is durable, for those who only look: kept beside the seat map, cheaply.

A live seat map is ahead of the database by the batch that is on its way, and a reader must not
see a hold that may never have happened. So a ``DurableMap`` takes the events once more, when they
have landed. It remembers who holds what. The states of the seats are made from that when somebody
wants to look for the first time, and are kept up from then on: a show that nobody looks at costs
an entry in a dictionary a hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from persistence.journal import Activation
from persistence.seat_map_image import SeatMapImage, Shape, States, image_of
from reservation.events import (
    BookingCancelled,
    BookingConfirmed,
    Event,
    HeldFromChannel,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    HoldsForgotten,
    SeatsAllocated,
    SeatsBlocked,
    SeatsDeallocated,
    SeatsHeld,
    SeatsUnblocked,
    ShowCancelled,
)
from reservation.hold import HeldPlaces
from reservation.ids import HoldId
from reservation.show import Show


class DurableMap:
    """One activation of a show, as far as it is in the database.

    Units:
        known_at_s: an instant at which the database is known to have said this, by the
            monotonic clock; 0 while nothing has landed.
    """

    __slots__ = (
        "_admitted",
        "_allocated",
        "_blocked",
        "_booked",
        "_epoch",
        "_held",
        "_legs",
        "_shape",
        "_states",
        "known_at_s",
        "seq",
        "show_id",
    )

    def __init__(self, show: Show, activation: Activation) -> None:
        self.show_id = show.show_id
        self.seq = activation.seq
        self.known_at_s = 0.0
        self._epoch = activation.epoch
        self._legs = show.route.leg_count
        plan = show.plan
        self._shape = Shape(plan.seat_count, self._legs, len(plan.admission_tiers))
        self._held: dict[HoldId, HeldPlaces] = {}
        self._booked: dict[HoldId, HeldPlaces] = {}
        self._blocked = {seat_index for seat_index, _ in activation.blocked}
        self._allocated = {seat_index for seat_index, _ in activation.allocated}
        self._states: States | None = None
        self._admitted: list[list[int]] = []
        for hold in activation.holds:
            if hold.keeps_places:
                holders = self._held if hold.booking is None else self._booked
                places = hold.places
                holders[places.hold_id] = places

    def landed(self, events: Iterable[Event], seq: int, known_at_s: float) -> None:
        """These events are durable, as the batch with this sequence number.

        Raises:
            KeyError, AssertionError: they contradict what was durable before.
        """
        assert self.seq <= seq, f"batch {seq} of {self.show_id} landed after {self.seq}"
        for event in events:
            _TAKE[type(event)](self, event)
        self.seq = seq
        self.known_at_s = known_at_s

    def image(self) -> SeatMapImage:
        """What readers may see."""
        if self._states is None:
            self._states = self._make_states()
        states = self._states
        if self._allocated:
            # For everybody else a channel's seat is off sale, whoever has it on which leg.
            states = states[:]
            for seat_index in self._allocated:
                states[seat_index] = self._shape.blocked
        return image_of(self.show_id, self._epoch, self.seq, self._shape, states, self._admitted)

    def _make_states(self) -> States:
        self._admitted = self._shape.no_admissions()
        states = self._shape.no_states()
        for holders, shift in ((self._held, 0), (self._booked, self._legs)):
            for held in holders.values():
                bits = held.segment.mask << shift
                for seat_index in held.seat_indexes:
                    states[seat_index] |= bits
                self._admit(held, 1)
        for seat_index in self._blocked:
            states[seat_index] = self._shape.blocked
        return states

    def _admit(self, held: HeldPlaces, sign: int) -> None:
        for tier_index, count, _ in held.admissions:
            counters = self._admitted[tier_index]
            for leg in range(held.segment.from_leg, held.segment.to_leg):
                counters[leg] += sign * count

    # -- one event each -----------------------------------------------------------------------

    def _take_held(self, event: SeatsHeld) -> None:
        self._held[event.hold_id] = event
        states = self._states
        if states is not None:
            bits = event.segment.mask
            for seat_index in event.seat_indexes:
                states[seat_index] |= bits
            if event.admissions:
                self._admit(event, 1)

    def _take_ended(self, event: HoldReleased | HoldExpired) -> None:
        self._give_back(self._held.pop(event.hold_id), 0)

    def _take_cancelled(self, event: BookingCancelled) -> None:
        self._give_back(self._booked.pop(event.hold_id), self._legs)

    def _give_back(self, held: HeldPlaces, shift: int) -> None:
        states = self._states
        if states is not None:
            bits = held.segment.mask << shift
            for seat_index in held.seat_indexes:
                states[seat_index] ^= bits
            if held.admissions:
                self._admit(held, -1)

    def _take_confirmed(self, event: BookingConfirmed) -> None:
        held = self._booked[event.hold_id] = self._held.pop(event.hold_id)
        states = self._states
        if states is not None:
            mask = held.segment.mask
            both = mask | mask << self._legs
            for seat_index in held.seat_indexes:
                states[seat_index] ^= both

    def _take_blocked(self, event: SeatsBlocked) -> None:
        self._blocked.update(event.seat_indexes)
        self._set(event.seat_indexes, self._shape.blocked)

    def _take_unblocked(self, event: SeatsUnblocked) -> None:
        self._blocked.difference_update(event.seat_indexes)
        self._set(event.seat_indexes, 0)

    def _take_held_from_channel(self, event: HeldFromChannel) -> None:
        self._take_held(event.held)

    def _take_allocated(self, event: SeatsAllocated) -> None:
        self._allocated.update(event.seat_indexes)

    def _take_deallocated(self, event: SeatsDeallocated) -> None:
        self._allocated.difference_update(event.seat_indexes)

    def _take_show_cancelled(self, event: ShowCancelled) -> None:
        for hold_id in event.hold_ids:
            self._give_back(self._held.pop(hold_id), 0)

    def _set(self, seat_indexes: Iterable[int], state: int) -> None:
        if self._states is not None:
            for seat_index in seat_indexes:
                self._states[seat_index] = state

    def _take_nothing(self, event: HoldExtended | HoldsForgotten) -> None:
        """No seat changes its state."""


_TAKE: dict[type, Callable[[DurableMap, Any], None]] = {
    SeatsHeld: DurableMap._take_held,
    HoldExtended: DurableMap._take_nothing,
    HoldReleased: DurableMap._take_ended,
    HoldExpired: DurableMap._take_ended,
    BookingConfirmed: DurableMap._take_confirmed,
    BookingCancelled: DurableMap._take_cancelled,
    SeatsBlocked: DurableMap._take_blocked,
    SeatsUnblocked: DurableMap._take_unblocked,
    SeatsAllocated: DurableMap._take_allocated,
    SeatsDeallocated: DurableMap._take_deallocated,
    HeldFromChannel: DurableMap._take_held_from_channel,
    ShowCancelled: DurableMap._take_show_cancelled,
    HoldsForgotten: DurableMap._take_nothing,
}
