"""Facts about processes: the one that an actor lives in, and its neighbours on the node."""

from __future__ import annotations

import gc
import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil

log = logging.getLogger(__name__)

_AUTOGROUP = Path("/proc/self/autogroup")
_AUTOGROUP_TRIES = 20
_AUTOGROUP_TRY_AGAIN_S = 0.05


class ProcessLook(NamedTuple):
    """A process that exists.

    Units:
        birth: when it was started, as a number that no later process with the same id has.

    ``state`` is the kernel's letter (R, S, D, T, ...).
    """

    state: str
    birth: int


def look_at(pid: int) -> ProcessLook | None:
    """The process with this id; None when it is gone, or dead and not yet buried.

    Source:
        ``/proc/PID/stat`` (Linux), fields 3 and 22. Elsewhere psutil, and every process that
        lives counts as sleeping.
    """
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            return None
        fields = stat.rpartition(")")[2].split()
        look = ProcessLook(fields[0], int(fields[19]))
        return None if look.state in "ZX" else look
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return ProcessLook("S", int(process.create_time() * 1_000))
    except psutil.NoSuchProcess:
        return None


def process_id() -> int:
    """This process's id on its node."""
    return os.getpid()


def give_way(priority: int) -> None:
    """Let this process, and all threads that it has now, run after those of a lower number.

    Those that they start inherit it. Where Linux groups the processes of each session, it divides
    the processor among the groups first, and a priority counts only inside its group: what this
    process uses would be charged to all of its session. Hence a session of its own, whose group
    has that priority.

    A system that forbids some of it is obeyed, with a line in the log.
    """
    try:
        _form_own_group(priority)
    except OSError as error:
        log.warning("a process that should give way shares its group with others: %s", error)
    threads = Path("/proc/self/task")
    # Linux gives each thread a priority of its own.
    numbers = [int(each.name) for each in threads.iterdir()] if threads.exists() else [0]
    for number in numbers:
        # A thread may have ended since.
        with suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, number, priority)


def _form_own_group(priority: int) -> None:
    if not _AUTOGROUP.exists():
        return
    if os.getsid(0) != os.getpid():
        if os.getpgrp() == os.getpid():
            # Who leads others may not leave the session: let somebody else lead for a moment.
            os.setpgid(0, os.getpgid(os.getppid()))
        os.setsid()
    for attempt in range(1, _AUTOGROUP_TRIES + 1):
        try:
            _AUTOGROUP.write_text(str(priority))
            return
        except BlockingIOError:
            # All users of a machine together may change ten groups a second.
            if attempt == _AUTOGROUP_TRIES:
                raise
            time.sleep(_AUTOGROUP_TRY_AGAIN_S)


def private_bytes() -> int:
    """Memory that this process alone uses, in bytes; 0 where the system does not tell.

    Source:
        ``/proc/self/smaps_rollup`` (Linux): private clean plus private dirty pages.
    """
    try:
        with open("/proc/self/smaps_rollup", encoding="ascii") as rollup:
            return 1024 * sum(
                int(line.split()[1]) for line in rollup if line.startswith("Private_")
            )
    except OSError:
        return 0


GC_THRESHOLDS = (20_000, 50, 50)
"""Python's own make it look through every plan and hold in memory again and again; measured, up
to a quarter of the time of a hold in a replica and a third of an activation in an actor."""


def calm_collector() -> None:
    """Let the garbage collector look less often: this process keeps much and leaks no circles."""
    gc.set_threshold(*GC_THRESHOLDS)
