"""Shows: made, found, changed, published and cancelled.

What an actor needs to know of a show is in the catalogue. After it was changed there, the actor
is told to read it again (``ShowRefs.renew``); when that fails the change is made all the same, and
the client is told to repeat the request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_rows import Put, PutOutcome
from persistence.organiser_shows import ShowChange, ShowFilter, ShowRow
from reservation.access import Role
from reservation.commands import CancelShow
from reservation.ids import ShowId, TenantId, derive_show_id, is_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.organiser_ids import (
    ObjectKind,
    SeriesId,
    VenueId,
    is_object_id,
    tenant_source_key,
)
from reservation.show import Placement, ShowState
from serve_app.api.api_document import Handler, Operation
from serve_app.api.edge import json_response
from serve_app.api.organiser import show_bodies as bodies
from serve_app.api.organiser import show_document as document
from serve_app.api.organiser.acting import ANY_QUERY, Acting, body_of, creation_key
from serve_app.api.organiser.asking import ask, renew
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.chosen_plans import chosen_plan
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.outcomes import (
    REPLAYED,
    accepted,
    bad_text,
    created,
    missing,
    place_of,
    view_of_page,
)
from serve_app.api.organiser.sales_views import sales_of
from serve_app.api.problems import Problem, bad_field
from serve_app.api.strict_json import read_nothing

_FIGURES_AT_ONCE = 4
_FIELDS = {
    "starts_at_ms": "starts_at",
    "ends_at_ms": "ends_at",
    "fares": "prices",
    "policy": "policy",
    "text": "q",
}


class ShowRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield document.CREATE, self.create_show
        yield document.LIST, self.list_organiser_shows
        yield document.FIND, self.find_show
        yield document.UPDATE, self.change_show
        yield document.PUBLISH, self.publish_show
        yield document.CANCEL, self.cancel_show

    async def create_show(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        key = creation_key(request)
        body = body_of(bodies.SHOW, request)
        listing = await self._listing_of(acting.tenant_id, key, body)
        try:
            put = await self._counter.desk.organisers.shows.create(listing)
        except ValueError as error:
            raise bad_text(error, _FIELDS) from None
        accepted(put, "show")
        row = await self._row(acting.tenant_id, listing.show_id)
        view = await self._view(row)
        if put.outcome is PutOutcome.CREATED:
            await self._counter.audit.note(acting, Action.SHOW_CREATED, listing.show_id, after=view)
        return created(request, put, view, "shows", listing.show_id)

    async def list_organiser_shows(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, document.SHOWS_QUERY)
        wanted = ShowFilter(
            status=None if query.status is None else ShowState(query.status),
            series_id=_series_id(query.series_id),
            kind=None if query.kind is None else ShowKind(query.kind),
            starts_from_ms=query.starts_from or 0,
            starts_before_ms=query.starts_before,
            text=query.q,
        )
        try:
            page = await self._counter.desk.organisers.shows.list(
                acting.tenant_id, wanted, limit=query.limit, after=place_of(query)
            )
        except ValueError as error:
            raise bad_text(error, _FIELDS) from None
        views = await self._views(page.items, with_sales=query.sales and _sees_sales(acting))
        return json_response(view_of_page("shows", views, page.next))

    async def find_show(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, document.SHOW_QUERY)
        row = await self._row(acting.tenant_id, show_id_of_path(request))
        (view,) = await self._views([row], with_sales=query.sales and _sees_sales(acting))
        return json_response(view)

    async def change_show(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        show_id = show_id_of_path(request)
        change = body_of(bodies.SHOW_CHANGE, request)
        row = await self._row(acting.tenant_id, show_id)
        _refuse_cancelled(row)
        listing = row.listing
        fares, policy = None, None
        if change.prices is not None:
            plan = await self._counter.desk.catalogue.load_plan(listing.plan_id)
            assert plan is not None, f"{listing.plan_id} is gone"
            fares = bodies.fares_of_prices(change.prices, plan)
        if change.policy is not None:
            policy = bodies.policy_of_body(change.policy, listing.policy)
        starts_at_ms = _or(change.starts_at, listing.starts_at_ms)
        ends_at_ms = _or(change.ends_at, listing.ends_at_ms)
        _check_times(starts_at_ms, ends_at_ms)
        changed = ShowChange(
            title=change.title,
            description=change.description,
            venue=change.venue,
            starts_at_ms=change.starts_at,
            ends_at_ms=change.ends_at,
            fares=fares,
            policy=policy,
            series_id=await self._series_id(acting.tenant_id, change.series_id),
        )
        try:
            put = await self._counter.desk.organisers.shows.update(
                acting.tenant_id, show_id, changed, expected_version=change.version or row.version
            )
        except ValueError as error:
            raise bad_text(error, _FIELDS) from None
        after = accepted(put, "show")
        before_view, view = await self._view(row), await self._view(after)
        await self._counter.audit.note(
            acting, Action.SHOW_CHANGED, show_id, before=before_view, after=view
        )
        if fares is not None or policy is not None:
            await renew(self._counter.desk, show_id)
        return json_response(view)

    async def publish_show(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        show_id = show_id_of_path(request)
        read_nothing(request.scope)
        _refuse_cancelled(await self._row(acting.tenant_id, show_id))
        put = await self._counter.desk.organisers.shows.set_status(
            acting.tenant_id, show_id, ShowState.ON_SALE
        )
        return await self._status_set(acting, put, Action.SHOW_PUBLISHED, ShowState.DRAFT)

    async def cancel_show(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        show_id = show_id_of_path(request)
        body = body_of(bodies.CANCEL, request)
        row = await self._row(acting.tenant_id, show_id)
        desk = self._counter.desk
        # The actor's word counts; the catalogue follows, and repeating both is harmless.
        await ask(desk, show_id, CancelShow(body.reason))
        # The refund job began with the cancellation itself; whose doing it was is said once.
        await desk.money.jobs_of(show_id).name_requester(show_id, acting.principal.account_id)
        put = await desk.organisers.shows.set_status(acting.tenant_id, show_id, ShowState.CANCELLED)
        return await self._status_set(
            acting, put, Action.SHOW_CANCELLED, row.listing.status, reason=body.reason
        )

    async def _status_set(
        self,
        acting: Acting,
        put: Put[ShowRow],
        action: Action,
        before: ShowState,
        **more: str,
    ) -> Response:
        row = accepted(put, "show")
        show_id = row.listing.show_id
        is_repeated = put.outcome is PutOutcome.REPEATED
        if not is_repeated:
            await self._counter.audit.note(
                acting,
                action,
                show_id,
                before={"status": before.value},
                after={"status": row.listing.status.value, **more},
            )
        await renew(self._counter.desk, show_id)
        return json_response(await self._view(row), 200, REPLAYED if is_repeated else {})

    # -- what they share ----------------------------------------------------------------

    async def _listing_of(
        self, tenant_id: TenantId, key: str, body: bodies.ShowBody
    ) -> ShowListing:
        desk = self._counter.desk
        _check_times(body.starts_at, body.ends_at)
        venue = None
        if is_object_id(ObjectKind.VENUE, body.venue_id):
            venue = await desk.organisers.venues.find(tenant_id, VenueId(body.venue_id))
        if venue is None:
            raise bad_field("venue_id", "there is no such venue")
        plan_id, plan = await chosen_plan(desk, tenant_id, body)
        source_key = tenant_source_key(tenant_id, f"organiser:{key}")
        return ShowListing(
            show_id=derive_show_id(source_key),
            source_key=source_key,
            kind=ShowKind(body.kind),
            title=body.title,
            venue=venue.name,
            starts_at_ms=body.starts_at,
            ends_at_ms=body.ends_at,
            service_day_at_ms=body.starts_at,
            time_zone=venue.time_zone,
            plan_id=plan_id,
            route_id=None,
            fares=bodies.fares_of_prices(body.prices, plan),
            placement=Placement.DEDICATED,
            policy=bodies.policy_of_body(body.policy),
            tenant_id=tenant_id,
            status=ShowState.ON_SALE if body.is_on_sale else ShowState.DRAFT,
            description=body.description,
            series_id=await self._series_id(tenant_id, body.series_id),
            venue_id=venue.venue_id,
        )

    async def _series_id(self, tenant_id: TenantId, named: str | None) -> SeriesId | None:
        series_id = _series_id(named)
        if series_id is not None:
            found = await self._counter.desk.organisers.series.find(tenant_id, series_id)
            if found is None:
                raise bad_field("series_id", "there is no such series")
        return series_id

    async def _row(self, tenant_id: TenantId, show_id: ShowId) -> ShowRow:
        row = await self._counter.desk.organisers.shows.find(tenant_id, show_id)
        if row is None:
            raise missing("show")
        return row

    async def _view(self, row: ShowRow) -> dict[str, Any]:
        plan = await self._counter.desk.catalogue.load_plan(row.listing.plan_id)
        assert plan is not None, f"{row.listing.plan_id} is gone"
        return bodies.view_of_show(row, plan)

    async def _views(self, rows: Sequence[ShowRow], *, with_sales: bool) -> list[dict[str, Any]]:
        some = asyncio.Semaphore(_FIGURES_AT_ONCE)

        async def view_with_sales(row: ShowRow) -> dict[str, Any]:
            async with some:
                return {**await self._view(row), "sales": await sales_of(self._counter.desk, row)}

        seen = view_with_sales if with_sales else self._view
        return list(await asyncio.gather(*map(seen, rows)))


def show_id_of_path(request: Request) -> ShowId:
    """The id of the show in the address.

    Raises:
        Problem: ``show_not_found``: it has not the form of one.
    """
    text = request.path_params["show_id"]
    if not is_show_id(text):
        raise missing("show")
    return ShowId(text)


def _sees_sales(acting: Acting) -> bool:
    """What was earned is not the gate's to know."""
    return acting.principal.role is not Role.GATE


def _series_id(named: str | None) -> SeriesId | None:
    if named is None:
        return None
    if not is_object_id(ObjectKind.SERIES, named):
        raise bad_field("series_id", "there is no such series")
    return SeriesId(named)


def _check_times(starts_at_ms: int, ends_at_ms: int) -> None:
    if ends_at_ms < starts_at_ms:
        raise bad_field("ends_at", "is before starts_at")


def _refuse_cancelled(row: ShowRow) -> None:
    if row.listing.status is ShowState.CANCELLED:
        raise Problem("show_is_cancelled", "The show is cancelled, for good.")


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
