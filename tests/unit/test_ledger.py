"""The ledger: every movement is written once, and whatever is lost is found."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from reservation.checkout import Checkout, booked_by, cancelled_by
from reservation.ids import (
    CustomerId,
    PaymentId,
    derive_hold_id,
    derive_payment_id,
    derive_show_id,
    refund_id_of,
)
from reservation.ledger import (
    Balance,
    EntryKind,
    LedgerEntry,
    balance_faults,
    balances_of,
    entries_of,
)
from reservation.payment import CaptureMode, Payment, PaymentState
from reservation.refund_terms import RefundTerms
from reservation.refunds import Refund, RefundReason, RefundState

SHOW_ID = derive_show_id("ledger")
ANN = CustomerId("ann")
HOLD_ID = derive_hold_id(SHOW_ID, ANN, "seats")
PAYMENT = Payment(
    derive_payment_id(HOLD_ID, "pay"),
    SHOW_ID,
    HOLD_ID,
    ANN,
    "stripe",
    CaptureMode.AUTOMATIC,
    1_000,
    "EUR",
    hold_minor=1_000,
    accepts_equivalent=False,
    created_at_ms=0,
    hold_expires_at_ms=600_000,
)
REFUND = Refund(
    refund_id_of(PAYMENT.payment_id, 1), PAYMENT.payment_id, 1, 600, RefundReason.CANCELLED
)


def life() -> list[Checkout]:
    """Paid, booked, cancelled, reckoned, and paid back in part, which fails after all."""
    captured = replace(PAYMENT, state=PaymentState.CAPTURED, captured_minor=1_000)
    settled = booked_by(captured, HOLD_ID, 5)
    assert settled is not None
    cancelled = cancelled_by(settled, RefundTerms.POLICY, 9)
    reckoned = replace(cancelled, kept_minor=400)
    back = replace(reckoned, refunded_minor=600)
    succeeded = replace(REFUND, state=RefundState.SUCCEEDED)
    again = replace(REFUND, refund_id=refund_id_of(PAYMENT.payment_id, 2), number=2)
    return [
        Checkout(PAYMENT),
        Checkout(captured),
        Checkout(settled),
        Checkout(cancelled),
        Checkout(reckoned, (REFUND,)),
        Checkout(reckoned, (replace(REFUND, state=RefundState.REQUESTED),)),
        Checkout(back, (succeeded,)),
        Checkout(reckoned, (replace(REFUND, state=RefundState.FAILED), again)),
    ]


def written(states: list[Checkout]) -> list[LedgerEntry]:
    entries = list(entries_of(None, states[0], 0))
    for before, after in pairwise(states):
        entries += entries_of(before, after, 1)
    return entries


def test_every_movement_of_a_life_is_written_once() -> None:
    assert [(entry.kind, entry.amount_minor, entry.refund_id) for entry in written(life())] == [
        (EntryKind.CAPTURED, 1_000, None),
        (EntryKind.BOOKED, 1_000, None),
        (EntryKind.CANCELLED, 1_000, None),
        (EntryKind.KEPT, 400, None),
        (EntryKind.REFUNDED, 600, REFUND.refund_id),
        (EntryKind.RETURNED, 600, REFUND.refund_id),
    ]


def test_the_books_balance_after_every_step() -> None:
    states = life()
    for count in range(1, len(states) + 1):
        assert balance_faults(written(states[:count]), [states[count - 1]]) == ()


def test_a_step_that_is_learned_twice_is_written_once() -> None:
    for state in life():
        assert entries_of(state, state, 5) == ()


@pytest.mark.parametrize("lost", range(6))
def test_an_entry_that_is_lost_or_written_twice_is_found(lost: int) -> None:
    states = life()
    entries = written(states)
    assert balance_faults([*entries[:lost], *entries[lost + 1 :]], [states[-1]])
    assert balance_faults([*entries, entries[lost]], [states[-1]])
    short = entries[lost]._replace(amount_minor=entries[lost].amount_minor - 1)
    assert balance_faults([*entries[:lost], short, *entries[lost + 1 :]], [states[-1]])


def test_an_entry_of_nobody_and_one_of_nothing_are_found() -> None:
    entry = LedgerEntry(EntryKind.CAPTURED, 5, "EUR", PaymentId("pay_x"), None, 0)
    assert balance_faults([entry], []) == ("pay_x: has entries, and is no payment",)
    nothing = entry._replace(amount_minor=0)
    assert "pay_x: an entry of 0" in balance_faults([nothing], [])


@pytest.mark.parametrize(
    ("payment", "refunds"),
    [
        (replace(PAYMENT, state=PaymentState.VOIDED, captured_minor=1_000), ()),
        (replace(PAYMENT, state=PaymentState.REFUNDED, captured_minor=1_000), ()),
        (replace(PAYMENT, state=PaymentState.OPEN, captured_minor=1_000), ()),
        (replace(PAYMENT, state=PaymentState.SETTLED, captured_minor=999), ()),
        (
            replace(PAYMENT, state=PaymentState.SETTLED, captured_minor=1_000, refunded_minor=600),
            (replace(REFUND, state=RefundState.SUCCEEDED),),
        ),
        (
            replace(PAYMENT, state=PaymentState.REFUND_DUE, captured_minor=500),
            (replace(REFUND, state=RefundState.REQUESTED),),
        ),
        (replace(PAYMENT, state=PaymentState.REFUNDED, refunded_minor=600), ()),
    ],
    ids=[
        "kept though voided",
        "kept though refunded",
        "taken while open",
        "booked for less",
        "booked and paid back",
        "more back than there was",
        "a refund that nobody made",
    ],
)
def test_a_state_that_its_money_does_not_fit_is_found(
    payment: Payment, refunds: tuple[Refund, ...]
) -> None:
    checkout = Checkout(payment, refunds)
    assert balance_faults(entries_of(None, checkout, 0), [checkout])


def test_money_in_a_currency_nobody_agreed_to_is_counted_in_it() -> None:
    odd = replace(PAYMENT, state=PaymentState.REFUND_DUE, captured_minor=700, paid_currency="USD")
    refund = replace(REFUND, amount_minor=700, reason=RefundReason.NOT_BOOKED)
    checkout = Checkout(odd, (refund,))
    entries = entries_of(None, checkout, 0)
    assert balances_of(entries) == {"USD": Balance(700, 0, 0)}
    assert balance_faults(entries, [checkout]) == ()
    in_euro = [entry._replace(currency="EUR") for entry in entries]
    assert balance_faults(in_euro, [checkout])
