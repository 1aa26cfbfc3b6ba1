"""Who tries too often is told so before a password is looked at."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from persistence.memory_rate_limits import MemoryRateLimiter
from reservation.access import Role
from serve_app.api.limits import LimitRates, RequestLimits
from tests.support.account_house import (
    ACCOUNT,
    PASSWORD,
    AccountHouse,
    bearer,
    log_in,
    new_email,
    open_account_house,
)
from tests.support.http_house import code_of, open_client

SECRET = "of the gateway"
RATES = LimitRates()


@pytest.fixture
async def house(application_dsn: str, tmp_path: Path) -> AsyncIterator[AccountHouse]:
    async with open_account_house(application_dsn, tmp_path / "mail") as house:
        yield house


@pytest.fixture
async def client(house: AccountHouse) -> AsyncIterator[httpx.AsyncClient]:
    # A clock that stands still: whatever a test takes, it is the same minute.
    limiter = MemoryRateLimiter(clock=lambda: 1_000.0)
    limits = RequestLimits(limiter, RATES, gateway_secret=SECRET)
    async with open_client(house.app(limits), ACCOUNT) as client:
        yield client


async def refused_after(
    count: int, house: AccountHouse, ask: Callable[[int], Awaitable[httpx.Response]]
) -> None:
    """``ask`` is let through so often, and then costs no hash and reads no letter's recipient."""
    for number in range(count):
        answer = await ask(number)
        assert answer.status_code != 429, number
    computed = house.hasher.computed
    await house.letters()
    for number in range(count, count + 2):
        answer = await ask(number)
        assert (answer.status_code, code_of(answer)) == (429, "too_many_requests")
        assert int(answer.headers["retry-after"]) > 0
    assert house.hasher.computed == computed
    assert await house.letters() == []


@pytest.mark.parametrize("is_known", [True, False])
async def test_one_account_is_tried_five_times_a_minute_whether_it_is_there_or_not(
    house: AccountHouse, client: httpx.AsyncClient, is_known: bool
) -> None:
    _, email = await house.make_account() if is_known else ("", new_email())

    async def ask(number: int) -> httpx.Response:
        spelling = email.upper() if number % 2 else email
        body = {"email": spelling, "password": f"guess number {number}"}
        return await client.post("/sessions", json=body)

    await refused_after(RATES.logins, house, ask)
    # Not even with the right password, and everybody else may still log in.
    answer = await client.post("/sessions", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 429
    await log_in(client, (await house.make_account())[1])


async def test_one_address_tries_twenty_accounts_a_minute(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    headers = {"X-Housefull-Gateway": SECRET, "X-Housefull-Client": "192.0.2.7"}

    async def ask(number: int) -> httpx.Response:
        body = {"email": f"nobody{number}@customer.example", "password": PASSWORD}
        return await client.post("/sessions", json=body, headers=headers)

    await refused_after(RATES.logins_of_address, house, ask)
    headers["X-Housefull-Client"] = "192.0.2.8"
    assert (await ask(1_000)).status_code == 401


async def test_whoever_has_a_token_cannot_guess_the_password_faster(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account()
    headers = bearer(await log_in(client, email))

    async def ask(number: int) -> httpx.Response:
        body = {"password": f"guess number {number}", "new_password": PASSWORD}
        return await client.put("/me/password", json=body, headers=headers)

    # The login was one of the five.
    await refused_after(RATES.logins - 1, house, ask)


@pytest.mark.parametrize("address", ["/accounts", "/password-resets", "/email-verifications"])
async def test_nobody_is_buried_in_letters(
    house: AccountHouse, client: httpx.AsyncClient, address: str
) -> None:
    _, email = await house.make_account(is_verified=False)
    body = {"email": email}
    if address == "/accounts":
        body |= {"password": PASSWORD, "name": "Ada"}

    async def ask(number: int) -> httpx.Response:
        return await client.post(address, json=body)

    await refused_after(RATES.mails, house, ask)


async def test_codes_and_keys_cannot_be_guessed_fast(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    headers = {"X-Housefull-Gateway": SECRET, "X-Housefull-Client": "192.0.2.7"}

    async def ask(number: int) -> httpx.Response:
        address, body = (
            ("/email-verifications/confirm", {"code": f"code {number}"}),
            ("/password-resets/confirm", {"code": f"code {number}", "password": PASSWORD}),
            ("/token", {"api_key": f"hfk_{number}"}),
        )[number % 3]
        return await client.post(address, json=body, headers=headers)

    await refused_after(RATES.account_requests_of_address, house, ask)


async def test_whoever_is_signed_in_is_counted_too(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    limiter = MemoryRateLimiter(clock=lambda: 1_000.0)
    rates = LimitRates(reads=3, commands=3, organiser=3)
    async with open_client(house.app(RequestLimits(limiter, rates)), ACCOUNT) as client:
        for role, asked in (
            (Role.CUSTOMER, [("GET", "/me"), ("GET", "/sessions"), ("GET", "/api-keys")]),
            (Role.CUSTOMER, [("PATCH", "/me"), ("POST", "/api-keys"), ("PUT", "/me/password")]),
            (Role.CUSTOMER, [("DELETE", "/sessions/x"), ("DELETE", "/api-keys/x")]),
            (Role.CUSTOMER, [("DELETE", "/sessions")]),
            (Role.ADMIN, [("GET", "/accounts"), ("GET", "/tenants"), ("POST", "/tenants")]),
            (Role.ADMIN, [("PUT", "/accounts/x/role"), ("POST", "/accounts/x/disable")]),
        ):
            headers = bearer(await log_in(client, (await house.make_account(role))[1]))
            for number in range(5):
                for method, address in asked:
                    answer = await client.request(method, address, headers=headers)
                    is_over = number * len(asked) + asked.index((method, address)) >= 3
                    assert (answer.status_code == 429) is is_over, (method, address, number)
