"""Reading a JSON body so that it means one thing only.

Refused, each with a reason: what is not JSON (NaN and Infinity are not), text that is not
Unicode (lone surrogates, bytes that are not UTF-8), a name that appears twice in one object, and
nesting that nobody needs. Whole numbers beyond 64 bits come out as floats, which no field takes.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn, TypeVar

import orjson
from pydantic import TypeAdapter, ValidationError
from starlette.types import Scope

from serve_app.api.body_guard import body_of
from serve_app.api.problems import FieldError, Problem, bad_field, bad_request, shorten

_Body = TypeVar("_Body")

_REASONS = {
    "extra_forbidden": "is not known here",
    "missing": "is missing",
}


class _NameTwice(ValueError):
    pass


def read_json(scope: Scope) -> dict[str, Any]:
    """The object that is this request's body.

    Raises:
        Problem: ``unsupported_media_type``, ``malformed_json``, or ``invalid_request`` when the
            body is JSON but not an object.
    """
    _check_media_type(scope)
    body = body_of(scope)
    if not body:
        raise _malformed("the body is empty")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(str(error)) from None
    # Each name is followed by a colon. As many colons as names in the outer object: none of them
    # is repeated, and there is no other object.
    if body.count(b":") != (len(value) if isinstance(value, dict) else 0):
        _refuse_repeated_names(body)
    if not isinstance(value, dict):
        raise bad_field("body", "is not a JSON object")
    return value


def read_nothing(scope: Scope) -> None:
    """Check the body of a request that needs none: nothing, or an empty object.

    Raises:
        Problem: as ``read_json``, and ``invalid_request`` for whatever the object contains.
    """
    if body_of(scope):
        value = read_json(scope)
        if value:
            raise bad_request([FieldError(name, "is not known here") for name in value])


def validated(adapter: TypeAdapter[_Body], value: object) -> _Body:
    """``value`` as the schema of ``adapter`` describes it.

    Raises:
        Problem: ``invalid_request``, naming every field that is wrong.
    """
    try:
        # The adapter's own method only looks for options that are not given here.
        body: _Body = adapter.validator.validate_python(value)
        return body
    except ValidationError as error:
        raise bad_request(field_errors(error)) from None


def field_errors(error: ValidationError) -> list[FieldError]:
    """What pydantic found, in our words."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        FieldError(field_path(detail["loc"]), _REASONS.get(detail["type"], detail["msg"]))
        for detail in found
    ]


def field_path(location: tuple[int | str, ...]) -> str:
    """Where in a body something is.

    Example:
        >>> field_path(("admissions", 1, "count"))
        'admissions[1].count'
    """
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path or "body"


def _check_media_type(scope: Scope) -> None:
    content_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            raise Problem("unsupported_media_type", "Content-Encoding: only identity is taken.")
    if content_type == b"application/json":
        return
    media_type, _, parameters = content_type.decode("latin-1").lower().partition(";")
    charset = parameters.replace(" ", "").replace('"', "")
    if media_type.strip() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Problem("unsupported_media_type", "Content-Type must be application/json (UTF-8).")


def _refuse_repeated_names(body: bytes) -> None:
    # orjson keeps the last of two equal names; what a proxy or a log saw may be the first one.
    try:
        _DECODER.decode(body.decode())
    except _NameTwice as error:
        raise _malformed(f"the name {str(error)!r} appears twice in one object") from None
    except RecursionError:
        raise _malformed("it is nested too deeply") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> None:
    names = {name for name, _ in pairs}
    if len(names) == len(pairs):
        return
    for name, _ in pairs:
        if name not in names:
            raise _NameTwice(shorten(name))
        names.discard(name)


def _float_of(text: str) -> float:
    return 0.0


def _refuse_constant(text: str) -> NoReturn:
    raise AssertionError(f"{text} passed the first reading")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_without_repeats,
    # The numbers were read already; thousands of digits would take long to read again.
    parse_int=_float_of,
    parse_float=_float_of,
    parse_constant=_refuse_constant,
)


def _malformed(reason: str) -> Problem:
    return Problem(
        "malformed_json",
        f"The body is not acceptable JSON: {reason}.",
        members={"errors": [{"field": "body", "reason": reason}]},
    )
