"""Instants as clients see them: RFC 3339, UTC, milliseconds, always the same form."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated

from pydantic import Field

Instant = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        description="RFC 3339, UTC.",
        examples=["2026-11-22T19:00:00.000Z"],
        json_schema_extra={"format": "date-time"},
    ),
]
"""How a response describes an instant."""

YEAR_MIN = 1970
YEAR_MAX = 2999

_EPOCH = datetime(1970, 1, 1)
_AWARE_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")

DAY_MS = 86_400_000


def write_instant(at_ms: int) -> str:
    """Unix milliseconds as text.

    Example:
        >>> write_instant(1_700_000_000_007)
        '2023-11-14T22:13:20.007Z'
    """
    at_s, milliseconds = divmod(at_ms, 1_000)
    return f"{_second(at_s)}.{milliseconds:03}Z"


@lru_cache(maxsize=4_096)
def _second(at_s: int) -> str:
    # Thousands of holds begin and end in the same few seconds.
    return (_EPOCH + timedelta(seconds=at_s)).isoformat()


def read_instant(text: str) -> int:
    """The Unix milliseconds of an RFC 3339 text, its offset counted in.

    Raises:
        ValueError: it is none, or not in the years 1970 to 2999.

    Example:
        >>> read_instant("2023-11-14T23:13:20.007+01:00")
        1700000000007
    """
    if _RFC_3339.fullmatch(text):
        try:
            instant = datetime.fromisoformat(text.upper())
        except ValueError:
            instant = None
        if instant is not None and YEAR_MIN < instant.year <= YEAR_MAX:
            return (instant - _AWARE_EPOCH) // _MILLISECOND
    raise ValueError(
        "must be an instant such as 2026-11-22T19:00:00Z (a plus sign in a query is %2B)"
    )


def read_date(text: str) -> int:
    """The Unix milliseconds of a date's beginning in UTC.

    Raises:
        ValueError: it is none, or not in the years 1970 to 2999.

    Example:
        >>> read_date("1970-01-02")
        86400000
    """
    if _DATE.fullmatch(text):
        try:
            day = datetime.fromisoformat(text)
        except ValueError:
            day = None
        if day is not None and YEAR_MIN <= day.year <= YEAR_MAX:
            return (day - _EPOCH) // _MILLISECOND
    raise ValueError("must be a date such as 2026-11-22")
