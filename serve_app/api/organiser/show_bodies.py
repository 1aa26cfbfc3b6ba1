"""Shows as organisers send and see them: what they are, what they cost, how they are sold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from persistence.organiser_shows import ShowRow
from reservation import limits
from reservation.fares import CategoryFare, FareTable, FareWindow
from reservation.seating_plan import SeatingPlan
from reservation.show import OrphanRule, SalesPolicy
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.fields import (
    AmountMinor,
    BodyInstant,
    Currency,
    Description,
    ExpectedVersion,
    Line,
    Next,
    Reason,
    RequestBody,
    TimeZone,
    Title,
    Version,
    View,
    examples,
)
from serve_app.api.organiser.sales_views import SalesView
from serve_app.api.problems import FieldError, bad_field, bad_request, shorten

EXAMPLE_ID = "shw_7k2m9p4qx0c1b5dn"

Kind = Literal["performance", "train", "bus", "other_run"]
OrphanRuleName = Literal["strict", "lenient", "off"]
_ObjectId = Annotated[str, Field(max_length=40)]
_CategoryName = Annotated[str, Field(max_length=200)]


class CategoryPrice(RequestBody):
    """What a place of one category costs."""

    amount_minor: AmountMinor
    leg_minor: Annotated[
        list[AmountMinor],
        Field(
            default_factory=list,
            max_length=limits.LEGS_PER_ROUTE_MAX,
            description="Of a run: what each leg adds. Empty: one price, however far.",
        ),
    ]


_Categories = Annotated[
    dict[_CategoryName, CategoryPrice],
    Field(description="A price for every category of the seating plan, by its name."),
]


class PriceWindow(RequestBody):
    """Other prices from an instant on, until the next window begins."""

    from_: Annotated[BodyInstant, Field(alias="from")]
    categories: _Categories


class Prices(RequestBody):
    """What places cost, now and later. A hold keeps the price of its moment."""

    model_config = ConfigDict(
        json_schema_extra=examples(
            {
                "currency": "EUR",
                "categories": {"Stalls": {"amount_minor": 4500}},
                "windows": [
                    {
                        "from": "2026-12-01T00:00:00Z",
                        "categories": {"Stalls": {"amount_minor": 5200}},
                    }
                ],
            }
        )
    )

    currency: Currency
    categories: _Categories
    windows: Annotated[
        list[PriceWindow],
        Field(
            default_factory=list,
            max_length=limits.FARE_WINDOWS_MAX,
            description="In the order of time.",
        ),
    ]


class Policy(RequestBody):
    """How a show is sold. What is absent has the house's own value."""

    model_config = ConfigDict(title="SalesPolicyBody")

    sales_start: Annotated[
        BodyInstant | None, Field(description="Nothing is sold before; null: at once.")
    ] = None
    sales_end: Annotated[
        BodyInstant | None, Field(description="Nothing is sold from then on; null: no end.")
    ] = None
    seats_per_order_max: Annotated[
        int | None, Field(ge=1, le=limits.SEATS_PER_HOLD_MAX, description="Of one hold.")
    ] = None
    seats_per_customer_max: Annotated[
        int | None,
        Field(ge=1, le=limits.SEATS_PER_PLAN_MAX, description="Held and booked, in all."),
    ] = None
    holds_per_customer_max: Annotated[
        int | None, Field(ge=1, le=1_000, description="Live at one time.")
    ] = None
    hold_ttl_ms: Annotated[
        int | None, Field(ge=limits.HOLD_TTL_MS_MIN, le=limits.HOLD_TTL_MS_MAX)
    ] = None
    hold_life_ms_max: Annotated[
        int | None, Field(ge=limits.HOLD_TTL_MS_MIN, le=limits.HOLD_LIFE_MS_MAX)
    ] = None
    orphan_rule: Annotated[
        OrphanRuleName | None, Field(description="Whether a single seat may be left over.")
    ] = None


class PlanChoice(RequestBody):
    """Which seats: a version of a seating plan, or a plan by its content."""

    seating_plan_id: Annotated[_ObjectId | None, Field(examples=["vpl_7k2m9p4qx0c1b5dn3fg8"])] = (
        None
    )
    seating_plan_version: Annotated[
        int | None, Field(ge=1, le=2**31 - 1, description="The newest one if absent.")
    ] = None
    plan_id: Annotated[_ObjectId | None, Field(description="Instead of the two others.")] = None


class ShowBody(PlanChoice):
    """A new show."""

    model_config = ConfigDict(
        json_schema_extra=examples(
            {
                "title": "Hamlet",
                "venue_id": "ven_7k2m9p4qx0c1b5dn3fg8",
                "seating_plan_id": "vpl_7k2m9p4qx0c1b5dn3fg8",
                "starts_at": "2026-12-24T18:00:00Z",
                "ends_at": "2026-12-24T21:00:00Z",
                "prices": {"currency": "EUR", "categories": {"Stalls": {"amount_minor": 4500}}},
                "policy": {"seats_per_order_max": 6},
            }
        )
    )

    title: Title
    description: Description = ""
    kind: Kind = "performance"
    venue_id: _ObjectId
    starts_at: BodyInstant
    ends_at: BodyInstant
    series_id: _ObjectId | None = None
    prices: Prices
    policy: Policy = Policy()
    is_on_sale: Annotated[
        bool, Field(description="At once; otherwise it is a draft until it is published.")
    ] = False


class ShowChange(RequestBody):
    """What is to change; whatever is absent stays."""

    title: Title | None = None
    description: Description | None = None
    venue: Annotated[Line | None, Field(description="The text that people read.")] = None
    starts_at: BodyInstant | None = None
    ends_at: BodyInstant | None = None
    series_id: _ObjectId | None = None
    prices: Prices | None = None
    policy: Annotated[
        Policy | None, Field(description="Members that are absent stay as they are.")
    ] = None
    version: ExpectedVersion = None


class ShowPlanChange(PlanChoice):
    """Other seats for a show."""

    renamed_categories: Annotated[
        dict[_CategoryName, _CategoryName],
        Field(
            default_factory=dict,
            max_length=1_000,
            description="Categories with another name now: old to new.",
        ),
    ]
    prices: Annotated[
        Prices | None, Field(description="Needed when the plan has a new category.")
    ] = None


class CancelBody(RequestBody):
    """Why a show does not take place."""

    reason: Reason


class CategoryPriceView(View):
    """What a place of one category costs."""

    category: str
    amount_minor: AmountMinor
    leg_minor: list[int]


class PriceWindowView(View):
    """Prices from an instant on."""

    from_: Annotated[Instant, Field(alias="from")]
    categories: list[CategoryPriceView]


class PricesView(View):
    """What places cost, at first and from later instants on."""

    currency: Currency
    categories: list[CategoryPriceView]
    windows: list[PriceWindowView]


class PolicyView(View):
    """How a show is sold."""

    model_config = ConfigDict(title="SalesPolicy")

    sales_start: Instant | None
    sales_end: Instant | None
    seats_per_order_max: int
    seats_per_customer_max: int
    holds_per_customer_max: int
    hold_ttl_ms: int
    hold_life_ms_max: int
    orphan_rule: OrphanRuleName


class ShowView(View):
    """A show."""

    model_config = ConfigDict(title="OrganiserShow")

    show_id: Annotated[str, Field(pattern="^shw_", examples=[EXAMPLE_ID])]
    title: str
    description: str
    kind: Kind
    status: Literal["draft", "on_sale", "cancelled"]
    venue: str
    venue_id: str | None
    series_id: str | None
    starts_at: Instant
    ends_at: Instant
    time_zone: TimeZone
    plan_id: str
    prices: PricesView
    policy: PolicyView
    version: Version
    created_at: Instant
    updated_at: Instant
    sales: Annotated[SalesView | None, Field(description="Only if asked for.")] = None


class ShowList(View):
    """One page of shows, the one that starts first before the others."""

    model_config = ConfigDict(title="OrganiserShowList")

    shows: list[ShowView]
    next: Next = None


SHOW: TypeAdapter[ShowBody] = TypeAdapter(ShowBody)
SHOW_CHANGE: TypeAdapter[ShowChange] = TypeAdapter(ShowChange)
SHOW_PLAN_CHANGE: TypeAdapter[ShowPlanChange] = TypeAdapter(ShowPlanChange)
CANCEL: TypeAdapter[CancelBody] = TypeAdapter(CancelBody)

MODELS = (
    CategoryPrice,
    PriceWindow,
    Prices,
    Policy,
    ShowBody,
    ShowChange,
    ShowPlanChange,
    CancelBody,
    CategoryPriceView,
    PriceWindowView,
    PricesView,
    PolicyView,
    ShowView,
    ShowList,
)


def fares_of_prices(prices: Prices, plan: SeatingPlan, field: str = "prices") -> FareTable:
    """The fares that these prices are for the categories of ``plan``.

    Raises:
        Problem: ``invalid_request`` with every category that is missing or not known.
    """
    errors: list[FieldError] = []
    fares = _fares(prices.categories, plan, f"{field}.categories", errors)
    windows = [
        FareWindow(
            window.from_,
            _fares(window.categories, plan, f"{field}.windows[{index}].categories", errors),
        )
        for index, window in enumerate(prices.windows)
    ]
    if errors:
        raise bad_request(errors)
    try:
        return FareTable(prices.currency, fares, tuple(windows))
    except ValueError as error:
        raise bad_field(f"{field}.windows", _reason(error)) from None


def _fares(
    categories: Mapping[str, CategoryPrice],
    plan: SeatingPlan,
    field: str,
    errors: list[FieldError],
) -> tuple[CategoryFare, ...]:
    fares = []
    sold = {*plan.category_of, *(tier.category_index for tier in plan.admission_tiers)}
    for index, category in enumerate(plan.categories):
        price = categories.get(category.name)
        if price is None:
            if index not in sold:
                # Kept of an earlier plan, so that the others keep their numbers.
                fares.append(CategoryFare(0))
                continue
            errors.append(FieldError(f"{field}.{shorten(category.name)}", "is missing"))
            continue
        try:
            fares.append(CategoryFare(price.amount_minor, tuple(price.leg_minor)))
        except ValueError as error:
            errors.append(FieldError(f"{field}.{shorten(category.name)}", _reason(error)))
    known = {category.name for category in plan.categories}
    errors += [
        FieldError(f"{field}.{shorten(name)}", "the seating plan has no such category")
        for name in categories
        if name not in known
    ]
    return tuple(fares)


def policy_of_body(body: Policy, before: SalesPolicy | None = None) -> SalesPolicy:
    """The policy that the body describes; members that are absent are as they were before.

    Raises:
        Problem: ``invalid_request``: the members do not fit each other.
    """
    old = before or SalesPolicy()
    given = body.model_fields_set

    def member(name: str, was: Any) -> Any:
        value = getattr(body, name)
        # null is "no bound" for the two instants, and "the house's own" for the rest.
        return value if name in given and (value is not None or name.startswith("sales_")) else was

    rule = member("orphan_rule", None)
    try:
        return SalesPolicy(
            hold_ttl_ms=member("hold_ttl_ms", old.hold_ttl_ms),
            hold_life_ms_max=member("hold_life_ms_max", old.hold_life_ms_max),
            seats_per_hold_max=member("seats_per_order_max", old.seats_per_hold_max),
            live_holds_per_customer_max=member(
                "holds_per_customer_max", old.live_holds_per_customer_max
            ),
            seats_per_customer_max=member("seats_per_customer_max", old.seats_per_customer_max),
            orphan_rule=old.orphan_rule if rule is None else OrphanRule(rule),
            on_sale_from_at_ms=member("sales_start", old.on_sale_from_at_ms),
            on_sale_until_at_ms=member("sales_end", old.on_sale_until_at_ms),
        )
    except ValueError as error:
        field, _, reason = str(error).partition(": ")
        raise bad_field(f"policy.{_POLICY_NAMES.get(field, field)}", reason) from None


_POLICY_NAMES = {
    "seats_per_hold_max": "seats_per_order_max",
    "live_holds_per_customer_max": "holds_per_customer_max",
    "on_sale_from_at_ms": "sales_start",
    "on_sale_until_at_ms": "sales_end",
}


def view_of_show(row: ShowRow, plan: SeatingPlan) -> dict[str, Any]:
    """A show as clients get it; ``plan`` is its own."""
    listing = row.listing
    return {
        "show_id": listing.show_id,
        "title": listing.title,
        "description": listing.description,
        "kind": listing.kind.value,
        "status": listing.status.value,
        "venue": listing.venue,
        "venue_id": listing.venue_id,
        "series_id": listing.series_id,
        "starts_at": write_instant(listing.starts_at_ms),
        "ends_at": write_instant(listing.ends_at_ms),
        "time_zone": listing.time_zone,
        "plan_id": listing.plan_id,
        "prices": view_of_fares(listing.fares, plan),
        "policy": view_of_policy(listing.policy),
        "version": row.version,
        "created_at": write_instant(row.created_at_ms),
        "updated_at": write_instant(row.updated_at_ms),
    }


def view_of_fares(fares: FareTable, plan: SeatingPlan) -> dict[str, Any]:
    """Prices as clients get them."""
    return {
        "currency": fares.currency,
        "categories": _category_views(fares.fares, plan),
        "windows": [
            {
                "from": write_instant(window.from_at_ms),
                "categories": _category_views(window.fares, plan),
            }
            for window in fares.windows
        ],
    }


def view_of_policy(policy: SalesPolicy) -> dict[str, Any]:
    """A policy as clients get it."""
    opens, closes = policy.on_sale_from_at_ms, policy.on_sale_until_at_ms
    return {
        "sales_start": None if opens is None else write_instant(opens),
        "sales_end": None if closes is None else write_instant(closes),
        "seats_per_order_max": policy.seats_per_hold_max,
        "seats_per_customer_max": policy.seats_per_customer_max,
        "holds_per_customer_max": policy.live_holds_per_customer_max,
        "hold_ttl_ms": policy.hold_ttl_ms,
        "hold_life_ms_max": policy.hold_life_ms_max,
        "orphan_rule": policy.orphan_rule.value,
    }


def _category_views(fares: tuple[CategoryFare, ...], plan: SeatingPlan) -> list[dict[str, Any]]:
    return [
        {
            "category": category.name,
            "amount_minor": fare.base_minor,
            "leg_minor": list(fare.leg_minor),
        }
        for category, fare in zip(plan.categories, fares, strict=True)
    ]


def _reason(error: ValueError) -> str:
    return str(error).partition(": ")[2] or str(error)
