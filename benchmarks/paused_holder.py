"""The pause fault: a seller is stopped between its check and its write, and another one sells.

A holder of a lock with a time to live, a garbage collector that runs, a machine that is moved: all
of it looks like this. Each function returns what the audit found; the same audit for all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg
from redis.asyncio import Redis

from actors.clock import SystemClock
from actors.show_actor import ShowActor
from benchmarks.audit import Audit
from benchmarks.below_http import new_show_name, request_of
from benchmarks.contenders.actor import plan_of
from benchmarks.contenders.contender import Held, HoldAnswer, ShowSpec
from benchmarks.contenders.redlock import RedLock
from benchmarks.private_house import put_show
from persistence.journal import Activation, Journal
from persistence.shards import ShardMap
from persistence.show_store import open_show_store
from reservation.commands import HoldSeats, digest_request
from reservation.events import Event, SeatsHeld
from reservation.ids import ShowId
from reservation.route import Segment
from reservation.show import Placement, Show

SEATS = 10
WANTED = (2, 3)
LOCK_TTL_MS = 300
FIRST, SECOND = 1, 2


class Paused(NamedTuple):
    """What came of it.

    Shapes:
        faults: of the audit.
        first, second: whether the paused seller, and the one that sold meanwhile, said "sold".
    """

    faults: list[str]
    first: bool
    second: bool


@dataclass
class Pause:
    """Stops who comes by, until it is let go."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self) -> None:
        """The paused one waits here."""
        self.reached.set()
        await self.over.wait()


async def pause_redlock(
    dsn: str, pool: asyncpg.Pool[asyncpg.Record], redis: Redis, *, is_guarded: bool
) -> Paused:
    """The holder of a Redis lock is paused beyond the lock's time to live."""
    pause = Pause()
    first = RedLock(pool, redis, is_guarded=is_guarded, lock_ttl_ms=LOCK_TTL_MS, pause=pause)
    second = RedLock(pool, redis, is_guarded=is_guarded, lock_ttl_ms=LOCK_TTL_MS)
    spec = ShowSpec(new_show_name("pause"), SEATS)
    await first.open_shows([spec])
    holds = [first.prepare(request_of(spec.show_id, n, WANTED)) for n in (FIRST, SECOND)]
    paused = asyncio.ensure_future(first.hold(holds[0]))
    await pause.reached.wait()
    # The second waits for the lock, and gets it when its time to live is over.
    sold = await second.hold(holds[1])
    assert not paused.done(), "the first seller was not paused"
    pause.over.set()
    answers: list[HoldAnswer] = [await paused, sold]
    audit = Audit()
    promised = [answer.hold_id for answer in answers if isinstance(answer, Held)]
    await audit.check_others(dsn, "redlock", [first.number_of(spec.show_id)], promised)
    return Paused(audit.faults, *(isinstance(answer, Held) for answer in answers))


async def pause_actor(dsn: str) -> Paused:
    """The owner of a show is paused after it has decided, and another owner takes over."""
    show_id = await put_show(dsn, new_show_name("pause"), plan_of(SEATS))
    pause = Pause()
    first = await _open_owner(dsn, show_id, pause)
    second = await _open_owner(dsn, show_id, None)
    holds = [_hold_of(show_id, number) for number in (FIRST, SECOND)]
    paused = asyncio.ensure_future(first.submit([(show_id, holds[0])]))
    await pause.reached.wait()
    sold = await second.submit([(show_id, holds[1])])
    assert not paused.done(), "the first owner was not paused"
    pause.over.set()
    answers = [(await paused).answers[0], sold.answers[0]]
    audit = Audit()
    promised = [answer.hold_id for answer in answers if isinstance(answer, SeatsHeld)]
    await audit.check_ours(ShardMap.even((dsn,)), [show_id], promised)
    return Paused(audit.faults, *(isinstance(answer, SeatsHeld) for answer in answers))


def _hold_of(show_id: ShowId, number: int) -> HoldSeats:
    wanted = request_of(show_id, number, WANTED)
    return HoldSeats(
        wanted.hold_id,
        wanted.customer_id,
        Segment(0, 1),
        wanted.seats,
        (),
        False,
        digest_request(wanted.seats),
    )


async def _open_owner(dsn: str, show_id: ShowId, pause: Pause | None) -> ShowActor:
    source, journal = await open_show_store(dsn, dsn, owner=f"show:{show_id}")
    return ShowActor(
        f"show:{show_id}",
        Placement.DEDICATED,
        source,
        journal if pause is None else PausedJournal(journal, pause),
        SystemClock(),
        passivate_after_ms=600_000,
        mailbox_commands_max=1_000,
    )


class PausedJournal:
    """A journal in front of which every write is paused; everything else goes through."""

    def __init__(self, journal: Journal, pause: Pause) -> None:
        self._journal = journal
        self._pause = pause
        self._tails: dict[ShowId, asyncio.Future[int]] = {}

    async def now_ms(self) -> int:
        """See ``Journal``."""
        return await self._journal.now_ms()

    async def activate(self, show: Show) -> Activation:
        """See ``Journal``."""
        return await self._journal.activate(show)

    def append(self, show_id: ShowId, events: Sequence[Event]) -> asyncio.Future[int]:
        """See ``Journal``; written when the pause is over."""

        async def write() -> int:
            await self._pause()
            return await self._journal.append(show_id, events)

        self._tails[show_id] = asyncio.ensure_future(write())
        return self._tails[show_id]

    def tail(self, show_id: ShowId) -> asyncio.Future[int] | None:
        """See ``Journal``."""
        tail = self._tails.get(show_id)
        return None if tail is None or tail.done() else tail

    async def lost(self, show_ids: Iterable[ShowId]) -> set[ShowId]:
        """See ``Journal``."""
        return await self._journal.lost(show_ids)

    def forget(self, show_id: ShowId) -> None:
        """See ``Journal``."""
        self._tails.pop(show_id, None)
        self._journal.forget(show_id)

    @property
    def waiting_commands(self) -> int:
        """See ``Journal``."""
        return self._journal.waiting_commands

    @property
    def stalled_ms(self) -> int:
        """See ``Journal``."""
        return self._journal.stalled_ms

    async def close(self) -> None:
        """See ``Journal``."""
        await self._journal.close()
