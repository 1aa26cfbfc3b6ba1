"""What every payment gateway promises (``integrations/payments/payment_gateway.py``).

The unmodified clients of Stripe and Razorpay talk to the sandbox. With keys of a test mode in the
environment the same cases run against the provider itself; those that need a provider to fail, or
to be paid where no program can pay, are skipped there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from integrations.payments.payment_gateway import (
    GatewayBusy,
    GatewayKeyRefused,
    GatewayRefused,
    KeySpent,
    NoticeRefused,
    PaymentGateway,
    ProviderPayment,
    ProviderState,
    RefundState,
)
from integrations.payments.provider_config import RazorpayConfig, StripeConfig
from integrations.payments.razorpay_gateway import RazorpayGateway
from integrations.payments.stripe_gateway import StripeGateway
from reservation.faults import OutcomeUnknown
from reservation.payment import CaptureMode
from tests.support.payment_benches import (
    BENCHES,
    WEBHOOK_SECRET,
    Bench,
    NotPayable,
    bench_of,
    new_payment_id,
)

MINUTE_MS = 60_000


@pytest_asyncio.fixture(params=BENCHES)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench_of(request.param) as found:
        yield found


@pytest_asyncio.fixture
async def stripe() -> AsyncIterator[Bench]:
    async with bench_of("stripe") as found:
        yield found


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def all_of(gateway: PaymentGateway, payment: ProviderPayment) -> list[ProviderPayment]:
    listed = gateway.list_since(payment.created_at_ms - MINUTE_MS)
    return [one async for one in listed if one.payment_id == payment.payment_id]


async def test_a_new_payment_waits_for_its_customer_and_carries_our_id(bench: Bench) -> None:
    request = bench.request(amount_minor=50_001)
    made = await bench.gateway.create(request)
    assert made.state is ProviderState.OPEN
    assert made.payment_id == request.payment_id
    assert (made.amount_minor, made.currency) == (50_001, bench.currency)
    assert (made.captured_minor, made.refunded_minor, made.charge_ref) == (0, 0, None)
    assert abs(made.created_at_ms - now_ms()) < 5 * MINUTE_MS
    wanted = {"stripe": "client_secret", "razorpay": "order_id"}[bench.provider]
    assert made.client_data[wanted]
    assert all(value not in repr(made) for key, value in made.client_data.items() if "sec" in key)
    assert await bench.gateway.fetch(made.provider_ref) == made


async def test_asking_again_under_a_key_makes_nothing_new(bench: Bench) -> None:
    request = bench.request()
    first = await bench.gateway.create(request)
    again = await bench.gateway.create(request)
    assert again.provider_ref == first.provider_ref
    assert [one.provider_ref for one in await all_of(bench.gateway, first)] == [first.provider_ref]


async def test_what_was_made_is_found_by_our_id_and_nothing_else_is(bench: Bench) -> None:
    made = await bench.gateway.create(bench.request())
    assert made.payment_id is not None
    assert await bench.gateway.find(made.payment_id, now_ms()) == made
    assert await bench.gateway.find(new_payment_id(), now_ms()) is None


async def test_what_the_provider_does_not_know_is_said_to_be_unknown(bench: Bench) -> None:
    ref = {"stripe": "pi_0unknown0unknown0unknown", "razorpay": "order_00unknown00000"}
    with pytest.raises(GatewayRefused) as refused:
        await bench.gateway.fetch(ref[bench.provider])
    assert refused.value.is_unknown_object


async def test_money_is_reserved_then_taken_once(bench: Bench) -> None:
    request = bench.request()
    payment = await bench.pay(await bench.gateway.create(request))
    assert payment.state is ProviderState.AUTHORISED
    assert (payment.charge_ref is None) is (bench.provider == "stripe")
    assert (payment.captured_minor, payment.client_data) == (0, {})
    for key in ("cap:1", "cap:1", "cap:2"):
        await bench.gateway.capture(payment, 50_000, f"{key}:{payment.payment_id}")
    taken = await bench.gateway.fetch(payment.provider_ref)
    assert taken.state is ProviderState.CAPTURED
    assert (taken.captured_minor, taken.refunded_minor) == (50_000, 0)
    assert (taken.amount_minor, taken.currency) == (50_000, bench.currency)
    assert taken.charge_ref == payment.charge_ref


async def test_in_automatic_mode_money_is_taken_when_it_is_paid(bench: Bench) -> None:
    payment = await bench.paid(CaptureMode.AUTOMATIC)
    assert payment.state is ProviderState.CAPTURED
    assert payment.captured_minor == 50_000
    await bench.gateway.capture(payment, 50_000, f"cap:{payment.payment_id}")


async def test_more_than_was_reserved_cannot_be_taken(bench: Bench) -> None:
    payment = await bench.paid()
    with pytest.raises(GatewayRefused):
        await bench.gateway.capture(payment, 50_001, f"cap:{payment.payment_id}")
    assert (await bench.gateway.fetch(payment.provider_ref)).state is ProviderState.AUTHORISED
    await bench.gateway.capture(payment, 50_000, f"cap:2:{payment.payment_id}")
    with pytest.raises(GatewayRefused):
        await bench.gateway.capture(payment, 50_001, f"cap:3:{payment.payment_id}")


async def test_nothing_can_be_taken_before_it_is_paid(bench: Bench) -> None:
    payment = await bench.gateway.create(bench.request())
    with pytest.raises(GatewayRefused):
        await bench.gateway.capture(payment, 50_000, f"cap:{payment.payment_id}")
    assert (await bench.gateway.fetch(payment.provider_ref)).state is ProviderState.OPEN


async def test_a_refusal_that_stripe_repeats_is_not_taken_for_an_answer_about_now(
    stripe: Bench,
) -> None:
    payment = await stripe.gateway.create(stripe.request())
    with pytest.raises(GatewayRefused):
        await stripe.gateway.capture(payment, 50_000, "cap:1")
    await stripe.pay(payment)
    with pytest.raises(KeySpent):
        await stripe.gateway.capture(payment, 50_000, "cap:1")
    await stripe.gateway.capture(payment, 50_000, "cap:2")


async def test_a_declined_payment_has_failed_and_may_be_paid_after_all(bench: Bench) -> None:
    made = await bench.gateway.create(bench.request())
    declined = await bench.pay(made, "declined")
    assert declined.state is ProviderState.FAILED
    assert (declined.captured_minor, declined.client_data) == (0, made.client_data)
    assert (await bench.pay(made)).state is ProviderState.AUTHORISED


async def test_a_challenge_is_the_customers_turn(stripe: Bench) -> None:
    made = await stripe.gateway.create(stripe.request())
    for passes, state in ((False, ProviderState.FAILED), (True, ProviderState.AUTHORISED)):
        asked = await stripe.pay(made, "challenged")
        assert asked.state is ProviderState.OPEN
        assert asked.client_data == made.client_data
        await stripe.control(f"stripe/payment_intents/{made.provider_ref}/challenge", passes=passes)
        assert (await stripe.gateway.fetch(made.provider_ref)).state is state


async def test_what_a_bank_takes_days_for_is_under_way_until_it_ends(stripe: Bench) -> None:
    await stripe.control("settings", settles_after_ms=None)
    made = await stripe.gateway.create(stripe.request(CaptureMode.AUTOMATIC))
    waiting = await stripe.pay(made, "takes days")
    assert (waiting.state, waiting.captured_minor) == (ProviderState.PROCESSING, 0)
    assert waiting.client_data == {}
    await stripe.control(f"stripe/payment_intents/{made.provider_ref}/settle", succeeds=True)
    paid = await stripe.gateway.fetch(made.provider_ref)
    assert (paid.state, paid.captured_minor) == (ProviderState.CAPTURED, 50_000)
    other = await stripe.pay(
        await stripe.gateway.create(stripe.request(CaptureMode.AUTOMATIC)), "takes days"
    )
    await stripe.control(f"stripe/payment_intents/{other.provider_ref}/settle", succeeds=False)
    assert (await stripe.gateway.fetch(other.provider_ref)).state is ProviderState.FAILED


async def test_nobody_pays_what_was_cancelled(bench: Bench) -> None:
    payment = await bench.gateway.create(bench.request())
    for key in ("void:1", "void:1", "void:2"):
        await bench.gateway.cancel(payment, f"{key}:{payment.payment_id}")
    if bench.cancel_is_final:
        ended = await bench.gateway.fetch(payment.provider_ref)
        assert (ended.state, ended.client_data) == (ProviderState.CANCELLED, {})
        with pytest.raises(NotPayable):
            await bench.pay(payment)
        with pytest.raises(GatewayRefused):
            await bench.gateway.capture(payment, 50_000, f"cap:{payment.payment_id}")
    else:
        # Such a provider has to be looked at again: nothing keeps the customer from paying.
        assert (await bench.pay(payment)).state is ProviderState.AUTHORISED
        assert (await bench.gateway.find(new_payment_id(), now_ms())) is None


async def test_reserved_money_is_let_go_and_counts_as_never_taken(bench: Bench) -> None:
    payment = await bench.paid()
    await bench.gateway.cancel(payment, f"void:{payment.payment_id}")
    if not bench.cancel_is_final:
        # It goes back by itself when its time is over.
        await bench.control("clock", advance_ms=6 * 86_400_000)
    ended = await bench.gateway.fetch(payment.provider_ref)
    assert ended.state in (ProviderState.CANCELLED, ProviderState.FAILED)
    assert (ended.captured_minor, ended.refunded_minor) == (0, 0)
    with pytest.raises(GatewayRefused):
        await bench.gateway.capture(payment, 50_000, f"cap:{payment.payment_id}")


async def test_what_was_taken_cannot_be_cancelled(bench: Bench) -> None:
    payment = await bench.captured()
    with pytest.raises(GatewayRefused):
        await bench.gateway.cancel(payment, f"void:{payment.payment_id}")
    assert (await bench.gateway.fetch(payment.provider_ref)).captured_minor == 50_000


async def test_money_goes_back_in_parts_and_never_more_than_came(bench: Bench) -> None:
    payment = await bench.captured()
    first = await bench.gateway.refund(payment, 12_345, f"rf:1:{payment.payment_id}")
    assert (first.amount_minor, first.key) == (12_345, f"rf:1:{payment.payment_id}")
    assert first.state in (RefundState.SUCCEEDED, RefundState.PENDING)
    with pytest.raises(GatewayRefused):
        await bench.gateway.refund(payment, 37_656, f"rf:2:{payment.payment_id}")
    await bench.gateway.refund(payment, 37_655, f"rf:3:{payment.payment_id}")
    with pytest.raises(GatewayRefused):
        await bench.gateway.refund(payment, 100, f"rf:4:{payment.payment_id}")
    ended = await bench.gateway.fetch(payment.provider_ref)
    assert ended.state is ProviderState.CAPTURED
    assert (ended.captured_minor, ended.refunded_minor) == (50_000, 50_000)
    made = {refund.key: refund for refund in await bench.gateway.refunds_of(payment)}
    assert {key: refund.amount_minor for key, refund in made.items()} == {
        f"rf:1:{payment.payment_id}": 12_345,
        f"rf:3:{payment.payment_id}": 37_655,
    }
    assert made[f"rf:1:{payment.payment_id}"].refund_ref == first.refund_ref


async def test_nothing_goes_back_of_what_was_not_taken(bench: Bench) -> None:
    payment = await bench.paid()
    with pytest.raises(GatewayRefused):
        await bench.gateway.refund(payment, 50_000, f"rf:{payment.payment_id}")
    assert await bench.gateway.refunds_of(payment) == []


async def test_a_refund_is_made_once_under_a_key(bench: Bench) -> None:
    payment = await bench.captured()
    key = f"rf:{payment.payment_id}"
    refunds = [await bench.gateway.refund(payment, 20_000, key) for _ in range(2)]
    assert refunds[0].refund_ref == refunds[1].refund_ref
    assert (await bench.gateway.fetch(payment.provider_ref)).refunded_minor == 20_000


async def test_a_refund_is_made_once_under_a_key_that_its_provider_has_forgotten(
    bench: Bench,
) -> None:
    payment = await bench.captured()
    first = await bench.gateway.refund(payment, 20_000, "rf:1")
    await bench.control("clock", advance_ms=25 * 60 * MINUTE_MS)
    again = await bench.gateway.refund(payment, 20_000, "rf:1")
    assert again.refund_ref == first.refund_ref
    assert (await bench.gateway.fetch(payment.provider_ref)).refunded_minor == 20_000


async def test_taking_and_cancelling_may_be_repeated_when_keys_are_forgotten(bench: Bench) -> None:
    taken = await bench.captured()
    cancelled = await bench.gateway.create(bench.request())
    await bench.gateway.cancel(cancelled, "void:1")
    await bench.control("clock", advance_ms=25 * 60 * MINUTE_MS)
    await bench.gateway.capture(taken, 50_000, f"cap:{taken.payment_id}")
    await bench.gateway.cancel(cancelled, "void:1")
    assert (await bench.gateway.fetch(taken.provider_ref)).captured_minor == 50_000


async def test_a_refund_that_takes_its_time_ends_one_way_or_the_other(bench: Bench) -> None:
    await bench.control("settings", settles_after_ms=None, razorpay_refunds_wait=True)
    payment = await bench.captured("refund pends")
    for succeeds, state in ((True, RefundState.SUCCEEDED), (False, RefundState.FAILED)):
        refund = await bench.gateway.refund(payment, 10_000, f"rf:{succeeds}")
        assert refund.state is RefundState.PENDING
        path = f"{bench.provider}/refunds/{refund.refund_ref}/settle"
        await bench.control(path, succeeds=succeeds)
        ended = {one.key: one.state for one in await bench.gateway.refunds_of(payment)}
        assert ended[f"rf:{succeeds}"] is state
    assert (await bench.gateway.fetch(payment.provider_ref)).refunded_minor == 10_000


@pytest.mark.parametrize("kind", ["hang_after", "reset_after", "error_after"])
async def test_a_payment_whose_making_was_not_answered_is_found(bench: Bench, kind: str) -> None:
    request = bench.request()
    await bench.break_next("create", kind)
    with pytest.raises(OutcomeUnknown):
        await bench.impatient.create(request)
    found = await bench.gateway.find(request.payment_id, now_ms())
    assert found is not None
    assert (found.state, found.amount_minor) == (ProviderState.OPEN, 50_000)
    if (bench.provider, kind) == ("stripe", "error_after"):
        # Stripe will say so for as long as it remembers the key.
        with pytest.raises(KeySpent):
            await bench.gateway.create(request)
    else:
        assert (await bench.gateway.create(request)).provider_ref == found.provider_ref
    assert len(await all_of(bench.gateway, found)) == 1


@pytest.mark.parametrize("kind", ["hang_before", "reset_before", "error_before"])
async def test_a_payment_that_was_not_made_is_not_found_and_can_be(bench: Bench, kind: str) -> None:
    request = bench.request()
    await bench.break_next("create", kind)
    with pytest.raises(OutcomeUnknown):
        await bench.impatient.create(request)
    assert await bench.gateway.find(request.payment_id, now_ms()) is None
    made = await bench.gateway.create(request)
    assert len(await all_of(bench.gateway, made)) == 1


@pytest.mark.parametrize("kind", ["hang_after", "reset_after", "error_after"])
async def test_taking_money_without_an_answer_is_seen_by_looking(bench: Bench, kind: str) -> None:
    payment = await bench.paid()
    await bench.break_next("capture", kind)
    with pytest.raises(OutcomeUnknown):
        await bench.impatient.capture(payment, 50_000, "cap:1")
    assert (await bench.gateway.fetch(payment.provider_ref)).state is ProviderState.CAPTURED
    await bench.gateway.capture(payment, 50_000, "cap:2")
    assert (await bench.gateway.fetch(payment.provider_ref)).captured_minor == 50_000


@pytest.mark.parametrize("kind", ["hang_after", "reset_after", "error_after"])
async def test_a_refund_without_an_answer_is_made_once(bench: Bench, kind: str) -> None:
    payment = await bench.captured()
    await bench.break_next("refund", kind)
    with pytest.raises(OutcomeUnknown):
        await bench.impatient.refund(payment, 20_000, "rf:1")
    known = await bench.gateway.refunds_of(payment)
    assert [(refund.key, refund.amount_minor) for refund in known] == [("rf:1", 20_000)]
    assert (await bench.gateway.refund(payment, 20_000, "rf:1")).refund_ref == known[0].refund_ref
    assert (await bench.gateway.fetch(payment.provider_ref)).refunded_minor == 20_000


@pytest.mark.parametrize("kind", ["hang_after", "reset_after", "error_after"])
async def test_a_cancellation_without_an_answer_is_seen_by_looking(
    stripe: Bench, kind: str
) -> None:
    payment = await stripe.gateway.create(stripe.request())
    await stripe.break_next("cancel", kind)
    with pytest.raises(OutcomeUnknown):
        await stripe.impatient.cancel(payment, "void:1")
    assert (await stripe.gateway.fetch(payment.provider_ref)).state is ProviderState.CANCELLED
    await stripe.gateway.cancel(payment, "void:2")


async def test_too_many_requests_are_a_no_for_now_to_everything(bench: Bench) -> None:
    payment = await bench.captured()
    request = bench.request()
    await bench.break_next("any", "rate_limited", times=7)
    for asked in (
        bench.gateway.create(request),
        bench.gateway.fetch(payment.provider_ref),
        bench.gateway.find(request.payment_id, now_ms()),
        bench.gateway.capture(payment, 50_000, "cap:2"),
        bench.gateway.cancel(payment, "void:1"),
        bench.gateway.refund(payment, 1_000, "rf:1"),
        bench.gateway.refunds_of(payment),
    ):
        with pytest.raises(GatewayBusy):
            await asked
    assert (await bench.gateway.create(request)).state is ProviderState.OPEN
    assert (await bench.gateway.fetch(payment.provider_ref)).refunded_minor == 0


async def test_what_cannot_be_read_now_is_no_mystery(bench: Bench) -> None:
    payment = await bench.gateway.create(bench.request())
    # A reset is not among them: one client asks again by itself, as it may when it reads.
    for kind in ("hang_before", "error_before", "error_after"):
        await bench.break_next("fetch", kind)
        with pytest.raises(GatewayBusy):
            await bench.impatient.fetch(payment.provider_ref)
    assert await bench.gateway.fetch(payment.provider_ref) == payment


async def test_a_wrong_key_says_nothing_about_a_payment(bench: Bench) -> None:
    payment = await bench.captured() if bench.sandbox else None
    stranger = _stranger(bench)
    request = bench.request()
    asked = [stranger.create(request), stranger.find(request.payment_id, now_ms())]
    if payment is not None:
        asked += [
            stranger.capture(payment, 50_000, "cap:2"),  # type: ignore[list-item]
            stranger.cancel(payment, "void:1"),  # type: ignore[list-item]
            stranger.refund(payment, 50_000, "rf:1"),  # type: ignore[list-item]
            stranger.fetch(payment.provider_ref),
        ]
    for one in asked:
        with pytest.raises(GatewayKeyRefused) as refused:
            await one
        assert not isinstance(refused.value, GatewayRefused)
        assert "s3cr3t" not in f"{refused.value}{refused.value!r}"
    await stranger.close()
    assert await bench.gateway.find(request.payment_id, now_ms()) is None


def _stranger(bench: Bench) -> PaymentGateway:
    url = "" if bench.sandbox is None else getattr(bench.sandbox, f"{bench.provider}_url")
    if bench.provider == "stripe":
        return StripeGateway(StripeConfig("sk_test_s3cr3tOfNobody", api_url=url))
    return RazorpayGateway(RazorpayConfig("rzp_test_nobody", "s3cr3tOfNobody", api_url=url))


async def test_everything_since_a_moment_is_listed_over_all_pages(bench: Bench) -> None:
    if bench.sandbox is None:
        pytest.skip("a hundred payments are too many for other people's test mode")
    requests = [bench.request(amount_minor=10_000 + n) for n in range(205)]
    for start in range(0, len(requests), 41):
        await asyncio.gather(*map(bench.gateway.create, requests[start : start + 41]))
    paid = await bench.captured()
    await bench.gateway.refund(paid, 1_000, "rf:1")
    listed = {one.payment_id: one async for one in bench.gateway.list_since(now_ms() - MINUTE_MS)}
    assert {one.payment_id: one.amount_minor for one in requests}.items() <= {
        payment_id: one.amount_minor for payment_id, one in listed.items()
    }.items()
    assert len(listed) == len(requests) + 1
    # What is listed is what is fetched: reconciling needs no second look.
    assert listed[paid.payment_id] == await bench.gateway.fetch(paid.provider_ref)
    assert [one async for one in bench.gateway.list_since(now_ms() + MINUTE_MS)] == []


async def test_many_at_once_make_one_payment_each(bench: Bench) -> None:
    if bench.sandbox is None:
        pytest.skip("a crowd is too much for other people's test mode")
    requests = [bench.request() for _ in range(30)]
    made = await asyncio.gather(*map(bench.gateway.create, requests))
    assert [one.payment_id for one in made] == [request.payment_id for request in requests]
    assert len({one.provider_ref for one in made}) == 30


async def test_one_key_asked_for_by_many_at_once_makes_one_payment(stripe: Bench) -> None:
    request = stripe.request()
    answers = await asyncio.gather(
        *(stripe.gateway.create(request) for _ in range(10)), return_exceptions=True
    )
    made = {one.provider_ref for one in answers if isinstance(one, ProviderPayment)}
    assert len(made) == 1
    assert all(isinstance(one, ProviderPayment | OutcomeUnknown) for one in answers)


async def test_another_request_under_a_used_key_may_not_be_called_undone(stripe: Bench) -> None:
    request = stripe.request()
    await stripe.gateway.create(request)
    with pytest.raises(KeySpent):
        await stripe.gateway.create(replace(request, amount_minor=60_000))


async def test_a_providers_own_webhooks_are_believed_and_lead_to_the_payment(bench: Bench) -> None:
    received: list[tuple[dict[str, str], bytes]] = []

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        pairs = [line.partition(": ")[::2] for line in head.split("\r\n")[1:] if line]
        headers = dict(pairs)
        length = next(value for key, value in pairs if key.lower() == "content-length")
        received.append((headers, await reader.readexactly(int(length))))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(receive, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    await bench.control("webhooks", provider=bench.provider, url=url, secrets=[WEBHOOK_SECRET])
    payment = await bench.captured()
    await bench.gateway.refund(payment, 1_000, "rf:1")
    wanted = {
        "stripe": {
            "payment_intent.amount_capturable_updated",
            "payment_intent.succeeded",
            "charge.refunded",
            "refund.created",
        },
        "razorpay": {"payment.authorized", "payment.captured", "order.paid", "refund.processed"},
    }[bench.provider]
    read = {}
    for _ in range(600):
        for headers, body in received:
            notice = bench.gateway.read_notice(body, headers, now_ms())
            if notice is not None:
                read[notice.kind] = notice
        if wanted <= read.keys():
            break
        await asyncio.sleep(0.05)
    assert wanted <= read.keys()
    for notice in read.values():
        assert notice.provider == bench.provider
        assert notice.provider_ref == payment.provider_ref
        assert not notice.is_live
    by_id = [notice.payment_id for notice in read.values() if notice.payment_id is not None]
    assert set(by_id) == {payment.payment_id}
    for headers, body in received:
        with pytest.raises(NoticeRefused):
            bench.gateway.read_notice(body + b" ", headers, now_ms())
    server.close()
