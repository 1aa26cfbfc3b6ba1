"""Limits of requests over real connections, with real show actors behind them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from benchmarks.statement_counts import statement_counts
from persistence.embedded_valkey import EmbeddedValkey
from persistence.memory_rate_limits import MemoryRateLimiter
from persistence.migrate import migrate
from persistence.rate_limits import RateLimiter
from persistence.valkey_rate_limits import ValkeyRateLimiter
from reservation.access import Role
from reservation.show import SalesPolicy
from serve_app.api.limits import LimitRates, RequestLimits
from tests.support.access import signed_in
from tests.support.http_house import BOOKING, BROWSE, House, as_customer, open_client, open_house
from tests.support.quick_postgres import quick_postgres

SECRET = "gateway-secret-gateway-secret"
CONNECTIONS = 50
HALL_LABELS = [f"Stalls-{row}-{seat}" for row in "AB" for seat in range(1, 9)]
PATIENT_MS = 10_000
MANY = SalesPolicy(live_holds_per_customer_max=100, seats_per_customer_max=100)


@pytest.fixture(scope="module")
async def postgres_dsn() -> AsyncIterator[str]:
    """A server that can count statements, whoever sends them."""
    settings = {"shared_preload_libraries": "pg_stat_statements"}
    with quick_postgres(settings=settings) as server:
        await migrate(server.dsn())
        yield server.dsn()


@pytest.fixture(scope="module")
async def house(postgres_dsn: str) -> AsyncIterator[House]:
    async with open_house(postgres_dsn) as house:
        yield house


def limits_of(limiter: RateLimiter | None = None, **rates: int) -> RequestLimits:
    """These limits, and no others."""
    unlimited = dict.fromkeys(LimitRates.__dataclass_fields__, 0)
    return RequestLimits(
        limiter or MemoryRateLimiter(), LimitRates(**unlimited | rates), gateway_secret=SECRET
    )


def through_gateway(address: str) -> dict[str, str]:
    return {"X-Housefull-Client": address, "X-Housefull-Gateway": SECRET}


@asynccontextmanager
async def clients_of(app: FastAPI, count: int) -> AsyncIterator[list[httpx.AsyncClient]]:
    """So many clients of one application, each with a connection of its own."""
    async with open_client(app, BOOKING) as first:
        clients = [first]
        for _ in range(count - 1):
            transport = httpx.ASGITransport(app, root_path=BOOKING)
            clients.append(httpx.AsyncClient(transport=transport, base_url=first.base_url))
        yield clients
        for client in clients[1:]:
            await client.aclose()


async def hold_from_everywhere(app: FastAPI, show_id: str, name: str = "ann") -> Counter[str]:
    """What one account hears that holds a place from 50 connections at the same moment."""
    async with clients_of(app, CONNECTIONS) as clients:
        answers = await asyncio.gather(
            *(
                client.post(
                    f"/shows/{show_id}/holds",
                    json={"admissions": [{"tier": "standing", "count": 1}], "seats": []},
                    headers=as_customer(name),
                )
                for client in clients
            )
        )
    return Counter(
        "held" if answer.status_code == 201 else answer.json()["code"] for answer in answers
    )


async def test_of_50_holds_at_once_an_account_gets_as_many_as_the_show_allows(
    house: House,
) -> None:
    policy = SalesPolicy(live_holds_per_customer_max=3)
    show_id = await house.add_show(policy=policy)
    heard = await hold_from_everywhere(house.booking_app(), show_id)
    assert heard == {"held": 3, "too_many_holds": CONNECTIONS - 3}
    assert (await house.stored(show_id))[0] == 3


async def test_of_50_seats_at_once_an_account_gets_as_many_as_the_show_allows(
    house: House,
) -> None:
    policy = SalesPolicy(seats_per_customer_max=7, live_holds_per_customer_max=100)
    show_id = await house.add_show(policy=policy)
    heard = await hold_from_everywhere(house.booking_app(), show_id)
    assert heard == {"held": 7, "too_many_seats": CONNECTIONS - 7}


@pytest.mark.parametrize("counted", ["memory", "valkey"])
async def test_of_50_holds_at_once_exactly_as_many_go_on_as_the_limit_of_requests_allows(
    house: House, counted: str, tmp_path: Path
) -> None:
    show_id = await house.add_show(policy=MANY)
    if counted == "memory":
        app = house.booking_app(limits=limits_of(holds=20))
        heard = await hold_from_everywhere(app, show_id)
    else:
        with EmbeddedValkey(tmp_path / "valkey") as valkey:
            limiter = ValkeyRateLimiter(valkey.url, timeout_ms=PATIENT_MS)
            app = house.booking_app(limits=limits_of(limiter, holds=20))
            heard = await hold_from_everywhere(app, show_id)
    assert heard == {"held": 20, "too_many_requests": CONNECTIONS - 20}
    assert (await house.stored(show_id))[0] == 20


async def test_accounts_do_not_use_up_each_other_s_limits(house: House) -> None:
    show_id = await house.add_show(policy=MANY)
    app = house.booking_app(limits=limits_of(holds=4))
    assert (await hold_from_everywhere(app, show_id, "ann"))["held"] == 4
    assert (await hold_from_everywhere(app, show_id, "bob"))["held"] == 4


async def test_every_route_of_an_account_has_a_limit(house: House) -> None:
    show_id = await house.add_show()
    limits = limits_of(holds=1, commands=4, reads=4)
    async with open_client(house.booking_app(limits=limits), BOOKING) as booking:
        headers = {**signed_in("cleo", Role.BOX_OFFICE), "Idempotency-Key": "k"}
        body = {"seats": [HALL_LABELS[0]]}
        held = await booking.post(f"/shows/{show_id}/holds", json=body, headers=headers)
        assert held.status_code == 201, held.text
        hold = f"/holds/{held.json()['hold_id']}"
        commands = (
            ("POST", f"{hold}/extend", None),
            ("POST", f"{hold}/confirm", {"payment": "counter"}),
            ("DELETE", hold, None),
            ("POST", f"/bookings/bkg{hold[10:]}/cancel", None),
        )
        reads = ("/holds", hold, "/bookings", f"/bookings/bkg{hold[10:]}")
        first = [
            (await booking.request(method, path, json=json, headers=headers)).status_code
            for method, path, json in commands
        ]
        first += [(await booking.get(path, headers=headers)).status_code for path in reads]
        assert 429 not in first, first
        again = [await booking.post(f"/shows/{show_id}/holds", json=body, headers=headers)]
        for method, path, json in commands:
            again.append(await booking.request(method, path, json=json, headers=headers))
        again += [await booking.get(path, headers=headers) for path in reads]
        assert [answer.status_code for answer in again] == [429] * 9
        for answer in again:
            assert int(answer.headers["retry-after"]) >= 1
            assert answer.headers["ratelimit"].endswith(f";t={answer.headers['retry-after']}")
            assert answer.headers["ratelimit-policy"]
            assert answer.json()["code"] == "too_many_requests"


async def test_requests_over_a_limit_never_reach_the_database(
    house: House, postgres_dsn: str
) -> None:
    show_id = await house.add_show()
    app = house.booking_app(limits=limits_of(holds=1, commands=1, reads=1, address=30))
    async with open_client(app, BOOKING) as booking, statement_counts(postgres_dsn) as counts:

        async def ask(times: int) -> Counter[int]:
            answers: Counter[int] = Counter()
            for number in range(times):
                headers = as_customer("dora")
                seats = {"seats": [HALL_LABELS[number % 16]]}
                hold = f"/shows/{show_id}/holds"
                for answer in (
                    await booking.post(hold, json=seats, headers=headers),
                    await booking.get("/bookings", headers=headers),
                    await booking.post("/bookings/bkg_x/cancel", headers=headers),
                    await booking.get("/readyz", headers=through_gateway("198.51.100.9")),
                ):
                    answers[answer.status_code] += 1
            return answers

        await ask(40)
        await counts.restart()
        asked = await ask(50)
        reads = await counts.reads()
        assert asked[429] >= 195, asked
        # A few were admitted meanwhile, because time goes on.
        assert sum(reads.values()) <= (200 - asked[429]) * 4, reads


async def test_an_address_over_its_limit_is_refused_in_every_application(house: House) -> None:
    for app, prefix, path in (
        (house.booking_app(limits=limits_of(address=3)), BOOKING, "/holds"),
        (house.browse_app(limits=limits_of(address=3)), BROWSE, "/shows"),
    ):
        async with open_client(app, prefix) as client:
            headers = through_gateway("198.51.100.7")
            statuses = [(await client.get(path, headers=headers)).status_code for _ in range(6)]
            assert statuses[3:] == [429] * 3
            assert 429 not in statuses[:3]
            other = await client.get(path, headers=through_gateway("198.51.100.8"))
            assert other.status_code != 429
            assert (await client.get(path)).status_code != 429, "nobody says where it is from"


async def test_pages_of_allowed_origins_can_read_refusals(house: House) -> None:
    origin = {"Origin": "https://tickets.example"}
    app = house.booking_app(limits=limits_of(reads=1), cors_origins=[origin["Origin"]])
    async with open_client(app, BOOKING) as booking:
        for _ in range(2):
            answer = await booking.get("/holds", headers={**signed_in("eve"), **origin})
        assert answer.status_code == 429
        assert answer.headers["access-control-allow-origin"] == origin["Origin"]
        assert "ratelimit" in answer.headers["access-control-expose-headers"]
