"""The first key that signs access tokens, and each one after it.

A new key is published a minute before it signs, so that everybody who checks tokens has read it by
then; the one before it is published until its last token is over. Two keys are alive meanwhile.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from persistence.signing_keys import SigningKeyRow, SigningKeys
from serve_app.access.access_tokens import LEEWAY_S, LIFETIME_S
from serve_app.access.access_watch import KEYS_EVERY_S
from serve_app.access.key_ring import new_signing_key

PUBLICATION_MS = int(2 * KEYS_EVERY_S * 1_000)
"""Twice as long as readers take, for one that has missed a turn."""

FAREWELL_MS = (LIFETIME_S + LEEWAY_S) * 1_000 + 4 * PUBLICATION_MS
"""How long a key is published after its successor has begun: its last token, and time to spare for
an account application that did not hear of the successor at once."""


class RotatedKeys(NamedTuple):
    """What a rotation did; ``retired`` are the keys that had signed until then."""

    kid: str
    signs_from_at_ms: int
    retired: tuple[str, ...]
    retired_until_at_ms: int


async def ensure_signing_key(keys: SigningKeys) -> None:
    """Make the first key unless there is one. Of several houses that start at once one does."""
    if not await keys.list_public_keys():
        await keys.add_signing_key(_new_row(_now_ms(), delay_ms=0), only_first=True)


async def rotate_signing_key(keys: SigningKeys, *, at_once: bool = False) -> RotatedKeys:
    """Let a new key take the place of those that are there.

    Args:
        at_once: what the old ones have signed is not accepted any more, because somebody else may
            have them. Everybody has to refresh; until all processes have heard of it, which takes
            half a minute, some requests are refused.
    """
    now_ms = _now_ms()
    before = await keys.list_public_keys()
    row = _new_row(now_ms, delay_ms=0 if at_once else PUBLICATION_MS)
    await keys.add_signing_key(row)
    until_at_ms = now_ms if at_once else row.signs_from_at_ms + FAREWELL_MS
    for key in before:
        await keys.retire_signing_key(key.kid, until_at_ms)
    return RotatedKeys(row.kid, row.signs_from_at_ms, tuple(key.kid for key in before), until_at_ms)


def _new_row(now_ms: int, *, delay_ms: int) -> SigningKeyRow:
    key = new_signing_key()
    return SigningKeyRow(
        kid=key.kid,
        private_pem=key.private_pem,
        public_raw=key.public_raw,
        created_at_ms=now_ms,
        signs_from_at_ms=now_ms + delay_ms,
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
