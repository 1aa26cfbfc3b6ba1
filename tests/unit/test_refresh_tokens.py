"""Refresh tokens: nobody guesses one, and a sealed one opens with its predecessor only."""

from __future__ import annotations

import hashlib

import pytest

from persistence.refresh_tokens import (
    draw_refresh_token,
    is_refresh_token,
    seal,
    sha256_of,
    unseal,
)


def test_drawn_tokens_are_different_and_have_256_bits() -> None:
    drawn = {draw_refresh_token() for _ in range(2_000)}
    assert len(drawn) == 2_000
    assert all(is_refresh_token(token) for token in drawn)
    # Every bit of the last but one letter is free; the last one has 4 of its 6 bits.
    assert len({token[-2] for token in drawn}) == 64
    assert len({token[-1] for token in drawn}) == 16


@pytest.mark.parametrize(
    "text",
    ["", "rft_", "rft_" + "A" * 42, "rft_" + "A" * 44, "RFT_" + "A" * 43, "rft_" + "A" * 42 + "=",
     "rft_" + "A" * 42 + "+", "rft_" + "A" * 43 + "\n"],
)  # fmt: skip
def test_other_texts_are_no_tokens(text: str) -> None:
    assert not is_refresh_token(text)


def test_a_seal_opens_with_its_own_token_only() -> None:
    token, successor, other = (draw_refresh_token() for _ in range(3))
    sealed = seal(successor, token)
    assert unseal(sealed, token) == successor
    assert unseal(sealed, other) != successor
    assert unseal(sealed, successor) != successor


def test_a_seal_shows_nothing_of_what_is_in_it() -> None:
    token, successor = draw_refresh_token(), draw_refresh_token()
    sealed = seal(successor, token)
    assert len(sealed) == 32
    for known in (sha256_of(token), sha256_of(successor)):
        opened = bytes(a ^ b for a, b in zip(sealed, known, strict=True))
        assert hashlib.sha256(opened).digest() != sha256_of(successor)
    # Another token, another stream: two seals of one successor have nothing in common.
    assert seal(successor, draw_refresh_token()) != sealed
