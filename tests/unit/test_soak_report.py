"""What a soak makes of its records: gaps, late holds and losses are counted as they are."""

from __future__ import annotations

import time

from benchmarks.soak.faults import Done, Record
from benchmarks.soak.report import Findings, as_json, as_text, late_expiries, standstills
from reservation.events import SeatsHeld
from tests.support.house import ID, FakeActor, hold
from tests.support.recorded_history import Attempt, Told

S = 10**9


def held_at(second: float) -> Attempt:
    command = hold(ID, int(second * 10))
    outcome = FakeActor().answer((ID, command))
    assert isinstance(outcome, SeatsHeld)
    asked_ns = int(second * S)
    return Attempt("ann", ID, command, asked_ns, asked_ns + 1, Told.EVENT, outcome)


def test_the_longest_time_without_a_hold_is_the_one_that_the_fault_was_in() -> None:
    attempts = [held_at(second) for second in (0, 1, 2, 7, 8, 18, 19)]
    done = Done("kill_actor", "process 1 killed", int(2.5 * S), int(2.6 * S))
    record = Record([done], ["half_open_connections: no connection"])
    report = as_json(Findings(attempts, record, [], [], 7, 0, 20 * S), 1, "here", {})
    faults = report["faults"]
    assert isinstance(faults, dict)
    assert faults["kill_actor"]["longest_s_without_hold"] == 5.0
    assert (faults["kill_actor"]["done"], faults["half_open_connections"]["missed"]) == (1, 1)
    assert "kill_actor                       1       0                     5.0 s" in as_text(report)


def test_a_hold_that_ends_late_counts_only_when_no_fault_was_about() -> None:
    now_ms, now_ns = time.time_ns() // 10**6, time.monotonic_ns()
    record = Record([Done("kill_actor", "", now_ns, now_ns + S)])
    quiet_ms = now_ms - 60_000
    expiries = [
        (quiet_ms, quiet_ms + 90),
        (quiet_ms, quiet_ms + 2_500),
        (now_ms - 100, now_ms + 9_000),
    ]
    assert late_expiries(expiries, record, 50) == [2_500]


def test_a_show_that_stands_still_is_found_at_the_beginning_in_the_middle_and_at_the_end() -> None:
    attempts = [held_at(second) for second in (0, 59, 118, 180, 230)]
    assert standstills(attempts, [ID], 0, 290 * S) == [f"{ID} sold nothing for 62 s"]
    assert standstills(attempts, [ID], -61 * S, 291 * S) == [
        f"{ID} sold nothing for {seconds} s" for seconds in (61, 62, 61)
    ]
    assert standstills([], [ID], 0, 61 * S) == [f"{ID} sold nothing for 61 s"]


def test_a_lost_promise_is_a_violation_and_counted_as_a_loss() -> None:
    violations = ["I2: acknowledged and not in the journal: a hold", "I7: books disagree"]
    report = as_json(Findings([held_at(0)], Record(), violations, [], 1, 0, S), 1, "here", {})
    assert report["acknowledged_losses"] == 1
    assert "2 violations, 1 acknowledged losses" in as_text(report)
