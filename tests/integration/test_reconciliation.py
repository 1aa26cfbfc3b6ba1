"""Reconciliation: what webhooks and workers have missed is found, both ways."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from actors.config import ActorsConfig
from actors.reconciliation import FindingKind, Reconciliation, reconcile
from integrations.payments.payment_gateway import GatewayBusy, PaymentGateway, PaymentRequest
from integrations.payments.provider_config import PaymentProvidersConfig, StripeConfig
from persistence.embedded_postgres import EmbeddedPostgres
from reservation.ids import PaymentId, derive_payment_id
from reservation.payment import CaptureMode, PaymentState
from tests.support.checkout_house import (
    MINUTE_MS,
    PLACE_MINOR,
    CheckoutHouse,
    open_checkout_house,
)

FEW, MANY = 100, 1_000


@pytest.fixture
async def house(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[CheckoutHouse]:
    async with open_checkout_house(postgres, template) as house:
        yield house


async def test_a_house_whose_books_are_right_finds_nothing(house: CheckoutHouse) -> None:
    show_id = await house.add_show()
    payment_ids = [
        await house.begin(show_id, provider) for provider in ("stripe", "razorpay", "stripe")
    ]
    for payment_id in payment_ids[:2]:
        await house.pay(payment_id)
    await house.deliver()
    await house.work()
    report = await house.reconcile()
    assert report.is_clean, report
    assert [(each.provider, each.payment_count) for each in report.totals] == [
        ("razorpay", 1),
        ("stripe", 2),
    ]
    assert sum(each.captured_minor for each in report.totals) == 2 * PLACE_MINOR


@pytest.mark.parametrize("provider", ["stripe", "razorpay"])
async def test_a_payment_that_was_paid_unheard_is_woken(
    house: CheckoutHouse, provider: str
) -> None:
    payment_id = await house.begin(await house.add_show(), provider)
    await house.pay(payment_id)
    await house.webhooks()
    looked = await Reconciliation(house.stores, house.gateways).run(looks_only=True)
    await house.work()
    assert await house.state(payment_id) is PaymentState.OPEN
    report = await house.reconcile()
    assert report.findings == looked.findings
    assert [(each.kind, each.subject) for each in report.findings] == [
        (FindingKind.LAGS, payment_id)
    ]
    await house.work()
    assert await house.check([payment_id]) == {"places": 1}
    assert (await house.reconcile()).is_clean


async def test_money_of_a_payment_that_is_not_here_is_left_to_a_person(
    house: CheckoutHouse,
) -> None:
    held = await house.hold(await house.add_show())
    stranger = derive_payment_id(held.hold_id, "before the database was restored")
    made = await create(house, stranger, CaptureMode.AUTOMATIC)
    unpaid = derive_payment_id(held.hold_id, "nobody paid this")
    await create(house, unpaid, CaptureMode.AUTOMATIC)
    await house.tell("stripe/pay", ids=[made])
    report = await house.reconcile()
    assert [(each.kind, each.subject) for each in report.findings] == [
        (FindingKind.NO_ROW, f"stripe {made}")
    ]
    (alarm,) = await house.stores.books[0].alarms()
    assert (alarm.kind, alarm.subject) == ("no_row", f"stripe {made}")
    await house.reconcile()
    assert (await house.statement())[made] == (PLACE_MINOR, 0)


async def test_a_second_object_of_a_payment_is_ended_and_what_it_took_goes_back(
    house: CheckoutHouse,
) -> None:
    show_id = await house.add_show()
    payment_id, other_id = await house.begin(show_id), await house.begin(show_id)
    paid = await create(house, payment_id, CaptureMode.AUTOMATIC)
    unpaid = await create(house, other_id, CaptureMode.MANUAL)
    await house.tell("stripe/pay", ids=[paid])
    report = await house.reconcile()
    assert [(each.kind, each.subject) for each in report.findings] == [
        (FindingKind.SECOND_OBJECT, f"stripe {paid}")
    ]
    assert (await house.statement())[paid] == (PLACE_MINOR, PLACE_MINOR)
    said = await house.tell("stripe/pay", ids=[unpaid])
    assert said == {"payment_intent_unexpected_state": 1}
    assert (await house.reconcile()).is_clean
    # The payment itself goes on as if nothing had been.
    await house.pay(payment_id)
    await house.deliver()
    await house.work()
    assert await house.state(payment_id) is PaymentState.SETTLED


async def test_what_takes_too_long_is_an_alarm_and_is_looked_at(house: CheckoutHouse) -> None:
    payment_id = await house.begin(await house.add_show())
    await house.pay(payment_id)
    await house.deliver()
    operation = "stripe.payment_intents.capture"
    house.control("faults", operation=operation, kind="rate_limited", probability=1.0)
    await house.work()
    await house.advance(61 * MINUTE_MS)
    assert await house.state(payment_id) is PaymentState.BOOKED
    report = await house.reconcile()
    assert [(each.kind, each.subject) for each in report.findings] == [
        (FindingKind.STUCK, payment_id)
    ]
    assert "uncaptured_too_long" in await house.alarms(payment_id)
    house.sandbox.control("DELETE", "faults")
    await house.settle([payment_id])
    assert await house.check([payment_id]) == {"places": 1}


async def test_what_cannot_be_asked_is_said_and_the_rest_is_compared(house: CheckoutHouse) -> None:
    payment_id = await house.begin(await house.add_show(), "razorpay")
    await house.pay(payment_id)
    gateways = {**house.gateways, "stripe": Away(house.gateways["stripe"])}
    report = await Reconciliation(house.stores, gateways).run()  # type: ignore[arg-type]
    assert report.unreachable == ("stripe: it is away",)
    assert [each.subject for each in report.findings] == [payment_id]


class Away:
    """A gateway whose provider cannot be reached."""

    def __init__(self, gateway: PaymentGateway) -> None:
        self.provider = gateway.provider

    async def list_since(self, created_from_at_ms: int) -> AsyncIterator[object]:
        raise GatewayBusy("it is away")
        yield


async def test_a_command_line_compares_by_its_configuration_alone(
    house: CheckoutHouse, tmp_path: object
) -> None:
    payment_id = await house.begin(await house.add_show())
    await house.pay(payment_id)
    stripe = house.providers.stripe
    assert isinstance(stripe, StripeConfig)
    payments = PaymentProvidersConfig(stripe=replace(stripe))
    config = ActorsConfig(house.shards, str(tmp_path), payments=payments)
    report = await reconcile(config, looks_only=True)
    assert [each.subject for each in report.findings] == [payment_id]


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow_faults)])
async def test_with_webhooks_lost_and_doubled_the_ledgers_agree_to_the_minor_unit(
    house: CheckoutHouse, count: int
) -> None:
    seed = random.SystemRandom().randrange(2**31)
    draw = random.Random(seed)
    faults = {"loss_rate": 0.15, "duplicate_rate": 0.1, "seed": seed}
    house.control("webhooks/faults", **faults)
    show_id = await house.add_show()
    payment_ids: list[PaymentId] = []
    for start in range(0, count, 50):
        payment_ids += await asyncio.gather(
            *(
                house.begin(show_id, "stripe" if number % 4 else "razorpay")
                for number in range(start, min(start + 50, count))
            )
        )
    abandoned = set(draw.sample(payment_ids, count // 10))
    await house.tell("stripe/pay", ids=await refs_of(house, "stripe", payment_ids, abandoned))
    await house.tell("razorpay/pay", ids=await refs_of(house, "razorpay", payment_ids, abandoned))
    await house.deliver()
    await house.work()
    await house.deliver()
    await house.settle(payment_ids)
    ends = await house.check(payment_ids)
    assert ends == {"places": count - len(abandoned), "voided": len(abandoned)}
    statement = await asyncio.to_thread(house.sandbox.control, "GET", "statement")
    theirs = sum(account["EUR"]["net"] for account in statement.values())
    (ours,) = await house.stores.books[0].sums(show_id)
    assert theirs == ours.captured_minor - ours.refunded_minor
    assert theirs == ends["places"] * PLACE_MINOR
    counts = (await house.counts())["webhooks"]
    assert counts["stripe.dropped"] > 0
    assert counts["stripe.duplicated"] > 0


async def refs_of(
    house: CheckoutHouse, provider: str, payment_ids: list[PaymentId], but: set[PaymentId]
) -> list[str]:
    found = [(await house.find(each)).payment for each in payment_ids if each not in but]
    return [each.provider_ref or "" for each in found if each.provider == provider]


async def create(house: CheckoutHouse, payment_id: PaymentId, mode: CaptureMode) -> str:
    """Make an object at Stripe that this house does not know of, with an id that it might."""
    key = f"other:{payment_id}"
    request = PaymentRequest(payment_id, PLACE_MINOR, "EUR", mode, key, "a place")
    return (await house.gateways["stripe"].create(request)).provider_ref
