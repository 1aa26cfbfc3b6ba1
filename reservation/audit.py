"""The auditor: given a show's journal, prove that no seat-leg was ever sold twice.

It shares no code with the seat map on purpose. It replays the events with the simplest possible
books (who has this seat on this leg, now) and says where the story contradicts itself. Its final
books are what the state tables and the claims must agree with.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

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
from reservation.ids import CustomerId, HoldId
from reservation.route import Segment

BLOCKED = "(blocked)"


class JournalEntry(NamedTuple):
    """One journal row.

    Units:
        at_ms: when the store wrote it, Unix milliseconds.
    """

    seq: int
    epoch: int
    at_ms: int
    events: list[Event]


class AuditFault(NamedTuple):
    """A contradiction.

    Shapes:
        seat_index, leg: None where the fault is not about a seat.
    """

    at_ms: int
    what: str
    seat_index: int | None = None
    leg: int | None = None


@dataclass(slots=True)
class HoldBook:
    """What the journal says about one hold in the end."""

    held: SeatsHeld
    state: str = "held"
    deadline_at_ms: int = 0
    ended_at_ms: int | None = None
    confirmed: BookingConfirmed | None = None
    cancelled_at_ms: int | None = None


@dataclass(slots=True)
class ShowBooks:
    """What the journal says about a show in the end.

    Shapes:
        owner_of: (seat_index, leg) -> hold id, or ``BLOCKED``.
        admitted: (tier_index, leg) -> places.
        holds: every hold that is not forgotten.
        channel_of: seat_index -> the channel that it belongs to, whoever has it.
    """

    seq: int = 0
    epoch: int = 0
    owner_of: dict[tuple[int, int], str] = field(default_factory=dict)
    admitted: dict[tuple[int, int], int] = field(default_factory=dict)
    holds: dict[str, HoldBook] = field(default_factory=dict)
    blocked: dict[int, str] = field(default_factory=dict)
    channel_of: dict[int, str] = field(default_factory=dict)
    cancelled: ShowCancelled | None = None


class Auditor:
    """Replays one show's journal.

    Shapes:
        leg_count, seat_count: of the show; capacities: places of each admission tier.
    """

    def __init__(self, leg_count: int, seat_count: int, capacities: list[int]) -> None:
        self.books = ShowBooks()
        self.faults: list[AuditFault] = []
        self._leg_count = leg_count
        self._seat_count = seat_count
        self._capacities = capacities
        self._at_ms = 0

    def replay(self, entries: Iterable[JournalEntry]) -> None:
        """Read on. Entries come in the order of their sequence numbers."""
        for entry in entries:
            self._at_ms = entry.at_ms
            if entry.seq != self.books.seq + 1:
                self._fault(f"journal jumps from {self.books.seq} to {entry.seq}")
            if entry.epoch < self.books.epoch:
                self._fault(f"journal {entry.seq} was written by a replaced epoch")
            self.books.seq = entry.seq
            self.books.epoch = max(self.books.epoch, entry.epoch)
            for event in entry.events:
                self._read(event)

    def _read(self, event: Event) -> None:
        if isinstance(event, SeatsHeld):
            self._read_held(event, None)
        elif isinstance(event, HoldExtended):
            self._check_selling(event.hold_id)
            self._book(event.hold_id, "extended").deadline_at_ms = event.expires_at_ms
        elif isinstance(event, HoldReleased):
            self._read_ended(event.hold_id, "released", event.at_ms)
        elif isinstance(event, HoldExpired):
            self._read_ended(event.hold_id, "expired", event.at_ms)
        elif isinstance(event, BookingConfirmed):
            self._read_confirmed(event)
        elif isinstance(event, BookingCancelled):
            self._read_cancelled(event)
        elif isinstance(event, SeatsBlocked):
            for seat_index in event.seat_indexes:
                self._check_seat("a block", seat_index)
                self._check_channel("a block", seat_index, None)
                self.books.blocked[seat_index] = event.reason
                for leg in range(self._leg_count):
                    self._take(seat_index, leg, BLOCKED)
        elif isinstance(event, SeatsUnblocked):
            for seat_index in event.seat_indexes:
                self.books.blocked.pop(seat_index, None)
                for leg in range(self._leg_count):
                    self._leave(seat_index, leg, BLOCKED)
        elif isinstance(event, HoldsForgotten):
            for hold_id in event.hold_ids:
                self._read_forgotten(hold_id)
        else:
            self._read_change_of_sales(event)

    def _read_change_of_sales(
        self, event: HeldFromChannel | SeatsAllocated | SeatsDeallocated | ShowCancelled
    ) -> None:
        channel_of = self.books.channel_of
        if isinstance(event, HeldFromChannel):
            self._read_held(event.held, event.channel_id)
        elif isinstance(event, SeatsAllocated):
            for seat_index in event.seat_indexes:
                self._check_seat(event.channel_id, seat_index)
                self._check_channel(event.channel_id, seat_index, None)
                for leg in range(self._leg_count):
                    owner = self.books.owner_of.get((seat_index, leg))
                    if owner is not None:
                        self._fault(f"{event.channel_id} gets what {owner} has", seat_index, leg)
                channel_of[seat_index] = event.channel_id
        elif isinstance(event, SeatsDeallocated):
            for seat_index in event.seat_indexes:
                if channel_of.pop(seat_index, None) != event.channel_id:
                    self._fault(f"{event.channel_id} gives back what it does not have", seat_index)
        else:
            if self.books.cancelled is not None:
                self._fault("the show is cancelled a second time")
            self.books.cancelled = event
            for hold_id in event.hold_ids:
                self._read_ended(hold_id, "released", event.at_ms)
            for left, book in self.books.holds.items():
                if book.state == "held":
                    self._fault(f"{left} is live after the show was cancelled")

    def _read_held(self, event: SeatsHeld, channel_id: str | None) -> None:
        self._check_selling(event.hold_id)
        if event.hold_id in self.books.holds:
            self._fault(f"{event.hold_id} is held a second time")
        if not 0 <= event.segment.from_leg < event.segment.to_leg <= self._leg_count:
            self._fault(f"{event.hold_id} rides legs that do not exist")
        self.books.holds[event.hold_id] = HoldBook(event, deadline_at_ms=event.expires_at_ms)
        for seat_index in event.seat_indexes:
            self._check_seat(event.hold_id, seat_index)
            self._check_channel(event.hold_id, seat_index, channel_id)
            for leg in self._legs(event):
                self._take(seat_index, leg, event.hold_id)
        for tier_index, count, _ in event.admissions:
            is_tier = 0 <= tier_index < len(self._capacities)
            if not is_tier:
                self._fault(f"{event.hold_id} has places of tier {tier_index}, which is not there")
            for leg in self._legs(event):
                admitted = self.books.admitted.get((tier_index, leg), 0) + count
                self.books.admitted[tier_index, leg] = admitted
                if is_tier and not 0 <= admitted <= self._capacities[tier_index]:
                    self._fault(f"tier {tier_index} has {admitted} places sold", None, leg)

    def _read_ended(self, hold_id: HoldId, state: str, at_ms: int) -> None:
        book = self._book(hold_id, state)
        if state == "expired" and at_ms < book.deadline_at_ms:
            self._fault(f"{hold_id} is expired before its deadline")
        book.state = state
        book.ended_at_ms = at_ms
        self._give_back(book.held)

    def _read_confirmed(self, event: BookingConfirmed) -> None:
        self._check_selling(event.hold_id)
        book = self._book(event.hold_id, "confirmed")
        if event.at_ms >= book.deadline_at_ms:
            self._fault(f"{event.hold_id} is confirmed after its deadline")
        book.state = "confirmed"
        book.ended_at_ms = event.at_ms
        book.confirmed = event

    def _read_cancelled(self, event: BookingCancelled) -> None:
        book = self.books.holds.get(event.hold_id)
        is_booked = (
            book is not None
            and book.confirmed is not None
            and book.confirmed.booking_id == event.booking_id
            and book.cancelled_at_ms is None
        )
        if book is None or not is_booked:
            self._fault(f"{event.booking_id} is cancelled but was not booked")
            return
        book.cancelled_at_ms = event.at_ms
        self._give_back(book.held)

    def _read_forgotten(self, hold_id: HoldId) -> None:
        book = self.books.holds.get(hold_id)
        if book is None or book.state not in ("released", "expired"):
            self._fault(f"{hold_id} is forgotten but had not ended")
        else:
            del self.books.holds[hold_id]

    def _book(self, hold_id: str, action: str) -> HoldBook:
        book = self.books.holds.get(hold_id)
        if book is None:
            self._fault(f"{hold_id} is {action} but was never held")
            return HoldBook(_NOBODY)
        if book.state != "held":
            self._fault(f"{hold_id} is {action} but was {book.state}")
        return book

    def _give_back(self, held: SeatsHeld) -> None:
        for seat_index in held.seat_indexes:
            for leg in self._legs(held):
                self._leave(seat_index, leg, held.hold_id)
        for tier_index, count, _ in held.admissions:
            for leg in self._legs(held):
                self.books.admitted[tier_index, leg] -= count

    def _legs(self, held: SeatsHeld) -> range:
        """Its legs as far as they exist: a forged journal must not make the auditor count on."""
        return range(max(0, held.segment.from_leg), min(held.segment.to_leg, self._leg_count))

    def _check_seat(self, owner: str, seat_index: int) -> None:
        if not 0 <= seat_index < self._seat_count:
            self._fault(f"{owner} has a seat that does not exist", seat_index)

    def _check_selling(self, hold_id: str) -> None:
        if self.books.cancelled is not None:
            self._fault(f"{hold_id} goes on after the show was cancelled")

    def _check_channel(self, owner: str, seat_index: int, channel_id: str | None) -> None:
        """Whoever takes a channel's seat has come through that channel."""
        channel = self.books.channel_of.get(seat_index)
        if channel is not None and channel != channel_id:
            self._fault(f"{owner} takes what only {channel} may sell", seat_index)

    def _take(self, seat_index: int, leg: int, owner: str) -> None:
        before = self.books.owner_of.get((seat_index, leg))
        if before is not None:
            self._fault(f"{owner} takes what {before} has", seat_index, leg)
        self.books.owner_of[seat_index, leg] = owner

    def _leave(self, seat_index: int, leg: int, owner: str) -> None:
        if self.books.owner_of.get((seat_index, leg)) != owner:
            self._fault(f"{owner} gives back what it does not have", seat_index, leg)
            return
        del self.books.owner_of[seat_index, leg]

    def _fault(self, what: str, seat_index: int | None = None, leg: int | None = None) -> None:
        self.faults.append(AuditFault(self._at_ms, what, seat_index, leg))


_NOBODY = SeatsHeld(
    HoldId(""), CustomerId(""), Segment(0, 0), (), (), (), Arrangement.NAMED, 0, 0, ""
)
"""Stands in for a hold that the journal never mentions, so that the replay can go on."""
