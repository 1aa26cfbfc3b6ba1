"""Webhook bodies: what every provider's have in common, before anybody believes them.

The signature is over the bytes that came, so nothing here parses and writes again. Everything that
is wrong is a ``NoticeRefused`` that repeats nothing of what was sent.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from typing import Any

from integrations.payments.payment_gateway import NoticeRefused
from reservation.ids import PaymentId, is_payment_id

MAX_BODY_BYTES = 256 * 1024

MAX_REF_LENGTH = 255
"""Of a provider's id: what Stripe promises, and more than anybody uses."""

_MAX_HEADER_LENGTH = 4_096


def check_size(body: bytes) -> None:
    """Refuse what is larger than any notice."""
    if len(body) > MAX_BODY_BYTES:
        raise NoticeRefused(f"the body has more than {MAX_BODY_BYTES} bytes")


def header_of(headers: Mapping[str, str], name: str) -> str:
    """A header, whatever its letters' case.

    Raises:
        NoticeRefused: it is not there, is there twice, or is too long.
    """
    found = [value for key, value in headers.items() if key.lower() == name]
    if len(found) != 1:
        raise NoticeRefused(f"there must be one {name} header")
    if len(found[0]) > _MAX_HEADER_LENGTH:
        raise NoticeRefused(f"the {name} header is too long")
    return found[0]


def is_signed(signed: bytes, signatures: Sequence[str], secrets: Sequence[str]) -> bool:
    """Whether one of the hexadecimal signatures is HMAC-SHA256 of ``signed`` under a secret.

    Several secrets are good at once while one is replaced by another.
    """
    is_good = False
    for secret in filter(None, secrets):  # Anybody can sign with an empty one.
        expected = hmac.digest(secret.encode(), signed, "sha256").hex().encode()
        for signature in signatures:
            is_good |= hmac.compare_digest(expected, signature.encode(errors="replace"))
    return is_good


def document_of(body: bytes) -> dict[str, Any]:
    """The JSON object that a body is.

    Raises:
        NoticeRefused: it is none.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise NoticeRefused("the body is not JSON") from None
    if not isinstance(document, dict):
        raise NoticeRefused("the body is not a JSON object")
    return document


def mapping_in(document: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
    """The object at the end of a path; an empty one where there is none."""
    found: Any = document
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def reference_in(document: Mapping[str, Any], name: str) -> str | None:
    """A provider's id, None when there is none."""
    found = document.get(name)
    if isinstance(found, str) and 0 < len(found) <= MAX_REF_LENGTH and found.isprintable():
        return found
    return None


def payment_id_in(labels: object) -> PaymentId | None:
    """Our id, from what we attached (Stripe's metadata, Razorpay's notes)."""
    found = labels.get("payment_id") if isinstance(labels, Mapping) else None
    return PaymentId(found) if isinstance(found, str) and is_payment_id(found) else None


def instant_ms_in(document: Mapping[str, Any], name: str) -> int | None:
    """An instant that is given in whole seconds."""
    found = document.get(name)
    # bool is an int to Python.
    return found * 1_000 if type(found) is int and 0 <= found < 1 << 40 else None
