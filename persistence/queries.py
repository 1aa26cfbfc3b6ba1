"""Reads the named statements of ``sql/*.sql``.

A file looks like this, and a statement ends where the next name begins::

    -- name: find_show
    -- One show by its id.
    SELECT title FROM show WHERE show_id = $1;
"""

from __future__ import annotations

import re
from importlib.resources import files

_NAME_LINE = re.compile(r"-- name: *(.*?) *")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class QueryFileError(ValueError):
    """A file of statements is not written as it should be; the message names file and line."""


def load_queries(file: str) -> dict[str, str]:
    """The statements of ``persistence/sql/<file>`` by their names.

    Raises:
        QueryFileError: see ``parse_queries``.
    """
    text = (files("persistence") / "sql" / file).read_text(encoding="utf-8")
    return parse_queries(text, file)


def parse_queries(text: str, file: str) -> dict[str, str]:
    """The statements of ``text`` by their names; ``file`` is what error messages call it.

    Raises:
        QueryFileError: a name that is used twice or is no identifier, a statement that is empty
            or has no name, or a name that is not followed by a sentence about the statement.

    Example:
        >>> parse_queries("-- name: one\\n-- The number one.\\nSELECT 1;\\n", "numbers.sql")
        {'one': 'SELECT 1'}
    """
    starts: list[tuple[int, str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines, start=1):
        match = _NAME_LINE.fullmatch(line)
        if match is not None:
            if _NAME.fullmatch(match[1]) is None:
                raise QueryFileError(f"{file}:{number}: {match[1]!r} is not a name")
            if any(match[1] == name for _, name in starts):
                raise QueryFileError(f"{file}:{number}: {match[1]} is there twice")
            starts.append((number, match[1]))
        elif not starts and line.strip() and not line.startswith("--"):
            raise QueryFileError(f"{file}:{number}: a statement without a name")
    queries: dict[str, str] = {}
    ends = [number - 1 for number, _ in starts[1:]] + [len(lines)]
    for (number, name), end in zip(starts, ends, strict=True):
        queries[name] = _statement(lines[number:end], f"{file}:{number}: {name}")
    return queries


def _statement(lines: list[str], where: str) -> str:
    if not lines or not lines[0].startswith("-- "):
        raise QueryFileError(f"{where} has no sentence that says what it is for")
    body = [line for line in lines if not line.startswith("--")]
    statement = "\n".join(body).strip().removesuffix(";").rstrip()
    if not statement:
        raise QueryFileError(f"{where} is empty")
    return statement
