"""One hot show over HTTP: durable holds of two free seats a second, and p99 at half of that.

128 clients. The others run as FastAPI on plain uvicorn with one, two or three processes, whichever
sells most in a calibration of each. Rounds are interleaved with a no-op of our own application.
At half of what ours can do, requests come in an open model, at the same rate for hold and no-op.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.below_http import SEATS_MAX, new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import FOUR, OURS
from benchmarks.load.http_client import Connection, ConnectionPool, open_connections
from benchmarks.load.open_model import arrivals, run_open
from benchmarks.load.rounds import Round, Verdict
from benchmarks.over_http import (
    CLIENTS,
    NO_OP,
    RATE_MAX_PER_S,
    HttpHold,
    OverHttp,
    close_all,
    over_http,
)
from benchmarks.results import Aim, ScenarioResult

NAME = "http_hot_show"
WORKER_COUNTS = (1, 2, 3)
CALIBRATION_S = 1.0
CALIBRATION_QUICK_S = 0.4
OPEN_CONNECTIONS = 256
HALF = 0.5


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    ports = {workers: bench.grounds.contender_servers(workers) for workers in WORKER_COUNTS}
    bench.grounds.whole_house()
    return uvloop.run(_run(bench, ports))


async def _run(bench: Bench, ports: dict[int, list[int]]) -> ScenarioResult:
    result = ScenarioResult(NAME, "durable holds of two seats on one hot show, over HTTP")
    async with over_http(bench) as http:
        lines = {
            workers: await open_connections(ports[workers], CLIENTS) for workers in WORKER_COUNTS
        }
        best = {
            name: await _calibrate(bench, http, lines, name, result)
            for name in bench.options.others
        }
        await _saturate(bench, http, {name: lines[best[name]] for name in best}, result)
        for connections in lines.values():
            close_all(connections)
        await _at_half(bench, http, result)
        await http.audit(bench, result)
    to_no_op = result.ratio_of_rates(OURS, "no_op")
    for other in bench.options.others:
        result.ratio_of_rates(OURS, other)
    best_of_four = max(FOUR, key=result.rate)
    result.notes.append(f"best of the four: {best_of_four}")
    result.aims += [
        Aim.at_least(
            f"{NAME}: actor to the best of the four contenders ({best_of_four})",
            result.ratios[f"{OURS}_to_{best_of_four}"],
            2,
            "x",
        ),
        Aim.at_least(f"{NAME}: actor to no-op", to_no_op, 0.7, "x"),
        Aim.at_most(
            f"{NAME}: p99 at half of saturation to the no-op's p99 at the same rate",
            result.ratios["p99_at_half_to_no_op"],
            4,
            "x",
        ),
    ]
    return result


def _spec(seconds: float) -> ShowSpec:
    pairs = int(RATE_MAX_PER_S * seconds) + CLIENTS
    return ShowSpec(new_show_name(NAME), min(2 * pairs, SEATS_MAX))


async def _calibrate(
    bench: Bench,
    http: OverHttp,
    lines: dict[int, list[Connection]],
    contender: str,
    result: ScenarioResult,
) -> int:
    """The number of processes with which a contender sells most."""
    seconds = CALIBRATION_QUICK_S if bench.options.is_quick else CALIBRATION_S
    bench.say(f"calibrating {contender} with {', '.join(map(str, lines))} uvicorn")
    rates = {}
    for workers, connections in lines.items():
        holds = await http.pairs_of_other(contender, _spec(seconds))
        measured = await http.hold_all(holds, seconds, contender=contender, connections=connections)
        rates[workers] = measured.rate_per_s
    best = max(rates, key=rates.__getitem__)
    tried = ", ".join(f"{workers}: {rate:,.0f}/s" for workers, rate in rates.items())
    result.notes.append(f"{contender} runs with {best} uvicorn ({tried})")
    result.figures[f"{contender}_uvicorn_count"] = best
    return best


async def _saturate(
    bench: Bench, http: OverHttp, lines: dict[str, list[Connection]], result: ScenarioResult
) -> None:
    seconds = bench.options.seconds
    for number in range(bench.options.rounds + 1):
        bench.say(f"round {number} of {bench.options.rounds}")
        # In the first round everybody warms up.
        lasting = seconds if number else min(seconds, 0.5)
        measured: dict[str, Round] = {"no_op": await http.ask_nothing(lasting)}
        for contender, connections in lines.items():
            holds = await http.pairs_of_other(contender, _spec(lasting))
            measured[contender] = await http.hold_all(
                holds, lasting, contender=contender, connections=connections
            )
        holds = await http.pairs_of_ours(_spec(lasting))
        await http.activate(holds)
        measured[OURS] = await http.hold_all(holds, lasting)
        if number:
            for name, each in measured.items():
                result.add(name, each)


async def _at_half(bench: Bench, http: OverHttp, result: ScenarioResult) -> None:
    rate = HALF * result.rate(OURS)
    seconds = bench.options.seconds
    bench.say(f"an open model at {rate:,.0f} a second")
    connections = await open_connections([http.house.port], OPEN_CONNECTIONS)
    pool = ConnectionPool(connections)

    async def ask_nothing(_: int) -> Verdict:
        return http.judge(await pool.send(NO_OP), contender="no_op_at_half")

    for number in range(bench.options.rounds + 1):
        moments = arrivals(rate, seconds if number else min(seconds, 0.5), seed=number)
        del moments[SEATS_MAX // 2 - CLIENTS :]
        no_op = await run_open(moments, ask_nothing)
        spec = ShowSpec(new_show_name(NAME), 2 * (len(moments) + CLIENTS))
        holds = await http.pairs_of_ours(spec)
        await http.activate(holds)
        held = await run_open(moments, _holder(http, pool, holds))
        if number:
            result.add("no_op_at_half", no_op)
            result.add("actor_at_half", held)
    close_all(connections)
    held, no_op = result.median("actor_at_half"), result.median("no_op_at_half")
    result.figures["half_of_saturation_per_s"] = rate
    result.ratios["p99_at_half_to_no_op"] = held.p99_ms / no_op.p99_ms if no_op.p99_ms else 0.0


def _holder(
    http: OverHttp, pool: ConnectionPool, holds: list[HttpHold]
) -> Callable[[int], Awaitable[Verdict]]:
    async def ask(number: int) -> Verdict:
        hold = holds[number]
        return http.judge_hold(hold, await pool.send(hold.request))

    return ask
