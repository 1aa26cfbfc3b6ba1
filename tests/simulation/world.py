"""Virtual time and model processes: an asyncio without a machine below it.

Theory of operation
-------------------
Every model process has an event loop of its own (``Process``); the ``World`` has one clock and
one agenda for all of them. The world lets the processes run until none has anything to do, then
jumps to the next instant on the agenda. So a process can be what a real one can be:

    running     its callbacks run, in the order that asyncio guarantees
    stopped     nothing of it runs; timers that become due and data that arrives wait (SIGSTOP)
    dead        nothing of it will ever run again; what it sent is on its way all the same

asyncio promises the order of callbacks within one loop, and nobody promises an order between
processes: when several could run, chance decides. All chance comes from the seed.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from asyncio import events
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from heapq import heappop, heappush
from typing import Any, TypeVar, TypeVarTuple

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

EPOCH_MS = 1_700_000_000_000
"""The database's clock when a world begins."""


class Process(asyncio.AbstractEventLoop):
    """One model process: an event loop that runs when the world lets it.

    Units:
        wall_error_ms: by how much the wall clock of its machine is wrong.
        booted_ms: what the monotonic clock of its machine said when the world began.
    """

    def __init__(self, world: World, name: str, number: int) -> None:
        self.world = world
        self.name = name
        self.number = number
        self.is_stopped = False
        self.is_dead = False
        self.resumed_at_us = 0
        self.wall_error_ms = 0
        self.booted_ms = 1_000 * number
        self.ready: deque[asyncio.Handle] = deque()
        self._tasks: list[asyncio.Task[Any]] = []

    # -- what asyncio asks of a loop ------------------------------------------------------

    def time(self) -> float:
        return self.world.now_us / 1e6

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self.world.schedule(round(when * 1e6), self.number, self._due, handle)
        return handle

    def _due(self, handle: asyncio.TimerHandle) -> None:
        if not self.is_dead and not handle.cancelled():
            self.ready.append(handle)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        task: asyncio.Task[T] = asyncio.Task(coro, loop=self, name=name, context=context)
        # A dead process must not be taken apart before the world ends: coroutines that are
        # collected run their ``finally``, which a process that was killed does not.
        self._tasks.append(task)
        return task

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return events._get_running_loop() is self

    def is_closed(self) -> bool:
        return self.is_dead

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "handle" in context and not self.world.has_ended:
            self.world.bugs.append(f"{self.name}: {context['exception']!r} in a callback")

    async def create_unix_server(self, protocol_factory: Any, path: Any = None, **_: Any) -> Any:
        return self.world.listen(self, protocol_factory, path)

    async def create_unix_connection(
        self, protocol_factory: Any, path: Any = None, **_: Any
    ) -> Any:
        return await self.world.connect(self, protocol_factory, path)

    # -- what the world does with it --------------------------------------------------------

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Let something happen in this process; it waits while the process is stopped."""
        if not self.is_dead:
            self.ready.append(asyncio.Handle(callback, args, self))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Begin a coroutine in this process."""
        if self.is_dead:
            work.close()
        else:
            self.create_task(work)

    def run(self) -> None:
        """Run until nothing is ready. What it does to other processes takes time to get there."""
        ready = self.ready
        events._set_running_loop(self)
        try:
            while ready and not self.is_stopped:
                handle = ready.popleft()
                if not handle._cancelled:
                    handle._run()
        finally:
            events._set_running_loop(None)

    def stop_running(self) -> None:
        """SIGSTOP."""
        self.is_stopped = True

    def resume(self) -> None:
        """SIGCONT."""
        self.is_stopped = False
        self.resumed_at_us = self.world.now_us

    def die(self) -> None:
        """SIGKILL."""
        self.is_dead = True
        self.ready.clear()

    def bury(self) -> None:
        """The world has ended: let go of what is unfinished, without a word."""
        self.is_dead = True
        self.ready.clear()
        events._set_running_loop(self)
        try:
            for task in self._tasks:
                if not task.done():
                    task._log_destroy_pending = False  # type: ignore[attr-defined]
                    with contextlib.suppress(Exception):
                        task.get_coro().close()
        finally:
            events._set_running_loop(None)
        self._tasks.clear()


class World:
    """Time, chance, and everything that is.

    Shapes:
        faults, outcomes: how often each kind of fault was done, and each kind of answer given.
        bugs: exceptions that nobody expected.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_us = 0
        self.processes: list[Process] = []
        self.faults: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.bugs: list[str] = []
        self.has_ended = False
        self.listen: Callable[..., Any]
        self.connect: Callable[..., Any]
        self.log: Callable[[str], None] | None = None
        self._agenda: list[tuple[int, int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._scheduled = 0
        self._order = 0
        self._graves: list[Process] = []

    @property
    def now_ms(self) -> int:
        """The database's clock: the one that counts."""
        return EPOCH_MS + self.now_us // 1_000

    def next_order(self) -> int:
        """A number for something that happens now: later things have higher ones."""
        self._order += 1
        return self._order

    def new_process(self, name: str) -> Process:
        """A running process."""
        number = len(self.processes) + len(self._graves) + 1
        # Of a loop's many methods only those are there that shipped code uses.
        process = Process(self, name, number)  # type: ignore[abstract]
        self.processes.append(process)
        return process

    def kill(self, process: Process) -> None:
        """End a process for good."""
        if not process.is_dead:
            process.die()
            self.processes.remove(process)
            self._graves.append(process)

    def schedule(self, at_us: int, lane: int, callback: Callable[..., object], *args: Any) -> None:
        """Put something on the agenda.

        Of two things at one instant the one with the lower ``lane`` comes first: sets of objects
        have no order that could be repeated, so what one of them does must not depend on another.
        """
        self._scheduled += 1
        at_us = max(at_us, self.now_us)
        heappush(self._agenda, (at_us, lane, self._scheduled, callback, args))

    def after(self, delay_ms: float, callback: Callable[..., object], *args: Any) -> None:
        """Let something happen later, outside of every process."""
        self.schedule(self.now_us + int(delay_ms * 1_000), 0, callback, *args)

    def run_until(self, at_us: int, is_over: Callable[[], bool] = lambda: False) -> None:
        """Let time pass until this instant, or until it is over."""
        agenda = self._agenda
        while True:
            runnable = [p for p in self.processes if p.ready and not p.is_stopped]
            if runnable:
                several = len(runnable) > 1
                runnable[self.random.randrange(len(runnable)) if several else 0].run()
                continue
            if not agenda or agenda[0][0] > at_us:
                self.now_us = max(self.now_us, at_us)
                return
            if agenda[0][0] > self.now_us:
                if is_over():
                    return
                self.now_us = agenda[0][0]
            while agenda and agenda[0][0] == self.now_us:
                _, _, _, callback, args = heappop(agenda)
                callback(*args)

    def end(self) -> None:
        """Nothing happens any more."""
        self.has_ended = True
        self._agenda.clear()
        for process in (*self.processes, *self._graves):
            process.bury()

    def say(self, text: str) -> None:
        """One line of the story, for those who read it."""
        if self.log is not None:
            self.log(f"{self.now_us / 1e6:10.6f}  {text}")


class VirtualTime:
    """Stands in for the module ``time`` where shipped code reads a clock.

    Both clocks are those of the machine that the running process is on.
    """

    @staticmethod
    def monotonic_ns() -> int:
        process = _running_process()
        return process.world.now_us * 1_000 + process.booted_ms * 1_000_000

    @staticmethod
    def time_ns() -> int:
        process = _running_process()
        wall_ms = EPOCH_MS + process.wall_error_ms
        return process.world.now_us * 1_000 + wall_ms * 1_000_000


def _running_process() -> Process:
    process = events._get_running_loop()
    assert isinstance(process, Process), "only a model process may read a clock here"
    return process
