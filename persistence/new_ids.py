"""Ids that are drawn at random, because what they name has nothing to derive an id from."""

from __future__ import annotations

import secrets

from reservation.ids import ALPHABET, DRAWN_LETTER_COUNT


def new_id(prefix: str) -> str:
    """A new id, for example ``new_id("acc_")``: the prefix and 20 random letters.

    Nobody can guess one from having seen others.
    """
    return prefix + "".join(secrets.choice(ALPHABET) for _ in range(DRAWN_LETTER_COUNT))
