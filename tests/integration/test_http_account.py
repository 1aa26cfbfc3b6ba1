"""The account application from outside: from signing up to logging out, and everybody who tries
to get in otherwise.
"""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from reservation.access import HOUSE_TENANT, Role
from serve_app.access.access_tokens import TokenVerifier
from serve_app.access.key_ring import PublicKey
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

OTHER_PASSWORD = "another horse, another battery"


@pytest.fixture
async def house(application_dsn: str, tmp_path: Path) -> AsyncIterator[AccountHouse]:
    async with open_account_house(application_dsn, tmp_path / "mail") as house:
        yield house


@pytest.fixture
async def client(house: AccountHouse) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(house.app(), ACCOUNT) as client:
        yield client


def sign_up_body(email: str, password: str = PASSWORD) -> dict[str, str]:
    return {"email": email, "password": password, "name": "Ada"}


async def test_from_signing_up_to_logging_out(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    email = new_email()
    answer = await client.post("/accounts", json=sign_up_body(email))
    assert (answer.status_code, answer.json()) == (202, {"status": "letter_sent"})
    session = await log_in(client, email)
    me = await client.get("/me", headers=bearer(session))
    assert me.status_code == 200
    assert me.json()["email_verified"] is False
    assert (me.json()["role"], me.json()["name"], me.json()["email"]) == ("customer", "Ada", email)

    answer = await client.post("/email-verifications/confirm", json={"code": await house.code()})
    assert answer.status_code == 204
    me = await client.get("/me", headers=bearer(session))
    assert me.json()["email_verified"] is True

    answer = await client.post(
        "/sessions/refresh", json={"refresh_token": session["refresh_token"]}
    )
    assert answer.status_code == 200
    next_session = answer.json()
    assert next_session["refresh_token"] != session["refresh_token"]
    assert next_session["access_token"] != session["access_token"]

    assert (
        await client.delete("/sessions/current", headers=bearer(next_session))
    ).status_code == 204
    await house.learn()
    for access in (session, next_session):
        refused = await client.get("/me", headers=bearer(access))
        assert (refused.status_code, code_of(refused)) == (401, "token_invalid")
    refused = await client.post(
        "/sessions/refresh", json={"refresh_token": next_session["refresh_token"]}
    )
    assert (refused.status_code, code_of(refused)) == (401, "refresh_token_invalid")


async def test_a_known_address_is_answered_like_an_unknown_one_and_its_owner_is_told(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    email = new_email()
    first = await client.post("/accounts", json=sign_up_body(email))
    (welcome,) = await house.letters()
    computed = house.hasher.computed
    second = await client.post("/accounts", json=sign_up_body(email.upper(), OTHER_PASSWORD))
    assert house.hasher.computed - computed == computed
    assert (first.status_code, first.content) == (second.status_code, second.content)
    (warning,) = await house.letters()
    assert warning["To"] == welcome["To"] == email
    assert warning["Subject"] == "You have an account already"
    # The one who came second has changed nothing.
    await log_in(client, email)
    refused = await client.post("/sessions", json={"email": email, "password": OTHER_PASSWORD})
    assert code_of(refused) == "login_failed"


async def test_asking_for_letters_is_answered_alike_for_everybody(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, known = await house.make_account(is_verified=False)
    for address, subject in (
        ("/password-resets", "Choose a new password"),
        ("/email-verifications", "Confirm your e-mail address"),
    ):
        answers = [
            await client.post(address, json={"email": email}) for email in (known, new_email())
        ]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].content == answers[1].content
        (letter,) = await house.letters()
        assert (letter["To"], letter["Subject"]) == (known, subject)


async def test_a_login_computes_one_hash_whoever_tries(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    account_id, email = await house.make_account()
    answers = []
    for name, password in (
        (email, "wrong password"),
        (new_email(), "wrong password"),
        ("no address at all", "wrong password"),
        ("růže@customer.example", PASSWORD),
        (email, ""),
    ):
        computed = house.hasher.computed
        answers.append(await client.post("/sessions", json={"email": name, "password": password}))
        assert house.hasher.computed - computed == 1, name
    assert len({answer.content for answer in answers}) == 1
    assert {(answer.status_code, code_of(answer)) for answer in answers} == {(401, "login_failed")}
    assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    await house.accounts.disable(account_id)
    computed = house.hasher.computed
    refused = await client.post("/sessions", json={"email": email, "password": "wrong password"})
    assert code_of(refused) == "login_failed"
    refused = await client.post("/sessions", json={"email": email, "password": PASSWORD})
    assert (refused.status_code, code_of(refused)) == (403, "account_disabled")
    assert house.hasher.computed - computed == 2


async def test_a_refresh_token_that_is_used_twice_ends_its_session(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account()
    stolen = await log_in(client, email)
    other = await log_in(client, email)
    body = {"refresh_token": stolen["refresh_token"]}
    mine = await client.post("/sessions/refresh", json=body, headers={"User-Agent": "mine"})
    assert mine.status_code == 200
    thief = await client.post("/sessions/refresh", json=body, headers={"User-Agent": "a thief's"})
    assert (thief.status_code, code_of(thief)) == (401, "refresh_token_invalid")
    mine_again = await client.post(
        "/sessions/refresh", json={"refresh_token": mine.json()["refresh_token"]}
    )
    assert code_of(mine_again) == "refresh_token_invalid"
    await house.learn()
    assert (await client.get("/me", headers=bearer(mine.json()))).status_code == 401
    # What the family did is not the other session's fault.
    assert (await client.get("/me", headers=bearer(other))).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"Idempotency-Key": "first try"}, {"User-Agent": "program of a phone"}]
)
async def test_a_refresh_whose_answer_was_lost_can_be_repeated(
    house: AccountHouse, client: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    headers = {name: value.replace(" ", "-") for name, value in headers.items()}
    _, email = await house.make_account()
    session = await log_in(client, email)
    body = {"refresh_token": session["refresh_token"]}
    first = await client.post("/sessions/refresh", json=body, headers=headers)
    again = await client.post("/sessions/refresh", json=body, headers=headers)
    assert first.json()["refresh_token"] == again.json()["refresh_token"]
    assert (await client.get("/me", headers=bearer(again.json()))).status_code == 200


async def test_a_repetition_with_another_key_is_no_repetition(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account()
    body = {"refresh_token": (await log_in(client, email))["refresh_token"]}
    statuses = [
        (
            await client.post("/sessions/refresh", json=body, headers={"Idempotency-Key": key})
        ).status_code
        for key in ("one", "two")
    ]
    assert statuses == [200, 401]


async def test_a_new_password_ends_every_session_and_the_old_password(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account(is_verified=False)
    sessions = [await log_in(client, email) for _ in range(2)]
    assert (await client.post("/password-resets", json={"email": email})).status_code == 202
    body = {"code": await house.code(), "password": OTHER_PASSWORD}
    assert (await client.post("/password-resets/confirm", json=body)).status_code == 204
    (letter,) = await house.letters()
    assert (letter["To"], letter["Subject"]) == (email, "Your password was changed")
    await house.learn()
    for session in sessions:
        assert (await client.get("/me", headers=bearer(session))).status_code == 401
        refused = await client.post(
            "/sessions/refresh", json={"refresh_token": session["refresh_token"]}
        )
        assert refused.status_code == 401
    refused = await client.post("/sessions", json={"email": email, "password": PASSWORD})
    assert code_of(refused) == "login_failed"
    session = await log_in(client, email, OTHER_PASSWORD)
    # Whoever could read the letter owns the address.
    me = await client.get("/me", headers=bearer(session))
    assert me.json()["email_verified"] is True
    again = await client.post("/password-resets/confirm", json=body)
    assert (again.status_code, code_of(again)) == (410, "code_not_valid")


async def test_a_code_is_for_one_thing_and_for_one_time(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account(is_verified=False)
    await client.post("/email-verifications", json={"email": email})
    code = await house.code()
    body = {"code": code, "password": OTHER_PASSWORD}
    refused = await client.post("/password-resets/confirm", json=body)
    assert code_of(refused) == "code_not_valid"
    for status in (204, 410):
        answer = await client.post("/email-verifications/confirm", json={"code": code})
        assert answer.status_code == status
    refused = await client.post("/email-verifications/confirm", json={"code": "x" * 43})
    assert code_of(refused) == "code_not_valid"
    # There is nothing left to confirm.
    await client.post("/email-verifications", json={"email": email})
    assert await house.letters() == []


async def test_changing_a_password_takes_the_old_one_and_keeps_only_who_did_it(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account()
    session, other = await log_in(client, email), await log_in(client, email)
    body = {"password": "not the password", "new_password": OTHER_PASSWORD}
    refused = await client.put("/me/password", json=body, headers=bearer(session))
    assert (refused.status_code, code_of(refused)) == (403, "password_wrong")
    body["password"] = PASSWORD
    changed = await client.put("/me/password", json=body, headers=bearer(session))
    assert changed.status_code == 200
    await house.learn()
    assert (await client.get("/me", headers=bearer(session))).status_code == 401
    assert (await client.get("/me", headers=bearer(other))).status_code == 401
    assert (await client.get("/me", headers=bearer(changed.json()))).status_code == 200
    await log_in(client, email, OTHER_PASSWORD)


async def test_sessions_are_listed_and_ended_one_by_one_or_all_together(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account()
    phone = await log_in(client, email, **{"User-Agent": "a phone"})
    tablet = await log_in(client, email, **{"User-Agent": "a\ttablet" + "x" * 500})
    answer = await client.get("/sessions", headers=bearer(phone))
    sessions = {one["device"][:8]: one for one in answer.json()["sessions"]}
    assert sorted(sessions) == ["a phone", "atabletx"]
    assert sessions["a phone"]["is_current"]
    assert not sessions["atabletx"]["is_current"]
    address = f"/sessions/{sessions['atabletx']['session_id']}"
    _, stranger = await house.make_account()
    stranger_session = await log_in(client, stranger)
    for headers, status in (
        (bearer(stranger_session), 404),
        (bearer(phone), 204),
        (bearer(phone), 404),
    ):
        assert (await client.delete(address, headers=headers)).status_code == status
    await house.learn()
    assert (await client.get("/me", headers=bearer(tablet))).status_code == 401
    assert (await client.delete("/sessions", headers=bearer(phone))).status_code == 204
    await house.learn()
    assert (await client.get("/me", headers=bearer(phone))).status_code == 401
    assert (await client.get("/me", headers=bearer(stranger_session))).status_code == 200


async def test_a_name_can_be_changed_and_nothing_else(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account()
    headers = bearer(await log_in(client, email))
    answer = await client.patch("/me", json={"name": "  Růžena 🎭 "}, headers=headers)
    assert (answer.status_code, answer.json()["name"]) == (200, "Růžena 🎭")
    assert (await client.get("/me", headers=headers)).json() == answer.json()


async def test_a_key_of_a_machine_is_exchanged_for_tokens_until_it_is_deleted(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account(Role.BOX_OFFICE)
    headers = bearer(await log_in(client, email))
    created = await client.post("/api-keys", json={"name": "till 1"}, headers=headers)
    assert created.status_code == 201
    key = created.json()
    assert key["role"] == "box_office"
    token = await client.post("/token", json={"api_key": key["api_key"]})
    assert token.status_code == 200
    me = await client.get("/me", headers=bearer(token.json()))
    assert (me.json()["role"], me.json()["tenant_id"]) == ("box_office", HOUSE_TENANT)
    listed = (await client.get("/api-keys", headers=headers)).json()["api_keys"]
    assert [one["api_key_id"] for one in listed] == [key["api_key_id"]]
    assert "last_used_at" in listed[0]
    assert key["api_key"] not in (await client.get("/api-keys", headers=headers)).text

    _, stranger = await house.make_account()
    stranger_headers = bearer(await log_in(client, stranger))
    address = f"/api-keys/{key['api_key_id']}"
    assert (await client.delete(address, headers=stranger_headers)).status_code == 404
    assert (await client.delete(address, headers=headers)).status_code == 204
    assert (await client.delete(address, headers=headers)).status_code == 404
    refused = await client.post("/token", json={"api_key": key["api_key"]})
    assert (refused.status_code, code_of(refused)) == (401, "api_key_invalid")
    await house.learn()
    assert (await client.get("/me", headers=bearer(token.json()))).status_code == 401


async def test_no_key_can_do_more_than_whoever_made_it(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account(Role.ADMIN)
    headers = bearer(await log_in(client, email))
    body = {"name": "reader", "role": "customer"}
    key = (await client.post("/api-keys", json=body, headers=headers)).json()
    token = (await client.post("/token", json={"api_key": key["api_key"]})).json()
    # The machine of an admin is no admin, and cannot make one of itself.
    refused = await client.get("/accounts", headers=bearer(token))
    assert code_of(refused) == "role_not_allowed"
    body = {"name": "more", "role": "admin"}
    refused = await client.post("/api-keys", json=body, headers=bearer(token))
    assert (refused.status_code, code_of(refused)) == (403, "role_not_allowed")
    for role in ("organiser", "gate", "box_office"):
        refused = await client.post("/api-keys", json={"name": "x", "role": role}, headers=headers)
        assert code_of(refused) == "role_not_allowed"


async def test_keys_are_for_confirmed_addresses_and_there_are_not_too_many(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account(is_verified=False)
    refused = await client.post(
        "/api-keys", json={"name": "x"}, headers=bearer(await log_in(client, email))
    )
    assert (refused.status_code, code_of(refused)) == (403, "email_not_verified")
    _, email = await house.make_account()
    headers = bearer(await log_in(client, email))
    answers = [
        await client.post("/api-keys", json={"name": f"key {number}"}, headers=headers)
        for number in range(21)
    ]
    assert [answer.status_code for answer in answers] == [201] * 20 + [409]
    assert code_of(answers[-1]) == "too_many_api_keys"
    pages = []
    cursor: dict[str, str] = {}
    while True:
        page = await client.get("/api-keys", params={"limit": "8", **cursor}, headers=headers)
        pages.append([key["name"] for key in page.json()["api_keys"]])
        if "next" not in page.json():
            break
        cursor = {"cursor": page.json()["next"]}
    assert [len(page) for page in pages] == [8, 8, 4]
    assert len({name for page in pages for name in page}) == 20


async def test_a_key_that_is_over_is_refused(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    _, email = await house.make_account()
    headers = bearer(await log_in(client, email))
    body = {"name": "past", "expires_at": "2020-01-01T00:00:00Z"}
    refused = await client.post("/api-keys", json=body, headers=headers)
    assert (refused.status_code, fields_of(refused)) == (422, ["expires_at"])
    body["expires_at"] = "2999-01-01T00:00:00Z"
    created = await client.post("/api-keys", json=body, headers=headers)
    assert created.json()["expires_at"] == "2999-01-01T00:00:00.000Z"
    for key in ("", "hfk_", "hfk_" + "x" * 43, created.json()["api_key"] + "x"):
        refused = await client.post("/token", json={"api_key": key})
        assert refused.status_code in (401, 422)


async def test_anybody_can_check_a_token_by_the_published_keys(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    answer = await client.get("/jwks.json")
    assert answer.headers["cache-control"] == "public, max-age=30"
    (jwk,) = answer.json()["keys"]
    raw = base64.urlsafe_b64decode(jwk["x"] + "=")
    _, email = await house.make_account()
    session = await log_in(client, email)
    outside = TokenVerifier()
    outside.use_keys([PublicKey(jwk["kid"], raw)])
    outside.revoke([], 0)
    principal = outside.verify(session["access_token"].encode(), time.time())
    assert principal.role is Role.CUSTOMER


async def test_links_lead_to_the_site_that_is_set(
    house: AccountHouse, client: httpx.AsyncClient
) -> None:
    house.site_url = "https://tickets.housefull.example"
    async with open_client(house.app(), ACCOUNT) as client:
        _, email = await house.make_account(is_verified=False)
        for address, page in (
            ("/email-verifications", "verify-email"),
            ("/password-resets", "reset-password"),
        ):
            await client.post(address, json={"email": email})
            (letter,) = await house.letters()
            assert f"https://tickets.housefull.example/{page}#code=" in letter.get_content()
