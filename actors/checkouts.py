"""Checkouts as customers see them: begun, looked at, given up, and what providers call to say.

Used where requests are answered, in any number of processes. What a checkout needs done after its
request was answered, the payment actor does (``actors.payment_actor``); neither has to know the
other, because both go by the payment's row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from actors.config import ActorsConfig
from actors.show_ref import ShowRefs
from persistence.payment_rows import PromoUse, StoredPayment
from reservation.events import BookingConfirmed
from reservation.hold import Hold
from reservation.ids import CustomerId, PaymentId
from reservation.organiser_ids import SeriesId
from reservation.price import Price, PriceTerms
from reservation.promo_codes import PromoTerms


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
    """

    stored: StoredPayment
    client_data: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class FreeCheckout:
    """The places cost nothing, so there is no payment: they are booked already."""

    confirmed: BookingConfirmed
    price: Price


CheckoutOutcome: TypeAlias = OpenedCheckout | FreeCheckout | CheckoutRefusal


class Checkouts:
    """See the module's docstring. Belongs to one event loop.

    Raises:
        Fault: from every method, when a database or the show is away. Asking again is harmless.
    """

    async def open(self, wanted: CheckoutWanted) -> CheckoutOutcome:
        """Begin a payment and make it at its provider.

        The hold gets more time, once. Repeating it under the same key gives the payment as it is.
        """
        raise NotImplementedError

    async def look(self, payment_id: PaymentId) -> OpenedCheckout | None:
        """A payment as it is, whoever's it is; None when there is no such one."""
        raise NotImplementedError

    async def give_up(self, payment_id: PaymentId, customer_id: CustomerId) -> StoredPayment | None:
        """The customer does not want to pay any more; None when he has no such payment.

        One that is booked already stays so: its booking has to be cancelled.
        """
        raise NotImplementedError

    async def take_notice(self, provider: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Write down what a provider sends word of. What means nothing here is forgotten.

        Raises:
            NoticeRefused: it is not to be believed; answer 400.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Let go of connections and threads."""
        raise NotImplementedError


async def open_checkouts(
    config: ActorsConfig,
    refs: ShowRefs,
    *,
    ring: Callable[[int], None] = lambda database: None,
) -> Checkouts:
    """The checkouts of a house. Connects on first use.

    Args:
        ring: tells the payment actor of a database that there is something to do; on Ray,
            ``activation.payment_bell(config)``.
    """
    raise NotImplementedError
