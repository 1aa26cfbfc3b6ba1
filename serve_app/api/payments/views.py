"""Payments as their customers see them: in a few public words, whatever the saga calls its states.

What is written here must fit the models of ``schemas``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from actors.checkouts import FreeCheckout
from persistence.payment_rows import StoredPayment
from reservation.checkout import Checkout, owed_minor
from reservation.ids import booking_id_of, show_id_of
from reservation.payment import PaymentState
from reservation.price import PriceLine
from reservation.refunds import RefundState
from serve_app.api.instants import write_instant

View = dict[str, Any]

PAYABLE = frozenset({PaymentState.CREATED, PaymentState.OPEN, PaymentState.FAILED})
"""The customer can still pay it, or soon can."""

BOOKED = frozenset({PaymentState.BOOKED, PaymentState.SETTLED})

_ON_THEIR_WAY = frozenset({RefundState.DUE, RefundState.REQUESTED})

_WORDS: Mapping[PaymentState, str] = {
    PaymentState.CREATED: "processing",
    PaymentState.OPEN: "waiting",
    PaymentState.FAILED: "failed",
    PaymentState.AUTHORISED: "paid",
    PaymentState.CAPTURED: "paid",
    PaymentState.BOOKED: "booked",
    PaymentState.SETTLED: "booked",
    PaymentState.VOID_DUE: "cancelled",
    PaymentState.VOIDED: "cancelled",
    PaymentState.REFUND_DUE: "refunding",
    PaymentState.REFUNDED: "refunded",
}


def public_state(checkout: Checkout) -> str:
    """The public word for where a payment is.

    One whose booking was cancelled is ``refunding`` until all that goes back has arrived.
    """
    payment = checkout.payment
    if payment.state in BOOKED and payment.cancelled_at_ms is not None:
        is_on_its_way = any(refund.state in _ON_THEIR_WAY for refund in checkout.refunds)
        if payment.kept_minor is None or owed_minor(checkout) or is_on_its_way:
            return "refunding"
        return "refunded" if payment.refunded_minor else "cancelled"
    return _WORDS[payment.state]


def view_of_payment(stored: StoredPayment, client_data: Mapping[str, str] | None = None) -> View:
    """A payment; ``client_data`` is what its customer needs to pay it."""
    payment = stored.payment
    view = view_of_receipt(stored)
    view["hold_id"] = payment.hold_id
    view["show_id"] = payment.show_id
    if payment.booking_hold_id is not None and payment.state in BOOKED:
        view["booking_id"] = booking_id_of(payment.booking_hold_id)
    view["created_at"] = write_instant(payment.created_at_ms)
    view["expires_at"] = write_instant(payment.hold_expires_at_ms)
    if client_data:
        view["client"] = dict(client_data)
    return view


def view_of_free(free: FreeCheckout) -> View:
    """Places that cost nothing, and so are booked without a payment."""
    return {
        "hold_id": free.confirmed.hold_id,
        "show_id": show_id_of(free.confirmed.hold_id),
        "booking_id": free.confirmed.booking_id,
        "state": "booked",
        "amount_minor": 0,
        "currency": free.price.currency,
        "lines": view_of_lines(free.price.lines),
        "refunded_minor": 0,
    }


def view_of_lines(lines: Sequence[PriceLine]) -> list[View]:
    """The lines of a price."""
    return [
        {
            "kind": line.kind.value,
            "name": line.name,
            "amount_minor": line.amount_minor,
            "is_included": line.is_included,
        }
        for line in lines
    ]


def view_of_receipt(stored: StoredPayment) -> View:
    """What was paid for a booking."""
    payment = stored.payment
    return {
        "payment_id": payment.payment_id,
        "provider": payment.provider,
        "state": public_state(stored.checkout),
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "lines": view_of_lines(stored.price.lines),
        "refunded_minor": payment.refunded_minor,
    }
