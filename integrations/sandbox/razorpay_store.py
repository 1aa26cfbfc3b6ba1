"""Everything the Razorpay side works with: its tables, its events, what it checks everywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import orjson

from integrations.sandbox.clock import SandboxClock
from integrations.sandbox.due_actions import DueActions
from integrations.sandbox.identifiers import random_letters
from integrations.sandbox.ledger import Ledger
from integrations.sandbox.razorpay_errors import RazorpayRefusal, bad_field
from integrations.sandbox.razorpay_objects import Order, Payment, RazorpayRefund
from integrations.sandbox.settings import RAZORPAY_ACCOUNT, Settings
from integrations.sandbox.state import Journal, Table
from integrations.sandbox.webhook_sender import WebhookSender

NOTES_MAX = 15
NOTE_LENGTH_MAX = 256
RECEIPT_LENGTH_MAX = 40


class Shown(Protocol):
    """An object of the API."""

    def rendered(self) -> dict[str, Any]: ...


class RazorpayStore:
    """One account's objects."""

    def __init__(
        self,
        clock: SandboxClock,
        settings: Settings,
        journal: Journal,
        ledger: Ledger,
        due: DueActions,
        webhooks: WebhookSender,
    ) -> None:
        self.clock = clock
        self.settings = settings
        self.ledger = ledger
        self.due = due
        self.orders = Table("razorpay_order", Order, journal)
        self.payments = Table("razorpay_payment", Payment, journal)
        self.refunds = Table("razorpay_refund", RazorpayRefund, journal)
        self._webhooks = webhooks

    def order_of(self, payment: Payment) -> Order:
        order = self.orders.find(payment.order_id)
        assert order is not None, "payments are of orders that exist"
        return order

    def emit(self, event: str, **entities: Shown) -> None:
        """Say that something happened to these."""
        body = orjson.dumps(
            {
                "entity": "event",
                "account_id": RAZORPAY_ACCOUNT,
                "event": event,
                "contains": list(entities),
                "payload": {name: {"entity": row.rendered()} for name, row in entities.items()},
                "created_at": self.clock.now_s(),
            }
        ).decode()
        self._webhooks.send("razorpay", random_letters(14), event, body)


def check_fields(data: dict[str, Any], known: Iterable[str]) -> None:
    """Refuse what the operation does not know.

    Raises:
        RazorpayRefusal: there is such a field.
    """
    unknown = [name for name in data if name not in known]
    if unknown:
        raise RazorpayRefusal(
            f"{', '.join(unknown)} is/are not required and should not be sent", is_checked=False
        )


def read_amount(data: dict[str, Any], currency: str, *, field: str = "amount") -> int:
    """An amount of at least one unit of the currency.

    Raises:
        RazorpayRefusal: it is missing, no whole number, or too little.
    """
    if data.get(field) is None:
        raise bad_field(f"The {field} field is required.", field)
    amount = data[field]
    if isinstance(amount, str) and amount.isdecimal():
        amount = int(amount)
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise bad_field(f"The {field} must be an integer.", field)
    if amount < 100:
        raise bad_field(f"The {field} must be at least {currency} 1.00", field)
    return amount


def read_notes(data: dict[str, Any]) -> dict[str, Any]:
    """The notes.

    Raises:
        RazorpayRefusal: there are too many, or they are too long.
    """
    notes = data.get("notes") or {}
    if not isinstance(notes, dict):
        raise bad_field("The notes must be an array.", "notes")
    if len(notes) > NOTES_MAX:
        raise bad_field("Number of fields in notes should be less than or equal to 15", "notes")
    for key, value in notes.items():
        if len(str(key)) > NOTE_LENGTH_MAX or len(str(value)) > NOTE_LENGTH_MAX:
            raise bad_field("A note may not be greater than 256 characters.", "notes")
    return notes


def read_receipt(data: dict[str, Any]) -> str | None:
    """The receipt.

    Raises:
        RazorpayRefusal: it is too long.
    """
    receipt = data.get("receipt")
    if receipt is None:
        return None
    if not isinstance(receipt, str):
        raise bad_field("The receipt must be a string.", "receipt")
    if len(receipt) > RECEIPT_LENGTH_MAX:
        raise bad_field("The receipt may not be greater than 40 characters.", "receipt")
    return receipt
