"""Migrations and roles on real servers: once, whole, in order, and no more rights than needed."""

from __future__ import annotations

import asyncio
import itertools
import shutil
from collections.abc import AsyncIterator, Iterator
from importlib.resources import files
from pathlib import Path

import asyncpg
import pytest

from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import (
    ACCOUNTS_GROUP,
    APPLICATION_GROUP,
    ORGANISER_GROUP,
    MigrationFault,
    ensure_application_role,
    migrate,
)
from tests.support.quick_postgres import copy_of, quick_postgres

OWN_FILES = Path(str(files("persistence") / "sql" / "migrations"))
SYSTEM_BINARIES = sorted(Path("/usr/lib/postgresql").glob("15/bin"))
CATALOGUE_TABLES = ("seating_plan", "route", "stop", "route_stop", "show")

numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["embedded", "15"])
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedPostgres]:
    binaries = None
    if request.param == "15":
        if not SYSTEM_BINARIES:
            pytest.skip("needs PostgreSQL 15 in /usr/lib/postgresql/15")
        binaries = SYSTEM_BINARIES[0]
    with quick_postgres(binaries) as server:
        yield server


async def create_database(server: EmbeddedPostgres, options: str = copy_of("template1")) -> str:
    name = f"migrate_{next(numbers)}"
    connection = await asyncpg.connect(server.dsn())
    try:
        await connection.execute(f"CREATE DATABASE {name} {options}")
    finally:
        await connection.close()
    return server.dsn(name)


@pytest.fixture
async def dsn(server: EmbeddedPostgres) -> str:
    return await create_database(server)


@pytest.fixture
async def connection(dsn: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(dsn)
    yield connection
    await connection.close()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "0001_one.sql").write_text("CREATE TABLE one (n integer);\n")
    (tmp_path / "0002_two.sql").write_text(
        "CREATE TABLE two (n integer);\nINSERT INTO one SELECT 2;"
    )
    (tmp_path / "README").write_text("not a migration")
    return tmp_path


async def tables(connection: asyncpg.Connection[asyncpg.Record]) -> set[str]:
    rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {row["tablename"] for row in rows}


async def test_five_runners_at_once_apply_every_file_once(dsn: str, directory: Path) -> None:
    # A file that takes its time lets all runners arrive while one is at work.
    (directory / "0003_slow.sql").write_text("SELECT pg_sleep(0.3); INSERT INTO one SELECT 3;")
    results = await asyncio.gather(*(migrate(dsn, directory=directory) for _ in range(5)))
    assert sorted(results) == [[], [], [], [], ["0001_one", "0002_two", "0003_slow"]]
    connection = await asyncpg.connect(dsn)
    assert [row["n"] for row in await connection.fetch("SELECT n FROM one ORDER BY n")] == [2, 3]
    rows = await connection.fetch("SELECT number, name FROM schema_migration ORDER BY number")
    assert [tuple(row) for row in rows] == [(1, "0001_one"), (2, "0002_two"), (3, "0003_slow")]
    await connection.close()


async def test_only_new_files_are_applied_later(
    connection: asyncpg.Connection[asyncpg.Record], directory: Path
) -> None:
    await migrate(connection, directory=directory)
    assert await migrate(connection, directory=directory) == []
    (directory / "0003_three.sql").write_text("CREATE TABLE three (n integer)")
    assert await migrate(connection, directory=directory) == ["0003_three"]
    assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype='advisory'") == 0


async def test_a_failed_file_changes_nothing_and_is_named_with_its_line(
    connection: asyncpg.Connection[asyncpg.Record], directory: Path
) -> None:
    third = directory / "0003_three.sql"
    third.write_text("CREATE TABLE three (n integer);\nINSERT INTO one\n  SELECT žluť;\n")
    with pytest.raises(MigrationFault, match=r"^0003_three\.sql:3: column .* does not exist"):
        await migrate(connection, directory=directory)
    assert await tables(connection) == {"schema_migration", "one", "two"}
    third.write_text("CREATE TABLE three (n integer);\nINSERT INTO one SELECT 3;\n")
    assert await migrate(connection, directory=directory) == ["0003_three"]
    assert await tables(connection) == {"schema_migration", "one", "two", "three"}


async def test_a_failure_inside_a_block_is_named_without_a_line(
    connection: asyncpg.Connection[asyncpg.Record], directory: Path
) -> None:
    (directory / "0003_block.sql").write_text("DO $$ BEGIN RAISE EXCEPTION 'no'; END $$;")
    with pytest.raises(MigrationFault, match=r"^0003_block\.sql: no$"):
        await migrate(connection, directory=directory)


async def test_a_runner_that_waited_for_a_failed_one_tries_itself(
    dsn: str, directory: Path
) -> None:
    (directory / "0003_bad.sql").write_text("SELECT pg_sleep(0.2); SELECT 1/0;")
    results = await asyncio.gather(
        *(migrate(dsn, directory=directory) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(result, MigrationFault) for result in results)
    assert all("0003_bad.sql" in str(result) for result in results)


async def test_a_changed_file_is_refused_by_its_name(
    connection: asyncpg.Connection[asyncpg.Record], directory: Path
) -> None:
    await migrate(connection, directory=directory)
    (directory / "0003_three.sql").write_text("CREATE TABLE three (n integer)")
    first = directory / "0001_one.sql"
    first.write_text(first.read_text() + "-- edited\n")
    with pytest.raises(MigrationFault, match=r"^0001_one\.sql: it has changed"):
        await migrate(connection, directory=directory)
    assert "three" not in await tables(connection)


async def test_other_line_ends_are_no_change(
    connection: asyncpg.Connection[asyncpg.Record], directory: Path
) -> None:
    await migrate(connection, directory=directory)
    second = directory / "0002_two.sql"
    second.write_bytes(second.read_bytes().replace(b"\n", b"\r\n"))
    assert await migrate(connection, directory=directory) == []


async def test_a_renamed_file_is_refused(
    connection: asyncpg.Connection[asyncpg.Record], directory: Path
) -> None:
    await migrate(connection, directory=directory)
    (directory / "0002_two.sql").rename(directory / "0002_deux.sql")
    with pytest.raises(MigrationFault, match=r"^0002_deux\.sql: .* under the name 0002_two"):
        await migrate(connection, directory=directory)


async def test_a_database_newer_than_the_program_is_refused(
    connection: asyncpg.Connection[asyncpg.Record], directory: Path
) -> None:
    await migrate(connection, directory=directory)
    (directory / "0002_two.sql").unlink()
    with pytest.raises(MigrationFault, match=r"^0002_two\.sql: .* older than the database"):
        await migrate(connection, directory=directory)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("0004_gap.sql", "SELECT 1", r"^0004_gap\.sql: there is no migration 0003"),
        ("0002_again.sql", "SELECT 1", r"^0002_two\.sql: number 0002 is there twice"),
        ("0000_zero.sql", "SELECT 1", r"^0000_zero\.sql: "),
        ("3_three.sql", "SELECT 1", r"^3_three\.sql: a migration is called NNNN_name"),
        ("0003_own.sql", "SELECT 1;\nCOMMIT;", r"^0003_own\.sql:2: a migration is one transaction"),
        ("0003_own.sql", " begin work ;\nSELECT 1", r"^0003_own\.sql:1: a migration is one"),
    ],
)
async def test_files_that_are_not_in_order_are_refused_before_anything_is_applied(
    connection: asyncpg.Connection[asyncpg.Record],
    directory: Path,
    name: str,
    text: str,
    message: str,
) -> None:
    (directory / name).write_text(text)
    with pytest.raises(MigrationFault, match=message):
        await migrate(connection, directory=directory)
    assert await tables(connection) == set()


async def test_a_connection_inside_a_transaction_is_refused(
    connection: asyncpg.Connection[asyncpg.Record], directory: Path
) -> None:
    async with connection.transaction():
        with pytest.raises(ValueError, match="connection: "):
            await migrate(connection, directory=directory)


async def test_a_database_of_another_encoding_is_refused(server: EmbeddedPostgres) -> None:
    options = "ENCODING 'LATIN1' TEMPLATE template0 LOCALE_PROVIDER libc LOCALE 'C'"
    dsn = await create_database(server, options)
    with pytest.raises(MigrationFault, match="encoded as LATIN1"):
        await migrate(dsn)


async def test_the_shipped_files_apply_to_an_empty_database(
    connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    names = sorted(path.stem for path in OWN_FILES.glob("*.sql"))
    assert await migrate(connection) == names
    assert set(CATALOGUE_TABLES) <= await tables(connection)


async def test_databases_of_one_server_may_be_migrated_at_once(
    server: EmbeddedPostgres, tmp_path: Path
) -> None:
    # Roles belong to the server. New names, so that all runners find them missing.
    text = (OWN_FILES / "0001_catalogue.sql").read_text()
    for attempt in range(5):
        directory = tmp_path / str(attempt)
        directory.mkdir()
        (directory / "0001_catalogue.sql").write_text(text.replace("housefull_", f"race{attempt}_"))
        dsns = [await create_database(server) for _ in range(4)]
        results = await asyncio.gather(*(migrate(dsn, directory=directory) for dsn in dsns))
        assert results == [["0001_catalogue"]] * 4


@pytest.fixture
async def migrated(dsn: str, tmp_path: Path) -> str:
    # Only the catalogue: what the later files grant is tested beside them.
    directory = tmp_path / "catalogue_only"
    directory.mkdir()
    shutil.copy(OWN_FILES / "0001_catalogue.sql", directory)
    await migrate(dsn, directory=directory)
    return dsn


def database_of(dsn: str) -> str:
    return dsn.split("@/")[1].split("?")[0]


async def test_the_application_may_read_the_catalogue_and_change_nothing(
    server: EmbeddedPostgres, migrated: str
) -> None:
    owner = await asyncpg.connect(migrated)
    await ensure_application_role(owner, "reader", "s3cret'\"$%I")
    await owner.close()
    dsn = server.dsn(database_of(migrated), user="reader", password="s3cret'\"$%I")
    reader = await asyncpg.connect(dsn)
    for table in (*CATALOGUE_TABLES, "schema_migration"):
        await reader.fetch(f"SELECT * FROM {table}")
        for statement in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"DROP TABLE {table}",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(statement)
    for statement in (
        "UPDATE show SET placement = 'pooled'",
        "UPDATE schema_migration SET checksum = ''",
        "CREATE TABLE mine (n integer)",
        "CREATE ROLE another",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(statement)
    await reader.close()


async def test_an_organiser_may_change_a_show_but_not_what_it_is_made_of(
    server: EmbeddedPostgres, migrated: str
) -> None:
    owner = await asyncpg.connect(migrated)
    await ensure_application_role(owner, "organiser", "word")
    await owner.close()
    dsn = server.dsn(database_of(migrated), user="organiser", password="word")
    organiser = await asyncpg.connect(dsn, server_settings={"role": ORGANISER_GROUP})
    await organiser.execute("UPDATE show SET title = 'x', placement = 'pooled'")
    await organiser.execute("INSERT INTO stop (place_code, name, name_key) VALUES ('A', 'A', 'a')")
    for statement in (
        "UPDATE show SET plan_id = plan_id",
        "UPDATE show SET route_id = route_id",
        "UPDATE show SET source_key = source_key",
        "UPDATE seating_plan SET layout = layout",
        "UPDATE route SET stops = stops",
        "DELETE FROM show",
        "DELETE FROM seating_plan",
        "UPDATE schema_migration SET checksum = ''",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await organiser.execute(statement)
    await organiser.close()


@pytest.mark.parametrize("group", [ORGANISER_GROUP, ACCOUNTS_GROUP])
async def test_the_application_has_the_rights_of_a_group_only_when_it_takes_it_on(
    server: EmbeddedPostgres, dsn: str, group: str
) -> None:
    owner = await asyncpg.connect(dsn)
    await migrate(owner)
    for _ in range(2):
        await ensure_application_role(owner, "changeling", "word")
    only_for_it = f"only_for_{group}"
    await owner.execute(f"CREATE TABLE {only_for_it} (n integer)")
    await owner.execute(f"GRANT SELECT ON {only_for_it} TO {group}")
    await owner.close()
    app_dsn = server.dsn(database_of(dsn), user="changeling", password="word")

    plain = await asyncpg.connect(app_dsn)
    await plain.fetch("SELECT FROM show")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await plain.fetch(f"SELECT FROM {only_for_it}")
    await plain.close()

    changed = await asyncpg.connect(app_dsn, server_settings={"role": group})
    assert await changed.fetchval("SELECT current_user") == group
    await changed.fetch(f"SELECT FROM {only_for_it}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await changed.fetch("SELECT FROM journal")
    await changed.close()


async def test_a_role_that_may_use_the_newest_schema_may_also_run_the_migrations(
    server: EmbeddedPostgres, dsn: str
) -> None:
    owner = await asyncpg.connect(dsn)
    await migrate(owner)
    await ensure_application_role(owner, "user of the house", "word")
    assert await owner.fetchval(
        "SELECT pg_has_role('user of the house', $1, 'MEMBER')", APPLICATION_GROUP
    )
    await owner.close()
    assert await migrate(server.dsn(database_of(dsn), "user of the house", "word")) == []


async def test_many_sessions_may_ensure_one_role_at_once(migrated: str) -> None:
    for name in ("one role", 'quo"ted', "it's", "ženy"):
        sessions = [await asyncpg.connect(migrated) for _ in range(6)]
        await asyncio.gather(
            *(ensure_application_role(session, name, "same") for session in sessions)
        )
        member = await sessions[0].fetchval(
            "SELECT pg_has_role($1, 'housefull_application', 'MEMBER')", name
        )
        assert member
        for session in sessions:
            await session.close()


async def test_a_password_is_changed_or_left_and_never_stored_as_it_is(
    server: EmbeddedPostgres, migrated: str
) -> None:
    owner = await asyncpg.connect(migrated)
    database = database_of(migrated)
    await ensure_application_role(owner, "changing", "first")
    await ensure_application_role(owner, "changing", "second")
    await ensure_application_role(owner, "changing", None)
    stored = await owner.fetchval("SELECT rolpassword FROM pg_authid WHERE rolname = 'changing'")
    assert stored.startswith("SCRAM-SHA-256$4096:")
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(server.dsn(database, user="changing", password="first"))
    await (await asyncpg.connect(server.dsn(database, user="changing", password="second"))).close()
    await owner.close()


async def test_a_group_that_was_made_without_login_can_log_in_afterwards(
    server: EmbeddedPostgres, migrated: str
) -> None:
    owner = await asyncpg.connect(migrated)
    await owner.execute("CREATE ROLE sleeping NOLOGIN")
    await ensure_application_role(owner, "sleeping", "awake")
    dsn = server.dsn(database_of(migrated), user="sleeping", password="awake")
    await (await asyncpg.connect(dsn)).close()
    await owner.close()


@pytest.mark.parametrize(
    ("role", "password", "field"),
    [("", "x", "role"), ("a\0b", "x", "role"), ("ž" * 32, "x", "role"),
     ("r", "", "password"), ("r", "pä", "password"), ("r", "a\nb", "password")],
)  # fmt: skip
async def test_names_and_passwords_that_cannot_be_are_refused(
    migrated: str, role: str, password: str, field: str
) -> None:
    owner = await asyncpg.connect(migrated)
    with pytest.raises(ValueError, match=f"^{field}: "):
        await ensure_application_role(owner, role, password)
    await owner.close()
