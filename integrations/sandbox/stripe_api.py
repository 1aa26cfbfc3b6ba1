"""Stripe's operations: which path is which, and what each shows."""

from __future__ import annotations

from typing import Any

import orjson

from integrations.sandbox.faults import FaultPlan
from integrations.sandbox.http_call import Endpoint
from integrations.sandbox.stripe_call import Act, Asked, StripeDesk, StripeOperation
from integrations.sandbox.stripe_charging import StripeCharging
from integrations.sandbox.stripe_checkout import StripeCheckout
from integrations.sandbox.stripe_errors import missing
from integrations.sandbox.stripe_intents import StripeIntents
from integrations.sandbox.stripe_lists import list_page, search_intents
from integrations.sandbox.stripe_methods import StripeMethods
from integrations.sandbox.stripe_objects import Charge, Intent, Refund, Session
from integrations.sandbox.stripe_refunds import StripeRefunds
from integrations.sandbox.stripe_store import Event


class StripeApi:
    """All operations, over one account."""

    def __init__(self, desk: StripeDesk, faults: FaultPlan) -> None:
        self._desk = desk
        self._faults = faults
        self._store = desk.store
        self.methods = StripeMethods(desk.store)
        self.charging = StripeCharging(desk.store, self.methods)
        self.intents = StripeIntents(desk.store, self.methods, self.charging)
        self.refunds = StripeRefunds(desk.store, self.methods)
        self.checkout = StripeCheckout(desk.store, self.intents)

    def operations(self) -> list[tuple[str, str, Endpoint]]:
        """Method, path and endpoint of each; what has no ``{id}`` in its place comes first."""
        pi, cs = "payment_intents", "checkout/sessions"
        return [
            self._op("POST", pi, "create", "PaymentIntentCreateParams", self._create_intent),
            self._op("GET", pi, "list", "PaymentIntentListParams", self._list_intents),
            self._op(
                "GET",
                f"{pi}/search",
                "search",
                "PaymentIntentSearchParams",
                lambda asked: search_intents(self._store, asked.params),
            ),
            self._op(
                "GET",
                f"{pi}/{{id}}",
                "retrieve",
                "PaymentIntentRetrieveParams",
                self._retrieve_intent,
                is_public=True,
            ),
            self._op(
                "POST", f"{pi}/{{id}}", "update", "PaymentIntentUpdateParams", self._update_intent
            ),
            self._op(
                "POST",
                f"{pi}/{{id}}/confirm",
                "confirm",
                "PaymentIntentConfirmParams",
                self._confirm_intent,
                is_public=True,
            ),
            self._op(
                "POST",
                f"{pi}/{{id}}/capture",
                "capture",
                "PaymentIntentCaptureParams",
                self._capture_intent,
            ),
            self._op(
                "POST",
                f"{pi}/{{id}}/cancel",
                "cancel",
                "PaymentIntentCancelParams",
                lambda asked: self.intents.cancel(self._intent(asked), asked.params).rendered(),
            ),
            self._op("GET", "charges", "list", "ChargeListParams", self._list_charges),
            self._op(
                "GET", "charges/{id}", "retrieve", "ChargeRetrieveParams", self._retrieve_charge
            ),
            self._op(
                "POST",
                "refunds",
                "create",
                "RefundCreateParams",
                lambda asked: self.refunds.create(asked.params).rendered(),
            ),
            self._op("GET", "refunds", "list", "RefundListParams", self._list_refunds),
            self._op(
                "GET",
                "refunds/{id}",
                "retrieve",
                "RefundRetrieveParams",
                lambda asked: self.refunds.find(asked.object_id).rendered(),
            ),
            self._op(
                "POST",
                "refunds/{id}",
                "update",
                "RefundUpdateParams",
                lambda asked: self.refunds.update(
                    self.refunds.find(asked.object_id), asked.params
                ).rendered(),
            ),
            self._op(
                "POST",
                "payment_methods",
                "create",
                "PaymentMethodCreateParams",
                lambda asked: self.methods.make(asked.params).rendered(),
                is_public=True,
            ),
            self._op(
                "GET",
                "payment_methods/{id}",
                "retrieve",
                "PaymentMethodRetrieveParams",
                lambda asked: self.methods.retrieve(asked.object_id).rendered(),
            ),
            self._op(
                "POST",
                cs,
                "create",
                "checkout.SessionCreateParams",
                lambda asked: self.checkout.create(asked.params).rendered(),
            ),
            self._op("GET", cs, "list", "checkout.SessionListParams", self._list_sessions),
            self._op(
                "GET",
                f"{cs}/{{id}}",
                "retrieve",
                "checkout.SessionRetrieveParams",
                lambda asked: self.checkout.find(asked.object_id).rendered(),
            ),
            self._op(
                "POST",
                f"{cs}/{{id}}",
                "update",
                "checkout.SessionUpdateParams",
                lambda asked: self.checkout.update(
                    self.checkout.find(asked.object_id), asked.params
                ).rendered(),
            ),
            self._op(
                "POST",
                f"{cs}/{{id}}/expire",
                "expire",
                "checkout.SessionExpireParams",
                lambda asked: self.checkout.expire(self.checkout.find(asked.object_id)).rendered(),
            ),
            self._op("GET", "events", "list", "EventListParams", self._list_events),
            self._op("GET", "events/{id}", "retrieve", "EventRetrieveParams", self._retrieve_event),
        ]

    def _op(
        self, method: str, path: str, verb: str, shape: str, act: Act, *, is_public: bool = False
    ) -> tuple[str, str, Endpoint]:
        noun = path.partition("/{")[0].removesuffix("/search").replace("/", ".")
        operation = StripeOperation(self._desk, shape, act, is_public=is_public)
        endpoint = Endpoint(f"stripe.{noun}.{verb}", operation, self._faults)
        return method, f"/v1/{path}", endpoint

    def _intent(self, asked: Asked) -> Intent:
        intent = self.intents.find(asked.object_id)
        if asked.is_browser:
            self.intents.check_secret(intent, asked.client_secret)
        return intent

    def _create_intent(self, asked: Asked) -> dict[str, Any]:
        return self.intents.create(asked.params).rendered()

    def _retrieve_intent(self, asked: Asked) -> dict[str, Any]:
        return self._intent(asked).rendered(for_browser=asked.is_browser)

    def _update_intent(self, asked: Asked) -> dict[str, Any]:
        return self.intents.update(self._intent(asked), asked.params).rendered()

    def _confirm_intent(self, asked: Asked) -> dict[str, Any]:
        intent = self._intent(asked)
        self.intents.confirm(intent, asked.params, is_browser=asked.is_browser)
        return intent.rendered(for_browser=asked.is_browser)

    def _capture_intent(self, asked: Asked) -> dict[str, Any]:
        intent = self.intents.capture(self._intent(asked), asked.params)
        self.checkout.captured(intent)
        return intent.rendered()

    def _list_intents(self, asked: Asked) -> dict[str, Any]:
        return list_page(
            self._store.intents,
            "payment_intent",
            "/v1/payment_intents",
            asked.params,
            lambda intent: not asked.params.get("customer"),
            Intent.rendered,
        )

    def _retrieve_charge(self, asked: Asked) -> dict[str, Any]:
        charge = self._store.charges.find(asked.object_id)
        if charge is None:
            raise missing("charge", asked.object_id, param="id", is_in_path=True)
        return charge.rendered()

    def _list_charges(self, asked: Asked) -> dict[str, Any]:
        return list_page(
            self._store.charges,
            "charge",
            "/v1/charges",
            asked.params,
            lambda charge: True,
            Charge.rendered,
            among=self._charges_of(asked.params.get("payment_intent")),
        )

    def _charges_of(self, intent_id: str | None) -> list[str] | None:
        if intent_id is None:
            return None
        intent = self._store.intents.find(intent_id)
        return [] if intent is None else intent.charges

    def _list_refunds(self, asked: Asked) -> dict[str, Any]:
        charges = self._charges_of(asked.params.get("payment_intent"))
        if "charge" in asked.params:
            named = asked.params["charge"]
            charges = [named] if charges is None or named in charges else []
        refunds = None
        if charges is not None:
            rows = (self._store.charges.find(charge_id) for charge_id in charges)
            refunds = [refund for row in rows if row is not None for refund in row.refunds]
        return list_page(
            self._store.refunds,
            "refund",
            "/v1/refunds",
            asked.params,
            lambda refund: True,
            Refund.rendered,
            among=refunds,
        )

    def _list_sessions(self, asked: Asked) -> dict[str, Any]:
        wanted = {
            name: asked.params[name]
            for name in ("status", "payment_intent")
            if name in asked.params
        }

        def fits(session: Session) -> bool:
            return all(getattr(session, name) == value for name, value in wanted.items())

        return list_page(
            self._store.sessions,
            "checkout.session",
            "/v1/checkout/sessions",
            asked.params,
            fits,
            Session.rendered,
        )

    def _list_events(self, asked: Asked) -> dict[str, Any]:
        types = set(asked.params.get("types") or ())
        if "type" in asked.params:
            types.add(asked.params["type"])

        def fits(event: Event) -> bool:
            return not types or event.type in types

        return list_page(
            self._store.events,
            "event",
            "/v1/events",
            asked.params,
            fits,
            lambda event: orjson.Fragment(event.body),
        )

    def _retrieve_event(self, asked: Asked) -> dict[str, Any]:
        event = self._store.events.find(asked.object_id)
        if event is None:
            raise missing("event", asked.object_id, param="id", is_in_path=True)
        shown: dict[str, Any] = orjson.loads(event.body)
        return shown
