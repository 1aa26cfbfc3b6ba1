"""What the seat chooser must know about a plan beyond its columns, computed once per plan.

A set of seats is one big integer here (``seat_sets``): "four free seats side by
side" is then three shifts and ANDs over the whole hall, a few microseconds for 50,000 seats,
where a loop over the seats would take milliseconds of the show's event loop.

The tables never change after they are built, so every show of a plan shares them. They live
as long as one chooser of the plan does.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, compress, islice, pairwise
from operator import add, eq, itemgetter, sub
from typing import Final, NamedTuple
from weakref import WeakValueDictionary

from reservation.limits import SEATS_PER_HOLD_MAX
from reservation.seat_sets import (
    SeatSet,
    as_seat_set,
    flags_of,
    seat_set_of,
    seats_in,
    windows,
)
from reservation.seating_plan import SeatingPlan, SeatTrait

# Plain integers: an ``&`` of two flags takes longer than all the rest of a look at a seat.
_ACCESSIBLE: Final = int(SeatTrait.ACCESSIBLE)
_SPECIAL: Final = int(SeatTrait.ACCESSIBLE | SeatTrait.COMPANION)
_RESTRICTED_VIEW: Final = int(SeatTrait.RESTRICTED_VIEW)
_BYTE_VALUES: Final = 256
_SIGN_OF_FLAG: Final = bytes(int(flag == 49) for flag in range(_BYTE_VALUES))

# A level is a slice of the offer order. With about a hundred of them, finding the best of many
# windows costs seven set operations and a look at the few windows of one level.
_LEVEL_COUNT: Final = 100
_LEVEL_SEATS_MIN: Final = 256


class SeatClass(NamedTuple):
    """All seats of one category with the same traits."""

    category_index: int
    traits: int
    seats: SeatSet

    @property
    def is_special(self) -> bool:
        """Whether it is kept for people who need an accessible or a companion seat."""
        return bool(self.traits & _SPECIAL)

    @property
    def is_accessible(self) -> bool:
        """Whether it is sold as an accessible seat; a seat with both special traits is."""
        return bool(self.traits & _ACCESSIBLE)

    @property
    def is_companion(self) -> bool:
        """Whether it is sold as a companion seat."""
        return self.is_special and not self.is_accessible

    @property
    def is_restricted(self) -> bool:
        """Whether its view is restricted."""
        return bool(self.traits & _RESTRICTED_VIEW)


class SeatBox(NamedTuple):
    """The rectangle around the seats of a row or a section, in the plan's hundredths."""

    x_min: int
    x_max: int
    y_min: int
    y_max: int


class PlanTables:
    """The derived, immutable tables of one plan.

    Shapes:
        classes, class_of: the seat classes, and the class of each seat.
        classes_of_row: per row, one bit for each class that it has a seat of.
        linked: seats whose next seat is their neighbour (in the same run).
        linked_in_category: the same, where both seats are also of one category.
        special: the accessible and the companion seats. accessible: the accessible ones.
        offer_rank: per seat, its rank in the order of offering: free views by rank, then
            restricted views by rank, then all accessible and companion seats alike, so far
            behind that the lowest sum of ranks has the fewest of them.
        section_rows, section_of_row: rows of each section in plan order, and back.
        row_ranges: per section, ``(first, end)`` of its rows when they are read section by section.
        section_spans: per section, ``(first, end)`` of its seats, as few as possible.
        row_boxes, section_boxes: the rectangles around the seats of each.
        row_bounds, row_runs: per row, ``(first, end)`` of its seats, and of each of its runs.
        row_rank, section_rank: per row and section, the lowest ``offer_rank`` in it.
        ``*_sums``: prefix sums, one entry more than there are seats.
    """

    def __init__(self, plan: SeatingPlan) -> None:
        assert plan.order is None, "the tables of a revised plan are those of its drawing"
        self.plan: Final = plan
        pairs = list(zip(plan.category_of, plan.traits, strict=True))
        class_index_of = {pair: index for index, pair in enumerate(dict.fromkeys(pairs))}
        self.class_of: Final = array("L", map(class_index_of.__getitem__, pairs))
        self._class_bytes: Final = _as_bytes(self.class_of)
        self.classes: Final = tuple(
            SeatClass(category, traits, _where(self.class_of, self._class_bytes, index))
            for (category, traits), index in class_index_of.items()
        )
        self.special: Final = sum(each.seats for each in self.classes if each.is_special)
        self.accessible: Final = sum(each.seats for each in self.classes if each.is_accessible)
        # Runs cover all seats in their order: the next seat is a neighbour but for the last one.
        self.linked: Final = seat_set_of(
            b"".join(b"1" * (run.end - run.first - 1) + b"0" for run in plan.runs)
        )
        categories = plan.category_of
        self.linked_in_category: Final = self.linked & as_seat_set(
            bytes(map(eq, categories, categories[1:]))
        )
        self._index_rows()
        self._rank_seats()
        self.x_sums: Final = _sums(plan.x)
        self.y_sums: Final = _sums(plan.y)
        self.plain_rank_sums: Final = _sums(plan.rank)
        accessible = [int(each.is_accessible) for each in self.classes]
        companion = [int(each.is_companion) for each in self.classes]
        self.accessible_sums: Final = _sums(map(accessible.__getitem__, self.class_of))
        self.companion_sums: Final = _sums(map(companion.__getitem__, self.class_of))

    def _index_rows(self) -> None:
        plan = self.plan
        index_of: dict[str, int] = {}
        self.section_of_row = tuple(
            index_of.setdefault(row.section, len(index_of)) for row in plan.rows
        )
        rows: list[list[int]] = [[] for _ in index_of]
        for row_index, section in enumerate(self.section_of_row):
            rows[section].append(row_index)
        self.section_rows = tuple(tuple(each) for each in rows)
        ends = list(accumulate(map(len, rows)))
        self.row_ranges = tuple(pairwise([0, *ends]))
        self.section_spans = tuple(tuple(self._spans(each)) for each in rows)
        self._section_classes = tuple(
            sum(1 << k for k in {k for first, end in spans for k in self.class_of[first:end]})
            for spans in self.section_spans
        )
        self._seats_of: dict[tuple[int, ...], SeatSet] = {}
        self.classes_of_row = tuple(
            sum(1 << index for index in set(self.class_of[row.first : row.end]))
            for row in plan.rows
        )
        runs: list[list[tuple[int, int]]] = [[] for _ in plan.rows]
        for run in plan.runs:
            runs[run.row_index].append((run.first, run.end))
        self.row_bounds = tuple((row.first, row.end) for row in plan.rows)
        self.row_runs = tuple(tuple(each) for each in runs)
        self._row_firsts = [row.first for row in plan.rows]
        self._counts_in_bytes = max((row.end - row.first for row in plan.rows), default=0) < 256
        self._ones = int.from_bytes(b"\1" * plan.seat_count, "little")
        self._doublings = tuple(_doublings(plan)) if self._counts_in_bytes else ()
        # A row without seats has those behind the last one; two of them, or it is no tuple.
        nowhere = plan.seat_count
        self._counts_by_section = itemgetter(
            nowhere,
            nowhere,
            *(
                plan.rows[row].first if plan.rows[row].end > plan.rows[row].first else nowhere
                for row in chain.from_iterable(rows)
            ),
        )
        self.row_boxes = tuple(
            SeatBox(
                min(plan.x[row.first : row.end], default=0),
                max(plan.x[row.first : row.end], default=0),
                min(plan.y[row.first : row.end], default=0),
                max(plan.y[row.first : row.end], default=0),
            )
            for row in plan.rows
        )
        self.section_boxes = tuple(
            _around(
                self.row_boxes[row] for row in section if plan.rows[row].end > plan.rows[row].first
            )
            for section in rows
        )

    def sections_of(self, classes: Iterable[int]) -> list[int]:
        """The sections that have a seat of one of these classes."""
        wanted = sum(1 << index for index in set(classes))
        return [
            section for section, present in enumerate(self._section_classes) if present & wanted
        ]

    def seats_of(self, classes: tuple[int, ...]) -> SeatSet:
        """All seats of these classes, free or not; there are few different questions."""
        known = self._seats_of.get(classes)
        if known is None:
            known = 0
            for index in classes:
                known |= self.classes[index].seats
            self._seats_of[classes] = known
        return known

    def _spans(self, rows: Iterable[int]) -> list[tuple[int, int]]:
        spans: list[tuple[int, int]] = []
        for _, _, first, end in map(self.plan.rows.__getitem__, rows):
            if spans and spans[-1][1] == first:
                first = spans.pop()[0]
            spans.append((first, end))
        return spans

    def _rank_seats(self) -> None:
        plan = self.plan
        behind = max(plan.rank, default=0) + 1
        # Every other seat of the largest party together ranks before one special seat.
        last = 2 * behind * SEATS_PER_HOLD_MAX
        penalty = [behind if each.is_restricted else 0 for each in self.classes]
        self.offer_rank = array("q", map(add, plan.rank, map(penalty.__getitem__, self.class_of)))
        for seat in seats_in(self.special):
            self.offer_rank[seat] = last
        self.offer_rank_sums = _sums(self.offer_rank)
        self.row_rank = tuple(
            min(self.offer_rank[row.first : row.end], default=0) for row in plan.rows
        )
        self.section_rank = tuple(
            min(map(self.row_rank.__getitem__, rows)) for rows in self.section_rows
        )
        seats_of_rank = Counter(self.offer_rank)
        room = max(_LEVEL_SEATS_MIN, plan.seat_count // _LEVEL_COUNT + 1)
        level_of: dict[int, int] = {}
        level, filled = -1, room
        for rank in sorted(seats_of_rank):
            if filled >= room or seats_of_rank[rank] >= room:
                level, filled = level + 1, 0
            level_of[rank] = level
            filled += seats_of_rank[rank]
        # At most two levels per full one, far below the 256 values of a byte.
        level_bytes = bytes(map(level_of.__getitem__, self.offer_rank))
        self._levels = tuple(
            seat_set_of(level_bytes.translate(bytes(48 + (k <= last) for k in range(_BYTE_VALUES))))
            for last in range(level + 1)
        )

    def row_of(self, seat_index: int) -> int:
        """The row that the seat is in."""
        # An empty row starts where the next one does; the last of them is the one with seats.
        return bisect_right(self._row_firsts, seat_index) - 1

    def pattern(
        self, free: bytes, code_of_class: Sequence[int], first: int = 0, end: int | None = None
    ) -> bytes:
        """One byte per seat: the code of its class where it is free, 0 where it is not.

        Of the seats from ``first`` to ``end`` (exclusive), or of all.

        Shapes:
            free: as ``free_seats`` gives it.
            code_of_class: one code, 1 to 255, per class.
        """
        free = free[first:end]
        if self._class_bytes is None:
            classes = self.class_of[first:end]
            return bytes([code_of_class[k] & sign for k, sign in zip(classes, free, strict=True)])
        table = bytes(code_of_class) + bytes(_BYTE_VALUES - len(code_of_class))
        coded = int.from_bytes(self._class_bytes[first:end].translate(table), "little")
        return (coded & int.from_bytes(free, "little")).to_bytes(len(free), "little")

    def free_per_row(self, free: bytes) -> Sequence[int]:
        """How many seats of each row are free, section after section.

        Shapes:
            free: as ``free_seats`` gives it.
        """
        if not self._counts_in_bytes:
            rows = map(self.row_bounds.__getitem__, chain.from_iterable(self.section_rows))
            return [free.count(255, *row) for row in rows]
        # Every seat counts itself, then also what its neighbour has counted, then also what the
        # second next has, the fourth next, ...: the first seat of a row has then counted the row.
        counts = int.from_bytes(free, "little") & self._ones
        for distance_bits, within_row in self._doublings:
            counts += counts >> distance_bits & within_row
        by_section: tuple[int, ...] = self._counts_by_section(
            counts.to_bytes(len(free) + 1, "little")
        )
        return by_section[2:]

    def best_window(self, starts: SeatSet, seat_count: int) -> int:
        """Of these starts of windows the one with the lowest worst ``offer_rank``.

        Ties go to the lowest sum of ranks, then to the first window.
        """
        low, high = 0, len(self._levels) - 1
        if starts.bit_count() > _LEVEL_SEATS_MIN:
            while low < high:
                middle = (low + high) // 2
                if starts & windows(self._levels[middle], -1, seat_count):
                    high = middle
                else:
                    low = middle + 1
            starts &= windows(self._levels[low], -1, seat_count)
        ranks, sums = self.offer_rank, self.offer_rank_sums
        if starts.bit_count() <= 4 * _LEVEL_SEATS_MIN:
            return min(
                seats_in(starts),
                key=lambda start: (
                    max(ranks[start : start + seat_count]),
                    sums[start + seat_count] - sums[start],
                ),
            )
        # So many windows in one level means that very many seats share one rank: compare their
        # sums, without a line of Python per window.
        signs = flags_of(starts).encode().translate(_SIGN_OF_FLAG)
        totals = list(compress(map(sub, sums[seat_count:], sums), signs))
        nth = totals.index(min(totals))
        return next(islice(compress(range(len(signs)), signs), nth, None))


_TABLES: WeakValueDictionary[int, PlanTables] = WeakValueDictionary()


def tables_of(plan: SeatingPlan) -> PlanTables:
    """The tables of this plan object, built at the first call and shared while in use."""
    tables = _TABLES.get(id(plan))
    # The tables keep their plan alive, so an id found here cannot have been reused.
    if tables is None:
        tables = _TABLES[id(plan)] = PlanTables(plan)
    return tables


def _around(boxes: Iterable[SeatBox]) -> SeatBox:
    x_min, x_max, y_min, y_max = tuple(zip(*boxes, strict=True)) or ((0,),) * 4
    return SeatBox(min(x_min), max(x_max), min(y_min), max(y_max))


def _as_bytes(values: array[int]) -> bytes | None:
    return bytes(values.tolist()) if max(values, default=0) < _BYTE_VALUES else None


def _where(values: array[int], as_bytes: bytes | None, wanted: int) -> SeatSet:
    if as_bytes is None:
        return seat_set_of(bytes([49 if value == wanted else 48 for value in values]))
    return seat_set_of(as_bytes.translate(bytes(48 + (k == wanted) for k in range(_BYTE_VALUES))))


def _doublings(plan: SeatingPlan) -> Iterator[tuple[int, int]]:
    """Per power of two: eight times it, and a byte for each seat that has such a one behind it."""
    longest = max((row.end - row.first for row in plan.rows), default=0)
    distance = 1
    while distance < longest:
        marks = [
            b"\xff" * max(0, row.end - row.first - distance)
            + bytes(min(distance, row.end - row.first))
            for row in plan.rows
        ]
        yield 8 * distance, int.from_bytes(b"".join(marks), "little")
        distance *= 2


def _sums(values: Iterable[int]) -> array[int]:
    return array("q", accumulate(values, initial=0))
