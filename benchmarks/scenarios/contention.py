"""Many buyers, few seats, below HTTP: a thousand clients ask for two neighbours out of 400 seats.

After a moment everything is taken, and what remains is to say no, as on the evening when a sale
opens. The rate is of all answers; a no is an answer that somebody waits for.
"""

from __future__ import annotations

import uvloop

from benchmarks.below_http import below_http, contested_pairs, new_show_name, request_count
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import FOUR, OURS
from benchmarks.results import ScenarioResult

NAME = "contention"
SEATS = 400
_WARM_UP_S = 0.3


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    bench.grounds.private_house()
    return uvloop.run(_run(bench))


async def _run(bench: Bench) -> ScenarioResult:
    result = ScenarioResult(
        NAME, f"answers to buyers of two of {SEATS} seats, below HTTP", "answers/s"
    )
    names = (*(("row_lock", "redlock") if bench.options.is_quick else FOUR), OURS)
    async with below_http(bench) as below:
        for number in range(bench.options.rounds + 1):
            for contender in names:
                bench.say(f"round {number} of {bench.options.rounds}: {contender}")
                # In the first round everybody warms up.
                seconds = bench.options.seconds if number else _WARM_UP_S
                spec = ShowSpec(new_show_name(NAME), SEATS)
                await below.open_shows(contender, [spec])
                count = request_count(contender, seconds)
                requests = contested_pairs(spec.show_id, count, SEATS, seed=number)
                await below.run(contender, requests[:1], 5, clients=1)
                measured = await below.run(contender, requests[1:], seconds)
                if number:
                    rate = measured.answer_rate_per_s
                    result.add(contender, measured._replace(rate_per_s=rate))
        await below.audit(bench, result)
    for other in names[:-1]:
        result.ratio_of_rates(OURS, other)
    return result
