"""Preparing a database for logins that may do more, and less, than what the house needs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from persistence.accounts import Accounts
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import ACCOUNTS_GROUP, ORGANISER_GROUP
from persistence.provisioning import DatabaseUnusable, prepare_database
from tests.support.accounts import make_account, opened_pool
from tests.support.quick_postgres import copy_of, quick_postgres

SYSTEM_BINARIES = sorted(Path("/usr/lib/postgresql").glob("15/bin"))
numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["embedded", "15"])
def binaries(request: pytest.FixtureRequest) -> Path | None:
    if request.param == "embedded":
        return None
    if not SYSTEM_BINARIES:
        pytest.skip("needs PostgreSQL 15 in /usr/lib/postgresql/15")
    return SYSTEM_BINARIES[0]


@pytest.fixture(scope="module")
def server(binaries: Path | None) -> Iterator[EmbeddedPostgres]:
    with quick_postgres(binaries) as server:
        yield server


@pytest.fixture
async def database(server: EmbeddedPostgres) -> str:
    """The name of an empty database."""
    name = f"house_{next(numbers)}"
    await run(server.dsn(), f"CREATE DATABASE {name} {copy_of('template1')}")
    return name


async def run(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def assert_accounts_work(dsn: str, email: str = "ann@example.com") -> None:
    async with opened_pool(dsn) as pool:
        assert await pool.fetchval("SELECT current_user") == ACCOUNTS_GROUP
        await make_account(Accounts(pool), email)
    async with opened_pool(dsn, ORGANISER_GROUP) as pool:
        assert await pool.fetchval("SELECT current_user") == ORGANISER_GROUP


async def test_a_superuser_who_is_also_the_application_takes_on_every_group(
    server: EmbeddedPostgres, database: str
) -> None:
    assert await prepare_database(server.dsn(database)) != []
    assert await prepare_database(server.dsn(database)) == []
    await assert_accounts_work(server.dsn(database))


async def test_an_application_of_its_own_takes_on_the_groups_and_inherits_nothing_of_them(
    server: EmbeddedPostgres, database: str
) -> None:
    role = f"app {next(numbers)}"
    for _ in range(2):
        await prepare_database(server.dsn(database), role=role, password="word")
    dsn = server.dsn(database, role, "word")
    await assert_accounts_work(dsn)
    async with opened_pool(dsn, role=None) as pool:
        await pool.fetch("SELECT FROM show")
        await pool.fetch("SELECT FROM booking")
        for statement in (
            "SELECT FROM account",
            "SELECT FROM signing_key",
            "UPDATE show SET title = 'x'",
            "INSERT INTO audit_entry (at_ms, action, object_id) VALUES (0, 'x', 'y')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await pool.execute(statement)


async def test_an_owner_without_superuser_rights_lets_himself_take_on_the_groups(
    binaries: Path | None,
) -> None:
    # A server where nobody has made the groups yet: he makes them himself.
    with quick_postgres(binaries) as server:
        await run(
            server.dsn(),
            "CREATE ROLE owner LOGIN CREATEROLE PASSWORD 'word'",
            "CREATE DATABASE own OWNER owner",
        )
        dsn = server.dsn("own", "owner", "word")
        await prepare_database(dsn)
        await assert_accounts_work(dsn)
        await prepare_database(dsn, role="app", password="other")
        await assert_accounts_work(server.dsn("own", "app", "other"), "bob@example.com")


async def test_a_user_who_may_not_take_on_the_groups_is_told_what_an_administrator_can_do(
    server: EmbeddedPostgres, database: str
) -> None:
    await prepare_database(server.dsn(database))
    user = f"reader {next(numbers)}"
    await run(
        server.dsn(),
        f"CREATE ROLE \"{user}\" LOGIN PASSWORD 'word'",
        f'GRANT housefull_application TO "{user}"',
    )
    dsn = server.dsn(database, user, "word")
    with pytest.raises(DatabaseUnusable, match=f"{user} lacks rights: ") as refused:
        await prepare_database(dsn)
    message = str(refused.value)
    assert "word" not in message
    grant = message.partition("to run: ")[2]
    assert ACCOUNTS_GROUP in grant
    assert ORGANISER_GROUP in grant
    # What it says helps.
    await run(server.dsn(), grant)
    assert await prepare_database(dsn) == []
    await assert_accounts_work(dsn)


async def test_a_user_who_may_not_create_tables_is_told_so(
    server: EmbeddedPostgres, database: str
) -> None:
    user = f"nobody_{next(numbers)}"
    await run(server.dsn(), f"CREATE ROLE {user} LOGIN PASSWORD 'word'")
    with pytest.raises(DatabaseUnusable, match=f"{user} lacks rights: .*an administrator has to"):
        await prepare_database(server.dsn(database, user, "word"))
