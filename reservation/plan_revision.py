"""Changing the seating plan of a show on sale: a new drawing, and every seat keeps its index.

Holds, bookings, claims and the journal know a seat by its index, so what index 17 means must never
change within a show. ``revise`` takes the plan that is sold from and the plan as it is drawn now,
and makes the one to sell from next:

    a seat of both (by its label)    keeps its index; place, category, traits as drawn now
    a seat of the old one only       keeps its index and has no place: it is gone
    a seat of the new one only       gets the next free index
    a seat that was gone before      gets its old index back, and a place

Categories keep their indexes in the same way, because fares are by category index, and so do
admission tiers. A category keeps its index when it has the same name or was renamed; one that
nothing is of any more stays where it is, for the sake of the fares behind it. See
docs/decisions/0023-a-revised-plan-keeps-its-seat-numbers.md.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from reservation.limits import SEATS_PER_PLAN_MAX
from reservation.plan_findings import Findings, PlanProblem, shown
from reservation.seating_plan import AdmissionTier, Category, SeatingPlan

_NOTHING_RENAMED: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Revision:
    """A plan to sell from next, and what is different in it.

    Shapes:
        plan: has every seat, category and tier of the plan before under the same index.
        removed: seats that are gone now and were not before, by increasing index. They must be
            blocked before the plan is used, which fails when one is held or booked.
        restored: seats that were gone and are not any more; their block must be lifted.
        added: seats that were never there.
        recategorised: seats of both plans that cost as another category does from now on.
        added_categories: names of the categories that need fares, in the order of their indexes.
    """

    plan: SeatingPlan
    removed: tuple[int, ...]
    restored: tuple[int, ...]
    added: tuple[int, ...]
    recategorised: tuple[int, ...]
    added_categories: tuple[str, ...]

    @property
    def changes_nothing(self) -> bool:
        """Whether the same seats are sold as the same categories as before."""
        return not (
            self.removed
            or self.restored
            or self.added
            or self.recategorised
            or self.added_categories
        )


def revise(
    old: SeatingPlan, new: SeatingPlan, renamed: Mapping[str, str] = _NOTHING_RENAMED
) -> Revision | tuple[PlanProblem, ...]:
    """The plan to sell from after ``old``, drawn as ``new``.

    Args:
        old: the plan that is sold from, with its labels; it may be a revised one.
        new: a plan as it was imported, with its labels.
        renamed: what categories of ``old`` are called in ``new``, where that is another name.
            Two may get one name: then both are sold as the one that has it, or the first one.

    Returns:
        The revision, or everything that stands in its way.

    Raises:
        ValueError: a plan without labels, or ``new`` has a history of its own.
    """
    for name, plan in (("old", old), ("new", new)):
        if len(plan.labels) != plan.seat_count:
            raise ValueError(f"{name}: it has no labels")
    if new.order is not None:
        raise ValueError("new: it is a revised plan itself")
    findings = Findings()
    categories = _Categories(old, new, renamed, findings)
    tiers = _revised_tiers(old, new, categories, findings)
    order = _order_of(old, new)
    seat_count = max(max(order, default=-1) + 1, old.seat_count)
    if seat_count > SEATS_PER_PLAN_MAX:
        findings.add(
            "zones",
            f"with the seats that are gone these are {seat_count:,} seats; a plan has at most "
            f"{SEATS_PER_PLAN_MAX:,}",
        )
    if len(findings):
        return findings.problems()
    return _revision(old, new, categories, tiers, order, seat_count)


def is_revision(old: SeatingPlan, new: SeatingPlan) -> bool:
    """Whether every seat, category and tier of ``old`` has the same index in ``new``.

    Seats are compared by their labels, tiers by their codes. Of categories only the number is
    compared, because they may be renamed.
    """
    return (
        new.labels[: old.seat_count] == old.labels
        and len(new.categories) >= len(old.categories)
        and len(new.admission_tiers) >= len(old.admission_tiers)
        and all(
            after.code == before.code and after.capacity >= before.capacity
            for before, after in zip(old.admission_tiers, new.admission_tiers, strict=False)
        )
    )


class _Categories:
    """The categories of the revised plan, and which of them each one of the new drawing is."""

    def __init__(
        self,
        old: SeatingPlan,
        new: SeatingPlan,
        renamed: Mapping[str, str],
        findings: Findings,
    ) -> None:
        drawn = {category.name: category for category in new.categories}
        names = {category.name for category in old.categories}
        for name, becomes in renamed.items():
            if name not in names:
                findings.add("renamed", f"the plan on sale has no category {shown(name)}")
            if becomes not in drawn:
                findings.add("renamed", f"the new plan has no category {shown(becomes)}")
        index_of = _matched(old.categories, drawn.keys(), renamed)
        place_of = {index: name for name, index in index_of.items()}
        in_use = _categories_in_use(old, new)
        revised: list[Category] = []
        for index, category in enumerate(old.categories):
            if index in place_of:
                revised.append(drawn[place_of[index]])
                continue
            revised.append(category)
            if category.name in drawn:
                findings.add(
                    "renamed",
                    f"the new plan has a category {shown(category.name)}, and what was called so "
                    "is to be another one",
                )
            elif index in in_use and category.name not in renamed:
                findings.add(
                    "categories",
                    f"the new plan has no {shown(category.name)}, which seats are sold as; say "
                    "what it is called now",
                )
        added = [category for category in new.categories if category.name not in index_of]
        for category in added:
            index_of[category.name] = len(revised)
            revised.append(category)
        self.revised = tuple(revised)
        self.added_names = tuple(category.name for category in added)
        self.index_of_drawn = [index_of[category.name] for category in new.categories]


def _matched(
    categories: tuple[Category, ...], drawn: Collection[str], renamed: Mapping[str, str]
) -> dict[str, int]:
    """The old index of each drawn category that has one; who has the name already comes first."""
    index_of = {
        category.name: index
        for index, category in enumerate(categories)
        if category.name in drawn and category.name not in renamed
    }
    for index, category in enumerate(categories):
        becomes = renamed.get(category.name)
        if becomes is not None and becomes in drawn:
            index_of.setdefault(becomes, index)
    return index_of


def _categories_in_use(old: SeatingPlan, new: SeatingPlan) -> set[int]:
    """The old categories of whatever the new drawing still has."""
    labels = set(new.labels)
    used = {
        category
        for label, category in zip(old.labels, old.category_of, strict=True)
        if label in labels
    }
    return used | {tier.category_index for tier in old.admission_tiers}


def _revised_tiers(
    old: SeatingPlan, new: SeatingPlan, categories: _Categories, findings: Findings
) -> tuple[AdmissionTier, ...]:
    drawn = {tier.code: tier for tier in new.admission_tiers}
    revised: list[AdmissionTier] = []
    for before in old.admission_tiers:
        after = drawn.pop(before.code, None)
        if after is None:
            findings.add("areas", f"the new plan has no tier {shown(before.code)}; one cannot go")
        elif after.capacity < before.capacity:
            findings.add(
                "areas",
                f"tier {shown(before.code)} has {after.capacity:,} places instead of "
                f"{before.capacity:,}; there can only be more",
            )
        else:
            revised.append(after)
    revised += drawn.values()
    index_of = categories.index_of_drawn
    return tuple(tier._replace(category_index=index_of[tier.category_index]) for tier in revised)


def _order_of(old: SeatingPlan, new: SeatingPlan) -> array[int]:
    """The index of the seat at every place of the new drawing."""
    known = {label: index for index, label in enumerate(old.labels)}
    free = old.seat_count
    order = array("i")
    for label in new.labels:
        index = known.get(label)
        if index is None:
            index, free = free, free + 1
        order.append(index)
    return order


def _revision(
    old: SeatingPlan,
    new: SeatingPlan,
    categories: _Categories,
    tiers: tuple[AdmissionTier, ...],
    order: array[int],
    seat_count: int,
) -> Revision:
    more = seat_count - old.seat_count
    # What is gone keeps its facts: they say what a cancelled booking of long ago was for.
    category_of = array("H", [*old.category_of, *[0] * more])
    traits = bytearray(old.traits + bytes(more))
    x, y, rank = (array("i", [*column, *[0] * more]) for column in (old.x, old.y, old.rank))
    labels = [*old.labels, *[""] * more]
    recategorised: list[int] = []
    for place, seat_index in enumerate(order):
        category = categories.index_of_drawn[new.category_of[place]]
        if seat_index < old.seat_count and category != category_of[seat_index]:
            recategorised.append(seat_index)
        category_of[seat_index] = category
        traits[seat_index] = new.traits[place]
        x[seat_index], y[seat_index] = new.x[place], new.y[place]
        rank[seat_index] = new.rank[place]
        labels[seat_index] = new.labels[place]
    is_in_order = len(order) == seat_count and all(
        place == seat_index for place, seat_index in enumerate(order)
    )
    plan = replace(
        new,
        categories=categories.revised,
        category_of=category_of,
        traits=bytes(traits),
        x=x,
        y=y,
        rank=rank,
        admission_tiers=tiers,
        labels=tuple(labels),
        order=None if is_in_order else order,
        _index_of={},
        _gone=[],
    )
    gone_before = old.gone
    recategorised = [index for index in recategorised if index not in gone_before]
    return Revision(
        plan=plan,
        removed=tuple(sorted(plan.gone - gone_before)),
        restored=tuple(sorted(gone_before - plan.gone)),
        added=tuple(range(old.seat_count, seat_count)),
        recategorised=tuple(sorted(recategorised)),
        added_categories=categories.added_names,
    )
