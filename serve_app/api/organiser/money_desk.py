"""What is stored about the money of shows, each in the database of its show."""

from __future__ import annotations

from collections.abc import Sequence

from persistence.claim_reader import ClaimReader
from persistence.house_time import house_now_ms
from persistence.payment_books import PaymentBooks
from persistence.payments import Payments
from persistence.refund_jobs import RefundJobs
from persistence.refund_requests import RefundRequests
from persistence.sessions import Pool
from persistence.shards import ShardMap
from persistence.show_terms import ShowTermsStore
from reservation.ids import ShowId


class MoneyDesk:
    """The stores of each database; which one is a show's, the shard map says."""

    def __init__(self, shard_pools: Sequence[Pool], shards: ShardMap, organiser_pool: Pool) -> None:
        """See ``persistence.sales_reader.SalesReader`` for the pools."""
        self._pools = shard_pools
        self._shards = shards
        self._payments = [Payments(pool) for pool in shard_pools]
        self._requests = [RefundRequests(pool) for pool in shard_pools]
        self._jobs = [RefundJobs(pool) for pool in shard_pools]
        self.books = [PaymentBooks(pool) for pool in shard_pools]
        self.terms = ShowTermsStore(organiser_pool)
        self.claims = ClaimReader(shard_pools, shards)

    def payments_of(self, show_id: ShowId) -> Payments:
        """Where a show's payments are."""
        return self._payments[self._shards.database_of(show_id)]

    def requests_of(self, show_id: ShowId) -> RefundRequests:
        """Where it is written down who asked for refunds of a show's bookings."""
        return self._requests[self._shards.database_of(show_id)]

    def jobs_of(self, show_id: ShowId) -> RefundJobs:
        """Where a show's refund job is."""
        return self._jobs[self._shards.database_of(show_id)]

    async def now_ms(self, show_id: ShowId) -> int:
        """The present instant by the clock of a show's database."""
        return await house_now_ms(self._pools[self._shards.database_of(show_id)])

    def books_of(self, show_id: ShowId) -> PaymentBooks:
        """Where a show's ledger is."""
        return self.books[self._shards.database_of(show_id)]
