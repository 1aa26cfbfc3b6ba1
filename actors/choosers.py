"""The choosers of seats of one process: one for each plan, however many shows share it."""

from __future__ import annotations

from collections.abc import Iterable

from reservation.seat_assignment import SeatChooser
from reservation.seating_plan import SeatingPlan


class Choosers:
    """One chooser per plan object: the runs of one timetable share it."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[SeatingPlan, SeatChooser]] = {}

    def __len__(self) -> int:
        """How many plans are known."""
        return len(self._known)

    def of(self, plan: SeatingPlan) -> SeatChooser:
        """The chooser of this plan, made when it is asked for."""
        known = self._known.get(id(plan))
        if known is None:
            # The plan is kept beside its chooser, so that its id cannot be reused.
            known = self._known[id(plan)] = (plan, SeatChooser(plan))
        return known[1]

    def keep_only(self, plans: Iterable[SeatingPlan]) -> None:
        """Forget the choosers of all other plans."""
        used = {id(plan) for plan in plans}
        for plan_id in [plan_id for plan_id in self._known if plan_id not in used]:
            del self._known[plan_id]
