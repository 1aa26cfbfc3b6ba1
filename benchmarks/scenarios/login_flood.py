"""Holds on a hot show while others log in, in two ways: the p99 of the holds.

``with_logins``: 200 logins are sent at one moment, and again every second, or as soon as all of
the last 200 were answered. ``with_200_waiting``: the plain reading of "200 parallel logins": each
of 200 clients always has a login under way, already when the round begins; who is told to come
again does so when he was told to. ``with_no_ops`` is a control: as many requests at once as in the
first, for nothing, of the same application. What it costs is not the price of passwords.

Open model, at a quarter of what the same house holds at saturation; the kinds of rounds take turns.
The crowd is a process of its own, so that it does not keep the client of the holds from its work.
Every login is for an address of its own that has no account, which costs the house the same as one
that has. The limits of requests are off, as everywhere here: with them nearly all of these logins
would end before a password is looked at, and the flood would measure the limiter.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.below_http import SEATS_MAX, new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.load.crowd import EVERY_S, Crowd, Way
from benchmarks.load.http_client import ConnectionPool, open_connections, post
from benchmarks.load.open_model import arrivals, client_was_late, run_open
from benchmarks.load.rounds import Round, Verdict
from benchmarks.over_http import (
    CLIENTS,
    RATE_MAX_PER_S,
    HttpHold,
    OverHttp,
    close_all,
    over_http,
)
from benchmarks.results import Aim, ScenarioResult

NAME = "login_flood"
LOGINS = 200
SHARE_OF_SATURATION = 0.25
HOLD_CONNECTIONS = 128
ROUND_S_MIN = 2.0
"""Below that a round may see no whole second of the flood."""

ALONE, AT_ONCE, WAITING = "alone", "with_logins", "with_200_waiting"
NO_OPS = "with_no_ops"
WAYS = {
    AT_ONCE: Way.LOGINS_AT_ONCE,
    WAITING: Way.LOGINS_KEPT_UP,
    NO_OPS: Way.NO_OPS_AT_ONCE,
}
_LAST_LOGIN = json.dumps({"email": "last@flood.example", "password": "a wrong one"}).encode()

P99_RATIO_MAX = 1.2
TRIED_STATUS = 401
BUSY_STATUS = 503
REPLICAS_MAX = 4


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
        await http.audit(bench, result)
    control = _ratio(result.median(NO_OPS).p99_ms, result.median(ALONE).p99_ms)
    result.ratios[f"p99_{NO_OPS}_to_alone"] = control
    for name, what in ((AT_ONCE, "200 logins at once, every second"), (WAITING, "200 waiting")):
        ratio = _ratio(result.median(name).p99_ms, result.median(ALONE).p99_ms)
        result.ratios[f"p99_{name}_to_alone"] = ratio
        what = f"{NAME}: p99 of holds with {what} to without"
        result.aims.append(Aim.at_most(what, ratio, P99_RATIO_MAX, "x"))
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
    connections = await open_connections([http.house.port], HOLD_CONNECTIONS)
    pool = ConnectionPool(connections)
    heard = {name: Counter[int]() for name in WAYS}
    for number in range(bench.options.rounds + 1):
        bench.say(f"round {number} of {bench.options.rounds}")
        for name in (ALONE, *WAYS):
            moments = arrivals(rate, seconds, seed=number)
            del moments[SEATS_MAX // 2 - CLIENTS :]
            spec = ShowSpec(new_show_name(NAME), 2 * (len(moments) + CLIENTS))
            holds = await http.pairs_of_ours(spec)
            await http.activate(holds)
            holder = _holder(http, pool, holds)
            if name == ALONE:
                held, statuses = await run_open(moments, holder), Counter[int]()
            else:
                held, statuses = await _beside(http.house.port, WAYS[name], moments, holder)
            # In the first round everybody warms up.
            if not number:
                continue
            result.add(name, held)
            if name in heard:
                heard[name] += statuses
            if client_was_late(held):
                result.notes.append(f"{name}, round {number}: the client itself was late")
    close_all(connections)
    for name in (AT_ONCE, WAITING):
        tried, busy = heard[name][TRIED_STATUS], heard[name][BUSY_STATUS]
        result.figures[f"{name}_tried"] = tried
        result.figures[f"{name}_told_to_come_again"] = busy
        result.figures[f"{name}_otherwise"] = heard[name].total() - tried - busy


async def _beside(
    port: int, way: Way, moments: list[float], ask: Callable[[int], Awaitable[Verdict]]
) -> tuple[Round, Counter[int]]:
    """A round beside a crowd, and what the crowd heard."""
    with Crowd(port, way, LOGINS) as crowd:
        if way is Way.LOGINS_KEPT_UP:
            await asyncio.sleep(EVERY_S)
        held = await run_open(moments, ask)
        heard = crowd.end()
    if way is not Way.NO_OPS_AT_ONCE:
        await _wait_for_passwords(port)
    return held, heard


async def _wait_for_passwords(port: int) -> None:
    """Wait until the house has looked at all passwords: they must not slow down who comes next."""
    fresh = await open_connections([port], 2 * REPLICAS_MAX)
    login = post("/api/account/sessions", "", _LAST_LOGIN)
    # They are looked at in turn, in each process.
    for last in fresh:
        while (await last.send(login)).status == BUSY_STATUS:  # noqa: ASYNC110 - no event.
            await asyncio.sleep(0.1)
    close_all(fresh)


def _holder(
    http: OverHttp, pool: ConnectionPool, holds: list[HttpHold]
) -> Callable[[int], Awaitable[Verdict]]:
    async def ask(number: int) -> Verdict:
        hold = holds[number]
        return http.judge_hold(hold, await pool.send(hold.request))

    return ask


def _ratio(above: float, below: float) -> float:
    return above / below if below else 0.0
