"""What providers' answers mean: states, sums, and every way to fail."""

from __future__ import annotations

import json
import pickle
from typing import Any

import aiohttp
import pytest
import stripe
from aiohttp.client_reqrep import ConnectionKey

from integrations.payments import razorpay_answers, stripe_answers
from integrations.payments.payment_gateway import (
    GatewayBusy,
    GatewayKeyRefused,
    GatewayRefused,
    KeySpent,
    ProviderPayment,
    ProviderState,
    RefundState,
    furthest,
)
from integrations.payments.razorpay_line import Answer, fault_of
from reservation.faults import Fault, NotDone, OutcomeUnknown
from reservation.ids import PaymentId

PAYMENT_ID = PaymentId("pay_" + "0a" * 16)
CARD = "4000000000000002"
KEY = "sk_test_abcdefghijkl"


def intent(status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": "pi_1",
        "amount": 5_000,
        "amount_received": 0,
        "currency": "inr",
        "created": 1_800_000_000,
        "client_secret": "pi_1_secret_2",
        "latest_charge": None,
        "last_payment_error": None,
        "metadata": {"payment_id": PAYMENT_ID},
        "status": status,
        **more,
    }


@pytest.mark.parametrize(
    ("status", "more", "state", "is_payable"),
    [
        ("requires_payment_method", {}, ProviderState.OPEN, True),
        ("requires_payment_method", {"last_payment_error": {"code": "card_declined"}}, "failed", 1),
        ("requires_confirmation", {}, ProviderState.OPEN, True),
        ("requires_action", {}, ProviderState.OPEN, True),
        # An error of an earlier try does not make a challenge a failure.
        ("requires_action", {"last_payment_error": {"code": "card_declined"}}, "open", True),
        ("processing", {}, ProviderState.PROCESSING, False),
        ("requires_capture", {}, ProviderState.AUTHORISED, False),
        ("succeeded", {"amount_received": 5_000}, ProviderState.CAPTURED, False),
        ("canceled", {}, ProviderState.CANCELLED, False),
        ("invented_next_year", {}, ProviderState.PROCESSING, False),
    ],
)
def test_states_of_a_payment_intent(
    status: str, more: dict[str, Any], state: ProviderState, is_payable: bool
) -> None:
    payment = stripe_answers.payment_of(intent(status, **more), "pk_test_1")
    assert payment.state == state
    assert payment.payment_id == PAYMENT_ID
    assert (payment.amount_minor, payment.currency) == (5_000, "INR")
    assert payment.created_at_ms == 1_800_000_000_000
    paid_with = {"client_secret": "pi_1_secret_2", "publishable_key": "pk_test_1"}
    assert payment.client_data == (paid_with if is_payable else {})
    assert "secret_2" not in repr(payment)


def test_currencies_without_a_smaller_unit_are_not_converted() -> None:
    payment = stripe_answers.payment_of(
        intent("succeeded", currency="jpy", amount=800, amount_received=800), ""
    )
    assert (payment.amount_minor, payment.captured_minor, payment.currency) == (800, 800, "JPY")


def test_a_payment_of_somebody_else_has_no_id_of_ours() -> None:
    for metadata in ({}, None, {"payment_id": ""}, {"payment_id": "pay_29QQoUBi66xm2f"}):
        payment = stripe_answers.payment_of(intent("succeeded", metadata=metadata), "")
        assert payment.payment_id is None


@pytest.mark.parametrize(
    ("status", "received", "charge", "refunded"),
    [
        ("succeeded", 5_000, {"captured": True, "amount_refunded": 0}, 0),
        ("succeeded", 5_000, {"captured": True, "amount_refunded": 1_200}, 1_200),
        ("succeeded", 5_000, {"captured": True, "amount_refunded": 5_000}, 5_000),
        # What is let go without having been taken is called refunded by Stripe.
        ("canceled", 0, {"captured": False, "amount_refunded": 5_000}, 0),
        ("requires_capture", 0, {"captured": False, "amount_refunded": 0}, 0),
    ],
)
def test_what_went_back_is_part_of_what_was_taken(
    status: str, received: int, charge: dict[str, Any], refunded: int
) -> None:
    answered = intent(status, amount_received=received, latest_charge={"id": "ch_1", **charge})
    payment = stripe_answers.payment_of(answered, "")
    assert (payment.captured_minor, payment.refunded_minor) == (received, refunded)
    assert payment.charge_ref is None, "captures and refunds name the intent itself"


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", RefundState.PENDING),
        ("requires_action", RefundState.PENDING),
        ("succeeded", RefundState.SUCCEEDED),
        ("failed", RefundState.FAILED),
        ("canceled", RefundState.FAILED),
        ("invented_next_year", RefundState.PENDING),
    ],
)
def test_states_of_a_refund_at_stripe(status: str, state: RefundState) -> None:
    refund = stripe_answers.refund_of(
        {"id": "re_1", "amount": 7, "status": status, "metadata": {"refund_key": "rf:1"}}
    )
    assert (refund.refund_ref, refund.state, refund.amount_minor, refund.key) == (
        "re_1",
        state,
        7,
        "rf:1",
    )
    made_by_hand = stripe_answers.refund_of({"id": "re_2", "amount": 7, "metadata": {}})
    assert made_by_hand.key is None


def stripe_error(
    kind: type[stripe.StripeError], status: int, code: str | None = None, *, replayed: bool = False
) -> stripe.StripeError:
    body = {"error": {"message": f"{CARD} {KEY}", "code": code}}
    headers = {"request-id": "req_1"}
    if replayed:
        headers["Idempotent-Replayed"] = "true"
    more: dict[str, Any] = {
        "http_body": json.dumps(body),
        "http_status": status,
        "json_body": body,
        "headers": headers,
    }
    if issubclass(kind, stripe.CardError | stripe.InvalidRequestError):
        return kind(f"{CARD} {KEY}", "card", code, **more)  # type: ignore[call-arg, misc]
    return kind(f"{CARD} {KEY}", code=code, **more)


@pytest.mark.parametrize(
    ("error", "when_writing", "when_reading"),
    [
        (stripe_error(stripe.CardError, 402, "card_declined"), GatewayRefused, GatewayRefused),
        (stripe_error(stripe.InvalidRequestError, 400, "x"), GatewayRefused, GatewayRefused),
        (stripe_error(stripe.InvalidRequestError, 404), GatewayRefused, GatewayRefused),
        (stripe_error(stripe.RateLimitError, 429, "rate_limit"), GatewayBusy, GatewayBusy),
        (stripe_error(stripe.RateLimitError, 429, "lock_timeout"), GatewayBusy, GatewayBusy),
        (stripe_error(stripe.AuthenticationError, 401), GatewayKeyRefused, GatewayKeyRefused),
        (stripe_error(stripe.PermissionError, 403), GatewayKeyRefused, GatewayKeyRefused),
        (stripe_error(stripe.IdempotencyError, 400), KeySpent, KeySpent),
        (stripe_error(stripe.APIError, 500), OutcomeUnknown, GatewayBusy),
        (stripe_error(stripe.APIError, 503), OutcomeUnknown, GatewayBusy),
        # The same key is at work for somebody else, who may have an effect.
        (stripe_error(stripe.APIError, 409), OutcomeUnknown, GatewayBusy),
        # An answer that is not JSON.
        (stripe_error(stripe.APIError, 200), OutcomeUnknown, GatewayBusy),
        (stripe_error(stripe.APIError, 500, replayed=True), KeySpent, GatewayBusy),
        (stripe.APIConnectionError("reset"), OutcomeUnknown, GatewayBusy),
        (TimeoutError(), OutcomeUnknown, GatewayBusy),
        (aiohttp.ClientPayloadError("half an answer"), OutcomeUnknown, GatewayBusy),
        (ConnectionResetError(), OutcomeUnknown, GatewayBusy),
    ],
)
def test_what_stripes_errors_mean(
    error: Exception, when_writing: type[Fault], when_reading: type[Fault]
) -> None:
    for is_reading, expected in ((False, when_writing), (True, when_reading)):
        fault = stripe_answers.fault_of(error, "pay", is_reading=is_reading)
        assert type(fault) is expected
        for secret in (CARD, KEY):
            assert secret not in str(fault)
            assert secret not in repr(fault)


def test_every_answer_that_stripes_library_can_make_of_a_status_is_one_of_ours() -> None:
    # Its own table from statuses to exceptions, so that a new kind is seen here.
    requestor = stripe.StripeClient(KEY)._requestor
    for status in (400, 401, 402, 403, 404, 405, 409, 413, 424, 429, 500, 502, 503, 504):
        body = {"error": {"message": "no", "type": "api_error", "code": "some_code"}}
        with pytest.raises(stripe.StripeError) as raised:
            requestor._interpret_response(json.dumps(body).encode(), status, {}, "V1")
        fault = stripe_answers.fault_of(raised.value, "pay", is_reading=False)
        is_certain = status in (400, 401, 402, 403, 404, 429)
        assert isinstance(fault, NotDone) is is_certain, status
        assert isinstance(fault, OutcomeUnknown) is not is_certain, status


def test_what_has_not_left_has_not_happened() -> None:
    key = ConnectionKey("api.stripe.com", 443, True, True, None, None, None)
    for cause in (
        aiohttp.ClientConnectorError(key, OSError(111, "refused")),
        aiohttp.ConnectionTimeoutError(),
    ):
        error = stripe.APIConnectionError("no connection")
        error.__cause__ = cause
        assert type(stripe_answers.fault_of(error, "pay", is_reading=False)) is GatewayBusy
    # A connection that was there and went away is another thing.
    error = stripe.APIConnectionError("gone")
    error.__cause__ = aiohttp.ServerDisconnectedError()
    assert type(stripe_answers.fault_of(error, "pay", is_reading=False)) is OutcomeUnknown


def test_a_refusal_says_whether_the_thing_is_known_and_stripes_own_code() -> None:
    unknown = stripe_error(stripe.InvalidRequestError, 404, "resource_missing")
    fault = stripe_answers.fault_of(unknown, "read", is_reading=True)
    assert isinstance(fault, GatewayRefused)
    assert fault.is_unknown_object
    declined = stripe_answers.fault_of(
        stripe_error(stripe.CardError, 402, "card_declined"), "pay", is_reading=False
    )
    assert isinstance(declined, GatewayRefused)
    assert (declined.code, declined.is_unknown_object) == ("card_declined", False)
    assert "req_1" in str(declined)


def test_busy_says_when_to_come_back() -> None:
    for header, retry_after_ms in (("7", 7_000), ("0", 1_000), ("soon", 1_000), ("99999", 1_000)):
        error = stripe_error(stripe.RateLimitError, 429)
        error.headers = {"Retry-After": header}
        fault = stripe_answers.fault_of(error, "pay", is_reading=False)
        assert isinstance(fault, GatewayBusy)
        assert fault.retry_after_ms == retry_after_ms


ORDER = {
    "id": "order_1",
    "amount": 5_000,
    "currency": "INR",
    "receipt": PAYMENT_ID,
    "notes": [],
    "created_at": 1_800_000_000,
}


def tried(charge_ref: str, status: str, at: int, **more: Any) -> dict[str, Any]:
    return {
        "id": charge_ref,
        "status": status,
        "amount": 5_000,
        "amount_refunded": 0,
        "captured": status == "captured",
        "created_at": at,
        **more,
    }


FAILED = tried("pay_a", "failed", 1)
BEGUN = tried("pay_b", "created", 2)
RESERVED = tried("pay_c", "authorized", 3)
TAKEN = tried("pay_d", "captured", 4)
TAKEN_TOO = tried("pay_e", "captured", 5)
LET_GO = tried("pay_f", "refunded", 6, captured=False, amount_refunded=5_000)
GIVEN_BACK = tried("pay_g", "refunded", 7, captured=True, amount_refunded=5_000)
GIVEN_BACK_IN_PART = tried("pay_h", "captured", 8, amount_refunded=1_500)


@pytest.mark.parametrize(
    ("tries", "state", "charge_ref", "captured", "refunded"),
    [
        ([], ProviderState.OPEN, None, 0, 0),
        ([BEGUN], ProviderState.OPEN, None, 0, 0),
        ([FAILED], ProviderState.FAILED, None, 0, 0),
        ([FAILED, BEGUN], ProviderState.OPEN, None, 0, 0),
        ([FAILED, RESERVED], ProviderState.AUTHORISED, "pay_c", 0, 0),
        ([RESERVED, FAILED], ProviderState.AUTHORISED, "pay_c", 0, 0),
        ([FAILED, RESERVED, TAKEN], ProviderState.CAPTURED, "pay_d", 5_000, 0),
        ([TAKEN_TOO, TAKEN], ProviderState.CAPTURED, "pay_d", 10_000, 0),
        # Razorpay let go of what nobody captured: nothing was taken.
        ([LET_GO], ProviderState.FAILED, None, 0, 0),
        ([GIVEN_BACK], ProviderState.CAPTURED, "pay_g", 5_000, 5_000),
        ([TAKEN, GIVEN_BACK], ProviderState.CAPTURED, "pay_d", 10_000, 5_000),
        ([GIVEN_BACK_IN_PART], ProviderState.CAPTURED, "pay_h", 5_000, 1_500),
    ],
)
def test_an_order_is_where_the_most_advanced_of_its_payments_is(
    tries: list[dict[str, Any]],
    state: ProviderState,
    charge_ref: str | None,
    captured: int,
    refunded: int,
) -> None:
    payment = razorpay_answers.payment_of(ORDER, tries, "rzp_test_1")
    assert payment.state is state
    assert payment.charge_ref == charge_ref
    assert (payment.captured_minor, payment.refunded_minor) == (captured, refunded)
    assert (payment.amount_minor, payment.payment_id) == (5_000, PAYMENT_ID)
    is_payable = state in (ProviderState.OPEN, ProviderState.FAILED)
    assert bool(payment.client_data) is is_payable


@pytest.mark.parametrize(
    ("tries", "amount", "charge_ref"),
    [
        ([TAKEN], 5_000, "pay_d"),
        ([TAKEN], 5_001, None),
        ([TAKEN, TAKEN_TOO], 5_000, "pay_e"),
        ([TAKEN, TAKEN_TOO], 10_000, None),
        ([TAKEN, GIVEN_BACK], 5_000, "pay_d"),
        ([GIVEN_BACK_IN_PART], 3_500, "pay_h"),
        ([GIVEN_BACK_IN_PART, TAKEN], 3_501, "pay_d"),
        ([RESERVED, FAILED, LET_GO], 1, None),
    ],
)
def test_a_refund_comes_from_the_latest_payment_that_has_it(
    tries: list[dict[str, Any]], amount: int, charge_ref: str | None
) -> None:
    assert razorpay_answers.payment_to_refund(tries, amount) == charge_ref


def razorpay_answer(status: int, code: str, reason: str = "NA", description: str = "") -> Answer:
    error = {"code": code, "reason": reason, "description": description or f"{CARD} {KEY}"}
    return Answer(status, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    ("answer", "when_writing", "when_reading"),
    [
        (razorpay_answer(400, "BAD_REQUEST_ERROR"), GatewayRefused, GatewayRefused),
        (razorpay_answer(404, "BAD_REQUEST_ERROR"), GatewayRefused, GatewayRefused),
        (razorpay_answer(429, "BAD_REQUEST_ERROR"), GatewayBusy, GatewayBusy),
        (razorpay_answer(401, "BAD_REQUEST_ERROR"), GatewayKeyRefused, GatewayKeyRefused),
        (razorpay_answer(403, "BAD_REQUEST_ERROR"), GatewayKeyRefused, GatewayKeyRefused),
        (razorpay_answer(409, "BAD_REQUEST_ERROR"), OutcomeUnknown, GatewayBusy),
        (
            razorpay_answer(
                400,
                "BAD_REQUEST_ERROR",
                description="Different request with the same idempotency key has already been "
                "processed.",
            ),
            KeySpent,
            KeySpent,
        ),
        (razorpay_answer(400, "GATEWAY_ERROR"), OutcomeUnknown, GatewayBusy),
        (razorpay_answer(502, "GATEWAY_ERROR"), OutcomeUnknown, GatewayBusy),
        (razorpay_answer(500, "SERVER_ERROR"), OutcomeUnknown, GatewayBusy),
        (Answer(503, b"<html>"), OutcomeUnknown, GatewayBusy),
        (Answer(302, b""), OutcomeUnknown, GatewayBusy),
        (Answer(200, b"<html>"), OutcomeUnknown, GatewayBusy),
        (Answer(200, b"[]"), OutcomeUnknown, GatewayBusy),
        (Answer(400, b"[]"), GatewayRefused, GatewayRefused),
    ],
)
def test_what_razorpays_answers_mean(
    answer: Answer, when_writing: type[Fault], when_reading: type[Fault]
) -> None:
    for is_reading, expected in ((False, when_writing), (True, when_reading)):
        fault = fault_of(answer, is_reading=is_reading)
        assert type(fault) is expected
        for secret in (CARD, KEY, "<html>"):
            assert secret not in str(fault)
            assert secret not in repr(fault)


def test_a_success_of_razorpay_is_no_fault() -> None:
    assert fault_of(Answer(200, b"{}"), is_reading=False) is None


def test_an_unknown_object_at_razorpay_is_a_wrong_parameter() -> None:
    answer = razorpay_answer(400, "BAD_REQUEST_ERROR", description="The id provided does not exist")
    fault = fault_of(answer, is_reading=True)
    assert isinstance(fault, GatewayRefused)
    assert fault.is_unknown_object
    assert fault.code == "BAD_REQUEST_ERROR"
    spoken = razorpay_answer(400, "BAD_REQUEST_ERROR", "input_validation_failed")
    fault = fault_of(spoken, is_reading=True)
    assert isinstance(fault, GatewayRefused)
    assert (fault.code, fault.is_unknown_object) == ("input_validation_failed", False)


def provider_payment(ref: str, state: ProviderState, at_ms: int) -> ProviderPayment:
    return ProviderPayment(ref, PAYMENT_ID, state, 1, "INR", 0, 0, at_ms)


def test_of_several_payments_the_one_where_most_happened_counts() -> None:
    cancelled = provider_payment("pi_1", ProviderState.CANCELLED, 1)
    first = provider_payment("pi_2", ProviderState.OPEN, 2)
    second = provider_payment("pi_3", ProviderState.FAILED, 3)
    paid = provider_payment("pi_4", ProviderState.CAPTURED, 4)
    assert furthest([]) is None
    assert furthest([second, cancelled, first]) == first
    assert furthest([first, paid, second]) == paid
    assert furthest([cancelled]) == cancelled


def test_faults_survive_the_way_to_another_process() -> None:
    refused = GatewayRefused("no", code="card_declined", is_unknown_object=True)
    again = pickle.loads(pickle.dumps(refused))
    assert type(again) is GatewayRefused
    assert (again.message, again.code, again.is_unknown_object) == ("no", "card_declined", True)
    for fault in (
        GatewayBusy("later", retry_after_ms=7_000),
        GatewayKeyRefused("who"),
        KeySpent("x"),
    ):
        again = pickle.loads(pickle.dumps(fault))
        assert type(again) is type(fault)
        assert str(again) == str(fault)
        assert isinstance(again, NotDone) is isinstance(fault, NotDone)
    assert pickle.loads(pickle.dumps(GatewayBusy("x", retry_after_ms=7))).retry_after_ms == 7
