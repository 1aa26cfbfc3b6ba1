"""With whom a house takes money, as its settings say; and what of that is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reservation.payment import CaptureMode
from serve_app.house.payment_sandbox import read_sandbox_keys
from serve_app.settings import SettingsError, describe, load_settings

SECRET = "s3cretOfATest"
STRIPE = {
    "STRIPE_SECRET_KEY": f"sk_test_{SECRET}",
    "STRIPE_PUBLISHABLE_KEY": "pk_test_x",
    "STRIPE_WEBHOOK_SECRETS": f"whsec_{SECRET}1, whsec_{SECRET}2",
}
RAZORPAY = {
    "RAZORPAY_KEY_ID": "rzp_live_x",
    "RAZORPAY_KEY_SECRET": SECRET,
    "RAZORPAY_WEBHOOK_SECRETS": f"{SECRET}-of-webhooks",
    "RAZORPAY_CAPTURE": "Automatic",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ``.env`` of this checkout."""
    monkeypatch.chdir(tmp_path)


def put(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"HOUSEFULL_{name}", value)


def problem() -> str:
    with pytest.raises(SettingsError) as raised:
        load_settings()
    (line,) = raised.value.problems
    return line


def test_keys_of_both_providers_become_their_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, **STRIPE, **RAZORPAY)
    settings = load_settings()
    accounts = settings.provider_accounts()
    assert accounts.stripe is not None
    assert accounts.razorpay is not None
    assert accounts.stripe.webhook_secrets == (f"whsec_{SECRET}1", f"whsec_{SECRET}2")
    assert accounts.stripe.capture_mode is CaptureMode.MANUAL
    assert accounts.razorpay.capture_mode is CaptureMode.AUTOMATIC
    assert not settings.has_payment_sandbox
    shown = "".join(map(str, describe(settings))) + repr(settings) + repr(accounts)
    assert SECRET not in shown
    assert "pk_test_x" in shown


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, True),
        ({"PAYMENTS": "off"}, False),
        ({"PAYMENTS": "sandbox"}, True),
        ({"HTTP_HOST": "0.0.0.0"}, False),
        ({"HTTP_HOST": "0.0.0.0", "PAYMENTS": "sandbox"}, True),
        (STRIPE, False),
        ({**STRIPE, "PAYMENTS": "sandbox"}, True),
        ({"GATEWAY": "on"}, True),
        ({"GATEWAY": "on", "GATEWAY_HOST": "0.0.0.0"}, False),
    ],
)
def test_the_sandbox_plays_the_provider_where_nobody_else_does_and_no_stranger_comes(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], expected: bool
) -> None:
    put(monkeypatch, **values)
    assert load_settings().has_payment_sandbox is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"PAYMENTS": "live"}, "HOUSEFULL_PAYMENTS: "),
        ({"PAYMENTS": "providers"}, "HOUSEFULL_PAYMENTS: providers needs the keys of one"),
        (STRIPE | {"STRIPE_SECRET_KEY": SECRET}, "HOUSEFULL_STRIPE_SECRET_KEY: a secret key"),
        (STRIPE | {"STRIPE_PUBLISHABLE_KEY": ""}, "HOUSEFULL_STRIPE_PUBLISHABLE_KEY: is missing"),
        (STRIPE | {"STRIPE_WEBHOOK_SECRETS": "s3"}, "HOUSEFULL_STRIPE_SECRET_KEY: a webhook's"),
        (STRIPE | {"STRIPE_SECRET_KEY": ""}, "HOUSEFULL_STRIPE_SECRET_KEY: is missing beside"),
        (
            STRIPE | {"STRIPE_API_URL": "http://192.0.2.1"},
            "HOUSEFULL_STRIPE_SECRET_KEY: the key would leave this machine unencrypted",
        ),
        (RAZORPAY | {"RAZORPAY_KEY_SECRET": ""}, "HOUSEFULL_RAZORPAY_KEY_ID: Razorpay's key needs"),
        (
            RAZORPAY | {"RAZORPAY_WEBHOOK_SECRETS": SECRET},
            "HOUSEFULL_RAZORPAY_KEY_ID: Razorpay's webhooks need a secret of their own",
        ),
        (RAZORPAY | {"RAZORPAY_KEY_ID": ""}, "HOUSEFULL_RAZORPAY_KEY_ID: is missing beside"),
    ],
)
def test_keys_that_do_not_fit_are_an_error_that_names_the_variable_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], expected: str
) -> None:
    put(monkeypatch, **values)
    said = problem()
    assert said.startswith(expected)
    assert SECRET not in said


def test_the_keys_of_the_sandbox_are_kept_private_and_are_no_other_house_s(tmp_path: Path) -> None:
    path = tmp_path / "sandbox.keys"
    keys = read_sandbox_keys(path)
    assert read_sandbox_keys(path) == keys
    assert read_sandbox_keys(tmp_path / "other.keys") != keys
    assert path.stat().st_mode & 0o077 == 0
    assert keys.secret_key not in repr(keys)
    path.write_text(json.dumps({"secret_key": "half"}))
    assert read_sandbox_keys(path).secret_key != "half"
