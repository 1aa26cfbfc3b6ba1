"""Secrets that are given out and stored only as digests: codes in letters, and API keys."""

from __future__ import annotations

import hashlib
import secrets

API_KEY_PREFIX = "hfk_"
"""Lets those who look for leaked secrets know one when they see it."""

_BYTES = 32


def new_code() -> str:
    """A code for a letter: 256 random bits, in letters that survive any link."""
    return secrets.token_urlsafe(_BYTES)


def new_api_key() -> str:
    """A key for a machine."""
    return API_KEY_PREFIX + secrets.token_urlsafe(_BYTES)


def digest_of(secret: str) -> bytes:
    """What is stored of a secret. It is long and random, so a plain digest cannot be undone."""
    return hashlib.sha256(secret.encode()).digest()
