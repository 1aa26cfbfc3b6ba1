"""What becomes of refunds when the provider's list of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reservation.checkout import Alarm, AlarmKind, Checkout
from reservation.ids import REFUND_NUMBER_MAX, PaymentId, refund_id_of
from reservation.provider_view import ProviderRefundState, SeenRefund
from reservation.refunds import Refund, RefundReason, RefundState

_STATE_SEEN = {
    ProviderRefundState.PENDING: RefundState.REQUESTED,
    ProviderRefundState.SUCCEEDED: RefundState.SUCCEEDED,
    ProviderRefundState.FAILED: RefundState.FAILED,
}


def refund_as_seen(refund: Refund, seen: SeenRefund) -> Refund:
    """The refund after its provider said how it is. One that failed stays so."""
    state = _STATE_SEEN[ProviderRefundState(seen.state)]
    if refund.state is RefundState.FAILED or (
        refund.state is RefundState.SUCCEEDED and state is RefundState.REQUESTED
    ):
        return refund
    return replace(refund, state=state, refund_ref=seen.refund_ref)


def refund_as_absent(refund: Refund) -> Refund:
    """The refund when its provider has none of its key: it may be asked for once more.

    Under the same key, always: a request that is still under way and the new one are one to the
    provider. Keys that it answers with an old failure it forgets after a day.
    """
    if refund.state is not RefundState.REQUESTED or refund.refund_ref is not None:
        return refund
    return replace(refund, state=RefundState.DUE)


def with_refunds_seen(
    checkout: Checkout, seen_refunds: Sequence[SeenRefund], now_ms: int
) -> tuple[Checkout, tuple[Alarm, ...]]:
    """The checkout after the list of all its refunds was read, and what was odd about it."""
    payment_id = checkout.payment.payment_id
    by_key = {seen.key: seen for seen in seen_refunds if seen.key is not None}
    by_ref = {seen.refund_ref: seen for seen in seen_refunds}
    refunds: list[Refund] = []
    alarms: list[Alarm] = []
    for refund in checkout.refunds:
        seen = by_key.get(refund.key) or by_ref.get(refund.refund_ref or "")
        if seen is None:
            refunds.append(refund_as_absent(refund))
            continue
        now = refund_as_seen(refund, seen)
        if refund.state is RefundState.SUCCEEDED and now.state is RefundState.FAILED:
            alarms.append(Alarm(AlarmKind.REFUND_RETURNED, payment_id, seen.refund_ref))
        refunds.append(now)
    known = {refund.refund_ref for refund in refunds}
    for seen in seen_refunds:
        if seen.refund_ref in known or seen.state == ProviderRefundState.FAILED:
            continue
        alarms.append(Alarm(AlarmKind.FOREIGN_REFUND, payment_id, seen.refund_ref))
        if len(refunds) < REFUND_NUMBER_MAX:
            refunds.append(_foreign(payment_id, len(refunds) + 1, seen, now_ms))
    return replace(checkout, refunds=tuple(refunds)), tuple(alarms)


def _foreign(payment_id: PaymentId, number: int, seen: SeenRefund, now_ms: int) -> Refund:
    return Refund(
        refund_id_of(payment_id, number),
        payment_id,
        number,
        seen.amount_minor,
        RefundReason.FOREIGN,
        _STATE_SEEN[ProviderRefundState(seen.state)],
        now_ms,
        now_ms,
        seen.refund_ref,
    )
