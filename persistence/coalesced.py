"""One round trip for many questions: what is asked while one is under way leaves with the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

ROUND_TRIP_MAX = 100

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class Coalesced(Generic[_Item, _Answer]):
    """Asks in round trips: what comes while one is under way waits and leaves together."""

    def __init__(
        self, ask: Callable[[Sequence[_Item]], Awaitable[Sequence[_Answer] | None]]
    ) -> None:
        self._ask = ask
        self._waiting: deque[tuple[Sequence[_Item], asyncio.Future[list[_Answer] | None]]] = deque()
        self._trips: asyncio.Task[None] | None = None

    async def __call__(self, items: Sequence[_Item]) -> list[_Answer] | None:
        """The answers, in order; None when there are none."""
        future: asyncio.Future[list[_Answer] | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((items, future))
        if self._trips is None or self._trips.done():
            self._trips = asyncio.ensure_future(self._travel())
        return await future

    async def _travel(self) -> None:
        while self._waiting:
            aboard = [self._waiting.popleft()]
            count = len(aboard[0][0])
            while self._waiting and count < ROUND_TRIP_MAX:
                aboard.append(self._waiting.popleft())
                count += len(aboard[-1][0])
            try:
                answers = await self._ask([item for items, _ in aboard for item in items])
            except Exception as bug:
                for _, future in aboard:
                    if not future.done():
                        future.set_exception(bug)
                continue
            at = 0
            for items, future in aboard:
                end = at + len(items)
                if not future.done():
                    future.set_result(None if answers is None else list(answers[at:end]))
                at = end
