"""The sandbox's own controls, under ``/sandbox``: what no provider has and every test needs.

Everything is JSON. A POST must say so in its ``Content-Type``: a page in a browser cannot, without
asking first, and is not answered when it asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

import orjson

from integrations.sandbox.faults import HANG_MS, FaultKind
from integrations.sandbox.http_call import (
    Answer,
    Call,
    Receive,
    Scope,
    Send,
    read_call,
    send_answer,
)
from integrations.sandbox.identifiers import random_letters
from integrations.sandbox.razorpay_errors import RazorpayRefusal
from integrations.sandbox.settings import Settings
from integrations.sandbox.stripe_errors import StripeRefusal
from integrations.sandbox.webhook_sender import WebhookEndpoint, WebhookFaults

if TYPE_CHECKING:
    from integrations.sandbox.app import Sandbox

PAID_AT_ONCE_MAX = 1_000
"""Nothing else is answered meanwhile."""

Control = Callable[[dict[str, str], dict[str, Any]], Any]


class ControlRefused(ValueError):
    """What was asked makes no sense; the message says why."""


class _Control:
    """One control, as an ASGI application."""

    def __init__(self, sandbox: Sandbox, control: Control) -> None:
        self._sandbox = sandbox
        self._control = control

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = await read_call(scope, receive)
        if call is not None:
            await send_answer(self._answer(call), send)

    def _answer(self, call: Call) -> Answer:
        is_json = call.headers.get("content-type", "").startswith("application/json")
        if call.method != "GET" and not is_json:
            return _refused(415, "Content-Type must be application/json")
        try:
            data = orjson.loads(call.body) if call.body else {}
            if not isinstance(data, dict):
                raise ControlRefused("the body must be an object")
            shown = self._control(call.ids, data)
        except (StripeRefusal, RazorpayRefusal) as error:
            return _refused(409, str(error))
        except KeyError as error:
            return _refused(400, f"{error.args[0]} is missing")
        except (ValueError, TypeError) as error:
            return _refused(400, str(error))
        finally:
            self._sandbox.journal.commit()
        return Answer(200, orjson.dumps(shown))


def _refused(status: int, message: str) -> Answer:
    return Answer(status, orjson.dumps({"error": message}))


class ControlPlane:
    """All controls, over one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    def operations(self) -> list[tuple[str, str, _Control]]:
        """Method, path and application of each."""
        table: list[tuple[str, str, Control]] = [
            ("POST", "webhooks", self._add_webhook),
            ("GET", "webhooks", self._list_webhooks),
            ("DELETE", "webhooks/{id}", self._remove_webhook),
            ("POST", "webhooks/faults", self._set_webhook_faults),
            ("POST", "faults", self._plan_fault),
            ("DELETE", "faults", self._clear_faults),
            ("POST", "settings", self._change_settings),
            ("POST", "clock", self._advance_clock),
            ("GET", "statement", lambda ids, data: self._sandbox.ledger.statement()),
            (
                "GET",
                "statement/{id}",
                lambda ids, data: self._sandbox.ledger.of_payment(ids["id"]),
            ),
            ("GET", "statement-of-payments", self._all_payments),
            ("GET", "counts", self._counts),
            ("POST", "stripe/pay", self._pay_intents),
            ("POST", "stripe/payment_intents/{id}/settle", self._settle_intent),
            ("POST", "stripe/payment_intents/{id}/challenge", self._answer_challenge),
            ("POST", "stripe/refunds/{id}/settle", self._settle_stripe_refund),
            ("POST", "stripe/sessions/{id}/pay", self._pay_session),
            ("POST", "razorpay/pay", self._pay_orders),
            ("POST", "razorpay/orders/{id}/pay", self._pay_order),
            ("POST", "razorpay/payments/{id}/authorise_late", self._authorise_late),
            ("POST", "razorpay/refunds/{id}/settle", self._settle_razorpay_refund),
        ]
        return [
            (method, f"/sandbox/{path}", _Control(self._sandbox, control))
            for method, path, control in table
        ]

    def _add_webhook(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        if data["provider"] not in ("stripe", "razorpay"):
            raise ControlRefused("provider is stripe or razorpay")
        endpoint = WebhookEndpoint(
            f"we_{random_letters(16)}",
            data["provider"],
            data["url"],
            list(data["secrets"]),
            list(data.get("event_types", ["*"])),
        )
        if not endpoint.secrets:
            raise ControlRefused("secrets is empty")
        # The same URL again, as at every start of a house, is the same endpoint with other secrets:
        # what waits for it is still delivered.
        for known in self._sandbox.webhooks.endpoints:
            if (known.provider, known.url) == (endpoint.provider, endpoint.url):
                known.secrets, known.event_types = endpoint.secrets, endpoint.event_types
                known.is_enabled = True
                return _shown_endpoint(self._sandbox.webhooks.endpoints.save(known))
        return _shown_endpoint(self._sandbox.webhooks.endpoints.save(endpoint))

    def _list_webhooks(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        return [_shown_endpoint(row) for row in self._sandbox.webhooks.endpoints]

    def _remove_webhook(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        self._sandbox.webhooks.endpoints.remove(ids["id"])
        return {}

    def _set_webhook_faults(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        webhooks = self._sandbox.webhooks
        if "seed" in data:
            webhooks.seed(data["seed"])
            del data["seed"]
        _set_fields(webhooks.faults, WebhookFaults, data)
        webhooks.wake()
        return asdict(webhooks.faults)

    def _plan_fault(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        faults = self._sandbox.faults
        if "seed" in data:
            faults.seed(data["seed"])
        if "operation" in data:
            kind, delay_ms = FaultKind(data["kind"]), data.get("delay_ms", HANG_MS)
            if "probability" in data:
                faults.leave_to_chance(data["operation"], kind, data["probability"], delay_ms)
            else:
                faults.script(data["operation"], kind, data.get("times", 1), delay_ms)
        return {}

    def _clear_faults(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        self._sandbox.faults.clear()
        self._sandbox.webhooks.faults = WebhookFaults()
        self._sandbox.webhooks.wake()
        return {}

    def _change_settings(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        settings = self._sandbox.settings
        _set_fields(settings, Settings, data, kept=("id", "clock_ahead_ms"))
        self._sandbox.kept_settings.save(settings)
        return asdict(settings)

    def _advance_clock(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        self._sandbox.advance_clock(data["advance_ms"])
        return {"now_ms": self._sandbox.clock.now_ms()}

    def _all_payments(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        ledger = self._sandbox.ledger
        shown = [ledger.of_payment(payment) for payment in ledger.payments()]
        for one in shown:
            del one["entries"]
        return shown

    def _counts(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        webhooks = self._sandbox.webhooks
        tables = self._sandbox.journal.tables
        return {
            "webhooks": {**webhooks.counts, "waiting": webhooks.waiting},
            "faults": dict(self._sandbox.faults.happened),
            "rows": {name: len(table) for name, table in tables.items()},
        }

    def _pay_intents(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        """Pay those that are named, or the oldest that wait; count how it went."""
        stripe, store = self._sandbox.stripe, self._sandbox.stripe_store
        named = data.get("ids")
        waiting = ("requires_payment_method", "requires_confirmation")
        if named is None:
            named = [row.id for row in store.intents if row.status in waiting]
        counts: dict[str, int] = {}
        method = data.get("payment_method", "pm_card_visa")
        params = {"payment_method": method, "return_url": "https://sandbox.invalid/"}
        for intent_id in named[: data.get("limit", PAID_AT_ONCE_MAX)]:
            try:
                intent = stripe.intents.confirm(
                    stripe.intents.find(intent_id), params, is_browser=True
                )
                outcome = intent.status
            except StripeRefusal as refusal:
                outcome = refusal.code or refusal.error_type
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts

    def _settle_intent(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        intent = self._sandbox.stripe.intents.find(ids["id"])
        if not self._sandbox.stripe.charging.settle(intent, succeeds=data["succeeds"]):
            raise ControlRefused(f"the intent is {intent.status}")
        return intent.rendered()

    def _answer_challenge(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        intent = self._sandbox.stripe.intents.find(ids["id"])
        self._sandbox.pages.answer_challenge(intent, passes=data["passes"])
        return intent.rendered()

    def _settle_stripe_refund(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        refund = self._sandbox.stripe.refunds.find(ids["id"])
        if not self._sandbox.stripe.refunds.settle(refund, succeeds=data["succeeds"]):
            raise ControlRefused(f"the refund is {refund.status}")
        return refund.rendered()

    def _pay_session(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        checkout = self._sandbox.stripe.checkout
        session = checkout.find(ids["id"])
        checkout.pay(session, {"payment_method": data.get("payment_method", "pm_card_visa")})
        return session.rendered()

    def _pay_orders(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        """Pay those that are named, or the oldest that wait; count how it went."""
        store, orders = self._sandbox.razorpay_store, self._sandbox.razorpay.orders
        named = data.get("ids")
        if named is None:
            named = [row.id for row in store.orders if row.status != "paid"]
        counts: dict[str, int] = {}
        for order_id in named[: data.get("limit", PAID_AT_ONCE_MAX)]:
            try:
                payment = orders.pay(
                    orders.find(order_id),
                    data.get("method", "upi"),
                    data.get("outcome", "succeeds"),
                )
                outcome = payment.status
            except RazorpayRefusal as refusal:
                outcome = refusal.description
            counts[outcome] = counts.get(outcome, 0) + 1
        return counts

    def _pay_order(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        orders = self._sandbox.razorpay.orders
        order = orders.find(ids["id"])
        payment = orders.pay(order, data.get("method", "upi"), data.get("outcome", "succeeds"))
        shown: dict[str, Any] = {"payment": payment.rendered()}
        if payment.status != "failed":
            shown |= orders.callback_of(payment)
        return shown

    def _authorise_late(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        orders = self._sandbox.razorpay.orders
        return orders.authorise_late(orders.find_payment(ids["id"])).rendered()

    def _settle_razorpay_refund(self, ids: dict[str, str], data: dict[str, Any]) -> Any:
        refunds = self._sandbox.razorpay.refunds
        return refunds.settle(refunds.find(ids["id"]), succeeds=data["succeeds"]).rendered()


def _shown_endpoint(endpoint: WebhookEndpoint) -> dict[str, Any]:
    shown = asdict(endpoint)
    del shown["secrets"]
    return shown


def _set_fields(
    target: Any, kind: type[Any], data: dict[str, Any], kept: tuple[str, ...] = ()
) -> None:
    known = {field.name: field.type for field in fields(kind) if field.name not in kept}
    for name, value in data.items():
        if name not in known:
            raise ControlRefused(f"{name} is none of {', '.join(sorted(known))}")
        if not _fits(str(known[name]), value):
            raise ControlRefused(f"{name} is not {known[name]}")
    for name, value in data.items():
        setattr(target, name, value)


def _fits(declared: str, value: Any) -> bool:
    if value is None:
        return "None" in declared
    if isinstance(value, bool):
        return declared == "bool"
    return (isinstance(value, int) and ("int" in declared or declared == "float")) or (
        isinstance(value, float) and declared == "float"
    )
