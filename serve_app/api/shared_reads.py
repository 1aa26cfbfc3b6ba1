"""Many equal reads at once become one query, and everybody still sees what they did before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Result = TypeVar("_Result")


class SharedReads(Generic[_Key, _Result]):
    """Single flight, one key at a time.

    Whoever asks gets the result of a query that **began after** they asked. A query that is
    under way is therefore not joined: it may have begun before its reader's own hold was made.
    All who ask meanwhile share the next one. So there are two queries per key at most, one
    running and one waiting, however many readers there are.

    Belongs to one event loop.
    """

    def __init__(self, read: Callable[[_Key], Awaitable[_Result]]) -> None:
        self._read = read
        self._running: dict[_Key, asyncio.Task[_Result]] = {}
        self._waiting: dict[_Key, asyncio.Task[_Result]] = {}

    async def get(self, key: _Key) -> _Result:
        """The result for ``key``.

        Raises:
            whatever the read raises, to all who share it.
        """
        running = self._running.get(key)
        if running is None:
            task = self._running[key] = asyncio.create_task(self._run(key))
        else:
            waiting = self._waiting.get(key)
            task = waiting or asyncio.create_task(self._run_after(key, running))
            self._waiting[key] = task
        # Shielded: one reader that hangs up must not take the answer away from the others.
        return await asyncio.shield(task)

    async def _run(self, key: _Key) -> _Result:
        try:
            return await self._read(key)
        finally:
            # The one that waits, if any, is the one that runs from now on.
            waiting = self._waiting.pop(key, None)
            if waiting is None:
                del self._running[key]
            else:
                self._running[key] = waiting

    async def _run_after(self, key: _Key, running: asyncio.Task[_Result]) -> _Result:
        await asyncio.wait([running])
        return await self._run(key)
