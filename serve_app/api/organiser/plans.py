"""Seating plans: drawn elsewhere, checked here, kept in versions that never change."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_rows import PutOutcome
from persistence.venue_plans import VenuePlanDraft
from reservation.ids import TenantId
from reservation.organiser_ids import (
    ObjectKind,
    VenueId,
    VenuePlanId,
    derive_object_id,
    is_object_id,
)
from reservation.plan_findings import PlanProblem
from serve_app.api.api_document import Handler, Operation, body, path, problems
from serve_app.api.body_guard import read_large_body
from serve_app.api.edge import json_response
from serve_app.api.organiser import plan_bodies as bodies
from serve_app.api.organiser.acting import (
    ANY_QUERY,
    ORGANISERS,
    STAFF,
    Acting,
    body_of,
    creation_key,
)
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.chosen_plans import put_plan
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.fields import PageQuery, TenantQuery
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
    view_of_page,
)
from serve_app.api.organiser.upload_room import UploadRoom
from serve_app.api.problems import bad_field
from serve_app.api.query_models import query_parameters

PLAN_BYTES_MAX = 16 * 1024 * 1024
"""A plan of 50,000 seats, written with spaces, is about 15 MB."""

PLAN_DEADLINE_MS = 60_000
PLANS_AT_ONCE_MAX = 4
"""A large plan is a few hundred megabytes of objects while it is read."""

_WHAT = "seating plan"
_PLAN = path("seating_plan_id", bodies.EXAMPLE_ID)
_NUMBER = {
    "name": "number",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
    "example": 1,
}
_FOR = query_parameters(TenantQuery)
_PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)
_PAGE_PARAMETERS = query_parameters(PageQuery)

CREATE = Operation(
    "POST",
    "/seating-plans",
    status=201,
    tag="seating plans",
    roles=ORGANISERS,
    summary="Add a seating plan",
    description=f"The body may have {PLAN_BYTES_MAX // 1024**2} MiB.",
    responses={
        201: {"description": "It is there.", "model": bodies.PlanView, "headers": REPLAYED_HEADER},
        **problems(*CREATION, "plan_not_accepted", "overloaded"),
    },
    extra={"parameters": [CREATION_KEY, *_FOR], "requestBody": body(bodies.PlanBody)},
)
LIST = Operation(
    "GET",
    "/seating-plans",
    tag="seating plans",
    roles=STAFF,
    summary="The seating plans",
    responses={200: {"description": "One page.", "model": bodies.PlanList}, **problems(*READING)},
    extra={"parameters": _PAGE_PARAMETERS},
)
FIND = Operation(
    "GET",
    "/seating-plans/{seating_plan_id}",
    tag="seating plans",
    roles=STAFF,
    summary="One seating plan",
    responses={200: {"description": "The plan.", "model": bodies.PlanView}, **problems(*READING)},
    extra={"parameters": [_PLAN, *_FOR]},
)
UPDATE = Operation(
    "PATCH",
    "/seating-plans/{seating_plan_id}",
    tag="seating plans",
    roles=ORGANISERS,
    summary="Rename a seating plan, or give it to another venue",
    responses={
        200: {"description": "The plan as it is now.", "model": bodies.PlanView},
        **problems(*CHANGE),
    },
    extra={"parameters": [_PLAN, *_FOR], "requestBody": body(bodies.PlanChange)},
)
ADD_VERSION = Operation(
    "POST",
    "/seating-plans/{seating_plan_id}/versions",
    status=201,
    tag="seating plans",
    roles=ORGANISERS,
    summary="Add a version to a seating plan",
    description=(
        "Shows keep the version that they have; see `PUT /shows/{show_id}/seating-plan`. The same "
        "seats as in the newest version make no new one."
    ),
    responses={
        201: {"description": "It is there.", "model": bodies.PlanView, "headers": REPLAYED_HEADER},
        **problems(*CHANGE, "plan_not_accepted", "overloaded"),
    },
    extra={"parameters": [_PLAN, *_FOR], "requestBody": body(bodies.PlanVersionBody)},
)
LIST_VERSIONS = Operation(
    "GET",
    "/seating-plans/{seating_plan_id}/versions",
    tag="seating plans",
    roles=STAFF,
    summary="The versions of a seating plan",
    responses={
        200: {"description": "One page.", "model": bodies.PlanVersionList},
        **problems(*READING),
    },
    extra={"parameters": [_PLAN, *_PAGE_PARAMETERS]},
)
FIND_VERSION = Operation(
    "GET",
    "/seating-plans/{seating_plan_id}/versions/{number}",
    tag="seating plans",
    roles=STAFF,
    summary="One version of a seating plan, with its drawing",
    responses={
        200: {"description": "The version.", "model": bodies.PlanVersionDocument},
        **problems(*READING),
    },
    extra={"parameters": [_PLAN, _NUMBER, *_FOR]},
)


class PlanRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._room = UploadRoom(PLANS_AT_ONCE_MAX)

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield CREATE, self.create_seating_plan
        yield LIST, self.list_seating_plans
        yield FIND, self.find_seating_plan
        yield UPDATE, self.change_seating_plan
        yield ADD_VERSION, self.add_seating_plan_version
        yield LIST_VERSIONS, self.list_seating_plan_versions
        yield FIND_VERSION, self.find_seating_plan_version

    async def create_seating_plan(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        key = creation_key(request)
        with self._room.place():
            sent = await _sent(request, bodies.PLAN)
            venue_id = await self._venue_id(acting.tenant_id, sent.venue_id)
            read, findings = await self._put_plan(acting, sent)
        plan_id = VenuePlanId(derive_object_id(ObjectKind.VENUE_PLAN, acting.tenant_id, key))
        try:
            put = await self._counter.desk.organisers.venue_plans.create(
                acting.tenant_id,
                plan_id,
                VenuePlanDraft(sent.name, venue_id),
                read.plan_id,
                acting.principal.account_id,
            )
        except ValueError as error:
            raise bad_text(error) from None
        view = bodies.view_of_plan(accepted(put, _WHAT))
        if put.outcome is PutOutcome.CREATED:
            await self._counter.audit.note(acting, Action.SEATING_PLAN_CREATED, plan_id, after=view)
        view["findings"] = bodies.views_of_findings(findings)
        return created(request, put, view, "seating-plans", plan_id)

    async def list_seating_plans(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _PAGE)
        page = await self._counter.desk.organisers.venue_plans.list(
            acting.tenant_id, limit=query.limit, after=place_of(query)
        )
        views = [bodies.view_of_plan(row) for row in page.items]
        return json_response(view_of_page("seating_plans", views, page.next))

    async def find_seating_plan(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        row = await self._counter.desk.organisers.venue_plans.find(
            acting.tenant_id, _plan_id(request)
        )
        if row is None:
            raise missing(_WHAT)
        return json_response(bodies.view_of_plan(row))

    async def change_seating_plan(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        plan_id = _plan_id(request)
        change = body_of(bodies.PLAN_CHANGE, request)
        plans = self._counter.desk.organisers.venue_plans
        row = await plans.find(acting.tenant_id, plan_id)
        if row is None:
            raise missing(_WHAT)
        venue_id = row.venue_id
        if "venue_id" in change.model_fields_set:
            venue_id = await self._venue_id(acting.tenant_id, change.venue_id)
        draft = VenuePlanDraft(row.name if change.name is None else change.name, venue_id)
        try:
            put = await plans.update(
                acting.tenant_id, plan_id, draft, expected_version=change.version or row.version
            )
        except ValueError as error:
            raise bad_text(error) from None
        view = bodies.view_of_plan(accepted(put, _WHAT))
        before = bodies.view_of_plan(row)
        await self._counter.audit.note(
            acting, Action.SEATING_PLAN_CHANGED, plan_id, before=before, after=view
        )
        return json_response(view)

    async def add_seating_plan_version(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        plan_id = _plan_id(request)
        plans = self._counter.desk.organisers.venue_plans
        row = await plans.find(acting.tenant_id, plan_id)
        if row is None:
            raise missing(_WHAT)
        with self._room.place():
            sent = await _sent(request, bodies.PLAN_VERSION)
            read, findings = await self._put_plan(acting, sent)
        put = await plans.add_version(
            acting.tenant_id,
            plan_id,
            read.plan_id,
            acting.principal.account_id,
            expected_version=sent.version,
        )
        view = bodies.view_of_plan(accepted(put, _WHAT))
        if put.outcome is not PutOutcome.REPEATED:
            await self._counter.audit.note(
                acting,
                Action.SEATING_PLAN_VERSION_ADDED,
                plan_id,
                before=bodies.view_of_plan(row),
                after=view,
            )
        view["findings"] = bodies.views_of_findings(findings)
        return created(request, put, view, "seating-plans", plan_id)

    async def list_seating_plan_versions(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, _PAGE)
        plan_id = _plan_id(request)
        plans = self._counter.desk.organisers.venue_plans
        if await plans.find(acting.tenant_id, plan_id) is None:
            raise missing(_WHAT)
        page = await plans.list_versions(
            acting.tenant_id, plan_id, limit=query.limit, after=place_of(query)
        )
        views = [bodies.view_of_version(row) for row in page.items]
        return json_response(view_of_page("versions", views, page.next))

    async def find_seating_plan_version(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        desk = self._counter.desk
        number = request.path_params["number"]
        # Nine digits: more than any plan has versions, and they fit the column.
        row = None
        if number.isascii() and number.isdigit() and len(number) <= 9:
            row = await desk.organisers.venue_plans.find_version(
                acting.tenant_id, _plan_id(request), int(number)
            )
        found = None if row is None else await desk.catalogue.load_plan_document(row.plan_id)
        if row is None or found is None:
            raise missing("version of this seating plan")
        document, extras = found
        view = {**bodies.view_of_version(row), "document": document, "extras": extras}
        return json_response(view)

    async def _venue_id(self, tenant_id: TenantId, named: str | None) -> VenueId | None:
        if named is None:
            return None
        if is_object_id(ObjectKind.VENUE, named):
            venue_id = VenueId(named)
            if await self._counter.desk.organisers.venues.find(tenant_id, venue_id) is not None:
                return venue_id
        raise bad_field("venue_id", "there is no such venue")

    async def _put_plan(
        self, acting: Acting, sent: bodies.PlanBody | bodies.PlanVersionBody
    ) -> tuple[bodies.ReadPlan, tuple[PlanProblem, ...]]:
        """Store what was sent, unless it is there; says what was found in it."""
        read = await asyncio.to_thread(bodies.read_sent_plan, sent)
        is_drawn_so = await put_plan(
            self._counter.desk,
            acting.tenant_id,
            read.plan_id,
            read.plan,
            read.document,
            read.extras,
        )
        if is_drawn_so:
            return read, read.findings
        kept = PlanProblem("", "others have the same seats; the drawing stays as it was")
        return read, (*read.findings, kept)


async def _sent(request: Request, adapter: TypeAdapter[Any]) -> Any:
    await read_large_body(request, bytes_max=PLAN_BYTES_MAX, deadline_ms=PLAN_DEADLINE_MS)
    # Reading a large body takes longer than other requests should wait.
    return await asyncio.to_thread(body_of, adapter, request)


def _plan_id(request: Request) -> VenuePlanId:
    text = request.path_params["seating_plan_id"]
    if not is_object_id(ObjectKind.VENUE_PLAN, text):
        raise missing(_WHAT)
    return VenuePlanId(text)
