"""Nothing of a house outlives its launcher, whatever ends the launcher.

Theory of operation

Three processes, each the parent of the next:

    A  the launcher   ``run_guarded``: what the user started, sees, and stops with Ctrl-C
    B  the guardian   this file run as a program, in a session of its own, standard library only
    C  the house      any command; it starts everything else and stops it in good order

A holds the write end of a pipe and B its read end. A byte is a wish, ``s`` to stop and ``f`` to
stop at once; end of file says that A is gone, because nobody else holds the write end. This works
for ``kill -9``, for the out-of-memory killer and for a closed terminal, without asking anybody.

B is a "child subreaper": a process below it whose parent dies becomes a child of B instead of
init, also when it made a session of its own. So everything C ever started stays findable by
walking down from B, and only that is found. B moves through three states:

    running    wait for the pipe, or for C to end by itself
    stopping   C has had SIGTERM and may tidy up for ``--grace-ms``, or for ``--orphan-grace-ms``
               when A is gone
    sweeping   SIGTERM to every process still below B, after a second SIGKILL, looking again
               until none is left

then removes the directory that C kept its passing files in, which nobody can write to any more,
and ends with C's exit status (128 + n when a signal ended it). C gets SIGTERM from the kernel when
B dies. A is a subreaper too and sweeps in the same way when B was killed. Who kills A and B with
SIGKILL in one moment leaves C to its own good order; processes that C cannot stop then depend on
the parent-death signals they were started with.

Only Linux has subreapers and parent-death signals. Elsewhere Ctrl-C, SIGTERM and a launcher that
dies still stop C in good order, and C's process group is killed when it does not end; but
processes that left that group survive ``kill -9`` of C.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import FrameType

STOP_WISH = b"s"
FORCE_WISH = b"f"

GRACE_MS = 30_000
ORPHAN_GRACE_MS = 5_000
"""When A is gone. With the sweep after it, all is over within 10 s."""

_TERM_GRACE_MS = 1_000
_KILL_PATIENCE_MS = 3_000
_POLL_MS = 20
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_EXIT_CANNOT_RUN = 126
_HANDLED_SIGNALS = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
_PYTHON_IGNORES = {signal.SIGPIPE, signal.SIGXFSZ}


# --- Processes below this one ------------------------------------------------------------------


def _prctl(option: int, argument: int) -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(option, ctypes.c_ulong(argument), 0, 0, 0) == 0)


def _become_subreaper() -> None:
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _parent_and_start(pid: int) -> tuple[int, str] | None:
    """Of a process that still runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command before these fields is in parentheses and may itself hold some.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] in (b"Z", b"X"):
        return None
    return int(fields[1]), fields[19].decode()


def _process_table() -> dict[int, tuple[int, str]]:
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return {}
    return {pid: found for pid in pids if (found := _parent_and_start(pid)) is not None}


def descendants(spared: Iterable[int] = ()) -> dict[int, str]:
    """Every running process below this one and its start time, but ``spared`` and what they have.

    A zombie has no children: the kernel gave them to the nearest subreaper, this process.
    """
    table = _process_table()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: dict[int, str] = {}
    without = set(spared)
    waiting = [os.getpid()]
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in without and pid not in found:
                found[pid] = table[pid][1]
                waiting.append(pid)
    return found


def _signal_process(pid: int, start_time: str, number: signal.Signals) -> None:
    """Signal this process and never a later one that was given the same number."""
    try:
        handle = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return
    try:
        found = _parent_and_start(pid)
        if found is not None and found[1] == start_time:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
    finally:
        os.close(handle)


def reap(wanted: int | None = None) -> int | None:
    """Take the exit statuses of all ended children; that of ``wanted`` is returned."""
    status: int | None = None
    while True:
        try:
            pid, wait_status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if pid == 0:
            return status
        if pid == wanted:
            status = os.waitstatus_to_exitcode(wait_status)


def sweep(
    *, term_grace_ms: int, spared: Sequence[int] = (), take_status: Callable[[], object] = reap
) -> int:
    """End every process below this one; returns how many did not end even by SIGKILL."""
    started_at = time.monotonic()
    asked: dict[int, str] = {}
    while True:
        take_status()
        remaining = descendants(spared)
        elapsed_ms = (time.monotonic() - started_at) * 1000
        if not remaining or elapsed_ms > term_grace_ms + _KILL_PATIENCE_MS:
            return len(remaining)
        for pid, start_time in remaining.items():
            if elapsed_ms >= term_grace_ms:
                _signal_process(pid, start_time, signal.SIGKILL)
            elif asked.get(pid) != start_time:
                asked[pid] = start_time
                _signal_process(pid, start_time, signal.SIGTERM)
        time.sleep(_POLL_MS / 1000)


# --- B, the guardian ---------------------------------------------------------------------------


def _note_signal(number: int, frame: FrameType | None) -> None:
    """The wake-up descriptor has the number already; without a handler it would get none."""


class _Guardian:
    def __init__(
        self, command: list[str], scratch: str, wishes: int, grace_ms: int, orphan_grace_ms: int
    ) -> None:
        self._command = command
        self._scratch = scratch
        self._wishes = wishes
        self._grace_ms = grace_ms
        self._orphan_grace_ms = orphan_grace_ms
        self._house = 0
        self._status: int | None = None

    def run(self) -> int:
        _become_subreaper()
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in _HANDLED_SIGNALS:
            signal.signal(number, _note_signal)
        self._house = self._start_house()
        deadline: float | None = None
        watched = [self._wishes, wake_read]
        while self._status is None:
            patience = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select(watched, [], [], patience)
            self._take_status()
            grace_ms: int | None = None
            if wake_read in ready and set(os.read(wake_read, 512)) - {signal.SIGCHLD}:
                grace_ms = self._grace_ms
            if self._wishes in ready:
                wish = os.read(self._wishes, 512)
                if not wish:
                    watched.remove(self._wishes)
                    grace_ms = self._orphan_grace_ms
                elif FORCE_WISH in wish:
                    break
                else:
                    grace_ms = self._grace_ms
            if grace_ms is not None:
                if deadline is None:
                    self._signal_house(signal.SIGTERM)
                # A later wish can only shorten the time.
                candidate = time.monotonic() + grace_ms / 1000
                deadline = candidate if deadline is None else min(deadline, candidate)
            if deadline is not None and time.monotonic() >= deadline:
                break
        return self._finish()

    def _finish(self) -> int:
        if sys.platform != "linux":
            self._signal_house_group(signal.SIGTERM)
            time.sleep(_POLL_MS / 1000)
            self._signal_house_group(signal.SIGKILL)
        left = sweep(term_grace_ms=_TERM_GRACE_MS, take_status=self._take_status)
        if left:
            _tell(f"{left} processes do not end, not even by SIGKILL")
        _remove(self._scratch)
        if self._status is None and sys.platform != "linux":
            self._status = os.waitstatus_to_exitcode(os.waitpid(self._house, 0)[1])
        status = -int(signal.SIGKILL) if self._status is None else self._status
        return 128 - status if status < 0 else status

    def _start_house(self) -> int:
        guardian = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        # Nothing of B may happen in this child: it either becomes C or ends.
        try:
            signal.set_wakeup_fd(-1)
            for number in _HANDLED_SIGNALS | _PYTHON_IGNORES:
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)
            _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() == guardian:
                os.execvp(self._command[0], self._command)
        except BaseException as error:
            _tell(f"cannot run {self._command[0]}: {error}")
        os._exit(_EXIT_CANNOT_RUN)

    def _take_status(self) -> None:
        status = reap(self._house)
        if status is not None:
            self._status = status

    def _signal_house(self, number: signal.Signals) -> None:
        # B has not taken C's exit status, so the number cannot belong to anybody else.
        if self._status is None:
            os.kill(self._house, number)

    def _signal_house_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._house, number)


def _remove(scratch: str) -> None:
    if scratch:
        # Here, because B has no use for it while the house runs.
        import shutil

        shutil.rmtree(scratch, ignore_errors=True)


def _tell(text: str) -> None:
    # The terminal may be gone; that must not keep anybody from stopping.
    with contextlib.suppress(OSError):
        os.write(2, f"housefull: {text}\n".encode())


def main(arguments: list[str]) -> int:
    """B's program: ``guardian.py WISHES_FD GRACE_MS ORPHAN_GRACE_MS SCRATCH COMMAND...``."""
    wishes, grace_ms, orphan_grace_ms = (int(argument) for argument in arguments[:3])
    scratch, *command = arguments[3:]
    return _Guardian(command, scratch, wishes, grace_ms, orphan_grace_ms).run()


# --- A, the launcher's side --------------------------------------------------------------------


class GuardedEnd(NamedTuple):
    """How a guarded command ended.

    ``status`` is its exit status, 128 + n when signal n ended it or its guardian; ``was_asked``
    says whether a signal to this process had asked it to stop.
    """

    status: int
    was_asked: bool


def run_guarded(
    command: Sequence[str],
    *,
    scratch: str = "",
    grace_ms: int = GRACE_MS,
    orphan_grace_ms: int = ORPHAN_GRACE_MS,
) -> GuardedEnd:
    """Run a command that does not outlive this process.

    SIGINT, SIGTERM and SIGHUP ask the command to stop; the second one ends it at once. Call it
    from the main thread of a process that does nothing else: it takes over these signals, and if
    the guardian is killed every process started below this one meanwhile is ended.

    Args:
        command: the house. It should end soon after SIGTERM.
        scratch: a directory to remove with all its content when nothing of the house is left.
        grace_ms: how long the house may take after it was asked to stop.
        orphan_grace_ms: the same, when this process has died.
    """
    # Here, because B has no use for it and lives as long as the house.
    import subprocess

    _become_subreaper()
    spared = tuple(descendants())
    read_end, write_end = os.pipe()
    program = [sys.executable, "-I", "-S", os.path.abspath(__file__)]
    options = [str(read_end), str(grace_ms), str(orphan_grace_ms), scratch]
    wishes_made = 0

    def wish(number: int, frame: FrameType | None) -> None:
        nonlocal wishes_made
        wishes_made += 1
        try:
            os.write(write_end, STOP_WISH if wishes_made == 1 else FORCE_WISH)
        except BrokenPipeError:
            return
        if number == signal.SIGINT and wishes_made == 1:
            _tell("stopping; press Ctrl-C again to stop at once")

    # A wish that comes before the guardian is there waits in the pipe.
    signal.signal(signal.SIGINT, wish)
    signal.signal(signal.SIGTERM, wish)
    # Ignored means that the user wants the house to outlive the terminal (nohup).
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, wish)
    guardian = subprocess.Popen(
        [*program, *options, *command],
        stdin=subprocess.DEVNULL,
        pass_fds=(read_end,),
        start_new_session=True,
    )
    os.close(read_end)
    status = guardian.wait()
    if status >= 0:
        return GuardedEnd(status, wishes_made > 0)
    _tell(f"the guardian was ended by signal {-status}; ending the house")
    _let_the_house_stop(orphan_grace_ms, spared)
    sweep(term_grace_ms=_TERM_GRACE_MS, spared=spared)
    _remove(scratch)
    return GuardedEnd(128 - status, wishes_made > 0)


def _let_the_house_stop(grace_ms: int, spared: Sequence[int]) -> None:
    """The kernel has sent the house SIGTERM; give it the time to use it."""
    deadline = time.monotonic() + grace_ms / 1000
    while descendants(spared) and time.monotonic() < deadline:
        reap()
        time.sleep(_POLL_MS / 1000)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
