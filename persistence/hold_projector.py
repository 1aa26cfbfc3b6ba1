"""Makes the rows of new holds when nobody is in a hurry.

A batch that only makes holds writes claims and journal, and no row of table ``hold``: in the first
seconds of a sale nobody asks for these rows, and they would be most of the work. What does need
them, needs them later: a batch that changes a hold makes all of its show before, and whoever reads
one hold or a customer's makes those that are asked for. This here makes the others, as soon as
the owner has been calm for a moment. When the owner is gone, the search for overdue holds does it.
What waits is bounded by the seats of the show: a hold keeps its seats until a batch changes it
(docs/decisions/0024-rows-of-new-holds-are-written-later.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from reservation.faults import ShowUnavailable
from reservation.ids import ShowId

log = logging.getLogger(__name__)

CALM_S = 0.25
"""Between two batches of a crowd there are a few milliseconds."""

RETRY_PAUSE_S = 1.0

SHOWS_AT_ONCE = 50
BATCHES_AT_ONCE = 4
"""Of each show. Its owner's next batch waits for the row of the show in the meantime."""


class HoldProjector:
    """One owner's. Belongs to one event loop."""

    def __init__(self, project: Callable[[Sequence[ShowId], int], Awaitable[list[ShowId]]]) -> None:
        """``project`` makes the rows of so many batches of each show, and says which have more.

        It raises ``ShowUnavailable`` when the database is away.
        """
        self._project = project
        self._behind: dict[ShowId, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._step: asyncio.Task[None] | None = None
        self._appended_s = 0.0

    def appended(self, behind: Iterable[ShowId], complete: Iterable[ShowId]) -> None:
        """A batch has been written: which of its shows have holds without rows now."""
        for show_id in complete:
            self._behind.pop(show_id, None)
        self._behind.update(dict.fromkeys(behind))
        self._appended_s = asyncio.get_running_loop().time()
        if self._behind and self._timer is None and self._step is None:
            self._look_again_in(CALM_S)

    async def close(self) -> None:
        """Stop; what was not done is done by whoever comes next."""
        self._behind.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._step is not None:
            self._step.cancel()
            await asyncio.gather(self._step, return_exceptions=True)

    def _look_again_in(self, pause_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._behind:
            return
        loop = asyncio.get_running_loop()
        calm_in_s = self._appended_s + CALM_S - loop.time()
        if calm_in_s > 0:
            self._look_again_in(calm_in_s)
        else:
            self._step = loop.create_task(self._make_rows())

    async def _make_rows(self) -> None:
        shows = list(self._behind)[:SHOWS_AT_ONCE]
        # Before, because a batch that is written in the meantime puts its show back.
        for show_id in shows:
            del self._behind[show_id]
        pause_s = 0.0
        try:
            more = await self._project(shows, BATCHES_AT_ONCE)
        except ShowUnavailable as trouble:
            log.info("rows of new holds have to wait: %s", trouble)
            more, pause_s = shows, RETRY_PAUSE_S
        except Exception:
            # The journal has them; the search for overdue holds will come by.
            log.exception("rows of new holds cannot be made for %s", shows)
            more = []
        self._step = None
        self._behind.update(dict.fromkeys(more))
        if self._behind:
            self._look_again_in(pause_s)
