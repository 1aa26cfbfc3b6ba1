"""Series as organisers send and see them, and under which address each of their routes is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from persistence.series import DURATION_MS_MAX, SeriesRow
from reservation.seating_plan import SeatingPlan
from serve_app.api.api_document import Operation, body, path, problems
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser import outcomes
from serve_app.api.organiser.acting import ORGANISERS, STAFF
from serve_app.api.organiser.fields import (
    BodyDate,
    BodyInstant,
    BodyTime,
    Description,
    ExpectedVersion,
    Next,
    PageQuery,
    RequestBody,
    TenantQuery,
    Title,
    Version,
    View,
    examples,
)
from serve_app.api.organiser.outcomes import CREATION, CREATION_KEY, READING, REPLAYED_HEADER
from serve_app.api.organiser.show_bodies import (
    PlanChoice,
    Policy,
    PolicyView,
    Prices,
    PricesView,
    view_of_fares,
    view_of_policy,
)
from serve_app.api.query_models import query_parameters

SHOWS_MAX = 1_000
"""Of one request: three shows a day for most of a year."""

_EXAMPLE_ID = "ser_7k2m9p4qx0c1b5dn3fg8"
_ObjectId = Annotated[str, Field(max_length=40)]
_DurationMs = Annotated[
    int | None, Field(ge=0, le=DURATION_MS_MAX, description="From the start of a show to its end.")
]
Weekday = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
WEEKDAYS: tuple[Weekday, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class SeriesBody(PlanChoice):
    """A new series, and what its shows begin with."""

    model_config = ConfigDict(
        json_schema_extra=examples({"title": "Hamlet", "duration_ms": 10_800_000})
    )

    title: Title
    description: Description = ""
    venue_id: _ObjectId | None = None
    duration_ms: _DurationMs = None
    prices: Annotated[Prices | None, Field(description="Needs a seating plan.")] = None
    policy: Policy | None = None


class SeriesChange(PlanChoice):
    """What is to change for shows that are added from now on; whatever is absent stays."""

    title: Title | None = None
    description: Description | None = None
    venue_id: _ObjectId | None = None
    duration_ms: _DurationMs = None
    prices: Prices | None = None
    policy: Policy | None = None
    version: ExpectedVersion = None


class WeeklyPatternBody(RequestBody):
    """Shows on the same weekdays, week after week."""

    model_config = ConfigDict(
        title="WeeklyPattern",
        json_schema_extra=examples(
            {
                "from_date": "2026-12-01",
                "to_date": "2026-12-31",
                "times": {"fri": ["19:30"], "sat": ["15:00", "19:30"]},
                "except_dates": ["2026-12-25"],
            }
        ),
    )

    from_date: BodyDate
    to_date: Annotated[BodyDate, Field(description="Included.")]
    times: Annotated[
        dict[Weekday, Annotated[list[BodyTime], Field(max_length=24)]],
        Field(description="Local times of the venue, by weekday.", min_length=1),
    ]
    except_dates: Annotated[list[BodyDate], Field(default_factory=list, max_length=400)]


class SeriesShowsBody(RequestBody):
    """Shows for a series: by a pattern, by their instants, or both."""

    model_config = ConfigDict(
        json_schema_extra={
            **examples({"starts_at": ["2026-12-24T18:00:00Z"], "is_on_sale": True}),
            "anyOf": [{"required": ["pattern"]}, {"required": ["starts_at"]}],
        }
    )

    pattern: WeeklyPatternBody | None = None
    starts_at: Annotated[list[BodyInstant], Field(default_factory=list, max_length=SHOWS_MAX)]
    is_on_sale: Annotated[
        bool, Field(description="At once; otherwise they are drafts until they are published.")
    ] = False


class SeriesView(View):
    """A series."""

    model_config = ConfigDict(title="Series")

    series_id: Annotated[str, Field(pattern="^ser_", examples=[_EXAMPLE_ID])]
    title: str
    description: str
    venue_id: str | None
    plan_id: str | None
    duration_ms: int | None
    prices: PricesView | None
    policy: PolicyView | None
    version: Version
    created_at: Instant
    updated_at: Instant


class SeriesList(View):
    """One page of series, the newest first."""

    series: list[SeriesView]
    next: Next = None


class RefusedShowView(View):
    """A show that was not added."""

    model_config = ConfigDict(title="RefusedShow")

    starts_at: Annotated[str, Field(description="As it was asked for.")]
    reason: str


class SeriesShowsView(View):
    """What became of the shows that were asked for."""

    model_config = ConfigDict(title="SeriesShows")

    created: Annotated[int, Field(ge=0)]
    unchanged: Annotated[int, Field(ge=0, description="That were there already.")]
    show_ids: Annotated[list[str], Field(description="In the order of time.")]
    refused: list[RefusedShowView]


SERIES: TypeAdapter[SeriesBody] = TypeAdapter(SeriesBody)
CHANGED: TypeAdapter[SeriesChange] = TypeAdapter(SeriesChange)
SHOWS: TypeAdapter[SeriesShowsBody] = TypeAdapter(SeriesShowsBody)
PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)

MODELS = (
    SeriesBody,
    SeriesChange,
    WeeklyPatternBody,
    SeriesShowsBody,
    SeriesView,
    SeriesList,
    RefusedShowView,
    SeriesShowsView,
)

_SERIES = path("series_id", _EXAMPLE_ID)
_FOR = query_parameters(TenantQuery)
_ONE = {"description": "The series.", "model": SeriesView}

CREATE = Operation(
    "POST",
    "/series",
    status=201,
    tag="series",
    roles=ORGANISERS,
    summary="Add a series",
    responses={201: {**_ONE, "headers": REPLAYED_HEADER}, **problems(*CREATION)},
    extra={"parameters": [CREATION_KEY, *_FOR], "requestBody": body(SeriesBody)},
)
LIST = Operation(
    "GET",
    "/series",
    tag="series",
    roles=STAFF,
    summary="The series",
    responses={200: {"description": "One page.", "model": SeriesList}, **problems(*READING)},
    extra={"parameters": query_parameters(PageQuery)},
)
FIND = Operation(
    "GET",
    "/series/{series_id}",
    tag="series",
    roles=STAFF,
    summary="One series; its shows are in `GET /shows?series_id=`",
    responses={200: _ONE, **problems(*READING)},
    extra={"parameters": [_SERIES, *_FOR]},
)
UPDATE = Operation(
    "PATCH",
    "/series/{series_id}",
    tag="series",
    roles=ORGANISERS,
    summary="Change a series; shows that it has stay as they are",
    responses={200: _ONE, **problems(*outcomes.CHANGE)},
    extra={"parameters": [_SERIES, *_FOR], "requestBody": body(SeriesChange)},
)
ADD_SHOWS = Operation(
    "POST",
    "/series/{series_id}/shows",
    tag="series",
    roles=ORGANISERS,
    summary="Add shows to a series",
    description=(
        f"At most {SHOWS_MAX}. A show of the series that begins at the same instant is left as it "
        "is, so the request may be repeated."
    ),
    responses={
        200: {"description": "What became of them.", "model": SeriesShowsView},
        **problems(
            "malformed_json",
            "invalid_request",
            "unsupported_media_type",
            "not_done",
            "outcome_unknown",
        ),
    },
    extra={"parameters": [_SERIES, *_FOR], "requestBody": body(SeriesShowsBody)},
)


def view_of_series(row: SeriesRow, plan: SeatingPlan | None) -> dict[str, Any]:
    """A series as clients get it; ``plan`` is its own, if it has one."""
    draft = row.draft
    prices = None
    if draft.fares is not None and plan is not None:
        prices = view_of_fares(draft.fares, plan)
    return {
        "series_id": row.series_id,
        "title": draft.title,
        "description": draft.description,
        "venue_id": draft.venue_id,
        "plan_id": draft.plan_id,
        "duration_ms": draft.duration_ms,
        "prices": prices,
        "policy": None if draft.policy is None else view_of_policy(draft.policy),
        "version": row.version,
        "created_at": write_instant(row.created_at_ms),
        "updated_at": write_instant(row.updated_at_ms),
    }
