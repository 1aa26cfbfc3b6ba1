"""A payment: money that a customer gives for a hold, from the first idea to its last refund.

    created -> open -> authorised -> booked -> settled        authorise, book, then capture
                    -> captured   -> settled                  captured first
    created, open, authorised -> void_due -> voided           no money moved, none will
    captured -> refund_due -> refunded                        paid, and nothing to give for it
    open -> failed -> authorised | captured | void_due        a failed one may come back late
    booked -> voided                                          cancelled before it was captured

States only move forward; ``failed`` is the one that may be left by a late success, which providers
document. Money that comes in spite of all makes any of ``void_due``, ``voided`` and ``refunded`` a
``refund_due``: nobody's money is kept for nothing.

``booked`` says that the places are the customer's and that the money is promised; ``settled`` says
that the money is there too. What is paid back for a booking that was cancelled later is a refund of
a settled payment and has a life of its own (``refunds``). What is done next is decided in
``checkout_saga``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from reservation.ids import CustomerId, HoldId, PaymentId, ShowId
from reservation.limits import AMOUNT_MINOR_MAX
from reservation.refund_terms import RefundTerms


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


class Claim(StrEnum):
    """By which hold a payment that is not booked yet would get its places.

    first -> again -> held_again
    any of them -> give_back -> given_up
    """

    FIRST = "first"  #: By the hold that it was started for.
    AGAIN = "again"  #: That one ended; the same places are to be held once more.
    HELD_AGAIN = "held_again"  #: They are, at the same price.
    GIVE_BACK = "give_back"  #: The second hold, if there is one, is to be released.
    GIVEN_UP = "given_up"  #: By none.


@dataclass(frozen=True, slots=True)
class Payment:
    """What is known of one payment.

    Units:
        amount_minor, captured_minor, refunded_minor, kept_minor, hold_minor: minor units of
            ``currency`` (those of ``paid_currency``, if that is set, for the first two of what the
            provider has).

    Shapes:
        provider: the gateway's name, ``stripe`` or ``razorpay``.
        hold_id: the hold that it was started for.
        hold_minor: what the hold's places cost at the show, without discount, fees and taxes.
        booking_hold_id: the hold that is, or is to be, confirmed: None stands for ``hold_id``,
            until the booking is there; else one that was made anew because the first had ended.
        provider_ref: the provider's own id of its object (a PaymentIntent, an order); None before
            the provider is known to have one.
        accepts_equivalent: the customer agreed to equivalent places if these are gone.
        state_at_ms: since when it is in its state.
        claim: how it would get its places; without meaning once it is booked.
        attempt_count: tries of the present step that came to nothing.
        due_at_ms: when its next step is due; None when nothing is left to do.
        is_noticed: somebody said that the provider has news which nobody has fetched yet.
        seen_at_ms: when the provider last said that it still waits for the customer.
        is_uncollectable: it is booked, and the provider says that nothing can be captured.
        cancelled_at_ms, refund_terms: when and on which terms its booking was cancelled.
        kept_minor: what the house keeps of a booking that was cancelled; None until reckoned.
        paid_currency: what the provider took instead of ``currency``, against all agreement.
        version: counts the changes of the row; who saves names the version that he read.
    """

    payment_id: PaymentId
    show_id: ShowId
    hold_id: HoldId
    customer_id: CustomerId
    provider: str
    capture_mode: CaptureMode
    amount_minor: int
    currency: str
    hold_minor: int
    accepts_equivalent: bool
    created_at_ms: int
    hold_expires_at_ms: int
    state: PaymentState = PaymentState.CREATED
    state_at_ms: int = 0
    booking_hold_id: HoldId | None = None
    provider_ref: str | None = None
    captured_minor: int = 0
    refunded_minor: int = 0
    claim: Claim = Claim.FIRST
    attempt_count: int = 0
    due_at_ms: int | None = 0
    is_noticed: bool = False
    seen_at_ms: int | None = None
    is_uncollectable: bool = False
    cancelled_at_ms: int | None = None
    refund_terms: RefundTerms | None = None
    kept_minor: int | None = None
    paid_currency: str | None = None
    version: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.amount_minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"amount_minor: not in 1..{AMOUNT_MINOR_MAX}")
        if not 0 <= self.hold_minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"hold_minor: not in 0..{AMOUNT_MINOR_MAX}")
