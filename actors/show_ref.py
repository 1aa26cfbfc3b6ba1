"""``ShowRefs``: the only way to talk to a show. Coalescing, deadlines, epochs, error translation.

Theory of operation
-------------------
One remote call per command would cost more than the command. So every actor has one *channel*
in this process: while a batch is under way, later commands wait in a list and leave together
when it returns. A lone command leaves at once; where there is company, batches leave in a rhythm,
which is slower for a crowd; so the busier the house, the larger the batches.

Every command carries an id that makes repeating it harmless, but only the caller knows whether
it wants to: this ref repeats a command by itself only when it is certain that nothing happened
(``NotDone``) and the deadline allows it. Otherwise it says ``OutcomeUnknown``.

Answers of an epoch lower than one already seen come from an actor that has been replaced.
They are not trusted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import chain
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

BATCH_SPACING_S = 0.012
"""In company, a batch that is not full leaves no sooner than this after the one before it: a batch
costs its actor and Postgres as much as a few dozen commands. Fewer and larger ones leave processor
time free, and whoever wants some of it then is in nobody's way."""

BATCH_SPACING_MAX_S = 0.020
CROWD_COMMANDS_MIN = 16
"""After a batch of so many, what is asked for is more than what is free, and answers are late
anyway. The next one then waits twice as long as this one took, within these bounds: that lets
everybody be answered sooner."""

COMPANY_COMMANDS_MIN = 2
"""Who was alone in a batch does not make the next one wait."""

WAITING_COMMANDS_MAX = 8_192
"""Per actor and calling process; beyond it claims are refused, settling at twice of it."""

RETRY_PAUSE_MS = 50

LATENESS_TOLERATED_S = 0.005
"""How much later than its deadline a command may be told; a thousand late ones cost one look."""

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

    __slots__ = ("answer", "deadline_s", "is_in_line", "request")

    def __init__(
        self, request: Request, answer: asyncio.Future[Outcome], deadline_s: float
    ) -> None:
        self.request = request
        self.answer = answer
        self.deadline_s = deadline_s
        self.is_in_line = True


class _Channel:
    """This process's line to one actor."""

    def __init__(self, submit: Submit, epochs: dict[ShowId, int]) -> None:
        self._submit = submit
        self._epochs = epochs
        self._loop = asyncio.get_running_loop()
        # Who was withdrawn stays in these until its turn or the next look for late ones;
        # ``_length`` does not count them.
        self._settling: deque[_Waiting] = deque()
        self._claiming: deque[_Waiting] = deque()
        self._length = 0
        # Not a set: in which order the late ones are told must be the same in every run.
        self._flights: dict[_Flight, None] = {}
        self._under_way = 0
        self._commands_under_way = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self._looking: asyncio.TimerHandle | None = None
        self._left_at_s = 0.0
        self._left_with = 0
        self._took_s = 0.0

    def send(self, request: Request, deadline_s: float) -> _Waiting:
        """Put a command in line.

        Raises:
            Overloaded: the line is full.
        """
        length = self._length
        if priority_of(request[1]) is Priority.SETTLE:
            line, length_max = self._settling, 2 * WAITING_COMMANDS_MAX
        else:
            line, length_max = self._claiming, WAITING_COMMANDS_MAX
        if length >= length_max:
            raise Overloaded(f"{length} commands are waiting")
        waiting = _Waiting(request, self._loop.create_future(), deadline_s)
        line.append(waiting)
        self._length = length + 1
        if self._under_way < BATCHES_UNDER_WAY_MAX and self._is_worth_a_batch(self._under_way):
            self._under_way += 1
            pump = asyncio.ensure_future(self._pump())
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)
        if self._looking is None or deadline_s < self._looking.when():
            self._look_at(deadline_s)
        return waiting

    def withdraw(self, waiting: _Waiting) -> bool:
        """Take a command out of line; False when it has left already."""
        if not waiting.is_in_line:
            return False
        waiting.is_in_line = False
        self._length -= 1
        return True

    # -- deadlines ----------------------------------------------------------------------

    def _look_at(self, when_s: float) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._looking = self._loop.call_at(when_s, self._look_for_late)

    def _look_for_late(self) -> None:
        """End the commands whose deadline has passed.

        One timer for all of them: a timer for each would cost as much as sending it.
        """
        self._looking = None
        now_s = self._loop.time()
        next_s: float | None = None
        lines = (self._settling, self._claiming, *(flight.batch for flight in self._flights))
        for waiting in chain.from_iterable(lines):
            if waiting.answer.done():
                continue
            if waiting.deadline_s > now_s:
                next_s = waiting.deadline_s if next_s is None else min(next_s, waiting.deadline_s)
            elif self.withdraw(waiting):
                waiting.answer.set_exception(ShowUnavailable("the show's actor is busy"))
            else:
                waiting.answer.set_exception(OutcomeUnknown("no answer within the deadline"))
        if self._length < len(self._settling) + len(self._claiming):
            # While no batch leaves, nobody else would take the withdrawn out.
            self._settling = deque([each for each in self._settling if each.is_in_line])
            self._claiming = deque([each for each in self._claiming if each.is_in_line])
        if next_s is not None:
            self._look_at(max(next_s, now_s + LATENESS_TOLERATED_S))

    # -- batches ------------------------------------------------------------------------

    async def _pump(self) -> None:
        try:
            while True:
                pause_s = self._pause_s()
                if pause_s > 0:
                    await asyncio.sleep(pause_s)
                batch = self._next_batch()
                if not batch:
                    return
                left_at_s = self._left_at_s = self._loop.time()
                self._left_with = len(batch)
                flight = _Flight(batch)
                self._flights[flight] = None
                self._commands_under_way += len(batch)
                try:
                    await self._deliver(batch)
                finally:
                    self._took_s = self._loop.time() - left_at_s
                    self._commands_under_way -= len(batch)
                    del self._flights[flight]
        finally:
            self._under_way -= 1

    def _pause_s(self) -> float:
        """How long the next batch waits for company."""
        if self._left_with < COMPANY_COMMANDS_MIN or self._length >= SECOND_BATCH_COMMANDS_MIN:
            return 0.0
        spacing_s = BATCH_SPACING_S
        if self._left_with >= CROWD_COMMANDS_MIN:
            spacing_s = min(max(2 * self._took_s, spacing_s), BATCH_SPACING_MAX_S)
        return self._left_at_s + spacing_s - self._loop.time()

    def _is_worth_a_batch(self, others: int) -> bool:
        """Whether enough commands wait for one more batch beside ``others`` under way."""
        return self._length >= (SECOND_BATCH_COMMANDS_MIN if others else 1)

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        if not self._is_worth_a_batch(self._under_way - 1):
            return batch
        # All that is asked for is shared evenly by the batches that may be under way: one that
        # took it all would leave Postgres idle while it is decided, the actor while it commits.
        share = -(-(self._length + self._commands_under_way) // BATCHES_UNDER_WAY_MAX)
        size = min(BATCH_COMMANDS_MAX, max(share, SECOND_BATCH_COMMANDS_MIN))
        for line in (self._settling, self._claiming):
            while line and len(batch) < size:
                waiting = line.popleft()
                if waiting.is_in_line:
                    waiting.is_in_line = False
                    batch.append(waiting)
        self._length -= len(batch)
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


class _Flight:
    """A batch that has left. One of a kind, so that it can be a key."""

    __slots__ = ("batch",)

    def __init__(self, batch: list[_Waiting]) -> None:
        self.batch = batch


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
        renew: Callable[[str, ShowId], Awaitable[None]] | None = None,
    ) -> None:
        """Make the refs; nothing is contacted yet.

        ``locate(show_id)`` returns the name of the owner's actor and raises ``ShowNotFound``.
        It is asked once, and again when the show has moved. ``renew(name, show_id)`` lets an actor
        read a show anew; only refs that have it can do that.
        """
        self._locate = locate
        self._connect = connect
        self._renew = renew
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
        now_s = asyncio.get_running_loop().time
        if deadline_ms is None:
            deadline_ms = self._ask_deadline_ms
        deadline_s = now_s() + deadline_ms / 1_000
        request = (show_id, command)
        while True:
            try:
                channel = self._owners.get(show_id)
                if channel is None:
                    channel = await self._find_owner(show_id, deadline_s)
                waiting = channel.send(request, deadline_s)
                try:
                    return await waiting.answer
                except asyncio.CancelledError:
                    # Nobody wants it any more; if it is still here, it stays here.
                    channel.withdraw(waiting)
                    raise
            except NotDone as fault:
                if not isinstance(fault, _PASSING):
                    raise
                pause_s = min(fault.retry_after_ms, RETRY_PAUSE_MS) / 1_000
                if now_s() + pause_s >= deadline_s:
                    raise
                if isinstance(fault, ShowMoved):
                    self._owners.pop(show_id, None)
                await asyncio.sleep(pause_s)

    async def renew(self, show_id: ShowId, *, deadline_ms: int | None = None) -> None:
        """Let the show be sold by what the catalogue says now: its plan, fares and policy.

        To be called after the catalogue was changed. When this returns, nothing is sold any more
        by what it said before.

        Units:
            deadline_ms: how long to try; None for the configured time of a command.

        Raises:
            NotDone, OutcomeUnknown: it may go on as before. Repeating is harmless.
            PlanTooSmall: it cannot be sold by what the catalogue says now.
        """
        assert self._renew is not None, "these refs were made without renew"
        now_s = asyncio.get_running_loop().time
        if deadline_ms is None:
            deadline_ms = self._ask_deadline_ms
        deadline_s = now_s() + deadline_ms / 1_000
        while True:
            fault: Fault
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._renew(await self._locate(show_id), show_id)
                    return
            except TimeoutError:
                raise OutcomeUnknown("the show was not renewed in time") from None
            except OutcomeUnknown as unknown:
                # Unlike a command it may simply be repeated.
                fault = unknown
            except _PASSING as passing:
                fault = passing
            if now_s() + RETRY_PAUSE_MS / 1_000 >= deadline_s:
                raise fault
            await asyncio.sleep(RETRY_PAUSE_MS / 1_000)

    async def _find_owner(self, show_id: ShowId, deadline_s: float) -> _Channel:
        try:
            async with asyncio.timeout_at(deadline_s):
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
