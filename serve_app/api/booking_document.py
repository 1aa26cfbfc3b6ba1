"""What OpenAPI says about the booking application, and under which address each route is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from reservation.rejections import Rejection
from serve_app.api import booking_schemas as schemas
from serve_app.api.api_document import Operation, body, header, path, problems
from serve_app.api.payments.schemas import PaymentView, PriceLineView, Receipt
from serve_app.api.principals import SIGNED_IN

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
_PAYMENT_KEY = header(
    "Idempotency-Key",
    "Names this payment, among those of the hold.",
    {**_KEY_SCHEMA, "examples": ["7b0e6c54-9a1d-4e0a-8f5e-2c1f0a9d3b77"]},
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
    extra: dict[str, Any] = {}
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
    roles=SIGNED_IN,
    summary="Hold seats of a show",
    description=(
        "Either named seats and admissions, or the best available ones. All or nothing. The same "
        "key with the same content gives the same hold; with other content it is refused."
    ),
    responses={
        201: _found("The seats are held.", schemas.HoldView, **_LOCATION, **_REPLAYED),
        **problems(
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
                Rejection.TOO_MANY_SEATS_PER_HOLD,
                Rejection.NOT_ON_SALE,
                Rejection.SHOW_CANCELLED,
                Rejection.CHANNEL_NOT_FOUND,
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
    roles=SIGNED_IN,
    summary="The customer's live holds",
    responses={
        200: _found("The one that ends first comes first.", schemas.HoldList),
        **problems("not_done"),
    },
    extra=_extra(),
)

FIND_HOLD = Operation(
    "GET",
    "/holds/{hold_id}",
    tag="holds",
    roles=SIGNED_IN,
    summary="One hold",
    responses={
        200: _found("The hold as it is now.", schemas.HoldView),
        **problems(*_codes(Rejection.HOLD_NOT_FOUND), "not_done"),
    },
    extra=_extra(_HOLD),
)

EXTEND = Operation(
    "POST",
    "/holds/{hold_id}/extend",
    tag="holds",
    roles=SIGNED_IN,
    summary="Give a hold more time",
    description="As much as a new hold gets, counted from now, up to `expires_at_latest`.",
    responses={
        200: _found("The new deadline.", schemas.HoldDeadline, **_REPLAYED),
        **problems(
            *_BODY,
            *_codes(
                Rejection.HOLD_NOT_FOUND,
                Rejection.HOLD_EXPIRED,
                Rejection.HOLD_RELEASED,
                Rejection.HOLD_ALREADY_CONFIRMED,
                Rejection.EXTENSION_CAP_REACHED,
                Rejection.SHOW_CANCELLED,
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
    roles=SIGNED_IN,
    summary="Give the seats of a hold back",
    responses={
        204: {"description": "The seats are free.", "headers": _REPLAYED},
        **problems(
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
    roles=SIGNED_IN,
    summary="Make a booking of a hold",
    description=(
        "`counter` is for those who take the money: the box office and the organisers of the house "
        "whose show it is. They hold seats and confirm them for whoever stands before them."
    ),
    responses={
        201: _found("The seats are sold.", schemas.BookingReceipt, **_LOCATION, **_REPLAYED),
        **problems(
            "payment_not_allowed",
            *_BODY,
            *_codes(
                Rejection.HOLD_NOT_FOUND,
                Rejection.HOLD_EXPIRED,
                Rejection.HOLD_RELEASED,
                Rejection.BOOKING_CANCELLED,
                Rejection.SHOW_CANCELLED,
                Rejection.EXISTS_WITH_DIFFERENT_REQUEST,
            ),
            *_ASKING,
        ),
    },
    extra=_extra(_HOLD, _OPTIONAL_KEY, request_body=body(schemas.ConfirmBody)),
)

CHECKOUT = Operation(
    "POST",
    "/holds/{hold_id}/checkout",
    status=201,
    tag="bookings",
    roles=SIGNED_IN,
    summary="Pay for a hold",
    description=(
        "Begins a payment, which its customer then pays with what `client` says, on the provider's "
        "own page. The booking is made when the money is there; the payment says so. The hold gets "
        "more time, once. The same key gives the same payment, as it is by then. A hold that costs "
        "nothing, or nothing after the promo code, is booked at once and has no payment. One "
        "payment of a hold at a time: cancel it to pay otherwise."
    ),
    responses={
        201: _found("It can be paid, or is booked.", PaymentView, **_LOCATION, **_REPLAYED),
        **problems(
            *_BODY,
            "idempotency_key_missing",
            *_codes(
                Rejection.HOLD_NOT_FOUND,
                Rejection.HOLD_EXPIRED,
                Rejection.HOLD_RELEASED,
                Rejection.HOLD_ALREADY_CONFIRMED,
                Rejection.EXISTS_WITH_DIFFERENT_REQUEST,
                Rejection.SHOW_CANCELLED,
            ),
            "hold_has_payment",
            "price_too_high",
            "provider_not_available",
            "provider_refused",
            "promo_code_unknown",
            "promo_not_active",
            "promo_not_yet_valid",
            "promo_no_longer_valid",
            "promo_for_other_shows",
            "promo_in_other_currency",
            "promo_for_other_categories",
            "promo_used_up",
            "promo_used_by_customer",
            *_ASKING,
        ),
    },
    extra=_extra(_HOLD, _PAYMENT_KEY, request_body=body(schemas.CheckoutBody, required=False)),
)

LIST_BOOKINGS = Operation(
    "GET",
    "/bookings",
    tag="bookings",
    roles=SIGNED_IN,
    has_query=True,
    summary="The customer's bookings",
    responses={
        200: _found("One page, newest first.", schemas.BookingList),
        **problems("invalid_request", "not_done"),
    },
    extra=_extra(),
)

FIND_BOOKING = Operation(
    "GET",
    "/bookings/{booking_id}",
    tag="bookings",
    roles=SIGNED_IN,
    summary="One booking",
    responses={
        200: _found("The booking as it is now.", schemas.BookingView),
        **problems(*_codes(Rejection.BOOKING_NOT_FOUND), "not_done"),
    },
    extra=_extra(_BOOKING),
)

CANCEL = Operation(
    "POST",
    "/bookings/{booking_id}/cancel",
    tag="bookings",
    roles=SIGNED_IN,
    summary="Cancel a booking",
    description=(
        "One's own; the box office and the organisers of a show may cancel all of its. A customer "
        "gets back what the show's policy gives, whom the house cancels everything."
    ),
    responses={
        200: _found("Its places are free.", schemas.BookingCancellation, **_REPLAYED),
        **problems(*_BODY, *_codes(Rejection.BOOKING_NOT_FOUND), *_ASKING),
    },
    extra=_extra(_BOOKING, _OPTIONAL_KEY, request_body=body(schemas.NothingBody, required=False)),
)

MODELS: tuple[type[BaseModel], ...] = (
    schemas.HoldNamed,
    schemas.HoldBest,
    schemas.ConfirmBody,
    schemas.CheckoutBody,
    schemas.NothingBody,
    schemas.HoldView,
    schemas.HoldList,
    schemas.HoldDeadline,
    schemas.BookingReceipt,
    schemas.BookingCancellation,
    schemas.BookingView,
    schemas.BookingList,
    PriceLineView,
    Receipt,
    PaymentView,
)
