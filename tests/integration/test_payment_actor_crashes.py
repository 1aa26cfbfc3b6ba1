"""A payment actor that dies before and after each thing it does, and the one that goes on.

Every payment of a test is run by a runner of its own, which dies at another point: before its first
call of a database, a show or a provider, after it, before its second one, and so on. Then the lease
ends, and a runner that lives finds what was left.
"""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from actors.checkout_runner import CheckoutRunner
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.payment_rows import StoredPayment
from reservation.hold import HoldState
from reservation.ids import CustomerId, PaymentId
from reservation.payment import PaymentState
from reservation.refund_terms import RefundTerms
from reservation.show import SalesPolicy
from tests.support.checkout_house import MINUTE_MS, CheckoutHouse, open_checkout_house
from tests.support.sandbox import CHECKOUT

LEASE_MS = 60_000
SHORT = SalesPolicy(
    hold_ttl_ms=4 * MINUTE_MS,
    hold_life_ms_max=8 * MINUTE_MS,
    live_holds_per_customer_max=10**6,
    seats_per_customer_max=10**6,
)


@pytest.fixture(scope="module")
async def house(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[CheckoutHouse]:
    async with open_checkout_house(postgres, template) as house:
        yield house


class Death(BaseException):
    """The process is gone: nothing that follows in it happens."""


class Fate:
    """Counts what a runner does, and ends it before or after one of these things."""

    def __init__(self, dies_at: int | None) -> None:
        self.dies_at = dies_at
        self.count = 0

    def over(self, target: Any) -> Any:
        """The same object, whose methods may be the last."""
        return _Mortal(target, self)

    def pass_by(self) -> None:
        if self.count == self.dies_at:
            raise Death
        self.count += 1


class _Mortal:
    def __init__(self, target: Any, fate: Fate) -> None:
        self._target = target
        self._fate = fate

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def lived(*arguments: Any, **named: Any) -> Any:
            self._fate.pass_by()
            answer = await found(*arguments, **named)
            self._fate.pass_by()
            return answer

        return lived


def mortal_runner(house: CheckoutHouse, fate: Fate) -> CheckoutRunner:
    stores = copy.copy(house.stores)
    stores.payments = [fate.over(house.stores.payments[0])]
    gateways = {name: fate.over(gateway) for name, gateway in house.gateways.items()}
    return CheckoutRunner(stores, 0, fate.over(house.refs), gateways, draw=lambda: 0.0)


async def run_until_death(house: CheckoutHouse, fates: dict[PaymentId, Fate]) -> None:
    """Let every payment be run once by its mortal runner."""

    async def run(stored: StoredPayment) -> None:
        fate = fates[stored.payment.payment_id]
        try:
            await mortal_runner(house, fate).run(stored)
        except Death:
            return

    leased = await house.stores.payments[0].lease_due("mortal", 1_000, LEASE_MS)
    assert {each.payment.payment_id for each in leased} == set(fates)
    await asyncio.gather(*(run(stored) for stored in leased))


Prepare = Callable[[CheckoutHouse, list[PaymentId]], Awaitable[None]]


async def paid(house: CheckoutHouse, payment_ids: list[PaymentId]) -> None:
    for payment_id in payment_ids:
        await house.pay(payment_id)
    await house.webhooks()
    await wake(house, payment_ids)


async def wake(house: CheckoutHouse, payment_ids: list[PaymentId]) -> None:
    for payment_id in payment_ids:
        await house.stores.payments[0].wake(payment_id)


async def paid_late(house: CheckoutHouse, payment_ids: list[PaymentId]) -> None:
    await until_holds_end(house, payment_ids)
    await paid(house, payment_ids)


async def paid_for_places_that_are_gone(house: CheckoutHouse, payment_ids: list[PaymentId]) -> None:
    await until_holds_end(house, payment_ids)
    for payment_id in payment_ids:
        payment = (await house.find(payment_id)).payment
        hold = await house.stores.claims.find_hold(payment.hold_id)
        assert hold is not None
        await house.hold(payment.show_id, *hold.held.seat_indexes, customer="bob")
    await paid(house, payment_ids)


async def until_holds_end(house: CheckoutHouse, payment_ids: list[PaymentId]) -> None:
    """Holds that still have their places for a moment would make a run shorter than it can be."""
    await house.advance(5 * MINUTE_MS)
    for payment_id in payment_ids:
        stored = await house.find(payment_id)
        while await is_held(house, stored):  # noqa: ASYNC110 - nobody announces that it has ended.
            await asyncio.sleep(0.02)


async def is_held(house: CheckoutHouse, stored: StoredPayment) -> bool:
    hold = await house.stores.claims.find_hold(stored.payment.hold_id)
    return hold is not None and hold.state is HoldState.HELD


async def booked_and_cancelled(house: CheckoutHouse, payment_ids: list[PaymentId]) -> None:
    await paid(house, payment_ids)
    await house.work()
    for payment_id in payment_ids:
        await house.cancel_booking(payment_id, RefundTerms.POLICY)


async def reckoned(house: CheckoutHouse, payment_ids: list[PaymentId]) -> None:
    await booked_and_cancelled(house, payment_ids)
    await house.actor.look()
    await house.actor.until_calm()
    await house.advance(2_000)


async def given_up(house: CheckoutHouse, payment_ids: list[PaymentId]) -> None:
    for payment_id in payment_ids:
        await house.checkouts.give_up(payment_id, CustomerId("ann"))


# What is prepared, how it ends, and at least so many points where one can die on the way.
STORIES: dict[str, tuple[Prepare, str, int]] = {
    "paid in time": (paid, "places", 10),
    "paid late": (paid_late, "places", 18),
    "paid for places that are gone": (paid_for_places_that_are_gone, "voided", 16),
    "booked and cancelled": (booked_and_cancelled, "cancelled", 2),
    "cancelled and reckoned": (reckoned, "cancelled", 6),
    "given up": (given_up, "voided", 4),
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize(
    "provider", ["stripe", pytest.param("razorpay", marks=pytest.mark.slow_faults)]
)
async def test_wherever_the_runner_dies_money_and_places_agree(
    house: CheckoutHouse, provider: str, story: str
) -> None:
    prepare, end, points_min = STORIES[story]
    show_id = await house.add_show(SHORT)

    first = [await house.begin(show_id, provider)]
    await prepare(house, first)
    survivor = Fate(None)
    await run_until_death(house, {first[0]: survivor})
    assert survivor.count >= points_min, f"there are only {survivor.count} points to die at"

    # The second lease is one more point: whoever dies there has let go already.
    payment_ids = [await house.begin(show_id, provider) for _ in range(survivor.count)]
    await prepare(house, payment_ids)
    fates = {each: Fate(dies_at) for dies_at, each in enumerate(payment_ids)}
    await run_until_death(house, fates)
    await house.advance(LEASE_MS + 1_000)
    await house.settle([*first, *payment_ids])
    ends = await house.check([*first, *payment_ids])
    assert ends == {end: len(payment_ids) + 1}


_WORKER = """
    import asyncio, sys
    from actors.naming import actor_name
    from actors.payment_actor import PaymentActor
    from actors.payment_stores import PaymentStores
    from actors.provider_calls import open_gateways
    from actors.show_ref import ShowRefs
    from integrations.payments.provider_config import PaymentProvidersConfig, StripeConfig
    from persistence.shards import ShardMap

    async def work(dsn, secret_key, publishable_key, url):
        stores = await PaymentStores(ShardMap.even((dsn,)), "killed").open()
        stripe = StripeConfig(secret_key, publishable_key, api_url=url)
        async def nowhere(name):
            raise AssertionError("nothing is asked of shows here")
        async def locate(show_id):
            return "none"
        refs = ShowRefs(locate, nowhere, ask_deadline_ms=1_000)
        gateways = open_gateways(PaymentProvidersConfig(stripe=stripe))
        actor = PaymentActor("killed", stores, 0, refs, gateways)
        actor.start()
        print("working", flush=True)
        await asyncio.Event().wait()

    asyncio.run(work(*sys.argv[1:]))
"""


async def test_a_process_that_is_killed_in_the_middle_of_refunds_makes_none_twice(
    house: CheckoutHouse,
) -> None:
    show_id = await house.add_show(SHORT)
    payment_ids = [await house.begin(show_id) for _ in range(30)]
    await booked_and_cancelled(house, payment_ids)
    house.control("faults", operation="stripe.refunds.create", kind="delay", times=8, delay_ms=50)
    house.control("faults", operation="stripe.refunds.create", kind="hang_after", times=4)

    sandbox = house.sandbox
    arguments = [house.shards.dsns[0], sandbox.secret_key, sandbox.publishable_key]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        textwrap.dedent(_WORKER),
        *arguments,
        sandbox.stripe_url,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"working\n"
    # Killed when the provider has made the refunds whose answers hang.
    hung = "stripe.refunds.create hang_after"
    while (await house.counts())["faults"].get(hung, 0) < 4:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL
    house.sandbox.control("DELETE", "faults")

    unfinished = [
        each for each in payment_ids if (await house.find(each)).payment.due_at_ms is not None
    ]
    assert len(unfinished) >= 4
    await house.advance(LEASE_MS + 1_000)
    await house.settle(payment_ids)
    assert await house.check(payment_ids) == {"cancelled": 30}
    statement = await house.statement()
    for payment_id in payment_ids:
        payment = (await house.find(payment_id)).payment
        assert payment.state is PaymentState.SETTLED
        assert statement[payment.provider_ref or ""] == (1_000, 1_000)
