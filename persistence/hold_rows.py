"""Rows of the ``hold`` and ``booking`` tables as the domain's own objects."""

from __future__ import annotations

import asyncpg
import orjson

from reservation.events import Arrangement, BookingConfirmed, SeatsHeld
from reservation.hold import Booking, BookingState, Hold, HoldState
from reservation.ids import BookingId, CustomerId, HoldId
from reservation.route import Segment

_ARRANGEMENTS = {arrangement.value: arrangement for arrangement in Arrangement}
_STATES = {state.value: state for state in HoldState}


def hold_of(row: asyncpg.Record) -> Hold:
    """The hold, with its booking when it has one.

    Shapes:
        row: the columns of ``load_holds`` in ``sql/journal.sql``.
    """
    admissions = row["admissions"]
    hold = Hold(
        SeatsHeld(
            HoldId(row["hold_id"]),
            CustomerId(row["customer_id"]),
            Segment(row["from_leg"], row["to_leg"]),
            tuple(row["seats"]),
            tuple(row["seat_minor"]),
            () if admissions == "[]" else tuple(tuple(a) for a in orjson.loads(admissions)),
            _ARRANGEMENTS[row["arrangement"]],
            row["held_at_ms"],
            row["expires_at_ms"],
            row["request_digest"],
        )
    )
    hold.state = _STATES[row["state"]]
    hold.expires_at_ms = row["deadline_at_ms"]
    hold.ended_at_ms = row["ended_at_ms"]
    if row["booking_id"] is not None:
        hold.booking = _booking_of(row, hold)
    return hold


def _booking_of(row: asyncpg.Record, hold: Hold) -> Booking:
    booking = Booking(
        BookingConfirmed(
            hold.held.hold_id,
            BookingId(row["booking_id"]),
            hold.held.customer_id,
            row["payment"],
            row["amount_minor"],
            row["confirmed_at_ms"],
        )
    )
    booking.cancelled_at_ms = row["cancelled_at_ms"]
    if booking.cancelled_at_ms is not None:
        booking.state = BookingState.CANCELLED
    return booking
