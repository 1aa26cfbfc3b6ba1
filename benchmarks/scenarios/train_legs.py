"""Runs of a train below HTTP: two seats for a few of twelve legs, on as many runs as it takes.

The passengers of one pair of seats get off where the next ones get on, so every hold finds its
seats free, between neighbours that are taken. The others have a row for every seat and leg.
"""

from __future__ import annotations

import random

import uvloop

from benchmarks.below_http import (
    BelowHttp,
    below_http,
    new_show_name,
    request_count,
    request_of,
)
from benchmarks.bench import Bench
from benchmarks.contenders.contender import HoldRequest, ShowSpec
from benchmarks.contenders.line_up import FOUR, OURS
from benchmarks.results import ScenarioResult

NAME = "train_legs"
LEGS = 12
SEATS = 8 * 64
SEGMENT_LEGS_MAX = 6
_WARM_UP_S = 0.3


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    bench.grounds.private_house()
    return uvloop.run(_run(bench))


async def _run(bench: Bench) -> ScenarioResult:
    result = ScenarioResult(NAME, "durable holds of two seats for 1 to 6 of 12 legs, below HTTP")
    # The four are close to each other here; ours and the extremes tell the story when in haste.
    names = (("row_lock", "redlock") if bench.options.is_quick else FOUR) + (OURS,)
    async with below_http(bench) as below:
        for number in range(bench.options.rounds + 1):
            for contender in names:
                bench.say(f"round {number} of {bench.options.rounds}: {contender}")
                # In the first round everybody warms up.
                seconds = bench.options.seconds if number else _WARM_UP_S
                requests, runs = await _open_runs(below, contender, seconds, seed=number)
                # One hold of every run brings it into memory; that is measured elsewhere.
                await below.run(contender, requests[:runs], 60)
                measured = await below.run(contender, requests[runs:], seconds)
                if number:
                    result.add(contender, measured)
        await below.audit(bench, result, leg_count=LEGS)
    for other in names[:-1]:
        result.ratio_of_rates(OURS, other)
    return result


async def _open_runs(
    below: BelowHttp, contender: str, seconds: float, *, seed: int
) -> tuple[list[HoldRequest], int]:
    """Runs enough for a round; their requests, all runs in turn, and how many runs there are."""
    count = request_count(contender, seconds)
    specs: list[ShowSpec] = []
    by_run: list[list[HoldRequest]] = []
    total = 0
    while total < count:
        spec = ShowSpec(new_show_name(NAME), SEATS, LEGS)
        specs.append(spec)
        by_run.append(_passengers(spec, seed=seed * 10_000 + len(specs)))
        total += len(by_run[-1])
    await below.open_shows(contender, specs)
    longest = max(map(len, by_run))
    in_turn = [each[n] for n in range(longest) for each in by_run if n < len(each)]
    return in_turn, len(specs)


def _passengers(spec: ShowSpec, *, seed: int) -> list[HoldRequest]:
    """Holds that fill a run completely, in an order that has nothing to do with seats."""
    source = random.Random(seed)
    wanted: list[tuple[tuple[int, int], tuple[int, int]]] = []
    for first in range(0, SEATS, 2):
        on = 0
        while on < LEGS:
            off = min(LEGS, on + source.randint(1, SEGMENT_LEGS_MAX))
            wanted.append(((first, first + 1), (on, off)))
            on = off
    source.shuffle(wanted)
    show_id = spec.show_id
    return [request_of(show_id, n, seats, legs) for n, (seats, legs) in enumerate(wanted)]
