"""Asking the actor of a show: for a change, or to read again what the catalogue says."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from reservation.commands import Command
from reservation.faults import Fault, OutcomeUnknown, ShowNotFound
from reservation.ids import ShowId
from reservation.outcome import Outcome
from reservation.rejections import Rejected
from reservation.seating_plan import SeatingPlan
from serve_app.api.organiser.desk import OrganiserDesk
from serve_app.api.organiser.outcomes import missing
from serve_app.api.problems import (
    FieldError,
    Problem,
    bad_request,
    problem_of_fault,
    problem_of_rejection,
    shorten,
)

log = logging.getLogger(__name__)


async def ask(
    desk: OrganiserDesk, show_id: ShowId, command: Command, plan: SeatingPlan | None = None
) -> Outcome:
    """Let the show decide. ``plan``, with its labels, names the seats that clash.

    Raises:
        Problem: it was rejected, or a fault.
    """
    outcome = await outcome_of(desk, show_id, command)
    if isinstance(outcome, Rejected):
        raise rejection_problem(outcome, plan)
    return outcome


async def outcome_of(desk: OrganiserDesk, show_id: ShowId, command: Command) -> Outcome:
    """What the show decides, rejections included.

    Raises:
        Problem: a fault.
    """
    try:
        return await desk.refs.ask(show_id, command)
    except ShowNotFound:
        raise missing("show") from None
    except Fault as fault:
        log.warning("%s on %s: %r", type(command).__name__, show_id, fault)
        raise problem_of_fault(fault) from fault


def rejection_problem(rejected: Rejected, plan: SeatingPlan | None) -> Problem:
    """A rejection as a problem."""
    seats = [] if plan is None else plan.labels_of(rejected.seat_indexes)
    return problem_of_rejection(rejected.code, seats=seats)


async def renew(desk: OrganiserDesk, show_id: ShowId) -> None:
    """Let the show's actor read again what the catalogue says.

    Raises:
        Problem: ``outcome_unknown``: the catalogue is changed, and whether the actor knows it is
            not known. Repeating the request brings it along.
    """
    try:
        await desk.refs.renew(show_id)
    except Fault as fault:
        log.warning("renewing %s: %r", show_id, fault)
        raise problem_of_fault(OutcomeUnknown("the catalogue is ahead of the actor")) from fault


def seat_indexes_of(
    labels: Sequence[str], plan: SeatingPlan, field: str = "seats"
) -> tuple[int, ...]:
    """The seats with these labels, in their order in the plan.

    Raises:
        Problem: ``invalid_request``: a label that the plan has not, or that is there twice.
    """
    errors: list[FieldError] = []
    found: set[int] = set()
    for position, label in enumerate(labels):
        index = plan.index_of(label)
        if index is None:
            reason = f"this show has no seat {shorten(label)!r}"
            errors.append(FieldError(f"{field}[{position}]", reason))
        elif index in found:
            errors.append(FieldError(f"{field}[{position}]", "is named twice"))
        else:
            found.add(index)
    if errors:
        raise bad_request(errors)
    return tuple(sorted(found))
