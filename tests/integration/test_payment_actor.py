"""The payment actor as it runs: by itself, from what is in the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from persistence.embedded_postgres import EmbeddedPostgres
from reservation.ids import PaymentId
from reservation.payment import PaymentState
from tests.support.checkout_house import CheckoutHouse, open_checkout_house

PATIENCE_S = 60


@pytest.fixture(scope="module")
async def house(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[CheckoutHouse]:
    async with open_checkout_house(postgres, template) as house:
        yield house


async def until_state(house: CheckoutHouse, payment_id: PaymentId, state: PaymentState) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await house.state(payment_id) is not state:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_it_books_what_is_paid_and_gives_cancelled_shows_back_without_being_asked(
    house: CheckoutHouse,
) -> None:
    actor = house.new_actor()
    actor.start()
    show_id = await house.add_show()
    payment_id = await house.begin(show_id)
    await house.pay(payment_id)
    await house.deliver()
    await until_state(house, payment_id, PaymentState.SETTLED)
    await house.cancel_show(show_id)
    async with asyncio.timeout(PATIENCE_S):
        while (await house.find(payment_id)).payment.refunded_minor == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await actor.stop()
    assert await house.check([payment_id]) == {"cancelled": 1}
    counts = actor.status()
    assert counts["ConfirmAtShow"] >= 1
    assert counts["RefundMoney"] >= 1
    assert counts["refund_jobs"] == 1


async def test_two_of_them_at_once_do_no_harm(house: CheckoutHouse) -> None:
    show_id = await house.add_show()
    payment_ids = [await house.begin(show_id) for _ in range(6)]
    actors = [house.new_actor(), house.new_actor()]
    for actor in actors:
        actor.start()
    for payment_id in payment_ids:
        await house.pay(payment_id)
    taken = await house.webhooks()
    await house.deliver([*taken, *taken])
    for payment_id in payment_ids:
        await until_state(house, payment_id, PaymentState.SETTLED)
    for actor in actors:
        await actor.stop()
    assert await house.check(payment_ids) == {"places": 6}
