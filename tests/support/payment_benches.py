"""Gateways on a bench: over the sandbox, or over a provider's own test mode when keys are given.

A bench adds to a gateway what a test needs and no server may have: a customer who pays. At Stripe
he confirms with one of Stripe's test methods, which its test mode knows, too. Razorpay's are paid
on a page of Razorpay's, which only the sandbox opens for a program.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import stripe

from integrations.payments.gateways import build_gateways
from integrations.payments.payment_gateway import PaymentGateway, PaymentRequest, ProviderPayment
from integrations.payments.provider_config import (
    PaymentProvidersConfig,
    RazorpayConfig,
    StripeConfig,
)
from integrations.payments.razorpay_gateway import RazorpayGateway
from integrations.payments.stripe_gateway import StripeGateway
from reservation.ids import CustomerId, PaymentId, derive_hold_id, derive_payment_id, derive_show_id
from reservation.payment import CaptureMode
from tests.support.sandbox import RunningSandbox, running_sandbox

STRIPE_KEY = "HOUSEFULL_TEST_STRIPE_SECRET_KEY"
RAZORPAY_KEY_ID = "HOUSEFULL_TEST_RAZORPAY_KEY_ID"
RAZORPAY_KEY_SECRET = "HOUSEFULL_TEST_RAZORPAY_KEY_SECRET"
WEBHOOK_SECRET = "whsec_of_the_bench"
IMPATIENT_MS = 600

METHODS = {
    "succeeds": "pm_card_visa",
    "declined": "pm_card_visa_chargeDeclined",
    "challenged": "pm_card_threeDSecure2Required",
    "takes days": "pm_usBankAccount_success",
    "refund pends": "pm_card_pendingRefund",
}

_RETURN_URL = "https://tickets.housefull.example/paid"


class NotPayable(Exception):
    """The provider does not let the customer pay this."""


@dataclass
class Bench:
    """A gateway and its customer.

    Shapes:
        impatient: the same, with little time for each request.
        cancel_is_final: nobody can pay what was cancelled.
    """

    provider: str
    gateway: PaymentGateway
    impatient: PaymentGateway
    currency: str
    cancel_is_final: bool
    sandbox: RunningSandbox | None
    browser: stripe.StripeClient | None = None

    def request(
        self, mode: CaptureMode = CaptureMode.MANUAL, amount_minor: int = 50_000
    ) -> PaymentRequest:
        """One for a payment that nobody has heard of."""
        payment_id = new_payment_id()
        return PaymentRequest(
            payment_id, amount_minor, self.currency, mode, f"pi:{payment_id}", "Two places"
        )

    async def pay(self, payment: ProviderPayment, how: str = "succeeds") -> ProviderPayment:
        """The customer tries; what the provider says of it afterwards.

        Raises:
            NotPayable: he is not let.
        """
        if self.browser is not None:
            try:
                await self.browser.v1.payment_intents.confirm_async(
                    payment.provider_ref,
                    {"payment_method": METHODS[how], "return_url": _RETURN_URL},
                )
            except stripe.InvalidRequestError as refused:
                raise NotPayable from refused
            except stripe.CardError:
                assert how == "declined"
        else:
            outcome = "fails" if how == "declined" else "succeeds"
            await self.control(f"razorpay/orders/{payment.provider_ref}/pay", outcome=outcome)
        return await self.gateway.fetch(payment.provider_ref)

    async def paid(
        self, mode: CaptureMode = CaptureMode.MANUAL, how: str = "succeeds"
    ) -> ProviderPayment:
        """A new payment that its customer has paid."""
        return await self.pay(await self.gateway.create(self.request(mode)), how)

    async def captured(self, how: str = "succeeds") -> ProviderPayment:
        """A new payment whose money is taken."""
        payment = await self.paid(how=how)
        await self.gateway.capture(payment, payment.amount_minor, f"cap:{payment.payment_id}")
        return await self.gateway.fetch(payment.provider_ref)

    async def control(self, path: str, **data: Any) -> Any:
        """Ask the sandbox's control plane."""
        if self.sandbox is None:
            pytest.skip("only the sandbox can be told what happens")
        return await asyncio.to_thread(self.sandbox.control, "POST", path, **data)

    async def break_next(self, call: str, kind: str, times: int = 1) -> None:
        """Let the next such calls go wrong."""
        operation = f"{self.provider}.{_OPERATIONS[self.provider][call]}"
        await self.control("faults", operation=operation, kind=kind, times=times)


_OPERATIONS: Mapping[str, Mapping[str, str]] = {
    "stripe": {
        "create": "payment_intents.create",
        "capture": "payment_intents.capture",
        "cancel": "payment_intents.cancel",
        "fetch": "payment_intents.retrieve",
        "refund": "refunds.create",
        "any": "*",
    },
    "razorpay": {
        "create": "orders.create",
        "capture": "payments.capture",
        "fetch": "orders.fetch",
        "refund": "payments.refund",
        "any": "*",
    },
}


def new_payment_id() -> PaymentId:
    """One that no provider has seen, also not in an earlier run."""
    show_id = derive_show_id("bench")
    hold_id = derive_hold_id(show_id, CustomerId("acc_bench"), secrets.token_hex(8))
    return derive_payment_id(hold_id, "1")


@asynccontextmanager
async def bench_of(name: str) -> AsyncIterator[Bench]:
    """The bench with this name; skips the test when its keys are not there."""
    provider, _, world = name.partition(" ")
    if world == "test mode":
        async with _over(provider, _test_mode(provider), None) as bench:
            yield bench
        return
    with running_sandbox() as sandbox:
        async with _over(provider, sandbox_config(sandbox), sandbox) as bench:
            yield bench


BENCHES = ("stripe", "razorpay", "stripe test mode", "razorpay test mode")


def sandbox_config(sandbox: RunningSandbox) -> PaymentProvidersConfig:
    """Both providers, in the sandbox."""
    return PaymentProvidersConfig(
        StripeConfig(
            sandbox.secret_key,
            sandbox.publishable_key,
            (WEBHOOK_SECRET,),
            api_url=sandbox.stripe_url,
        ),
        RazorpayConfig(*sandbox.razorpay_auth, (WEBHOOK_SECRET,), api_url=sandbox.razorpay_url),
    )


def _test_mode(provider: str) -> PaymentProvidersConfig:
    if provider == "stripe":
        key = os.environ.get(STRIPE_KEY, "")
        if not key:
            pytest.skip(f"{STRIPE_KEY} is not set")
        config = PaymentProvidersConfig(stripe=StripeConfig(key))
        assert config.stripe is not None
        assert not config.stripe.is_live, "tests take no real money"
        return config
    key_id, key_secret = os.environ.get(RAZORPAY_KEY_ID), os.environ.get(RAZORPAY_KEY_SECRET)
    if not key_id or not key_secret:
        pytest.skip(f"{RAZORPAY_KEY_ID} and {RAZORPAY_KEY_SECRET} are not set")
    assert key_id.startswith("rzp_test_"), "tests take no real money"
    return PaymentProvidersConfig(razorpay=RazorpayConfig(key_id, key_secret))


@asynccontextmanager
async def _over(
    provider: str, config: PaymentProvidersConfig, sandbox: RunningSandbox | None
) -> AsyncIterator[Bench]:
    gateways = build_gateways(config)
    if provider == "stripe":
        assert config.stripe is not None
        impatient: PaymentGateway = StripeGateway(config.stripe, request_timeout_ms=IMPATIENT_MS)
        transport = stripe.AIOHTTPClient()
        base: Any = {"api": config.stripe.api_url} if config.stripe.api_url else None
        browser = stripe.StripeClient(
            config.stripe.secret_key, http_client=transport, base_addresses=base
        )
        bench = Bench(provider, gateways[provider], impatient, "USD", True, sandbox, browser)
    else:
        assert config.razorpay is not None
        impatient = RazorpayGateway(config.razorpay, request_timeout_ms=IMPATIENT_MS)
        transport = None
        bench = Bench(provider, gateways[provider], impatient, "INR", False, sandbox)
    try:
        yield bench
    finally:
        for gateway in (*gateways.values(), impatient):
            await gateway.close()
        if transport is not None:
            await transport.close_async()
