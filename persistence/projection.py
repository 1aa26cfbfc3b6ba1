"""What one batch of events leaves behind in the state tables.

The journal keeps every event in order. The state tables only need the net effect: a hold that
was made and given back within one batch never claims a seat there. This is also what makes the
database's own check exact: of everything it is asked to claim, no two claims may overlap, and
everything it is asked to free must have been claimed before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from persistence.codec import record_of
from reservation.events import (
    BookingCancelled,
    BookingConfirmed,
    Event,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    HoldsForgotten,
    SeatsBlocked,
    SeatsHeld,
    SeatsUnblocked,
)
from reservation.hold import HoldState
from reservation.ids import ShowId

Row: TypeAlias = dict[str, Any]

SECTIONS = (
    "extended",
    "confirmed",
    "ended",
    "cancelled",
    "held",
    "booked",
    "forgotten",
    "blocked",
    "unblocked",
    "outbox",
)


class Projection:
    """Rows to write for one batch, by section; several shows may share it.

    Shapes:
        held: new holds with their final state; ``claims`` says whether they keep places.
        booked: the bookings among the new holds, cancelled or not.
        extended, confirmed, ended, cancelled, forgotten: holds that were stored before.
        blocked, unblocked: (show_id, seat_index).
        outbox: what the rest of the world learns, numbered within its sequence number.
    """

    def __init__(self) -> None:
        self.sections: dict[str, list[Row]] = {name: [] for name in SECTIONS}

    def add(self, show_id: ShowId, seq: int, events: Sequence[Event]) -> None:
        """Add the net effect of one show's events."""
        _ShowProjection(self.sections, show_id, seq).run(events)


class _ShowProjection:
    def __init__(self, sections: dict[str, list[Row]], show_id: ShowId, seq: int) -> None:
        self._sections = sections
        self._show_id = show_id
        self._seq = seq
        self._new: dict[str, Row] = {}
        self._extended: dict[str, Row] = {}
        self._new_bookings: dict[str, Row] = {}
        self._blocked: dict[int, str] = {}
        self._unblocked: list[int] = []
        self._published = 0

    def run(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, SeatsHeld):
                self._hold(event)
            elif isinstance(event, HoldExtended):
                self._extend(event)
            elif isinstance(event, HoldReleased | HoldExpired):
                self._end(event)
            elif isinstance(event, BookingConfirmed):
                self._confirm(event)
            elif isinstance(event, BookingCancelled):
                self._cancel(event)
            elif isinstance(event, SeatsBlocked):
                self._block(event)
            elif isinstance(event, SeatsUnblocked):
                self._unblock(event)
            elif isinstance(event, HoldsForgotten):
                self._forget(event)
        self._sections["extended"].extend(self._extended.values())
        for seat_index in self._unblocked:
            self._sections["unblocked"].append(self._seat_row(seat_index))
        for seat_index, reason in self._blocked.items():
            self._sections["blocked"].append({**self._seat_row(seat_index), "reason": reason})

    def _seat_row(self, seat_index: int) -> Row:
        return {"show_id": self._show_id, "seat_index": seat_index}

    def _hold(self, event: SeatsHeld) -> None:
        row = record_of(event)
        row["show_id"] = self._show_id
        row["seq"] = self._seq
        row["state"] = HoldState.HELD.value
        row["deadline_at_ms"] = event.expires_at_ms
        row["claims"] = True
        row["ended_at_ms"] = None
        self._new[event.hold_id] = row
        self._sections["held"].append(row)

    def _extend(self, event: HoldExtended) -> None:
        new = self._new.get(event.hold_id)
        if new is not None:
            new["deadline_at_ms"] = event.expires_at_ms
            return
        self._extended[event.hold_id] = {
            "show_id": self._show_id,
            "hold_id": event.hold_id,
            "deadline_at_ms": event.expires_at_ms,
        }

    def _end(self, event: HoldReleased | HoldExpired) -> None:
        state = HoldState.RELEASED if isinstance(event, HoldReleased) else HoldState.EXPIRED
        new = self._new.get(event.hold_id)
        if new is not None:
            new["state"] = state.value
            new["ended_at_ms"] = event.at_ms
            new["claims"] = False
            return
        self._sections["ended"].append(
            {
                "show_id": self._show_id,
                "hold_id": event.hold_id,
                "state": state.value,
                "at_ms": event.at_ms,
            }
        )

    def _confirm(self, event: BookingConfirmed) -> None:
        row = record_of(event)
        row["show_id"] = self._show_id
        row["seq"] = self._seq
        new = self._new.get(event.hold_id)
        if new is None:
            self._sections["confirmed"].append(row)
        else:
            new["state"] = HoldState.CONFIRMED.value
            new["ended_at_ms"] = event.at_ms
            row["cancelled_at_ms"] = None
            self._new_bookings[event.hold_id] = row
            self._sections["booked"].append(row)
        self._publish("booking_confirmed", event)

    def _cancel(self, event: BookingCancelled) -> None:
        new = self._new.get(event.hold_id)
        if new is None:
            self._sections["cancelled"].append(
                {"show_id": self._show_id, "hold_id": event.hold_id, "at_ms": event.at_ms}
            )
        else:
            new["claims"] = False
            self._new_bookings[event.hold_id]["cancelled_at_ms"] = event.at_ms
        self._publish("booking_cancelled", event)

    def _block(self, event: SeatsBlocked) -> None:
        for seat_index in event.seat_indexes:
            self._blocked[seat_index] = event.reason

    def _unblock(self, event: SeatsUnblocked) -> None:
        for seat_index in event.seat_indexes:
            # Blocked in this very batch: nothing is left of it.
            if self._blocked.pop(seat_index, None) is None:
                self._unblocked.append(seat_index)

    def _forget(self, event: HoldsForgotten) -> None:
        for hold_id in event.hold_ids:
            new = self._new.pop(hold_id, None)
            if new is not None:
                self._sections["held"].remove(new)
            else:
                self._sections["forgotten"].append({"show_id": self._show_id, "hold_id": hold_id})

    def _publish(self, topic: str, event: BookingConfirmed | BookingCancelled) -> None:
        payload = record_of(event)
        payload.pop("kind")
        self._sections["outbox"].append(
            {
                "show_id": self._show_id,
                "seq": self._seq,
                "n": self._published,
                "topic": topic,
                "payload": payload,
            }
        )
        self._published += 1
