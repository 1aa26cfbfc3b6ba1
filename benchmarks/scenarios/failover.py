"""The owner of a show is killed under load: how long until the next new hold is durable.

Buyers keep coming in an open model and ask again, with the same hold, whenever they are told that
it is not done or not known. A new hold is one that was first asked for after the kill.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import time
from typing import Any

import uvloop

from actors.activation import RemoteShowActor
from actors.config import ActorsConfig
from benchmarks.below_http import BelowHttp, below_http, distinct_pairs, new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import Held, ShowSpec
from benchmarks.contenders.line_up import OURS
from benchmarks.load.open_model import arrivals, run_open
from benchmarks.load.rounds import Round, Verdict
from benchmarks.results import Aim, ScenarioResult
from reservation.faults import NotDone, OutcomeUnknown

NAME = "failover"
RATE_PER_S = 300
BEFORE_S = 1.0
AFTER_S = 4.0
AFTER_QUICK_S = 3.0
KILLS_QUICK = 1
GIVE_UP_S = 60.0
FIRST_HOLD_S_MAX = 3


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    house = bench.grounds.private_house()
    return uvloop.run(_run(bench, house.actors))


async def _run(bench: Bench, config: ActorsConfig) -> ScenarioResult:
    result = ScenarioResult(NAME, f"kill -9 of a show's owner under {RATE_PER_S} buyers a second")
    first_s: list[float] = []
    unknown = unanswered = 0
    async with below_http(bench, ()) as below:
        kills = KILLS_QUICK if bench.options.is_quick else bench.options.rounds
        for number in range(1, kills + 1):
            bench.say(f"kill {number} of {kills}")
            trial = _Trial(below)
            result.add(OURS, await trial.run(config, bench.options.is_quick, seed=number))
            first_s.append(trial.first_new_hold_s)
            unknown += trial.unknown
            unanswered += trial.unanswered
        await below.audit(bench, result)
    result.figures |= {
        "first_new_hold_median_s": statistics.median(first_s),
        "first_new_hold_worst_s": max(first_s),
        "answers_unknown_at_first": unknown,
        "never_answered": unanswered,
    }
    what = f"{NAME}: worst time from the kill to the first new durable hold"
    result.aims.append(Aim.at_most(what, max(first_s), FIRST_HOLD_S_MAX, " s"))
    what = f"{NAME}: holds that asking again did not resolve"
    result.aims.append(Aim.at_most(what, unanswered, 0))
    return result


class _Trial:
    """One show, one kill."""

    def __init__(self, below: BelowHttp) -> None:
        self._below = below
        self._killed_at = 0.0
        self._first_new_at = 0.0
        self.unknown = 0
        self.unanswered = 0

    @property
    def first_new_hold_s(self) -> float:
        """From the kill."""
        assert self._first_new_at, "no new hold was made after the kill"
        return self._first_new_at - self._killed_at

    async def run(self, config: ActorsConfig, is_quick: bool, *, seed: int) -> Round:
        """Load, kill, load."""
        seconds = BEFORE_S + (AFTER_QUICK_S if is_quick else AFTER_S)
        moments = arrivals(RATE_PER_S, seconds, seed=seed)
        spec = ShowSpec(new_show_name(NAME), 2 * len(moments) + 2)
        await self._below.open_shows(OURS, [spec])
        contender = self._below.contenders[OURS]
        holds = [contender.prepare(each) for each in distinct_pairs(spec.show_id, len(moments) + 1)]
        # The first hold activates the show.
        assert await self._ask(holds.pop()) is Verdict.DONE
        actor = RemoteShowActor(f"show:{spec.show_id}", config)
        pid = (await actor.status()).pid
        killing = asyncio.ensure_future(self._kill(pid))
        measured = await run_open(moments, lambda number: self._ask(holds[number]))
        await killing
        assert (await actor.status()).pid != pid, "the owner was not killed"
        return measured

    async def _kill(self, pid: int) -> None:
        await asyncio.sleep(BEFORE_S)
        os.kill(pid, signal.SIGKILL)
        self._killed_at = time.perf_counter()

    async def _ask(self, hold: Any) -> Verdict:
        begun = time.perf_counter()
        while True:
            try:
                answer = await self._below.contenders[OURS].hold(hold)
            except OutcomeUnknown:
                self.unknown += 1
            except NotDone:
                # Nothing happened, and the buyer may try again.
                await asyncio.sleep(0.02)
            else:
                break
            if time.perf_counter() - begun > GIVE_UP_S:
                self.unanswered += 1
                return Verdict.FAILED
        if not isinstance(answer, Held):
            return Verdict.REFUSED
        self._below.acknowledged.setdefault(OURS, []).append(answer.hold_id)
        if self._killed_at and begun > self._killed_at and not self._first_new_at:
            self._first_new_at = time.perf_counter()
        return Verdict.DONE
