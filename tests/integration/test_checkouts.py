"""Checkouts over the whole stack but HTTP: database, show actors, gateways, a sandbox provider."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.checkouts import CheckoutRefusal, Checkouts, FreeCheckout, PromoWanted
from integrations.payments.payment_gateway import NoticeRefused, PaymentRequest, ProviderPayment
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.payment_rows import PromoUse
from reservation.access import HOUSE_TENANT
from reservation.commands import ConfirmHold, ReleaseHold
from reservation.ids import CustomerId, PaymentId, show_id_of
from reservation.payment import PaymentState
from reservation.price import FeeBasis, FeeTerm, PriceTerms
from reservation.promo_codes import PercentageOff, PromoTerms
from reservation.refund_terms import RefundTerms
from reservation.show import SalesPolicy
from tests.support.checkout_house import MINUTE_MS, CheckoutHouse, open_checkout_house

PROVIDERS = ("stripe", "razorpay")
ANN, BOB = CustomerId("ann"), CustomerId("bob")


@pytest.fixture(scope="module")
async def house(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[CheckoutHouse]:
    async with open_checkout_house(postgres, template) as house:
        yield house


def promo(code: str, basis_points: int = 10_000, uses_max: int | None = None) -> PromoWanted:
    use = PromoUse(HOUSE_TENANT, code)
    return PromoWanted(use, PromoTerms(code, PercentageOff(basis_points), uses_max=uses_max))


class Overtaken:
    """Stripe, which tells that a payment was paid before it answers who made it."""

    def __init__(self, house: CheckoutHouse) -> None:
        self.searches = 0
        self._house = house
        self._gateway = house.gateways["stripe"]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._gateway, name)

    async def create(self, request: PaymentRequest) -> ProviderPayment:
        made = await self._gateway.create(request)
        await self._house.tell("stripe/pay", ids=[made.provider_ref])
        await self._house.deliver()
        return made

    async def find(self, payment_id: PaymentId, created_at_ms: int) -> ProviderPayment | None:
        self.searches += 1
        return await self._gateway.find(payment_id, created_at_ms)


class TestOpening:
    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_a_checkout_gives_the_browser_what_it_needs_to_pay(
        self, house: CheckoutHouse, provider: str
    ) -> None:
        show_id = await house.add_show()
        opened = await house.open(await house.hold(show_id), provider)
        assert opened.stored.payment.state is PaymentState.OPEN
        assert set(opened.client_data) == (
            {"client_secret", "publishable_key"} if provider == "stripe" else {"order_id", "key_id"}
        )
        again = await house.checkouts.look(opened.stored.payment.payment_id)
        assert again is not None
        assert again.client_data == opened.client_data

    async def test_word_that_is_faster_than_the_providers_answer_does_not_hide_the_payment(
        self, house: CheckoutHouse
    ) -> None:
        held = await house.hold(await house.add_show())
        gateway = Overtaken(house)
        checkouts = Checkouts(house.stores, house.refs, {"stripe": gateway})
        opened = await house.open(held, checkouts=checkouts)
        assert opened.client_data["client_secret"]
        payment = opened.stored.payment
        assert (payment.state, payment.is_noticed) == (PaymentState.OPEN, True)
        actor = house.new_actor(gateways={"stripe": gateway})
        await house.work(actor)
        assert await house.check([payment.payment_id]) == {"places": 1}
        assert gateway.searches == 0, "the provider was asked for all payments"

    async def test_repeating_it_gives_the_same_payment_though_prices_have_changed(
        self, house: CheckoutHouse
    ) -> None:
        held = await house.hold(await house.add_show())
        first = await house.open(held)
        dearer = PriceTerms((FeeTerm("Fee", FeeBasis.ORDER, 100),))
        again = await house.open(held, terms=dearer)
        assert again.stored.payment.payment_id == first.stored.payment.payment_id
        assert again.stored.payment.amount_minor == first.stored.payment.amount_minor
        assert again.client_data == first.client_data

    async def test_the_key_of_another_request_is_refused(self, house: CheckoutHouse) -> None:
        held = await house.hold(await house.add_show())
        await house.open(held)
        other = await house.wanted(held, "razorpay")
        outcome = await house.checkouts.open(other)
        assert outcome is CheckoutRefusal.EXISTS_WITH_DIFFERENT_REQUEST

    async def test_a_hold_has_one_living_payment(self, house: CheckoutHouse) -> None:
        held = await house.hold(await house.add_show())
        first = await house.open(held)
        second = await house.wanted(held, idempotency_key="another")
        assert await house.checkouts.open(second) is CheckoutRefusal.HOLD_HAS_PAYMENT
        await house.checkouts.give_up(first.stored.payment.payment_id, ANN)
        await house.work()
        opened = await house.open(held, idempotency_key="another")
        assert opened.stored.payment.state is PaymentState.OPEN

    async def test_a_strangers_hold_is_not_there(self, house: CheckoutHouse) -> None:
        held = await house.hold(await house.add_show())
        wanted = await house.wanted(held, customer_id=BOB)
        assert await house.checkouts.open(wanted) is CheckoutRefusal.HOLD_NOT_FOUND

    async def test_a_hold_that_has_ended_is_not_paid_for(self, house: CheckoutHouse) -> None:
        show_id = await house.add_show()
        released, booked = await house.hold(show_id), await house.hold(show_id)
        await house.ask(show_id, ReleaseHold(released.hold_id, ANN))
        await house.ask(show_id, ConfirmHold(booked.hold_id, ANN, "counter"))
        wanted = await house.wanted(released)
        assert await house.checkouts.open(wanted) is CheckoutRefusal.HOLD_RELEASED
        wanted = await house.wanted(booked)
        assert await house.checkouts.open(wanted) is CheckoutRefusal.HOLD_ALREADY_CONFIRMED

    async def test_a_provider_that_the_house_has_not_is_refused(self, house: CheckoutHouse) -> None:
        wanted = await house.wanted(await house.hold(await house.add_show()), "paypal")
        assert await house.checkouts.open(wanted) is CheckoutRefusal.PROVIDER_NOT_AVAILABLE

    async def test_what_the_provider_will_not_take_is_refused_and_ends(
        self, house: CheckoutHouse
    ) -> None:
        held = await house.hold(await house.add_show())
        wanted = await house.wanted(held, currency="XXX")
        assert await house.checkouts.open(wanted) is CheckoutRefusal.PROVIDER_REFUSED
        refused = await house.stores.payments[0].find_by_hold(held.hold_id)
        assert refused is not None
        await house.settle([refused.payment.payment_id])
        assert await house.state(refused.payment.payment_id) is PaymentState.VOIDED

    async def test_the_hold_gets_more_time_once(self, house: CheckoutHouse) -> None:
        policy = SalesPolicy(hold_ttl_ms=5 * MINUTE_MS)
        held = await house.hold(await house.add_show(policy))
        await house.advance(2 * MINUTE_MS)
        opened = await house.open(held)
        expires_at_ms = opened.stored.payment.hold_expires_at_ms
        assert expires_at_ms >= held.expires_at_ms + 2 * MINUTE_MS
        await house.advance(MINUTE_MS)
        again = await house.open(held)
        assert again.stored.payment.hold_expires_at_ms == expires_at_ms
        hold = await house.stores.claims.find_hold(held.hold_id)
        assert hold is not None
        assert hold.expires_at_ms == expires_at_ms


class TestPromoCodes:
    async def test_what_costs_nothing_is_booked_at_once(self, house: CheckoutHouse) -> None:
        held = await house.hold(await house.add_show())
        free = promo("FREE-ONE", uses_max=1)
        wanted = await house.wanted(held, promo=free)
        outcome = await house.checkouts.open(wanted)
        assert isinstance(outcome, FreeCheckout)
        assert outcome.confirmed.payment == "free"
        assert outcome.price.total_minor == 0
        assert await house.checkouts.open(await house.wanted(held, promo=free)) == outcome
        show_id = show_id_of(outcome.confirmed.hold_id)
        other = await house.wanted(await house.hold(show_id), promo=free)
        assert await house.checkouts.open(other) is CheckoutRefusal.PROMO_USED_UP

    async def test_a_use_is_kept_when_it_comes_to_a_booking(self, house: CheckoutHouse) -> None:
        show_id = await house.add_show()
        half = promo("HALF", 5_000, uses_max=1)
        payment_id = await house.begin(show_id, promo=half)
        assert (await house.find(payment_id)).payment.amount_minor == 500
        await house.pay(payment_id)
        await house.deliver()
        await house.work()
        assert await house.state(payment_id) is PaymentState.SETTLED
        await house.cancel_booking(payment_id, RefundTerms.POLICY)
        await house.settle([payment_id])
        wanted = await house.wanted(await house.hold(show_id), promo=half)
        assert await house.checkouts.open(wanted) is CheckoutRefusal.PROMO_USED_UP

    async def test_a_use_is_given_back_when_it_does_not(self, house: CheckoutHouse) -> None:
        show_id = await house.add_show()
        once = promo("ONCE", 5_000, uses_max=1)
        payment_id = await house.begin(show_id, promo=once)
        wanted = await house.wanted(await house.hold(show_id), promo=once)
        assert await house.checkouts.open(wanted) is CheckoutRefusal.PROMO_USED_UP
        await house.checkouts.give_up(payment_id, ANN)
        await house.work()
        assert await house.begin(show_id, promo=once)

    async def test_a_code_for_other_shows_is_refused(self, house: CheckoutHouse) -> None:
        held = await house.hold(await house.add_show())
        code = PromoTerms("OTHERS", PercentageOff(100), frozenset([await house.add_show()]))
        wanted = await house.wanted(held, promo=PromoWanted(PromoUse(HOUSE_TENANT, "OTHERS"), code))
        assert await house.checkouts.open(wanted) is CheckoutRefusal.PROMO_FOR_OTHER_SHOWS


class TestPaying:
    @pytest.mark.parametrize("provider", PROVIDERS)
    async def test_who_pays_has_his_places(self, house: CheckoutHouse, provider: str) -> None:
        payment_id = await house.begin(await house.add_show(), provider)
        await house.pay(payment_id)
        await house.deliver()
        await house.work()
        assert await house.state(payment_id) is PaymentState.SETTLED
        assert await house.check([payment_id]) == {"places": 1}

    async def test_who_gives_up_pays_nothing(self, house: CheckoutHouse) -> None:
        payment_id = await house.begin(await house.add_show())
        given_up = await house.checkouts.give_up(payment_id, ANN)
        assert given_up is not None
        assert await house.checkouts.give_up(payment_id, BOB) is None
        await house.work()
        assert await house.pay(payment_id) == {"payment_intent_unexpected_state": 1}
        assert await house.check([payment_id]) == {"voided": 1}

    async def test_looking_notices_what_no_webhook_said(self, house: CheckoutHouse) -> None:
        payment_id = await house.begin(await house.add_show())
        await house.pay(payment_id)
        await house.webhooks()
        await house.work()
        assert await house.state(payment_id) is PaymentState.OPEN
        await house.checkouts.look(payment_id)
        await house.work()
        assert await house.state(payment_id) is PaymentState.SETTLED

    async def test_there_is_no_payment_of_another_form(self, house: CheckoutHouse) -> None:
        assert await house.checkouts.look(PaymentId("pay_x")) is None


class TestNotices:
    async def test_what_nobody_signed_is_refused(self, house: CheckoutHouse) -> None:
        for provider in ("stripe", "razorpay", "nobody"):
            with pytest.raises(NoticeRefused):
                await house.checkouts.take_notice(provider, b"{}", {})
        assert (await house.stores.inboxes[0].waiting()).notice_count == 0

    async def test_a_notice_that_comes_thrice_is_written_down_once(
        self, house: CheckoutHouse
    ) -> None:
        await house.begin(await house.add_show())
        await house.deliver()
        await house.work()
        payment_id = await house.begin(await house.add_show())
        await house.pay(payment_id)
        taken = await house.webhooks()
        count = "SELECT count(*) FROM webhook_inbox WHERE payment_id = $1"
        before = await house.pool.fetchval(count, payment_id)
        await house.deliver([*taken, *taken, *taken])
        assert 1 <= await house.pool.fetchval(count, payment_id) - before <= len(taken)
        await house.work()
        assert await house.check([payment_id]) == {"places": 1}
