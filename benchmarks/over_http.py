"""Ours over HTTP through its own ingress, and the others through plain uvicorn.

Every request is encoded before a clock starts, ours and theirs alike.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncpg

from benchmarks.bench import Bench
from benchmarks.contenders.actor import plan_of, put_on_sale
from benchmarks.contenders.application import hold_id_of
from benchmarks.contenders.contender import ShowSpec
from benchmarks.contenders.line_up import OURS
from benchmarks.contenders.place_tables import PlaceTables
from benchmarks.load.http_client import (
    Answer,
    Connection,
    get,
    open_connections,
    post,
    run_connections,
)
from benchmarks.load.rounds import Round, Verdict
from benchmarks.results import ScenarioResult
from benchmarks.whole_house import WholeHouse
from persistence.catalogue import Catalogue
from persistence.sessions import open_pool
from reservation.ids import CustomerId, ShowId, derive_hold_id
from reservation.show import Placement
from tests.support.access import Tokens, principal_named
from tests.support.house_tokens import tokens_of_house

CLIENTS = 128
CLIENTS_TO_ALL = 16
NO_OP = get("/api/booking/healthz")

ACCOUNTS = 2_000
"""So many customers ask, in turn and again and again. A house checks the signature of each one's
token once in every replica, and then knows the token."""

RATE_MAX_PER_S = 9_000
"""So many requests are prepared for a second of a round."""

_CODE = re.compile(rb'"code": *"(\w{1,40})"')
_STATUS_VERDICTS = {200: Verdict.DONE, 201: Verdict.DONE, 304: Verdict.DONE, 409: Verdict.REFUSED}


class HttpHold(NamedTuple):
    """One hold, ready to be sent; ``bearer`` is by whom, of ours."""

    hold_id: str
    request: bytes
    bearer: str = ""


class Buyers:
    """The accounts that ask our house, and their requests."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._principals = [principal_named(f"buyer {number}") for number in range(ACCOUNTS)]

    def hold(self, show_id: ShowId, number: int, labels: Sequence[str]) -> HttpHold:
        """Request ``number`` on a show of ours, by the account whose turn it is."""
        principal = self._principals[number % ACCOUNTS]
        bearer, key = self._tokens.bearer(principal), f"bench-{number}"
        headers = f"Authorization: {bearer}\r\nIdempotency-Key: {key}\r\n"
        body = json.dumps({"seats": list(labels)}).encode()
        return HttpHold(
            derive_hold_id(show_id, CustomerId(principal.account_id), key),
            post(f"/api/booking/shows/{show_id}/holds", headers, body),
            bearer,
        )


def hold_of_others(contender: str, show: int, number: int, seats: Sequence[int]) -> HttpHold:
    """The same on a show of somebody else, who believes whatever customer is named."""
    customer_id, key = f"c{number}", f"bench-{number}"
    headers = f"X-Customer-Id: {customer_id}\r\nIdempotency-Key: {key}\r\n"
    body = json.dumps({"seats": list(seats)}).encode()
    return HttpHold(
        hold_id_of(str(show), customer_id, key),
        post(f"/{contender}/shows/{show}/holds", headers, body),
    )


@dataclass
class OverHttp:
    """A whole house, connections to it, and what was sold and promised in this scenario."""

    house: WholeHouse
    buyers: Buyers
    catalogue: Catalogue
    connections: list[Connection]
    others: PlaceTables
    contenders_dsn: str
    shows: list[ShowId] = field(default_factory=list)
    promised: list[str] = field(default_factory=list)
    numbers: dict[str, list[int]] = field(default_factory=dict)
    promised_by: dict[str, list[str]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    async def open_ours(
        self, specs: Sequence[ShowSpec], *, placement: Placement = Placement.DEDICATED
    ) -> list[str]:
        """Put shows of one size on sale; the labels of their seats."""
        plan = plan_of(specs[0].seat_count)
        await put_on_sale(self.catalogue, specs, plan, placement)
        self.shows += [spec.show_id for spec in specs]
        return list(plan.labels_of(range(plan.seat_count)))

    async def open_other(self, contender: str, spec: ShowSpec) -> int:
        """Put a show on sale with somebody else; its number."""
        await self.others.open_shows([spec])
        number = self.others.number_of(spec.show_id)
        self.numbers.setdefault(contender, []).append(number)
        return number

    async def pairs_of_ours(self, spec: ShowSpec) -> list[HttpHold]:
        """A new show, and holds of two seats each, all different."""
        labels = await self.open_ours([spec])
        pairs = zip(labels[::2], labels[1::2], strict=True)
        return [self.buyers.hold(spec.show_id, n, pair) for n, pair in enumerate(pairs)]

    async def pairs_of_other(self, contender: str, spec: ShowSpec) -> list[HttpHold]:
        """The same with somebody else."""
        show = await self.open_other(contender, spec)
        return [
            hold_of_others(contender, show, n, (2 * n, 2 * n + 1))
            for n in range(spec.seat_count // 2)
        ]

    async def hold_all(
        self,
        holds: Sequence[HttpHold],
        seconds: float,
        *,
        contender: str = OURS,
        connections: list[Connection] | None = None,
    ) -> Round:
        """A closed loop that works off these holds."""
        following = iter(enumerate(holds))

        def next_request() -> tuple[int, bytes] | None:
            number, hold = next(following, (-1, None))
            return None if hold is None else (number, hold.request)

        def judge(number: int, answer: Answer) -> Verdict:
            return self.judge_hold(holds[number], answer, contender=contender)

        return await run_connections(connections or self.connections, seconds, next_request, judge)

    def judge(self, answer: Answer, *, contender: str = OURS) -> Verdict:
        """What an answer counts as; that of an error is remembered, to be told with the figures."""
        verdict = _STATUS_VERDICTS.get(answer.status, Verdict.FAILED)
        if verdict is Verdict.FAILED:
            self.errors[f"{contender}: {_in_words(answer)}"] += 1
        return verdict

    def judge_hold(self, hold: HttpHold, answer: Answer, *, contender: str = OURS) -> Verdict:
        """The same of the answer to a hold, which is a promise when it was done."""
        verdict = self.judge(answer, contender=contender)
        if verdict is Verdict.DONE:
            self.promised_of(contender).append(hold.hold_id)
        return verdict

    async def activate(self, holds: list[HttpHold]) -> None:
        """Use up the first holds of a show of ours, so that every process knows it.

        That is measured elsewhere. The others have nothing of the kind to do.
        """
        first = await self.hold_all(holds[:1], 60, connections=self.connections[:1])
        assert first.done == 1, "the show does not sell"
        # Connections are spread over the replicas, so a few of them reach all.
        await self.hold_all(holds[1:CLIENTS], 60, connections=self.connections[:CLIENTS_TO_ALL])
        del holds[:CLIENTS]

    async def ask_nothing(self, seconds: float) -> Round:
        """A closed loop over the no-op route of our booking application."""
        return await run_connections(
            self.connections,
            seconds,
            lambda: (0, NO_OP),
            lambda _, answer: self.judge(answer, contender="no_op"),
        )

    def promised_of(self, contender: str) -> list[str]:
        """Where to note what a contender promised."""
        if contender == OURS:
            return self.promised
        return self.promised_by.setdefault(contender, [])

    async def audit(self, bench: Bench, result: ScenarioResult) -> None:
        """Check everything that was sold here, and note what errors were met."""
        result.note_errors(self.errors)
        bench.say("the audit of what was sold")
        await bench.audit.check_ours(self.house.shards, self.shows, self.promised)
        for contender, numbers in self.numbers.items():
            promised = self.promised_of(contender)
            await bench.audit.check_others(self.contenders_dsn, contender, numbers, promised)


@asynccontextmanager
async def over_http(bench: Bench, clients: int = CLIENTS) -> AsyncIterator[OverHttp]:
    """Our house and the tables of the others, on the grounds of this run, which must be there."""
    house = bench.grounds.whole_house()
    databases = bench.grounds.databases()
    catalogue_pool = await open_pool(house.dsn, "bench", size_max=2)
    pool = asyncpg.create_pool(databases.contenders_dsn, min_size=1, max_size=1)
    buyers = Buyers(await tokens_of_house(house.dsn))
    connections = await open_connections([house.port], clients)
    try:
        yield OverHttp(
            house,
            buyers,
            Catalogue(catalogue_pool),
            connections,
            PlaceTables(await pool),
            databases.contenders_dsn,
        )
    finally:
        close_all(connections)
        await pool.close()
        await catalogue_pool.close()


def _in_words(answer: Answer) -> str:
    """The status, and the code of the problem when the body names one."""
    if answer.status == 0:
        return "no answer"
    found = _CODE.search(answer.body)
    return f"{answer.status} {found[1].decode()}" if found else str(answer.status)


def close_all(connections: Iterable[Connection]) -> None:
    """Hang up."""
    for connection in connections:
        connection.close()
