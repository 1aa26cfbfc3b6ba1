"""The payment actor as it runs: by itself, from what is in the database."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from actors.checkout_runner import LEASE_MS
from actors.show_ref import ShowRefs
from persistence.embedded_postgres import EmbeddedPostgres
from reservation.commands import Command, HoldSeats
from reservation.hold import Hold, HoldState
from reservation.ids import HoldId, PaymentId, ShowId
from reservation.outcome import Outcome
from reservation.payment import PaymentState
from reservation.rejections import Rejected, Rejection
from reservation.show import SalesPolicy
from tests.support.checkout_house import MINUTE_MS, CheckoutHouse, open_checkout_house

PATIENCE_S = 60
SHORT = SalesPolicy(hold_ttl_ms=4 * MINUTE_MS, hold_life_ms_max=8 * MINUTE_MS)


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


async def test_what_a_dead_one_had_leased_its_next_incarnation_goes_on_with_at_once(
    house: CheckoutHouse,
) -> None:
    payment_id = await house.begin(await house.add_show())
    await house.pay(payment_id)
    await house.deliver()
    (leased,) = await house.stores.payments[0].lease_due("payments:again/dead", 9, LEASE_MS)
    assert leased.payment.payment_id == payment_id
    actor = house.new_actor(name="payments:again")
    await actor.look()
    await actor.until_calm()
    assert await house.check([payment_id]) == {"places": 1}
    assert actor.status()["taken_over"] == 1


async def test_a_database_that_goes_away_under_it_costs_time_and_nothing_else(
    house: CheckoutHouse, caplog: pytest.LogCaptureFixture
) -> None:
    show_id = await house.add_show()
    payment_ids = [await house.begin(show_id) for _ in range(6)]
    for payment_id in payment_ids:
        await house.pay(payment_id)
    await house.webhooks()
    # So that some of them are being asked for when it goes away, and cannot be saved then.
    retrieve = "stripe.payment_intents.retrieve"
    house.control("faults", operation=retrieve, kind="delay", times=3, delay_ms=300)
    for payment_id in payment_ids:
        await house.stores.payments[0].wake(payment_id)
    actor = house.new_actor(lease_ms=3_000)
    actor.start()
    while (await house.counts())["faults"].get(f"{retrieve} delay", 0) < 3:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    async with house.database_away():
        while not {"waits", "is away"} & set(caplog.text.split()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await asyncio.sleep(1)
        actor.ring()
    for payment_id in payment_ids:
        await until_state(house, payment_id, PaymentState.SETTLED)
    await actor.stop()
    assert await house.check(payment_ids) == {"places": 6}


class JustOver:
    """A show whose first hold has run out, and is ended a moment later than it is asked again."""

    def __init__(self, house: CheckoutHouse) -> None:
        self.refused: list[Command] = []
        self._house = house

    async def ask(self, show_id: ShowId, command: Command, **options: Any) -> Outcome:
        if isinstance(command, HoldSeats) and not self.refused:
            self.refused.append(command)
            return Rejected(Rejection.SEAT_UNAVAILABLE)
        return await self._house.refs.ask(show_id, command, **options)

    async def find_hold(self, hold_id: HoldId) -> Hold | None:
        hold = await self._house.stores.claims.find_hold(hold_id)
        if hold is not None and not self.refused:
            hold.state = HoldState.HELD
        return hold


async def test_places_that_the_customers_own_first_hold_has_for_a_moment_more_are_not_given_up(
    house: CheckoutHouse,
) -> None:
    payment_id = await house.begin(await house.add_show(SHORT))
    await house.advance(5 * MINUTE_MS)
    await house.pay(payment_id)
    await house.deliver()
    stores = copy.copy(house.stores)
    show = stores.claims = cast("Any", JustOver(house))
    actor = house.new_actor(stores=stores, refs=cast("ShowRefs", show))
    await house.settle([payment_id], actor=actor)
    assert len(show.refused) == 1
    assert await house.check([payment_id]) == {"places": 1}
