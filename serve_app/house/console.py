"""What a starting house tells the person, or the log collector, in front of it.

Ray and the libraries below it write to standard output and error whatever they like.
``Console`` keeps the terminal for the house: it takes both descriptors for itself and sends
everything else to a log file.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from pathlib import Path
from typing import TextIO

from serve_app.logs import LogFormat, LogLevel, formatter_of, log_file_handler

LOG_FILE = "house.log"
STRAY_FILE = "house.stray.log"

_log = logging.getLogger("housefull")


class Console:
    """Progress, results and errors of one house.

    In text format, the terminal shows plain sentences, and log records from ``warning`` up.
    In JSON format it shows every record of the wanted level, the sentences among them, because a
    collector reads it. All records also go to the log file.

    Args:
        logs: the directory of the log files.
    """

    def __init__(self, logs: Path, log_level: LogLevel, log_format: LogFormat) -> None:
        self._is_text = log_format == "text"
        self._started_at = time.monotonic()
        self._log_path = logs / LOG_FILE
        self._terminal = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
        self._errors = os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace")
        _redirect_strays(logs / STRAY_FILE)
        terminal = logging.StreamHandler(self._errors)
        terminal.setFormatter(formatter_of(log_format))
        terminal.setLevel(logging.WARNING if self._is_text else log_level.upper())
        if self._is_text:
            # The console's own words are shown without decoration.
            terminal.addFilter(lambda record: record.name != _log.name)
        logging.basicConfig(
            level=log_level.upper(),
            handlers=[terminal, log_file_handler(self._log_path, log_format)],
            force=True,
        )
        # The terminal may go away; that must not keep anybody from stopping in good order.
        logging.raiseExceptions = False

    @property
    def elapsed_s(self) -> float:
        """Since the house began to start."""
        return time.monotonic() - self._started_at

    def step(self, text: str) -> None:
        """Say what is being done now."""
        _log.info(text)
        self._write(self._terminal, f"{self.elapsed_s:6.1f} s  {text}")

    def say(self, text: str) -> None:
        """Tell a result, on any number of lines."""
        _log.info(text)
        self._write(self._terminal, text)

    def fail(self, text: str) -> None:
        """Tell why the house cannot go on."""
        _log.error(text)
        self._write(self._errors, f"housefull: {text}")

    def bug(self, text: str) -> None:
        """Tell that something unforeseen has happened; the traceback is in the log file."""
        _log.exception(text)
        self._write(self._errors, f"housefull: {text}; the traceback is in {self._log_path}")

    def _write(self, stream: TextIO, text: str) -> None:
        if self._is_text:
            with contextlib.suppress(OSError, ValueError):
                stream.write(f"{text}\n")
                stream.flush()


def _redirect_strays(path: Path) -> None:
    """Send to a file whatever prints without asking, also from libraries that are not Python."""
    # Begun anew each time: nobody rotates what arrives through a descriptor.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
