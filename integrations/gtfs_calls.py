"""From the calls of a trip, as a feed has them, to stops with times and metres.

A feed may leave out times between timed stops, may give no coordinates, and measures
distances along a shape in a unit that it does not name. What is missing is filled in so that
times and distances never fall along the trip.

Timetables that people type have times that run backwards. The times of a trip in travelling
order (arrival, departure, arrival, ...) may never fall, so as many of them as possible are kept,
and every other one is told and counts as missing. A wrong time is thus outvoted by the others,
however far off it is. Where they are as many on both sides,

- the shorter ride is kept: a typing error at an end makes a ride hours longer, and in the middle
  it changes no length;
- then the earlier times: whoever trusts them waits a little, and nobody comes too late.

Too many contradictions are a ``TripFault``, because then nobody can tell what is meant.
"""

from __future__ import annotations

import math
from bisect import bisect, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from integrations.gtfs_feed import Call, FeedStop
from reservation.route import Stop

EARTH_RADIUS_M = 6_371_008.8
"""The mean radius; along a line the error against the ellipsoid is below half a percent."""

GIVEN_PER_CONTRADICTION_MIN = 3
"""Of so many given times at most one may contradict the others, or the trip is left out.

One wrong row (two times) of a trip with three stops is just within it: two good rows are the
fewest that can outvote a bad one.
"""

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


class _Moment(NamedTuple):
    """A time that the feed gives. Moments sort in travelling order."""

    position: int
    is_departure: bool
    at_s: int


def stops_of(
    calls: Sequence[Call], places: Mapping[str, FeedStop]
) -> tuple[tuple[Stop, ...], list[Slip]]:
    """The stops of a trip in order, with unique codes, whole times and distances.

    Returns:
        The stops, and the times that had to be corrected.

    Raises:
        TripFault: fewer than two calls, no time at an end, or too many contradictions.
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
    A call of which one time is kept has that one twice.

    Returns:
        The times, and the ones that had to be corrected.

    Raises:
        TripFault: no time at an end, or too many contradictions.
    """
    moments = _moments_of(calls)
    kept = [moments[index] for index in longest_rise([moment.at_s for moment in moments])]
    dropped = sorted(set(moments).difference(kept))
    if len(dropped) * GIVEN_PER_CONTRADICTION_MIN > len(moments):
        count = f"{len(dropped)} of {len(moments)} times contradict the others"
        line = calls[dropped[0].position].line
        raise TripFault(line, f"{count}: {_contradiction(calls, kept, dropped[0])}")
    _require_ends(calls, kept, dropped)
    times = _interpolated(calls, kept)
    slips = []
    for moment in dropped:
        call = calls[moment.position]
        if moment.is_departure and call.arrival_s == call.departure_s:
            # Told already, with the arrival; the feed may have given one time only.
            continue
        # Its arrival and its departure are the same now.
        taken = clock(times[moment.position][0])
        reason = f"{_contradiction(calls, kept, moment)}; taken as {taken}"
        slips.append(Slip(call.line, reason))
    return times, slips


def _moments_of(calls: Sequence[Call]) -> list[_Moment]:
    moments: list[_Moment] = []
    for position, call in enumerate(calls):
        if call.arrival_s is not None and call.departure_s is not None:
            moments.append(_Moment(position, False, call.arrival_s))
            moments.append(_Moment(position, True, call.departure_s))
    return moments


def longest_rise(numbers: Sequence[int]) -> list[int]:
    """The indices of a longest part of the numbers that never falls.

    Of several, the one with the smallest difference between its ends, and then the smallest sum.

    Example:
        >>> longest_rise([1903, 904, 1914, 1915])
        [0, 2, 3]
    """
    # A run ranks by its length and then by its first number; of two runs that end with one
    # number, the higher rank is better whatever follows. The lists hold the runs worth going on
    # with, by rising last number and rising rank: one that ends higher and does not rank higher
    # can only lose. That keeps the lowest numbers of each rank too, and so the smallest sum.
    ends: list[int] = []
    ranks: list[tuple[int, int]] = []
    indices: list[int] = []
    index_before: list[int] = []
    best, best_index = (0, 0), -1
    for index, number in enumerate(numbers):
        end = bisect_right(ends, number)
        index_before.append(indices[end - 1] if end else -1)
        length, first = ranks[end - 1] if end else (0, number)
        rank = (length + 1, first)
        start = end - 1 if end and ends[end - 1] == number else end
        while end < len(ranks) and ranks[end] <= rank:
            end += 1
        ends[start:end], ranks[start:end], indices[start:end] = [number], [rank], [index]
        # Of equally good runs the later one is the lower one: it could not follow the other.
        best, best_index = max((best, best_index), ((length + 1, first - number), index))
    rise: list[int] = []
    while best_index >= 0:
        rise.append(best_index)
        best_index = index_before[best_index]
    return rise[::-1]


def _contradiction(calls: Sequence[Call], kept: Sequence[_Moment], moment: _Moment) -> str:
    """What a dropped time contradicts: the next kept one on one of its sides."""
    place = bisect(kept, moment)
    if place and kept[place - 1].at_s > moment.at_s:
        order, other = "before", kept[place - 1]
    else:
        # A longest rise has room for every time that contradicts neither neighbour.
        order, other = "after", kept[place]
        assert other.at_s < moment.at_s
    return f"{_named(calls, moment)} is {order} {_named(calls, other)}"


def _named(calls: Sequence[Call], moment: _Moment) -> str:
    call = calls[moment.position]
    name = "departure" if moment.is_departure else "arrival"
    if call.arrival_s == call.departure_s:
        name = "time"
    return f"{name} {clock(moment.at_s)} at {call.stop_id}"


def _require_ends(
    calls: Sequence[Call], kept: Sequence[_Moment], dropped: Sequence[_Moment]
) -> None:
    """Raise ``TripFault`` when the first or the last call has no time that is kept."""
    timed = {moment.position for moment in kept}
    for position, end in ((0, "first"), (len(calls) - 1, "last")):
        if position not in timed:
            why = [_contradiction(calls, kept, m) for m in dropped if m.position == position]
            reason = ": ".join((f"no time at the {end} stop", *why[:1]))
            raise TripFault(calls[position].line, reason)


def _interpolated(calls: Sequence[Call], kept: Sequence[_Moment]) -> list[tuple[int, int]]:
    """Arrival and departure at each call, from the kept moments."""
    kept_of: dict[int, list[int]] = {}
    for moment in kept:
        kept_of.setdefault(moment.position, []).append(moment.at_s)
    timed = [(position, at_s[0], at_s[-1]) for position, at_s in kept_of.items()]
    times: list[tuple[int, int]] = [timed[0][1:]]
    for (before, _, left_s), (after, reached_s, leaves_s) in pairwise(timed):
        for share in _shares(calls[before : after + 1]):
            between_s = left_s + int((reached_s - left_s) * share)
            times.append((between_s, between_s))
        times.append((reached_s, leaves_s))
    return times


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
