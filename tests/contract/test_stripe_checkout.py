"""Payments on Stripe's own page, as far as ``StripeGateway`` promises more than a gateway."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from integrations.payments.payment_gateway import GatewayRefused, ProviderPayment, ProviderState
from integrations.payments.stripe_gateway import StripeGateway
from reservation.faults import OutcomeUnknown
from tests.support.payment_benches import METHODS, Bench, bench_of

HOUR_MS = 3_600_000
DECLINED = METHODS["declined"]


@pytest_asyncio.fixture
async def stripe() -> AsyncIterator[Bench]:
    async with bench_of("stripe") as found:
        yield found


async def opened(stripe: Bench) -> ProviderPayment:
    assert isinstance(stripe.gateway, StripeGateway)
    expires_at_ms = time.time_ns() // 1_000_000 + HOUR_MS
    return await stripe.gateway.open_checkout(
        stripe.request(), "https://house.example/paid", "https://house.example/", expires_at_ms
    )


async def test_a_page_of_stripes_leads_to_money_that_is_taken_and_given_back(
    stripe: Bench,
) -> None:
    made = await opened(stripe)
    assert (made.state, made.charge_ref) == (ProviderState.OPEN, None)
    assert (made.amount_minor, made.currency) == (50_000, "USD")
    assert made.client_data["url"].startswith("http")
    assert await stripe.gateway.refunds_of(made) == []
    for asked in (
        stripe.gateway.capture(made, 50_000, "cap:0"),
        stripe.gateway.refund(made, 50_000, "rf:0"),
    ):
        with pytest.raises(GatewayRefused):
            await asked
    with pytest.raises(AssertionError):
        await stripe.control(f"stripe/sessions/{made.provider_ref}/pay", payment_method=DECLINED)
    refused = await stripe.gateway.fetch(made.provider_ref)
    assert (refused.state, refused.client_data) == (ProviderState.OPEN, made.client_data)
    await stripe.control(f"stripe/sessions/{made.provider_ref}/pay")
    paid = await stripe.gateway.fetch(made.provider_ref)
    assert (paid.state, paid.client_data) == (ProviderState.AUTHORISED, {})
    # Who kept what was told at first gets as far as who looked again.
    await stripe.gateway.capture(made, 50_000, "cap:1")
    refund = await stripe.gateway.refund(made, 20_000, "rf:1")
    assert (await stripe.gateway.refund(paid, 20_000, "rf:1")).refund_ref == refund.refund_ref
    ended = await stripe.gateway.fetch(made.provider_ref)
    assert (ended.state, ended.provider_ref) == (ProviderState.CAPTURED, made.provider_ref)
    assert (ended.captured_minor, ended.refunded_minor) == (50_000, 20_000)
    assert [one.key for one in await stripe.gateway.refunds_of(made)] == ["rf:1"]
    assert made.payment_id is not None
    found = await stripe.gateway.find(made.payment_id, made.created_at_ms)
    assert found is not None
    assert found.provider_ref == paid.charge_ref
    with pytest.raises(GatewayRefused):
        await stripe.gateway.cancel(made, "void:1")


@pytest.mark.parametrize("tried", ["nobody", "refused", "reserved"])
async def test_nobody_pays_on_a_page_that_was_cancelled(stripe: Bench, tried: str) -> None:
    made = await opened(stripe)
    path = f"stripe/sessions/{made.provider_ref}/pay"
    if tried == "refused":
        with pytest.raises(AssertionError):
            await stripe.control(path, payment_method=DECLINED)
    elif tried == "reserved":
        await stripe.control(path)
    for key in ("void:1", "void:1", "void:2"):
        await stripe.gateway.cancel(made, key)
    ended = await stripe.gateway.fetch(made.provider_ref)
    assert (ended.state, ended.client_data) == (ProviderState.CANCELLED, {})
    assert (ended.captured_minor, ended.refunded_minor) == (0, 0)
    with pytest.raises(AssertionError):
        await stripe.control(path)


async def test_a_page_is_closed_by_cancelling_the_intent_that_was_found(stripe: Bench) -> None:
    made = await opened(stripe)
    with pytest.raises(AssertionError):
        await stripe.control(f"stripe/sessions/{made.provider_ref}/pay", payment_method=DECLINED)
    assert made.payment_id is not None
    found = await stripe.gateway.find(made.payment_id, made.created_at_ms)
    assert found is not None
    assert found.state is ProviderState.FAILED
    await stripe.gateway.cancel(found, "void:1")
    assert (await stripe.gateway.fetch(made.provider_ref)).state is ProviderState.CANCELLED


async def test_a_page_whose_opening_was_not_answered_is_opened_once(stripe: Bench) -> None:
    request = stripe.request()
    expires_at_ms = time.time_ns() // 1_000_000 + HOUR_MS
    assert isinstance(stripe.gateway, StripeGateway)
    assert isinstance(stripe.impatient, StripeGateway)
    urls = ("https://house.example/paid", "https://house.example/")
    operation = "stripe.checkout.sessions.create"
    await stripe.control("faults", operation=operation, kind="reset_after", times=1)
    with pytest.raises(OutcomeUnknown):
        await stripe.impatient.open_checkout(request, *urls, expires_at_ms)
    made = await stripe.gateway.open_checkout(request, *urls, expires_at_ms)
    again = await stripe.gateway.open_checkout(request, *urls, expires_at_ms)
    assert made.provider_ref == again.provider_ref
    assert stripe.sandbox is not None
    assert stripe.sandbox.control("GET", "counts")["rows"]["stripe_session"] == 1
