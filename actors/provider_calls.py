"""Asking a payment provider for what a checkout needs, from what its row says.

What is asked for twice is asked for in the same words, because providers compare them under one
idempotency key: so everything here follows from the row.

Keys
----
A key that is spent answers with an old failure for a day (``KeySpent``). What may have happened
under it was looked up then, by the gateway or here, and the same thing is asked for under the key
with a number behind it. Capturing and cancelling look by themselves, and get a number each time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from integrations.payments.payment_gateway import (
    KEYS_KEPT_MS,
    KeySpent,
    PaymentGateway,
    PaymentRequest,
    ProviderPayment,
    ProviderRefund,
    ProviderState,
)
from integrations.payments.provider_config import PaymentProvidersConfig
from persistence.payment_rows import StoredPayment
from reservation.payment import Payment
from reservation.price import LineKind, Price
from reservation.refunds import Refund

DESCRIPTION_LENGTH_MAX = 200


def description_of(price: Price) -> str:
    """What the provider calls a payment, on its receipt and its dashboard.

    Example:
        >>> from reservation.price import PriceLine
        >>> stalls = PriceLine(LineKind.PLACE, "Stalls", 1000)
        >>> description_of(Price("EUR", (stalls, stalls), (1000, 1000)))
        '2 x Stalls'
    """
    places = Counter(line.name for line in price.lines if line.kind is LineKind.PLACE)
    text = ", ".join(f"{count} x {name}" for name, count in places.items())
    return text[:DESCRIPTION_LENGTH_MAX]


def known_payment(stored: StoredPayment) -> ProviderPayment:
    """The provider's object as far as the row knows it: enough to name it to a gateway."""
    payment = stored.payment
    assert payment.provider_ref is not None, f"{payment.payment_id} is not at its provider"
    return ProviderPayment(
        provider_ref=payment.provider_ref,
        payment_id=payment.payment_id,
        state=ProviderState.OPEN,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        captured_minor=payment.captured_minor,
        refunded_minor=payment.refunded_minor,
        created_at_ms=payment.created_at_ms,
        charge_ref=stored.charge_ref,
    )


async def make_payment(
    gateway: PaymentGateway, stored: StoredPayment, key: str, now_ms: int
) -> ProviderPayment:
    """Make the payment at its provider, or find the one that was made."""
    payment = stored.payment
    request = PaymentRequest(
        payment.payment_id,
        payment.amount_minor,
        payment.currency,
        payment.capture_mode,
        key,
        description_of(stored.price),
    )
    if now_ms - payment.created_at_ms >= KEYS_KEPT_MS:
        found = await gateway.find(payment.payment_id, payment.created_at_ms)
        if found is not None:
            return found
    try:
        return await gateway.create(request)
    except KeySpent:
        found = await gateway.find(payment.payment_id, payment.created_at_ms)
        if found is not None:
            return found
        return await gateway.create(replace(request, key=f"{key}:{payment.attempt_count + 2}"))


async def give_back(
    gateway: PaymentGateway, stored: StoredPayment, refund: Refund
) -> ProviderRefund:
    """Have a refund made, or find it made. The gateway looks for it first, under either key."""
    payment = known_payment(stored)
    try:
        return await gateway.refund(payment, refund.amount_minor, refund.key)
    except KeySpent:
        return await gateway.refund(payment, refund.amount_minor, f"{refund.key}:2")


async def refunds_of(gateway: PaymentGateway, payment: ProviderPayment) -> Sequence[ProviderRefund]:
    """All refunds of a payment under the keys that their rows know."""
    refunds = await gateway.refunds_of(payment)
    return [replace(refund, key=_without_number(refund.key)) for refund in refunds]


def numbered(key: str, payment: Payment) -> str:
    """The key for the next try of something that looks by itself whether it was done."""
    return f"{key}:{payment.attempt_count + 1}" if payment.attempt_count else key


def _without_number(key: str | None) -> str | None:
    return None if key is None else ":".join(key.split(":")[:2])


def open_gateways(config: PaymentProvidersConfig) -> dict[str, PaymentGateway]:
    """A gateway for each provider that is configured; they are the caller's to close."""
    if config == PaymentProvidersConfig():
        return {}
    # Here, because the providers' clients take much memory, and a house without them needs none.
    from integrations.payments.gateways import build_gateways

    return build_gateways(config)
