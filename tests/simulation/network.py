"""The model of sockets between processes of one node: streams that can be slow and can break.

What a stream promises is what a Unix socket promises: bytes arrive in order or not at all; when
it breaks, both ends learn of it in their own time, and what was on its way may be gone. A stream
draws its delays from a chance of its own, because the order in which a server says good-bye to
its callers is not defined.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from tests.simulation.world import Process, World

LANE_OF_STREAMS = 1_000


class Network:
    """All sockets of a world."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._listeners: dict[str, _Listener] = {}
        self.streams: list[Stream] = []
        self.slow_probability = 0.0
        self._count = 0
        world.listen = self._listen
        world.connect = self._connect

    def _listen(self, process: Process, factory: Callable[[], Any], path: str) -> _Listener:
        listener = self._listeners[path] = _Listener(self, process, factory, path)
        return listener

    async def _connect(
        self, process: Process, factory: Callable[[], Any], path: str
    ) -> tuple[Any, Any]:
        listener = self._listeners.get(path)
        if listener is None or listener.process.is_dead:
            raise ConnectionRefusedError(path)
        self._count += 1
        stream = Stream(self._world, self, self._count, self._seed)
        self.streams.append(stream)
        near = _End(stream, process)
        far = _End(stream, listener.process)
        near.peer, far.peer = far, near
        stream.ends = (near, far)
        near.protocol = factory()
        near.protocol.connection_made(near)
        far.process.post(far.accept, listener.factory)
        await asyncio.sleep(0)
        return near, near.protocol

    def forget(self, listener: _Listener) -> None:
        """Nobody listens there any more."""
        if self._listeners.get(listener.path) is listener:
            del self._listeners[listener.path]

    def process_died(self, process: Process) -> None:
        """Its sockets close; what it had written before still arrives."""
        for stream in self.streams:
            stream.end_of(process)
        self.streams = [stream for stream in self.streams if not stream.is_broken]


class _Listener:
    def __init__(
        self, network: Network, process: Process, factory: Callable[[], Any], path: str
    ) -> None:
        self._network = network
        self.process = process
        self.factory = factory
        self.path = path

    def close(self) -> None:
        self._network.forget(self)


class _End:
    """One end of a stream: the transport of the protocol there."""

    def __init__(self, stream: Stream, process: Process) -> None:
        self._stream = stream
        self.process = process
        self.peer: _End
        self.protocol: Any = None
        self.arrives_at_us = 0
        self.is_lost = False
        self._is_closing = False

    def accept(self, factory: Callable[[], Any]) -> None:
        self.protocol = factory()
        self.protocol.connection_made(self)

    def write(self, data: bytes) -> None:
        self._stream.send(self.peer, self.peer.receive, data)

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._stream.send(self.peer, self.peer.lose)
            self.lose()

    def receive(self, data: bytes) -> None:
        if not self.is_lost:
            self.process.post(self._received, data)

    def _received(self, data: bytes) -> None:
        if not self.is_lost and not self._is_closing:
            self.protocol.data_received(data)

    def lose(self) -> None:
        """The other end is gone."""
        if not self.is_lost:
            self.process.post(self._lost)

    def _lost(self) -> None:
        if not self.is_lost:
            self.is_lost = self._is_closing = True
            self.protocol.connection_lost(None)


class Stream:
    """A connection between two processes."""

    def __init__(self, world: World, network: Network, number: int, seed: int) -> None:
        self._world = world
        self._network = network
        self._lane = LANE_OF_STREAMS + number
        self._random = random.Random(seed * 1_000 + number)
        self.ends: tuple[_End, _End]
        self.is_broken = False

    def send(self, to: _End, deliver: Callable[..., None], *data: bytes) -> None:
        """Deliver something to an end, after everything that was sent to it before."""
        if self.is_broken:
            return
        delay_us = self._random.randrange(20, 400)
        if self._random.random() < self._network.slow_probability:
            self._world.faults["line is slow"] += 1
            delay_us = self._random.randrange(50_000, 1_500_000)
        to.arrives_at_us = max(to.arrives_at_us, self._world.now_us + delay_us)
        self._world.schedule(to.arrives_at_us, self._lane, self._arrive, deliver, *data)

    def _arrive(self, deliver: Callable[..., None], *data: bytes) -> None:
        if not self.is_broken:
            deliver(*data)

    def end_of(self, process: Process) -> None:
        """A process is gone; if it had an end here, the other end learns it."""
        for end in self.ends:
            if end.process is process:
                self.send(end.peer, end.peer.lose)

    def touches(self, process: Process) -> bool:
        """Whether this process has an end here."""
        return any(end.process is process for end in self.ends)

    def break_off(self) -> None:
        """What is on its way is lost, and both ends learn it, not at the same time."""
        if self.is_broken:
            return
        self.is_broken = True
        for end in self.ends:
            self._world.after(self._random.uniform(0, 200), end.lose)
