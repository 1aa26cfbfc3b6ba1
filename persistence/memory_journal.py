"""``Journal`` in memory: the same promises, for tests, simulations and measurements.

A ``MemoryStore`` stands for the database and may be shared by any number of journals, which
then fence each other exactly as two processes on one Postgres do. It keeps claims in a book of
its own and refuses an overlap, whatever its writer believes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from persistence.codec import confirmed_of
from persistence.group_commit import GroupCommitJournal
from persistence.journal import Activation
from persistence.memory_payments import MemoryPayments, booked_with, cancelled_with
from persistence.projection import Projection
from persistence.store import Part, ShowsLost
from reservation.events import Event, SeatsHeld, ShowCancelled
from reservation.faults import Diverged, PlanTooSmall
from reservation.hold import Booking, BookingState, Hold, HoldState
from reservation.ids import ChannelId, PaymentId, ShowId, is_payment_id
from reservation.payment import Payment
from reservation.show import Show


class Entry(NamedTuple):
    """One journal row."""

    seq: int
    epoch: int
    events: tuple[Event, ...]


class _StoredShow:
    def __init__(self, show: Show) -> None:
        self.show = show
        self.epoch = 0
        self.seq = 0
        self.entries: list[Entry] = []
        self.holds: dict[str, Hold] = {}
        self.blocked: dict[int, str] = {}
        self.channel_of: dict[int, ChannelId] = {}
        self.cancelled: ShowCancelled | None = None
        self.taken: dict[int, int] = {}
        self.admitted: dict[tuple[int, int], int] = {}

    def revise(self, show: Show) -> None:
        """Take another plan over, if everything that was sold is in it.

        Raises:
            PlanTooSmall: it is not.
        """
        if show.plan.seat_count < self.show.plan.seat_count:
            raise PlanTooSmall(f"{show.show_id} has fewer seats than before")
        tiers = show.plan.admission_tiers
        if len(tiers) < len(self.show.plan.admission_tiers):
            raise PlanTooSmall(f"{show.show_id} has fewer tiers than before")
        if any(count > tiers[tier].capacity for (tier, _), count in self.admitted.items()):
            raise PlanTooSmall(f"{show.show_id} has sold more places than its tiers have now")
        self.show = show


class MemoryStore:
    """What survives the death of a journal.

    ``payments`` are what bookings are made with; whoever takes money puts them there.
    """

    def __init__(self) -> None:
        self._shows: dict[ShowId, _StoredShow] = {}
        self.payments = MemoryPayments()

    def entries(self, show_id: ShowId) -> list[Entry]:
        """The show's journal so far."""
        stored = self._shows.get(show_id)
        return list(stored.entries) if stored else []

    def activate(self, show: Show) -> Activation:
        """See ``Journal.activate``."""
        epoch, seq = self.take_epoch(show)
        return self.load(show, epoch, seq)

    def take_epoch(self, show: Show) -> tuple[int, int]:
        """The first half of an activation: no older epoch can write any more.

        Returns:
            The new epoch, and the sequence number it goes on from.

        Raises:
            PlanTooSmall: see ``Journal.activate``.
        """
        stored = self._shows.setdefault(show.show_id, _StoredShow(show))
        stored.revise(show)
        stored.epoch += 1
        return stored.epoch, stored.seq

    def load(self, show: Show, epoch: int, seq: int) -> Activation:
        """The second half: the state as it is now, for the owner that took this epoch."""
        stored = self._shows[show.show_id]
        # A real store hands out copies; sharing objects would let a zombie edit the truth.
        holds = sorted(
            (_copy(hold) for hold in stored.holds.values()), key=lambda hold: hold.ended_at_ms or 0
        )
        return Activation(
            epoch,
            seq,
            holds,
            list(stored.blocked.items()),
            sum(bits.bit_count() for bits in stored.taken.values()),
            sum(stored.admitted.values()),
            list(stored.channel_of.items()),
            stored.cancelled,
        )

    def holds_of(self, show_id: ShowId) -> list[Hold]:
        """The show's holds that are not forgotten."""
        stored = self._shows.get(show_id)
        return [_copy(hold) for hold in stored.holds.values()] if stored else []

    def epoch_of(self, show_id: ShowId) -> int:
        """The epoch that may write; 0 for a show that was never activated."""
        stored = self._shows.get(show_id)
        return stored.epoch if stored else 0

    def write(self, parts: Sequence[Part]) -> None:
        """Make one batch durable.

        Raises:
            ShowsLost: another epoch owns some of the shows, or a sequence number is not the
                next one.
            Diverged: a part claims what is claimed, frees what is not, or books with a payment
                that cannot be used.
        """
        lost = [part.show_id for part in parts if not self._is_next(part)]
        if lost:
            raise ShowsLost(lost)
        changes = [_Change(self._shows[part.show_id], part, self.payments) for part in parts]
        for change in changes:
            change.check()
        for change in changes:
            change.commit()

    def written(self, parts: Sequence[Part]) -> list[ShowId]:
        """Which of these parts are in the journal, written by their epochs."""
        return [
            part.show_id
            for part in parts
            if any(
                (entry.seq, entry.epoch) == (part.seq, part.epoch)
                for entry in self.entries(part.show_id)
            )
        ]

    def _is_next(self, part: Part) -> bool:
        stored = self._shows.get(part.show_id)
        return stored is not None and (stored.epoch, stored.seq) == (part.epoch, part.seq - 1)


class _Change:
    """All rows of one batch or none: what changes is kept aside until everything has been checked.

    The order of the sections is that of ``append_batch`` in ``sql/migrations``.
    """

    def __init__(self, stored: _StoredShow, part: Part, payments: MemoryPayments) -> None:
        projection = Projection()
        projection.add(part.show_id, part.seq, part.events)
        self._stored = stored
        self._part = part
        self._payments = payments
        self._new = projection
        self._sections = projection.sections
        self._holds: dict[str, Hold | None] = {}
        self._blocked: dict[int, str | None] = {}
        self._channel_of: dict[int, ChannelId | None] = {}
        self._cancelled: ShowCancelled | None = None
        self._taken: dict[int, int] = {}
        self._admitted: dict[tuple[int, int], int] = {}
        self._settled: dict[PaymentId, Payment] = {}

    def check(self) -> None:
        """Find out what would change.

        Raises:
            Diverged: the stored show would contradict itself.
        """
        self._keep_holds()
        self._free_places()
        for row in self._sections["forgotten"]:
            hold = self._find(row["hold_id"])
            if hold.state not in (HoldState.RELEASED, HoldState.EXPIRED):
                raise Diverged(f"{row['hold_id']} is forgotten but had not ended")
            self._holds[row["hold_id"]] = None
        self._claim_places()
        for row in self._sections["settled"]:
            hold = self._find_held(row["hold_id"])
            hold.expires_at_ms = row["deadline_at_ms"]
            hold.state = HoldState(row["state"])
            hold.ended_at_ms = row["ended_at_ms"]
        for row in self._sections["booked"]:
            self._book(self._find(row["hold_id"]), row)
        self._change_sales()
        self._settle_payments()

    def commit(self) -> None:
        """Change the stored show."""
        stored, part = self._stored, self._part
        _merge(stored.holds, self._holds)
        _merge(stored.blocked, self._blocked)
        _merge(stored.channel_of, self._channel_of)
        stored.cancelled = stored.cancelled or self._cancelled
        stored.taken.update(self._taken)
        stored.admitted.update(self._admitted)
        self._payments.update(self._settled)
        stored.seq = part.seq
        stored.entries.append(Entry(part.seq, part.epoch, tuple(part.events)))

    def _keep_holds(self) -> None:
        for row in self._sections["extended"]:
            self._find_held(row["hold_id"]).expires_at_ms = row["deadline_at_ms"]
        for row in self._sections["confirmed"]:
            hold = self._find_held(row["hold_id"])
            hold.state = HoldState.CONFIRMED
            hold.ended_at_ms = row["at_ms"]
            self._book(hold, row)

    def _free_places(self) -> None:
        for row in self._sections["ended"]:
            hold = self._find_held(row["hold_id"])
            hold.state = HoldState(row["state"])
            hold.ended_at_ms = row["at_ms"]
            self._free(hold.held)
        for row in self._sections["cancelled"]:
            hold = self._find(row["hold_id"])
            if hold.booking is None or hold.booking.cancelled_at_ms is not None:
                raise Diverged(f"{row['hold_id']} has no booking to cancel")
            _cancel(hold.booking, row["at_ms"])
            self._free(hold.held)
        for row in self._sections["unblocked"]:
            seat_index = row["seat_index"]
            if self._stored.blocked.get(seat_index) is None:
                raise Diverged(f"seat {seat_index} is not blocked")
            self._blocked[seat_index] = None
            self._free_seat(seat_index, self._stored.show.route.whole.mask)

    def _claim_places(self) -> None:
        for held in self._new.held:
            hold_id = held.hold_id
            if self._holds.get(hold_id, self._stored.holds.get(hold_id)) is not None:
                raise Diverged(f"{hold_id} is stored already")
            if not 0 <= held.segment.from_leg < held.segment.to_leg <= self._leg_count:
                raise Diverged(f"{hold_id} rides legs that do not exist")
            self._holds[hold_id] = Hold(held)
            if hold_id not in self._new.unclaimed:
                for seat_index in held.seat_indexes:
                    self._claim_seat(seat_index, held.segment.mask)
                self._admit(held, 1)
        for row in self._sections["blocked"]:
            seat_index = row["seat_index"]
            self._blocked[seat_index] = row["reason"]
            self._claim_seat(seat_index, self._stored.show.route.whole.mask)

    def _change_sales(self) -> None:
        """What ``change_sales`` does in ``sql/migrations``."""
        sections = self._sections
        for row in sections["deallocated"]:
            if self._stored.channel_of.get(row["seat_index"]) != row["channel_id"]:
                raise Diverged(f"seat {row['seat_index']} is not the channel's")
            self._channel_of[row["seat_index"]] = None
        for row in sections["allocated"]:
            seat_index = row["seat_index"]
            if not 0 <= seat_index < self._stored.show.plan.seat_count:
                raise Diverged(f"seat {seat_index} does not exist")
            if self._channel_of.get(seat_index, self._stored.channel_of.get(seat_index)):
                raise Diverged(f"seat {seat_index} has a channel already")
            self._channel_of[seat_index] = row["channel_id"]
        for row in sections["show_cancelled"]:
            if self._stored.cancelled is not None:
                raise Diverged("the show is cancelled already")
            self._cancelled = ShowCancelled(row["reason"], (), row["at_ms"])

    def _settle_payments(self) -> None:
        """What ``settle_payments`` does in ``sql/migrations``."""
        sections = self._sections
        for row in (*sections["confirmed"], *sections["booked"]):
            if is_payment_id(row["payment"]):
                payment_id = PaymentId(row["payment"])
                self._settled[payment_id] = booked_with(self._find_payment(payment_id), row)
        for row in sections["cancelled"]:
            booking = self._find(row["hold_id"]).booking
            if booking is not None and is_payment_id(booking.confirmed.payment):
                payment_id = PaymentId(booking.confirmed.payment)
                self._settled[payment_id] = cancelled_with(self._find_payment(payment_id), row)

    def _find_payment(self, payment_id: PaymentId) -> Payment:
        payment = self._settled.get(payment_id) or self._payments.find(payment_id)
        if payment is None:
            raise Diverged(f"{payment_id} is not there to book with")
        return payment

    @property
    def _leg_count(self) -> int:
        return self._stored.show.route.leg_count

    def _find(self, hold_id: str) -> Hold:
        """The hold as this batch has left it so far, free to be changed."""
        if hold_id not in self._holds and hold_id in self._stored.holds:
            self._holds[hold_id] = _copy(self._stored.holds[hold_id])
        hold = self._holds.get(hold_id)
        if hold is None:
            raise Diverged(f"{hold_id} is not stored")
        return hold

    def _find_held(self, hold_id: str) -> Hold:
        hold = self._find(hold_id)
        if hold.state is not HoldState.HELD:
            raise Diverged(f"{hold_id} is {hold.state}, not held")
        return hold

    @staticmethod
    def _book(hold: Hold, row: dict[str, Any]) -> None:
        hold.booking = Booking(confirmed_of(row))
        if row.get("cancelled_at_ms") is not None:
            _cancel(hold.booking, row["cancelled_at_ms"])

    def _free(self, held: SeatsHeld) -> None:
        for seat_index in held.seat_indexes:
            self._free_seat(seat_index, held.segment.mask)
        self._admit(held, -1)

    def _taken_of(self, seat_index: int) -> int:
        return self._taken.get(seat_index, self._stored.taken.get(seat_index, 0))

    def _claim_seat(self, seat_index: int, mask: int) -> None:
        if not 0 <= seat_index < self._stored.show.plan.seat_count:
            raise Diverged(f"seat {seat_index} does not exist")
        taken = self._taken_of(seat_index)
        if taken & mask:
            raise Diverged(f"seat {seat_index} is claimed twice")
        self._taken[seat_index] = taken | mask

    def _free_seat(self, seat_index: int, mask: int) -> None:
        taken = self._taken_of(seat_index)
        if taken & mask != mask:
            raise Diverged(f"seat {seat_index} is freed but not claimed")
        self._taken[seat_index] = taken & ~mask

    def _admit(self, held: SeatsHeld, sign: int) -> None:
        tiers = self._stored.show.plan.admission_tiers
        for tier_index, count, _ in held.admissions:
            if not 0 <= tier_index < len(tiers):
                raise Diverged(f"tier {tier_index} does not exist")
            for leg in range(held.segment.from_leg, held.segment.to_leg):
                before = self._stored.admitted.get((tier_index, leg), 0)
                admitted = self._admitted.get((tier_index, leg), before) + sign * count
                self._admitted[tier_index, leg] = admitted
                if admitted < 0:
                    raise Diverged(f"tier {tier_index} gives back what it has not on leg {leg}")
                if sign > 0 and admitted > tiers[tier_index].capacity:
                    raise Diverged(f"tier {tier_index} is oversold on leg {leg}")


def _merge(stored: dict[Any, Any], changed: dict[Any, Any]) -> None:
    for key, value in changed.items():
        if value is None:
            stored.pop(key, None)
        else:
            stored[key] = value


class MemorySession:
    """The store as one owner sees it: a ``Store``.

    ``gate`` can be closed by a test: while it is closed nothing becomes durable, as when a
    database is slow.
    """

    def __init__(self, store: MemoryStore, now_ms: int) -> None:
        self._store = store
        self._now_ms = now_ms
        self.gate = asyncio.Event()
        self.gate.set()

    async def now_ms(self) -> int:
        """A memory store has no clock; it says what it was told."""
        return self._now_ms

    async def activate(self, show: Show) -> Activation:
        """See ``Store.activate``."""
        await asyncio.sleep(0)
        return self._store.activate(show)

    async def epochs(self, show_ids: Sequence[ShowId]) -> dict[ShowId, int]:
        """See ``Store.epochs``."""
        await self.gate.wait()
        return {show_id: self._store.epoch_of(show_id) for show_id in show_ids}

    async def append(self, parts: Sequence[Part]) -> None:
        """See ``Store.append``."""
        await self.gate.wait()
        self._store.write(parts)

    async def written(self, parts: Sequence[Part]) -> list[ShowId]:
        """See ``Store.written``."""
        await self.gate.wait()
        return self._store.written(parts)

    async def close(self) -> None:
        """Memory has no line to cut."""


class MemoryJournal(GroupCommitJournal):
    """The journal of one owner, in memory."""

    def __init__(self, store: MemoryStore, *, now_ms: int = 1_700_000_000_000) -> None:
        session = MemorySession(store, now_ms)
        super().__init__(session, "memory")
        self.gate = session.gate


def _cancel(booking: Booking, at_ms: int) -> None:
    booking.state = BookingState.CANCELLED
    booking.cancelled_at_ms = at_ms


def _copy(hold: Hold) -> Hold:
    copy = Hold(hold.held)
    copy.state = hold.state
    copy.expires_at_ms = hold.expires_at_ms
    copy.ended_at_ms = hold.ended_at_ms
    if hold.booking is not None:
        copy.booking = Booking(hold.booking.confirmed)
        copy.booking.state = hold.booking.state
        copy.booking.cancelled_at_ms = hold.booking.cancelled_at_ms
    return copy
