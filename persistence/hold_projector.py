"""Makes the rows of new holds when nobody is in a hurry.

A batch that only makes holds writes claims and journal, and no row of table ``hold``: in the first
seconds of a sale nobody asks for these rows, and they would be most of the work. What does need
them, needs them later: a batch that changes a hold makes all of its show before, and whoever reads
one hold or a customer's makes those that are asked for. This here makes the others:

    the owner has been calm for a moment      of all its shows, those that wait longest first
    it never is: many shows, each of which    of shows that have waited for half a minute and are
    sells something now and then              themselves calm

The owner's calm says nothing of the others' who share the database. So this takes a twentieth of
the time at most: after each step it waits for nineteen times as long as the step took, and a step
takes longer while others are busy.

When the owner is gone, the search for overdue holds does it. What waits is bounded by the seats of
the show: a hold keeps its seats until a batch changes it
(docs/decisions/0024-rows-of-new-holds-are-written-later.md).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import islice
from typing import NamedTuple

from reservation.faults import ShowUnavailable
from reservation.ids import ShowId

log = logging.getLogger(__name__)

CALM_S = 0.25
"""Between two batches of a crowd there are a few milliseconds."""

LATE_S = 30.0
"""So long a show without rows waits for its owner to be calm. Not for ever: whoever lists a
customer's holds looks through the journal of all shows that wait."""

RETRY_PAUSE_S = 1.0

PAUSE_TO_STEP = 19
PAUSE_MAX_S = 5.0
"""A step that took seconds says that the database was away, not that it is busy."""

SHOWS_AT_ONCE = 50
BATCHES_AT_ONCE = 200
BATCHES_OF_ONE_SHOW = 16
"""In one step. An owner's next batch waits for the rows of its shows in the meantime."""


class _Behind(NamedTuple):
    """A show that has holds without rows: since when, and when the latest batch of it came."""

    since_s: float
    appended_s: float


class HoldProjector:
    """One owner's. Belongs to one event loop."""

    def __init__(self, project: Callable[[Sequence[ShowId], int], Awaitable[list[ShowId]]]) -> None:
        """``project`` makes the rows of so many batches of each show, and says which have more.

        It raises ``ShowUnavailable`` when the database is away.
        """
        self._project = project
        # Who waits longest comes first.
        self._behind: dict[ShowId, _Behind] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._step: asyncio.Task[None] | None = None
        self._appended_s = 0.0

    def appended(self, behind: Iterable[ShowId], complete: Iterable[ShowId]) -> None:
        """A batch has been written: which of its shows have holds without rows now."""
        for show_id in complete:
            self._behind.pop(show_id, None)
        now_s = self._appended_s = asyncio.get_running_loop().time()
        for show_id in behind:
            waiting = self._behind.get(show_id)
            self._behind[show_id] = _Behind(waiting.since_s if waiting else now_s, now_s)
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
        now_s = loop.time()
        calm_in_s = self._appended_s + CALM_S - now_s
        shows = list(islice(self._behind, SHOWS_AT_ONCE)) if calm_in_s <= 0 else self._late(now_s)
        if shows:
            self._step = loop.create_task(self._make_rows(shows))
        else:
            self._look_again_in(calm_in_s)

    def _late(self, now_s: float) -> list[ShowId]:
        """Shows that wait no longer for their owner to be calm."""
        shows: list[ShowId] = []
        for show_id, waiting in self._behind.items():
            if now_s < waiting.since_s + LATE_S or len(shows) == SHOWS_AT_ONCE:
                break
            if now_s >= waiting.appended_s + CALM_S:
                shows.append(show_id)
        return shows

    async def _make_rows(self, shows: list[ShowId]) -> None:
        # Before, because a batch that is written in the meantime puts its show back.
        for show_id in shows:
            del self._behind[show_id]
        begun_s = asyncio.get_running_loop().time()
        batches = min(BATCHES_AT_ONCE // len(shows), BATCHES_OF_ONE_SHOW)
        pause_s = 0.0
        try:
            more = await self._project(shows, batches)
        except ShowUnavailable as trouble:
            log.info("rows of new holds have to wait: %s", trouble)
            more, pause_s = shows, RETRY_PAUSE_S
        except Exception:
            # The journal has them; the search for overdue holds will come by.
            log.exception("rows of new holds cannot be made for %s", shows)
            more = []
        self._step = None
        now_s = asyncio.get_running_loop().time()
        for show_id in more:
            self._behind.setdefault(show_id, _Behind(now_s, now_s))
        if self._behind:
            busy_s = min(PAUSE_TO_STEP * (now_s - begun_s), PAUSE_MAX_S)
            self._look_again_in(max(pause_s, busy_s))
