"""Webhooks of payment providers: which are believed, and what they say.

Stripe's signatures are made by Stripe's own library, Razorpay's as its documentation says.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
import razorpay
from stripe import WebhookSignature

from integrations.payments.payment_gateway import Notice, NoticeRefused, ProviderState
from integrations.payments.razorpay_notices import is_checkout_answer, read_razorpay_notice
from integrations.payments.signed_body import MAX_BODY_BYTES
from integrations.payments.stripe_notices import TOLERANCE_MS, read_stripe_notice
from reservation.ids import PaymentId

SECRET = "whsec_" + "k3" * 16
OTHER_SECRET = "whsec_" + "z9" * 16
NOW_MS = 1_800_000_000_000
PAYMENT_ID = PaymentId("pay_" + "0a" * 16)
ACCOUNT = "acc_0000000000house"

INTENT = {
    "id": "pi_1",
    "object": "payment_intent",
    "amount": 4_200,
    "metadata": {"payment_id": PAYMENT_ID},
}


def stripe_event(kind: str = "payment_intent.succeeded", **changes: Any) -> bytes:
    event = {
        "id": "evt_1",
        "object": "event",
        "created": NOW_MS // 1_000 - 60,
        "livemode": False,
        "type": kind,
        "data": {"object": INTENT},
        **changes,
    }
    return json.dumps(event, indent=2).encode()


def stripe_header(body: bytes, secret: str = SECRET, at_ms: int = NOW_MS) -> str:
    header = WebhookSignature.generate_signature_header(
        body.decode(), secret, timestamp=at_ms // 1_000
    )
    assert isinstance(header, str)
    return header


def read_stripe(
    body: bytes, header: str, secrets: tuple[str, ...] = (SECRET,), **options: Any
) -> Notice | None:
    return read_stripe_notice(
        body,
        {"Content-Type": "application/json", "Stripe-Signature": header},
        NOW_MS,
        **{"secrets": secrets, "is_live": False, **options},
    )


def razorpay_event(kind: str = "payment.captured", **changes: Any) -> bytes:
    event = {
        "entity": "event",
        "account_id": ACCOUNT,
        "event": kind,
        "contains": ["payment"],
        "payload": {
            "payment": {
                "entity": {
                    "id": "pay_29QQoUBi66xm2f",
                    "order_id": "order_9A33XWu170gUtm",
                    "notes": {"payment_id": PAYMENT_ID},
                }
            }
        },
        "created_at": NOW_MS // 1_000,
        **changes,
    }
    return json.dumps(event).encode()


def razorpay_signature(body: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def read_razorpay(
    body: bytes, signature: str, secrets: tuple[str, ...] = (SECRET,), **options: Any
) -> Notice | None:
    return read_razorpay_notice(
        body,
        {"x-razorpay-signature": signature, "x-razorpay-event-id": "evt_chosen_by_anybody"},
        **{"secrets": secrets, "is_live": False, **options},
    )


def test_a_notice_of_stripe_says_what_happened_to_which_payment() -> None:
    body = stripe_event()
    assert read_stripe(body, stripe_header(body)) == Notice(
        provider="stripe",
        event_key="evt_1",
        kind="payment_intent.succeeded",
        provider_ref="pi_1",
        payment_id=PAYMENT_ID,
        created_at_ms=NOW_MS - 60_000,
        is_live=False,
        tells=ProviderState.CAPTURED,
    )


def test_one_bit_makes_a_notice_of_stripe_worthless() -> None:
    body = stripe_event()
    header = stripe_header(body)
    for place in range(0, len(body), 7):
        altered = bytearray(body)
        altered[place] ^= 1
        with pytest.raises(NoticeRefused):
            read_stripe(bytes(altered), header)


def test_a_body_that_was_written_anew_is_not_what_was_signed() -> None:
    body = stripe_event()
    with pytest.raises(NoticeRefused):
        read_stripe(json.dumps(json.loads(body)).encode(), stripe_header(body))
    with pytest.raises(NoticeRefused):
        read_stripe(gzip.compress(body), stripe_header(body))


@pytest.mark.parametrize("cut", [1, 20, 63])
def test_a_truncated_body_or_signature_is_refused(cut: int) -> None:
    body = stripe_event()
    header = stripe_header(body)
    with pytest.raises(NoticeRefused):
        read_stripe(body[:-cut], header)
    with pytest.raises(NoticeRefused):
        read_stripe(body, header[:-cut])


def test_another_endpoints_secret_does_not_sign_for_this_one() -> None:
    body = stripe_event()
    with pytest.raises(NoticeRefused):
        read_stripe(body, stripe_header(body, OTHER_SECRET))


def test_without_a_secret_nobody_is_believed() -> None:
    body = stripe_event()
    for secrets in ((), ("",)):
        with pytest.raises(NoticeRefused):
            read_stripe(body, stripe_header(body, ""), secrets)
        with pytest.raises(NoticeRefused):
            read_razorpay(razorpay_event(), razorpay_signature(razorpay_event(), ""), secrets)


def test_while_a_secret_is_replaced_either_is_good_and_one_of_several_signatures_is_enough() -> (
    None
):
    body = stripe_event()
    both = (SECRET, OTHER_SECRET)
    assert read_stripe(body, stripe_header(body, SECRET), both) is not None
    assert read_stripe(body, stripe_header(body, OTHER_SECRET), both) is not None
    old = stripe_header(body, OTHER_SECRET)
    new = stripe_header(body).split(",", 1)[1]
    assert read_stripe(body, f"{old},{new},v0=test") is not None
    assert read_stripe(body, f"{old.split(',')[0]}, v1=00, {new}") is not None


@pytest.mark.parametrize("direction", [-1, 1])
def test_a_signature_is_good_for_five_minutes_before_and_after(direction: int) -> None:
    body = stripe_event()
    at_ms = NOW_MS + direction * TOLERANCE_MS
    assert read_stripe(body, stripe_header(body, at_ms=at_ms)) is not None
    with pytest.raises(NoticeRefused):
        read_stripe(body, stripe_header(body, at_ms=at_ms + direction * 1_000))


def test_the_time_is_part_of_what_is_signed() -> None:
    body = stripe_event()
    old = stripe_header(body, at_ms=NOW_MS - 2 * TOLERANCE_MS)
    with pytest.raises(NoticeRefused):
        read_stripe(body, f"t={NOW_MS // 1_000},{old.split(',')[1]}")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda time, signature: signature,
        lambda time, signature: time,
        lambda time, signature: f"{time},{time},{signature}",
        lambda time, signature: f"{time},{signature.replace('v1', 'v0')}",
        lambda time, signature: f"{time}.0,{signature}",
        lambda time, signature: f"t=-1,{signature}",
        lambda time, signature: f"t=\u0661,{signature}",
        lambda time, signature: f"{time},v1=\u00fc\udc80",
        lambda time, signature: ",".join([time, *["v1=00"] * 16, signature]),
        lambda time, signature: f"{time},{signature}," + "x" * 5_000,
        lambda time, signature: "",
    ],
)
def test_a_strange_header_is_refused(spoil: Callable[[str, str], str]) -> None:
    body = stripe_event()
    with pytest.raises(NoticeRefused):
        read_stripe(body, spoil(*stripe_header(body).split(",")))


def test_there_must_be_one_signature_header_whatever_its_case() -> None:
    body = stripe_event()
    header = stripe_header(body)
    for name in ("stripe-signature", "STRIPE-SIGNATURE"):
        read = read_stripe_notice(body, {name: header}, NOW_MS, secrets=(SECRET,), is_live=False)
        assert read is not None
    for headers in ({}, {"stripe-signature": header, "Stripe-Signature": header}):
        with pytest.raises(NoticeRefused):
            read_stripe_notice(body, headers, NOW_MS, secrets=(SECRET,), is_live=False)


def test_test_mode_means_nothing_to_a_live_endpoint_and_the_other_way_round() -> None:
    test, live = stripe_event(), stripe_event(livemode=True)
    with pytest.raises(NoticeRefused):
        read_stripe(test, stripe_header(test), is_live=True)
    with pytest.raises(NoticeRefused):
        read_stripe(live, stripe_header(live))
    read = read_stripe(live, stripe_header(live), is_live=True)
    assert read is not None
    assert read.is_live
    for no_mode in (None, 0, "false"):
        body = stripe_event(livemode=no_mode)
        with pytest.raises(NoticeRefused):
            read_stripe(body, stripe_header(body))


def test_events_of_another_account_are_refused() -> None:
    other = stripe_event(account="acct_other")
    with pytest.raises(NoticeRefused):
        read_stripe(other, stripe_header(other))
    with pytest.raises(NoticeRefused):
        read_stripe(other, stripe_header(other), account="acct_house")
    assert read_stripe(other, stripe_header(other), account="acct_other") is not None


def test_a_body_may_have_256_kib_and_no_more() -> None:
    fits = stripe_event() + b" " * (MAX_BODY_BYTES - len(stripe_event()))
    assert read_stripe(fits, stripe_header(fits)) is not None
    for read, sign in ((read_stripe, stripe_header), (read_razorpay, razorpay_signature)):
        with pytest.raises(NoticeRefused, match="bytes"):
            read(fits + b" ", sign(fits + b" "))


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b"[" * 100_000, b'"event"', b"\xff", b"NaN", b"{}"]
)
def test_what_is_signed_but_no_event_is_refused(body: bytes) -> None:
    signature = hmac.new(
        SECRET.encode(), f"{NOW_MS // 1_000}.".encode() + body, hashlib.sha256
    ).hexdigest()
    with pytest.raises(NoticeRefused):
        read_stripe(body, f"t={NOW_MS // 1_000},v1={signature}")
    with pytest.raises(NoticeRefused):
        read_razorpay(body, razorpay_signature(body))


@pytest.mark.parametrize(
    ("kind", "about", "provider_ref", "payment_id"),
    [
        ("charge.refunded", {"object": "charge", "payment_intent": "pi_2"}, "pi_2", None),
        (
            "refund.updated",
            {"object": "refund", "payment_intent": "pi_2", "metadata": {"payment_id": PAYMENT_ID}},
            "pi_2",
            PAYMENT_ID,
        ),
        ("charge.dispute.created", {"object": "dispute", "payment_intent": "pi_2"}, "pi_2", None),
        (
            "checkout.session.completed",
            {
                "object": "checkout.session",
                "id": "cs_1",
                "payment_intent": None,
                "metadata": {"payment_id": PAYMENT_ID},
            },
            None,
            PAYMENT_ID,
        ),
        ("payment_intent.canceled", {**INTENT, "metadata": {"payment_id": "no"}}, "pi_1", None),
        ("payment_intent.canceled", {**INTENT, "metadata": None}, "pi_1", None),
    ],
)
def test_what_a_notice_is_about(
    kind: str, about: dict[str, Any], provider_ref: str | None, payment_id: PaymentId | None
) -> None:
    body = stripe_event(kind, data={"object": about})
    read = read_stripe(body, stripe_header(body))
    assert read is not None
    assert (read.kind, read.provider_ref, read.payment_id) == (kind, provider_ref, payment_id)


@pytest.mark.parametrize("kind", ["customer.created", "payout.paid", "payment_intent.created"])
def test_kinds_that_mean_nothing_are_no_notice_but_still_checked(kind: str) -> None:
    body = stripe_event(kind)
    assert read_stripe(body, stripe_header(body)) is None
    with pytest.raises(NoticeRefused):
        read_stripe(body, stripe_header(body, OTHER_SECRET))


def test_events_of_nobody_we_know_are_no_notice() -> None:
    for about in ({"object": "charge", "id": "ch_1"}, {"object": "charge", "payment_intent": 7}):
        body = stripe_event("charge.refunded", data={"object": about})
        assert read_stripe(body, stripe_header(body)) is None
    body = stripe_event("charge.refunded", data=None)
    assert read_stripe(body, stripe_header(body)) is None


def test_a_delivery_that_comes_again_has_the_key_of_the_first() -> None:
    body = stripe_event()
    first = read_stripe(body, stripe_header(body))
    again = read_stripe(body, stripe_header(body, at_ms=NOW_MS + 60_000))
    assert first is not None
    assert first == again


def test_a_notice_of_razorpay_says_what_happened_to_which_order() -> None:
    body = razorpay_event()
    assert read_razorpay(body, razorpay_signature(body), account=ACCOUNT) == Notice(
        provider="razorpay",
        event_key=hashlib.sha256(body).hexdigest(),
        kind="payment.captured",
        provider_ref="order_9A33XWu170gUtm",
        payment_id=PAYMENT_ID,
        created_at_ms=NOW_MS,
        is_live=False,
    )


def test_razorpays_own_library_agrees_about_the_signature() -> None:
    body = razorpay_event()
    client = razorpay.Client(auth=("rzp_test_1", "key secret"))
    assert client.utility.verify_webhook_signature(body.decode(), razorpay_signature(body), SECRET)


def test_a_replay_under_another_event_id_has_the_same_key() -> None:
    body = razorpay_event()
    signature = razorpay_signature(body)
    keys = set()
    for event_id in ("evt_first", "evt_forged"):
        read = read_razorpay_notice(
            body,
            {"X-Razorpay-Signature": signature, "X-Razorpay-Event-Id": event_id},
            secrets=(SECRET,),
            is_live=False,
        )
        assert read is not None
        keys.add(read.event_key)
    assert len(keys) == 1


def test_one_bit_makes_a_notice_of_razorpay_worthless() -> None:
    body = razorpay_event()
    signature = razorpay_signature(body)
    for place in range(0, len(body), 7):
        altered = bytearray(body)
        altered[place] ^= 1
        with pytest.raises(NoticeRefused):
            read_razorpay(bytes(altered), signature)
    for forged in (signature[:-1], signature.upper(), "", razorpay_signature(body, OTHER_SECRET)):
        with pytest.raises(NoticeRefused):
            read_razorpay(body, forged)


def test_a_secret_of_razorpay_can_be_replaced() -> None:
    body = razorpay_event()
    both = (OTHER_SECRET, SECRET)
    assert read_razorpay(body, razorpay_signature(body), both) is not None
    assert read_razorpay(body, razorpay_signature(body, OTHER_SECRET), both) is not None


def test_another_account_of_razorpay_is_refused() -> None:
    for account in ("acc_other", None):
        body = razorpay_event(account_id=account)
        with pytest.raises(NoticeRefused):
            read_razorpay(body, razorpay_signature(body), account=ACCOUNT)
        assert read_razorpay(body, razorpay_signature(body)) is not None


def test_without_notes_an_order_is_known_by_its_id() -> None:
    payment = {"id": "pay_29QQoUBi66xm2f", "order_id": "order_1", "notes": []}
    body = razorpay_event(
        "refund.processed",
        payload={
            "refund": {"entity": {"id": "rfnd_1", "notes": {"payment_id": PAYMENT_ID}}},
            "payment": {"entity": payment},
        },
    )
    read = read_razorpay(body, razorpay_signature(body))
    assert read is not None
    assert (read.provider_ref, read.payment_id) == ("order_1", PAYMENT_ID)
    body = razorpay_event("order.paid", payload={"order": {"entity": {"id": "order_2"}}})
    read = read_razorpay(body, razorpay_signature(body))
    assert read is not None
    assert (read.provider_ref, read.payment_id) == ("order_2", None)


def test_payments_without_an_order_and_other_kinds_are_no_notice_of_razorpay() -> None:
    bodies = [
        razorpay_event(payload={"payment": {"entity": {"id": "pay_1", "notes": []}}}),
        razorpay_event(payload=[]),
        razorpay_event("settlement.processed"),
    ]
    for body in bodies:
        assert read_razorpay(body, razorpay_signature(body)) is None


def test_the_answer_of_razorpays_checkout_is_signed_with_the_key_and_not_the_webhooks_secret() -> (
    None
):
    key_secret = "a key's secret"
    order_ref, charge_ref = "order_9A33XWu170gUtm", "pay_29QQoUBi66xm2f"
    signed = f"{order_ref}|{charge_ref}".encode()
    signature = razorpay_signature(signed, key_secret)
    client = razorpay.Client(auth=("rzp_test_1", key_secret))
    assert client.utility.verify_payment_signature(
        {
            "razorpay_order_id": order_ref,
            "razorpay_payment_id": charge_ref,
            "razorpay_signature": signature,
        }
    )
    assert is_checkout_answer(order_ref, charge_ref, signature, key_secret)
    assert not is_checkout_answer("order_other", charge_ref, signature, key_secret)
    assert not is_checkout_answer(order_ref, "pay_other", signature, key_secret)
    assert not is_checkout_answer(order_ref, charge_ref, signature[:-1], key_secret)
    webhooks = razorpay_signature(signed, SECRET)
    assert not is_checkout_answer(order_ref, charge_ref, webhooks, key_secret)
    assert not is_checkout_answer(order_ref, charge_ref, razorpay_signature(signed, ""), "")


def test_the_border_between_the_two_ids_cannot_be_moved() -> None:
    signature = razorpay_signature(b"order_1|pay_2|pay_3", SECRET)
    assert not is_checkout_answer("order_1|pay_2", "pay_3", signature, SECRET)
    assert not is_checkout_answer("order_1", "pay_2|pay_3", signature, SECRET)


def test_what_is_refused_is_not_repeated() -> None:
    body = stripe_event(account="acct_whose_name_must_not_be_logged")
    header = stripe_header(body)
    with pytest.raises(NoticeRefused) as refused:
        read_stripe(body, header)
    said = str(refused.value)
    assert "acct_" not in said
    assert header.split("v1=")[1] not in said
    assert SECRET not in said
