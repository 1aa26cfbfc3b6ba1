"""Passwords as they are stored: argon2id, computed where it cannot starve anybody.

One hash takes 19 MiB and some tens of milliseconds of a core, on purpose. So there are two
threads for it, which give way to everything else on the machine, and a short line before them:
who comes when the line is full is told to come again, and nothing else becomes slower.

Whether an account exists must not be heard: ``verify`` for an account that does not exist is
asked with ``None`` and costs the same.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import secrets
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from argon2 import PasswordHasher as Argon2
from argon2 import Type
from argon2.exceptions import Argon2Error, InvalidHashError

from reservation.faults import NotDone

log = logging.getLogger(__name__)

MEMORY_KIB = 19_456
PASSES = 2
LANES = 1

WORKERS = 2
WAITING_MAX = 50
PASSWORD_LENGTH_MAX = 128
"""Characters. Longer ones would let a stranger choose how long a hash takes."""

_BUSY_RETRY_MS = 2_000
_LOWEST_PRIORITY = 19
_Result = TypeVar("_Result")


class TooManyPasswords(NotDone):
    """More passwords wait to be checked than is reasonable."""


class Verdict(NamedTuple):
    """Whether a password was right; ``rehash`` is what to store instead if it was and is old."""

    is_right: bool
    rehash: str | None = None


class PasswordHasher:
    """See the module's docstring. Belongs to one event loop; ``close`` ends its threads."""

    def __init__(self, *, workers: int = WORKERS, waiting_max: int = WAITING_MAX) -> None:
        self._argon2 = Argon2(
            time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID
        )
        self._threads = ThreadPoolExecutor(workers, "passwords", initializer=_give_way)
        self._under_way = 0
        self._under_way_max = workers + waiting_max
        self._counting = threading.Lock()
        self._nobodys = _hash_of_nobody()

    async def hash(self, password: str) -> str:
        """What to store for a password, salted.

        Raises:
            TooManyPasswords: ask again later.
        """
        text = _as_hashed(password)
        return await self._in_turn(lambda: self._argon2.hash(text))

    async def verify(self, stored: str | None, password: str) -> Verdict:
        """Whether ``password`` is the one that ``stored`` was made of; None: there is no account.

        Raises:
            TooManyPasswords: ask again later.
        """
        text = _as_hashed(password)
        return await self._in_turn(lambda: self._verdict(stored, text))

    def close(self) -> None:
        """Let the threads go; hashes that wait are not computed."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _verdict(self, stored: str | None, text: str) -> Verdict:
        try:
            self._argon2.verify(self._nobodys if stored is None else stored, text)
        except InvalidHashError:
            log.error("bug: the password hash of an account cannot be read")
            return Verdict(False)
        except Argon2Error:
            return Verdict(False)
        if stored is None:
            return Verdict(False)
        is_old = self._argon2.check_needs_rehash(stored)
        return Verdict(True, self._argon2.hash(text) if is_old else None)

    async def _in_turn(self, work: Callable[[], _Result]) -> _Result:
        with self._counting:
            if self._under_way >= self._under_way_max:
                raise TooManyPasswords("too many passwords wait", retry_after_ms=_BUSY_RETRY_MS)
            self._under_way += 1
        # Counted until a thread is done with it, also when nobody waits for the answer any more: a
        # client that hangs up and comes again must not get more time than one that waits.
        future = self._threads.submit(work)
        future.add_done_callback(self._is_done)
        return await asyncio.wrap_future(future)

    def _is_done(self, _: Future[_Result]) -> None:
        with self._counting:
            self._under_way -= 1


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


def _give_way() -> None:
    """Let this thread run when nobody else wants to."""
    if sys.platform == "linux":
        # Linux gives each thread a priority of its own; elsewhere this would name a process.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _LOWEST_PRIORITY)
