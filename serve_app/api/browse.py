"""The browse application: search shows and runs, see one in detail, see which seats are free.

It only reads, and it never wakes a show's actor: seat maps come from what the owners wrote
(``serve_app.api.seat_maps`` says from where, and how fresh). What many ask at once is asked of the
database once, and a seat map that has not changed is not written anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Annotated

import orjson
from fastapi import Query, Request
from starlette.responses import Response

from persistence.catalogue import Catalogue, Cursor, ShowSearch
from reservation.ids import ShowId, is_show_id
from reservation.listing import ShowKind
from reservation.route import Segment
from serve_app.api import browse_document as document
from serve_app.api.api_document import describe
from serve_app.api.browse_schemas import SeatMapQuery, SegmentQuery, ShowsQuery, StopsQuery
from serve_app.api.cursors import read_cursor
from serve_app.api.edge import Opened, json_response, make_api, probe_all
from serve_app.api.instants import DAY_MS
from serve_app.api.kept_bytes import KeptBody, KeptBytes
from serve_app.api.limits import RequestLimits
from serve_app.api.problems import Problem, bad_field
from serve_app.api.seat_map_view import etag_of, shape_of, version_named, write_seat_map
from serve_app.api.seat_maps import SeatMaps
from serve_app.api.segments import segment_of
from serve_app.api.shared_reads import SharedReads
from serve_app.api.short_way import Api
from serve_app.api.show_facts import ShowFactsCache
from serve_app.api.show_views import view_of_page, view_of_show

SEAT_MAPS_KEPT_BYTES = 32 * 1024 * 1024
DRAWINGS_KEPT_BYTES = 32 * 1024 * 1024
DRAWING_FRESH_S = 60

_BRIEFLY = {"Cache-Control": "public, max-age=5"}
_FIELDS_OF_SEARCH = {"text": "q", "prefix": "q", "from_stop": "from", "to_stop": "to"}
_MapKey = tuple[ShowId, Segment, bool]


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class BrowseDesk:
    """What the routes need. ``probes`` reach every database, each raising a fault if it cannot."""

    catalogue: Catalogue
    facts: ShowFactsCache
    seat_maps: SeatMaps
    probes: Sequence[Callable[[], Awaitable[object]]] = ()
    now_ms: Callable[[], int] = _now_ms

    async def probe(self) -> None:
        """See ``edge.Desk``."""
        await probe_all([probe() for probe in self.probes])


def build_browse_api(
    open_desk: Callable[[], AbstractAsyncContextManager[BrowseDesk]],
    *,
    body_bytes_max: int,
    limits: RequestLimits | None = None,
    cors_origins: Sequence[str] = (),
) -> Api:
    """The browse application as plain ASGI, without Ray.

    See ``edge.make_api`` for ``open_desk`` and what follows it.
    """
    opened = Opened()
    app = make_api(
        opened,
        open_desk,
        title="Housefull browse",
        summary="Search shows and runs, and see which seats are free.",
        description=document.DESCRIPTION,
        body_bytes_max=body_bytes_max,
        limits=limits,
        cors_origins=cors_origins,
    )
    routes = _Routes(opened)
    for operation, handler in (
        (document.SEARCH, routes.search),
        (document.SHOW, routes.show),
        (document.SEATING_PLAN, routes.seating_plan),
        (document.SEAT_MAP, routes.seat_map),
        (document.STOPS, routes.stops),
    ):
        operation.add_to(app, handler)
    describe(app, document.MODELS)
    return app


class _Routes:
    """The handlers."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._documents: SharedReads[str, KeptBody] = SharedReads(self._read_drawing)
        self._kept_maps: KeptBytes[_MapKey, KeptBody] = KeptBytes(SEAT_MAPS_KEPT_BYTES)
        self._drawings: KeptBytes[str, KeptBody] = KeptBytes(DRAWINGS_KEPT_BYTES)

    @property
    def _desk(self) -> BrowseDesk:
        desk: BrowseDesk | None = self._opened.desk
        if desk is None:
            raise Problem("not_done", "The application is starting or stopping.")
        return desk

    async def search(self, query: Annotated[ShowsQuery, Query()]) -> Response:
        """Search shows and runs."""
        desk = self._desk
        starts_from_ms, starts_before_ms = query.starts_from, query.starts_before
        if query.date is not None:
            starts_from_ms, starts_before_ms = query.date, query.date + DAY_MS
        search = ShowSearch(
            text=query.q,
            kind=None if query.kind is None else ShowKind(query.kind),
            from_stop=query.from_,
            to_stop=query.to,
            starts_from_ms=desk.now_ms() if starts_from_ms is None else starts_from_ms,
            starts_before_ms=starts_before_ms,
            limit=query.limit,
            after=None if query.cursor is None else _search_cursor(query.cursor),
        )
        try:
            page = await desk.catalogue.search(search)
        except ValueError as error:
            raise _problem_of_search(error) from None
        return json_response(view_of_page(page, desk.now_ms()), 200, _BRIEFLY)

    async def show(self, request: Request, query: Annotated[SegmentQuery, Query()]) -> Response:
        """One show in detail."""
        desk = self._desk
        facts = await desk.facts.facts(_show_id(request))
        segment = segment_of(facts.route, query.from_, query.to)
        return json_response(view_of_show(facts, segment, desk.now_ms()), 200, _BRIEFLY)

    async def seating_plan(self, request: Request) -> Response:
        """The drawing of a show's seats."""
        facts = await self._desk.facts.facts(_show_id(request))
        plan_id = facts.listing.plan_id
        kept = self._drawings.find(plan_id)
        if kept is None or _loop_s() - kept.kept_at_s > DRAWING_FRESH_S:
            kept = await self._documents.get(plan_id)
        headers = {"ETag": kept.etag, "Cache-Control": f"public, max-age={DRAWING_FRESH_S}"}
        return _conditional(request, kept, headers)

    async def seat_map(self, request: Request, query: Annotated[SeatMapQuery, Query()]) -> Response:
        """Which seats are free."""
        show_id = _show_id(request)
        facts = await self._desk.facts.facts(show_id)
        segment = segment_of(facts.route, query.from_, query.to)
        wanted = request.headers.get("if-none-match")
        seen = 0 if wanted is None else version_named(wanted, segment, with_labels=query.labels)
        image = await self._desk.seat_maps.read(show_id, shape_of(facts), at_least=seen)
        plan_id = facts.listing.plan_id
        etag = etag_of(image.seq, segment, with_labels=query.labels, plan_id=plan_id)
        if wanted is not None and _has_tag(request, etag):
            return Response(status_code=304, headers=_map_headers(etag))
        key: _MapKey = (show_id, segment, query.labels)
        kept = self._kept_maps.find(key)
        if kept is None or kept.etag != etag:
            body = write_seat_map(facts, image, segment, with_labels=query.labels)
            kept = KeptBody(etag, body, _loop_s())
            self._kept_maps.keep(key, kept)
        return Response(kept.body, headers=_map_headers(etag), media_type="application/json")

    async def stops(self, query: Annotated[StopsQuery, Query()]) -> Response:
        """Stops for a search box."""
        try:
            matches = await self._desk.catalogue.stops_matching(query.q, query.limit)
        except ValueError as error:
            raise _problem_of_search(error) from None
        stops = [{"code": match.code, "name": match.name} for match in matches]
        return json_response({"stops": stops}, 200, _BRIEFLY)

    async def _read_drawing(self, plan_id: str) -> KeptBody:
        found = await self._desk.catalogue.load_plan_document(plan_id)
        # The catalogue refuses shows whose plan it does not have.
        assert found is not None, f"{plan_id} is gone"
        drawing, extras = found
        body = orjson.dumps({"plan_id": plan_id, "document": drawing, "extras": extras})
        # Not the plan's id alone: an import may renew the drawing of the same seats.
        digest = hashlib.blake2b(body, digest_size=9).hexdigest()
        kept = KeptBody(f'"{plan_id}-{digest}"', body, _loop_s())
        self._drawings.keep(plan_id, kept)
        return kept


def _loop_s() -> float:
    return asyncio.get_running_loop().time()


def _map_headers(etag: str) -> dict[str, str]:
    return {"ETag": etag, "Cache-Control": "public, max-age=1"}


def _conditional(request: Request, kept: KeptBody, headers: dict[str, str]) -> Response:
    """The body, or 304 when the client has it."""
    if _has_tag(request, kept.etag):
        return Response(status_code=304, headers=headers)
    return Response(kept.body, headers=headers, media_type="application/json")


def _has_tag(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names this tag; the weak comparison of RFC 9110."""
    wanted = request.headers.get("if-none-match")
    if wanted is None:
        return False
    return wanted.strip() == "*" or etag in [
        tag.strip().removeprefix("W/") for tag in wanted.split(",")
    ]


def _show_id(request: Request) -> ShowId:
    text = request.path_params["show_id"]
    if not is_show_id(text):
        raise Problem("show_not_found", "There is no show with this id.")
    return ShowId(text)


def _search_cursor(cursor: str) -> Cursor:
    starts_at_ms, show_id = read_cursor(cursor)
    if not is_show_id(show_id):
        raise bad_field("cursor", "is not a cursor of this list")
    return Cursor(starts_at_ms, show_id)


def _problem_of_search(error: ValueError) -> Problem:
    """What the catalogue found wrong; its message begins with the name of its own field."""
    field, _, reason = str(error).partition(": ")
    return bad_field(_FIELDS_OF_SEARCH.get(field, field), reason)
