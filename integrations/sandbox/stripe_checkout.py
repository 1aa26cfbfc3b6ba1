"""Stripe's Checkout Sessions: a page where the customer pays, or leaves, or is too late.

    open -> complete    paid, or reserved
         -> expired     by us, or by its time

The intent exists once the customer tries to pay, and is the session's from then on.
"""

from __future__ import annotations

from typing import Any

from integrations.sandbox.identifiers import random_letters
from integrations.sandbox.stripe_amounts import check_amount, merged_metadata, read_currency
from integrations.sandbox.stripe_errors import bad_parameter, invalid, missing
from integrations.sandbox.stripe_intents import StripeIntents
from integrations.sandbox.stripe_objects import Intent, Session
from integrations.sandbox.stripe_store import StripeStore

EXPIRE_SESSION = "stripe.expire_session"
LIFETIME_S_MIN = 30 * 60
LIFETIME_S_MAX = 24 * 3_600
_INTENT_PARAMETERS = ("description", "metadata", "receipt_email", "statement_descriptor")


class StripeCheckout:
    """See the module's docstring. Every method raises ``StripeRefusal`` for what Stripe refuses."""

    def __init__(self, store: StripeStore, intents: StripeIntents) -> None:
        self._store = store
        self._intents = intents
        store.due.doers[EXPIRE_SESSION] = self._expire_by_time

    def find(self, session_id: str) -> Session:
        session = self._store.sessions.find(session_id)
        if session is None:
            raise missing("checkout.session", session_id, param="session", is_in_path=True)
        return session

    def create(self, params: dict[str, Any]) -> Session:
        """A new page for what is in ``line_items``; only ``mode=payment``."""
        if params.get("mode", "payment") != "payment":
            raise invalid("The sandbox has Checkout Sessions of mode payment only.", None, "mode")
        if "success_url" not in params:
            raise bad_parameter(
                "Missing required param: success_url.", "parameter_missing", "success_url"
            )
        lines, currency = _read_lines(params.get("line_items") or [])
        total = sum(line["unit_amount"] * line["quantity"] for line in lines)
        check_amount(total, currency)
        expires_at = self._read_expiry(params.get("expires_at"))
        session_id = f"cs_test_a1{random_letters(56)}"
        session = Session(
            session_id,
            self._store.clock.now_s(),
            expires_at,
            currency,
            total,
            lines,
            params["success_url"],
            params.get("cancel_url"),
            self._store.page_of(session_id),
            merged_metadata({}, params.get("metadata")),
            params.get("payment_intent_data") or {},
            params.get("client_reference_id"),
            params.get("customer_email"),
        )
        self._store.sessions.save(session)
        lifetime_ms = expires_at * 1_000 - self._store.clock.now_ms()
        self._store.due.plan(EXPIRE_SESSION, session_id, lifetime_ms)
        return session

    def update(self, session: Session, params: dict[str, Any]) -> Session:
        """Change its metadata."""
        if "metadata" in params:
            session.metadata = merged_metadata(session.metadata, params["metadata"])
            self._store.sessions.save(session)
        return session

    def expire(self, session: Session) -> Session:
        """End it before its time."""
        if session.status != "open":
            raise invalid(
                'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout '
                f"Session has a status of {session.status}."
            )
        self._end(session)
        return session

    def pay(self, session: Session, method: dict[str, Any]) -> Intent:
        """The customer pays on the page; a refused card may be followed by another.

        Args:
            method: ``payment_method`` or ``payment_method_data``.
        """
        if session.status != "open":
            raise invalid(f"This Checkout Session has a status of {session.status}.")
        intent = self._intent_of(session)
        with_url = {**method, "return_url": session.success_url}
        self._intents.confirm(intent, with_url, is_browser=True)
        self.follow(session, intent)
        return intent

    def follow(self, session: Session, intent: Intent) -> None:
        """Complete the session when its intent has got far enough."""
        if session.status != "open" or intent.status not in (
            "succeeded",
            "requires_capture",
            "processing",
        ):
            return
        session.status = "complete"
        # Reserved is not paid, and a bank that has not answered has not paid either.
        session.payment_status = "paid" if intent.status == "succeeded" else "unpaid"
        self._store.sessions.save(session)
        self._store.emit("checkout.session.completed", session.rendered())

    def captured(self, intent: Intent) -> None:
        """What was reserved is taken now, so the session is paid."""
        if intent.session is not None:
            session = self.find(intent.session)
            session.payment_status = "paid"
            self._store.sessions.save(session)

    def _intent_of(self, session: Session) -> Intent:
        if session.payment_intent is not None:
            return self._intents.find(session.payment_intent)
        data = session.intent_data
        params = {name: data[name] for name in _INTENT_PARAMETERS if name in data}
        params |= {"amount": session.amount_total, "currency": session.currency}
        params["capture_method"] = data.get("capture_method", "automatic_async")
        params["allowed_payment_method_types"] = ["card"]
        intent = self._intents.create(params, session=session.id)
        session.payment_intent = intent.id
        self._store.sessions.save(session)
        return intent

    def _expire_by_time(self, session_id: str) -> None:
        session = self._store.sessions.find(session_id)
        if session is not None and session.status == "open":
            self._end(session)

    def _end(self, session: Session) -> None:
        session.status = "expired"
        self._store.sessions.save(session)
        if session.payment_intent is not None:
            intent = self._intents.find(session.payment_intent)
            intent.session = None
            self._intents.cancel(intent, {})
        self._store.emit("checkout.session.expired", session.rendered())

    def _read_expiry(self, expires_at: int | None) -> int:
        now_s = self._store.clock.now_s()
        if expires_at is None:
            return now_s + LIFETIME_S_MAX
        if expires_at < now_s + LIFETIME_S_MIN:
            raise invalid(
                "The `expires_at` timestamp must be at least 30 minutes from Checkout Session "
                "creation.",
                None,
                "expires_at",
            )
        if expires_at > now_s + LIFETIME_S_MAX:
            raise invalid(
                "The `expires_at` timestamp must be less than 24 hours from Checkout Session "
                "creation.",
                None,
                "expires_at",
            )
        return expires_at


def _read_lines(items: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    if not items:
        raise bad_parameter(
            "You must provide line_items when mode is payment.", "parameter_missing", "line_items"
        )
    lines: list[dict[str, Any]] = []
    currencies = set()
    for place, item in enumerate(items):
        param = f"line_items[{place}]"
        if "price_data" not in item:
            raise invalid("The sandbox has no prices; use price_data.", None, f"{param}[price]")
        price = item["price_data"]
        if "unit_amount" not in price or "product_data" not in price:
            name = "unit_amount" if "unit_amount" not in price else "product_data"
            name = f"{param}[price_data][{name}]"
            raise bad_parameter(f"Missing required param: {name}.", "parameter_missing", name)
        currencies.add(read_currency(price["currency"]))
        lines.append(
            {
                "name": price["product_data"]["name"],
                "quantity": item.get("quantity", 1),
                "unit_amount": price["unit_amount"],
            }
        )
    if len(currencies) > 1:
        raise invalid("All line items must have the same currency.", None, "line_items")
    return lines, currencies.pop()
