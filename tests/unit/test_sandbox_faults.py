"""What goes wrong, when."""

from __future__ import annotations

from integrations.sandbox.faults import Fault, FaultKind, FaultPlan


def test_what_is_scripted_happens_so_many_times_to_what_it_names() -> None:
    plan = FaultPlan()
    plan.script("stripe.refunds.*", FaultKind.DELAY, 2, 5)
    assert plan.take("stripe.charges.list") is None
    assert plan.take("stripe.refunds.create") == Fault(FaultKind.DELAY, 5)
    assert plan.take("stripe.refunds.list") == Fault(FaultKind.DELAY, 5)
    assert plan.take("stripe.refunds.create") is None
    assert plan.happened == {"stripe.refunds.create delay": 1, "stripe.refunds.list delay": 1}


def test_scripts_of_one_operation_follow_each_other() -> None:
    plan = FaultPlan()
    plan.script("a", FaultKind.RATE_LIMITED, 1)
    plan.script("a", FaultKind.ERROR_AFTER, 1)
    taken = [plan.take("a"), plan.take("a"), plan.take("a")]
    assert [fault and fault.kind for fault in taken] == [
        FaultKind.RATE_LIMITED,
        FaultKind.ERROR_AFTER,
        None,
    ]


def test_chance_is_repeated_by_its_seed_and_ends_when_cleared() -> None:
    def run(seed: int) -> list[bool]:
        plan = FaultPlan()
        plan.seed(seed)
        plan.leave_to_chance("*", FaultKind.ERROR_BEFORE, 0.3)
        return [plan.take("any") is not None for _ in range(200)]

    assert run(1) == run(1)
    assert run(1) != run(2)
    assert 30 < sum(run(1)) < 90
    plan = FaultPlan()
    plan.leave_to_chance("*", FaultKind.ERROR_BEFORE, 1.0)
    plan.clear()
    assert plan.take("any") is None
