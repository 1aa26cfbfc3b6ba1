"""Stripe's own payment page: a Checkout Session, for those who build no form of their own.

A session makes its PaymentIntent when its customer pays, so until then the payment is known by the
session (``cs_...``), and afterwards too; ``charge_ref`` names the intent as soon as there is one.
``StripeGateway`` takes either for a payment.

A session lives for half an hour at least, longer than a hold does. So it must be cancelled when the
hold ends: ``cancel`` expires it, and only then is it certain that nobody pays any more. Before it
has been paid ``find`` and ``list_since`` do not show it: only its page can lead to money.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import stripe

from integrations.payments.payment_gateway import PaymentRequest, ProviderPayment, ProviderState
from integrations.payments.signed_body import payment_id_in
from integrations.payments.stripe_answers import payment_of
from integrations.payments.stripe_line import StripeLine, path_of
from reservation.payment import CaptureMode

_SESSIONS = "checkout/sessions"
_EXPAND = ["payment_intent", "payment_intent.latest_charge"]


def is_session(provider_ref: str) -> bool:
    """Whether this names a session rather than a PaymentIntent."""
    return provider_ref.startswith("cs_")


class StripeCheckout:
    """See the module's docstring."""

    def __init__(self, line: StripeLine) -> None:
        self._line = line

    async def open(
        self, request: PaymentRequest, success_url: str, cancel_url: str, expires_at_ms: int
    ) -> ProviderPayment:
        """A page to pay on; its ``client_data`` holds the ``url``."""
        params: stripe.params.checkout.SessionCreateParams = {
            "mode": "payment",
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": request.currency.lower(),
                        "unit_amount": request.amount_minor,
                        "product_data": {"name": request.description},
                    },
                }
            ],
            "payment_intent_data": {
                "capture_method": (
                    "manual" if request.capture_mode is CaptureMode.MANUAL else "automatic"
                ),
                "metadata": {"payment_id": request.payment_id},
                "description": request.description,
            },
            "metadata": {"payment_id": request.payment_id},
            "client_reference_id": request.payment_id,
            "success_url": success_url,
            "cancel_url": cancel_url,
            "expires_at": expires_at_ms // 1_000,
            "expand": _EXPAND,
        }
        return await self._line.write(
            "open a checkout",
            payment_of_session,
            self._line.ask("post", _SESSIONS, params, request.key),
        )

    async def fetch(self, session_ref: str) -> ProviderPayment:
        """A session as it is now."""
        return await self._line.read(
            "read a checkout",
            payment_of_session,
            self._line.ask("get", path_of(_SESSIONS, session_ref), {"expand": _EXPAND}),
        )

    async def expire(self, session_ref: str, key: str) -> ProviderPayment:
        """Close a page that nobody has paid on yet; how things are then, closed or not."""
        await self._line.write_unless(
            "expire a checkout",
            lambda answer: None,
            self._line.ask("post", path_of(_SESSIONS, session_ref, "expire"), {}, key),
            lambda: self.fetch(session_ref),
            # A page that was paid on cannot be closed, and need not.
            lambda now: now.state is not ProviderState.OPEN,
        )
        return await self.fetch(session_ref)

    async def session_of(self, intent_ref: str) -> str | None:
        """The session that a PaymentIntent belongs to."""
        return await self._line.read(
            "find a checkout",
            lambda listed: listed["data"][0]["id"] if listed["data"] else None,
            self._line.ask("get", _SESSIONS, {"payment_intent": intent_ref, "limit": 1}),
        )


def payment_of_session(session: Mapping[str, Any]) -> ProviderPayment:
    """A Checkout Session whose ``payment_intent`` is expanded, if there is one."""
    intent = session.get("payment_intent")
    paid = payment_of(intent, "") if isinstance(intent, Mapping) else None
    is_open = session.get("status") == "open"
    if is_open and (paid is None or not _is_money_moving(paid)):
        # A card that was refused leaves the page open for another.
        state = ProviderState.OPEN
    elif paid is not None:
        state = paid.state
    else:
        state = ProviderState.CANCELLED
    url = session.get("url")
    return ProviderPayment(
        provider_ref=str(session["id"]),
        payment_id=payment_id_in(session.get("metadata")),
        state=state,
        amount_minor=int(session["amount_total"]),
        currency=str(session["currency"]).upper(),
        captured_minor=0 if paid is None else paid.captured_minor,
        refunded_minor=0 if paid is None else paid.refunded_minor,
        created_at_ms=int(session["created"]) * 1_000,
        charge_ref=None if paid is None else paid.provider_ref,
        client_data={"url": url} if is_open and isinstance(url, str) else {},
    )


def _is_money_moving(payment: ProviderPayment) -> bool:
    return payment.state in (
        ProviderState.PROCESSING,
        ProviderState.AUTHORISED,
        ProviderState.CAPTURED,
    )
