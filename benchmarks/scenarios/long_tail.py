"""10,000 quiet shows on sale over HTTP, bookings spread over all of them, and their memory.

The shows share pools of actors. Every show is asked for once first, so that all of them are in
memory; then holds of two seats go round all shows, in rounds interleaved with one hot show.
"""

from __future__ import annotations

import random
import time

import uvloop

from benchmarks.below_http import SEATS_MAX, new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import OURS
from benchmarks.over_http import (
    CLIENTS,
    RATE_MAX_PER_S,
    Buyers,
    HttpHold,
    OverHttp,
    over_http,
)
from benchmarks.results import Aim, ScenarioResult
from benchmarks.whole_house import WholeHouse
from reservation.show import Placement

NAME = "long_tail"
HOT = "hot_show"
SHOWS = 10_000
SHOWS_QUICK = 3_000
SEATS = 200
MIB = 2**20
ACTORS_MIB_MAX = 2_048
ACTIVATION_TIMEOUT_S = 600


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    house = bench.grounds.whole_house()
    return uvloop.run(_run(bench, house))


async def _run(bench: Bench, house: WholeHouse) -> ScenarioResult:
    shows = SHOWS_QUICK if bench.options.is_quick else SHOWS
    result = ScenarioResult(NAME, f"durable holds of two seats on {shows:,} shows, over HTTP")
    async with over_http(bench) as http:
        others = set(house.show_actors())
        tail = await _put_tail_on_sale(bench, http, result, shows)
        # Those of hot shows come later and went before; they are no part of the tail.
        actors = set(house.show_actors()) - others
        seconds = bench.options.seconds
        for number in range(bench.options.rounds + 1):
            bench.say(f"round {number} of {bench.options.rounds}")
            # In the first round everybody warms up.
            lasting = seconds if number else min(seconds, 0.5)
            count = min(int(RATE_MAX_PER_S * lasting), SEATS_MAX // 2 - CLIENTS)
            spec = ShowSpec(new_show_name(NAME), 2 * (count + CLIENTS))
            hot = await http.pairs_of_ours(spec)
            await http.activate(hot)
            on_hot = await http.hold_all(hot, lasting)
            holds = tail.take(count)
            on_tail = await http.hold_all(holds, lasting)
            tail.give_back(len(holds) - on_tail.answers)
            if number:
                result.add(HOT, on_hot)
                result.add(OURS, on_tail)
        memory = house.show_actors()
        result.figures["show_actors"] = len(actors)
        result.figures["show_actors_mib"] = sum(memory[pid] for pid in actors) / MIB
        await http.audit(bench, result)
    ratio = result.ratio_of_rates(OURS, HOT)
    result.aims += [
        Aim.at_least(f"{NAME}: holds on {shows:,} shows to holds on one", ratio, 0.5, "x"),
        Aim.at_most(
            f"{NAME}: memory of all show actors, {shows:,} shows in them",
            result.figures["show_actors_mib"],
            ACTORS_MIB_MAX,
            " MiB",
        ),
    ]
    return result


class _Tail:
    """Holds all over the tail: every show in turn, in an order that is no order of theirs."""

    def __init__(self, buyers: Buyers, specs: list[ShowSpec], labels: list[str]) -> None:
        self._buyers = buyers
        self._specs = specs
        self._labels = labels
        self._taken = 0
        random.Random(len(specs)).shuffle(specs)

    def take(self, count: int) -> list[HttpHold]:
        """The next holds; fewer when the tail is sold out."""
        end = min(self._taken + count, len(self._specs) * len(self._labels) // 2)
        holds = [self._hold(number) for number in range(self._taken, end)]
        self._taken = end
        return holds

    def give_back(self, count: int) -> None:
        """The last ones that were taken have not been asked for."""
        self._taken -= count

    def _hold(self, number: int) -> HttpHold:
        pair, show = divmod(number, len(self._specs))
        labels = self._labels[2 * pair : 2 * pair + 2]
        return self._buyers.hold(self._specs[show].show_id, number, labels)


async def _put_tail_on_sale(
    bench: Bench, http: OverHttp, result: ScenarioResult, shows: int
) -> _Tail:
    """The tail, every show of which has been asked for once."""
    bench.say(f"putting {shows:,} shows on sale")
    specs = [ShowSpec(new_show_name(NAME), SEATS) for _ in range(shows)]
    tail = _Tail(http.buyers, specs, await http.open_ours(specs, placement=Placement.POOLED))
    bench.say(f"a first hold on each of {shows:,} shows")
    firsts = tail.take(shows)
    begun = time.perf_counter()
    first = await http.hold_all(firsts, ACTIVATION_TIMEOUT_S)
    assert first.done == shows, f"{first.errors} of {shows} shows do not sell"
    result.figures["first_holds_per_s"] = shows / (time.perf_counter() - begun)
    return tail
