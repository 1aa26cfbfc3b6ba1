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
from reservation.hold import HoldState
from reservation.ids import ChannelId, HoldId, ShowId

Row: TypeAlias = dict[str, Any]

HOLD_SECTIONS = (
    "extended",
    "confirmed",
    "ended",
    "cancelled",
    "settled",
    "booked",
    "forgotten",
)
OTHER_SECTIONS = (
    "admitted",
    "blocked",
    "unblocked",
    "deallocated",
    "allocated",
    "show_cancelled",
    "outbox",
)


class Projection:
    """What to write for one batch; several shows may share it.

    Shapes:
        held: new holds, as they were made; almost everything in a busy batch.
        show_numbers: for each of ``held``, which ``add`` it came with, from 1.
        unclaimed: those of ``held`` whose places were given back within the batch.
        changed: the shows in which something becomes of a hold, new or old.
        sections: every other effect as rows.
            settled: what became of new holds within the batch, apart from their places.
            booked: the bookings among the new holds, cancelled or not, and then on which terms.
            extended, confirmed, ended, cancelled, forgotten: holds that were made before.
            admitted: the unnumbered places of new holds.
            blocked, unblocked: (show_id, seat_index).
            deallocated, allocated: (show_id, seat_index, channel_id), in this order.
            show_cancelled: (show_id, reason, at_ms).
            outbox: what the rest of the world learns, numbered within its sequence number.
    """

    def __init__(self) -> None:
        self.held: list[SeatsHeld] = []
        self.show_numbers: list[int] = []
        self.unclaimed: set[HoldId] = set()
        self.changed: list[ShowId] = []
        self.sections: dict[str, list[Row]] = {
            name: [] for name in (*HOLD_SECTIONS, *OTHER_SECTIONS)
        }
        self._shows = 0

    @property
    def is_plain(self) -> bool:
        """Whether the batch makes holds of numbered seats and does nothing else."""
        return not any(self.sections.values())

    def add(self, show_id: ShowId, seq: int, events: Sequence[Event]) -> None:
        """Add the net effect of one show's events.

        Raises:
            ValueError: one hold is made twice.
        """
        self._shows += 1
        # A pool's batch is of many shows, and what most of them have is one new hold.
        if len(events) == 1 and type(events[0]) is SeatsHeld and not events[0].admissions:
            self.held.append(events[0])
            self.show_numbers.append(self._shows)
            return
        before = self._changes()
        new = _ShowProjection(self, show_id, seq).run(events)
        self.held.extend(new)
        self.show_numbers.extend([self._shows] * len(new))
        if self._changes() > before:
            self.changed.append(show_id)

    def _changes(self) -> int:
        return sum(len(self.sections[name]) for name in HOLD_SECTIONS)


class _ShowProjection:
    def __init__(self, batch: Projection, show_id: ShowId, seq: int) -> None:
        self._sections = batch.sections
        self._unclaimed = batch.unclaimed
        self._show_id = show_id
        self._seq = seq
        self._new: dict[HoldId, SeatsHeld] = {}
        self._settled: dict[HoldId, Row] = {}
        self._extended: dict[HoldId, Row] = {}
        self._new_bookings: dict[HoldId, Row] = {}
        self._blocked: dict[int, str] = {}
        self._unblocked: list[int] = []
        self._allocated: dict[int, ChannelId] = {}
        self._published = 0

    def run(self, events: Sequence[Event]) -> list[SeatsHeld]:
        """Add everything but the new holds, and return these."""
        for event in events:
            if isinstance(event, SeatsHeld):
                self._hold(event)
            elif isinstance(event, HoldExtended):
                self._extend(event)
            elif isinstance(event, (HoldReleased, HoldExpired)):
                state = HoldState.RELEASED if isinstance(event, HoldReleased) else HoldState.EXPIRED
                self._end(event.hold_id, state, event.at_ms)
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
            elif isinstance(event, HeldFromChannel):
                self._hold(event.held)
            elif isinstance(event, SeatsAllocated):
                self._allocated.update(dict.fromkeys(event.seat_indexes, event.channel_id))
            elif isinstance(event, SeatsDeallocated):
                self._deallocate(event)
            elif isinstance(event, ShowCancelled):
                self._cancel_show(event)
        for new in self._new.values():
            if new.admissions and new.hold_id not in self._unclaimed:
                self._sections["admitted"].append(self._admission_row(new))
        self._sections["settled"].extend(self._settled.values())
        self._sections["extended"].extend(self._extended.values())
        for seat_index in self._unblocked:
            self._sections["unblocked"].append(self._seat_row(seat_index))
        for seat_index, reason in self._blocked.items():
            self._sections["blocked"].append({**self._seat_row(seat_index), "reason": reason})
        for seat_index, channel_id in self._allocated.items():
            self._sections["allocated"].append(
                {**self._seat_row(seat_index), "channel_id": channel_id}
            )
        return list(self._new.values())

    def _hold(self, held: SeatsHeld) -> None:
        if held.hold_id in self._new:
            raise ValueError(f"{held.hold_id} is held twice in one batch")
        self._new[held.hold_id] = held

    def _admission_row(self, new: SeatsHeld) -> Row:
        return {
            "show_id": self._show_id,
            "from_leg": new.segment.from_leg,
            "to_leg": new.segment.to_leg,
            "admissions": new.admissions,
        }

    def _seat_row(self, seat_index: int) -> Row:
        return {"show_id": self._show_id, "seat_index": seat_index}

    def _settle(self, new: SeatsHeld) -> Row:
        """The row that tells what became of a new hold."""
        row = self._settled.get(new.hold_id)
        if row is None:
            row = self._settled[new.hold_id] = {
                "hold_id": new.hold_id,
                "deadline_at_ms": new.expires_at_ms,
                "state": HoldState.HELD.value,
                "ended_at_ms": None,
            }
        return row

    def _extend(self, event: HoldExtended) -> None:
        new = self._new.get(event.hold_id)
        if new is not None:
            self._settle(new)["deadline_at_ms"] = event.expires_at_ms
            return
        self._extended[event.hold_id] = {
            "show_id": self._show_id,
            "hold_id": event.hold_id,
            "deadline_at_ms": event.expires_at_ms,
        }

    def _end(self, hold_id: HoldId, state: HoldState, at_ms: int) -> None:
        new = self._new.get(hold_id)
        if new is not None:
            self._settle(new).update(state=state.value, ended_at_ms=at_ms)
            self._unclaimed.add(hold_id)
            return
        self._sections["ended"].append(
            {"show_id": self._show_id, "hold_id": hold_id, "state": state.value, "at_ms": at_ms}
        )

    def _confirm(self, event: BookingConfirmed) -> None:
        row = record_of(event)
        row["show_id"] = self._show_id
        row["seq"] = self._seq
        new = self._new.get(event.hold_id)
        if new is None:
            self._sections["confirmed"].append(row)
        else:
            self._settle(new).update(state=HoldState.CONFIRMED.value, ended_at_ms=event.at_ms)
            row["cancelled_at_ms"] = None
            self._new_bookings[event.hold_id] = row
            self._sections["booked"].append(row)
        self._publish("booking_confirmed", _payload_of(event))

    def _cancel(self, event: BookingCancelled) -> None:
        if event.hold_id in self._new:
            self._unclaimed.add(event.hold_id)
            self._new_bookings[event.hold_id].update(
                cancelled_at_ms=event.at_ms, refund=event.refund
            )
        else:
            self._sections["cancelled"].append(
                {
                    "show_id": self._show_id,
                    "hold_id": event.hold_id,
                    "at_ms": event.at_ms,
                    "refund": event.refund,
                }
            )
        self._publish("booking_cancelled", _payload_of(event))

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
            if self._new.pop(hold_id, None) is not None:
                del self._settled[hold_id]
                self._unclaimed.discard(hold_id)
            else:
                self._sections["forgotten"].append({"show_id": self._show_id, "hold_id": hold_id})

    def _deallocate(self, event: SeatsDeallocated) -> None:
        for seat_index in event.seat_indexes:
            # Allocated in this very batch: nothing is left of it.
            if self._allocated.pop(seat_index, None) is None:
                row = {**self._seat_row(seat_index), "channel_id": event.channel_id}
                self._sections["deallocated"].append(row)

    def _cancel_show(self, event: ShowCancelled) -> None:
        for hold_id in event.hold_ids:
            self._end(hold_id, HoldState.RELEASED, event.at_ms)
        row = {"show_id": self._show_id, "reason": event.reason, "at_ms": event.at_ms}
        self._sections["show_cancelled"].append(row)
        self._publish("show_cancelled", {"reason": event.reason, "at_ms": event.at_ms})

    def _publish(self, topic: str, payload: Row) -> None:
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


def _payload_of(event: BookingConfirmed | BookingCancelled) -> Row:
    payload = record_of(event)
    payload.pop("kind")
    return payload
