"""What a customer wants to pay for, and what becomes of that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from persistence.payment_rows import PromoUse, StoredPayment
from reservation.events import BookingConfirmed
from reservation.hold import Hold
from reservation.ids import CustomerId
from reservation.organiser_ids import SeriesId
from reservation.price import Price, PriceTerms, price_of
from reservation.promo_codes import Discount, PricedPlace, PromoTerms


class CheckoutRefusal(StrEnum):
    """Why no payment was begun. The value is a public, stable code."""

    HOLD_NOT_FOUND = "hold_not_found"
    HOLD_EXPIRED = "hold_expired"
    HOLD_RELEASED = "hold_released"  #: By its customer, or because the show was cancelled.
    HOLD_ALREADY_CONFIRMED = "hold_already_confirmed"
    HOLD_HAS_PAYMENT = "hold_has_payment"  #: Another payment of this hold is alive.
    EXISTS_WITH_DIFFERENT_REQUEST = "exists_with_different_request"  #: The key was used otherwise.
    PRICE_TOO_HIGH = "price_too_high"  #: More than any payment may be.
    PROVIDER_NOT_AVAILABLE = "provider_not_available"  #: The house takes no money with it.
    PROVIDER_REFUSED = "provider_refused"  #: It will not take this: too little, a currency, ...
    PROMO_NOT_ACTIVE = "promo_not_active"
    PROMO_NOT_YET_VALID = "promo_not_yet_valid"
    PROMO_NO_LONGER_VALID = "promo_no_longer_valid"
    PROMO_FOR_OTHER_SHOWS = "promo_for_other_shows"
    PROMO_IN_OTHER_CURRENCY = "promo_in_other_currency"
    PROMO_FOR_OTHER_CATEGORIES = "promo_for_other_categories"
    PROMO_USED_UP = "promo_used_up"
    PROMO_USED_BY_CUSTOMER = "promo_used_by_customer"


@dataclass(frozen=True, slots=True)
class PromoWanted:
    """A promo code that the customer typed, found among those of the show's tenant.

    Shapes:
        series_id: the show's.
    """

    use: PromoUse
    terms: PromoTerms
    series_id: SeriesId | None = None


@dataclass(frozen=True, slots=True)
class CheckoutWanted:
    """What a customer wants to pay for, and how.

    Shapes:
        hold: as ``ClaimReader.find_hold`` gives it; only the customer's own can be paid for.
        idempotency_key: the payment's id is derived from it and the hold.
        seat_categories: the category's name of each seat of the hold, in its order.
        admission_categories: the same for each entry of the hold's admissions.
        accepts_equivalent: when the places are gone at the end, others as good will do.
    """

    hold: Hold
    customer_id: CustomerId
    idempotency_key: str
    provider: str
    currency: str
    seat_categories: tuple[str, ...]
    admission_categories: tuple[str, ...]
    terms: PriceTerms
    accepts_equivalent: bool = False
    promo: PromoWanted | None = None


@dataclass(frozen=True, slots=True)
class OpenedCheckout:
    """A payment, and what a browser needs to pay it.

    Shapes:
        client_data: see ``ProviderPayment.client_data``; empty when it cannot be paid (any more),
            or the provider has not answered yet: then ask again (``look``).
        is_repeated: it was begun before, by the same request.
    """

    stored: StoredPayment
    client_data: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class FreeCheckout:
    """The places cost nothing, so there is no payment: they are booked already."""

    confirmed: BookingConfirmed
    price: Price


CheckoutOutcome: TypeAlias = OpenedCheckout | FreeCheckout | CheckoutRefusal


def places_of(wanted: CheckoutWanted) -> tuple[PricedPlace, ...]:
    """The places of a hold at their full prices: its seats, then its admissions one by one."""
    held = wanted.hold.held
    seats = [
        PricedPlace(category, amount_minor)
        for category, amount_minor in zip(wanted.seat_categories, held.seat_minor, strict=True)
    ]
    admissions = [
        PricedPlace(category, each_minor)
        for category, (_, count, each_minor) in zip(
            wanted.admission_categories, held.admissions, strict=True
        )
        for _ in range(count)
    ]
    return (*seats, *admissions)


def free_price(wanted: CheckoutWanted) -> Price:
    """The price of places that were booked for nothing."""
    places = places_of(wanted)
    parts = tuple(place.amount_minor for place in places)
    code = "" if wanted.promo is None else wanted.promo.use.code_key
    discount = Discount(sum(parts), parts) if any(parts) else None
    return price_of(places, wanted.currency, PriceTerms(), discount, code)
