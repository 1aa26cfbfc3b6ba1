"""All contenders below HTTP, in this process: ours through its refs, the others through a pool."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from redis.exceptions import RedisError

from actors.activation import connect_refs
from actors.show_ref import ShowRefs
from benchmarks.bench import Bench
from benchmarks.contenders.actor import Actor
from benchmarks.contenders.contender import Held, HoldRequest, ShowSpec
from benchmarks.contenders.line_up import OTHERS, OURS, make_contender
from benchmarks.contenders.place_tables import PlaceTables, open_contender_pool
from benchmarks.contenders.redlock import open_lock_server
from benchmarks.load.closed_loop import run_clients
from benchmarks.load.rounds import Round, Verdict
from benchmarks.results import ScenarioResult
from persistence.catalogue import Catalogue
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from reservation.faults import Fault
from reservation.ids import CustomerId, ShowId, derive_hold_id

CLIENTS = 1_000

RATE_MAX_PER_S = {OURS: 45_000}
RATE_MAX_OTHERS_PER_S = 9_000
"""So many requests are prepared for a second of a round. A round that uses them up ends early,
and its rate is of the time it took."""

SEATS_MAX = 200_000

_show_numbers = itertools.count(1)


def new_show_name(scenario: str) -> str:
    """A name that no show has yet."""
    return f"{scenario} {next(_show_numbers)}"


def request_count(contender: str, seconds: float) -> int:
    """How many requests to prepare for a round."""
    return int(RATE_MAX_PER_S.get(contender, RATE_MAX_OTHERS_PER_S) * seconds) + 1_000


def request_of(
    show_id: ShowId, number: int, seats: tuple[int, ...], legs: tuple[int, int] = (0, 1)
) -> HoldRequest:
    """Request ``number`` on a show: a customer of its own, who wants these seats."""
    customer_id = CustomerId(f"c{number}")
    hold_id = derive_hold_id(show_id, customer_id, "bench")
    return HoldRequest(show_id, hold_id, customer_id, seats, *legs)


def distinct_pairs(show_id: ShowId, count: int) -> list[HoldRequest]:
    """Two seats each that nobody else asks for, the first seats first."""
    return [request_of(show_id, n, (2 * n, 2 * n + 1)) for n in range(count)]


def contested_pairs(
    show_id: ShowId, count: int, seat_count: int, *, seed: int
) -> list[HoldRequest]:
    """Two neighbours each out of few seats, the same sequence for every contender."""
    source = random.Random(seed)
    firsts = [source.randrange(seat_count - 1) for _ in range(count)]
    return [request_of(show_id, n, (first, first + 1)) for n, first in enumerate(firsts)]


@dataclass
class BelowHttp:
    """The contenders, and what each of them has sold and promised in this scenario."""

    shards: ShardMap
    contenders_dsn: str
    refs: ShowRefs
    contenders: dict[str, Any]
    shows: dict[str, list[ShowId]] = field(default_factory=dict)
    acknowledged: dict[str, list[str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    async def open_shows(self, contender: str, specs: Sequence[ShowSpec]) -> None:
        """Put shows on sale with a contender."""
        await self.contenders[contender].open_shows(specs)
        self.shows.setdefault(contender, []).extend(spec.show_id for spec in specs)

    async def run(
        self,
        contender: str,
        requests: Sequence[HoldRequest],
        seconds: float,
        *,
        clients: int = CLIENTS,
    ) -> Round:
        """A closed loop of clients that work off these requests; all of them are prepared first."""
        made = self.contenders[contender]
        left = iter([(request.hold_id, made.prepare(request)) for request in requests])
        acknowledged = self.acknowledged.setdefault(contender, [])

        async def ask(_: int) -> Verdict | None:
            following = next(left, None)
            if following is None:
                return None
            hold_id, prepared = following
            try:
                answer = await made.hold(prepared)
            except (Fault, asyncpg.PostgresError, RedisError, OSError) as error:
                self.errors[f"{contender}: {type(error).__name__}"] += 1
                return Verdict.FAILED
            if isinstance(answer, Held):
                acknowledged.append(hold_id)
                return Verdict.DONE
            return Verdict.REFUSED

        return await run_clients(clients, seconds, ask)

    async def audit(self, bench: Bench, result: ScenarioResult, *, leg_count: int = 1) -> None:
        """Check everything that was sold here, and note what errors were met."""
        result.note_errors(self.errors)
        bench.say("the audit of what was sold")
        for name, show_ids in self.shows.items():
            promised = self.acknowledged.get(name, [])
            if name == OURS:
                await bench.audit.check_ours(self.shards, show_ids, promised, leg_count=leg_count)
            else:
                tables: PlaceTables = self.contenders[name]
                numbers = [tables.number_of(show_id) for show_id in show_ids]
                await bench.audit.check_others(self.contenders_dsn, name, numbers, promised)


@asynccontextmanager
async def below_http(bench: Bench, names: Iterable[str] = OTHERS) -> AsyncIterator[BelowHttp]:
    """Our refs and the named others, on the grounds of this run, which must be there already."""
    house = bench.grounds.private_house()
    databases = bench.grounds.databases()
    pool = await open_contender_pool(databases.contenders_dsn)
    redis = open_lock_server(databases.valkey.url)
    catalogue_pool = await open_pool(house.dsn, "bench", size_max=2)
    try:
        catalogue = Catalogue(catalogue_pool)
        refs = connect_refs(house.actors, catalogue.placement_of)
        contenders: dict[str, Any] = {
            name: make_contender(name, pool, redis) for name in names if name != OURS
        }
        contenders[OURS] = Actor(refs, catalogue)
        yield BelowHttp(house.actors.shards, databases.contenders_dsn, refs, contenders)
    finally:
        await redis.aclose()
        await pool.close()
        await catalogue_pool.close()
