"""Venues: the houses in which shows take place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_rows import PutOutcome
from persistence.venues import VenueDraft, VenueRow
from reservation.organiser_ids import ObjectKind, VenueId, derive_object_id, is_object_id
from serve_app.api.api_document import Handler, Operation, body, path, problems
from serve_app.api.edge import json_response
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.acting import (
    ANY_QUERY,
    ORGANISERS,
    STAFF,
    body_of,
    creation_key,
)
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.fields import (
    ExpectedVersion,
    Line,
    Name,
    Next,
    PageQuery,
    RequestBody,
    TenantQuery,
    TimeZone,
    Version,
    View,
    examples,
)
from serve_app.api.organiser.outcomes import (
    CHANGE,
    CREATION,
    CREATION_KEY,
    READING,
    REPLAYED_HEADER,
    accepted,
    bad_text,
    created,
    missing,
    place_of,
    problem_of,
    view_of_page,
)
from serve_app.api.problems import Problem
from serve_app.api.query_models import query_parameters

_EXAMPLE_ID = "ven_7k2m9p4qx0c1b5dn3fg8"


class VenueBody(RequestBody):
    """A new venue."""

    model_config = ConfigDict(
        json_schema_extra=examples({"name": "Grand Theatre", "time_zone": "Europe/Prague"})
    )

    name: Name
    address: Line = ""
    time_zone: TimeZone


class VenueChange(RequestBody):
    """What is to change; whatever is absent stays."""

    name: Name | None = None
    address: Line | None = None
    time_zone: TimeZone | None = None
    version: ExpectedVersion = None


class VenueView(View):
    """A venue."""

    model_config = ConfigDict(title="Venue")

    venue_id: Annotated[str, Field(pattern="^ven_", examples=[_EXAMPLE_ID])]
    name: str
    address: str
    time_zone: str
    version: Version
    created_at: Instant
    updated_at: Instant


class VenueList(View):
    """One page of venues, the newest first."""

    venues: list[VenueView]
    next: Next = None


_NEW: TypeAdapter[VenueBody] = TypeAdapter(VenueBody)
_CHANGE: TypeAdapter[VenueChange] = TypeAdapter(VenueChange)
_PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)

MODELS = (VenueBody, VenueChange, VenueView, VenueList)

_VENUE = path("venue_id", _EXAMPLE_ID)
_FOR = query_parameters(TenantQuery)

CREATE = Operation(
    "POST",
    "/venues",
    status=201,
    tag="venues",
    roles=ORGANISERS,
    summary="Add a venue",
    responses={
        201: {"description": "It is there.", "model": VenueView, "headers": REPLAYED_HEADER},
        **problems(*CREATION),
    },
    extra={"parameters": [CREATION_KEY, *_FOR], "requestBody": body(VenueBody)},
)
LIST = Operation(
    "GET",
    "/venues",
    tag="venues",
    roles=STAFF,
    summary="The venues",
    responses={200: {"description": "One page.", "model": VenueList}, **problems(*READING)},
    extra={"parameters": query_parameters(PageQuery)},
)
FIND = Operation(
    "GET",
    "/venues/{venue_id}",
    tag="venues",
    roles=STAFF,
    summary="One venue",
    responses={200: {"description": "The venue.", "model": VenueView}, **problems(*READING)},
    extra={"parameters": [_VENUE, *_FOR]},
)
UPDATE = Operation(
    "PATCH",
    "/venues/{venue_id}",
    tag="venues",
    roles=ORGANISERS,
    summary="Change a venue",
    responses={
        200: {"description": "The venue as it is now.", "model": VenueView},
        **problems(*CHANGE),
    },
    extra={"parameters": [_VENUE, *_FOR], "requestBody": body(VenueChange)},
)
DELETE = Operation(
    "DELETE",
    "/venues/{venue_id}",
    status=204,
    tag="venues",
    roles=ORGANISERS,
    summary="Remove a venue that nothing refers to",
    responses={
        204: {"description": "It is gone."},
        **problems("invalid_request", "in_use", "not_done", "outcome_unknown"),
    },
    extra={"parameters": [_VENUE, *_FOR]},
)


class VenueRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield CREATE, self.create_venue
        yield LIST, self.list_venues
        yield FIND, self.find_venue
        yield UPDATE, self.change_venue
        yield DELETE, self.delete_venue

    async def create_venue(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        key = creation_key(request)
        body = body_of(_NEW, request)
        venue_id = VenueId(derive_object_id(ObjectKind.VENUE, acting.tenant_id, key))
        draft = VenueDraft(body.name, body.address, body.time_zone)
        try:
            put = await self._counter.desk.organisers.venues.create(
                acting.tenant_id, venue_id, draft
            )
        except ValueError as error:
            raise bad_text(error) from None
        view = view_of_venue(accepted(put, "venue"))
        if put.outcome is PutOutcome.CREATED:
            await self._counter.audit.note(acting, Action.VENUE_CREATED, venue_id, after=view)
        return created(request, put, view, "venues", venue_id)

    async def list_venues(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _PAGE)
        page = await self._counter.desk.organisers.venues.list(
            acting.tenant_id, limit=query.limit, after=place_of(query)
        )
        views = [view_of_venue(row) for row in page.items]
        return json_response(view_of_page("venues", views, page.next))

    async def find_venue(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        row = await self._counter.desk.organisers.venues.find(acting.tenant_id, _venue_id(request))
        if row is None:
            raise missing("venue")
        return json_response(view_of_venue(row))

    async def change_venue(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        venue_id = _venue_id(request)
        change = body_of(_CHANGE, request)
        venues = self._counter.desk.organisers.venues
        row = await venues.find(acting.tenant_id, venue_id)
        if row is None:
            raise missing("venue")
        draft = VenueDraft(
            row.name if change.name is None else change.name,
            row.address if change.address is None else change.address,
            row.time_zone if change.time_zone is None else change.time_zone,
        )
        try:
            put = await venues.update(
                acting.tenant_id, venue_id, draft, expected_version=change.version or row.version
            )
        except ValueError as error:
            raise bad_text(error) from None
        view = view_of_venue(accepted(put, "venue"))
        await self._counter.audit.note(
            acting, Action.VENUE_CHANGED, venue_id, before=view_of_venue(row), after=view
        )
        return json_response(view)

    async def delete_venue(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        venue_id = _venue_id(request)
        venues = self._counter.desk.organisers.venues
        row = await venues.find(acting.tenant_id, venue_id)
        put = await venues.delete(acting.tenant_id, venue_id)
        if put.outcome is PutOutcome.IN_USE:
            raise Problem("in_use", "A plan, a series or a show refers to this venue.")
        if put.outcome is not PutOutcome.DELETED:
            raise problem_of(put.outcome, "venue")
        before = None if row is None else view_of_venue(row)
        await self._counter.audit.note(acting, Action.VENUE_DELETED, venue_id, before=before)
        return Response(status_code=204)


def view_of_venue(row: VenueRow) -> dict[str, Any]:
    """A venue as clients get it."""
    return {
        "venue_id": row.venue_id,
        "name": row.name,
        "address": row.address,
        "time_zone": row.time_zone,
        "version": row.version,
        "created_at": write_instant(row.created_at_ms),
        "updated_at": write_instant(row.updated_at_ms),
    }


def _venue_id(request: Request) -> VenueId:
    text = request.path_params["venue_id"]
    if not is_object_id(ObjectKind.VENUE, text):
        raise missing("venue")
    return VenueId(text)
