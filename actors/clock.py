"""Time for actors: one clock that no wall-clock jump can move."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Unix milliseconds that never run backwards."""

    def now_ms(self) -> int:
        """The present instant by the database's clock."""
        ...

    def anchor(self, database_now_ms: int) -> None:
        """Set the clock by the database, once it has been asked."""
        ...


class SystemClock:
    """The database's time at the anchor, carried on by this machine's monotonic clock.

    Deadlines are stored by the database's clock. Reading it once and counting on from there
    keeps every owner of a show on the same time, whatever happens to a node's wall clock.
    """

    def __init__(self) -> None:
        self._offset_ms = time.time_ns() // 1_000_000 - _monotonic_ms()

    def now_ms(self) -> int:
        """The present instant by the database's clock."""
        return _monotonic_ms() + self._offset_ms

    def anchor(self, database_now_ms: int) -> None:
        """Set the clock by the database."""
        self._offset_ms = database_now_ms - _monotonic_ms()


class ManualClock:
    """A clock that moves when it is told to, for tests and simulations."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        """The instant it was set to."""
        return self._now_ms

    def anchor(self, database_now_ms: int) -> None:
        """A manual clock keeps its own time."""

    def advance(self, duration_ms: int) -> None:
        """Let time pass."""
        assert duration_ms >= 0, "time does not run backwards"
        self._now_ms += duration_ms


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000
