"""What Razorpay's orders bring about that other gateways do not have."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from integrations.payments.payment_gateway import ProviderState
from integrations.payments.razorpay_notices import is_checkout_answer
from reservation.payment import CaptureMode
from tests.support.payment_benches import WEBHOOK_SECRET, Bench, bench_of


@pytest_asyncio.fixture
async def razorpay() -> AsyncIterator[Bench]:
    async with bench_of("razorpay") as found:
        yield found


async def test_a_second_payment_for_a_paid_order_does_not_hide_the_first(razorpay: Bench) -> None:
    made = await razorpay.gateway.create(razorpay.request(CaptureMode.AUTOMATIC))
    failed = await razorpay.control(f"razorpay/orders/{made.provider_ref}/pay", outcome="fails")
    first = await razorpay.pay(made)
    assert first.captured_minor == 50_000
    # The bank changes its mind about a try that had failed, and was made before.
    await razorpay.control(f"razorpay/payments/{failed['payment']['id']}/authorise_late")
    both = await razorpay.gateway.fetch(made.provider_ref)
    assert (both.state, both.charge_ref) == (ProviderState.CAPTURED, first.charge_ref)
    assert both.captured_minor == 50_000
    refund = await razorpay.gateway.refund(both, 50_000, "rf:1")
    assert refund.amount_minor == 50_000
    assert (await razorpay.gateway.fetch(made.provider_ref)).refunded_minor == 50_000


async def test_a_late_authorisation_brings_a_failed_payment_back(razorpay: Bench) -> None:
    made = await razorpay.gateway.create(razorpay.request())
    failed = await razorpay.control(f"razorpay/orders/{made.provider_ref}/pay", outcome="fails")
    assert (await razorpay.gateway.fetch(made.provider_ref)).state is ProviderState.FAILED
    await razorpay.control(f"razorpay/payments/{failed['payment']['id']}/authorise_late")
    late = await razorpay.gateway.fetch(made.provider_ref)
    assert (late.state, late.charge_ref) == (ProviderState.AUTHORISED, failed["payment"]["id"])
    await razorpay.gateway.capture(made, 50_000, "cap:1")
    assert (await razorpay.gateway.fetch(made.provider_ref)).captured_minor == 50_000


async def test_what_razorpays_page_hands_to_a_browser_is_recognised(razorpay: Bench) -> None:
    assert razorpay.sandbox is not None
    made = await razorpay.gateway.create(razorpay.request())
    answer = await razorpay.control(f"razorpay/orders/{made.provider_ref}/pay")
    charge_ref, signature = answer["razorpay_payment_id"], answer["razorpay_signature"]
    secret = razorpay.sandbox.razorpay_auth[1]
    assert is_checkout_answer(made.provider_ref, charge_ref, signature, secret)
    assert not is_checkout_answer(made.provider_ref, charge_ref, signature, WEBHOOK_SECRET)
