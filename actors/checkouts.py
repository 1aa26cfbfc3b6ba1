"""Checkouts as customers see them: begun, looked at, given up, and what providers call to say.

Used where requests are answered, in any number of processes. What a checkout needs done after its
request was answered, the payment actor does (``actors.payment_actor``); neither has to know the
other, because both go by the payment's row.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from actors.checkout_runner import settle_promo
from actors.checkout_wanted import (
    CheckoutOutcome,
    CheckoutRefusal,
    CheckoutWanted,
    FreeCheckout,
    OpenedCheckout,
    PromoWanted,
    free_price,
    places_of,
)
from actors.config import ActorsConfig
from actors.payment_stores import PaymentStores
from actors.provider_calls import make_payment, open_gateways
from actors.show_ref import ShowRefs
from integrations.payments.payment_gateway import (
    GatewayRefused,
    NoticeRefused,
    PaymentGateway,
    ProviderPayment,
    ProviderState,
)
from persistence.payment_rows import StoredPayment
from persistence.payments import BeginOutcome
from persistence.promo_uses import TakeOutcome
from persistence.webhook_inbox import WebhookNotice, inbox_of
from reservation.checkout import Learned
from reservation.checkout_learning import UNBOOKED, learn_delay, learn_given_up
from reservation.checkout_provider import learn_create_refused, learn_made
from reservation.commands import ConfirmHold, ExtendHold
from reservation.events import BookingConfirmed, HoldExtended
from reservation.faults import Fault
from reservation.ids import CustomerId, PaymentId, derive_payment_id, is_payment_id, show_id_of
from reservation.outcome import Repeated
from reservation.payment import CaptureMode, Payment, PaymentState
from reservation.price import Price, price_of
from reservation.promo_codes import (
    PromoOrder,
    PromoRefusal,
    PromoUsage,
    discount_of,
)
from reservation.rejections import Rejected, Rejection

__all__ = [
    "CheckoutOutcome",
    "CheckoutRefusal",
    "CheckoutWanted",
    "Checkouts",
    "FreeCheckout",
    "OpenedCheckout",
    "PromoWanted",
    "open_checkouts",
]

log = logging.getLogger(__name__)

FREE = "free"
"""How a booking that costs nothing was paid. It has no payment and no provider heard of it."""

OPENING_MS = 20_000
"""Whoever begins a payment makes it at its provider; after so long, the payment actor does."""


class _Refused(Exception):
    """No payment is begun."""

    def __init__(self, refusal: CheckoutRefusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


_REFUSAL_OF_REJECTION = {
    Rejection.HOLD_NOT_FOUND: CheckoutRefusal.HOLD_NOT_FOUND,
    Rejection.HOLD_EXPIRED: CheckoutRefusal.HOLD_EXPIRED,
    Rejection.HOLD_RELEASED: CheckoutRefusal.HOLD_RELEASED,
    Rejection.HOLD_ALREADY_CONFIRMED: CheckoutRefusal.HOLD_ALREADY_CONFIRMED,
    Rejection.BOOKING_CANCELLED: CheckoutRefusal.HOLD_ALREADY_CONFIRMED,
    Rejection.EXISTS_WITH_DIFFERENT_REQUEST: CheckoutRefusal.HOLD_ALREADY_CONFIRMED,
    Rejection.SHOW_CANCELLED: CheckoutRefusal.HOLD_RELEASED,
}
_REFUSAL_OF_TAKING = {
    TakeOutcome.OTHER_CONTENT: CheckoutRefusal.EXISTS_WITH_DIFFERENT_REQUEST,
    TakeOutcome.USED_UP: CheckoutRefusal.PROMO_USED_UP,
    TakeOutcome.USED_BY_CUSTOMER: CheckoutRefusal.PROMO_USED_BY_CUSTOMER,
}
_PAYABLE = (PaymentState.CREATED, PaymentState.OPEN, PaymentState.FAILED)


class Checkouts:
    """See the module's docstring. Belongs to one event loop.

    Raises:
        Fault: from every method, when a database or the show is away. Asking again is harmless.
    """

    def __init__(
        self,
        stores: PaymentStores,
        refs: ShowRefs,
        gateways: Mapping[str, PaymentGateway],
        *,
        ring: Callable[[int], None] = lambda database: None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """``stores`` and ``gateways`` become its own; see ``open_checkouts``."""
        self._stores = stores
        self._refs = refs
        self._gateways = gateways
        self._ring = ring
        self._draw = draw

    @property
    def providers(self) -> tuple[str, ...]:
        """With whom the house takes money."""
        return tuple(self._gateways)

    async def open(self, wanted: CheckoutWanted) -> CheckoutOutcome:
        """Begin a payment and make it at its provider.

        The hold gets more time, once. Repeating it under the same key gives the payment as it is.
        Places that cost nothing are booked at once, with ``FREE`` for a payment.
        """
        try:
            return await self._open(wanted)
        except _Refused as refused:
            return refused.refusal

    async def _open(self, wanted: CheckoutWanted) -> CheckoutOutcome:
        held = wanted.hold.held
        if held.customer_id != wanted.customer_id:
            raise _Refused(CheckoutRefusal.HOLD_NOT_FOUND)
        database = self._stores.database_of(held.hold_id)
        payments = self._stores.payments[database]
        payment_id = derive_payment_id(held.hold_id, wanted.idempotency_key)
        begun_before = {
            stored.payment.payment_id: stored
            for stored in await payments.list_by_hold(held.hold_id)
        }
        known = begun_before.get(payment_id)
        if known is not None:
            # By what was agreed then: terms and codes may have changed since.
            if not _is_same_request(known, wanted):
                raise _Refused(CheckoutRefusal.EXISTS_WITH_DIFFERENT_REQUEST)
            return replace(await self._made(known), is_repeated=True)
        if wanted.hold.booking is not None and wanted.hold.booking.confirmed.payment == FREE:
            return FreeCheckout(wanted.hold.booking.confirmed, free_price(wanted))
        if any(
            other.payment.state in (*UNBOOKED, PaymentState.VOID_DUE)
            for other in begun_before.values()
        ):
            raise _Refused(CheckoutRefusal.HOLD_HAS_PAYMENT)
        gateway = self._gateways.get(wanted.provider)
        now_ms = await self._stores.now_ms(database)
        price = _price(wanted, now_ms)
        if price.total_minor and gateway is None:
            raise _Refused(CheckoutRefusal.PROVIDER_NOT_AVAILABLE)
        if price.total_minor == 0:
            return await self._book_free(wanted, payment_id, price)
        expires_at_ms = await self._extended(wanted)
        assert gateway is not None
        is_manual = CaptureMode.MANUAL in gateway.modes
        payment = Payment(
            payment_id,
            show_id_of(held.hold_id),
            held.hold_id,
            wanted.customer_id,
            wanted.provider,
            CaptureMode.MANUAL if is_manual else CaptureMode.AUTOMATIC,
            price.total_minor,
            price.currency,
            held.amount_minor,
            wanted.accepts_equivalent,
            created_at_ms=now_ms,
            hold_expires_at_ms=expires_at_ms,
            state_at_ms=now_ms,
            due_at_ms=now_ms + OPENING_MS,
        )
        await self._take_promo(wanted, payment_id)
        use = None if wanted.promo is None else wanted.promo.use
        begun = await payments.begin(payment, price, use)
        if begun.outcome is BeginOutcome.HOLD_HAS_PAYMENT:
            if use is not None:
                await self._stores.promo_uses.give_back(payment_id)
            raise _Refused(CheckoutRefusal.HOLD_HAS_PAYMENT)
        if begun.outcome is BeginOutcome.OTHER_CONTENT:
            raise _Refused(CheckoutRefusal.EXISTS_WITH_DIFFERENT_REQUEST)
        assert begun.stored is not None, "what was begun is there"
        made = await self._made(begun.stored)
        return replace(made, is_repeated=begun.outcome is BeginOutcome.REPEATED)

    async def look(self, payment_id: PaymentId) -> OpenedCheckout | None:
        """A payment as it is, whoever's it is; None when there is no such one.

        A provider that knows more than the row is noticed here, should its webhook be lost.
        """
        stored = await self._find(payment_id)
        if stored is None:
            return None
        payment = stored.payment
        gateway = self._gateways.get(payment.provider)
        if gateway is None or payment.provider_ref is None or payment.state not in _PAYABLE:
            return OpenedCheckout(stored)
        try:
            seen = await gateway.fetch(payment.provider_ref)
        except Fault as fault:
            log.info("%s could not be looked at: %s", payment_id, fault)
            return OpenedCheckout(stored)
        if seen.state in (ProviderState.AUTHORISED, ProviderState.CAPTURED):
            database = self._stores.database_of(payment_id)
            await self._stores.payments[database].wake(payment_id)
            self._ring(database)
        return OpenedCheckout(stored, seen.client_data)

    async def give_up(self, payment_id: PaymentId, customer_id: CustomerId) -> StoredPayment | None:
        """The customer does not want to pay any more; None when he has no such payment.

        One that is booked already stays so: its booking has to be cancelled.
        """
        while True:
            stored = await self._find(payment_id)
            if stored is None or stored.payment.customer_id != customer_id:
                return None
            if stored.payment.state not in UNBOOKED:
                return stored
            database = self._stores.database_of(payment_id)
            now_ms = await self._stores.now_ms(database)
            saved = await self._save(stored, learn_given_up(stored.checkout, now_ms))
            if saved is not None:
                self._ring(database)
                return saved

    async def take_notice(self, provider: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Write down what a provider sends word of. What means nothing here is forgotten.

        Raises:
            NoticeRefused: it is not to be believed; answer 400.
        """
        gateway = self._gateways.get(provider)
        if gateway is None:
            raise NoticeRefused(f"no money is taken with {provider}")
        notice = gateway.read_notice(body, headers, await self._stores.now_ms(0))
        if notice is None:
            return
        webhook = WebhookNotice(
            notice.provider,
            notice.event_key,
            notice.kind,
            notice.provider_ref,
            notice.payment_id,
            notice.created_at_ms,
            notice.is_live,
            notice.tells,
        )
        database = inbox_of(self._stores.shards, webhook)
        try:
            is_new = await self._stores.inboxes[database].receive(webhook, body)
        except ValueError as error:
            raise NoticeRefused(str(error)) from error
        if is_new:
            self._ring(database)

    async def close(self) -> None:
        """Let go of connections and threads."""
        for gateway in self._gateways.values():
            await gateway.close()
        await self._stores.close()

    # -- opening ------------------------------------------------------------------------------

    async def _take_promo(self, wanted: CheckoutWanted, payment_id: PaymentId) -> None:
        promo = wanted.promo
        if promo is None:
            return
        taken = await self._stores.promo_uses.take(
            payment_id,
            promo.use,
            wanted.customer_id,
            uses_max=promo.terms.uses_max,
            uses_per_customer_max=promo.terms.uses_per_customer_max,
        )
        if taken in _REFUSAL_OF_TAKING:
            raise _Refused(_REFUSAL_OF_TAKING[taken])

    async def _extended(self, wanted: CheckoutWanted) -> int:
        """Until when the hold lives, after it was given more time."""
        held = wanted.hold.held
        outcome = await self._refs.ask(
            show_id_of(held.hold_id), ExtendHold(held.hold_id, wanted.customer_id)
        )
        if isinstance(outcome, Repeated):
            outcome = outcome.event
        if isinstance(outcome, HoldExtended):
            return outcome.expires_at_ms
        assert isinstance(outcome, Rejected), outcome
        if outcome.code is Rejection.EXTENSION_CAP_REACHED:
            return wanted.hold.expires_at_ms
        raise _Refused(_REFUSAL_OF_REJECTION[outcome.code])

    async def _book_free(
        self, wanted: CheckoutWanted, payment_id: PaymentId, price: Price
    ) -> FreeCheckout:
        held = wanted.hold.held
        await self._take_promo(wanted, payment_id)
        outcome = await self._refs.ask(
            show_id_of(held.hold_id), ConfirmHold(held.hold_id, wanted.customer_id, FREE)
        )
        if isinstance(outcome, Repeated):
            outcome = outcome.event
        if isinstance(outcome, BookingConfirmed):
            if wanted.promo is not None:
                await self._stores.promo_uses.keep(payment_id)
            return FreeCheckout(outcome, price)
        assert isinstance(outcome, Rejected), outcome
        if wanted.promo is not None:
            await self._stores.promo_uses.give_back(payment_id)
        raise _Refused(_REFUSAL_OF_REJECTION[outcome.code])

    async def _made(self, stored: StoredPayment) -> OpenedCheckout:
        """The payment after its provider was asked to make it, if it was not yet."""
        payment = stored.payment
        gateway = self._gateways.get(payment.provider)
        if gateway is None:
            raise _Refused(CheckoutRefusal.PROVIDER_NOT_AVAILABLE)
        if payment.state is not PaymentState.CREATED:
            looked = await self.look(payment.payment_id)
            return OpenedCheckout(stored) if looked is None else looked
        now_ms = await self._stores.now_ms(self._stores.database_of(payment.payment_id))
        try:
            made = await make_payment(gateway, stored, f"pi:{payment.payment_id}", now_ms)
        except GatewayRefused as refused:
            log.warning("%s refuses %s: %s", payment.provider, payment.payment_id, refused)
            learned = learn_create_refused(stored.checkout, now_ms)
            await self._save(stored, learned, error=str(refused))
            raise _Refused(CheckoutRefusal.PROVIDER_REFUSED) from refused
        except Fault as fault:
            # The payment actor tries again; meanwhile the customer sees that it is not open yet.
            learned = learn_delay(stored.checkout, now_ms, self._draw())
            saved = await self._save(stored, learned, error=str(fault))
            return OpenedCheckout(saved or stored)
        saved = await self._save_made(stored, made, now_ms)
        if saved.payment.state not in _PAYABLE:
            return OpenedCheckout(saved)
        return OpenedCheckout(saved, made.client_data)

    async def _save_made(
        self, stored: StoredPayment, made: ProviderPayment, now_ms: int
    ) -> StoredPayment:
        """Save that the provider has it, also when word of it was faster than its answer."""
        payment_id = stored.payment.payment_id
        while True:
            learned = learn_made(stored.checkout, made, now_ms)
            saved = await self._save(stored, learned, charge_ref=made.charge_ref)
            if saved is not None:
                if saved.payment.is_noticed:
                    self._ring(self._stores.database_of(payment_id))
                return saved
            found = await self._find(payment_id)
            if found is None or found.payment.state is not PaymentState.CREATED:
                # Somebody else made it, the same object; or the customer gave up meanwhile.
                return found or stored
            stored = found

    async def _save(
        self,
        stored: StoredPayment,
        learned: Learned,
        *,
        charge_ref: str | None = None,
        error: str | None = None,
    ) -> StoredPayment | None:
        database = self._stores.database_of(stored.payment.payment_id)
        for alarm in learned.alarms:
            await self._stores.books[database].raise_alarm(
                alarm.kind, alarm.payment_id, alarm.detail, stored.payment.show_id
            )
        saved = await self._stores.payments[database].save(
            stored.checkout, learned.checkout, charge_ref=charge_ref, last_error=error
        )
        if saved is None:
            return None
        after = replace(
            stored,
            checkout=saved,
            charge_ref=charge_ref or stored.charge_ref,
            last_error=error,
        )
        await settle_promo(self._stores, after)
        return after

    async def _find(self, payment_id: PaymentId) -> StoredPayment | None:
        if not is_payment_id(payment_id):
            return None
        return await self._stores.payments[self._stores.database_of(payment_id)].find(payment_id)


def _price(wanted: CheckoutWanted, now_ms: int) -> Price:
    places = places_of(wanted)
    discount, name = None, ""
    if wanted.promo is not None:
        promo, show_id = wanted.promo, show_id_of(wanted.hold.held.hold_id)
        order = PromoOrder(show_id, promo.series_id, wanted.currency, places)
        # How often it was used is for ``take`` to say, which knows what this payment took.
        terms = replace(promo.terms, uses_max=None, uses_per_customer_max=None)
        found = discount_of(terms, order, PromoUsage(0, 0), now_ms)
        if isinstance(found, PromoRefusal):
            raise _Refused(CheckoutRefusal(found.value))
        discount, name = found, promo.use.code_key
    try:
        return price_of(places, wanted.currency, wanted.terms, discount, name)
    except ValueError as error:
        raise _Refused(CheckoutRefusal.PRICE_TOO_HIGH) from error


def _is_same_request(known: StoredPayment, wanted: CheckoutWanted) -> bool:
    payment = known.payment
    return (
        payment.customer_id,
        payment.provider,
        payment.accepts_equivalent,
        known.promo,
    ) == (
        wanted.customer_id,
        wanted.provider,
        wanted.accepts_equivalent,
        None if wanted.promo is None else wanted.promo.use,
    )


async def open_checkouts(
    config: ActorsConfig,
    refs: ShowRefs,
    *,
    ring: Callable[[int], None] = lambda database: None,
) -> Checkouts:
    """The checkouts of a house. Connects on first use.

    Args:
        ring: tells the payment actor of a database that there is something to do; on Ray,
            ``payment_hosting.PaymentBell(config)``.
    """
    stores = await PaymentStores(config.shards, "checkouts").open()
    return Checkouts(stores, refs, open_gateways(config.payments), ring=ring)
