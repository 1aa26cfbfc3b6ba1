"""``Journal`` on Postgres: group commit, fencing, and no guessing.

Theory of operation
-------------------
One batch is under way at a time. While it is, later events join the open batch, which leaves
when the answer is back. One statement carries the batch of every show of this owner.

    answer                          what it means                    what is done
    written                         durable                          the futures end
    HF004 (fenced)                  another epoch owns some shows    those end with Fenced, the
                                                                     others are sent again
    another error of the statement  nothing was written              sent one show at a time; the
                                                                     one that fails alone Diverged
    busy, out of space              nothing was written              sent again after a pause
    no answer, session lost         UNKNOWN                          connect again, look into the
                                                                     journal, then end or resend

The last line is why a batch carries (epoch, seq): whether it was written can be read, and if the
lost statement is still running somewhere, it and its repetition cannot both win.

Nothing waits on a silent line: a request that is not answered in time ends with its connection,
and the next one opens another. A connection that a firewall forgot would be silent for minutes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncpg
import orjson

from persistence.codec import encode_events
from persistence.hold_rows import hold_of
from persistence.journal import Activation
from persistence.projection import Projection
from persistence.queries import load_queries
from persistence.sessions import Connection, Pool, open_pool, open_writer
from reservation.events import Event
from reservation.faults import Diverged, Fault, Fenced, ShowUnavailable
from reservation.ids import ShowId
from reservation.show import Show

log = logging.getLogger(__name__)

T = TypeVar("T")

COMMIT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 10.0
RETRY_PAUSES_S = (0.02, 0.05, 0.1, 0.25, 0.5)
ACTIVATION_LOCK_TIMEOUT_MS = 500
ACTIVATION_ATTEMPTS = 3

_SQL = load_queries("journal.sql")

# The session is over, or of no use: it was ended by hand or by a time-out, its server stops, has
# become a read-only standby, or does not let us in. None of it says a word about the last batch.
_SESSION_TROUBLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,
    asyncpg.InvalidTransactionStateError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
_PASSING_TROUBLE = (
    asyncpg.LockNotAvailableError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresIOError,
)
_UNREACHABLE = (*_SESSION_TROUBLE, *_PASSING_TROUBLE)


class _Owned(NamedTuple):
    """What this journal may write next: after ``seq``, as ``epoch``."""

    epoch: int
    seq: int


class _Entry:
    """One show's part of a batch."""

    __slots__ = ("epoch", "events", "future", "seq")

    def __init__(self, future: asyncio.Future[int]) -> None:
        self.future = future
        self.events: list[Event] = []
        self.epoch = 0
        self.seq = 0


class PostgresJournal:
    """See ``persistence.journal`` for the promises."""

    def __init__(self, dsn: str, owner: str) -> None:
        """Nothing is connected yet.

        ``owner`` names this incarnation in the database; another one must have another name.
        """
        self._dsn = dsn
        self._owner = owner
        self._writer: Connection | None = None
        self._pool: Pool | None = None
        self._owned: dict[ShowId, _Owned] = {}
        self._open: dict[ShowId, _Entry] = {}
        self._flight: dict[ShowId, _Entry] = {}
        self._flusher: asyncio.Task[None] | None = None
        self._waiting = 0
        self._silent_since: float | None = None

    # -- reading ------------------------------------------------------------------------

    async def now_ms(self) -> int:
        """See ``Journal.now_ms``."""
        return int(await self._read(lambda pool: pool.fetchval(_SQL["now_ms"])))

    async def activate(self, show: Show) -> Activation:
        """See ``Journal.activate``."""
        activation = await self._read(lambda pool: self._activate(pool, show))
        show_id = show.show_id
        stale = self._open.pop(show_id, None)
        if stale is not None:
            # Decided on the memory of an earlier epoch; ours must not write it.
            self._end(stale, Fenced(f"{show_id} has a newer owner"))
        self._owned[show_id] = _Owned(activation.epoch, activation.seq)
        return activation

    async def _activate(self, pool: Pool, show: Show) -> Activation:
        capacities = [tier.capacity for tier in show.plan.admission_tiers]
        shape = (show.route.leg_count, show.plan.seat_count, capacities)
        epoch, seq = await self._take_epoch(pool, show.show_id, shape)
        return await self._load(pool, show.show_id, epoch, seq)

    async def _take_epoch(
        self, pool: Pool, show_id: ShowId, shape: tuple[int, int, list[int]]
    ) -> tuple[int, int]:
        for attempt in range(ACTIVATION_ATTEMPTS):
            try:
                row = await pool.fetchrow(_SQL["activate_show"], show_id, self._owner, *shape)
            except asyncpg.LockNotAvailableError:
                if attempt + 1 == ACTIVATION_ATTEMPTS:
                    raise
                # A replaced owner is stuck with the row locked. Its session is ended; what it
                # was writing is then either committed or rolled back, and we see which.
                for owner in await pool.fetch(_SQL["find_owners"], [show_id]):
                    log.warning("ending the sessions of %s, which block %s", owner[3], show_id)
                    await pool.execute(_SQL["terminate_owner"], owner[3])
            else:
                assert row is not None
                return row[0], row[1]
        raise AssertionError("unreachable")

    async def _load(self, pool: Pool, show_id: ShowId, epoch: int, seq: int) -> Activation:
        async with (
            pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            holds = [hold_of(row) for row in await connection.fetch(_SQL["load_holds"], show_id)]
            blocks = await connection.fetch(_SQL["load_blocks"], show_id)
            claims = await connection.fetchrow(_SQL["count_claims"], show_id)
        assert claims is not None
        return Activation(
            epoch, seq, holds, [(row[0], row[1]) for row in blocks], claims[0], claims[1]
        )

    async def lost(self, show_ids: Iterable[ShowId]) -> set[ShowId]:
        """See ``Journal.lost``."""
        wanted = list(show_ids)
        rows = await self._read(lambda pool: pool.fetch(_SQL["find_owners"], wanted))
        epochs = {row["show_id"]: row["epoch"] for row in rows}
        return {
            show_id
            for show_id in wanted
            if show_id not in self._owned or epochs.get(show_id) != self._owned[show_id].epoch
        }

    async def _read(self, work: Callable[[Pool], Coroutine[Any, Any, T]]) -> T:
        """Do what is not on the write path.

        Raises:
            ShowUnavailable: the store cannot be reached.
        """
        try:
            if self._pool is None:
                self._pool = await open_pool(
                    self._dsn, self._owner, size_max=2, lock_timeout_ms=ACTIVATION_LOCK_TIMEOUT_MS
                )
            return await _answer_within(READ_TIMEOUT_S, work(self._pool), self._end_pool)
        except _UNREACHABLE as error:
            raise ShowUnavailable(f"the database cannot be reached: {error!r}") from error

    def _end_pool(self) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

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
        if self._silent_since is None:
            return 0
        return int((time.monotonic() - self._silent_since) * 1_000)

    async def close(self) -> None:
        """See ``Journal.close``."""
        if self._flusher is not None:
            await self._flusher
        if self._writer is not None:
            await self._writer.close()
        if self._pool is not None:
            await self._pool.close()

    # -- the batch under way ----------------------------------------------------------------

    async def _flush(self) -> None:
        while self._open:
            self._flight, self._open = self._open, {}
            entries = dict(self._flight)
            self._silent_since = time.monotonic()
            for show_id, entry in self._flight.items():
                owned = self._owned.get(show_id)
                if owned is None:
                    self._fail(show_id, entries, Fenced(f"{show_id} is not activated here"))
                else:
                    entry.epoch, entry.seq = owned.epoch, owned.seq + 1
            await self._commit(entries)
            self._silent_since = None
            self._flight = {}

    async def _commit(self, entries: dict[ShowId, _Entry]) -> None:
        """Bring every entry to a certain end. Entries leave the dictionary as they end."""
        attempt = 0
        while entries:
            try:
                await self._send(entries)
                self._written(list(entries), entries)
                return
            except ValueError as error:
                # asyncpg calls an argument it cannot encode an interface error, too.
                await self._refused(entries, error)
            except _SESSION_TROUBLE as error:
                log.warning("%s: the outcome of a batch is unknown: %r", self._owner, error)
                self._disconnect()
                await self._pause(attempt)
                await self._look_up(entries)
            except _PASSING_TROUBLE as error:
                log.warning("%s: a batch is sent again: %r", self._owner, error)
                await self._pause(attempt)
            except Exception as error:
                await self._refused(entries, error)
            attempt += 1

    async def _refused(self, entries: dict[ShowId, _Entry], error: Exception) -> None:
        """The statement failed and wrote nothing: find out which shows it failed for."""
        if isinstance(error, asyncpg.PostgresError) and error.sqlstate == "HF004":
            lost = [ShowId(show_id) for show_id in (error.detail or "").split()]
            # An earlier attempt whose answer was lost may have been written after all.
            await self._look_up({show_id: entries[show_id] for show_id in lost}, entries)
            for show_id in lost:
                if show_id in entries:
                    self._fail(show_id, entries, Fenced(f"{show_id} has a newer owner"))
        elif len(entries) > 1:
            for show_id in list(entries):
                alone = {show_id: entries.pop(show_id)}
                await self._commit(alone)
        else:
            (show_id,) = entries
            log.error("%s: a batch of %s cannot be written", self._owner, show_id, exc_info=error)
            self._fail(show_id, entries, Diverged(f"{show_id}: {error!r}"))

    async def _send(self, entries: dict[ShowId, _Entry]) -> None:
        projection = Projection()
        for show_id, entry in entries.items():
            projection.add(show_id, entry.seq, entry.events)
        await self._ask_writer(
            lambda writer: writer.execute(
                _SQL["append_batch"],
                list(entries),
                [entry.epoch for entry in entries.values()],
                [entry.seq for entry in entries.values()],
                [encode_events(entry.events) for entry in entries.values()],
                orjson.dumps(projection.sections).decode(),
            )
        )

    async def _ask_writer(self, request: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        writer = self._writer
        if writer is None or writer.is_closed():
            writer = self._writer = await open_writer(self._dsn, self._owner)
        # Cancelling would make the server cancel the statement, and a commit cancelled while it
        # waits for a replica looks like a success. Cutting the line is honest.
        return await _answer_within(COMMIT_TIMEOUT_S, request(writer), writer.terminate)

    async def _look_up(
        self, asked: dict[ShowId, _Entry], entries: dict[ShowId, _Entry] | None = None
    ) -> None:
        """End those entries that turn out to be written; keep asking until there is an answer."""
        attempt = 0
        batch = (
            list(asked),
            [entry.seq for entry in asked.values()],
            [entry.epoch for entry in asked.values()],
        )
        while True:
            try:
                rows = await self._ask_writer(
                    lambda writer: writer.fetch(_SQL["find_written"], *batch)
                )
            except (*_UNREACHABLE, asyncpg.PostgresError) as error:
                log.warning("%s: the database cannot be asked: %r", self._owner, error)
                self._disconnect()
                await self._pause(attempt)
                attempt += 1
            else:
                written = [ShowId(row[0]) for row in rows]
                self._written(written, asked if entries is None else entries)
                return

    def _written(self, show_ids: Sequence[ShowId], entries: dict[ShowId, _Entry]) -> None:
        for show_id in show_ids:
            entry = entries.pop(show_id)
            if self._is_owned_by(show_id, entry.epoch):
                self._owned[show_id] = _Owned(entry.epoch, entry.seq)
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

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.terminate()
            self._writer = None

    @staticmethod
    async def _pause(attempt: int) -> None:
        await asyncio.sleep(RETRY_PAUSES_S[min(attempt, len(RETRY_PAUSES_S) - 1)])


async def _answer_within(
    timeout_s: float, request: Coroutine[Any, Any, T], cut: Callable[[], None]
) -> T:
    """The answer to a request; ``cut`` ends the line of one that is not answered in time.

    Raises:
        TimeoutError: there was no answer; the request has ended all the same.
    """
    task = asyncio.ensure_future(request)
    done, _ = await asyncio.wait({task}, timeout=timeout_s)
    if not done:
        cut()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()
        raise TimeoutError("the database does not answer")
    return task.result()
