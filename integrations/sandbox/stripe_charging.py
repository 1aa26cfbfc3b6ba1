"""What a bank does to a PaymentIntent: reserve, take, refuse, answer later, let go.

requires_confirmation -> requires_action     the customer must prove who he is
                      -> processing          the bank answers later
                      -> requires_capture    reserved (manual capture)
                      -> succeeded           taken
                      -> requires_payment_method   refused; another method may be tried
"""

from __future__ import annotations

from typing import Any

from integrations.sandbox.identifiers import stripe_id
from integrations.sandbox.stripe_cards import (
    AUTHENTICATION_FAILED,
    BANK_REFUSED,
    Decline,
    Settling,
    TestMethod,
)
from integrations.sandbox.stripe_methods import StripeMethods
from integrations.sandbox.stripe_objects import Charge, Intent
from integrations.sandbox.stripe_store import StripeStore

LAPSES_AFTER_S = 7 * 86_400
LAPSE = "stripe.lapse"
SETTLE = "stripe.settle"


class StripeCharging:
    """Moves intents as banks would."""

    def __init__(self, store: StripeStore, methods: StripeMethods) -> None:
        self._store = store
        self._methods = methods
        store.due.doers[LAPSE] = self._lapse
        store.due.doers[SETTLE] = self.settle_as_planned

    def try_method(self, intent: Intent) -> Decline | None:
        """Ask the bank behind the intent's method; why it refused, if it did."""
        assert intent.payment_method is not None, "only intents with a method are tried"
        test_method = self._methods.behaviour(intent.payment_method)
        intent.next_action = None
        if test_method.decline is not None:
            self._refuse(intent, self._charge(intent, test_method), test_method.decline)
            return test_method.decline
        charge = self._charge(intent, test_method)
        if test_method.settling is Settling.AT_ONCE:
            self._approve(intent, charge)
            return None
        charge.status = "pending"
        intent.status = "processing"
        self._keep(intent, charge)
        self._store.emit("charge.pending", charge.rendered())
        self._store.emit("payment_intent.processing", intent.rendered())
        if test_method.settling is not Settling.NEVER:
            self._plan_settling(intent)
        return None

    def _plan_settling(self, intent: Intent) -> None:
        after_ms = self._store.settings.settles_after_ms
        if after_ms is not None:
            self._store.due.plan(SETTLE, intent.id, after_ms)

    def settle_as_planned(self, intent_id: str) -> None:
        """The bank answers as the test method says."""
        intent = self._store.intents.find(intent_id)
        if intent is not None and intent.payment_method is not None:
            settling = self._methods.behaviour(intent.payment_method).settling
            self.settle(intent, succeeds=settling is not Settling.FAILS)

    def settle(self, intent: Intent, *, succeeds: bool) -> bool:
        """The bank answers for an intent in ``processing``; False when it is in no such state."""
        if intent.status != "processing":
            return False
        charge = self._latest_charge(intent)
        if succeeds:
            charge.status = "succeeded"
            self._approve(intent, charge)
        else:
            self._refuse(intent, charge, BANK_REFUSED)
        return True

    def challenge(self, intent: Intent, return_url: str | None, *, has_sdk: bool) -> None:
        """Ask the customer who he is: on a page, or in the page that has Stripe's script."""
        page = f"{self._store.public_url()}/challenge/{intent.id}"
        page += f"?client_secret={intent.client_secret}"
        intent.status = "requires_action"
        if return_url is not None and not has_sdk:
            redirect = {"return_url": return_url, "url": page}
            intent.next_action = {"redirect_to_url": redirect, "type": "redirect_to_url"}
        else:
            sdk = {"type": "three_d_secure_redirect", "stripe_js": page}
            intent.next_action = {"type": "use_stripe_sdk", "use_stripe_sdk": sdk}
        self._store.intents.save(intent)
        self._store.emit("payment_intent.requires_action", intent.rendered())

    def answer_challenge(self, intent: Intent, *, passes: bool) -> Decline | None:
        """The customer proved it, or did not; why he was refused, if he was."""
        if passes:
            return self.try_method(intent)
        self._fail(intent, None, AUTHENTICATION_FAILED)
        return AUTHENTICATION_FAILED

    def capture(self, intent: Intent, amount_minor: int) -> None:
        """Take what is reserved; what is not taken is let go."""
        charge = self._latest_charge(intent)
        self._take(intent, charge, amount_minor)
        self._store.emit("charge.captured", charge.rendered())
        self._store.emit("payment_intent.succeeded", intent.rendered())

    def cancel(self, intent: Intent, reason: str | None) -> None:
        """End the intent; what it had reserved is let go."""
        if intent.status == "requires_capture":
            charge = self._latest_charge(intent)
            charge.released = charge.amount
            charge.capture_before = None
            self._store.charges.save(charge)
            self._store.emit("charge.refunded", charge.rendered())
        elif intent.status == "processing":
            charge = self._latest_charge(intent)
            charge.status, charge.failure_code = "failed", "charge_canceled"
            self._store.charges.save(charge)
        intent.status = "canceled"
        intent.amount_capturable = 0
        intent.canceled_at = self._store.clock.now_s()
        intent.cancellation_reason = reason
        intent.next_action = None
        self._store.intents.save(intent)
        self._store.emit("payment_intent.canceled", intent.rendered())

    def _lapse(self, charge_id: str) -> None:
        charge = self._store.charges.find(charge_id)
        assert charge is not None, "charges are never forgotten"
        intent = self._store.intents.find(charge.payment_intent)
        if intent is None or intent.status != "requires_capture":
            return
        self._store.emit("charge.expired", charge.rendered())
        self.cancel(intent, "automatic")

    def _latest_charge(self, intent: Intent) -> Charge:
        charge = self._store.charges.find(intent.charges[-1])
        assert charge is not None, "charges are never forgotten"
        return charge

    def _charge(self, intent: Intent, test_method: TestMethod) -> Charge:
        assert intent.payment_method is not None, "it was tried with a method"
        charge = Charge(
            stripe_id("ch"),
            intent.id,
            intent.amount,
            intent.currency,
            self._store.clock.now_s(),
            dict(intent.metadata),
            intent.description,
            intent.payment_method,
            test_method.kind,
            test_method.brand,
            test_method.number[-4:],
        )
        intent.charges.append(charge.id)
        return charge

    def _keep(self, intent: Intent, charge: Charge) -> None:
        self._store.intents.save(intent)
        self._store.charges.save(charge)

    def _approve(self, intent: Intent, charge: Charge) -> None:
        intent.last_payment_error = None
        if intent.capture_method == "manual":
            intent.status = "requires_capture"
            intent.amount_capturable = intent.amount
            charge.capture_before = self._store.clock.now_s() + LAPSES_AFTER_S
            self._keep(intent, charge)
            self._store.due.plan(LAPSE, charge.id, LAPSES_AFTER_S * 1_000)
            self._store.emit("charge.succeeded", charge.rendered())
            self._store.emit("payment_intent.amount_capturable_updated", intent.rendered())
            return
        self._take(intent, charge, intent.amount)
        self._store.emit("charge.succeeded", charge.rendered())
        self._store.emit("payment_intent.succeeded", intent.rendered())

    def _take(self, intent: Intent, charge: Charge, amount_minor: int) -> None:
        charge.captured = True
        charge.amount_captured = amount_minor
        charge.released = charge.amount - amount_minor
        charge.capture_before = None
        intent.status = "succeeded"
        intent.amount_received = amount_minor
        intent.amount_capturable = 0
        self._keep(intent, charge)
        self._store.ledger.add("stripe", intent.id, "captured", amount_minor, intent.currency)

    def _refuse(self, intent: Intent, charge: Charge, decline: Decline) -> None:
        charge.status = "failed"
        charge.failure_code = decline.code
        charge.failure_message = decline.message
        charge.decline_code = decline.decline_code
        self._store.charges.save(charge)
        self._store.emit("charge.failed", charge.rendered())
        self._fail(intent, charge, decline)

    def _fail(self, intent: Intent, charge: Charge | None, decline: Decline) -> None:
        assert intent.payment_method is not None, "it was tried with a method"
        intent.last_payment_error = error_of(
            decline, charge, self._methods.retrieve(intent.payment_method).rendered()
        )
        intent.payment_method = None
        intent.status = "requires_payment_method"
        intent.next_action = None
        self._store.intents.save(intent)
        self._store.emit("payment_intent.payment_failed", intent.rendered())


def error_of(
    decline: Decline, charge: Charge | None, method: dict[str, Any] | None
) -> dict[str, Any]:
    """The error of a payment, without its intent."""
    error: dict[str, Any] = {} if charge is None else {"charge": charge.id}
    error["code"] = decline.code
    if decline.decline_code is not None:
        error["decline_code"] = decline.decline_code
    error["doc_url"] = f"https://stripe.com/docs/error-codes/{decline.code.replace('_', '-')}"
    error["message"] = decline.message
    error["payment_method"] = method
    is_card = decline not in (AUTHENTICATION_FAILED, BANK_REFUSED)
    error["type"] = "card_error" if is_card else "invalid_request_error"
    return error
