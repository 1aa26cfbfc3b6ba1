"""Time for actors: one clock that no wall-clock jump can move."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import Protocol

from reservation.faults import ShowUnavailable

TRAVEL_MS_MAX = 50
"""An answer that travelled longer is asked for again."""

ATTEMPTS_MAX = 5

TRAVEL_ACCEPTED_MS_MAX = 500
"""A clock that is later than this could not end holds within a second of their deadlines."""


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


async def anchor(clock: Clock, ask_ms: Callable[[], Awaitable[int]]) -> None:
    """Set a clock by the database's, from the answer that travelled least.

    The clock is late by as much as that answer travelled: holds then end late, never early.

    Raises:
        ShowUnavailable: every answer travelled for too long.
    """
    loop, shortest_s, offset_ms = asyncio.get_running_loop(), inf, 0.0
    for _ in range(ATTEMPTS_MAX):
        asked_at_s = loop.time()
        database_now_ms = await ask_ms()
        answered_at_s = loop.time()
        if answered_at_s - asked_at_s < shortest_s:
            shortest_s = answered_at_s - asked_at_s
            offset_ms = database_now_ms - answered_at_s * 1_000
        if shortest_s * 1_000 <= TRAVEL_MS_MAX:
            break
    if shortest_s * 1_000 > TRAVEL_ACCEPTED_MS_MAX:
        raise ShowUnavailable("the database answers too slowly to tell the time")
    clock.anchor(int(offset_ms + loop.time() * 1_000))
