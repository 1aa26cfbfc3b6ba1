"""Razorpay's objects as the sandbox keeps them, and as Razorpay's clients see them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


def shown_notes(notes: dict[str, Any]) -> Any:
    """Notes; an empty list when there are none, as PHP would have it."""
    return notes or []


@dataclass(slots=True)
class Order:
    """What is to be paid.

    Shapes:
        status: ``created``, ``attempted`` once somebody tried, ``paid``.
        captures: its payments are captured at once.
        payments: ids, the latest last.
    """

    id: str
    amount: int
    currency: str
    created_at: int
    receipt: str | None
    notes: dict[str, Any]
    captures: bool
    status: str = "created"
    amount_paid: int = 0
    attempts: int = 0
    payments: list[str] = field(default_factory=list)

    @property
    def created(self) -> int:
        return self.created_at

    def rendered(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "id": self.id,
            "entity": "order",
            "amount": self.amount,
            "amount_paid": self.amount_paid,
            "amount_due": self.amount - self.amount_paid,
            "currency": self.currency,
            "receipt": self.receipt,
            "offer_id": None,
            "status": self.status,
            "attempts": self.attempts,
            "notes": shown_notes(self.notes),
            "created_at": self.created_at,
        }


@dataclass(slots=True)
class Payment:
    """One try of a customer to pay an order.

    Shapes:
        status: ``created``, ``authorized``, ``captured``, ``refunded`` (all of it), ``failed``.
        refunds: ids, the latest last.
    """

    id: str
    order_id: str
    amount: int
    currency: str
    created_at: int
    method: str
    notes: dict[str, Any]
    status: str = "created"
    is_captured: bool = False
    amount_refunded: int = 0
    refunds: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None

    @property
    def created(self) -> int:
        return self.created_at

    def rendered(self) -> dict[str, Any]:
        """As the API shows it."""
        error = self.error or {}
        refund_status = None
        if self.amount_refunded:
            refund_status = "full" if self.amount_refunded == self.amount else "partial"
        return {
            "id": self.id,
            "entity": "payment",
            "amount": self.amount,
            "currency": self.currency,
            "status": self.status,
            "order_id": self.order_id,
            "invoice_id": None,
            "international": False,
            "method": self.method,
            "amount_refunded": self.amount_refunded,
            "refund_status": refund_status,
            "captured": self.is_captured,
            "description": None,
            "card_id": None,
            "bank": "HDFC" if self.method == "netbanking" else None,
            "wallet": "payzapp" if self.method == "wallet" else None,
            "vpa": "success@razorpay" if self.method == "upi" else None,
            "email": "void@razorpay.com",
            "contact": "+919000000000",
            "notes": shown_notes(self.notes),
            "fee": 0 if self.is_captured else None,
            "tax": 0 if self.is_captured else None,
            "error_code": error.get("code"),
            "error_description": error.get("description"),
            "error_source": error.get("source"),
            "error_step": error.get("step"),
            "error_reason": error.get("reason"),
            "acquirer_data": {},
            "created_at": self.created_at,
        }


@dataclass(slots=True)
class RazorpayRefund:
    """Money on its way back.

    Shapes:
        status: ``pending``, ``processed``, ``failed``.
    """

    id: str
    payment_id: str
    amount: int
    currency: str
    created_at: int
    notes: dict[str, Any]
    receipt: str | None
    speed: str
    status: str

    @property
    def created(self) -> int:
        return self.created_at

    def rendered(self) -> dict[str, Any]:
        """As the API shows it."""
        shown = asdict(self)
        speed = shown.pop("speed")
        return shown | {
            "entity": "refund",
            "notes": shown_notes(self.notes),
            "acquirer_data": {"arn": None},
            "batch_id": None,
            "speed_requested": speed,
            "speed_processed": "normal" if self.status == "processed" else None,
        }
