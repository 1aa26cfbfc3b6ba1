"""Holds on a hot show while others log in, in two ways: the p99 of the holds.

``with_logins``: 200 logins are sent at one moment, and again every second, or as soon as all of
the last 200 were answered. ``with_200_waiting``: the plain reading of "200 parallel logins": each
of 200 clients always has a login under way, already when the round begins; who is told to come
again does so when he was told to. ``with_no_ops`` is a control: as many requests at once as in the
first, for nothing, of the same application. What it costs is not the price of passwords.

Open model, at a quarter of what the same house holds at saturation; the kinds of rounds take turns.
Every login is for an address of its own that has no account, which costs the house the same as one
that has. The limits of requests are off, as everywhere here: with them nearly all of these logins
would end before a password is looked at, and the flood would measure the limiter.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import Counter
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.below_http import SEATS_MAX, new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import OURS
from benchmarks.load.http_client import Connection, ConnectionPool, get, open_connections, post
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

ALONE, AT_ONCE, WAITING = "alone", "with_logins", "with_200_waiting"
NO_OPS = "with_no_ops"
_NO_OP = get("/api/account/healthz")

P99_RATIO_MAX = 1.2
TRIED_STATUS = 401
BUSY_STATUS = 503
REPLICAS_MAX = 4

_RETRY_AFTER = re.compile(rb"\r\nretry-after: *(\d+)", re.IGNORECASE)
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
    pool = ConnectionPool(await open_connections([http.house.port], HOLD_CONNECTIONS))
    flood = await open_connections([http.house.port], LOGINS)
    heard = {AT_ONCE: Counter[int](), WAITING: Counter[int]()}
    for number in range(bench.options.rounds + 1):
        bench.say(f"round {number} of {bench.options.rounds}")
        for name in (ALONE, AT_ONCE, WAITING, NO_OPS):
            moments = arrivals(rate, seconds, seed=number)
            del moments[SEATS_MAX // 2 - CLIENTS :]
            spec = ShowSpec(new_show_name(NAME), 2 * (len(moments) + CLIENTS))
            holds = await http.pairs_of_ours(spec)
            await http.activate(holds)
            statuses: Counter[int] = Counter()
            flooding = _flooding(name, flood, statuses)
            if name == WAITING:
                await asyncio.sleep(EVERY_S)
            held = await run_open(moments, _holder(http, pool, holds))
            if flooding is not None:
                flooding.cancel()
                # What is still being hashed must not slow down whoever comes next.
                await asyncio.gather(flooding, return_exceptions=True)
                flood = await _finish(flood, http.house.port)
            # In the first round everybody warms up.
            if number:
                result.add(name, held)
                if name in heard:
                    heard[name] += statuses
                if client_was_late(held):
                    result.notes.append(f"{name}, round {number}: the client itself was late")
    close_all(flood)
    for name, statuses in heard.items():
        tried, busy = statuses[TRIED_STATUS], statuses[BUSY_STATUS]
        result.figures[f"{name}_tried"] = tried
        result.figures[f"{name}_told_to_come_again"] = busy
        result.figures[f"{name}_otherwise"] = statuses.total() - tried - busy


def _flooding(
    name: str, connections: list[Connection], heard: Counter[int]
) -> asyncio.Task[None] | None:
    if name == ALONE:
        return None
    if name == WAITING:
        return asyncio.ensure_future(_keep_waiting(connections, heard))
    return asyncio.ensure_future(_flood(connections, heard, _login if name == AT_ONCE else _no_op))


async def _flood(
    connections: list[Connection], heard: Counter[int], request: Callable[[], bytes]
) -> None:
    """So many requests at once, and again every second, until cancelled."""
    loop = asyncio.get_running_loop()
    while True:
        next_at_s = loop.time() + EVERY_S
        await asyncio.gather(*(_ask(connection, heard, request()) for connection in connections))
        await asyncio.sleep(max(0.0, next_at_s - loop.time()))


async def _keep_waiting(connections: list[Connection], heard: Counter[int]) -> None:
    """Each always has a login under way, or waits as long as it was told to, until cancelled."""

    async def go_on(connection: Connection) -> None:
        while True:
            again_s = await _ask(connection, heard, _login())
            await asyncio.sleep(again_s)

    await asyncio.gather(*map(go_on, connections))


async def _ask(connection: Connection, heard: Counter[int], request: bytes) -> float:
    """Try once; how many seconds the house wants to be left alone."""
    try:
        answer = await connection.send(request)
    except ConnectionError:
        heard[0] += 1
        return EVERY_S
    heard[answer.status] += 1
    told = _RETRY_AFTER.search(answer.head)
    return float(told[1]) if told else 0.0


async def _finish(connections: list[Connection], port: int) -> list[Connection]:
    """Hang up, wait until the house has looked at all passwords, and connect again."""
    close_all(connections)
    fresh = await open_connections([port], len(connections))
    # Passwords are looked at in turn, in each process.
    for last in fresh[: 2 * REPLICAS_MAX]:
        while (await last.send(_login())).status == BUSY_STATUS:  # noqa: ASYNC110 - no event.
            await asyncio.sleep(0.1)
    return fresh


def _no_op() -> bytes:
    return _NO_OP


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
