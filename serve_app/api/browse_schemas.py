"""What the browse application is asked (checked) and what it gives (described)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from reservation.listing import ShowKind
from reservation.show import OrphanRule
from serve_app.api.instants import Instant
from serve_app.api.query_fields import CursorText, DateMs, Flag, InstantMs, Limit

SEARCH_LENGTH_MAX = 300

Kind = Literal["performance", "train", "bus", "other_run"]
StopCode = Annotated[str, Field(max_length=SEARCH_LENGTH_MAX)]
AmountMinor = Annotated[int, Field(ge=0, description="In minor units of `currency`.")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217.")]

assert {kind.value for kind in ShowKind} == {"performance", "train", "bus", "other_run"}
assert {rule.value for rule in OrphanRule} == {"strict", "lenient", "off"}


class _Query(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _View(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ShowsQuery(_Query):
    """What to search for. Everything that is given must hold."""

    q: Annotated[
        str | None,
        Field(
            max_length=SEARCH_LENGTH_MAX,
            description="Words; each begins a word of title or venue. Case and accents are alike.",
        ),
    ] = None
    kind: Kind | None = None
    from_: Annotated[
        StopCode | None, Field(alias="from", description="Code or name of the stop of boarding.")
    ] = None
    to: Annotated[StopCode | None, Field(description="Code or name of the stop of alighting.")] = (
        None
    )
    date: Annotated[
        DateMs | None,
        Field(
            description=(
                "This day in UTC. Shows are in many time zones; for a local day give "
                "`starts_from` and `starts_before` with its offset."
            )
        ),
    ] = None
    starts_from: Annotated[
        InstantMs | None,
        Field(description="Departing or starting at this instant or later; now when absent."),
    ] = None
    starts_before: Annotated[
        InstantMs | None, Field(description="Departing or starting before this instant.")
    ] = None
    limit: Limit = 20
    cursor: CursorText | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> ShowsQuery:
        if self.date is not None and (self.starts_from, self.starts_before) != (None, None):
            raise PydanticCustomError(
                "two_bounds", "give date, or starts_from and starts_before, not both"
            )
        return self


class SegmentQuery(_Query):
    """Which part of a run."""

    from_: Annotated[
        StopCode | None, Field(alias="from", description="Stop of boarding; the first if absent.")
    ] = None
    to: Annotated[StopCode | None, Field(description="Stop of alighting; the last if absent.")] = (
        None
    )


class SeatMapQuery(SegmentQuery):
    """Which part of a run, and in which form."""

    labels: Annotated[Flag, Field(description="Whether to list what every seat is called.")] = True


class StopsQuery(_Query):
    """What was typed into a search box."""

    q: Annotated[
        str,
        Field(
            max_length=SEARCH_LENGTH_MAX,
            description="Each word begins a word of the stop's name; or a stop's code.",
        ),
    ]
    limit: Limit = 20


class RideView(_View):
    """The part of a run between the stops that were searched for."""

    model_config = ConfigDict(title="Ride")

    from_: Annotated[str, Field(alias="from", description="Code, for `from` elsewhere.")]
    from_name: str
    departs_at: Instant
    to: Annotated[str, Field(description="Code, for `to` elsewhere.")]
    to_name: str
    arrives_at: Instant


class FoundShow(_View):
    """One show that was found."""

    show_id: Annotated[str, Field(pattern="^shw_", examples=["shw_7k2m9p4qx0c1b5dn"])]
    kind: Kind
    title: str
    venue: str
    starts_at: Instant
    ends_at: Instant
    time_zone: Annotated[str, Field(examples=["Europe/Prague"])]
    currency: Currency
    amount_from_minor: Annotated[
        int | None, Field(ge=0, description="The lowest fare of the ride, or of the whole show.")
    ] = None
    ride: RideView | None = None


class ShowPage(_View):
    """One page of shows, in the order of departure or start."""

    shows: list[FoundShow]
    next: Annotated[
        str | None, Field(description="`cursor` of the next page; absent on the last one.")
    ] = None


class StopView(_View):
    """A call of a run."""

    model_config = ConfigDict(title="Stop")

    code: str
    name: str
    arrival_at: Instant
    departure_at: Instant
    distance_m: Annotated[int, Field(description="Metres from the first stop.")]
    latitude: float | None = None
    longitude: float | None = None


class CategoryView(_View):
    """A price class and its fare for the segment."""

    model_config = ConfigDict(title="Category")

    name: str
    color: Annotated[str | None, Field(description="Of the drawing, when it has one.")] = None
    amount_minor: AmountMinor


class TierView(_View):
    """General admission: unnumbered places."""

    model_config = ConfigDict(title="AdmissionTier")

    tier: str
    name: str
    category: str
    capacity: int
    amount_minor: AmountMinor


class PolicyView(_View):
    """How the show is sold."""

    model_config = ConfigDict(title="SalesPolicy")

    hold_ttl_ms: int
    hold_life_ms_max: Annotated[int, Field(description="Extensions included.")]
    seats_per_hold_max: int
    live_holds_per_customer_max: int
    seats_per_customer_max: int
    orphan_rule: Literal["strict", "lenient", "off"]
    on_sale_from: Instant | None = None
    on_sale_until: Instant | None = None


class ShowDetail(_View):
    """A show, and what it costs on the segment."""

    show_id: str
    kind: Kind
    title: str
    venue: str
    starts_at: Instant
    ends_at: Instant
    time_zone: str
    plan_id: str
    seat_count: int
    from_: Annotated[
        str | None, Field(alias="from", description="Segment of the fares; absent without stops.")
    ] = None
    to: str | None = None
    stops: list[StopView]
    currency: Currency
    categories: list[CategoryView]
    admission_tiers: list[TierView]
    policy: PolicyView


class SeatingPlanView(_View):
    """The drawing of a hall or a vehicle, as it was imported."""

    model_config = ConfigDict(title="SeatingPlan")

    plan_id: str
    document: Annotated[dict[str, object], Field(description="Seating-plan JSON of pretix.")]
    extras: Annotated[dict[str, object], Field(description="What that format has no member for.")]


class SeatCounts(_View):
    """How many seats are in each state; together all seats of the plan as it is drawn now."""

    free: int
    held: int
    booked: int
    blocked: int


class SeatRowView(_View):
    """One row; its seats have consecutive indexes unless ``seat_indexes`` is there."""

    model_config = ConfigDict(title="SeatRow")

    name: str
    first_seat_index: int
    seat_indexes: Annotated[
        list[int] | None,
        Field(description="Of a row whose seats were changed after the sale had begun."),
    ] = None
    labels: Annotated[
        list[str] | None, Field(description="What the seats are called; absent if not asked for.")
    ] = None
    status: Annotated[str, Field(pattern="^[fhbx]*$", examples=["fffhbx"])]


class SectionView(_View):
    """Rows that belong together."""

    model_config = ConfigDict(title="Section")

    name: str
    rows: list[SeatRowView]


class TierRoom(_View):
    """What is left of a general-admission tier on the segment."""

    tier: str
    name: str
    capacity: int
    free: int


class SeatMapView(_View):
    """Which seats are free on the segment: one letter per seat, the worst over its legs."""

    model_config = ConfigDict(title="SeatMap")

    show_id: str
    plan_id: Annotated[str, Field(description="Rows and labels are the same while this is.")]
    version: Annotated[int, Field(ge=0, description="Rises with every change of the show.")]
    from_: Annotated[str | None, Field(alias="from")] = None
    to: str | None = None
    counts: SeatCounts
    legend: dict[str, str]
    sections: list[SectionView]
    admissions: list[TierRoom]


class StopMatchView(_View):
    """A stop, for a search box."""

    model_config = ConfigDict(title="StopMatch")

    code: str
    name: str


class StopList(_View):
    """Stops that match, the best first."""

    stops: list[StopMatchView]
