"""The payments that a ``MemoryStore`` books with: the same rules as ``settle_payments`` in SQL.

They are put here by whoever plays the part of the payment worker. There is no ledger, and no job
for a cancelled show: only what decides whether a batch may be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reservation.faults import Diverged
from reservation.ids import PaymentId
from reservation.payment import Payment, PaymentState
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
    is_paid = (
        payment.state is PaymentState.CAPTURED
        and payment.captured_minor == payment.amount_minor
        and payment.refunded_minor == 0
    )
    if (
        payment.show_id != row["show_id"]
        or payment.customer_id != row["customer_id"]
        or not (is_paid or payment.state is PaymentState.AUTHORISED)
    ):
        raise Diverged(f"{payment.payment_id} is {payment.state} and cannot be booked with")
    cancelled_at_ms = row.get("cancelled_at_ms")
    return replace(
        payment,
        state=PaymentState.SETTLED if is_paid else PaymentState.BOOKED,
        state_at_ms=row["at_ms"],
        attempt_count=0,
        booking_hold_id=row["hold_id"],
        cancelled_at_ms=cancelled_at_ms,
        refund_terms=None if cancelled_at_ms is None else RefundTerms(row["refund"]),
        due_at_ms=_due_by(payment, row["at_ms"]),
        version=payment.version + 1,
    )


def cancelled_with(payment: Payment, row: Mapping[str, Any]) -> Payment:
    """The payment after its booking was cancelled.

    Raises:
        Diverged: no booking that stands was made with it.
    """
    if payment.booking_hold_id != row["hold_id"] or payment.cancelled_at_ms is not None:
        raise Diverged(f"{payment.payment_id} has no booking to cancel")
    return replace(
        payment,
        cancelled_at_ms=row["at_ms"],
        refund_terms=RefundTerms(row["refund"]),
        attempt_count=0,
        due_at_ms=_due_by(payment, row["at_ms"]),
        version=payment.version + 1,
    )


def _due_by(payment: Payment, at_ms: int) -> int:
    return at_ms if payment.due_at_ms is None else min(payment.due_at_ms, at_ms)
