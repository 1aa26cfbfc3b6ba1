"""Rows of the ``hold`` and ``booking`` tables as the domain's own objects."""

from __future__ import annotations

from collections.abc import Iterable

import asyncpg
import orjson

from reservation.events import Arrangement, BookingConfirmed, SeatsHeld
from reservation.hold import Booking, BookingState, HeldPlaces, Hold, HoldState
from reservation.ids import BookingId, CustomerId, HoldId
from reservation.route import Segment

_ARRANGEMENTS = {arrangement.value: arrangement for arrangement in Arrangement}
_STATES = {state.value: state for state in HoldState}
_NONE_ADMITTED: tuple[tuple[int, int, int], ...] = ()


def hold_of(row: asyncpg.Record) -> Hold:
    """The hold, with its booking when it has one.

    Shapes:
        row: the columns of ``find_holds`` in ``sql/claims.sql``.
    """
    return _hold_of(row, None if row["booking_id"] is None else row)


def holds_of(rows: Iterable[asyncpg.Record], bookings: Iterable[asyncpg.Record]) -> list[Hold]:
    """All holds of a show, with their bookings; the ended ones in the order they ended.

    Shapes:
        rows, bookings: the columns of ``load_holds`` and ``load_bookings`` in
            ``sql/journal.sql``, of one moment.
    """
    booking_of = {row["hold_id"]: row for row in bookings}
    segments: dict[tuple[int, int], Segment] = {}
    booked: list[Hold] = []
    others: list[tuple[bool, int, int, int, Hold]] = []
    for row in rows:
        # In the order of the columns: to look each up by its name takes twice as long.
        (
            hold_id,
            customer_id,
            from_leg,
            to_leg,
            seats,
            _,
            admissions,
            arrangement,
            _,
            _,
            _,
            deadline_at_ms,
            ended_at_ms,
            state,
            seq,
        ) = row
        booking = booking_of.get(hold_id)
        if (
            booking is not None
            and booking["cancelled_at_ms"] is None
            and state == "confirmed"
            and arrangement in _ARRANGEMENTS
        ):
            segment = segments.get((from_leg, to_leg))
            if segment is None:
                segment = segments[from_leg, to_leg] = Segment(from_leg, to_leg)
            hold = _StoredHold(hold_id, customer_id, segment, seats, admissions, row, booking)
            hold.expires_at_ms = deadline_at_ms
            hold.ended_at_ms = ended_at_ms
            booked.append(hold)
        else:
            order = ended_at_ms is not None, ended_at_ms or 0, seq, len(others)
            others.append((*order, _hold_of(row, booking)))
    others.sort()
    return [*(each[-1] for each in others), *booked]


class _StoredHold(Hold):
    """A hold that became a booking, as it is stored.

    Of a show that is sold out there are tens of thousands, and hardly any is asked for again. Its
    places are read from its row; the rest becomes objects when somebody wants it.
    """

    __slots__ = (
        "_booking_row",
        "_made",
        "_row",
        "admissions",
        "customer_id",
        "hold_id",
        "seat_indexes",
        "segment",
    )

    def __init__(
        self,
        hold_id: HoldId,
        customer_id: CustomerId,
        segment: Segment,
        seat_indexes: list[int],
        admissions: str,
        row: asyncpg.Record,
        booking_row: asyncpg.Record,
    ) -> None:
        self.state = HoldState.CONFIRMED
        self.hold_id = hold_id
        self.customer_id = customer_id
        self.segment = segment
        self.seat_indexes = seat_indexes
        self.admissions = _NONE_ADMITTED
        if admissions != "[]":
            self.admissions = _admissions_of(admissions)
        self._row = row
        self._booking_row = booking_row
        self._made: Hold | None = None

    def _make(self) -> Hold:
        if self._made is None:
            self._made = _hold_of(self._row, self._booking_row)
        return self._made

    # Both are made once and never set: a booking that is cancelled changes, and stays the same.
    @property
    def held(self) -> SeatsHeld:  # type: ignore[override]  # Nobody sets it.
        """See ``Hold``."""
        return self._make().held

    @property
    def booking(self) -> Booking | None:  # type: ignore[override]  # Only a held hold gets one.
        """See ``Hold``."""
        return self._make().booking

    @property
    def places(self) -> HeldPlaces:
        """See ``Hold``."""
        return self

    @property
    def is_booked(self) -> bool:
        """See ``Hold``."""
        return True

    @property
    def keeps_places(self) -> bool:
        """See ``Hold``."""
        return self._made is None or self._made.keeps_places


def _admissions_of(admissions: str) -> tuple[tuple[int, int, int], ...]:
    return () if admissions == "[]" else tuple(tuple(a) for a in orjson.loads(admissions))


def _hold_of(row: asyncpg.Record, booking: asyncpg.Record | None) -> Hold:
    hold = Hold(
        SeatsHeld(
            HoldId(row["hold_id"]),
            CustomerId(row["customer_id"]),
            Segment(row["from_leg"], row["to_leg"]),
            tuple(row["seats"]),
            tuple(row["seat_minor"]),
            _admissions_of(row["admissions"]),
            _ARRANGEMENTS[row["arrangement"]],
            row["held_at_ms"],
            row["expires_at_ms"],
            row["request_digest"],
        )
    )
    hold.state = _STATES[row["state"]]
    hold.expires_at_ms = row["deadline_at_ms"]
    hold.ended_at_ms = row["ended_at_ms"]
    if booking is not None:
        hold.booking = _booking_of(booking, hold)
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
