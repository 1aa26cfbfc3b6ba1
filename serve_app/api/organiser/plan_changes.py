"""Other seats for a show, also while it is on sale, without anybody losing a seat.

Theory of operation
-------------------
Claims know a seat by its index, so a revised plan keeps every index (``reservation.plan_revision``)
and seats that are gone stay as numbers without a place. The steps, each harmless to repeat:

    1. the seats that go are blocked by the show's actor: refused when one is held or booked,
       and from then on nobody can hold one
    2. the revised plan is stored, and the show is given it
    3. the actor reads it
    4. blocks of step 1 on seats that have a place (again) are lifted

There is one change of a show at a time (``persistence.plan_change_locks``), so a block of step 1
that is met in step 4 is nobody else's. A process that dies after step 1 leaves blocks behind; the
next change, a repetition included, lifts those too.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_rows import Put, PutOutcome
from persistence.organiser_shows import ShowRow
from persistence.plan_codec import plan_id_of
from reservation.commands import BlockSeats, UnblockSeats
from reservation.events import SeatsBlocked
from reservation.fares import FareTable
from reservation.faults import Fault
from reservation.ids import ShowId
from reservation.plan_revision import Revision, revise
from reservation.rejections import Rejected, Rejection
from reservation.seating_plan import SeatingPlan
from reservation.show import ShowState
from serve_app.api.api_document import Handler, Operation
from serve_app.api.edge import json_response
from serve_app.api.organiser import show_bodies as bodies
from serve_app.api.organiser import show_document as document
from serve_app.api.organiser.acting import ANY_QUERY, Acting, body_of
from serve_app.api.organiser.asking import ask, outcome_of, rejection_problem, renew
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.chosen_plans import chosen_plan, put_plan
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.outcomes import REPLAYED, accepted, bad_text, missing
from serve_app.api.organiser.plan_bodies import plan_not_accepted
from serve_app.api.organiser.shows import show_id_of_path
from serve_app.api.problems import Problem, bad_field

log = logging.getLogger(__name__)

PLAN_CHANGE = "plan_change"
"""The reason of blocks that a change of plan makes, and lifts."""

_BLOCKS_PER_PAGE = 1_000


class _Wanted(NamedTuple):
    """What the show is to have: a plan that keeps the numbers of its seats, and prices for it."""

    revision: Revision
    plan_id: str
    drawn_as: str
    fares: FareTable


class PlanChangeRoutes:
    """The handler."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield document.CHANGE_PLAN, self.change_show_plan

    async def change_show_plan(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        show_id = show_id_of_path(request)
        body = body_of(bodies.SHOW_PLAN_CHANGE, request)
        # Whose show it is comes first: a lock on another's would tell that it is there.
        if await self._counter.desk.organisers.shows.find(acting.tenant_id, show_id) is None:
            raise missing("show")
        async with self._counter.desk.plan_changes.held(show_id) as is_ours:
            if not is_ours:
                raise Problem("version_conflict", "Another change of its plan is under way.")
            return await self._change(acting, show_id, body)

    async def _change(
        self, acting: Acting, show_id: ShowId, body: bodies.ShowPlanChange
    ) -> Response:
        desk = self._counter.desk
        row = await desk.organisers.shows.find(acting.tenant_id, show_id)
        if row is None:
            raise missing("show")
        if row.listing.status is ShowState.CANCELLED:
            raise Problem("show_is_cancelled", "The show is cancelled, for good.")
        old = await desk.catalogue.load_plan(row.listing.plan_id)
        assert old is not None, f"{row.listing.plan_id} is gone"
        wanted = await self._wanted(acting, row, old, body)
        if wanted.plan_id == row.listing.plan_id and wanted.fares == row.listing.fares:
            put = Put(PutOutcome.REPEATED, row)
        else:
            put = await self._give_plan(acting, row, old, wanted)
        await renew(desk, show_id)
        await self._lift_blocks(show_id, wanted.revision.plan)
        view = bodies.view_of_show(accepted(put, "show"), wanted.revision.plan)
        is_repeated = put.outcome is PutOutcome.REPEATED
        return json_response(view, 200, REPLAYED if is_repeated else {})

    async def _wanted(
        self, acting: Acting, row: ShowRow, old: SeatingPlan, body: bodies.ShowPlanChange
    ) -> _Wanted:
        plan_id, new = await chosen_plan(self._counter.desk, acting.tenant_id, body)
        if plan_id == row.listing.plan_id:
            # The very plan that the show has; a revised one cannot be drawn upon anew.
            revision = Revision(old, (), (), (), (), ())
        else:
            if new.order is not None:
                raise bad_field("plan_id", "was made for a show; name a seating plan's version")
            revised = await asyncio.to_thread(revise, old, new, body.renamed_categories)
            if isinstance(revised, tuple):
                raise plan_not_accepted(revised, prefix="")
            revision = revised
        fares = row.listing.fares
        if body.prices is not None:
            fares = bodies.fares_of_prices(body.prices, revision.plan)
        elif revision.added_categories:
            named = ", ".join(revision.added_categories)
            raise bad_field("prices", f"is missing; the plan has new categories: {named}")
        sold_in = row.listing.fares.currency
        if fares.currency != sold_in and row.listing.status is not ShowState.DRAFT:
            raise bad_field("prices.currency", f"what is sold already was sold in {sold_in}")
        return _Wanted(revision, plan_id_of(revision.plan), plan_id, fares)

    async def _give_plan(
        self, acting: Acting, row: ShowRow, old: SeatingPlan, wanted: _Wanted
    ) -> Put[ShowRow]:
        show_id = row.listing.show_id
        blocked = await self._block(show_id, old, wanted.revision.removed)
        put = await self._store(acting, row, wanted)
        if put.row is None:
            await self._unblock_if_possible(show_id, blocked)
        accepted(put, "show")
        before = {"plan_id": row.listing.plan_id}
        if put.row is not None and put.outcome is PutOutcome.UPDATED:
            after = {
                "plan_id": put.row.listing.plan_id,
                "removed": len(wanted.revision.removed),
                "restored": len(wanted.revision.restored),
                "added": len(wanted.revision.added),
            }
            await self._counter.audit.note(
                acting, Action.SHOW_PLAN_CHANGED, show_id, before=before, after=after
            )
        return put

    async def _block(
        self, show_id: ShowId, plan: SeatingPlan, seat_indexes: tuple[int, ...]
    ) -> tuple[int, ...]:
        """Take these seats off sale; says which of them were not off sale before.

        Raises:
            Problem: ``plan_drops_sold_seats``, naming those that somebody has.
        """
        if not seat_indexes:
            return ()
        command = BlockSeats(seat_indexes, PLAN_CHANGE)
        outcome = await outcome_of(self._counter.desk, show_id, command)
        if isinstance(outcome, Rejected):
            if outcome.code is not Rejection.SEAT_UNAVAILABLE:
                raise rejection_problem(outcome, plan)
            seats = plan.labels_of(outcome.seat_indexes)
            detail = (
                f"Seats that the new plan has not are held, booked or a channel's: {_few(seats)}."
            )
            raise Problem("plan_drops_sold_seats", detail, members={"seats": seats})
        return outcome.seat_indexes if isinstance(outcome, SeatsBlocked) else ()

    async def _store(self, acting: Acting, row: ShowRow, wanted: _Wanted) -> Put[ShowRow]:
        desk = self._counter.desk
        drawing = await desk.catalogue.load_plan_document(wanted.drawn_as)
        assert drawing is not None, f"{wanted.drawn_as} is gone"
        try:
            if wanted.plan_id != row.listing.plan_id:
                await put_plan(
                    desk, acting.tenant_id, wanted.plan_id, wanted.revision.plan, *drawing
                )
            return await desk.organisers.shows.change_plan(
                acting.tenant_id,
                row.listing.show_id,
                row.listing.plan_id,
                wanted.plan_id,
                wanted.fares,
            )
        except ValueError as error:
            raise bad_text(error) from None

    async def _unblock_if_possible(self, show_id: ShowId, seat_indexes: tuple[int, ...]) -> None:
        if not seat_indexes:
            return
        try:
            await self._counter.desk.refs.ask(show_id, UnblockSeats(seat_indexes))
        except Fault as fault:
            log.warning("seats of %s stay blocked until its plan is changed: %r", show_id, fault)

    async def _lift_blocks(self, show_id: ShowId, plan: SeatingPlan) -> None:
        """Put seats that have a place, and that a change of plan blocked, on sale again."""
        sales = self._counter.desk.sales
        after: int | None = None
        lifted: list[int] = []
        while True:
            page = await sales.blocks(show_id, limit=_BLOCKS_PER_PAGE, after=after)
            lifted += [
                seat_index
                for seat_index, reason in page.items
                if reason == PLAN_CHANGE and seat_index not in plan.gone
            ]
            if page.next is None:
                break
            after = page.next
        if lifted:
            await ask(self._counter.desk, show_id, UnblockSeats(tuple(lifted)), plan)


def _few(seats: list[str]) -> str:
    shown = ", ".join(seats[:20])
    return f"{shown} and {len(seats) - 20} more" if len(seats) > 20 else shown
