"""Promo codes as organisers send and see them, and under which address each of their routes is."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter

from persistence.promo_codes import PromoCodeRow
from reservation.ids import ShowId
from reservation.organiser_ids import SeriesId
from reservation.promo_codes import (
    BASIS_POINTS_MAX,
    CODE_LENGTH_MAX,
    USES_MAX,
    AmountOff,
    PercentageOff,
    PromoTerms,
    Reduction,
)
from serve_app.api.api_document import Operation, body, path, problems
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser import outcomes
from serve_app.api.organiser.acting import BOX_OFFICE, ORGANISERS
from serve_app.api.organiser.fields import (
    AmountMinor,
    BodyInstant,
    Currency,
    ExpectedVersion,
    Next,
    PageQuery,
    RequestBody,
    TenantQuery,
    Version,
    View,
    examples,
)
from serve_app.api.organiser.outcomes import CREATION, CREATION_KEY, READING, REPLAYED_HEADER
from serve_app.api.problems import bad_field
from serve_app.api.query_models import query_parameters

SCOPE_MAX = 100
"""Shows or series that one code names; each is looked up."""

_EXAMPLE_ID = "prm_7k2m9p4qx0c1b5dn3fg8"
_Ids = Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=SCOPE_MAX)]
_Names = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=SCOPE_MAX)]
_Uses = Annotated[int | None, Field(ge=1, le=USES_MAX, description="Orders; null: any number.")]
_Code = Annotated[
    str,
    Field(
        min_length=1,
        max_length=CODE_LENGTH_MAX,
        description="Letters A to Z, digits, and `-` or `_` inside; case does not count.",
        examples=["SUMMER-26"],
    ),
]


class PercentBody(RequestBody):
    """A part of the price off."""

    model_config = ConfigDict(title="PercentageOff")

    basis_points: Annotated[
        int, Field(ge=1, le=BASIS_POINTS_MAX, description="2500 is a quarter off.")
    ]


class AmountBody(RequestBody):
    """An amount off."""

    model_config = ConfigDict(title="AmountOff")

    amount_minor: AmountMinor
    currency: Currency
    each_place: Annotated[bool, Field(description="Off every place, not once an order.")] = False


_Reduction = PercentBody | AmountBody


class PromoBody(RequestBody):
    """A new promo code."""

    model_config = ConfigDict(
        title="PromoCodeBody",
        json_schema_extra=examples(
            {"code": "SUMMER-26", "reduction": {"basis_points": 2500}, "uses_max": 100}
        ),
    )

    code: _Code
    reduction: _Reduction
    show_ids: Annotated[
        _Ids,
        Field(default_factory=list, description="With `series_ids` empty too: every show."),
    ]
    series_ids: Annotated[_Ids, Field(default_factory=list)]
    category_names: Annotated[
        _Names, Field(default_factory=list, description="Empty: every category.")
    ]
    uses_max: _Uses = None
    uses_per_customer_max: _Uses = None
    valid_from: BodyInstant | None = None
    valid_until: BodyInstant | None = None
    is_active: bool = True


class PromoChange(RequestBody):
    """What is to change; whatever is absent stays. null lifts a limit or a bound."""

    model_config = ConfigDict(title="PromoCodeChange")

    code: _Code | None = None
    reduction: _Reduction | None = None
    show_ids: _Ids | None = None
    series_ids: _Ids | None = None
    category_names: _Names | None = None
    uses_max: _Uses = None
    uses_per_customer_max: _Uses = None
    valid_from: BodyInstant | None = None
    valid_until: BodyInstant | None = None
    is_active: bool | None = None
    version: ExpectedVersion = None


class PromoView(View):
    """A promo code."""

    model_config = ConfigDict(title="PromoCode")

    promo_code_id: Annotated[str, Field(pattern="^prm_", examples=[_EXAMPLE_ID])]
    code: str
    reduction: _Reduction
    show_ids: list[str]
    series_ids: list[str]
    category_names: list[str]
    uses_max: int | None
    uses_per_customer_max: int | None
    valid_from: Instant | None
    valid_until: Instant | None
    is_active: bool
    version: Version
    created_at: Instant
    updated_at: Instant


class PromoList(View):
    """One page of promo codes, the newest first."""

    model_config = ConfigDict(title="PromoCodeList")

    promo_codes: list[PromoView]
    next: Next = None


PROMO: TypeAdapter[PromoBody] = TypeAdapter(PromoBody)
CHANGED: TypeAdapter[PromoChange] = TypeAdapter(PromoChange)
PAGE: TypeAdapter[PageQuery] = TypeAdapter(PageQuery)

MODELS = (PercentBody, AmountBody, PromoBody, PromoChange, PromoView, PromoList)

_PROMO = path("promo_code_id", _EXAMPLE_ID)
_FOR = query_parameters(TenantQuery)
_ONE = {"description": "The promo code.", "model": PromoView}

CREATE = Operation(
    "POST",
    "/promo-codes",
    status=201,
    tag="promo codes",
    roles=ORGANISERS,
    summary="Add a promo code",
    responses={201: {**_ONE, "headers": REPLAYED_HEADER}, **problems(*CREATION)},
    extra={"parameters": [CREATION_KEY, *_FOR], "requestBody": body(PromoBody)},
)
LIST = Operation(
    "GET",
    "/promo-codes",
    tag="promo codes",
    roles=BOX_OFFICE,
    summary="The promo codes",
    responses={200: {"description": "One page.", "model": PromoList}, **problems(*READING)},
    extra={"parameters": query_parameters(PageQuery)},
)
FIND = Operation(
    "GET",
    "/promo-codes/{promo_code_id}",
    tag="promo codes",
    roles=BOX_OFFICE,
    summary="One promo code",
    responses={200: _ONE, **problems(*READING)},
    extra={"parameters": [_PROMO, *_FOR]},
)
UPDATE = Operation(
    "PATCH",
    "/promo-codes/{promo_code_id}",
    tag="promo codes",
    roles=ORGANISERS,
    summary="Change a promo code",
    description="Orders that are paid keep what they got.",
    responses={200: _ONE, **problems(*outcomes.CHANGE)},
    extra={"parameters": [_PROMO, *_FOR], "requestBody": body(PromoChange)},
)
DELETE = Operation(
    "DELETE",
    "/promo-codes/{promo_code_id}",
    status=204,
    tag="promo codes",
    roles=ORGANISERS,
    summary="Take a promo code out of use",
    description="It stays in the list, because orders name it, and can be made active again.",
    responses={
        204: {"description": "It takes nothing off any more."},
        **problems("invalid_request", "version_conflict", "not_done", "outcome_unknown"),
    },
    extra={"parameters": [_PROMO, *_FOR]},
)

_FIELDS = {"valid_from_at_ms": "valid_from", "valid_until_at_ms": "valid_until"}


def terms_of_body(sent: PromoBody) -> PromoTerms:
    """The terms that the body describes.

    Raises:
        Problem: ``invalid_request``: the members do not fit each other.
    """
    return checked_terms(
        code=sent.code,
        reduction=_reduction_of(sent.reduction),
        show_ids=frozenset(map(ShowId, sent.show_ids)),
        series_ids=frozenset(map(SeriesId, sent.series_ids)),
        category_names=frozenset(sent.category_names),
        uses_max=sent.uses_max,
        uses_per_customer_max=sent.uses_per_customer_max,
        valid_from_at_ms=sent.valid_from,
        valid_until_at_ms=sent.valid_until,
        is_active=sent.is_active,
    )


def changed_terms(old: PromoTerms, sent: PromoChange) -> PromoTerms:
    """The terms after this change.

    Raises:
        Problem: ``invalid_request``: the members do not fit each other.
    """
    given = sent.model_fields_set

    def bound(name: str, was: int | None) -> int | None:
        value: int | None = getattr(sent, name)
        return value if name in given else was

    show_ids, series_ids, names = sent.show_ids, sent.series_ids, sent.category_names
    return checked_terms(
        code=old.code if sent.code is None else sent.code,
        reduction=old.reduction if sent.reduction is None else _reduction_of(sent.reduction),
        show_ids=old.show_ids if show_ids is None else frozenset(map(ShowId, show_ids)),
        series_ids=old.series_ids if series_ids is None else frozenset(map(SeriesId, series_ids)),
        category_names=old.category_names if names is None else frozenset(names),
        uses_max=bound("uses_max", old.uses_max),
        uses_per_customer_max=bound("uses_per_customer_max", old.uses_per_customer_max),
        valid_from_at_ms=bound("valid_from", old.valid_from_at_ms),
        valid_until_at_ms=bound("valid_until", old.valid_until_at_ms),
        is_active=old.is_active if sent.is_active is None else sent.is_active,
    )


def checked_terms(**members: Any) -> PromoTerms:
    """Terms of these members.

    Raises:
        Problem: ``invalid_request`` naming the member that does not fit.
    """
    try:
        return PromoTerms(**members)
    except ValueError as error:
        field, _, reason = str(error).partition(": ")
        raise bad_field(_FIELDS.get(field, field), reason) from None


def view_of_promo(row: PromoCodeRow) -> dict[str, Any]:
    """A promo code as clients get it."""
    terms = row.terms
    opens, closes = terms.valid_from_at_ms, terms.valid_until_at_ms
    reduction: dict[str, Any]
    if isinstance(terms.reduction, PercentageOff):
        reduction = {"basis_points": terms.reduction.basis_points}
    else:
        reduction = {
            "amount_minor": terms.reduction.amount_minor,
            "currency": terms.reduction.currency,
            "each_place": terms.reduction.each_place,
        }
    return {
        "promo_code_id": row.promo_code_id,
        "code": terms.code,
        "reduction": reduction,
        "show_ids": sorted(terms.show_ids),
        "series_ids": sorted(terms.series_ids),
        "category_names": sorted(terms.category_names),
        "uses_max": terms.uses_max,
        "uses_per_customer_max": terms.uses_per_customer_max,
        "valid_from": None if opens is None else write_instant(opens),
        "valid_until": None if closes is None else write_instant(closes),
        "is_active": terms.is_active,
        "version": row.version,
        "created_at": write_instant(row.created_at_ms),
        "updated_at": write_instant(row.updated_at_ms),
    }


def _reduction_of(sent: _Reduction) -> Reduction:
    if isinstance(sent, PercentBody):
        return PercentageOff(sent.basis_points)
    try:
        return AmountOff(sent.amount_minor, sent.currency, sent.each_place)
    except ValueError as error:
        field, _, reason = str(error).partition(": ")
        raise bad_field(f"reduction.{field}", reason) from None
