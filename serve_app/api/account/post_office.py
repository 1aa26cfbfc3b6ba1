"""Letters that go out after the answer.

A request that leads to a letter is answered before anybody looks for a recipient: otherwise the
time of the answer would tell whether there is one. What is posted here is an errand: it finds out
whom to write to and what, and may find out that there is nobody.

An errand that meets a fault is tried again a few times with growing pauses, and is then dropped
with a record in the log. Errands are kept in memory only. When a replica dies, its letters are
lost; whoever waits for one asks again, which is what people do when mail does not come.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from integrations.mail.mailbox import Letter, LetterRefused, Mailbox
from reservation.faults import Fault, NotDone

log = logging.getLogger(__name__)

ERRANDS_WAITING_MAX = 1_000
CLERKS = 2
PAUSES_S = (1.0, 5.0, 30.0, 120.0)
"""Between the attempts at one letter. Servers that greylist want some minutes."""

STOP_TIMEOUT_S = 5.0

Errand = Callable[[], Awaitable[Letter | None]]


class PostOffice:
    """See the module's docstring. Open it with ``open_post_office``."""

    def __init__(self, mailbox: Mailbox, *, pauses_s: tuple[float, ...] = PAUSES_S) -> None:
        self._mailbox = mailbox
        self._pauses_s = pauses_s
        self._errands: asyncio.Queue[Errand] = asyncio.Queue(ERRANDS_WAITING_MAX)
        self._later: set[asyncio.Task[None]] = set()

    def post(self, errand: Errand) -> None:
        """Have an errand run soon. Returns at once.

        Raises:
            NotDone: too many wait; ask again later.
        """
        try:
            self._errands.put_nowait(errand)
        except asyncio.QueueFull:
            raise NotDone("too many letters wait", retry_after_ms=10_000) from None

    async def is_idle(self) -> None:
        """Return once everything that was posted has been tried once."""
        await self._errands.join()

    async def run(self) -> None:
        """Run errands until cancelled."""
        async with asyncio.TaskGroup() as clerks:
            for _ in range(CLERKS):
                clerks.create_task(self._work())

    async def close(self) -> None:
        """Forget the letters that wait for another attempt."""
        for task in self._later:
            task.cancel()
        await asyncio.gather(*self._later, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            errand = await self._errands.get()
            try:
                if not await self._attempt(errand):
                    # The next ones must not wait for this one's pauses.
                    self._start_retries(errand)
            finally:
                self._errands.task_done()

    def _start_retries(self, errand: Errand) -> None:
        if len(self._later) >= ERRANDS_WAITING_MAX:
            log.error("a letter is dropped: too many wait for another attempt")
            return
        task = asyncio.create_task(self._retry(errand))
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _retry(self, errand: Errand) -> None:
        for pause_s in self._pauses_s:
            await asyncio.sleep(pause_s)
            if await self._attempt(errand):
                return
        log.error("a letter is dropped after %d attempts", len(self._pauses_s) + 1)

    async def _attempt(self, errand: Errand) -> bool:
        """Run one errand; whether nothing is left to do."""
        try:
            letter = await errand()
            if letter is not None:
                await self._mailbox.send(letter)
        except LetterRefused as refused:
            log.warning("a letter is dropped: %s", refused)
        except Fault as fault:
            log.warning("a letter cannot be sent now: %s", fault)
            return False
        except Exception:
            # One errand's bug must not end the others'.
            log.exception("bug: an errand failed")
        return True


@asynccontextmanager
async def open_post_office(mailbox: Mailbox) -> AsyncIterator[PostOffice]:
    """A post office whose clerks are at work; what was posted is tried before it closes."""
    office = PostOffice(mailbox)
    clerks = asyncio.create_task(office.run(), name="post office")
    try:
        yield office
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await office.is_idle()
        clerks.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await clerks
        await office.close()
        await mailbox.close()
