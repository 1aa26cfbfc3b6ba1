"""New holds as columns: how they travel to ``append_batch``.

Postgres takes columns apart many times faster than the same rows as JSON, and a list of tuples
turns into columns in a few calls. Each column is a text, because asyncpg asks of every single
element of a list whether it is a list itself, which costs more than everything else here
(docs/decisions/0018-a-batch-travels-as-columns.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import orjson

from persistence.projection import Projection
from reservation.events import SeatsHeld

_BETWEEN_TEXTS = "\n"
"""The same is in ``append_batch`` of ``sql/journal.sql``. No id and no digest has a line break."""


def hold_columns(batch: Projection) -> tuple[str, ...]:
    """The batch's new holds, one text a column, in the order of the SQL type ``new_holds``.

    Raises:
        ValueError: a field that is sent as a line has several.
    """
    held = batch.held
    (
        hold_ids,
        customer_ids,
        segments,
        seats,
        seat_minor,
        admissions,
        arrangements,
        held_at_ms,
        expires_at_ms,
        digests,
    ) = zip(*held, strict=True) if held else ((),) * len(SeatsHeld._fields)
    from_legs, to_legs = zip(*segments, strict=True) if held else ((), ())
    unclaimed = batch.unclaimed
    return (
        _numbers(batch.show_numbers),
        _lines(hold_ids),
        _lines(customer_ids),
        _numbers(from_legs),
        _numbers(to_legs),
        _numbers(map(len, seats)),
        _numbers(chain.from_iterable(seats)),
        _numbers(chain.from_iterable(seat_minor)),
        _lines([orjson.dumps(each).decode() if each else "[]" for each in admissions]),
        _lines(arrangements),
        _numbers(held_at_ms),
        _numbers(expires_at_ms),
        _lines(digests),
        _numbers([number for number, each in enumerate(hold_ids, 1) if each in unclaimed]),
    )


def _numbers(column: Iterable[int]) -> str:
    # A list of numbers looks in Python as it does in Postgres, but for the brackets.
    return "{" + str(list(column))[1:-1] + "}"


def _lines(column: Sequence[str]) -> str:
    text = _BETWEEN_TEXTS.join(column)
    if column and text.count(_BETWEEN_TEXTS) != len(column) - 1:
        raise ValueError("a hold has a line break in its id, customer or digest")
    return text
