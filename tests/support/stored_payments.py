"""Payments as tests store them, and a show whose bookings they pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from persistence.journal import Journal
from persistence.payment_rows import PromoUse, StoredPayment
from persistence.payments import BeginOutcome, Payments
from reservation.checkout import Checkout
from reservation.events import (
    Arrangement,
    BookingCancelled,
    BookingConfirmed,
    SeatsHeld,
)
from reservation.ids import (
    CustomerId,
    HoldId,
    PaymentId,
    booking_id_of,
    derive_hold_id,
    derive_payment_id,
    refund_id_of,
)
from reservation.payment import CaptureMode, Payment, PaymentState
from reservation.price import LineKind, Price, PriceLine
from reservation.refund_terms import RefundTerms
from reservation.refunds import Refund, RefundReason, RefundState
from reservation.route import Segment
from reservation.show import Show
from tests.support.histories import make_show

ANN = CustomerId("acc_" + "a" * 20)
BOB = CustomerId("acc_" + "b" * 20)
AT_MS = 1_700_000_000_000
AMOUNT_MINOR = 1_000
SHOW = make_show("paid for", rows=(50, 50))
OTHER = make_show("paid for next door", rows=(50, 50))
PRICE = Price("EUR", (PriceLine(LineKind.PLACE, "Stalls", AMOUNT_MINOR),), (AMOUNT_MINOR,))


def hold_of(number: int, show: Show = SHOW, customer: CustomerId = ANN) -> HoldId:
    """The id of a hold."""
    return derive_hold_id(show.show_id, customer, str(number))


def held(number: int, show: Show = SHOW, customer: CustomerId = ANN) -> SeatsHeld:
    """A hold of the seat of this number."""
    return SeatsHeld(
        hold_of(number, show, customer),
        customer,
        Segment(0, 1),
        (number,),
        (AMOUNT_MINOR,),
        (),
        Arrangement.NAMED,
        AT_MS,
        AT_MS + 600_000,
        f"digest {number}",
    )


def booked(
    number: int, payment: str, show: Show = SHOW, customer: CustomerId = ANN
) -> BookingConfirmed:
    """That hold as a booking."""
    hold_id = hold_of(number, show, customer)
    booking_id = booking_id_of(hold_id)
    return BookingConfirmed(hold_id, booking_id, customer, payment, AMOUNT_MINOR, AT_MS + 5_000)


def cancelled(
    number: int,
    terms: RefundTerms = RefundTerms.POLICY,
    show: Show = SHOW,
    customer: CustomerId = ANN,
) -> BookingCancelled:
    """That booking, undone."""
    hold_id = hold_of(number, show, customer)
    return BookingCancelled(hold_id, booking_id_of(hold_id), AT_MS + 9_000, terms)


def new_payment(
    number: int,
    key: str = "",
    *,
    show: Show = SHOW,
    customer: CustomerId = ANN,
    mode: CaptureMode = CaptureMode.MANUAL,
    due_at_ms: int | None = AT_MS,
) -> Payment:
    """A payment for the hold of this number, as a checkout begins it."""
    hold_id = hold_of(number, show, customer)
    return Payment(
        derive_payment_id(hold_id, key),
        show.show_id,
        hold_id,
        customer,
        "stripe",
        mode,
        AMOUNT_MINOR,
        "EUR",
        AMOUNT_MINOR,
        accepts_equivalent=False,
        created_at_ms=AT_MS,
        hold_expires_at_ms=AT_MS + 600_000,
        state_at_ms=AT_MS,
        due_at_ms=due_at_ms,
    )


async def begun(
    payments: Payments, payment: Payment, promo: PromoUse | None = None
) -> StoredPayment:
    """The payment, written down."""
    outcome, stored = await payments.begin(payment, PRICE, promo)
    assert outcome is BeginOutcome.BEGUN
    assert stored is not None
    return stored


async def read(payments: Payments, payment_id: PaymentId) -> Checkout:
    """The checkout as it is now."""
    stored = await payments.find(payment_id)
    assert stored is not None
    return stored.checkout


async def moved(payments: Payments, payment_id: PaymentId, **fields: object) -> Checkout:
    """The checkout after its payment was changed like this."""
    before = await read(payments, payment_id)
    payment = replace(before.payment, **fields)  # type: ignore[arg-type]  # fields by name
    after = await payments.save(before, replace(before, payment=payment))
    assert after is not None
    return after


async def paid(payments: Payments, payment: Payment) -> Payment:
    """The payment after its customer paid: authorised, or captured by the automatic mode."""
    await begun(payments, payment)
    if payment.capture_mode is CaptureMode.AUTOMATIC:
        fields: dict[str, object] = {
            "state": PaymentState.CAPTURED,
            "captured_minor": payment.amount_minor,
        }
    else:
        fields = {"state": PaymentState.AUTHORISED}
    ref = "pi_" + payment.payment_id
    return (await moved(payments, payment.payment_id, provider_ref=ref, **fields)).payment


def refund(
    checkout: Checkout,
    amount_minor: int,
    state: RefundState = RefundState.DUE,
    reason: RefundReason = RefundReason.CANCELLED,
) -> Checkout:
    """The checkout with one refund more."""
    payment_id, number = checkout.payment.payment_id, len(checkout.refunds) + 1
    refund_id = refund_id_of(payment_id, number)
    new = Refund(refund_id, payment_id, number, amount_minor, reason, state, AT_MS)
    return replace(checkout, refunds=(*checkout.refunds, new))


def with_refund(checkout: Checkout, number: int, state: RefundState) -> Checkout:
    """The checkout with the refund of this number in another state."""
    refunds = tuple(
        replace(each, state=state) if each.number == number else each for each in checkout.refunds
    )
    return replace(checkout, refunds=refunds)


async def hold_and_book(
    journal: Journal, numbers: Sequence[int], payments: Sequence[str], show: Show = SHOW
) -> None:
    """Holds of these seats, and then bookings of them with these payments."""
    await journal.append(show.show_id, [held(number, show) for number in numbers])
    pairs = zip(numbers, payments, strict=True)
    await journal.append(show.show_id, [booked(n, payment, show) for n, payment in pairs])
