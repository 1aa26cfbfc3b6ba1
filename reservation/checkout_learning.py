"""What a checkout becomes by what the show, the customer, the house or the clock says.

Each function takes a checkout as it was read and returns it as it is to be saved. What is said
twice, or too late, changes nothing of importance: states move forward only. What the provider says
is in ``checkout_provider``.
"""

from __future__ import annotations

from dataclasses import replace

from reservation.checkout import (
    Checkout,
    Learned,
    given_minor,
    replacement_hold_id,
    with_refunds_owed,
)
from reservation.checkout_pace import paced, tried_in_vain
from reservation.payment import Claim, PaymentState
from reservation.refunds import RefundPolicy, refund_minor_of
from reservation.rejections import Rejection

UNBOOKED = frozenset(
    {
        PaymentState.CREATED,
        PaymentState.OPEN,
        PaymentState.FAILED,
        PaymentState.AUTHORISED,
        PaymentState.CAPTURED,
    }
)
"""States in which it is not decided yet whether there will be a booking."""


def learn_notice(checkout: Checkout, now_ms: int) -> Learned:
    """Somebody says that the provider has news: a webhook, the browser, a reconciliation."""
    return Learned(
        replace(checkout, payment=replace(checkout.payment, is_noticed=True, due_at_ms=now_ms))
    )


def learn_delay(checkout: Checkout, now_ms: int, jitter: float) -> Learned:
    """The step came to nothing, or nobody knows whether it did: try again later.

    Args:
        jitter: 0 to 1, see ``checkout_pace.backoff_ms``.
    """
    return Learned(replace(checkout, payment=tried_in_vain(checkout.payment, now_ms, jitter)))


def learn_rest(checkout: Checkout, until_ms: int | None) -> Learned:
    """There is nothing to do before ``until_ms`` (``Wait``), or at all (``Done``)."""
    return Learned(replace(checkout, payment=replace(checkout.payment, due_at_ms=until_ms)))


def learn_extended(checkout: Checkout, hold_expires_at_ms: int) -> Learned:
    """The hold that the payment was started for has more time."""
    payment = replace(checkout.payment, hold_expires_at_ms=hold_expires_at_ms)
    return Learned(replace(checkout, payment=payment))


def learn_given_up(checkout: Checkout, now_ms: int) -> Learned:
    """The customer does not want to pay any more, or the show does not take place.

    A payment that is booked already stays so: its booking has to be cancelled.
    """
    if checkout.payment.state not in UNBOOKED:
        return Learned(checkout)
    return Learned(given_up(checkout, now_ms))


def learn_confirm_rejected(checkout: Checkout, rejection: Rejection, now_ms: int) -> Learned:
    """The show does not turn the hold into a booking, and says why.

    A hold that ran out is held once more. One that the customer gave back, or used otherwise, is
    not: he did not want it. (When it is booked, the row says so already: read it again.)
    """
    payment = checkout.payment
    if payment.state not in (PaymentState.AUTHORISED, PaymentState.CAPTURED):
        return Learned(checkout)
    if payment.claim is Claim.FIRST and rejection is Rejection.HOLD_EXPIRED:
        again = replace(payment, claim=Claim.AGAIN, attempt_count=0, due_at_ms=now_ms)
        return Learned(replace(checkout, payment=again))
    return Learned(given_up(checkout, now_ms))


def learn_held_again(checkout: Checkout, hold_minor: int, now_ms: int) -> Learned:
    """The places are held once more, at this price; at any other nobody agreed to them."""
    payment = checkout.payment
    if not _asks_again(checkout):
        return Learned(checkout)
    if hold_minor != payment.hold_minor:
        return Learned(given_up(checkout, now_ms))
    held = replace(
        payment,
        claim=Claim.HELD_AGAIN,
        booking_hold_id=replacement_hold_id(payment),
        attempt_count=0,
        due_at_ms=now_ms,
    )
    return Learned(replace(checkout, payment=held))


def learn_hold_again_rejected(checkout: Checkout, now_ms: int) -> Learned:
    """The places cannot be held once more."""
    if not _asks_again(checkout):
        return Learned(checkout)
    unheld = replace(checkout.payment, claim=Claim.GIVEN_UP)
    return Learned(given_up(replace(checkout, payment=unheld), now_ms))


def learn_released(checkout: Checkout, now_ms: int) -> Learned:
    """The second hold is gone, or never was."""
    payment = checkout.payment
    if payment.claim is not Claim.GIVE_BACK:
        return Learned(checkout)
    released = replace(payment, claim=Claim.GIVEN_UP, attempt_count=0, due_at_ms=now_ms)
    return Learned(replace(checkout, payment=released))


def learn_reckoned(
    checkout: Checkout, policy: RefundPolicy, starts_at_ms: int | None, now_ms: int
) -> Learned:
    """What the house keeps of a booking that was cancelled, by the show's policy.

    Args:
        starts_at_ms: when the show starts, or leaves the stop; None when nobody can say.
    """
    payment = checkout.payment
    if payment.state is not PaymentState.SETTLED or payment.kept_minor is not None:
        return Learned(checkout)
    assert payment.cancelled_at_ms is not None, "there is nothing to reckon"
    assert payment.refund_terms is not None, "a booking is cancelled on some terms"
    kept_minor = 0
    # One that was cancelled because nobody could have its money is not kept when the money comes.
    if not payment.is_uncollectable:
        left_ms = None if starts_at_ms is None else starts_at_ms - payment.cancelled_at_ms
        kept_minor = payment.amount_minor - refund_minor_of(
            payment.refund_terms, payment.amount_minor, policy, left_ms
        )
    there_minor = payment.captured_minor - given_minor(checkout)
    kept = replace(payment, kept_minor=max(0, min(kept_minor, there_minor)))
    reckoned = with_refunds_owed(replace(checkout, payment=kept), now_ms)
    return Learned(paced(checkout, reckoned, now_ms))


def given_up(checkout: Checkout, now_ms: int) -> Checkout:
    """The checkout without any hope of places: its money is let go."""
    payment = checkout.payment
    may_hold = payment.claim in (Claim.AGAIN, Claim.HELD_AGAIN, Claim.GIVE_BACK)
    let_go = replace(
        payment,
        state=PaymentState.REFUND_DUE if payment.captured_minor else PaymentState.VOID_DUE,
        state_at_ms=now_ms,
        claim=Claim.GIVE_BACK if may_hold else Claim.GIVEN_UP,
        attempt_count=0,
        due_at_ms=now_ms,
    )
    return with_refunds_owed(replace(checkout, payment=let_go), now_ms)


def _asks_again(checkout: Checkout) -> bool:
    payment = checkout.payment
    return payment.claim is Claim.AGAIN and payment.state in (
        PaymentState.AUTHORISED,
        PaymentState.CAPTURED,
    )
