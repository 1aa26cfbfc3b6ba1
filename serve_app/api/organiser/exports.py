"""Lists as files: CSV and JSON, written row by row while they are read.

Nothing of an export is held in memory but the rows that are on their way. When the source fails
in the middle, the connection is broken off: a client that got the end of the file got all of it.

A spreadsheet takes a cell that begins with ``= + - @``, a tab or a line break for a formula, and
customers choose their names. Such a text is written with an apostrophe before it, which a
spreadsheet shows as text and does not calculate.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Literal, TypeAlias

import orjson
from starlette.responses import Response, StreamingResponse

Format: TypeAlias = Literal["csv", "json"]
Cell: TypeAlias = str | int | None
Row: TypeAlias = Mapping[str, object]
"""A row of an export; lists are for JSON, and become one cell of CSV."""

_FLUSH_CHARS = 32 * 1024
_CALCULATED = ("=", "+", "-", "@", "\t", "\r", "\n")
_LIST_SEPARATOR = " | "
_MEDIA_TYPES: Mapping[Format, str] = {"csv": "text/csv", "json": "application/json"}


async def export(
    name: str, columns: Sequence[str], rows: AsyncIterator[Row], format_: Format
) -> Response:
    """A response that is a file of these rows.

    ``name`` is the file's, without its ending. JSON is ``{"rows": [...]}``; CSV has a head line
    and follows RFC 4180, in UTF-8.

    Raises:
        Fault: the source failed before there was anything to send.
    """
    begun = await _begun(rows)
    content = _csv(columns, begun) if format_ == "csv" else _json(begun)
    headers = {
        # As a header, because the framework would add a parameter that this type does not have.
        "Content-Type": _MEDIA_TYPES[format_],
        "Content-Disposition": f'attachment; filename="{name}.{format_}"',
        # Names and addresses of people: no cache on the way may keep them.
        "Cache-Control": "no-store",
    }
    return StreamingResponse(content, headers=headers)


def cell_of(value: object) -> Cell:
    """What a spreadsheet is given for this value: a number as it is, a text that stays a text.

    Example:
        >>> cell_of("=HYPERLINK(1)"), cell_of(["A-1", "A-2"]), cell_of(-5)
        ("'=HYPERLINK(1)", 'A-1 | A-2', -5)
    """
    if value is None or type(value) is int:
        return value
    if isinstance(value, list | tuple):
        value = _LIST_SEPARATOR.join(str(part) for part in value)
    text = str(value).replace("\0", "")
    # Spaces before it are skipped by some programs.
    return f"'{text}" if text.lstrip(" ").startswith(_CALCULATED) else text


async def _begun(rows: AsyncIterator[Row]) -> AsyncIterator[Row]:
    """The same rows, the first of them read: now there is still time to answer otherwise."""
    first = await anext(rows, None)

    async def again() -> AsyncIterator[Row]:
        if first is not None:
            yield first
            async for row in rows:
                yield row

    return again()


async def _csv(columns: Sequence[str], rows: AsyncIterator[Row]) -> AsyncIterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    async for row in rows:
        writer.writerow([cell_of(row.get(column)) for column in columns])
        if buffer.tell() >= _FLUSH_CHARS:
            yield buffer.getvalue().encode(errors="replace")
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode(errors="replace")


async def _json(rows: AsyncIterator[Row]) -> AsyncIterator[bytes]:
    waiting = bytearray(b'{"rows":[')
    separator = b"\n"
    async for row in rows:
        waiting += separator
        waiting += orjson.dumps(row)
        separator = b",\n"
        if len(waiting) >= _FLUSH_CHARS:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting) + b"\n]}\n"
