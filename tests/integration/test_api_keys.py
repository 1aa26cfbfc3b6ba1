"""API keys: never above their account, never after it, and gone at once when they are revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from persistence.accounts import Accounts
from persistence.api_keys import API_KEYS_PER_ACCOUNT_MAX, KEY_MEMORY_MS, ApiKeyRefused
from reservation.access import HOUSE_TENANT, TENANT_ROLES, Role, key_roles_of
from reservation.ids import AccountId, ApiKeyId, is_api_key_id, is_session_id
from tests.conftest import House
from tests.support.accounts import NOW_MS, ask, digest, make_account, opened_pool

NOBODY = AccountId("acc_" + "z" * 20)


@pytest.fixture
async def accounts(empty_house: House) -> AsyncIterator[Accounts]:
    async with opened_pool(empty_house.application_dsn, size_max=20) as pool:
        yield Accounts(pool)


async def make_key(
    accounts: Accounts,
    account_id: AccountId,
    key: str = "k",
    role: Role = Role.CUSTOMER,
    expires_at_ms: int | None = None,
) -> ApiKeyId:
    made = await accounts.create_api_key(
        account_id, "till", role, digest(key), expires_at_ms, NOW_MS
    )
    assert not isinstance(made, ApiKeyRefused)
    assert is_api_key_id(made)
    return made


@pytest.mark.parametrize("role", list(Role))
async def test_a_key_has_every_role_that_is_not_above_its_account(
    accounts: Accounts, role: Role
) -> None:
    tenant_id = HOUSE_TENANT if role in TENANT_ROLES else None
    account_id = await make_account(accounts, role=role, tenant_id=tenant_id)
    for key_role in Role:
        made = await accounts.create_api_key(
            account_id, "till", key_role, digest(key_role), None, NOW_MS
        )
        if key_role not in key_roles_of(role):
            assert made is ApiKeyRefused.ROLE_ABOVE_ACCOUNT
            assert await accounts.use_api_key(digest(key_role), NOW_MS) is None
            continue
        use = await accounts.use_api_key(digest(key_role), NOW_MS)
        assert use is not None
        assert use.key_id == made
        assert use.principal.account_id == account_id
        assert use.principal.role is key_role
        assert use.principal.tenant_id == (tenant_id if key_role in TENANT_ROLES else None)
        assert is_session_id(use.principal.session_id)


async def test_a_key_is_listed_with_its_last_use_and_without_itself(
    accounts: Accounts, empty_house: House
) -> None:
    ann = await make_account(accounts)
    key_id = await make_key(accounts, ann, expires_at_ms=NOW_MS + 10)
    await accounts.use_api_key(digest("k"), NOW_MS + 5)
    page = await accounts.list_api_keys(ann)
    assert page.keys == [(key_id, "till", Role.CUSTOMER, NOW_MS, NOW_MS + 10, NOW_MS + 5, None)]
    assert page.keys[0].role is Role.CUSTOMER
    assert page.next is None


async def test_keys_are_listed_page_by_page_and_only_to_their_account(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    bob = await make_account(accounts, "bob@example.com")
    keys = sorted([await make_key(accounts, ann, f"{n}") for n in range(5)])
    await make_key(accounts, bob, "bob's")
    met: list[ApiKeyId] = []
    after: ApiKeyId | None = None
    while True:
        page = await accounts.list_api_keys(ann, after, limit=2)
        met += [key.key_id for key in page.keys]
        if (after := page.next) is None:
            break
    assert met == keys
    assert (await accounts.list_api_keys(AccountId("\0"))).keys == []
    with pytest.raises(ValueError, match=r"^limit: "):
        await accounts.list_api_keys(ann, limit=0)
    with pytest.raises(ValueError, match=r"^after: "):
        await accounts.list_api_keys(ann, ApiKeyId("\0"))


async def test_a_key_works_until_it_expires(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await make_key(accounts, ann, expires_at_ms=NOW_MS + 10)
    assert await accounts.use_api_key(digest("k"), NOW_MS + 9) is not None
    assert await accounts.use_api_key(digest("k"), NOW_MS + 10) is None


async def test_a_revoked_key_and_its_access_tokens_are_over(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    bob = await make_account(accounts, "bob@example.com")
    key_id = await make_key(accounts, ann)
    use = await accounts.use_api_key(digest("k"), NOW_MS)
    assert use is not None
    assert not await accounts.revoke_api_key(key_id, account_id=bob)
    assert not await accounts.revoke_api_key(ApiKeyId("\0"))
    assert await accounts.revoke_api_key(key_id, account_id=ann)
    assert not await accounts.revoke_api_key(key_id)
    assert await accounts.use_api_key(digest("k"), NOW_MS) is None
    assert (await accounts.revoked_since(0))[1] == [use.principal.session_id]
    (row,) = (await accounts.list_api_keys(ann)).keys
    assert row.revoked_at_ms is not None


async def test_no_more_keys_than_allowed_even_when_all_are_asked_for_at_once(
    accounts: Accounts,
) -> None:
    ann = await make_account(accounts)
    asked = API_KEYS_PER_ACCOUNT_MAX + 10
    results = await asyncio.gather(
        *(
            accounts.create_api_key(ann, "till", Role.CUSTOMER, digest(f"{n}"), None, NOW_MS)
            for n in range(asked)
        )
    )
    assert results.count(ApiKeyRefused.TOO_MANY) == 10
    made = next(result for result in results if not isinstance(result, ApiKeyRefused))
    await accounts.revoke_api_key(made)
    await make_key(accounts, ann, "one more")


async def test_nobody_and_the_disabled_get_no_key(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.disable(ann)
    for account_id in (ann, NOBODY, AccountId("\0")):
        made = await accounts.create_api_key(
            account_id, "till", Role.CUSTOMER, digest("k"), None, NOW_MS
        )
        assert made is ApiKeyRefused.NO_ACCOUNT


async def test_a_key_whose_account_lost_the_role_lets_nobody_in(
    accounts: Accounts, empty_house: House
) -> None:
    bob = await make_account(accounts, role=Role.GATE, tenant_id=HOUSE_TENANT)
    await make_key(accounts, bob, role=Role.GATE)
    # Past set_role, which would have revoked the key.
    await ask(
        empty_house.superuser_dsn,
        "UPDATE account SET role = 'customer', tenant_id = NULL RETURNING 1",
    )
    assert await accounts.use_api_key(digest("k"), NOW_MS) is None


@pytest.mark.parametrize(
    ("name", "key", "expires_at_ms", "field"),
    [
        ("", b"k" * 32, None, "name"),
        (" ", b"k" * 32, None, "name"),
        ("\0", b"k" * 32, None, "name"),
        ("n" * 101, b"k" * 32, None, "name"),
        ("n", b"k" * 31, None, "key_sha256"),
        ("n", b"k" * 32, NOW_MS, "expires_at_ms"),
        ("n", b"k" * 32, 2**63, "expires_at_ms"),
    ],
)
async def test_what_cannot_be_a_key_is_refused_by_the_name_of_its_field(
    accounts: Accounts, name: str, key: bytes, expires_at_ms: int | None, field: str
) -> None:
    ann = await make_account(accounts)
    with pytest.raises(ValueError, match=f"^{field}: "):
        await accounts.create_api_key(ann, name, Role.CUSTOMER, key, expires_at_ms, NOW_MS)


async def test_keys_that_ended_are_remembered_for_a_while(
    accounts: Accounts, empty_house: House
) -> None:
    ann = await make_account(accounts)
    await make_key(accounts, ann, "for ever")
    expired = await make_key(accounts, ann, "expired", expires_at_ms=NOW_MS + 1)
    revoked = await make_key(accounts, ann, "revoked")
    await accounts.revoke_api_key(revoked)
    await ask(
        empty_house.superuser_dsn,
        "UPDATE api_key SET revoked_at_ms = $1 WHERE revoked_at_ms IS NOT NULL RETURNING 1",
        NOW_MS,
    )
    assert (await accounts.purge(NOW_MS + KEY_MEMORY_MS - 1)).api_keys == 0
    assert (await accounts.purge(NOW_MS + KEY_MEMORY_MS)).api_keys == 1
    assert expired in {key.key_id for key in (await accounts.list_api_keys(ann)).keys}
    assert (await accounts.purge(NOW_MS + KEY_MEMORY_MS + 1)).api_keys == 1
    assert await accounts.use_api_key(digest("for ever"), NOW_MS) is not None
