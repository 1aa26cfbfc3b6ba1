"""Signing keys: two may be alive, everybody knows the public parts, and one process adds one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.signing_keys import PublicKeyRow, SigningKeyRow
from tests.conftest import House
from tests.support.accounts import ask, opened_pool

HOUR_MS = 3_600_000


def now_ms() -> int:
    # Whether a key is alive is decided by the clock of the database.
    return time.time_ns() // 1_000_000


def make_row(kid: str, signs_from_at_ms: int = 0) -> SigningKeyRow:
    return SigningKeyRow(kid, f"private {kid}", kid.encode()[:1] * 32, 0, signs_from_at_ms)


@pytest.fixture
async def accounts(empty_house: House) -> AsyncIterator[Accounts]:
    async with opened_pool(empty_house.application_dsn, size_max=20) as pool:
        yield Accounts(pool)


async def test_keys_are_listed_in_the_order_in_which_they_sign(accounts: Accounts) -> None:
    later, first = make_row("later", 2_000), make_row("first", 1_000)
    assert await accounts.add_signing_key(later)
    assert await accounts.add_signing_key(first)
    assert await accounts.list_signing_keys() == [first, later]
    assert await accounts.list_public_keys() == [
        PublicKeyRow("first", b"f" * 32, 1_000, None),
        PublicKeyRow("later", b"l" * 32, 2_000, None),
    ]
    assert "private" not in repr(first).replace("private_pem", "")


async def test_a_key_is_added_once(accounts: Accounts) -> None:
    assert await accounts.add_signing_key(make_row("k"))
    assert not await accounts.add_signing_key(make_row("k", 5))
    assert await accounts.list_signing_keys() == [make_row("k")]


async def test_of_many_processes_that_start_at_once_one_adds_the_first_key(
    accounts: Accounts,
) -> None:
    results = await asyncio.gather(
        *(accounts.add_signing_key(make_row(f"k{n}"), only_first=True) for n in range(20))
    )
    assert results.count(True) == 1
    assert len(await accounts.list_signing_keys()) == 1
    # A rotation adds one in any case.
    assert await accounts.add_signing_key(make_row("next"))


async def test_a_retired_key_verifies_until_its_end_and_is_then_removed_whole(
    accounts: Accounts, empty_house: House
) -> None:
    end_ms = now_ms() + HOUR_MS
    for kid in ("old", "new"):
        await accounts.add_signing_key(make_row(kid))
    assert await accounts.retire_signing_key("old", end_ms)
    assert await accounts.retire_signing_key("old", end_ms + 1)
    assert not await accounts.retire_signing_key("nobody", end_ms)
    assert not await accounts.retire_signing_key("\0", end_ms)
    assert {row.kid: row.verifies_until_at_ms for row in await accounts.list_public_keys()} == {
        "old": end_ms,
        "new": None,
    }
    await accounts.retire_signing_key("old", now_ms() - 1)
    assert [row.kid for row in await accounts.list_public_keys()] == ["new"]
    assert [row.kid for row in await accounts.list_signing_keys()] == ["new"]
    assert (await accounts.purge(now_ms())).signing_keys == 1
    assert await ask(empty_house.superuser_dsn, "SELECT count(*) FROM signing_key") == 1


async def test_when_every_key_is_dead_a_first_one_may_be_added(accounts: Accounts) -> None:
    await accounts.add_signing_key(make_row("old"))
    await accounts.retire_signing_key("old", now_ms() - 1)
    assert await accounts.add_signing_key(make_row("new"), only_first=True)


async def test_every_application_may_read_the_public_parts_and_no_private_one(
    accounts: Accounts, empty_house: House
) -> None:
    await accounts.add_signing_key(make_row("k"))
    async with opened_pool(empty_house.application_dsn, role=None) as pool:
        reader = Accounts(pool)
        assert [row.kid for row in await reader.list_public_keys()] == ["k"]
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.list_signing_keys()
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.add_signing_key(make_row("mine"))


@pytest.mark.parametrize(
    ("row", "field"),
    [
        (SigningKeyRow("k" * 65, "p", b"x" * 32, 0, 0), "kid"),
        (SigningKeyRow("\0", "p", b"x" * 32, 0, 0), "kid"),
        (SigningKeyRow("a b", "p", b"x" * 32, 0, 0), "kid"),
        (SigningKeyRow("", "p", b"x" * 32, 0, 0), "kid"),
        (SigningKeyRow("k", "", b"x" * 32, 0, 0), "private_pem"),
        (SigningKeyRow("k", "p\0", b"x" * 32, 0, 0), "private_pem"),
        (SigningKeyRow("k", "p" * 2001, b"x" * 32, 0, 0), "private_pem"),
        (SigningKeyRow("k", "p", b"x" * 31, 0, 0), "public_raw"),
    ],
)
async def test_what_cannot_be_a_key_is_refused_by_the_name_of_its_field(
    accounts: Accounts, row: SigningKeyRow, field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        await accounts.add_signing_key(row)
