"""JSON files that people hand to us: read with limits, and with errors that say where.

Python's own reader is used and not orjson, because it can tell that a key is there twice.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import NamedTuple

JSON_BYTES_MAX = 256 * 1024**2
"""A plan of 200,000 seats, written with spaces, is about 60 MB."""

JSON_DEPTH_MAX = 64
"""Objects within objects. A seating plan has 6 levels."""

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_EXACT_INTEGER_MAX = 2**53


class JsonFault(ValueError):
    """The file is no JSON that can be used. ``place`` is empty or a line and a column."""

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}" if place else reason)
        self.place = place
        self.reason = reason


class JsonFile(NamedTuple):
    """What a file contains.

    Shapes:
        repeated: JSON paths of the keys that their object has twice; the last one counts.
    """

    value: object
    repeated: tuple[str, ...]


def read_json(path: Path, *, bytes_max: int = JSON_BYTES_MAX) -> JsonFile:
    """Read a JSON file in UTF-8, with or without a byte order mark.

    NaN and Infinity are let through, although JSON has none: the reader of the document knows
    the path of the value and can say so better.

    Raises:
        JsonFault: it cannot be opened, is too large, is no UTF-8 or is no JSON.
    """
    try:
        # One byte more than allowed, so that a pipe or a growing file is noticed too.
        with path.open("rb") as stream:
            content = stream.read(bytes_max + 1)
    except OSError as error:
        raise JsonFault("", f"cannot be read: {error.strerror or error}") from error
    if len(content) > bytes_max:
        raise JsonFault("", f"larger than {bytes_max:,} bytes")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = error.start - before.rfind(b"\n")
        raise JsonFault(f"line {line}, byte {column}", "not UTF-8") from error
    repeated: list[tuple[dict[str, object], str]] = []

    def make_object(pairs: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(pairs)
        if len(made) < len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    repeated.append((made, key))
                seen.add(key)
        return made

    try:
        value: object = json.loads(text, object_pairs_hook=make_object, parse_int=_integer)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise JsonFault(place, f"not JSON: {error.msg}") from error
    except RecursionError as error:
        raise JsonFault("", f"more than {JSON_DEPTH_MAX} objects within objects") from error
    check_depth(value)
    return JsonFile(value, _paths_of(value, repeated) if repeated else ())


def storable(value: object) -> object:
    """A copy that any JSON store takes: no NUL, no broken Unicode, no NaN, no endless integer.

    What cannot be kept becomes null, or is cut out of its text.
    """
    if isinstance(value, str):
        return _UNSTORABLE.sub("", value)
    if isinstance(value, dict):
        return {_UNSTORABLE.sub("", key): storable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [storable(member) for member in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if type(value) is int and abs(value) > _EXACT_INTEGER_MAX:
        return float(value)
    return value


def _integer(digits: str) -> int | float:
    # Python takes quadratic time for long integers, and refuses very long ones.
    return int(digits) if len(digits) <= 40 else float(digits)


def check_depth(value: object) -> None:
    """Refuse what is nested so deeply that reading it step by step would not end well.

    Raises:
        JsonFault: more than ``JSON_DEPTH_MAX`` objects within objects.
    """
    level = [value]
    for _ in range(JSON_DEPTH_MAX):
        level = [
            member
            for parent in level
            if isinstance(parent, dict | list)
            for member in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(member, dict | list)
        ]
        if not level:
            return
    raise JsonFault("", f"more than {JSON_DEPTH_MAX} objects within objects")


def _paths_of(root: object, repeated: list[tuple[dict[str, object], str]]) -> tuple[str, ...]:
    """Where the objects with repeated keys are. One that was itself replaced is nowhere."""
    keys_of: dict[int, list[str]] = {}
    for owner, key in repeated:
        keys_of.setdefault(id(owner), []).append(key)
    paths: list[str] = []
    waiting: list[tuple[str, object]] = [("", root)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            paths.extend(f"{path}.{key}".lstrip(".") for key in keys_of.pop(id(value), ()))
            waiting.extend((f"{path}.{key}", member) for key, member in value.items())
        elif isinstance(value, list):
            waiting.extend((f"{path}[{index}]", member) for index, member in enumerate(value))
    paths.extend(f"(replaced) {key}" for keys in keys_of.values() for key in keys)
    return tuple(sorted(path.lstrip(".") for path in paths))
