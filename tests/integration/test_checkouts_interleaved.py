"""Customers, clocks, shows and webhooks in sampled orders: places or the money back, never both.

``tests/unit/test_checkout_saga_model.py`` visits every order of a small world. Here some of them
are played on the real parts: each customer draws what he does next, and all of them share one
clock, one provider and one database.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from actors.checkouts import Checkouts
from persistence.embedded_postgres import EmbeddedPostgres
from reservation.ids import CustomerId, PaymentId, ShowId
from reservation.payment import CaptureMode, PaymentState
from reservation.refund_terms import RefundTerms
from reservation.show import SalesPolicy
from tests.support.checkout_house import MINUTE_MS, CheckoutHouse, open_checkout_house

CUSTOMERS = 24
ROUNDS = 9
SHORT = SalesPolicy(hold_ttl_ms=4 * MINUTE_MS, hold_life_ms_max=8 * MINUTE_MS)


@pytest.fixture(scope="module")
async def house(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[CheckoutHouse]:
    async with open_checkout_house(postgres, template) as house:
        yield house


class Customer:
    """One payment, and what its customer and his fate draw for it."""

    def __init__(self, house: CheckoutHouse, show_id: ShowId, payment_id: PaymentId) -> None:
        self.house = house
        self.show_id = show_id
        self.payment_id = payment_id
        self.did: list[str] = []

    async def act(self, what: str) -> None:
        self.did.append(what)
        house = self.house
        match what:
            case "pays":
                await house.pay(self.payment_id)
            case "fails":
                await house.pay(self.payment_id, "fails")
            case "gives up":
                await house.checkouts.give_up(self.payment_id, CustomerId("ann"))
            case "looks":
                await house.checkouts.look(self.payment_id)
            case "cancels":
                booked = (PaymentState.BOOKED, PaymentState.SETTLED)
                if await house.state(self.payment_id) in booked:
                    await house.cancel_booking(self.payment_id, RefundTerms.POLICY)
            case "show is cancelled":
                await house.cancel_show(self.show_id)


ACTS = {
    "pays": 6,
    "fails": 2,
    "gives up": 1,
    "looks": 2,
    "cancels": 2,
    "show is cancelled": 1,
    "waits": 6,
}


@pytest.mark.parametrize("way", ["stripe manual", "stripe automatic", "razorpay manual"])
async def test_whatever_happens_in_whichever_order_everybody_has_his_places_or_his_money(
    house: CheckoutHouse, way: str
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    draw = random.Random(seed)
    provider, mode = way.split()
    providers = house.providers
    assert providers.stripe is not None
    stripe = replace(providers.stripe, capture_mode=CaptureMode(mode))
    gateways = house.open_gateways(replace(providers, stripe=stripe))
    checkouts = Checkouts(house.stores, house.refs, gateways)
    customers: list[Customer] = []
    for _ in range(CUSTOMERS):
        show_id = await house.add_show(SHORT)
        held = await house.hold(show_id)
        opened = await house.open(held, provider, checkouts=checkouts)
        assert opened.stored.payment.capture_mode is CaptureMode(mode)
        customers.append(Customer(house, show_id, opened.stored.payment.payment_id))
    await house.webhooks()

    for _ in range(ROUNDS):
        acts = draw.choices(list(ACTS), list(ACTS.values()), k=len(customers))
        for customer, what in zip(customers, acts, strict=True):
            if what == "show is cancelled" and what in customer.did:
                continue
            await customer.act(what)
        taken = [each for each in await house.webhooks() if draw.random() < 0.7]
        taken += [each for each in taken if draw.random() < 0.2]
        draw.shuffle(taken)
        await house.deliver(taken)
        if draw.random() < 0.7:
            await house.work()
        if draw.random() < 0.5:
            await house.refund_shows()
        if draw.random() < 0.5:
            await house.advance(draw.choice((1, 2, 3)) * MINUTE_MS)

    await house.refund_shows()
    payment_ids = [customer.payment_id for customer in customers]
    try:
        await house.settle(payment_ids)
        ends = await house.check(payment_ids)
    except AssertionError as error:
        stories = {customer.payment_id: customer.did for customer in customers}
        raise AssertionError(f"seed {seed}: {error}\n{stories}") from error
    assert sum(ends.values()) == CUSTOMERS
    assert len(ends) > 1, f"seed {seed} ends all in one way: {ends}"
