"""The watchdog of one node: kills show actors whose event loop has fallen silent.

Ray restarts an actor whose process dies, but never notices one that hangs. The watchdog turns
the second case into the first. It must not turn a slow moment into an outage, so it waits:

    stopped by a signal (state T)     2.5 s of silence
    anything else                     5 s of silence

and it distrusts itself: after a pause of its own (the whole node was frozen) every actor gets
the full time again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time

from actors.heartbeat import Sign, read_signs
from actors.process import look_at

log = logging.getLogger(__name__)

SCAN_EVERY_MS = 250
STOPPED_SILENCE_MS_MAX = 2_500
SILENCE_MS_MAX = 5_000
OWN_PAUSE_MS_MAX = 1_000


class Watchdog:
    """Scans the signs of life of one node. ``scan`` is called four times a second."""

    def __init__(self, heartbeat_dir: str) -> None:
        self._heartbeat_dir = heartbeat_dir
        self._scanned_at_ms = _now_ms()
        self._trusts_signs_from_ms = _now_ms()
        self.killed: list[int] = []

    def scan(self) -> None:
        """Kill what has been silent for too long; tidy up after what is gone."""
        now_ms = _now_ms()
        if now_ms - self._scanned_at_ms > OWN_PAUSE_MS_MAX:
            self._trusts_signs_from_ms = now_ms
        self._scanned_at_ms = now_ms
        for sign in read_signs(self._heartbeat_dir):
            look = look_at(sign.pid)
            if look is None or look.birth != sign.birth:
                with contextlib.suppress(FileNotFoundError):
                    sign.path.unlink()
            elif self._is_silent(sign, look.state, now_ms):
                self._kill(sign)

    def _is_silent(self, sign: Sign, state: str, now_ms: int) -> bool:
        silent_ms = min(sign.silent_ms, now_ms - self._trusts_signs_from_ms)
        return silent_ms > (STOPPED_SILENCE_MS_MAX if state == "T" else SILENCE_MS_MAX)

    def _kill(self, sign: Sign) -> None:
        log.error("%s has been silent for %d ms: killing it", sign.path.name, sign.silent_ms)
        self.killed.append(sign.pid)
        with contextlib.suppress(ProcessLookupError):
            os.kill(sign.pid, signal.SIGKILL)


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
