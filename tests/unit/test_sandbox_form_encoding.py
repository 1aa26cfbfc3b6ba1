"""Nested forms, as Stripe's clients write them."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe._encode import _api_encode

from integrations.sandbox.form_encoding import read_form

NAMES = st.sampled_from(["amount", "metadata", "card", "line_items", "a", "_b"])
TEXTS = st.sampled_from(["", "a", "é€", "a b&c=d", "[x]", "100 %+;", "\n\x00", "true", "12"])
FORMS = st.recursive(TEXTS, lambda inner: st.dictionaries(NAMES, inner, min_size=1), max_leaves=12)


@given(st.dictionaries(NAMES, FORMS))
def test_what_the_client_writes_is_read(form: dict[str, Any]) -> None:
    assert read_form(urlencode(list(_api_encode(form)))) == form


def test_lists_keep_their_order() -> None:
    encoded = urlencode(list(_api_encode({"expand": ["b", "a"]})))
    assert read_form(encoded) == {"expand": {"0": "b", "1": "a"}}


@pytest.mark.parametrize("encoded", ["a=1&a[b]=2", "a" + "[b]" * 13 + "=1"])
def test_what_no_client_writes_is_refused(encoded: str) -> None:
    with pytest.raises(ValueError):
        read_form(encoded)
