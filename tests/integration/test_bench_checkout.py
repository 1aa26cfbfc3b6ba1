"""The scenario ``checkout``: its customers buy, and its audit of the money finds what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import asyncpg
import pytest

from benchmarks.audit import Audit
from benchmarks.below_http import new_show_name
from benchmarks.bench import Bench, Options
from benchmarks.contenders.contender import ShowSpec
from benchmarks.grounds import Grounds
from benchmarks.load.closed_loop import run_clients
from benchmarks.load.http_client import open_connections
from benchmarks.over_http import Buyers, OverHttp, close_all
from benchmarks.results import ScenarioResult
from benchmarks.scenarios.checkout import NAME, _audit_money, _buyer
from persistence.catalogue import Catalogue
from persistence.migrate import migrate
from persistence.sessions import open_pool
from tests.support.access import tokens_of_tests
from tests.support.http_house import BOOKING, PAYMENTS, House
from tests.support.payment_benches import WEBHOOK_SECRET, sandbox_config
from tests.support.quick_postgres import quick_postgres
from tests.support.sandbox import RunningSandbox, running_sandbox
from tests.support.served_apis import Prepared, ServedApis, served_apis

CHECKOUTS = 6


@dataclass(frozen=True)
class SmallHouse:
    """What the scenario asks of a whole house."""

    dsn: str
    running: RunningSandbox

    def sandbox(self, method: str, path: str, /, **told: object) -> Any:
        return self.running.control(method, path, **told)


@asynccontextmanager
async def over(served: ServedApis, house: SmallHouse) -> AsyncIterator[OverHttp]:
    port = urlsplit(served.url).port
    assert port is not None
    pool = await open_pool(house.dsn, "bench", size_max=2)
    connections = await open_connections([port], CHECKOUTS)
    try:
        yield OverHttp(
            cast(Any, house),
            Buyers(tokens_of_tests()),
            Catalogue(pool),
            connections,
            cast(Any, None),
            "",
        )
    finally:
        close_all(connections)
        await pool.close()


def bench() -> Bench:
    return Bench(cast(Grounds, None), Options(), Audit(), lambda line: None)


async def buy(http: OverHttp) -> int:
    """So many customers buy one checkout each; how many of them have a booking."""
    holds = await http.pairs_of_ours(ShowSpec(new_show_name(NAME), 2 * CHECKOUTS))
    bought = await run_clients(CHECKOUTS, 60, _buyer(http, holds))
    assert (bought.refused, bought.errors) == (0, 0)
    return bought.done


async def audit(http: OverHttp) -> tuple[list[str], ScenarioResult]:
    checked, result = bench(), ScenarioResult(NAME, "")
    await _audit_money(checked, http, result, {})
    return checked.audit.faults, result


def test_customers_buy_and_money_agrees_until_somebody_takes_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.scenarios.checkout.SETTLED_WITHIN_S", 30.0)
    with running_sandbox() as sandbox, quick_postgres() as server:
        asyncio.run(migrate(server.dsn()))

        async def prepare(house: House, opened: AsyncExitStack) -> Prepared:
            await house.open_checkouts(sandbox_config(sandbox))
            house.payment_actor.start()
            opened.push_async_callback(house.payment_actor.stop)
            return Prepared({BOOKING: house.booking_app(), PAYMENTS: house.payments_app()})

        with served_apis(server.dsn(), prepare) as served:
            sandbox.control(
                "POST",
                "webhooks",
                provider="stripe",
                url=f"{served.url}{PAYMENTS}/webhooks/stripe",
                secrets=[WEBHOOK_SECRET],
            )
            sandbox.control("POST", "settings", pays_after_ms=0)

            async def measure() -> None:
                async with over(served, SmallHouse(server.dsn(), sandbox)) as http:
                    assert await buy(http) == CHECKOUTS
                    faults, result = await audit(http)
                    assert faults == []
                    assert result.figures["earned_minor"] > 0
                    connection = await asyncpg.connect(server.dsn())
                    await connection.execute("SET session_replication_role = replica")
                    await connection.execute(
                        "UPDATE ledger_entry SET amount_minor = amount_minor + 1 "
                        "WHERE kind = 'captured' AND number = (SELECT min(number) "
                        "FROM ledger_entry WHERE kind = 'captured')"
                    )
                    await connection.close()
                    faults, _ = await audit(http)
                    assert len(faults) == 1
                    assert "captured by the ledger" in faults[0]

            asyncio.run(measure())
