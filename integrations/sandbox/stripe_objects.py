"""Stripe's objects as the sandbox keeps them, and as Stripe's clients see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Intent:
    """A PaymentIntent.

    Shapes:
        automatic: ``automatic_payment_methods``, or None when types were named instead.
        charges: ids of all its charges, the latest last.
        echoed: parameters that change nothing here and are shown as they were given.
        session: the Checkout Session it belongs to.
        return_url: where a challenge sends the customer back to.
    """

    id: str
    amount: int
    currency: str
    created: int
    client_secret: str
    capture_method: str
    metadata: dict[str, str]
    automatic: dict[str, Any] | None
    types: list[str]
    status: str = "requires_payment_method"
    description: str | None = None
    confirmation_method: str = "automatic"
    payment_method: str | None = None
    charges: list[str] = field(default_factory=list)
    amount_capturable: int = 0
    amount_received: int = 0
    canceled_at: int | None = None
    cancellation_reason: str | None = None
    next_action: dict[str, Any] | None = None
    last_payment_error: dict[str, Any] | None = None
    echoed: dict[str, Any] = field(default_factory=dict)
    session: str | None = None
    return_url: str | None = None

    def rendered(self, *, for_browser: bool = False) -> dict[str, Any]:
        """As the API shows it; a browser sees less."""
        shown: dict[str, Any] = {
            "id": self.id,
            "object": "payment_intent",
            "amount": self.amount,
            "amount_details": {"tip": {}},
            "allowed_payment_method_types": None,
            "automatic_payment_methods": self.automatic,
            "canceled_at": self.canceled_at,
            "cancellation_reason": self.cancellation_reason,
            "capture_method": self.capture_method,
            "client_secret": self.client_secret,
            "confirmation_method": self.confirmation_method,
            "created": self.created,
            "currency": self.currency,
            "description": self.description,
            "excluded_payment_method_types": None,
            "last_payment_error": self.last_payment_error,
            "livemode": False,
            "next_action": self.next_action,
            "payment_method": self.payment_method,
            "payment_method_types": self.types,
            "processing": None,
            "receipt_email": None,
            "setup_future_usage": None,
            "shipping": None,
            "source": None,
            "status": self.status,
        }
        if not for_browser:
            shown |= {
                "amount_capturable": self.amount_capturable,
                "amount_received": self.amount_received,
                "application": None,
                "application_fee_amount": None,
                "customer": None,
                "latest_charge": self.charges[-1] if self.charges else None,
                "metadata": self.metadata,
                "on_behalf_of": None,
                "payment_method_configuration_details": None,
                "payment_method_options": {},
                "review": None,
                "statement_descriptor": None,
                "statement_descriptor_suffix": None,
                "transfer_data": None,
                "transfer_group": None,
            }
        for name in self.echoed.keys() & shown.keys():
            shown[name] = self.echoed[name]
        return shown


@dataclass(slots=True)
class Charge:
    """One try to take the money of an intent.

    Shapes:
        status: ``pending``, ``succeeded`` (also while only reserved) or ``failed``.
        refunds: ids, the latest last.
        capture_before: until when it can be captured.

    Units:
        released: what was reserved and let go; Stripe shows it as refunded, too.
    """

    id: str
    payment_intent: str
    amount: int
    currency: str
    created: int
    metadata: dict[str, str]
    description: str | None
    payment_method: str
    method_kind: str
    brand: str
    last4: str
    status: str = "succeeded"
    captured: bool = False
    amount_captured: int = 0
    amount_refunded: int = 0
    failure_code: str | None = None
    failure_message: str | None = None
    decline_code: str | None = None
    refunds: list[str] = field(default_factory=list)
    released: int = 0
    capture_before: int | None = None

    def rendered(self) -> dict[str, Any]:
        """As the API shows it."""
        is_paid = self.status == "succeeded"
        outcome = {
            "network_status": "approved_by_network" if is_paid else "declined_by_network",
            "reason": None if is_paid else self.decline_code or self.failure_code,
            "risk_level": "normal",
            "seller_message": "Payment complete." if is_paid else "The bank did not approve it.",
            "type": "authorized" if is_paid else "issuer_declined",
        }
        details: dict[str, Any] = {"last4": self.last4}
        if self.method_kind == "card":
            details |= {
                "brand": self.brand,
                "capture_before": self.capture_before,
                "country": "US",
                "exp_month": 12,
                "exp_year": 2034,
                "funding": "credit",
                "network": self.brand,
                "three_d_secure": None,
            }
        return {
            "id": self.id,
            "object": "charge",
            "amount": self.amount,
            "amount_captured": self.amount_captured,
            "amount_refunded": self.amount_refunded + self.released,
            "application": None,
            "application_fee": None,
            "application_fee_amount": None,
            "balance_transaction": None,
            "billing_details": {"address": {}, "email": None, "name": None, "phone": None},
            "calculated_statement_descriptor": "SANDBOX",
            "captured": self.captured,
            "created": self.created,
            "currency": self.currency,
            "customer": None,
            "description": self.description,
            "disputed": False,
            "failure_balance_transaction": None,
            "failure_code": self.failure_code,
            "failure_message": self.failure_message,
            "fraud_details": {},
            "livemode": False,
            "metadata": self.metadata,
            "on_behalf_of": None,
            "outcome": outcome,
            "paid": is_paid,
            "payment_intent": self.payment_intent,
            "payment_method": self.payment_method,
            "payment_method_details": {self.method_kind: details, "type": self.method_kind},
            "receipt_email": None,
            "receipt_number": None,
            "receipt_url": None,
            "refunded": is_paid and self.amount_refunded + self.released >= self.amount,
            "review": None,
            "shipping": None,
            "source": None,
            "source_transfer": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": self.status,
            "transfer_data": None,
            "transfer_group": None,
        }


@dataclass(slots=True)
class Refund:
    """Money on its way back."""

    id: str
    charge: str
    payment_intent: str
    amount: int
    currency: str
    created: int
    metadata: dict[str, str]
    status: str
    reason: str | None = None
    failure_reason: str | None = None

    def rendered(self) -> dict[str, Any]:
        """As the API shows it."""
        shown: dict[str, Any] = {
            "id": self.id,
            "object": "refund",
            "amount": self.amount,
            "balance_transaction": None,
            "charge": self.charge,
            "created": self.created,
            "currency": self.currency,
            "destination_details": {"card": {"type": "refund"}, "type": "card"},
            "metadata": self.metadata,
            "payment_intent": self.payment_intent,
            "reason": self.reason,
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": self.status,
            "transfer_reversal": None,
        }
        if self.failure_reason is not None:
            shown["failure_reason"] = self.failure_reason
            shown["failure_balance_transaction"] = None
        if self.status == "pending":
            shown["pending_reason"] = "processing"
        return shown


@dataclass(slots=True)
class Method:
    """A PaymentMethod: a copy of a test method, made when it is used."""

    id: str
    kind: str
    brand: str
    number: str
    created: int
    metadata: dict[str, str] = field(default_factory=dict)

    def rendered(self) -> dict[str, Any]:
        """As the API shows it: the last four digits, never more."""
        details: dict[str, Any] = {"last4": self.number[-4:]}
        if self.kind == "card":
            details |= {"brand": self.brand, "exp_month": 12, "exp_year": 2034}
            details |= {"country": "US", "funding": "credit", "checks": None}
        return {
            "id": self.id,
            "object": "payment_method",
            "allow_redisplay": "unspecified",
            "billing_details": {"address": {}, "email": None, "name": None, "phone": None},
            "created": self.created,
            "customer": None,
            "livemode": False,
            "metadata": self.metadata,
            "type": self.kind,
            self.kind: details,
        }


@dataclass(slots=True)
class Session:
    """A Checkout Session.

    Shapes:
        lines: name, quantity and unit amount of what is sold.
        intent_data: ``payment_intent_data``, used when the customer pays.
    """

    id: str
    created: int
    expires_at: int
    currency: str
    amount_total: int
    lines: list[dict[str, Any]]
    success_url: str
    cancel_url: str | None
    url: str
    metadata: dict[str, str]
    intent_data: dict[str, Any]
    client_reference_id: str | None = None
    customer_email: str | None = None
    status: str = "open"
    payment_status: str = "unpaid"
    payment_intent: str | None = None

    def rendered(self) -> dict[str, Any]:
        """As the API shows it; its page is gone once it is no longer open."""
        return {
            "id": self.id,
            "object": "checkout.session",
            "after_expiration": None,
            "allow_promotion_codes": None,
            "amount_subtotal": self.amount_total,
            "amount_total": self.amount_total,
            "automatic_tax": {"enabled": False, "liability": None, "status": None},
            "billing_address_collection": None,
            "cancel_url": self.cancel_url,
            "client_reference_id": self.client_reference_id,
            "client_secret": None,
            "consent": None,
            "consent_collection": None,
            "created": self.created,
            "currency": self.currency,
            "custom_fields": [],
            "custom_text": {},
            "customer": None,
            "customer_creation": "if_required",
            "customer_details": None,
            "customer_email": self.customer_email,
            "expires_at": self.expires_at,
            "invoice": None,
            "livemode": False,
            "locale": None,
            "metadata": self.metadata,
            "mode": "payment",
            "payment_intent": self.payment_intent,
            "payment_link": None,
            "payment_method_collection": "if_required",
            "payment_method_options": {},
            "payment_method_types": ["card"],
            "payment_status": self.payment_status,
            "recovered_from": None,
            "setup_intent": None,
            "shipping_options": [],
            "status": self.status,
            "submit_type": None,
            "subscription": None,
            "success_url": self.success_url,
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0},
            "ui_mode": "hosted_page",
            "url": self.url if self.status == "open" else None,
        }
