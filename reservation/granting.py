"""Refunds that the house grants: back goes what it had earned, because its people say so.

A booking stands while a part of its price goes back, or all of it; of one that was cancelled, the
house may give back what it had kept. It is never more than is still there of what was captured.
Should the provider refuse such a refund nothing is owed by that; somebody has to grant another.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from reservation.checkout import Checkout, Learned, given_minor, granted_minor, owed_minor
from reservation.ids import refund_id_of
from reservation.limits import REFUNDS_PER_PAYMENT_MAX
from reservation.payment import PaymentState
from reservation.refunds import Refund, RefundReason


class GrantRefusal(StrEnum):
    """Why nothing can be granted."""

    NOT_EARNED = "not_earned"  #: The money is not (yet) there, or not (yet) the house's to give.
    TOO_MUCH = "too_much"  #: Less than that is left.
    TOO_MANY = "too_many"  #: There are as many refunds as a payment may have.


def grantable_minor(checkout: Checkout) -> int:
    """How much may still be granted."""
    payment = checkout.payment
    is_unreckoned = payment.cancelled_at_ms is not None and payment.kept_minor is None
    if payment.state is not PaymentState.SETTLED or is_unreckoned:
        return 0
    earned = payment.amount_minor if payment.kept_minor is None else payment.kept_minor
    there = payment.captured_minor - given_minor(checkout) - owed_minor(checkout)
    return max(0, min(earned - granted_minor(checkout), there))


def learn_granted(
    checkout: Checkout, amount_minor: int | None, now_ms: int
) -> Learned | GrantRefusal:
    """The checkout with this much to be given back; None for all that is left.

    The refund is made like every other, by whoever runs the checkout.
    """
    left_minor = grantable_minor(checkout)
    if not left_minor:
        return GrantRefusal.NOT_EARNED
    part_minor = left_minor if amount_minor is None else amount_minor
    if part_minor > left_minor:
        return GrantRefusal.TOO_MUCH
    number = len(checkout.refunds) + 1
    if number > REFUNDS_PER_PAYMENT_MAX:
        return GrantRefusal.TOO_MANY
    payment = checkout.payment
    refund = Refund(
        refund_id_of(payment.payment_id, number),
        payment.payment_id,
        number,
        part_minor,
        RefundReason.GRANTED if payment.kept_minor is None else RefundReason.FORGONE,
        created_at_ms=now_ms,
    )
    due = replace(payment, attempt_count=0, due_at_ms=now_ms)
    return Learned(Checkout(due, (*checkout.refunds, refund)))
