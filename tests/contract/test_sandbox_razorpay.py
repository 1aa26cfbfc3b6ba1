"""The sandbox as Razorpay's own, unmodified client sees it, over a real socket."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import razorpay
import requests

from tests.support.sandbox import RunningSandbox, running_sandbox
from tests.support.webhook_listener import Taken, WebhookListener, webhook_listener

WEBHOOK_SECRET = "secret of the webhook"
AMOUNT = 50_000


@pytest.fixture(scope="module")
def shared() -> Iterator[RunningSandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(shared: RunningSandbox) -> Iterator[RunningSandbox]:
    shared.control(
        "POST",
        "settings",
        razorpay_captures=True,
        razorpay_refunds_wait=False,
        pays_after_ms=None,
    )
    yield shared
    shared.control("DELETE", "faults")


@pytest.fixture
def client(sandbox: RunningSandbox) -> Any:
    return client_of(sandbox)


@pytest.fixture
def listener(sandbox: RunningSandbox) -> Iterator[WebhookListener]:
    with webhook_listener() as listener:
        added = sandbox.control(
            "POST", "webhooks", provider="razorpay", url=listener.url, secrets=[WEBHOOK_SECRET]
        )
        yield listener
        sandbox.control("DELETE", f"webhooks/{added['id']}")


def client_of(sandbox: RunningSandbox, auth: tuple[str, str] | None = None) -> Any:
    return razorpay.Client(auth=auth or sandbox.razorpay_auth, base_url=sandbox.razorpay_url)


def new_order(client: Any, **data: Any) -> dict[str, Any]:
    order: dict[str, Any] = client.order.create(
        {"amount": AMOUNT, "currency": "INR", "receipt": "pay_1", **data}
    )
    return order


def pay(sandbox: RunningSandbox, order: dict[str, Any], **how: Any) -> Any:
    """What the customer does on Razorpay's page."""
    return sandbox.control("POST", f"razorpay/orders/{order['id']}/pay", **how)


def captured_payment(client: Any, sandbox: RunningSandbox) -> str:
    return str(pay(sandbox, new_order(client))["razorpay_payment_id"])


def kinds(taken: list[Taken]) -> list[str]:
    return [json.loads(one.body)["event"] for one in taken]


def test_an_order_is_paid_and_captured_at_once(client: Any, sandbox: RunningSandbox) -> None:
    order = new_order(client, notes={"payment_id": "pay_1"})
    assert (order["status"], order["amount_due"], order["attempts"]) == ("created", AMOUNT, 0)
    answer = pay(sandbox, order, method="upi")
    callback = {name: answer[name] for name in answer if name.startswith("razorpay_")}
    assert client.utility.verify_payment_signature(callback)
    payments = client.order.payments(order["id"])
    assert payments["count"] == 1
    payment = payments["items"][0]
    assert (payment["status"], payment["captured"], payment["method"]) == ("captured", True, "upi")
    assert payment["notes"] == {"payment_id": "pay_1"}
    order = client.order.fetch(order["id"])
    assert (order["status"], order["amount_paid"], order["amount_due"]) == ("paid", AMOUNT, 0)


@pytest.mark.parametrize(
    "asked", [{"payment_capture": 0}, {"payment": {"capture": "manual", "capture_options": {}}}]
)
def test_a_payment_may_be_authorised_first(
    client: Any, sandbox: RunningSandbox, asked: dict[str, Any]
) -> None:
    order = new_order(client, **asked)
    payment_id = pay(sandbox, order)["razorpay_payment_id"]
    assert client.payment.fetch(payment_id)["status"] == "authorized"
    with pytest.raises(razorpay.errors.BadRequestError, match="must be equal to the amount"):
        client.payment.capture(payment_id, AMOUNT - 100, {"currency": "INR"})
    assert client.payment.capture(payment_id, AMOUNT, {"currency": "INR"})["captured"]
    with pytest.raises(razorpay.errors.BadRequestError, match="already been captured"):
        client.payment.capture(payment_id, AMOUNT, {"currency": "INR"})


def test_the_account_says_who_captures_when_the_order_does_not(
    client: Any, sandbox: RunningSandbox
) -> None:
    sandbox.control("POST", "settings", razorpay_captures=False)
    payment_id = pay(sandbox, new_order(client))["razorpay_payment_id"]
    assert client.payment.fetch(payment_id)["status"] == "authorized"
    payment_id = pay(sandbox, new_order(client, payment_capture=1))["razorpay_payment_id"]
    assert client.payment.fetch(payment_id)["status"] == "captured"


def test_a_failed_payment_may_be_authorised_late(
    client: Any, sandbox: RunningSandbox, listener: WebhookListener
) -> None:
    order = new_order(client, payment_capture=0)
    answer = pay(sandbox, order, outcome="fails")
    assert "razorpay_signature" not in answer
    payment_id = answer["payment"]["id"]
    failed = client.payment.fetch(payment_id)
    assert (failed["status"], failed["error_reason"]) == ("failed", "payment_failed")
    with pytest.raises(razorpay.errors.BadRequestError, match="Only payments which have been"):
        client.payment.capture(payment_id, AMOUNT, {})
    sandbox.control("POST", f"razorpay/payments/{payment_id}/authorise_late")
    assert client.payment.capture(payment_id, AMOUNT, {})["error_code"] is None
    taken = listener.wait_until(lambda taken: len(taken) == 4)
    assert sorted(kinds(taken)) == [
        "order.paid",
        "payment.authorized",
        "payment.captured",
        "payment.failed",
    ]


def test_an_order_is_paid_once(client: Any, sandbox: RunningSandbox) -> None:
    order = new_order(client)
    failed = pay(sandbox, order, outcome="fails")["payment"]["id"]
    pay(sandbox, order)
    with pytest.raises(AssertionError, match="already done"):
        pay(sandbox, order)
    sandbox.control("POST", f"razorpay/payments/{failed}/authorise_late")
    assert client.payment.fetch(failed)["status"] == "authorized"
    with pytest.raises(razorpay.errors.BadRequestError, match="Order already paid"):
        client.payment.capture(failed, AMOUNT, {})
    assert client.order.fetch(order["id"])["attempts"] == 2


def test_refunds_never_exceed_what_was_taken(client: Any, sandbox: RunningSandbox) -> None:
    payment_id = captured_payment(client, sandbox)
    part = client.payment.refund(
        payment_id, {"amount": 20_000, "notes": {"refund_id": "rf_1"}, "receipt": "rf_1"}
    )
    assert (part["status"], part["speed_processed"], part["receipt"]) == (
        "processed",
        "normal",
        "rf_1",
    )
    payment = client.payment.fetch(payment_id)
    assert (payment["status"], payment["refund_status"]) == ("captured", "partial")
    with pytest.raises(razorpay.errors.BadRequestError, match="greater than the refund payment"):
        client.payment.refund(payment_id, {"amount": 30_001})
    rest = client.refund.create({"payment_id": payment_id})
    assert rest["amount"] == 30_000
    assert client.payment.fetch(payment_id)["status"] == "refunded"
    with pytest.raises(razorpay.errors.BadRequestError, match="fully refunded already"):
        client.payment.refund(payment_id, {})
    listed = client.payment.fetch_multiple_refund(payment_id)["items"]
    assert [refund["id"] for refund in listed] == [rest["id"], part["id"]]
    assert client.payment.fetch_refund_id(payment_id, part["id"]) == part
    assert client.refund.fetch(part["id"]) == part
    statement = sandbox.control("GET", f"statement/{payment_id}")
    assert (statement["captured"], statement["refunded"]) == (AMOUNT, AMOUNT)


def test_only_captured_payments_are_refunded(client: Any, sandbox: RunningSandbox) -> None:
    order = new_order(client, payment_capture=0)
    payment_id = pay(sandbox, order)["razorpay_payment_id"]
    with pytest.raises(razorpay.errors.BadRequestError, match="should be captured for action"):
        client.payment.refund(payment_id, {})


@pytest.mark.parametrize(
    ("succeeds", "status", "net"), [(True, "processed", 0), (False, "failed", AMOUNT)]
)
def test_a_refund_may_wait_for_the_bank(
    client: Any,
    sandbox: RunningSandbox,
    listener: WebhookListener,
    succeeds: bool,
    status: str,
    net: int,
) -> None:
    sandbox.control("POST", "settings", razorpay_refunds_wait=True)
    payment_id = captured_payment(client, sandbox)
    refund = client.payment.refund(payment_id, {})
    assert (refund["status"], refund["speed_processed"]) == ("pending", None)
    sandbox.control("POST", f"razorpay/refunds/{refund['id']}/settle", succeeds=succeeds)
    assert client.refund.fetch(refund["id"])["status"] == status
    assert sandbox.control("GET", f"statement/{payment_id}")["net"] == net
    taken = listener.wait_until(lambda taken: len(taken) == 5)
    assert {"refund.created", f"refund.{status}"} < set(kinds(taken))


def test_one_refund_key_has_one_effect(client: Any, sandbox: RunningSandbox) -> None:
    payment_id = captured_payment(client, sandbox)
    headers = {"X-Refund-Idempotency": "refund-of-the-test-1"}
    refunds = [
        client.payment.refund(payment_id, {"amount": 1_000}, headers=dict(headers))
        for _ in range(2)
    ]
    assert refunds[0] == refunds[1]
    with pytest.raises(razorpay.errors.BadRequestError, match="Different request with the same"):
        client.payment.refund(payment_id, {"amount": 1_001}, headers=dict(headers))
    for key in ("short", "rf:with-a-colon"):
        with pytest.raises(razorpay.errors.BadRequestError, match="at least 10 characters"):
            client.payment.refund(payment_id, {}, headers={"X-Refund-Idempotency": key})
    assert client.payment.fetch(payment_id)["amount_refunded"] == 1_000


def test_orders_are_found_by_receipt_and_listed_from_the_newest() -> None:
    with running_sandbox() as own:
        client = client_of(own)
        made = []
        for number in range(4):
            made.append(new_order(client, receipt=f"receipt {number}"))
            own.control("POST", "clock", advance_ms=1_000)
        assert client.order.all({"receipt": "receipt 2"})["items"][0]["id"] == made[2]["id"]
        page = client.order.all({"count": 2, "skip": 1})["items"]
        assert [order["id"] for order in page] == [made[2]["id"], made[1]["id"]]
        since = {"from": made[1]["created_at"], "to": made[2]["created_at"]}
        recent = client.order.all(since)["items"]
        assert [order["id"] for order in recent] == [made[2]["id"], made[1]["id"]]
        pay(own, made[0])
        assert client.payment.all({"count": 1})["items"][0]["order_id"] == made[0]["id"]
        assert client.order.all({"authorized": 1})["count"] == 1


@pytest.mark.parametrize(
    ("data", "description"),
    [
        ({"amount": None}, "The amount field is required."),
        ({"amount": "12.5"}, "The amount must be an integer."),
        ({"amount": 99}, "The amount must be at least INR 1.00"),
        ({"currency": None}, "The currency field is required."),
        ({"colour": "red"}, "colour is/are not required and should not be sent"),
        ({"receipt": "r" * 41}, "The receipt may not be greater than 40 characters."),
        ({"notes": {str(key): "x" for key in range(16)}}, "Number of fields in notes should be"),
    ],
)
def test_wrong_parameters_are_refused(client: Any, data: dict[str, Any], description: str) -> None:
    with pytest.raises(razorpay.errors.BadRequestError, match=re.escape(description)):
        new_order(client, **data)


def test_errors_have_razorpays_shape(sandbox: RunningSandbox) -> None:
    answer = requests.get(
        f"{sandbox.razorpay_url}/v1/orders/order_x", auth=sandbox.razorpay_auth, timeout=10
    )
    assert answer.status_code == 400
    assert answer.json() == {
        "error": {
            "code": "BAD_REQUEST_ERROR",
            "description": "The id provided does not exist",
            "source": "business",
            "step": "payment_initiation",
            "reason": "input_validation_failed",
            "metadata": {},
        }
    }


def test_an_unknown_key_opens_nothing(sandbox: RunningSandbox) -> None:
    stranger = client_of(sandbox, (sandbox.razorpay_auth[0], "guessed"))
    with pytest.raises(razorpay.errors.BadRequestError, match="Authentication failed"):
        new_order(stranger)


def test_webhooks_carry_a_signature_that_razorpays_client_accepts(
    client: Any, sandbox: RunningSandbox, listener: WebhookListener
) -> None:
    order = new_order(client)
    pay(sandbox, order)
    taken = listener.wait_until(lambda taken: len(taken) == 3)
    for one in taken:
        signature = one.headers["x-razorpay-signature"]
        assert client.utility.verify_webhook_signature(one.body.decode(), signature, WEBHOOK_SECRET)
        assert one.headers["x-razorpay-event-id"]
    paid = next(json.loads(one.body) for one in taken if b"order.paid" in one.body)
    assert paid["contains"] == ["payment", "order"]
    assert paid["payload"]["order"]["entity"]["id"] == order["id"]
    assert paid["payload"]["payment"]["entity"]["status"] == "captured"
    # What was authorised first is told as it was then.
    first = next(json.loads(one.body) for one in taken if b"payment.authorized" in one.body)
    assert first["payload"]["payment"]["entity"]["status"] == "authorized"


def test_calls_go_wrong_before_or_after_they_happen(client: Any, sandbox: RunningSandbox) -> None:
    faults: list[tuple[str, type[Exception], bool]] = [
        ("rate_limited", razorpay.errors.BadRequestError, False),
        ("error_before", razorpay.errors.ServerError, False),
        ("error_after", razorpay.errors.ServerError, True),
        ("hang_after", requests.exceptions.ReadTimeout, True),
        ("reset_before", requests.exceptions.ConnectionError, False),
        ("reset_after", requests.exceptions.ConnectionError, True),
    ]
    for kind, fault, has_happened in faults:
        sandbox.control("POST", "faults", operation="razorpay.orders.create", kind=kind)
        data = {"amount": AMOUNT, "currency": "INR", "receipt": kind}
        with pytest.raises(fault):
            client.order.create(data, timeout=0.1)
        found = client.order.all({"receipt": kind})["count"]
        assert (kind, found) == (kind, int(has_happened))


def test_what_is_not_captured_goes_back_after_five_days() -> None:
    with running_sandbox() as own:
        client = client_of(own)
        payment_id = pay(own, new_order(client, payment_capture=0))["razorpay_payment_id"]
        own.control("POST", "clock", advance_ms=5 * 86_400_000)
        payment = client.payment.fetch(payment_id)
        assert (payment["status"], payment["captured"]) == ("refunded", False)
        assert client.payment.fetch_multiple_refund(payment_id)["items"][0]["amount"] == AMOUNT
        assert own.control("GET", "statement") == {}


def test_many_customers_pay_in_one_call(client: Any, sandbox: RunningSandbox) -> None:
    made = [new_order(client)["id"] for _ in range(4)]
    assert sandbox.control("POST", "razorpay/pay", ids=made) == {"captured": 4}
