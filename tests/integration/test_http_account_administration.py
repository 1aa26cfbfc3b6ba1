"""Who may do what to other people's accounts, and that each of it is written down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from persistence.audit_log import AuditEntry
from reservation.access import HOUSE_TENANT, Role
from reservation.ids import TenantId
from tests.support.account_house import (
    ACCOUNT,
    AccountHouse,
    bearer,
    log_in,
    open_account_house,
)
from tests.support.http_house import code_of, fields_of, open_client

NOBODY = "acc_" + "0" * 20


@pytest.fixture
async def house(application_dsn: str, tmp_path: Path) -> AsyncIterator[AccountHouse]:
    async with open_account_house(application_dsn, tmp_path / "mail") as house:
        yield house


@pytest.fixture
async def client(house: AccountHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.app(), ACCOUNT) as client:
        yield client


async def signed_in(
    house: AccountHouse,
    client: httpx.AsyncClient,
    role: Role,
    tenant_id: TenantId = HOUSE_TENANT,
) -> tuple[str, dict[str, str]]:
    """Somebody's account id, and the header that goes with a session of theirs."""
    account_id, email = await house.make_account(role, tenant_id)
    return account_id, bearer(await log_in(client, email))


async def entries(house: AccountHouse) -> list[AuditEntry]:
    """The audit log, the oldest entry first."""
    page = await house.accounts.list_audit(None)
    return [record.entry for record in reversed(page.records)]


async def test_an_admin_gives_roles_and_every_change_is_written_down(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    admin_id, admin = await signed_in(house, client, Role.ADMIN)
    account_id, customer = await signed_in(house, client, Role.CUSTOMER)
    key = (await client.post("/api-keys", json={"name": "x"}, headers=customer)).json()
    tenant = await client.post("/tenants", json={"name": "Grand Theatre"}, headers=admin)
    assert tenant.status_code == 201
    tenant_id = tenant.json()["tenant_id"]
    body = {"role": "organiser", "tenant_id": tenant_id}
    headers = {**admin, "X-Request-Id": "request-7"}
    answer = await client.put(f"/accounts/{account_id}/role", json=body, headers=headers)
    assert answer.status_code == 200
    assert (answer.json()["role"], answer.json()["tenant_id"]) == ("organiser", tenant_id)
    # A repetition changes nothing, so there is nothing to write down.
    again = await client.put(f"/accounts/{account_id}/role", json=body, headers=headers)
    assert again.json() == answer.json()
    made, changed = await entries(house)
    assert (made.action, made.account_id, made.object_id) == ("tenant_created", admin_id, tenant_id)
    assert made.after == {"name": "Grand Theatre"}
    assert (changed.action, changed.account_id) == ("role_set", admin_id)
    assert (changed.object_id, changed.request_id) == (account_id, "request-7")
    assert changed.before == {"role": "customer", "tenant_id": None}
    assert changed.after == body
    # What the account was is over, with everything that says so.
    await house.learn()
    assert (await client.get("/me", headers=customer)).status_code == 401
    assert (await client.post("/token", json={"api_key": key["api_key"]})).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"role": "gate"}, 422, "tenant_id"),
        ({"role": "admin", "tenant_id": HOUSE_TENANT}, 422, "tenant_id"),
        ({"role": "customer", "tenant_id": HOUSE_TENANT}, 422, "tenant_id"),
        ({"role": "gate", "tenant_id": "house"}, 422, "tenant_id"),
        ({"role": "king"}, 422, "role"),
        ({"tenant_id": HOUSE_TENANT}, 422, "role"),
        ({"role": "gate", "tenant_id": "tnt_" + "9" * 20}, 404, None),
    ],
)
async def test_a_role_that_makes_no_sense_is_refused(
    house: AccountHouse,
    client: httpx.AsyncClient,
    body: dict[str, str],
    status: int,
    field: str | None,
) -> None:
    _, admin = await signed_in(house, client, Role.ADMIN)
    account_id, _ = await house.make_account()
    answer = await client.put(f"/accounts/{account_id}/role", json=body, headers=admin)
    assert answer.status_code == status
    if field is None:
        assert code_of(answer) == "tenant_not_found"
    else:
        assert fields_of(answer) == [field]
    assert await entries(house) == []


async def test_an_organiser_hires_and_dismisses_staff_of_his_own(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, organiser = await signed_in(house, client, Role.ORGANISER)
    account_id, _ = await house.make_account()
    address = f"/accounts/{account_id}/role"
    for role, tenant_id in (
        ("gate", HOUSE_TENANT),
        ("box_office", HOUSE_TENANT),
        ("customer", None),
    ):
        answer = await client.put(address, json={"role": role}, headers=organiser)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["role"], answer.json().get("tenant_id")) == (role, tenant_id)
    written = await entries(house)
    assert [entry.action for entry in written] == ["role_set"] * 3
    assert {entry.tenant_id for entry in written} == {HOUSE_TENANT}


async def test_an_organiser_can_do_nothing_to_those_who_are_not_his(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    other_tenant = await house.accounts.create_tenant("Another house")
    own_id, organiser = await signed_in(house, client, Role.ORGANISER)
    strangers = [
        (await house.make_account(role, tenant_id))[0]
        for role, tenant_id in (
            (Role.ADMIN, HOUSE_TENANT),
            (Role.ORGANISER, HOUSE_TENANT),
            (Role.ORGANISER, other_tenant),
            (Role.GATE, other_tenant),
            (Role.BOX_OFFICE, other_tenant),
        )
    ]
    for account_id in (*strangers, NOBODY, "nonsense"):
        answer = await client.put(
            f"/accounts/{account_id}/role", json={"role": "gate"}, headers=organiser
        )
        assert (answer.status_code, code_of(answer)) == (404, "account_not_found"), account_id
        for verb in ("disable", "enable"):
            answer = await client.post(f"/accounts/{account_id}/{verb}", headers=organiser)
            assert (answer.status_code, code_of(answer)) == (403, "role_not_allowed")
    customer_id, _ = await house.make_account()
    for role in ("organiser", "admin"):
        answer = await client.put(
            f"/accounts/{customer_id}/role", json={"role": role}, headers=organiser
        )
        assert (answer.status_code, code_of(answer)) == (403, "role_not_allowed")
    answer = await client.put(
        f"/accounts/{customer_id}/role",
        json={"role": "gate", "tenant_id": other_tenant},
        headers=organiser,
    )
    assert (answer.status_code, code_of(answer)) == (404, "tenant_not_found")
    answer = await client.put(
        f"/accounts/{own_id}/role", json={"role": "customer"}, headers=organiser
    )
    assert (answer.status_code, code_of(answer)) == (409, "own_account")
    assert await entries(house) == []


async def test_an_admin_locks_an_account_out_and_lets_it_in_again(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    admin_id, admin = await signed_in(house, client, Role.ADMIN)
    account_id, email = await house.make_account()
    session = await log_in(client, email)
    for _ in range(2):
        answer = await client.post(f"/accounts/{account_id}/disable", headers=admin)
        assert (answer.status_code, answer.json()["state"]) == (200, "disabled")
    await house.learn()
    assert (await client.get("/me", headers=bearer(session))).status_code == 401
    refused = await client.post(
        "/sessions/refresh", json={"refresh_token": session["refresh_token"]}
    )
    assert refused.status_code == 401
    # Not even with the letter that gets everybody else back in.
    await client.post("/password-resets", json={"email": email})
    assert await house.letters() == []
    answer = await client.post(f"/accounts/{account_id}/enable", headers=admin)
    assert answer.json()["state"] == "active"
    await log_in(client, email)
    assert [entry.action for entry in await entries(house)] == [
        "account_disabled",
        "account_enabled",
    ]
    for verb in ("disable", "enable"):
        answer = await client.post(f"/accounts/{admin_id}/{verb}", headers=admin)
        assert (answer.status_code, code_of(answer)) == (409, "own_account")
    answer = await client.put(
        f"/accounts/{admin_id}/role", json={"role": "customer"}, headers=admin
    )
    assert (answer.status_code, code_of(answer)) == (409, "own_account")


async def test_an_admin_finds_everybody_and_an_organiser_his_staff(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    other_tenant = await house.accounts.create_tenant("Another house")
    own_id, organiser = await signed_in(house, client, Role.ORGANISER)
    gate_id, _ = await house.make_account(Role.GATE)
    await house.make_account(Role.GATE, other_tenant)
    customer_id, email = await house.make_account()
    _, admin = await signed_in(house, client, Role.ADMIN)

    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get("/accounts", params={"limit": "2", **cursor}, headers=admin)
        assert answer.status_code == 200
        page = answer.json()
        assert 1 <= len(page["accounts"]) <= 2
        found += [account["email"] for account in page["accounts"]]
        if "next" not in page:
            break
        cursor = {"cursor": page["next"]}
    assert len(found) == 5
    assert found == sorted(found)

    answer = await client.get("/accounts", params={"email": email.upper()}, headers=admin)
    assert [account["account_id"] for account in answer.json()["accounts"]] == [customer_id]
    assert "password" not in answer.text

    answer = await client.get("/accounts", params={"limit": "1"}, headers=organiser)
    staff = answer.json()["accounts"]
    answer = await client.get(
        "/accounts", params={"cursor": answer.json()["next"]}, headers=organiser
    )
    staff += answer.json()["accounts"]
    assert {account["account_id"] for account in staff} == {own_id, gate_id}
    assert "next" not in answer.json()
    answer = await client.get("/accounts", params={"email": "a"}, headers=organiser)
    assert (answer.status_code, fields_of(answer)) == (422, ["email"])


async def test_tenants_are_listed_page_by_page(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, admin = await signed_in(house, client, Role.ADMIN)
    for number in range(4):
        await client.post("/tenants", json={"name": f"House {number}"}, headers=admin)
    names: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        answer = await client.get("/tenants", params={"limit": "2", **cursor}, headers=admin)
        names += [tenant["name"] for tenant in answer.json()["tenants"]]
        if "next" not in answer.json():
            break
        cursor = {"cursor": answer.json()["next"]}
    assert sorted(names) == ["House", "House 0", "House 1", "House 2", "House 3"]
    refused = await client.get("/tenants", params={"cursor": "x"}, headers=admin)
    assert (refused.status_code, fields_of(refused)) == (422, ["cursor"])


async def test_a_change_and_its_entry_are_there_together_or_not_at_all(
    house: AccountHouse, client: httpx.AsyncClient, fresh_database: str
) -> None:
    _, admin = await signed_in(house, client, Role.ADMIN)
    account_id, _ = await house.make_account()
    superuser = await asyncpg.connect(fresh_database)
    try:
        await superuser.execute("REVOKE INSERT ON audit_entry FROM housefull_accounts")
        body = {"role": "gate", "tenant_id": HOUSE_TENANT}
        for method, address, content in (
            ("PUT", f"/accounts/{account_id}/role", body),
            ("POST", f"/accounts/{account_id}/disable", {}),
            ("POST", "/tenants", {"name": "Grand Theatre"}),
        ):
            answer = await client.request(method, address, json=content, headers=admin)
            assert answer.status_code == 500
    finally:
        await superuser.execute("GRANT INSERT ON audit_entry TO housefull_accounts")
        await superuser.close()
    unchanged = (await client.get("/accounts", headers=admin)).json()["accounts"]
    assert {one["role"] for one in unchanged} == {"admin", "customer"}
    assert {one["state"] for one in unchanged} == {"active"}
    assert len((await client.get("/tenants", headers=admin)).json()["tenants"]) == 1
