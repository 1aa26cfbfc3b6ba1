"""The gateways of a house, as its configuration names them."""

from __future__ import annotations

from integrations.payments.payment_gateway import PaymentGateway
from integrations.payments.provider_config import PaymentProvidersConfig
from integrations.payments.razorpay_gateway import RazorpayGateway
from integrations.payments.stripe_gateway import StripeGateway


def build_gateways(config: PaymentProvidersConfig) -> dict[str, PaymentGateway]:
    """A gateway for each provider that is configured, by its name.

    They hold connections and threads: one set for each process that talks to providers, used in
    one event loop and closed at the end.
    """
    gateways: list[PaymentGateway] = []
    if config.stripe is not None:
        gateways.append(StripeGateway(config.stripe))
    if config.razorpay is not None:
        gateways.append(RazorpayGateway(config.razorpay))
    return {gateway.provider: gateway for gateway in gateways}
