"""What is wrong with a document that somebody else wrote, collected while it is read.

A reader asks for a member and gets a usable value or None; what was wrong with it is noted
here under its JSON path. Reading goes on after a problem, because a person who repairs a
plan wants to see the whole list once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

POSITION_MAX = 1_000_000
"""Farthest coordinate from the origin, in the plan's own unit; hundredths of it fit 32 bits."""

TEXT_LENGTH_MAX = 200
"""Characters of a label or a name. Longer texts do not fit a ticket or a database index."""

_PATH_LENGTH_MAX = 300
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


class PlanProblem(NamedTuple):
    """One thing that is wrong, and where: ``zones[0].rows[3].seats[12].category``."""

    path: str
    reason: str


class Findings:
    """The problems of one document, in the order in which they were met."""

    def __init__(self) -> None:
        self._problems: list[PlanProblem] = []
        self._unknown: dict[tuple[str, str], list[str]] = {}

    def add(self, path: str, reason: str) -> None:
        """Note a problem."""
        self._problems.append(PlanProblem(printable(path), reason))

    def __len__(self) -> int:
        return len(self._problems)

    def problems(self) -> tuple[PlanProblem, ...]:
        """All problems. A member the format does not have is told once, with its count."""
        unknown = []
        for (kind, member), paths in self._unknown.items():
            again = "" if len(paths) == 1 else f" ({len(paths)} times, first here)"
            unknown.append(
                PlanProblem(
                    printable(paths[0]),
                    f"{shown(member)} is not a member of a {kind}; ignored{again}",
                )
            )
        return (*self._problems, *unknown)

    def members(
        self, value: object, path: str, kind: str, known: frozenset[str]
    ) -> Mapping[str, object] | None:
        """``value`` as an object whose members are all known; unknown ones are noted."""
        if not isinstance(value, Mapping):
            self.add(path, f"{shown(value)} is not an object")
            return None
        if not value.keys() <= known:
            for member in value:
                if member not in known:
                    where = f"{path}.{member}" if path else str(member)
                    self._unknown.setdefault((kind, str(member)), []).append(where)
        return value

    def items(self, parent: Mapping[str, object], member: str, path: str) -> list[object] | None:
        """A required list."""
        value = parent.get(member)
        if isinstance(value, list):
            return value
        self.add(path, "missing" if member not in parent else f"{shown(value)} is not a list")
        return None

    def text(self, parent: Mapping[str, object], member: str, path: str) -> str | None:
        """A text that can be stored, or None when there is none. Absence is not noted."""
        value = parent.get(member)
        if value is None:
            return None
        if not isinstance(value, str):
            self.add(path, f"{shown(value)} is not a text")
            return None
        if not value.isprintable() and _UNSTORABLE.search(value):
            self.add(path, "has a NUL character or half a surrogate pair; left out of the text")
            value = _UNSTORABLE.sub("", value)
        if len(value) > TEXT_LENGTH_MAX:
            self.add(path, f"longer than {TEXT_LENGTH_MAX} characters; cut")
            value = value[:TEXT_LENGTH_MAX]
        return value

    def required_text(self, parent: Mapping[str, object], member: str, path: str) -> str | None:
        """A text that must be there and must not be empty."""
        if parent.get(member) is None:
            self.add(path, "missing")
            return None
        value = self.text(parent, member, path)
        if value is not None and not value.strip():
            self.add(path, "empty")
            return None
        return value

    def number(self, value: object, path: str, largest: int = POSITION_MAX) -> float | None:
        """A finite number not farther than ``largest`` from 0."""
        if type(value) is int or type(value) is float:
            if abs(value) <= largest:  # Never true of NaN.
                return value
            self.add(path, f"{shown(value)} is not within {largest:,} of 0")
            return None
        self.add(path, "missing" if value is None else f"{shown(value)} is not a number")
        return None

    def position(
        self, parent: Mapping[str, object], path: str, *, required: bool
    ) -> tuple[float, float] | None:
        """The ``position`` of an object; an optional one that is absent is (0, 0)."""
        path = f"{path}.position"
        value = parent.get("position")
        if value is None:
            if not required:
                return (0, 0)
            self.add(path, "missing")
            return None
        place = self.members(value, path, "position", _POSITION)
        if place is None:
            return None
        # One part may lead out of the canvas and the next one back into it.
        x = self.number(place.get("x"), f"{path}.x", 4 * POSITION_MAX)
        y = self.number(place.get("y"), f"{path}.y", 4 * POSITION_MAX)
        return None if x is None or y is None else (x, y)

    def flag(self, parent: Mapping[str, object], member: str, path: str) -> bool | None:
        """A truth value, or None when there is none."""
        value = parent.get(member)
        if value is None or isinstance(value, bool):
            return value
        self.add(path, f"{shown(value)} is neither true nor false")
        return None

    def count(
        self, parent: Mapping[str, object], member: str, path: str, smallest: int, largest: int
    ) -> int | None:
        """A whole number between two bounds, or None when there is none."""
        value = parent.get(member)
        if value is None:
            return None
        if type(value) is int and smallest <= value <= largest:
            return value
        self.add(path, f"{shown(value)} is not a whole number from {smallest:,} to {largest:,}")
        return None


_POSITION = frozenset({"x", "y"})


def printable(text: str) -> str:
    """A path that can be shown: keys of a document may have any character and any length.

    Example:
        >>> print(printable("zones[0].na" + chr(27) + "me"))
        zones[0].na\\x1bme
    """
    if not text.isprintable():
        text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)
    return text if len(text) <= _PATH_LENGTH_MAX else text[: _PATH_LENGTH_MAX - 3] + "..."


def shown(value: object) -> str:
    """A value as an error message shows it: never longer than a line.

    Example:
        >>> shown("x" * 100) == repr("x" * 37) + "..."
        True
        >>> shown([1, 2, 3])
        'a list'
    """
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return repr(value) if len(value) <= 40 else repr(value[:37]) + "..."
    if isinstance(value, int) and value.bit_length() > 128:
        # Turning a number of thousands of digits into text is slow, and past a limit refused.
        return "a huge number"
    return repr(value)
