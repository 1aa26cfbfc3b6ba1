"""``Journal`` in memory: the same promises, for tests, simulations and measurements.

A ``MemoryStore`` stands for the database and may be shared by any number of journals, which
then fence each other exactly as two processes on one Postgres do. It keeps claims in a book of
its own and refuses an overlap, whatever its writer believes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from persistence.codec import confirmed_of, held_of
from persistence.journal import Activation
from persistence.projection import Projection
from reservation.events import Event, SeatsHeld
from reservation.faults import Diverged, Fault, Fenced
from reservation.hold import Booking, BookingState, Hold, HoldState
from reservation.ids import ShowId
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
        self.taken: dict[int, int] = {}
        self.admitted: dict[tuple[int, int], int] = {}


class MemoryStore:
    """What survives the death of a journal."""

    def __init__(self) -> None:
        self._shows: dict[ShowId, _StoredShow] = {}

    def entries(self, show_id: ShowId) -> list[Entry]:
        """The show's journal so far."""
        stored = self._shows.get(show_id)
        return list(stored.entries) if stored else []

    def activate(self, show: Show) -> Activation:
        """See ``Journal.activate``."""
        stored = self._shows.setdefault(show.show_id, _StoredShow(show))
        stored.epoch += 1
        # A real store hands out copies; sharing objects would let a zombie edit the truth.
        holds = sorted(
            (_copy(hold) for hold in stored.holds.values()), key=lambda hold: hold.ended_at_ms or 0
        )
        return Activation(
            stored.epoch,
            stored.seq,
            holds,
            list(stored.blocked.items()),
            sum(bits.bit_count() for bits in stored.taken.values()),
            sum(stored.admitted.values()),
        )

    def epoch_of(self, show_id: ShowId) -> int:
        """The epoch that may write."""
        return self._shows[show_id].epoch

    def write(self, show_id: ShowId, epoch: int, seq: int, events: Sequence[Event]) -> None:
        """Make one batch durable.

        Raises:
            Fenced: another epoch owns the show, or the sequence number is not the next one.
            Diverged: the batch claims what is claimed, or frees what is not.
        """
        stored = self._shows[show_id]
        if stored.epoch != epoch or stored.seq != seq - 1:
            raise Fenced(f"{show_id}: epoch {epoch} is not the owner")
        projection = Projection()
        projection.add(show_id, seq, events)
        _Change(stored, projection.sections).commit()
        stored.seq = seq
        stored.entries.append(Entry(seq, epoch, tuple(events)))


class _Change:
    """All rows of one batch or none: what changes is kept aside until everything has been checked.

    The order of the sections is that of ``append_batch`` in ``sql/migrations``.
    """

    def __init__(self, stored: _StoredShow, sections: dict[str, list[dict[str, Any]]]) -> None:
        self._stored = stored
        self._sections = sections
        self._holds: dict[str, Hold | None] = {}
        self._blocked: dict[int, str | None] = {}
        self._taken: dict[int, int] = {}
        self._admitted: dict[tuple[int, int], int] = {}

    def commit(self) -> None:
        """Check everything, then change the stored show.

        Raises:
            Diverged: nothing has changed.
        """
        self._keep_holds()
        self._free_places()
        for row in self._sections["forgotten"]:
            hold = self._find(row["hold_id"])
            if hold.state not in (HoldState.RELEASED, HoldState.EXPIRED):
                raise Diverged(f"{row['hold_id']} is forgotten but had not ended")
            self._holds[row["hold_id"]] = None
        self._claim_places()
        for row in self._sections["booked"]:
            self._book(self._find(row["hold_id"]), row)
        stored = self._stored
        _merge(stored.holds, self._holds)
        _merge(stored.blocked, self._blocked)
        stored.taken.update(self._taken)
        stored.admitted.update(self._admitted)

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
        for row in self._sections["held"]:
            hold_id, held = row["hold_id"], held_of(row)
            if self._holds.get(hold_id, self._stored.holds.get(hold_id)) is not None:
                raise Diverged(f"{hold_id} is stored already")
            if not 0 <= held.segment.from_leg < held.segment.to_leg <= self._leg_count:
                raise Diverged(f"{hold_id} rides legs that do not exist")
            hold = self._holds[hold_id] = Hold(held)
            hold.expires_at_ms = row["deadline_at_ms"]
            hold.state = HoldState(row["state"])
            hold.ended_at_ms = row["ended_at_ms"]
            if row["claims"]:
                for seat_index in held.seat_indexes:
                    self._claim_seat(seat_index, held.segment.mask)
                self._admit(held, 1)
        for row in self._sections["blocked"]:
            seat_index = row["seat_index"]
            self._blocked[seat_index] = row["reason"]
            self._claim_seat(seat_index, self._stored.show.route.whole.mask)

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


class MemoryJournal:
    """See ``persistence.journal`` for the promises.

    ``gate`` can be closed by a test: while it is closed nothing becomes durable, as when a
    database is slow.
    """

    def __init__(self, store: MemoryStore, *, now_ms: int = 1_700_000_000_000) -> None:
        self._store = store
        self._now_ms = now_ms
        self._owned: dict[ShowId, tuple[int, int]] = {}
        self._pending: dict[ShowId, list[Event]] = {}
        self._futures: dict[ShowId, asyncio.Future[int]] = {}
        self._flight: dict[ShowId, asyncio.Future[int]] = {}
        self._flusher: asyncio.Task[None] | None = None
        self._waiting = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def now_ms(self) -> int:
        """A memory store has no clock; it says what it was told."""
        return self._now_ms

    async def activate(self, show: Show) -> Activation:
        """See ``Journal.activate``."""
        await asyncio.sleep(0)
        activation = self._store.activate(show)
        self._owned[show.show_id] = (activation.epoch, activation.seq)
        stale = self._futures.pop(show.show_id, None)
        if stale is not None:
            # Decided on the memory of an earlier epoch; ours must not write it.
            self._waiting -= len(self._pending.pop(show.show_id))
            _end(stale, Fenced(f"{show.show_id} has a newer owner"))
        return activation

    def append(self, show_id: ShowId, events: Sequence[Event]) -> asyncio.Future[int]:
        """See ``Journal.append``."""
        future = self._futures.get(show_id)
        if future is None:
            future = self._futures[show_id] = asyncio.get_running_loop().create_future()
            # A batch nobody waits for may still fail; that is not an unhandled error.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._pending.setdefault(show_id, []).extend(events)
        self._waiting += len(events)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.ensure_future(self._flush())
        return future

    def tail(self, show_id: ShowId) -> asyncio.Future[int] | None:
        """See ``Journal.tail``."""
        future = self._futures.get(show_id) or self._flight.get(show_id)
        return future if future is not None and not future.done() else None

    async def lost(self, show_ids: Iterable[ShowId]) -> set[ShowId]:
        """See ``Journal.lost``."""
        await self.gate.wait()
        return {
            show_id
            for show_id in show_ids
            if show_id not in self._owned
            or self._owned[show_id][0] != self._store.epoch_of(show_id)
        }

    def forget(self, show_id: ShowId) -> None:
        """See ``Journal.forget``."""
        self._owned.pop(show_id, None)

    @property
    def waiting_commands(self) -> int:
        """See ``Journal.waiting_commands``."""
        return self._waiting

    @property
    def stalled_ms(self) -> int:
        """Memory always answers."""
        return 0

    async def close(self) -> None:
        """See ``Journal.close``."""
        if self._flusher is not None:
            await self._flusher

    async def _flush(self) -> None:
        while self._pending:
            await asyncio.sleep(0)
            batch, self._pending = self._pending, {}
            self._flight, self._futures = self._futures, {}
            owned = {show_id: self._owned.get(show_id) for show_id in batch}
            await self.gate.wait()
            for show_id, events in batch.items():
                self._waiting -= len(events)
                self._write(show_id, owned[show_id], events)
            self._flight = {}

    def _write(self, show_id: ShowId, owned: tuple[int, int] | None, events: list[Event]) -> None:
        future = self._flight[show_id]
        try:
            if owned is None:
                raise Fenced(f"{show_id} is not activated here")
            epoch, seq = owned
            self._store.write(show_id, epoch, seq + 1, events)
        except Exception as error:
            fault = error if isinstance(error, Fault) else Diverged(f"{show_id}: {error!r}")
            _end(future, fault)
            # Activated anew in the meantime, the show has a new story and a new epoch.
            if self._owned.get(show_id) == owned:
                self._owned.pop(show_id, None)
        else:
            if self._owned.get(show_id) == owned:
                self._owned[show_id] = (epoch, seq + 1)
            _end(future, seq + 1)


def _end(future: asyncio.Future[int], outcome: int | Fault) -> None:
    if future.done():
        return  # Somebody who waited for it was cancelled.
    if isinstance(outcome, Fault):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)


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
