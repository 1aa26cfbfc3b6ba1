"""The sandbox's clock: the system's, and as far ahead of it as a test has set it."""

from __future__ import annotations

import time


class SandboxClock:
    """Time in Unix milliseconds. It can be moved ahead, never back: lists are sorted by it."""

    def __init__(self) -> None:
        self._ahead_ms = 0
        self._latest_ms = 0

    def now_ms(self) -> int:
        """Never less than what it said before, whatever is done to the system's clock."""
        self._latest_ms = max(self._latest_ms, time.time_ns() // 1_000_000 + self._ahead_ms)
        return self._latest_ms

    def now_s(self) -> int:
        """Whole seconds, as both providers write instants."""
        return self.now_ms() // 1_000

    def advance(self, by_ms: int) -> None:
        """Move it ahead.

        Raises:
            ValueError: ``by_ms`` is negative.
        """
        if by_ms < 0:
            raise ValueError("the clock cannot be moved back")
        self._ahead_ms += by_ms

    @property
    def ahead_ms(self) -> int:
        """How far it is ahead of the system's."""
        return self._ahead_ms
