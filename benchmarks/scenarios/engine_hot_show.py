"""One hot show below HTTP: durable holds of two free seats a second, and one idle client.

A thousand clients in this process, which pays for all contenders' clients alike. One idle client
then asks alone; its answer is compared with one bare commit and one bare Ray call, in turns.
"""

from __future__ import annotations

import time
from typing import Any

import asyncpg
import ray
import uvloop

from actors.show_ref import ShowRefs
from benchmarks.below_http import (
    SEATS_MAX,
    BelowHttp,
    below_http,
    distinct_pairs,
    new_show_name,
    request_count,
)
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import OURS
from benchmarks.load.rounds import quantile
from benchmarks.results import Aim, ScenarioResult
from reservation.commands import HoldSeats
from reservation.events import SeatsHeld
from reservation.ids import ShowId

NAME = "engine_hot_show"
IDLE_HOLDS = 400
IDLE_HOLDS_QUICK = 150
_IDLE_WARM_UP = 30


class _Bare:
    """A Ray actor that does nothing."""

    async def answer(self) -> None:
        """The smallest call there is."""


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    house = bench.grounds.private_house()
    return uvloop.run(_run(bench, house.dsn))


async def _run(bench: Bench, dsn: str) -> ScenarioResult:
    result = ScenarioResult(NAME, "durable holds of two seats on one hot show, below HTTP")
    async with below_http(bench) as below:
        await _saturate(bench, below, result)
        await _ask_alone(bench, below, dsn, result)
        await below.audit(bench, result)
    for other in bench.options.others:
        result.ratio_of_rates(OURS, other)
    if "redlock_per_show" in result.rounds:
        seat, show = result.rate("redlock"), result.rate("redlock_per_show")
        result.notes.append(
            f"redlock takes a lock for each seat: {seat:,.0f}/s; one for the show: {show:,.0f}/s"
        )
    for other in ("row_lock", "redlock"):
        ratio = result.ratios[f"{OURS}_to_{other}"]
        result.aims.append(Aim.at_least(f"{NAME}: actor to {other}", ratio, 12, "x"))
    alone = result.figures["idle_hold_to_bare_commit_and_call"]
    what = f"{NAME}: one idle client's answer to one bare commit and one bare Ray call"
    result.aims.append(Aim.at_most(what, alone, 2, "x"))
    return result


async def _saturate(bench: Bench, below: BelowHttp, result: ScenarioResult) -> None:
    seconds = bench.options.seconds
    for number in range(bench.options.rounds + 1):
        for contender in (*bench.options.others, OURS):
            bench.say(f"round {number} of {bench.options.rounds}: {contender}")
            # In the first round everybody warms up.
            lasting = seconds if number else min(seconds, 0.3)
            count = min(request_count(contender, lasting), SEATS_MAX // 2)
            spec = ShowSpec(new_show_name(NAME), 2 * count)
            await below.open_shows(contender, [spec])
            requests = distinct_pairs(spec.show_id, count)
            # The first hold activates the show; that is measured elsewhere.
            first = await below.run(contender, requests[:1], 5, clients=1)
            assert first.done == 1, f"{contender} does not sell"
            measured = await below.run(contender, requests[1:], lasting)
            if number:
                result.add(contender, measured)


async def _ask_alone(bench: Bench, below: BelowHttp, dsn: str, result: ScenarioResult) -> None:
    bench.say("one idle client")
    count = IDLE_HOLDS_QUICK if bench.options.is_quick else IDLE_HOLDS
    spec = ShowSpec(new_show_name(NAME), 2 * (count + _IDLE_WARM_UP))
    await below.open_shows(OURS, [spec])
    ours = below.contenders[OURS]
    holds: list[tuple[ShowId, HoldSeats]] = [
        ours.prepare(request) for request in distinct_pairs(spec.show_id, count + _IDLE_WARM_UP)
    ]
    bare: Any = ray.remote(num_cpus=0)(_Bare).remote()
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS bare (number integer NOT NULL)")
    insert = await connection.prepare("INSERT INTO bare VALUES ($1)")
    times: dict[str, list[float]] = {"commit": [], "call": [], "hold": []}
    now = time.perf_counter
    for number, hold in enumerate(holds):
        begun = now()
        await insert.fetch(number)
        committed = now()
        await bare.answer.remote()
        called = now()
        outcome = await _held(below.refs, hold)
        held = now()
        below.acknowledged[OURS].append(outcome.hold_id)
        if number >= _IDLE_WARM_UP:
            times["commit"].append(committed - begun)
            times["call"].append(called - committed)
            times["hold"].append(held - called)
    await connection.execute("DROP TABLE bare")
    await connection.close()
    ray.kill(bare)
    p50_ms = {name: quantile(sorted(each), 0.5) * 1_000 for name, each in times.items()}
    result.figures |= {
        "idle_hold_p50_ms": p50_ms["hold"],
        "bare_commit_p50_ms": p50_ms["commit"],
        "bare_ray_call_p50_ms": p50_ms["call"],
        "idle_hold_to_bare_commit_and_call": p50_ms["hold"] / (p50_ms["commit"] + p50_ms["call"]),
    }


async def _held(refs: ShowRefs, hold: tuple[ShowId, HoldSeats]) -> SeatsHeld:
    outcome = await refs.ask(*hold)
    assert isinstance(outcome, SeatsHeld), outcome
    return outcome
