"""A checkout: a payment with its refunds, and what its money amounts to.

The money that is owed to the customer is never remembered, it is counted:

    owed = captured - kept - refunds that did not fail

so a refund that is on its way, or may be, is never made a second time, and money that nobody
expected is owed as soon as it is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from reservation.ids import HoldId, PaymentId, derive_hold_id, refund_id_of
from reservation.limits import REFUNDS_PER_PAYMENT_MAX
from reservation.payment import Payment, PaymentState
from reservation.refund_terms import RefundTerms
from reservation.refunds import Refund, RefundReason, RefundState

UNBOOKED_TOO_LONG_MS = 15 * 60_000
"""Captured money without places for longer than this is somebody's to look at."""

UNCAPTURED_TOO_LONG_MS = 60 * 60_000
"""A booking whose money is still not there."""

UNVOIDED_TOO_LONG_MS = 60 * 60_000
"""A reservation of money that the provider does not let go."""

UNREFUNDED_TOO_LONG_MS = 24 * 60 * 60_000
"""A refund that nobody has heard a good end of; banks that take days say ``pending``."""

PENDING_TOO_LONG_MS = 14 * 24 * 60 * 60_000
"""A refund that the provider has, and that does not arrive."""

_NOTHING_IS_KEPT = frozenset(
    {
        PaymentState.VOID_DUE,
        PaymentState.VOIDED,
        PaymentState.REFUND_DUE,
        PaymentState.REFUNDED,
    }
)
_TO_END_AT_PROVIDER = frozenset({PaymentState.OPEN, PaymentState.FAILED})


class AlarmKind(StrEnum):
    """What a person should look at."""

    MISMATCH = "mismatch"  #: The provider names another amount or currency than was agreed.
    SHORT_CAPTURE = "short_capture"  #: Less was captured than was agreed.
    EXCESS_CAPTURED = "excess_captured"  #: More was captured; the rest goes back.
    FOREIGN_REFUND = "foreign_refund"  #: Somebody paid back past this house.
    REFUND_RETURNED = "refund_returned"  #: A refund failed after it had succeeded.
    UNCOLLECTABLE = "uncollectable"  #: Booked, and nothing can be captured: it is cancelled.
    UNBOOKED_TOO_LONG = "unbooked_too_long"  #: Captured for long, and neither booked nor refunded.
    UNCAPTURED_TOO_LONG = "uncaptured_too_long"  #: Booked for long, and not captured.
    UNVOIDED_TOO_LONG = "unvoided_too_long"  #: To be cancelled for long.
    UNREFUNDED_TOO_LONG = "unrefunded_too_long"  #: Money is owed, or on its way, for long.
    REFUNDS_EXHAUSTED = "refunds_exhausted"  #: Every refund failed that may be tried.


class Alarm(NamedTuple):
    """Something that must not stay unseen. The checkout goes on as well as it can."""

    kind: AlarmKind
    payment_id: PaymentId
    detail: str


@dataclass(frozen=True, slots=True)
class Checkout:
    """A payment and all its refunds, in the order of their numbers. Read and saved as one."""

    payment: Payment
    refunds: tuple[Refund, ...] = ()


class Learned(NamedTuple):
    """What a checkout is after something became known. The alarms are new each time."""

    checkout: Checkout
    alarms: tuple[Alarm, ...] = ()


def replacement_hold_id(payment: Payment) -> HoldId:
    """The hold by which a payment gets its places when the first one had ended."""
    return derive_hold_id(payment.show_id, payment.customer_id, f"payment:{payment.payment_id}")


def is_booked(payment: Payment) -> bool:
    """Whether a booking was made with it, cancelled since or not."""
    return payment.cancelled_at_ms is not None or payment.state in (
        PaymentState.BOOKED,
        PaymentState.SETTLED,
    )


def booked_by(payment: Payment, hold_id: HoldId, at_ms: int) -> Payment | None:
    """The payment after this hold was confirmed with it; None when it is no good (any more).

    This is what the database does in the transaction that makes the booking. What was captured
    must be there in full, whatever of it may have gone back.
    """
    if payment.state is PaymentState.AUTHORISED:
        state = PaymentState.BOOKED
    elif (
        payment.state is PaymentState.CAPTURED
        and payment.captured_minor - payment.refunded_minor >= payment.amount_minor
    ):
        state = PaymentState.SETTLED
    else:
        return None
    return replace(
        payment,
        state=state,
        state_at_ms=at_ms,
        booking_hold_id=hold_id,
        attempt_count=0,
        due_at_ms=at_ms,
    )


def cancelled_by(payment: Payment, terms: RefundTerms, at_ms: int) -> Payment:
    """The payment after its booking was cancelled: what the database does with it then."""
    assert is_booked(payment), f"{payment.payment_id} has no booking to cancel"
    if payment.cancelled_at_ms is not None:
        return payment
    return replace(
        payment, cancelled_at_ms=at_ms, refund_terms=terms, attempt_count=0, due_at_ms=at_ms
    )


def earned_minor(payment: Payment) -> int:
    """What is the house's for good: the price of a booking, or what is kept of a cancelled one."""
    if payment.cancelled_at_ms is not None:
        return payment.kept_minor or 0
    return payment.amount_minor if is_booked(payment) else 0


def returned_minor(checkout: Checkout) -> int:
    """What went back."""
    return sum(
        refund.amount_minor for refund in checkout.refunds if refund.state is RefundState.SUCCEEDED
    )


def given_minor(checkout: Checkout) -> int:
    """What went back, or is on its way, or is about to be."""
    return sum(
        refund.amount_minor for refund in checkout.refunds if refund.state is not RefundState.FAILED
    )


def granted_minor(checkout: Checkout) -> int:
    """What the house gives up, of its own will, of what it has earned: back, or on its way.

    What was granted while a booking stood is only a refund like others once it is cancelled.
    """
    reason = RefundReason.GRANTED if checkout.payment.kept_minor is None else RefundReason.FORGONE
    return sum(
        refund.amount_minor
        for refund in checkout.refunds
        if refund.reason is reason and refund.state is not RefundState.FAILED
    )


def in_flight_minor(checkout: Checkout) -> int:
    """What is neither earned nor back: below 0 for a booking that is not captured yet.

    And below 0 by what the house has given up of what it earned (``granted_minor``).
    """
    payment = checkout.payment
    return payment.captured_minor - returned_minor(checkout) - earned_minor(payment)


def owed_minor(checkout: Checkout) -> int:
    """What is to go back and is not on its way; see the module's docstring."""
    return max(0, _open_minor(checkout))


def _open_minor(checkout: Checkout) -> int:
    """As ``owed_minor``; below 0 when more is on its way than is owed."""
    payment = checkout.payment
    if payment.state in _NOTHING_IS_KEPT:
        kept_minor = 0
    elif payment.kept_minor is not None:
        kept_minor = payment.kept_minor - granted_minor(checkout)
    else:
        kept_minor = payment.amount_minor - granted_minor(checkout)
    return payment.captured_minor - kept_minor - given_minor(checkout)


def with_refunds_owed(checkout: Checkout, now_ms: int) -> Checkout:
    """The checkout with what is owed written down as refunds, and closed when all is back.

    A refund that nobody has asked for yet is withdrawn when somebody else has paid it back. Each is
    of one amount of the payment at most: a customer who paid twice has two charges, and a provider
    refunds each by itself.
    """
    checkout = _without_surplus(checkout)
    payment, refunds = checkout.payment, list(checkout.refunds)
    owed = owed_minor(checkout)
    is_of_charges = payment.captured_minor % payment.amount_minor == 0
    returned = returned_minor(checkout)
    while owed and len(refunds) < REFUNDS_PER_PAYMENT_MAX:
        part = min(owed, payment.amount_minor) if is_of_charges else owed
        number = len(refunds) + 1
        refunds.append(
            Refund(
                refund_id_of(payment.payment_id, number),
                payment.payment_id,
                number,
                part,
                _reason(payment),
                created_at_ms=now_ms,
            )
        )
        owed -= part
    payment = replace(payment, refunded_minor=returned)
    if payment.state is PaymentState.REFUND_DUE and returned == payment.captured_minor:
        payment = replace(payment, state=PaymentState.REFUNDED, state_at_ms=now_ms)
    return Checkout(payment, tuple(refunds))


def _without_surplus(checkout: Checkout) -> Checkout:
    for refund in reversed(checkout.refunds):
        if refund.state is RefundState.DUE and _open_minor(checkout) < 0:
            withdrawn = replace(refund, state=RefundState.FAILED)
            refunds = list(checkout.refunds)
            refunds[refund.number - 1] = withdrawn
            checkout = replace(checkout, refunds=tuple(refunds))
    return checkout


def _reason(payment: Payment) -> RefundReason:
    if payment.state in _NOTHING_IS_KEPT:
        return RefundReason.NOT_BOOKED
    return RefundReason.EXCESS if payment.kept_minor is None else RefundReason.CANCELLED


def alarms_of(checkout: Checkout, now_ms: int) -> tuple[Alarm, ...]:
    """What has taken too long by now. Repeats itself until it is over."""
    payment = checkout.payment
    state, age_ms = payment.state, now_ms - payment.state_at_ms
    kinds: list[AlarmKind] = []
    if state is PaymentState.CAPTURED and age_ms > UNBOOKED_TOO_LONG_MS:
        kinds.append(AlarmKind.UNBOOKED_TOO_LONG)
    if state is PaymentState.BOOKED and age_ms > UNCAPTURED_TOO_LONG_MS:
        kinds.append(AlarmKind.UNCAPTURED_TOO_LONG)
    if (state is PaymentState.VOID_DUE and age_ms > UNVOIDED_TOO_LONG_MS) or (
        state in _TO_END_AT_PROVIDER and now_ms - payment.hold_expires_at_ms > UNVOIDED_TOO_LONG_MS
    ):
        kinds.append(AlarmKind.UNVOIDED_TOO_LONG)
    if owed_minor(checkout) and len(checkout.refunds) >= REFUNDS_PER_PAYMENT_MAX:
        kinds.append(AlarmKind.REFUNDS_EXHAUSTED)
    if (state is PaymentState.REFUND_DUE and age_ms > UNREFUNDED_TOO_LONG_MS) or any(
        now_ms - refund.created_at_ms > _patience_ms(refund)
        for refund in checkout.refunds
        if refund.is_alive
    ):
        kinds.append(AlarmKind.UNREFUNDED_TOO_LONG)
    return tuple(Alarm(kind, payment.payment_id, f"since {payment.state_at_ms}") for kind in kinds)


def _patience_ms(refund: Refund) -> int:
    return UNREFUNDED_TOO_LONG_MS if refund.refund_ref is None else PENDING_TOO_LONG_MS
