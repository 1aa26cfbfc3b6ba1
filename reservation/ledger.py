"""The ledger: what happened to the money of a show, and the proof that none of it is lost.

Entries are only ever added, in the transaction that changes what they are about:

    captured    the provider took it for us
    booked      a booking was made for it
    cancelled   that booking was undone
    kept        this much of it stays with the house all the same
    refunded    it went back
    returned    a refund failed after all: it is here again

so at any moment, for every payment and to the minor unit,

    captured = earned + given back + in flight
    earned     = booked - cancelled + kept
    given back = refunded - returned

and *in flight* is what the state of the payment says it is: nothing, for one that has ended. What
the house gives back of its own will (``checkout.granted_minor``) it had earned before; in flight is
below 0 by so much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from reservation.checkout import (
    Checkout,
    earned_minor,
    granted_minor,
    in_flight_minor,
    is_booked,
    owed_minor,
    returned_minor,
)
from reservation.ids import PaymentId, RefundId
from reservation.payment import PaymentState
from reservation.refunds import RefundState


class EntryKind(StrEnum):
    """What an entry is about; see the module's docstring."""

    CAPTURED = "captured"
    BOOKED = "booked"
    CANCELLED = "cancelled"
    KEPT = "kept"
    REFUNDED = "refunded"
    RETURNED = "returned"


class LedgerEntry(NamedTuple):
    """One movement.

    Units:
        amount_minor: above 0, in minor units of ``currency``.

    Shapes:
        refund_id: which refund, for ``REFUNDED`` and ``RETURNED``.
    """

    kind: EntryKind
    amount_minor: int
    currency: str
    payment_id: PaymentId
    refund_id: RefundId | None
    at_ms: int


class Balance(NamedTuple):
    """What a set of entries adds up to, in one currency."""

    captured_minor: int
    earned_minor: int
    given_back_minor: int

    @property
    def in_flight_minor(self) -> int:
        """What is neither earned nor given back."""
        return self.captured_minor - self.earned_minor - self.given_back_minor


def entries_of(before: Checkout | None, after: Checkout, at_ms: int) -> tuple[LedgerEntry, ...]:
    """What is to be written when a checkout becomes another; None before it began."""
    payment = after.payment
    paid_currency = payment.paid_currency or payment.currency
    entries: list[LedgerEntry] = []

    def write(
        kind: EntryKind, amount_minor: int, currency: str, refund_id: RefundId | None = None
    ) -> None:
        if amount_minor:
            entry = LedgerEntry(kind, amount_minor, currency, payment.payment_id, refund_id, at_ms)
            entries.append(entry)

    was = None if before is None else before.payment
    captured_before = 0 if was is None else was.captured_minor
    write(EntryKind.CAPTURED, payment.captured_minor - captured_before, paid_currency)
    if is_booked(payment) and not (was is not None and is_booked(was)):
        write(EntryKind.BOOKED, payment.amount_minor, payment.currency)
    if payment.cancelled_at_ms is not None and (was is None or was.cancelled_at_ms is None):
        write(EntryKind.CANCELLED, payment.amount_minor, payment.currency)
    if payment.kept_minor is not None and (was is None or was.kept_minor is None):
        write(EntryKind.KEPT, payment.kept_minor, payment.currency)
    succeeded_before = {
        refund.refund_id
        for refund in (before.refunds if before is not None else ())
        if refund.state is RefundState.SUCCEEDED
    }
    for refund in after.refunds:
        succeeded = refund.state is RefundState.SUCCEEDED
        if succeeded == (refund.refund_id in succeeded_before):
            continue
        kind = EntryKind.REFUNDED if succeeded else EntryKind.RETURNED
        write(kind, refund.amount_minor, paid_currency, refund.refund_id)
    return tuple(entries)


def balances_of(entries: Iterable[LedgerEntry]) -> dict[str, Balance]:
    """What the entries add up to, for each currency.

    Example:
        >>> paid = LedgerEntry(EntryKind.CAPTURED, 900, "EUR", PaymentId("pay_1"), None, 5)
        >>> booked = paid._replace(kind=EntryKind.BOOKED, amount_minor=700)
        >>> balance = balances_of([paid, booked])["EUR"]
        >>> balance.captured_minor, balance.earned_minor, balance.in_flight_minor
        (900, 700, 200)
    """
    sums: Counter[tuple[str, EntryKind]] = Counter()
    for entry in entries:
        sums[entry.currency, entry.kind] += entry.amount_minor
    return {
        currency: Balance(
            sums[currency, EntryKind.CAPTURED],
            sums[currency, EntryKind.BOOKED]
            - sums[currency, EntryKind.CANCELLED]
            + sums[currency, EntryKind.KEPT],
            sums[currency, EntryKind.REFUNDED] - sums[currency, EntryKind.RETURNED],
        )
        for currency in sorted({currency for currency, _ in sums})
    }


_NOTHING = Balance(0, 0, 0)


def balance_faults(
    entries: Iterable[LedgerEntry], checkouts: Iterable[Checkout]
) -> tuple[str, ...]:
    """Everything in which the ledger and the payments do not agree; nothing, when all is well.

    Args:
        entries: all of a show, or of several.
        checkouts: all of the same shows.
    """
    of_payment: dict[PaymentId, list[LedgerEntry]] = {}
    faults: list[str] = []
    for entry in entries:
        if entry.amount_minor <= 0:
            faults.append(f"{entry.payment_id}: an entry of {entry.amount_minor}")
        of_payment.setdefault(entry.payment_id, []).append(entry)
    for checkout in checkouts:
        own = of_payment.pop(checkout.payment.payment_id, [])
        faults.extend(f"{checkout.payment.payment_id}: {fault}" for fault in _faults(own, checkout))
    faults.extend(f"{payment_id}: has entries, and is no payment" for payment_id in of_payment)
    return tuple(faults)


def _faults(entries: list[LedgerEntry], checkout: Checkout) -> Iterable[str]:
    payment = checkout.payment
    balances = balances_of(entries)
    if balances.keys() - {payment.paid_currency or payment.currency}:
        yield f"has entries in {', '.join(balances)}"
        return
    written = next(iter(balances.values()), _NOTHING)
    expected = Balance(payment.captured_minor, earned_minor(payment), returned_minor(checkout))
    for what in Balance._fields:
        ours, theirs = getattr(expected, what), getattr(written, what)
        if ours != theirs:
            yield f"{what}: {ours}, in the ledger {theirs}"
    if payment.refunded_minor != expected.given_back_minor:
        yield f"says {payment.refunded_minor} went back, its refunds {expected.given_back_minor}"
    in_flight = in_flight_minor(checkout)
    alive = sum(refund.amount_minor for refund in checkout.refunds if refund.is_alive)
    on_its_way = alive + owed_minor(checkout)
    yield from _faults_in_flight(checkout, in_flight, on_its_way)


def _faults_in_flight(checkout: Checkout, in_flight: int, on_its_way: int) -> Iterable[str]:
    payment = checkout.payment
    match payment.state:
        case PaymentState.VOIDED | PaymentState.REFUNDED:
            expected = 0
        case PaymentState.REFUND_DUE:
            expected = on_its_way
        case PaymentState.CAPTURED:
            expected = payment.amount_minor + on_its_way
        case PaymentState.BOOKED:
            due = payment.amount_minor if payment.cancelled_at_ms is None else 0
            expected = payment.captured_minor - due
        case PaymentState.SETTLED:
            is_unreckoned = payment.cancelled_at_ms is not None and payment.kept_minor is None
            expected = on_its_way + (payment.amount_minor if is_unreckoned else 0)
            expected -= granted_minor(checkout)
        case _:
            expected = 0
    if in_flight != expected:
        yield f"{payment.state} with {in_flight} in flight instead of {expected}"
