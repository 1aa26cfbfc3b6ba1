"""What Razorpay answers, in the port's language: orders with their payments, and refunds.

An order is what we make; its payments are the customer's tries at it. One may fail and another be
authorised, a failed one may be authorised late, and, rarely, two are captured. So the order is
where the most advanced of its payments is, and what was captured is the sum: more than the order
asked for is money to give back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from integrations.payments.payment_gateway import (
    ProviderPayment,
    ProviderRefund,
    ProviderState,
    RefundState,
)
from integrations.payments.signed_body import payment_id_in

REFUND_KEY = "refund_key"
"""Under which a refund's notes hold our idempotency key."""

_REFUND_STATES = {
    "pending": RefundState.PENDING,
    "processed": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
}

Entity = Mapping[str, Any]


def items_of(collection: object) -> list[Entity]:
    """What a collection holds."""
    found = collection.get("items") if isinstance(collection, Mapping) else None
    return [item for item in found or () if isinstance(item, Mapping)]


def is_captured(payment: Entity) -> bool:
    """Whether the money of one try came to us, even if it went back since.

    Money that was only reserved goes back by itself, and its payment is called refunded too.
    """
    status = payment.get("status")
    return status == "captured" or (status == "refunded" and payment.get("captured") is not False)


def captured_of(payments: Sequence[Entity]) -> list[Entity]:
    """The tries that brought money, the oldest first."""
    return sorted(filter(is_captured, payments), key=_age)


def payment_of(order: Entity, payments: Sequence[Entity], key_id: str) -> ProviderPayment:
    """An order and the tries at it."""
    captured = captured_of(payments)
    authorised = sorted((one for one in payments if one.get("status") == "authorized"), key=_age)
    if captured:
        state = ProviderState.CAPTURED
    elif authorised:
        state = ProviderState.AUTHORISED
    elif any(one.get("status") == "created" for one in payments) or not payments:
        # A try that has begun waits for its customer, on a page of the bank.
        state = ProviderState.OPEN
    else:
        state = ProviderState.FAILED
    chosen = next(iter(captured or authorised), None)
    payable = state in (ProviderState.OPEN, ProviderState.FAILED)
    return ProviderPayment(
        provider_ref=str(order["id"]),
        payment_id=payment_id_in(order.get("notes"))
        or payment_id_in({"payment_id": order.get("receipt")}),
        state=state,
        amount_minor=int(order["amount"]),
        currency=str(order["currency"]).upper(),
        captured_minor=sum(int(one["amount"]) for one in captured),
        refunded_minor=sum(_refunded_minor(one) for one in captured),
        created_at_ms=int(order["created_at"]) * 1_000,
        charge_ref=None if chosen is None else str(chosen["id"]),
        client_data={"order_id": str(order["id"]), "key_id": key_id} if payable else {},
    )


def payment_to_refund(payments: Sequence[Entity], amount_minor: int) -> str | None:
    """The try to take a refund from: the latest that still has that much, None when none has.

    The latest, because what came last is what came too much.
    """
    for one in reversed(captured_of(payments)):
        if int(one["amount"]) - _refunded_minor(one) >= amount_minor:
            return str(one["id"])
    return None


def refund_of(refund: Entity) -> ProviderRefund:
    """A refund."""
    notes = refund.get("notes")
    key = notes.get(REFUND_KEY) if isinstance(notes, Mapping) else None
    return ProviderRefund(
        refund_ref=str(refund["id"]),
        key=key if isinstance(key, str) else None,
        state=_REFUND_STATES.get(str(refund.get("status")), RefundState.PENDING),
        amount_minor=int(refund["amount"]),
    )


def _refunded_minor(payment: Entity) -> int:
    return int(payment.get("amount_refunded") or 0)


def _age(payment: Entity) -> tuple[int, str]:
    return int(payment.get("created_at") or 0), str(payment.get("id"))
