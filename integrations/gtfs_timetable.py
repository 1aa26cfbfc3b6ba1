"""What a feed runs between two days: routes, and a show for every run of every trip."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from integrations.gtfs_calls import TripFault, stops_of
from integrations.gtfs_feed import FeedRoute, FeedTrip, GtfsFeed, Progress
from reservation.fares import CategoryFare, FareTable
from reservation.ids import derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.route import Route
from reservation.show import Placement, SalesPolicy

DAYS_MAX = 400
"""Days of one import: a year and the weeks on sale in advance."""

_METRES_PER_KM = 1000


@dataclass(frozen=True, slots=True)
class FareRule:
    """The fare of one category of seats.

    Units:
        base_minor: minor units, once a ride.
        per_km_minor: minor units for each kilometre.
    """

    base_minor: int
    per_km_minor: Decimal | float

    def __post_init__(self) -> None:
        if self.base_minor < 0:
            raise ValueError("base_minor: negative")
        per_km = Decimal(str(self.per_km_minor))
        if not per_km.is_finite() or per_km < 0:
            raise ValueError("per_km_minor: negative or no number")


class TimetabledTrip(NamedTuple):
    """A trip that runs: its route, and the service days on which it starts."""

    source: str
    title: str
    venue: str
    route_name: str
    kind: ShowKind
    time_zone: ZoneInfo
    route: Route
    days: tuple[date, ...]


class Timetable:
    """The trips of a feed that run on at least one of the days asked for.

    Args:
        feed: its problems grow as trips are read.
        first_day, last_day: service days, both included.

    Raises:
        ValueError: the days are in the wrong order or more than ``DAYS_MAX``.
    """

    def __init__(self, feed: GtfsFeed, first_day: date, last_day: date) -> None:
        if last_day < first_day:
            raise ValueError(f"last day {last_day} is before first day {first_day}")
        if (last_day - first_day).days >= DAYS_MAX:
            raise ValueError(f"{first_day} to {last_day} is more than {DAYS_MAX} days")
        self._feed = feed
        days = {
            service_id: service.days(first_day, last_day)
            for service_id, service in feed.services.items()
        }
        self._days_of = {
            trip.trip_id: days[trip.service_id]
            for trip in feed.trips.values()
            if days[trip.service_id]
        }

    @property
    def run_count(self) -> int:
        """Runs between the two days, those of trips that turn out to be faulty included."""
        return sum(len(days) for days in self._days_of.values())

    def trips(self, progress: Progress | None = None) -> Iterator[TimetabledTrip]:
        """The trips, one after another. Faulty ones are noted in the feed and left out."""
        for trip, calls in self._feed.calls(self._days_of, progress):
            try:
                stops, slips = stops_of(calls, self._feed.stops)
                route = Route(stops)
            except TripFault as fault:
                file, line = "stop_times.txt", fault.line
                if not line:
                    file, line = "trips.txt", trip.line
                reason = f"trip {trip.trip_id}: {fault.reason}; the trip is left out"
                self._feed.problems.add(file, line, reason)
                continue
            except ValueError as error:
                reason = f"trip {trip.trip_id}: {error}; the trip is left out"
                self._feed.problems.add("stop_times.txt", calls[0].line, reason)
                continue
            for slip in slips:
                reason = f"trip {trip.trip_id}: {slip.reason}"
                self._feed.problems.add("stop_times.txt", slip.line, reason)
            yield self._timetabled(trip, route)

    def _timetabled(self, trip: FeedTrip, route: Route) -> TimetabledTrip:
        line = self._feed.routes[trip.route_id]
        first, last = route.stops[0].name, route.stops[-1].name
        # A colon in the first part would make two sources of one key; trip ids come last.
        agency = (line.agency.agency_id or line.agency.name).replace("%", "%25")
        return TimetabledTrip(
            source=f"gtfs:{agency.replace(':', '%3A')}:{trip.trip_id}",
            title=f"{_run_name(trip, last)} {first} - {last}",
            venue=line.agency.name or line.long_name,
            route_name=line.long_name or line.short_name or f"{first} - {last}",
            kind=kind_of(line),
            time_zone=line.agency.time_zone,
            route=route,
            days=self._days_of[trip.trip_id],
        )


def listings_of(
    trip: TimetabledTrip,
    *,
    plan_id: str,
    route_id: str,
    fares: FareTable,
    policy: SalesPolicy | None = None,
) -> Iterator[ShowListing]:
    """The shows of a trip, one for each of its days."""
    stops = trip.route.stops
    for day in trip.days:
        source_key = f"{trip.source}:{day.isoformat()}"
        service_day_at_ms = service_day_start_ms(day, trip.time_zone)
        yield ShowListing(
            show_id=derive_show_id(source_key),
            source_key=source_key,
            kind=trip.kind,
            title=trip.title,
            venue=trip.venue,
            starts_at_ms=service_day_at_ms + stops[0].departure_s * 1000,
            ends_at_ms=service_day_at_ms + stops[-1].arrival_s * 1000,
            service_day_at_ms=service_day_at_ms,
            time_zone=trip.time_zone.key,
            plan_id=plan_id,
            route_id=route_id,
            fares=fares,
            placement=Placement.POOLED,
            policy=policy or SalesPolicy(),
        )


def fares_of(route: Route, currency: str, rules: Sequence[FareRule]) -> FareTable:
    """The fares of a route, one entry per rule, with an amount for every leg.

    Amounts are rounded (half up) on the way from the first stop and not leg by leg, so a long
    ride is rounded once, legs add up to it, and no leg is below 0.

    Raises:
        ValueError: an amount is above what one booking may cost.
    """
    return FareTable(
        currency, tuple(CategoryFare(rule.base_minor, _legs_minor(route, rule)) for rule in rules)
    )


def _legs_minor(route: Route, rule: FareRule) -> tuple[int, ...]:
    per_km = Decimal(str(rule.per_km_minor))
    until = [
        int((per_km * stop.distance_m / _METRES_PER_KM).quantize(Decimal(1), ROUND_HALF_UP))
        for stop in route.stops
    ]
    return tuple(later - earlier for earlier, later in pairwise(until))


@lru_cache(maxsize=4096)
def service_day_start_ms(day: date, time_zone: ZoneInfo) -> int:
    """The instant from which a feed counts the times of this day: noon minus 12 hours.

    That is midnight, except on the two days a year on which the clocks change: there it is an
    hour off midnight, and every time after the change is what the clocks show.

    Units:
        Unix milliseconds, UTC.
    """
    noon = datetime.combine(day, time(12), tzinfo=time_zone).astimezone(UTC)
    start = noon - timedelta(hours=12)
    return int(start.timestamp()) * 1000


def kind_of(line: FeedRoute) -> ShowKind:
    """The kind of show that the runs of a route are.

    Source: the route types of GTFS and the extended ones of
    https://developers.google.com/transit/gtfs/reference/extended-route-types
    """
    if line.route_type == 2 or 100 <= line.route_type < 200:
        return ShowKind.TRAIN
    if line.route_type == 3 or 200 <= line.route_type < 300 or 700 <= line.route_type < 800:
        return ShowKind.BUS
    return ShowKind.OTHER_RUN


def _run_name(trip: FeedTrip, last_stop: str) -> str:
    """What the run is called in front of its ends."""
    name = trip.short_name
    if not name:
        return trip.trip_id
    # "1045 to Nawalapitiya" says already what follows; the id says which run it is.
    told = [where for where in (trip.headsign, last_stop) if where]
    return trip.trip_id if any(where in name for where in told) else name
