"""The process that computes password hashes, as its owner sees it.

It is started when the first hash is wanted, or before that with ``start``, and again when it has
died. It ends with its owner: it reads the end of its socket, and where the kernel has a signal for
the death of a parent it is killed at once, also in the middle of a hash.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from persistence import child_process
from reservation.faults import NotDone
from serve_app.access import hashing_program
from serve_app.access.hashing_program import GIVE_NO_WAY, LENGTH

log = logging.getLogger(__name__)

_RETRY_MS = 2_000


class HashingFailed(NotDone):
    """No process can compute this hash now."""


class HashingProcess:
    """One process, one request at a time. Belongs to one event loop and the thread that runs it.

    Args:
        gives_way: to everything else on the machine; see ``hashing_program``.
    """

    def __init__(self, *, gives_way: bool = True) -> None:
        self._arguments = [] if gives_way else [GIVE_NO_WAY]
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def pid(self) -> int | None:
        """The process, when there is one."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start the process unless it runs.

        Raises:
            HashingFailed: it cannot be started.
        """
        if self._is_closed:
            raise HashingFailed("no more passwords are hashed", retry_after_ms=_RETRY_MS)
        if self._process is not None and self._process.poll() is None:
            return
        self._end()
        ours, its = socket.socketpair()
        try:
            self._process = _started(its, self._arguments)
            self._reader, self._writer = await asyncio.open_connection(sock=ours)
        except OSError as error:
            ours.close()
            self._end()
            raise HashingFailed(
                "the process of password hashes cannot be started", retry_after_ms=_RETRY_MS
            ) from error
        finally:
            its.close()

    async def ask(self, request: Mapping[str, str]) -> dict[str, object]:
        """What the process answers; a process that dies over it is replaced once.

        A cancelled request leaves its answer unread: do not cancel.

        Raises:
            HashingFailed: ask again later.
        """
        body = json.dumps(request).encode()
        for _ in range(2):
            await self.start()
            assert self._reader is not None
            assert self._writer is not None
            try:
                self._writer.write(LENGTH.pack(len(body)) + body)
                (length,) = LENGTH.unpack(await self._reader.readexactly(LENGTH.size))
                answer: dict[str, object] = json.loads(await self._reader.readexactly(length))
            except (OSError, asyncio.IncompleteReadError):
                log.warning("the process of password hashes has ended; another one is started")
                self._end()
            else:
                return answer
        raise HashingFailed("the process of password hashes died", retry_after_ms=_RETRY_MS)

    def close(self) -> None:
        """End the process, whatever it is doing, and start no other."""
        self._is_closed = True
        self._end()

    def _end(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._process = self._reader = self._writer = None


def _started(its_socket: socket.socket, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    wrapper = [sys.executable, "-I", "-S", str(Path(child_process.__file__).resolve())]
    wrapper += ["--clean-env", "--pdeathsig", "KILL", "--parent", str(os.getpid()), "--"]
    program = str(Path(hashing_program.__file__).resolve())
    return subprocess.Popen(
        [*wrapper, sys.executable, "-I", program, *arguments],
        stdin=its_socket.fileno(),
        stdout=subprocess.DEVNULL,
        # A new session is what the kernel forms groups by; see ``hashing_program``.
        start_new_session=True,
        cwd="/",
    )
