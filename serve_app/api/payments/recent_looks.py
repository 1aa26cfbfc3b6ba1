"""Looking at a payment at its provider, not more often than it is worth.

A page that waits for its payment asks again and again, and every look is a call to the provider,
who has a limit for the whole house. So what a look has shown is good for two seconds, as long as
the house itself has learned nothing new of the payment; and those who ask at once share a look.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import NamedTuple

from actors.checkouts import Checkouts, OpenedCheckout
from persistence.payment_rows import StoredPayment
from reservation.ids import PaymentId
from serve_app.api.shared_reads import SharedReads

FRESH_S = 2.0
REMEMBERED_MAX = 10_000


class _Known(NamedTuple):
    version: int
    client_data: Mapping[str, str]
    looked_at_s: float


class RecentLooks:
    """See the module's docstring. Belongs to one event loop."""

    def __init__(self, checkouts: Checkouts) -> None:
        self._checkouts = checkouts
        self._known: OrderedDict[PaymentId, _Known] = OrderedDict()
        self._looks: SharedReads[PaymentId, OpenedCheckout | None] = SharedReads(self._look)

    async def look(self, stored: StoredPayment) -> OpenedCheckout:
        """This payment with what its customer needs to pay it.

        Raises:
            Fault: the database is away.
        """
        payment = stored.payment
        known = self._known.get(payment.payment_id)
        if (
            known is not None
            and known.version == payment.version
            and _now_s() - known.looked_at_s < FRESH_S
        ):
            return OpenedCheckout(stored, known.client_data)
        return await self._looks.get(payment.payment_id) or OpenedCheckout(stored)

    async def _look(self, payment_id: PaymentId) -> OpenedCheckout | None:
        opened = await self._checkouts.look(payment_id)
        if opened is not None:
            version = opened.stored.payment.version
            self._known[payment_id] = _Known(version, opened.client_data, _now_s())
            self._known.move_to_end(payment_id)
            if len(self._known) > REMEMBERED_MAX:
                self._known.popitem(last=False)
        return opened


def _now_s() -> float:
    return asyncio.get_running_loop().time()
