"""Stripe's webhooks: which ones are Stripe's, and what they say.

``Stripe-Signature: t=1700000000,v1=5257a8...,v1=...``: HMAC-SHA256 with the endpoint's secret over
the time, a dot and the body as it came. While a secret is replaced there is one signature for each.
The time must be within five minutes of ours, before or after: Stripe's own library believes one
from the future, with which somebody who once got hold of a signed body could keep it for later.

A delivery that comes again within that time is as good as the first, so who keeps notices does so
under ``event_key``, which is signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from integrations.payments.payment_gateway import Notice, NoticeRefused, ProviderState
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

TOLERANCE_MS = 300_000

_MAX_SIGNATURES = 16
_TIME = re.compile(r"[0-9]{1,12}")

# By the kind of object that the event is about; which of its kinds are worth a look. There are more
# that say the same as one of these.
EVENTS_WANTED = frozenset(
    {
        "payment_intent.amount_capturable_updated",
        "payment_intent.canceled",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.requires_action",
        "payment_intent.succeeded",
        "charge.expired",
        "charge.refunded",
        "charge.refund.updated",
        "refund.created",
        "refund.failed",
        "refund.updated",
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.closed",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.funds_reinstated",
        "checkout.session.completed",
        "checkout.session.expired",
        "checkout.session.async_payment_succeeded",
        "checkout.session.async_payment_failed",
    }
)

_SAME_SAID = frozenset({"charge.captured"})

# An intent is reserved once and taken once; of these there is nothing else to learn.
_TELL = {
    "payment_intent.amount_capturable_updated": ProviderState.AUTHORISED,
    "payment_intent.succeeded": ProviderState.CAPTURED,
    "charge.captured": ProviderState.CAPTURED,
}


def read_stripe_notice(
    body: bytes,
    headers: Mapping[str, str],
    now_ms: int,
    *,
    secrets: Sequence[str],
    is_live: bool,
    account: str = "",
) -> Notice | None:
    """What a webhook says; None for kinds that mean nothing here.

    Args:
        is_live: whether our key moves real money; events of the other world are refused.
        account: ours, for a platform's events, which name the account that they are of. Events of
            an account's own endpoint name none.

    Raises:
        NoticeRefused: it is not to be believed.
    """
    check_size(body)
    signed_at, signatures = _signatures_of(header_of(headers, "stripe-signature"))
    if not is_signed(signed_at.encode() + b"." + body, signatures, secrets):
        raise NoticeRefused("no signature fits")
    if abs(now_ms - int(signed_at) * 1_000) > TOLERANCE_MS:
        raise NoticeRefused("it was signed at another time")
    event = document_of(body)
    event_key, kind = reference_in(event, "id"), reference_in(event, "type")
    if event.get("object") != "event" or event_key is None or kind is None:
        raise NoticeRefused("it is not an event")
    if event.get("livemode") is not is_live:
        raise NoticeRefused("it is of the other mode, live or test")
    if (event.get("account") or account) != account:
        raise NoticeRefused("it is of another account")
    if kind not in EVENTS_WANTED and kind not in _SAME_SAID:
        return None
    about = mapping_in(event, "data", "object")
    is_intent = about.get("object") == "payment_intent"
    provider_ref = reference_in(about, "id" if is_intent else "payment_intent")
    payment_id = payment_id_in(about.get("metadata"))
    if provider_ref is None and payment_id is None:
        return None
    return Notice(
        provider="stripe",
        event_key=event_key,
        kind=kind,
        provider_ref=provider_ref,
        payment_id=payment_id,
        created_at_ms=instant_ms_in(event, "created"),
        is_live=is_live,
        tells=_TELL.get(kind),
    )


def _signatures_of(header: str) -> tuple[str, list[str]]:
    # An element of an unknown scheme is no reason to refuse: v0 is what test mode adds.
    pairs = [element.strip().partition("=") for element in header.split(",")]
    times = [value for name, _, value in pairs if name == "t"]
    signatures = [value for name, _, value in pairs if name == "v1"]
    if len(times) != 1 or not _TIME.fullmatch(times[0]):
        raise NoticeRefused("the signature has no time")
    if not 0 < len(signatures) <= _MAX_SIGNATURES:
        raise NoticeRefused("there is no signature, or too many")
    return times[0], signatures
