"""What each role of the database may do with accounts: what its part of the program needs."""

from __future__ import annotations

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.migrate import ACCOUNTS_GROUP, ORGANISER_GROUP
from persistence.signing_keys import SigningKeyRow
from reservation.access import HOUSE_TENANT
from tests.conftest import House
from tests.support.accounts import NOW_MS, digest, log_in, make_account, opened_pool

TABLES = (
    "tenant",
    "account",
    "login_session",
    "refresh_token",
    "one_time_token",
    "api_key",
    "signing_key",
    "signing_key_public",
    "revoked_session",
    "audit_entry",
)
READABLE = {
    None: {"tenant", "signing_key_public", "revoked_session"},
    ORGANISER_GROUP: {"tenant", "signing_key_public", "revoked_session", "audit_entry"},
    ACCOUNTS_GROUP: set(TABLES),
}


@pytest.fixture
async def stocked(empty_house: House) -> House:
    """A row of everything that is secret."""
    async with opened_pool(empty_house.application_dsn) as pool:
        accounts = Accounts(pool)
        ann = await make_account(accounts)
        opened = await log_in(accounts, ann)
        await accounts.revoke_session(opened.principal.session_id)
        await accounts.add_signing_key(SigningKeyRow("k", "private", b"k" * 32, NOW_MS, NOW_MS))
    return empty_house


async def may(pool: asyncpg.Pool[asyncpg.Record], statement: str) -> bool:
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


@pytest.mark.parametrize("role", [None, ORGANISER_GROUP, ACCOUNTS_GROUP])
async def test_each_role_reads_what_it_needs_and_nothing_else(
    stocked: House, role: str | None
) -> None:
    async with opened_pool(stocked.application_dsn, role) as pool:
        readable = {table for table in TABLES if await may(pool, f"SELECT * FROM {table}")}
        assert readable == READABLE[role]


SECRETS = [
    ("account", "password_hash"),
    ("account", "email_key"),
    ("signing_key", "private_pem"),
    ("refresh_token", "token_sha256"),
    ("refresh_token", "sealed_successor"),
    ("one_time_token", "token_sha256"),
    ("api_key", "key_sha256"),
]


@pytest.mark.parametrize("role", [None, ORGANISER_GROUP])
async def test_no_secret_is_read_by_those_who_do_not_check_it(
    stocked: House, role: str | None
) -> None:
    async with opened_pool(stocked.application_dsn, role) as pool:
        for table, column in SECRETS:
            for statement in (
                f"SELECT {column} FROM {table}",
                f"SELECT 1 FROM {table} WHERE {column} IS NOT NULL",
                f"SELECT 1 FROM {table} ORDER BY {column}",
                f"COPY {table} ({column}) TO STDOUT",
            ):
                assert not await may(pool, statement), statement
        assert not await may(pool, "CREATE VIEW mine AS SELECT * FROM account")
        assert not await may(pool, "CREATE TEMPORARY TABLE mine AS SELECT * FROM signing_key")


@pytest.mark.parametrize("role", [None, ORGANISER_GROUP])
async def test_accounts_are_changed_by_the_accounts_role_only(
    stocked: House, role: str | None
) -> None:
    async with opened_pool(stocked.application_dsn, role) as pool:
        for table in sorted({*TABLES} - {"signing_key_public"}):
            for statement in (
                f"INSERT INTO {table} DEFAULT VALUES",
                f"DELETE FROM {table}",
                f"TRUNCATE {table}",
                f"DROP TABLE {table}",
            ):
                if (role, table) == (ORGANISER_GROUP, "audit_entry") and "INSERT" in statement:
                    continue
                assert not await may(pool, statement), statement
        for statement in (
            "UPDATE account SET role = 'admin'",
            "UPDATE account SET password_hash = 'x'",
            "UPDATE tenant SET name = 'x'",
            "UPDATE login_session SET ended_at_ms = NULL, end_reason = NULL",
            "UPDATE signing_key SET verifies_until_at_ms = NULL",
            "UPDATE revoked_session SET session_id = 'x'",
            "UPDATE audit_entry SET action = 'x'",
            "DELETE FROM signing_key_public",
            "INSERT INTO signing_key_public VALUES ('k', '', 0, NULL)",
            # It has no rights of its own, so it runs into the table that it would change.
            "SELECT end_login_session(session_id, 'logout') FROM revoked_session",
        ):
            assert not await may(pool, statement), statement


async def test_the_accounts_role_rewrites_no_history_and_touches_nothing_that_was_sold(
    stocked: House,
) -> None:
    async with opened_pool(stocked.application_dsn, ACCOUNTS_GROUP) as pool:
        for statement in (
            "DELETE FROM account",
            "UPDATE account SET account_id = account_id",
            "UPDATE account SET email_key = 'x'",
            "UPDATE refresh_token SET token_sha256 = token_sha256",
            "UPDATE api_key SET role = 'admin'",
            "UPDATE signing_key SET private_pem = 'x'",
            "UPDATE audit_entry SET action = 'x'",
            "DELETE FROM audit_entry",
            "DELETE FROM tenant",
            "UPDATE tenant SET name = 'x'",
            "SELECT FROM hold",
            "SELECT FROM booking",
            "SELECT FROM journal",
            "UPDATE show SET title = 'x'",
            "CREATE TABLE mine (n integer)",
            "CREATE ROLE mine",
        ):
            assert not await may(pool, statement), statement


async def test_the_database_itself_keeps_role_and_tenant_together(stocked: House) -> None:
    async with opened_pool(stocked.application_dsn, ACCOUNTS_GROUP) as pool:
        for role, tenant in (("gate", "NULL"), ("admin", f"'{HOUSE_TENANT}'")):
            with pytest.raises(asyncpg.CheckViolationError):
                await pool.execute(f"UPDATE account SET role = '{role}', tenant_id = {tenant}")


async def test_a_used_token_cannot_be_made_unused_by_an_application_that_reads(
    stocked: House,
) -> None:
    async with opened_pool(stocked.application_dsn, None) as pool:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.fetch("SELECT rotate_refresh_token($1, $1, $1, $1, 0, 1, 1, 1)", digest("t"))
