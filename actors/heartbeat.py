"""Signs of life that an actor's event loop leaves on its node, and how to read them.

A frozen process answers no call and Ray never notices, so life is shown without calls: every
actor owns a small file and writes the node's monotonic clock into it from its event loop. A
loop that is blocked, or a process that is stopped, falls silent. A sign also says when its
process was born, because the system gives the number of a dead process to another one.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from actors.process import look_at

_FORMAT = struct.Struct("<qqq")
BEAT_EVERY_MS = 250


class Heartbeat:
    """This process's own sign of life. Call ``beat`` from the event loop."""

    def __init__(self, directory: str, name: str) -> None:
        """Nothing is written before the first beat, so a constructor stays free of I/O."""
        self._path = Path(directory) / f"{name.replace(':', '_')}.{os.getpid()}"
        self._file: int | None = None
        self._birth = 0
        self._beat_at_ms = 0

    def beat(self) -> None:
        """Show life, at most four times a second whatever the caller does."""
        now_ms = time.monotonic_ns() // 1_000_000
        if now_ms - self._beat_at_ms < BEAT_EVERY_MS:
            return
        self._beat_at_ms = now_ms
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            me = look_at(os.getpid())
            assert me is not None, "this process runs"
            self._birth = me.birth
        os.pwrite(self._file, _FORMAT.pack(os.getpid(), self._birth, now_ms), 0)

    def stop(self) -> None:
        """Leave no sign: this process ends on purpose."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()


class Sign(NamedTuple):
    """One actor's last sign of life.

    Units:
        birth: see ``ProcessLook``.
        silent_ms: how long ago it was, by the node's monotonic clock.
    """

    path: Path
    pid: int
    birth: int
    silent_ms: int


def read_signs(directory: str) -> Iterator[Sign]:
    """Every sign of life on this node."""
    now_ms = time.monotonic_ns() // 1_000_000
    with contextlib.suppress(FileNotFoundError):
        for path in Path(directory).iterdir():
            with contextlib.suppress(OSError, struct.error):
                pid, birth, beat_at_ms = _FORMAT.unpack(path.read_bytes())
                yield Sign(path, pid, birth, now_ms - beat_at_ms)
