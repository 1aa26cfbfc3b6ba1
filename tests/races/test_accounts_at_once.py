"""What happens to one account at the same moment: nothing outlives the change that forbids it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.login_sessions import OpenedSession
from reservation.access import Role
from reservation.ids import AccountId
from tests.conftest import House
from tests.support.accounts import (
    HASH,
    MINUTE_MS,
    NOW_MS,
    OTHER_HASH,
    digest,
    make_account,
    opened_pool,
    until_somebody_waits,
)


@pytest.fixture
async def accounts(empty_house: House) -> AsyncIterator[Accounts]:
    async with opened_pool(empty_house.application_dsn, size_max=30) as pool:
        yield Accounts(pool)


async def test_a_login_with_the_old_password_does_not_outlive_the_change_of_the_password(
    accounts: Accounts, empty_house: House
) -> None:
    ann = await make_account(accounts)
    dsn = empty_house.superuser_dsn
    changing = await asyncpg.connect(dsn)
    async with changing.transaction():
        await changing.execute("UPDATE account SET password_hash = $1", OTHER_HASH)
        login = asyncio.create_task(accounts.open_session(ann, "thief", NOW_MS, password_hash=HASH))
        await until_somebody_waits(dsn)
        assert not login.done()
    await changing.close()
    assert await login is None
    assert await accounts.list_sessions(ann, NOW_MS) == []


@pytest.mark.parametrize("what", ["disable", "set_password", "set_role"])
async def test_a_login_that_was_faster_is_ended_by_the_change_that_waited_for_it(
    accounts: Accounts, empty_house: House, what: str
) -> None:
    changes: dict[str, Callable[[AccountId], Awaitable[object]]] = {
        "disable": accounts.disable,
        "set_password": lambda account_id: accounts.set_password(account_id, OTHER_HASH),
        "set_role": lambda account_id: accounts.set_role(account_id, Role.ADMIN, None),
    }

    async def as_login(change: Awaitable[object]) -> None:
        await change

    for round_number in range(15):
        ann = await make_account(accounts, f"{what}{round_number}@example.com")
        steps: list[Awaitable[OpenedSession | None]] = [
            accounts.open_session(ann, "x", NOW_MS, password_hash=HASH) for _ in range(12)
        ]
        steps.insert(round_number % 12, as_login(changes[what](ann)))
        results = await asyncio.gather(*steps)
        opened = [result for result in results if result is not None]
        live = {row.session_id for row in await accounts.list_sessions(ann, NOW_MS)}
        if what == "set_role":
            assert live == {
                o.principal.session_id for o in opened if o.principal.role is Role.ADMIN
            }
        else:
            assert live == set()
        _, revoked = await accounts.revoked_since(0)
        gone = {o.principal.session_id for o in opened} - live
        assert gone <= set(revoked)


async def test_a_key_is_not_let_in_as_what_its_account_was_a_moment_ago(
    accounts: Accounts, empty_house: House
) -> None:
    ann = await make_account(accounts)
    await accounts.create_api_key(ann, "till", Role.CUSTOMER, digest("k"), None, NOW_MS)
    dsn = empty_house.superuser_dsn
    disabling = await asyncpg.connect(dsn)
    async with disabling.transaction():
        await disabling.execute("UPDATE account SET state = 'disabled'")
        await disabling.execute("UPDATE api_key SET session_id = $1", "ses_" + "0" * 20)
        use = asyncio.create_task(accounts.use_api_key(digest("k"), NOW_MS))
        await until_somebody_waits(dsn)
    await disabling.close()
    assert await use is None


async def test_everything_at_once_on_one_account_never_deadlocks(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.create_api_key(ann, "till", Role.CUSTOMER, digest("k"), None, NOW_MS)

    async def life(number: int) -> None:
        for step in range(8):
            opened = await accounts.open_session(ann, "x", NOW_MS, password_hash=None)
            if opened is not None:
                await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client="c")
                await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client=f"{number}")
            await accounts.use_api_key(digest("k"), NOW_MS)
            match (number + step) % 4:
                case 0:
                    await accounts.disable(ann)
                    await accounts.enable(ann)
                case 1:
                    await accounts.set_password(ann, HASH)
                case 2:
                    await accounts.revoke_all(ann)
                case _:
                    await accounts.purge(NOW_MS + 400 * 24 * 60 * MINUTE_MS)

    await asyncio.gather(*(life(number) for number in range(12)))
    assert await accounts.enable(ann)
    assert await accounts.open_session(ann, "x", NOW_MS, password_hash=None) is not None
