"""Cursors: where a list goes on, as a text that clients hand back unread."""

from __future__ import annotations

import base64
import binascii
import re

import orjson

from serve_app.api.problems import Problem, bad_field

LENGTH_MAX = 200
AT_MS_MAX = 253_402_300_799_999
"""The last instant of the year 9999."""

_LETTERS = re.compile(r"[A-Za-z0-9_-]+")


def write_cursor(at_ms: int, row_id: str) -> str:
    """The cursor right after the row with this instant and id.

    Example:
        >>> read_cursor(write_cursor(1_700_000_000_000, "shw_00"))
        (1700000000000, 'shw_00')
    """
    return base64.urlsafe_b64encode(orjson.dumps([at_ms, row_id])).rstrip(b"=").decode()


def read_cursor(cursor: str) -> tuple[int, str]:
    """The instant and the id that a cursor was written with.

    Raises:
        Problem: ``invalid_request`` naming ``cursor``, whatever is wrong with it.
    """
    if len(cursor) <= LENGTH_MAX and _LETTERS.fullmatch(cursor):
        try:
            value = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        except (binascii.Error, ValueError):
            value = None
        if _is_place(value):
            at_ms, row_id = value
            return at_ms, row_id
    raise _bad_cursor()


def _is_place(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    at_ms, row_id = value
    return (
        type(at_ms) is int
        and abs(at_ms) <= AT_MS_MAX
        and isinstance(row_id, str)
        and row_id.isascii()
        and row_id.isprintable()
    )


def _bad_cursor() -> Problem:
    return bad_field("cursor", "is not a cursor that was given out here")
