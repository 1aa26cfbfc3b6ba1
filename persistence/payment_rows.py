"""Payments and refunds as rows: what the functions of ``0005_payments.sql`` take and give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import asyncpg
import orjson

from reservation.checkout import Checkout
from reservation.ids import CustomerId, HoldId, PaymentId, RefundId, ShowId, TenantId
from reservation.payment import CaptureMode, Claim, Payment, PaymentState
from reservation.price import LineKind, Price, PriceLine
from reservation.refund_terms import RefundTerms
from reservation.refunds import Refund, RefundReason, RefundState


class PromoUse(NamedTuple):
    """The promo code that a payment's price was reduced by."""

    tenant_id: TenantId
    code_key: str


@dataclass(frozen=True, slots=True)
class StoredPayment:
    """A payment with its refunds, and what else its row has.

    Shapes:
        price: what the customer agreed to; its lines are the receipt.
        charge_ref: what captures and refunds name at the provider, where that is another object.
        last_error: what the last try came to, when it came to nothing.
    """

    checkout: Checkout
    price: Price
    promo: PromoUse | None
    charge_ref: str | None
    last_error: str | None

    @property
    def payment(self) -> Payment:
        """The payment alone."""
        return self.checkout.payment


def payment_of(row: asyncpg.Record) -> Payment:
    """The payment that a row tells of."""
    terms, booking_hold_id = row["refund_terms"], row["booking_hold_id"]
    return Payment(
        payment_id=PaymentId(row["payment_id"]),
        show_id=ShowId(row["show_id"]),
        hold_id=HoldId(row["hold_id"]),
        customer_id=CustomerId(row["customer_id"]),
        provider=row["provider"],
        capture_mode=CaptureMode(row["capture_mode"]),
        amount_minor=row["amount_minor"],
        currency=row["currency"],
        hold_minor=row["hold_minor"],
        accepts_equivalent=row["accepts_equivalent"],
        created_at_ms=row["created_at_ms"],
        hold_expires_at_ms=row["hold_expires_at_ms"],
        state=PaymentState(row["state"]),
        state_at_ms=row["state_at_ms"],
        booking_hold_id=None if booking_hold_id is None else HoldId(booking_hold_id),
        provider_ref=row["provider_ref"],
        captured_minor=row["captured_minor"],
        refunded_minor=row["refunded_minor"],
        claim=Claim(row["claim"]),
        attempt_count=row["attempt_count"],
        due_at_ms=row["due_at_ms"],
        is_noticed=row["is_noticed"],
        seen_at_ms=row["seen_at_ms"],
        is_uncollectable=row["is_uncollectable"],
        cancelled_at_ms=row["cancelled_at_ms"],
        refund_terms=None if terms is None else RefundTerms(terms),
        kept_minor=row["kept_minor"],
        paid_currency=row["paid_currency"],
        version=row["version"],
    )


def stored_payment_of(row: asyncpg.Record) -> StoredPayment:
    """What a row of ``payments.sql`` tells of a payment."""
    refunds = orjson.loads(row["refunds"]) if row["refunds"] is not None else ()
    promo = None
    if row["promo_code_key"] is not None:
        promo = PromoUse(TenantId(row["promo_tenant_id"]), row["promo_code_key"])
    return StoredPayment(
        Checkout(payment_of(row), tuple(map(_refund_of, refunds))),
        _price_of(orjson.loads(row["price_text"])),
        promo,
        row["charge_ref"],
        row["last_error"],
    )


def new_payment_json(payment: Payment, price: Price, promo: PromoUse | None) -> str:
    """What ``begin_payment`` is told."""
    record: dict[str, object] = {
        name: getattr(payment, name)
        for name in (
            "payment_id",
            "show_id",
            "hold_id",
            "customer_id",
            "provider",
            "capture_mode",
            "amount_minor",
            "currency",
            "hold_minor",
            "accepts_equivalent",
            "created_at_ms",
            "hold_expires_at_ms",
            "state_at_ms",
            "due_at_ms",
        )
    }
    record["price"] = {
        "currency": price.currency,
        "lines": [tuple(line) for line in price.lines],
        "paid_minor": price.paid_minor,
    }
    if promo is not None:
        record["promo_tenant_id"], record["promo_code_key"] = promo
    return orjson.dumps(record).decode()


SAVED_FIELDS = (
    "state",
    "state_at_ms",
    "hold_expires_at_ms",
    "claim",
    "booking_hold_id",
    "provider_ref",
    "is_noticed",
    "seen_at_ms",
    "is_uncollectable",
    "captured_minor",
    "kept_minor",
    "paid_currency",
    "due_at_ms",
    "attempt_count",
)
"""What ``Payments.save`` may change. The rest is fixed, or follows from bookings and refunds."""


def saved_payment_json(after: Payment, charge_ref: str | None, last_error: str | None) -> str:
    """What ``save_checkout`` is told of the payment."""
    record: dict[str, object] = {name: getattr(after, name) for name in SAVED_FIELDS}
    record["charge_ref"], record["last_error"] = charge_ref, last_error
    return orjson.dumps(record).decode()


def changed_refunds_json(before: Checkout, after: Checkout) -> str:
    """The refunds of ``after`` that are new or have changed, for ``save_checkout``."""
    known = set(before.refunds)
    return orjson.dumps([each for each in after.refunds if each not in known]).decode()


def _refund_of(row: Mapping[str, Any]) -> Refund:
    return Refund(
        RefundId(row["refund_id"]),
        PaymentId(row["payment_id"]),
        row["number"],
        row["amount_minor"],
        RefundReason(row["reason"]),
        RefundState(row["state"]),
        row["created_at_ms"],
        row["first_asked_at_ms"],
        row["refund_ref"],
    )


def _price_of(stored: dict[str, Any]) -> Price:
    lines = tuple(
        PriceLine(LineKind(kind), name, amount_minor, is_included)
        for kind, name, amount_minor, is_included in stored["lines"]
    )
    return Price(stored["currency"], lines, tuple(stored["paid_minor"]))
