"""The free seats as one demand sees them: which of them it may take, row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from reservation.orphan_seats import ORDINARY, Demand, SeatUse
from reservation.plan_tables import PlanTables

Stretch = tuple[int, bytes]
"""A longest series of free neighbouring seats: the first of them, and what each is good for."""


_STRETCH: Final = re.compile(rb"[^\0]+")


class WantedSeats:
    """The seats that a demand may take. Nothing is looked at before somebody asks.

    Shapes:
        signs: as ``free_seats`` gives it.
        code_of_class: per class, which of ``uses`` its free seats have.
    """

    def __init__(
        self,
        tables: PlanTables,
        signs: bytes,
        code_of_class: Sequence[int],
        uses: tuple[SeatUse, ...],
        demand: Demand,
    ) -> None:
        self._tables: Final = tables
        self._signs: Final = signs
        self._code_of_class: Final = code_of_class
        self._seat_count: Final = demand.seat_count
        self._is_wanted: Final = _flags_of_steps(uses, demand.steps)
        self._is_linked: Final = _flags_of_steps(
            uses, [use.step for use in uses if use.link != ORDINARY]
        )
        # Of a demand for several kinds, each must be there before anything else is looked at.
        self._kinds: Final = [
            (count, _flags_of_steps(uses, (step,)))
            for count, step in zip(demand.counts, demand.steps, strict=True)
            if len(demand.counts) > 1
        ]
        self._classes: Final = sum(
            1 << index for index, code in enumerate(code_of_class) if self._is_wanted[code]
        )
        self._whole_pattern: bytes | None = None
        self._stretches_of_row: Final[dict[int, list[Stretch]]] = {}

    def may_be_in(self, row: int) -> bool:
        """Whether the row has a seat, free or not, of a class that may be taken."""
        return bool(self._tables.classes_of_row[row] & self._classes)

    def in_row(self, row: int) -> int:
        """How many seats of the row may be taken."""
        return self._pattern(*self._tables.row_bounds[row]).translate(self._is_wanted).count(1)

    def per_row(self, section: int) -> list[int]:
        """How many seats of each row of the section; nothing when it has too few of a kind."""
        tables = self._tables
        spans = tables.section_spans[section]
        pattern = b"".join([self._pattern(first, end) for first, end in spans])
        wanted = pattern.translate(self._is_wanted)
        if wanted.count(1) < self._seat_count or any(
            pattern.translate(flags).count(1) < count for count, flags in self._kinds
        ):
            return []
        counts: list[int] = []
        end = 0
        for first_of_row, end_of_row in map(
            tables.row_bounds.__getitem__, tables.section_rows[section]
        ):
            first, end = end, end + end_of_row - first_of_row
            counts.append(wanted.count(1, first, end))
        return counts

    def stretches(self, row: int) -> list[Stretch]:
        """The stretches of a row that have a seat to take."""
        known = self._stretches_of_row.get(row)
        if known is None:
            known = self._stretches_of_row[row] = []
            first_of_row, end_of_row = self._tables.row_bounds[row]
            pattern = self._pattern(first_of_row, end_of_row)
            for first, end in self._tables.row_runs[row]:
                run = first - first_of_row, end - first_of_row
                for stretch in _STRETCH.finditer(pattern, *run):
                    seats = stretch[0]
                    if 1 in seats.translate(self._is_wanted):
                        known.append((first_of_row + stretch.start(), seats))
        return known

    def rows(self) -> list[int]:
        """The rows with seats to take; none when there are too few in the whole plan."""
        wanted = self._whole().translate(self._is_wanted)
        return list(self._rows_of(wanted)) if wanted.count(1) >= self._seat_count else []

    def rows_with_linked(self) -> list[int]:
        """The rows with seats to take that must sit together with others."""
        return list(self._rows_of(self._whole().translate(self._is_linked)))

    def _rows_of(self, flags: bytes) -> Iterator[int]:
        # Of a house that is nearly sold out, most rows are never touched.
        seat = flags.find(1)
        while seat >= 0:
            row = self._tables.row_of(seat)
            yield row
            seat = flags.find(1, self._tables.row_bounds[row][1])

    def _whole(self) -> bytes:
        if self._whole_pattern is None:
            self._whole_pattern = self._tables.pattern(self._signs, self._code_of_class)
        return self._whole_pattern

    def _pattern(self, first: int, end: int) -> bytes:
        if self._whole_pattern is not None:
            return self._whole_pattern[first:end]
        return self._tables.pattern(self._signs, self._code_of_class, first, end)


def _flags_of_steps(uses: tuple[SeatUse, ...], steps: Sequence[int]) -> bytes:
    """A table that turns the codes of seats that add one of these steps into 1."""
    return bytes([use.step in steps for use in uses]) + bytes(256 - len(uses))
