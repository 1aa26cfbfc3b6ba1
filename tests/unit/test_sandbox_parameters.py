"""Parameters are those that the installed Stripe client declares."""

from __future__ import annotations

from typing import Any

import pytest

from integrations.sandbox.app import Sandbox
from integrations.sandbox.stripe_call import StripeOperation
from integrations.sandbox.stripe_errors import StripeRefusal
from integrations.sandbox.stripe_parameters import read_parameters

INTENT = {"amount": "1250", "currency": "eur"}


def test_values_become_what_the_client_declares() -> None:
    form = {
        **INTENT,
        "confirm": "true",
        "metadata": {"payment_id": "17"},
        "expand": {"0": "latest_charge"},
        "automatic_payment_methods": {"enabled": "True", "allow_redirects": "never"},
        "off_session": "true",
        "description": "",
    }
    assert read_parameters("PaymentIntentCreateParams", form) == {
        "amount": 1250,
        "currency": "eur",
        "confirm": True,
        "metadata": {"payment_id": "17"},
        "expand": ["latest_charge"],
        "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        "off_session": True,
        "description": "",
    }


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({**INTENT, "confirm": "yes"}, "confirm"),
        ({**INTENT, "expand": "latest_charge"}, "expand"),
        ({**INTENT, "off_session": "sometimes"}, "off_session"),
        ({**INTENT, "shipping": {"name": "A"}}, "shipping[address]"),
        ({**INTENT, "amount": {"a": "1"}}, "amount"),
        ({**INTENT, "idempotency_key": "in the form"}, "idempotency_key"),
    ],
)
def test_other_values_are_refused_by_name(form: dict[str, Any], param: str) -> None:
    with pytest.raises(StripeRefusal) as refused:
        read_parameters("PaymentIntentCreateParams", form)
    assert (refused.value.status, refused.value.param) == (400, param)
    assert not refused.value.is_checked


def test_a_filter_may_be_a_number_or_a_range() -> None:
    shape = "PaymentIntentListParams"
    assert read_parameters(shape, {"created": "5"}) == {"created": 5}
    assert read_parameters(shape, {"created": {"gte": "5"}}) == {"created": {"gte": 5}}
    with pytest.raises(StripeRefusal, match="Invalid integer"):
        read_parameters(shape, {"created": "yesterday"})


def test_every_operation_names_parameters_that_the_client_has() -> None:
    for _, _, endpoint in Sandbox().stripe.operations():
        operation = endpoint.dialect
        assert isinstance(operation, StripeOperation)
        with pytest.raises(StripeRefusal, match="unknown parameter"):
            read_parameters(operation.shape, {"no_such_parameter": "1"})
