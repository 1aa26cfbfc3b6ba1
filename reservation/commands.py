"""What may be asked of a show. Imperative, immutable, and small enough to travel by the thousand.

Commands are ``NamedTuple``s: they cross a process boundary in batches of hundreds, and no
other standard type is built, pickled and read as fast.

Seats are indexes here. The HTTP edge, which knows the plan's labels, translates; an actor
never needs a label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, TypeAlias

from reservation.ids import BookingId, ChannelId, CustomerId, HoldId
from reservation.refund_terms import RefundTerms
from reservation.route import Segment
from reservation.show import OrphanRule


class Wish(NamedTuple):
    """Seats the house may choose.

    Shapes:
        seat_count: seats wanted in all, the accessible and companion ones included.
        category_index: only this category, or None for any.
        accessible_count: how many of them must be accessible seats.
        companion_count: how many of them must be companion seats beside the accessible ones.
        orphan_rule: None takes the show's own rule.
    """

    seat_count: int
    category_index: int | None = None
    accessible_count: int = 0
    companion_count: int = 0
    orphan_rule: OrphanRule | None = None


class HoldSeats(NamedTuple):
    """Claim these seats and admissions on every leg of the segment, or nothing.

    Shapes:
        seat_indexes: strictly increasing, within the plan; may be empty.
        admissions: (tier_index, count) with strictly increasing tiers; may be empty.
        or_nearest: when a named seat is taken, take the nearest equivalent set instead.
    """

    hold_id: HoldId
    customer_id: CustomerId
    segment: Segment
    seat_indexes: tuple[int, ...]
    admissions: tuple[tuple[int, int], ...]
    or_nearest: bool
    request_digest: str


class HoldBestAvailable(NamedTuple):
    """Claim the best seats that satisfy the wish on every leg of the segment, or nothing."""

    hold_id: HoldId
    customer_id: CustomerId
    segment: Segment
    wish: Wish
    request_digest: str


class ExtendHold(NamedTuple):
    """Give a live hold as much time as a new one, up to its hard cap."""

    hold_id: HoldId
    customer_id: CustomerId


class ReleaseHold(NamedTuple):
    """Give the seats of a live hold back."""

    hold_id: HoldId
    customer_id: CustomerId


class ConfirmHold(NamedTuple):
    """Turn a live hold into a booking. ``payment`` says how it was paid."""

    hold_id: HoldId
    customer_id: CustomerId
    payment: str


class CancelBooking(NamedTuple):
    """Undo a booking and give its seats back. ``refund`` says on which terms its money goes back.

    A repetition changes nothing: the terms of the first one count.
    """

    booking_id: BookingId
    customer_id: CustomerId
    refund: RefundTerms = RefundTerms.POLICY


class BlockSeats(NamedTuple):
    """Take seats off sale on every leg. Refused when one of them is held or booked."""

    seat_indexes: tuple[int, ...]
    reason: str


class UnblockSeats(NamedTuple):
    """Put blocked seats back on sale."""

    seat_indexes: tuple[int, ...]


class AllocateSeats(NamedTuple):
    """Take seats off general sale for a channel: only holds through it may claim them.

    Refused when one of them is held, booked, blocked or another channel's. Seats that the channel
    has already stay its own.
    """

    channel_id: ChannelId
    seat_indexes: tuple[int, ...]


class DeallocateSeats(NamedTuple):
    """Take seats from a channel. What is held or booked of them stays; the rest is everybody's."""

    channel_id: ChannelId
    seat_indexes: tuple[int, ...]


class CloseChannel(NamedTuple):
    """Take every seat from a channel. Harmless to repeat."""

    channel_id: ChannelId


class HoldFromChannel(NamedTuple):
    """Do what ``hold`` asks for, with the channel's seats as free as those on general sale.

    Whoever asks has shown that he may use the channel. A hold that ends without a booking, and a
    booking that is cancelled, leave the channel's seats with the channel.
    """

    channel_id: ChannelId
    hold: HoldSeats | HoldBestAvailable


class CancelShow(NamedTuple):
    """Sell nothing any more: every live hold ends, bookings stay until they are cancelled."""

    reason: str


Command: TypeAlias = (
    HoldSeats
    | HoldBestAvailable
    | ExtendHold
    | ReleaseHold
    | ConfirmHold
    | CancelBooking
    | BlockSeats
    | UnblockSeats
    | AllocateSeats
    | DeallocateSeats
    | CloseChannel
    | HoldFromChannel
    | CancelShow
)


class Priority(StrEnum):
    """Who goes first when a show is busy."""

    SETTLE = "settle"  #: Ends or keeps a claim that exists: confirm, cancel, release, extend.
    CLAIM = "claim"  #: Wants a new claim.


_CLAIMS = frozenset({HoldSeats, HoldBestAvailable, HoldFromChannel})


def priority_of(command: Command) -> Priority:
    """Settling goes before claiming: it frees seats or turns them into money."""
    return Priority.CLAIM if type(command) in _CLAIMS else Priority.SETTLE


def digest_request(*content: object) -> str:
    """A short fingerprint of what a request asks for, to tell a repetition from a reuse of its id.

    Example:
        >>> digest_request((1, 2), "A", "B") == digest_request((1, 2), "A", "B")
        True
        >>> digest_request((1, 2), "A", "B") == digest_request((1, 3), "A", "B")
        False
    """
    return hashlib.blake2b(repr(content).encode(), digest_size=9).hexdigest()


class BeyondPlan(AssertionError):
    """A seat or tier that the plan does not have."""


def assert_shape(command: Command, leg_count: int, seat_count: int, tier_count: int) -> None:
    """Stop at a command that the HTTP edge should not have let through.

    An index below zero would quietly mean another seat, and one beyond the plan would stop the
    show only after half of its event had been applied.

    Raises:
        BeyondPlan: it names what this plan does not have, but a later revision of it may.
        AssertionError: it makes no sense with any plan.

    Shapes:
        leg_count, seat_count, tier_count: how much of each the show has.
    """
    if isinstance(command, HoldSeats):
        _assert_named(command, leg_count, seat_count, tier_count)
    elif isinstance(command, HoldBestAvailable):
        _assert_segment(command.segment, leg_count)
    elif isinstance(command, HoldFromChannel):
        assert_shape(command.hold, leg_count, seat_count, tier_count)
    elif isinstance(command, _WITH_SEATS):
        _assert_rising("seat", command.seat_indexes, seat_count)


def _assert_named(command: HoldSeats, leg_count: int, seat_count: int, tier_count: int) -> None:
    # Unpacked in one go: this runs for every hold.
    _, _, segment, seat_indexes, admissions, _, _ = command
    assert seat_indexes or admissions, "a hold of nothing"
    if admissions:
        _assert_rising("tier", [tier_index for tier_index, _ in admissions], tier_count)
        assert all(count > 0 for _, count in admissions), "count: not positive"
    _assert_segment(segment, leg_count)
    _assert_rising("seat", seat_indexes, seat_count)


def _assert_segment(segment: Segment, leg_count: int) -> None:
    from_leg, to_leg = segment
    assert 0 <= from_leg < to_leg <= leg_count, f"segment: {segment}"


_WITH_SEATS = (BlockSeats, UnblockSeats, AllocateSeats, DeallocateSeats)


def _assert_rising(what: str, indexes: Sequence[int], end: int) -> None:
    previous = -1
    for index in indexes:
        assert previous < index, f"{what}: {indexes} do not rise strictly from 0"
        previous = index
    if previous >= end:
        raise BeyondPlan(f"{what}: {previous} is beyond {end - 1}")
