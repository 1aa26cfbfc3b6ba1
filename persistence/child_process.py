"""Run a database server that does not outlive the process that needs it.

Theory of operation

A launcher (the "owner") never starts a server directly. It starts this file as a program, and
this program prepares the process and then turns into the server with ``exec``, so the process
id the owner sees is the server's own:

    python persistence/child_process.py [options] -- COMMAND ARGUMENTS...

    --pdeathsig INT|TERM|KILL   The kernel sends this signal when the owner dies, however it
                                dies. Linux only; elsewhere the option is accepted and does
                                nothing, so a server survives ``kill -9`` of its owner there.
    --parent PID                The owner. If the parent is already another process, the owner
                                died before the signal was armed, and nothing is started.
    --unprivileged[=WAY]        PostgreSQL refuses to run as root. WAY "namespace" enters a user
                                namespace in which this user is 65534: files stay owned by root
                                and every directory root owns stays reachable. WAY "nobody" really
                                becomes user 65534. Without WAY: nothing unless the user is root,
                                then "namespace" where the kernel permits it, else "nobody".
    --clean-env                 The server gets a minimal environment, because the owner's holds
                                payment keys and passwords that are none of its business.

Without COMMAND it only tries the options and exits 0 when they work. Exit codes of its own are
those of ``env``: 125 for its own failure, 126 when COMMAND cannot run, 127 when it is missing.

The signal is armed after the change of user, because the kernel disarms it on such a change. It
fires when the *thread* that started the server ends, not only when the process does: call
``ChildProcess.start`` from a thread that lives as long as the owner, normally the main thread.

Only the standard library is used, and of that only what loads fast: this file runs once for
every server start, also where the package itself cannot be imported.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Way = Literal["same", "namespace", "nobody"]

NOBODY_ID = 65534
LOG_BYTES_MAX = 10 * 1024 * 1024
LOG_TAIL_LINES = 20

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_DEATH_SIGNALS = {"INT": signal.SIGINT, "TERM": signal.SIGTERM, "KILL": signal.SIGKILL}
_CLEAN_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_POLL_S = 0.01
_PROGRAM = os.path.abspath(__file__)


class EmbeddedServerError(RuntimeError):
    """An embedded server cannot start, or cannot be used; the message says what to do."""


# --- The program: change user, arm the signal, become the server -----------------------------


class _Options(NamedTuple):
    death_signal: signal.Signals | None
    parent_pid: int
    way: Way
    clean_environment: bool
    command: list[str]


class _UsageError(Exception):
    pass


def _parse(arguments: Sequence[str]) -> _Options:
    # argparse alone would double the time this program takes.
    death_signal: signal.Signals | None = None
    parent_pid = os.getppid()
    way: Way = "same"
    clean_environment = False
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        name, _, value = option.partition("=")
        if option == "--":
            break
        if option == "--clean-env":
            clean_environment = True
        elif name == "--unprivileged":
            if value == "":
                way = unprivileged_way() if os.geteuid() == 0 else "same"
            elif value in ("namespace", "nobody"):
                way = "namespace" if value == "namespace" else "nobody"
            else:
                raise _UsageError(f"--unprivileged={value}: WAY is namespace or nobody")
        elif name in ("--pdeathsig", "--parent"):
            if "=" not in option:
                value = rest.pop(0) if rest else ""
            if name == "--pdeathsig" and value in _DEATH_SIGNALS:
                death_signal = _DEATH_SIGNALS[value]
            elif name == "--parent" and value.isdecimal():
                parent_pid = int(value)
            else:
                raise _UsageError(f"{name}: bad value {value!r}")
        else:
            raise _UsageError(f"unknown option {option!r}; put -- before the command")
    return _Options(death_signal, parent_pid, way, clean_environment, rest)


def _enter_user_namespace() -> None:
    """Become user 65534 in a namespace of our own, and stay the same user for every file."""
    user_id, group_id = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "unshare"):
        raise OSError("user namespaces exist only on Linux")
    if libc.unshare(_CLONE_NEWUSER) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"new user namespace: {os.strerror(number)}")
    # The kernel accepts a group map from here only once setgroups is given up.
    for name, content in (
        ("setgroups", "deny"),
        ("gid_map", f"{NOBODY_ID} {group_id} 1"),
        ("uid_map", f"{NOBODY_ID} {user_id} 1"),
    ):
        descriptor = os.open(f"/proc/self/{name}", os.O_WRONLY)
        try:
            os.write(descriptor, content.encode())
        finally:
            os.close(descriptor)


def _become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY_ID)
    os.setuid(NOBODY_ID)


def _arm_death_signal(death_signal: signal.Signals, parent_pid: int) -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(death_signal), 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"parent death signal: {os.strerror(number)}")
    if os.getppid() != parent_pid:
        # It died before the line above, so no signal will ever come.
        raise OSError(f"the parent, process {parent_pid}, is already gone")


def _reset_signals() -> None:
    # Python ignores SIGPIPE, and a shell may have started the owner with SIGINT ignored or
    # blocked; the server would inherit all of it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def main(arguments: Sequence[str]) -> int:
    """Do what the module's docstring says; returns only when the command was not started."""
    try:
        options = _parse(arguments)
        _reset_signals()
        if options.way == "namespace":
            _enter_user_namespace()
        elif options.way == "nobody":
            _become_nobody()
        if options.death_signal is not None:
            _arm_death_signal(options.death_signal, options.parent_pid)
    except (OSError, _UsageError) as error:
        print(f"child_process: {error}", file=sys.stderr)
        return 125
    if not options.command:
        return 0
    program = options.command[0]
    try:
        if options.clean_environment:
            os.execvpe(program, options.command, _CLEAN_ENVIRONMENT)
        os.execvp(program, options.command)
    except OSError as error:
        print(f"child_process: {program}: {error.strerror}", file=sys.stderr)
        return 127 if isinstance(error, FileNotFoundError) else 126


# --- Which user the server is, and what that user can reach ------------------------------------


class ServerIdentity(NamedTuple):
    """How a server runs, and whose permissions the kernel applies to its file accesses."""

    way: Way
    user_id: int
    group_id: int

    def adopt(self, path: Path) -> None:
        """Give ``path`` and all below it to the server; needed only when this process is root."""
        if os.geteuid() != 0 or os.lstat(path).st_uid == self.user_id:
            return
        for folder, folders, files in os.walk(path):
            for name in (*folders, *files):
                os.lchown(os.path.join(folder, name), self.user_id, self.group_id)
        # Last, so that an interrupted walk is seen as unfinished the next time.
        os.lchown(path, self.user_id, self.group_id)

    def can_reach(self, path: Path) -> bool:
        """Whether the server may enter every directory above ``path``, and ``path`` itself.

        It looks at the permission bits only, so an access list may make this answer wrong.
        """
        if self.way == "same":
            return True
        for directory in (path, *path.parents):
            status = os.stat(directory)
            if status.st_uid == self.user_id:
                wanted = stat.S_IXUSR
            elif status.st_gid == self.group_id:
                wanted = stat.S_IXGRP
            else:
                wanted = stat.S_IXOTH
            if not status.st_mode & wanted:
                return False
        return True


def own_identity() -> ServerIdentity:
    """The identity of this process, unchanged."""
    return ServerIdentity("same", os.geteuid(), os.getegid())


def unprivileged_way() -> Way:
    """How a server that refuses root runs here: in a user namespace if the kernel permits it.

    Containers often forbid it, hence the trial in a process of its own: one that has entered a
    namespace it cannot map has no way back.
    """
    trial = subprocess.run(
        [sys.executable, "-I", "-S", _PROGRAM, "--unprivileged=namespace"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return "namespace" if trial.returncode == 0 else "nobody"


def unprivileged_identity() -> ServerIdentity:
    """The identity for a server that refuses to be root and wants a user with a name."""
    if os.geteuid() == 0:
        way = unprivileged_way()
        if way == "nobody":
            return ServerIdentity(way, NOBODY_ID, NOBODY_ID)
        return ServerIdentity(way, 0, os.getegid())
    import pwd

    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        # A container started with a bare user number; initdb insists on a name.
        if unprivileged_way() == "namespace":
            return ServerIdentity("namespace", os.geteuid(), os.getegid())
    return own_identity()


def process_is_alive(pid: int) -> bool:
    """Whether a process with this id exists and is not a zombie."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        with open(f"/proc/{pid}/stat", "rb") as status:
            # The name before the state is in parentheses and may itself hold some.
            return status.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return sys.platform != "linux"


# --- The owner's side of a running server ------------------------------------------------------


class ChildProcess:
    """One server process: its log, its readiness, its end.

    The server is in a session of its own, so Ctrl-C in a terminal reaches the owner only and the
    owner can still write to its database while it stops.
    """

    def __init__(self, name: str, log_path: Path) -> None:
        self._name = name
        self._log_path = log_path
        self._log_start_bytes = 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self,
        command: Sequence[str],
        *,
        death_signal: Literal["INT", "TERM", "KILL"],
        identity: ServerIdentity,
        inherited_descriptors: Sequence[int],
    ) -> None:
        """Start the command; everything it prints goes to the log file.

        The calling thread must live as long as the server shall: see the module's docstring.
        """
        assert not self.is_running, f"{self._name} is already running"
        wrapper = [sys.executable, "-I", "-S", _PROGRAM, "--clean-env"]
        wrapper += ["--pdeathsig", death_signal, "--parent", str(os.getpid())]
        if identity.way != "same":
            wrapper.append(f"--unprivileged={identity.way}")
        with open(self._open_log(), "ab", buffering=0) as log:
            self._process = subprocess.Popen(
                [*wrapper, "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The owner's own directory may be closed to the user the server becomes.
                cwd="/",
                umask=0o077,
                start_new_session=True,
                pass_fds=tuple(inherited_descriptors),
            )

    def wait_until_ready(self, is_ready: Callable[[], bool], *, timeout_ms: int) -> None:
        """Return once ``is_ready()`` is true; otherwise leave no process and raise.

        Raises:
            EmbeddedServerError: the process ended or took too long; the message ends with the
                last lines of its log.
        """
        deadline = time.monotonic() + timeout_ms / 1000
        try:
            while not is_ready():
                if not self.is_running:
                    raise self.failure(f"{self._name} ended with code {self.wait()} at its start")
                if time.monotonic() > deadline:
                    raise self.failure(f"{self._name} was not ready within {timeout_ms} ms")
                time.sleep(_POLL_S)
        except BaseException:
            self.kill()
            raise

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise EmbeddedServerError(f"{self._name} has not been started")
        return self._process.pid

    def wait(self, *, timeout_ms: int | None = None) -> int:
        """The exit code, once there is one; ``subprocess.TimeoutExpired`` when there is none."""
        assert self._process is not None, f"{self._name} has not been started"
        return self._process.wait(None if timeout_ms is None else timeout_ms / 1000)

    def stop(self, stop_signal: signal.Signals, *, timeout_ms: int) -> None:
        """Ask it to stop, and kill it when it has not done so in time."""
        if self._process is None:
            return
        self._process.send_signal(stop_signal)
        try:
            self.wait(timeout_ms=timeout_ms)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL: it gets no chance to write anything more."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def log_since_start(self) -> str:
        """What the process printed since the latest ``start``."""
        with open(self._log_path, "rb") as log:
            log.seek(self._log_start_bytes)
            return log.read().decode(errors="replace")

    def failure(self, what: str) -> EmbeddedServerError:
        """An error that says ``what`` and shows the end of the log."""
        tail = "\n".join(self.log_since_start().splitlines()[-LOG_TAIL_LINES:])
        return EmbeddedServerError(f"{what}. Last lines of {self._log_path}:\n{tail}")

    def _open_log(self) -> int:
        if self._log_path.exists() and self._log_path.stat().st_size > LOG_BYTES_MAX:
            self._log_path.replace(f"{self._log_path}.1")
        descriptor = os.open(
            self._log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._log_start_bytes = os.fstat(descriptor).st_size
        return descriptor


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
