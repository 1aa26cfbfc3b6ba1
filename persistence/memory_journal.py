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
from reservation.events import Event
from reservation.faults import Diverged, Fault, Fenced
from reservation.hold import Booking, BookingState, Hold, HoldState
from reservation.ids import ShowId
from reservation.route import Segment
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
    """All rows of one batch or none: claims are changed in a copy first."""

    def __init__(self, stored: _StoredShow, sections: dict[str, list[dict[str, Any]]]) -> None:
        self._stored = stored
        self._sections = sections
        self._taken = dict(stored.taken)
        self._admitted = dict(stored.admitted)

    def commit(self) -> None:
        stored, sections = self._stored, self._sections
        for row in (*sections["ended"], *sections["cancelled"]):
            self._free(stored.holds[row["hold_id"]])
        whole = stored.show.route.whole
        for row in sections["unblocked"]:
            self._free_seat(row["seat_index"], whole.mask)
        for row in sections["held"]:
            if row["claims"]:
                self._claim(row)
        for row in sections["blocked"]:
            self._claim_seat(row["seat_index"], whole.mask)
        stored.taken, stored.admitted = self._taken, self._admitted
        self._keep_rows()

    def _keep_rows(self) -> None:
        stored, sections = self._stored, self._sections
        for row in sections["extended"]:
            stored.holds[row["hold_id"]].expires_at_ms = row["deadline_at_ms"]
        for row in sections["held"]:
            hold = Hold(held_of(row))
            hold.expires_at_ms = row["deadline_at_ms"]
            hold.state = HoldState(row["state"])
            hold.ended_at_ms = row["ended_at_ms"]
            stored.holds[row["hold_id"]] = hold
        for row in (*sections["confirmed"], *sections["booked"]):
            hold = stored.holds[row["hold_id"]]
            hold.state = HoldState.CONFIRMED
            hold.ended_at_ms = row["at_ms"]
            hold.booking = Booking(confirmed_of(row))
            if row.get("cancelled_at_ms") is not None:
                _cancel(hold, row["cancelled_at_ms"])
        for row in sections["ended"]:
            hold = stored.holds[row["hold_id"]]
            hold.state = HoldState(row["state"])
            hold.ended_at_ms = row["at_ms"]
        for row in sections["cancelled"]:
            _cancel(stored.holds[row["hold_id"]], row["at_ms"])
        for row in sections["forgotten"]:
            del stored.holds[row["hold_id"]]
        for row in sections["unblocked"]:
            del stored.blocked[row["seat_index"]]
        for row in sections["blocked"]:
            stored.blocked[row["seat_index"]] = row["reason"]

    def _claim(self, row: dict[str, Any]) -> None:
        held = held_of(row)
        for seat_index in held.seat_indexes:
            self._claim_seat(seat_index, held.segment.mask)
        self._admit(held.admissions, held.segment, 1)

    def _free(self, hold: Hold) -> None:
        held = hold.held
        for seat_index in held.seat_indexes:
            self._free_seat(seat_index, held.segment.mask)
        self._admit(held.admissions, held.segment, -1)

    def _claim_seat(self, seat_index: int, mask: int) -> None:
        taken = self._taken.get(seat_index, 0)
        if taken & mask:
            raise Diverged(f"seat {seat_index} is claimed twice")
        self._taken[seat_index] = taken | mask

    def _free_seat(self, seat_index: int, mask: int) -> None:
        taken = self._taken.get(seat_index, 0)
        if taken & mask != mask:
            raise Diverged(f"seat {seat_index} is freed but not claimed")
        self._taken[seat_index] = taken & ~mask

    def _admit(
        self, admissions: Iterable[tuple[int, int, int]], segment: Segment, sign: int
    ) -> None:
        tiers = self._stored.show.plan.admission_tiers
        for tier_index, count, _ in admissions:
            for leg in range(segment.from_leg, segment.to_leg):
                admitted = self._admitted.get((tier_index, leg), 0) + sign * count
                if not 0 <= admitted <= tiers[tier_index].capacity:
                    raise Diverged(f"tier {tier_index} is oversold on leg {leg}")
                self._admitted[tier_index, leg] = admitted


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
        return activation

    def append(self, show_id: ShowId, events: Sequence[Event]) -> asyncio.Future[int]:
        """See ``Journal.append``."""
        future = self._futures.get(show_id)
        if future is None:
            future = self._futures[show_id] = asyncio.get_running_loop().create_future()
            # A batch nobody waits for may still fail; that is not an unhandled error.
            future.add_done_callback(lambda done: done.exception())
        self._pending.setdefault(show_id, []).extend(events)
        self._waiting += len(events)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.ensure_future(self._flush())
        return future

    def tail(self, show_id: ShowId) -> asyncio.Future[int] | None:
        """See ``Journal.tail``."""
        return self._futures.get(show_id) or self._flight.get(show_id)

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
            await self.gate.wait()
            for show_id, events in batch.items():
                self._waiting -= len(events)
                self._write(show_id, events)
            self._flight = {}

    def _write(self, show_id: ShowId, events: list[Event]) -> None:
        future = self._flight[show_id]
        owned = self._owned.get(show_id)
        try:
            if owned is None:
                raise Fenced(f"{show_id} is not activated here")
            epoch, seq = owned
            self._store.write(show_id, epoch, seq + 1, events)
        except Fault as fault:
            self._owned.pop(show_id, None)
            future.set_exception(fault)
        else:
            self._owned[show_id] = (epoch, seq + 1)
            future.set_result(seq + 1)


def _cancel(hold: Hold, at_ms: int) -> None:
    assert hold.booking is not None
    hold.booking.state = BookingState.CANCELLED
    hold.booking.cancelled_at_ms = at_ms


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
