"""Keys that sign access tokens: the first one, the next one, and nobody who notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from reservation.access import Principal, Role
from reservation.ids import AccountId, SessionId
from serve_app.access.access_tokens import LIFETIME_S, TokenRefused
from serve_app.house.signing_keys import (
    FAREWELL_MS,
    PUBLICATION_MS,
    ensure_signing_key,
    rotate_signing_key,
)
from tests.support.account_house import ACCOUNT, AccountHouse, open_account_house
from tests.support.http_house import open_client

SOMEBODY = Principal(
    AccountId("acc_" + "0" * 20), Role.CUSTOMER, None, SessionId("ses_" + "0" * 20)
)


@pytest.fixture
async def house(application_dsn: str, tmp_path: Path) -> AsyncIterator[AccountHouse]:
    async with open_account_house(application_dsn, tmp_path / "mail") as house:
        yield house


@pytest.fixture
async def client(house: AccountHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.app(), ACCOUNT) as client:
        yield client


async def published(client: httpx.AsyncClient) -> set[str]:
    return {key["kid"] for key in (await client.get("/jwks.json")).json()["keys"]}


async def test_houses_that_start_together_make_one_key(house: AccountHouse) -> None:
    (first,) = await house.accounts.list_signing_keys()
    await rotate_signing_key(house.accounts, at_once=True)
    await asyncio.gather(*[ensure_signing_key(house.accounts) for _ in range(8)])
    (second,) = [key.kid for key in await house.accounts.list_signing_keys()]
    assert second != first.kid


async def test_a_new_key_is_published_first_and_then_signs_and_nobody_notices(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    (old_kid,) = await published(client)
    now_s = int(time.time())
    early = house.issuer.issue(SOMEBODY, now_s).encode()
    rotated = await rotate_signing_key(house.accounts)
    assert rotated.retired == (old_kid,)
    await house.learn()
    assert await published(client) == {old_kid, rotated.kid}

    # Until everybody has read it, the old one signs.
    begins_s = rotated.signs_from_at_ms // 1_000
    assert PUBLICATION_MS // 1_000 - 2 <= begins_s - now_s <= PUBLICATION_MS // 1_000 + 2
    before = house.issuer.issue(SOMEBODY, begins_s - 1).encode()
    after = house.issuer.issue(SOMEBODY, begins_s).encode()
    assert before.split(b".")[0] == early.split(b".")[0] != after.split(b".")[0]
    for token in (early, before, after):
        assert house.verifier.verify(token, begins_s) == SOMEBODY

    # The old one is there until the last token that it signed is over.
    last_s = begins_s - 1 + LIFETIME_S
    assert rotated.retired_until_at_ms == rotated.signs_from_at_ms + FAREWELL_MS
    assert rotated.retired_until_at_ms // 1_000 > last_s
    assert house.verifier.verify(before, last_s - 1) == SOMEBODY


async def test_a_key_that_somebody_else_has_is_worth_nothing_at_once(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    now_s = int(time.time())
    stolen = house.issuer.issue(SOMEBODY, now_s).encode()
    assert house.verifier.verify(stolen, now_s) == SOMEBODY
    rotated = await rotate_signing_key(house.accounts, at_once=True)
    await house.learn()
    assert await published(client) == {rotated.kid}
    with pytest.raises(TokenRefused):
        house.verifier.verify(stolen, now_s)
    fresh = house.issuer.issue(SOMEBODY, now_s + 1).encode()
    assert house.verifier.verify(fresh, now_s + 1) == SOMEBODY


async def test_keys_that_are_over_are_forgotten(house: AccountHouse) -> None:
    before = {key.kid for key in await house.accounts.list_signing_keys()}
    rotated = await rotate_signing_key(house.accounts)
    now_ms = time.time_ns() // 1_000_000
    await house.accounts.purge(now_ms + PUBLICATION_MS)
    kids = {key.kid for key in await house.accounts.list_signing_keys()}
    assert kids == before | {rotated.kid}
    await house.accounts.purge(rotated.retired_until_at_ms + 1)
    assert {key.kid for key in await house.accounts.list_signing_keys()} == {rotated.kid}
