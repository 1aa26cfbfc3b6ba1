"""A customer's payments, wherever they are: every database keeps those of its shows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from persistence.organiser_rows import Page, Place
from persistence.payment_rows import StoredPayment
from persistence.payments import Payments
from persistence.shards import ShardMap
from reservation.ids import CustomerId, PaymentId, is_payment_id, show_id_of

_NOBODY_S = PaymentId("pay_" + "0" * 32)


class OwnPayments:
    """Reads payments; changes none. ``stores`` are in the order of the shard map's databases.

    Raises:
        ShowUnavailable: from every method, when a database cannot be reached.
    """

    def __init__(self, stores: Sequence[Payments], shards: ShardMap) -> None:
        self._stores = stores
        self._shards = shards

    async def find(self, payment_id: PaymentId) -> StoredPayment | None:
        """The payment with this id, whosever it is."""
        store = self._stores[self._shards.database_of(show_id_of(payment_id))]
        return await store.find(payment_id)

    async def find_of(self, payment_id: PaymentId, customer_id: CustomerId) -> StoredPayment | None:
        """The customer's payment with this id; another's is not there."""
        stored = await self.find(payment_id)
        if stored is None or stored.payment.customer_id != customer_id:
            return None
        return stored

    async def find_all(self, names: Iterable[str]) -> dict[str, StoredPayment]:
        """Those payments among these names that are there: ``counter`` is none, for example."""
        wanted: dict[int, set[PaymentId]] = {}
        for name in names:
            if is_payment_id(name):
                payment_id = PaymentId(name)
                database = self._shards.database_of(show_id_of(payment_id))
                wanted.setdefault(database, set()).add(payment_id)
        pages = await asyncio.gather(
            *(self._stores[database].find_each([*ids]) for database, ids in wanted.items())
        )
        found = (stored for page in pages for stored in page)
        return {stored.payment.payment_id: stored for stored in found if stored is not None}

    async def probe(self) -> None:
        """Reach every database.

        Raises:
            ShowUnavailable: one of them cannot be reached.
        """
        await asyncio.gather(*(store.find(_NOBODY_S) for store in self._stores))

    async def page(
        self, customer_id: CustomerId, *, limit: int, after: Place | None
    ) -> Page[StoredPayment]:
        """A customer's payments, the newest first."""
        pages = await asyncio.gather(
            *(store.list_by_customer(customer_id, limit, after) for store in self._stores)
        )
        listed = sorted(
            (stored for page in pages for stored in page.items), key=_place_of, reverse=True
        )
        is_last = len(listed) <= limit and all(page.next is None for page in pages)
        return Page(tuple(listed[:limit]), None if is_last else _place_of(listed[limit - 1]))


def _place_of(stored: StoredPayment) -> Place:
    return Place(stored.payment.created_at_ms, stored.payment.payment_id)
