"""Types of query parameters. Strict: pydantic alone would take ``1_0`` for ten."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from serve_app.api import cursors, instants

_DECIMAL = re.compile(r"[0-9]{1,18}")


def _read_decimal(value: object) -> object:
    if isinstance(value, str):
        if _DECIMAL.fullmatch(value) is None:
            raise PydanticCustomError("whole_number", "must be a whole number")
        return int(value)
    return value


def _read_flag(value: object) -> object:
    if isinstance(value, str):
        if value not in ("true", "false"):
            raise PydanticCustomError("flag", "must be true or false")
        return value == "true"
    return value


def _read_instant(value: object) -> object:
    if isinstance(value, str):
        try:
            return instants.read_instant(value)
        except ValueError as error:
            raise PydanticCustomError("instant", "{reason}", {"reason": str(error)}) from None
    return value


def _read_date(value: object) -> object:
    if isinstance(value, str):
        try:
            return instants.read_date(value)
        except ValueError as error:
            raise PydanticCustomError("date", "{reason}", {"reason": str(error)}) from None
    return value


Limit = Annotated[
    int,
    # First the bounds: what follows is applied around what stands before it.
    Field(ge=1, le=100, description="How many at most."),
    BeforeValidator(_read_decimal),
]
CursorText = Annotated[
    str,
    Field(max_length=cursors.LENGTH_MAX, description="`next` of the page before."),
]
Flag = Annotated[bool, BeforeValidator(_read_flag)]
InstantMs = Annotated[
    int,
    BeforeValidator(_read_instant),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
DateMs = Annotated[
    int,
    BeforeValidator(_read_date),
    WithJsonSchema({"type": "string", "format": "date"}),
]
