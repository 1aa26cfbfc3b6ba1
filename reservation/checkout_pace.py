"""When the next step of a checkout is due: at once after progress, later and later without."""

from __future__ import annotations

from dataclasses import replace

from reservation.checkout import Checkout, owed_minor
from reservation.payment import Payment, PaymentState

HOLD_END_GRACE_MS = 2 * 60_000
"""How long after the hold's deadline a customer's bank may still say yes before we cancel."""

BACKOFF_MS_MIN = 1_000
BACKOFF_MS_MAX = 15 * 60_000

OPEN_POLL_MS = 60_000
"""How often to look at a payment whose customer is at it, though no webhook came."""

PENDING_POLL_MS = 60 * 60_000
"""How often to look at refunds that the provider has and banks work on."""

ATTEMPTS_COUNTED_MAX = 1_000
"""More tries than this are not counted: the pace does not change any more."""

_DOUBLINGS_MAX = (BACKOFF_MS_MAX // BACKOFF_MS_MIN).bit_length()
_ENDED = (PaymentState.SETTLED, PaymentState.VOIDED, PaymentState.REFUNDED)
_WITH_CUSTOMER = (PaymentState.OPEN, PaymentState.FAILED)


def money_ends_at_ms(payment: Payment) -> int:
    """Until when a customer who has not paid may still do so."""
    return payment.hold_expires_at_ms + HOLD_END_GRACE_MS


def backoff_ms(attempt: int, jitter: float) -> int:
    """How long to wait after so many tries that came to nothing.

    Args:
        attempt: 1 after the first.
        jitter: 0 to 1, drawn by the caller: half of the time is fixed, half is luck.

    Example:
        >>> [backoff_ms(attempt, 1) for attempt in (1, 2, 3, 10, 11, 1_000_000)]
        [1000, 2000, 4000, 512000, 900000, 900000]
        >>> backoff_ms(1, 0)
        500
    """
    whole = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN << min(max(attempt - 1, 0), _DOUBLINGS_MAX))
    return whole // 2 + int(whole * jitter) // 2


def next_due_ms(now_ms: int, attempt: int, jitter: float) -> int:
    """When to try again after so many tries that came to nothing."""
    return now_ms + backoff_ms(attempt, jitter)


def tried_in_vain(payment: Payment, now_ms: int, jitter: float) -> Payment:
    """The payment with one more try counted, and the next one later."""
    attempt = min(payment.attempt_count + 1, ATTEMPTS_COUNTED_MAX)
    return replace(payment, attempt_count=attempt, due_at_ms=next_due_ms(now_ms, attempt, jitter))


def paced(before: Checkout, after: Checkout, now_ms: int) -> Checkout:
    """``after`` with the time of its next step, now that ``before`` has become it."""
    return replace(after, payment=_paced(before.payment, after, now_ms))


def _paced(before: Payment, after: Checkout, now_ms: int) -> Payment:
    payment = after.payment
    alive = [refund for refund in after.refunds if refund.is_alive]
    is_reckoned = payment.cancelled_at_ms is None or payment.kept_minor is not None
    if payment.state in _ENDED and is_reckoned and not alive and not owed_minor(after):
        return replace(payment, attempt_count=0, due_at_ms=None)
    moved = (payment.state, payment.claim) != (before.state, before.claim)
    if payment.state in _WITH_CUSTOMER:
        return _paced_with_customer(payment, now_ms)
    if moved:
        return replace(payment, attempt_count=0, due_at_ms=now_ms)
    if payment.state in (PaymentState.AUTHORISED, PaymentState.CAPTURED) or not is_reckoned:
        # What was learned has nothing to do with the step that waits.
        return replace(payment, due_at_ms=now_ms)
    if alive and all(refund.refund_ref is not None for refund in alive):
        return replace(payment, attempt_count=0, due_at_ms=now_ms + PENDING_POLL_MS)
    return tried_in_vain(payment, now_ms, 1)


def _paced_with_customer(payment: Payment, now_ms: int) -> Payment:
    ends_at_ms = money_ends_at_ms(payment)
    if now_ms < ends_at_ms:
        due_at_ms = min(now_ms + OPEN_POLL_MS, ends_at_ms)
        return replace(payment, attempt_count=0, due_at_ms=due_at_ms)
    if payment.seen_at_ms == now_ms:
        # The customer did not come through: it is for us to end it.
        return replace(payment, due_at_ms=now_ms)
    return tried_in_vain(payment, now_ms, 1)
