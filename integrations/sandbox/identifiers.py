"""Identifiers as the providers write them: a prefix and letters that nobody can guess."""

from __future__ import annotations

import os

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def random_letters(count: int) -> str:
    """Letters and digits, six bits of chance in nearly every one.

    Example:
        >>> len(random_letters(24))
        24
    """
    # A byte more than needed for each letter keeps the letters as good as equally likely.
    number = int.from_bytes(os.urandom(count), "big")
    letters = []
    for _ in range(count):
        number, place = divmod(number, 62)
        letters.append(_ALPHABET[place])
    return "".join(letters)


def stripe_id(prefix: str) -> str:
    """``pi_3`` and 24 letters, and the like."""
    return f"{prefix}_3{random_letters(23)}"


def razorpay_id(prefix: str) -> str:
    """``order_`` and 14 letters, and the like."""
    return f"{prefix}_{random_letters(14)}"
