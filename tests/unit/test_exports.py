"""Exports as files: written row by row, whole or broken off, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator

import orjson
import pytest
from starlette.responses import Response, StreamingResponse

from reservation.faults import ShowUnavailable
from serve_app.api.organiser.exports import Format, Row, cell_of, export

COLUMNS = ("name", "places", "amount_minor")


async def rows(count: int) -> AsyncIterator[Row]:
    for number in range(count):
        yield {"name": f"Žofie {number}", "places": ["A-1", "A-2"], "amount_minor": number}


async def body_of(response: Response) -> bytes:
    assert isinstance(response, StreamingResponse)
    parts = [part async for part in response.body_iterator]
    return b"".join(bytes(part) if not isinstance(part, str) else part.encode() for part in parts)


@pytest.mark.parametrize("count", [0, 1, 5_000])
async def test_every_row_is_in_the_file_once_whatever_its_kind(count: int) -> None:
    as_json = orjson.loads(await body_of(await export("x", COLUMNS, rows(count), "json")))
    assert as_json["rows"] == [dict(row) async for row in rows(count)]
    text = (await body_of(await export("x", COLUMNS, rows(count), "csv"))).decode()
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [line["name"] for line in lines] == [f"Žofie {number}" for number in range(count)]
    assert {line["places"] for line in lines} == ({"A-1 | A-2"} if count else set())


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "=cmd|' /C calc'!A0"],
)
def test_what_a_spreadsheet_would_calculate_is_shown_instead(text: str) -> None:
    assert cell_of(text) == "'" + text
    assert cell_of([text]) == "'" + text


def test_what_nobody_calculates_stays_as_it_is() -> None:
    plain = ("Ann = Bob", "a-b", "5", "", "'quoted", "O'Neill")
    assert [cell_of(text) for text in plain] == list(plain)
    assert (cell_of(-5), cell_of(None)) == (-5, None)


def test_a_zero_character_is_left_out() -> None:
    assert cell_of("a\0b") == "ab"
    assert cell_of("\0=1") == "'=1"


@pytest.mark.parametrize("kind", ["csv", "json"])
async def test_a_source_that_fails_at_once_is_a_fault_and_later_breaks_the_file_off(
    kind: Format,
) -> None:
    async def failing(after: int) -> AsyncIterator[Row]:
        async for row in rows(after):
            yield row
        raise ShowUnavailable("away")

    with pytest.raises(ShowUnavailable):
        await export("x", COLUMNS, failing(0), kind)
    begun = await export("x", COLUMNS, failing(1), kind)
    with pytest.raises(ShowUnavailable):
        await body_of(begun)
