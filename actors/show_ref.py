"""``ShowRefs``: the only way to talk to a show. Coalescing, deadlines, epochs, error translation.

Theory of operation
-------------------
One remote call per command would cost more than the command. So every actor has one *channel*
in this process: while a batch is under way, later commands wait in a list and leave together
when it returns. Nothing waits for a timer: a lone command leaves at once, and the busier the
actor, the larger the batches.

Every command carries an id that makes repeating it harmless, but only the caller knows whether
it wants to: this ref repeats a command by itself only when it is certain that nothing happened
(``NotDone``) and the deadline allows it. Otherwise it says ``OutcomeUnknown``.

Answers of an epoch lower than one already seen come from an actor that has been replaced.
They are not trusted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Protocol

from actors.messages import Reply, Request
from reservation.commands import Command, Priority, priority_of
from reservation.faults import (
    Diverged,
    Fault,
    Fenced,
    NotDone,
    OutcomeUnknown,
    Overloaded,
    ShowMoved,
    ShowUnavailable,
)
from reservation.ids import ShowId
from reservation.seat_map import Outcome

log = logging.getLogger(__name__)

BATCH_COMMANDS_MAX = 512
"""More per call would let one batch's answers wait for too many decisions."""

BATCHES_UNDER_WAY_MAX = 2
"""The second batch is decided while the first is being committed."""

SECOND_BATCH_COMMANDS_MIN = 32
"""A remote call costs as much as a few dozen commands, so a second one leaves only when it is
full enough to be worth it; fewer commands wait for the first to return."""

WAITING_COMMANDS_MAX = 8_192
"""Per actor and calling process; beyond it claims are refused, settling at twice of it."""

RETRY_PAUSE_MS = 50

OWNERS_REMEMBERED_MAX = 100_000
"""Shows whose actor is known without asking; forgetting all of them costs one look-up each."""


_PASSING = (ShowMoved, ShowUnavailable, Fenced, Diverged)
"""What may be over in a moment: the show finds a new owner, or its owner reloads it."""


class Submit(Protocol):
    """Carries one batch to an actor and brings its reply back.

    Raises:
        NotDone: the batch was not executed.
        OutcomeUnknown: it may have been.
    """

    def __call__(self, requests: list[Request]) -> Awaitable[Reply]: ...


class _Waiting:
    """One command on its way."""

    __slots__ = ("answer", "request")

    def __init__(self, request: Request, answer: asyncio.Future[Outcome]) -> None:
        self.request = request
        self.answer = answer


class _Channel:
    """This process's line to one actor."""

    def __init__(self, submit: Submit, epochs: dict[ShowId, int]) -> None:
        self._submit = submit
        self._epochs = epochs
        # Ordered dictionaries, because thousands may have to be taken out of line at one time.
        self._settling: OrderedDict[_Waiting, None] = OrderedDict()
        self._claiming: OrderedDict[_Waiting, None] = OrderedDict()
        self._under_way = 0
        self._commands_under_way = 0
        self._pumps: set[asyncio.Task[None]] = set()

    def send(self, waiting: _Waiting) -> None:
        """Put a command in line.

        Raises:
            Overloaded: the line is full.
        """
        length = len(self._settling) + len(self._claiming)
        if priority_of(waiting.request[1]) is Priority.SETTLE:
            if length >= 2 * WAITING_COMMANDS_MAX:
                raise Overloaded(f"{length} commands are waiting")
            self._settling[waiting] = None
        else:
            if length >= WAITING_COMMANDS_MAX:
                raise Overloaded(f"{length} commands are waiting")
            self._claiming[waiting] = None
        if self._under_way < BATCHES_UNDER_WAY_MAX and self._is_worth_a_batch(self._under_way):
            self._under_way += 1
            pump = asyncio.ensure_future(self._pump())
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    def withdraw(self, waiting: _Waiting) -> bool:
        """Take a command out of line; False when it has left already."""
        for line in (self._settling, self._claiming):
            if waiting in line:
                del line[waiting]
                return True
        return False

    async def _pump(self) -> None:
        try:
            while batch := self._next_batch():
                self._commands_under_way += len(batch)
                try:
                    await self._deliver(batch)
                finally:
                    self._commands_under_way -= len(batch)
        finally:
            self._under_way -= 1

    def _is_worth_a_batch(self, others: int) -> bool:
        """Whether enough commands wait for one more batch beside ``others`` under way."""
        length = len(self._settling) + len(self._claiming)
        return length >= (SECOND_BATCH_COMMANDS_MIN if others else 1)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        if not self._is_worth_a_batch(self._under_way - 1):
            return batch
        # All that is asked for is shared evenly by the batches that may be under way: one that
        # took it all would leave Postgres idle while it is decided, the actor while it commits.
        asked = len(self._settling) + len(self._claiming) + self._commands_under_way
        share = -(-asked // BATCHES_UNDER_WAY_MAX)
        size = min(BATCH_COMMANDS_MAX, max(share, SECOND_BATCH_COMMANDS_MIN))
        for line in (self._settling, self._claiming):
            while line and len(batch) < size:
                batch.append(line.popitem(last=False)[0])
        return batch

    async def _deliver(self, batch: list[_Waiting]) -> None:
        try:
            reply = await self._submit([waiting.request for waiting in batch])
            assert len(reply.answers) == len(batch), "not one answer per command"
        except Fault as fault:
            self._fail(batch, fault)
            return
        except Exception:
            # Nobody awaits a pump: what it does not catch would leave its callers waiting.
            log.exception("bug: a batch could not be carried")
            self._fail(batch, OutcomeUnknown("an internal error"))
            return
        stale = self._stale_shows(reply)
        for waiting, answer in zip(batch, reply.answers, strict=True):
            if waiting.answer.done():
                continue
            if isinstance(answer, Fault):
                waiting.answer.set_exception(answer)
            elif waiting.request[0] in stale:
                waiting.answer.set_exception(OutcomeUnknown("answered by a replaced owner"))
            else:
                waiting.answer.set_result(answer)

    @staticmethod
    def _fail(batch: list[_Waiting], fault: Fault) -> None:
        for waiting in batch:
            if not waiting.answer.done():
                waiting.answer.set_exception(fault)

    def _stale_shows(self, reply: Reply) -> set[ShowId]:
        stale: set[ShowId] = set()
        for show_id, epoch in reply.epochs.items():
            if epoch < self._epochs.get(show_id, 0):
                stale.add(show_id)
            else:
                self._epochs[show_id] = epoch
        return stale


class ShowRefs:
    """Typed access to every show, for one process and one event loop.

    Safe for any number of concurrent callers. ``locate`` says which actor owns a show and is
    asked again after ``ShowMoved``; ``connect`` finds or starts an actor by name.
    """

    def __init__(
        self,
        locate: Callable[[ShowId], Awaitable[str]],
        connect: Callable[[str], Awaitable[Submit]],
        *,
        ask_deadline_ms: int,
    ) -> None:
        """Make the refs; nothing is contacted yet.

        ``locate(show_id)`` returns the name of the owner's actor and raises ``ShowNotFound``.
        It is asked once, and again when the show has moved.
        """
        self._locate = locate
        self._connect = connect
        self._ask_deadline_ms = ask_deadline_ms
        self._channels: dict[str, _Channel] = {}
        self._connecting: dict[str, asyncio.Lock] = {}
        self._epochs: dict[ShowId, int] = {}
        self._owners: dict[ShowId, _Channel] = {}

    async def ask(
        self, show_id: ShowId, command: Command, *, deadline_ms: int | None = None
    ) -> Outcome:
        """Let the show decide a command and wait until the answer is durable.

        Units:
            deadline_ms: how long to wait; None for the configured time.

        Returns:
            The event, ``Repeated`` or ``Rejected``, as ``SeatMap.decide`` describes.

        Raises:
            NotDone: nothing happened and nothing will, within the deadline.
            OutcomeUnknown: it may have happened. Ask again with the same command.
        """
        loop = asyncio.get_running_loop()
        if deadline_ms is None:
            deadline_ms = self._ask_deadline_ms
        deadline = loop.time() + deadline_ms / 1_000
        while True:
            try:
                return await self._ask_once(show_id, command, deadline)
            except NotDone as fault:
                if not isinstance(fault, _PASSING):
                    raise
                pause = min(fault.retry_after_ms, RETRY_PAUSE_MS) / 1_000
                if loop.time() + pause >= deadline:
                    raise
                if isinstance(fault, ShowMoved):
                    self._owners.pop(show_id, None)
                await asyncio.sleep(pause)

    async def _ask_once(self, show_id: ShowId, command: Command, deadline: float) -> Outcome:
        loop = asyncio.get_running_loop()
        channel = self._owners.get(show_id)
        if channel is None:
            channel = await self._find_owner(show_id, deadline)
        waiting = _Waiting((show_id, command), loop.create_future())
        channel.send(waiting)
        timer = loop.call_at(deadline, _give_up, channel, waiting)
        try:
            return await waiting.answer
        finally:
            timer.cancel()
            # A caller that was cancelled wants nothing any more; what is still here stays here.
            channel.withdraw(waiting)

    async def _find_owner(self, show_id: ShowId, deadline: float) -> _Channel:
        try:
            async with asyncio.timeout_at(deadline):
                channel = await self._channel(await self._locate(show_id))
        except TimeoutError:
            raise ShowUnavailable("the show's actor was not reached in time") from None
        if len(self._owners) >= OWNERS_REMEMBERED_MAX:
            self._owners.clear()
        self._owners[show_id] = channel
        return channel

    async def _channel(self, name: str) -> _Channel:
        channel = self._channels.get(name)
        if channel is not None:
            return channel
        async with self._connecting.setdefault(name, asyncio.Lock()):
            channel = self._channels.get(name)
            if channel is None:
                channel = _Channel(await self._connect(name), self._epochs)
                self._channels[name] = channel
        return channel


def _give_up(channel: _Channel, waiting: _Waiting) -> None:
    """The deadline of one command has passed."""
    if waiting.answer.done():
        return
    if channel.withdraw(waiting):
        waiting.answer.set_exception(ShowUnavailable("the show's actor is busy"))
    else:
        waiting.answer.set_exception(OutcomeUnknown("no answer within the deadline"))
