"""The faults of a soak: each does something to the house and proves that it happened.

A fault that could not be done (nobody to kill at that moment) is counted as *missed*, never as
done. Only processes of this soak's own house are touched.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import psutil

from actors.heartbeat import read_signs
from actors.naming import SUPERVISOR
from actors.watchdog import STOPPED_SILENCE_MS_MAX
from benchmarks.soak.ground import Ground

KILLED_WITHIN_S = 5.0
STOPPED_WITHIN_S = 2.0
FROZEN_KILLED_WITHIN_S = STOPPED_SILENCE_MS_MAX / 1_000 + 6.0


class Missed(Exception):
    """There was nothing to do it to."""


@dataclass(slots=True)
class Done:
    """One fault that was done.

    Units:
        from_ns, to_ns: the machine's monotonic clock.
    """

    kind: str
    proof: str
    from_ns: int
    to_ns: int


@dataclass(slots=True)
class Record:
    """Everything that was done."""

    done: list[Done] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


class Faults:
    """Does faults to one ground. ``kinds`` names what can be done there."""

    def __init__(self, ground: Ground, dice: random.Random) -> None:
        self._ground = ground
        self._dice = dice
        self.record = Record()
        self.now = ""
        self._do: dict[str, Callable[[], Awaitable[str]]] = {
            "kill_actor": self._kill_actor,
            "freeze_actor": self._freeze_actor,
            "pause_actor": self._pause_actor,
            "kill_supervisor": self._kill_supervisor,
            "crash_postgres": self._crash_postgres,
            "pause_postgres": self._pause_postgres,
            "cut_connections": self._cut_connections,
            "lose_requests_and_answers": self._lose_requests_and_answers,
            "black_hole": self._black_hole,
            "half_open_connections": self._half_open_connections,
            "slow_line": self._slow_line,
            "pause_clients": self._pause_clients,
        }
        if ground.is_over_http:
            self._do |= {
                "kill_replica": self._kill_replica,
                "pause_replica": self._pause_replica,
            }

    @property
    def kinds(self) -> list[str]:
        """Every kind that this ground allows."""
        return list(self._do)

    async def do(self, kind: str) -> None:
        """Do one, and write down that it happened."""
        self.now = kind
        from_ns = time.monotonic_ns()
        try:
            proof = await self._do[kind]()
        except (Missed, psutil.NoSuchProcess, ProcessLookupError) as error:
            self.record.missed.append(f"{kind}: {error}")
        else:
            self.record.done.append(Done(kind, proof, from_ns, time.monotonic_ns()))
        self.now = ""

    # -- actors -------------------------------------------------------------------------

    def _some_actor(self) -> psutil.Process:
        actors = [
            sign.pid
            for sign in read_signs(self._ground.heartbeat_dir)
            if sign.path.name.startswith(("show_", "pool_")) and psutil.pid_exists(sign.pid)
        ]
        if not actors:
            raise Missed("no actor")
        return psutil.Process(self._dice.choice(sorted(actors)))

    async def _kill_actor(self) -> str:
        return await _kill(self._some_actor())

    async def _freeze_actor(self) -> str:
        """Nobody lets it go on: the watchdog has to find it."""
        actor = self._some_actor()
        actor.suspend()
        if not await _gone(actor, FROZEN_KILLED_WITHIN_S):
            actor.resume()
            raise AssertionError(f"nobody killed the frozen actor {actor.pid}")
        return f"frozen process {actor.pid} was killed by its watchdog"

    async def _pause_actor(self) -> str:
        return await self._pause([self._some_actor()], 0.2, 2.0)

    async def _kill_supervisor(self) -> str:
        found = [
            sign.pid
            for sign in read_signs(self._ground.heartbeat_dir)
            if sign.path.name.startswith(f"{SUPERVISOR}.") and psutil.pid_exists(sign.pid)
        ]
        if not found:
            raise Missed("no supervisor")
        return await _kill(psutil.Process(found[0]))

    # -- Postgres -----------------------------------------------------------------------

    async def _crash_postgres(self) -> str:
        postgres = self._ground.postgres
        before = postgres.pid
        await asyncio.to_thread(postgres.stop, "immediate")
        assert not postgres.is_running
        await asyncio.sleep(self._dice.uniform(0.0, 2.0))
        # From the main thread: the server ends with the thread that has started it.
        postgres.start()
        assert postgres.pid != before
        return f"postmaster {before} stopped at once, {postgres.pid} recovered"

    async def _pause_postgres(self) -> str:
        root = psutil.Process(self._ground.postgres.pid)
        return await self._pause([root, *root.children(recursive=True)], 0.5, 4.0)

    # -- the line -----------------------------------------------------------------------

    async def _cut_connections(self) -> str:
        cut = 0
        for _ in range(self._dice.randint(1, 6)):
            cut += self._ground.line.cut_lines()
            await asyncio.sleep(self._dice.uniform(0.02, 0.4))
        if not cut:
            raise Missed("no connection")
        return f"{cut} connections cut"

    async def _lose_requests_and_answers(self) -> str:
        line = self._ground.line
        before = line.happened.copy()
        line.roll(self._dice, request_chance=0.05, answer_chance=0.05)
        await asyncio.sleep(self._dice.uniform(1.0, 3.0))
        line.roll(self._dice, request_chance=0.0, answer_chance=0.0)
        lost = line.happened - before
        if not lost["request"] + lost["answer"]:
            raise Missed("the dice took nothing")
        return f"{lost['request']} requests and {lost['answer']} answers lost"

    async def _black_hole(self) -> str:
        line = self._ground.line
        before = line.happened["frozen"]
        ways = self._dice.choice(("both", "requests", "answers"))
        line.freeze(ways)  # type: ignore[arg-type]  # They are those three.
        seconds = self._dice.uniform(0.5, 7.0)
        await asyncio.sleep(seconds)
        line.thaw()
        if line.happened["frozen"] == before:
            raise Missed("no connection")
        return f"{line.happened['frozen'] - before} connections silent, {ways}, {seconds:.1f} s"

    async def _half_open_connections(self) -> str:
        line = self._ground.line
        before = line.happened["abandoned"]
        line.abandon_lines()
        if line.happened["abandoned"] == before:
            raise Missed("no connection")
        await asyncio.sleep(1)
        return f"{line.happened['abandoned'] - before} connections half open"

    async def _slow_line(self) -> str:
        line = self._ground.line
        before = line.happened["delayed"]
        line.delay_s = self._dice.uniform(0.1, 1.5)
        await asyncio.sleep(4)
        slow_s, line.delay_s = line.delay_s, 0.0
        if line.happened["delayed"] == before:
            raise Missed("no answer passed")
        return f"{line.happened['delayed'] - before} answers {slow_s:.2f} s late"

    # -- in front of the actors -----------------------------------------------------------

    async def _pause_clients(self) -> str:
        process = self._dice.choice(self._ground.client_processes)
        return await self._pause([psutil.Process(process.pid)], 0.5, 8.0)

    async def _kill_replica(self) -> str:
        return await _kill(self._some_replica())

    async def _pause_replica(self) -> str:
        return await self._pause([self._some_replica()], 0.5, 8.0)

    def _some_replica(self) -> psutil.Process:
        replicas = self._ground.replicas()
        if not replicas:
            raise Missed("no replica")
        return self._dice.choice(replicas)

    async def _pause(self, processes: list[psutil.Process], from_s: float, to_s: float) -> str:
        seconds = self._dice.uniform(from_s, to_s)
        with _stopped(processes) as pids:
            deadline = time.monotonic() + STOPPED_WITHIN_S
            while not all(_is_stopped(pid) for pid in pids):
                assert time.monotonic() < deadline, f"{pids} do not stop"
                await asyncio.sleep(0.02)
            await asyncio.sleep(seconds)
        return f"{len(pids)} processes stopped for {seconds:.1f} s, {pids[0]} first"


def _is_stopped(pid: int) -> bool:
    """Whether it has been stopped; one that has ended does nothing, either."""
    try:
        return psutil.Process(pid).status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


async def _kill(process: psutil.Process) -> str:
    process.kill()
    if not await _gone(process, KILLED_WITHIN_S):
        raise AssertionError(f"process {process.pid} survived")
    return f"process {process.pid} killed"


async def _gone(process: psutil.Process, within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.05)
                continue
        return True
    return False


@contextmanager
def _stopped(processes: list[psutil.Process]) -> Iterator[list[int]]:
    stopped: list[int] = []
    try:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGSTOP)
                stopped.append(process.pid)
        if not stopped:
            raise Missed("they have ended")
        yield stopped
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
