"""Nested forms, as Stripe's clients write them: ``metadata[order]=1``, ``expand[0]=charge``."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

DEPTH_MAX = 12


def read_form(encoded: str) -> dict[str, Any]:
    """The nested dictionaries of a form; lists are dictionaries of ``0``, ``1``, … until checked.

    Raises:
        ValueError: a name that no client writes.

    Example:
        >>> read_form("amount=5&metadata[a]=b&expand[]=x&expand[]=y")
        {'amount': '5', 'metadata': {'a': 'b'}, 'expand': {'0': 'x', '1': 'y'}}
    """
    form: dict[str, Any] = {}
    for name, value in parse_qsl(encoded, keep_blank_values=True, max_num_fields=2_000):
        if "[" not in name:
            form[name] = value
            continue
        head, *keys = name.replace("]", "").split("[")
        if len(keys) > DEPTH_MAX:
            raise ValueError(f"nested too deep: {name[:60]}")
        place, last = form, head
        for key in keys:
            inner = place.setdefault(last, {})
            if not isinstance(inner, dict):
                raise ValueError(f"both a value and an object: {name[:60]}")
            place, last = inner, key or str(len(inner))
        place[last] = value
    return form
