"""Small halls as somebody draws and redraws them, and the plans that are imported from them.

What is special about a seat depends on its label only, so two drawings that have a seat of one
label agree about it.
"""

from __future__ import annotations

import hashlib
from array import array
from typing import NamedTuple

from hypothesis import strategies as st

from reservation.seating_plan import AdmissionTier, Category, Run, SeatingPlan, SeatRow, SeatTrait

CATEGORIES = ("Stalls", "Circle", "Box")

_TRAITS = (
    *(0,) * 9,
    int(SeatTrait.ACCESSIBLE),
    int(SeatTrait.COMPANION),
    int(SeatTrait.RESTRICTED_VIEW),
)


class DrawnRow(NamedTuple):
    """A row: the labels of its seats, run by run."""

    section: str
    name: str
    runs: tuple[tuple[str, ...], ...]


Drawing = tuple[DrawnRow, ...]


def _drawn_from(label: str, what: str, count: int) -> int:
    return hashlib.blake2b(f"{what} {label}".encode(), digest_size=2).digest()[0] % count


def imported(
    drawing: Drawing,
    *,
    categories: tuple[str, ...] = CATEGORIES,
    tiers: tuple[AdmissionTier, ...] = (AdmissionTier("F", "Floor", 0, 100),),
    category_count: int = 2,
) -> SeatingPlan:
    """The plan that this drawing is, without any history.

    Args:
        categories: names in the order of their indexes, at least those of ``CATEGORIES`` that
            are used: the first ``category_count`` ones.
    """
    labels: list[str] = []
    rows: list[SeatRow] = []
    runs: list[Run] = []
    x, y = array("i"), array("i")
    for row_index, row in enumerate(drawing):
        first = len(labels)
        for run_index, run in enumerate(row.runs):
            if run:
                runs.append(Run(len(labels), len(labels) + len(run), row_index))
            for label in run:
                x.append((len(labels) - first + 2 * run_index) * 100)
                y.append(row_index * 100)
                labels.append(label)
        rows.append(SeatRow(row.section, row.name, first, len(labels)))
    names = [CATEGORIES[_drawn_from(label, "category", category_count)] for label in labels]
    return SeatingPlan(
        name="Hall",
        categories=tuple(map(Category, categories)),
        category_of=array("H", map(categories.index, names)),
        traits=bytes(_TRAITS[_drawn_from(label, "trait", len(_TRAITS))] for label in labels),
        x=x,
        y=y,
        rank=array("i", range(len(labels))),
        rows=tuple(rows),
        runs=tuple(runs),
        admission_tiers=tiers,
        labels=tuple(labels),
    )


@st.composite
def drawings(draw: st.DrawFn) -> Drawing:
    """Up to four rows of up to 12 seats each, out of 30 labels that all drawings share."""
    labels = draw(st.permutations([f"S{number}" for number in range(30)]))
    kept = draw(st.integers(1, len(labels)))
    return _cut(draw, labels[:kept])


@st.composite
def redrawn(draw: st.DrawFn, drawing: Drawing) -> Drawing:
    """The same hall after some work: seats go, come and move, aisles too."""
    labels = [label for row in drawing for run in row.runs for label in run]
    gone = draw(st.sets(st.sampled_from(labels), max_size=3)) if labels else set()
    labels = [label for label in labels if label not in gone]
    known = set(labels)
    for _ in range(draw(st.integers(0, 4))):
        label = f"S{draw(st.integers(0, 39))}"
        if label not in known:
            known.add(label)
            labels.insert(draw(st.integers(0, len(labels))), label)
    return _cut(draw, labels)


def _cut(draw: st.DrawFn, labels: list[str]) -> Drawing:
    rows: list[DrawnRow] = []
    reached = 0
    while reached < len(labels):
        end = min(len(labels), reached + draw(st.integers(1, 12)))
        seats = tuple(labels[reached:end])
        aisle = draw(st.integers(0, len(seats)))
        section = "Left" if len(rows) < 2 else "Right"
        rows.append(DrawnRow(section, f"R{len(rows)}", (seats[:aisle], seats[aisle:])))
        reached = end
    return tuple(rows)
