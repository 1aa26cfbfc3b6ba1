"""What Stripe answers, in the port's language: payments, refunds and errors.

Amounts of currencies without a smaller unit are whole ones in Stripe's answers, and so are minor
units of ISO 4217: nothing is converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import stripe

from integrations.payments.payment_gateway import (
    GatewayBusy,
    GatewayKeyRefused,
    GatewayRefused,
    KeySpent,
    ProviderPayment,
    ProviderRefund,
    ProviderState,
    RefundState,
)
from integrations.payments.signed_body import payment_id_in
from reservation.faults import Fault, OutcomeUnknown

REFUND_KEY = "refund_key"
"""Under which a refund's metadata hold our idempotency key."""

_PAYABLE = frozenset({ProviderState.OPEN, ProviderState.FAILED})

_STATES = {
    "requires_payment_method": ProviderState.OPEN,
    "requires_confirmation": ProviderState.OPEN,
    "requires_action": ProviderState.OPEN,
    "processing": ProviderState.PROCESSING,
    "requires_capture": ProviderState.AUTHORISED,
    "succeeded": ProviderState.CAPTURED,
    "canceled": ProviderState.CANCELLED,
}

_REFUND_STATES = {
    "pending": RefundState.PENDING,
    "requires_action": RefundState.PENDING,
    "succeeded": RefundState.SUCCEEDED,
    "failed": RefundState.FAILED,
    "canceled": RefundState.FAILED,
}


def state_of(intent: Mapping[str, Any]) -> ProviderState:
    """Where a PaymentIntent is.

    One that was declined waits for another method, as one that nobody has touched does; what tells
    them apart is the error of the last try. A status that is not known here is taken as one that
    will change.
    """
    state = _STATES.get(str(intent.get("status")), ProviderState.PROCESSING)
    if intent.get("status") == "requires_payment_method" and intent.get("last_payment_error"):
        return ProviderState.FAILED
    return state


def payment_of(intent: Mapping[str, Any], publishable_key: str) -> ProviderPayment:
    """A PaymentIntent whose ``latest_charge`` is expanded."""
    state = state_of(intent)
    charge = intent.get("latest_charge")
    client_data = {}
    if state in _PAYABLE and isinstance(intent.get("client_secret"), str):
        client_data = {
            "client_secret": intent["client_secret"],
            "publishable_key": publishable_key,
        }
    captured_minor = int(intent.get("amount_received") or 0)
    return ProviderPayment(
        provider_ref=str(intent["id"]),
        payment_id=payment_id_in(intent.get("metadata")),
        state=state,
        amount_minor=int(intent["amount"]),
        currency=str(intent["currency"]).upper(),
        captured_minor=captured_minor,
        refunded_minor=_refunded_minor(charge, captured_minor),
        created_at_ms=int(intent["created"]) * 1_000,
        client_data=client_data,
    )


def _refunded_minor(charge: object, captured_minor: int) -> int:
    # Money that was reserved and let go counts as refunded to Stripe; it was never ours.
    if not isinstance(charge, Mapping) or not charge.get("captured"):
        return 0
    return min(int(charge.get("amount_refunded") or 0), captured_minor)


def refund_of(refund: Mapping[str, Any]) -> ProviderRefund:
    """A refund; without a status it is one of the old kind that succeeds at once."""
    labels = refund.get("metadata")
    key = labels.get(REFUND_KEY) if isinstance(labels, Mapping) else None
    return ProviderRefund(
        refund_ref=str(refund["id"]),
        key=key if isinstance(key, str) else None,
        state=_REFUND_STATES.get(str(refund.get("status")), RefundState.PENDING),
        amount_minor=int(refund["amount"]),
    )


def fault_of(error: Exception, what: str, *, is_reading: bool) -> Fault:
    """What a client's exception means.

    Its text is not repeated: Stripe's messages name keys, cards and people. Its code and the
    request's id are enough to find the rest in Stripe's dashboard.
    """
    if _is_not_sent(error):
        return GatewayBusy(f"Stripe cannot be reached to {what}")
    if not isinstance(error, stripe.StripeError) or isinstance(error, stripe.APIConnectionError):
        # The kind is enough: of what did not come there is nothing to tell.
        return _unsure(f"Stripe gave no answer to {what}: {type(error).__name__}", is_reading)
    said = f"{what}: {_reason(error)}"
    if isinstance(error, stripe.RateLimitError):
        return GatewayBusy(f"Stripe takes no more now to {said}", retry_after_ms=_retry_ms(error))
    if isinstance(error, stripe.AuthenticationError | stripe.PermissionError):
        return GatewayKeyRefused(f"Stripe does not accept the key to {said}")
    if isinstance(error, stripe.IdempotencyError):
        # What was asked for first under this key may have happened.
        return KeySpent(f"Stripe knows the key of another request to {said}")
    if isinstance(error, stripe.CardError | stripe.InvalidRequestError):
        return GatewayRefused(
            f"Stripe refused to {said}",
            code=error.code or "",
            is_unknown_object=error.http_status == 404 or error.code == "resource_missing",
        )
    if is_replayed(error) and not is_reading:
        return KeySpent(f"Stripe repeats an old failure to {said}")
    return _unsure(f"Stripe could not {said}", is_reading)


def is_replayed(error: Exception) -> bool:
    """Whether this is what was answered the first time that the idempotency key was used."""
    headers = (error.headers or {}) if isinstance(error, stripe.StripeError) else {}
    return any(
        name.lower() == "idempotent-replayed" and value == "true" for name, value in headers.items()
    )


def _unsure(message: str, is_reading: bool) -> Fault:
    return GatewayBusy(message) if is_reading else OutcomeUnknown(message)


def _is_not_sent(error: Exception) -> bool:
    # Without a connection nothing has left, whatever was to be asked.
    cause = error.__cause__ if isinstance(error, stripe.APIConnectionError) else error
    return isinstance(cause, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)


def _retry_ms(error: stripe.StripeError) -> int:
    for name, value in (error.headers or {}).items():
        if name.lower() == "retry-after" and value.isdigit() and len(value) < 4:
            return max(1_000, int(value) * 1_000)
    return 1_000


def _reason(error: stripe.StripeError) -> str:
    words = [type(error).__name__, str(error.http_status)]
    words += [word for word in (error.code, error.request_id) if word]
    return " ".join(words)


UNANSWERED = (
    stripe.StripeError,
    aiohttp.ClientError,
    OSError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)
"""What the client raises, and what an answer of another shape than Stripe's leads to.

Reading a body fails outside of what the client translates itself.
"""
