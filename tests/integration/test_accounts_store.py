"""Accounts: one for an address in any spelling, and out at once when they lose a right."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.account_registry import AccountState, Contact
from persistence.accounts import Accounts
from persistence.audit_log import AuditEntry
from persistence.login_sessions import RefreshRefused
from persistence.migrate import ORGANISER_GROUP
from reservation.access import HOUSE_TENANT, Role
from reservation.faults import ShowUnavailable
from reservation.ids import AccountId, TenantId, is_account_id
from tests.conftest import House
from tests.support.accounts import (
    HASH,
    NOW_MS,
    OTHER_HASH,
    ask,
    digest,
    log_in,
    make_account,
    opened_pool,
)

NOBODY = AccountId("acc_" + "z" * 20)
NO_TENANT = TenantId("tnt_" + "z" * 20)


@pytest.fixture
async def accounts(empty_house: House) -> AsyncIterator[Accounts]:
    async with opened_pool(empty_house.application_dsn, size_max=30) as pool:
        yield Accounts(pool)


# --- signing up and being found


async def test_who_signs_up_is_a_customer_and_is_found_by_id_and_address(
    accounts: Accounts,
) -> None:
    account_id = await accounts.sign_up("Ann@Example.com", HASH, "Ann Čech", NOW_MS)
    assert account_id is not None
    assert is_account_id(account_id)
    account = await accounts.find(account_id)
    assert account is not None
    assert account == await accounts.find_by_email("ann@example.COM")
    assert (account.email, account.name, account.password_hash) == (
        "Ann@Example.com",
        "Ann Čech",
        HASH,
    )
    assert (account.role, account.tenant_id, account.state) == (
        Role.CUSTOMER,
        None,
        AccountState.ACTIVE,
    )
    assert (account.email_verified_at_ms, account.created_at_ms) == (None, NOW_MS)
    assert HASH not in repr(account)


@pytest.mark.parametrize(
    "other",
    ["ANN@EXAMPLE.COM", " ann@example.com ", "\uff41nn@example.com", "ann@example\uff0ecom"],
)
async def test_an_address_that_is_taken_in_another_spelling_is_taken(
    accounts: Accounts, other: str
) -> None:
    await make_account(accounts, "Ann@example.com")
    assert await accounts.sign_up(other, OTHER_HASH, "Eve", NOW_MS) is None
    found = await accounts.find_by_email(other)
    assert found is not None
    assert (found.password_hash, found.name) == (HASH, "Ann")


async def test_composed_and_decomposed_letters_are_one_address_and_accents_are_not(
    accounts: Accounts,
) -> None:
    await make_account(accounts, "\u017dofie@example.com")
    assert await accounts.find_by_email("z\u030cofie@example.com") is not None
    assert await accounts.find_by_email("zofie@example.com") is None


async def test_of_twenty_who_sign_up_with_one_address_at_once_one_succeeds(
    accounts: Accounts, empty_house: House
) -> None:
    spellings = ["ann@example.com", "ANN@example.com", "Ann@Example.Com", "aNN@example.com"]
    results = await asyncio.gather(
        *(accounts.sign_up(spellings[n % 4], HASH, f"Ann {n}", NOW_MS) for n in range(20))
    )
    assert sum(result is not None for result in results) == 1
    assert await ask(empty_house.superuser_dsn, "SELECT count(*) FROM account") == 1


async def test_ids_and_addresses_of_nobody_are_found_as_nobody(accounts: Accounts) -> None:
    for account_id in (NOBODY, AccountId("acc_\0"), AccountId("' OR 1=1"), AccountId("")):
        assert await accounts.find(account_id) is None
        assert not await accounts.set_password(account_id, HASH)
        assert not await accounts.set_name(account_id, "x")
        assert not await accounts.set_role(account_id, Role.ADMIN, None)
        assert not await accounts.disable(account_id)
        assert not await accounts.enable(account_id)
    assert await accounts.find_by_email("nobody@example.com") is None


LONE_SURROGATE = "a\ud800"


@pytest.mark.parametrize(
    ("email", "password_hash", "name", "field"),
    [
        ("a\0@example.com", HASH, "Ann", "email"),
        ("a" * 243 + "@example.com", HASH, "Ann", "email"),
        (LONE_SURROGATE, HASH, "Ann", "email"),
        (" \t", HASH, "Ann", "email"),
        ("\ufdfa" * 100, HASH, "Ann", "email"),
        ("a@example.com", "h\0", "Ann", "password_hash"),
        ("a@example.com", "h" * 501, "Ann", "password_hash"),
        ("a@example.com", "", "Ann", "password_hash"),
        ("a@example.com", HASH, "A\0", "name"),
        ("a@example.com", HASH, "A" * 201, "name"),
        ("a@example.com", HASH, LONE_SURROGATE, "name"),
    ],
)
async def test_what_cannot_be_stored_is_refused_by_the_name_of_its_field(
    accounts: Accounts, email: str, password_hash: str, name: str, field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: ") as refused:
        await accounts.sign_up(email, password_hash, name, NOW_MS)
    if field == "password_hash":
        assert not password_hash or password_hash not in str(refused.value)


async def test_the_longest_texts_can_be_stored(accounts: Accounts) -> None:
    email = "ž" * 242 + "@example.com"
    account_id = await accounts.sign_up(email, "h" * 500, "ž" * 200, NOW_MS)
    found = await accounts.find_by_email(email.upper())
    assert found is not None
    assert (found.account_id, len(found.name)) == (account_id, 200)


async def test_an_address_that_nobody_can_have_is_refused_when_it_is_looked_for(
    accounts: Accounts,
) -> None:
    for email in ("a\0", "a" * 255, "", LONE_SURROGATE):
        with pytest.raises(ValueError, match=r"^email: "):
            await accounts.find_by_email(email)


async def test_an_account_can_be_made_with_its_role_and_a_verified_address(
    accounts: Accounts,
) -> None:
    account_id = await accounts.sign_up(
        "b@example.com",
        HASH,
        "Box",
        NOW_MS,
        role=Role.BOX_OFFICE,
        tenant_id=HOUSE_TENANT,
        is_verified=True,
    )
    assert account_id is not None
    account = await accounts.find(account_id)
    assert account is not None
    assert (account.role, account.tenant_id) == (Role.BOX_OFFICE, HOUSE_TENANT)
    assert account.email_verified_at_ms == NOW_MS


@pytest.mark.parametrize(
    ("role", "tenant_id"),
    [
        (Role.ORGANISER, None),
        (Role.GATE, None),
        (Role.BOX_OFFICE, None),
        (Role.CUSTOMER, HOUSE_TENANT),
        (Role.ADMIN, HOUSE_TENANT),
        (Role.GATE, NO_TENANT),
        (Role.GATE, TenantId("tnt_\0")),
    ],
)
async def test_a_role_that_does_not_fit_its_tenant_is_refused(
    accounts: Accounts, role: Role, tenant_id: TenantId | None
) -> None:
    with pytest.raises(ValueError, match=r"^tenant_id: "):
        await accounts.sign_up("b@example.com", HASH, "B", NOW_MS, role=role, tenant_id=tenant_id)
    account_id = await make_account(accounts)
    with pytest.raises(ValueError, match=r"^tenant_id: "):
        await accounts.set_role(account_id, role, tenant_id)
    account = await accounts.find(account_id)
    assert account is not None
    assert account.role is Role.CUSTOMER


# --- lists


async def test_staff_is_listed_page_by_page_and_only_of_its_tenant(accounts: Accounts) -> None:
    other = await accounts.create_tenant("Other")
    staff = {
        await make_account(accounts, f"{n}@example.com", Role.GATE, HOUSE_TENANT) for n in range(7)
    }
    await make_account(accounts, "other@example.com", Role.GATE, other)
    await make_account(accounts, "customer@example.com")
    met: list[AccountId] = []
    after: AccountId | None = None
    while True:
        page = await accounts.list_staff(HOUSE_TENANT, after, limit=3)
        met += [account.account_id for account in page.accounts]
        if page.next is None:
            break
        assert len(page.accounts) == 3
        after = AccountId(page.next)
    assert met == sorted(staff)
    assert (await accounts.list_staff(TenantId("tnt_?"))).accounts == []
    for bad in (0, 101):
        with pytest.raises(ValueError, match=r"^limit: "):
            await accounts.list_staff(HOUSE_TENANT, limit=bad)
    with pytest.raises(ValueError, match=r"^after: "):
        await accounts.list_staff(HOUSE_TENANT, AccountId("x\0"))


async def test_accounts_are_searched_by_the_beginning_of_their_address(accounts: Accounts) -> None:
    emails = ["Anna@example.com", "ann@example.com", "ann_b@x.org", "bob@example.com", "ANN%@x.org"]
    for email in emails:
        await make_account(accounts, email)
    found: list[str] = []
    after: str | None = None
    while True:
        page = await accounts.search_accounts("aNN", after, limit=2)
        found += [account.email for account in page.accounts]
        if (after := page.next) is None:
            break
    assert found == ["ANN%@x.org", "ann@example.com", "ann_b@x.org", "Anna@example.com"]
    assert [a.email for a in (await accounts.search_accounts("ann%")).accounts] == ["ANN%@x.org"]
    assert len((await accounts.search_accounts()).accounts) == 5
    for field, arguments in (("email_prefix", ("a\0", None)), ("after", ("", "b" * 255))):
        with pytest.raises(ValueError, match=f"^{field}: "):
            await accounts.search_accounts(*arguments)


async def test_contacts_are_told_to_those_who_organise_and_nothing_else_is(
    accounts: Accounts, empty_house: House
) -> None:
    ann = await make_account(accounts, "ann@example.com")
    bob = await make_account(accounts, "Bob@example.com")
    async with opened_pool(empty_house.application_dsn, ORGANISER_GROUP) as pool:
        organiser = Accounts(pool)
        contacts = await organiser.find_contacts([ann, NOBODY, bob, "cus_\0old", ann])
        assert contacts == {
            ann: Contact("Ann", "ann@example.com"),
            bob: Contact("Ann", "Bob@example.com"),
        }
        assert await organiser.find_contacts([]) == {}
        with pytest.raises(ValueError, match=r"^account_ids: "):
            await organiser.find_contacts([ann] * 1001)
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await organiser.find(ann)


# --- changes


async def test_a_new_password_ends_every_session_and_keeps_the_api_keys(
    accounts: Accounts,
) -> None:
    ann = await make_account(accounts)
    bob = await make_account(accounts, "bob@example.com")
    anns, bobs = await log_in(accounts, ann), await log_in(accounts, bob)
    await accounts.create_api_key(ann, "till", Role.CUSTOMER, digest("k"), None, NOW_MS)
    before = await accounts.use_api_key(digest("k"), NOW_MS)
    cursor, _ = await accounts.revoked_since(0)
    assert await accounts.set_password(ann, OTHER_HASH)
    account = await accounts.find(ann)
    assert account is not None
    assert account.password_hash == OTHER_HASH
    refused = await accounts.rotate_refresh(anns.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED
    assert not isinstance(
        await accounts.rotate_refresh(bobs.refresh_token, NOW_MS, client="c"), RefreshRefused
    )
    after = await accounts.use_api_key(digest("k"), NOW_MS)
    assert before is not None
    assert after is not None
    assert before.principal.session_id != after.principal.session_id
    _, revoked = await accounts.revoked_since(cursor)
    assert set(revoked) == {anns.principal.session_id, before.principal.session_id}


async def test_the_same_password_with_other_costs_ends_no_session(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    opened = await log_in(accounts, ann)
    assert await accounts.renew_password_hash(ann, HASH, OTHER_HASH)
    assert not await accounts.renew_password_hash(ann, HASH, "third")
    assert not await accounts.renew_password_hash(NOBODY, HASH, "third")
    account = await accounts.find(ann)
    assert account is not None
    assert account.password_hash == OTHER_HASH
    rotation = await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client="c")
    assert not isinstance(rotation, RefreshRefused)


async def test_another_role_ends_sessions_and_keys_and_the_same_role_ends_nothing(
    accounts: Accounts,
) -> None:
    bob = await make_account(accounts, role=Role.BOX_OFFICE, tenant_id=HOUSE_TENANT)
    opened = await log_in(accounts, bob)
    assert opened.principal.tenant_id == HOUSE_TENANT
    await accounts.create_api_key(bob, "till", Role.BOX_OFFICE, digest("k"), None, NOW_MS)
    assert await accounts.set_role(bob, Role.BOX_OFFICE, HOUSE_TENANT)
    rotation = await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client="c")
    assert not isinstance(rotation, RefreshRefused)
    assert await accounts.use_api_key(digest("k"), NOW_MS) is not None

    other = await accounts.create_tenant("Other")
    assert await accounts.set_role(bob, Role.BOX_OFFICE, other)
    refused = await accounts.rotate_refresh(rotation.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED
    assert await accounts.use_api_key(digest("k"), NOW_MS) is None
    assert (await log_in(accounts, bob)).principal.tenant_id == other


async def test_a_role_is_changed_only_from_what_it_is_believed_to_be(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    gate = (Role.GATE, HOUSE_TENANT)
    assert not await accounts.set_role(ann, Role.CUSTOMER, None, only_from=gate)
    assert not await accounts.set_role(ann, *gate, only_from=(Role.GATE, None))
    assert await accounts.set_role(ann, *gate, only_from=(Role.CUSTOMER, None))
    account = await accounts.find(ann)
    assert account is not None
    assert (account.role, account.tenant_id) == gate


async def test_who_is_disabled_is_out_at_once_and_may_come_back(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    opened = await log_in(accounts, ann)
    await accounts.create_api_key(ann, "till", Role.CUSTOMER, digest("k"), None, NOW_MS)
    key = await accounts.use_api_key(digest("k"), NOW_MS)
    assert key is not None
    assert await accounts.disable(ann)
    assert await accounts.disable(ann)
    assert await accounts.open_session(ann, "x", NOW_MS, password_hash=HASH) is None
    refused = await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED
    assert await accounts.use_api_key(digest("k"), NOW_MS) is None
    _, revoked = await accounts.revoked_since(0)
    assert {opened.principal.session_id, key.principal.session_id} <= set(revoked)

    assert await accounts.enable(ann)
    again = await log_in(accounts, ann)
    back = await accounts.use_api_key(digest("k"), NOW_MS)
    assert back is not None
    _, revoked = await accounts.revoked_since(0)
    assert not {again.principal.session_id, back.principal.session_id} & set(revoked)
    refused = await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED


async def test_a_change_and_its_audit_entry_are_one_thing(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    admin = await make_account(accounts, "admin@example.com", Role.ADMIN)

    def entry(action: str) -> AuditEntry:
        return AuditEntry(NOW_MS, admin, None, action, ann)

    async def actions() -> list[str]:
        page = await accounts.list_audit(None)
        return [record.entry.action for record in reversed(page.records)]

    await accounts.set_role(ann, Role.GATE, HOUSE_TENANT, audit=entry("role_set"))
    await accounts.set_role(ann, Role.GATE, HOUSE_TENANT, audit=entry("nothing"))
    await accounts.disable(ann, audit=entry("disabled"))
    await accounts.disable(ann, audit=entry("nothing"))
    await accounts.enable(ann, audit=entry("enabled"))
    await accounts.set_role(NOBODY, Role.ADMIN, None, audit=entry("nothing"))
    assert await actions() == ["role_set", "disabled", "enabled"]
    with pytest.raises(ValueError, match=r"^action: "):
        await accounts.disable(ann, audit=entry("a\0"))
    account = await accounts.find(ann)
    assert account is not None
    assert account.state is AccountState.ACTIVE


async def test_a_name_is_changed_or_refused_by_its_field(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    assert await accounts.set_name(ann, "Ann the Second")
    account = await accounts.find(ann)
    assert account is not None
    assert account.name == "Ann the Second"
    with pytest.raises(ValueError, match=r"^name: "):
        await accounts.set_name(ann, "\0")


# --- when the database does not answer


async def test_a_database_that_is_away_is_a_fault(empty_house: House) -> None:
    async with opened_pool(empty_house.application_dsn) as pool:
        accounts = Accounts(pool)
    with pytest.raises(ShowUnavailable):
        await accounts.find(NOBODY)
    with pytest.raises(ShowUnavailable):
        await accounts.sign_up("a@example.com", HASH, "A", NOW_MS)
    with pytest.raises(ShowUnavailable):
        await accounts.purge(NOW_MS)


async def test_an_account_that_somebody_holds_for_too_long_is_a_fault(
    empty_house: House, accounts: Accounts
) -> None:
    ann = await make_account(accounts)
    holding = await asyncpg.connect(empty_house.superuser_dsn)
    async with holding.transaction():
        await holding.execute("SELECT FROM account FOR UPDATE")
        with pytest.raises(ShowUnavailable, match="LockNotAvailable"):
            await accounts.disable(ann)
    await holding.close()
