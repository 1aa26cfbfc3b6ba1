"""From the calls of a trip, as a feed has them, to stops with times and metres.

A feed may leave out times between timed stops, may give no coordinates, and measures
distances along a shape in a unit that it does not name. What is missing is filled in so that
times and distances never fall along the trip.

Timetables that people type have times that run backwards. A small slip is told, and the
earlier of the two contradicting times is taken: whoever trusts it waits a little, and nobody
comes too late. More than a slip is a ``TripFault``, because then nobody can tell what is meant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from integrations.gtfs_feed import Call, FeedStop
from reservation.route import Stop

EARTH_RADIUS_M = 6_371_008.8
"""The mean radius; along a line the error against the ellipsoid is below half a percent."""

SLIP_S_MAX = 10 * 60
"""A time that is up to this much too late is a slip of the pen."""

_METRES_OF_UNIT = (0.3048, 1.0, 1_000.0, 1_609.344)
# A way is never shorter than the straight line (2 % for rounded coordinates), and a shape
# that says ten times as much has nothing to do with these stops.
_DETOUR_MIN, _DETOUR_MAX = 0.98, 10.0


class TripFault(ValueError):
    """Why no stops can be made of a trip's calls, and the line of the file that shows it."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class Slip(NamedTuple):
    """A time that was corrected, and the line of the file that shows it."""

    line: int
    reason: str


def stops_of(
    calls: Sequence[Call], places: Mapping[str, FeedStop]
) -> tuple[tuple[Stop, ...], list[Slip]]:
    """The stops of a trip in order, with unique codes, whole times and distances.

    Returns:
        The stops, and the times that had to be corrected.

    Raises:
        TripFault: fewer than two calls, no time at an end, or times that contradict each other
            by more than ``SLIP_S_MAX``.
    """
    if len(calls) < 2:
        line = calls[0].line if calls else 0
        raise TripFault(line, "one stop only" if calls else "no stop")
    times, slips = times_of(calls)
    here = [places[call.stop_id] for call in calls]
    distances_m = distances_of(calls, here, times)
    codes: set[str] = set()
    stops: list[Stop] = []
    for place, (arrival_s, departure_s), distance_m in zip(here, times, distances_m, strict=True):
        code, calls_here = place.stop_id, 1
        while code in codes:
            calls_here += 1
            code = f"{place.stop_id}#{calls_here}"
        codes.add(code)
        stops.append(
            Stop(
                code,
                place.name,
                arrival_s,
                departure_s,
                distance_m,
                place.latitude,
                place.longitude,
            )
        )
    return tuple(stops), slips


def times_of(calls: Sequence[Call]) -> tuple[list[tuple[int, int]], list[Slip]]:
    """Arrival and departure at each call; missing ones lie evenly between their neighbours.

    "Evenly" is by distance where the feed gives usable ones, and by the count of stops else.

    Returns:
        The times, and the ones that had to be corrected.

    Raises:
        TripFault: no time at an end, or a contradiction of more than ``SLIP_S_MAX``.
    """
    for call, end in ((calls[0], "first"), (calls[-1], "last")):
        if call.arrival_s is None:
            raise TripFault(call.line, f"no time at the {end} stop")
    timed, slips = _timed_calls(calls)
    times: list[tuple[int, int]] = [timed[0][1:]]
    for (before, _, left_s), (after, reached_s, leaves_s) in pairwise(timed):
        for share in _shares(calls[before : after + 1]):
            between_s = left_s + int((reached_s - left_s) * share)
            times.append((between_s, between_s))
        times.append((reached_s, leaves_s))
    return times, slips


def _timed_calls(calls: Sequence[Call]) -> tuple[list[tuple[int, int, int]], list[Slip]]:
    """Position, arrival and departure of the calls that have times, in order and never falling.

    They are read from the last to the first, so that of two contradicting times the earlier
    one stands and the ones before it give way.
    """
    timed: list[tuple[int, int, int]] = []
    slips: list[Slip] = []
    for position in range(len(calls) - 1, -1, -1):
        call = calls[position]
        if call.arrival_s is None or call.departure_s is None:
            continue
        departure_s = call.departure_s
        if timed and timed[-1][1] < departure_s:
            after, reached_s, _ = timed[-1]
            slips.append(
                _slip(
                    calls[after].line,
                    f"leaves {call.stop_id} at {clock(departure_s)}, after it has arrived "
                    f"at {calls[after].stop_id} at {clock(reached_s)}",
                    departure_s,
                    reached_s,
                )
            )
            departure_s = reached_s
        arrival_s = call.arrival_s
        if departure_s < arrival_s:
            slips.append(
                _slip(
                    call.line,
                    f"arrives at {call.stop_id} at {clock(arrival_s)}, after it has left "
                    f"at {clock(departure_s)}",
                    arrival_s,
                    departure_s,
                )
            )
            arrival_s = departure_s
        timed.append((position, arrival_s, departure_s))
    return timed[::-1], slips[::-1]


def _slip(line: int, reason: str, given_s: int, taken_s: int) -> Slip:
    if given_s - taken_s > SLIP_S_MAX:
        raise TripFault(line, reason)
    return Slip(line, f"{reason}; taken as {clock(taken_s)}")


def clock(seconds: int) -> str:
    """A time of the service day as people write it.

    Example:
        >>> clock(90_300)
        '25:05:00'
    """
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def distances_of(
    calls: Sequence[Call], here: Sequence[FeedStop], times: Sequence[tuple[int, int]]
) -> list[int]:
    """Metres from the first stop to each call: never falling, 0 where nothing is known.

    The shape's distances are taken when they are complete and fit the map; otherwise straight
    lines between the stops, and for stops without coordinates the share of the time.
    """
    straight = _straight_distances(here, times)
    shape = _shape_distances(calls)
    if shape is not None:
        metres = _metres_of_unit(shape[-1], straight[-1])
        if metres is not None:
            return [round(distance * metres) for distance in shape]
    return [round(distance) for distance in straight]


def _shares(calls: Sequence[Call]) -> list[float]:
    """How far along its stretch each call between the first and the last lies, from 0 to 1."""
    shape = _shape_distances(calls)
    if shape is not None:
        return [distance / shape[-1] for distance in shape[1:-1]]
    return [position / (len(calls) - 1) for position in range(1, len(calls) - 1)]


def _shape_distances(calls: Sequence[Call]) -> list[float] | None:
    """Distances from the first call, or None when one is missing, falls, or all are the same."""
    distances: list[float] = []
    for call in calls:
        if call.distance is None or (distances and call.distance < distances[-1]):
            return None
        distances.append(call.distance)
    if distances[-1] <= distances[0]:
        return None
    return [distance - distances[0] for distance in distances]


def _metres_of_unit(shape_total: float, straight_total_m: float) -> float | None:
    """Metres of one unit of the shape's distances, or None when no unit fits the map.

    A feed uses feet, metres, kilometres or miles and does not say which. The smallest unit in
    which the way is not shorter than the straight line is the one. Without a map to compare
    with, distances are metres.
    """
    if straight_total_m <= 0:
        return 1.0
    for metres in _METRES_OF_UNIT:
        detour = shape_total * metres / straight_total_m
        if detour >= _DETOUR_MIN:
            return metres if detour <= _DETOUR_MAX else None
    return None


def _straight_distances(here: Sequence[FeedStop], times: Sequence[tuple[int, int]]) -> list[float]:
    """Metres along straight lines between the stops that are on the map."""
    mapped = [position for position, stop in enumerate(here) if stop.latitude is not None]
    if len(mapped) < 2:
        return [0.0] * len(here)
    distances = [0.0] * len(here)
    total_m = 0.0
    for before, after in pairwise(mapped):
        leg_m = _great_circle_m(here[before], here[after])
        left_s, reached_s = times[before][1], times[after][0]
        for position in range(before + 1, after):
            share = (position - before) / (after - before)
            if reached_s > left_s:
                share = (times[position][0] - left_s) / (reached_s - left_s)
            distances[position] = total_m + leg_m * share
        total_m += leg_m
        distances[after] = total_m
    # Beyond the mapped stops the vehicle goes on as fast as it went between them.
    first, last = mapped[0], mapped[-1]
    ridden_s = times[last][0] - times[first][1]
    metres_per_second = total_m / ridden_s if ridden_s > 0 else 0.0
    for position in range(last + 1, len(here)):
        distances[position] = total_m + metres_per_second * (times[position][0] - times[last][0])
    for position in range(first):
        distances[position] = -metres_per_second * (times[first][1] - times[position][1])
    start_m = distances[0]
    return [distance - start_m for distance in distances]


def _great_circle_m(one: FeedStop, other: FeedStop) -> float:
    """The haversine distance."""
    assert one.latitude is not None
    assert one.longitude is not None
    assert other.latitude is not None
    assert other.longitude is not None
    lat_1, lat_2 = math.radians(one.latitude), math.radians(other.latitude)
    half_lat = (lat_2 - lat_1) / 2
    half_lon = math.radians(other.longitude - one.longitude) / 2
    root = math.sin(half_lat) ** 2 + math.cos(lat_1) * math.cos(lat_2) * math.sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_M * math.asin(min(1.0, math.sqrt(root)))
