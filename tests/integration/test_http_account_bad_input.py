"""What breaks servers, sent to every route of the account application; and everything that it
says about accounts, said back to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from persistence.embedded_postgres import EmbeddedPostgres
from reservation.access import HOUSE_TENANT, Role
from tests.conftest import APPLICATION_PASSWORD, APPLICATION_ROLE
from tests.support.account_house import (
    ACCOUNT,
    PASSWORD,
    AccountHouse,
    bearer,
    log_in,
    new_email,
    open_account_house,
)
from tests.support.http_house import code_of, fields_of, open_client

CODE = "c" * 43
BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/accounts", {"email": "a@b.cz", "password": PASSWORD, "name": "Ada"}),
    ("POST", "/email-verifications", {"email": "a@b.cz"}),
    ("POST", "/email-verifications/confirm", {"code": CODE}),
    ("POST", "/password-resets", {"email": "a@b.cz"}),
    ("POST", "/password-resets/confirm", {"code": CODE, "password": PASSWORD}),
    ("POST", "/sessions", {"email": "a@b.cz", "password": PASSWORD}),
    ("POST", "/sessions/refresh", {"refresh_token": CODE}),
    ("PUT", "/me/password", {"password": PASSWORD, "new_password": PASSWORD}),
    ("PATCH", "/me", {"name": "Ada"}),
    (
        "POST",
        "/api-keys",
        {"name": "till", "role": "customer", "expires_at": "2999-01-01T00:00:00Z"},
    ),
    ("POST", "/token", {"api_key": CODE}),
    ("PUT", "/accounts/{account_id}/role", {"role": "gate", "tenant_id": HOUSE_TENANT}),
    ("POST", "/tenants", {"name": "House"}),
]
WITHOUT_BODY = [
    ("DELETE", "/sessions"),
    ("DELETE", "/sessions/current"),
    ("DELETE", "/api-keys/key_" + "0" * 20),
    ("POST", "/accounts/{account_id}/disable"),
    ("POST", "/accounts/{account_id}/enable"),
]
IDS = [f"{method} {address}" for method, address, _ in BODIES]


@pytest.fixture(scope="module")
async def house(
    postgres: EmbeddedPostgres, shared_database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[AccountHouse]:
    """One for all tests here: each makes accounts of its own."""
    dsn = postgres.dsn(shared_database, APPLICATION_ROLE, APPLICATION_PASSWORD)
    async with open_account_house(dsn, tmp_path_factory.mktemp("mail")) as house:
        yield house


@pytest.fixture(scope="module")
async def client(house: AccountHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.app(), ACCOUNT) as client:
        yield client


class Admin:
    """An admin, and somebody he may do something to."""

    def __init__(self, headers: dict[str, str], account_id: str) -> None:
        self.headers = headers
        self.account_id = account_id

    def at(self, address: str) -> str:
        return address.format(account_id=self.account_id)


@pytest.fixture(scope="module")
async def admin(house: AccountHouse, client: httpx.AsyncClient) -> Admin:
    _, email = await house.make_account(Role.ADMIN)
    account_id, _ = await house.make_account()
    return Admin(bearer(await log_in(client, email)), account_id)


@pytest.mark.parametrize(("method", "address", "body"), BODIES, ids=IDS)
async def test_values_of_the_wrong_kind_are_refused_and_named(
    client: httpx.AsyncClient, admin: Admin, method: str, address: str, body: dict[str, Any]
) -> None:
    for field in body:
        wrong: object
        for wrong in (7, 7.5, True, [], {}, [body[field]], 2**70, "a\0b", "x" * 50_000):
            answer = await client.request(
                method, admin.at(address), json={**body, field: wrong}, headers=admin.headers
            )
            if isinstance(wrong, str) and "\0" in wrong and answer.status_code != 422:
                # A secret that nobody has is no mistake of form.
                assert answer.status_code in (401, 403, 404, 410, 202), answer.text
                continue
            assert answer.status_code == 422, (field, wrong, answer.text)
            assert fields_of(answer)[0].partition("[")[0] == field
            assert "x" * 200 not in answer.text


@pytest.mark.parametrize(("method", "address", "body"), BODIES, ids=IDS)
async def test_what_is_not_known_is_refused_and_named(
    client: httpx.AsyncClient, admin: Admin, method: str, address: str, body: dict[str, Any]
) -> None:
    answer = await client.request(
        method, admin.at(address), json={**body, "colour": "red"}, headers=admin.headers
    )
    assert (answer.status_code, fields_of(answer)) == (422, ["colour"])


@pytest.mark.parametrize(("method", "address", "body"), BODIES, ids=IDS)
async def test_what_is_no_json_is_refused(
    client: httpx.AsyncClient, admin: Admin, method: str, address: str, body: dict[str, Any]
) -> None:
    headers = {**admin.headers, "Content-Type": "application/json"}
    field = next(iter(body))
    for content in (
        b"",
        b"{",
        b"[]",
        b"null",
        f'{{"{field}": "\\ud800"}}'.encode(),
        f'{{"{field}": NaN}}'.encode(),
        f'{{"{field}": "a", "{field}": "b"}}'.encode(),
        b'{"x": "\xff"}',
    ):
        answer = await client.request(method, admin.at(address), content=content, headers=headers)
        assert answer.status_code in (400, 422), content
    answer = await client.request(
        method, admin.at(address), content=b'{"x": "' + b"x" * 1_000_000 + b'"}', headers=headers
    )
    assert (answer.status_code, code_of(answer)) == (413, "body_too_large")
    headers["Content-Type"] = "text/plain"
    answer = await client.request(method, admin.at(address), content=b"{}", headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize(("method", "address"), WITHOUT_BODY)
async def test_a_body_where_none_is_needed_must_be_empty(
    client: httpx.AsyncClient, admin: Admin, method: str, address: str
) -> None:
    answer = await client.request(
        method, admin.at(address), json={"account_id": "x"}, headers=admin.headers
    )
    assert (answer.status_code, fields_of(answer)) == (422, ["account_id"])


@pytest.mark.parametrize(
    "email",
    [
        "",
        "ada",
        "ada@localhost",
        "@customer.example",
        "ada@customer.example\r\nBcc: eve@customer.example",
        "a\0da@customer.example",
        "ada@customer.example ",
        "Ada <ada@customer.example>",
        "růže@customer.example",
        "ada@customer.example,eve@customer.example",
        "a" * 255 + "@customer.example",
        "‮ada@customer.example",
    ],
)
async def test_what_is_no_address_gets_no_account_and_no_letter(
    house: AccountHouse, client: httpx.AsyncClient, email: str
) -> None:
    await house.letters()
    for address, more in (
        ("/accounts", {"password": PASSWORD, "name": "Ada"}),
        ("/password-resets", {}),
        ("/email-verifications", {}),
    ):
        answer = await client.post(address, json={"email": email, **more})
        assert (answer.status_code, fields_of(answer)) == (422, ["email"])
    assert await house.letters() == []


@pytest.mark.parametrize(
    ("password", "is_taken"),
    [
        ("short", False),
        ("a" * 128, False),
        ("abcdabcdabcd", False),
        ("x" * 129, False),
        ("ADA@CUSTOMER.EXAMPLE", False),
        ("žluťoučký kůň 🐎", True),
        ("a\0null-character", True),
        ("correct horse " * 9, True),
    ],
)
async def test_passwords_are_long_and_otherwise_whatever_one_likes(
    house: AccountHouse, client: httpx.AsyncClient, password: str, is_taken: bool
) -> None:
    email = "ada@customer.example" if "CUSTOMER" in password else new_email()
    answer = await client.post(
        "/accounts", json={"email": email, "password": password, "name": "Ada"}
    )
    await house.letters()
    if is_taken:
        assert answer.status_code == 202
        await log_in(client, email, password)
        refused = await client.post("/sessions", json={"email": email, "password": password[:-1]})
        assert refused.status_code == 401
    else:
        assert (answer.status_code, fields_of(answer)) == (422, ["password"])


@pytest.mark.parametrize(
    ("name", "is_taken"),
    [
        ("", False),
        ("   ", False),
        ("a\nb", False),
        ("a\0b", False),
        ("\u202eeve", False),
        ("x" * 101, False),
        ("Anne-Marie O’Neill", True),
        ("李小龍", True),
        ("\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", True),
        ("👩\u200d👧", True),
    ],
)
async def test_names_are_text_on_one_line(
    client: httpx.AsyncClient, admin: Admin, name: str, is_taken: bool
) -> None:
    answer = await client.patch("/me", json={"name": name}, headers=admin.headers)
    if is_taken:
        assert (answer.status_code, answer.json()["name"]) == (200, name)
    else:
        assert (answer.status_code, fields_of(answer)) == (422, ["name"])


async def test_whatever_it_says_about_accounts_cannot_be_said_back_to_it(
    house: AccountHouse, client: httpx.AsyncClient, admin: Admin
) -> None:
    """Mass assignment: every member of every response, sent with every request that has a body."""
    key = (await client.post("/api-keys", json={"name": "x"}, headers=admin.headers)).json()
    tenant = (await client.post("/tenants", json={"name": "x"}, headers=admin.headers)).json()
    session = await log_in(client, (await house.make_account())[1])
    said: dict[str, Any] = {"password_hash": "x", "is_admin": True, "kind": "x"}
    for answer in (
        (await client.get("/me", headers=admin.headers)).json(),
        (await client.get("/accounts", headers=admin.headers)).json()["accounts"][0],
        (await client.get("/sessions", headers=admin.headers)).json()["sessions"][0],
        (await client.get("/api-keys", headers=admin.headers)).json()["api_keys"][0],
        (await client.get("/jwks.json")).json()["keys"][0],
        key,
        tenant,
        session,
    ):
        said |= answer
    assert {"account_id", "role", "state", "tenant_id", "email_verified", "x"} <= said.keys()
    for method, address, body in BODIES:
        for member, value in said.items():
            if member in body:
                continue
            answer = await client.request(
                method, admin.at(address), json={**body, member: value}, headers=admin.headers
            )
            assert answer.status_code == 422, (address, member)
            assert member in fields_of(answer), (address, member)
    me = await client.get("/me", headers=admin.headers)
    assert me.json()["role"] == "admin"


@pytest.mark.parametrize("address", ["/accounts", "/api-keys", "/tenants"])
@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "101"}, "limit"),
        ({"limit": "1_0"}, "limit"),
        ({"cursor": "W10"}, "cursor"),
        ({"cursor": "WzEsIm90aGVyIl0"}, "cursor"),
        ({"cursor": "x" * 300}, "cursor"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_a_wrong_page_of_a_list_is_refused(
    client: httpx.AsyncClient,
    admin: Admin,
    address: str,
    parameters: dict[str, str],
    field: str,
) -> None:
    answer = await client.get(address, params=parameters, headers=admin.headers)
    assert (answer.status_code, fields_of(answer)) == (422, [field])


async def test_signing_up_with_a_role_makes_no_account(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    email = new_email()
    body = {"email": email, "password": PASSWORD, "name": "Ada", "role": "admin"}
    answer = await client.post("/accounts", json=body)
    assert (answer.status_code, fields_of(answer)) == (422, ["role"])
    assert await house.accounts.find_by_email(email) is None
