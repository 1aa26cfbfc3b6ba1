"""What became of the money of a booking, in the words of attendee lists."""

from __future__ import annotations

from typing import Literal

from persistence.sales_reader import AttendeeMoney
from reservation.payment import PaymentState

PaymentStateName = Literal["promised", "paid", "refunding", "refunded", "partly_refunded", "voided"]


def money_cells(money: AttendeeMoney | None) -> dict[str, object]:
    """The money of a booking as lists and files have it; nothing, if no provider took it."""
    return {
        "payment_state": money and payment_state_of(money),
        "paid_minor": money and money.captured_minor,
        "refunded_minor": money and money.refunded_minor,
        "refunding_minor": money and money.refunding_minor,
    }


def payment_state_of(money: AttendeeMoney) -> PaymentStateName:
    """What of the money is where, for people."""
    if money.refunding_minor:
        return "refunding"
    if money.refunded_minor:
        return "refunded" if money.refunded_minor >= money.captured_minor else "partly_refunded"
    if money.captured_minor:
        return "paid"
    return "voided" if money.state is PaymentState.VOIDED else "promised"
