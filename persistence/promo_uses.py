"""How often promo codes were used: counted when a checkout starts, given back if it fails.

A code is good for shows of all databases and is counted in the first one; the payment that it makes
cheaper is often in another. So there are two writes, in this order:

1. ``take``, under the id that the payment will have. Repeating it counts nothing.
2. ``Payments.begin``, which notes the use on the payment.

Whoever ends the payment says ``keep`` or ``give_back``. When the process dies between the two, or
before the end, the use stays open: ``open_before`` lists such ones, and their payments, or that
there are none, say what to do.
"""

from __future__ import annotations

from enum import StrEnum

from persistence.payment_rows import PromoUse
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.ids import CustomerId, PaymentId
from reservation.promo_codes import PromoUsage

_QUERIES = load_queries("promo_uses.sql")


class TakeOutcome(StrEnum):
    """What became of a request to use a code."""

    TAKEN = "taken"
    REPEATED = "repeated"  #: It was counted before, for this payment.
    OTHER_CONTENT = "other_content"  #: This payment uses another code.
    USED_UP = "used_up"
    USED_BY_CUSTOMER = "used_by_customer"  #: This customer has used it often enough.


class PromoUses:
    """Counts the uses of promo codes.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle; repeat it.

    Args:
        pool: stays the caller's: the first database, with the rights of ``housefull_application``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def take(
        self,
        payment_id: PaymentId,
        use: PromoUse,
        customer_id: CustomerId,
        *,
        uses_max: int | None,
        uses_per_customer_max: int | None,
    ) -> TakeOutcome:
        """Count one use for a payment, unless there were enough.

        Of any number of customers who want the last use at once, exactly one gets it.
        """
        async with writing(self._pool) as connection:
            verdict = await connection.fetchval(
                _QUERIES["take_promo_use"],
                use.tenant_id,
                use.code_key,
                payment_id,
                customer_id,
                uses_max,
                uses_per_customer_max,
            )
        return TakeOutcome(verdict)

    async def give_back(self, payment_id: PaymentId) -> bool:
        """The checkout ended without a booking; False when there is nothing to give back."""
        async with writing(self._pool) as connection:
            is_back: bool = await connection.fetchval(_QUERIES["give_promo_use_back"], payment_id)
        return is_back

    async def keep(self, payment_id: PaymentId) -> bool:
        """The checkout ended with a booking; False when it used no code."""
        async with writing(self._pool) as connection:
            is_kept: bool = await connection.fetchval(_QUERIES["keep_promo_use"], payment_id)
        return is_kept

    async def usage(self, use: PromoUse, customer_id: CustomerId) -> PromoUsage:
        """How often a code was used, by all and by this customer; open checkouts count."""
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(
                _QUERIES["count_promo_uses"], use.tenant_id, use.code_key, customer_id
            )
        assert row is not None, "two counts are one row"
        return PromoUsage(row["total"], row["by_customer"])

    async def open_before(self, at_ms: int, limit: int = 100) -> list[PaymentId]:
        """Payments whose uses were taken before then and neither kept nor given back."""
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["list_open_promo_uses"], at_ms, limit)
        return [PaymentId(row["payment_id"]) for row in rows]
