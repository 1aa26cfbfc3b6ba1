"""Rejections: the expected ways of saying no. Values, never raised; the codes are public."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Rejection(StrEnum):
    """Why a command changed nothing. The value is the public, stable code."""

    SEAT_UNAVAILABLE = "seat_unavailable"  #: A seat is held, booked or blocked on a leg asked for.
    CAPACITY_UNAVAILABLE = "capacity_unavailable"  #: A tier has too few places on some leg.
    NOT_ENOUGH_SEATS = "not_enough_seats"  #: No set of seats satisfies the wish.
    ORPHAN_SEAT = "orphan_seat"  #: The choice would leave a single seat between taken ones.
    COMPANION_ALONE = "companion_alone"  #: A companion seat without its accessible seat.
    EXISTS_WITH_DIFFERENT_REQUEST = "exists_with_different_request"  #: The id has other content.
    HOLD_NOT_FOUND = "hold_not_found"  #: No such hold of this customer.
    HOLD_EXPIRED = "hold_expired"  #: Its deadline passed.
    HOLD_RELEASED = "hold_released"  #: The customer gave it back.
    HOLD_ALREADY_CONFIRMED = "hold_already_confirmed"  #: It is a booking now.
    EXTENSION_CAP_REACHED = "extension_cap_reached"  #: The hold has its longest possible life.
    BOOKING_NOT_FOUND = "booking_not_found"  #: No such booking of this customer.
    BOOKING_CANCELLED = "booking_cancelled"  #: The hold's booking was cancelled.
    TOO_MANY_HOLDS = "too_many_holds"  #: The customer's live holds on this show are used up.
    TOO_MANY_SEATS = "too_many_seats"  #: The customer's seats on this show are used up.
    NOT_ON_SALE = "not_on_sale"  #: Outside the show's sales window.
    TOO_MANY_SEATS_PER_HOLD = "too_many_seats_per_hold"  #: More than one hold may have here.
    SHOW_CANCELLED = "show_cancelled"  #: The show does not take place.
    CHANNEL_NOT_FOUND = "channel_not_found"  #: The channel has no seats of this show (any more).
    SEAT_NOT_ALLOCATED = "seat_not_allocated"  #: A seat to take from a channel is not its own.
    SEAT_NOT_BLOCKED = "seat_not_blocked"  #: A seat to unblock is not blocked.

    @property
    def is_transient(self) -> bool:
        """Whether the very same command may succeed later without the customer changing it."""
        return self in _TRANSIENT


_TRANSIENT = frozenset(
    {
        Rejection.SEAT_UNAVAILABLE,
        Rejection.CAPACITY_UNAVAILABLE,
        Rejection.NOT_ENOUGH_SEATS,
        Rejection.ORPHAN_SEAT,
        Rejection.TOO_MANY_HOLDS,
        Rejection.TOO_MANY_SEATS,
        Rejection.NOT_ON_SALE,
    }
)


class Rejected(NamedTuple):
    """A rejection and what it is about.

    Shapes:
        seat_indexes: the seats that clashed, for the seat rejections.
        tier_indexes: the tiers without room, for ``CAPACITY_UNAVAILABLE``.
    """

    code: Rejection
    seat_indexes: tuple[int, ...] = ()
    tier_indexes: tuple[int, ...] = ()
