"""The sandbox as Stripe's own, unmodified client sees it, over a real socket."""

from __future__ import annotations

import re
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import stripe
from stripe import StripeClient

from tests.support.sandbox import RunningSandbox, running_sandbox
from tests.support.webhook_listener import WebhookListener, webhook_listener

WEBHOOK_SECRET = "whsec_of_the_test"
AMOUNT = 1_250


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: RunningSandbox) -> Iterator[RunningSandbox]:
    shared.control("POST", "settings", settles_after_ms=None, search_lag_ms=0, pays_after_ms=None)
    yield shared
    shared.control("DELETE", "faults")


@pytest.fixture
def listener(sandbox: RunningSandbox) -> Iterator[WebhookListener]:
    with webhook_listener() as listener:
        added = sandbox.control(
            "POST", "webhooks", provider="stripe", url=listener.url, secrets=[WEBHOOK_SECRET]
        )
        yield listener
        sandbox.control("DELETE", f"webhooks/{added['id']}")


@pytest.fixture
def client(sandbox: RunningSandbox) -> StripeClient:
    return client_of(sandbox, sandbox.secret_key)


@pytest.fixture
def browser(sandbox: RunningSandbox) -> StripeClient:
    return client_of(sandbox, sandbox.publishable_key)


def client_of(sandbox: RunningSandbox, key: str, **more: Any) -> StripeClient:
    addresses: Any = {"api": sandbox.stripe_url}
    return StripeClient(key, base_addresses=addresses, max_network_retries=0, **more)


def new_intent(client: StripeClient, **params: Any) -> stripe.PaymentIntent:
    asked: Any = {
        "amount": AMOUNT,
        "currency": "eur",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        **params,
    }
    return client.v1.payment_intents.create(asked)


def pay(
    browser: StripeClient, intent: stripe.PaymentIntent, method: str = "pm_card_visa"
) -> stripe.PaymentIntent:
    """What the customer's browser does."""
    shown: Any = {"client_secret": intent.client_secret, "payment_method": method}
    return browser.v1.payment_intents.confirm(intent.id, shown)


def paid_intent(client: StripeClient, method: str = "pm_card_visa") -> stripe.PaymentIntent:
    return new_intent(client, payment_method=method, confirm=True)


def event_types_of(client: StripeClient, subject: str) -> list[str]:
    events = client.v1.events.list({"limit": 100}).to_dict()["data"]
    return [
        event["type"]
        for event in reversed(events)
        if subject in (event["data"]["object"]["id"], event["data"]["object"].get("payment_intent"))
    ]


# --- The state machine -------------------------------------------------------------------------


def test_an_automatic_payment_is_taken_when_the_browser_confirms(
    client: StripeClient, browser: StripeClient
) -> None:
    intent = new_intent(client, metadata={"payment_id": "pay_1"}, description="two places")
    assert intent.status == "requires_payment_method"
    assert intent.latest_charge is None
    assert pay(browser, intent).status == "succeeded"
    intent = client.v1.payment_intents.retrieve(intent.id)
    assert (intent.amount_received, intent.capture_method) == (AMOUNT, "automatic_async")
    assert isinstance(intent.latest_charge, str)
    charge = client.v1.charges.retrieve(intent.latest_charge)
    assert (charge.status, charge.captured, charge.amount_captured) == ("succeeded", True, AMOUNT)
    assert charge.metadata["payment_id"] == "pay_1"
    assert event_types_of(client, intent.id) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]


def test_a_manual_payment_is_reserved_and_then_taken(
    client: StripeClient, browser: StripeClient
) -> None:
    intent = new_intent(client, capture_method="manual")
    assert pay(browser, intent).status == "requires_capture"
    intent = client.v1.payment_intents.retrieve(intent.id)
    assert (intent.amount_capturable, intent.amount_received) == (AMOUNT, 0)
    intent = client.v1.payment_intents.capture(intent.id)
    assert (intent.status, intent.amount_capturable, intent.amount_received) == (
        "succeeded",
        0,
        AMOUNT,
    )
    assert event_types_of(client, intent.id) == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.amount_capturable_updated",
        "charge.captured",
        "payment_intent.succeeded",
    ]


def test_a_part_can_be_taken_and_the_rest_is_let_go(
    sandbox: RunningSandbox, client: StripeClient
) -> None:
    intent = new_intent(
        client, capture_method="manual", payment_method="pm_card_visa", confirm=True
    )
    with pytest.raises(stripe.InvalidRequestError, match="Amount to capture") as refused:
        client.v1.payment_intents.capture(intent.id, {"amount_to_capture": AMOUNT + 1})
    assert refused.value.param == "amount_to_capture"
    intent = client.v1.payment_intents.capture(intent.id, {"amount_to_capture": 1_000})
    assert intent.amount_received == 1_000
    assert sandbox.control("GET", f"statement/{intent.id}")["captured"] == 1_000
    refund = client.v1.refunds.create({"payment_intent": intent.id})
    assert refund.amount == 1_000


def test_a_payment_is_captured_once(client: StripeClient) -> None:
    intent = new_intent(
        client, capture_method="manual", payment_method="pm_card_visa", confirm=True
    )
    client.v1.payment_intents.capture(intent.id)
    with pytest.raises(stripe.InvalidRequestError, match="already been captured") as refused:
        client.v1.payment_intents.capture(intent.id)
    assert refused.value.code == "payment_intent_unexpected_state"
    assert refused.value.error is not None
    assert refused.value.error.payment_intent is not None
    assert refused.value.error.payment_intent.status == "succeeded"


def test_a_payment_that_is_only_open_cannot_be_captured(client: StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="status of requires_payment_method"):
        client.v1.payment_intents.capture(new_intent(client).id)


@pytest.mark.parametrize("mode", ["automatic", "manual"])
def test_a_cancelled_payment_can_never_be_paid(
    client: StripeClient, browser: StripeClient, sandbox: RunningSandbox, mode: str
) -> None:
    intent = new_intent(client, capture_method=mode)
    if mode == "manual":
        pay(browser, intent)
    cancelled = client.v1.payment_intents.cancel(intent.id, {"cancellation_reason": "abandoned"})
    assert (cancelled.status, cancelled.cancellation_reason) == ("canceled", "abandoned")
    assert cancelled.amount_capturable == 0
    with pytest.raises(stripe.InvalidRequestError, match="status of canceled"):
        pay(browser, intent)
    with pytest.raises(stripe.InvalidRequestError, match="You cannot cancel"):
        client.v1.payment_intents.cancel(intent.id)
    assert event_types_of(client, intent.id)[-1] == "payment_intent.canceled"
    assert sandbox.control("GET", f"statement/{intent.id}")["captured"] == 0


def test_a_paid_payment_cannot_be_cancelled_or_paid_again(
    client: StripeClient, browser: StripeClient
) -> None:
    intent = paid_intent(client)
    with pytest.raises(stripe.InvalidRequestError, match="cannot cancel this PaymentIntent"):
        client.v1.payment_intents.cancel(intent.id)
    with pytest.raises(stripe.InvalidRequestError, match="already succeeded"):
        pay(browser, intent)


@pytest.mark.parametrize(
    ("method", "code", "decline_code"),
    [
        ("pm_card_chargeDeclined", "card_declined", "generic_decline"),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "card_declined", "insufficient_funds"),
        ("pm_card_visa_chargeDeclinedLostCard", "card_declined", "lost_card"),
        ("pm_card_chargeDeclinedExpiredCard", "expired_card", None),
        ("pm_card_chargeDeclinedIncorrectCvc", "incorrect_cvc", "incorrect_cvc"),
        ("pm_card_chargeDeclinedProcessingError", "processing_error", "processing_error"),
    ],
)
def test_a_refused_card_may_be_followed_by_another(
    client: StripeClient, browser: StripeClient, method: str, code: str, decline_code: str | None
) -> None:
    intent = new_intent(client)
    with pytest.raises(stripe.CardError) as refused:
        pay(browser, intent, method)
    assert (refused.value.http_status, refused.value.code) == (402, code)
    assert refused.value.error is not None
    assert refused.value.error.to_dict().get("decline_code") == decline_code
    intent = client.v1.payment_intents.retrieve(intent.id)
    assert (intent.status, intent.payment_method) == ("requires_payment_method", None)
    assert intent.last_payment_error is not None
    assert intent.last_payment_error.code == code
    assert "payment_intent.payment_failed" in event_types_of(client, intent.id)
    assert pay(browser, intent).status == "succeeded"


def test_a_customer_who_must_prove_who_he_is_is_sent_to_a_page(
    client: StripeClient, sandbox: RunningSandbox
) -> None:
    intent = new_intent(
        client,
        payment_method="pm_card_authenticationRequired",
        confirm=True,
        return_url="http://127.0.0.1/back?show=1",
    )
    assert intent.status == "requires_action"
    assert intent.next_action is not None
    assert intent.next_action.type == "redirect_to_url"
    page = intent.next_action.redirect_to_url
    assert page is not None
    assert page.url is not None
    assert "Yes, pay" in read_page(page.url)
    back = press(page.url, passes="yes")
    assert back.startswith("http://127.0.0.1/back?show=1&payment_intent=")
    assert back.endswith("redirect_status=succeeded")
    assert client.v1.payment_intents.retrieve(intent.id).status == "succeeded"


def test_a_customer_who_does_not_prove_it_may_try_another_card(
    client: StripeClient, browser: StripeClient, sandbox: RunningSandbox
) -> None:
    intent = new_intent(client)
    pay(browser, intent, "pm_card_threeDSecure2Required")
    waiting = client.v1.payment_intents.retrieve(intent.id)
    assert waiting.next_action is not None
    assert waiting.next_action.type == "use_stripe_sdk"
    sandbox.control("POST", f"stripe/payment_intents/{intent.id}/challenge", passes=False)
    failed = client.v1.payment_intents.retrieve(intent.id)
    assert failed.status == "requires_payment_method"
    assert failed.last_payment_error is not None
    assert failed.last_payment_error.code == "payment_intent_authentication_failure"
    assert pay(browser, intent).status == "succeeded"


@pytest.mark.parametrize(
    ("succeeds", "status"), [(True, "succeeded"), (False, "requires_payment_method")]
)
def test_a_bank_may_answer_later(
    client: StripeClient, sandbox: RunningSandbox, succeeds: bool, status: str
) -> None:
    intent = new_intent(
        client, currency="usd", payment_method="pm_usBankAccount_success", confirm=True
    )
    assert intent.status == "processing"
    sandbox.control("POST", f"stripe/payment_intents/{intent.id}/settle", succeeds=succeeds)
    assert client.v1.payment_intents.retrieve(intent.id).status == status
    types = event_types_of(client, intent.id)
    assert types.index("payment_intent.processing") < len(types) - 1
    assert types[-1] == (
        "payment_intent.succeeded" if succeeds else "payment_intent.payment_failed"
    )


def test_a_bank_answers_by_itself_when_its_time_has_come() -> None:
    with running_sandbox() as own:
        client = client_of(own, own.secret_key)
        own.control("POST", "settings", settles_after_ms=60_000)
        intent = new_intent(
            client, currency="usd", payment_method="pm_usBankAccount_accountClosed", confirm=True
        )
        own.control("POST", "clock", advance_ms=59_000)
        assert client.v1.payment_intents.retrieve(intent.id).status == "processing"
        own.control("POST", "clock", advance_ms=1_001)
        failed = client.v1.payment_intents.retrieve(intent.id)
        assert failed.status == "requires_payment_method"


def test_what_is_reserved_lapses_after_seven_days() -> None:
    with running_sandbox() as own:
        client = client_of(own, own.secret_key)
        intent = new_intent(
            client, capture_method="manual", payment_method="pm_card_visa", confirm=True
        )
        own.control("POST", "clock", advance_ms=7 * 86_400_000)
        intent = client.v1.payment_intents.retrieve(intent.id)
        assert (intent.status, intent.cancellation_reason) == ("canceled", "automatic")
        assert "charge.expired" in event_types_of(client, intent.id)


def test_the_amount_can_be_changed_until_it_is_paid(
    client: StripeClient, browser: StripeClient
) -> None:
    intent = new_intent(client)
    client.v1.payment_intents.update(intent.id, {"amount": 900, "metadata": {"a": "b"}})
    pay(browser, intent)
    with pytest.raises(stripe.InvalidRequestError, match="could not be updated"):
        client.v1.payment_intents.update(intent.id, {"amount": 901})
    updated = client.v1.payment_intents.update(intent.id, {"metadata": {"a": "", "c": "d"}})
    assert updated.amount_received == 900
    assert updated.metadata.to_dict() == {"c": "d"}


# --- Keys and parameters -----------------------------------------------------------------------


def test_a_browser_needs_the_client_secret(client: StripeClient, browser: StripeClient) -> None:
    intent = new_intent(client)
    with pytest.raises(stripe.InvalidRequestError, match="client_secret provided does not match"):
        browser.v1.payment_intents.retrieve(intent.id, {"client_secret": "guessed"})
    with pytest.raises(stripe.InvalidRequestError, match="Missing required param: client_secret"):
        browser.v1.payment_intents.retrieve(intent.id)
    secret = str(intent.client_secret)
    seen = browser.v1.payment_intents.retrieve(intent.id, {"client_secret": secret})
    assert "metadata" not in seen.to_dict()


def test_a_browser_sends_its_key_in_the_form_and_a_card_by_its_number(
    client: StripeClient, sandbox: RunningSandbox
) -> None:
    intent = new_intent(client)
    form = {
        "key": sandbox.publishable_key,
        "client_secret": str(intent.client_secret),
        "payment_method_data[type]": "card",
        "payment_method_data[card][number]": "4242 4242 4242 4242",
        "payment_method_data[card][cvc]": "123",
    }
    url = f"{sandbox.stripe_url}/v1/payment_intents/{intent.id}/confirm"
    body = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, body, timeout=10) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert b'"succeeded"' in response.read()


def test_a_publishable_key_opens_nothing_else(browser: StripeClient) -> None:
    with pytest.raises(stripe.PermissionError) as refused:
        new_intent(browser)
    assert refused.value.error is not None
    assert refused.value.error.code == "secret_key_required"


def test_an_unknown_key_opens_nothing(sandbox: RunningSandbox) -> None:
    with pytest.raises(stripe.AuthenticationError, match="Invalid API Key provided") as refused:
        new_intent(client_of(sandbox, "sk_test_of_somebody_else"))
    assert refused.value.http_status == 401
    assert "somebody" not in str(refused.value)


@pytest.mark.parametrize(
    ("params", "code", "param", "message"),
    [
        ({"colour": "red"}, "parameter_unknown", "colour", "Received unknown parameter: colour"),
        (
            {"descriptio": "x"},
            "parameter_unknown",
            "descriptio",
            "Received unknown parameter: descriptio. Did you mean description?",
        ),
        ({"amount": "12.50"}, "parameter_invalid_integer", "amount", "Invalid integer: 12.50"),
        ({"amount": ""}, "parameter_invalid_empty", "amount", "You passed an empty string"),
        ({"amount": 0}, "parameter_invalid_integer", "amount", "greater than or equal to 1"),
        ({"amount": 49}, "amount_too_small", "amount", "Amount must be at least €0.50 eur"),
        ({"amount": 100_000_000}, "amount_too_large", "amount", "no more than €999,999.99"),
        ({"currency": "xxx"}, None, "currency", "Invalid currency: xxx"),
        (
            {"capture_method": "later"},
            None,
            "capture_method",
            "Invalid capture_method: must be one of automatic, automatic_async, or manual",
        ),
        (
            {"automatic_payment_methods": {"enabled": True, "really": True}},
            "parameter_unknown",
            "automatic_payment_methods[really]",
            "Received unknown parameter: automatic_payment_methods",
        ),
        (
            {"payment_method_types": ["card"]},
            "payment_method_types_no_longer_supported",
            "payment_method_types",
            "no longer supported",
        ),
        ({"metadata": "flat"}, None, "metadata", "Invalid object"),
        ({"customer": "cus_1"}, "resource_missing", "customer", "No such customer: 'cus_1'"),
        ({"payment_method": "pm_1"}, "resource_missing", "payment_method", "No such PaymentMethod"),
    ],
)
def test_wrong_parameters_are_refused_in_stripes_words(
    client: StripeClient, params: dict[str, Any], code: str | None, param: str, message: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=re.escape(message)) as refused:
        new_intent(client, **params)
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (
        400,
        code,
        param,
    )
    assert str(refused.value.request_id).startswith("req_")


def test_a_missing_parameter_is_named(client: StripeClient) -> None:
    asked: Any = {"currency": "eur"}
    with pytest.raises(stripe.InvalidRequestError, match=r"Missing required param: amount\.") as e:
        client.v1.payment_intents.create(asked)
    assert e.value.code == "parameter_missing"


def test_an_unknown_object_is_not_found(client: StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such payment_intent: 'pi_x'") as e:
        client.v1.payment_intents.retrieve("pi_x")
    assert (e.value.http_status, e.value.code) == (404, "resource_missing")


def test_methods_that_redirect_need_somewhere_to_return_to(client: StripeClient) -> None:
    asked: Any = {"amount": AMOUNT, "currency": "eur"}
    intent = client.v1.payment_intents.create(asked)
    with pytest.raises(stripe.InvalidRequestError, match="you must provide a `return_url`"):
        client.v1.payment_intents.confirm(intent.id, {"payment_method": "pm_card_visa"})


def test_ids_are_expanded_into_objects_when_asked(client: StripeClient) -> None:
    intent = paid_intent(client)
    client.v1.refunds.create({"payment_intent": intent.id, "amount": 250})
    seen = client.v1.payment_intents.retrieve(
        intent.id, {"expand": ["latest_charge.refunds", "payment_method"]}
    ).to_dict()
    assert seen["latest_charge"]["refunds"]["data"][0]["amount"] == 250
    assert seen["payment_method"]["card"]["last4"] == "4242"
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        client.v1.payment_intents.retrieve(intent.id, {"expand": ["colour"]})


# --- Idempotency -------------------------------------------------------------------------------


def test_one_key_has_one_effect_and_one_answer(client: StripeClient) -> None:
    asked: Any = {"amount": AMOUNT, "currency": "eur"}
    first = client.v1.payment_intents.create(asked, {"idempotency_key": "key-1"})
    second = client.v1.payment_intents.create(asked, {"idempotency_key": "key-1"})
    assert first.id == second.id
    assert first.last_response is not None
    assert second.last_response is not None
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert second.last_response.headers["Original-Request"] == first.last_response.request_id
    other: Any = {"amount": AMOUNT + 1, "currency": "eur"}
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        client.v1.payment_intents.create(other, {"idempotency_key": "key-1"})


def test_a_refused_effect_is_replayed_and_refused_parameters_are_not(client: StripeClient) -> None:
    intent = paid_intent(client)
    asked: Any = {"payment_intent": intent.id, "amount": AMOUNT + 1}
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError, match="greater than charge amount"):
            client.v1.refunds.create(asked, {"idempotency_key": "too much"})
    wrong: Any = {"payment_intent": intent.id, "colour": "red"}
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        client.v1.refunds.create(wrong, {"idempotency_key": "mended"})
    right: Any = {"payment_intent": intent.id}
    assert client.v1.refunds.create(right, {"idempotency_key": "mended"}).status == "succeeded"


def test_a_500_that_happened_is_replayed_under_its_key(
    client: StripeClient, sandbox: RunningSandbox
) -> None:
    intent = paid_intent(client)
    sandbox.control("POST", "faults", operation="stripe.refunds.create", kind="error_after")
    asked: Any = {"payment_intent": intent.id}
    for _ in range(2):
        with pytest.raises(stripe.APIError) as failed:
            client.v1.refunds.create(asked, {"idempotency_key": "half done"})
        assert failed.value.http_status == 500
    assert failed.value.headers is not None
    assert failed.value.headers["idempotent-replayed"] == "true"
    refunds = client.v1.refunds.list({"payment_intent": intent.id}).data
    assert [refund.amount for refund in refunds] == [AMOUNT]


def test_a_key_is_locked_while_its_call_is_at_work(
    client: StripeClient, sandbox: RunningSandbox
) -> None:
    sandbox.control(
        "POST", "faults", operation="stripe.payment_intents.create", kind="delay", delay_ms=150
    )
    asked: Any = {"amount": AMOUNT, "currency": "eur"}
    slow: list[stripe.PaymentIntent] = []
    create = client.v1.payment_intents.create
    thread = threading.Thread(
        target=lambda: slow.append(create(asked, {"idempotency_key": "locked"}))
    )
    thread.start()
    while not sandbox.control("GET", "counts")["faults"].get("stripe.payment_intents.create delay"):
        time.sleep(0.002)
    with pytest.raises(stripe.StripeError) as conflict:
        create(asked, {"idempotency_key": "locked"})
    thread.join()
    assert conflict.value.http_status == 409
    assert create(asked, {"idempotency_key": "locked"}).id == slow[0].id


def test_a_key_is_forgotten_after_a_day() -> None:
    with running_sandbox() as own:
        client = client_of(own, own.secret_key)
        asked: Any = {"amount": AMOUNT, "currency": "eur"}
        first = client.v1.payment_intents.create(asked, {"idempotency_key": "old"})
        own.control("POST", "clock", advance_ms=24 * 3_600_000)
        second = client.v1.payment_intents.create(asked, {"idempotency_key": "old"})
        assert first.id != second.id


# --- Refunds -----------------------------------------------------------------------------------


def test_refunds_never_exceed_what_was_taken(client: StripeClient, sandbox: RunningSandbox) -> None:
    intent = paid_intent(client)
    part = client.v1.refunds.create(
        {"payment_intent": intent.id, "amount": 400, "metadata": {"refund_id": "rf_1"}}
    )
    assert part.metadata is not None
    assert (part.status, part.metadata.to_dict()) == ("succeeded", {"refund_id": "rf_1"})
    with pytest.raises(stripe.InvalidRequestError, match=r"Refund amount \(€8\.51\) is greater"):
        client.v1.refunds.create({"payment_intent": intent.id, "amount": 851})
    assert client.v1.refunds.create({"payment_intent": intent.id}).amount == 850
    with pytest.raises(stripe.InvalidRequestError, match="has already been refunded") as refused:
        client.v1.refunds.create({"payment_intent": intent.id})
    assert refused.value.code == "charge_already_refunded"
    listed = client.v1.refunds.list({"payment_intent": intent.id}).data
    assert [refund.amount for refund in listed] == [850, 400]
    charge = client.v1.charges.retrieve(str(intent.latest_charge))
    assert (charge.amount_refunded, charge.refunded) == (AMOUNT, True)
    statement = sandbox.control("GET", f"statement/{intent.id}")
    assert (statement["captured"], statement["refunded"], statement["net"]) == (AMOUNT, AMOUNT, 0)


def test_what_was_not_taken_cannot_be_refunded(client: StripeClient) -> None:
    intent = new_intent(
        client, capture_method="manual", payment_method="pm_card_visa", confirm=True
    )
    with pytest.raises(stripe.InvalidRequestError, match="does not have a successful charge"):
        client.v1.refunds.create({"payment_intent": intent.id})
    with pytest.raises(stripe.InvalidRequestError, match="payment_intent or charge"):
        client.v1.refunds.create({})


def test_a_refund_may_be_pending_first(client: StripeClient, sandbox: RunningSandbox) -> None:
    intent = paid_intent(client, "pm_card_pendingRefund")
    refund = client.v1.refunds.create({"payment_intent": intent.id})
    assert refund.status == "pending"
    sandbox.control("POST", f"stripe/refunds/{refund.id}/settle", succeeds=True)
    assert client.v1.refunds.retrieve(refund.id).status == "succeeded"
    assert event_types_of(client, refund.id) == [
        "refund.created",
        "refund.updated",
        "charge.refund.updated",
    ]


def test_a_refund_that_succeeded_may_fail_later(
    client: StripeClient, sandbox: RunningSandbox
) -> None:
    intent = paid_intent(client, "pm_card_refundFail")
    refund = client.v1.refunds.create({"payment_intent": intent.id})
    assert refund.status == "succeeded"
    sandbox.control("POST", f"stripe/refunds/{refund.id}/settle", succeeds=False)
    failed = client.v1.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert event_types_of(client, refund.id)[-1] == "refund.failed"
    assert sandbox.control("GET", f"statement/{intent.id}")["net"] == AMOUNT
    assert client.v1.refunds.create({"payment_intent": intent.id}).amount == AMOUNT


# --- Lists and searching -----------------------------------------------------------------------


def test_lists_are_paged_from_the_newest_to_the_oldest() -> None:
    with running_sandbox() as own:
        client = client_of(own, own.secret_key)
        made = []
        for _ in range(5):
            made.append(new_intent(client))
            own.control("POST", "clock", advance_ms=1_000)
        page = client.v1.payment_intents.list({"limit": 2})
        assert [intent.id for intent in page.data] == [made[4].id, made[3].id]
        assert page.has_more
        every = [intent.id for intent in page.auto_paging_iter()]
        assert every == [intent.id for intent in reversed(made)]
        recent = client.v1.payment_intents.list({"created": {"gte": made[3].created}})
        assert [intent.id for intent in recent.data] == [made[4].id, made[3].id]
        before = client.v1.payment_intents.list({"ending_before": made[1].id, "limit": 2})
        assert [intent.id for intent in before.data] == [made[3].id, made[2].id]
        with pytest.raises(stripe.InvalidRequestError, match="less than or equal to 100"):
            client.v1.payment_intents.list({"limit": 101})


def test_payments_are_found_by_metadata_once_they_are_searchable(
    client: StripeClient, sandbox: RunningSandbox
) -> None:
    wanted = new_intent(client, metadata={"payment_id": "pay_searched"})
    new_intent(client, metadata={"payment_id": "pay_other"})
    asked: Any = {"query": "metadata['payment_id']:'pay_searched' AND currency:'eur'"}
    assert [row.id for row in client.v1.payment_intents.search(asked).data] == [wanted.id]
    sandbox.control("POST", "settings", search_lag_ms=60_000)
    assert client.v1.payment_intents.search(asked).data == []
    with pytest.raises(stripe.InvalidRequestError, match="unable to parse"):
        client.v1.payment_intents.search({"query": "colour = red"})


def test_events_are_kept_and_filtered_by_type(client: StripeClient) -> None:
    intent = paid_intent(client)
    events = client.v1.events.list({"type": "payment_intent.succeeded", "limit": 1}).data
    assert events[0].data.object["id"] == intent.id
    again = client.v1.events.retrieve(events[0].id)
    assert again.to_dict() == events[0].to_dict()
    assert again.api_version == stripe.api_version


# --- Checkout ----------------------------------------------------------------------------------


def new_session(client: StripeClient, **params: Any) -> stripe.checkout.Session:
    asked: Any = {
        "mode": "payment",
        "success_url": "http://127.0.0.1/done?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://127.0.0.1/left",
        "line_items": [
            {
                "quantity": 2,
                "price_data": {
                    "currency": "eur",
                    "unit_amount": 600,
                    "product_data": {"name": "A place <in> row 1"},
                },
            }
        ],
        "payment_intent_data": {"metadata": {"payment_id": "pay_c"}, "capture_method": "manual"},
        **params,
    }
    return client.v1.checkout.sessions.create(asked)


def read_page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        return str(response.read().decode())


class _StayHere(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def press(url: str, **form: str) -> str:
    """Where the browser is sent when the form is sent."""
    opener = urllib.request.build_opener(_StayHere)
    with pytest.raises(urllib.error.HTTPError) as answer:
        opener.open(url, urllib.parse.urlencode(form).encode(), timeout=10)
    assert answer.value.code == 303
    return answer.value.headers["Location"]


def test_a_session_is_paid_on_its_page(client: StripeClient) -> None:
    session = new_session(client)
    assert (session.amount_total, session.payment_intent, session.status) == (1_200, None, "open")
    assert session.url is not None
    page = read_page(session.url)
    assert "2 × A place &lt;in&gt; row 1" in page
    assert "http://127.0.0.1/left" in page
    assert press(session.url, number="4242 4242 4242 4242") == (
        f"http://127.0.0.1/done?session={session.id}"
    )
    session = client.v1.checkout.sessions.retrieve(session.id)
    assert (session.status, session.payment_status, session.url) == ("complete", "unpaid", None)
    intent = client.v1.payment_intents.retrieve(str(session.payment_intent))
    assert (intent.status, intent.metadata.to_dict()) == (
        "requires_capture",
        {"payment_id": "pay_c"},
    )
    client.v1.payment_intents.capture(intent.id)
    assert client.v1.checkout.sessions.retrieve(session.id).payment_status == "paid"
    assert "checkout.session.completed" in event_types_of(client, session.id)


def test_a_refused_card_leaves_the_page_open(client: StripeClient) -> None:
    session = new_session(client)
    assert session.url is not None
    body = urllib.parse.urlencode({"number": "4000000000009995"}).encode()
    with urllib.request.urlopen(session.url, body, timeout=10) as response:
        assert "insufficient funds" in response.read().decode()
    challenged = press(session.url, number="4000000000003220")
    assert press(challenged, passes="yes").startswith("http://127.0.0.1/done?session=cs_test_")
    assert client.v1.checkout.sessions.retrieve(session.id).status == "complete"


def test_a_session_ends_when_it_is_told_to(client: StripeClient) -> None:
    session = new_session(client)
    assert session.url is not None
    assert client.v1.checkout.sessions.expire(session.id).status == "expired"
    assert "its time is over" in read_page(session.url)
    with pytest.raises(stripe.InvalidRequestError, match=r'status in \["open"\]'):
        client.v1.checkout.sessions.expire(session.id)
    assert event_types_of(client, session.id) == ["checkout.session.expired"]


def test_a_session_lasts_from_half_an_hour_to_a_day() -> None:
    with running_sandbox() as own:
        client = client_of(own, own.secret_key)
        now_s = int(time.time())
        for expires_at in (now_s + 29 * 60, now_s + 25 * 3_600):
            with pytest.raises(stripe.InvalidRequestError, match="expires_at") as refused:
                new_session(client, expires_at=expires_at)
            assert refused.value.param == "expires_at"
        session = new_session(client, expires_at=now_s + 31 * 60)
        own.control("POST", "clock", advance_ms=32 * 60_000)
        assert client.v1.checkout.sessions.retrieve(session.id).status == "expired"


# --- Webhooks ----------------------------------------------------------------------------------


def test_webhooks_carry_a_signature_that_stripes_client_accepts(
    client: StripeClient, listener: WebhookListener
) -> None:
    intent = paid_intent(client)
    taken = listener.wait_until(lambda taken: len(taken) == 3)
    events = [
        client.construct_event(one.body, one.headers["stripe-signature"], WEBHOOK_SECRET)
        for one in taken
    ]
    assert {event.type for event in events} == {
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    }
    assert intent.id in {event.data.object["id"] for event in events}
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(
            taken[0].body + b" ", taken[0].headers["stripe-signature"], WEBHOOK_SECRET
        )


def test_a_webhook_that_is_refused_comes_again(
    client: StripeClient, sandbox: RunningSandbox, listener: WebhookListener
) -> None:
    sandbox.control("POST", "settings", webhook_retry_ms=10)
    listener.answers[:] = [500, 503]
    new_intent(client)
    taken = listener.wait_until(lambda taken: len(taken) == 3)
    assert len({one.body for one in taken}) == 1
    while sandbox.control("GET", "counts")["webhooks"]["waiting"]:
        time.sleep(0.002)


def test_webhooks_are_lost_doubled_and_held_back_as_planned(
    client: StripeClient, sandbox: RunningSandbox, listener: WebhookListener
) -> None:
    before = sandbox.control("GET", "counts")["webhooks"]
    sandbox.control("POST", "webhooks/faults", drop_next=1)
    lost = new_intent(client)
    sandbox.control("POST", "webhooks/faults", duplicate_rate=1.0, is_paused=True)
    doubled = new_intent(client)
    assert listener.taken == []
    sandbox.control("POST", "webhooks/faults", is_paused=False)
    taken = listener.wait_until(lambda taken: len(taken) == 2)
    assert all(
        doubled.id.encode() in one.body and lost.id.encode() not in one.body for one in taken
    )
    after = sandbox.control("GET", "counts")["webhooks"]
    assert after["stripe.dropped"] == before.get("stripe.dropped", 0) + 1
    assert after["stripe.duplicated"] == before.get("stripe.duplicated", 0) + 1


# --- Faults ------------------------------------------------------------------------------------


def test_calls_go_wrong_before_or_after_they_happen(
    client: StripeClient, sandbox: RunningSandbox
) -> None:
    cases: list[tuple[str, type[Exception], bool]] = [
        ("rate_limited", stripe.RateLimitError, False),
        ("error_before", stripe.APIError, False),
        ("error_after", stripe.APIError, True),
        ("hang_before", stripe.APIConnectionError, False),
        ("hang_after", stripe.APIConnectionError, True),
        ("reset_before", stripe.APIConnectionError, False),
        ("reset_after", stripe.APIConnectionError, True),
    ]
    for kind, fault, has_happened in cases:
        sandbox.control(
            "POST", "faults", operation="stripe.payment_intents.*", kind=kind, delay_ms=20
        )
        asked: Any = {"amount": AMOUNT, "currency": "eur", "metadata": {"fault": kind}}
        with pytest.raises(fault):
            client.v1.payment_intents.create(asked)
        found = client.v1.payment_intents.search({"query": f"metadata['fault']:'{kind}'"}).data
        assert (kind, len(found)) == (kind, int(has_happened))


def test_chance_is_repeated_by_its_seed(client: StripeClient, sandbox: RunningSandbox) -> None:
    def run() -> list[bool]:
        sandbox.control("DELETE", "faults")
        sandbox.control(
            "POST",
            "faults",
            seed=7,
            operation="stripe.payment_intents.retrieve",
            kind="error_before",
            probability=0.5,
        )
        outcomes = []
        for _ in range(12):
            try:
                client.v1.payment_intents.retrieve(intent.id)
                outcomes.append(True)
            except stripe.APIError:
                outcomes.append(False)
        return outcomes

    intent = new_intent(client)
    first = run()
    assert first == run()
    assert len(set(first)) == 2


# --- The rest ----------------------------------------------------------------------------------


async def test_the_asynchronous_client_is_served_alike(sandbox: RunningSandbox) -> None:
    transport = stripe.AIOHTTPClient()
    client = client_of(sandbox, sandbox.secret_key, http_client=transport)
    asked: Any = {
        "amount": AMOUNT,
        "currency": "inr",
        "payment_method": "pm_card_visa",
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "confirm": True,
    }
    intent = await client.v1.payment_intents.create_async(asked)
    refund = await client.v1.refunds.create_async({"payment_intent": intent.id})
    listed = await client.v1.payment_intents.list_async({"limit": 1})
    assert (intent.status, refund.amount, listed.data[0].id) == ("succeeded", AMOUNT, intent.id)
    await transport.close_async()  # type: ignore[no-untyped-call]  # Stripe's own omission.


def test_many_customers_pay_in_one_call(client: StripeClient, sandbox: RunningSandbox) -> None:
    made = [new_intent(client).id for _ in range(5)]
    paid = sandbox.control("POST", "stripe/pay", ids=made[:4])
    assert paid == {"succeeded": 4}
    refused = sandbox.control(
        "POST", "stripe/pay", ids=made[4:], payment_method="pm_card_chargeDeclined"
    )
    assert refused == {"card_declined": 1}


def test_customers_pay_by_themselves_when_told_to(
    client: StripeClient, sandbox: RunningSandbox, listener: WebhookListener
) -> None:
    sandbox.control("POST", "settings", pays_after_ms=0)
    intent = new_intent(client)
    listener.wait_until(lambda taken: any(b"payment_intent.succeeded" in one.body for one in taken))
    assert client.v1.payment_intents.retrieve(intent.id).amount_received == AMOUNT


def test_pages_of_the_internet_cannot_reach_the_controls(sandbox: RunningSandbox) -> None:
    simple = urllib.request.Request(
        f"{sandbox.url}/sandbox/faults", b"{}", {"Content-Type": "text/plain"}
    )
    with pytest.raises(urllib.error.HTTPError, match="415"):
        urllib.request.urlopen(simple, timeout=10)
    renamed = urllib.request.Request(
        f"{sandbox.url}/sandbox/counts", headers={"Host": "attacker.example"}
    )
    with pytest.raises(urllib.error.HTTPError, match="421"):
        urllib.request.urlopen(renamed, timeout=10)


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    with running_sandbox(tmp_path, as_program=True) as own:
        client = client_of(own, own.secret_key)
        own.control(
            "POST", "webhooks", provider="stripe", url="http://127.0.0.1:1/", secrets=["whsec_1"]
        )
        intent = paid_intent(client)
        asked: Any = {"payment_intent": intent.id, "amount": 250}
        refund = client.v1.refunds.create(asked, {"idempotency_key": "kept"})
        statement = own.control("GET", "statement")
        assert own.process is not None
        own.process.kill()
    with (tmp_path / "sandbox.jsonl").open("ab") as journal:
        journal.write(b'[["stripe_intent","pi_half')
    with running_sandbox(tmp_path) as own:
        client = client_of(own, own.secret_key)
        assert client.v1.payment_intents.retrieve(intent.id).status == "succeeded"
        replayed = client.v1.refunds.create(asked, {"idempotency_key": "kept"})
        assert replayed.id == refund.id
        assert own.control("GET", "statement") == statement
        assert own.control("GET", "counts")["webhooks"]["waiting"] == 5
