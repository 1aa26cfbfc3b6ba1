"""The saga's rules one by one, where the model only says that they hold together."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reservation import checkout_pace
from reservation.checkout import (
    AlarmKind,
    Checkout,
    Learned,
    alarms_of,
    booked_by,
    cancelled_by,
    owed_minor,
    replacement_hold_id,
)
from reservation.checkout_learning import (
    learn_confirm_rejected,
    learn_delay,
    learn_extended,
    learn_given_up,
    learn_held_again,
    learn_hold_again_rejected,
    learn_notice,
    learn_reckoned,
    learn_released,
)
from reservation.checkout_pace import HOLD_END_GRACE_MS, backoff_ms
from reservation.checkout_provider import (
    ABSENCE_PROVES_AFTER_MS,
    REGRESS_BELIEVED_AFTER_MS,
    learn_absent,
    learn_create_refused,
    learn_made,
    learn_provider,
    learn_refund_answer,
    learn_refund_requested,
    learn_refused,
    learn_voided,
)
from reservation.checkout_saga import (
    CancelUnpaid,
    CaptureMoney,
    ConfirmAtShow,
    CreateAtProvider,
    Done,
    FetchFromProvider,
    HoldAgain,
    ReckonCancellation,
    RefundMoney,
    ReleaseAgain,
    Step,
    VoidAtProvider,
    Wait,
    decide_step,
)
from reservation.ids import (
    CustomerId,
    booking_id_of,
    derive_hold_id,
    derive_payment_id,
    derive_show_id,
    payment_id_of,
    refund_id_of,
    show_id_of,
)
from reservation.limits import AMOUNT_MINOR_MAX, REFUNDS_PER_PAYMENT_MAX
from reservation.payment import CaptureMode, Claim, Payment, PaymentState
from reservation.refund_terms import RefundTerms
from reservation.refunds import (
    Refund,
    RefundBand,
    RefundPolicy,
    RefundReason,
    RefundState,
)
from reservation.rejections import Rejection

SHOW_ID = derive_show_id("saga")
ANN = CustomerId("ann")
HOLD_ID = derive_hold_id(SHOW_ID, ANN, "seats")
MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
ENDS_AT_MS = 600_000
OVER_AT_MS = ENDS_AT_MS + HOLD_END_GRACE_MS
CREATED = Payment(
    derive_payment_id(HOLD_ID, "pay"),
    SHOW_ID,
    HOLD_ID,
    ANN,
    "stripe",
    CaptureMode.MANUAL,
    1_000,
    "EUR",
    hold_minor=900,
    accepts_equivalent=True,
    created_at_ms=0,
    hold_expires_at_ms=ENDS_AT_MS,
)
ID = CREATED.payment_id
AGAIN_ID = replacement_hold_id(CREATED)
OPEN = replace(CREATED, state=PaymentState.OPEN, provider_ref="pi_1")
AUTHORISED = replace(OPEN, state=PaymentState.AUTHORISED)
CAPTURED = replace(OPEN, state=PaymentState.CAPTURED, captured_minor=1_000)
BOOKED = replace(AUTHORISED, state=PaymentState.BOOKED, booking_hold_id=HOLD_ID)
SETTLED = replace(CAPTURED, state=PaymentState.SETTLED, booking_hold_id=HOLD_ID)
VOID_DUE = replace(OPEN, state=PaymentState.VOID_DUE, claim=Claim.GIVEN_UP)
VOIDED = replace(VOID_DUE, state=PaymentState.VOIDED, due_at_ms=None)
REFUND_1 = Refund(refund_id_of(ID, 1), ID, 1, 1_000, RefundReason.NOT_BOOKED)
REFUND_DUE = Checkout(
    replace(CAPTURED, state=PaymentState.REFUND_DUE, claim=Claim.GIVEN_UP), (REFUND_1,)
)
FETCH = FetchFromProvider(with_refunds=False)


class Seen(NamedTuple):
    """What a provider says of a payment."""

    state: str
    captured_minor: int = 0
    amount_minor: int = 1_000
    currency: str = "EUR"
    provider_ref: str = "pi_1"


class SeenBack(NamedTuple):
    """What a provider says of a refund."""

    state: str
    key: str | None = REFUND_1.key
    amount_minor: int = 1_000
    refund_ref: str = "re_1"


def told(payment: Payment, seen: Seen, now_ms: int = 10) -> Payment:
    return learn_provider(Checkout(payment), seen, None, now_ms).checkout.payment


def kinds(learned: Learned) -> list[AlarmKind]:
    return [alarm.kind for alarm in learned.alarms]


# -- what is done next ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payment", "now_ms", "step"),
    [
        (CREATED, 0, CreateAtProvider(f"pi:{ID}")),
        (CREATED, ENDS_AT_MS, FETCH),
        (replace(CREATED, is_noticed=True), 0, FETCH),
        (OPEN, 0, FETCH),
        (OPEN, OVER_AT_MS, FETCH),
        (replace(OPEN, seen_at_ms=OVER_AT_MS - 1), OVER_AT_MS, FETCH),
        (replace(OPEN, seen_at_ms=OVER_AT_MS), OVER_AT_MS, VoidAtProvider(f"void:{ID}")),
        (AUTHORISED, 0, ConfirmAtShow(HOLD_ID)),
        (CAPTURED, OVER_AT_MS, ConfirmAtShow(HOLD_ID)),
        (replace(CAPTURED, is_noticed=True), 0, FetchFromProvider(with_refunds=True)),
        (replace(AUTHORISED, claim=Claim.AGAIN), 0, HoldAgain(AGAIN_ID, HOLD_ID, True)),
        (replace(CAPTURED, claim=Claim.HELD_AGAIN), 0, ConfirmAtShow(AGAIN_ID)),
        (BOOKED, 0, CaptureMoney(1_000, f"cap:{ID}")),
        (cancelled_by(BOOKED, RefundTerms.POLICY, 0), 0, CaptureMoney(1_000, f"cap:{ID}")),
        (cancelled_by(BOOKED, RefundTerms.FULL, 0), 0, VoidAtProvider(f"void:{ID}")),
        (
            replace(BOOKED, is_uncollectable=True),
            0,
            CancelUnpaid(booking_id_of(HOLD_ID), RefundTerms.NONE),
        ),
        (SETTLED, 0, Done()),
        (cancelled_by(SETTLED, RefundTerms.NONE, 0), 0, ReckonCancellation()),
        (VOID_DUE, 0, VoidAtProvider(f"void:{ID}")),
        (replace(VOID_DUE, claim=Claim.GIVE_BACK), 0, ReleaseAgain(AGAIN_ID)),
        (replace(VOID_DUE, provider_ref=None), 0, FETCH),
        (VOIDED, 0, Done()),
        (replace(VOIDED, is_noticed=True, due_at_ms=5), 5, FETCH),
        (replace(OPEN, due_at_ms=7), 6, Wait(7)),
    ],
)
def test_the_next_step_follows_from_the_row_alone(
    payment: Payment, now_ms: int, step: Step
) -> None:
    assert decide_step(Checkout(payment), now_ms) == step


def test_a_refund_that_was_asked_for_is_looked_up_before_it_is_asked_for_again() -> None:
    assert decide_step(REFUND_DUE, 0) == RefundMoney(REFUND_1)
    asked = learn_refund_requested(REFUND_DUE, REFUND_1.refund_id, 5).checkout
    assert decide_step(asked, 5) == FetchFromProvider(with_refunds=True)
    absent = learn_provider(asked, Seen("captured", 1_000), [], 6).checkout
    assert absent.refunds == (replace(REFUND_1, first_asked_at_ms=5),)
    assert absent.refunds[0].key == f"rf:{REFUND_1.refund_id}"


def test_what_a_provider_has_made_is_open_and_word_that_came_since_is_still_news() -> None:
    made = learn_made(Checkout(CREATED), Seen("open"), 10).checkout.payment
    assert (made.state, made.provider_ref, made.is_noticed) == (PaymentState.OPEN, "pi_1", False)
    assert decide_step(Checkout(made), 10) == Wait(made.due_at_ms or 0)
    noticed = learn_made(Checkout(replace(CREATED, is_noticed=True)), Seen("open"), 10).checkout
    assert (noticed.payment.state, noticed.payment.provider_ref) == (PaymentState.OPEN, "pi_1")
    assert decide_step(noticed, 10) == FETCH


# -- what is learned of the show ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [(AUTHORISED, PaymentState.VOID_DUE), (CAPTURED, PaymentState.REFUND_DUE)],
)
@pytest.mark.parametrize("rejection", [r for r in Rejection if r is not Rejection.HOLD_EXPIRED])
def test_a_durable_no_lets_the_money_go(
    before: Payment, after: PaymentState, rejection: Rejection
) -> None:
    payment = learn_confirm_rejected(Checkout(before), rejection, 9).checkout.payment
    assert (payment.state, payment.claim, payment.due_at_ms) == (after, Claim.GIVEN_UP, 9)


def test_a_hold_that_ran_out_is_held_once_more_and_only_once() -> None:
    again = learn_confirm_rejected(Checkout(CAPTURED), Rejection.HOLD_EXPIRED, 9).checkout
    assert (again.payment.state, again.payment.claim) == (PaymentState.CAPTURED, Claim.AGAIN)
    held = learn_held_again(again, 900, 10).checkout
    assert held.payment.booking_hold_id == AGAIN_ID
    late = learn_confirm_rejected(held, Rejection.HOLD_EXPIRED, 11).checkout
    assert (late.payment.state, late.payment.claim) == (
        PaymentState.REFUND_DUE,
        Claim.GIVE_BACK,
    )
    assert decide_step(late, 11) == ReleaseAgain(AGAIN_ID)
    assert decide_step(learn_released(late, 12).checkout, 12) == RefundMoney(
        replace(REFUND_1, created_at_ms=11)
    )


@pytest.mark.parametrize("hold_minor", [899, 901])
def test_the_same_places_at_another_price_are_given_back(hold_minor: int) -> None:
    again = Checkout(replace(AUTHORISED, claim=Claim.AGAIN))
    payment = learn_held_again(again, hold_minor, 10).checkout.payment
    assert (payment.state, payment.claim) == (PaymentState.VOID_DUE, Claim.GIVE_BACK)


def test_places_that_are_gone_leave_no_hold_to_release() -> None:
    again = Checkout(replace(AUTHORISED, claim=Claim.AGAIN))
    payment = learn_hold_again_rejected(again, 10).checkout.payment
    assert (payment.state, payment.claim) == (PaymentState.VOID_DUE, Claim.GIVEN_UP)


@pytest.mark.parametrize("payment", [BOOKED, SETTLED, VOID_DUE, VOIDED])
def test_an_answer_that_comes_too_late_changes_nothing(payment: Payment) -> None:
    checkout = Checkout(payment)
    for learned in (
        learn_confirm_rejected(checkout, Rejection.HOLD_EXPIRED, 9),
        learn_held_again(checkout, 900, 9),
        learn_hold_again_rejected(checkout, 9),
        learn_released(checkout, 9),
        learn_create_refused(checkout, 9),
        learn_given_up(checkout, 9),
    ):
        assert learned == Learned(checkout)


def test_silence_changes_nothing_but_when_it_is_tried_again() -> None:
    for payment in (CREATED, OPEN, AUTHORISED, CAPTURED, BOOKED, VOID_DUE):
        later = learn_delay(Checkout(payment), 100, 1).checkout.payment
        assert later == replace(payment, attempt_count=1, due_at_ms=1_100)


def test_a_hold_that_was_extended_is_waited_for() -> None:
    longer = learn_extended(Checkout(replace(OPEN, seen_at_ms=OVER_AT_MS)), 900_000).checkout
    assert decide_step(longer, OVER_AT_MS) == FETCH


# -- what is learned of the provider ------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "seen", "after"),
    [
        (CREATED, Seen("open"), PaymentState.OPEN),
        (CREATED, Seen("failed"), PaymentState.FAILED),
        (OPEN, Seen("failed"), PaymentState.FAILED),
        (OPEN, Seen("authorised"), PaymentState.AUTHORISED),
        (OPEN, Seen("captured", 1_000), PaymentState.CAPTURED),
        (OPEN, Seen("cancelled"), PaymentState.VOIDED),
        (AUTHORISED, Seen("captured", 1_000), PaymentState.CAPTURED),
        (AUTHORISED, Seen("cancelled"), PaymentState.VOIDED),
        (AUTHORISED, Seen("open"), PaymentState.AUTHORISED),
        (CAPTURED, Seen("authorised"), PaymentState.CAPTURED),
        (CAPTURED, Seen("cancelled"), PaymentState.CAPTURED),
        (BOOKED, Seen("authorised"), PaymentState.BOOKED),
        (BOOKED, Seen("captured", 1_000), PaymentState.SETTLED),
        (SETTLED, Seen("open"), PaymentState.SETTLED),
        (VOID_DUE, Seen("cancelled"), PaymentState.VOIDED),
        (VOID_DUE, Seen("captured", 1_000), PaymentState.REFUND_DUE),
        (VOIDED, Seen("captured", 1_000), PaymentState.REFUND_DUE),
        (VOIDED, Seen("open"), PaymentState.VOIDED),
    ],
)
def test_states_move_forward_by_what_the_provider_says(
    before: Payment, seen: Seen, after: PaymentState
) -> None:
    assert told(before, seen).state is after


@pytest.mark.parametrize("state", ["authorised", "captured"])
def test_a_payment_that_failed_may_still_succeed(state: str) -> None:
    failed = told(OPEN, Seen("failed"))
    assert told(failed, Seen("open")).state is PaymentState.FAILED
    assert told(failed, Seen(state, 1_000 * (state == "captured"))).state == state


@pytest.mark.parametrize(
    ("amount_minor", "currency"), [(999, "EUR"), (1_001, "EUR"), (1_000, "USD")]
)
@pytest.mark.parametrize(
    ("seen", "after"),
    [
        (Seen("open"), PaymentState.VOID_DUE),
        (Seen("authorised"), PaymentState.VOID_DUE),
        (Seen("captured", 999), PaymentState.REFUND_DUE),
        (Seen("cancelled"), PaymentState.VOIDED),
    ],
)
def test_another_amount_or_currency_is_never_booked(
    amount_minor: int, currency: str, seen: Seen, after: PaymentState
) -> None:
    odd = seen._replace(amount_minor=amount_minor, currency=currency)
    learned = learn_provider(Checkout(OPEN), odd, None, 10)
    checkout = learned.checkout
    assert checkout.payment.state is after
    assert kinds(learned) == [AlarmKind.MISMATCH]
    assert [refund.amount_minor for refund in checkout.refunds] == [999] * (
        after is PaymentState.REFUND_DUE
    )
    assert booked_by(checkout.payment, HOLD_ID, 11) is None


def test_less_than_was_agreed_is_paid_back_and_not_booked() -> None:
    learned = learn_provider(Checkout(OPEN), Seen("captured", 400), None, 10)
    assert learned.checkout.payment.state is PaymentState.REFUND_DUE
    assert kinds(learned) == [AlarmKind.SHORT_CAPTURE]
    assert owed_minor(learned.checkout) == 0
    assert [refund.amount_minor for refund in learned.checkout.refunds] == [400]


@pytest.mark.parametrize("before", [OPEN, CAPTURED, BOOKED, SETTLED])
def test_a_second_charge_goes_back_and_the_first_stays(before: Payment) -> None:
    learned = learn_provider(Checkout(before), Seen("captured", 2_000), [], 10)
    payment, (refund,) = learned.checkout.payment, learned.checkout.refunds
    assert payment.state in (PaymentState.CAPTURED, PaymentState.SETTLED)
    assert (refund.amount_minor, refund.reason) == (1_000, RefundReason.EXCESS)
    assert kinds(learned) == [AlarmKind.EXCESS_CAPTURED]
    again = learn_provider(learned.checkout, Seen("captured", 2_000), [], 11)
    assert again.checkout.refunds == learned.checkout.refunds
    assert not again.alarms


def test_every_charge_is_paid_back_by_a_refund_of_its_own() -> None:
    learned = learn_provider(Checkout(VOID_DUE), Seen("captured", 2_000), [], 10)
    assert [refund.amount_minor for refund in learned.checkout.refunds] == [1_000, 1_000]


def test_a_booking_that_cannot_be_collected_is_cancelled_without_a_refund() -> None:
    learned = learn_provider(Checkout(BOOKED), Seen("cancelled"), None, 10)
    payment = learned.checkout.payment
    assert kinds(learned) == [AlarmKind.UNCOLLECTABLE]
    assert isinstance(decide_step(learned.checkout, 10**9), CancelUnpaid)
    undone = Checkout(cancelled_by(payment, RefundTerms.NONE, 11))
    assert isinstance(decide_step(undone, 11), VoidAtProvider)
    ended = learn_voided(undone, 12).checkout.payment
    assert (ended.state, ended.kept_minor, ended.due_at_ms) == (PaymentState.VOIDED, 0, None)


def test_money_that_comes_for_a_booking_cancelled_for_want_of_it_goes_back() -> None:
    undone = cancelled_by(replace(BOOKED, is_uncollectable=True), RefundTerms.NONE, 11)
    paid = learn_provider(Checkout(undone), Seen("captured", 1_000), [], 12).checkout
    assert decide_step(paid, 12) == ReckonCancellation()
    reckoned = learn_reckoned(paid, RefundPolicy(), None, 13).checkout
    assert [refund.amount_minor for refund in reckoned.refunds] == [1_000]


def test_a_booked_payment_called_unpaid_is_believed_only_after_a_while() -> None:
    early = learn_provider(Checkout(BOOKED), Seen("open"), None, REGRESS_BELIEVED_AFTER_MS - 1)
    assert not early.checkout.payment.is_uncollectable
    late = learn_provider(Checkout(BOOKED), Seen("open"), None, REGRESS_BELIEVED_AFTER_MS)
    assert late.checkout.payment.is_uncollectable


def test_a_bank_that_is_about_to_answer_is_waited_for() -> None:
    seen = replace(OPEN, seen_at_ms=5)
    waiting = told(seen, Seen("processing"), OVER_AT_MS)
    assert waiting.due_at_ms is not None
    assert waiting.due_at_ms > OVER_AT_MS
    assert decide_step(Checkout(waiting), waiting.due_at_ms) == FETCH


def test_what_the_provider_never_heard_of_ends_once_no_call_can_be_under_way() -> None:
    created = Checkout(CREATED)
    assert learn_absent(created, ENDS_AT_MS - 1).checkout.payment.state is PaymentState.CREATED
    closed = learn_absent(created, ENDS_AT_MS).checkout
    assert closed.payment.state is PaymentState.VOID_DUE
    proof_at_ms = ENDS_AT_MS + ABSENCE_PROVES_AFTER_MS
    early = learn_absent(closed, proof_at_ms - 1).checkout
    assert early.payment.state is PaymentState.VOID_DUE
    assert learn_absent(closed, proof_at_ms).checkout.payment.state is PaymentState.VOIDED


def test_what_a_provider_refuses_is_looked_at() -> None:
    refused = learn_refused(Checkout(BOOKED), 100, 1).checkout
    assert refused.payment.state is PaymentState.BOOKED
    assert decide_step(refused, 1_100) == FETCH
    closed = learn_create_refused(Checkout(CREATED), 100).checkout
    assert decide_step(closed, 100) == FETCH


# -- refunds ----------------------------------------------------------------------------------


def test_a_refund_that_failed_gives_way_to_another_and_never_to_more_than_is_owed() -> None:
    checkout = REFUND_DUE
    for number in range(1, REFUNDS_PER_PAYMENT_MAX + 1):
        refund = checkout.refunds[-1]
        assert (refund.number, refund.amount_minor) == (number, 1_000)
        checkout = learn_refund_requested(checkout, refund.refund_id, number).checkout
        failed = SeenBack("failed", refund.key, refund_ref=f"re_{number}")
        checkout = learn_refund_answer(checkout, refund.refund_id, failed, number).checkout
    assert len(checkout.refunds) == REFUNDS_PER_PAYMENT_MAX
    assert AlarmKind.REFUNDS_EXHAUSTED in {alarm.kind for alarm in alarms_of(checkout, 100)}
    by_hand = [SeenBack("succeeded", None, refund_ref="re_hand")]
    closed = learn_provider(checkout, Seen("captured", 1_000), by_hand, 200).checkout.payment
    assert (closed.state, closed.due_at_ms) == (PaymentState.REFUNDED, None)


def test_a_refund_that_no_list_shows_keeps_its_key_however_long_it_takes() -> None:
    checkout = REFUND_DUE
    for day in range(1, 30):
        asked = learn_refund_requested(checkout, REFUND_1.refund_id, day * DAY_MS).checkout
        checkout = learn_provider(asked, Seen("captured", 1_000), [], day * DAY_MS + 1).checkout
        assert [refund.key for refund in checkout.refunds] == [REFUND_1.key]
        assert checkout.refunds[0].state is RefundState.DUE
    assert AlarmKind.UNREFUNDED_TOO_LONG in {a.kind for a in alarms_of(checkout, 30 * DAY_MS)}


def test_a_refund_on_its_way_is_looked_at_seldom_and_closes_the_payment() -> None:
    asked = learn_refund_requested(REFUND_DUE, REFUND_1.refund_id, 5).checkout
    pending = learn_refund_answer(asked, REFUND_1.refund_id, SeenBack("pending"), 6).checkout
    assert pending.payment.due_at_ms == 6 + checkout_pace.PENDING_POLL_MS
    done = learn_provider(pending, Seen("captured", 1_000), [SeenBack("succeeded")], 7).checkout
    assert (done.payment.state, done.payment.refunded_minor) == (PaymentState.REFUNDED, 1_000)
    assert done.payment.due_at_ms is None


def test_a_refund_that_comes_back_is_made_again() -> None:
    succeeded = replace(REFUND_1, state=RefundState.SUCCEEDED, refund_ref="re_1")
    ended = replace(
        REFUND_DUE.payment, state=PaymentState.REFUNDED, refunded_minor=1_000, due_at_ms=None
    )
    noticed = learn_notice(Checkout(ended, (succeeded,)), 8).checkout
    learned = learn_provider(noticed, Seen("captured", 1_000), [SeenBack("failed")], 9)
    checkout = learned.checkout
    assert kinds(learned) == [AlarmKind.REFUND_RETURNED]
    assert (checkout.payment.state, checkout.payment.refunded_minor) == (
        PaymentState.REFUND_DUE,
        0,
    )
    assert isinstance(decide_step(checkout, 9), RefundMoney)


def test_what_somebody_paid_back_by_hand_is_not_paid_back_again() -> None:
    by_hand = [SeenBack("succeeded", None, 1_000, "re_hand")]
    learned = learn_provider(REFUND_DUE, Seen("captured", 1_000), by_hand, 9)
    withdrawn, foreign = learned.checkout.refunds
    assert kinds(learned) == [AlarmKind.FOREIGN_REFUND]
    assert withdrawn.state is RefundState.FAILED
    assert (foreign.reason, foreign.state) == (RefundReason.FOREIGN, RefundState.SUCCEEDED)
    assert learned.checkout.payment.state is PaymentState.REFUNDED
    again = learn_provider(learned.checkout, Seen("captured", 1_000), by_hand, 10)
    assert again.checkout.refunds == learned.checkout.refunds


def test_a_payment_that_was_paid_back_by_hand_is_not_booked() -> None:
    by_hand = [SeenBack("succeeded", None, 100, "re_hand")]
    checkout = learn_provider(Checkout(CAPTURED), Seen("captured", 1_000), by_hand, 9).checkout
    assert checkout.payment.state is PaymentState.REFUND_DUE
    assert [refund.amount_minor for refund in checkout.refunds] == [100, 900]


@pytest.mark.parametrize(
    ("terms", "kept_minor", "back"),
    [
        (RefundTerms.POLICY, 500, [500]),
        (RefundTerms.FULL, 0, [1_000]),
        (RefundTerms.NONE, 1_000, []),
    ],
)
def test_a_cancelled_booking_is_reckoned_by_its_terms_at_that_moment(
    terms: RefundTerms, kept_minor: int, back: list[int]
) -> None:
    policy = RefundPolicy((RefundBand(100, 10_000), RefundBand(50, 5_000)))
    cancelled = Checkout(cancelled_by(SETTLED, terms, 1_000))
    # Long after the cancellation, which was 60 before the start.
    reckoned = learn_reckoned(cancelled, policy, 1_060, 99_999).checkout
    assert reckoned.payment.kept_minor == kept_minor
    assert [refund.amount_minor for refund in reckoned.refunds] == back
    assert (reckoned.payment.due_at_ms is None) == (not back)
    assert learn_reckoned(reckoned, RefundPolicy(), None, 99_999).checkout == reckoned


def test_the_terms_of_the_first_cancellation_count() -> None:
    first = cancelled_by(SETTLED, RefundTerms.NONE, 5)
    assert cancelled_by(first, RefundTerms.FULL, 9) == first


# -- pace and alarms ----------------------------------------------------------------------------


@given(attempt=st.integers(0, 10**9), jitter=st.floats(0, 1))
def test_tries_come_neither_too_fast_nor_too_seldom(attempt: int, jitter: float) -> None:
    wait_ms = backoff_ms(attempt, jitter)
    assert checkout_pace.BACKOFF_MS_MIN // 2 <= wait_ms <= checkout_pace.BACKOFF_MS_MAX


def test_a_customer_who_pays_is_looked_at_without_any_webhook_and_when_his_time_is_over() -> None:
    assert told(OPEN, Seen("open"), 1_000).due_at_ms == 1_000 + checkout_pace.OPEN_POLL_MS
    assert told(OPEN, Seen("open"), OVER_AT_MS - 5).due_at_ms == OVER_AT_MS
    assert told(OPEN, Seen("open"), OVER_AT_MS).due_at_ms == OVER_AT_MS


@pytest.mark.parametrize(
    ("checkout", "patience_ms", "kind"),
    [
        (Checkout(CAPTURED), 15 * MINUTE_MS, AlarmKind.UNBOOKED_TOO_LONG),
        (Checkout(BOOKED), HOUR_MS, AlarmKind.UNCAPTURED_TOO_LONG),
        (Checkout(VOID_DUE), HOUR_MS, AlarmKind.UNVOIDED_TOO_LONG),
        (Checkout(OPEN), ENDS_AT_MS + HOUR_MS, AlarmKind.UNVOIDED_TOO_LONG),
        (REFUND_DUE, DAY_MS, AlarmKind.UNREFUNDED_TOO_LONG),
        (Checkout(SETTLED, (REFUND_1,)), DAY_MS, AlarmKind.UNREFUNDED_TOO_LONG),
        (
            Checkout(SETTLED, (replace(REFUND_1, state=RefundState.REQUESTED, refund_ref="re_1"),)),
            14 * DAY_MS,
            AlarmKind.UNREFUNDED_TOO_LONG,
        ),
    ],
)
def test_what_takes_too_long_is_somebodys_to_look_at(
    checkout: Checkout, patience_ms: int, kind: AlarmKind
) -> None:
    assert alarms_of(checkout, patience_ms) == ()
    assert [alarm.kind for alarm in alarms_of(checkout, patience_ms + 1)] == [kind]


def test_what_has_ended_raises_no_alarm() -> None:
    for payment in (SETTLED, VOIDED):
        assert alarms_of(Checkout(payment), 10**15) == ()


# -- ids ----------------------------------------------------------------------------------------


def test_a_refunds_id_tells_its_payment_and_its_show() -> None:
    refund_id = refund_id_of(ID, 7)
    assert refund_id.endswith("07")
    assert (payment_id_of(refund_id), show_id_of(refund_id)) == (ID, SHOW_ID)
    with pytest.raises(AssertionError):
        refund_id_of(ID, 100)


def test_amounts_of_a_payment_have_bounds() -> None:
    with pytest.raises(ValueError, match=r"^amount_minor:"):
        replace(CREATED, amount_minor=AMOUNT_MINOR_MAX + 1)
    with pytest.raises(ValueError, match=r"^amount_minor:"):
        replace(CREATED, amount_minor=0)
    with pytest.raises(ValueError, match=r"^hold_minor:"):
        replace(CREATED, hold_minor=AMOUNT_MINOR_MAX + 1)
