"""Seats for a party that cannot sit in one block: few rows, few groups, nobody alone.

What is guaranteed: a set of seats is found exactly when one exists, under the orphan rule
asked for. What is sought with bounded effort: the fewest rows from the first to the last
seat, then nobody alone, then few groups, then the lowest cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

from reservation.orphan_seats import (
    ACCESSIBLE,
    COMPANION,
    Demand,
    SeatUse,
    StretchRules,
    add_tallies,
    rules_for,
)
from reservation.plan_tables import PlanTables

# Equally compact places that are compared by their seats; more would cost more than it gains.
_COMPARED_MAX = 8
# Places looked at before the search is content with a whole section.
_TRIED_MAX = 128


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


class _Place(NamedTuple):
    """Rows ``start`` up to ``end`` (exclusive) of a section, as positions in its rows."""

    row_span: int
    cost: int
    section: int
    start: int
    end: int


class GroupSearch:
    """One search for the seats of a demand among those that are free now.

    Shapes:
        pattern: per seat, which of ``uses`` it has; 0 when it is not free.
        seat_cost, row_cost: what is to be small, of a seat and of a row.
    """

    def __init__(
        self,
        tables: PlanTables,
        pattern: bytes,
        uses: tuple[SeatUse, ...],
        demand: Demand,
        *,
        avoids_orphans: bool,
        seat_cost: Callable[[int], int],
        row_cost: Callable[[int], int],
    ) -> None:
        self._tables: Final = tables
        self._pattern: Final = pattern
        self._demand: Final = demand
        self._wanted: Final = demand.seat_count
        self._seat_cost: Final = seat_cost
        self._row_cost: Final = row_cost
        self._rules: Final = rules_for(
            uses, demand, avoids_orphans=avoids_orphans, avoids_singles=False
        )
        self._rules_without_singles: Final = rules_for(
            uses, demand, avoids_orphans=avoids_orphans, avoids_singles=True
        )
        # Counting is enough to decide when any seats of the one kind will do.
        self._counting_decides: Final = len(demand.counts) == 1 and not avoids_orphans
        self._may_take: Final = bytes(
            int(code < len(uses) and uses[code].step > 0) for code in range(256)
        )
        self._takeable: Final = pattern.translate(self._may_take)
        self._options_of_row: Final[dict[int, int]] = {}
        self._enough_of_section: Final[dict[int, bool]] = {}

    def in_one_section(
        self, sections: Iterable[int], beaten: SeatGroups | None = None
    ) -> SeatGroups | None:
        """The seats of the most compact place within one of these sections, or None.

        With ``beaten``, that set is returned unless a better one is found.
        """
        places: list[_Place] = []
        for section in sections:
            if self._count_in_section(section) >= self._wanted:
                places.extend(self._places_in(section))
        places.sort()
        best = beaten
        tried = compared = 0
        for place in places:
            rows = self._rows_of(place.section)
            span_max = len(rows)
            if best is not None:
                # After enough comparisons only a smaller place is worth a look.
                span_max = min(span_max, best.row_span - int(compared >= _COMPARED_MAX))
            if tried == _TRIED_MAX or (best is not None and place.row_span > span_max):
                break
            if not self._is_enough(place.section):
                continue
            tried += 1
            end = self._grown(rows, place, span_max)
            if end is not None:
                found = self._arranged(rows[place.start : end], end - place.start)
                best = found if best is None else min(best, found)
                compared += 1
        if best is not None:
            return best
        for place in places:
            if self._is_enough(place.section):
                rows = self._rows_of(place.section)
                return self._arranged(rows, len(rows))
        return None

    def anywhere(self) -> SeatGroups | None:
        """Seats from the whole plan in few groups, or None when there are too few."""
        rows = range(len(self._tables.row_runs))
        if self._takeable.count(1) < self._wanted:
            return None
        # A party needs at most its own size of interchangeable pieces; the cheapest are kept.
        alike: dict[bytes, list[tuple[int, int]]] = {}
        for row in rows:
            for first, seats in self._stretches(row):
                alike.setdefault(seats, []).append((self._stretch_cost(first, seats), first))
        stretches: list[tuple[int, bytes]] = []
        for seats, costs in alike.items():
            costs.sort()
            stretches.extend((first, seats) for _, first in costs[: self._wanted])
        chosen = self._chosen(stretches)
        return None if chosen is None else self._judged(chosen, 0)

    def _rows_of(self, section: int) -> tuple[int, ...]:
        return self._tables.section_rows[section]

    def _count_in_section(self, section: int) -> int:
        spans = self._tables.section_spans[section]
        return sum(self._takeable.count(1, first, end) for first, end in spans)

    def _count(self, row: int) -> int:
        place = self._tables.plan.rows[row]
        return self._takeable.count(1, place.first, place.end)

    def _options(self, row: int) -> int:
        known = self._options_of_row.get(row)
        if known is None:
            known = 1
            for _, seats in self._stretches(row):
                known = add_tallies(known, self._rules.options(seats), self._demand.bound)
            self._options_of_row[row] = known
        return known

    def _stretches(self, row: int) -> list[tuple[int, bytes]]:
        """The stretches of a row that have a seat to take, each with its first seat."""
        found: list[tuple[int, bytes]] = []
        for first, end in self._tables.row_runs[row]:
            if 1 not in self._takeable[first:end]:
                continue
            for seats in self._pattern[first:end].split(b"\0"):
                if seats and 1 in self._takeable[first : first + len(seats)]:
                    found.append((first, seats))
                first += len(seats) + 1
        return found

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

    def _places_in(self, section: int) -> list[_Place]:
        """Every row of the section to start at, with the first row that could be enough."""
        rows = self._rows_of(section)
        counts = [self._count(row) for row in rows]
        places: list[_Place] = []
        end, inside = 0, 0
        for start, count in enumerate(counts):
            while inside < self._wanted and end < len(rows):
                inside += counts[end]
                end += 1
            if inside < self._wanted:
                break
            if count:
                cost = self._row_cost(rows[start])
                places.append(_Place(end - start, cost, section, start, end))
            inside -= count
        return places

    def _grown(self, rows: Sequence[int], place: _Place, span_max: int) -> int | None:
        """The end that makes this place large enough, or None when it would span more."""
        if self._counting_decides:
            return place.end
        stop = min(len(rows), place.start + span_max)
        return self._end_of_enough(rows, place.start, stop)

    def _arranged(self, rows: Iterable[int], row_span: int) -> SeatGroups:
        chosen = self._chosen([stretch for row in rows for stretch in self._stretches(row)])
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
        for rules in (self._rules_without_singles, self._rules):
            seats = self._chosen_by(rules, stretches)
            if seats is not None:
                return seats
        return None

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
        length = self._demand.seats_of(tally)
        candidates = [
            (max(costs), sum(costs), start)
            for start in range(len(piece.seats) - length + 1)
            if self._is_block(rules, piece.seats, start, length, tally)
            for costs in [
                [self._seat_cost(piece.first + start + offset) for offset in range(length)]
            ]
        ]
        if candidates:
            first = piece.first + min(candidates)[2]
            return list(range(first, first + length))
        return [piece.first + position for position in rules.place(piece.seats, tally)]

    @staticmethod
    def _is_block(rules: StretchRules, seats: bytes, start: int, length: int, tally: int) -> bool:
        uses = [rules.uses[code] for code in seats[start : start + length]]
        if sum(use.step for use in uses) != tally or not all(use.step for use in uses):
            return False
        links = {use.link for use in uses}
        if COMPANION in links and ACCESSIBLE not in links:
            return False
        left, right = start, len(seats) - start - length
        return not rules.avoids_orphans or not (
            (left == 1 and rules.uses[seats[0]].may_be_orphan)
            or (right == 1 and rules.uses[seats[-1]].may_be_orphan)
        )
