"""What a server's data directory needs besides the data: a lock, a socket, sound settings."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from persistence.child_process import EmbeddedServerError, ServerIdentity, process_is_alive

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping, Set

# sun_path of Linux holds 108 bytes, of macOS 104; one of them is the closing zero.
SOCKET_PATH_BYTES_MAX = 107 if sys.platform == "linux" else 103

_POLL_S = 0.01
_TEMPORARY_PREFIX = "housefull-"
# The characters that need no quoting in a server's configuration, in a URL or in a DSN.
_PLAIN_PATH_CHARACTERS = frozenset(
    "/._-+0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
)


class DirectoryLock:
    """At most one server for a data directory, as long as any process of that server lives.

    The lock belongs to the open file, and the server inherits the open file: the owner may die,
    the server may be killed, and the lock is free exactly when the last of the server's
    processes has let go of the data. A process id in a file could not tell that.
    """

    def __init__(self, directory: Path, server_name: str) -> None:
        self._directory = directory
        self._server_name = server_name
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file that the server has to inherit."""
        assert self._descriptor is not None, "the lock is not held"
        return self._descriptor

    def acquire(self, *, timeout_ms: int) -> None:
        """Take the lock, waiting while an earlier server is on its way out.

        Raises:
            EmbeddedServerError: the directory cannot be written, or a live server has it; the
                message names its process.
        """
        try:
            # Others may pass through but not look around: the server may be another user, and
            # everything inside has a stricter mode of its own.
            self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
            path = os.path.join(self._directory, "server.lock")
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._wait_for_lock(time.monotonic() + timeout_ms / 1000)
            self.record(server_pid=0)
        except OSError as error:
            self.close()
            raise EmbeddedServerError(
                f"cannot keep {self._server_name} data in {self._directory}: {error.strerror}"
            ) from error

    def record(self, *, server_pid: int) -> None:
        """Note who has the lock, for the message that another start will show."""
        content = f"{server_pid} {os.getpid()}\n".encode()
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, content, 0)

    def close(self) -> None:
        """Let go of this process's share of the lock; a running server keeps its own."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _wait_for_lock(self, deadline_s: float) -> None:
        while True:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                server_pid, owner_pid = self._holder()
                is_serving = server_pid == 0 or process_is_alive(server_pid)
                if (is_serving and process_is_alive(owner_pid)) or time.monotonic() > deadline_s:
                    self.close()
                    raise EmbeddedServerError(
                        f"{self._directory} is in use by {self._server_name} process "
                        f"{server_pid or '(starting)'}, started by process {owner_pid}: "
                        "stop it, or choose another directory"
                    ) from None
                time.sleep(_POLL_S)
            else:
                return

    def _holder(self) -> tuple[int, int]:
        words = os.pread(self.descriptor, 100, 0).split()
        # Empty for the instant between truncating and writing: nobody known, so ask again.
        return (int(words[0]), int(words[1])) if len(words) == 2 else (-1, -1)


class SocketDirectory:
    """A private directory whose path is short and plain enough for a unix socket.

    It is ``socket`` in the data directory when that fits, else a temporary directory to which
    ``socket`` is then a symbolic link, so that the next start can clear away what a crash left.
    """

    def __init__(self, home: Path, socket_name: str) -> None:
        self._entry = home / "socket"
        self._socket_name = socket_name
        self._path: Path | None = None

    @property
    def path(self) -> Path:
        if self._path is None:
            raise EmbeddedServerError("the server has not been started")
        return self._path

    def create(self, identity: ServerIdentity) -> Path:
        """Make it anew and empty; an object gets the same path again after its server died."""
        self._clear()
        if self._fits(self._entry):
            self._entry.mkdir(mode=0o700)
            self._path = self._entry
        else:
            self._path = self._temporary()
            self._entry.symlink_to(self._path)
        identity.adopt(self._path)
        return self._path

    def remove(self) -> None:
        """Clear it away after the server has stopped."""
        self._clear()

    def _fits(self, directory: Path) -> bool:
        path = os.path.join(directory, self._socket_name)
        return len(path) <= SOCKET_PATH_BYTES_MAX and _PLAIN_PATH_CHARACTERS.issuperset(path)

    def _temporary(self) -> Path:
        if self._path is not None and self._path != self._entry:
            try:
                self._path.mkdir(mode=0o700)
            except FileExistsError:
                # Somebody else may have made it since; never adopt what we did not create.
                pass
            else:
                return self._path
        for parent in (tempfile.gettempdir(), "/tmp"):
            directory = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, dir=parent))
            if self._fits(directory):
                return directory
            directory.rmdir()
        raise EmbeddedServerError(f"no directory with a short path for a socket of {self._entry}")

    def _clear(self) -> None:
        if self._entry.is_symlink():
            target = self._entry.readlink()
            if target.name.startswith(_TEMPORARY_PREFIX) and not target.is_symlink():
                shutil.rmtree(target, ignore_errors=True)
            self._entry.unlink()
        elif self._entry.exists():
            shutil.rmtree(self._entry)


def free_tcp_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago; another program may take it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def checked_settings(
    settings: Mapping[str, str], name_pattern: re.Pattern[str], decided_names: Set[str]
) -> dict[str, str]:
    """``settings`` with names in lower case, each safe to be one line of a configuration file.

    Raises:
        ValueError: names the setting that is none, that the launcher decides itself
            (``decided_names``), or whose value would be more than one line.
    """
    checked = {}
    for name, value in settings.items():
        if not name_pattern.fullmatch(name):
            raise ValueError(f"settings: {name!r} is not the name of a setting")
        if name.lower() in decided_names:
            raise ValueError(f"settings: {name} is decided by the launcher")
        if any(character in value for character in "\n\r\0"):
            raise ValueError(f"settings: the value of {name} has more than one line")
        checked[name.lower()] = value
    return checked
