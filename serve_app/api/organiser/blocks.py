"""Blocks: seats of a show that are off sale, for a camera, for guests, for a broken chair."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_shows import ShowRow
from reservation.commands import BlockSeats, UnblockSeats
from reservation.ids import ShowId
from reservation.limits import SEATS_PER_PLAN_MAX
from reservation.outcome import Outcome, Repeated
from reservation.rejections import Rejection
from reservation.seating_plan import SeatingPlan
from serve_app.api.api_document import Handler, Operation, body, problems
from serve_app.api.cursors import read_cursor, write_cursor
from serve_app.api.edge import json_response
from serve_app.api.organiser.acting import ANY_QUERY, BOX_OFFICE, ORGANISERS, Acting, body_of
from serve_app.api.organiser.asking import ask, seat_indexes_of
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.fields import Label, Next, PageQuery, Reason, RequestBody, View
from serve_app.api.organiser.outcomes import READING, REPLAYED, REPLAYED_HEADER, missing
from serve_app.api.organiser.plan_changes import PLAN_CHANGE
from serve_app.api.organiser.show_document import ASKING, FOR, SHOW
from serve_app.api.organiser.shows import show_id_of_path
from serve_app.api.problems import bad_field
from serve_app.api.query_models import query_parameters

SEATS_MAX = 5_000
"""Of one request; a body has 64 KiB."""

_CURSOR = "seat"
SeatLabels = Annotated[list[Label], Field(min_length=1, max_length=SEATS_MAX)]


class BlockBody(RequestBody):
    """Seats to take off sale."""

    seats: SeatLabels
    reason: Reason


class UnblockBody(RequestBody):
    """Seats to put back on sale."""

    seats: SeatLabels


class BlockView(View):
    """A seat that is off sale."""

    seat: Label
    reason: str


class BlockList(View):
    """One page of the seats that are off sale, in the order of the plan."""

    blocks: list[BlockView]
    next: Next = None


class SeatsView(View):
    """The seats that a request was about."""

    seats: list[Label]


_BLOCK: TypeAdapter[BlockBody] = TypeAdapter(BlockBody)
_UNBLOCK: TypeAdapter[UnblockBody] = TypeAdapter(UnblockBody)
_PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)

MODELS = (BlockBody, UnblockBody, BlockView, BlockList, SeatsView)

_CHANGE = ("malformed_json", "invalid_request", "unsupported_media_type", "show_not_found")

LIST = Operation(
    "GET",
    "/shows/{show_id}/blocks",
    tag="blocks",
    roles=BOX_OFFICE,
    summary="The seats that are off sale",
    responses={
        200: {"description": "One page.", "model": BlockList},
        **problems(*READING, "show_not_found"),
    },
    extra={"parameters": [SHOW, *query_parameters(PageQuery)]},
)
BLOCK = Operation(
    "POST",
    "/shows/{show_id}/block",
    tag="blocks",
    roles=ORGANISERS,
    summary="Take seats off sale",
    description="All or nothing; refused when one of them is held or booked.",
    responses={
        200: {"description": "They are.", "model": SeatsView, "headers": REPLAYED_HEADER},
        **problems(
            *_CHANGE,
            Rejection.SEAT_UNAVAILABLE.value,
            Rejection.SHOW_CANCELLED.value,
            *ASKING,
        ),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(BlockBody)},
)
UNBLOCK = Operation(
    "POST",
    "/shows/{show_id}/unblock",
    tag="blocks",
    roles=ORGANISERS,
    summary="Put seats back on sale",
    responses={
        200: {"description": "They are.", "model": SeatsView},
        **problems(
            *_CHANGE,
            Rejection.SEAT_NOT_BLOCKED.value,
            Rejection.SHOW_CANCELLED.value,
            *ASKING,
        ),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(UnblockBody)},
)


class BlockRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield LIST, self.list_blocks
        yield BLOCK, self.block_seats
        yield UNBLOCK, self.unblock_seats

    async def list_blocks(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _PAGE)
        row, plan = await show_and_plan(self._counter, acting, request)
        page = await self._counter.desk.sales.blocks(
            row.listing.show_id, limit=query.limit, after=seat_after(query.cursor)
        )
        views = [{"seat": plan.labels[index], "reason": reason} for index, reason in page.items]
        return json_response(view_of_seats("blocks", views, page.next))

    async def block_seats(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        body = body_of(_BLOCK, request)
        if body.reason == PLAN_CHANGE:
            raise bad_field("reason", "is kept for the blocks of a change of plan")
        row, plan = await show_and_plan(self._counter, acting, request)
        command = BlockSeats(seat_indexes_of(body.seats, plan), body.reason)
        outcome = await ask(self._counter.desk, row.listing.show_id, command, plan)
        return await self._answer(
            acting, row.listing.show_id, Action.SEATS_BLOCKED, body.seats, outcome, body.reason
        )

    async def unblock_seats(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        body = body_of(_UNBLOCK, request)
        row, plan = await show_and_plan(self._counter, acting, request)
        command = UnblockSeats(seat_indexes_of(body.seats, plan))
        outcome = await ask(self._counter.desk, row.listing.show_id, command, plan)
        return await self._answer(
            acting, row.listing.show_id, Action.SEATS_UNBLOCKED, body.seats, outcome, None
        )

    async def _answer(
        self,
        acting: Acting,
        show_id: ShowId,
        action: Action,
        seats: list[str],
        outcome: Outcome,
        reason: str | None,
    ) -> Response:
        if isinstance(outcome, Repeated):
            return json_response({"seats": seats}, 200, REPLAYED)
        after = {"seats": seats} if reason is None else {"seats": seats, "reason": reason}
        await self._counter.audit.note(acting, action, show_id, after=after)
        return json_response({"seats": seats})


async def show_and_plan(
    counter: Counter, acting: Acting, request: Request
) -> tuple[ShowRow, SeatingPlan]:
    """The show in the address, with its plan and the labels of its seats.

    Raises:
        Problem: ``show_not_found``: it is not there, or somebody else's.
    """
    desk = counter.desk
    row = await desk.organisers.shows.find(acting.tenant_id, show_id_of_path(request))
    if row is None:
        raise missing("show")
    plan = await desk.catalogue.load_plan(row.listing.plan_id)
    assert plan is not None, f"{row.listing.plan_id} is gone"
    return row, plan


def seat_after(cursor: str | None) -> int | None:
    """The seat after which a list of seats goes on.

    Raises:
        Problem: ``invalid_request`` naming ``cursor``.
    """
    if cursor is None:
        return None
    seat_index, kind = read_cursor(cursor)
    if kind != _CURSOR or not 0 <= seat_index < SEATS_PER_PLAN_MAX:
        raise bad_field("cursor", "is not a cursor of this list")
    return seat_index


def view_of_seats(name: str, views: list[dict[str, Any]], next_: int | None) -> dict[str, Any]:
    """One page of a list of seats."""
    view: dict[str, Any] = {name: views}
    if next_ is not None:
        view["next"] = write_cursor(next_, _CURSOR)
    return view
