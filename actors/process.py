"""Facts about processes: the one that an actor lives in, and its neighbours on the node."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import psutil


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
    """Let all threads that this process has now run after those of a lower number.

    Those that they start inherit it. A system that forbids it leaves the process as it is.
    """
    threads = Path("/proc/self/task")
    # Linux gives each thread a priority of its own.
    numbers = [int(each.name) for each in threads.iterdir()] if threads.exists() else [0]
    for number in numbers:
        # A thread may have ended since.
        with suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, number, priority)


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
