"""What a house says about its payment providers, and what is made of it."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from integrations.payments.gateways import build_gateways
from integrations.payments.payment_gateway import GatewayRefused, PaymentRequest
from integrations.payments.provider_config import (
    PaymentProvidersConfig,
    RazorpayConfig,
    StripeConfig,
)
from reservation.ids import PaymentId
from reservation.payment import CaptureMode

SECRET_KEY = "sk_test_s3cr3tOfTheHouse"
KEY_SECRET = "s3cr3tOfTheKey"
WEBHOOK_SECRET = "whsec_s3cr3tOfTheHook"

STRIPE = StripeConfig(SECRET_KEY, "pk_test_1", (WEBHOOK_SECRET,))
RAZORPAY = RazorpayConfig("rzp_test_1", KEY_SECRET, (WEBHOOK_SECRET,))


def test_no_secret_is_in_a_repr_and_all_reach_another_process() -> None:
    config = PaymentProvidersConfig(STRIPE, RAZORPAY)
    for shown in (repr(config), str(config)):
        assert "s3cr3t" not in shown
        assert "pk_test_1" in shown
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"secret_key": ""},
        {"secret_key": "pk_test_1"},
        {"secret_key": WEBHOOK_SECRET},
        {"publishable_key": SECRET_KEY},
        {"webhook_secrets": ("",)},
        {"webhook_secrets": (WEBHOOK_SECRET, "short")},
        {"api_url": "ftp://127.0.0.1"},
        {"api_url": "http://stripe.example"},
        {"api_url": "http://127.0.0.1:12111/"},
        {"api_url": "http://127.0.0.1:12111?key=s3cr3t"},
        {"api_url": "http://user@127.0.0.1:12111"},
        {"api_url": "http://127.0.0.1:12111", "secret_key": "sk_live_s3cr3t"},
    ],
)
def test_what_cannot_be_an_account_at_stripe_is_refused_and_not_repeated(
    changes: dict[str, Any],
) -> None:
    good: dict[str, Any] = {"secret_key": SECRET_KEY, "webhook_secrets": (WEBHOOK_SECRET,)}
    StripeConfig(**good)
    with pytest.raises(ValueError) as refused:
        StripeConfig(**{**good, **changes})
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"key_id": ""},
        {"key_id": KEY_SECRET},
        {"key_secret": ""},
        {"webhook_secrets": (KEY_SECRET,)},
        {"webhook_secrets": ("",)},
        {"api_url": "http://razorpay.example"},
    ],
)
def test_what_cannot_be_an_account_at_razorpay_is_refused_and_not_repeated(
    changes: dict[str, Any],
) -> None:
    good: dict[str, Any] = {"key_id": "rzp_test_1", "key_secret": KEY_SECRET}
    RazorpayConfig(**good)
    with pytest.raises(ValueError) as refused:
        RazorpayConfig(**{**good, **changes})
    assert "s3cr3t" not in str(refused.value)


def test_the_key_says_whether_money_is_real() -> None:
    assert not STRIPE.is_live
    assert StripeConfig("sk_live_1").is_live
    assert StripeConfig("rk_live_1").is_live
    assert not StripeConfig("rk_test_live_1").is_live
    assert not RAZORPAY.is_live
    assert RazorpayConfig("rzp_live_1", "secret").is_live


async def test_a_house_has_the_gateways_that_it_is_configured_for() -> None:
    for config, names in (
        (PaymentProvidersConfig(), set()),
        (PaymentProvidersConfig(stripe=STRIPE), {"stripe"}),
        (PaymentProvidersConfig(razorpay=RAZORPAY), {"razorpay"}),
        (PaymentProvidersConfig(STRIPE, RAZORPAY), {"stripe", "razorpay"}),
    ):
        gateways = build_gateways(config)
        assert set(gateways) == names
        for name, gateway in gateways.items():
            assert gateway.provider == name
            assert "s3cr3t" not in repr(gateway)
            await gateway.close()


async def test_a_house_that_takes_money_at_once_does_not_reserve_it() -> None:
    config = PaymentProvidersConfig(
        StripeConfig(SECRET_KEY, capture_mode=CaptureMode.AUTOMATIC),
        RazorpayConfig("rzp_test_1", KEY_SECRET, capture_mode=CaptureMode.AUTOMATIC),
    )
    request = PaymentRequest(
        PaymentId("pay_" + "0a" * 16), 5_000, "INR", CaptureMode.MANUAL, "pi:1", "Two places"
    )
    for gateway in build_gateways(config).values():
        assert gateway.modes == {CaptureMode.AUTOMATIC}
        with pytest.raises(GatewayRefused):
            await gateway.create(request)
        await gateway.close()
    for gateway in build_gateways(PaymentProvidersConfig(STRIPE, RAZORPAY)).values():
        assert gateway.modes == {CaptureMode.MANUAL, CaptureMode.AUTOMATIC}
        await gateway.close()
