"""Series: productions with several shows, and the shows that a weekly pattern gives one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from persistence.organiser_rows import PutOutcome
from persistence.series import SeriesDraft, SeriesRow
from persistence.venues import VenueRow
from reservation.ids import TenantId, derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.organiser_ids import (
    ObjectKind,
    SeriesId,
    VenueId,
    derive_object_id,
    is_object_id,
    tenant_source_key,
)
from reservation.seating_plan import SeatingPlan
from reservation.show import Placement, SalesPolicy, ShowState
from serve_app.api.api_document import Handler, Operation
from serve_app.api.edge import json_response
from serve_app.api.instants import write_instant
from serve_app.api.organiser import series_bodies as bodies
from serve_app.api.organiser.acting import ANY_QUERY, Acting, body_of, creation_key
from serve_app.api.organiser.audit_trail import Action
from serve_app.api.organiser.chosen_plans import chosen_plan
from serve_app.api.organiser.counter import Counter
from serve_app.api.organiser.outcomes import (
    accepted,
    bad_text,
    created,
    missing,
    place_of,
    view_of_page,
)
from serve_app.api.organiser.show_bodies import fares_of_prices, policy_of_body
from serve_app.api.problems import FieldError, bad_field, bad_request
from serve_app.catalogue.recurrence import WeeklyPattern

_WHAT = "series"
_FIELDS = {"fares": "prices"}
_MADE_BEFORE = "source_key: another show has it"


class _Starts(NamedTuple):
    """When shows are to begin, in the order of time, and what cannot be."""

    at_ms: tuple[int, ...]
    refused: list[dict[str, str]]


class SeriesRoutes:
    """The handlers."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter

    def operations(self) -> Iterable[tuple[Operation, Handler]]:
        """Which handler answers where."""
        yield bodies.CREATE, self.create_series
        yield bodies.LIST, self.list_series
        yield bodies.FIND, self.find_series
        yield bodies.UPDATE, self.change_series
        yield bodies.ADD_SHOWS, self.add_series_shows

    async def create_series(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        key = creation_key(request)
        sent = body_of(bodies.SERIES, request)
        draft, plan = await self._draft_of(acting.tenant_id, SeriesDraft(sent.title), sent)
        series_id = SeriesId(derive_object_id(ObjectKind.SERIES, acting.tenant_id, key))
        try:
            put = await self._counter.desk.organisers.series.create(
                acting.tenant_id, series_id, draft
            )
        except ValueError as error:
            raise bad_text(error, _FIELDS) from None
        view = bodies.view_of_series(accepted(put, _WHAT), plan)
        if put.outcome is PutOutcome.CREATED:
            await self._counter.audit.note(acting, Action.SERIES_CREATED, series_id, after=view)
        return created(request, put, view, "series", series_id)

    async def list_series(self, request: Request) -> Response:
        acting, query = await self._counter.begin(request, bodies.PAGE)
        page = await self._counter.desk.organisers.series.list(
            acting.tenant_id, limit=query.limit, after=place_of(query)
        )
        views = [
            bodies.view_of_series(row, await self._plan(row.draft.plan_id)) for row in page.items
        ]
        return json_response(view_of_page("series", views, page.next))

    async def find_series(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        row = await self._row(acting, request)
        return json_response(bodies.view_of_series(row, await self._plan(row.draft.plan_id)))

    async def change_series(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        sent = body_of(bodies.CHANGED, request)
        row = await self._row(acting, request)
        draft, plan = await self._draft_of(acting.tenant_id, row.draft, sent)
        try:
            put = await self._counter.desk.organisers.series.update(
                acting.tenant_id,
                row.series_id,
                draft,
                expected_version=sent.version or row.version,
            )
        except ValueError as error:
            raise bad_text(error, _FIELDS) from None
        view = bodies.view_of_series(accepted(put, _WHAT), plan)
        before = bodies.view_of_series(row, await self._plan(row.draft.plan_id))
        await self._counter.audit.note(
            acting, Action.SERIES_CHANGED, row.series_id, before=before, after=view
        )
        return json_response(view)

    async def add_series_shows(self, request: Request) -> Response:
        acting, _ = await self._counter.begin(request, ANY_QUERY)
        sent = body_of(bodies.SHOWS, request)
        row = await self._row(acting, request)
        venue = await self._venue_of(acting.tenant_id, row.draft)
        starts = _starts_of(sent, venue.time_zone)
        status = ShowState.ON_SALE if sent.is_on_sale else ShowState.DRAFT
        listings = [_listing_of(row, venue, at_ms, status) for at_ms in starts.at_ms]
        counts = await self._counter.desk.organisers.shows.create_many(listings)
        start_of = {listing.source_key: listing.starts_at_ms for listing in listings}
        refused = list(starts.refused)
        unchanged = counts.unchanged
        for source_key, reason in counts.refused:
            if reason == _MADE_BEFORE:
                # Of other terms than the series has now; what was made stays as it is.
                unchanged += 1
                continue
            at = write_instant(start_of[source_key])
            refused.append({"starts_at": at, "reason": reason})
        view = {
            "created": counts.created,
            "unchanged": unchanged,
            "show_ids": [listing.show_id for listing in listings],
            "refused": refused,
        }
        if counts.created:
            await self._counter.audit.note(
                acting, Action.SERIES_SHOWS_ADDED, row.series_id, after=view
            )
        return json_response(view)

    # -- what they share ----------------------------------------------------------------

    async def _draft_of(
        self, tenant_id: TenantId, old: SeriesDraft, sent: bodies.SeriesBody | bodies.SeriesChange
    ) -> tuple[SeriesDraft, SeatingPlan | None]:
        """The draft after what was sent, and its plan."""
        given = sent.model_fields_set
        venue_id = old.venue_id
        if sent.venue_id is not None:
            venue_id = (await self._venue(tenant_id, sent.venue_id)).venue_id
        plan_id, plan = old.plan_id, await self._plan(old.plan_id)
        fares = old.fares
        if given & {"plan_id", "seating_plan_id", "seating_plan_version"}:
            plan_id, plan = await chosen_plan(self._counter.desk, tenant_id, sent)
            if plan_id != old.plan_id and fares is not None and sent.prices is None:
                raise bad_field("prices", "is missing; the seating plan is another one")
        if sent.prices is not None:
            if plan is None:
                raise bad_field("prices", "needs a seating plan")
            fares = fares_of_prices(sent.prices, plan)
        draft = SeriesDraft(
            title=old.title if sent.title is None else sent.title,
            description=old.description if sent.description is None else sent.description,
            venue_id=venue_id,
            plan_id=plan_id,
            duration_ms=sent.duration_ms if "duration_ms" in given else old.duration_ms,
            fares=fares,
            policy=old.policy if sent.policy is None else policy_of_body(sent.policy, old.policy),
        )
        return draft, plan

    async def _venue(self, tenant_id: TenantId, named: str) -> VenueRow:
        venue = None
        if is_object_id(ObjectKind.VENUE, named):
            venue = await self._counter.desk.organisers.venues.find(tenant_id, VenueId(named))
        if venue is None:
            raise bad_field("venue_id", "there is no such venue")
        return venue

    async def _venue_of(self, tenant_id: TenantId, draft: SeriesDraft) -> VenueRow:
        """The venue of a series whose draft says all that a show needs.

        Raises:
            Problem: ``invalid_request`` with everything that the series has not.
        """
        needed = {
            "venue_id": draft.venue_id,
            "seating_plan_id": draft.plan_id,
            "duration_ms": draft.duration_ms,
            "prices": draft.fares,
        }
        errors = [
            FieldError(name, "the series has none yet") for name in needed if needed[name] is None
        ]
        if errors:
            raise bad_request(errors)
        assert draft.venue_id is not None
        return await self._venue(tenant_id, draft.venue_id)

    async def _plan(self, plan_id: str | None) -> SeatingPlan | None:
        return None if plan_id is None else await self._counter.desk.catalogue.load_plan(plan_id)

    async def _row(self, acting: Acting, request: Request) -> SeriesRow:
        named = request.path_params["series_id"]
        if not is_object_id(ObjectKind.SERIES, named):
            raise missing(_WHAT)
        row = await self._counter.desk.organisers.series.find(acting.tenant_id, SeriesId(named))
        if row is None:
            raise missing(_WHAT)
        return row


def _starts_of(sent: bodies.SeriesShowsBody, time_zone: str) -> _Starts:
    """All starts that were asked for, each once.

    Raises:
        Problem: ``invalid_request``: there are none, or too many, or the pattern cannot be.
    """
    found = set(sent.starts_at)
    refused: list[dict[str, str]] = []
    if sent.pattern is not None:
        pattern = sent.pattern
        times = {
            bodies.WEEKDAYS.index(weekday): tuple(times) for weekday, times in pattern.times.items()
        }
        try:
            expansion = WeeklyPattern(
                time_zone,
                pattern.from_date,
                pattern.to_date,
                times,
                frozenset(pattern.except_dates),
            ).expand()
        except ValueError as error:
            field, _, reason = str(error).partition(": ")
            raise bad_field(f"pattern.{field}", reason) from None
        found.update(start.starts_at_ms for start in expansion.starts)
        refused = [
            {"starts_at": each.local.isoformat(), "reason": each.reason}
            for each in expansion.missing
        ]
    if not found and not refused:
        raise bad_field("starts_at", "names no start, and pattern has none")
    if len(found) > bodies.SHOWS_MAX:
        raise bad_field("starts_at", f"more than {bodies.SHOWS_MAX:,} shows")
    return _Starts(tuple(sorted(found)), refused)


def _listing_of(
    series: SeriesRow, venue: VenueRow, starts_at_ms: int, status: ShowState
) -> ShowListing:
    draft = series.draft
    assert draft.plan_id is not None
    assert draft.fares is not None
    assert draft.duration_ms is not None
    # By its series and its start: whoever asks for it again meets it.
    source_key = tenant_source_key(
        series.tenant_id, f"series:{series.series_id}:{write_instant(starts_at_ms)}"
    )
    return ShowListing(
        show_id=derive_show_id(source_key),
        source_key=source_key,
        kind=ShowKind.PERFORMANCE,
        title=draft.title,
        venue=venue.name,
        starts_at_ms=starts_at_ms,
        ends_at_ms=starts_at_ms + draft.duration_ms,
        service_day_at_ms=starts_at_ms,
        time_zone=venue.time_zone,
        plan_id=draft.plan_id,
        route_id=None,
        fares=draft.fares,
        placement=Placement.DEDICATED,
        policy=draft.policy or SalesPolicy(),
        tenant_id=series.tenant_id,
        status=status,
        description=draft.description,
        series_id=series.series_id,
        venue_id=venue.venue_id,
    )
