"""Stripe's documented test payment methods, and what becomes of a payment made with each.

Source: docs.stripe.com/testing, as far as it concerns taking and giving back money.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Decline:
    """Why a bank says no."""

    code: str
    decline_code: str | None
    message: str


class Settling(StrEnum):
    """How a method that takes its time ends."""

    AT_ONCE = "at_once"
    SUCCEEDS = "succeeds"
    FAILS = "fails"
    NEVER = "never"


class Refunding(StrEnum):
    """How a refund to a method ends."""

    AT_ONCE = "at_once"
    PENDING = "pending"  #: Starts pending, succeeds later.
    FAILS = "fails"  #: Starts succeeded, fails later.


@dataclass(frozen=True, slots=True)
class TestMethod:
    """A test payment method.

    Shapes:
        number: of the card or the account; unique.
        has_challenge: the customer is asked to prove who he is before the bank answers.
    """

    number: str
    kind: str = "card"
    brand: str = "visa"
    decline: Decline | None = None
    has_challenge: bool = False
    settling: Settling = Settling.AT_ONCE
    refunding: Refunding = Refunding.AT_ONCE


_GENERIC = Decline("card_declined", "generic_decline", "Your card was declined.")
_FUNDS = Decline("card_declined", "insufficient_funds", "Your card has insufficient funds.")
_LOST = Decline("card_declined", "lost_card", "Your card was declined.")
_STOLEN = Decline("card_declined", "stolen_card", "Your card was declined.")
_FRAUD = Decline("card_declined", "fraudulent", "Your card was declined.")
_EXPIRED = Decline("expired_card", None, "Your card has expired.")
_CVC = Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.")
_PROCESSING = Decline(
    "processing_error",
    "processing_error",
    "An error occurred while processing your card. Try again in a little bit.",
)
_VELOCITY = Decline(
    "card_declined",
    "card_velocity_exceeded",
    "Your card has been declined for making repeated attempts too frequently or exceeding its "
    "amount limit.",
)

AUTHENTICATION_FAILED = Decline(
    "payment_intent_authentication_failure",
    None,
    "We are unable to authenticate your payment method. Please choose a different payment method "
    "and try again.",
)
BANK_REFUSED = Decline(
    "payment_intent_payment_attempt_failed",
    None,
    "The payment failed.",
)

_METHODS: dict[str, TestMethod] = {
    "pm_card_visa": TestMethod("4242424242424242"),
    "pm_card_visa_debit": TestMethod("4000056655665556"),
    "pm_card_mastercard": TestMethod("5555555555554444", brand="mastercard"),
    "pm_card_amex": TestMethod("378282246310005", brand="amex"),
    "pm_card_discover": TestMethod("6011111111111117", brand="discover"),
    "pm_card_diners": TestMethod("3056930009020004", brand="diners"),
    "pm_card_jcb": TestMethod("3566002020360505", brand="jcb"),
    "pm_card_unionpay": TestMethod("6200000000000005", brand="unionpay"),
    "pm_card_in": TestMethod("4000003560000008"),
    "pm_card_gb": TestMethod("4000008260000000"),
    "pm_card_de": TestMethod("4000002760000016"),
    "pm_card_bypassPending": TestMethod("4000000000000077"),
    "pm_card_bypassPendingInternational": TestMethod("4000003720000278"),
    "pm_card_pendingRefund": TestMethod("4000000000007726", refunding=Refunding.PENDING),
    "pm_card_refundFail": TestMethod("4000000000005126", refunding=Refunding.FAILS),
    "pm_card_visa_chargeDeclined": TestMethod("4000000000000002", decline=_GENERIC),
    "pm_card_visa_chargeDeclinedInsufficientFunds": TestMethod("4000000000009995", decline=_FUNDS),
    "pm_card_visa_chargeDeclinedLostCard": TestMethod("4000000000009987", decline=_LOST),
    "pm_card_visa_chargeDeclinedStolenCard": TestMethod("4000000000009979", decline=_STOLEN),
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": TestMethod(
        "4000000000006975", decline=_VELOCITY
    ),
    "pm_card_chargeDeclinedExpiredCard": TestMethod("4000000000000069", decline=_EXPIRED),
    "pm_card_chargeDeclinedIncorrectCvc": TestMethod("4000000000000127", decline=_CVC),
    "pm_card_chargeDeclinedProcessingError": TestMethod("4000000000000119", decline=_PROCESSING),
    "pm_card_radarBlock": TestMethod("4100000000000019", decline=_FRAUD),
    "pm_card_authenticationRequired": TestMethod("4000002760003184", has_challenge=True),
    "pm_card_threeDSecure2Required": TestMethod("4000000000003220", has_challenge=True),
    "pm_card_authenticationRequiredOnSetup": TestMethod("4000002500003155", has_challenge=True),
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": TestMethod(
        "4000008260003178", has_challenge=True, decline=_FUNDS
    ),
    "pm_card_threeDSecureRequiredChargeDeclined": TestMethod(
        "4000008400001629", has_challenge=True, decline=_GENERIC
    ),
    "pm_usBankAccount_success": TestMethod(
        "000123456789", "us_bank_account", "", settling=Settling.SUCCEEDS
    ),
    "pm_usBankAccount_accountClosed": TestMethod(
        "000111111113", "us_bank_account", "", settling=Settling.FAILS
    ),
    "pm_usBankAccount_insufficientFunds": TestMethod(
        "000222222227", "us_bank_account", "", settling=Settling.FAILS
    ),
    "pm_usBankAccount_processing": TestMethod(
        "000000009101", "us_bank_account", "", settling=Settling.NEVER
    ),
}

_OTHER_NAMES = {
    "pm_card_chargeDeclined": "pm_card_visa_chargeDeclined",
    "pm_card_chargeDeclinedInsufficientFunds": "pm_card_visa_chargeDeclinedInsufficientFunds",
    "pm_card_chargeDeclinedLostCard": "pm_card_visa_chargeDeclinedLostCard",
    "pm_card_chargeDeclinedStolenCard": "pm_card_visa_chargeDeclinedStolenCard",
    "pm_card_threeDSecureRequired": "pm_card_threeDSecure2Required",
}

_BY_NUMBER = {method.number: method for method in _METHODS.values()}


def method_named(name: str) -> TestMethod | None:
    """The method that Stripe documents under this name; ``tok_`` works like ``pm_card_``.

    Example:
        >>> method_named("pm_card_visa").number
        '4242424242424242'
    """
    if name.startswith("tok_"):
        name = f"pm_card_{name.removeprefix('tok_')}"
    return _METHODS.get(_OTHER_NAMES.get(name, name))


def method_numbered(number: str) -> TestMethod | None:
    """The method with this number, which may be written with blanks."""
    return _BY_NUMBER.get(number.replace(" ", "").replace("-", ""))
