"""What OpenAPI says about the booking application, and under which address each route is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from reservation.rejections import Rejection
from serve_app.api import booking_schemas as schemas
from serve_app.api.api_document import CUSTOMER_SCHEME, Operation, body, header, path, problems

DESCRIPTION = """\
Holds keep seats for a customer for a few minutes; confirming a hold makes a booking.

Every answer of 2xx to a command means that it is durable. Every command may be repeated: a
repetition changes nothing and is answered like the first time, with `Idempotent-Replayed: true`.
`503` means that nothing happened. `504` means that it is not known: repeat the same request.
"""

_SHOW = path("show_id", "shw_7k2m9p4qx0c1b5dn")
_HOLD = path("hold_id", "hld_7k2m9p4qx0c1b5dn3fg8hj6w2ry4tz0v")
_BOOKING = path("booking_id", "bkg_7k2m9p4qx0c1b5dn3fg8hj6w2ry4tz0v")
_KEY_SCHEMA = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
_KEY = header(
    "Idempotency-Key",
    "Names this hold; a UUID is a good choice. Remembered for a day after the hold has ended.",
    {**_KEY_SCHEMA, "examples": ["3f1c9e0a-7d1b-4c55-9a63-0f6f3f0c1d2e"]},
    required=True,
)
_OPTIONAL_KEY = header(
    "Idempotency-Key",
    "Accepted and not needed: the hold or booking itself makes a repetition harmless.",
    _KEY_SCHEMA,
    required=False,
)
_REPLAYED = {
    "Idempotent-Replayed": {
        "description": "`true` when this was done before.",
        "schema": {"type": "string", "enum": ["true"]},
    }
}
_LOCATION = {"Location": {"schema": {"type": "string", "format": "uri-reference"}}}

_CUSTOMER = ("customer_missing", "customer_not_accepted", "invalid_header")
_BODY = ("malformed_json", "invalid_request", "unsupported_media_type")
_ASKING = ("overloaded", "not_done", "outcome_unknown")


def _codes(*rejections: Rejection) -> tuple[str, ...]:
    return tuple(rejection.value for rejection in rejections)


def _found(description: str, model: type[BaseModel], **headers: Any) -> dict[str, Any]:
    response: dict[str, Any] = {"description": description, "model": model}
    if headers:
        response["headers"] = headers
    return response


def _extra(*parameters: Any, request_body: Any = None) -> dict[str, Any]:
    extra: dict[str, Any] = {"security": [{CUSTOMER_SCHEME: []}]}
    if parameters:
        extra["parameters"] = list(parameters)
    if request_body is not None:
        extra["requestBody"] = request_body
    return extra


HOLD = Operation(
    "POST",
    "/shows/{show_id}/holds",
    status=201,
    tag="holds",
    summary="Hold seats of a show",
    description=(
        "Either named seats and admissions, or the best available ones. All or nothing. The same "
        "key with the same content gives the same hold; with other content it is refused."
    ),
    responses={
        201: _found("The seats are held.", schemas.HoldView, **_LOCATION, **_REPLAYED),
        **problems(
            *_CUSTOMER,
            *_BODY,
            "idempotency_key_missing",
            "show_not_found",
            *_codes(
                Rejection.SEAT_UNAVAILABLE,
                Rejection.CAPACITY_UNAVAILABLE,
                Rejection.NOT_ENOUGH_SEATS,
                Rejection.ORPHAN_SEAT,
                Rejection.COMPANION_ALONE,
                Rejection.EXISTS_WITH_DIFFERENT_REQUEST,
                Rejection.TOO_MANY_HOLDS,
                Rejection.TOO_MANY_SEATS,
                Rejection.NOT_ON_SALE,
            ),
            *_ASKING,
        ),
    },
    extra=_extra(_SHOW, _KEY, request_body=body(schemas.HoldNamed, schemas.HoldBest)),
)

LIST_HOLDS = Operation(
    "GET",
    "/holds",
    tag="holds",
    summary="The customer's live holds",
    responses={
        200: _found("The one that ends first comes first.", schemas.HoldList),
        **problems(*_CUSTOMER, "not_done"),
    },
    extra=_extra(),
)

FIND_HOLD = Operation(
    "GET",
    "/holds/{hold_id}",
    tag="holds",
    summary="One hold",
    responses={
        200: _found("The hold as it is now.", schemas.HoldView),
        **problems(*_CUSTOMER, *_codes(Rejection.HOLD_NOT_FOUND), "not_done"),
    },
    extra=_extra(_HOLD),
)

EXTEND = Operation(
    "POST",
    "/holds/{hold_id}/extend",
    tag="holds",
    summary="Give a hold more time",
    description="As much as a new hold gets, counted from now, up to `expires_at_latest`.",
    responses={
        200: _found("The new deadline.", schemas.HoldDeadline, **_REPLAYED),
        **problems(
            *_CUSTOMER,
            *_BODY,
            *_codes(
                Rejection.HOLD_NOT_FOUND,
                Rejection.HOLD_EXPIRED,
                Rejection.HOLD_RELEASED,
                Rejection.HOLD_ALREADY_CONFIRMED,
                Rejection.EXTENSION_CAP_REACHED,
            ),
            *_ASKING,
        ),
    },
    extra=_extra(_HOLD, _OPTIONAL_KEY, request_body=body(schemas.NothingBody, required=False)),
)

RELEASE = Operation(
    "DELETE",
    "/holds/{hold_id}",
    status=204,
    tag="holds",
    summary="Give the seats of a hold back",
    responses={
        204: {"description": "The seats are free.", "headers": _REPLAYED},
        **problems(
            *_CUSTOMER,
            *_BODY,
            *_codes(
                Rejection.HOLD_NOT_FOUND,
                Rejection.HOLD_EXPIRED,
                Rejection.HOLD_ALREADY_CONFIRMED,
            ),
            *_ASKING,
        ),
    },
    extra=_extra(_HOLD, _OPTIONAL_KEY),
)

CONFIRM = Operation(
    "POST",
    "/holds/{hold_id}/confirm",
    status=201,
    tag="bookings",
    summary="Make a booking of a hold",
    responses={
        201: _found("The seats are sold.", schemas.BookingReceipt, **_LOCATION, **_REPLAYED),
        **problems(
            *_CUSTOMER,
            *_BODY,
            *_codes(
                Rejection.HOLD_NOT_FOUND,
                Rejection.HOLD_EXPIRED,
                Rejection.HOLD_RELEASED,
                Rejection.BOOKING_CANCELLED,
                Rejection.EXISTS_WITH_DIFFERENT_REQUEST,
            ),
            *_ASKING,
        ),
    },
    extra=_extra(_HOLD, _OPTIONAL_KEY, request_body=body(schemas.ConfirmBody)),
)

LIST_BOOKINGS = Operation(
    "GET",
    "/bookings",
    tag="bookings",
    has_query=True,
    summary="The customer's bookings",
    responses={
        200: _found("One page, newest first.", schemas.BookingList),
        **problems(*_CUSTOMER, "invalid_request", "not_done"),
    },
    extra=_extra(),
)

FIND_BOOKING = Operation(
    "GET",
    "/bookings/{booking_id}",
    tag="bookings",
    summary="One booking",
    responses={
        200: _found("The booking as it is now.", schemas.BookingView),
        **problems(*_CUSTOMER, *_codes(Rejection.BOOKING_NOT_FOUND), "not_done"),
    },
    extra=_extra(_BOOKING),
)

CANCEL = Operation(
    "POST",
    "/bookings/{booking_id}/cancel",
    tag="bookings",
    summary="Cancel a booking",
    responses={
        200: _found("Its places are free.", schemas.BookingCancellation, **_REPLAYED),
        **problems(*_CUSTOMER, *_BODY, *_codes(Rejection.BOOKING_NOT_FOUND), *_ASKING),
    },
    extra=_extra(_BOOKING, _OPTIONAL_KEY, request_body=body(schemas.NothingBody, required=False)),
)

MODELS: tuple[type[BaseModel], ...] = (
    schemas.HoldNamed,
    schemas.HoldBest,
    schemas.ConfirmBody,
    schemas.NothingBody,
    schemas.HoldView,
    schemas.HoldList,
    schemas.HoldDeadline,
    schemas.BookingReceipt,
    schemas.BookingCancellation,
    schemas.BookingView,
    schemas.BookingList,
)
