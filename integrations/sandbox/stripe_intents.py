"""Stripe's PaymentIntents: what may be asked of one, in which state, and what is said otherwise."""

from __future__ import annotations

from typing import Any, NoReturn

from integrations.sandbox.identifiers import random_letters, stripe_id
from integrations.sandbox.stripe_amounts import check_amount, merged_metadata, read_currency
from integrations.sandbox.stripe_cards import Decline
from integrations.sandbox.stripe_charging import StripeCharging, error_of
from integrations.sandbox.stripe_errors import StripeRefusal, bad_parameter, invalid, missing
from integrations.sandbox.stripe_methods import StripeMethods
from integrations.sandbox.stripe_objects import Intent
from integrations.sandbox.stripe_store import StripeStore

_CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")
_CANCELABLE = (
    "requires_payment_method",
    "requires_capture",
    "requires_confirmation",
    "requires_action",
    "processing",
)
_ECHOED = (
    "receipt_email",
    "setup_future_usage",
    "shipping",
    "allowed_payment_method_types",
    "excluded_payment_method_types",
    "statement_descriptor",
    "statement_descriptor_suffix",
    "transfer_group",
    "payment_method_options",
)
_UNEXPECTED = "payment_intent_unexpected_state"
AUTO_PAY = "stripe.auto_pay"


class StripeIntents:
    """See the module's docstring. Every method raises ``StripeRefusal`` for what Stripe refuses."""

    def __init__(
        self, store: StripeStore, methods: StripeMethods, charging: StripeCharging
    ) -> None:
        self._store = store
        self._methods = methods
        self._charging = charging

        store.due.doers[AUTO_PAY] = self._pay_by_itself

    def find(self, intent_id: str) -> Intent:
        intent = self._store.intents.find(intent_id)
        if intent is None:
            raise missing("payment_intent", intent_id, param="intent", is_in_path=True)
        return intent

    def create(self, params: dict[str, Any], session: str | None = None) -> Intent:
        """A new intent; confirmed at once if that is asked."""
        currency = read_currency(params["currency"])
        check_amount(params["amount"], currency)
        if params.get("customer"):
            raise missing("customer", params["customer"], param="customer", is_in_path=False)
        if "return_url" in params and not params.get("confirm"):
            raise bad_parameter(
                "This parameter can only be used with `confirm=true`.", None, "return_url"
            )
        automatic, types = _methods_allowed(params, currency)
        intent_id = stripe_id("pi")
        intent = Intent(
            intent_id,
            params["amount"],
            currency,
            self._store.clock.now_s(),
            f"{intent_id}_secret_{random_letters(25)}",
            params.get("capture_method", "automatic_async"),
            merged_metadata({}, params.get("metadata")),
            automatic,
            types,
            description=params.get("description"),
            confirmation_method=params.get("confirmation_method", "automatic"),
            echoed={name: params[name] for name in _ECHOED if name in params},
            session=session,
        )
        self._set_method(intent, params)
        self._store.intents.save(intent)
        self._store.index(intent)
        self._store.emit("payment_intent.created", intent.rendered())
        if params.get("confirm"):
            self._confirm(intent, params, is_browser=False)
        elif session is None and self._store.settings.pays_after_ms is not None:
            self._store.due.plan(AUTO_PAY, intent.id, self._store.settings.pays_after_ms)
        return intent

    def update(self, intent: Intent, params: dict[str, Any]) -> Intent:
        """Change what may still be changed."""
        for name in ("amount", "currency", "payment_method", "payment_method_data"):
            if name in params and intent.status not in _CONFIRMABLE:
                raise invalid(
                    f"This PaymentIntent's {name} could not be updated because it has a status of "
                    f"{intent.status}. You may only update the {name} of a PaymentIntent with one "
                    f"of the following statuses: {', '.join(_CONFIRMABLE)}.",
                    _UNEXPECTED,
                    name,
                )
        if params.get("currency"):
            intent.currency = read_currency(params["currency"])
        if "amount" in params:
            check_amount(params["amount"], intent.currency)
            intent.amount = params["amount"]
        if "metadata" in params:
            intent.metadata = merged_metadata(intent.metadata, params["metadata"])
            self._store.index(intent)
        if "description" in params:
            intent.description = params["description"] or None
        intent.echoed |= {name: params[name] for name in _ECHOED if name in params}
        self._set_method(intent, params)
        self._store.intents.save(intent)
        return intent

    def confirm(self, intent: Intent, params: dict[str, Any], *, is_browser: bool) -> Intent:
        """Try to pay; with the publishable key and the client secret, as a browser does."""
        self._confirm(intent, params, is_browser=is_browser)
        return intent

    def capture(self, intent: Intent, params: dict[str, Any]) -> Intent:
        """Take what was reserved, or a part of it."""
        if intent.status != "requires_capture":
            if intent.status == "succeeded" and intent.capture_method == "manual":
                raise self._unexpected(
                    intent,
                    "This PaymentIntent could not be captured because it has already been "
                    "captured.",
                )
            raise self._unexpected(
                intent,
                "This PaymentIntent could not be captured because it has a status of "
                f"{intent.status}. Only a PaymentIntent with one of the following statuses may be "
                "captured: requires_capture.",
            )
        amount_minor = params.get("amount_to_capture", intent.amount_capturable)
        if amount_minor < 1:
            raise bad_parameter(
                "This value must be greater than or equal to 1.",
                "parameter_invalid_integer",
                "amount_to_capture",
            )
        if amount_minor > intent.amount_capturable:
            raise invalid(
                f"Amount to capture ({amount_minor}) must be less than or equal to the amount "
                f"capturable ({intent.amount_capturable}) of this PaymentIntent.",
                "amount_too_large",
                "amount_to_capture",
            )
        if "metadata" in params:
            intent.metadata = merged_metadata(intent.metadata, params["metadata"])
            self._store.index(intent)
        self._charging.capture(intent, amount_minor)
        return intent

    def cancel(self, intent: Intent, params: dict[str, Any]) -> Intent:
        """End it; nothing can be taken any more."""
        if intent.status not in _CANCELABLE:
            raise self._unexpected(
                intent,
                f"You cannot cancel this PaymentIntent because it has a status of {intent.status}. "
                "Only a PaymentIntent with one of the following statuses may be canceled: "
                f"{', '.join(_CANCELABLE)}.",
            )
        if intent.session is not None and intent.status != "requires_capture":
            raise invalid(
                "You cannot cancel the PaymentIntent for a Checkout Session. Expire the Checkout "
                "Session instead.",
                _UNEXPECTED,
            )
        self._charging.cancel(intent, params.get("cancellation_reason"))
        return intent

    def check_secret(self, intent: Intent, client_secret: Any) -> None:
        """Whether a browser may see and confirm this intent."""
        if client_secret is None:
            raise bad_parameter(
                "Missing required param: client_secret.", "parameter_missing", "client_secret"
            )
        if client_secret != intent.client_secret:
            raise bad_parameter(
                "The client_secret provided does not match the client_secret associated with this "
                "PaymentIntent.",
                "payment_intent_invalid_parameter",
                "client_secret",
            )

    def raise_declined(self, intent: Intent, decline: Decline) -> NoReturn:
        """Answer a confirmation that the bank refused."""
        charge = self._store.charges.find(intent.charges[-1]) if intent.charges else None
        details = dict(intent.last_payment_error or error_of(decline, charge, None))
        for name in ("code", "doc_url", "message", "type"):
            details.pop(name, None)
        details["payment_intent"] = intent.rendered()
        raise StripeRefusal(402, "card_error", decline.message, code=decline.code, details=details)

    def _pay_by_itself(self, intent_id: str) -> None:
        intent = self.find(intent_id)
        if intent.status in ("requires_payment_method", "requires_confirmation"):
            params = {"payment_method": "pm_card_visa", "return_url": self._store.public_url()}
            self._confirm(intent, params, is_browser=True)

    def _confirm(self, intent: Intent, params: dict[str, Any], *, is_browser: bool) -> None:
        if intent.status == "succeeded":
            raise self._unexpected(
                intent,
                "You cannot confirm this PaymentIntent because it has already succeeded after "
                "being previously confirmed.",
            )
        if intent.status not in _CONFIRMABLE:
            raise self._unexpected(
                intent,
                "You cannot confirm this PaymentIntent because it has a status of "
                f"{intent.status}. Only a PaymentIntent with one of the following statuses may be "
                "confirmed: "
                f"{', '.join(_CONFIRMABLE)}.",
            )
        self._set_method(intent, params)
        if intent.payment_method is None:
            raise self._unexpected(
                intent,
                "You cannot confirm this PaymentIntent because it's missing a payment method. You "
                "can either update the PaymentIntent with a payment method and then confirm it "
                "again, or confirm it again directly with a payment method or ConfirmationToken.",
            )
        self._check_return_url(intent, params)
        test_method = self._methods.behaviour(intent.payment_method)
        if test_method.has_challenge:
            if params.get("error_on_requires_action"):
                self._refuse_challenge(intent)
            intent.return_url = params.get("return_url")
            has_sdk = bool(params.get("use_stripe_sdk", is_browser))
            self._charging.challenge(intent, intent.return_url, has_sdk=has_sdk)
            return
        decline = self._charging.try_method(intent)
        if decline is not None:
            self.raise_declined(intent, decline)

    def _refuse_challenge(self, intent: Intent) -> NoReturn:
        message = (
            "This payment required an authentication action to complete, but "
            "`error_on_requires_action` was set."
        )
        decline = Decline("authentication_required", "authentication_required", message)
        intent.payment_method = None
        intent.status = "requires_payment_method"
        self._store.intents.save(intent)
        self.raise_declined(intent, decline)

    def _check_return_url(self, intent: Intent, params: dict[str, Any]) -> None:
        redirects = (intent.automatic or {}).get("allow_redirects") == "always"
        if redirects and not params.get("return_url"):
            raise invalid(
                "This PaymentIntent is configured to accept payment methods enabled in your "
                "Dashboard. Because some of these payment methods might redirect your customer off "
                "of your page, you must provide a `return_url`. If you don't want to accept "
                "redirect-based payment methods, set `automatic_payment_methods[enabled]` to "
                "`true` and `automatic_payment_methods[allow_redirects]` to `never` when creating "
                "Setup Intents and Payment Intents."
            )

    def _set_method(self, intent: Intent, params: dict[str, Any]) -> None:
        if params.get("payment_method"):
            method = self._methods.use(params["payment_method"])
        elif "payment_method_data" in params:
            method = self._methods.make(params["payment_method_data"])
        else:
            return
        if method.kind not in intent.types:
            raise invalid(
                f"The PaymentMethod provided ({method.kind}) is not allowed for this "
                "PaymentIntent. Please attach a PaymentMethod of one of the following types: "
                f"{', '.join(intent.types)}.",
                "payment_intent_incompatible_payment_method",
                "payment_method",
            )
        intent.payment_method = method.id
        if intent.status == "requires_payment_method":
            intent.status = "requires_confirmation"

    def _unexpected(self, intent: Intent, message: str) -> StripeRefusal:
        return StripeRefusal(
            400,
            "invalid_request_error",
            message,
            code=_UNEXPECTED,
            details={"payment_intent": intent.rendered()},
        )


def _methods_allowed(
    params: dict[str, Any], currency: str
) -> tuple[dict[str, Any] | None, list[str]]:
    automatic = params.get("automatic_payment_methods")
    allowed = params.get("allowed_payment_method_types")
    excluded = params.get("excluded_payment_method_types") or []
    if allowed and (automatic is not None or excluded):
        raise bad_parameter(
            "You may only specify one of these parameters: allowed_payment_method_types, "
            "automatic_payment_methods, excluded_payment_method_types.",
            None,
            "allowed_payment_method_types",
        )
    if automatic is not None and not automatic["enabled"]:
        return None, ["card"]
    # What does not suit the currency is left out without a word.
    types = ["card", "link", "us_bank_account"] if currency == "usd" else ["card", "link"]
    types = [kind for kind in types if kind not in excluded and (not allowed or kind in allowed)]
    if not types:
        raise invalid(
            "No valid payment method types for this Payment Intent. Please ensure that you have "
            "activated payment methods compatible with your chosen currency.",
        )
    redirects = (automatic or {}).get("allow_redirects", "always")
    return {"allow_redirects": redirects, "enabled": True}, types
