"""Everything that is stored about the payments of a house, as one process reaches it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from actors.clock import Clock, SystemClock, anchor
from persistence.catalogue import Catalogue
from persistence.claim_reader import ClaimReader
from persistence.house_time import house_now_ms
from persistence.payment_books import PaymentBooks
from persistence.payments import Payments
from persistence.promo_uses import PromoUses
from persistence.refund_jobs import RefundJobs
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from persistence.show_terms import ShowTermsStore
from persistence.webhook_inbox import WebhookInbox
from reservation.ids import HoldId, PaymentId, ShowId, show_id_of

TIME_TRUSTED_MS = 60_000
"""This machine's clock is set by the database's again after so long."""


class PaymentStores:
    """The stores of each database, by its position in the shard map; the first has some alone.

    Connects on first use. Belongs to one event loop.
    """

    def __init__(
        self,
        shards: ShardMap,
        owner: str,
        *,
        connections_max: int = 4,
        new_clock: Callable[[], Clock] = SystemClock,
    ) -> None:
        """``owner`` is what the databases call this process's connections."""
        self.shards = shards
        self._owner = owner
        self._connections_max = connections_max
        self._clocks = [new_clock() for _ in shards.dsns]
        self._anchored_at_ms: list[int | None] = [None for _ in shards.dsns]

    async def open(self) -> PaymentStores:
        """Make the pools; they connect when they are used."""
        self._pools = [
            await open_pool(dsn, self._owner, size_max=self._connections_max)
            for dsn in self.shards.dsns
        ]
        self.payments = [Payments(pool) for pool in self._pools]
        self.books = [PaymentBooks(pool) for pool in self._pools]
        self.inboxes = [WebhookInbox(pool) for pool in self._pools]
        self.refund_jobs = [RefundJobs(pool) for pool in self._pools]
        self.claims = ClaimReader(self._pools, self.shards)
        self.promo_uses = PromoUses(self._pools[0])
        self.terms = ShowTermsStore(self._pools[0])
        self.catalogue = Catalogue(self._pools[0])
        return self

    def database_of(self, claim_id: HoldId | PaymentId) -> int:
        """The database that a hold or a payment is in."""
        return self.shards.database_of(show_id_of(claim_id))

    def database_of_show(self, show_id: ShowId) -> int:
        """The database that a show is in."""
        return self.shards.database_of(show_id)

    async def now_ms(self, database: int) -> int:
        """The present instant by this database's clock, which is asked once in a while.

        Raises:
            ShowUnavailable: it has to be asked, and is away.
        """
        clock, anchored_at_ms = self._clocks[database], self._anchored_at_ms[database]
        if anchored_at_ms is None or clock.now_ms() - anchored_at_ms > TIME_TRUSTED_MS:
            pool = self._pools[database]
            await anchor(clock, lambda: house_now_ms(pool))
            self._anchored_at_ms[database] = clock.now_ms()
        return clock.now_ms()

    async def close(self) -> None:
        """Disconnect."""
        await asyncio.gather(*(pool.close() for pool in self._pools))
