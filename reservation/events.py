"""What happened to a show: past tense, immutable, the content of its journal.

Replaying a journal's events in order gives the state of the show; nothing else is needed.

Units:
    every ``*_at_ms``: Unix milliseconds, UTC, by the database's clock.
    every ``*_minor``: minor units of the show's currency.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple, TypeAlias

from reservation.ids import BookingId, ChannelId, CustomerId, HoldId
from reservation.refund_terms import RefundTerms
from reservation.route import Segment


class Arrangement(StrEnum):
    """How the seats of a hold were found."""

    NAMED = "named"  #: The customer named them.
    NEAREST = "nearest"  #: The nearest equivalent of seats that were taken.
    ROW = "row"  #: Side by side in one row.
    SECTION = "section"  #: In one section, not all side by side.
    SPLIT = "split"  #: Wherever seats were left.
    ADMISSION = "admission"  #: Unnumbered places only.


class SeatsHeld(NamedTuple):
    """A customer has these places until ``expires_at_ms``.

    Shapes:
        seat_indexes: strictly increasing.
        seat_minor: the price of each seat, in the same order.
        admissions: (tier_index, count, price of one in minor units).
    """

    hold_id: HoldId
    customer_id: CustomerId
    segment: Segment
    seat_indexes: tuple[int, ...]
    seat_minor: tuple[int, ...]
    admissions: tuple[tuple[int, int, int], ...]
    arrangement: Arrangement
    held_at_ms: int
    expires_at_ms: int
    request_digest: str

    @property
    def amount_minor(self) -> int:
        """What the whole hold costs."""
        return sum(self.seat_minor) + sum(count * each for _, count, each in self.admissions)

    @property
    def place_count(self) -> int:
        """Seats and admissions together."""
        places = len(self.seat_indexes)
        if self.admissions:
            places += sum(count for _, count, _ in self.admissions)
        return places


class HoldExtended(NamedTuple):
    """The hold's deadline moved."""

    hold_id: HoldId
    expires_at_ms: int


class HoldReleased(NamedTuple):
    """The customer gave the places back."""

    hold_id: HoldId
    at_ms: int


class HoldExpired(NamedTuple):
    """The deadline passed without a booking."""

    hold_id: HoldId
    at_ms: int


class BookingConfirmed(NamedTuple):
    """The hold became a booking."""

    hold_id: HoldId
    booking_id: BookingId
    customer_id: CustomerId
    payment: str
    amount_minor: int
    at_ms: int


class BookingCancelled(NamedTuple):
    """The booking was undone and its places are free."""

    hold_id: HoldId
    booking_id: BookingId
    at_ms: int
    refund: RefundTerms = RefundTerms.POLICY


class SeatsBlocked(NamedTuple):
    """These seats are off sale on every leg."""

    seat_indexes: tuple[int, ...]
    reason: str
    at_ms: int


class SeatsUnblocked(NamedTuple):
    """These seats are on sale again."""

    seat_indexes: tuple[int, ...]
    at_ms: int


class SeatsAllocated(NamedTuple):
    """These seats are a channel's: on every leg on which nobody has them, only it can sell them."""

    channel_id: ChannelId
    seat_indexes: tuple[int, ...]
    at_ms: int


class SeatsDeallocated(NamedTuple):
    """These seats are no channel's any more. What is held or booked of them stays so."""

    channel_id: ChannelId
    seat_indexes: tuple[int, ...]
    at_ms: int


class HeldFromChannel(NamedTuple):
    """A hold was made that has seats of a channel, and perhaps others.

    ``held`` is what happened to the customer, as of any other hold; a repeated request is answered
    with it alone.
    """

    channel_id: ChannelId
    held: SeatsHeld


class ShowCancelled(NamedTuple):
    """The show does not take place. Nothing is sold any more.

    Shapes:
        hold_ids: every hold that was live; they ended with it and count as released.
    """

    reason: str
    hold_ids: tuple[HoldId, ...]
    at_ms: int


class HoldsForgotten(NamedTuple):
    """Ended holds no longer answer a repeated request; the journal still tells their story."""

    hold_ids: tuple[HoldId, ...]


Event: TypeAlias = (
    SeatsHeld
    | HoldExtended
    | HoldReleased
    | HoldExpired
    | BookingConfirmed
    | BookingCancelled
    | SeatsBlocked
    | SeatsUnblocked
    | SeatsAllocated
    | SeatsDeallocated
    | HeldFromChannel
    | ShowCancelled
    | HoldsForgotten
)
