"""What a checkout becomes by what the payment provider says.

What counts is the provider's answer to a question, at the moment it is asked. An answer moves the
payment forward or not at all; whatever it is that was captured and is not kept goes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from reservation.checkout import (
    Alarm,
    AlarmKind,
    Checkout,
    Learned,
    given_minor,
    is_booked,
    returned_minor,
    with_refunds_owed,
)
from reservation.checkout_learning import UNBOOKED, given_up, learn_delay, learn_notice
from reservation.checkout_pace import paced
from reservation.ids import RefundId
from reservation.payment import Claim, PaymentState
from reservation.provider_view import ProviderState, SeenPayment, SeenRefund
from reservation.refunds import Refund, RefundState
from reservation.refunds_seen import refund_as_seen, with_refunds_seen

ABSENCE_PROVES_AFTER_MS = 60_000
"""A provider that has no payment of ours so long after we may have asked for one never will: a call
takes less."""

REGRESS_BELIEVED_AFTER_MS = 60 * 60_000
"""That a booked payment is called unpaid may be an old answer; after this it is believed."""

_UNPAID = frozenset({PaymentState.CREATED, PaymentState.OPEN, PaymentState.FAILED})


def learn_create_refused(checkout: Checkout, now_ms: int) -> Learned:
    """The provider will not make this payment. That it has none is for ``find`` to say."""
    if checkout.payment.state is not PaymentState.CREATED:
        return Learned(checkout)
    return Learned(given_up(checkout, now_ms))


def learn_absent(checkout: Checkout, now_ms: int) -> Learned:
    """The provider was asked to ``find`` our payment and has none.

    A call to make it may still be under way. So the payment is closed to such calls first
    (``void_due``), and ended when the provider still has none a while later.
    """
    payment = replace(checkout.payment, is_noticed=False)
    checkout = replace(checkout, payment=payment)
    if payment.state is PaymentState.CREATED and now_ms >= payment.hold_expires_at_ms:
        return Learned(given_up(checkout, now_ms))
    is_proof = now_ms - payment.state_at_ms >= ABSENCE_PROVES_AFTER_MS
    if payment.state is PaymentState.VOID_DUE and payment.provider_ref is None and is_proof:
        return Learned(_ended_void(checkout, now_ms))
    return learn_delay(checkout, now_ms, 1)


def learn_voided(checkout: Checkout, now_ms: int) -> Learned:
    """The provider takes nothing any more."""
    payment = checkout.payment
    is_undone = payment.state is PaymentState.BOOKED and payment.cancelled_at_ms is not None
    if is_undone or payment.state in (
        PaymentState.OPEN,
        PaymentState.FAILED,
        PaymentState.VOID_DUE,
    ):
        return Learned(_ended_void(checkout, now_ms))
    return Learned(checkout)


def learn_refused(checkout: Checkout, now_ms: int, jitter: float) -> Learned:
    """The provider will not capture, or will not cancel: it knows better how the payment is."""
    later = learn_delay(checkout, now_ms, jitter).checkout
    return Learned(replace(later, payment=replace(later.payment, is_noticed=True)))


def learn_refund_requested(checkout: Checkout, refund_id: RefundId, now_ms: int) -> Learned:
    """The refund is about to be asked for. To be saved before it is."""

    def requested(refund: Refund) -> Refund:
        if refund.state is not RefundState.DUE:
            return refund
        first_ms = refund.first_asked_at_ms
        return replace(
            refund,
            state=RefundState.REQUESTED,
            first_asked_at_ms=now_ms if first_ms is None else first_ms,
        )

    return Learned(_with_refund(checkout, refund_id, requested))


def learn_refund_answer(
    checkout: Checkout, refund_id: RefundId, seen: SeenRefund, now_ms: int
) -> Learned:
    """The provider has the refund, and says how it is.

    That it did not answer, or said no, is ``learn_delay``: its list of refunds will tell.
    """
    answered = _with_refund(checkout, refund_id, lambda refund: refund_as_seen(refund, seen))
    return Learned(paced(checkout, with_refunds_owed(answered, now_ms), now_ms))


def _with_refund(
    checkout: Checkout, refund_id: RefundId, change: Callable[[Refund], Refund]
) -> Checkout:
    refunds = (
        change(refund) if refund.refund_id == refund_id else refund for refund in checkout.refunds
    )
    return replace(checkout, refunds=tuple(refunds))


def learn_provider(
    checkout: Checkout,
    seen: SeenPayment,
    seen_refunds: Sequence[SeenRefund] | None,
    now_ms: int,
) -> Learned:
    """The provider says how the payment is.

    Args:
        seen_refunds: all its refunds; None when they were not asked for.
    """
    found, alarms = checkout, tuple[Alarm, ...]()
    if seen_refunds is not None:
        found, alarms = with_refunds_seen(checkout, seen_refunds, now_ms)
    payment = replace(
        found.payment,
        is_noticed=False,
        provider_ref=found.payment.provider_ref or seen.provider_ref,
    )
    found, kinds = _heard(replace(found, payment=payment), seen, now_ms)
    detail = f"{seen.state} {seen.captured_minor} of {seen.amount_minor} {seen.currency}"
    alarms += tuple(Alarm(kind, payment.payment_id, detail) for kind in kinds)
    return Learned(paced(checkout, with_refunds_owed(found, now_ms), now_ms), alarms)


def learn_made(checkout: Checkout, seen: SeenPayment, now_ms: int) -> Learned:
    """The provider has made the payment, now or when it was asked before under the same key.

    What it says is of the moment at which it was made. So word that came since is still a reason
    to look.
    """
    learned = learn_provider(checkout, seen, None, now_ms)
    if not checkout.payment.is_noticed:
        return learned
    return Learned(learn_notice(learned.checkout, now_ms).checkout, learned.alarms)


def _heard(checkout: Checkout, seen: SeenPayment, now_ms: int) -> tuple[Checkout, list[AlarmKind]]:
    payment = checkout.payment
    captured_minor = max(payment.captured_minor, seen.captured_minor)
    if seen.currency != payment.currency or seen.amount_minor != payment.amount_minor:
        if is_booked(payment):
            # It was as agreed when it was booked; a person has to find out what happened since.
            return checkout, [AlarmKind.MISMATCH]
        paid_currency = None if seen.currency == payment.currency else seen.currency
        taken = replace(payment, captured_minor=captured_minor, paid_currency=paid_currency)
        checkout = replace(checkout, payment=taken)
        return _unbookable(checkout, seen, now_ms), [AlarmKind.MISMATCH]
    checkout = replace(checkout, payment=replace(payment, captured_minor=captured_minor))
    if seen.state == ProviderState.CAPTURED:
        if captured_minor < payment.amount_minor:
            if not is_booked(payment):
                checkout = _unbookable(checkout, seen, now_ms)
            return checkout, [AlarmKind.SHORT_CAPTURE]
        is_news = captured_minor > max(payment.amount_minor, payment.captured_minor)
        return _paid(checkout, now_ms), [AlarmKind.EXCESS_CAPTURED] if is_news else []
    if seen.state == ProviderState.AUTHORISED:
        if payment.state in _UNPAID:
            checkout = _now(checkout, PaymentState.AUTHORISED, now_ms)
        return checkout, []
    if payment.state is PaymentState.BOOKED and payment.cancelled_at_ms is None:
        age_ms = now_ms - payment.state_at_ms
        if seen.state == ProviderState.CANCELLED or age_ms >= REGRESS_BELIEVED_AFTER_MS:
            lost = replace(checkout.payment, is_uncollectable=True, due_at_ms=now_ms)
            return replace(checkout, payment=lost), [AlarmKind.UNCOLLECTABLE]
        return checkout, []
    if seen.state == ProviderState.CANCELLED:
        return _cancelled_there(checkout, now_ms), []
    return _waiting(checkout, seen, now_ms), []


def _unbookable(checkout: Checkout, seen: SeenPayment, now_ms: int) -> Checkout:
    if checkout.payment.state in UNBOOKED:
        checkout = given_up(checkout, now_ms)
    if checkout.payment.captured_minor:
        return _late(checkout, now_ms)
    if seen.state == ProviderState.CANCELLED:
        return _cancelled_there(checkout, now_ms)
    return checkout


def _paid(checkout: Checkout, now_ms: int) -> Checkout:
    payment = checkout.payment
    if payment.state is PaymentState.BOOKED:
        return _now(checkout, PaymentState.SETTLED, now_ms)
    if payment.state not in UNBOOKED:
        return _late(checkout, now_ms)
    if payment.captured_minor - given_minor(checkout) < payment.amount_minor:
        # Some of it went back past this house: the rest does not pay for the places.
        return given_up(checkout, now_ms)
    if payment.state is PaymentState.CAPTURED:
        return checkout
    return _now(checkout, PaymentState.CAPTURED, now_ms)


def _late(checkout: Checkout, now_ms: int) -> Checkout:
    """Money is there although nothing more should come: it goes back."""
    payment = checkout.payment
    if payment.state in (PaymentState.VOID_DUE, PaymentState.VOIDED) or (
        payment.state is PaymentState.REFUNDED and payment.captured_minor > returned_minor(checkout)
    ):
        return _now(checkout, PaymentState.REFUND_DUE, now_ms)
    return checkout


def _cancelled_there(checkout: Checkout, now_ms: int) -> Checkout:
    payment = checkout.payment
    if payment.state is PaymentState.AUTHORISED:
        # The second hold, if there is one, is released before the payment ends.
        checkout = given_up(checkout, now_ms)
        payment = checkout.payment
    is_void = payment.state is PaymentState.VOID_DUE and payment.claim is not Claim.GIVE_BACK
    if is_void or payment.state in _UNPAID or payment.state is PaymentState.BOOKED:
        return _ended_void(checkout, now_ms)
    return checkout


def _waiting(checkout: Checkout, seen: SeenPayment, now_ms: int) -> Checkout:
    """The customer has not paid."""
    payment = checkout.payment
    if payment.state not in _UNPAID:
        return checkout
    if seen.state == ProviderState.FAILED and payment.state is not PaymentState.FAILED:
        checkout = _now(checkout, PaymentState.FAILED, now_ms)
    elif payment.state is PaymentState.CREATED:
        checkout = _now(checkout, PaymentState.OPEN, now_ms)
    if seen.state == ProviderState.PROCESSING:
        # It waits for a bank, and not for its customer.
        return checkout
    return replace(checkout, payment=replace(checkout.payment, seen_at_ms=now_ms))


def _now(checkout: Checkout, state: PaymentState, now_ms: int) -> Checkout:
    return replace(checkout, payment=replace(checkout.payment, state=state, state_at_ms=now_ms))


def _ended_void(checkout: Checkout, now_ms: int) -> Checkout:
    payment = replace(
        checkout.payment,
        state=PaymentState.VOIDED,
        state_at_ms=now_ms,
        # Of a booking that was cancelled before it was captured, the house has nothing to keep.
        kept_minor=0 if checkout.payment.cancelled_at_ms is not None else None,
        attempt_count=0,
        due_at_ms=None,
    )
    return replace(checkout, payment=payment)
