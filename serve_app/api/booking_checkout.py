"""From a hold to a payment: what it costs, with whom it is paid, and what the customer is told.

The price is that of the hold's places, with the show's fees and taxes and the promo code, as they
are when the payment begins. It is kept with the payment: what the organiser changes later changes
nothing about it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple

from actors.checkouts import (
    CheckoutRefusal,
    Checkouts,
    CheckoutWanted,
    FreeCheckout,
    PromoWanted,
)
from persistence.payment_rows import PromoUse
from persistence.promo_codes import PromoCodes
from persistence.show_terms import ShowTermsStore
from reservation.faults import Fault
from reservation.hold import Hold
from reservation.promo_codes import code_key
from reservation.rejections import Rejection
from serve_app.api.booking_schemas import CheckoutBody
from serve_app.api.payments.own_payments import OwnPayments
from serve_app.api.payments.views import View, view_of_free, view_of_payment
from serve_app.api.problems import KINDS, Problem, bad_field, problem_of_fault, problem_of_rejection
from serve_app.api.show_facts import ShowFacts

log = logging.getLogger(__name__)

PAYMENTS = "/api/payments/payments"
BOOKINGS = "/api/booking/bookings"

_FIELDS = {
    CheckoutRefusal.PROVIDER_NOT_AVAILABLE: "provider",
    CheckoutRefusal.PROVIDER_REFUSED: "provider",
}
_REJECTIONS = frozenset(rejection.value for rejection in Rejection)


class Begun(NamedTuple):
    """A payment that was begun, now or before, or a booking that needed none.

    Shapes:
        address: of the payment, or of the booking.
    """

    view: View
    address: str
    is_repeated: bool


@dataclass(frozen=True, slots=True)
class CheckoutCounter:
    """What a checkout turns to."""

    checkouts: Checkouts
    payments: OwnPayments
    terms: ShowTermsStore
    promo_codes: PromoCodes

    async def begin(self, hold: Hold, facts: ShowFacts, body: CheckoutBody, key: str) -> Begun:
        """Begin the payment of a customer's own hold.

        Raises:
            Problem: every refusal and fault.
        """
        hold_id = hold.held.hold_id
        wanted = await self._wanted(hold, facts, body, key)
        try:
            outcome = await self.checkouts.open(wanted)
        except Fault as fault:
            log.warning("checkout of %s: %r", hold_id, fault)
            raise problem_of_fault(fault, has_key=True) from fault
        if isinstance(outcome, CheckoutRefusal):
            raise _problem_of(outcome)
        if isinstance(outcome, FreeCheckout):
            address = f"{BOOKINGS}/{outcome.confirmed.booking_id}"
            return Begun(view_of_free(outcome), address, hold.booking is not None)
        payment_id = outcome.stored.payment.payment_id
        view = view_of_payment(outcome.stored, outcome.client_data)
        return Begun(view, f"{PAYMENTS}/{payment_id}", outcome.is_repeated)

    async def _wanted(
        self, hold: Hold, facts: ShowFacts, body: CheckoutBody, key: str
    ) -> CheckoutWanted:
        held, listing, plan = hold.held, facts.listing, facts.plan
        # Without any, what costs nothing can be had all the same.
        provider: str = body.provider or "".join(self.checkouts.providers[:1])
        categories = plan.categories
        terms = await self.terms.find(listing.show_id)
        return CheckoutWanted(
            hold=hold,
            customer_id=held.customer_id,
            idempotency_key=key,
            provider=provider,
            currency=listing.fares.currency,
            seat_categories=tuple(
                categories[plan.category_of[index]].name for index in held.seat_indexes
            ),
            admission_categories=tuple(
                categories[plan.admission_tiers[admission[0]].category_index].name
                for admission in held.admissions
            ),
            terms=terms.price_terms,
            accepts_equivalent=body.accepts_equivalent,
            promo=await self._promo_of(body, facts),
        )

    async def _promo_of(self, body: CheckoutBody, facts: ShowFacts) -> PromoWanted | None:
        if body.promo_code is None:
            return None
        tenant_id = facts.listing.tenant_id
        row = await self.promo_codes.find_by_code(tenant_id, body.promo_code)
        if row is None:
            raise bad_field("promo_code", "is not known here", "promo_code_unknown")
        use = PromoUse(tenant_id, code_key(row.terms.code))
        return PromoWanted(use, row.terms, facts.listing.series_id)


def _problem_of(refusal: CheckoutRefusal) -> Problem:
    if refusal.value in _REJECTIONS:
        return problem_of_rejection(Rejection(refusal.value))
    reason = KINDS[refusal.value].title
    field = "promo_code" if refusal.value.startswith("promo_") else _FIELDS.get(refusal)
    if field is not None:
        return bad_field(field, reason, refusal.value)
    return Problem(refusal.value, f"{reason}.")
