"""Revised plans: every seat keeps its index, and the hall looks and sells as it is drawn now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.plan_codec import (
    decode_labels,
    decode_layout,
    encode_labels,
    encode_layout,
    plan_id_of,
)
from reservation.commands import Wish
from reservation.drawing_order import drawn_plan
from reservation.plan_document import read_plan
from reservation.plan_export import write_plan
from reservation.plan_findings import PlanProblem
from reservation.plan_revision import Revision, is_revision, revise
from reservation.seat_assignment import SeatChooser
from reservation.seating_plan import AdmissionTier, Category, SeatingPlan
from reservation.show import OrphanRule
from tests.support.drawings import CATEGORIES, Drawing, DrawnRow, drawings, imported, redrawn


def hall(*runs: str, section: str = "S") -> Drawing:
    """One row; each run is written as the labels of its seats with spaces between them."""
    return (DrawnRow(section, "A", tuple(tuple(run.split()) for run in runs)),)


def revised(
    old: SeatingPlan, new: SeatingPlan, renamed: Mapping[str, str] | None = None
) -> Revision:
    revision = revise(old, new, renamed or {})
    assert isinstance(revision, Revision), revision
    return revision


def refused(
    old: SeatingPlan, new: SeatingPlan, renamed: Mapping[str, str] | None = None
) -> list[str]:
    findings = revise(old, new, renamed or {})
    assert not isinstance(findings, Revision)
    assert all(isinstance(finding, PlanProblem) for finding in findings)
    return [finding.reason for finding in findings]


def neighbours(plan: SeatingPlan) -> set[tuple[str, str]]:
    """Who sits on the right of whom, by labels."""
    pairs: set[tuple[str, str]] = set()
    for run in plan.runs:
        seats = plan.labels_of(plan.seats_at(run.first, run.end))
        pairs |= set(pairwise(seats))
    return pairs


def rows(plan: SeatingPlan) -> list[tuple[str, str, list[str]]]:
    return [
        (row.section, row.name, plan.labels_of(plan.seats_at(row.first, row.end)))
        for row in plan.rows
    ]


# --- where seats are


def test_a_seat_put_between_two_others_is_their_neighbour_and_gets_the_next_index() -> None:
    old = imported(hall("a b c"))
    plan = revised(old, imported(hall("a x b c"))).plan
    assert plan.labels == ("a", "b", "c", "x")
    assert list(plan.order or ()) == [0, 3, 1, 2]
    assert neighbours(plan) == {("a", "x"), ("x", "b"), ("b", "c")}


def test_a_removed_seat_keeps_its_index_and_is_gone_from_the_drawing() -> None:
    revision = revised(imported(hall("a b c")), imported(hall("a c")))
    plan = revision.plan
    assert revision.removed == (1,)
    assert plan.labels == ("a", "b", "c")
    assert plan.gone == {1}
    assert (plan.seat_count, plan.place_count) == (3, 2)
    assert plan.index_of("b") is None
    assert plan.index_of("c") == 2
    assert neighbours(plan) == {("a", "c")}


def test_a_seat_that_comes_back_gets_its_old_index_back() -> None:
    old = imported(hall("a b c"))
    without = revised(old, imported(hall("a c"))).plan
    again = revised(without, imported(hall("a b c")))
    assert again.restored == (1,)
    assert again.removed == again.added == ()
    assert again.plan == old
    assert plan_id_of(again.plan) == plan_id_of(old)


def test_seats_added_at_the_very_end_need_no_history() -> None:
    new = imported(hall("a b c d"))
    revision = revised(imported(hall("a b")), new)
    assert revision.added == (2, 3)
    assert revision.plan == new
    assert revision.plan.order is None


def test_the_same_drawing_again_changes_nothing() -> None:
    old = imported(hall("a b", "c d"))
    revision = revised(old, imported(hall("a b", "c d")))
    assert revision.changes_nothing
    assert revision.plan == old


def test_a_moved_aisle_changes_no_seat() -> None:
    revision = revised(imported(hall("a b", "c d")), imported(hall("a b c", "d")))
    assert revision.changes_nothing
    assert neighbours(revision.plan) == {("a", "b"), ("b", "c")}


def test_all_seats_can_go() -> None:
    revision = revised(imported(hall("a b")), imported(()))
    assert revision.removed == (0, 1)
    assert revision.plan.place_count == 0
    chooser = SeatChooser(revision.plan)
    assert chooser.best_available([0, 0], 1, Wish(1), OrphanRule.OFF) is None
    assert chooser.nearest([0, 0], 1, (0,), OrphanRule.OFF) is None


@given(data=st.data())
def test_every_seat_keeps_its_index_through_any_number_of_revisions(data: st.DataObject) -> None:
    drawing = data.draw(drawings())
    plan = imported(drawing)
    index_of = {label: index for index, label in enumerate(plan.labels)}
    for _ in range(data.draw(st.integers(1, 5))):
        drawing = data.draw(redrawn(drawing))
        before, fresh = plan, imported(drawing)
        revision = revised(before, fresh)
        plan = revision.plan
        assert is_revision(before, plan)
        assert all(plan.labels[index] == label for label, index in index_of.items())
        index_of.update((label, index) for index, label in enumerate(plan.labels))
        assert len(index_of) == plan.seat_count
        shown = {plan.labels[index] for index in plan.seats_at(0, plan.place_count)}
        assert shown == set(fresh.labels)
        assert {plan.labels[index] for index in plan.gone} == index_of.keys() - shown
        gone = {before.labels[index] for index in before.gone}
        told = (revision.removed, revision.restored, revision.added)
        assert [set(plan.labels_of(each)) for each in told] == [
            set(before.labels) - gone - shown,
            gone & shown,
            shown - set(before.labels),
        ]


@given(data=st.data())
def test_a_revised_plan_shows_the_rows_and_neighbours_of_a_fresh_import(
    data: st.DataObject,
) -> None:
    old, fresh = _old_and_fresh(data)
    plan = revised(old, fresh).plan
    assert rows(plan) == rows(fresh)
    assert neighbours(plan) == neighbours(fresh)
    assert drawn_plan(plan) == fresh
    for label in fresh.labels:
        seat, at = plan.labels.index(label), fresh.labels.index(label)
        for column in ("category_of", "traits", "x", "y", "rank"):
            assert getattr(plan, column)[seat] == getattr(fresh, column)[at]


# --- choosing seats


def _old_and_fresh(data: st.DataObject) -> tuple[SeatingPlan, SeatingPlan]:
    """A plan that was revised some times already, and a new drawing of the same hall."""
    drawing = data.draw(drawings())
    plan = imported(drawing)
    for _ in range(data.draw(st.integers(0, 3))):
        drawing = data.draw(redrawn(drawing))
        plan = revised(plan, imported(drawing)).plan
    return plan, imported(data.draw(redrawn(drawing)))


def _taken(data: st.DataObject, plan: SeatingPlan, fresh: SeatingPlan) -> tuple[list[int], ...]:
    legs = data.draw(st.lists(st.integers(0, 3), min_size=40, max_size=40))
    by_label = {f"S{number}": legs[number] for number in range(40)}
    # A seat that is gone is blocked. That is for the seat map; the chooser must not need it.
    gone_legs = data.draw(st.sampled_from([0, 3]))
    return (
        [
            gone_legs if index in plan.gone else by_label[label]
            for index, label in enumerate(plan.labels)
        ],
        [by_label[label] for label in fresh.labels],
    )


@given(
    data=st.data(),
    wish=st.builds(
        Wish,
        seat_count=st.integers(1, 6),
        category_index=st.sampled_from([None, 0, 1]),
        accessible_count=st.integers(0, 1),
        companion_count=st.integers(0, 1),
    ),
    rule=st.sampled_from(OrphanRule),
    mask=st.integers(1, 3),
)
def test_the_best_seats_of_a_revised_plan_are_those_of_a_fresh_import(
    data: st.DataObject, wish: Wish, rule: OrphanRule, mask: int
) -> None:
    old, fresh = _old_and_fresh(data)
    plan = revised(old, fresh).plan
    taken, fresh_taken = _taken(data, plan, fresh)
    found = SeatChooser(plan).best_available(taken, mask, wish, rule)
    expected = SeatChooser(fresh).best_available(fresh_taken, mask, wish, rule)
    if expected is None or found is None:
        assert found is expected
        return
    assert list(found.seat_indexes) == sorted(set(found.seat_indexes))
    assert set(plan.labels_of(found.seat_indexes)) == set(fresh.labels_of(expected.seat_indexes))
    assert found.arrangement is expected.arrangement


@given(data=st.data(), rule=st.sampled_from(OrphanRule), mask=st.integers(1, 3))
def test_nearest_seats_and_orphans_of_a_revised_plan_are_those_of_a_fresh_import(
    data: st.DataObject, rule: OrphanRule, mask: int
) -> None:
    old, fresh = _old_and_fresh(data)
    if not fresh.seat_count:
        return
    plan = revised(old, fresh).plan
    taken, fresh_taken = _taken(data, plan, fresh)
    named = data.draw(st.sets(st.sampled_from(fresh.labels), min_size=1, max_size=4))
    seats = tuple(sorted(plan.labels.index(label) for label in named))
    fresh_seats = tuple(sorted(fresh.labels.index(label) for label in named))
    chooser, fresh_chooser = SeatChooser(plan), SeatChooser(fresh)
    found = chooser.nearest(taken, mask, seats, rule)
    expected = fresh_chooser.nearest(fresh_taken, mask, fresh_seats, rule)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert list(found.seat_indexes) == sorted(found.seat_indexes)
        assert set(plan.labels_of(found.seat_indexes)) == set(
            fresh.labels_of(expected.seat_indexes)
        )
    orphans = chooser.orphans_of(taken, mask, seats)
    assert set(plan.labels_of(orphans)) == set(
        fresh.labels_of(fresh_chooser.orphans_of(fresh_taken, mask, fresh_seats))
    )


def test_a_seat_that_is_gone_is_not_offered_even_when_nothing_blocks_it() -> None:
    plan = revised(imported(hall("a b c")), imported(hall("a c"))).plan
    chooser = SeatChooser(plan)
    assert chooser.best_available([0, 0, 0], 1, Wish(3), OrphanRule.OFF) is None
    # Nobody can say what would be near to a seat that is nowhere, also together with others.
    for named in ((1,), (0, 1)):
        assert chooser.nearest([0, 0, 0], 1, named, OrphanRule.OFF) is None
    assert chooser.orphans_of([0, 0, 0], 1, (1,)) == ()


def test_a_seat_map_of_bytes_is_read_as_well() -> None:
    plan = revised(imported(hall("a b c d")), imported(hall("a x b d"))).plan
    chooser = SeatChooser(plan)
    for taken in (bytearray(5), [0] * 5):
        found = chooser.best_available(taken, 1, Wish(1), OrphanRule.OFF)
        assert found is not None


# --- categories


def _categories(*names: str) -> tuple[Category, ...]:
    return tuple(map(Category, names))


def test_categories_drawn_in_another_order_keep_their_indexes() -> None:
    drawing = hall("S1 S2 S3 S4 S5 S6")
    old = imported(drawing)
    tiers = (AdmissionTier("F", "Floor", 2, 100),)
    revision = revised(old, imported(drawing, categories=CATEGORIES[::-1], tiers=tiers))
    assert revision.changes_nothing
    assert revision.plan == old


def test_a_renamed_category_keeps_its_index() -> None:
    old = imported(hall("S1 S2 S3 S4"))
    new = replace(old, categories=_categories("Circle", "Parkett", "Box"))
    new = replace(new, category_of=old.category_of)
    swapped = replace(
        new,
        categories=_categories("Parkett", "Circle", "Box"),
    )
    revision = revised(old, swapped, {"Stalls": "Parkett"})
    assert revision.recategorised == ()
    assert [category.name for category in revision.plan.categories] == [
        "Parkett",
        "Circle",
        "Box",
    ]


def test_a_category_that_seats_are_sold_as_may_not_just_vanish() -> None:
    old = imported(hall("S1 S2 S3 S4"))
    new = replace(old, categories=_categories("Parkett", "Circle", "Box"))
    (reason,) = refused(old, new)
    assert "'Stalls'" in reason or '"Stalls"' in reason


def test_a_category_without_seats_stays_for_the_fares_behind_it() -> None:
    old = imported(hall("S1 S2"))
    new = replace(imported(hall("S1 S2")), categories=_categories("Stalls", "Circle"))
    revision = revised(old, new)
    assert [category.name for category in revision.plan.categories] == list(CATEGORIES)
    assert revision.added_categories == ()


def test_a_new_category_comes_after_the_others_and_is_told() -> None:
    old = imported(hall("S1 S2 S3 S4"))
    new = replace(old, categories=_categories("Loge", *CATEGORIES))
    new = replace(new, category_of=type(old.category_of)("H", [0, 1, 1, 1]))
    old = replace(old, category_of=type(old.category_of)("H", [0, 0, 0, 0]))
    revision = revised(old, new)
    assert revision.added_categories == ("Loge",)
    assert list(revision.plan.category_of) == [3, 0, 0, 0]
    assert revision.recategorised == (0,)


def test_two_categories_may_become_one() -> None:
    old = imported(hall("a b"))
    old = replace(old, category_of=type(old.category_of)("H", [0, 1]))
    new = replace(
        old,
        categories=_categories("All"),
        category_of=type(old.category_of)("H", [0, 0]),
    )
    revision = revised(old, new, {"Stalls": "All", "Circle": "All"})
    assert [category.name for category in revision.plan.categories] == ["All", "Circle", "Box"]
    assert list(revision.plan.category_of) == [0, 0]
    assert revision.recategorised == (1,)


def test_who_has_a_name_already_keeps_it_when_another_one_gets_it_too() -> None:
    old = imported(hall("S1 S2 S3 S4"))
    new = replace(
        old,
        categories=_categories("Circle"),
        category_of=type(old.category_of)("H", [0, 0, 0, 0]),
    )
    tiers = (AdmissionTier("F", "Floor", 0, 100),)
    revision = revised(old, replace(new, admission_tiers=tiers), {"Stalls": "Circle"})
    assert [category.name for category in revision.plan.categories] == list(CATEGORIES)
    assert set(revision.plan.category_of) == {1}
    assert revision.plan.admission_tiers[0].category_index == 1


def test_categories_may_swap_their_names() -> None:
    old = imported(hall("S1 S2 S3 S4"))
    revision = revised(old, old, {"Stalls": "Circle", "Circle": "Stalls"})
    assert [category.name for category in revision.plan.categories] == ["Circle", "Stalls", "Box"]
    assert revision.recategorised == tuple(
        index for index in range(4) if old.category_of[index] in (0, 1)
    )


@pytest.mark.parametrize(
    ("renamed", "reasons"),
    [
        ({"Nowhere": "Stalls"}, ["no category"]),
        ({"Stalls": "Nowhere"}, ["no category", "is to be another one"]),
        ({"Stalls": "Circle"}, ["is to be another one"]),
    ],
)
def test_a_mapping_that_cannot_be_is_explained(
    renamed: Mapping[str, str], reasons: list[str]
) -> None:
    old = imported(hall("S1 S2 S3 S4"))
    told = refused(old, old, renamed)
    assert len(told) == len(reasons)
    assert all(part in reason for part, reason in zip(reasons, told, strict=True))


@given(data=st.data())
def test_names_of_categories_never_become_ambiguous(data: st.DataObject) -> None:
    names = ["A", "B", "C", "D"]
    chosen = st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True)
    seats = hall("a b c d")
    before, after = data.draw(chosen), data.draw(chosen)
    renamed = data.draw(st.dictionaries(st.sampled_from(before), st.sampled_from(after)))

    def plan(categories: list[str]) -> SeatingPlan:
        of = data.draw(st.lists(st.integers(0, len(categories) - 1), min_size=4, max_size=4))
        blank = imported(seats, tiers=())
        return replace(
            blank,
            categories=_categories(*categories),
            category_of=type(blank.category_of)("H", of),
        )

    old, new = plan(before), plan(after)
    outcome = revise(old, new, renamed)
    if not isinstance(outcome, Revision):
        assert outcome
        return
    revised_names = [category.name for category in outcome.plan.categories]
    assert len(set(revised_names)) == len(revised_names) >= len(before)
    assert set(after) <= set(revised_names)
    # Every seat is called what the new drawing calls it.
    assert [revised_names[index] for index in outcome.plan.category_of] == [
        after[index] for index in new.category_of
    ]
    for index, name in enumerate(before):
        assert revised_names[index] in {name, renamed.get(name, name)}


# --- general admission


def test_tiers_keep_their_index_and_may_grow() -> None:
    tiers = (AdmissionTier("F", "Floor", 0, 100), AdmissionTier("G", "Gallery", 1, 50))
    old = imported(hall("S1 S2"), tiers=tiers)
    more = (
        AdmissionTier("N", "New", 0, 10),
        AdmissionTier("G", "Gallery", 1, 60),
        AdmissionTier("F", "Floor", 0, 100),
    )
    plan = revised(old, imported(hall("S1 S2"), tiers=more)).plan
    assert [tier.code for tier in plan.admission_tiers] == ["F", "G", "N"]
    assert [tier.capacity for tier in plan.admission_tiers] == [100, 60, 10]


@pytest.mark.parametrize("tiers", [(), (AdmissionTier("F", "Floor", 0, 99),)])
def test_a_tier_neither_goes_nor_shrinks(tiers: tuple[AdmissionTier, ...]) -> None:
    old = imported(hall("S1 S2"))
    (reason,) = refused(old, imported(hall("S1 S2"), tiers=tiers))
    assert "F" in reason


# --- what cannot be revised


def test_plans_without_labels_and_drawings_with_a_history_are_mistakes_of_the_caller() -> None:
    plan = imported(hall("a b"))
    with pytest.raises(ValueError, match=r"^old: it has no labels"):
        revise(replace(plan, labels=()), plan)
    with pytest.raises(ValueError, match=r"^new: it has no labels"):
        revise(plan, replace(plan, labels=()))
    with pytest.raises(ValueError, match=r"^new: it is a revised plan"):
        revise(plan, revised(plan, imported(hall("b a"))).plan)


def test_seats_that_are_gone_count_against_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reservation.plan_revision.SEATS_PER_PLAN_MAX", 3)
    assert isinstance(revise(imported(hall("a b")), imported(hall("b c"))), Revision)
    (reason,) = refused(imported(hall("a b")), imported(hall("c d")))
    assert "at most 3" in reason


@pytest.mark.parametrize(
    "other",
    [
        imported(hall("b a c")),
        imported(hall("a")),
        replace(imported(hall("a b c")), categories=_categories("Stalls", "Circle")),
        imported(hall("a b c"), tiers=()),
        imported(hall("a b c"), tiers=(AdmissionTier("F", "Floor", 0, 99),)),
        imported(hall("a b c"), tiers=(AdmissionTier("G", "Floor", 0, 100),)),
    ],
)
def test_a_plan_that_moves_an_index_is_no_revision(other: SeatingPlan) -> None:
    assert is_revision(imported(hall("a b")), imported(hall("a b c")))
    assert not is_revision(imported(hall("a b")), other)


# --- stored and written


@given(data=st.data())
def test_a_revised_plan_is_stored_and_read_as_it_was(data: st.DataObject) -> None:
    old, fresh = _old_and_fresh(data)
    plan = revised(old, fresh).plan
    layout, labels = encode_layout(plan), encode_labels(plan.labels)
    again = decode_layout(layout, decode_labels(labels))
    assert again == plan
    assert again.gone == plan.gone
    assert plan_id_of(again) == plan_id_of(plan)
    assert decode_layout(layout) == replace(plan, labels=())
    if plan.order is not None:
        assert layout[4] == 2
        assert plan_id_of(replace(plan, order=plan.order[::-1])) != plan_id_of(plan) or (
            plan.order == plan.order[::-1]
        )


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([0, 0, 1], "order: a seat is at two places"),
        ([0, 1, 9], "order: at a place is a seat that the plan does not have"),
        ([0, 1, -1], "order: at a place is a seat that the plan does not have"),
        ([0, 1], "rows: they cover 3 of 2"),
    ],
)
def test_an_order_that_cannot_be_is_not_stored(order: list[int], message: str) -> None:
    plan = revised(imported(hall("a b c d")), imported(hall("a d c"))).plan
    assert plan.order is not None
    with pytest.raises(ValueError, match=f"^{message}"):
        encode_layout(replace(plan, order=type(plan.order)("i", order)))


def test_a_revised_plan_is_exported_as_it_is_drawn_now() -> None:
    old = imported(hall("S1 S2 S3 S4"))
    fresh = imported(hall("S1 S9 S3 S4"))
    document, extras = write_plan(revised(old, fresh).plan)
    reading = read_plan(document, extras)
    assert reading.plan is not None
    assert reading.plan.labels == fresh.labels
