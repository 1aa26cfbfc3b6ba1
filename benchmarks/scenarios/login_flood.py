"""Holds on a hot show while 200 logins at once arrive every second: the p99 of the holds.

Open model, at a quarter of what the same house holds at saturation; rounds with and without logins
take turns. Every login is for an address of its own that has no account, which costs the house the
same as one that has. The limits of requests are off, as everywhere here: with them nearly all of
these logins would end before a password is looked at, and the flood would measure the limiter.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.below_http import SEATS_MAX, new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import OURS
from benchmarks.load.http_client import Connection, ConnectionPool, open_connections, post
from benchmarks.load.open_model import arrivals, client_was_late, run_open
from benchmarks.load.rounds import Round, Verdict
from benchmarks.over_http import (
    CLIENTS,
    RATE_MAX_PER_S,
    HttpHold,
    OverHttp,
    close_all,
    over_http,
    verdict_of,
)
from benchmarks.results import Aim, ScenarioResult

NAME = "login_flood"
LOGINS = 200
EVERY_S = 1.0
SHARE_OF_SATURATION = 0.25
HOLD_CONNECTIONS = 128
ROUND_S_MIN = 2.0
"""Below that a round may see no whole second of the flood."""

P99_RATIO_MAX = 1.2
TRIED_STATUS = 401
BUSY_STATUS = 503
REPLICAS_MAX = 4

_numbers = itertools.count(1)


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    bench.grounds.whole_house()
    return uvloop.run(_run(bench))


async def _run(bench: Bench) -> ScenarioResult:
    result = ScenarioResult(NAME, "holds of two seats on one hot show while others log in")
    async with over_http(bench) as http:
        rate = SHARE_OF_SATURATION * await _saturation(bench, http)
        result.figures["offered_per_s"] = rate
        await _take_turns(bench, http, rate, result)
        await http.audit(bench)
    ratio = _ratio(result.median("with_logins").p99_ms, result.median("alone").p99_ms)
    result.ratios["p99_with_logins_to_alone"] = ratio
    result.aims.append(
        Aim.at_most(f"{NAME}: p99 of holds with logins to without", ratio, P99_RATIO_MAX, "x")
    )
    return result


async def _saturation(bench: Bench, http: OverHttp) -> float:
    """Holds a second in a closed loop, when everything is warm."""
    measured: list[Round] = []
    for seconds in (min(bench.options.seconds, 0.5), bench.options.seconds):
        bench.say("how much this house can do")
        pairs = int(RATE_MAX_PER_S * seconds) + CLIENTS
        spec = ShowSpec(new_show_name(NAME), min(2 * pairs, SEATS_MAX))
        holds = await http.pairs_of_ours(spec)
        await http.activate(holds)
        measured.append(await http.hold_all(holds, seconds))
    return measured[-1].rate_per_s


async def _take_turns(bench: Bench, http: OverHttp, rate: float, result: ScenarioResult) -> None:
    seconds = max(bench.options.seconds, ROUND_S_MIN)
    pool = ConnectionPool(await open_connections([http.house.port], HOLD_CONNECTIONS))
    flood = await open_connections([http.house.port], LOGINS)
    statuses: Counter[int] = Counter()
    for number in range(bench.options.rounds + 1):
        bench.say(f"round {number} of {bench.options.rounds}")
        for name in ("alone", "with_logins"):
            moments = arrivals(rate, seconds, seed=number)
            del moments[SEATS_MAX // 2 - CLIENTS :]
            spec = ShowSpec(new_show_name(NAME), 2 * (len(moments) + CLIENTS))
            holds = await http.pairs_of_ours(spec)
            await http.activate(holds)
            heard: Counter[int] = Counter()
            flooding = asyncio.ensure_future(_flood(flood, heard)) if name != "alone" else None
            held = await run_open(moments, _holder(http, pool, holds))
            if flooding is not None:
                flooding.cancel()
                # What is still being hashed must not slow down whoever comes next.
                await asyncio.gather(flooding, return_exceptions=True)
                flood = await _finish(flood, http.house.port)
            # In the first round everybody warms up.
            if number:
                result.add(name, held)
                statuses += heard
                if client_was_late(held):
                    result.notes.append(f"{name}, round {number}: the client itself was late")
    close_all(flood)
    result.figures["logins_tried"] = statuses[TRIED_STATUS]
    result.figures["logins_told_to_come_again"] = statuses[BUSY_STATUS]
    result.figures["logins_otherwise"] = statuses.total() - (
        statuses[TRIED_STATUS] + statuses[BUSY_STATUS]
    )


async def _flood(connections: list[Connection], heard: Counter[int]) -> None:
    """So many logins at once, and again every second, until cancelled."""
    loop = asyncio.get_running_loop()

    async def log_in(connection: Connection) -> None:
        try:
            heard[(await connection.send(_login())).status] += 1
        except ConnectionError:
            heard[0] += 1

    while True:
        next_at_s = loop.time() + EVERY_S
        await asyncio.gather(*map(log_in, connections))
        await asyncio.sleep(max(0.0, next_at_s - loop.time()))


async def _finish(connections: list[Connection], port: int) -> list[Connection]:
    """Hang up, wait until the house has looked at all passwords, and connect again."""
    close_all(connections)
    fresh = await open_connections([port], len(connections))
    # Passwords are looked at in turn, in each process.
    for last in fresh[: 2 * REPLICAS_MAX]:
        while (await last.send(_login())).status == BUSY_STATUS:  # noqa: ASYNC110 - no event.
            await asyncio.sleep(0.1)
    return fresh


def _login() -> bytes:
    login = {"email": f"nobody{next(_numbers)}@flood.example", "password": "a wrong password"}
    return post("/api/account/sessions", "", json.dumps(login).encode())


def _holder(
    http: OverHttp, pool: ConnectionPool, holds: list[HttpHold]
) -> Callable[[int], Awaitable[Verdict]]:
    promised = http.promised_of(OURS)

    async def ask(number: int) -> Verdict:
        verdict = verdict_of(await pool.send(holds[number].request))
        if verdict is Verdict.DONE:
            promised.append(holds[number].hold_id)
        return verdict

    return ask


def _ratio(above: float, below: float) -> float:
    return above / below if below else 0.0
