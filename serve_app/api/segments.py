"""Stops of a request to the legs of a route, and back."""

from __future__ import annotations

from reservation.route import Route, Segment
from serve_app.api.problems import FieldError, bad_request


def segment_of(route: Route, from_code: str | None, to_code: str | None) -> Segment:
    """The part of the route that a request means; a missing end is the route's own.

    Raises:
        Problem: ``invalid_request`` naming ``from`` or ``to``.
    """
    if from_code is None and to_code is None:
        return route.whole
    segment = route.segment(from_code, to_code) if route.stops else None
    if segment is None:
        raise bad_request(_objections_to(route, from_code, to_code))
    return segment


def _objections_to(route: Route, from_code: str | None, to_code: str | None) -> list[FieldError]:
    given = [
        (field, code) for field, code in (("from", from_code), ("to", to_code)) if code is not None
    ]
    if not route.stops:
        return [FieldError(field, "this show has no stops") for field, _ in given]
    unknown = [
        FieldError(field, "this show does not call there")
        for field, code in given
        if route.position_of(code) is None
    ]
    if unknown:
        return unknown
    field = "to" if to_code is not None else "from"
    return [FieldError(field, "the stops are not in travelling order")]


def stops_of(route: Route, segment: Segment) -> tuple[str, str] | None:
    """The codes of the first and the last stop of a segment; None for a show without stops."""
    if not route.stops:
        return None
    return route.stops[segment.from_leg].code, route.stops[segment.to_leg].code
