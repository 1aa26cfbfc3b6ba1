"""A show as the catalogue lists it: what people search for, and what the show is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from reservation.access import HOUSE_TENANT
from reservation.fares import FareTable
from reservation.ids import ShowId, TenantId
from reservation.organiser_ids import SeriesId, VenueId
from reservation.show import Placement, SalesPolicy, ShowState


class ShowKind(StrEnum):
    """What kind of thing a show is, for people who search."""

    PERFORMANCE = "performance"  #: Theatre, concert, match: a venue and a starting time.
    TRAIN = "train"  #: One run of a train.
    BUS = "bus"  #: One run of a bus or coach.
    OTHER_RUN = "other_run"  #: Ferries, trams and whatever else has stops.


@dataclass(frozen=True, slots=True)
class ShowListing:
    """One show of the catalogue.

    ``source_key`` is where it came from (``gtfs:CR:1045:2026-12-01``); importing the same
    source again finds the same show. ``plan_id`` and ``route_id`` name immutable content.
    ``tenant_id`` is whose show it is; ``series_id`` and ``venue_id``, when there are any, are
    of the same tenant, and ``venue`` is what people read whatever ``venue_id`` says.

    Units:
        starts_at_ms, ends_at_ms: Unix milliseconds, UTC; for a run the first departure and
            the last arrival.
        service_day_at_ms: the instant that the route's ``arrival_s`` and ``departure_s``
            count from; equal to ``starts_at_ms`` for a show without stops.
    """

    show_id: ShowId
    source_key: str
    kind: ShowKind
    title: str
    venue: str
    starts_at_ms: int
    ends_at_ms: int
    service_day_at_ms: int
    time_zone: str
    plan_id: str
    route_id: str | None
    fares: FareTable
    placement: Placement
    policy: SalesPolicy = field(default_factory=SalesPolicy)
    tenant_id: TenantId = HOUSE_TENANT
    status: ShowState = ShowState.ON_SALE
    description: str = ""
    series_id: SeriesId | None = None
    venue_id: VenueId | None = None
