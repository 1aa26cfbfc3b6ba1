"""How few rows of a section hold so many free seats, of whatever class: a bound, known quickly.

A party needs at least as many rows as any seats of that number lie in. Most sections are ruled out
by this, and only what is left is looked at seat by seat (``seat_groups``). It is the same for every
category and every rule of one question, so it is counted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, repeat
from operator import add, sub
from typing import Final

from reservation.plan_tables import PlanTables


class FreeRows:
    """The free seats of every row, counted for a party of ``seat_count``.

    Shapes:
        signs: as ``free_seats`` gives it.
        bounds: per section, how many rows it takes if all are as free as its freest one: 1 when
            one row has seats enough, None when there is no free seat.
    """

    def __init__(self, tables: PlanTables, signs: bytes, seat_count: int) -> None:
        self._seat_count: Final = seat_count
        counts = tables.free_per_row(signs)
        self._counts_of_section: Final = [counts[first:end] for first, end in tables.row_ranges]
        self.bounds: Final = [
            -(-seat_count // most) if most else None for most in map(max, self._counts_of_section)
        ]
        self._least_span_of_section: Final[dict[int, int | None]] = {}

    def rows_in(self, section: int) -> list[int]:
        """The positions in the section of its rows that have seats enough."""
        counts, seat_count = self._counts_of_section[section], self._seat_count
        return [start for start, free in enumerate(counts) if free >= seat_count]

    def may_be_in_two(self, section: int) -> bool:
        """Whether two rows, one behind the other, have seats enough."""
        counts = self._counts_of_section[section]
        pairs: Iterable[int] = map(add, counts, counts[1:])
        return max(pairs, default=0) >= self._seat_count

    def least_span(self, section: int) -> int | None:
        """From the first to the last row of the closest seats, None when the section has too few.

        Units:
            In rows: 1 when they are in one.
        """
        if section not in self._least_span_of_section:
            self._least_span_of_section[section] = self._counted_span(section)
        return self._least_span_of_section[section]

    def _counted_span(self, section: int) -> int | None:
        if self.bounds[section] == 1:
            return 1
        counts, others = self._counts_of_section[section], self._seat_count - 1
        if sum(counts) <= others:
            return None
        # The position of its row, for every free seat: those of a party are so many apart.
        rows = list(chain.from_iterable(map(repeat, range(len(counts)), counts)))
        spans: Iterable[int] = map(sub, rows[others:], rows)
        return 1 + min(spans)
