"""Bugs that were planted on purpose: the simulator must find every one of them, and soon."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS
from tests.simulation.simulation import simulate

SEEDS_MAX = 700

FOUND_BY = {
    "unproved_answers": 81,
    "load_before_epoch": 290,
    "fenced_show_kept": 484,
    "renewed_while_activating": 124,
}
"""The first seed that found these, which takes long to come to. It is played first; when stories
have changed and it finds nothing, all are played."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_found(name: str) -> None:
    mutant = MUTANTS[name]
    with mutant.planted():
        for seed in (FOUND_BY.get(name, 0), *range(SEEDS_MAX)):
            broken = {violation.invariant for violation in simulate(seed).violations}
            if broken & set(mutant.caught_by):
                return
    pytest.fail(f"{mutant.what}: {SEEDS_MAX} seeds, and none of {mutant.caught_by} noticed")


def test_seeds_to_begin_with_are_of_planted_bugs_and_within_the_limit() -> None:
    assert FOUND_BY.keys() <= MUTANTS.keys()
    assert all(seed < SEEDS_MAX for seed in FOUND_BY.values())


def test_a_planted_bug_is_gone_afterwards() -> None:
    for mutant in MUTANTS.values():
        before = [vars(where)[name] for where, name, _ in mutant.patches]
        with mutant.planted():
            planted = [vars(where)[name] for where, name, _ in mutant.patches]
            assert all(a is not b for a, b in zip(before, planted, strict=True))
        assert [vars(where)[name] for where, name, _ in mutant.patches] == before
