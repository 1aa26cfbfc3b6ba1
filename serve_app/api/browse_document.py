"""What OpenAPI says about the browse application, and under which address each route is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from serve_app.api import browse_schemas as schemas
from serve_app.api.api_document import Operation, header, path, problems
from serve_app.api.principals import PUBLIC

DESCRIPTION = """\
Everything here is public and may be cached. Prices are those of now; a hold tells its own.
"""

_SHOW = path("show_id", "shw_7k2m9p4qx0c1b5dn")
_IF_NONE_MATCH = header(
    "If-None-Match",
    "Entity tags that the client has; 304 when one of them is still true.",
    {"type": "string"},
    required=False,
)
_TAGGED = {
    "ETag": {"schema": {"type": "string"}},
    "Cache-Control": {"schema": {"type": "string"}},
}
_NOT_MODIFIED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The client has it already.", "headers": _TAGGED}
}


def _found(description: str, model: type[BaseModel], **more: Any) -> dict[str, Any]:
    return {"description": description, "model": model, **more}


SEARCH = Operation(
    "GET",
    "/shows",
    tag="shows",
    roles=PUBLIC,
    has_query=True,
    summary="Search shows and runs",
    description=(
        "With `from` or `to`, runs that call there in this order; the times asked for are then "
        "those of the departure at `from`."
    ),
    responses={
        200: _found("One page.", schemas.ShowPage),
        **problems("invalid_request", "not_done"),
    },
    extra={},
)

SHOW = Operation(
    "GET",
    "/shows/{show_id}",
    tag="shows",
    roles=PUBLIC,
    has_query=True,
    summary="One show, with its fares",
    responses={
        200: _found("The show.", schemas.ShowDetail),
        **problems("invalid_request", "show_not_found", "not_done"),
    },
    extra={"parameters": [_SHOW]},
)

SEATING_PLAN = Operation(
    "GET",
    "/shows/{show_id}/seating-plan",
    tag="shows",
    roles=PUBLIC,
    summary="The drawing of a show's seats",
    responses={
        200: _found("The drawing.", schemas.SeatingPlanView, headers=_TAGGED),
        **_NOT_MODIFIED,
        **problems("show_not_found", "not_done"),
    },
    extra={"parameters": [_SHOW, _IF_NONE_MATCH]},
)

SEAT_MAP = Operation(
    "GET",
    "/shows/{show_id}/seat-map",
    tag="shows",
    roles=PUBLIC,
    has_query=True,
    summary="Which seats are free",
    description=(
        "Shows everything that was sold a second before, and often what was sold a moment ago. "
        "Whoever sends the `ETag` of the map they have is never sent an older one. What is free "
        "here may be gone: only a hold is sure."
    ),
    responses={
        200: _found("The seat map.", schemas.SeatMapView, headers=_TAGGED),
        **_NOT_MODIFIED,
        **problems("invalid_request", "show_not_found", "not_done"),
    },
    extra={"parameters": [_SHOW, _IF_NONE_MATCH]},
)

STOPS = Operation(
    "GET",
    "/stops",
    tag="stops",
    roles=PUBLIC,
    has_query=True,
    summary="Stops for a search box",
    responses={
        200: _found("Stops.", schemas.StopList),
        **problems("invalid_request", "not_done"),
    },
    extra={},
)

MODELS: tuple[type[BaseModel], ...] = (
    schemas.ShowPage,
    schemas.FoundShow,
    schemas.RideView,
    schemas.ShowDetail,
    schemas.StopView,
    schemas.CategoryView,
    schemas.TierView,
    schemas.PolicyView,
    schemas.SeatingPlanView,
    schemas.SeatMapView,
    schemas.SeatCounts,
    schemas.SeatRowView,
    schemas.SectionView,
    schemas.TierRoom,
    schemas.StopMatchView,
    schemas.StopList,
)
