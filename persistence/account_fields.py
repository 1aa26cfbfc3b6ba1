"""What may be stored about accounts, checked before Postgres sees it."""

from __future__ import annotations

import unicodedata

from persistence.catalogue_text import checked_text

PAGE_LENGTH_MAX = 100

EMAIL_LENGTH_MAX = 254
"""The longest address that mail can be sent to (RFC 5321)."""

ACCOUNT_NAME_LENGTH_MAX = 200
PASSWORD_HASH_LENGTH_MAX = 500

_EMAIL_KEY_LENGTH_MAX = 500
_SHA256_BYTES = 32


def checked_email(email: str) -> str:
    """``email`` itself, when it can be stored. Whether it is an address is not asked here.

    Raises:
        ValueError: it is blank, too long or no valid Unicode; the message begins with ``email``.
    """
    checked_text("email", email, EMAIL_LENGTH_MAX)
    key = email_key_of(email)
    if not key:
        raise ValueError("email: blank")
    # One sign may stand for eighteen letters.
    if len(key) > _EMAIL_KEY_LENGTH_MAX:
        raise ValueError(f"email: longer than {EMAIL_LENGTH_MAX} characters")
    return email


def email_key_of(email: str) -> str:
    """What two spellings of one address have in common: case, width and composition do not count.

    Accents do: they are other letters, and other people's addresses.

    Example:
        >>> email_key_of("Žofie@Example.COM") == email_key_of("Z\u030cOFIE@example.com ")
        True
        >>> email_key_of("zofie@example.com") == email_key_of("žofie@example.com")
        False
    """
    folded = unicodedata.normalize("NFKC", email).casefold()
    # Folding takes some letters apart again.
    return unicodedata.normalize("NFKC", folded).strip()


def checked_name(name: str) -> str:
    """``name`` itself, when an account may have it.

    Raises:
        ValueError: it cannot be stored; the message begins with ``name``.
    """
    return checked_text("name", name, ACCOUNT_NAME_LENGTH_MAX)


def checked_password_hash(password_hash: str) -> str:
    """``password_hash`` itself, when it can be stored.

    Raises:
        ValueError: it cannot; the message begins with ``password_hash`` and does not show it.
    """
    if not checked_text("password_hash", password_hash, PASSWORD_HASH_LENGTH_MAX):
        raise ValueError("password_hash: empty")
    return password_hash


def checked_sha256(field: str, digest: bytes) -> bytes:
    """``digest`` itself, when it has the length of a SHA-256.

    Raises:
        ValueError: it has not; the message begins with ``field``.
    """
    if len(digest) != _SHA256_BYTES:
        raise ValueError(f"{field}: not {_SHA256_BYTES} bytes")
    return digest


def checked_limit(limit: int) -> int:
    """``limit`` itself, when a page may have that length.

    Raises:
        ValueError: it is not in 1..100.
    """
    if not 1 <= limit <= PAGE_LENGTH_MAX:
        raise ValueError(f"limit: not in 1..{PAGE_LENGTH_MAX}")
    return limit
