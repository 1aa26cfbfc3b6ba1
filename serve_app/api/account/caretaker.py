"""What the account application does without being asked.

    signing keys    read every 30 s, so that a key signs when its time has come and not before
    purging         what is over is removed every ten minutes, by whichever replica comes first

A database that is away changes nothing: the keys that are known go on signing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from persistence.accounts import Accounts
from reservation.faults import Fault
from serve_app.access.access_tokens import TokenIssuer
from serve_app.access.access_watch import KEYS_EVERY_S
from serve_app.access.key_ring import PublicKey, SigningKey

log = logging.getLogger(__name__)

KEYS_AGAIN_AFTER_S = 2.0
PURGE_EVERY_S = 600.0


class Caretaker:
    """See the module's docstring."""

    def __init__(self, accounts: Accounts, issuer: TokenIssuer) -> None:
        self._accounts = accounts
        self._issuer = issuer
        self.public_keys: list[PublicKey] = []

    async def run(self) -> None:
        """Go on until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_keys())
            tasks.create_task(self._keep_purging())

    async def read_keys(self) -> None:
        """Read the signing keys once.

        Raises:
            Fault: the database is away; what was known stays.
        """
        rows = await self._accounts.list_signing_keys()
        keys = [
            SigningKey(row.kid, row.private_pem, row.public_raw, row.signs_from_at_ms // 1_000)
            for row in rows
        ]
        self._issuer.replace(keys)
        self.public_keys = [key.public for key in keys]

    async def _keep_keys(self) -> None:
        while True:
            await _attempt("the signing keys cannot be read", self.read_keys)
            await asyncio.sleep(KEYS_EVERY_S if self.public_keys else KEYS_AGAIN_AFTER_S)

    async def _keep_purging(self) -> None:
        async def purge() -> None:
            await self._accounts.purge(time.time_ns() // 1_000_000)

        while True:
            # Replicas start together; they need not work together.
            await asyncio.sleep(PURGE_EVERY_S * random.uniform(0.5, 1.5))
            await _attempt("what is over cannot be removed", purge)


async def _attempt(complaint: str, work: Callable[[], Awaitable[None]]) -> None:
    try:
        await work()
    except Fault as fault:
        log.warning("%s: %r", complaint, fault)
    except Exception:
        # The next round may be better, and without it nobody could log in.
        log.exception("bug: %s", complaint)


@asynccontextmanager
async def open_caretaker(accounts: Accounts, issuer: TokenIssuer) -> AsyncIterator[Caretaker]:
    """A caretaker at work for as long as this is open. Waits for no database."""
    caretaker = Caretaker(accounts, issuer)
    task = asyncio.create_task(caretaker.run(), name="caretaker")
    try:
        yield caretaker
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
