"""A hold and the booking made from it: two small machines.

    hold      held -> released | expired | confirmed          (each end is final)
    booking   confirmed -> cancelled

Only ``held`` and ``confirmed`` holds keep their places; a confirmed hold keeps them until
its booking is cancelled.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from reservation.events import BookingConfirmed, SeatsHeld
from reservation.ids import CustomerId, HoldId
from reservation.refund_terms import RefundTerms
from reservation.rejections import Rejection
from reservation.route import Segment


class HoldState(StrEnum):
    """Where a hold is in its life."""

    HELD = "held"  #: The places wait for their customer.
    RELEASED = "released"  #: Given back by the customer.
    EXPIRED = "expired"  #: Ended by its deadline.
    CONFIRMED = "confirmed"  #: Became a booking.


class BookingState(StrEnum):
    """Where a booking is in its life."""

    CONFIRMED = "confirmed"  #: Sold.
    CANCELLED = "cancelled"  #: Undone; the places are free again.


REFUSAL_OF_ENDED_HOLD = {
    HoldState.RELEASED: Rejection.HOLD_RELEASED,
    HoldState.EXPIRED: Rejection.HOLD_EXPIRED,
    HoldState.CONFIRMED: Rejection.HOLD_ALREADY_CONFIRMED,
}
"""What a command on a hold that is no longer held is told."""


class Booking:
    """The sale that a confirmed hold turned into.

    ``refund_terms`` are those on which it was cancelled, and mean nothing before.
    """

    __slots__ = ("cancelled_at_ms", "confirmed", "refund_terms", "state")

    def __init__(self, confirmed: BookingConfirmed) -> None:
        self.confirmed = confirmed
        self.state = BookingState.CONFIRMED
        self.cancelled_at_ms: int | None = None
        self.refund_terms = RefundTerms.POLICY


class HeldPlaces(Protocol):
    """Who has which places, as far as a seat map counts them: a ``SeatsHeld`` is one."""

    @property
    def hold_id(self) -> HoldId:
        """The hold that has them."""
        ...

    @property
    def customer_id(self) -> CustomerId:
        """Whose hold it is."""
        ...

    @property
    def segment(self) -> Segment:
        """Between which stops they are taken."""
        ...

    @property
    def seat_indexes(self) -> Sequence[int]:
        """Strictly increasing."""
        ...

    @property
    def admissions(self) -> Sequence[tuple[int, int, int]]:
        """(tier_index, count, price of one in minor units)."""
        ...


class Hold:
    """One customer's claim.

    ``held`` is the event that made it and never changes: repeating the request answers with
    it again. ``expires_at_ms`` moves with extensions.
    """

    __slots__ = ("booking", "ended_at_ms", "expires_at_ms", "held", "state")

    def __init__(self, held: SeatsHeld) -> None:
        self.held = held
        self.state = HoldState.HELD
        self.expires_at_ms = held.expires_at_ms
        self.ended_at_ms: int | None = None
        self.booking: Booking | None = None

    @property
    def places(self) -> HeldPlaces:
        """What it claims, without more."""
        return self.held

    @property
    def is_booked(self) -> bool:
        """Whether a booking was made from it, cancelled or not."""
        return self.booking is not None

    @property
    def keeps_places(self) -> bool:
        """Whether the hold's places are taken because of it."""
        if self.booking is not None:
            return self.booking.state is BookingState.CONFIRMED
        return self.state is HoldState.HELD
