"""Razorpay's refunds: of a captured payment, in full or in part."""

from __future__ import annotations

from typing import Any

from integrations.sandbox.identifiers import razorpay_id
from integrations.sandbox.razorpay_errors import RazorpayRefusal, bad_field, unknown_id
from integrations.sandbox.razorpay_objects import Payment, RazorpayRefund
from integrations.sandbox.razorpay_store import (
    RazorpayStore,
    check_fields,
    read_amount,
    read_notes,
    read_receipt,
)

_FIELDS = ("amount", "speed", "notes", "receipt")


class RazorpayRefunds:
    """See the module's docstring. Methods raise ``RazorpayRefusal`` for what Razorpay refuses."""

    def __init__(self, store: RazorpayStore) -> None:
        self._store = store

    def find(self, refund_id: str) -> RazorpayRefund:
        refund = self._store.refunds.find(refund_id)
        if refund is None:
            raise unknown_id()
        return refund

    def create(self, payment: Payment, data: dict[str, Any]) -> RazorpayRefund:
        """Give back what is left, or the amount that is asked for."""
        check_fields(data, _FIELDS)
        speed = data.get("speed", "normal")
        if speed not in ("normal", "optimum"):
            raise bad_field("The speed must be normal or optimum.", "speed")
        if not payment.is_captured:
            raise RazorpayRefusal("The payment status should be captured for action to be taken")
        left = payment.amount - payment.amount_refunded
        if left == 0:
            raise RazorpayRefusal("The payment has been fully refunded already")
        amount = left
        if data.get("amount") is not None:
            amount = read_amount(data, payment.currency)
        if amount > left:
            raise RazorpayRefusal(
                "The total refund amount is greater than the refund payment amount"
            )
        refund = RazorpayRefund(
            razorpay_id("rfnd"),
            payment.id,
            amount,
            payment.currency,
            self._store.clock.now_s(),
            read_notes(data),
            read_receipt(data),
            speed,
            "pending" if self._store.settings.razorpay_refunds_wait else "processed",
        )
        payment.amount_refunded += amount
        payment.refunds.append(refund.id)
        if payment.amount_refunded == payment.amount:
            payment.status = "refunded"
        self._store.refunds.save(refund)
        self._store.payments.save(payment)
        self._book(refund, "refunded")
        self._store.emit("refund.created", refund=refund, payment=payment)
        if refund.status == "processed":
            self._store.emit("refund.processed", refund=refund, payment=payment)
        return refund

    def edit(self, refund: RazorpayRefund, data: dict[str, Any]) -> RazorpayRefund:
        """Change its notes."""
        check_fields(data, ("notes",))
        refund.notes = read_notes(data)
        return self._store.refunds.save(refund)

    def settle(self, refund: RazorpayRefund, *, succeeds: bool) -> RazorpayRefund:
        """The bank's word about a refund that waits for it."""
        if refund.status != "pending":
            raise RazorpayRefusal(f"The refund is {refund.status} already.")
        payment = self._store.payments.find(refund.payment_id)
        assert payment is not None, "refunds are of payments that exist"
        if succeeds:
            refund.status = "processed"
        else:
            refund.status = "failed"
            payment.amount_refunded -= refund.amount
            payment.status = "captured"
            self._store.payments.save(payment)
            self._book(refund, "refund_failed")
        self._store.refunds.save(refund)
        event = "refund.processed" if succeeds else "refund.failed"
        self._store.emit(event, refund=refund, payment=payment)
        return refund

    def _book(self, refund: RazorpayRefund, kind: str) -> None:
        self._store.ledger.add("razorpay", refund.payment_id, kind, refund.amount, refund.currency)
