"""Razorpay's webhooks, and the answer that its checkout hands to the browser.

Two schemes that must not be mixed up. A webhook's ``X-Razorpay-Signature`` is HMAC-SHA256 of the
body as it came, with the **webhook's** secret. What a browser brings back is signed over
``order_id|payment_id`` with the **API key's** secret.

A webhook's signature has no time, so a captured one stays good for ever, and the id of its event is
a header that is not signed: who replays a body may put any id on it. So the ``event_key`` is the
digest of the body, and rows of it are to be kept for ever. Razorpay wants its answer within 5 s.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from integrations.payments.payment_gateway import Notice, NoticeRefused
from integrations.payments.signed_body import (
    check_size,
    document_of,
    header_of,
    instant_ms_in,
    is_signed,
    mapping_in,
    payment_id_in,
    reference_in,
)
from reservation.ids import PaymentId

_KINDS = frozenset(
    {
        "order.paid",
        "payment.authorized",
        "payment.captured",
        "payment.failed",
        "payment.dispute.created",
        "payment.dispute.won",
        "payment.dispute.lost",
        "payment.dispute.closed",
        "refund.created",
        "refund.processed",
        "refund.failed",
    }
)
_ORDER_REF = re.compile(r"order_[0-9A-Za-z]{1,40}")
_PAYMENT_REF = re.compile(r"pay_[0-9A-Za-z]{1,40}")


def read_razorpay_notice(
    body: bytes,
    headers: Mapping[str, str],
    *,
    secrets: Sequence[str],
    is_live: bool,
    account: str = "",
) -> Notice | None:
    """What a webhook says; None for kinds that mean nothing here.

    Nothing in the body says whether it is of live or test mode: each has a secret of its own.

    Args:
        account: ours (``acc_...``); without it, whatever account the secret is of.

    Raises:
        NoticeRefused: it is not to be believed.
    """
    check_size(body)
    if not is_signed(body, [header_of(headers, "x-razorpay-signature")], secrets):
        raise NoticeRefused("the signature does not fit")
    event = document_of(body)
    kind = reference_in(event, "event")
    if event.get("entity") != "event" or kind is None:
        raise NoticeRefused("it is not an event")
    if account and event.get("account_id") != account:
        raise NoticeRefused("it is of another account")
    if kind not in _KINDS:
        return None
    provider_ref, payment_id = _whose(event)
    if provider_ref is None and payment_id is None:
        return None
    return Notice(
        provider="razorpay",
        event_key=hashlib.sha256(body).hexdigest(),
        kind=kind,
        provider_ref=provider_ref,
        payment_id=payment_id,
        created_at_ms=instant_ms_in(event, "created_at"),
        is_live=is_live,
    )


def is_checkout_answer(
    order_ref: str, razorpay_payment_id: str, signature: str, key_secret: str
) -> bool:
    """Whether a browser has its answer from Razorpay: that this payment of this order went through.

    ``order_ref`` has to come from our own row, not from the browser. Even then it is only a reason
    to look, like a webhook.
    """
    # Without this, a bar in one of the ids could move the border between them.
    if not _ORDER_REF.fullmatch(order_ref) or not _PAYMENT_REF.fullmatch(razorpay_payment_id):
        return False
    return is_signed(f"{order_ref}|{razorpay_payment_id}".encode(), [signature], [key_secret])


def _whose(event: Mapping[str, Any]) -> tuple[str | None, PaymentId | None]:
    order = mapping_in(event, "payload", "order", "entity")
    payment = mapping_in(event, "payload", "payment", "entity")
    refund = mapping_in(event, "payload", "refund", "entity")
    provider_ref = reference_in(order, "id") or reference_in(payment, "order_id")
    for entity in (order, payment, refund):
        payment_id = payment_id_in(entity.get("notes"))
        if payment_id is not None:
            return provider_ref, payment_id
    return provider_ref, None
