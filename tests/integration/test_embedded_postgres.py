"""The embedded PostgreSQL: what survives, who is refused, what is left behind. Real servers."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

import asyncpg
import psutil
import pytest

from persistence.child_process import (
    EmbeddedServerError,
    process_is_alive,
)
from persistence.embedded_postgres import EmbeddedPostgres

REPOSITORY = Path(__file__).resolve().parents[2]
LIVENESS_S = 10

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

# The signal may come as soon as the line is printed.
OWNER_ON_CTRL_C = OWNER.replace("\nprint(", "\ntry:\n  print(").replace(
    "\ntime.sleep(600)",
    "\n  time.sleep(600)\nexcept KeyboardInterrupt:\n  print(server.is_running)",
)


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


def initdb_has_begun(home: Path) -> bool:
    return (home / "cluster.new" / "PG_VERSION").exists() or (home / "cluster").exists()


@linux_only
def test_kill_9_of_the_owner_during_initdb_leaves_no_process_and_a_usable_directory(
    data_dir: Path,
) -> None:
    for attempt in range(5):
        # On a busy machine initdb may be done before this process gets to kill anything.
        attempt_dir = data_dir / str(attempt)
        owner = start_owner(attempt_dir, OWNER)
        assert owner.stdout is not None
        try:
            assert eventually(partial(initdb_has_begun, attempt_dir))
        finally:
            owner.kill()
            owner.wait()
            owner.stdout.close()
        if not (attempt_dir / "cluster").exists():
            break
    else:
        pytest.fail("initdb was always faster than the kill")
    with EmbeddedPostgres(attempt_dir) as server:
        assert server.is_running
    assert not (attempt_dir / "cluster.new").exists()


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


def test_a_cluster_that_the_launcher_did_not_make_is_not_touched(used_dir: Path) -> None:
    cluster = used_dir / "cluster"
    before = sorted(cluster.iterdir())
    with pytest.raises(EmbeddedServerError, match="is itself a cluster"):
        EmbeddedPostgres(cluster).start()
    assert sorted(cluster.iterdir()) == before


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


@linux_only
def test_ctrl_c_reaches_the_owner_and_leaves_it_its_server(used_dir: Path) -> None:
    owner = start_owner(used_dir, OWNER_ON_CTRL_C)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline().split()[0])
    os.killpg(owner.pid, signal.SIGINT)
    last_words = owner.stdout.read()
    owner.stdout.close()
    assert owner.wait() == 0
    assert last_words == "True\n"
    assert not process_is_alive(pid)
