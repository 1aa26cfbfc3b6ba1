"""Types that the bodies, queries and views of several nouns share."""

from __future__ import annotations

import re
from datetime import date, time
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from reservation.limits import AMOUNT_MINOR_MAX
from reservation.listing import ShowKind
from reservation.show import OrphanRule, ShowState
from serve_app.api.instants import read_instant
from serve_app.api.query_fields import CursorText, Limit

NAME_LENGTH_MAX = 200
TITLE_LENGTH_MAX = 500
DESCRIPTION_LENGTH_MAX = 10_000
LABEL_LENGTH_MAX = 200

_DATE = re.compile("2[0-9]{3}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile("([01][0-9]|2[0-3]):[0-5][0-9]")


class RequestBody(BaseModel):
    """What a route takes: strictly typed, and nothing that is not known."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class View(BaseModel):
    """What a route gives."""

    model_config = ConfigDict(strict=True, extra="forbid")


class TenantQuery(BaseModel):
    """For whom."""

    model_config = ConfigDict(extra="forbid")

    tenant_id: Annotated[
        str | None,
        Field(
            max_length=40,
            description="For whom an admin acts. Everybody else acts for the tenant of the token.",
        ),
    ] = None


class PageQuery(TenantQuery):
    """One page of a list."""

    limit: Limit = 20
    cursor: CursorText | None = None


def _storable(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("text", "has a zero character")
    return text


def _named(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("text", "is empty")
    return text


def _time_zone(name: str) -> str:
    if name not in available_timezones():
        raise PydanticCustomError("time_zone", "is not a time zone such as Europe/Prague")
    return name


def _instant_ms(value: object) -> object:
    if isinstance(value, str):
        try:
            return read_instant(value)
        except ValueError as error:
            raise PydanticCustomError("instant", "{reason}", {"reason": str(error)}) from None
    raise PydanticCustomError("instant", "must be an instant such as 2026-11-22T19:00:00Z")


def _date(value: object) -> object:
    if isinstance(value, str) and _DATE.fullmatch(value):
        try:
            return date.fromisoformat(value)
        except ValueError:
            pass
    raise PydanticCustomError("date", "must be a date such as 2026-12-01")


def _time(value: object) -> object:
    if isinstance(value, str) and _TIME.fullmatch(value):
        return time.fromisoformat(value)
    raise PydanticCustomError("time", "must be a time of day such as 19:30")


Name = Annotated[
    str,
    Field(min_length=1, max_length=NAME_LENGTH_MAX),
    AfterValidator(_storable),
    AfterValidator(_named),
]
Title = Annotated[
    str,
    Field(min_length=1, max_length=TITLE_LENGTH_MAX),
    AfterValidator(_storable),
    AfterValidator(_named),
]
Line = Annotated[str, Field(max_length=TITLE_LENGTH_MAX), AfterValidator(_storable)]
Description = Annotated[str, Field(max_length=DESCRIPTION_LENGTH_MAX), AfterValidator(_storable)]
Reason = Annotated[
    str,
    Field(min_length=1, max_length=NAME_LENGTH_MAX),
    AfterValidator(_storable),
    AfterValidator(_named),
]
Label = Annotated[str, Field(max_length=LABEL_LENGTH_MAX, examples=["A-12"])]
TimeZone = Annotated[
    str,
    Field(max_length=100, description="A name of the IANA list.", examples=["Europe/Prague"]),
    AfterValidator(_time_zone),
]
BodyInstant = Annotated[
    int,
    BeforeValidator(_instant_ms),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-12-24T18:00:00Z"]}),
]
"""An instant in a request body: RFC 3339 in, Unix milliseconds afterwards."""

BodyDate = Annotated[
    date,
    BeforeValidator(_date),
    WithJsonSchema({"type": "string", "format": "date", "examples": ["2026-12-01"]}),
]
BodyTime = Annotated[
    time,
    BeforeValidator(_time),
    WithJsonSchema(
        {"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$", "examples": ["19:30"]}
    ),
]
AmountMinor = Annotated[
    int, Field(ge=0, le=AMOUNT_MINOR_MAX, description="In minor units of `currency`.")
]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217.")]
ExpectedVersion = Annotated[
    int | None,
    Field(
        ge=1,
        le=2**31 - 1,
        description="`version` as it was seen; the change is refused when it is another by now.",
    ),
]
Version = Annotated[int, Field(ge=1, description="Rises with every change.")]
Next = Annotated[
    str | None, Field(description="`cursor` of the next page; absent on the last one.")
]


def examples(*values: Any) -> dict[str, Any]:
    """What ``json_schema_extra`` of a model takes."""
    return {"examples": list(values)}


assert {kind.value for kind in ShowKind} == {"performance", "train", "bus", "other_run"}
assert {rule.value for rule in OrphanRule} == {"strict", "lenient", "off"}
assert {state.value for state in ShowState} == {"draft", "on_sale", "cancelled"}
