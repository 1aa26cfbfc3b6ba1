"""A PostgreSQL server for tests that do not ask what survives the machine.

Its files are in memory where the machine has room for that: a database of a test is made and
dropped in a twentieth of the time, and nothing waits for a disk. Its cluster is a copy of one that
this process has made before: ``initdb`` takes longer than all other steps of a start. In every
other way it is the server that a house has.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from persistence.embedded_postgres import PASSWORD_FILE, EmbeddedPostgres

_MEMORY = Path("/dev/shm")
_MEMORY_FREE_MIN = 4 * 2**30
_PREFIX = "housefull-tests-"
_made: dict[Path | None, Path] = {}
"""By its binaries: the data directory of a server that was stopped before it was used."""


@contextmanager
def quick_postgres(
    binaries: Path | None = None, settings: Mapping[str, str] | None = None
) -> Iterator[EmbeddedPostgres]:
    """A running server in a directory of its own, which goes away with it."""
    directory = _new_directory()
    try:
        _put_cluster(binaries, directory / "pg")
        with EmbeddedPostgres(directory / "pg", binaries=binaries, settings=settings) as server:
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def copy_of(template: str) -> str:
    """How ``CREATE DATABASE`` copies a template best on such a server."""
    return f"TEMPLATE {template}" + " STRATEGY FILE_COPY" * (_place() is not None)


def _put_cluster(binaries: Path | None, data_dir: Path) -> None:
    made = _made.get(binaries)
    if made is None:
        made = _made[binaries] = _new_directory() / "pg"
        atexit.register(shutil.rmtree, made.parent, ignore_errors=True)
        with EmbeddedPostgres(made, binaries=binaries):
            pass
    if not (made / "cluster").is_dir():
        # It is where its user can reach it, so that every server needs one of its own.
        return
    data_dir.mkdir()
    shutil.copytree(made / "cluster", data_dir / "cluster", symlinks=True)
    shutil.copy2(made / PASSWORD_FILE, data_dir)


def _new_directory() -> Path:
    _remove_what_the_dead_left()
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_place()))


def _place() -> Path | None:
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_FREE_MIN:
        return _MEMORY
    return None


def _remove_what_the_dead_left() -> None:
    """Memory, unlike a disk, is missed: what a killed run could not remove, the next one does."""
    if not _MEMORY.is_dir():
        return
    for left in _MEMORY.glob(f"{_PREFIX}*"):
        pid = left.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdecimal() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(left, ignore_errors=True)
