"""Payment providers that fail, and their webhooks: nobody pays twice, and nobody for nothing.

F28   calls time out, are refused, slow, or are done and the answer is lost
F29   webhooks come thrice, in another order, late, never, or with another amount
F30   the house dies after the provider has accepted a refund
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from actors.checkouts import Checkouts
from actors.payment_actor import PaymentActor
from integrations.payments.payment_gateway import PaymentGateway
from integrations.payments.razorpay_gateway import RazorpayGateway
from integrations.payments.stripe_gateway import StripeGateway
from persistence.embedded_postgres import EmbeddedPostgres
from reservation.hold import BookingState
from reservation.ids import CustomerId, PaymentId, ShowId
from reservation.payment import PaymentState
from reservation.refund_terms import RefundTerms
from reservation.refunds import RefundState
from tests.support.checkout_house import MINUTE_MS, CheckoutHouse, open_checkout_house

IMPATIENT_MS = 250
"""Nothing here takes longer but what is told to; and if it does, it is one more call that hangs."""
LATE_MS = 400
HOLD_ENDS_MS = 13 * MINUTE_MS
PROVIDERS = ("stripe", "razorpay")
CALLS = {
    "stripe": (
        "payment_intents.create",
        "payment_intents.retrieve",
        "payment_intents.capture",
        "payment_intents.cancel",
        "refunds.create",
        "refunds.list",
    ),
    "razorpay": ("orders.create", "orders.fetch", "payments.capture", "payments.refund"),
}
KINDS = (
    "rate_limited",
    "error_before",
    "error_after",
    "hang_before",
    "hang_after",
    "reset_before",
    "reset_after",
    "delay",
)
QUESTIONS = ("retrieve", "list", "fetch")
"""Calls that change nothing: there is no difference between before and after."""


@pytest.fixture(scope="module")
async def house(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[CheckoutHouse]:
    async with open_checkout_house(postgres, template) as house:
        yield house


@pytest.fixture(autouse=True)
async def working(house: CheckoutHouse) -> AsyncIterator[None]:
    """The provider works again after each test."""
    yield
    house.sandbox.control("DELETE", "faults")


def impatient(house: CheckoutHouse) -> dict[str, PaymentGateway]:
    """Gateways that give up after a quarter of a second."""
    stripe, razorpay = house.providers.stripe, house.providers.razorpay
    assert stripe is not None
    assert razorpay is not None
    return {
        "stripe": StripeGateway(stripe, request_timeout_ms=IMPATIENT_MS),
        "razorpay": RazorpayGateway(razorpay, request_timeout_ms=IMPATIENT_MS),
    }


def kinds_of(call: str) -> list[str]:
    is_question = call.endswith(QUESTIONS)
    return [kind for kind in KINDS if not (is_question and kind.endswith("_after"))]


class TestCallsThatFail:
    @pytest.mark.parametrize(
        "provider", ["stripe", pytest.param("razorpay", marks=pytest.mark.slow_faults)]
    )
    async def test_nobody_pays_twice_and_nobody_for_nothing(
        self, house: CheckoutHouse, provider: str
    ) -> None:
        gateways = impatient(house)
        checkouts = Checkouts(house.stores, house.refs, gateways)
        actor = house.new_actor(gateways=gateways)
        show_id = await house.add_show()
        booked: list[PaymentId] = []
        given_up: list[PaymentId] = []
        for call in CALLS[provider]:
            for kind in kinds_of(call):
                operation = f"{provider}.{call}"
                house.control("faults", operation=operation, kind=kind, times=1, delay_ms=LATE_MS)
                opened = await house.open(await house.hold(show_id), provider, checkouts=checkouts)
                payment_id = opened.stored.payment.payment_id
                if call.endswith("cancel"):
                    await checkouts.give_up(payment_id, CustomerId("ann"))
                    given_up.append(payment_id)
                else:
                    booked.append(payment_id)
                await self._go_on(house, actor, 1)
                if payment_id in booked:
                    await self._until_payable(house, actor, payment_id)
                await house.pay(payment_id)
                await house.deliver()
                await self._go_on(house, actor, 2)
                if "refund" in call:
                    await house.cancel_booking(payment_id, RefundTerms.POLICY)
                    await self._go_on(house, actor, 2)
                house.sandbox.control("DELETE", "faults")
        await house.settle([*booked, *given_up])
        ends = await house.check([*booked, *given_up])
        refunded = sum(len(kinds_of(call)) for call in CALLS[provider] if "refund" in call)
        assert ends == {
            key: count
            for key, count in {
                "places": len(booked) - refunded,
                "cancelled": refunded,
                "voided": len(given_up),
            }.items()
            if count
        }
        for gateway in gateways.values():
            await gateway.close()

    async def _until_payable(
        self, house: CheckoutHouse, actor: PaymentActor, payment_id: PaymentId
    ) -> None:
        while (await house.find(payment_id)).payment.provider_ref is None:
            await self._go_on(house, actor, 1)

    async def _go_on(self, house: CheckoutHouse, actor: PaymentActor, times: int) -> None:
        for _ in range(times):
            await actor.look()
            await actor.until_calm()
            await house.advance(1_100)


class TestWebhooks:
    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_thrice_and_in_any_order_they_book_once(
        self, house: CheckoutHouse, provider: str
    ) -> None:
        show_id = await house.add_show()
        payment_ids = [await house.begin(show_id, provider) for _ in range(5)]
        for payment_id in payment_ids:
            await house.pay(payment_id, "fails")
            await house.pay(payment_id)
        taken = [*await house.webhooks()] * 3
        random.Random(29).shuffle(taken)
        for delivery in taken:
            await house.take(delivery)
            if random.random() < 0.3:
                await house.work()
        await house.work()
        assert await house.check(payment_ids) == {"places": 5}

    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_when_none_comes_the_payment_is_found_all_the_same(
        self, house: CheckoutHouse, provider: str
    ) -> None:
        payment_id = await house.begin(await house.add_show(), provider)
        await house.pay(payment_id)
        await house.webhooks()
        await house.advance(MINUTE_MS)
        await house.work()
        assert await house.check([payment_id]) == {"places": 1}

    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_late_after_the_hold_they_bring_the_places_or_the_money_back(
        self, house: CheckoutHouse, provider: str
    ) -> None:
        show_id = await house.add_show()
        free, taken = await house.begin(show_id, provider), await house.begin(show_id, provider)
        for payment_id in (free, taken):
            await house.pay(payment_id)
        late = await house.webhooks()
        await house.advance(HOLD_ENDS_MS)
        payment = (await house.find(taken)).payment
        hold = await house.stores.claims.find_hold(payment.hold_id)
        assert hold is not None
        await house.hold_when_free(show_id, *hold.held.seat_indexes, customer="bob")
        await house.deliver(late)
        await house.settle([free, taken])
        assert await house.check([free, taken]) == {"places": 1, "voided": 1}

    async def test_another_amount_is_never_booked_and_somebody_hears_of_it(
        self, house: CheckoutHouse
    ) -> None:
        payment_id = await house.begin(await house.add_show())
        payment = (await house.find(payment_id)).payment
        assert payment.provider_ref is not None
        gateway = Falsifying(house.gateways["stripe"], payment.provider_ref, 900)
        actor = house.new_actor(gateways={"stripe": gateway})  # type: ignore[dict-item]
        await house.pay(payment_id)
        await house.deliver()
        await house.work(actor)
        assert "mismatch" in await house.alarms(payment_id)
        await house.settle([payment_id])
        assert await house.check([payment_id]) == {"voided": 1}

    async def test_a_payment_that_failed_and_succeeds_late_is_booked(
        self, house: CheckoutHouse
    ) -> None:
        payment_id = await house.begin(await house.add_show(), "razorpay")
        await house.pay(payment_id, "fails")
        taken = await house.webhooks()
        await house.deliver(taken)
        await house.work()
        assert await house.state(payment_id) is PaymentState.FAILED
        failed = [each.body for each in taken if b"payment.failed" in each.body]
        razorpay_id = failed[0].partition(b'"pay_')[2].partition(b'"')[0].decode()
        house.control(f"razorpay/payments/pay_{razorpay_id}/authorise_late")
        await house.deliver()
        await house.work()
        assert await house.state(payment_id) is PaymentState.SETTLED
        assert await house.check([payment_id]) == {"places": 1}


class Falsifying:
    """A gateway whose provider tells of another amount for one payment that is paid."""

    def __init__(self, gateway: PaymentGateway, provider_ref: str, amount_minor: int) -> None:
        self._gateway = gateway
        self._provider_ref = provider_ref
        self._amount_minor = amount_minor

    async def fetch(self, provider_ref: str) -> object:
        seen = await self._gateway.fetch(provider_ref)
        if provider_ref != self._provider_ref:
            return seen
        return replace(seen, amount_minor=self._amount_minor)

    def __getattr__(self, name: str) -> object:
        return getattr(self._gateway, name)


class TestRefunds:
    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_a_house_that_dies_after_the_provider_accepted_a_refund_makes_one(
        self, house: CheckoutHouse, provider: str
    ) -> None:
        payment_id = await house.begin(await house.add_show(), provider)
        await house.pay(payment_id)
        await house.deliver()
        await house.work()
        await house.cancel_booking(payment_id, RefundTerms.POLICY)
        gateway = DyingAfterRefund(house.gateways[provider])
        actor = house.new_actor(gateways={provider: gateway})  # type: ignore[dict-item]
        await actor.look()
        await actor.until_calm()
        await house.advance(1_100)
        await actor.look()
        await gateway.accepted.wait()
        await actor.stop()
        (refund,) = (await house.find(payment_id)).checkout.refunds
        assert refund.state is RefundState.REQUESTED
        await house.advance(2 * MINUTE_MS)
        await house.settle([payment_id])
        stored = await house.find(payment_id)
        assert [each.state for each in stored.checkout.refunds] == [RefundState.SUCCEEDED]
        assert await house.check([payment_id]) == {"cancelled": 1}


class DyingAfterRefund:
    """A gateway whose caller never hears that its refund was made."""

    def __init__(self, gateway: PaymentGateway) -> None:
        self._gateway = gateway
        self.accepted = asyncio.Event()

    async def refund(self, *arguments: object) -> None:
        await self._gateway.refund(*arguments)  # type: ignore[arg-type]
        self.accepted.set()
        await asyncio.Event().wait()

    def __getattr__(self, name: str) -> object:
        return getattr(self._gateway, name)


async def test_a_cancelled_shows_refunds_go_on_where_they_stopped(house: CheckoutHouse) -> None:
    show_id = await house.add_show()
    payment_ids = [await house.begin(show_id) for _ in range(12)]
    for payment_id in payment_ids[:10]:
        await house.pay(payment_id)
    await house.deliver()
    await house.work()
    await house.cancel_show(show_id)
    refs = DyingRefs(house, cancels=7)
    dying = house.show_refunds("dying", refs, bookings_per_page=3)
    working = asyncio.ensure_future(dying.work())
    await refs.died.wait()
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    job = await house.stores.refund_jobs[0].find(show_id)
    assert job is not None
    assert (job.done, job.total) == (6, 10)

    await house.advance(2 * MINUTE_MS)
    await house.show_refunds("next", house.refs, bookings_per_page=3).work()
    job = await house.stores.refund_jobs[0].find(show_id)
    assert job is not None
    assert (job.done, job.state) == (10, "done")
    await house.settle(payment_ids)
    assert await house.check(payment_ids) == {"cancelled": 10, "voided": 2}
    assert await cancelled_count(house, payment_ids) == 10


async def cancelled_count(house: CheckoutHouse, payment_ids: list[PaymentId]) -> int:
    holds = [await house.hold_of(await house.find(each)) for each in payment_ids]
    return sum(
        hold is not None
        and hold.booking is not None
        and hold.booking.state is BookingState.CANCELLED
        for hold in holds
    )


class DyingRefs:
    """Refs of a process that ends after it has cancelled so many bookings."""

    def __init__(self, house: CheckoutHouse, cancels: int) -> None:
        self._house = house
        self._left = cancels
        self.died = asyncio.Event()

    async def ask(self, show_id: ShowId, command: object, **_: object) -> object:
        self._left -= 1
        if self._left < 0:
            self.died.set()
            await asyncio.Event().wait()
        return await self._house.refs.ask(show_id, command)  # type: ignore[arg-type]
