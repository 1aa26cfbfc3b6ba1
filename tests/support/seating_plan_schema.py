"""The JSON schema of the seating-plan format, for judging what Housefull exports.

Written from the description of the format: no object has members other than these.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}


def _object(required: dict[str, Schema], optional: dict[str, Schema] | None = None) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": list(required),
        "additionalProperties": False,
    }


def _list(item: Schema) -> Schema:
    return {"type": "array", "items": item}


POSITION = _object({"x": NUMBER, "y": NUMBER})
SEAT = _object(
    {"seat_guid": TEXT, "seat_number": TEXT, "position": POSITION, "category": TEXT},
    {"uuid": TEXT, "radius": INTEGER, "start_direction": TEXT_OR_NULL},
)
ROW = _object(
    {"row_number": TEXT, "seats": _list(SEAT)},
    {
        "position": POSITION,
        "row_number_position": {"enum": ["start", "end", "both", None]},
        "row_label": TEXT_OR_NULL,
        "seat_label": TEXT_OR_NULL,
        "uuid": TEXT,
    },
)
AREA = _object(
    {},
    {
        "shape": {"enum": ["polygon", "rectangle", "ellipse", "circle", "text"]},
        "color": TEXT,
        "border_color": TEXT,
        "rotation": NUMBER,
        "position": POSITION,
        "uuid": TEXT,
        "polygon": _object({"points": _list(POSITION)}),
        "rectangle": _object({"width": INTEGER, "height": INTEGER}),
        "ellipse": _object({"radius": POSITION}),
        "circle": _object({"radius": INTEGER}),
        "text": _object({"text": TEXT, "position": POSITION}, {"color": TEXT, "size": INTEGER}),
    },
)
ZONE = _object(
    {"position": POSITION, "rows": _list(ROW)},
    {"name": TEXT, "zone_id": TEXT, "uuid": TEXT, "areas": _list(AREA)},
)
SEATING_PLAN_SCHEMA = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    **_object(
        {
            "name": TEXT,
            "size": _object({"width": INTEGER, "height": INTEGER}),
            "categories": _list(_object({"name": TEXT}, {"color": TEXT})),
            "zones": _list(ZONE),
        }
    ),
}
