"""``PaymentActor``: works on the payments of one database, so that every checkout comes to its end.

Theory of operation
-------------------
One loop looks twice a second for notices of providers, payments that are due and shows that were
cancelled; another one, at once when somebody rings, for payments that are due. Each payment is then
run by itself, up to so many at once; the loops do not wait for them. That is all the state there
is: what is due is in the database, so an actor that dies is replaced by one that looks again, and
two at once would only do some things twice.

What an actor has leased when it dies is leased by nobody: the next incarnation ends its leases
before it looks for the first time. Should the old one live on, it cannot save any more.

When a database is away, the loop waits longer and longer and goes on by itself. When a provider is,
its payments are tried again later, each at its own pace (``reservation.checkout_pace``).

The actor of the first database also compares the books with the providers', now and then.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from actors.checkout_runner import LEASE_MS, CheckoutRunner
from actors.notice_reader import NoticeReader
from actors.payment_stores import PaymentStores
from actors.promo_ends import end_open_uses
from actors.reconciliation import Reconciliation
from actors.show_ref import ShowRefs
from actors.show_refunds import ShowRefunds
from integrations.payments.payment_gateway import PaymentGateway
from persistence.payment_rows import StoredPayment
from reservation.faults import Fault

log = logging.getLogger(__name__)

RUNS_AT_ONCE_MAX = 128
POLL_MS = 500
LOOKS_APART_MS = 10
"""When many ring, what becomes due meanwhile is leased together."""

BACKOFF_MS_MAX = 10_000
RETRY_MS = 1_000
COUNTS_TOLD_EVERY_MS = 60_000
BOOKS_COMPARED_EVERY_MS = 5 * 60_000


class PaymentActor:
    """See the module's docstring. Belongs to one event loop."""

    def __init__(
        self,
        name: str,
        stores: PaymentStores,
        database: int,
        refs: ShowRefs,
        gateways: Mapping[str, PaymentGateway],
        *,
        lease_ms: int = LEASE_MS,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Nothing is contacted yet. ``stores`` and ``gateways`` stay the caller's."""
        self.name = name
        self._owner = f"{name}/{secrets.token_hex(4)}"
        self._has_taken_over = False
        self._payments = stores.payments[database]
        self._stores = stores
        self._database = database
        self._lease_ms = lease_ms
        self._runner = CheckoutRunner(stores, database, refs, gateways, draw=draw)
        self._notices = NoticeReader(stores, database)
        self._show_refunds = ShowRefunds(stores, database, refs, name)
        self._reconciliation = Reconciliation(stores, gateways)
        self._bell = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._may_be_more = False
        self._chores: list[asyncio.Task[None]] = []
        self.counts = Counter[str]()

    def start(self) -> None:
        """Begin to work. It ends with ``stop``."""
        self._chores = [
            asyncio.ensure_future(self._every(POLL_MS, self.look)),
            asyncio.ensure_future(self._every(LOOKS_APART_MS, self._begin_when_rung)),
            asyncio.ensure_future(self._every(POLL_MS, self._refund_shows)),
            asyncio.ensure_future(self._every(COUNTS_TOLD_EVERY_MS, self._tell_counts)),
        ]
        if self._database == 0:
            self._chores.append(
                asyncio.ensure_future(self._every(BOOKS_COMPARED_EVERY_MS, self._compare_books))
            )

    async def stop(self) -> None:
        """Stop wherever it is; another one goes on from there."""
        tasks = [*self._chores, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def ring(self) -> None:
        """There may be something to do."""
        self._bell.set()

    def status(self) -> dict[str, int]:
        """What was done since the start, step by step."""
        return dict(self.counts + self._runner.steps)

    async def look(self) -> None:
        """Read the notices, and begin to run what is due.

        Raises:
            Fault: the database is away.
        """
        if not self._has_taken_over:
            ended = await self._payments.end_leases(self.name, self._owner)
            self.counts["taken_over"] += ended
            self._has_taken_over = True
        self.counts["notices"] += await self._notices.read()
        await self._begin()

    async def _begin_when_rung(self) -> None:
        await self._bell.wait()
        if self._has_taken_over:
            await self._begin()

    async def _begin(self) -> None:
        self._bell.clear()
        room = RUNS_AT_ONCE_MAX - len(self._running)
        self._may_be_more = room <= 0
        if room <= 0:
            return
        leased = await self._payments.lease_due(self._owner, room, self._lease_ms)
        self._may_be_more = len(leased) == room
        for stored in leased:
            task = asyncio.ensure_future(self._run(stored))
            self._running.add(task)
            task.add_done_callback(self._ran)

    async def until_calm(self) -> None:
        """Wait for the runs that are under way."""
        while self._running:
            await asyncio.wait(list(self._running))

    def _ran(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if self._may_be_more:
            self._bell.set()

    async def _run(self, stored: StoredPayment) -> None:
        """Run a payment; when a database was away, try once more while the lease lasts."""
        payment_id = stored.payment.payment_id
        self.counts["runs"] += 1
        try:
            try:
                await self._runner.run(stored)
            except Fault as fault:
                log.warning("%s: %s", payment_id, fault)
                await asyncio.sleep(RETRY_MS / 1_000)
                now = await self._payments.find(payment_id)
                if now is not None:
                    await self._runner.run(now)
        except Fault as fault:
            log.warning("%s waits for the end of its lease: %s", payment_id, fault)
        except Exception:
            # The others must go on; this one is leased again, and somebody has to read the log.
            log.exception("bug: %s cannot be run", payment_id)

    async def _refund_shows(self) -> None:
        while await self._show_refunds.work():
            self.counts["refund_jobs"] += 1
            self.ring()

    async def _compare_books(self) -> None:
        await end_open_uses(self._stores)
        report = await self._reconciliation.run()
        for finding in report.findings:
            log.warning("reconciliation: %s %s: %s", *finding)
        for what in report.unreachable:
            log.warning("reconciliation could not ask %s", what)
        self.counts["findings"] += len(report.findings)
        self.ring()

    async def _tell_counts(self) -> None:
        counts = self.status()
        if counts:
            log.info("%s: %s", self.name, ", ".join(f"{k} {v}" for k, v in sorted(counts.items())))

    async def _every(self, pause_ms: int, work: Callable[[], Awaitable[None]]) -> None:
        backoff_ms = pause_ms
        while True:
            try:
                await work()
                backoff_ms = pause_ms
            except Fault as fault:
                log.warning("%s waits: %s", self.name, fault)
                backoff_ms = min(2 * backoff_ms, max(pause_ms, BACKOFF_MS_MAX))
            except Exception:
                log.exception("bug: %s cannot do its work", self.name)
                backoff_ms = min(2 * backoff_ms, max(pause_ms, BACKOFF_MS_MAX))
            await asyncio.sleep(backoff_ms / 1_000)
