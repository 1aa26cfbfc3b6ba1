"""Bookings that customers have paid for, as the payment worker leaves them; nobody is asked."""

from __future__ import annotations

from dataclasses import replace

import httpx

from persistence.payments import Payments
from reservation.checkout import Checkout
from reservation.commands import ConfirmHold
from reservation.events import BookingConfirmed
from reservation.ids import BookingId, HoldId, PaymentId, ShowId, derive_payment_id
from reservation.payment import CaptureMode, Payment, PaymentState
from reservation.price import FeeBasis, FeeTerm, PriceTerms, price_of
from reservation.promo_codes import PricedPlace
from reservation.refunds import RefundState
from tests.support.http_house import as_customer
from tests.support.organiser_house import OrganiserHouse


class Sold:
    """A booking that a customer has paid for."""

    def __init__(self, house: OrganiserHouse, show_id: ShowId, payment: Payment) -> None:
        self.payments = Payments(house.admin_pool)
        self.show_id = show_id
        self.payment_id: PaymentId = payment.payment_id
        self.booking_id = BookingId("bkg_" + payment.hold_id[4:])

    async def checkout(self) -> Checkout:
        stored = await self.payments.find(self.payment_id)
        assert stored is not None
        return stored.checkout

    async def made(self, number: int, state: RefundState = RefundState.SUCCEEDED) -> None:
        """The worker has made this refund."""
        before = await self.checkout()
        refunds = tuple(
            replace(each, state=state) if each.number == number else each for each in before.refunds
        )
        assert await self.payments.save(before, replace(before, refunds=refunds)) is not None


async def sell_paid(
    house: OrganiserHouse,
    booking: httpx.AsyncClient,
    show_id: ShowId,
    *seats: str,
    name: str = "ann",
    fee_minor: int = 0,
) -> Sold:
    """Let a customer hold these seats, pay for them, and have them booked."""
    held = await booking.post(
        f"/shows/{show_id}/holds", json={"seats": seats}, headers=as_customer(name)
    )
    assert held.status_code == 201, held.text
    hold_id = HoldId(held.json()["hold_id"])
    hold = await house.house.claims.find_hold(hold_id)
    assert hold is not None
    places = [PricedPlace("Stalls", minor) for minor in hold.held.seat_minor]
    fees = (FeeTerm("Booking fee", FeeBasis.ORDER, fee_minor),) if fee_minor else ()
    price = price_of(places, "EUR", PriceTerms(fees))
    payment = Payment(
        derive_payment_id(hold_id, "once"),
        show_id,
        hold_id,
        hold.held.customer_id,
        "stripe",
        CaptureMode.AUTOMATIC,
        price.total_minor,
        "EUR",
        hold.held.amount_minor,
        accepts_equivalent=False,
        created_at_ms=hold.held.held_at_ms,
        hold_expires_at_ms=hold.expires_at_ms,
        state_at_ms=hold.held.held_at_ms,
    )
    sale = Sold(house, show_id, payment)
    await sale.payments.begin(payment, price)
    before = await sale.checkout()
    captured = replace(
        before.payment,
        state=PaymentState.CAPTURED,
        captured_minor=price.total_minor,
        provider_ref=f"pi_{payment.payment_id}",
    )
    assert await sale.payments.save(before, replace(before, payment=captured)) is not None
    command = ConfirmHold(hold_id, hold.held.customer_id, payment.payment_id)
    assert isinstance(await house.house.refs.ask(show_id, command), BookingConfirmed)
    return sale
