"""Tells a process's verifier what the accounts database knows: keys, and revoked sessions.

No request ever waits for this. It runs in the background of every replica:

    keys          every 30 s; for a token with an unknown key at once, but not twice within 2 s
    revocations   every second

A database that is away changes nothing: the keys that are known stay in use, and tokens still end
by themselves after ten minutes. A process that never learned anything lets nobody in and says that
it cannot, instead of saying that its visitors' tokens are wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from reservation.faults import Fault, NotDone
from reservation.ids import SessionId
from serve_app.access.access_tokens import TokenVerifier
from serve_app.access.key_ring import PublicKey

log = logging.getLogger(__name__)

KEYS_EVERY_S = 30.0
"""Also how long a new key is published before it signs: see ``key_ring``."""

KEYS_AGAIN_AFTER_S = 2.0
REVOCATIONS_EVERY_S = 1.0
READ_TIMEOUT_S = 5.0


class PublishedKey(Protocol):
    """A row of ``AccessReader.list_public_keys``."""

    @property
    def kid(self) -> str: ...
    @property
    def public_raw(self) -> bytes: ...


class AccessReader(Protocol):
    """The part of ``persistence.accounts.Accounts`` that every application may use."""

    async def list_public_keys(self) -> Sequence[PublishedKey]:
        """Every key that is alive: the ones that sign, will sign, or signed a moment ago."""
        ...

    async def revoked_since(self, cursor: int) -> tuple[int, Sequence[SessionId]]:
        """Sessions that were revoked after ``cursor``, and the next cursor.

        0 asks for all whose tokens may still be alive. Sessions may be named again.
        """
        ...


class _NoKeys(NotDone):
    """The database has no key that is alive."""


class AccessWatch:
    """See the module's docstring."""

    def __init__(self, reader: AccessReader, verifier: TokenVerifier) -> None:
        self._reader = reader
        self._verifier = verifier
        self._cursor = 0
        self._is_away = False

    async def run(self) -> None:
        """Go on telling the verifier what is new, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_keys())
            tasks.create_task(self._run_revocations())

    async def refresh_keys(self) -> bool:
        """Read the keys once; whether that was possible."""
        return await self._attempt(self._read_keys)

    async def refresh_revocations(self) -> bool:
        """Read once what was revoked; whether that was possible."""
        return await self._attempt(self._read_revocations)

    async def _run_keys(self) -> None:
        while True:
            was_read = await self.refresh_keys()
            # A process without keys lets nobody in, so it does not wait for half a minute.
            waits_s = KEYS_EVERY_S if was_read else KEYS_AGAIN_AFTER_S
            await asyncio.sleep(KEYS_AGAIN_AFTER_S)
            # A token with an unknown key that came meanwhile has set it; so does the next one.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(waits_s - KEYS_AGAIN_AFTER_S):
                    await self._verifier.met_unknown_key.wait()
            self._verifier.met_unknown_key.clear()

    async def _run_revocations(self) -> None:
        while True:
            await self.refresh_revocations()
            await asyncio.sleep(REVOCATIONS_EVERY_S)

    async def _read_keys(self) -> None:
        rows = await self._reader.list_public_keys()
        if not rows:
            raise _NoKeys("no key is published")
        self._verifier.use_keys([PublicKey(row.kid, row.public_raw) for row in rows])

    async def _read_revocations(self) -> None:
        since, self._cursor = self._cursor, 0  # From the start again, should this one fail.
        self._cursor, sessions = await self._reader.revoked_since(since)
        self._verifier.revoke(sessions, time.time())

    async def _attempt(self, read: Callable[[], Awaitable[None]]) -> bool:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                await read()
        except _NoKeys:
            # A new house, for a moment. Later it would be a database that is being restored, and
            # that is no reason to forget the keys that are known.
            return False
        except (Fault, TimeoutError) as fault:
            if not self._is_away:
                self._is_away = True
                log.warning("keys and revocations cannot be read, the known ones stay: %r", fault)
            return False
        except Exception:
            # Whatever it is, the next round may be better, and without this one nobody may enter.
            if not self._is_away:
                self._is_away = True
                log.exception("bug: keys and revocations could not be read")
            return False
        if self._is_away:
            self._is_away = False
            log.info("keys and revocations can be read again")
        return True


@asynccontextmanager
async def watching(reader: AccessReader, verifier: TokenVerifier) -> AsyncIterator[AccessWatch]:
    """Keep ``verifier`` informed for as long as this is open. Waits for no database."""
    watch = AccessWatch(reader, verifier)
    task = asyncio.create_task(watch.run(), name="access watch")
    try:
        yield watch
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
