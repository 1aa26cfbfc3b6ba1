"""What OpenAPI says about the payments application, and under which address each route is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from serve_app.api.api_document import Operation, body, path, problems
from serve_app.api.booking_schemas import NothingBody
from serve_app.api.payments import schemas
from serve_app.api.principals import PUBLIC, SIGNED_IN

DESCRIPTION = """\
A payment is begun at `POST /api/booking/holds/{hold_id}/checkout` and paid on the provider's own
page, so the house never sees a card. What becomes of it is found out here, by asking now and then.

A payment whose hold ended before the money came gets the same places if they are still free, and
goes back otherwise. Nobody has to ask for that.
"""

_PAYMENT = path("payment_id", schemas.EXAMPLE_PAYMENT)
_WEBHOOK_BODY = {
    "required": True,
    "content": {"application/json": {"schema": {"type": "object"}}},
}


def _found(description: str, model: type[BaseModel]) -> dict[str, Any]:
    return {"description": description, "model": model}


LIST_PAYMENTS = Operation(
    "GET",
    "/payments",
    tag="payments",
    roles=SIGNED_IN,
    has_query=True,
    summary="The customer's payments",
    responses={
        200: _found("One page, newest first.", schemas.PaymentList),
        **problems("invalid_request", "not_done"),
    },
    extra={},
)

FIND_PAYMENT = Operation(
    "GET",
    "/payments/{payment_id}",
    tag="payments",
    roles=SIGNED_IN,
    summary="One payment",
    responses={
        200: _found("The payment as it is now.", schemas.PaymentView),
        **problems("payment_not_found", "not_done"),
    },
    extra={"parameters": [_PAYMENT]},
)

CANCEL_PAYMENT = Operation(
    "POST",
    "/payments/{payment_id}/cancel",
    tag="payments",
    roles=SIGNED_IN,
    summary="Not pay after all",
    description=(
        "The provider is told to take nothing any more; what it took goes back. Repeating it is "
        "harmless. The hold stays until its own end, and may be paid for anew."
    ),
    responses={
        200: _found("The payment as it is now.", schemas.PaymentView),
        **problems(
            "malformed_json",
            "invalid_request",
            "unsupported_media_type",
            "payment_not_found",
            "payment_is_booked",
            "not_done",
            "outcome_unknown",
        ),
    },
    extra={"parameters": [_PAYMENT], "requestBody": body(NothingBody, required=False)},
)


def _webhook(provider: str, header: str) -> Operation:
    return Operation(
        "POST",
        f"/webhooks/{provider.lower()}",
        tag="webhooks",
        roles=PUBLIC,
        summary=f"{provider} tells the house of something",
        description=(
            f"For {provider} alone, which signs what it sends (`{header}`). It is only written "
            "down here, and so is answered at once; a repetition changes nothing. At most "
            "262,144 bytes."
        ),
        responses={
            200: _found("It is written down, or means nothing here.", schemas.WebhookTaken),
            **problems("webhook_refused", "overloaded", "not_done", "outcome_unknown"),
        },
        extra={"requestBody": _WEBHOOK_BODY},
        comes_in_crowds=True,
    )


STRIPE_WEBHOOK = _webhook("Stripe", "Stripe-Signature")
RAZORPAY_WEBHOOK = _webhook("Razorpay", "X-Razorpay-Signature")

MODELS: tuple[type[BaseModel], ...] = (
    NothingBody,
    schemas.PriceLineView,
    schemas.PaymentView,
    schemas.PaymentList,
    schemas.WebhookTaken,
)
