"""Ending the uses of promo codes whose payments have ended, should their runner have died.

A runner does it when it ends a payment (``checkout_runner.settle_promo``). What is open for long is
looked at here. A use without a payment is given back: its customer was refused in the end, or the
process died between the two writes. (So may a use be, of a code that made everything free, whose
process died in the moment after the booking: the code is then good for one customer more.)
"""

from __future__ import annotations

from actors.checkout_runner import settle_promo
from actors.payment_stores import PaymentStores

LOOKED_AT_AFTER_MS = 10 * 60_000
WITHOUT_PAYMENT_AFTER_MS = 60 * 60_000
USES_AT_ONCE = 1_000


async def end_open_uses(stores: PaymentStores) -> int:
    """Look at uses that have been open for long; how many there were.

    Raises:
        Fault: a database is away.
    """
    now_ms = await stores.now_ms(0)
    uses = stores.promo_uses
    open_for_long = await uses.open_before(now_ms - LOOKED_AT_AFTER_MS, USES_AT_ONCE)
    abandoned = set(await uses.open_before(now_ms - WITHOUT_PAYMENT_AFTER_MS, USES_AT_ONCE))
    for payment_id in open_for_long:
        stored = await stores.payments[stores.database_of(payment_id)].find(payment_id)
        if stored is not None:
            await settle_promo(stores, stored)
        elif payment_id in abandoned:
            await uses.give_back(payment_id)
    return len(open_for_long)
