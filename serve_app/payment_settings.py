"""The settings of with whom the house takes money; part of ``serve_app.settings``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_settings import NoDecode

from integrations.payments.provider_config import (
    PaymentProvidersConfig,
    RazorpayConfig,
    StripeConfig,
)
from reservation.payment import CaptureMode

SECRETS = frozenset(
    {
        "stripe_secret_key",
        "stripe_webhook_secrets",
        "razorpay_key_secret",
        "razorpay_webhook_secrets",
    }
)
"""Fields whose whole value is a secret."""


def _split_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


_Secrets = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
_Capture = Annotated[Literal["manual", "automatic"], BeforeValidator(_lower)]


class BadPaymentSetting(ValueError):
    """A setting of a provider that cannot be followed; ``field`` names it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field = field
        self.reason = reason


class PaymentSettings(BaseModel):
    """The house's accounts at payment providers, or the provider that it brings along."""

    payments: Annotated[Literal["auto", "providers", "sandbox", "off"], BeforeValidator(_lower)] = (
        Field(
            default="auto",
            description=(
                "providers takes money with the keys below, sandbox plays a provider, off sells "
                "at the counter only; auto is providers with keys, else sandbox on this machine, "
                "else off."
            ),
        )
    )
    sandbox_port: int = Field(
        default=8010, ge=0, le=65_535, description="The sandbox's port; 0 picks a free one."
    )
    stripe_secret_key: str | None = Field(default=None, description="sk_… or rk_… of Stripe.")
    stripe_publishable_key: str = Field(
        default="", description="pk_… of Stripe, which browsers are given."
    )
    stripe_webhook_secrets: _Secrets = Field(
        default=(),
        description="whsec_… of Stripe's endpoint; two, with a comma, while one is replaced.",
    )
    stripe_capture: _Capture = Field(
        default="manual", description="manual reserves money and takes it after the booking."
    )
    stripe_api_url: str = Field(default="", description="Instead of Stripe's own address.")
    stripe_account: str = Field(default="", description="acct_… that a platform's events are of.")
    razorpay_key_id: str | None = Field(default=None, description="rzp_… of Razorpay.")
    razorpay_key_secret: str | None = Field(default=None, description="The secret of that key.")
    razorpay_webhook_secrets: _Secrets = Field(
        default=(), description="Of Razorpay's webhook; two, with a comma, while one is replaced."
    )
    razorpay_capture: _Capture = Field(default="manual", description="As for Stripe.")
    razorpay_api_url: str = Field(default="", description="Instead of Razorpay's own address.")
    razorpay_account: str = Field(
        default="", description="acc_… whose events are believed; without it any account's."
    )

    @property
    def has_provider_keys(self) -> bool:
        """Whether keys of any provider are set."""
        return self.stripe_secret_key is not None or self.razorpay_key_id is not None

    def provider_accounts(self) -> PaymentProvidersConfig:
        """The accounts that keys are set for, whatever ``payments`` says.

        Raises:
            BadPaymentSetting: keys that are none, or that do not belong together.
        """
        return PaymentProvidersConfig(self._stripe(), self._razorpay())

    def _stripe(self) -> StripeConfig | None:
        if self.stripe_secret_key is None:
            for field in ("stripe_publishable_key", "stripe_webhook_secrets"):
                if getattr(self, field):
                    raise BadPaymentSetting("stripe_secret_key", f"is missing beside {field}")
            return None
        if not self.stripe_publishable_key:
            raise BadPaymentSetting("stripe_publishable_key", "is missing: browsers need it")
        try:
            return StripeConfig(
                self.stripe_secret_key,
                self.stripe_publishable_key,
                self.stripe_webhook_secrets,
                CaptureMode(self.stripe_capture),
                self.stripe_api_url,
                self.stripe_account,
            )
        except ValueError as error:
            raise BadPaymentSetting("stripe_secret_key", str(error)) from None

    def _razorpay(self) -> RazorpayConfig | None:
        if self.razorpay_key_id is None:
            for field in ("razorpay_key_secret", "razorpay_webhook_secrets"):
                if getattr(self, field):
                    raise BadPaymentSetting("razorpay_key_id", f"is missing beside {field}")
            return None
        try:
            return RazorpayConfig(
                self.razorpay_key_id,
                self.razorpay_key_secret or "",
                self.razorpay_webhook_secrets,
                CaptureMode(self.razorpay_capture),
                self.razorpay_api_url,
                self.razorpay_account,
            )
        except ValueError as error:
            raise BadPaymentSetting("razorpay_key_id", str(error)) from None
