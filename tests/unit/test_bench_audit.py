"""The audit of what was sold finds what it must, and nothing else."""

from __future__ import annotations

import pytest

from benchmarks.audit import FOR_EVER_MS, Audit, Sold, sold_twice

MINUTE_US = 60_000_000


def sold(hold_id: str, places: list[int], from_minute: int, until_minute: int) -> Sold:
    return Sold(hold_id, places, from_minute * MINUTE_US, until_minute * MINUTE_US)


@pytest.mark.parametrize(
    ("holds", "places"),
    [
        ([sold("a", [1, 2], 0, 10), sold("b", [3, 4], 0, 10)], []),
        ([sold("a", [1, 2], 0, 10), sold("b", [2, 3], 5, 15)], [2]),
        ([sold("b", [2, 3], 5, 15), sold("a", [1, 2], 0, 10)], [2]),
        ([sold("a", [1], 0, 10), sold("b", [1], 10, 20)], []),
        ([sold("a", [1], 0, 30), sold("b", [1], 10, 20), sold("c", [1], 25, 35)], [1, 1]),
        ([sold("a", [1], 0, 10), sold("b", [1], 0, 10), sold("c", [1], 0, 10)], [1, 1]),
        ([Sold("a", [1], 0, FOR_EVER_MS), sold("b", [1], 10**6, 10**6 + 10)], [1]),
        ([], []),
    ],
)
def test_a_place_that_two_had_at_one_time_is_found(holds: list[Sold], places: list[int]) -> None:
    assert [int(fault.split(":")[0].split()[1]) for fault in sold_twice(holds)] == places


def test_a_promise_that_is_not_there_is_a_violation() -> None:
    audit = Audit()
    audit.check("row_lock", [sold("a", [1], 0, 10)], ["a", "b"])
    assert audit.violations == 1
    assert "b was acknowledged and is lost" in audit.faults[0]
    assert (audit.shows, audit.holds) == (1, 1)


def test_a_hold_that_nobody_was_promised_is_no_violation() -> None:
    audit = Audit()
    audit.check("actor", [sold("a", [1], 0, 10)], [])
    assert audit.violations == 0
