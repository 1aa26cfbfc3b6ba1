"""One round trip for many questions: what is asked while one is under way leaves with the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

ROUND_TRIP_MAX = 100

COMPANY_MIN = 2
"""So many who asked in one round trip are company, and more may be on their way."""

COMPANY_WAIT_S_MAX = 0.02

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class Coalesced(Generic[_Item, _Answer]):
    """Asks in round trips: what comes while one is under way waits and leaves together.

    Args:
        waits_for_company: after a round trip with company, the next one leaves as much later as
            that one took, 20 ms at most. Whoever is answered late anyway waits little longer, and
            a busy database is asked half as often. Who is alone never waits.
    """

    def __init__(
        self,
        ask: Callable[[Sequence[_Item]], Awaitable[Sequence[_Answer] | None]],
        *,
        waits_for_company: bool = False,
    ) -> None:
        self._ask = ask
        self._waits_for_company = waits_for_company
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
        loop = asyncio.get_running_loop()
        while self._waiting:
            left_at_s = loop.time()
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
            took_s = loop.time() - left_at_s
            at = 0
            for items, future in aboard:
                end = at + len(items)
                if not future.done():
                    future.set_result(None if answers is None else list(answers[at:end]))
                at = end
            if self._waits_for_company and len(aboard) >= COMPANY_MIN:
                await asyncio.sleep(min(took_s, COMPANY_WAIT_S_MAX))
