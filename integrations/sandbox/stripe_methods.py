"""Stripe's PaymentMethods: copies of test methods, by name or by number."""

from __future__ import annotations

from typing import Any

from integrations.sandbox.identifiers import stripe_id
from integrations.sandbox.stripe_cards import TestMethod, method_named, method_numbered
from integrations.sandbox.stripe_errors import StripeRefusal, invalid, missing
from integrations.sandbox.stripe_objects import Method
from integrations.sandbox.stripe_store import StripeStore


class StripeMethods:
    """Finds and makes payment methods."""

    def __init__(self, store: StripeStore) -> None:
        self._store = store

    def use(self, name: str) -> Method:
        """The method with this id; naming a documented test method makes a copy of it.

        Raises:
            StripeRefusal: there is none.
        """
        known = self._store.methods.find(name)
        if known is not None:
            return known
        test_method = method_named(name)
        if test_method is None:
            raise missing("PaymentMethod", name, param="payment_method", is_in_path=False)
        return self._copy(test_method)

    def make(self, data: dict[str, Any]) -> Method:
        """The method that ``payment_method_data`` or a browser describes.

        Raises:
            StripeRefusal: it is not a card of the test cards.
        """
        kind = data.get("type")
        if kind == "us_bank_account":
            number = str(data.get("us_bank_account", {}).get("account_number", ""))
            test_method = method_numbered(number)
        elif kind == "card":
            card = data.get("card", {})
            if "token" in card:
                test_method = method_named(str(card["token"]))
            else:
                test_method = method_numbered(str(card.get("number", "")))
        else:
            raise invalid(
                f'The payment method type "{kind}" is invalid. The sandbox knows card and '
                "us_bank_account.",
                "payment_method_unactivated",
                "payment_method_data[type]",
            )
        if test_method is None:
            raise StripeRefusal(
                402,
                "card_error",
                "Your card number is incorrect.",
                code="incorrect_number",
                param="number",
            )
        return self._copy(test_method, data.get("metadata") or {})

    def behaviour(self, method_id: str) -> TestMethod:
        """How payments with this method go."""
        method = self._store.methods.find(method_id)
        assert method is not None, "intents name methods that exist"
        found = method_numbered(method.number)
        assert found is not None, "methods are copies of test methods"
        return found

    def retrieve(self, method_id: str) -> Method:
        """The method with this id.

        Raises:
            StripeRefusal: there is none.
        """
        method = self._store.methods.find(method_id)
        if method is None:
            raise missing("PaymentMethod", method_id, param="payment_method", is_in_path=True)
        return method

    def _copy(self, test_method: TestMethod, metadata: dict[str, str] | None = None) -> Method:
        method = Method(
            stripe_id("pm"),
            test_method.kind,
            test_method.brand,
            test_method.number,
            self._store.clock.now_s(),
            metadata or {},
        )
        return self._store.methods.save(method)
