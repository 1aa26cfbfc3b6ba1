"""A GTFS feed: who runs what, where it calls and on which days.

Small tables are held in memory; ``stop_times.txt`` is read when asked for, for the wanted
trips only, and held in 28 bytes a call. A row that cannot be used is noted in ``problems``
and left out; what refers to it is noted too. ``UnusableFeed`` is raised when a needed file or
column is missing.

Source: the GTFS Schedule reference, https://gtfs.org/documentation/schedule/reference/
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from integrations.gtfs_archive import (
    FeedFiles,
    FeedProblem,
    FeedProblems,
    Progress,
    UnusableFeed,
    unusable,
)

__all__ = [
    "Agency",
    "Call",
    "FeedProblem",
    "FeedRoute",
    "FeedService",
    "FeedStop",
    "FeedTrip",
    "GtfsFeed",
    "Progress",
    "UnusableFeed",
    "read_feed",
]

ID_LENGTH_MAX = 90
"""Characters of an id: a stop's becomes its code, with a mark behind it when called at twice."""

NAME_LENGTH_MAX = 150
"""Characters of a name; longer ones are cut, and two of them make a title."""

_TIME = re.compile(r"(\d{1,3}):([0-5]\d):([0-5]\d)")
_DATE = re.compile(r"\d{8}")
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CALL = struct.Struct("<iiiiid")
_INT32_MAX = 2**31 - 1
_NO_TIME = -1
_STOP_TIMES = "stop_times.txt"
_CALL_REQUIRED = ("trip_id", "stop_id", "stop_sequence")
_CALL_OPTIONAL = (
    "arrival_time",
    "departure_time",
    "shape_dist_traveled",
    "pickup_type",
    "drop_off_type",
)
_NEITHER_ON_NOR_OFF = ("1", "1")


class Agency(NamedTuple):
    """Who runs a route."""

    agency_id: str
    name: str
    time_zone: ZoneInfo


class FeedStop(NamedTuple):
    """A place where vehicles call. Coordinates are None when the feed has no usable ones."""

    stop_id: str
    name: str
    latitude: float | None
    longitude: float | None


class FeedRoute(NamedTuple):
    """A line. ``route_type`` is GTFS's number for the kind of vehicle, -1 when unknown."""

    route_id: str
    agency: Agency
    short_name: str
    long_name: str
    route_type: int


class FeedTrip(NamedTuple):
    """One run of a vehicle, on every day of its service. ``line`` is where trips.txt has it."""

    trip_id: str
    route_id: str
    service_id: str
    headsign: str
    short_name: str
    line: int


class Call(NamedTuple):
    """One call of a trip at a stop, as stop_times.txt has it.

    Units:
        arrival_s, departure_s: seconds of the service day; both None when not given.
        distance: along the trip's shape, in whatever unit the feed uses; None when not given.
    """

    line: int
    sequence: int
    stop_id: str
    arrival_s: int | None
    departure_s: int | None
    distance: float | None


@dataclass(slots=True)
class FeedService:
    """The days on which trips run: a weekly pattern, and days added to it or taken out."""

    weekdays: tuple[bool, ...] = (False,) * 7
    first_day: date = date.max
    last_day: date = date.min
    added: set[date] = field(default_factory=set)
    removed: set[date] = field(default_factory=set)

    def days(self, first_day: date, last_day: date) -> tuple[date, ...]:
        """The days from ``first_day`` to ``last_day``, both included, on which it runs."""
        span = (last_day - first_day).days + 1
        every = (first_day + timedelta(days=offset) for offset in range(span))
        return tuple(day for day in every if self.runs_on(day))

    def runs_on(self, day: date) -> bool:
        """Whether trips of this service begin on this service day."""
        if day in self.removed:
            return False
        weekly = self.first_day <= day <= self.last_day and self.weekdays[day.weekday()]
        return weekly or day in self.added


class GtfsFeed:
    """The tables of a feed that fit into memory, and access to the one that may not."""

    def __init__(self, files: FeedFiles) -> None:
        self._files = files
        self._set_aside: set[str] = set()
        self.agencies: dict[str, Agency] = {}
        self.stops: dict[str, FeedStop] = {}
        self.routes: dict[str, FeedRoute] = {}
        self.services: dict[str, FeedService] = {}
        self.trips: dict[str, FeedTrip] = {}

    @property
    def problems(self) -> FeedProblems:
        """What is wrong with the feed, as far as it was read."""
        return self._files.problems

    def load(self, progress: Progress | None = None) -> None:
        """Read every table but stop_times.txt. Called once, by ``read_feed``."""
        if _STOP_TIMES not in self._files:
            raise unusable(_STOP_TIMES, "missing")
        self._load_agencies()
        self._load_stops(progress)
        self._load_routes()
        self._load_services(progress)
        self._load_trips(progress)
        self._note_frequencies()

    def calls(
        self, wanted: Collection[str], progress: Progress | None = None
    ) -> Iterator[tuple[FeedTrip, list[Call]]]:
        """The wanted trips in the order of trips.txt, each with its calls by stop_sequence.

        A trip without any usable call has an empty list. Calls where nobody may get on or
        off are left out: they are no stops for passengers.
        """
        stop_ids = list(self.stops)
        packed = self._pack_calls(wanted, {s: n for n, s in enumerate(stop_ids)}, progress)
        for trip_id in [trip_id for trip_id in self.trips if trip_id in wanted]:
            calls: list[Call] = []
            # Sorting by (sequence, line) keeps the first of two rows with one sequence.
            rows = sorted(_CALL.iter_unpack(packed.pop(trip_id, b"")))
            for sequence, line, stop, arrival_s, departure_s, distance in rows:
                if calls and calls[-1].sequence == sequence:
                    reason = f"stop_sequence {sequence} is there twice in trip {trip_id}; left out"
                    self.problems.add(_STOP_TIMES, line, reason)
                    continue
                calls.append(
                    Call(
                        line,
                        sequence,
                        stop_ids[stop],
                        None if arrival_s == _NO_TIME else arrival_s,
                        None if departure_s == _NO_TIME else departure_s,
                        None if math.isnan(distance) else distance,
                    )
                )
            yield self.trips[trip_id], calls

    def _pack_calls(
        self, wanted: Collection[str], stop_number: dict[str, int], progress: Progress | None
    ) -> dict[str, bytearray]:
        packed: dict[str, bytearray] = {}
        rows = self._files.rows(_STOP_TIMES, _CALL_REQUIRED, _CALL_OPTIONAL, progress)
        for line, values in rows:
            trip_id = values[0]
            if trip_id not in self.trips:
                if trip_id not in self._set_aside:
                    reason = f"trip_id {trip_id[:100]!r} is not in trips.txt"
                    self.problems.add(_STOP_TIMES, line, reason)
            elif trip_id in wanted:
                try:
                    call = _pack_call(line, values, stop_number)
                except _BadCall as bad:
                    self.problems.add(_STOP_TIMES, line, f"{bad}; left out")
                    continue
                if call is not None:
                    packed.setdefault(trip_id, bytearray()).extend(call)
        return packed

    def _load_agencies(self) -> None:
        name = "agency.txt"
        columns = ("agency_name", "agency_timezone")
        for line, (agency_name, zone_name, agency_id) in self._files.rows(
            name, columns, ("agency_id",)
        ):
            zone = _time_zone(zone_name)
            if zone is None:
                reason = f"agency_timezone {zone_name[:60]!r} is not a time zone; left out"
                self.problems.add(name, line, reason)
            elif self._is_usable(name, line, "agency_id", agency_id, self.agencies):
                self.agencies[agency_id] = Agency(agency_id, self._cut(agency_name), zone)
        if not self.agencies:
            first = self.problems.kept[-1:] or [FeedProblem(name, 0, "no agency")]
            raise UnusableFeed(first)

    def _load_stops(self, progress: Progress | None) -> None:
        name = "stops.txt"
        optional = ("stop_name", "stop_lat", "stop_lon", "location_type")
        for line, values in self._files.rows(name, ("stop_id",), optional, progress):
            stop_id, stop_name, latitude_text, longitude_text, location_type = values
            if location_type not in ("", "0"):
                # Stations, entrances and the nodes between them: nobody boards there.
                continue
            if not self._is_usable(name, line, "stop_id", stop_id, self.stops):
                continue
            latitude = _finite(latitude_text, 90)
            longitude = _finite(longitude_text, 180)
            if latitude is None or longitude is None:
                if latitude_text or longitude_text:
                    place = f"{latitude_text[:30]!r}, {longitude_text[:30]!r}"
                    self.problems.add(name, line, f"{place} is no place on Earth; ignored")
                latitude = longitude = None
            elif latitude == longitude == 0:
                # Programs write 0, 0 for "unknown"; the real place is in the open sea.
                latitude = longitude = None
            self.stops[stop_id] = FeedStop(
                stop_id, self._cut(stop_name or stop_id), latitude, longitude
            )

    def _load_routes(self) -> None:
        name = "routes.txt"
        optional = ("agency_id", "route_short_name", "route_long_name", "route_type")
        only_agency = next(iter(self.agencies.values())) if len(self.agencies) == 1 else None
        for line, values in self._files.rows(name, ("route_id",), optional):
            route_id, agency_id, short_name, long_name, type_text = values
            agency = self.agencies.get(agency_id) if agency_id else only_agency
            if agency is None:
                reason = f"agency_id {agency_id[:100]!r} is not in agency.txt; left out"
                self.problems.add(name, line, reason)
                continue
            if not self._is_usable(name, line, "route_id", route_id, self.routes):
                continue
            route_type = _whole_number(type_text)
            if route_type is None:
                reason = f"route_type {type_text[:40]!r} is not a number; taken as unknown"
                self.problems.add(name, line, reason)
                route_type = -1
            self.routes[route_id] = FeedRoute(
                route_id, agency, self._cut(short_name), self._cut(long_name), route_type
            )

    def _load_services(self, progress: Progress | None) -> None:
        if "calendar.txt" not in self._files and "calendar_dates.txt" not in self._files:
            raise unusable("calendar.txt", "missing, and calendar_dates.txt too")
        if "calendar.txt" in self._files:
            self._load_calendar(progress)
        if "calendar_dates.txt" in self._files:
            self._load_calendar_dates(progress)

    def _load_calendar(self, progress: Progress | None) -> None:
        name = "calendar.txt"
        columns = ("service_id", "start_date", "end_date", *_WEEKDAYS)
        for line, (service_id, start, end, *flags) in self._files.rows(name, columns, (), progress):
            first_day, last_day = _date(start), _date(end)
            if first_day is None or last_day is None:
                column, text = ("start_date", start) if first_day is None else ("end_date", end)
                reason = f"{column} {text[:40]!r} is not a date YYYYMMDD; left out"
                self.problems.add(name, line, reason)
            elif any(flag not in ("0", "1") for flag in flags):
                self.problems.add(name, line, "a weekday is neither 0 nor 1; left out")
            elif last_day < first_day:
                self.problems.add(name, line, "end_date is before start_date; left out")
            elif self._is_usable(name, line, "service_id", service_id, self.services):
                weekdays = tuple(flag == "1" for flag in flags)
                self.services[service_id] = FeedService(weekdays, first_day, last_day)

    def _load_calendar_dates(self, progress: Progress | None) -> None:
        name = "calendar_dates.txt"
        columns = ("service_id", "date", "exception_type")
        for line, (service_id, text, kind) in self._files.rows(name, columns, (), progress):
            day = _date(text)
            if day is None:
                reason = f"date {text[:40]!r} is not a date YYYYMMDD; left out"
                self.problems.add(name, line, reason)
                continue
            if kind not in ("1", "2"):
                reason = f"exception_type {kind[:40]!r} is neither 1 nor 2; left out"
                self.problems.add(name, line, reason)
                continue
            service = self.services.setdefault(service_id, FeedService())
            if day in service.added or day in service.removed:
                self.problems.add(name, line, f"{service_id} has {text} already; left out")
                continue
            (service.added if kind == "1" else service.removed).add(day)

    def _load_trips(self, progress: Progress | None) -> None:
        name = "trips.txt"
        columns = ("trip_id", "route_id", "service_id")
        optional = ("trip_headsign", "trip_short_name")
        for line, values in self._files.rows(name, columns, optional, progress):
            trip_id, route_id, service_id, headsign, short_name = values
            if route_id not in self.routes or service_id not in self.services:
                what = "route_id" if route_id not in self.routes else "service_id"
                text = route_id if what == "route_id" else service_id
                reason = f"{what} {text[:100]!r} of trip {trip_id[:100]} is unknown; left out"
                self.problems.add(name, line, reason)
                self._set_aside.add(trip_id)
            elif self._is_usable(name, line, "trip_id", trip_id, self.trips):
                self.trips[trip_id] = FeedTrip(
                    trip_id,
                    route_id,
                    service_id,
                    self._cut(headsign),
                    self._cut(short_name),
                    line,
                )
            else:
                self._set_aside.add(trip_id)

    def _note_frequencies(self) -> None:
        if "frequencies.txt" not in self._files:
            return
        for line, _ in self._files.rows("frequencies.txt", ("trip_id",)):
            reason = "not supported: the trips it names are imported once"
            self.problems.add("frequencies.txt", line, reason)
            return

    def _is_usable(
        self, file: str, line: int, column: str, key: str, known: Collection[str]
    ) -> bool:
        """Whether an id is new and not too long; otherwise the row is noted and left out."""
        if len(key) > ID_LENGTH_MAX:
            reason = f"{column} is longer than {ID_LENGTH_MAX} characters; left out"
            self.problems.add(file, line, reason)
            return False
        if key in known:
            self.problems.add(file, line, f"{column} {key!r} is there twice; left out")
            return False
        return True

    @staticmethod
    def _cut(name: str) -> str:
        return name[:NAME_LENGTH_MAX]


def read_feed(path: Path, progress: Progress | None = None) -> GtfsFeed:
    """Open the feed in this folder or zip archive and read its small tables.

    Raises:
        UnusableFeed: it is no feed, or a needed file or column is missing.
    """
    feed = GtfsFeed(FeedFiles(path))
    feed.load(progress)
    return feed


class _BadCall(Exception):
    """Why a row of stop_times.txt is no call."""


def _pack_call(line: int, values: Sequence[str], stop_number: dict[str, int]) -> bytes | None:
    """A row of stop_times.txt as ``_CALL``; None when nobody gets on or off."""
    _, stop_id, sequence_text, arrival, departure, distance_text, on, off = values
    if (on, off) == _NEITHER_ON_NOR_OFF:
        return None
    stop = stop_number.get(stop_id)
    if stop is None:
        raise _BadCall(f"stop_id {stop_id[:100]!r} is no stop of stops.txt")
    sequence = _whole_number(sequence_text)
    if sequence is None:
        raise _BadCall(f"stop_sequence {sequence_text[:40]!r} is not a whole number from 0")
    arrival_s, departure_s = _seconds(arrival), _seconds(departure)
    if arrival_s is None:
        raise _BadCall(f"arrival_time {arrival[:40]!r} is not HH:MM:SS")
    if departure_s is None:
        raise _BadCall(f"departure_time {departure[:40]!r} is not HH:MM:SS")
    if arrival_s == _NO_TIME:
        arrival_s = departure_s
    elif departure_s == _NO_TIME:
        departure_s = arrival_s
    distance = math.nan
    if distance_text:
        known = _finite(distance_text, math.inf)
        if known is None or known < 0:
            raise _BadCall(f"shape_dist_traveled {distance_text[:40]!r} is not a distance")
        distance = known
    return _CALL.pack(sequence, line, stop, arrival_s, departure_s, distance)


@lru_cache(maxsize=1 << 17)
def _seconds(text: str) -> int | None:
    """Seconds of a time like 7:05:00 or 25:10:00; ``_NO_TIME`` when empty, None when wrong."""
    if not text:
        return _NO_TIME
    match = _TIME.fullmatch(text)
    if match is None or not text.isascii():
        return None
    return int(match[1]) * 3600 + int(match[2]) * 60 + int(match[3])


def _date(text: str) -> date | None:
    if _DATE.fullmatch(text) is None or not text.isascii():
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _whole_number(text: str) -> int | None:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        return None
    number = int(text)
    return number if number <= _INT32_MAX else None


def _finite(text: str, largest: float) -> float | None:
    """A finite number between ``-largest`` and ``largest``."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and abs(number) <= largest else None


def _time_zone(name: str) -> ZoneInfo | None:
    """The time zone of this name.

    Raises:
        UnusableFeed: this machine has no time zones at all.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        if not available_timezones():
            reason = "this machine has no time zone data: install the Python package tzdata"
            raise unusable("agency.txt", reason) from None
        return None
