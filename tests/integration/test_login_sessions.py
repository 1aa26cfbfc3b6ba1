"""Sessions: a chain of refresh tokens with one live end, broken when a used link is shown again."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64decode
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.login_sessions import (
    REFRESH_TOKEN_LIFE_MS,
    REPETITION_GRACE_MS,
    REVOCATION_MEMORY_MS,
    SESSION_LIFE_MS_MAX,
    SESSIONS_PER_ACCOUNT_MAX,
    OpenedSession,
    RefreshRefused,
    Rotation,
)
from persistence.refresh_tokens import draw_refresh_token
from persistence.sessions import open_pool
from reservation.access import HOUSE_TENANT, Role
from reservation.ids import AccountId, SessionId, is_session_id
from tests.conftest import House
from tests.support.accounts import (
    DAY_MS,
    HASH,
    NOW_MS,
    ask,
    digest,
    log_in,
    make_account,
    opened_pool,
)

NOBODY = AccountId("acc_" + "z" * 20)


@pytest.fixture
async def accounts(empty_house: House) -> AsyncIterator[Accounts]:
    async with opened_pool(empty_house.application_dsn) as pool:
        yield Accounts(pool)


async def rotated(
    accounts: Accounts, token: str, now_ms: int = NOW_MS, client: str | None = "c"
) -> Rotation:
    rotation = await accounts.rotate_refresh(token, now_ms, client=client)
    assert isinstance(rotation, Rotation)
    return rotation


# --- opening


async def test_a_login_says_who_it_is_and_how_long_its_token_lives(accounts: Accounts) -> None:
    gate = await make_account(accounts, role=Role.GATE, tenant_id=HOUSE_TENANT)
    opened = await accounts.open_session(gate, "a phone", NOW_MS, password_hash=HASH)
    assert opened is not None
    principal = opened.principal
    assert (principal.account_id, principal.role, principal.tenant_id) == (
        gate,
        Role.GATE,
        HOUSE_TENANT,
    )
    assert is_session_id(principal.session_id)
    assert opened.expires_at_ms == NOW_MS + REFRESH_TOKEN_LIFE_MS
    assert opened.refresh_token not in repr(opened)
    (row,) = await accounts.list_sessions(gate, NOW_MS)
    assert row == (principal.session_id, "a phone", NOW_MS, NOW_MS, opened.expires_at_ms)


async def test_nobody_and_who_gave_an_old_password_get_no_session(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    assert await accounts.open_session(NOBODY, "x", NOW_MS, password_hash=None) is None
    assert await accounts.open_session(AccountId("\0"), "x", NOW_MS, password_hash=None) is None
    assert await accounts.open_session(ann, "x", NOW_MS, password_hash="other") is None
    assert await accounts.open_session(ann, "x", NOW_MS, password_hash=None) is not None
    for label in ("\0", "x" * 201, "\ud800"):
        with pytest.raises(ValueError, match=r"^label: "):
            await accounts.open_session(ann, label, NOW_MS, password_hash=HASH)


async def test_tokens_are_nowhere_in_the_database(accounts: Accounts, empty_house: House) -> None:
    ann = await make_account(accounts)
    opened = await log_in(accounts, ann)
    rotation = await rotated(accounts, opened.refresh_token)
    secrets = [
        spelling
        for text in (opened.refresh_token[4:], rotation.refresh_token[4:])
        for spelling in (text, text.encode().hex(), urlsafe_b64decode(text + "=").hex())
    ]
    for table in ("login_session", "refresh_token"):
        rows = await ask(
            empty_house.superuser_dsn, f"SELECT string_agg(t::text, '') FROM {table} t"
        )
        assert isinstance(rows, str)
        assert not [secret for secret in secrets if secret in rows]


async def test_one_login_too_many_ends_the_one_that_was_not_used_for_longest(
    accounts: Accounts,
) -> None:
    ann = await make_account(accounts)
    opened = [await log_in(accounts, ann, NOW_MS + n) for n in range(SESSIONS_PER_ACCOUNT_MAX)]
    # The first one is used again, so the second one is the oldest.
    await rotated(accounts, opened[0].refresh_token, NOW_MS + 1_000)
    await log_in(accounts, ann, NOW_MS + 2_000)
    live = {row.session_id for row in await accounts.list_sessions(ann, NOW_MS + 2_000)}
    assert len(live) == SESSIONS_PER_ACCOUNT_MAX
    assert opened[0].principal.session_id in live
    assert opened[1].principal.session_id not in live
    refused = await accounts.rotate_refresh(opened[1].refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED


# --- refreshing


async def test_a_chain_of_refreshes_goes_on_until_the_session_is_too_old(
    accounts: Accounts,
) -> None:
    ann = await make_account(accounts)
    opened: OpenedSession = await log_in(accounts, ann)
    now_ms, count = NOW_MS, 0
    while True:
        now_ms = min(now_ms + 29 * DAY_MS, opened.expires_at_ms - 1)
        opened = await rotated(accounts, opened.refresh_token, now_ms)
        count += 1
        if opened.expires_at_ms == NOW_MS + SESSION_LIFE_MS_MAX:
            break
        assert opened.expires_at_ms == now_ms + REFRESH_TOKEN_LIFE_MS
    assert count == 6
    end_ms = NOW_MS + SESSION_LIFE_MS_MAX
    refused = await accounts.rotate_refresh(opened.refresh_token, end_ms, client="c")
    assert refused is RefreshRefused.EXPIRED
    assert await accounts.list_sessions(ann, end_ms) == []


async def test_a_token_expires_to_the_millisecond(accounts: Accounts) -> None:
    opened = await log_in(accounts, await make_account(accounts))
    token, expires_at_ms = opened.refresh_token, opened.expires_at_ms
    refused = await accounts.rotate_refresh(token, expires_at_ms, client="c")
    assert refused is RefreshRefused.EXPIRED
    rotation = await rotated(accounts, token, expires_at_ms - 1)
    assert not rotation.is_repetition
    assert rotation.principal == opened.principal


async def test_a_new_role_is_told_by_a_session_opened_after_it(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    await accounts.set_role(ann, Role.GATE, HOUSE_TENANT)
    opened = await log_in(accounts, ann)
    rotation = await rotated(accounts, opened.refresh_token)
    assert (rotation.principal.role, rotation.principal.tenant_id) == (Role.GATE, HOUSE_TENANT)


@pytest.mark.parametrize(
    "token",
    ["", "rft_", "rft_" + "A" * 42, "rft_" + "A" * 44, "rft_" + "A" * 42 + "\0", "A" * 47, "\0",
     "rft_" + "ž" * 43, "' OR 1=1 --"],
)  # fmt: skip
async def test_what_is_no_token_is_unknown(accounts: Accounts, token: str) -> None:
    assert await accounts.rotate_refresh(token, NOW_MS, client="c") is RefreshRefused.UNKNOWN


async def test_a_token_that_was_never_given_out_is_unknown_and_ends_nothing(
    accounts: Accounts,
) -> None:
    ann = await make_account(accounts)
    await log_in(accounts, ann)
    refused = await accounts.rotate_refresh(draw_refresh_token(), NOW_MS, client="c")
    assert refused is RefreshRefused.UNKNOWN
    assert len(await accounts.list_sessions(ann, NOW_MS)) == 1


async def test_what_a_client_says_must_be_something_that_can_be_stored(accounts: Accounts) -> None:
    opened = await log_in(accounts, await make_account(accounts))
    for client in ("\0", "x" * 2001):
        with pytest.raises(ValueError, match=r"^client: "):
            await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client=client)
    await rotated(accounts, opened.refresh_token)


# --- a used token is shown again


@pytest.mark.parametrize(
    ("first", "second", "after_ms"),
    [
        ("browser", "thief", 1),
        ("browser", None, 1),
        (None, "browser", 1),
        (None, None, 1),
        ("browser", "browser", REPETITION_GRACE_MS),
    ],
)
async def test_a_used_token_ends_its_family_for_the_thief_and_the_owner(
    accounts: Accounts, first: str | None, second: str | None, after_ms: int
) -> None:
    ann = await make_account(accounts)
    other = await log_in(accounts, ann)
    opened = await log_in(accounts, ann)
    cursor, _ = await accounts.revoked_since(0)
    rotation = await rotated(accounts, opened.refresh_token, NOW_MS, first)
    refused = await accounts.rotate_refresh(opened.refresh_token, NOW_MS + after_ms, client=second)
    assert refused is RefreshRefused.REUSED
    successor = await accounts.rotate_refresh(rotation.refresh_token, NOW_MS, client=first)
    assert successor is RefreshRefused.ENDED
    _, revoked = await accounts.revoked_since(cursor)
    assert revoked == [opened.principal.session_id]
    # Another login of the same account is another family.
    await rotated(accounts, other.refresh_token)


async def test_an_old_link_of_a_long_chain_ends_it(accounts: Accounts) -> None:
    opened: OpenedSession = await log_in(accounts, await make_account(accounts))
    first = opened.refresh_token
    for step in range(5):
        opened = await rotated(accounts, opened.refresh_token, NOW_MS + step)
    refused = await accounts.rotate_refresh(first, NOW_MS + 6, client="c")
    assert refused is RefreshRefused.REUSED
    refused = await accounts.rotate_refresh(opened.refresh_token, NOW_MS + 7, client="c")
    assert refused is RefreshRefused.ENDED


async def test_the_same_client_whose_answer_was_lost_gets_the_same_successor(
    accounts: Accounts,
) -> None:
    opened = await log_in(accounts, await make_account(accounts))
    rotation = await rotated(accounts, opened.refresh_token, NOW_MS)
    for after_ms in (0, 1, REPETITION_GRACE_MS - 1):
        again = await rotated(accounts, opened.refresh_token, NOW_MS + after_ms)
        assert again.is_repetition
        assert again.refresh_token == rotation.refresh_token
        assert again.expires_at_ms == rotation.expires_at_ms
        assert again.principal == rotation.principal
    follower = await rotated(accounts, rotation.refresh_token, NOW_MS + REPETITION_GRACE_MS)
    assert not follower.is_repetition


async def test_a_repetition_after_the_successor_was_used_is_no_repetition(
    accounts: Accounts,
) -> None:
    opened = await log_in(accounts, await make_account(accounts))
    rotation = await rotated(accounts, opened.refresh_token)
    follower = await rotated(accounts, rotation.refresh_token)
    refused = await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.REUSED
    refused = await accounts.rotate_refresh(follower.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED


async def test_a_session_that_was_ended_repeats_nothing(accounts: Accounts) -> None:
    opened = await log_in(accounts, await make_account(accounts))
    await rotated(accounts, opened.refresh_token)
    assert await accounts.revoke_session(opened.principal.session_id)
    refused = await accounts.rotate_refresh(opened.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED


async def test_only_the_newest_exchange_of_a_session_can_be_opened_with_a_used_token(
    accounts: Accounts, empty_house: House
) -> None:
    opened: OpenedSession = await log_in(accounts, await make_account(accounts))
    for step in range(4):
        opened = await rotated(accounts, opened.refresh_token, NOW_MS + step)
    sealed = "SELECT count(*) FROM refresh_token WHERE sealed_successor IS NOT NULL"
    assert await ask(empty_house.superuser_dsn, sealed) == 1
    await accounts.purge(NOW_MS + 3 + REPETITION_GRACE_MS)
    assert await ask(empty_house.superuser_dsn, sealed) == 0
    await rotated(accounts, opened.refresh_token, NOW_MS + 60_000)


# --- ending


async def test_a_logout_ends_one_session_once(accounts: Accounts) -> None:
    ann = await make_account(accounts)
    here, there = await log_in(accounts, ann), await log_in(accounts, ann)
    session_id = here.principal.session_id
    bob = await make_account(accounts, "bob@example.com")
    assert not await accounts.revoke_session(session_id, account_id=bob)
    assert await accounts.revoke_session(session_id, account_id=ann)
    assert not await accounts.revoke_session(session_id)
    assert not await accounts.revoke_session(SessionId("ses_" + "z" * 20))
    assert not await accounts.revoke_session(SessionId("\0"))
    assert [r.session_id for r in await accounts.list_sessions(ann, NOW_MS)] == [
        there.principal.session_id
    ]
    assert (await accounts.revoked_since(0))[1] == [session_id]
    refused = await accounts.rotate_refresh(here.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.ENDED


async def test_everything_of_one_account_is_ended_and_nothing_of_others(
    accounts: Accounts,
) -> None:
    ann = await make_account(accounts)
    bob = await make_account(accounts, "bob@example.com")
    anns = {(await log_in(accounts, ann)).principal.session_id for _ in range(3)}
    bobs = await log_in(accounts, bob)
    await accounts.create_api_key(ann, "till", Role.CUSTOMER, digest("k"), None, NOW_MS)
    key = await accounts.use_api_key(digest("k"), NOW_MS)
    assert key is not None
    assert await accounts.revoke_all(ann) == 3
    assert await accounts.revoke_all(ann) == 0
    assert await accounts.revoke_all(NOBODY) == 0
    _, revoked = await accounts.revoked_since(0)
    assert anns | {key.principal.session_id} <= set(revoked)
    assert bobs.principal.session_id not in revoked
    assert await accounts.use_api_key(digest("k"), NOW_MS) is not None
    assert len(await accounts.list_sessions(bob, NOW_MS)) == 1


async def test_the_logout_of_a_machine_ends_its_access_tokens_and_keeps_its_key(
    accounts: Accounts,
) -> None:
    ann = await make_account(accounts)
    await accounts.create_api_key(ann, "till", Role.CUSTOMER, digest("k"), None, NOW_MS)
    before = await accounts.use_api_key(digest("k"), NOW_MS)
    assert before is not None
    assert await accounts.revoke_session(before.principal.session_id, account_id=ann)
    after = await accounts.use_api_key(digest("k"), NOW_MS)
    assert after is not None
    assert (await accounts.revoked_since(0))[1] == [before.principal.session_id]
    assert after.principal.session_id != before.principal.session_id


# --- what other applications read


async def test_a_revocation_that_is_committed_late_is_told_all_the_same(
    accounts: Accounts, empty_house: House
) -> None:
    ann = await make_account(accounts)
    slow, fast, later = [await log_in(accounts, ann) for _ in range(3)]
    connection = await asyncpg.connect(empty_house.superuser_dsn)
    async with connection.transaction():
        await connection.execute(
            "SELECT end_login_session($1, 'logout')", slow.principal.session_id
        )
        await accounts.revoke_session(fast.principal.session_id)
        cursor, first = await accounts.revoked_since(0)
        assert first == [fast.principal.session_id]
    _, second = await accounts.revoked_since(cursor)
    assert slow.principal.session_id in second
    cursor, _ = await accounts.revoked_since(cursor)
    assert (await accounts.revoked_since(cursor))[1] == []
    await accounts.revoke_session(later.principal.session_id)
    assert (await accounts.revoked_since(cursor))[1] == [later.principal.session_id]
    await connection.close()


async def test_a_cursor_from_a_database_that_was_ahead_starts_again(accounts: Accounts) -> None:
    opened = await log_in(accounts, await make_account(accounts))
    await accounts.revoke_session(opened.principal.session_id)
    cursor, told = await accounts.revoked_since(2**60)
    assert told == [opened.principal.session_id]
    assert 0 < cursor < 2**60


async def test_what_was_revoked_long_ago_is_not_told(
    accounts: Accounts, empty_house: House
) -> None:
    opened = await log_in(accounts, await make_account(accounts))
    await accounts.revoke_session(opened.principal.session_id)
    await ask(
        empty_house.superuser_dsn,
        "UPDATE revoked_session SET revoked_at_ms = revoked_at_ms - $1 RETURNING 1",
        REVOCATION_MEMORY_MS,
    )
    assert (await accounts.revoked_since(0))[1] == []


async def test_every_application_may_read_what_was_revoked(
    accounts: Accounts, empty_house: House
) -> None:
    opened = await log_in(accounts, await make_account(accounts))
    await accounts.revoke_session(opened.principal.session_id)
    pool = await open_pool(empty_house.application_dsn, "another application", size_max=1)
    async with pool:
        _, told = await Accounts(pool).revoked_since(0)
    assert told == [opened.principal.session_id]


# --- tidying up


async def test_what_is_over_is_removed_and_what_lives_is_left(
    accounts: Accounts, empty_house: House
) -> None:
    ann = await make_account(accounts)
    old = await log_in(accounts, ann)
    middle = await log_in(accounts, ann, NOW_MS + 20 * DAY_MS)
    young = await rotated(accounts, middle.refresh_token, NOW_MS + 29 * DAY_MS)
    counts = await accounts.purge(NOW_MS + 29 * DAY_MS)
    assert (counts.refresh_tokens, counts.sessions) == (0, 0)
    counts = await accounts.purge(NOW_MS + 32 * DAY_MS)
    assert (counts.refresh_tokens, counts.sessions) == (1, 1)
    refused = await accounts.rotate_refresh(old.refresh_token, NOW_MS, client="c")
    assert refused is RefreshRefused.UNKNOWN
    # A used token of a living session is gone when it would have expired anyway.
    counts = await accounts.purge(NOW_MS + 51 * DAY_MS)
    assert (counts.refresh_tokens, counts.sessions) == (1, 0)
    await rotated(accounts, young.refresh_token, NOW_MS + 51 * DAY_MS)
    assert await ask(empty_house.superuser_dsn, "SELECT count(*) FROM refresh_token") == 2


async def test_thousands_of_rows_are_removed_by_many_at_once(
    accounts: Accounts, empty_house: House
) -> None:
    ann = await make_account(accounts)
    await ask(
        empty_house.superuser_dsn,
        "WITH s AS (INSERT INTO login_session (session_id, account_id, label, opened_at_ms,"
        " refreshed_at_ms, expires_at_ms) SELECT 'ses_' || lpad(n::text, 20, '0'), $1, '', 0, 0, 1"
        " FROM generate_series(1, 2500) n RETURNING session_id) INSERT INTO refresh_token"
        " (token_sha256, session_id, expires_at_ms) SELECT sha256(session_id::bytea), session_id, 1"
        " FROM s RETURNING 1",
        ann,
    )
    living = await log_in(accounts, ann)
    await asyncio.gather(*(accounts.purge(NOW_MS) for _ in range(4)))
    assert await ask(empty_house.superuser_dsn, "SELECT count(*) FROM login_session") == 1
    assert await ask(empty_house.superuser_dsn, "SELECT count(*) FROM refresh_token") == 1
    await rotated(accounts, living.refresh_token)
