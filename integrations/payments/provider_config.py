"""With whom money is taken: what has to be known of a house's accounts at its providers.

Plain values that can be sent to an actor. Secrets are in no repr, so no log has them by accident.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from reservation.payment import CaptureMode

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True, slots=True)
class StripeConfig:
    """An account at Stripe.

    Shapes:
        secret_key: ``sk_test_...``, ``sk_live_...`` or a restricted ``rk_...``.
        publishable_key: what browsers need.
        webhook_secrets: of the endpoint; two while one is replaced by another.
        capture_mode: manual reserves first and takes after the booking, and is what to want;
            automatic takes at once, for methods that can nothing else.
        api_url: empty for Stripe itself.
        account: of a platform's events; see ``stripe_notices``.
    """

    secret_key: str = field(repr=False)
    publishable_key: str = ""
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    capture_mode: CaptureMode = CaptureMode.MANUAL
    api_url: str = ""
    account: str = ""

    def __post_init__(self) -> None:
        if not self.secret_key.startswith(("sk_test_", "sk_live_", "rk_test_", "rk_live_")):
            raise ValueError("a secret key of Stripe starts with sk_test_, sk_live_ or rk_")
        if self.publishable_key and not self.publishable_key.startswith("pk_"):
            raise ValueError("a publishable key of Stripe starts with pk_")
        _check_secrets(self.webhook_secrets)
        _check_url(self.api_url, self.is_live)

    @property
    def is_live(self) -> bool:
        """Whether it moves real money."""
        return self.secret_key[3:].startswith("live_")


@dataclass(frozen=True, slots=True)
class RazorpayConfig:
    """An account at Razorpay.

    Shapes:
        key_id: ``rzp_test_...`` or ``rzp_live_...``; browsers need it, too.
        webhook_secrets: not the key's; two while one is replaced by another.
        account: ``acc_...``, to refuse other accounts' webhooks; empty does not look.
    """

    key_id: str
    key_secret: str = field(repr=False)
    webhook_secrets: tuple[str, ...] = field(default=(), repr=False)
    capture_mode: CaptureMode = CaptureMode.MANUAL
    api_url: str = ""
    account: str = ""

    def __post_init__(self) -> None:
        if not self.key_id.startswith(("rzp_test_", "rzp_live_")):
            raise ValueError("a key id of Razorpay starts with rzp_test_ or rzp_live_")
        if not self.key_secret:
            raise ValueError("Razorpay's key needs its secret")
        if self.key_secret in self.webhook_secrets:
            raise ValueError("Razorpay's webhooks need a secret of their own, not the key's")
        _check_secrets(self.webhook_secrets)
        _check_url(self.api_url, self.is_live)

    @property
    def is_live(self) -> bool:
        """Whether it moves real money."""
        return self.key_id.startswith("rzp_live_")


@dataclass(frozen=True, slots=True)
class PaymentProvidersConfig:
    """The providers that a house takes money with; with none, only the counter sells."""

    stripe: StripeConfig | None = None
    razorpay: RazorpayConfig | None = None


def _check_secrets(secrets: Sequence[str]) -> None:
    if any(len(secret) < 8 for secret in secrets):
        raise ValueError("a webhook's secret is too short to keep anybody out")


def _check_url(url: str, is_live: bool) -> None:
    if not url:
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("the provider's address must be an http(s) URL")
    if parts.query or parts.fragment or parts.username or url.endswith("/"):
        raise ValueError("the provider's address must be host, port and path, without a last slash")
    if parts.scheme == "http" and (is_live or parts.hostname not in _LOOPBACK):
        raise ValueError("the key would leave this machine unencrypted")
