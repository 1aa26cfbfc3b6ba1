"""100 seat maps read for every hold, on one show of 20,000 seats, and what it does to the writer.

The readers' ceiling is found first; the storm then reads at half of it, in an open model, and the
writer holds a hundredth as often, with the storm and without, in turns. Half of the readers say
which map they have and are told when it is still right. What reaches Postgres is counted there, in
both turns: a house asks it some things every second whether anybody reads or not, and what was
asked in the turn without readers was asked by no reader. The turns take the same time.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from benchmarks.below_http import new_show_name
from benchmarks.bench import Bench
from benchmarks.contenders.contender import ShowSpec
from benchmarks.load.http_client import (
    Answer,
    ConnectionPool,
    get,
    get_if_changed,
    open_connections,
    run_connections,
)
from benchmarks.load.open_model import arrivals, run_open
from benchmarks.load.rounds import Round, Verdict
from benchmarks.over_http import (
    HttpHold,
    OverHttp,
    close_all,
    over_http,
)
from benchmarks.results import Aim, ScenarioResult
from benchmarks.statement_counts import StatementCounts, statement_counts
from benchmarks.whole_house import WholeHouse

NAME = "browse_storm"
SEATS = 20_000
READS_PER_WRITE = 100
STORM_SHARE = 0.5
SECONDS_MIN = 1.5
WRITER_CONNECTIONS = 32
SLOWER_MAX_PERCENT = 20
REACHED_MAX_PERCENT = 1

_STATEMENTS_NAMED_MAX = 12
_STATEMENT_MAX = 120


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    house = bench.grounds.whole_house()
    return uvloop.run(_run(bench, house))


async def _run(bench: Bench, house: WholeHouse) -> ScenarioResult:
    what = f"{READS_PER_WRITE} seat maps of {SEATS:,} seats for every hold, over HTTP"
    result = ScenarioResult(NAME, what, "answers/s")
    async with over_http(bench) as http, statement_counts(house.dsn) as counts:
        writers = await open_connections([house.port], WRITER_CONNECTIONS)
        try:
            spec = ShowSpec(new_show_name(NAME), SEATS)
            holds = await http.pairs_of_ours(spec)
            await http.activate(holds)
            storm = _Storm(
                http, ConnectionPool(http.connections), ConnectionPool(writers), spec, holds
            )
            await _weather(bench, storm, counts, result)
        finally:
            close_all(writers)
        await http.audit(bench, result)
    _judge(result)
    return result


async def _weather(
    bench: Bench, storm: _Storm, counts: StatementCounts, result: ScenarioResult
) -> None:
    seconds = max(bench.options.seconds, SECONDS_MIN)
    bench.say("the readers' ceiling")
    ceiling = await storm.read_all_the_time(min(seconds, 2))
    rate = STORM_SHARE * ceiling.rate_per_s
    result.figures["read_ceiling_per_s"] = ceiling.rate_per_s
    reads = 0
    beside_reads, without_reads = Counter[str](), Counter[str]()
    for number in range(bench.options.rounds + 1):
        bench.say(f"round {number} of {bench.options.rounds}: {rate:,.0f} reads a second")
        lasting = seconds if number else 1.0
        await counts.restart()
        alone = await storm.write(rate / READS_PER_WRITE, lasting)
        statements_alone = await counts.reads()
        await counts.restart()
        reading, beside = await asyncio.gather(
            storm.read(rate, lasting, seed=number), storm.write(rate / READS_PER_WRITE, lasting)
        )
        if number:
            beside_reads.update(await counts.reads())
            without_reads.update(statements_alone)
            reads += reading.answers
            result.add("writer_alone", alone)
            result.add("writer_beside_reads", beside)
            result.add("readers", reading)
    reached = max(0, beside_reads.total() - without_reads.total())
    result.figures |= {
        "reads": reads,
        "statements_beside_reads": beside_reads.total(),
        "statements_without_reads": without_reads.total(),
        "reached_postgres_percent": 100 * reached / reads,
    }
    for statement, times in beside_reads.most_common(_STATEMENTS_NAMED_MAX):
        said = f"{times} times beside reads, {without_reads[statement]} without"
        result.notes.append(f"{said}: {' '.join(statement.split())[:_STATEMENT_MAX]}")


def _judge(result: ScenarioResult) -> None:
    ratio = result.ratio_of_rates("writer_beside_reads", "writer_alone")
    slower_percent = max(0.0, 100 * (1 - ratio))
    result.figures["writer_slower_percent"] = slower_percent
    reached_percent = result.figures["reached_postgres_percent"]
    result.aims += [
        Aim.at_most(
            f"{NAME}: the writer is slower beside the reads by",
            slower_percent,
            SLOWER_MAX_PERCENT,
            "%",
        ),
        Aim.at_most(
            f"{NAME}: reads that reach Postgres", reached_percent, REACHED_MAX_PERCENT, "%"
        ),
    ]


@dataclass
class _Storm:
    """Readers and a writer of one show."""

    http: OverHttp
    readers: ConnectionPool
    writers: ConnectionPool
    spec: ShowSpec
    holds: list[HttpHold]
    _plain: bytes = b""
    _etag: bytes = field(default=b'"none"')

    def __post_init__(self) -> None:
        self._plain = get(self._path)

    @property
    def _path(self) -> str:
        return f"/api/browse/shows/{self.spec.show_id}/seat-map"

    async def read_all_the_time(self, seconds: float) -> Round:
        """As fast as answers come."""
        return await run_connections(
            self.http.connections,
            seconds,
            lambda: (0, self._plain),
            lambda _, got: self._noted(got),
        )

    async def read(self, rate: float, seconds: float, *, seed: int) -> Round:
        """At a rate, every other reader with the tag of the newest map that was seen."""

        async def ask(number: int) -> Verdict:
            request = self._plain
            if number % 2:
                request = get_if_changed(self._path, self._etag)
            return self._noted(await self.readers.send(request))

        return await run_open(arrivals(rate, seconds, seed=seed), ask)

    async def write(self, rate: float, seconds: float) -> Round:
        """Holds at an even rate; how fast they were answered is from the first answer to the last.

        There are few, so that the wait of a single one would otherwise pass for a lower rate. A
        writer that cannot keep up answers later and later, and that does lower it.
        """
        moments = arrivals(rate, seconds, seed=0, shape="even")
        mine, self.holds = self.holds[: len(moments)], self.holds[len(moments) :]
        assert len(mine) == len(moments), "the show is sold out"
        answered_at: list[float] = []
        measured = await run_open(moments, self._holder(mine, answered_at))
        lasted = max(answered_at) - min(answered_at)
        if measured.done == len(moments) > 1 and lasted > 0:
            return measured._replace(rate_per_s=(len(moments) - 1) / lasted)
        return measured

    def _holder(
        self, holds: list[HttpHold], answered_at: list[float]
    ) -> Callable[[int], Awaitable[Verdict]]:
        async def ask(number: int) -> Verdict:
            answer = await self.writers.send(holds[number].request)
            answered_at.append(time.perf_counter())
            return self.http.judge_hold(holds[number], answer)

        return ask

    def _noted(self, answer: Answer) -> Verdict:
        if answer.status == 200:
            self._etag = answer.etag or self._etag
        return self.http.judge(answer)
