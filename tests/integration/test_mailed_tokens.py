"""Tokens that are mailed: each works once, for what it was made for, and not for long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.login_sessions import RefreshRefused
from persistence.mailed_tokens import TOKENS_PER_KIND_MAX, TokenKind
from reservation.ids import AccountId
from tests.conftest import House
from tests.support.accounts import (
    MINUTE_MS,
    NOW_MS,
    OTHER_HASH,
    ask,
    digest,
    log_in,
    make_account,
    opened_pool,
)

VERIFY, RESET = TokenKind.VERIFY_EMAIL, TokenKind.RESET_PASSWORD
LATER_MS = NOW_MS + 30 * MINUTE_MS
NOBODY = AccountId("acc_" + "z" * 20)


@pytest.fixture
async def accounts(empty_house: House) -> AsyncIterator[Accounts]:
    async with opened_pool(empty_house.application_dsn, size_max=20) as pool:
        yield Accounts(pool)


async def test_a_token_verifies_an_address_once(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    assert await accounts.put_token(VERIFY, ann, digest("t"), LATER_MS)
    assert await accounts.confirm_email(digest("other"), NOW_MS) is None
    assert await accounts.confirm_email(digest("t"), NOW_MS) == ann
    assert await accounts.confirm_email(digest("t"), NOW_MS) is None
    account = await accounts.find(ann)
    assert account is not None
    assert account.email_verified_at_ms == NOW_MS


async def test_a_token_sets_another_password_once_and_ends_every_session(
    accounts: Accounts,
) -> None:
    ann = await make_account(accounts)
    opened = await log_in(accounts, ann)
    for token in ("first", "second"):
        assert await accounts.put_token(RESET, ann, digest(token), LATER_MS)
    assert await accounts.reset_password(digest("first"), OTHER_HASH, NOW_MS) == ann
    account = await accounts.find(ann)
    assert account is not None
    assert account.password_hash == OTHER_HASH
    # The token came by mail, so the address is theirs.
    assert account.email_verified_at_ms == NOW_MS
    refused = await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED
    # An older mail must not undo it.
    assert await accounts.reset_password(digest("second"), "third", NOW_MS) is None


async def test_a_token_is_good_for_its_own_purpose_only(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.put_token(VERIFY, ann, digest("v"), LATER_MS)
    await accounts.put_token(RESET, ann, digest("r"), LATER_MS)
    assert await accounts.reset_password(digest("v"), OTHER_HASH, NOW_MS) is None
    assert await accounts.confirm_email(digest("r"), NOW_MS) is None
    assert await accounts.confirm_email(digest("v"), NOW_MS) == ann
    assert await accounts.reset_password(digest("r"), OTHER_HASH, NOW_MS) == ann


async def test_a_token_expires_to_the_millisecond(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.put_token(VERIFY, ann, digest("t"), LATER_MS)
    assert await accounts.confirm_email(digest("t"), LATER_MS) is None
    assert await accounts.confirm_email(digest("t"), LATER_MS - 1) == ann


async def test_of_many_callers_with_one_token_exactly_one_succeeds(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.put_token(RESET, ann, digest("t"), LATER_MS)
    results = await asyncio.gather(
        *(accounts.reset_password(digest("t"), f"hash {n}", NOW_MS) for n in range(20))
    )
    (winner,) = [number for number, result in enumerate(results) if result == ann]
    account = await accounts.find(ann)
    assert account is not None
    assert account.password_hash == f"hash {winner}"


async def test_only_the_last_few_tokens_of_a_kind_work(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.put_token(RESET, ann, digest("reset"), LATER_MS)
    for number in range(TOKENS_PER_KIND_MAX + 2):
        await accounts.put_token(VERIFY, ann, digest(f"{number}"), LATER_MS + number)
    assert await accounts.confirm_email(digest("1"), NOW_MS) is None
    assert await accounts.confirm_email(digest("2"), NOW_MS) == ann
    assert await accounts.confirm_email(digest("4"), NOW_MS) is None
    assert await accounts.reset_password(digest("reset"), OTHER_HASH, NOW_MS) == ann


async def test_nobody_and_the_disabled_have_no_tokens(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.put_token(RESET, ann, digest("t"), LATER_MS)
    await accounts.disable(ann)
    assert not await accounts.put_token(RESET, ann, digest("u"), LATER_MS)
    assert not await accounts.put_token(RESET, NOBODY, digest("u"), LATER_MS)
    assert not await accounts.put_token(RESET, AccountId("\0"), digest("u"), LATER_MS)
    await accounts.enable(ann)
    assert await accounts.reset_password(digest("t"), OTHER_HASH, NOW_MS) is None


async def test_what_is_no_digest_is_refused_by_its_field(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    for bad in (b"", b"x" * 31, b"x" * 33):
        with pytest.raises(ValueError, match=r"^token_sha256: "):
            await accounts.put_token(VERIFY, ann, bad, LATER_MS)
        with pytest.raises(ValueError, match=r"^token_sha256: "):
            await accounts.confirm_email(bad, NOW_MS)
        with pytest.raises(ValueError, match=r"^token_sha256: "):
            await accounts.reset_password(bad, OTHER_HASH, NOW_MS)
    with pytest.raises(ValueError, match=r"^password_hash: "):
        await accounts.reset_password(digest("t"), "\0", NOW_MS)


async def test_a_token_whose_use_failed_still_works(accounts: Accounts, empty_house: House) -> None:
    ann = await make_account(accounts)
    await accounts.put_token(RESET, ann, digest("t"), LATER_MS)
    await log_in(accounts, ann)
    await ask(
        empty_house.superuser_dsn,
        "INSERT INTO revoked_session (session_id, account_id) VALUES ('x', 'y') RETURNING 1",
    )
    blocking = await asyncpg.connect(empty_house.superuser_dsn)
    async with blocking.transaction():
        await blocking.execute("LOCK TABLE revoked_session IN EXCLUSIVE MODE")
        with pytest.raises(Exception, match="LockNotAvailable"):
            await accounts.reset_password(digest("t"), OTHER_HASH, NOW_MS)
    await blocking.close()
    assert len(await accounts.list_sessions(ann, NOW_MS)) == 1
    assert await accounts.reset_password(digest("t"), OTHER_HASH, NOW_MS) == ann


async def test_expired_tokens_are_removed(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.put_token(VERIFY, ann, digest("t"), NOW_MS)
    await accounts.put_token(RESET, ann, digest("u"), NOW_MS + 1)
    assert (await accounts.purge(NOW_MS)).tokens == 1
    assert await accounts.reset_password(digest("u"), OTHER_HASH, NOW_MS) == ann
