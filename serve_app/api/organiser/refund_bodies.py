"""Refunds of a booking as the people of a house ask for them and see them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from persistence.payment_rows import StoredPayment
from persistence.refund_requests import RefundRequest
from reservation.checkout import Checkout
from reservation.granting import grantable_minor
from reservation.hold import Hold
from reservation.limits import AMOUNT_MINOR_MAX, SEATS_PER_HOLD_MAX
from reservation.refunds import Refund, RefundReason, RefundState, refund_minor_of_places
from reservation.seating_plan import SeatingPlan
from serve_app.api.api_document import body, header, path
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.fields import Currency, Label, Reason, RequestBody, View, examples
from serve_app.api.problems import FieldError, bad_field, bad_request, shorten

EXAMPLE_BOOKING = "bkg_7k2m9p4qx0c1b5dn3fg8h6j2k4m6n8pq"
BOOKING = path("booking_id", EXAMPLE_BOOKING)
REFUND_KEY = header(
    "Idempotency-Key",
    "Names the refund; a UUID is a good choice. Repeating the request pays nothing back twice.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    required=True,
)


class RefundBody(RequestBody):
    """What is to go back: an amount, what was paid for certain places, or all that is left."""

    model_config = ConfigDict(
        json_schema_extra=examples(
            {"amount_minor": 1000, "reason": "The view was blocked"},
            {"places": ["A-12"], "reason": "The seat was broken"},
            {"reason": "With our apologies"},
        )
    )

    amount_minor: Annotated[int | None, Field(ge=1, le=AMOUNT_MINOR_MAX)] = None
    places: Annotated[
        list[Label] | None,
        Field(
            min_length=1,
            max_length=SEATS_PER_HOLD_MAX,
            description="Labels of seats; the code of a tier stands for one place of it each time.",
        ),
    ] = None
    reason: Reason


class BookingCancelBody(RequestBody):
    """Why, and what of the money goes back."""

    refund: Annotated[
        Literal["full", "policy", "none"],
        Field(description="Everything, what the show's policy gives at this moment, or nothing."),
    ] = "full"
    reason: Reason


class RefundView(View):
    """Money that goes back."""

    model_config = ConfigDict(title="Refund")

    refund_id: Annotated[str, Field(pattern="^rfd_")]
    amount_minor: int
    currency: Currency
    reason: Literal["cancelled", "not_booked", "excess", "foreign", "granted", "forgone"]
    state: Literal["due", "requested", "succeeded", "failed"]
    note: Annotated[str | None, Field(description="Why, if somebody asked for it.")]
    requested_by: Annotated[str | None, Field(description="The account that asked for it.")]
    created_at: Instant


class BookingMoneyView(View):
    """What became of the money of a booking."""

    model_config = ConfigDict(title="BookingMoney")

    booking_id: Annotated[str, Field(pattern="^bkg_")]
    payment_id: Annotated[str, Field(pattern="^pay_")]
    provider: str
    state: str
    currency: Currency
    amount_minor: Annotated[int, Field(description="The price that was agreed.")]
    captured_minor: int
    refunded_minor: Annotated[int, Field(description="What went back.")]
    kept_minor: Annotated[int | None, Field(description="Of a cancelled booking; null: not yet.")]
    refundable_minor: Annotated[int, Field(description="How much may still be granted.")]
    refunds: list[RefundView]


class BookingCancelledView(View):
    """A booking that was cancelled."""

    booking_id: Annotated[str, Field(pattern="^bkg_")]
    cancelled_at: Instant
    refund: Literal["full", "policy", "none"]


REFUND: TypeAdapter[RefundBody] = TypeAdapter(RefundBody)
CANCEL: TypeAdapter[BookingCancelBody] = TypeAdapter(BookingCancelBody)
REFUND_REQUEST = body(RefundBody)
CANCEL_REQUEST = body(BookingCancelBody)

MODELS = (RefundBody, BookingCancelBody, RefundView, BookingMoneyView, BookingCancelledView)


def wanted_minor(sent: RefundBody, stored: StoredPayment, hold: Hold, plan: SeatingPlan) -> int:
    """How much a body asks for; 0 for all that is left.

    Raises:
        Problem: ``invalid_request``: it says it in two ways, or names places that are not booked.
    """
    if sent.places is None:
        return sent.amount_minor or 0
    if sent.amount_minor is not None:
        raise bad_field("places", "is given beside amount_minor; one of them says how much")
    numbers: list[int] = []
    errors: list[FieldError] = []
    left = list(enumerate(_labels_of(hold, plan)))
    for position, label in enumerate(sent.places):
        found = next((place for place in left if place[1] == label), None)
        if found is None:
            reason = f"the booking has no {shorten(label)!r}, or not so many"
            errors.append(FieldError(f"places[{position}]", reason))
            continue
        left.remove(found)
        numbers.append(found[0])
    if errors:
        raise bad_request(errors)
    amount_minor = refund_minor_of_places(stored.price.paid_minor, numbers)
    if not amount_minor:
        raise bad_field("places", "nothing was paid for them")
    return amount_minor


def _labels_of(hold: Hold, plan: SeatingPlan) -> Iterable[str]:
    """The places in the order in which a price has them: seats, then admissions one by one."""
    yield from (plan.labels[index] for index in hold.held.seat_indexes)
    for tier_index, count, _ in hold.held.admissions:
        for _ in range(count):
            yield plan.admission_tiers[tier_index].code


def digest_of(sent: RefundBody) -> str:
    """What tells this request from another one."""
    return hashlib.sha256(sent.model_dump_json().encode()).hexdigest()


def view_of_refund(
    refund: Refund, checkout: Checkout, requests: Iterable[RefundRequest]
) -> dict[str, Any]:
    """A refund as clients get it."""
    request = next((each for each in requests if each.refund_id == refund.refund_id), None)
    payment = checkout.payment
    return {
        "refund_id": refund.refund_id,
        "amount_minor": refund.amount_minor,
        "currency": payment.paid_currency or payment.currency,
        "reason": refund.reason.value,
        "state": refund.state.value,
        "note": None if request is None else request.note,
        "requested_by": None if request is None else request.requested_by,
        "created_at": write_instant(refund.created_at_ms),
    }


def view_of_money(
    booking_id: str, checkout: Checkout, requests: Iterable[RefundRequest]
) -> dict[str, Any]:
    """The money of a booking as clients get it."""
    payment, asked = checkout.payment, list(requests)
    return {
        "booking_id": booking_id,
        "payment_id": payment.payment_id,
        "provider": payment.provider,
        "state": payment.state.value,
        "currency": payment.paid_currency or payment.currency,
        "amount_minor": payment.amount_minor,
        "captured_minor": payment.captured_minor,
        "refunded_minor": payment.refunded_minor,
        "kept_minor": payment.kept_minor,
        "refundable_minor": grantable_minor(checkout),
        "refunds": [view_of_refund(refund, checkout, asked) for refund in checkout.refunds],
    }


assert {reason.value for reason in RefundReason} == {
    "cancelled",
    "not_booked",
    "excess",
    "foreign",
    "granted",
    "forgone",
}
assert {state.value for state in RefundState} == {"due", "requested", "succeeded", "failed"}
