"""Razorpay's orders and their payments, and what a customer does on Razorpay's page.

    payment:  authorized -> captured -> refunded
              failed -> authorized              the bank changed its mind: a late authorisation
    order:    created -> attempted -> paid      paid when a payment is captured, once

Who captures is said by the order (``payment_capture``, or ``payment.capture``), or by the account.
What stays authorised is given back by itself after five days.
"""

from __future__ import annotations

import hmac
from typing import Any

from integrations.sandbox.identifiers import razorpay_id
from integrations.sandbox.razorpay_errors import RazorpayRefusal, bad_field, unknown_id
from integrations.sandbox.razorpay_objects import Order, Payment, RazorpayRefund
from integrations.sandbox.razorpay_store import (
    RazorpayStore,
    check_fields,
    read_amount,
    read_notes,
    read_receipt,
)

LAPSES_AFTER_MS = 5 * 86_400_000
LAPSE = "razorpay.lapse"
AUTO_PAY = "razorpay.auto_pay"
METHODS = ("card", "netbanking", "upi", "wallet")
_ORDER_FIELDS = (
    "amount",
    "currency",
    "receipt",
    "notes",
    "partial_payment",
    "first_payment_min_amount",
    "payment_capture",
    "payment",
    "method",
    "customer_id",
    "offer_id",
)
_BANK_FAILED = {
    "code": "BAD_REQUEST_ERROR",
    "description": "Your payment didn't go through as it was declined by the bank. Try another "
    "payment method or contact your bank.",
    "source": "bank",
    "step": "payment_authorization",
    "reason": "payment_failed",
}


class RazorpayOrders:
    """See the module's docstring. Methods raise ``RazorpayRefusal`` for what Razorpay refuses."""

    def __init__(self, store: RazorpayStore, key_secret: str) -> None:
        self._store = store
        self._key_secret = key_secret
        store.due.doers[LAPSE] = self._lapse
        store.due.doers[AUTO_PAY] = self._pay_by_itself

    def find(self, order_id: str) -> Order:
        order = self._store.orders.find(order_id)
        if order is None:
            raise unknown_id()
        return order

    def find_payment(self, payment_id: str) -> Payment:
        payment = self._store.payments.find(payment_id)
        if payment is None:
            raise unknown_id()
        return payment

    def create(self, data: dict[str, Any]) -> Order:
        """A new order. Asking twice makes two: Razorpay has no idempotency here."""
        check_fields(data, _ORDER_FIELDS)
        currency = data.get("currency")
        if currency is None:
            raise bad_field("The currency field is required.", "currency")
        if not isinstance(currency, str) or len(currency) != 3:
            raise bad_field("The selected currency is invalid.", "currency")
        currency = currency.upper()
        order = Order(
            razorpay_id("order"),
            read_amount(data, currency),
            currency,
            self._store.clock.now_s(),
            read_receipt(data),
            read_notes(data),
            self._captures(data),
        )
        pays_after_ms = self._store.settings.pays_after_ms
        if pays_after_ms is not None:
            self._store.due.plan(AUTO_PAY, order.id, pays_after_ms)
        return self._store.orders.save(order)

    def edit(self, order: Order, data: dict[str, Any]) -> Order:
        """Change its notes."""
        check_fields(data, ("notes",))
        order.notes = read_notes(data)
        return self._store.orders.save(order)

    def edit_payment(self, payment: Payment, data: dict[str, Any]) -> Payment:
        """Change its notes."""
        check_fields(data, ("notes",))
        payment.notes = read_notes(data)
        return self._store.payments.save(payment)

    def capture(self, payment: Payment, data: dict[str, Any]) -> Payment:
        """Take what was authorised, all of it."""
        check_fields(data, ("amount", "currency"))
        amount = read_amount(data, payment.currency)
        if payment.is_captured:
            raise RazorpayRefusal("This payment has already been captured")
        if payment.status != "authorized":
            raise RazorpayRefusal(
                "Only payments which have been authorized and not yet captured can be captured"
            )
        if amount != payment.amount:
            raise RazorpayRefusal("Capture amount must be equal to the amount authorized")
        if data.get("currency", payment.currency).upper() != payment.currency:
            raise bad_field("Currency mismatch", "currency")
        if self._store.order_of(payment).status == "paid":
            raise RazorpayRefusal("Order already paid")
        self._capture(payment)
        return payment

    def pay(self, order: Order, method: str, outcome: str) -> Payment:
        """The customer pays on Razorpay's page.

        Args:
            outcome: ``succeeds``; or ``fails``, which may be followed by ``authorise_late``.
        """
        if method not in METHODS:
            raise bad_field(f"The method is one of {', '.join(METHODS)}.", "method")
        if outcome not in ("succeeds", "fails"):
            raise bad_field("The outcome is succeeds or fails.", "outcome")
        if order.status == "paid":
            raise RazorpayRefusal("Payment already done for this order.")
        payment = Payment(
            razorpay_id("pay"),
            order.id,
            order.amount,
            order.currency,
            self._store.clock.now_s(),
            method,
            dict(order.notes),
        )
        order.status = "attempted"
        order.attempts += 1
        order.payments.append(payment.id)
        self._store.orders.save(order)
        if outcome == "fails":
            payment.status = "failed"
            payment.error = _BANK_FAILED
            self._store.payments.save(payment)
            self._store.emit("payment.failed", payment=payment)
        else:
            self._authorise(payment)
        return payment

    def authorise_late(self, payment: Payment) -> Payment:
        """The bank says after all that it has the money of a failed payment."""
        if payment.status != "failed":
            raise RazorpayRefusal("Only a failed payment can be authorised late.")
        payment.error = None
        self._authorise(payment)
        return payment

    def callback_of(self, payment: Payment) -> dict[str, str]:
        """What Razorpay's page hands to ours when the customer has paid."""
        signed = f"{payment.order_id}|{payment.id}".encode()
        signature = hmac.new(self._key_secret.encode(), signed, "sha256").hexdigest()
        return {
            "razorpay_payment_id": payment.id,
            "razorpay_order_id": payment.order_id,
            "razorpay_signature": signature,
        }

    def _captures(self, data: dict[str, Any]) -> bool:
        payment = data.get("payment") or {}
        if isinstance(payment, dict) and payment.get("capture") in ("automatic", "manual"):
            return bool(payment["capture"] == "automatic")
        asked = data.get("payment_capture")
        if asked is None:
            return self._store.settings.razorpay_captures
        if asked not in (True, False, 0, 1, "0", "1"):
            raise bad_field("The payment capture field must be true or false.", "payment_capture")
        return asked not in (False, 0, "0")

    def _authorise(self, payment: Payment) -> None:
        payment.status = "authorized"
        self._store.payments.save(payment)
        self._store.emit("payment.authorized", payment=payment)
        order = self._store.order_of(payment)
        if order.captures and order.status != "paid":
            self._capture(payment)
        else:
            self._store.due.plan(LAPSE, payment.id, LAPSES_AFTER_MS)

    def _capture(self, payment: Payment) -> None:
        order = self._store.order_of(payment)
        payment.status = "captured"
        payment.is_captured = True
        order.status = "paid"
        order.amount_paid = payment.amount
        self._store.payments.save(payment)
        self._store.orders.save(order)
        self._store.ledger.add("razorpay", payment.id, "captured", payment.amount, payment.currency)
        self._store.emit("payment.captured", payment=payment)
        self._store.emit("order.paid", payment=payment, order=order)

    def _pay_by_itself(self, order_id: str) -> None:
        order = self.find(order_id)
        if order.status == "created":
            self.pay(order, "upi", "succeeds")

    def _lapse(self, payment_id: str) -> None:
        payment = self._store.payments.find(payment_id)
        if payment is None or payment.status != "authorized":
            return
        # Money that was only reserved goes back: it never was ours, so the books do not move.
        refund = RazorpayRefund(
            razorpay_id("rfnd"),
            payment.id,
            payment.amount,
            payment.currency,
            self._store.clock.now_s(),
            {},
            None,
            "normal",
            "processed",
        )
        payment.status = "refunded"
        payment.amount_refunded = payment.amount
        payment.refunds.append(refund.id)
        self._store.refunds.save(refund)
        self._store.payments.save(payment)
        self._store.emit("refund.created", refund=refund, payment=payment)
        self._store.emit("refund.processed", refund=refund, payment=payment)
