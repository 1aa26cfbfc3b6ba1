"""The payments that a ``MemoryStore`` books with: the same rules as ``settle_payments`` in SQL.

They are put here by whoever plays the part of the payment worker. There is no ledger, and no job
for a cancelled show: only what decides whether a batch may be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reservation.checkout import booked_by, cancelled_by, is_booked
from reservation.faults import Diverged
from reservation.ids import PaymentId
from reservation.payment import Payment
from reservation.refund_terms import RefundTerms


class MemoryPayments:
    """Payments by their ids."""

    def __init__(self) -> None:
        self._payments: dict[PaymentId, Payment] = {}

    def put(self, payment: Payment) -> None:
        """Store a payment, whatever was there before."""
        self._payments[payment.payment_id] = payment

    def find(self, payment_id: PaymentId) -> Payment | None:
        """The payment as it is now."""
        return self._payments.get(payment_id)

    def update(self, changed: Mapping[PaymentId, Payment]) -> None:
        """Store all of these."""
        self._payments.update(changed)


def booked_with(payment: Payment, row: Mapping[str, Any]) -> Payment:
    """The payment after the booking that this row of the projection tells of.

    Raises:
        Diverged: it cannot be used: it is of another show or customer, or in the wrong state.
    """
    is_same = payment.show_id == row["show_id"] and payment.customer_id == row["customer_id"]
    booked = booked_by(payment, row["hold_id"], row["at_ms"]) if is_same else None
    if booked is None:
        raise Diverged(f"{payment.payment_id} is {payment.state} and cannot be booked with")
    if row.get("cancelled_at_ms") is not None:
        booked = cancelled_by(booked, RefundTerms(row["refund"]), row["cancelled_at_ms"])
    return replace(booked, version=payment.version + 1)


def cancelled_with(payment: Payment, row: Mapping[str, Any]) -> Payment:
    """The payment after its booking was cancelled.

    Raises:
        Diverged: no booking that stands was made with it.
    """
    is_its_own = is_booked(payment) and payment.booking_hold_id == row["hold_id"]
    if not is_its_own or payment.cancelled_at_ms is not None:
        raise Diverged(f"{payment.payment_id} has no booking to cancel")
    cancelled = cancelled_by(payment, RefundTerms(row["refund"]), row["at_ms"])
    return replace(cancelled, version=payment.version + 1)
