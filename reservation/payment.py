"""A payment: money that a customer gives for a hold, from the first idea to its last refund.

    created -> open -> authorised -> booked -> settled        authorise, book, then capture
                    -> captured   -> booked -> settled        captured first
    created, open, authorised -> void_due -> voided           no money moved, none will
    captured -> refund_due -> refunded                        paid, and nothing to give for it
    open -> failed -> authorised | captured | void_due        a failed one may come back late

States only move forward; ``failed`` is the one that may be left by a late success, which providers
document. ``booked`` says that the places are the customer's and that the money is promised;
``settled`` says that the money is there too. What is paid back for a booking that was cancelled
later is a refund of a settled payment and has a life of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reservation.ids import CustomerId, HoldId, PaymentId, ShowId


class PaymentState(StrEnum):
    """Where a payment is in its life; see the module's docstring."""

    CREATED = "created"  #: Written down; the provider may or may not have heard of it.
    OPEN = "open"  #: The provider waits for the customer.
    FAILED = "failed"  #: The customer's last try failed; a late success is still possible.
    AUTHORISED = "authorised"  #: The money is reserved for us, not ours.
    CAPTURED = "captured"  #: The money is ours, the places are not yet the customer's.
    BOOKED = "booked"  #: The places are the customer's; the money is still to be captured.
    SETTLED = "settled"  #: Places and money have changed hands.
    VOID_DUE = "void_due"  #: The provider must be told that nothing will be taken.
    VOIDED = "voided"  #: It was told: no money moved and none will.
    REFUND_DUE = "refund_due"  #: All of the money must go back: there are no places for it.
    REFUNDED = "refunded"  #: All of it went back.


class CaptureMode(StrEnum):
    """When the money is taken."""

    MANUAL = "manual"  #: Reserved first, taken after the booking.
    AUTOMATIC = "automatic"  #: Taken when the customer pays.


@dataclass(frozen=True, slots=True)
class Payment:
    """What is known of one payment.

    Units:
        amount_minor, captured_minor, refunded_minor: minor units of ``currency``.

    Shapes:
        provider: the gateway's name, ``stripe`` or ``razorpay``.
        hold_id: the hold that it was started for.
        booking_hold_id: the hold that is, or is to be, confirmed: ``hold_id``, or one that was
            made anew because the first had ended.
        provider_ref: the provider's own id of its object (a PaymentIntent, an order); None before
            the provider is known to have one.
        accepts_equivalent: the customer agreed to equivalent places if these are gone.
    """

    payment_id: PaymentId
    show_id: ShowId
    hold_id: HoldId
    customer_id: CustomerId
    provider: str
    capture_mode: CaptureMode
    amount_minor: int
    currency: str
    accepts_equivalent: bool
    created_at_ms: int
    hold_expires_at_ms: int
    state: PaymentState = PaymentState.CREATED
    booking_hold_id: HoldId | None = None
    provider_ref: str | None = None
    captured_minor: int = 0
    refunded_minor: int = 0
