"""Who may talk to the sandbox, and how it behaves when nothing is broken."""

from __future__ import annotations

from dataclasses import dataclass

SECRET_KEY = "sk_test_sandbox"
PUBLISHABLE_KEY = "pk_test_sandbox"
RAZORPAY_KEY_ID = "rzp_test_sandbox"
RAZORPAY_KEY_SECRET = "sandbox-key-secret"
STRIPE_ACCOUNT = "acct_sandbox"
RAZORPAY_ACCOUNT = "acc_sandbox0000000"


@dataclass(slots=True)
class Settings:
    """What the control plane may change while the sandbox runs; kept with everything else.

    Shapes:
        razorpay_captures: payments of orders that do not say so are captured at once; in the
            real one it is a setting of the account.
        razorpay_refunds_wait: refunds stay ``pending`` until a test says how they end.

    Units:
        clock_ahead_ms: how far the sandbox's clock is ahead; moved by its own control.
        pays_after_ms: until customers pay by themselves whatever is created; None for customers
            who wait for a test to play them.
        settles_after_ms: until a bank answers for a payment or refund that takes its time; None
            until a test says so.
        search_lag_ms: until a new object is found by searching; the real one promises a minute.
        webhook_retry_ms: before the first retry of a webhook; doubled for each further one.
    """

    id: str = "settings"
    clock_ahead_ms: int = 0
    pays_after_ms: int | None = None
    settles_after_ms: int | None = 1_000
    search_lag_ms: int = 0
    razorpay_captures: bool = True
    razorpay_refunds_wait: bool = False
    webhook_retry_ms: int = 500


@dataclass(frozen=True, slots=True)
class Keys:
    """The secrets the sandbox accepts."""

    secret_key: str = SECRET_KEY
    publishable_key: str = PUBLISHABLE_KEY
    razorpay_key_id: str = RAZORPAY_KEY_ID
    razorpay_key_secret: str = RAZORPAY_KEY_SECRET
