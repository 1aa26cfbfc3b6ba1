"""The data directory of a house: who uses it, what runs in it, and where its files are.

house.lock            locked by the process that uses the directory; names it
running.json          mode 0600; while a house runs: its addresses and DSNs, for other commands
run                   link to the run's own short directory (see ``RunDirectory``)
application.password  mode 0600; of the database role that serves customers
gateway.secret        mode 0600; by which applications know the gateway
demo.logins           mode 0600; passwords of a demo house (see ``demo_logins``)
sandbox.keys          mode 0600; what the house and its payment sandbox know each other by
ray.token             mode 0600; what Ray's processes show each other, new in every run
postgres/, valkey/    the embedded servers' own
sandbox/              what the payment sandbox remembers
mail/                 letters, when there is no mail server
ray/, logs/           logs; those of the latest runs are kept
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from persistence.child_process import process_is_alive
from serve_app.house_error import HouseError

SESSIONS_KEPT = 3

_STOPPING_PATIENCE_S = 20
_POLL_S = 0.1
_RUN_PREFIX = "hfrun-"
# Ray's longest socket is this much longer than the directory it is told to use:
# /session_2026-01-31_23-59-59_123456_4194304/sockets/plasma_store
_RAY_SOCKET_BYTES = 68
_SOCKET_PATH_BYTES_MAX = 103


class HouseInUse(HouseError):
    """Another process uses this data directory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningHouse:
    """What other commands need to know about a house that runs; holds secrets.

    ``pid`` is the launcher's: the process that stops everything when it is interrupted.
    ``sandbox_url`` is where the house's payment sandbox is, if it has one.
    """

    pid: int
    url: str
    database_urls: tuple[str, ...]
    admin_database_urls: tuple[str, ...]
    redis_url: str
    ray_address: str
    started_at_ms: int
    sandbox_url: str | None = None


class DataDirectory:
    """The files of one data directory. Only the holder of ``used_by`` may change them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.postgres = path / "postgres"
        self.valkey = path / "valkey"
        self.ray = path / "ray"
        self.logs = path / "logs"
        self.ray_token = path / "ray.token"
        self.sandbox = path / "sandbox"
        self.sandbox_keys = path / "sandbox.keys"
        self._lock = path / "house.lock"
        self._running = path / "running.json"

    def create(self) -> None:
        """Make it, closed to other users.

        Raises:
            HouseError: it cannot be made or written.
        """
        try:
            for folder in (self.path, self.ray, self.logs):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HouseError(f"cannot keep data in {self.path}: {error.strerror}") from error

    @contextlib.contextmanager
    def used_by(self, what: str, pid: int) -> Iterator[None]:
        """Keep everybody else out.

        A house whose launcher is gone is about to end; it is waited for.

        Args:
            what: the command, for the message another one will show.
            pid: the process to stop if somebody wants the directory.

        Raises:
            HouseInUse: somebody has it; the message names the process.
        """
        self.create()
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HouseError(f"cannot write in {self.path}: {error.strerror}") from error
        try:
            self._wait_for_lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps([what, pid]).encode(), 0)
            # Whatever a house that was killed has left.
            self.forget_running()
            yield
        finally:
            os.close(descriptor)

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + _STOPPING_PATIENCE_S
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                what, pid = _read_holder(descriptor)
                if process_is_alive(pid) or time.monotonic() > deadline:
                    raise HouseInUse(
                        f"{self.path} is in use by `{what}` (process {pid}): stop it first, or "
                        "choose another directory with HOUSEFULL_DATA_DIR"
                    ) from None
                time.sleep(_POLL_S)
            else:
                return

    def is_used(self) -> bool:
        """Whether some process holds the directory now."""
        try:
            descriptor = os.open(self._lock, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)

    def remember_running(self, house: RunningHouse) -> None:
        """Tell other commands how to reach the house."""
        write_private(self._running, json.dumps(asdict(house), indent=2))

    def forget_running(self) -> None:
        """No house runs any more."""
        self._running.unlink(missing_ok=True)

    def clear_after_crash(self) -> None:
        """Remove what a house that was killed has left, unless somebody uses the directory."""
        if self.path.is_dir() and not self.is_used():
            self.forget_running()
            clear_run_directory(self.path)

    def running(self) -> RunningHouse | None:
        """The house that runs here now, if any."""
        if not self.is_used():
            return None
        try:
            content = json.loads(self._running.read_text())
        except FileNotFoundError:
            return None
        for field in ("database_urls", "admin_database_urls"):
            content[field] = tuple(content[field])
        return RunningHouse(**content)

    def application_password(self) -> str:
        """The password of the role that serves customers, made at the first call."""
        return self._kept_secret("application.password")

    def gateway_secret(self) -> str:
        """What the gateway shows to be believed, made at the first call."""
        return self._kept_secret("gateway.secret")

    def renew_ray_token(self) -> Path:
        """A new token for Ray's processes to know each other by; returns the file it is in."""
        write_private(self.ray_token, secrets.token_hex(32))
        return self.ray_token

    def _kept_secret(self, name: str) -> str:
        path = self.path / name
        with contextlib.suppress(FileNotFoundError):
            if secret := path.read_text().strip():
                return secret
        secret = secrets.token_urlsafe(32)
        write_private(path, secret)
        return secret

    def forget_old_sessions(self) -> None:
        """Remove Ray's logs but those of the latest runs."""
        sessions = sorted(self.ray.glob("session_2*"), key=lambda path: path.name)
        for session in sessions[: -SESSIONS_KEPT or None]:
            shutil.rmtree(session, ignore_errors=True)


def make_run_directory() -> Path:
    """A new private directory whose path is short enough for Ray's sockets.

    Raises:
        HouseError: there is no place with a short path.
    """
    budget = _SOCKET_PATH_BYTES_MAX - _RAY_SOCKET_BYTES - len("/ray")
    for parent in (tempfile.gettempdir(), "/tmp"):
        path = Path(tempfile.mkdtemp(prefix=_RUN_PREFIX, dir=parent))
        if len(os.fsencode(path)) <= budget:
            return path
        path.rmdir()
    raise HouseError(f"no directory with a short path below {tempfile.gettempdir()} or /tmp")


class RunDirectory:
    """What one run keeps outside of its data directory, in a directory made for it.

    ``run`` in the data directory links to it, so that the next run can clear away what a crash
    left; ``ray`` in it links back, so that Ray's logs are kept with the data.
    """

    def __init__(self, data: DataDirectory, path: Path) -> None:
        self._data = data
        self.path = path
        self.ray = path / "ray"
        self.haproxy = path / "haproxy"
        self.heartbeats = path / "heartbeats"
        self._descriptor = -1

    def __enter__(self) -> RunDirectory:
        clear_run_directory(self._data.path)
        (self._data.path / "run").symlink_to(self.path)
        self.ray.symlink_to(self._data.ray)
        self.heartbeats.mkdir(mode=0o700)
        self.haproxy.mkdir(mode=0o700)
        # systemd clears old files out of /tmp, but leaves a directory alone that is locked.
        self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
        clear_run_directory(self._data.path)


def clear_run_directory(data: Path) -> None:
    """Remove a run's own directory, and the link to it from the data directory ``data``."""
    entry = data / "run"
    if not entry.is_symlink():
        return
    target = entry.readlink()
    # Never follow a link that somebody else put there.
    if target.name.startswith(_RUN_PREFIX) and not target.is_symlink():
        shutil.rmtree(target, ignore_errors=True)
    entry.unlink()


def write_private(path: Path, content: str) -> None:
    """Write a file that only this user can read, all of it or nothing."""
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    unfinished.replace(path)


def _read_holder(descriptor: int) -> tuple[str, int]:
    try:
        what, pid = json.loads(os.pread(descriptor, 500, 0))
        return str(what), int(pid)
    except ValueError:
        # It has the lock and has not written yet.
        return "another command", 0
