"""Refunds that a house grants of its own will: never too much, and the books stay in order."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from reservation.checkout import (
    Checkout,
    Learned,
    cancelled_by,
    given_minor,
    owed_minor,
    with_refunds_owed,
)
from reservation.checkout_learning import learn_reckoned
from reservation.checkout_saga import Done, FetchFromProvider, RefundMoney, decide_step
from reservation.granting import GrantRefusal, grantable_minor, learn_granted
from reservation.ledger import LedgerEntry, balance_faults, entries_of
from reservation.limits import REFUNDS_PER_PAYMENT_MAX
from reservation.payment import PaymentState
from reservation.refund_terms import RefundTerms
from reservation.refunds import RefundPolicy, RefundReason, RefundState
from tests.support.stored_payments import AT_MS, hold_of, new_payment

NOW_MS = AT_MS + 60_000
POLICY = RefundPolicy((), 0)


def settled(captured_minor: int = 1_000) -> Checkout:
    payment = replace(
        new_payment(1),
        state=PaymentState.SETTLED,
        captured_minor=captured_minor,
        booking_hold_id=hold_of(1),
        due_at_ms=None,
    )
    return with_refunds_owed(Checkout(payment), NOW_MS)


def granted(checkout: Checkout, amount_minor: int | None) -> Checkout:
    learned = learn_granted(checkout, amount_minor, NOW_MS)
    assert isinstance(learned, Learned), learned
    return learned.checkout


def ended(checkout: Checkout, number: int, state: RefundState) -> Checkout:
    """The refund of this number has come to its end."""
    refunds = tuple(
        replace(each, state=state) if each.number == number else each for each in checkout.refunds
    )
    return with_refunds_owed(replace(checkout, refunds=refunds), NOW_MS)


def cancelled(checkout: Checkout, terms: RefundTerms) -> Checkout:
    undone = replace(checkout, payment=cancelled_by(checkout.payment, terms, NOW_MS))
    return learn_reckoned(undone, POLICY, None, NOW_MS).checkout


def test_what_is_granted_is_the_next_step_and_then_there_is_none() -> None:
    checkout = granted(settled(), 300)
    step = decide_step(checkout, NOW_MS)
    assert isinstance(step, RefundMoney)
    assert (step.refund.amount_minor, step.refund.reason) == (300, RefundReason.GRANTED)
    asked = ended(checkout, 1, RefundState.REQUESTED)
    assert isinstance(decide_step(asked, NOW_MS), FetchFromProvider)
    assert isinstance(decide_step(ended(checkout, 1, RefundState.SUCCEEDED), NOW_MS), Done)


def test_no_more_is_granted_than_is_left() -> None:
    checkout = granted(settled(), 700)
    assert grantable_minor(checkout) == 300
    assert learn_granted(checkout, 301, NOW_MS) is GrantRefusal.TOO_MUCH
    checkout = granted(checkout, None)
    assert given_minor(checkout) == 1_000
    assert learn_granted(checkout, 1, NOW_MS) is GrantRefusal.NOT_EARNED


def test_money_that_was_taken_twice_is_not_granted_but_owed() -> None:
    checkout = settled(captured_minor=2_000)
    assert [refund.reason for refund in checkout.refunds] == [RefundReason.EXCESS]
    assert grantable_minor(checkout) == 1_000


@pytest.mark.parametrize("state", [s for s in PaymentState if s is not PaymentState.SETTLED])
def test_nothing_is_granted_of_a_payment_in_another_state(state: PaymentState) -> None:
    checkout = settled()
    moved = replace(checkout, payment=replace(checkout.payment, state=state))
    assert learn_granted(moved, 1, NOW_MS) is GrantRefusal.NOT_EARNED


def test_a_grant_that_fails_owes_nothing_and_can_be_granted_again() -> None:
    checkout = ended(granted(settled(), 300), 1, RefundState.FAILED)
    assert owed_minor(checkout) == 0
    assert grantable_minor(checkout) == 1_000


def test_what_was_granted_is_a_part_of_what_a_cancellation_gives() -> None:
    checkout = ended(granted(settled(), 300), 1, RefundState.SUCCEEDED)
    full = cancelled(checkout, RefundTerms.FULL)
    assert [refund.amount_minor for refund in full.refunds] == [300, 700]
    none = cancelled(checkout, RefundTerms.NONE)
    assert (none.payment.kept_minor, len(none.refunds)) == (700, 1)


def test_a_grant_that_fails_after_the_cancellation_is_owed_again() -> None:
    checkout = cancelled(granted(settled(), 300), RefundTerms.FULL)
    checkout = ended(checkout, 1, RefundState.FAILED)
    assert [refund.amount_minor for refund in checkout.refunds] == [300, 700, 300]


def test_what_was_kept_can_be_given_up_and_no_more() -> None:
    checkout = cancelled(settled(), RefundTerms.NONE)
    assert grantable_minor(checkout) == 1_000
    checkout = granted(checkout, 400)
    assert checkout.refunds[-1].reason is RefundReason.FORGONE
    assert owed_minor(checkout) == 0
    assert grantable_minor(checkout) == 600
    assert grantable_minor(cancelled(settled(), RefundTerms.FULL)) == 0


def test_there_are_only_so_many_refunds_of_a_payment() -> None:
    checkout = settled()
    for _ in range(REFUNDS_PER_PAYMENT_MAX):
        checkout = granted(checkout, 1)
    assert learn_granted(checkout, 1, NOW_MS) is GrantRefusal.TOO_MANY


@pytest.mark.parametrize("seed", range(200))
def test_the_books_are_in_order_whatever_is_granted_and_becomes_of_it(seed: int) -> None:
    luck = random.Random(seed)
    before: Checkout | None = None
    entries: list[LedgerEntry] = []
    checkout = settled(luck.choice([1_000, 2_000]))
    for _ in range(12):
        entries += entries_of(before, checkout, NOW_MS)
        assert balance_faults(entries, [checkout]) == ()
        assert given_minor(checkout) <= checkout.payment.captured_minor
        before = checkout
        alive = [refund.number for refund in checkout.refunds if refund.is_alive]
        match luck.choice(["grant", "end", "cancel"]):
            case "grant":
                learned = learn_granted(checkout, luck.choice([None, 1, 250, 400]), NOW_MS)
                if isinstance(learned, Learned):
                    checkout = learned.checkout
            case "end" if alive:
                state = luck.choice([RefundState.SUCCEEDED, RefundState.FAILED])
                checkout = ended(checkout, luck.choice(alive), state)
            case "cancel" if checkout.payment.cancelled_at_ms is None:
                checkout = cancelled(checkout, luck.choice(list(RefundTerms)))
