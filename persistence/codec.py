"""Journal events as JSON, readable by people and by every later version.

Each event is an object whose ``kind`` is its name in snake_case. Kinds are never reused;
a kind that changes its meaning gets a new name, and the old one stays readable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from reservation.events import (
    Arrangement,
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
from reservation.ids import BookingId, ChannelId, CustomerId, HoldId
from reservation.refund_terms import RefundTerms
from reservation.route import Segment

Record: TypeAlias = dict[str, Any]


def _record_held(event: SeatsHeld) -> Record:
    # Unpacked in one go: this runs for every hold, and reading ten fields by name takes longer.
    (
        hold_id,
        customer_id,
        (from_leg, to_leg),
        seats,
        seat_minor,
        admissions,
        arrangement,
        held_at_ms,
        expires_at_ms,
        request_digest,
    ) = event
    return {
        "kind": "seats_held",
        "hold_id": hold_id,
        "customer_id": customer_id,
        "from_leg": from_leg,
        "to_leg": to_leg,
        "seats": seats,
        "seat_minor": seat_minor,
        "admissions": admissions,
        "arrangement": arrangement,
        "held_at_ms": held_at_ms,
        "expires_at_ms": expires_at_ms,
        "request_digest": request_digest,
    }


def held_of(record: Mapping[str, Any]) -> SeatsHeld:
    """The ``SeatsHeld`` that a record, or a row with the same names, tells of."""
    return SeatsHeld(
        HoldId(record["hold_id"]),
        CustomerId(record["customer_id"]),
        Segment(record["from_leg"], record["to_leg"]),
        tuple(record["seats"]),
        tuple(record["seat_minor"]),
        tuple((tier, count, each) for tier, count, each in record["admissions"]),
        Arrangement(record["arrangement"]),
        record["held_at_ms"],
        record["expires_at_ms"],
        record["request_digest"],
    )


def confirmed_of(record: Mapping[str, Any]) -> BookingConfirmed:
    """The ``BookingConfirmed`` that a record, or a row with the same names, tells of."""
    return BookingConfirmed(
        HoldId(record["hold_id"]),
        BookingId(record["booking_id"]),
        CustomerId(record["customer_id"]),
        record["payment"],
        record["amount_minor"],
        record["at_ms"],
    )


_TO_RECORD: dict[type, Callable[[Any], Record]] = {
    SeatsHeld: _record_held,
    HoldExtended: lambda event: {
        "kind": "hold_extended",
        "hold_id": event.hold_id,
        "expires_at_ms": event.expires_at_ms,
    },
    HoldReleased: lambda event: {
        "kind": "hold_released",
        "hold_id": event.hold_id,
        "at_ms": event.at_ms,
    },
    HoldExpired: lambda event: {
        "kind": "hold_expired",
        "hold_id": event.hold_id,
        "at_ms": event.at_ms,
    },
    BookingConfirmed: lambda event: {
        "kind": "booking_confirmed",
        "hold_id": event.hold_id,
        "booking_id": event.booking_id,
        "customer_id": event.customer_id,
        "payment": event.payment,
        "amount_minor": event.amount_minor,
        "at_ms": event.at_ms,
    },
    BookingCancelled: lambda event: {
        "kind": "booking_cancelled",
        "hold_id": event.hold_id,
        "booking_id": event.booking_id,
        "at_ms": event.at_ms,
        "refund": event.refund,
    },
    SeatsBlocked: lambda event: {
        "kind": "seats_blocked",
        "seats": event.seat_indexes,
        "reason": event.reason,
        "at_ms": event.at_ms,
    },
    SeatsUnblocked: lambda event: {
        "kind": "seats_unblocked",
        "seats": event.seat_indexes,
        "at_ms": event.at_ms,
    },
    SeatsAllocated: lambda event: {
        "kind": "seats_allocated",
        "channel_id": event.channel_id,
        "seats": event.seat_indexes,
        "at_ms": event.at_ms,
    },
    SeatsDeallocated: lambda event: {
        "kind": "seats_deallocated",
        "channel_id": event.channel_id,
        "seats": event.seat_indexes,
        "at_ms": event.at_ms,
    },
    HeldFromChannel: lambda event: {
        **_record_held(event.held),
        "kind": "held_from_channel",
        "channel_id": event.channel_id,
    },
    ShowCancelled: lambda event: {
        "kind": "show_cancelled",
        "reason": event.reason,
        "hold_ids": event.hold_ids,
        "at_ms": event.at_ms,
    },
    HoldsForgotten: lambda event: {"kind": "holds_forgotten", "hold_ids": event.hold_ids},
}

_OF_RECORD: dict[str, Callable[[Record], Event]] = {
    "seats_held": held_of,
    "hold_extended": lambda record: HoldExtended(
        HoldId(record["hold_id"]), record["expires_at_ms"]
    ),
    "hold_released": lambda record: HoldReleased(HoldId(record["hold_id"]), record["at_ms"]),
    "hold_expired": lambda record: HoldExpired(HoldId(record["hold_id"]), record["at_ms"]),
    "booking_confirmed": confirmed_of,
    "booking_cancelled": lambda record: BookingCancelled(
        HoldId(record["hold_id"]),
        BookingId(record["booking_id"]),
        record["at_ms"],
        # Journals from before payments do not say it.
        RefundTerms(record.get("refund", RefundTerms.POLICY)),
    ),
    "seats_blocked": lambda record: SeatsBlocked(
        tuple(record["seats"]), record["reason"], record["at_ms"]
    ),
    "seats_unblocked": lambda record: SeatsUnblocked(tuple(record["seats"]), record["at_ms"]),
    "seats_allocated": lambda record: SeatsAllocated(
        ChannelId(record["channel_id"]), tuple(record["seats"]), record["at_ms"]
    ),
    "seats_deallocated": lambda record: SeatsDeallocated(
        ChannelId(record["channel_id"]), tuple(record["seats"]), record["at_ms"]
    ),
    "held_from_channel": lambda record: HeldFromChannel(
        ChannelId(record["channel_id"]), held_of(record)
    ),
    "show_cancelled": lambda record: ShowCancelled(
        record["reason"], tuple(HoldId(each) for each in record["hold_ids"]), record["at_ms"]
    ),
    "holds_forgotten": lambda record: HoldsForgotten(
        tuple(HoldId(hold_id) for hold_id in record["hold_ids"])
    ),
}


def record_of(event: Event) -> Record:
    """The event as an object that JSON can hold."""
    return _TO_RECORD[type(event)](event)


def encode_events(events: Sequence[Event]) -> str:
    """The events of one sequence number as a JSON array."""
    return orjson.dumps([_TO_RECORD[type(event)](event) for event in events]).decode()


def decode_events(text: str | bytes) -> list[Event]:
    """The events of one sequence number.

    Raises:
        ValueError: not a JSON array of known events.
    """
    try:
        records = orjson.loads(text)
        if not isinstance(records, list):
            raise TypeError("not an array")
        return [_OF_RECORD[record["kind"]](record) for record in records]
    except (KeyError, TypeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"journal: unreadable events ({error!r})") from error
