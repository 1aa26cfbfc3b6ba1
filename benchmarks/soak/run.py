"""One soak from the first client to the last check."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence

from benchmarks.soak.faults import Faults
from benchmarks.soak.ground import Ground
from benchmarks.soak.report import Findings, late_expiries, standstills
from persistence.verification import verify_shows
from tests.support.history_of_house import CLOCK_ERROR_MS, history_faults
from tests.support.recorded_history import Attempt

PROGRESS_EVERY_S = 10
RECOVERED_AFTER_ANSWERS = 40
RECOVERS_WITHIN_S = 60.0
REST_WITHIN_S = 60.0
TWO_AT_ONCE_SHARE = 0.25

_PLACES = {
    "actors": ("kill_actor", "freeze_actor", "pause_actor"),
    "supervisor": ("kill_supervisor",),
    "postgres": ("crash_postgres", "pause_postgres"),
    "line": (
        "cut_connections",
        "lose_requests_and_answers",
        "black_hole",
        "half_open_connections",
        "slow_line",
    ),
    "front": ("pause_clients", "kill_replica", "pause_replica"),
}
"""Two faults at one time are of two places, so that one does not undo the other."""


class Soak:
    """Faults and load on one ground for so many seconds."""

    def __init__(
        self, ground: Ground, seed: int, seconds: float, say: Callable[[str], None]
    ) -> None:
        self._ground = ground
        self._dice = random.Random(seed)
        self._faults = Faults(ground, self._dice)
        self._seconds = seconds
        self._say = say
        self._broken: list[str] = []
        self._started = time.monotonic()

    async def run(self) -> Findings:
        """Everything, up to the last check."""
        self._say("letting clients in")
        await self._ground.start_clients()
        await self._until_answers(RECOVERED_AFTER_ANSWERS)
        started_ns = time.monotonic_ns()
        self._started = time.monotonic()
        progress = asyncio.ensure_future(self._say_how_it_goes())
        try:
            await self._do_faults()
        finally:
            progress.cancel()
        self._say("waiting for clients to finish what they have begun")
        attempts = await self._ground.stop_clients()
        ended_ns = time.monotonic_ns()
        await self._until_rest()
        self._say(f"checking {len(attempts):,} answers")
        return await self._check(attempts, started_ns, ended_ns)

    # -- faults -------------------------------------------------------------------------

    async def _do_faults(self) -> None:
        bag: list[str] = []
        while time.monotonic() - self._started < self._seconds:
            if not bag:
                bag = self._dice.sample(self._faults.kinds, len(self._faults.kinds))
            kinds = [bag.pop()]
            if self._dice.random() < TWO_AT_ONCE_SHARE:
                kinds += [kind for kind in bag if _place_of(kind) != _place_of(kinds[0])][:1]
                bag = [kind for kind in bag if kind not in kinds]
            await asyncio.gather(*(self._do(kind) for kind in kinds))
            if not await self._until_answers(RECOVERED_AFTER_ANSWERS):
                self._broken.append(f"nothing is sold {RECOVERS_WITHIN_S:.0f} s after {kinds}")
            await asyncio.sleep(self._dice.uniform(0.5, 3.0))

    async def _do(self, kind: str) -> None:
        try:
            await self._faults.do(kind)
        except AssertionError as error:
            # A fault that did not happen as it should says nothing about the house.
            self._broken.append(f"{kind}: {error}")

    @property
    def _certain(self) -> int:
        return sum(certain for certain, _, _ in self._ground.told)

    async def _until_answers(self, more: int) -> bool:
        wanted = self._certain + more
        deadline = time.monotonic() + RECOVERS_WITHIN_S
        while self._certain < wanted:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.1)
        return True

    async def _say_how_it_goes(self) -> None:
        before = self._certain
        while True:
            await asyncio.sleep(PROGRESS_EVERY_S)
            certain, unknown, not_done = map(sum, zip(*self._ground.told, strict=True))
            rate = (certain - before) / PROGRESS_EVERY_S
            before = certain
            record = self._faults.record
            elapsed_s = time.monotonic() - self._started
            now = f", now {self._faults.now}" if self._faults.now else ""
            self._say(
                f"{elapsed_s:5.0f} of {self._seconds:.0f} s: {certain:,} answers ({rate:.0f}/s), "
                f"{unknown} unknown, {not_done} not done; {len(record.done)} faults, "
                f"{len(record.missed)} missed{now}"
            )

    # -- checks -------------------------------------------------------------------------

    async def _until_rest(self) -> None:
        """No client asks any more; wait until every hold that was left has ended."""
        deadline = time.monotonic() + REST_WITHIN_S
        count = -1
        while time.monotonic() < deadline:
            count = await self._ground.pool.fetchval(
                "SELECT count(*) FROM every_hold WHERE state = 'held'"
            )
            if not count:
                return
            await asyncio.sleep(0.5)
        self._broken.append(f"I4: {count} holds have not ended {REST_WITHIN_S:.0f} s later")

    async def _check(self, attempts: Sequence[Attempt], started_ns: int, ended_ns: int) -> Findings:
        ground = self._ground
        violations = list(self._broken)
        entries = 0
        show_ids = [show.show_id for show in ground.shows]
        async for verdict in verify_shows([ground.pool], ground.shards, show_ids):
            entries += verdict.entries
            violations += [f"I7: {verdict.show_id}: {fault}" for fault in verdict.faults]
        violations += await history_faults(ground.pool, ground.shows, attempts)
        violations += standstills(attempts, show_ids, started_ns, ended_ns)
        rows = await ground.pool.fetch(
            "SELECT deadline_at_ms, ended_at_ms FROM hold WHERE state = 'expired'"
        )
        expiries = [(row[0], row[1]) for row in rows]
        late = late_expiries(expiries, self._faults.record, CLOCK_ERROR_MS)
        violations += [
            f"I4: a hold ended {late_ms} ms late with no fault about" for late_ms in late
        ]
        return Findings(
            attempts, self._faults.record, violations, expiries, entries, started_ns, ended_ns
        )


def _place_of(kind: str) -> str:
    return next(place for place, kinds in _PLACES.items() if kind in kinds)
