"""Stripe's refunds: of a charge or an intent, in full or in part, sure or not."""

from __future__ import annotations

from typing import Any

from integrations.sandbox.identifiers import stripe_id
from integrations.sandbox.stripe_amounts import merged_metadata, written_amount
from integrations.sandbox.stripe_cards import Refunding
from integrations.sandbox.stripe_errors import bad_parameter, invalid, missing
from integrations.sandbox.stripe_methods import StripeMethods
from integrations.sandbox.stripe_objects import Charge, Refund
from integrations.sandbox.stripe_store import StripeStore

SETTLE_REFUND = "stripe.settle_refund"


class StripeRefunds:
    """See the module's docstring. Every method raises ``StripeRefusal`` for what Stripe refuses."""

    def __init__(self, store: StripeStore, methods: StripeMethods) -> None:
        self._store = store
        self._methods = methods
        store.due.doers[SETTLE_REFUND] = self.settle_as_planned

    def find(self, refund_id: str) -> Refund:
        refund = self._store.refunds.find(refund_id)
        if refund is None:
            raise missing("refund", refund_id, param="id", is_in_path=True)
        return refund

    def create(self, params: dict[str, Any]) -> Refund:
        """Give back what is left, or the amount that is asked for."""
        charge = self._charge_named(params)
        amount_minor = self._amount(charge, params)
        refunding = self._methods.behaviour(charge.payment_method).refunding
        refund = Refund(
            stripe_id("re"),
            charge.id,
            charge.payment_intent,
            amount_minor,
            charge.currency,
            self._store.clock.now_s(),
            merged_metadata({}, params.get("metadata")),
            "pending" if refunding is Refunding.PENDING else "succeeded",
            params.get("reason"),
        )
        charge.refunds.append(refund.id)
        charge.amount_refunded += amount_minor
        self._store.refunds.save(refund)
        self._store.charges.save(charge)
        self._book(refund, "refunded")
        self._store.emit("refund.created", refund.rendered())
        self._store.emit("charge.refunded", charge.rendered())
        after_ms = self._store.settings.settles_after_ms
        if refunding is not Refunding.AT_ONCE and after_ms is not None:
            self._store.due.plan(SETTLE_REFUND, refund.id, after_ms)
        return refund

    def update(self, refund: Refund, params: dict[str, Any]) -> Refund:
        """Change its metadata."""
        if "metadata" in params:
            before = {"metadata": refund.metadata}
            refund.metadata = merged_metadata(refund.metadata, params["metadata"])
            self._store.refunds.save(refund)
            self._store.emit("refund.updated", refund.rendered(), before)
        return refund

    def settle_as_planned(self, refund_id: str) -> None:
        """The bank answers as the test method says."""
        refund = self.find(refund_id)
        charge = self._store.charges.find(refund.charge)
        assert charge is not None, "charges are never forgotten"
        refunding = self._methods.behaviour(charge.payment_method).refunding
        self.settle(refund, succeeds=refunding is not Refunding.FAILS)

    def settle(self, refund: Refund, *, succeeds: bool) -> bool:
        """The bank's last word; False when it had spoken already."""
        if refund.status == "failed" or (succeeds and refund.status == "succeeded"):
            return False
        before = {"status": refund.status}
        if succeeds:
            refund.status = "succeeded"
        else:
            refund.status = "failed"
            refund.failure_reason = "expired_or_canceled_card"
            charge = self._store.charges.find(refund.charge)
            assert charge is not None, "charges are never forgotten"
            charge.amount_refunded -= refund.amount
            self._store.charges.save(charge)
            self._book(refund, "refund_failed")
        self._store.refunds.save(refund)
        self._store.emit("refund.updated", refund.rendered(), before)
        self._store.emit("charge.refund.updated", refund.rendered(), before)
        if not succeeds:
            self._store.emit("refund.failed", refund.rendered())
        return True

    def _book(self, refund: Refund, kind: str) -> None:
        self._store.ledger.add(
            "stripe", refund.payment_intent, kind, refund.amount, refund.currency
        )

    def _charge_named(self, params: dict[str, Any]) -> Charge:
        if "charge" in params and "payment_intent" not in params:
            charge = self._store.charges.find(params["charge"])
            if charge is None:
                raise missing("charge", params["charge"], param="charge", is_in_path=False)
            if not charge.captured:
                raise invalid(f"Charge {charge.id} has not been captured.", "charge_not_refundable")
            return charge
        if "payment_intent" not in params:
            raise bad_parameter(
                "One of the following params should be provided for this request: payment_intent "
                "or charge.",
                "parameter_missing",
                None,
            )
        intent_id = params["payment_intent"]
        intent = self._store.intents.find(intent_id)
        if intent is None:
            raise missing("payment_intent", intent_id, param="payment_intent", is_in_path=False)
        charge = self._store.charges.find(intent.charges[-1]) if intent.charges else None
        if charge is None or not charge.captured:
            raise invalid(
                f"This PaymentIntent ({intent_id}) does not have a successful charge to refund.",
                "payment_intent_unexpected_state",
                "payment_intent",
            )
        if params.get("charge", charge.id) != charge.id:
            raise invalid("The charge does not belong to the payment intent.", None, "charge")
        return charge

    def _amount(self, charge: Charge, params: dict[str, Any]) -> int:
        left = charge.amount_captured - charge.amount_refunded
        if left == 0:
            raise invalid(
                f"Charge {charge.id} has already been refunded.", "charge_already_refunded"
            )
        amount_minor = params.get("amount", left)
        assert isinstance(amount_minor, int), "parameters were checked"
        if amount_minor < 1:
            raise bad_parameter(
                "This value must be greater than or equal to 1.",
                "parameter_invalid_integer",
                "amount",
            )
        if amount_minor > left:
            of = "unrefunded amount on charge" if charge.amount_refunded else "charge amount"
            raise invalid(
                f"Refund amount ({written_amount(amount_minor, charge.currency)}) is greater than "
                f"{of} ({written_amount(left, charge.currency)})",
                param="amount",
            )
        return amount_minor
