"""``Journal`` over any store: group commit, fencing, and no guessing.

Theory of operation
-------------------
One batch is under way at a time. While it is, later events join the open batch, which leaves
when the answer is back. One request carries the batch of every show of this owner.

    the store says      it means                         what is done
    written             durable                          the futures end
    ShowsLost           another epoch owns some shows    those end with Fenced, the others are
                                                         sent again
    StoreBusy           nothing was written              sent again after a pause
    StoreSilent         UNKNOWN                          look into the journal, then end or resend
    any other error     nothing was written              sent one show at a time; the one that
                                                         fails alone Diverged, or OutcomeUnknown
                                                         when an earlier attempt was silent

The fourth line is why a batch carries (epoch, seq): whether it was written can be read, and if
the lost request is still running somewhere, it and its repetition cannot both win.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from persistence.journal import Activation
from persistence.store import Part, ShowsLost, Store, StoreBusy, StoreSilent
from reservation.events import Event
from reservation.faults import Diverged, Fault, Fenced, OutcomeUnknown
from reservation.ids import ShowId
from reservation.show import Show

log = logging.getLogger(__name__)

RETRY_PAUSES_S = (0.02, 0.05, 0.1, 0.25, 0.5)


class _Owned(NamedTuple):
    """What this journal may write next: after ``seq``, as ``epoch``."""

    epoch: int
    seq: int
    leg_count: int


class _Entry:
    """One show's part of a batch."""

    __slots__ = ("epoch", "events", "future", "leg_count", "seq")

    def __init__(self, future: asyncio.Future[int]) -> None:
        self.future = future
        self.events: list[Event] = []
        self.epoch = 0
        self.seq = 0
        self.leg_count = 0


class GroupCommitJournal:
    """See ``persistence.journal`` for the promises."""

    def __init__(self, store: Store, owner: str) -> None:
        """Nothing is contacted yet. ``owner`` names this incarnation in the log."""
        self._store = store
        self._owner = owner
        self._owned: dict[ShowId, _Owned] = {}
        self._open: dict[ShowId, _Entry] = {}
        self._flight: dict[ShowId, _Entry] = {}
        self._flusher: asyncio.Task[None] | None = None
        self._waiting = 0
        self._silent_since_s: float | None = None

    # -- reading ------------------------------------------------------------------------

    async def now_ms(self) -> int:
        """See ``Journal.now_ms``."""
        return await self._store.now_ms()

    async def activate(self, show: Show) -> Activation:
        """See ``Journal.activate``."""
        activation = await self._store.activate(show)
        show_id = show.show_id
        stale = self._open.pop(show_id, None)
        if stale is not None:
            # Decided on the memory of an earlier epoch; ours must not write it.
            self._end(stale, Fenced(f"{show_id} has a newer owner"))
        self._owned[show_id] = _Owned(activation.epoch, activation.seq, show.route.leg_count)
        return activation

    async def lost(self, show_ids: Iterable[ShowId]) -> set[ShowId]:
        """See ``Journal.lost``."""
        wanted = list(show_ids)
        epochs = await self._store.epochs(wanted)
        return {
            show_id
            for show_id in wanted
            if show_id not in self._owned or epochs.get(show_id) != self._owned[show_id].epoch
        }

    # -- appending ----------------------------------------------------------------------

    def append(self, show_id: ShowId, events: Sequence[Event]) -> asyncio.Future[int]:
        """See ``Journal.append``."""
        entry = self._open.get(show_id)
        if entry is None:
            future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
            # Nobody may be waiting for it (an expiry): a failure is not an unhandled error.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            entry = self._open[show_id] = _Entry(future)
        entry.events.extend(events)
        self._waiting += len(events)
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.ensure_future(self._flush())
        return entry.future

    def tail(self, show_id: ShowId) -> asyncio.Future[int] | None:
        """See ``Journal.tail``."""
        entry = self._open.get(show_id) or self._flight.get(show_id)
        # The flight goes on for its neighbours when this show's part of it has ended.
        return entry.future if entry is not None and not entry.future.done() else None

    def forget(self, show_id: ShowId) -> None:
        """See ``Journal.forget``."""
        self._owned.pop(show_id, None)

    @property
    def waiting_commands(self) -> int:
        """See ``Journal.waiting_commands``."""
        return self._waiting

    @property
    def stalled_ms(self) -> int:
        """See ``Journal.stalled_ms``."""
        if self._silent_since_s is None:
            return 0
        return int((asyncio.get_running_loop().time() - self._silent_since_s) * 1_000)

    async def close(self) -> None:
        """See ``Journal.close``."""
        if self._flusher is not None:
            await self._flusher
        await self._store.close()

    # -- the batch under way ----------------------------------------------------------------

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        while self._open:
            self._flight, self._open = self._open, {}
            entries = dict(self._flight)
            self._silent_since_s = loop.time()
            for show_id, entry in self._flight.items():
                owned = self._owned.get(show_id)
                if owned is None:
                    self._fail(show_id, entries, Fenced(f"{show_id} is not activated here"))
                else:
                    entry.epoch, entry.seq = owned.epoch, owned.seq + 1
                    entry.leg_count = owned.leg_count
            await self._commit(entries)
            self._silent_since_s = None
            self._flight = {}

    async def _commit(self, entries: dict[ShowId, _Entry], *, was_silent: bool = False) -> None:
        """Bring every entry to a certain end. Entries leave the dictionary as they end.

        ``was_silent`` says that an attempt at these entries has had no answer.
        """
        attempt = 0
        while entries:
            try:
                await self._store.append(_parts(entries))
            except ShowsLost as lost:
                await self._lost(lost.show_ids, entries)
            except StoreSilent as silence:
                was_silent = True
                log.warning("%s: the outcome of a batch is unknown: %s", self._owner, silence)
                await self._pause(attempt)
                await self._look_up(list(entries), entries)
            except StoreBusy as trouble:
                log.warning("%s: a batch is sent again: %s", self._owner, trouble)
                await self._pause(attempt)
            except Exception as error:
                await self._refused(entries, error, was_silent=was_silent)
            else:
                self._written(list(entries), entries)
            attempt += 1

    async def _lost(self, lost: Sequence[ShowId], entries: dict[ShowId, _Entry]) -> None:
        # An earlier attempt whose answer was lost may have been written after all.
        await self._look_up(lost, entries)
        for show_id in lost:
            if show_id in entries:
                self._fail(show_id, entries, Fenced(f"{show_id} has a newer owner"))

    async def _refused(
        self, entries: dict[ShowId, _Entry], error: Exception, *, was_silent: bool
    ) -> None:
        """The batch cannot be written: find out which shows it cannot be written for."""
        if len(entries) > 1:
            for show_id in list(entries):
                alone = {show_id: entries.pop(show_id)}
                await self._commit(alone, was_silent=was_silent)
        else:
            (show_id,) = entries
            log.error("%s: a batch of %s cannot be written", self._owner, show_id, exc_info=error)
            # A first attempt whose answer was lost may still be running, and be written yet.
            fault: type[Fault] = OutcomeUnknown if was_silent else Diverged
            self._fail(show_id, entries, fault(f"{show_id}: {error!r}"))

    async def _look_up(self, asked: Sequence[ShowId], entries: dict[ShowId, _Entry]) -> None:
        """End those of these entries that turn out to be written; ask until there is an answer."""
        parts = _parts({show_id: entries[show_id] for show_id in asked})
        attempt = 0
        while True:
            try:
                written = await self._store.written(parts)
            except (StoreBusy, StoreSilent) as trouble:
                log.warning("%s: the store cannot be asked: %s", self._owner, trouble)
                await self._pause(attempt)
                attempt += 1
            else:
                self._written(written, entries)
                return

    def _written(self, show_ids: Sequence[ShowId], entries: dict[ShowId, _Entry]) -> None:
        for show_id in show_ids:
            entry = entries.pop(show_id)
            if self._is_owned_by(show_id, entry.epoch):
                self._owned[show_id] = _Owned(entry.epoch, entry.seq, entry.leg_count)
            self._end(entry, None)

    def _fail(self, show_id: ShowId, entries: dict[ShowId, _Entry], fault: Fault) -> None:
        """End an entry, and with it everything that was decided after it."""
        entry = entries.pop(show_id)
        self._end(entry, fault)
        # Activated anew in the meantime, the show has a new story and a new epoch.
        if show_id not in self._owned or self._is_owned_by(show_id, entry.epoch):
            self._owned.pop(show_id, None)
            later = self._open.pop(show_id, None)
            if later is not None:
                self._end(later, fault)

    def _end(self, entry: _Entry, fault: Fault | None) -> None:
        self._waiting -= len(entry.events)
        if entry.future.done():
            return  # Somebody who waited for it was cancelled.
        if fault is None:
            entry.future.set_result(entry.seq)
        else:
            entry.future.set_exception(fault)

    def _is_owned_by(self, show_id: ShowId, epoch: int) -> bool:
        owned = self._owned.get(show_id)
        return owned is not None and owned.epoch == epoch

    @staticmethod
    async def _pause(attempt: int) -> None:
        await asyncio.sleep(RETRY_PAUSES_S[min(attempt, len(RETRY_PAUSES_S) - 1)])


def _parts(entries: dict[ShowId, _Entry]) -> list[Part]:
    return [
        Part(show_id, entry.epoch, entry.seq, entry.events, entry.leg_count)
        for show_id, entry in entries.items()
    ]
