"""Seats for a party that cannot sit in one block: few rows, few groups, nobody alone.

What is guaranteed: a set of seats is found exactly when one exists, under the orphan rule
asked for. What is sought with bounded effort: the fewest rows from the first to the last
seat, then nobody alone, then few groups, then the lowest cost.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from typing import Final, NamedTuple

from reservation.free_rows import FreeRows
from reservation.orphan_seats import (
    ORDINARY,
    Demand,
    SeatUse,
    StretchRules,
    add_tallies,
    rules_for,
)
from reservation.plan_tables import PlanTables
from reservation.wanted_seats import WantedSeats

# Equally compact bands that are compared by their seats; more would cost more than it gains.
_COMPARED_MAX = 4
# Bands looked at before the search is content with a whole section.
_TRIED_MAX = 128
_UNSEEN = -1


class SeatGroups(NamedTuple):
    """Seats of one party; the smaller tuple is the better choice."""

    row_span: int
    alone_count: int
    group_count: int
    worst_cost: int
    total_cost: int
    seat_indexes: tuple[int, ...]


class _Piece(NamedTuple):
    """A stretch of free seats, and the tallies that may be bought from it."""

    order: int  # Larger options first.
    cost: int
    first: int
    seats: bytes
    options: int


_Band = tuple[int, int, int, int]
"""Rows of a section that have seats enough by their number: ``(row_span, cost, section, start)``.

They begin at position ``start`` of the section; ``cost`` is that of the first row. A section that
nobody has looked at is in the queue as ``(row_span, cost, _UNSEEN, section)``, and no band of it is
smaller. Plain tuples, because there are many, and few are looked at.
"""


class GroupSearch:
    """One search for the seats of a demand among those that are free now.

    Sections are looked at one by one, the most promising first, and most of them never.

    Shapes:
        seats, free_rows: both for this demand.
        seat_cost, row_cost: what is to be small, of a seat and of a row.
        section_cost: not above the cost of any row of the section that has seats.
    """

    def __init__(
        self,
        tables: PlanTables,
        seats: WantedSeats,
        free_rows: FreeRows,
        uses: tuple[SeatUse, ...],
        demand: Demand,
        *,
        avoids_orphans: bool,
        seat_cost: Callable[[int], int],
        row_cost: Callable[[int], int],
        section_cost: Callable[[int], int],
    ) -> None:
        self._tables: Final = tables
        self._seats: Final = seats
        self._free_rows: Final = free_rows
        self._demand: Final = demand
        self._wanted: Final = demand.seat_count
        self._seat_cost: Final = seat_cost
        self._row_cost: Final = row_cost
        self._section_cost: Final = section_cost
        self._rules: Final = rules_for(
            uses, demand, avoids_orphans=avoids_orphans, avoids_singles=False
        )
        self._rules_without_singles: Final = rules_for(
            uses, demand, avoids_orphans=avoids_orphans, avoids_singles=True
        )
        # Counting is enough to decide when any seats of the one kind will do.
        self._counting_decides: Final = len(demand.counts) == 1 and not avoids_orphans
        self._is_of_one_kind: Final = len(demand.counts) == 1
        self._bands_of_section: Final[dict[int, list[_Band]]] = {}
        self._options_of_row: Final[dict[int, int]] = {}
        self._enough_of_section: Final[dict[int, bool]] = {}

    def in_one_section(
        self, sections: Sequence[int], beaten: SeatGroups | None = None
    ) -> SeatGroups | None:
        """The seats of the most compact band within one of these sections, or None.

        With ``beaten``, that set is returned unless a better one is found.
        """
        # Nothing is more compact than one row, and most often there is one.
        best = self._best_of(sections, beaten, in_one_row=True)
        if best is not None and best.row_span == 1:
            return best
        best = self._best_of(sections, beaten, in_one_row=False)
        if best is not None:
            return best
        for section in sections:
            if self._bands_in(section) and self._is_enough(section):
                rows = self._rows_of(section)
                return self._arranged(self._stretches_of(rows), len(rows))
        return None

    def _best_of(
        self, sections: Iterable[int], beaten: SeatGroups | None, *, in_one_row: bool
    ) -> SeatGroups | None:
        """The best seats of the bands of these sections, or of those that are one row."""
        best = beaten
        tried = compared = 0
        bounds = self._free_rows.bounds
        queue: list[_Band] = [
            (bound, self._section_cost(section), _UNSEEN, section)
            for section in sections
            if (bound := bounds[section]) is not None and (bound == 1 or not in_one_row)
        ]
        heapify(queue)
        while queue and tried < _TRIED_MAX:
            row_span, cost, section, start = heappop(queue)
            # After enough comparisons only a smaller band is worth a look.
            worth = len(self._tables.row_bounds)
            if best is not None:
                worth = best.row_span - int(compared >= _COMPARED_MAX)
            if row_span > worth:
                break
            if section == _UNSEEN:
                opened = self._rows_in(start) if in_one_row else self._seen(row_span, cost, start)
                for band in opened:
                    if band[0] <= worth:
                        heappush(queue, band)
                continue
            if in_one_row and not self._has_row(section, start):
                continue
            if self._enough_of_section.get(section) is False:
                continue
            rows = self._rows_of(section)
            end = self._grown(rows, start, row_span, min(len(rows), worth))
            # Where seats are found there are enough; without, the whole section is gone through.
            if end is None and not self._is_enough(section):
                continue
            tried += 1
            if end is not None:
                compared += 1
                stretches = self._stretches_of(rows[start:end])
                if best is None or self._may_be_better(stretches, end - start, best):
                    found = self._arranged(stretches, end - start)
                    best = found if best is None else min(best, found)
        return best

    def _rows_in(self, section: int) -> list[_Band]:
        """The bands of one row with seats enough, if any free seat would do."""
        rows, may_be_in = self._rows_of(section), self._seats.may_be_in
        return [
            (1, self._row_cost(rows[start]), section, start)
            for start in self._free_rows.rows_in(section)
            if may_be_in(rows[start])
        ]

    def _has_row(self, section: int, start: int) -> bool:
        if not self._is_of_one_kind and not self._bands_in(section):
            return False
        return self._seats.in_row(self._rows_of(section)[start]) >= self._wanted

    def _seen(self, row_span: int, cost: int, section: int) -> list[_Band]:
        """What a section is in the queue that was there as bands of so many rows."""
        # Two rows are most often enough for somebody, and then nobody needs to know more.
        if row_span == 2 and not self._free_rows.may_be_in_two(section):
            return [(3, cost, _UNSEEN, section)]
        least_span = self._free_rows.least_span(section)
        if least_span is not None and least_span > row_span:
            return [(least_span, cost, _UNSEEN, section)]
        return self._bands_in(section)

    def anywhere(self) -> SeatGroups | None:
        """Seats from the whole plan in few groups, or None when there are too few."""
        rows = self._seats.rows()
        if not self._is_of_one_kind and rows:
            rows = self._rows_for_all_kinds()
        # A party needs at most its own size of interchangeable pieces; the cheapest are kept.
        alike: dict[bytes, list[tuple[int, int]]] = {}
        for row in rows:
            for first, seats in self._seats.stretches(row):
                alike.setdefault(seats, []).append((self._stretch_cost(first, seats), first))
        stretches: list[tuple[int, bytes]] = []
        for seats, costs in alike.items():
            costs.sort()
            stretches.extend((first, seats) for _, first in costs[: self._wanted])
        chosen = self._chosen(stretches)
        return None if chosen is None else self._judged(chosen, 0)

    def _rows_for_all_kinds(self) -> list[int]:
        """Rows that hold a demand for several kinds, or none when the whole plan does not.

        First come the rows with seats that must sit together, the cheapest first, then the
        others; when the former have too few such seats, the latter cannot help.
        """
        linked_steps = {use.step for use in self._rules.uses if use.link != ORDINARY}
        linked = self._seats.rows_with_linked()
        others = sorted(set(range(len(self._tables.row_bounds))).difference(linked))
        tallies, chosen = 1, []
        for rows in (linked, others):
            for row in sorted(rows, key=self._row_cost):
                chosen.append(row)
                tallies = add_tallies(tallies, self._options(row), self._demand.bound)
                if tallies >> self._demand.target & 1:
                    return chosen
            if not tallies & self._demand.with_all_of(linked_steps):
                return []
        return []

    def _rows_of(self, section: int) -> tuple[int, ...]:
        return self._tables.section_rows[section]

    def _options(self, row: int) -> int:
        known = self._options_of_row.get(row)
        if known is None:
            known = 1
            for _, seats in self._seats.stretches(row):
                known = add_tallies(known, self._rules.options(seats), self._demand.bound)
            self._options_of_row[row] = known
        return known

    def _is_enough(self, section: int) -> bool:
        """Whether a section with seats enough also has them in the numbers that are allowed."""
        known = self._enough_of_section.get(section)
        if known is None:
            rows = self._rows_of(section)
            known = self._counting_decides or bool(self._end_of_enough(rows, 0, len(rows)))
            self._enough_of_section[section] = known
        return known

    def _end_of_enough(self, rows: Sequence[int], start: int, stop: int) -> int | None:
        """The first end at which the rows from ``start`` on hold the demand."""
        tallies = 1
        for position in range(start, stop):
            tallies = add_tallies(tallies, self._options(rows[position]), self._demand.bound)
            if tallies >> self._demand.target & 1:
                return position + 1
        return None

    def _bands_in(self, section: int) -> list[_Band]:
        """The bands of the section that have seats enough by their number, per first row."""
        known = self._bands_of_section.get(section)
        if known is None:
            has_enough = self._free_rows.least_span(section) is not None
            known = self._counted_bands(section) if has_enough else []
            self._bands_of_section[section] = known
        return known

    def _counted_bands(self, section: int) -> list[_Band]:
        rows, counts = self._rows_of(section), self._seats.per_row(section)
        wanted, row_count = self._wanted, len(counts)
        bands: list[_Band] = []
        end, inside = 0, 0
        for start, count in enumerate(counts):
            while inside < wanted and end < row_count:
                inside += counts[end]
                end += 1
            if inside < wanted:
                break
            if count:
                bands.append((end - start, self._row_cost(rows[start]), section, start))
            inside -= count
        return bands

    def _grown(self, rows: Sequence[int], start: int, row_span: int, span_max: int) -> int | None:
        """The end that makes this band large enough, or None when it would span more."""
        if self._counting_decides:
            return start + row_span
        return self._end_of_enough(rows, start, min(len(rows), start + span_max))

    def _stretches_of(self, rows: Iterable[int]) -> list[tuple[int, bytes]]:
        return [stretch for row in rows for stretch in self._seats.stretches(row)]

    def _may_be_better(
        self, stretches: list[tuple[int, bytes]], row_span: int, best: SeatGroups
    ) -> bool:
        """Whether seats of these stretches may be better: seldom, and quicker known than found."""
        lengths = sorted([len(seats) for _, seats in stretches], reverse=True)
        alone_count = max(0, self._wanted - sum(each for each in lengths if each > 1))
        # If every seat of the longest stretches could be had.
        group_count = 1 + bisect_left(list(accumulate(lengths)), self._wanted)
        return (row_span, alone_count, group_count) <= best[:3]

    def _arranged(self, stretches: list[tuple[int, bytes]], row_span: int) -> SeatGroups:
        chosen = self._chosen(stretches)
        assert chosen is not None, "these rows were found to be enough"
        return self._judged(chosen, row_span)

    def _judged(self, seats: list[int], row_span: int) -> SeatGroups:
        costs = [self._seat_cost(seat) for seat in seats]
        linked = self._tables.linked
        groups: list[int] = []
        for before, seat in pairwise([-2, *seats]):
            if seat == before + 1 and linked >> before & 1:
                groups[-1] += 1
            else:
                groups.append(1)
        return SeatGroups(
            row_span, groups.count(1), len(groups), max(costs), sum(costs), tuple(seats)
        )

    def _stretch_cost(self, first: int, seats: bytes) -> int:
        return min(self._seat_cost(first), self._seat_cost(first + len(seats) - 1))

    def _chosen(self, stretches: list[tuple[int, bytes]]) -> list[int] | None:
        """Seats that make up the demand: nobody alone if that can be, and large groups first."""
        in_company = sum([len(seats) for _, seats in stretches if len(seats) > 1])
        chosen = None
        if in_company >= self._wanted:
            chosen = self._chosen_by(self._rules_without_singles, stretches)
        return self._chosen_by(self._rules, stretches) if chosen is None else chosen

    def _chosen_by(
        self, rules: StretchRules, stretches: list[tuple[int, bytes]]
    ) -> list[int] | None:
        pieces = []
        for first, seats in stretches:
            options = rules.options(seats)
            if options > 1:
                order = -options.bit_length()
                cost = self._stretch_cost(first, seats)
                pieces.append(_Piece(order, cost, first, seats, options))
        pieces.sort()
        bound, rest = self._demand.bound, self._demand.target
        later = [1]
        for piece in reversed(pieces):
            later.append(add_tallies(later[-1], piece.options, bound))
        if not later.pop() >> rest & 1:
            return None
        chosen: list[int] = []
        for piece in pieces:
            allowed, options = later.pop(), piece.options
            tally = options.bit_length() - 1
            while tally > rest or not allowed >> rest - tally & 1:
                options ^= 1 << tally
                tally = options.bit_length() - 1
            if tally:
                chosen.extend(self._placed(rules, piece, tally))
                rest -= tally
            if not rest:
                break
        return sorted(chosen)

    def _placed(self, rules: StretchRules, piece: _Piece, tally: int) -> list[int]:
        """The cheapest block of the piece that makes up the tally, or several when none does."""
        length, seats = self._demand.seats_of(tally), piece.seats
        if len(seats) == 1:
            return [piece.first]
        steps = [rules.uses[code].step for code in seats]
        blocks = [steps[start : start + length] for start in range(len(seats) - length + 1)]
        starts = [
            start
            for start, block in enumerate(blocks)
            if 0 not in block
            and sum(block) == tally
            and not (rules.avoids_orphans and self._leaves_orphan(rules, seats, start, length))
        ]
        if not starts:
            return [piece.first + position for position in rules.place(seats, tally)]
        start = starts[0]
        if len(starts) > 1:
            costs = list(map(self._seat_cost, range(piece.first, piece.first + len(seats))))
            chosen = [costs[start : start + length] for start in starts]
            start = min(zip(map(max, chosen), map(sum, chosen), starts, strict=True))[2]
        return list(range(piece.first + start, piece.first + start + length))

    @staticmethod
    def _leaves_orphan(rules: StretchRules, seats: bytes, start: int, length: int) -> bool:
        left, right = start, len(seats) - start - length
        return (left == 1 and rules.uses[seats[0]].may_be_orphan) or (
            right == 1 and rules.uses[seats[-1]].may_be_orphan
        )
