"""A request that asks for nothing, of the same application through the same ingress.

It is what HTTP itself costs here: no hold can be faster.
"""

from __future__ import annotations

import uvloop

from benchmarks.bench import Bench
from benchmarks.over_http import over_http
from benchmarks.results import ScenarioResult

NAME = "http_no_op"


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    bench.grounds.whole_house()
    return uvloop.run(_run(bench))


async def _run(bench: Bench) -> ScenarioResult:
    result = ScenarioResult(NAME, "GET /api/booking/healthz, 128 clients", "answers/s")
    async with over_http(bench) as http:
        await http.ask_nothing(min(bench.options.seconds, 1))
        for number in range(1, bench.options.rounds + 1):
            bench.say(f"round {number} of {bench.options.rounds}")
            result.add("no_op", await http.ask_nothing(bench.options.seconds))
    return result
