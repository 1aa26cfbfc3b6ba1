"""``Store`` on Postgres, and the journal over it.

    Postgres says                                   the store says
    HF004: a newer epoch owns some shows            ShowsLost
    HF005: the plan has become too small            PlanTooSmall
    HF006: a payment cannot be booked with          that error: its show alone is Diverged
    no answer, session lost, server stopping        StoreSilent, and the session is dropped
    locked, out of space, too many connections      StoreBusy
    any other error                                 that error: nothing was written

Nothing waits on a silent line: see ``persistence.timed_connection``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import asyncpg
import orjson

from persistence.claim_blocks import claims_of
from persistence.codec import encode_events
from persistence.group_commit import GroupCommitJournal
from persistence.hold_projector import HoldProjector
from persistence.hold_rows import holds_of
from persistence.journal import Activation
from persistence.projection import Projection
from persistence.queries import load_queries
from persistence.sessions import Connection, Pool, PooledConnection, open_pool, open_writer, reading
from persistence.store import Part, ShowsLost, StoreBusy, StoreSilent
from reservation.events import ShowCancelled
from reservation.faults import PlanTooSmall, ShowUnavailable
from reservation.ids import ChannelId, ShowId
from reservation.show import Show

log = logging.getLogger(__name__)

T = TypeVar("T")

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


class PostgresJournal(GroupCommitJournal):
    """The journal of one owner, in one database."""

    def __init__(self, dsn: str, owner: str) -> None:
        """Nothing is connected yet.

        ``owner`` names this incarnation in the database; another one must have another name.
        """
        super().__init__(PostgresStore(dsn, owner), owner)


class PostgresStore:
    """See ``persistence.store`` for what it says when."""

    def __init__(self, dsn: str, owner: str) -> None:
        """Nothing is connected yet."""
        self._dsn = dsn
        self._owner = owner
        self._writer: Connection | None = None
        self._pool: Pool | None = None
        self._projector = HoldProjector(self._project_holds)

    # -- reading ------------------------------------------------------------------------

    async def now_ms(self) -> int:
        """See ``Store.now_ms``."""
        return int(await self._read(lambda connection: connection.fetchval(_SQL["now_ms"])))

    async def activate(self, show: Show) -> Activation:
        """See ``Store.activate``."""
        return await self._read(lambda connection: self._activate(connection, show))

    async def epochs(self, show_ids: Sequence[ShowId]) -> Mapping[ShowId, int]:
        """See ``Store.epochs``."""
        rows = await self._read(lambda connection: connection.fetch(_SQL["find_owners"], show_ids))
        return {ShowId(row["show_id"]): row["epoch"] for row in rows}

    async def _activate(self, connection: PooledConnection, show: Show) -> Activation:
        capacities = [tier.capacity for tier in show.plan.admission_tiers]
        shape = (show.route.leg_count, show.plan.seat_count, capacities)
        epoch, seq = await self._take_epoch(connection, show.show_id, shape)
        if seq == 0:
            # Nobody ever wrote anything of it, and older epochs cannot any more.
            return Activation(epoch, seq, [], [], 0, 0)
        return await self._load(connection, show.show_id, epoch, seq)

    async def _take_epoch(
        self, connection: PooledConnection, show_id: ShowId, shape: tuple[int, int, list[int]]
    ) -> tuple[int, int]:
        for attempt in range(ACTIVATION_ATTEMPTS):
            try:
                row = await connection.fetchrow(_SQL["activate_show"], show_id, self._owner, *shape)
            except asyncpg.LockNotAvailableError:
                if attempt + 1 == ACTIVATION_ATTEMPTS:
                    raise
                # A replaced owner is stuck with the row locked. Its session is ended; what it
                # was writing is then either committed or rolled back, and we see which.
                for owner in await connection.fetch(_SQL["find_owners"], [show_id]):
                    log.warning("ending the sessions of %s, which block %s", owner[3], show_id)
                    await connection.execute(_SQL["terminate_owner"], owner[3])
            except asyncpg.PostgresError as error:
                if error.sqlstate == "HF005":
                    raise PlanTooSmall(f"{show_id}: {error.args[0]}") from error
                raise
            else:
                assert row is not None
                return row[0], row[1]
        raise AssertionError("unreachable")

    async def _load(
        self, connection: PooledConnection, show_id: ShowId, epoch: int, seq: int
    ) -> Activation:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            holds = await connection.fetch(_SQL["load_holds"], show_id)
            bookings = await connection.fetch(_SQL["load_bookings"], show_id)
            house = await connection.fetch(_SQL["load_house_seats"], show_id)
            claims = await connection.fetchrow(_SQL["count_claims"], show_id)
        assert claims is not None
        seat_legs, place_legs, reason, cancelled_at_ms = claims
        return Activation(
            epoch,
            seq,
            holds_of(holds, bookings),
            [(seat, reason) for seat, reason, _ in house if reason is not None],
            seat_legs,
            place_legs,
            [(seat, ChannelId(channel)) for seat, _, channel in house if channel is not None],
            None if reason is None else ShowCancelled(reason, (), cancelled_at_ms),
        )

    async def _read(self, work: Callable[[PooledConnection], Coroutine[Any, Any, T]]) -> T:
        """Do what is not on the write path.

        Raises:
            ShowUnavailable: the store cannot be reached.
        """
        try:
            if self._pool is None:
                self._pool = await open_pool(
                    self._dsn, self._owner, size_max=2, lock_timeout_ms=ACTIVATION_LOCK_TIMEOUT_MS
                )
            async with reading(self._pool) as connection:
                return await work(connection)
        except _UNREACHABLE as error:
            raise ShowUnavailable(f"the database cannot be reached: {error!r}") from error

    # -- writing ------------------------------------------------------------------------

    async def append(self, parts: Sequence[Part]) -> None:
        """See ``Store.append``."""
        projection = Projection()
        for part in parts:
            projection.add(part.show_id, part.seq, part.events)
        batch = (
            [part.show_id for part in parts],
            [part.epoch for part in parts],
            [part.seq for part in parts],
            [encode_events(part.events) for part in parts],
            *claims_of(projection, [(part.show_id, part.leg_count) for part in parts]),
            projection.changed,
            None if projection.is_plain else orjson.dumps(projection.sections).decode(),
        )
        try:
            await self._ask_writer(lambda writer: writer.execute(_SQL["append_batch"], *batch))
        except asyncpg.PostgresError as error:
            if error.sqlstate == "HF004":
                raise ShowsLost([ShowId(each) for each in (error.detail or "").split()]) from error
            raise
        changed = set(projection.changed)
        made = {parts[number - 1].show_id for number in set(projection.show_numbers)}
        self._projector.appended(made - changed, changed)

    async def _project_holds(self, show_ids: Sequence[ShowId], batches: int) -> list[ShowId]:
        more = await self._read(
            lambda connection: connection.fetchval(_SQL["project_holds"], show_ids, batches)
        )
        return [ShowId(show_id) for show_id in more or ()]

    async def written(self, parts: Sequence[Part]) -> list[ShowId]:
        """See ``Store.written``."""
        batch = (
            [part.show_id for part in parts],
            [part.seq for part in parts],
            [part.epoch for part in parts],
        )
        try:
            rows = await self._ask_writer(lambda writer: writer.fetch(_SQL["find_written"], *batch))
        except asyncpg.PostgresError as error:
            self._disconnect()
            raise StoreBusy(repr(error)) from error
        return [ShowId(row[0]) for row in rows]

    async def _ask_writer(self, request: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        try:
            writer = self._writer
            if writer is None or writer.is_closed():
                writer = self._writer = await open_writer(self._dsn, self._owner)
            return await request(writer)
        except ValueError:
            # asyncpg calls an argument it cannot encode an interface error, too.
            raise
        except _SESSION_TROUBLE as error:
            self._disconnect()
            raise StoreSilent(repr(error)) from error
        except _PASSING_TROUBLE as error:
            raise StoreBusy(repr(error)) from error

    def _disconnect(self) -> None:
        if self._writer is not None:
            self._writer.terminate()
            self._writer = None

    async def close(self) -> None:
        """See ``Store.close``."""
        await self._projector.close()
        if self._writer is not None:
            await self._writer.close()
        if self._pool is not None:
            await self._pool.close()
