"""What every answer tells browsers.

The applications answer with data and never with pages. So nothing that a browser could do with an
answer, beside giving it to a script that may have it, is of use to anybody: it shall not guess
another type, run anything, show it in a frame, or let a foreign page embed it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Headers = Iterable[tuple[bytes, bytes]]

SECURITY_HEADERS: Sequence[tuple[bytes, bytes]] = (
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""Strict-Transport-Security is the gateway's: only it knows that there is TLS."""

_NOT_STORED = (*SECURITY_HEADERS, (b"cache-control", b"no-store"))


def hardened(headers: Headers) -> list[tuple[bytes, bytes]]:
    """These headers of a response, and the ones that every response has.

    What does not say how long it may be kept is about one customer, or bad news: it is not kept.
    """
    merged = [*headers]
    for name, _ in merged:
        if name == b"cache-control":
            merged += SECURITY_HEADERS
            return merged
    merged += _NOT_STORED
    return merged
