"""Passwords as they are stored: argon2id, computed where it cannot starve anybody.

One hash takes 19 MiB and some tens of milliseconds of a core, on purpose. So one process computes
them, which gives way to everything else on the machine (``hashing_program``), and there is a short
line before it: who comes when the line is full is told to come again, and nothing else becomes
slower. Whoever waits holds neither a thread nor a connection.

Whether an account exists must not be heard: ``verify`` for an account that does not exist is
asked with ``None`` and costs the same. The process cannot tell the two apart either.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import secrets
import time
import unicodedata
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import NamedTuple

from reservation.faults import NotDone
from serve_app.access.hashing_process import HashingProcess
from serve_app.access.hashing_program import LANES, MEMORY_KIB, PASSES

log = logging.getLogger(__name__)

WAITING_MAX = 100
WAIT_MAX_S = 15.0
"""Longer than that nobody should wait: the line is shorter when a turn takes long."""

PASSWORD_LENGTH_MAX = 128
"""Characters. Longer ones would let a stranger choose how long a hash takes."""

REFUSALS_SAID_EVERY_S = 10.0
"""A flood of logins must not become a flood of log lines, which cost more than the refusals."""

_BUSY_RETRY_MS = 2_000
_NEWS_SHARE = 0.1
"""Of the newest turn in what turns are said to take."""


class TooManyPasswords(NotDone):
    """More passwords wait to be checked than is reasonable."""


class Verdict(NamedTuple):
    """Whether a password was right; ``rehash`` is what to store instead if it was and is old."""

    is_right: bool
    rehash: str | None = None


class Turn:
    """Somebody's turn with the process: for whoever has to look something up before the hash."""

    def __init__(self, process: HashingProcess, nobodys: str) -> None:
        self._process = process
        self._nobodys = nobodys
        self.computing: asyncio.Task[dict[str, object]] | None = None

    async def hash(self, password: str) -> str:
        """See ``PasswordHasher.hash``."""
        answer = await self._ask({"password": _as_hashed(password)})
        return str(answer["hash"])

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """See ``PasswordHasher.verify``."""
        looked_at = self._nobodys if stored is None else stored
        answer = await self._ask({"password": _as_hashed(password), "stored": looked_at})
        if stored is None or not answer["right"]:
            return Verdict(False)
        rehash = answer["rehash"]
        return Verdict(True, None if rehash is None else str(rehash))

    async def _ask(self, request: Mapping[str, str]) -> Mapping[str, object]:
        assert self.computing is None or self.computing.done(), "a turn asks one thing at a time"
        # A task of its own, because whoever waits may hang up, and the answer must be read by
        # somebody before the next one is asked for.
        self.computing = asyncio.ensure_future(self._process.ask(request))
        return await asyncio.shield(self.computing)


class PasswordHasher:
    """See the module's docstring. Belongs to one event loop; ``close`` ends its process.

    Args:
        gives_way: to everything else on the machine; False is for few hashes, and for tests of
            other things.
    """

    def __init__(self, *, waiting_max: int = WAITING_MAX, gives_way: bool = True) -> None:
        self._process = HashingProcess(gives_way=gives_way)
        self._under_way = 0
        self._under_way_max = 1 + waiting_max
        self._turn_s = 0.0
        self._refused = 0
        self._refusals_said_at_s = -REFUSALS_SAID_EVERY_S
        # Lets those who wait in, in the order in which they came.
        self._line = asyncio.Lock()
        self._nobodys = _hash_of_nobody()

    async def start(self) -> None:
        """Start the process before the first password comes, who would wait for it otherwise.

        Raises:
            HashingFailed: it cannot be started now; the next password tries again.
        """
        async with self._line:
            await self._process.start()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait in the line. Who is in it has cost nothing yet, so ask nobody else before.

        Raises:
            TooManyPasswords: ask again later.
        """
        wait_s = self._under_way * self._turn_s
        if self._under_way == self._under_way_max or wait_s > WAIT_MAX_S:
            self._note_refusal()
            half_ms = int(wait_s * 1_000 / 2)
            raise TooManyPasswords(
                "too many passwords wait", retry_after_ms=max(_BUSY_RETRY_MS, half_ms)
            )
        self._under_way += 1
        try:
            await self._line.acquire()
        except BaseException:
            # Who hangs up while he waits costs nothing.
            self._under_way -= 1
            raise
        turn = Turn(self._process, self._nobodys)
        begun = time.monotonic()

        def end(computed: asyncio.Task[dict[str, object]] | None = None) -> None:
            if computed is not None and not computed.cancelled():
                # Nobody is left to hear of a fault; asked for, it is not reported as forgotten.
                computed.exception()
            self._turn_s += _NEWS_SHARE * (time.monotonic() - begun - self._turn_s)
            self._under_way -= 1
            self._line.release()

        try:
            yield turn
        finally:
            if turn.computing is None or turn.computing.done():
                end()
            else:
                # A client that hangs up and comes again must not get more time than one that
                # waits, so the turn lasts until the hash is there.
                turn.computing.add_done_callback(end)

    def _note_refusal(self) -> None:
        self._refused += 1
        now_s = time.monotonic()
        if now_s - self._refusals_said_at_s >= REFUSALS_SAID_EVERY_S:
            log.warning(
                "%d passwords wait; told to come again since this was said last: %d",
                self._under_way,
                self._refused,
            )
            self._refused, self._refusals_said_at_s = 0, now_s

    async def hash(self, password: str) -> str:
        """What to store for a password, salted.

        Raises:
            TooManyPasswords: ask again later.
            HashingFailed: the same.
        """
        async with self.turn() as turn:
            return await turn.hash(password)

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Whether ``password`` is the one that ``stored`` was made of; None: there is no account.

        Raises:
            TooManyPasswords: ask again later.
            HashingFailed: the same.
        """
        async with self.turn() as turn:
            return await turn.verify(stored, password)

    def close(self) -> None:
        """End the process; hashes that wait are not computed."""
        self._process.close()


def _as_hashed(password: str) -> str:
    """A password in the one form that all keyboards' ways of writing it have (NFKC)."""
    if len(password) > PASSWORD_LENGTH_MAX:
        raise ValueError(f"a password has at most {PASSWORD_LENGTH_MAX} characters")
    return unicodedata.normalize("NFKC", password)


def _hash_of_nobody() -> str:
    """What no password gives, at the price of one that could: the digest is just random."""
    salt, digest = (
        base64.b64encode(secrets.token_bytes(size)).rstrip(b"=").decode() for size in (16, 32)
    )
    return f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${digest}"
