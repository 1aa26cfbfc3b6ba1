"""The bodies of payments, as OpenAPI shows them and the tests hold every response against them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from reservation.price import LineKind
from serve_app.api.instants import Instant
from serve_app.api.query_fields import CursorText, Limit

EXAMPLE_PAYMENT = "pay_7k2m9p4qx0c1b5dn3fg8hj6w2ry4tz0v"

AmountMinor = Annotated[int, Field(ge=0, description="In minor units of `currency`.")]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$", description="ISO 4217.")]
Provider = Literal["stripe", "razorpay"]
PublicState = Annotated[
    Literal[
        "waiting",
        "processing",
        "paid",
        "booked",
        "refunding",
        "refunded",
        "failed",
        "cancelled",
    ],
    Field(
        description=(
            "`processing`: the provider is being asked. `waiting`: it waits for the customer. "
            "`failed`: his last try failed; he may try again. `paid`: the money is there or "
            "reserved, the places are being booked. `booked`: the places are his. `refunding`, "
            "`refunded`: money goes, or went, back. `cancelled`: it is over, and nothing goes back."
        )
    ),
]


class _View(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class PriceLineView(_View):
    """One line of a price."""

    model_config = ConfigDict(title="PriceLine")

    kind: Literal["place", "discount", "fee", "tax"]
    name: Annotated[
        str, Field(description="A category, a promo code, or the name of a fee or tax.")
    ]
    amount_minor: Annotated[int, Field(description="Below 0 for a discount.")]
    is_included: Annotated[
        bool, Field(description="A tax that the lines above contain; not part of the sum.")
    ]


assert {item.value for item in LineKind} == {"place", "discount", "fee", "tax"}


class Receipt(_View):
    """What was paid for a booking."""

    payment_id: Annotated[str, Field(pattern="^pay_", examples=[EXAMPLE_PAYMENT])]
    provider: Provider
    state: PublicState
    amount_minor: AmountMinor
    currency: Currency
    lines: list[PriceLineView]
    refunded_minor: Annotated[int, Field(ge=0, description="What went back, as far as is known.")]


class PaymentView(_View):
    """A payment as its customer sees it."""

    model_config = ConfigDict(title="Payment")

    payment_id: Annotated[
        str | None,
        Field(
            pattern="^pay_",
            examples=[EXAMPLE_PAYMENT],
            description="Absent when there was nothing to pay: the places are booked already.",
        ),
    ] = None
    hold_id: Annotated[str, Field(pattern="^hld_")]
    show_id: Annotated[str, Field(pattern="^shw_")]
    booking_id: Annotated[
        str | None, Field(pattern="^bkg_", description="When the places are the customer's.")
    ] = None
    provider: Provider | None = None
    state: PublicState
    amount_minor: AmountMinor
    currency: Currency
    lines: Annotated[list[PriceLineView], Field(description="They add up to `amount_minor`.")]
    refunded_minor: Annotated[int, Field(ge=0)]
    created_at: Instant | None = None
    expires_at: Annotated[Instant | None, Field(description="When the hold ends.")] = None
    client: Annotated[
        dict[str, str] | None,
        Field(
            description=(
                "What the provider's page in the browser needs, while it can be paid: "
                "`client_secret` and `publishable_key` of Stripe, `order_id` and `key_id` of "
                "Razorpay. For its customer only. Absent as well while the provider does not "
                "answer: then look again."
            )
        ),
    ] = None


class PaymentList(_View):
    """One page of the customer's payments, newest first; without `client`."""

    payments: list[PaymentView]
    next: Annotated[
        str | None, Field(description="`cursor` of the next page; absent on the last one.")
    ] = None


class PaymentsQuery(BaseModel):
    """Which payments."""

    model_config = ConfigDict(extra="forbid")

    limit: Limit = 20
    cursor: CursorText | None = None


class WebhookTaken(_View):
    """It was written down, now or before."""

    status: Literal["ok"]
