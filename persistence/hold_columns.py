"""New holds as columns: how they travel to ``append_batch``.

Postgres takes arrays apart many times faster than the same rows as JSON, and a list of tuples
turns into columns in a few calls
(docs/decisions/0018-a-batch-travels-as-columns.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TypeAlias

import orjson

from persistence.projection import Projection

Columns: TypeAlias = tuple[Sequence[object], ...]

_COLUMN_COUNT = 14


def hold_columns(batch: Projection) -> Columns:
    """The batch's new holds in the order of the SQL type ``new_holds``."""
    if not batch.held:
        return ((),) * _COLUMN_COUNT
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
    ) = zip(*batch.held, strict=True)
    from_legs, to_legs = zip(*segments, strict=True)
    unclaimed = batch.unclaimed
    return (
        batch.show_numbers,
        hold_ids,
        customer_ids,
        from_legs,
        to_legs,
        list(map(len, seats)),
        list(chain.from_iterable(seats)),
        list(chain.from_iterable(seat_minor)),
        [orjson.dumps(each).decode() if each else "[]" for each in admissions],
        arrangements,
        held_at_ms,
        expires_at_ms,
        digests,
        [hold_id not in unclaimed for hold_id in hold_ids],
    )
