"""The bodies of the booking application: what it takes (checked) and what it gives (described).

Requests are validated by these models, strictly: ``"1"`` and ``true`` are not ``1``, and a
member that is not known is refused. Responses are built as plain dictionaries, because a hold is
answered a thousand times a second; the models of responses are what OpenAPI shows, and the tests
hold every response against them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from reservation.events import Arrangement
from reservation.limits import SEATS_PER_HOLD_MAX
from reservation.show import OrphanRule
from serve_app.api.instants import Instant
from serve_app.api.payments.schemas import Receipt
from serve_app.api.query_fields import CursorText, Limit

ACCESS_KEY_LENGTH_MAX = 200
PROMO_CODE_LENGTH_MAX = 100
"""As typed, with spaces around it, for example."""

LABEL_LENGTH_MAX = 200
"""Labels come from plans of others; the longest we met has 40 characters."""

_EXAMPLE_SHOW = "shw_7k2m9p4qx0c1b5dn"
_EXAMPLE_HOLD = "hld_7k2m9p4qx0c1b5dn3fg8hj6w2ry4tz0v"
_EXAMPLE_BOOKING = "bkg_7k2m9p4qx0c1b5dn3fg8hj6w2ry4tz0v"

SeatLabel = Annotated[str, Field(max_length=LABEL_LENGTH_MAX, examples=["A-12"])]
StopCode = Annotated[str, Field(max_length=LABEL_LENGTH_MAX, examples=["PRG"])]
AccessKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=ACCESS_KEY_LENGTH_MAX,
        description="Opens a channel: its seats are then as free as those on general sale.",
    ),
]
Count = Annotated[int, Field(ge=1, le=SEATS_PER_HOLD_MAX)]
AmountMinor = Annotated[int, Field(ge=0, description="In minor units of `currency`.")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217.")]


class _RequestBody(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _View(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class AdmissionWish(_RequestBody):
    """Places of a general-admission tier."""

    tier: Annotated[str, Field(max_length=LABEL_LENGTH_MAX, examples=["standing"])]
    count: Count


class HoldNamed(_RequestBody):
    """Hold exactly these seats and admissions, all or nothing."""

    model_config = ConfigDict(
        title="HoldNamed",
        json_schema_extra={
            "examples": [{"seats": ["A-12", "A-13"], "or_nearest": True}],
            "anyOf": [{"required": ["seats"]}, {"required": ["admissions"]}],
        },
    )

    seats: Annotated[list[SeatLabel], Field(max_length=SEATS_PER_HOLD_MAX)] = []
    admissions: Annotated[list[AdmissionWish], Field(max_length=SEATS_PER_HOLD_MAX)] = []
    or_nearest: Annotated[
        bool, Field(description="When a seat is taken, hold the nearest equivalent set instead.")
    ] = False
    from_: Annotated[
        StopCode | None,
        Field(alias="from", description="Stop of boarding; the first one if absent."),
    ] = None
    to: Annotated[StopCode | None, Field(description="Stop of alighting; the last if absent.")] = (
        None
    )
    access_key: AccessKey | None = None


class BestAvailable(_RequestBody):
    """Seats that the house chooses."""

    count: Annotated[int, Field(ge=1, le=SEATS_PER_HOLD_MAX, description="Seats in all.")]
    category: Annotated[
        str | None, Field(max_length=LABEL_LENGTH_MAX, description="Only this category.")
    ] = None
    accessible: Annotated[
        int, Field(ge=0, le=SEATS_PER_HOLD_MAX, description="How many must be accessible seats.")
    ] = 0
    companions: Annotated[
        int,
        Field(ge=0, le=SEATS_PER_HOLD_MAX, description="Companion seats beside accessible ones."),
    ] = 0
    orphan_rule: Annotated[
        Literal["strict", "lenient", "off"] | None,
        Field(description="Whether a single seat may be left over; the show's own rule if absent."),
    ] = None


class HoldBest(_RequestBody):
    """Hold the best seats that satisfy a wish."""

    model_config = ConfigDict(
        title="HoldBest",
        json_schema_extra={"examples": [{"best_available": {"count": 2, "category": "Stalls"}}]},
    )

    best_available: BestAvailable
    from_: Annotated[StopCode | None, Field(alias="from", description="Stop of boarding.")] = None
    to: Annotated[StopCode | None, Field(description="Stop of alighting.")] = None
    access_key: AccessKey | None = None


class ConfirmBody(_RequestBody):
    """How the booking is paid."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"payment": "counter"}]})

    payment: Annotated[Literal["counter"], Field(description="`counter`: paid on the spot.")]


class CheckoutBody(_RequestBody):
    """How a hold is to be paid for. Nothing has to be said."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"provider": "stripe", "accepts_equivalent": True}]}
    )

    provider: Annotated[
        Literal["stripe", "razorpay"] | None,
        Field(description="With whom; the house's first provider if absent."),
    ] = None
    accepts_equivalent: Annotated[
        bool,
        Field(
            description=(
                "When the hold is over before the money comes and its seats are gone, others as "
                "good for the same price will do; else the money goes back."
            )
        ),
    ] = False
    promo_code: Annotated[
        str | None,
        Field(min_length=1, max_length=PROMO_CODE_LENGTH_MAX, examples=["SUMMER-26"]),
    ] = None


class NothingBody(_RequestBody):
    """No body is needed; an empty object is accepted."""


HOLD_NAMED: TypeAdapter[HoldNamed] = TypeAdapter(HoldNamed)
HOLD_BEST: TypeAdapter[HoldBest] = TypeAdapter(HoldBest)
CHECKOUT: TypeAdapter[CheckoutBody] = TypeAdapter(CheckoutBody)
CONFIRM: TypeAdapter[ConfirmBody] = TypeAdapter(ConfirmBody)

assert {rule.value for rule in OrphanRule} == {"strict", "lenient", "off"}


class HeldSeat(_View):
    """One seat of a hold."""

    label: Annotated[str, Field(examples=["A-12"])]
    category: Annotated[str, Field(examples=["Stalls"])]
    amount_minor: AmountMinor


class HeldAdmission(_View):
    """Places of one tier of a hold."""

    tier: Annotated[str, Field(examples=["standing"])]
    count: Annotated[int, Field(ge=1)]
    amount_minor: Annotated[int, Field(ge=0, description="All of them together.")]


class _Places(_View):
    hold_id: Annotated[str, Field(pattern="^hld_", examples=[_EXAMPLE_HOLD])]
    show_id: Annotated[str, Field(pattern="^shw_", examples=[_EXAMPLE_SHOW])]
    from_: Annotated[
        str | None, Field(alias="from", description="Stop of boarding; absent without a route.")
    ] = None
    to: Annotated[str | None, Field(description="Stop of alighting; absent without a route.")] = (
        None
    )
    seats: list[HeldSeat]
    admissions: list[HeldAdmission]
    arrangement: Annotated[
        Literal["named", "nearest", "row", "section", "split", "admission"],
        Field(description="How the seats were found."),
    ]
    amount_minor: AmountMinor
    currency: Currency
    held_at: Instant


assert {item.value for item in Arrangement} == {
    "named",
    "nearest",
    "row",
    "section",
    "split",
    "admission",
}


class HoldView(_Places):
    """A hold. `expires_at` moves with extensions, at most to `expires_at_latest`."""

    model_config = ConfigDict(title="Hold")

    state: Literal["held", "released", "expired", "confirmed"]
    expires_at: Instant
    expires_at_latest: Instant
    booking_id: Annotated[
        str | None, Field(description="Of a confirmed hold.", examples=[_EXAMPLE_BOOKING])
    ] = None


class HoldList(_View):
    """The customer's live holds, the one that ends first before the others."""

    holds: list[HoldView]


class HoldDeadline(_View):
    """A hold whose deadline has moved."""

    hold_id: str
    show_id: str
    state: Literal["held"]
    expires_at: Instant


class BookingReceipt(_View):
    """A booking, as confirming answers it. Its own address has the seats too."""

    booking_id: Annotated[str, Field(pattern="^bkg_", examples=[_EXAMPLE_BOOKING])]
    hold_id: str
    show_id: str
    state: Literal["confirmed"]
    payment: str
    amount_minor: AmountMinor
    currency: Currency
    confirmed_at: Instant


class BookingCancellation(_View):
    """A booking that was cancelled; its places are free again."""

    booking_id: str
    hold_id: str
    show_id: str
    state: Literal["cancelled"]
    cancelled_at: Instant
    refund: Annotated[
        Literal["policy", "full", "none"],
        Field(
            description=(
                "On which terms its money goes back: the show's `policy`, or in `full` when the "
                "house cancels. How much that is, its payment says."
            )
        ),
    ]


class BookingView(_Places):
    """A booking with its seats."""

    model_config = ConfigDict(title="Booking")

    booking_id: Annotated[str, Field(pattern="^bkg_", examples=[_EXAMPLE_BOOKING])]
    state: Literal["confirmed", "cancelled"]
    payment: str
    confirmed_at: Instant
    cancelled_at: Instant | None = None
    receipt: Annotated[
        Receipt | None, Field(description="Absent when it was paid at the counter, or free.")
    ] = None


class BookingList(_View):
    """One page of the customer's bookings, newest first."""

    bookings: list[BookingView]
    next: Annotated[
        str | None, Field(description="`cursor` of the next page; absent on the last one.")
    ] = None


class BookingsQuery(BaseModel):
    """Which bookings."""

    model_config = ConfigDict(extra="forbid")

    limit: Limit = 20
    cursor: CursorText | None = None
