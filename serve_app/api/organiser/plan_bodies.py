"""Seating plans as organisers send and see them."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter

from persistence.plan_codec import plan_id_of
from persistence.venue_plans import PlanVersionRow, VenuePlanRow
from reservation.plan_document import read_plan
from reservation.plan_findings import PlanProblem
from reservation.seating_plan import SeatingPlan
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.fields import (
    ExpectedVersion,
    Name,
    Next,
    RequestBody,
    Version,
    View,
    examples,
)
from serve_app.api.problems import Problem, bad_field
from serve_app.catalogue.json_file import JsonFault, check_depth, storable

FINDINGS_SHOWN_MAX = 200
EXAMPLE_ID = "vpl_7k2m9p4qx0c1b5dn3fg8"

_Object = dict[str, Any]
Document = Annotated[
    _Object,
    Field(description="Seats in the JSON of pretix: `name`, `size`, `categories`, `zones`."),
]
Extras = Annotated[
    _Object | None,
    Field(description="What that format has no member for: traits, ranks, general admission."),
]
AcceptFindings = Annotated[
    bool,
    Field(description="Take the plan although something in it cannot be used, which is left out."),
]
_DOCUMENT = {
    "name": "Small stage",
    "size": {"width": 400, "height": 300},
    "categories": [{"name": "Stalls", "color": "#7f4fc9"}],
    "zones": [
        {
            "name": "Stalls",
            "position": {"x": 0, "y": 100},
            "rows": [
                {
                    "row_number": "A",
                    "position": {"x": 0, "y": 0},
                    "seats": [
                        {
                            "seat_guid": "A-1",
                            "seat_number": "1",
                            "category": "Stalls",
                            "position": {"x": 0, "y": 0},
                        }
                    ],
                }
            ],
        }
    ],
}


class PlanBody(RequestBody):
    """A new seating plan."""

    model_config = ConfigDict(
        title="SeatingPlanBody",
        json_schema_extra=examples({"name": "Small stage", "document": _DOCUMENT}),
    )

    name: Name
    venue_id: Annotated[str | None, Field(max_length=40)] = None
    document: Document
    extras: Extras = None
    accept_findings: AcceptFindings = False


class PlanVersionBody(RequestBody):
    """Another version of a seating plan."""

    model_config = ConfigDict(
        title="SeatingPlanVersionBody",
        json_schema_extra=examples({"document": _DOCUMENT}),
    )

    document: Document
    extras: Extras = None
    accept_findings: AcceptFindings = False
    version: ExpectedVersion = None


class PlanChange(RequestBody):
    """What is to change; whatever is absent stays."""

    model_config = ConfigDict(title="SeatingPlanChange")

    name: Name | None = None
    venue_id: Annotated[
        str | None, Field(max_length=40, description="null: of no venue in particular.")
    ] = None
    version: ExpectedVersion = None


class FindingView(View):
    """Something in a plan that cannot be used as it stands."""

    model_config = ConfigDict(title="PlanFinding")

    path: Annotated[str, Field(examples=["zones[0].rows[3].seats[12].category"])]
    reason: str


class PlanView(View):
    """A seating plan, with its newest version."""

    model_config = ConfigDict(title="OrganiserSeatingPlan")

    seating_plan_id: Annotated[str, Field(pattern="^vpl_", examples=[EXAMPLE_ID])]
    name: str
    venue_id: str | None
    newest: Annotated[int, Field(ge=1, description="Number of the newest version.")]
    plan_id: Annotated[str, Field(pattern="^pln_", description="Content of the newest version.")]
    version: Version
    created_at: Instant
    updated_at: Instant
    findings: Annotated[
        list[FindingView] | None, Field(description="What was left out of the version sent.")
    ] = None


class PlanList(View):
    """One page of seating plans, the newest first."""

    model_config = ConfigDict(title="OrganiserSeatingPlanList")

    seating_plans: list[PlanView]
    next: Next = None


class PlanVersionView(View):
    """One version of a seating plan. It never changes."""

    model_config = ConfigDict(title="SeatingPlanVersion")

    number: Annotated[int, Field(ge=1)]
    plan_id: Annotated[str, Field(pattern="^pln_")]
    seat_count: Annotated[int, Field(ge=0)]
    category_count: Annotated[int, Field(ge=0)]
    created_by: Annotated[str, Field(description="The account.")]
    created_at: Instant


class PlanVersionList(View):
    """One page of versions, the newest first."""

    model_config = ConfigDict(title="SeatingPlanVersionList")

    versions: list[PlanVersionView]
    next: Next = None


class PlanVersionDocument(PlanVersionView):
    """One version with its drawing."""

    model_config = ConfigDict(title="SeatingPlanVersionDocument")

    document: _Object
    extras: _Object


PLAN: TypeAdapter[PlanBody] = TypeAdapter(PlanBody)
PLAN_VERSION: TypeAdapter[PlanVersionBody] = TypeAdapter(PlanVersionBody)
PLAN_CHANGE: TypeAdapter[PlanChange] = TypeAdapter(PlanChange)

MODELS = (
    PlanBody,
    PlanVersionBody,
    PlanChange,
    FindingView,
    PlanView,
    PlanList,
    PlanVersionView,
    PlanVersionList,
    PlanVersionDocument,
)


class ReadPlan(NamedTuple):
    """A plan that somebody sent, with the documents that are kept beside it."""

    plan_id: str
    plan: SeatingPlan
    document: _Object
    extras: _Object
    findings: tuple[PlanProblem, ...]


def read_sent_plan(sent: PlanBody | PlanVersionBody) -> ReadPlan:
    """The plan of a request. Takes a second for a large house: not for the event loop.

    Raises:
        Problem: ``plan_not_accepted`` with the findings: there is no plan in the document, or
            something in it cannot be used and ``accept_findings`` was not given;
            ``invalid_request`` for what is nested too deeply.
    """
    for field, value in (("document", sent.document), ("extras", sent.extras)):
        try:
            check_depth(value)
        except JsonFault as fault:
            raise bad_field(field, fault.reason) from None
    reading = read_plan(sent.document, sent.extras)
    if reading.plan is None or (reading.problems and not sent.accept_findings):
        raise plan_not_accepted(reading.problems)
    document, extras = storable(sent.document), storable(sent.extras or {})
    assert isinstance(document, dict)
    assert isinstance(extras, dict)
    return ReadPlan(plan_id_of(reading.plan), reading.plan, document, extras, reading.problems)


def views_of_findings(findings: tuple[PlanProblem, ...]) -> list[dict[str, str]]:
    """Findings as clients get them, the first two hundred."""
    return [{"path": path, "reason": reason} for path, reason in findings[:FINDINGS_SHOWN_MAX]]


def view_of_plan(row: VenuePlanRow) -> dict[str, Any]:
    """A seating plan as clients get it."""
    return {
        "seating_plan_id": row.venue_plan_id,
        "name": row.name,
        "venue_id": row.venue_id,
        "newest": row.version_count,
        "plan_id": row.plan_id,
        "version": row.version,
        "created_at": write_instant(row.created_at_ms),
        "updated_at": write_instant(row.updated_at_ms),
    }


def view_of_version(row: PlanVersionRow) -> dict[str, Any]:
    """A version as clients get it."""
    return {
        "number": row.number,
        "plan_id": row.plan_id,
        "seat_count": row.seat_count,
        "category_count": row.category_count,
        "created_by": row.created_by,
        "created_at": write_instant(row.created_at_ms),
    }


def plan_not_accepted(findings: tuple[PlanProblem, ...], prefix: str = "document") -> Problem:
    """The problem of a plan with these findings; ``prefix`` is where in the request it stood."""
    shown = [
        {"field": ".".join(part for part in (prefix, path) if part) or "plan", "reason": reason}
        for path, reason in findings[:FINDINGS_SHOWN_MAX]
    ]
    count = len(findings)
    detail = f"{count:,} finding{'' if count == 1 else 's'}; the first ones are listed."
    return Problem("plan_not_accepted", detail, members={"errors": shown, "finding_count": count})
