"""The model of Postgres: one database that never lies and often does not answer.

A request travels, is carried out at one instant, and its answer travels back. What can go wrong:

    lost request        it never arrives; the session breaks
    lost reply          it was carried out; the session breaks before the answer is here
    late request        the sender has given up when it is carried out: the zombie statement
    slow                all of it takes long, but within what the sender waits
    busy, refused       an answer: nothing was written
    crash               sessions break; what was carried out is durable, what was not is gone

Acknowledged or not: what was carried out is durable. What is carried out, and whether a batch may
be, is decided by the shipped ``MemoryStore``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from persistence.journal import Activation
from persistence.memory_journal import MemoryStore
from persistence.store import Part, StoreBusy, StoreSilent
from reservation.events import Event
from reservation.faults import ShowUnavailable
from reservation.hold import HoldState
from reservation.ids import ShowId
from reservation.show import Show
from tests.simulation.world import Process, World

T = TypeVar("T")

OVERDUE_MS = 500


class Written(NamedTuple):
    """One journal row, and when it became durable.

    Units:
        order: see ``World.next_order``.
        at_ms: by the database's clock.
    """

    seq: int
    epoch: int
    order: int
    at_ms: int
    events: tuple[Event, ...]


class _Silence(Exception):
    """There is no answer."""


class Trouble(NamedTuple):
    """How often what goes wrong with a request; each a probability."""

    lost_request: float = 0.0
    lost_reply: float = 0.0
    late_request: float = 0.0
    slow: float = 0.0
    busy: float = 0.0
    refused: float = 0.0


class ModelDatabase:
    """The database that all owners share.

    Units:
        patience_ms: how long a sender waits for an answer.

    Shapes:
        late: requests on their way whose senders have given up.

    ``spares`` says what is left out: see ``tests.simulation.simulation.SPARED``.
    """

    spares: frozenset[str] = frozenset()

    def __init__(self, world: World, store: MemoryStore, *, patience_ms: int) -> None:
        self.world = world
        self.store = store
        self.trouble = Trouble()
        self.patience_ms = patience_ms
        self.is_down = False
        self.sessions = 0
        self.late = 0
        self.journals: dict[ShowId, list[Written]] = {}
        self.epochs_taken: dict[ShowId, list[int]] = {}

    def crash(self) -> None:
        """Every session breaks."""
        self.is_down = True
        self.sessions += 1

    def recover(self) -> None:
        """New sessions can be opened."""
        self.is_down = False

    def write(self, parts: Sequence[Part]) -> None:
        """Carry a batch out."""
        self.store.write(parts)
        order = self.world.next_order()
        for part in parts:
            journal = self.journals.setdefault(part.show_id, [])
            for entry in self.store.entries(part.show_id)[len(journal) :]:
                journal.append(
                    Written(entry.seq, entry.epoch, order, self.world.now_ms, entry.events)
                )

    def take_epoch(self, show: Show) -> tuple[int, int]:
        """Carry the first half of an activation out."""
        epoch, seq = self.store.take_epoch(show)
        self.epochs_taken.setdefault(show.show_id, []).append(epoch)
        return epoch, seq

    def overdue(self, shows: Sequence[Show]) -> list[ShowId]:
        """Shows with holds that nobody has ended: what the supervisor asks for."""
        before_ms = self.world.now_ms - OVERDUE_MS
        return [
            show.show_id
            for show in shows
            if any(
                hold.state is HoldState.HELD and hold.expires_at_ms < before_ms
                for hold in self.store.holds_of(show.show_id)
            )
        ]


class ModelStore:
    """The database as one owner sees it: a ``Store``."""

    def __init__(self, database: ModelDatabase, process: Process) -> None:
        self._database = database
        self._world = database.world
        self._process = process
        self._is_in_doubt = False

    async def now_ms(self) -> int:
        """See ``Store.now_ms``."""
        is_quick = "a slow answer to what time it is" in self._database.spares
        return await self._read(lambda: self._world.now_ms, is_quick=is_quick)

    async def activate(self, show: Show) -> Activation:
        """See ``Store.activate``. Two statements, as with Postgres."""
        database = self._database
        if database.trouble.busy and self._world.random.random() < database.trouble.busy:
            self._world.faults["store: show is locked"] += 1
            raise ShowUnavailable("the show is locked")
        epoch, seq = await self._read(lambda: database.take_epoch(show))
        return await self._read(lambda: database.store.load(show, epoch, seq))

    async def epochs(self, show_ids: Sequence[ShowId]) -> dict[ShowId, int]:
        """See ``Store.epochs``."""
        store = self._database.store
        return await self._read(lambda: {each: store.epoch_of(each) for each in show_ids})

    async def append(self, parts: Sequence[Part]) -> None:
        """See ``Store.append``."""
        trouble, chance = self._database.trouble, self._world.random.random()
        if chance < trouble.busy:
            self._world.faults["store: busy"] += 1
            raise StoreBusy("no room")
        is_spared = self._is_in_doubt and "a refusal after silence" in self._database.spares
        if chance < trouble.busy + trouble.refused and not is_spared:
            self._world.faults["store: refused"] += 1
            raise RuntimeError("the database cannot do that")
        # The journal may go on filling its lists; what was sent stays what it was.
        sent = [part._replace(events=tuple(part.events)) for part in parts]
        try:
            await self._ask(lambda: self._database.write(sent))
        except _Silence as silence:
            self._is_in_doubt = True
            raise StoreSilent(str(silence)) from silence
        self._is_in_doubt = False

    async def written(self, parts: Sequence[Part]) -> list[ShowId]:
        """See ``Store.written``."""
        if self._world.random.random() < self._database.trouble.busy:
            self._world.faults["store: busy"] += 1
            raise StoreBusy("no room")
        try:
            return await self._ask(lambda: self._database.store.written(parts))
        except _Silence as silence:
            raise StoreSilent(str(silence)) from silence

    async def close(self) -> None:
        """The session ends; nothing is on its way."""

    async def _read(self, work: Callable[[], T], *, is_quick: bool = False) -> T:
        try:
            return await self._ask(work, is_quick=is_quick)
        except _Silence as silence:
            raise ShowUnavailable(f"the database cannot be reached: {silence}") from silence

    async def _ask(self, work: Callable[[], T], *, is_quick: bool = False) -> T:
        """Send a request and wait for its answer.

        Raises:
            _Silence: it was carried out, or not, or will be.
        """
        request = _Request(self._database, self._process, work)
        request.send(is_quick=is_quick)
        try:
            async with asyncio.timeout(self._database.patience_ms / 1_000):
                return cast(T, await request.answer)
        except TimeoutError:
            raise _Silence("no answer in time") from None


class _Request:
    """One request on its way through the model."""

    def __init__(
        self, database: ModelDatabase, process: Process, work: Callable[[], object]
    ) -> None:
        self.answer: asyncio.Future[Any] = process.create_future()
        self._database = database
        self._world = database.world
        self._process = process
        self._work = work
        self._session = database.sessions
        self._loses_reply = False
        self._reply_ms = 0.0

    def send(self, *, is_quick: bool) -> None:
        world, trouble = self._world, self._database.trouble
        if self._database.is_down:
            world.after(world.random.uniform(0.1, 20), self._break)
            return
        delay_ms = world.random.uniform(0.05, 1.5)
        chance = world.random.random()
        if chance < (bound := trouble.lost_request):
            world.faults["store: lost request"] += 1
            world.after(world.random.uniform(1, 400), self._break)
            return
        if chance < (bound := bound + trouble.lost_reply):
            world.faults["store: lost reply"] += 1
            self._loses_reply = True
        elif chance < (bound := bound + trouble.late_request):
            world.faults["store: late request"] += 1
            # Nobody can end a statement that still runs on a server that does not answer.
            self._session = -1
            self._database.late += 1
            delay_ms = self._database.patience_ms + world.random.expovariate(1 / 400)
        elif chance < bound + trouble.slow and not is_quick:
            world.faults["store: slow"] += 1
            slow_ms = world.random.uniform(20, 0.9 * self._database.patience_ms)
            delay_ms = world.random.choice((0.0, 0.5, 1.0)) * slow_ms
            self._reply_ms = slow_ms - delay_ms
        world.after(delay_ms, self._arrive)

    def _arrive(self) -> None:
        self._database.late -= self._session == -1
        if self._database.is_down or self._session not in (-1, self._database.sessions):
            self._world.after(1, self._break)
            return
        result: object = None
        error: Exception | None = None
        try:
            result = self._work()
        except Exception as refusal:
            error = refusal
        random = self._world.random
        if self._loses_reply:
            self._world.after(random.uniform(1, 400), self._break)
        else:
            delay_ms = self._reply_ms + random.uniform(0.05, 1.5)
            self._world.after(delay_ms, self._reply, result, error)

    def _reply(self, result: object, error: Exception | None) -> None:
        if self._session not in (-1, self._database.sessions):
            self._break()
        else:
            self._process.post(self._settle, result, error)

    def _break(self) -> None:
        self._process.post(self._settle, None, _Silence("the session broke"))

    def _settle(self, result: object, error: Exception | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(error)
