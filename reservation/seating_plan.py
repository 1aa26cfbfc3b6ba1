"""The static drawing of a hall, a coach or a bus: the seats and who their neighbours are.

A plan is kept in columns, one entry per seat, because a 50,000-seat arena must load in well
under a second and share its actor's few megabytes with the live map. ``seat_index`` is the
position in these columns; ``seat_label`` is what people and imported plans call the seat.

Seats have *places*: their positions when the drawing is read row by row. Every row is one
contiguous range of places, and every *run* (the seats of a row between two aisles) is a contiguous
range inside it: two seats are neighbours exactly when their places are consecutive and they share
a run. In a plan that was imported, the place of a seat is its index.

In a revised plan it is not, because a seat keeps its index for ever: seats that were added have
the highest indexes wherever they stand, and a seat that was removed is *gone*: it still has its
index, its label and its facts, and no place (docs/decisions/0023).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from typing import NamedTuple


class SeatTrait(IntFlag):
    """What is special about a seat; a seat may have several traits."""

    ACCESSIBLE = 1  #: A wheelchair space or step-free seat.
    COMPANION = 2  #: Sold only together with an accessible seat.
    RESTRICTED_VIEW = 4  #: Offered last, and said so.


class Category(NamedTuple):
    """A price class of the plan."""

    name: str
    color: str = ""


class SeatRow(NamedTuple):
    """One row: places ``first`` (inclusive) to ``end`` (exclusive)."""

    section: str
    name: str
    first: int
    end: int


class Run(NamedTuple):
    """Neighbouring seats without an aisle between them: ``first`` to ``end`` (exclusive)."""

    first: int
    end: int
    row_index: int


class AdmissionTier(NamedTuple):
    """General admission: ``capacity`` unnumbered places, counted on every leg."""

    code: str
    name: str
    category_index: int
    capacity: int


@dataclass(frozen=True, slots=True)
class SeatingPlan:
    """Seats in columns, rows, runs and general-admission tiers.

    Shapes:
        labels: ``seat_count`` unique texts, or empty in an actor, which never needs them.
        category_of, traits, x, y, rank: ``seat_count`` entries each, by seat index.
        rows: cover ``range(place_count)`` in order without gaps.
        runs: cover ``range(place_count)`` in order without gaps; a run lies in one row.
        order: of a revised plan, the seat index at every place; None when they are the same.

    Units:
        x, y: hundredths of the plan's own unit.
        rank: 0 is the best seat of the plan; larger is worse; ties are allowed.
    """

    name: str
    categories: tuple[Category, ...]
    category_of: array[int]
    traits: bytes
    x: array[int]
    y: array[int]
    rank: array[int]
    rows: tuple[SeatRow, ...]
    runs: tuple[Run, ...]
    admission_tiers: tuple[AdmissionTier, ...] = ()
    labels: tuple[str, ...] = ()
    order: array[int] | None = None
    _index_of: dict[str, int] = field(default_factory=dict, compare=False, repr=False)
    _gone: list[frozenset[int]] = field(default_factory=list, compare=False, repr=False)

    @property
    def seat_count(self) -> int:
        """Numbered seats of the plan, those that are gone included."""
        return len(self.category_of)

    @property
    def place_count(self) -> int:
        """Numbered seats that people can see."""
        return len(self.category_of) if self.order is None else len(self.order)

    @property
    def gone(self) -> frozenset[int]:
        """The seats that revisions removed. They are neither shown nor sold."""
        if not self._gone:
            every = () if self.order is None else range(self.seat_count)
            self._gone.append(frozenset(every).difference(self.order or ()))
        return self._gone[0]

    def seats_at(self, first: int, end: int) -> Sequence[int]:
        """The indexes of the seats at the places ``first`` to ``end`` (exclusive)."""
        return range(first, end) if self.order is None else self.order[first:end]

    def index_of(self, label: str) -> int | None:
        """The index of the seat called ``label``; None when there is none, or it is gone."""
        if not self._index_of and self.labels:
            gone = self.gone
            self._index_of.update(
                (name, index) for index, name in enumerate(self.labels) if index not in gone
            )
        return self._index_of.get(label)

    def tier_index_of(self, code: str) -> int | None:
        """The index of the general-admission tier with this code, or None."""
        for index, tier in enumerate(self.admission_tiers):
            if tier.code == code:
                return index
        return None

    def category_index_of(self, name: str) -> int | None:
        """The index of the category with this name, or None."""
        for index, category in enumerate(self.categories):
            if category.name == name:
                return index
        return None

    def labels_of(self, seat_indexes: Iterable[int]) -> list[str]:
        """What people call these seats."""
        return [self.labels[index] for index in seat_indexes]
