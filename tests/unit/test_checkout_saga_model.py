"""Every order of events around one payment, and mutants of the saga that must not survive it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from reservation.checkout import Checkout
from reservation.checkout_learning import given_up, learn_delay
from reservation.checkout_provider import learn_provider
from reservation.checkout_saga import (
    CaptureMoney,
    ConfirmAtShow,
    Done,
    FetchFromProvider,
    RefundMoney,
    Step,
    VoidAtProvider,
    decide_step,
)
from reservation.ids import HoldId, RefundId, refund_id_of
from reservation.payment import Payment, PaymentState
from reservation.refunds import RefundState
from tests.support.checkout_model import AMOUNT, Broken, Left, Model, Saga

BOOKED, NOTHING = (PaymentState.SETTLED, True), (PaymentState.VOIDED, False)
REFUNDED, CANCELLED = (PaymentState.REFUNDED, False), (PaymentState.SETTLED, False)
QUIET = Left(faults=0, failures=0, give_ups=0, show_cancels=0)


# -- the saga holds -----------------------------------------------------------------------------


@pytest.mark.parametrize("capture_tells", [False, True])
def test_reserved_money_and_places_change_hands_together_or_not_at_all(capture_tells: bool) -> None:
    model = Model(capture_tells=capture_tells)
    assert model.explore(Left(faults=1)) > 20_000
    # No money moves unless there is a booking: nothing ever has to be refunded but a booking.
    assert model.ends == {BOOKED, NOTHING, CANCELLED}


def test_captured_money_ends_as_a_booking_or_goes_back() -> None:
    model = Model(is_automatic=True)
    assert model.explore(Left(faults=1)) > 20_000
    assert model.ends == {BOOKED, NOTHING, CANCELLED, REFUNDED}


@pytest.mark.parametrize("is_automatic", [False, True])
@pytest.mark.parametrize("again_answer", ["other_price", "taken"])
def test_a_late_success_without_its_places_costs_nothing(
    is_automatic: bool, again_answer: str
) -> None:
    model = Model(is_automatic=is_automatic, again_answer=again_answer)
    model.explore(replace_left(faults=1))
    assert (REFUNDED if is_automatic else NOTHING) in model.ends


@pytest.mark.parametrize("is_automatic", [False, True])
def test_a_cancelled_booking_is_paid_back_once_however_often_refunds_fail(
    is_automatic: bool,
) -> None:
    model = Model(is_automatic=is_automatic)
    model.explore(replace_left(faults=1, booking_cancels=1, refund_failures=1))
    assert {BOOKED, CANCELLED} <= model.ends


def test_what_was_paid_back_and_came_back_is_paid_back_again() -> None:
    model = Model(is_automatic=True)
    model.explore(replace_left(faults=1, give_ups=1, refund_failures=1))
    assert REFUNDED in model.ends


def test_whoever_pays_twice_is_charged_once() -> None:
    model = Model(is_automatic=True)
    model.explore(replace_left(faults=1, charges=2))
    assert {BOOKED, REFUNDED} <= model.ends


def test_a_booking_whose_authorisation_lapses_is_cancelled() -> None:
    model = Model()
    model.explore(replace_left(faults=1, lapses=1))
    assert BOOKED in model.ends


@pytest.mark.parametrize("is_automatic", [False, True])
def test_a_payment_of_another_amount_is_never_booked(is_automatic: bool) -> None:
    model = Model(is_automatic=is_automatic, amount_at_provider=AMOUNT + 1)
    model.explore(Left(faults=1))
    assert model.ends == ({NOTHING, REFUNDED} if is_automatic else {NOTHING})


@pytest.mark.slow_faults
@pytest.mark.parametrize("again_answer", ["same_price", "other_price", "taken"])
@pytest.mark.parametrize("is_automatic", [False, True])
@pytest.mark.parametrize(
    "left",
    [
        Left(faults=1),
        Left(faults=2, failures=0),
        Left(faults=0, late=1, failures=0),
        Left(faults=0, late=1, booking_cancels=1, failures=0, give_ups=0, refund_failures=1),
        Left(faults=1, booking_cancels=1, failures=0, give_ups=0, refund_failures=1),
        Left(faults=1, lapses=1, give_ups=0),
        Left(faults=1, charges=2, failures=0, give_ups=0, show_cancels=0, late=1),
    ],
    ids=str,
)
def test_the_saga_holds_in_larger_worlds(left: Left, is_automatic: bool, again_answer: str) -> None:
    model = Model(is_automatic=is_automatic, again_answer=again_answer)
    assert model.explore(left, worlds_max=1_000_000) > 1_000
    assert BOOKED in model.ends


def replace_left(**left: int) -> Left:
    return QUIET._replace(**left)


# -- what would go wrong without each rule ------------------------------------------------------


def gives_up_on_silence(checkout: Checkout, step: Step, now_ms: int) -> Checkout:
    if isinstance(step, ConfirmAtShow):
        return given_up(checkout, now_ms)
    return learn_delay(checkout, now_ms, 0).checkout


def believes_any_amount(checkout: Checkout, seen: Any, refunds: Any, now_ms: int) -> Any:
    agreed = checkout.payment.amount_minor
    trusted = seen._replace(
        amount_minor=agreed, captured_minor=agreed if seen.captured_minor else 0
    )
    return learn_provider(checkout, trusted, refunds, now_ms)


def leaves_the_secret_usable(checkout: Checkout, now_ms: int) -> Step:
    step = decide_step(checkout, now_ms)
    is_open = checkout.payment.state in (PaymentState.OPEN, PaymentState.FAILED)
    return Done() if is_open and isinstance(step, VoidAtProvider) else step


def waits_for_webhooks(checkout: Checkout, now_ms: int) -> Step:
    step = decide_step(checkout, now_ms)
    is_open = checkout.payment.state in (PaymentState.OPEN, PaymentState.FAILED)
    if is_open and isinstance(step, FetchFromProvider) and not checkout.payment.is_noticed:
        return Done()
    return step


def captures_first(checkout: Checkout, now_ms: int) -> Step:
    step = decide_step(checkout, now_ms)
    if isinstance(step, ConfirmAtShow) and checkout.payment.state is PaymentState.AUTHORISED:
        return CaptureMoney(AMOUNT, "cap")
    return step


def refunds_again_without_looking(checkout: Checkout, step: Step, now_ms: int) -> Checkout:
    if not isinstance(step, RefundMoney):
        return learn_delay(checkout, now_ms, 0).checkout
    lost = step.refund
    number = len(checkout.refunds) + 1
    if number > 2:
        return checkout
    new_id: RefundId = refund_id_of(lost.payment_id, number)
    again = replace(
        lost,
        refund_id=new_id,
        number=number,
        state=RefundState.DUE,
        first_asked_at_ms=None,
    )
    given_away = replace(lost, state=RefundState.FAILED)
    refunds = tuple(
        given_away if each.refund_id == lost.refund_id else each for each in checkout.refunds
    )
    return replace(checkout, refunds=(*refunds, again))


def books_with_anything(payment: Payment, hold_id: HoldId, at_ms: int) -> Payment | None:
    return replace(
        payment,
        state=PaymentState.SETTLED if payment.captured_minor else PaymentState.BOOKED,
        state_at_ms=at_ms,
        booking_hold_id=hold_id,
        due_at_ms=at_ms,
    )


def forgets_late_money(checkout: Checkout, seen: Any, refunds: Any, now_ms: int) -> Any:
    payment = checkout.payment
    if payment.state in (PaymentState.VOIDED, PaymentState.VOID_DUE) and seen.captured_minor:
        ended = replace(payment, state=PaymentState.VOIDED, is_noticed=False, due_at_ms=None)
        return replace(checkout, payment=ended)
    return learn_provider(checkout, seen, refunds, now_ms)


def never_looks_at_refunds(checkout: Checkout, now_ms: int) -> Step:
    step = decide_step(checkout, now_ms)
    return replace(step, with_refunds=False) if isinstance(step, FetchFromProvider) else step


def captures_what_lapsed_for_ever(checkout: Checkout, now_ms: int) -> Step:
    payment = replace(checkout.payment, is_uncollectable=False)
    return decide_step(replace(checkout, payment=payment), now_ms)


MUTANTS: dict[str, tuple[Callable[[], Model], Left, str]] = {
    "gives up on silence": (
        lambda: Model(Saga(unknown=gives_up_on_silence)),
        QUIET._replace(faults=1),
        "given up although nobody said no",
    ),
    "voids at once on silence": (
        lambda: Model(Saga(acts_blindly=True)),
        QUIET._replace(faults=1),
        "given up although nobody said no",
    ),
    "refunds at once on silence": (
        lambda: Model(Saga(acts_blindly=True), is_automatic=True),
        QUIET._replace(faults=1),
        "booked, and paid back all the same",
    ),
    "believes any amount": (
        lambda: Model(Saga(provider_says=believes_any_amount), amount_at_provider=AMOUNT - 1),
        QUIET,
        "booked for another amount",
    ),
    "leaves the secret usable": (
        lambda: Model(Saga(decide=leaves_the_secret_usable, reconciles=False)),
        QUIET,
        "ends unfinished: open",
    ),
    "loses money with a webhook": (
        lambda: Model(Saga(decide=waits_for_webhooks, reconciles=False), is_automatic=True),
        QUIET,
        "ends unfinished",
    ),
    "captures before it books": (
        lambda: Model(Saga(decide=captures_first)),
        QUIET,
        "captured before it was booked",
    ),
    "refunds twice without a look": (
        lambda: Model(Saga(unknown=refunds_again_without_looking), is_automatic=True),
        QUIET._replace(faults=1, booking_cancels=1),
        "ledger does not add up: .* settled with -500 in flight",
    ),
    "books with a payment that was let go": (
        lambda: Model(Saga(books=books_with_anything), is_automatic=True),
        QUIET._replace(give_ups=1),
        "ledger does not add up",
    ),
    "saves over what others saved": (
        lambda: Model(Saga(compares_versions=False)),
        QUIET._replace(booking_cancels=1),
        "ledger does not add up",
    ),
    "forgets money that comes late": (
        lambda: Model(Saga(provider_says=forgets_late_money), is_automatic=True),
        QUIET._replace(give_ups=1),
        "neither places nor money back: 1000",
    ),
    "never looks at refunds": (
        lambda: Model(Saga(decide=never_looks_at_refunds), is_automatic=True),
        QUIET._replace(booking_cancels=1),
        "ends unfinished: settled",
    ),
    "captures what lapsed for ever": (
        lambda: Model(Saga(decide=captures_what_lapsed_for_ever)),
        QUIET._replace(lapses=1),
        "never ends",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_saga_without_this_rule_is_caught(name: str) -> None:
    make, left, finding = MUTANTS[name]
    with pytest.raises(Broken, match=finding):
        make().explore(left)


@pytest.mark.parametrize("name", MUTANTS)
def test_the_whole_saga_holds_where_its_mutant_is_caught(name: str) -> None:
    make, left, _ = MUTANTS[name]
    mutant = make()
    known = worlds_that_hold(
        left, mutant.again_answer, mutant.amount_at_provider, mutant.is_automatic
    )
    assert known > 50


@cache
def worlds_that_hold(
    left: Left, again_answer: str, amount_at_provider: int, is_automatic: bool
) -> int:
    """How many there are; several mutants live in the same worlds."""
    sound = Model(
        again_answer=again_answer,
        amount_at_provider=amount_at_provider,
        is_automatic=is_automatic,
    )
    return sound.explore(left)
