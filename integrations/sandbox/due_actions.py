"""What happens later by itself: a bank answers, an authorisation lapses, a page ends.

Actions are rows, so a restart does not forget them. They are done one after the other, each as one
step of the event loop, when the sandbox's clock says so.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass

from integrations.sandbox.clock import SandboxClock
from integrations.sandbox.identifiers import random_letters
from integrations.sandbox.state import Journal, Table

_SLEEP_MS_MAX = 60_000


@dataclass(frozen=True, slots=True)
class DueAction:
    """Something to do with ``subject`` at ``at_ms``."""

    id: str
    at_ms: int
    kind: str
    subject: str


class DueActions:
    """Does what is due, by the doers that are registered per kind."""

    def __init__(self, clock: SandboxClock, journal: Journal) -> None:
        self.doers: dict[str, Callable[[str], None]] = {}
        self._clock = clock
        self._journal = journal
        self._rows = Table("due", DueAction, journal)
        self._heap: list[tuple[int, str]] = []
        self._woken = asyncio.Event()

    def opened(self) -> None:
        """Take up what was read from the file."""
        self._heap = [(row.at_ms, row.id) for row in self._rows]
        heapq.heapify(self._heap)

    def plan(self, kind: str, subject: str, in_ms: int) -> None:
        """Do it in so many milliseconds."""
        row = DueAction(random_letters(16), self._clock.now_ms() + in_ms, kind, subject)
        self._rows.save(row)
        heapq.heappush(self._heap, (row.at_ms, row.id))
        self._woken.set()

    def do_due(self) -> None:
        """Do everything that is due now."""
        while self._heap and self._heap[0][0] <= self._clock.now_ms():
            _, row_id = heapq.heappop(self._heap)
            row = self._rows.find(row_id)
            assert row is not None, "planned actions have rows"
            self._rows.remove(row_id)
            self.doers[row.kind](row.subject)
            self._journal.commit()

    async def run(self) -> None:
        """Do what is due, for ever."""
        while True:
            self.do_due()
            self._woken.clear()
            wait_ms = _SLEEP_MS_MAX
            if self._heap:
                wait_ms = min(wait_ms, self._heap[0][0] - self._clock.now_ms())
            try:
                await asyncio.wait_for(self._woken.wait(), max(wait_ms, 1) / 1_000)
            except TimeoutError:
                continue
