"""The audit log and the tenants it is about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.audit_log import DETAIL_BYTES_MAX, AuditEntry, write_entry
from persistence.migrate import ACCOUNTS_GROUP, ORGANISER_GROUP
from persistence.sessions import writing
from reservation.access import HOUSE_TENANT
from reservation.ids import AccountId, TenantId, is_tenant_id
from tests.conftest import House
from tests.support.accounts import NOW_MS, opened_pool

ANN = AccountId("acc_" + "a" * 20)
OTHER_TENANT = TenantId("tnt_" + "z" * 20)
ENTRY = AuditEntry(
    at_ms=NOW_MS,
    account_id=ANN,
    tenant_id=HOUSE_TENANT,
    action="show_cancelled",
    object_id="shw_" + "0" * 16,
    before={"status": "on_sale", "prices": [1, 2.5, None], "název": "Žižkov"},
    after={"status": "cancelled"},
    request_id="req-1",
)


@pytest.fixture
async def accounts(empty_house: House) -> AsyncIterator[Accounts]:
    async with opened_pool(empty_house.application_dsn) as pool:
        yield Accounts(pool)


async def test_an_entry_is_read_as_it_was_written(accounts: Accounts) -> None:
    bare = AuditEntry(NOW_MS, None, None, "keys_rotated", "")
    await accounts.append_audit(ENTRY)
    await accounts.append_audit(bare)
    page = await accounts.list_audit(None)
    assert [record.entry for record in page.records] == [bare, ENTRY]
    assert page.records[0].entry_id > page.records[1].entry_id
    assert page.next is None


async def test_a_tenant_sees_its_own_entries_page_by_page_newest_first(
    accounts: Accounts,
) -> None:
    for number in range(5):
        await accounts.append_audit(replace(ENTRY, action=f"own_{number}"))
        await accounts.append_audit(replace(ENTRY, action="other", tenant_id=OTHER_TENANT))
        await accounts.append_audit(replace(ENTRY, action="house", tenant_id=None))
    met: list[str] = []
    cursor: int | None = None
    while True:
        page = await accounts.list_audit(HOUSE_TENANT, cursor, limit=2)
        met += [record.entry.action for record in page.records]
        if (cursor := page.next) is None:
            break
    assert met == ["own_4", "own_3", "own_2", "own_1", "own_0"]
    assert len((await accounts.list_audit(None)).records) == 15
    assert (await accounts.list_audit(TenantId("\0"))).records == []
    for bad in (0, 101):
        with pytest.raises(ValueError, match=r"^limit: "):
            await accounts.list_audit(None, limit=bad)
    for bad in (-1, 2**63):
        with pytest.raises(ValueError, match=r"^cursor: "):
            await accounts.list_audit(None, bad)


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        (replace(ENTRY, action=""), "action"),
        (replace(ENTRY, action="a" * 101), "action"),
        (replace(ENTRY, object_id="\0"), "object_id"),
        (replace(ENTRY, object_id="o" * 201), "object_id"),
        (replace(ENTRY, request_id="\ud800"), "request_id"),
        (replace(ENTRY, account_id=AccountId("cus_1")), "account_id"),
        (replace(ENTRY, tenant_id=TenantId("\0")), "tenant_id"),
        (replace(ENTRY, before={"a": "\0"}), "before"),
        (replace(ENTRY, before={"a": "\ud800"}), "before"),
        (replace(ENTRY, after={"a": object()}), "after"),
        (replace(ENTRY, after={"a": "x" * DETAIL_BYTES_MAX}), "after"),
        (replace(ENTRY, after={"a": "ž" * (DETAIL_BYTES_MAX // 2)}), "after"),
    ],
)
async def test_what_cannot_be_stored_is_refused_by_the_name_of_its_field(
    accounts: Accounts, entry: AuditEntry, field: str
) -> None:
    with pytest.raises(ValueError, match=f"^{field}: "):
        await accounts.append_audit(entry)
    assert (await accounts.list_audit(None)).records == []


async def test_an_entry_in_a_transaction_shares_its_fate(
    accounts: Accounts, empty_house: House
) -> None:
    async with opened_pool(empty_house.application_dsn, ORGANISER_GROUP) as pool:

        async def change(action: str, fault: Exception | None) -> None:
            async with writing(pool) as connection, connection.transaction():
                await write_entry(connection, replace(ENTRY, action=action))
                if fault is not None:
                    raise fault

        await change(ENTRY.action, None)
        with pytest.raises(RuntimeError):
            await change("never", RuntimeError())
        page = await Accounts(pool).list_audit(HOUSE_TENANT)
    assert [record.entry for record in page.records] == [ENTRY]


@pytest.mark.parametrize("role", [ACCOUNTS_GROUP, ORGANISER_GROUP, None])
async def test_no_role_of_the_program_can_change_or_remove_an_entry(
    accounts: Accounts, empty_house: House, role: str | None
) -> None:
    await accounts.append_audit(ENTRY)
    async with opened_pool(empty_house.application_dsn, role) as pool:
        for statement in (
            "UPDATE audit_entry SET action = 'nothing'",
            "DELETE FROM audit_entry",
            "TRUNCATE audit_entry",
            "DROP TABLE audit_entry",
            "ALTER TABLE audit_entry DISABLE TRIGGER ALL",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)
    assert len((await accounts.list_audit(None)).records) == 1


async def test_not_even_the_owner_of_the_table_changes_an_entry_by_mistake(
    accounts: Accounts, empty_house: House
) -> None:
    await accounts.append_audit(ENTRY)
    owner = await asyncpg.connect(empty_house.superuser_dsn)
    for statement in (
        "UPDATE audit_entry SET action = 'nothing'",
        "DELETE FROM audit_entry",
        "TRUNCATE audit_entry",
    ):
        with pytest.raises(asyncpg.PostgresError, match="never changed or removed") as refused:
            await owner.execute(statement)
        assert refused.value.sqlstate == "HF010"
    await owner.close()
    assert [r.entry for r in (await accounts.list_audit(None)).records] == [ENTRY]


# --- tenants


async def test_the_house_is_a_tenant_from_the_start(accounts: Accounts, empty_house: House) -> None:
    async with opened_pool(empty_house.application_dsn, role=None) as pool:
        house = await Accounts(pool).find_tenant(HOUSE_TENANT)
    assert house is not None
    assert house.name == "House"


async def test_tenants_are_made_found_and_listed_page_by_page(accounts: Accounts) -> None:
    made = await asyncio.gather(*(accounts.create_tenant("Národní divadlo") for _ in range(5)))
    assert len(set(made)) == 5
    assert all(is_tenant_id(tenant_id) for tenant_id in made)
    found = await accounts.find_tenant(made[0])
    assert found is not None
    assert (found.tenant_id, found.name) == (made[0], "Národní divadlo")
    assert await accounts.find_tenant(OTHER_TENANT) is None
    assert await accounts.find_tenant(TenantId("\0")) is None
    met: list[TenantId] = []
    after: TenantId | None = None
    while True:
        page = await accounts.list_tenants(after, limit=2)
        met += [tenant.tenant_id for tenant in page.tenants]
        if (after := page.next) is None:
            break
    assert met == sorted([HOUSE_TENANT, *made])
    with pytest.raises(ValueError, match=r"^after: "):
        await accounts.list_tenants(TenantId("\0"))


async def test_a_tenant_is_made_together_with_its_entry_or_not_at_all(accounts: Accounts) -> None:
    def entry(tenant_id: TenantId) -> AuditEntry:
        return replace(ENTRY, tenant_id=tenant_id, object_id=tenant_id)

    tenant_id = await accounts.create_tenant("Opera", audit=entry)
    (record,) = (await accounts.list_audit(tenant_id)).records
    assert record.entry.object_id == tenant_id
    with pytest.raises(ValueError, match=r"^action: "):
        await accounts.create_tenant("Opera", audit=lambda made: replace(entry(made), action=""))
    assert len((await accounts.list_tenants()).tenants) == 2
    for name in ("", " ", "\0", "x" * 201):
        with pytest.raises(ValueError, match=r"^name: "):
            await accounts.create_tenant(name)
