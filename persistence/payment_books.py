"""The books about money: a show's ledger, what it must add up to, and alarms.

The ledger is written by the database itself, in the statement that changes a payment or a refund.
``ShowMoney`` holds it against the payments, the refunds and the bookings, counted anew:

    captured = earned + refunded + in flight
    earned   = booked and captured + kept - given up
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from persistence.catalogue_text import checked_text
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.ids import ShowId
from reservation.ledger import EntryKind, LedgerEntry

_QUERIES = load_queries("payments.sql")

ENTRIES_PER_PAGE_MAX = 1_000
ALARMS_LISTED_MAX = 1_000

_KIND_LENGTH_MAX = 60
_SUBJECT_LENGTH_MAX = 300
_DETAIL_LENGTH_MAX = 1_000


class NumberedEntry(NamedTuple):
    """An entry and its number; those of a show count from 1, without a gap."""

    number: int
    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class ShowMoney:
    """The money of a show in one currency, as its rows say it, and as its ledger does.

    Shapes:
        booked_minor: paid, or promised, for bookings that stand.
        promised_minor: the part of it that is still to be captured.
        refunds_minor: what the refunds that succeeded add up to, one by one.
        given_up_minor: the part of it that the house had earned and gave back of its own will.
        entries_minor: the sum of the ledger's entries of each kind.
    """

    currency: str
    captured_minor: int
    refunded_minor: int
    kept_minor: int
    booked_minor: int
    promised_minor: int
    refunds_minor: int
    given_up_minor: int
    entries_minor: dict[EntryKind, int]

    @property
    def earned_minor(self) -> int:
        """Captured, and the house's for good."""
        there_minor = self.booked_minor - self.promised_minor + self.kept_minor
        return there_minor - self.given_up_minor

    @property
    def in_flight_minor(self) -> int:
        """Captured, and neither earned nor paid back yet."""
        return self.captured_minor - self.refunded_minor - self.earned_minor

    def disagreements(self) -> list[str]:
        """What does not add up; nothing, when all is well."""
        entries = {kind: self.entries_minor.get(kind, 0) for kind in EntryKind}
        refunded = entries[EntryKind.REFUNDED] - entries[EntryKind.RETURNED]
        booked = entries[EntryKind.BOOKED] - entries[EntryKind.CANCELLED]
        sides = {
            "captured by the ledger": (entries[EntryKind.CAPTURED], self.captured_minor),
            "booked by the ledger": (booked, self.booked_minor),
            "kept by the ledger": (entries[EntryKind.KEPT], self.kept_minor),
            "refunded by the ledger": (refunded, self.refunded_minor),
            "refunded by its refunds": (self.refunds_minor, self.refunded_minor),
        }
        return [
            f"{what}: {one} {self.currency}, and {other} by the payments"
            for what, (one, other) in sides.items()
            if one != other
        ]


class AlarmRow(NamedTuple):
    """Something that a person has to look at.

    Shapes:
        subject: a payment id; for what is not ours, the provider and its reference.
        seen_count: how often it was seen since it was raised.
    """

    alarm_id: int
    kind: str
    subject: str
    show_id: ShowId | None
    detail: str
    seen_count: int
    raised_at_ms: int
    seen_at_ms: int


class PaymentBooks:
    """Reads the ledgers of one database, and keeps its alarms.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached.
        OutcomeUnknown: from the writing methods, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_application``; those of
            ``housefull_organiser`` are enough for reading.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def ledger(
        self, show_id: ShowId, after: int = 0, limit: int = ENTRIES_PER_PAGE_MAX
    ) -> list[NumberedEntry]:
        """A show's entries after this number; fewer than ``limit`` at the end."""
        assert 1 <= limit <= ENTRIES_PER_PAGE_MAX, "a page of this length"
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["list_entries"], show_id, after, limit)
        return [
            NumberedEntry(number, LedgerEntry(EntryKind(kind), *rest))
            for number, kind, *rest in rows
        ]

    async def sums(self, show_id: ShowId) -> list[ShowMoney]:
        """A show's money, at one moment, in each currency that there is any of."""
        async with (
            reading(self._pool) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            entries = await connection.fetch(_QUERIES["sum_entries"], show_id)
            payments = await connection.fetch(_QUERIES["sum_payments"], show_id)
        by_currency: dict[str, dict[EntryKind, int]] = {}
        for row in entries:
            kinds = by_currency.setdefault(row["currency"], {})
            kinds[EntryKind(row["kind"])] = row["amount_minor"]
        money = [
            ShowMoney(**dict(row), entries_minor=by_currency.pop(row["currency"], {}))
            for row in payments
        ]
        # Entries of a currency that no payment has any more are a disagreement of their own.
        money += [ShowMoney(each, *(0,) * 7, kinds) for each, kinds in by_currency.items()]
        return sorted(money, key=lambda each: each.currency)

    async def raise_alarm(
        self, kind: str, subject: str, detail: str, show_id: ShowId | None = None
    ) -> bool:
        """Say that somebody has to look; False when it was said already and nobody has."""
        checked_text("kind", kind, _KIND_LENGTH_MAX)
        checked_text("subject", subject, _SUBJECT_LENGTH_MAX)
        detail = detail.replace("\0", "")[:_DETAIL_LENGTH_MAX]
        async with writing(self._pool) as connection:
            is_new: bool = await connection.fetchval(
                _QUERIES["raise_alarm"], kind, subject, show_id, detail
            )
        return is_new

    async def resolve_alarm(self, alarm_id: int, resolved_by: str) -> bool:
        """Somebody has looked; False when there is no such open alarm."""
        async with writing(self._pool) as connection:
            is_resolved: bool = await connection.fetchval(
                _QUERIES["resolve_alarm"], alarm_id, resolved_by
            )
        return is_resolved

    async def alarms(self, limit: int = ALARMS_LISTED_MAX) -> list[AlarmRow]:
        """Open alarms, the oldest first."""
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["list_open_alarms"], limit)
        return [AlarmRow(*row) for row in rows]
