"""The static drawing of a hall, a coach or a bus: the seats and who their neighbours are.

A plan is kept in columns, one entry per seat, because a 50,000-seat arena must load in well
under a second and share its actor's few megabytes with the live map. ``seat_index`` is the
position in these columns; ``seat_label`` is what people and imported plans call the seat.

Seats are ordered so that every row is one contiguous range of indexes, and every *run* (the
seats of a row between two aisles) is a contiguous range inside it: two seats are neighbours
exactly when their indexes are consecutive and they share a run.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
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
    """One row: seat indexes ``first`` (inclusive) to ``end`` (exclusive)."""

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
        category_of, traits, x, y, rank: ``seat_count`` entries each.
        rows: cover ``range(seat_count)`` in order without gaps.
        runs: cover ``range(seat_count)`` in order without gaps; a run lies in one row.

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
    _index_of: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def seat_count(self) -> int:
        """Numbered seats of the plan."""
        return len(self.category_of)

    def index_of(self, label: str) -> int | None:
        """The index of the seat called ``label``, or None when the plan has no such seat."""
        if not self._index_of and self.labels:
            self._index_of.update((name, index) for index, name in enumerate(self.labels))
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
