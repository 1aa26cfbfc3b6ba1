"""Where the people of a hall look, when the plan draws it: an area that says it is the stage."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from reservation.plan_findings import POSITION_MAX

_STAGE_WORDS = frozenset(
    {"stage", "bühne", "buehne", "scène", "scene", "escenario", "palcoscenico", "podium"}
    | {"toneel", "scena", "screen", "leinwand"}
)
_WORD = re.compile(r"\w+")


def find_stage(zones: Sequence[object]) -> tuple[float, float] | None:
    """The middle of the area that is called a stage, or None when no area is.

    An area that says nothing but "Stage" wins over one like "Stage door, left". The word may
    be the area's own text or the name of a zone that has areas and no rows.

    Units:
        the plan's own unit.
    """
    best: tuple[int, tuple[float, float]] | None = None
    for words, centre in _named_areas(zones):
        if not _STAGE_WORDS.isdisjoint(words) and (best is None or len(words) < best[0]):
            best = (len(words), centre)
    return None if best is None else best[1]


def _named_areas(zones: Sequence[object]) -> Iterator[tuple[list[str], tuple[float, float]]]:
    for zone in zones:
        if not isinstance(zone, Mapping):
            continue
        areas = zone.get("areas")
        zone_place = _point(zone.get("position")) or (0.0, 0.0)
        for area in areas if isinstance(areas, list) else []:
            if not isinstance(area, Mapping):
                continue
            text = area.get("text")
            said = text.get("text") if isinstance(text, Mapping) else None
            if not said and not zone.get("rows"):
                said = zone.get("name")
            if isinstance(said, str):
                x, y = _centre(area)
                # An ü may be one character or two; both are the same word.
                words = _WORD.findall(unicodedata.normalize("NFC", said).casefold())
                yield words, (zone_place[0] + x, zone_place[1] + y)


def _centre(area: Mapping[str, object]) -> tuple[float, float]:
    """The middle of an area. It is turned clockwise around its position."""
    place = _point(area.get("position")) or (0.0, 0.0)
    shape = area.get("shape")
    drawn = area.get(shape) if isinstance(shape, str) else None
    x = y = 0.0
    if isinstance(drawn, Mapping):
        if shape == "rectangle":
            x = (_number(drawn.get("width")) or 0.0) / 2
            y = (_number(drawn.get("height")) or 0.0) / 2
        elif shape in ("polygon", "text"):
            points = drawn.get("points") if shape == "polygon" else [drawn.get("position")]
            corners = [_point(point) for point in points] if isinstance(points, list) else []
            known = [corner for corner in corners if corner is not None]
            if known:
                x = (min(c[0] for c in known) + max(c[0] for c in known)) / 2
                y = (min(c[1] for c in known) + max(c[1] for c in known)) / 2
    turn = math.radians((_number(area.get("rotation")) or 0.0) % 360)
    turned_x = x * math.cos(turn) - y * math.sin(turn)
    turned_y = x * math.sin(turn) + y * math.cos(turn)
    return place[0] + turned_x, place[1] + turned_y


def _point(value: object) -> tuple[float, float] | None:
    if not isinstance(value, Mapping):
        return None
    x, y = _number(value.get("x")), _number(value.get("y"))
    return None if x is None or y is None else (x, y)


def _number(value: object) -> float | None:
    if (type(value) is int or type(value) is float) and abs(value) <= POSITION_MAX:
        return value
    return None
