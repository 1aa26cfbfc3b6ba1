"""A replica's gate over a real accounts database, with the rights that replicas have."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from persistence.accounts import Accounts
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.provisioning import ensure_database, prepare_database
from persistence.sessions import Pool, open_pool
from persistence.signing_keys import SigningKeyRow
from reservation.access import Principal
from reservation.ids import AccountId
from serve_app.access import access_watch
from serve_app.access.access_tokens import (
    KeysUnknown,
    Refusal,
    TokenIssuer,
    TokenRefused,
    TokenVerifier,
)
from serve_app.access.access_watch import watching
from serve_app.access.key_ring import SigningKey, new_signing_key
from tests.support.quick_postgres import quick_postgres

APPLICATION, PASSWORD = "replicas", "let-us-read"


class Databases:
    """The same database as its owner and as a replica sees it."""

    def __init__(self, accounts: Accounts, replica: Pool, server: EmbeddedPostgres) -> None:
        self.accounts = accounts
        self.replica = replica
        self.server = server


@pytest.fixture(scope="module")
async def databases() -> AsyncIterator[Databases]:
    with quick_postgres() as server:
        await ensure_database(server.dsn(), "access")
        await prepare_database(server.dsn("access"), role=APPLICATION, password=PASSWORD)
        owner = await open_pool(server.dsn("access"), "tests", size_max=2)
        dsn = server.dsn("access", APPLICATION, PASSWORD)
        replica = await open_pool(dsn, "replica", size_max=1)
        yield Databases(Accounts(owner), replica, server)
        await replica.close()
        await owner.close()


@pytest.fixture
def verifier() -> TokenVerifier:
    return TokenVerifier()


async def add_key(accounts: Accounts) -> SigningKey:
    key, now_ms = new_signing_key(), time.time_ns() // 1_000_000
    row = SigningKeyRow(key.kid, key.private_pem, key.public_raw, now_ms, now_ms)
    assert await accounts.add_signing_key(row)
    return key


async def add_session(accounts: Accounts, email: str) -> Principal:
    now_ms = time.time_ns() // 1_000_000
    account_id = await accounts.sign_up(email, "no hash", "Somebody", now_ms)
    assert account_id is not None
    return await open_session(accounts, account_id)


async def open_session(accounts: Accounts, account_id: AccountId) -> Principal:
    now_ms = time.time_ns() // 1_000_000
    opened = await accounts.open_session(account_id, "tests", now_ms, password_hash=None)
    assert opened is not None
    return opened.principal


def verdict(verifier: TokenVerifier, token: bytes) -> str:
    try:
        return verifier.verify(token, time.time()).account_id
    except TokenRefused as refused:
        return refused.reason.value
    except KeysUnknown:
        return "keys unknown"


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - another process decides when.
            await asyncio.sleep(0.02)


def token_of(key: SigningKey, principal: Principal) -> bytes:
    return TokenIssuer([key]).issue(principal, int(time.time())).encode()


async def test_a_replica_learns_keys_and_revocations_with_the_rights_that_it_has(
    databases: Databases, verifier: TokenVerifier
) -> None:
    accounts = databases.accounts
    key = await add_key(accounts)
    ann = await add_session(accounts, "ann@example.org")
    other = await open_session(accounts, ann.account_id)
    tokens = [token_of(key, ann), token_of(key, other)]
    async with watching(Accounts(databases.replica), verifier):
        await eventually(lambda: verdict(verifier, tokens[0]) == ann.account_id)
        assert verdict(verifier, tokens[1]) == ann.account_id
        await accounts.revoke_session(ann.session_id)
        await eventually(lambda: verdict(verifier, tokens[0]) == Refusal.REVOKED)
        assert verdict(verifier, tokens[1]) == ann.account_id, "the other session goes on"
        await accounts.revoke_all(ann.account_id)
        await eventually(lambda: verdict(verifier, tokens[1]) == Refusal.REVOKED)
    # A process that starts later is told what was revoked before.
    late = TokenVerifier()
    async with watching(Accounts(databases.replica), late):
        await eventually(lambda: verdict(late, tokens[0]) == Refusal.REVOKED)


async def test_a_disabled_account_is_refused_although_its_token_is_still_young(
    databases: Databases, verifier: TokenVerifier
) -> None:
    key = await add_key(databases.accounts)
    bob = await add_session(databases.accounts, "bob@example.org")
    token = token_of(key, bob)
    async with watching(Accounts(databases.replica), verifier):
        await eventually(lambda: verdict(verifier, token) == bob.account_id)
        await databases.accounts.disable(bob.account_id)
        await eventually(lambda: verdict(verifier, token) == Refusal.REVOKED)


async def test_keys_follow_each_other_without_a_token_being_refused(
    databases: Databases, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_watch, "KEYS_EVERY_S", 0.1)
    monkeypatch.setattr(access_watch, "KEYS_AGAIN_AFTER_S", 0.05)
    accounts = databases.accounts
    old = await add_key(accounts)
    eve = await add_session(accounts, "eve@example.org")
    async with watching(Accounts(databases.replica), verifier):
        before = token_of(old, eve)
        await eventually(lambda: verdict(verifier, before) == eve.account_id)
        new = await add_key(accounts)
        after = token_of(new, eve)
        await eventually(lambda: verdict(verifier, after) == eve.account_id)
        assert verdict(verifier, before) == eve.account_id, "both are alive"
        assert await accounts.retire_signing_key(old.kid, time.time_ns() // 1_000_000 - 1)
        await eventually(lambda: verdict(verifier, before) == Refusal.UNKNOWN_KEY)
        assert verdict(verifier, after) == eve.account_id


async def test_a_replica_cannot_read_what_it_need_not_know(databases: Databases) -> None:
    replica = Accounts(databases.replica)
    for reading in (
        replica.list_signing_keys(),
        replica.find_by_email("ann@example.org"),
    ):
        with pytest.raises(Exception, match="permission denied"):
            await reading


async def test_a_database_that_is_away_keeps_nobody_out_who_is_known(
    databases: Databases, verifier: TokenVerifier
) -> None:
    key = await add_key(databases.accounts)
    kim = await add_session(databases.accounts, "kim@example.org")
    token = token_of(key, kim)
    stranger = TokenVerifier()
    async with watching(Accounts(databases.replica), verifier):
        await eventually(lambda: verdict(verifier, token) == kim.account_id)
        databases.server.stop()
        try:
            fresh = token_of(key, kim)
            async with watching(Accounts(databases.replica), stranger):
                await asyncio.sleep(1.5)
                assert verdict(verifier, token) == kim.account_id
                assert verdict(verifier, fresh) == kim.account_id, "also tokens not seen before"
                assert verdict(stranger, token) == "keys unknown"
        finally:
            databases.server.start()
        await databases.accounts.revoke_session(kim.session_id)
        await eventually(lambda: verdict(verifier, token) == Refusal.REVOKED)
