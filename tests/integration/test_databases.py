"""Opening a house's databases: embedded, of a running house, and configured ones."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from persistence.child_process import EmbeddedServerError
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.provisioning import ensure_database
from serve_app.house.data_directory import DataDirectory, HouseInUse, RunningHouse
from serve_app.house.databases import open_databases
from serve_app.house_error import HouseError
from serve_app.settings import Settings, load_settings, variable_of
from tests.support.quick_postgres import quick_postgres


@pytest.fixture(autouse=True)
def only_what_the_test_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(variable_of(field), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with quick_postgres() as server:
        yield server


async def ask(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def in_other_process(script: str, *arguments: str) -> str:
    """The commands open databases outside of any event loop, and so do the tests."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


OPEN_AND_SHOW = """
import os, sys
from serve_app.house.databases import open_databases
from serve_app.settings import load_settings
from tests.support.quick_postgres import quick_postgres
here = os.getcwd()
os.chdir(sys.argv[1])
settings = load_settings()
with open_databases(settings, "test") as databases:
    import asyncio, asyncpg
    async def look():
        connection = await asyncpg.connect(databases.shards.catalogue_dsn)
        user = await connection.fetchval("SELECT current_user")
        try:
            await connection.execute("CREATE TABLE mine (x int)")
        except asyncpg.InsufficientPrivilegeError:
            user += " may not create tables"
        await connection.close()
        return user
    print(len(databases.migrations_applied) > 0, asyncio.run(look()), sep=";")
"""


def test_without_a_dsn_the_embedded_server_is_started_migrated_and_stopped(
    tmp_path: Path,
) -> None:
    first = in_other_process(OPEN_AND_SHOW, str(tmp_path))
    second = in_other_process(OPEN_AND_SHOW, str(tmp_path))
    assert first == "True;housefull may not create tables\n"
    assert second == "False;housefull may not create tables\n"
    assert not (tmp_path / ".housefull" / "postgres" / "socket").exists()


def test_the_databases_of_a_running_house_are_used_as_they_are(tmp_path: Path) -> None:
    settings = load_settings()
    data = DataDirectory(settings.data_dir)
    house = RunningHouse(
        pid=os.getpid(),
        url="http://127.0.0.1:8000",
        database_urls=("postgresql://house@/housefull?host=/run/x",),
        admin_database_urls=("postgresql://postgres@/housefull?host=/run/x",),
        redis_url="unix:///run/x",
        ray_address="",
        started_at_ms=0,
    )
    with data.used_by("housefull run", os.getpid()):
        data.remember_running(house)
        with open_databases(settings, "housefull import") as databases:
            assert databases.shards.dsns == house.database_urls
            assert databases.admin_urls == house.admin_database_urls


def test_two_commands_do_not_start_one_embedded_server_twice(tmp_path: Path) -> None:
    settings = load_settings()
    with (
        DataDirectory(settings.data_dir).used_by("housefull import", os.getpid()),
        pytest.raises(HouseInUse, match="in use by `housefull import`"),
    ):
        open_databases(settings, "housefull verify").__enter__()


async def test_with_separate_administrators_the_other_role_is_made_and_may_not_migrate(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await ensure_database(postgres.dsn(), "configured")
    url = postgres.dsn("configured", "tickets", "p@ss/word")
    monkeypatch.setenv("HOUSEFULL_DATABASE_URLS", url)
    monkeypatch.setenv("HOUSEFULL_ADMIN_DATABASE_URLS", postgres.dsn("configured"))
    assert in_other_process(OPEN_AND_SHOW, str(tmp_path)) == "True;tickets may not create tables\n"
    assert await ask(url, "SELECT count(*) FROM show") == 0
    assert not (tmp_path / ".housefull").exists()


def test_a_database_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("persistence.provisioning.CONNECT_PATIENCE_MS", 300)
    monkeypatch.setenv("HOUSEFULL_DATABASE_URLS", "postgresql://house:s3cret@127.0.0.1:1/seats")
    with pytest.raises(HouseError, match=r"^postgresql://house:\*\*\*@127.0.0.1:1/seats: cannot"):
        open_databases(load_settings(), "test").__enter__()


def test_a_wrong_password_is_an_error_at_once(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.dsn("postgres", "postgres", "wrong")
    monkeypatch.setenv("HOUSEFULL_DATABASE_URLS", url)
    with pytest.raises(HouseError, match="cannot be used: password authentication failed"):
        open_databases(load_settings(), "test").__enter__()


def test_a_directory_of_somebody_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / ".housefull" / "postgres").mkdir(parents=True)
    (tmp_path / ".housefull" / "postgres" / "PG_VERSION").write_text("18\n")
    with pytest.raises(EmbeddedServerError, match="is itself a cluster"):
        open_databases(load_settings(), "test").__enter__()
