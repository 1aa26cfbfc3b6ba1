"""Identifiers: opaque to clients, and enough to route by.

A show id carries its logical shard; hold and booking ids carry their show. Whoever holds
an id can therefore find the shard and the actor without a directory look-up.

    shw_ SS BBBBBBBBBBBBBB                    show: shard (2), body (14)
    hld_ SS BBBBBBBBBBBBBB HHHHHHHHHHHHHHHH   hold: the show's 16, then 16 of its own
    bkg_ SS BBBBBBBBBBBBBB HHHHHHHHHHHHHHHH   booking: its hold's 32 (one hold, one booking)
    pay_ SS BBBBBBBBBBBBBB PPPPPPPPPPPPPPPP   payment: the show's 16, then 16 of its own
    rfd_ SS BBBBBBBBBBBBBB PPPPPPPPPPPPPPPP NN   refund: its payment's 32, then its number

These are derived by hashing, never drawn: importing the same timetable twice gives the same
shows, and the same customer with the same idempotency key gives the same hold.

    acc_ tnt_ ses_ key_ and 20 letters        account, tenant, session, API key

These say nothing and are drawn at random where they are stored (``persistence/new_ids.py``): who
signs up may not be able to tell who else did.
"""

from __future__ import annotations

import hashlib
import re
from typing import NewType

ShowId = NewType("ShowId", str)
HoldId = NewType("HoldId", str)
BookingId = NewType("BookingId", str)
PaymentId = NewType("PaymentId", str)
RefundId = NewType("RefundId", str)
CustomerId = NewType("CustomerId", str)
ChannelId = NewType("ChannelId", str)
AccountId = NewType("AccountId", str)
TenantId = NewType("TenantId", str)
SessionId = NewType("SessionId", str)
ApiKeyId = NewType("ApiKeyId", str)

LOGICAL_SHARD_COUNT = 1024

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Base 32 without the letters that people confuse with digits or read as words."""

REFUND_NUMBER_MAX = 99
"""What two digits of a refund's id can count."""

DRAWN_LETTER_COUNT = 20
"""Of an id that is drawn: 100 bits, too many to guess or to meet twice."""

_VALUE_OF = {letter: value for value, letter in enumerate(ALPHABET)}
_TO_BASE32 = bytes(ord(ALPHABET[value & 31]) for value in range(256))
_SHOW_BODY = 16
_HOLD_BODY = 32

_SHOW_ID = re.compile(rf"shw_[{ALPHABET}]{{{_SHOW_BODY}}}")
_HOLD_ID = re.compile(rf"hld_[{ALPHABET}]{{{_HOLD_BODY}}}")
_BOOKING_ID = re.compile(rf"bkg_[{ALPHABET}]{{{_HOLD_BODY}}}")
_PAYMENT_ID = re.compile(rf"pay_[{ALPHABET}]{{{_HOLD_BODY}}}")
_ACCOUNT_ID = re.compile(rf"acc_[{ALPHABET}]{{{DRAWN_LETTER_COUNT}}}")
_TENANT_ID = re.compile(rf"tnt_[{ALPHABET}]{{{DRAWN_LETTER_COUNT}}}")
_SESSION_ID = re.compile(rf"ses_[{ALPHABET}]{{{DRAWN_LETTER_COUNT}}}")
_API_KEY_ID = re.compile(rf"key_[{ALPHABET}]{{{DRAWN_LETTER_COUNT}}}")


def _letters(source: str, count: int) -> str:
    # One letter per digest byte: 5 of its 8 bits are enough, and it is one C call.
    digest = hashlib.blake2b(source.encode(), digest_size=count).digest()
    return digest.translate(_TO_BASE32).decode("ascii")


def derive_show_id(source_key: str) -> ShowId:
    """The id of the show that ``source_key`` names, the same every time.

    Example:
        >>> derive_show_id("gtfs:CR:1045:2026-12-01") == derive_show_id("gtfs:CR:1045:2026-12-01")
        True
        >>> is_show_id(derive_show_id("theatre:hamlet:1"))
        True
    """
    return ShowId("shw_" + _letters(source_key, _SHOW_BODY))


def derive_hold_id(show_id: ShowId, customer_id: CustomerId, idempotency_key: str) -> HoldId:
    """The id of the hold that this customer asks for under this key on this show."""
    own = _letters(f"{show_id}\0{customer_id}\0{idempotency_key}", _HOLD_BODY - _SHOW_BODY)
    return HoldId("hld_" + show_id[4:] + own)


def derive_payment_id(hold_id: HoldId, idempotency_key: str) -> PaymentId:
    """The id of the payment that is started for this hold under this key."""
    own = _letters(f"{hold_id}\0{idempotency_key}", _HOLD_BODY - _SHOW_BODY)
    return PaymentId("pay_" + hold_id[4 : 4 + _SHOW_BODY] + own)


def booking_id_of(hold_id: HoldId) -> BookingId:
    """The booking that confirming this hold makes."""
    return BookingId("bkg_" + hold_id[4:])


def hold_id_of(booking_id: BookingId) -> HoldId:
    """The hold that this booking was made from."""
    return HoldId("hld_" + booking_id[4:])


def refund_id_of(payment_id: PaymentId, number: int) -> RefundId:
    """The id of a payment's refund of this number, from 1."""
    assert 1 <= number <= REFUND_NUMBER_MAX, f"refund number {number}"
    return RefundId(f"rfd_{payment_id[4:]}{number:02}")


def payment_id_of(refund_id: RefundId) -> PaymentId:
    """The payment that this refund is of."""
    return PaymentId("pay_" + refund_id[4 : 4 + _HOLD_BODY])


def show_id_of(claim_id: HoldId | BookingId | PaymentId | RefundId) -> ShowId:
    """The show that a hold, a booking, a payment or a refund belongs to."""
    return ShowId("shw_" + claim_id[4 : 4 + _SHOW_BODY])


def logical_shard_of(show_id: ShowId) -> int:
    """The logical shard, 0..1023, that the id carries."""
    return _VALUE_OF[show_id[4]] * 32 + _VALUE_OF[show_id[5]]


def is_show_id(text: str) -> bool:
    """Whether ``text`` has the form of a show id (not whether the show exists)."""
    return _SHOW_ID.fullmatch(text) is not None


def is_hold_id(text: str) -> bool:
    """Whether ``text`` has the form of a hold id."""
    return _HOLD_ID.fullmatch(text) is not None


def is_booking_id(text: str) -> bool:
    """Whether ``text`` has the form of a booking id."""
    return _BOOKING_ID.fullmatch(text) is not None


def is_payment_id(text: str) -> bool:
    """Whether ``text`` has the form of a payment id."""
    return _PAYMENT_ID.fullmatch(text) is not None


def is_account_id(text: str) -> bool:
    """Whether ``text`` has the form of an account's id (not whether the account exists)."""
    return _ACCOUNT_ID.fullmatch(text) is not None


def is_tenant_id(text: str) -> bool:
    """Whether ``text`` has the form of a tenant's id."""
    return _TENANT_ID.fullmatch(text) is not None


def is_session_id(text: str) -> bool:
    """Whether ``text`` has the form of a session's id."""
    return _SESSION_ID.fullmatch(text) is not None


def is_api_key_id(text: str) -> bool:
    """Whether ``text`` has the form of an API key's id (its name, not the key itself)."""
    return _API_KEY_ID.fullmatch(text) is not None
