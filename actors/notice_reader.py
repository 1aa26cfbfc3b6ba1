"""Reading what providers sent word of: every notice wakes its payment, and that is all it does."""

from __future__ import annotations

import asyncio
import logging

from actors.payment_stores import PaymentStores
from persistence.webhook_inbox import InboxRow, WebhookNotice
from reservation.ids import PaymentId, is_payment_id

log = logging.getLogger(__name__)

NOTICES_AT_ONCE = 200
NOTICE_LEASE_MS = 30_000


class NoticeReader:
    """Reads the inbox of one database."""

    def __init__(self, stores: PaymentStores, database: int) -> None:
        self._stores = stores
        self._inbox = stores.inboxes[database]

    async def read(self) -> int:
        """Read what waits; how many there were.

        A notice counts as read when its payment is awake: one that is read twice wakes twice.

        Raises:
            Fault: a database is away.
        """
        rows = await self._inbox.take_unprocessed(NOTICES_AT_ONCE, NOTICE_LEASE_MS)
        by_payment: dict[PaymentId, list[InboxRow]] = {}
        for row in rows:
            payment_id = await self._payment_of(row.notice)
            if payment_id is None:
                await self._read(row)
            else:
                by_payment.setdefault(payment_id, []).append(row)
        await asyncio.gather(*(self._wake(*each) for each in by_payment.items()))
        return len(rows)

    async def _payment_of(self, notice: WebhookNotice) -> PaymentId | None:
        if notice.payment_id is not None and is_payment_id(notice.payment_id):
            return notice.payment_id
        if notice.provider_ref is not None:
            for payments in self._stores.payments:
                found = await payments.find_by_provider_ref(notice.provider, notice.provider_ref)
                if found is not None:
                    return found.payment.payment_id
        return None

    async def _wake(self, payment_id: PaymentId, rows: list[InboxRow]) -> None:
        payments = self._stores.payments[self._stores.database_of(payment_id)]
        if not await payments.wake(payment_id):
            # Reconciliation tells whether there is money in it.
            log.warning(
                "%s sent word of %s, which is not here", rows[0].notice.provider, payment_id
            )
        for row in rows:
            await self._read(row)

    async def _read(self, row: InboxRow) -> None:
        await self._inbox.processed(row.notice.provider, row.notice.event_key)
