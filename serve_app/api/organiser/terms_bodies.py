"""What a show charges besides its fares, and gives back, as organisers send and see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from persistence.show_terms import ShowTerms
from reservation import limits
from reservation.price import BASIS_POINTS_WHOLE, FeeBasis, FeeTerm, PriceTerms, TaxBase, TaxTerm
from reservation.refunds import BEFORE_START_MS_MAX, RefundBand, RefundPolicy
from serve_app.api.instants import Instant, write_instant
from serve_app.api.organiser.fields import AmountMinor, RequestBody, View, examples
from serve_app.api.problems import FieldError, bad_field, bad_request

_LineName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=limits.PRICE_LINE_NAME_LENGTH_MAX,
        description="As receipts have it.",
    ),
]
_BasisPoints = Annotated[
    int, Field(ge=0, le=BASIS_POINTS_WHOLE, description="Hundredths of a percent.")
]
_Version = Annotated[
    int | None,
    Field(
        ge=0,
        le=2**31 - 1,
        description="`version` as it was seen; refused when it is another by now.",
    ),
]
_SeenVersion = Annotated[int, Field(ge=0, description="Rises with every change; 0: never set.")]


class FeeBody(RequestBody):
    """A fee on top: an amount once (`order`) or for each place, or a percentage of the places."""

    model_config = ConfigDict(title="Fee")

    name: _LineName
    basis: Literal["order", "place", "percentage"]
    amount_minor: AmountMinor | None = None
    basis_points: _BasisPoints | None = None


class TaxBody(RequestBody):
    """A tax on the places or on the fees, added or included."""

    model_config = ConfigDict(title="Tax")

    name: _LineName
    on: Literal["places", "fees"]
    basis_points: _BasisPoints
    is_included: bool


class PriceTermsBody(RequestBody):
    """What a show charges besides its fares; it replaces what was there."""

    model_config = ConfigDict(
        json_schema_extra=examples(
            {
                "fees": [{"name": "Booking fee", "basis": "order", "amount_minor": 150}],
                "taxes": [
                    {"name": "VAT 7 %", "on": "places", "basis_points": 700, "is_included": True}
                ],
            }
        )
    )

    fees: Annotated[list[FeeBody], Field(max_length=limits.FEES_PER_SHOW_MAX)]
    taxes: Annotated[list[TaxBody], Field(max_length=limits.TAXES_PER_SHOW_MAX)]
    version: _Version = None


class PriceTermsView(View):
    """What a show charges besides its fares."""

    model_config = ConfigDict(title="PriceTerms")

    fees: list[FeeBody]
    taxes: list[TaxBody]
    version: _SeenVersion
    updated_at: Instant | None


class RefundBandBody(RequestBody):
    """The share that goes back while at least so much time is left."""

    model_config = ConfigDict(title="RefundBand")

    before_start_ms: Annotated[int, Field(ge=0, le=BEFORE_START_MS_MAX)]
    share_basis_points: _BasisPoints


class RefundPolicyBody(RequestBody):
    """What customers get back who cancel by themselves; it replaces what was there."""

    model_config = ConfigDict(
        json_schema_extra=examples(
            {
                "bands": [
                    {"before_start_ms": 604_800_000, "share_basis_points": 10_000},
                    {"before_start_ms": 86_400_000, "share_basis_points": 5_000},
                ],
                "kept_minor": 100,
            }
        )
    )

    bands: Annotated[
        list[RefundBandBody],
        Field(
            max_length=limits.REFUND_BANDS_MAX,
            description="From the longest time to the shortest; after the last nothing goes back.",
        ),
    ]
    kept_minor: AmountMinor = 0
    version: _Version = None


class RefundPolicyView(View):
    """What customers get back who cancel by themselves."""

    model_config = ConfigDict(title="RefundPolicy")

    bands: list[RefundBandBody]
    kept_minor: AmountMinor
    version: _SeenVersion
    updated_at: Instant | None


PRICE_TERMS: TypeAdapter[PriceTermsBody] = TypeAdapter(PriceTermsBody)
REFUND_POLICY: TypeAdapter[RefundPolicyBody] = TypeAdapter(RefundPolicyBody)

MODELS = (
    FeeBody,
    TaxBody,
    PriceTermsBody,
    PriceTermsView,
    RefundBandBody,
    RefundPolicyBody,
    RefundPolicyView,
)


def price_terms_of(sent: PriceTermsBody) -> PriceTerms:
    """The terms that a body means.

    Raises:
        Problem: ``invalid_request``, naming the field.
    """
    errors: list[FieldError] = []
    fees: list[FeeTerm] = []
    for position, fee in enumerate(sent.fees):
        is_share = fee.basis == "percentage"
        rate, other = fee.amount_minor, fee.basis_points
        if is_share:
            rate, other = other, rate
        if rate is None or other is not None:
            which = "basis_points and no amount_minor" if is_share else "amount_minor alone"
            errors.append(FieldError(f"fees[{position}]", f"{fee.basis} needs {which}"))
            continue
        try:
            fees.append(FeeTerm(fee.name, FeeBasis(fee.basis), rate))
        except ValueError as error:
            errors.append(FieldError(f"fees[{position}]", str(error)))
    taxes: list[TaxTerm] = []
    for position, tax in enumerate(sent.taxes):
        try:
            taxes.append(TaxTerm(tax.name, TaxBase(tax.on), tax.basis_points, tax.is_included))
        except ValueError as error:
            errors.append(FieldError(f"taxes[{position}]", str(error)))
    if errors:
        raise bad_request(errors)
    try:
        return PriceTerms(tuple(fees), tuple(taxes))
    except ValueError as error:
        field, _, reason = str(error).partition(": ")
        raise bad_field(field, reason) from None


def refund_policy_of(sent: RefundPolicyBody) -> RefundPolicy:
    """The policy that a body means.

    Raises:
        Problem: ``invalid_request``, naming ``bands``.
    """
    bands = tuple(RefundBand(band.before_start_ms, band.share_basis_points) for band in sent.bands)
    try:
        return RefundPolicy(bands, sent.kept_minor)
    except ValueError as error:
        raise bad_field("bands", str(error).partition(": ")[2]) from None


def view_of_price_terms(terms: ShowTerms) -> dict[str, Any]:
    """The terms as clients get them."""
    return {
        "fees": [_view_of_fee(fee) for fee in terms.price_terms.fees],
        "taxes": [
            {
                "name": tax.name,
                "on": tax.base.value,
                "basis_points": tax.basis_points,
                "is_included": tax.is_included,
            }
            for tax in terms.price_terms.taxes
        ],
        **_version_of(terms),
    }


def view_of_refund_policy(terms: ShowTerms) -> dict[str, Any]:
    """The policy as clients get it."""
    return {
        "bands": _views_of_bands(terms.refund_policy.bands),
        "kept_minor": terms.refund_policy.kept_minor,
        **_version_of(terms),
    }


def _view_of_fee(fee: FeeTerm) -> dict[str, Any]:
    unit = "basis_points" if fee.basis is FeeBasis.PERCENTAGE else "amount_minor"
    return {"name": fee.name, "basis": fee.basis.value, unit: fee.rate}


def _views_of_bands(bands: Sequence[RefundBand]) -> list[dict[str, int]]:
    return [
        {"before_start_ms": band.before_start_ms, "share_basis_points": band.share_basis_points}
        for band in bands
    ]


def _version_of(terms: ShowTerms) -> dict[str, Any]:
    is_set = terms.version > 0
    return {
        "version": terms.version,
        "updated_at": write_instant(terms.updated_at_ms) if is_set else None,
    }


assert {basis.value for basis in FeeBasis} == {"order", "place", "percentage"}
assert {base.value for base in TaxBase} == {"places", "fees"}
