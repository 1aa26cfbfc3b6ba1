"""Whole checkouts a second over HTTP: a hold, its payment at the house's sandbox, the booking.

A closed loop. A customer holds two seats, begins the payment and asks for the booking until it is
there; the sandbox's customers pay by themselves as soon as a payment is made, and it calls the
house's webhook as Stripe would. A checkout counts when its booking is there. Afterwards no seat may
be sold twice, every booking is one that somebody was promised, and the books of the sandbox and the
house's ledger must be the same to the minor unit.

The sandbox runs beside the house on the same processors, with a durable file of its own, and what
it costs is in the figure. The published rates that it is put beside are of another machine, and of
orders of one unnumbered place.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.below_http import SEATS_MAX, new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import OURS
from benchmarks.load.closed_loop import run_clients
from benchmarks.load.http_client import Connection, get_as, post
from benchmarks.load.rounds import Verdict
from benchmarks.over_http import CLIENTS, HttpHold, OverHttp, over_http
from benchmarks.results import ScenarioResult
from persistence.payment_books import PaymentBooks
from persistence.sessions import open_pool

NAME = "checkout"
BUYING_AT_ONCE = 64
CHECKOUTS_MAX_PER_S = 1_500
ASK_AGAIN_S = 0.02
BOOKED_WITHIN_S = 30.0
SETTLED_WITHIN_S = 120.0

PUBLISHED_PER_S = 861.0
"""TigerFans: checkouts on one worker of 8 processors, TigerBeetle and Redis (renerocks.ai)."""

PUBLISHED_POSTGRES_PER_S = 272.0
"""The same with PostgreSQL only."""

_CHECKOUT = json.dumps({"provider": "stripe"}).encode()


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    bench.grounds.whole_house()
    return uvloop.run(_run(bench))


async def _run(bench: Bench) -> ScenarioResult:
    result = ScenarioResult(
        NAME, "checkouts of two seats on one show, from hold to booking", "checkouts/s"
    )
    async with over_http(bench) as http:
        before = _captured(http.house.sandbox("GET", "statement"))
        http.house.sandbox("POST", "settings", pays_after_ms=0)
        for number in range(bench.options.rounds + 1):
            bench.say(f"round {number} of {bench.options.rounds}")
            seconds = bench.options.seconds
            pairs = min(int(CHECKOUTS_MAX_PER_S * seconds), SEATS_MAX // 2 - CLIENTS) + CLIENTS
            holds = await http.pairs_of_ours(ShowSpec(new_show_name(NAME), 2 * pairs))
            await http.activate(holds)
            bought = await run_clients(BUYING_AT_ONCE, seconds, _buyer(http, holds))
            # In the first round everybody warms up.
            if number:
                result.add(OURS, bought)
        await _audit_money(bench, http, result, before)
        await http.audit(bench, result)
    rate = result.rate(OURS)
    result.figures["published_tigerfans_checkouts_per_s"] = PUBLISHED_PER_S
    result.figures["published_tigerfans_postgres_checkouts_per_s"] = PUBLISHED_POSTGRES_PER_S
    # No ratios, because those are of rounds on one machine.
    result.figures["to_published_tigerfans_x"] = rate / PUBLISHED_PER_S
    result.figures["to_published_tigerfans_postgres_x"] = rate / PUBLISHED_POSTGRES_PER_S
    result.notes.append(
        "published figures are of 8 processors, and of orders of one unnumbered place"
    )
    return result


def _buyer(http: OverHttp, holds: list[HttpHold]) -> Callable[[int], Awaitable[Verdict | None]]:
    following = iter(holds)

    async def buy(client: int) -> Verdict | None:
        hold = next(following, None)
        if hold is None:
            return None
        connection = http.connections[client]
        held = http.judge_hold(hold, await connection.send(hold.request))
        if held is not Verdict.DONE:
            return held
        headers = f"Authorization: {hold.bearer}\r\nIdempotency-Key: once\r\n"
        path = f"/api/booking/holds/{hold.hold_id}/checkout"
        begun = http.judge(await connection.send(post(path, headers, _CHECKOUT)))
        if begun is not Verdict.DONE:
            return Verdict.FAILED
        return await _booked(http, connection, hold)

    return buy


async def _booked(http: OverHttp, connection: Connection, hold: HttpHold) -> Verdict:
    request = get_as(f"/api/booking/bookings/bkg_{hold.hold_id[4:]}", hold.bearer)
    give_up_at_s = asyncio.get_running_loop().time() + BOOKED_WITHIN_S
    while asyncio.get_running_loop().time() < give_up_at_s:
        if (await connection.send(request)).status == 200:
            return Verdict.DONE
        await asyncio.sleep(ASK_AGAIN_S)
    http.errors[f"{OURS}: no booking in {BOOKED_WITHIN_S} s"] += 1
    return Verdict.FAILED


async def _audit_money(
    bench: Bench, http: OverHttp, result: ScenarioResult, before: dict[str, int]
) -> None:
    """What the sandbox has captured is what the ledger has, and all of it is for bookings."""
    bench.say("waiting until all money is taken")
    pool = await open_pool(http.house.dsn, "bench", size_max=1)
    try:
        books = PaymentBooks(pool)
        give_up_at_s = asyncio.get_running_loop().time() + SETTLED_WITHIN_S
        while True:
            sums = [money for show_id in http.shows for money in await books.sums(show_id)]
            is_over = not any(money.promised_minor or money.in_flight_minor for money in sums)
            if is_over or asyncio.get_running_loop().time() > give_up_at_s:
                break
            await asyncio.sleep(0.5)
    finally:
        await pool.close()
    ledger: dict[str, int] = {}
    for money in sums:
        net_minor = money.captured_minor - money.refunded_minor
        ledger[money.currency] = ledger.get(money.currency, 0) + net_minor
        bench.audit.faults += [f"{NAME}: {what}" for what in money.disagreements()]
        if money.promised_minor or money.in_flight_minor:
            left = f"{money.promised_minor} promised, {money.in_flight_minor} in flight"
            bench.audit.faults.append(f"{NAME}: money does not come to its end: {left}")
    after = _captured(http.house.sandbox("GET", "statement"))
    provider = {currency: after[currency] - before.get(currency, 0) for currency in after}
    if {c: m for c, m in provider.items() if m} != {c: m for c, m in ledger.items() if m}:
        bench.audit.faults.append(f"{NAME}: the provider has {provider}, the ledger {ledger}")
    result.figures["earned_minor"] = float(sum(money.earned_minor for money in sums))


def _captured(statement: dict[str, dict[str, dict[str, int]]]) -> dict[str, int]:
    """What a provider kept in each currency."""
    return {currency: sums["net"] for currency, sums in statement.get("stripe", {}).items()}
