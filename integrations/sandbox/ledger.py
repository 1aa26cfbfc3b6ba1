"""The books: every movement of money, and their sums, for a test to compare with its own."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from integrations.sandbox.clock import SandboxClock
from integrations.sandbox.identifiers import random_letters
from integrations.sandbox.state import Journal, Table


@dataclass(frozen=True, slots=True)
class Entry:
    """One movement.

    Shapes:
        payment: the provider's id: of a PaymentIntent, of a Razorpay payment.
        kind: ``captured``, ``refunded``, ``refund_failed``.

    Units:
        amount_minor: minor units of ``currency``, never negative.
    """

    id: str
    provider: str
    payment: str
    kind: str
    amount_minor: int
    currency: str
    at_ms: int


class Ledger:
    """Entries are only added; sums are kept beside them."""

    def __init__(self, clock: SandboxClock, journal: Journal) -> None:
        self._clock = clock
        self._entries = Table("ledger", Entry, journal)
        self._sums: dict[tuple[str, str, str], int] = defaultdict(int)
        self._payments: dict[str, list[Entry]] = defaultdict(list)

    def opened(self) -> None:
        """Add up what was read from the file."""
        for entry in self._entries:
            self._count(entry)

    def add(self, provider: str, payment: str, kind: str, amount_minor: int, currency: str) -> None:
        """Write one movement down."""
        entry = Entry(
            random_letters(16),
            provider,
            payment,
            kind,
            amount_minor,
            currency.upper(),
            self._clock.now_ms(),
        )
        self._entries.save(entry)
        self._count(entry)

    def _count(self, entry: Entry) -> None:
        self._sums[entry.provider, entry.currency, entry.kind] += entry.amount_minor
        self._payments[entry.payment].append(entry)

    def statement(self) -> dict[str, Any]:
        """Per provider and currency: what was captured, what went back, what is left."""
        accounts: dict[str, dict[str, dict[str, int]]] = {}
        for (provider, currency, kind), amount_minor in sorted(self._sums.items()):
            account = accounts.setdefault(provider, {}).setdefault(
                currency, {"captured": 0, "refunded": 0, "net": 0}
            )
            if kind == "captured":
                account["captured"] += amount_minor
            else:
                account["refunded"] += amount_minor if kind == "refunded" else -amount_minor
            account["net"] = account["captured"] - account["refunded"]
        return accounts

    def of_payment(self, payment: str) -> dict[str, Any]:
        """The same for one payment, with its entries."""
        entries = self._payments.get(payment, [])
        captured = sum(entry.amount_minor for entry in entries if entry.kind == "captured")
        refunded = sum(
            entry.amount_minor if entry.kind == "refunded" else -entry.amount_minor
            for entry in entries
            if entry.kind != "captured"
        )
        return {
            "payment": payment,
            "captured": captured,
            "refunded": refunded,
            "net": captured - refunded,
            "entries": entries,
        }

    def payments(self) -> list[str]:
        """Ids of all payments for which money moved."""
        return list(self._payments)
