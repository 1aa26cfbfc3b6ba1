"""What is done next about a checkout: the saga as data.

Theory of operation
-------------------
A runner takes a checkout whose time has come, asks ``decide_step`` what to do, does it, tells one
``learn_*`` function of ``checkout_learning`` or ``checkout_provider`` what came of it, and saves
what that returns, if the row is still the version that he read. Then he asks again. He may die at
any point: every step may be done twice, and a step is decided from nothing but the row.

    OPEN        fetch, until the customer has paid; when the hold is over, cancel it at the provider
    AUTHORISED  confirm at the show -- the booking's own transaction makes it BOOKED
    CAPTURED    confirm at the show -- the booking's own transaction makes it SETTLED
    BOOKED      capture
    VOID_DUE    cancel at the provider
    REFUND_DUE  refund

Four rules keep money and places together:

* Only the booking's transaction makes a payment booked, and only out of authorised or captured;
  whoever wants to void or refund first takes the row out of these states. So never both.
* *Unknown is not no.* A time-out of the show or the provider changes nothing but when the step is
  tried again. Places are given up only for a rejection, a void or a refund ends only by what the
  provider says.
* A webhook is a reason to fetch. What counts is what the provider answers when it is asked.
* Money that was captured and is not kept goes back, whatever the reason (``checkout.owed_minor``).

A customer who was in the middle of paying when the hold's deadline passed has a while to come
through (``checkout_pace.HOLD_END_GRACE_MS``), and gets the same places if they are still free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from reservation.checkout import Checkout, owed_minor, replacement_hold_id
from reservation.checkout_pace import money_ends_at_ms
from reservation.ids import BookingId, HoldId, booking_id_of
from reservation.payment import Claim, Payment, PaymentState
from reservation.refund_terms import RefundTerms
from reservation.refunds import Refund, RefundState


@dataclass(frozen=True, slots=True)
class CreateAtProvider:
    """Ask the provider to make the payment, under ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class FetchFromProvider:
    """Ask the provider how the payment is; ``find`` it when its ``provider_ref`` is unknown.

    ``with_refunds``: and what became of its refunds.
    """

    with_refunds: bool


@dataclass(frozen=True, slots=True)
class ConfirmAtShow:
    """``ConfirmHold(hold_id, customer_id, payment=payment_id)``."""

    hold_id: HoldId


@dataclass(frozen=True, slots=True)
class HoldAgain:
    """``HoldSeats`` under ``hold_id`` with the segment, seats and admissions of ``like_hold_id``.

    The runner loads that hold; when the database does not have it any more, it is a rejection.
    """

    hold_id: HoldId
    like_hold_id: HoldId
    or_nearest: bool


@dataclass(frozen=True, slots=True)
class ReleaseAgain:
    """``ReleaseHold`` of the hold that was made again. No such hold is as good as released."""

    hold_id: HoldId


@dataclass(frozen=True, slots=True)
class CaptureMoney:
    """Take the money that is reserved, under ``key``. Done, that is notice of news."""

    amount_minor: int
    key: str


@dataclass(frozen=True, slots=True)
class VoidAtProvider:
    """Have the provider take nothing any more, under ``key``."""

    key: str


@dataclass(frozen=True, slots=True)
class RefundMoney:
    """Save ``learn_refund_requested`` first; then ask for the refund, under ``refund.key``."""

    refund: Refund


@dataclass(frozen=True, slots=True)
class ReckonCancellation:
    """Load the show's refund policy and start, and tell ``learn_reckoned``. Nobody is asked."""


@dataclass(frozen=True, slots=True)
class CancelUnpaid:
    """``CancelBooking(booking_id, customer_id, refund=terms)``: it can never be paid."""

    booking_id: BookingId
    terms: RefundTerms


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before then."""

    until_ms: int


@dataclass(frozen=True, slots=True)
class Done:
    """Nothing to do, unless somebody gives notice or the booking is cancelled."""


Step: TypeAlias = (
    CreateAtProvider
    | FetchFromProvider
    | ConfirmAtShow
    | HoldAgain
    | ReleaseAgain
    | CaptureMoney
    | VoidAtProvider
    | RefundMoney
    | ReckonCancellation
    | CancelUnpaid
    | Wait
    | Done
)


def decide_step(checkout: Checkout, now_ms: int) -> Step:
    """What is to be done about this checkout now.

    Units:
        now_ms: Unix milliseconds by the database's clock.
    """
    payment = checkout.payment
    if payment.due_at_ms is None:
        return Done()
    if now_ms < payment.due_at_ms:
        return Wait(payment.due_at_ms)
    if payment.is_noticed:
        return _fetch(checkout)
    match payment.state:
        case PaymentState.CREATED:
            if now_ms < payment.hold_expires_at_ms:
                return CreateAtProvider(f"pi:{payment.payment_id}")
            return _fetch(checkout)
        case PaymentState.OPEN | PaymentState.FAILED:
            # What was seen before the hold was over says nothing: it may be paid by now.
            if payment.seen_at_ms is None or payment.seen_at_ms < money_ends_at_ms(payment):
                return _fetch(checkout)
            return _void(payment)
        case PaymentState.AUTHORISED | PaymentState.CAPTURED:
            return _claim_places(payment)
        case PaymentState.BOOKED:
            return _collect(payment)
        case PaymentState.SETTLED:
            if payment.cancelled_at_ms is not None and payment.kept_minor is None:
                return ReckonCancellation()
            return _give_back(checkout)
        case PaymentState.VOID_DUE:
            if payment.claim is Claim.GIVE_BACK:
                return ReleaseAgain(replacement_hold_id(payment))
            return _fetch(checkout) if payment.provider_ref is None else _void(payment)
        case PaymentState.REFUND_DUE:
            if payment.claim is Claim.GIVE_BACK:
                return ReleaseAgain(replacement_hold_id(payment))
            return _give_back(checkout)
        case PaymentState.VOIDED | PaymentState.REFUNDED:
            return Done()


def _fetch(checkout: Checkout) -> FetchFromProvider:
    return FetchFromProvider(bool(checkout.refunds or checkout.payment.captured_minor))


def _void(payment: Payment) -> VoidAtProvider:
    return VoidAtProvider(f"void:{payment.payment_id}")


def _claim_places(payment: Payment) -> Step:
    if payment.claim is Claim.FIRST:
        return ConfirmAtShow(payment.hold_id)
    again = replacement_hold_id(payment)
    if payment.claim is Claim.AGAIN:
        return HoldAgain(again, payment.hold_id, payment.accepts_equivalent)
    assert payment.claim is Claim.HELD_AGAIN, f"{payment.payment_id} has given its places up"
    return ConfirmAtShow(again)


def _collect(payment: Payment) -> Step:
    if payment.is_uncollectable and payment.cancelled_at_ms is None:
        assert payment.booking_hold_id is not None
        return CancelUnpaid(booking_id_of(payment.booking_hold_id), RefundTerms.NONE)
    if payment.is_uncollectable or payment.refund_terms is RefundTerms.FULL:
        return _void(payment)
    # A policy may keep a part, which only a captured payment can pay.
    return CaptureMoney(payment.amount_minor, f"cap:{payment.payment_id}")


def _give_back(checkout: Checkout) -> Step:
    for refund in checkout.refunds:
        if refund.state is RefundState.DUE:
            return RefundMoney(refund)
    if owed_minor(checkout) or any(refund.is_alive for refund in checkout.refunds):
        return _fetch(checkout)
    return Done()
