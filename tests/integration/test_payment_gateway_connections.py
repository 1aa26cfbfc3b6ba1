"""What gateways say when the line to a provider breaks, at every place where it can.

The provider is a socket here that answers, or does not, as each test says; what a provider answers
when all is well is the business of the contract suite.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from integrations.payments.payment_gateway import (
    GatewayBusy,
    GatewayRefused,
    PaymentGateway,
    PaymentRequest,
    ProviderPayment,
    ProviderState,
)
from integrations.payments.provider_config import RazorpayConfig, StripeConfig
from integrations.payments.razorpay_gateway import RazorpayGateway
from integrations.payments.razorpay_line import MAX_ANSWER_BYTES
from integrations.payments.stripe_gateway import StripeGateway
from reservation.faults import OutcomeUnknown
from reservation.ids import PaymentId
from reservation.payment import CaptureMode

SECRET_KEY = "sk_test_s3cr3tOfTheHouse"
KEY_SECRET = "s3cr3tOfTheKey"
CLIENT_SECRET = "pi_1_secret_s3cr3t"
PAYMENT_ID = PaymentId("pay_" + "0a" * 16)
REQUEST = PaymentRequest(PAYMENT_ID, 5_000, "INR", CaptureMode.MANUAL, "pi:1", "Two places")
PAYMENT = ProviderPayment(
    "ref_1", PAYMENT_ID, ProviderState.AUTHORISED, 5_000, "INR", 0, 0, 0, "pay_charge1"
)
TIMEOUT_MS = 700

Behaviour = Callable[[str, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Build = Callable[[str], PaymentGateway]


def stripe_at(url: str) -> PaymentGateway:
    return StripeGateway(StripeConfig(SECRET_KEY, api_url=url), request_timeout_ms=TIMEOUT_MS)


def razorpay_at(url: str) -> PaymentGateway:
    return RazorpayGateway(
        RazorpayConfig("rzp_test_1", KEY_SECRET, api_url=url),
        call_timeout_ms=2 * TIMEOUT_MS + 500,
        request_timeout_ms=TIMEOUT_MS,
    )


@pytest.fixture(params=[stripe_at, razorpay_at], ids=["stripe", "razorpay"])
def build(request: pytest.FixtureRequest) -> Build:
    found: Build = request.param
    return found


def nobody() -> str:
    """A URL at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{held.getsockname()[1]}"


class Provider:
    """A socket that behaves as it is told; reads of Razorpay's may be answered as if well."""

    def __init__(self, behaviour: Behaviour, *, only_when_writing: bool = False) -> None:
        self.asked: list[str] = []
        self.heads = ""
        self.is_asked = asyncio.Event()
        self._behaviour = behaviour
        self._only_when_writing = only_when_writing

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            self.heads += head
            self.is_asked.set()
            self.asked.append(head.split(" HTTP")[0])
            length = [x for x in head.lower().split("\r\n") if x.startswith("content-length")]
            if length:
                await reader.readexactly(int(length[0].split(":")[1]))
            if self._only_when_writing and head.startswith("GET"):
                await answer(200, {"items": []})(head, reader, writer)
            else:
                await self._behaviour(head, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(provider: Provider) -> AsyncIterator[str]:
    server = await asyncio.start_server(provider.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def answer(status: int, document: object, head: str = "") -> Behaviour:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()

    async def behave(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{head}"
        writer.write(lines.encode() + b"\r\n" + body)
        await writer.drain()

    return behave


async def stay_silent(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def hang_up(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    return


async def reset(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # Without lingering, closing is a reset.
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


async def answer_half(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"id": "pi_1"')
    await writer.drain()


async def drip(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    for _letter in range(500):
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def hang_up_while_answering(
    _: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"id')
    await writer.drain()


BREAKS: dict[str, Behaviour] = {
    "silent": stay_silent,
    "hangs up": hang_up,
    "reset": reset,
    "half an answer": answer_half,
    "half a chunk": hang_up_while_answering,
    "drip": drip,
    "not JSON": answer(200, b"<html>"),
    "gateway time-out": answer(504, b"<html>"),
}


@pytest.mark.parametrize("how", BREAKS)
async def test_a_line_that_breaks_leaves_an_effect_unknown_and_a_reading_undone(
    build: Build, how: str
) -> None:
    provider = Provider(BREAKS[how], only_when_writing=True)
    async with running(provider) as url:
        gateway = build(url)
        for effect in (
            gateway.create(REQUEST),
            gateway.capture(PAYMENT, 5_000, "cap:1"),
        ):
            with pytest.raises(OutcomeUnknown) as fault:
                await asyncio.wait_for(effect, 10)
            assert "s3cr3t" not in f"{fault.value!r}{fault.value}"
        await gateway.close()
    provider = Provider(BREAKS[how])
    async with running(provider) as url:
        gateway = build(url)
        for reading in (gateway.fetch("ref_1"), gateway.find(PAYMENT_ID, 0)):
            with pytest.raises(GatewayBusy):
                await asyncio.wait_for(reading, 10)
        assert all(asked.startswith("GET") for asked in provider.asked)
        await gateway.close()


async def test_without_a_connection_nothing_has_happened(build: Build) -> None:
    gateway = build(nobody())
    for effect in (gateway.create(REQUEST), gateway.capture(PAYMENT, 5_000, "cap:1")):
        with pytest.raises(GatewayBusy):
            await effect
    await gateway.close()


async def test_whom_nobody_vouches_for_gets_no_key(build: Build) -> None:
    seen = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await reader.read(5_000))
        # No TLS at all: the handshake fails before anything of HTTP is said.
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    gateway = build(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    # Whether it is known that nothing was sent depends on the client; that it worked, never.
    with pytest.raises((GatewayBusy, OutcomeUnknown)):
        await gateway.create(REQUEST)
    assert seen
    assert b"s3cr3t" not in bytes(seen)
    await gateway.close()
    server.close()


async def test_a_key_does_not_follow_an_answer_elsewhere(build: Build) -> None:
    elsewhere = Provider(answer(200, {}))
    async with running(elsewhere) as other_url:
        provider = Provider(answer(307, {}, f"Location: {other_url}/v1/orders\r\n"))
        async with running(provider) as url:
            gateway = build(url)
            with pytest.raises((GatewayBusy, GatewayRefused, OutcomeUnknown)):
                await gateway.fetch("ref_1")
            await gateway.close()
    assert "authorization: b" in provider.heads.lower()
    assert "authorization" not in elsewhere.heads.lower()


async def test_razorpays_answers_have_an_end() -> None:
    async def pour(_: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n")
        for _piece in range(2 * MAX_ANSWER_BYTES // 65_536):
            writer.write(b" " * 65_536)
            await writer.drain()

    async with running(Provider(pour)) as url:
        gateway = RazorpayGateway(RazorpayConfig("rzp_test_1", KEY_SECRET, api_url=url))
        with pytest.raises(GatewayBusy, match="did not end"):
            await gateway.fetch("ref_1")
        await gateway.close()


async def test_more_calls_than_threads_wait_for_their_turn_and_then_give_up_undone() -> None:
    provider = Provider(stay_silent)
    async with running(provider) as url:
        gateway = RazorpayGateway(
            RazorpayConfig("rzp_test_1", KEY_SECRET, api_url=url),
            call_timeout_ms=1_500,
            request_timeout_ms=60_000,
        )
        ended = await asyncio.gather(
            *(gateway.capture(PAYMENT, 5_000, "cap:1") for _ in range(12)), return_exceptions=True
        )
        kinds = [type(one) for one in ended]
        assert kinds.count(OutcomeUnknown) == len(provider.asked) == 4
        assert kinds.count(GatewayBusy) == 8
        await gateway.close()


async def test_who_stops_waiting_starts_nothing_more(build: Build) -> None:
    provider = Provider(stay_silent)
    async with running(provider) as url:
        gateway = build(url)
        # Both of them read before they refund.
        refunding = asyncio.create_task(gateway.refund(PAYMENT, 5_000, "rf:1"))
        await provider.is_asked.wait()
        refunding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await refunding
        await gateway.close()
    assert all(asked.startswith("GET") for asked in provider.asked)


async def test_the_event_loop_goes_on_while_a_provider_is_silent(build: Build) -> None:
    async with running(Provider(stay_silent)) as url:
        gateway = build(url)
        waiting = asyncio.create_task(gateway.fetch("ref_1"))
        turns = 0
        while not waiting.done():
            await asyncio.sleep(0.01)
            turns += 1
        # One long block would leave a few turns.
        assert turns > 10
        with pytest.raises(GatewayBusy):
            await waiting
        await gateway.close()


async def test_nothing_is_printed_and_no_secret_is_logged(
    build: Build, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    intent = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 5_000,
        "currency": "inr",
        "created": 1,
        "client_secret": CLIENT_SECRET,
        "status": "requires_payment_method",
        "created_at": 1,
        "items": [],
    }
    error = {"error": {"message": SECRET_KEY, "description": KEY_SECRET, "code": "no"}}
    async with running(Provider(answer(200, intent))) as url:
        gateway = build(url)
        await gateway.create(REQUEST)
        await gateway.close()
    for behaviour in (answer(400, error), answer(401, error), reset):
        async with running(Provider(behaviour, only_when_writing=True)) as url:
            gateway = build(url)
            with pytest.raises((GatewayBusy, GatewayRefused, OutcomeUnknown)) as raised:
                await gateway.create(REQUEST)
            # What would be printed under "During handling" would be the provider's text.
            shown = "".join(traceback.format_exception(raised.value))
            assert "s3cr3t" not in shown
            await gateway.close()
    gateway = build(nobody())
    with pytest.raises(GatewayBusy):
        await gateway.fetch("ref_1")
    await gateway.close()
    assert capfd.readouterr() == ("", "")
    assert "s3cr3t" not in caplog.text


async def test_stripes_library_would_log_what_is_secret(caplog: pytest.LogCaptureFixture) -> None:
    # The control of the test above: it must be able to find something.
    caplog.set_level(logging.DEBUG, logger="stripe")
    async with running(Provider(answer(401, {"error": {"message": SECRET_KEY}}))) as url:
        gateway = stripe_at(url)
        with pytest.raises(GatewayBusy):
            await gateway.fetch("pi_1")
        await gateway.close()
    assert "s3cr3t" in caplog.text


@pytest.mark.parametrize("document", [{}, {"id": None}, {"id": "x", "amount": "much"}, {"a": [{}]}])
async def test_a_success_that_is_not_understood_may_have_happened(
    build: Build, document: dict[str, object]
) -> None:
    async with running(Provider(answer(200, document), only_when_writing=True)) as url:
        gateway = build(url)
        with pytest.raises(OutcomeUnknown):
            await gateway.create(REQUEST)
        with pytest.raises(OutcomeUnknown):
            await gateway.create(REQUEST)
        await gateway.close()
    async with running(Provider(answer(200, document))) as url:
        gateway = build(url)
        with pytest.raises(GatewayBusy):
            await gateway.fetch("ref_1")
        await gateway.close()


async def test_while_a_bank_thinks_a_refused_cancellation_is_no_answer() -> None:
    intent = {"id": "pi_1", "amount": 5_000, "currency": "usd", "created": 1}
    refusal = {"error": {"code": "payment_intent_unexpected_state", "message": "no"}}
    states = {
        "processing": GatewayBusy,
        "succeeded": GatewayRefused,
        "requires_capture": GatewayRefused,
        "canceled": None,
    }
    for status, fault in states.items():

        async def behave(
            head: str,
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            shown: dict[str, object] = {**intent, "status": status},  # noqa: B006 - read only.
        ) -> None:
            told = answer(200, shown) if head.startswith("GET") else answer(400, refusal)
            await told(head, reader, writer)

        async with running(Provider(behave)) as url:
            gateway = stripe_at(url)
            if fault is None:
                await gateway.cancel(PAYMENT, "void:1")
            else:
                with pytest.raises(fault) as raised:
                    await gateway.cancel(PAYMENT, "void:1")
                assert type(raised.value) is fault
            await gateway.close()


async def test_requests_that_are_each_in_time_do_not_make_a_call_that_is_not(build: Build) -> None:
    refusal = {"error": {"code": "payment_intent_unexpected_state", "message": "no"}}

    async def answer_late(
        head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await asyncio.sleep(0.5)
        await answer(400, refusal)(head, reader, writer)

    provider = Provider(answer_late)
    async with running(provider) as url:
        hurried: PaymentGateway = (
            StripeGateway(StripeConfig(SECRET_KEY, api_url=url), call_timeout_ms=700)
            if build is stripe_at
            else RazorpayGateway(
                RazorpayConfig("rzp_test_1", KEY_SECRET, api_url=url), call_timeout_ms=1_300
            )
        )
        # Refused, and then there is no time to look why.
        with pytest.raises((OutcomeUnknown, GatewayBusy)):
            await hurried.capture(PAYMENT, 5_000, "cap:1")
        await hurried.close()


async def test_a_provider_that_drips_does_not_keep_the_threads() -> None:
    order = {"id": "order_1", "amount": 1, "currency": "INR", "created_at": 1, "items": []}
    is_dripping = True

    async def behave(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await (drip if is_dripping else answer(200, order))(head, reader, writer)

    async with running(Provider(behave)) as url:
        gateway = razorpay_at(url)
        dripped = await asyncio.gather(
            *(gateway.fetch("order_1") for _ in range(4)), return_exceptions=True
        )
        assert [type(one) for one in dripped] == [GatewayBusy] * 4
        is_dripping = False
        assert (await gateway.fetch("order_1")).provider_ref == "order_1"
        await gateway.close()


async def test_what_a_thread_still_waits_for_may_have_happened() -> None:
    async def answer_a_bit_late(
        _: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
        await asyncio.sleep(0.7)
        # The library's patience starts anew with this, and outlasts the call's.
        writer.write(b" ")
        await reader.read()

    async with running(Provider(answer_a_bit_late, only_when_writing=True)) as url:
        gateway = RazorpayGateway(
            RazorpayConfig("rzp_test_1", KEY_SECRET, api_url=url), call_timeout_ms=1_500
        )
        with pytest.raises(OutcomeUnknown, match="no time left"):
            await gateway.capture(PAYMENT, 5_000, "cap:1")
        await gateway.close()
    async with running(Provider(answer_a_bit_late)) as url:
        gateway = RazorpayGateway(
            RazorpayConfig("rzp_test_1", KEY_SECRET, api_url=url), call_timeout_ms=1_500
        )
        with pytest.raises(GatewayBusy, match="no time left"):
            await gateway.fetch("order_1")
        await gateway.close()
