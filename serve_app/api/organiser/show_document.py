"""What OpenAPI says about shows, and under which address each of their routes is."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, TypeAdapter

from serve_app.api.api_document import Operation, body, path, problems
from serve_app.api.organiser import show_bodies as bodies
from serve_app.api.organiser.acting import ORGANISERS, STAFF
from serve_app.api.organiser.fields import PageQuery, TenantQuery
from serve_app.api.organiser.outcomes import (
    CHANGE,
    CREATION,
    CREATION_KEY,
    READING,
    REPLAYED_HEADER,
)
from serve_app.api.query_fields import Flag, InstantMs
from serve_app.api.query_models import query_parameters


class ShowsQuery(PageQuery):
    """Which shows. Everything that is given must hold."""

    q: Annotated[
        str | None, Field(max_length=300, description="Words; each begins a word of the title.")
    ] = None
    status: Annotated[
        str | None, Field(pattern="^(draft|on_sale|cancelled)$", description="Only these.")
    ] = None
    kind: Annotated[
        str | None, Field(pattern="^(performance|train|bus|other_run)$", description="Only these.")
    ] = None
    series_id: Annotated[str | None, Field(max_length=40)] = None
    starts_from: InstantMs | None = None
    starts_before: InstantMs | None = None
    sales: Annotated[
        Flag, Field(description="Whether to tell how much is sold of each; not for the gate.")
    ] = False


class ShowQuery(TenantQuery):
    """What to tell of a show."""

    sales: Annotated[
        Flag, Field(description="Whether to tell how much is sold; not for the gate.")
    ] = True


SHOWS_QUERY: TypeAdapter[ShowsQuery] = TypeAdapter(ShowsQuery)
SHOW_QUERY: TypeAdapter[ShowQuery] = TypeAdapter(ShowQuery)

SHOW = path("show_id", bodies.EXAMPLE_ID)
FOR = query_parameters(TenantQuery)
ASKING = ("overloaded", "not_done", "outcome_unknown")

CREATE = Operation(
    "POST",
    "/shows",
    status=201,
    tag="shows",
    roles=ORGANISERS,
    summary="Add a show",
    responses={
        201: {"description": "It is there.", "model": bodies.ShowView, "headers": REPLAYED_HEADER},
        **problems(*CREATION),
    },
    extra={"parameters": [CREATION_KEY, *FOR], "requestBody": body(bodies.ShowBody)},
)
LIST = Operation(
    "GET",
    "/shows",
    tag="shows",
    roles=STAFF,
    summary="The shows of the house, drafts and cancelled ones included",
    responses={200: {"description": "One page.", "model": bodies.ShowList}, **problems(*READING)},
    extra={"parameters": query_parameters(ShowsQuery)},
)
FIND = Operation(
    "GET",
    "/shows/{show_id}",
    tag="shows",
    roles=STAFF,
    summary="One show, with what is sold of it",
    responses={
        200: {"description": "The show.", "model": bodies.ShowView},
        **problems(*READING, "show_not_found"),
    },
    extra={"parameters": [SHOW, *query_parameters(ShowQuery)]},
)
UPDATE = Operation(
    "PATCH",
    "/shows/{show_id}",
    tag="shows",
    roles=ORGANISERS,
    summary="Change a show",
    description=(
        "Also while it is on sale: what is held or booked keeps its price and its deadline; the "
        "next hold goes by the new prices and limits."
    ),
    responses={
        200: {"description": "The show as it is now.", "model": bodies.ShowView},
        **problems(*CHANGE, "show_not_found", "show_is_cancelled", *ASKING),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(bodies.ShowChange)},
)
PUBLISH = Operation(
    "POST",
    "/shows/{show_id}/publish",
    tag="shows",
    roles=ORGANISERS,
    summary="Put a draft on sale",
    responses={
        200: {"description": "It is.", "model": bodies.ShowView, "headers": REPLAYED_HEADER},
        **problems(*READING, "show_not_found", "show_is_cancelled", *ASKING),
    },
    extra={"parameters": [SHOW, *FOR]},
)
CANCEL = Operation(
    "POST",
    "/shows/{show_id}/cancel",
    tag="shows",
    roles=ORGANISERS,
    summary="Cancel a show",
    description=(
        "For good. Nothing is sold any more, live holds end, and all bookings are cancelled and "
        "paid back in full, one after another; `refund-job` tells how far that is."
    ),
    responses={
        200: {"description": "It is.", "model": bodies.ShowView, "headers": REPLAYED_HEADER},
        **problems(*READING, "malformed_json", "unsupported_media_type", "show_not_found", *ASKING),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(bodies.CancelBody)},
)
CHANGE_PLAN = Operation(
    "PUT",
    "/shows/{show_id}/seating-plan",
    tag="shows",
    roles=ORGANISERS,
    summary="Give a show other seats",
    description=(
        "Also while it is on sale. Seats are the same ones when their labels are; what is not in "
        "the new plan is taken away. Refused, naming the seats, when one of those is held or "
        "booked."
    ),
    responses={
        200: {"description": "It has them.", "model": bodies.ShowView, "headers": REPLAYED_HEADER},
        **problems(
            *CHANGE,
            "show_not_found",
            "show_is_cancelled",
            "plan_drops_sold_seats",
            "plan_not_accepted",
            *ASKING,
        ),
    },
    extra={"parameters": [SHOW, *FOR], "requestBody": body(bodies.ShowPlanChange)},
)
