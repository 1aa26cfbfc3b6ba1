"""Imports of timetables as organisers send and see them, and their addresses."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from integrations.gtfs_timetable import DAYS_MAX, FareRule
from persistence.import_jobs import ImportJobRow
from reservation.limits import AMOUNT_MINOR_MAX
from serve_app.api.api_document import Operation, body, path, problems
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.acting import ORGANISERS
from serve_app.api.organiser.fields import (
    BodyDate,
    Currency,
    Line,
    Next,
    PageQuery,
    RequestBody,
    TenantQuery,
    Version,
    View,
    examples,
)
from serve_app.api.organiser.outcomes import CREATION, CREATION_KEY, READING, REPLAYED_HEADER
from serve_app.api.organiser.show_bodies import PlanChoice, Policy
from serve_app.api.problems import bad_field
from serve_app.api.query_models import query_parameters

ARCHIVE_BYTES_MAX = 32 * 1024 * 1024
ARCHIVE_DEADLINE_MS = 120_000

_EXAMPLE_ID = "imp_7k2m9p4qx0c1b5dn3fg8"
_PerKm = Annotated[
    str,
    Field(
        pattern=r"^[0-9]{1,9}(\.[0-9]{1,6})?$",
        description="Minor units for each kilometre; a decimal number as text.",
        examples=["12.5"],
    ),
]


class RideFareBody(RequestBody):
    """What a ride costs."""

    model_config = ConfigDict(title="RideFare")

    base_minor: Annotated[int, Field(ge=0, le=AMOUNT_MINOR_MAX, description="Once a ride.")] = 0
    per_km_minor: _PerKm = "0"


class RideFaresBody(RideFareBody):
    """What rides cost in every category, and in the ones that are named here."""

    model_config = ConfigDict(title="RideFares")

    currency: Currency
    categories: Annotated[dict[str, RideFareBody], Field(default_factory=dict, max_length=1_000)]


class TimetableImportBody(PlanChoice):
    """What to make of a timetable."""

    model_config = ConfigDict(
        json_schema_extra=examples(
            {
                "from_date": "2026-12-01",
                "to_date": "2026-12-31",
                "seating_plan_id": "vpl_7k2m9p4qx0c1b5dn3fg8",
                "fares": {"currency": "CZK", "base_minor": 2000, "per_km_minor": "120"},
            }
        )
    )

    from_date: BodyDate
    to_date: Annotated[BodyDate, Field(description=f"Included; at most {DAYS_MAX} days.")]
    fares: RideFaresBody
    policy: Policy = Policy()
    is_on_sale: Annotated[bool, Field(description="At once; otherwise the runs are drafts.")] = True
    file_name: Annotated[Line, Field(description="For people.")] = ""


class ImportProblemView(View):
    """One thing that is wrong with the files."""

    model_config = ConfigDict(title="ImportProblem")

    file: str
    place: Annotated[str, Field(examples=["line 17"])]
    reason: str


class ImportProgressView(View):
    """How far an import is, in the unit of its stage: bytes of a file, or runs."""

    model_config = ConfigDict(title="ImportProgress")

    stage: Annotated[str, Field(examples=["stop_times.txt", "shows"])]
    done: Annotated[int, Field(ge=0)]
    total: Annotated[int, Field(ge=0)]


class TimetableImportView(View):
    """An import of a timetable."""

    model_config = ConfigDict(title="TimetableImport")

    timetable_import_id: Annotated[str, Field(pattern="^imp_", examples=[_EXAMPLE_ID])]
    state: Literal["uploading", "queued", "running", "done", "failed", "cancelled"]
    file_name: str
    archive_bytes: Annotated[int, Field(ge=0)]
    progress: ImportProgressView
    attempt: Annotated[int, Field(ge=0, description="Rises when a process died over it.")]
    created: Annotated[int, Field(ge=0, description="Runs that are new.")]
    updated: Annotated[int, Field(ge=0)]
    unchanged: Annotated[int, Field(ge=0)]
    problem_count: Annotated[int, Field(ge=0)]
    problems: Annotated[
        list[ImportProblemView] | None, Field(description="The first thousand; not in lists.")
    ] = None
    failure: Annotated[str, Field(description="Why it failed; otherwise empty.")]
    version: Version
    created_at: Instant
    updated_at: Instant
    finished_at: Instant | None


class TimetableImportList(View):
    """One page of imports, the newest first."""

    timetable_imports: list[TimetableImportView]
    next: Next = None


IMPORT: TypeAdapter[TimetableImportBody] = TypeAdapter(TimetableImportBody)
PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)

MODELS = (
    RideFareBody,
    RideFaresBody,
    TimetableImportBody,
    ImportProblemView,
    ImportProgressView,
    TimetableImportView,
    TimetableImportList,
)

_IMPORT = path("timetable_import_id", _EXAMPLE_ID)
_FOR = query_parameters(TenantQuery)
_ONE = {"description": "The import.", "model": TimetableImportView}

CREATE = Operation(
    "POST",
    "/timetable-imports",
    status=201,
    tag="timetables",
    roles=ORGANISERS,
    summary="Begin an import of a timetable",
    description="It waits for its archive then.",
    responses={201: {**_ONE, "headers": REPLAYED_HEADER}, **problems(*CREATION)},
    extra={"parameters": [CREATION_KEY, *_FOR], "requestBody": body(TimetableImportBody)},
)
UPLOAD = Operation(
    "POST",
    "/timetable-imports/{timetable_import_id}/archive",
    status=202,
    tag="timetables",
    roles=ORGANISERS,
    summary="Send the timetable, a GTFS feed as a zip archive",
    description=(
        f"At most {ARCHIVE_BYTES_MAX // 1024**2} MiB. It is imported in the background then. "
        "An upload that broke off is sent again from its beginning."
    ),
    responses={
        202: {**_ONE, "headers": REPLAYED_HEADER},
        **problems(
            "invalid_request",
            "unsupported_media_type",
            "archive_not_accepted",
            "import_is_over",
            "overloaded",
            "not_done",
            "outcome_unknown",
        ),
    },
    extra={
        "parameters": [_IMPORT, *_FOR],
        "requestBody": {
            "required": True,
            "content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}},
        },
    },
)
LIST = Operation(
    "GET",
    "/timetable-imports",
    tag="timetables",
    roles=ORGANISERS,
    summary="The imports of timetables",
    responses={
        200: {"description": "One page.", "model": TimetableImportList},
        **problems(*READING),
    },
    extra={"parameters": query_parameters(PageQuery)},
)
FIND = Operation(
    "GET",
    "/timetable-imports/{timetable_import_id}",
    tag="timetables",
    roles=ORGANISERS,
    summary="One import: how far it is, and what is wrong with the files",
    responses={200: _ONE, **problems(*READING)},
    extra={"parameters": [_IMPORT, *_FOR]},
)
CANCEL = Operation(
    "POST",
    "/timetable-imports/{timetable_import_id}/cancel",
    tag="timetables",
    roles=ORGANISERS,
    summary="Stop an import",
    description="What it has imported stays.",
    responses={
        200: {**_ONE, "headers": REPLAYED_HEADER},
        **problems(
            "malformed_json",
            "invalid_request",
            "unsupported_media_type",
            "import_is_over",
            "not_done",
            "outcome_unknown",
        ),
    },
    extra={"parameters": [_IMPORT, *_FOR]},
)


def fare_rule_of(sent: RideFareBody, field: str) -> FareRule:
    """The rule that the body describes.

    Raises:
        Problem: ``invalid_request``.
    """
    try:
        return FareRule(sent.base_minor, Decimal(sent.per_km_minor))
    except ValueError as error:
        member, _, reason = str(error).partition(": ")
        raise bad_field(f"{field}.{member}", reason) from None


def view_of_import(row: ImportJobRow, *, with_problems: bool) -> dict[str, Any]:
    """An import as clients get it."""
    view: dict[str, Any] = {
        "timetable_import_id": row.import_job_id,
        "state": row.state.value,
        "file_name": row.file_name,
        "archive_bytes": row.archive_bytes,
        "progress": {"stage": row.stage, "done": row.done, "total": row.total},
        "attempt": row.attempt,
        "created": row.counts.created,
        "updated": row.counts.updated,
        "unchanged": row.counts.unchanged,
        "problem_count": row.problem_count,
        "failure": row.failure,
        "version": row.version,
        "created_at": write_instant(row.created_at_ms),
        "updated_at": write_instant(row.updated_at_ms),
        "finished_at": None if row.finished_at_ms is None else write_instant(row.finished_at_ms),
    }
    if with_problems:
        view["problems"] = [problem._asdict() for problem in row.problems]
    return view
