"""Doing what ``decide_step`` says about a checkout, one step after the other.

Theory of operation
-------------------
A step is decided from the row, done, and what came of it is saved if the row is still the one that
was read. A runner that dies anywhere leaves a row whose lease ends: whoever takes it next decides
the same step again, and every step may be done twice. Whoever finds that somebody else moved the
row reads it again and goes on from there.

What a fault means:

    GatewayRefused       the provider said no: to capturing and cancelling, then it knows better how
                         the payment is and is asked; to making it, then nobody can pay it; to a
                         refund, then its list of refunds will tell
    GatewayKeyRefused    our key is wrong: an alarm, and again later
    any other fault      nothing is known but that it is to be tried again, later and later. Never
                         does silence make anybody give up places or money.

Alarms are raised before the step is saved, so that none is lost between the two.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace

from actors.payment_stores import PaymentStores
from actors.provider_calls import (
    give_back,
    known_payment,
    make_payment,
    numbered,
    refunds_of,
)
from actors.show_ref import ShowRefs
from integrations.payments.payment_gateway import (
    GatewayKeyRefused,
    GatewayRefused,
    KeySpent,
    PaymentGateway,
    ProviderPayment,
)
from persistence.payment_rows import StoredPayment
from reservation.checkout import Alarm, Learned, alarms_of, booked_by, is_booked
from reservation.checkout_learning import (
    learn_confirm_rejected,
    learn_delay,
    learn_held_again,
    learn_hold_again_rejected,
    learn_notice,
    learn_reckoned,
    learn_released,
    learn_rest,
)
from reservation.checkout_provider import (
    learn_absent,
    learn_create_refused,
    learn_made,
    learn_provider,
    learn_refund_answer,
    learn_refund_requested,
    learn_refused,
    learn_voided,
)
from reservation.checkout_saga import (
    CancelUnpaid,
    CaptureMoney,
    ConfirmAtShow,
    CreateAtProvider,
    Done,
    FetchFromProvider,
    HoldAgain,
    ReckonCancellation,
    RefundMoney,
    ReleaseAgain,
    Step,
    VoidAtProvider,
    Wait,
    decide_step,
)
from reservation.commands import (
    CancelBooking,
    Command,
    ConfirmHold,
    HoldSeats,
    ReleaseHold,
    digest_request,
)
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.faults import Fault
from reservation.hold import HoldState
from reservation.ids import HoldId
from reservation.outcome import Repeated
from reservation.payment import PaymentState
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import Outcome

log = logging.getLogger(__name__)

LEASE_MS = 60_000
RUN_MS_MAX = 15_000
"""A run lets go of its lease after this. The step that is under way then ends within the lease."""

STEPS_PER_RUN_MAX = 50

CLOCKS_DIFFER_BY_MS = 200

CONFIRM_DEADLINE_MS = 3_000
"""Not longer: a show reloads each time that a payment is refused which somebody has moved."""

_ENDED_UNBOOKED = (PaymentState.VOIDED, PaymentState.REFUND_DUE, PaymentState.REFUNDED)


class NoSuchGateway(Fault):
    """The house has payments with a provider that it is not configured for any more."""


class CheckoutRunner:
    """Runs checkouts of one database. Safe for any number of them at once."""

    def __init__(
        self,
        stores: PaymentStores,
        database: int,
        refs: ShowRefs,
        gateways: Mapping[str, PaymentGateway],
        *,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """``draw`` gives luck from 0 to 1, for the pace of what is tried again."""
        self.stores = stores
        self.database = database
        self.payments = stores.payments[database]
        self.refs = refs
        self.gateways = gateways
        self.draw = draw
        self.steps = Counter[str]()

    async def run(self, stored: StoredPayment) -> None:
        """Take a leased checkout as far as it goes now, and end its lease.

        Raises:
            Fault: a database is away. The lease ends by itself.
        """
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + RUN_MS_MAX / 1_000
        now: StoredPayment | None = stored
        for count in range(STEPS_PER_RUN_MAX):
            if now is None:
                return
            is_last = count == STEPS_PER_RUN_MAX - 1 or loop.time() >= ends_at_s
            now = await _Run(self, now, await self.now_ms(), is_last).go()
            if is_last:
                return

    async def now_ms(self) -> int:
        """The present instant by the database's clock."""
        return await self.stores.now_ms(self.database)


class _Run:
    """One step of one checkout."""

    def __init__(
        self, runner: CheckoutRunner, stored: StoredPayment, now_ms: int, is_last: bool
    ) -> None:
        self._of = runner
        self._stores = runner.stores
        self._payments = runner.payments
        self._stored = stored
        self._checkout = stored.checkout
        self._payment = stored.payment
        self._now_ms = now_ms
        self._is_last = is_last

    async def go(self) -> StoredPayment | None:
        """Do the step; the checkout to go on with, or None when it waits."""
        step = decide_step(self._checkout, self._now_ms)
        if isinstance(step, Wait) and step.until_ms - self._now_ms <= CLOCKS_DIFFER_BY_MS:
            # It is due by the database's clock, which is a little ahead of this process's.
            await asyncio.sleep((step.until_ms - self._now_ms) / 1_000)
            self._now_ms = step.until_ms
            step = decide_step(self._checkout, self._now_ms)
        if isinstance(step, Wait):
            return await self._save(learn_rest(self._checkout, step.until_ms))
        if isinstance(step, Done):
            return await self._save(learn_rest(self._checkout, None))
        self._of.steps[type(step).__name__] += 1
        await self._raise_alarms(alarms_of(self._checkout, self._now_ms))
        try:
            return await self._do(step)
        except GatewayKeyRefused as fault:
            await self._raise_alarm("gateway_key_refused", self._payment.provider, str(fault))
            return await self._later(fault)
        except NoSuchGateway as fault:
            await self._raise_alarm("gateway_missing", self._payment.provider, str(fault))
            return await self._later(fault)
        except Fault as fault:
            # When it is the database that is away, this is where it is found out.
            return await self._later(fault)

    async def _do(self, step: Step) -> StoredPayment | None:
        match step:
            case CreateAtProvider():
                return await self._create(step)
            case FetchFromProvider():
                return await self._fetch(step)
            case ConfirmAtShow():
                return await self._confirm(step.hold_id)
            case HoldAgain():
                return await self._hold_again(step)
            case ReleaseAgain():
                return await self._release(step.hold_id)
            case CaptureMoney() | VoidAtProvider():
                return await self._capture_or_void(step)
            case RefundMoney():
                return await self._refund(step)
            case ReckonCancellation():
                return await self._reckon()
            case CancelUnpaid():
                return await self._cancel(step)
            case Wait() | Done():
                raise AssertionError("nothing to do")

    # -- the provider -------------------------------------------------------------------------

    async def _create(self, step: CreateAtProvider) -> StoredPayment | None:
        try:
            made = await make_payment(self._gateway(), self._stored, step.key, self._now_ms)
        except GatewayRefused as refused:
            return await self._save(
                learn_create_refused(self._checkout, self._now_ms), error=str(refused)
            )
        learned = learn_made(self._checkout, made, self._now_ms)
        return await self._save(learned, charge_ref=made.charge_ref)

    async def _fetch(self, step: FetchFromProvider) -> StoredPayment | None:
        gateway, payment = self._gateway(), self._payment
        try:
            if payment.provider_ref is None:
                found = await gateway.find(payment.payment_id, payment.created_at_ms)
            else:
                found = await gateway.fetch(payment.provider_ref)
            if found is None:
                return await self._save(learn_absent(self._checkout, self._now_ms))
            is_asked = step.with_refunds or found.refunded_minor
            refunds = await refunds_of(gateway, found) if is_asked else None
        except GatewayRefused as refused:
            if refused.is_unknown_object:
                await self._raise_alarm("unknown_to_provider", payment.payment_id, str(refused))
            raise
        learned = learn_provider(self._checkout, found, refunds, self._now_ms)
        return await self._save(learned, charge_ref=found.charge_ref)

    async def _capture_or_void(self, step: CaptureMoney | VoidAtProvider) -> StoredPayment | None:
        gateway, payment = self._gateway(), known_payment(self._stored)
        key = numbered(step.key, self._payment)
        try:
            if isinstance(step, CaptureMoney):
                taken = await gateway.capture(payment, step.amount_minor, key)
                return await self._captured(taken)
            await gateway.cancel(payment, key)
        except (GatewayRefused, KeySpent) as refused:
            return await self._save(
                learn_refused(self._checkout, self._now_ms, self._of.draw()), error=str(refused)
            )
        return await self._save(learn_voided(self._checkout, self._now_ms))

    async def _captured(self, taken: ProviderPayment | None) -> StoredPayment | None:
        if taken is None or taken.refunded_minor:
            # There is more to ask than how the payment is.
            return await self._save(learn_notice(self._checkout, self._now_ms))
        learned = learn_provider(self._checkout, taken, None, self._now_ms)
        return await self._save(learned, charge_ref=taken.charge_ref)

    async def _refund(self, step: RefundMoney) -> StoredPayment | None:
        refund_id = step.refund.refund_id
        requested = learn_refund_requested(self._checkout, refund_id, self._now_ms)
        saved = await self._payments.save(
            self._checkout, requested.checkout, last_error=self._stored.last_error, keeps_lease=True
        )
        if saved is None:
            return await self._read_again()
        self._stored = replace(self._stored, checkout=saved)
        self._checkout, self._payment = saved, saved.payment
        made = await give_back(self._gateway(), self._stored, step.refund)
        answer = learn_refund_answer(self._checkout, refund_id, made, self._now_ms)
        return await self._save(answer)

    def _gateway(self) -> PaymentGateway:
        gateway = self._of.gateways.get(self._payment.provider)
        if gateway is None:
            raise NoSuchGateway(f"{self._payment.provider} is not configured")
        return gateway

    # -- the show -----------------------------------------------------------------------------

    async def _confirm(self, hold_id: HoldId) -> StoredPayment | None:
        payment = self._payment
        command = ConfirmHold(hold_id, payment.customer_id, payment.payment_id)
        try:
            outcome = await self._ask(command, CONFIRM_DEADLINE_MS)
        except Fault as fault:
            # It may have been booked all the same, or somebody gave it up: the row says so.
            now = await self._read_again()
            if now is None or now.payment.version != payment.version:
                return now
            return await self._later(fault)
        if not isinstance(outcome, Rejected):
            booked = self._booked(outcome) if isinstance(outcome, BookingConfirmed) else None
            return booked or await self._read_again()
        rejection = outcome.code
        if rejection is Rejection.HOLD_NOT_FOUND and await self._has_expired(hold_id):
            # The show has forgotten it; the database has not.
            rejection = Rejection.HOLD_EXPIRED
        learned = learn_confirm_rejected(self._checkout, rejection, self._now_ms)
        return await self._save(learned, error=f"the show says {rejection}")

    def _booked(self, confirmed: BookingConfirmed) -> StoredPayment | None:
        """The row as the transaction of this booking has left it.

        Whoever has moved it before or since made another version, and nothing is saved over that.
        """
        booked = booked_by(self._payment, confirmed.hold_id, confirmed.at_ms)
        if booked is None:
            return None
        checkout = replace(
            self._checkout, payment=replace(booked, version=self._payment.version + 1)
        )
        return replace(self._stored, checkout=checkout)

    async def _has_expired(self, hold_id: HoldId) -> bool:
        hold = await self._stores.claims.find_hold(hold_id)
        return hold is not None and hold.state is HoldState.EXPIRED

    async def _hold_again(self, step: HoldAgain) -> StoredPayment | None:
        like = await self._stores.claims.find_hold(step.like_hold_id)
        if like is None:
            return await self._save(learn_hold_again_rejected(self._checkout, self._now_ms))
        seats = like.held.seat_indexes
        admissions = tuple((tier, count) for tier, count, _ in like.held.admissions)
        segment, is_nearest = like.held.segment, step.or_nearest and bool(seats)
        command = HoldSeats(
            step.hold_id,
            self._payment.customer_id,
            segment,
            seats,
            admissions,
            is_nearest,
            digest_request(segment, seats, admissions, is_nearest),
        )
        outcome = await self._ask(command)
        if isinstance(outcome, Repeated):
            outcome = outcome.event
        if isinstance(outcome, SeatsHeld):
            learned = learn_held_again(self._checkout, outcome.amount_minor, self._now_ms)
            return await self._save(learned)
        assert isinstance(outcome, Rejected), outcome
        if like.state is HoldState.HELD:
            # Its time is over, and the show ends it at its next tick. Until then the places are
            # the customer's own first hold's: that is nobody's no.
            return await self._later(Fault(f"the first hold has not ended: {outcome.code}"))
        learned = learn_hold_again_rejected(self._checkout, self._now_ms)
        return await self._save(learned, error=f"the show says {outcome.code}")

    async def _release(self, hold_id: HoldId) -> StoredPayment | None:
        await self._ask(ReleaseHold(hold_id, self._payment.customer_id))
        return await self._save(learn_released(self._checkout, self._now_ms))

    async def _cancel(self, step: CancelUnpaid) -> StoredPayment | None:
        command = CancelBooking(step.booking_id, self._payment.customer_id, step.terms)
        outcome = await self._ask(command)
        now = await self._read_again()
        if now is not None and now.payment.version == self._payment.version:
            return await self._later(Fault(f"the show says {outcome}"))
        return now

    async def _ask(self, command: Command, deadline_ms: int | None = None) -> Outcome:
        return await self._of.refs.ask(self._payment.show_id, command, deadline_ms=deadline_ms)

    async def _reckon(self) -> StoredPayment | None:
        payment = self._payment
        terms = await self._stores.terms.find(payment.show_id)
        starts_at_ms = await self._starts_at_ms()
        return await self._save(
            learn_reckoned(self._checkout, terms.refund_policy, starts_at_ms, self._now_ms)
        )

    async def _starts_at_ms(self) -> int | None:
        """When the show starts; for a run, when it leaves the stop where the customer gets on."""
        payment, catalogue = self._payment, self._stores.catalogue
        listing = await catalogue.find_listing(payment.show_id)
        if listing is None:
            return None
        if listing.route_id is None:
            return listing.starts_at_ms
        route = await catalogue.load_route(listing.route_id)
        hold = await self._stores.claims.find_hold(payment.booking_hold_id or payment.hold_id)
        if route is None or hold is None:
            return listing.starts_at_ms
        departs_s = route.stops[hold.held.segment.from_leg].departure_s
        return listing.service_day_at_ms + departs_s * 1_000

    # -- saving -------------------------------------------------------------------------------

    async def _later(self, fault: Exception) -> StoredPayment | None:
        """Nothing is known but that it has to be tried again."""
        self._of.steps["in_vain"] += 1
        log.info("%s: %s", self._payment.payment_id, fault)
        learned = learn_delay(self._checkout, await self._of.now_ms(), self._of.draw())
        return await self._save(learned, error=str(fault) or repr(fault))

    async def _save(
        self, learned: Learned, *, charge_ref: str | None = None, error: str | None = None
    ) -> StoredPayment | None:
        await self._raise_alarms(learned.alarms)
        is_due = not isinstance(decide_step(learned.checkout, self._now_ms), Wait | Done)
        if is_due and learned.checkout == self._checkout:
            # What changes nothing would be decided again and again.
            learned = learn_delay(self._checkout, self._now_ms, self._of.draw())
            is_due = False
        saved = await self._payments.save(
            self._checkout,
            learned.checkout,
            charge_ref=charge_ref,
            last_error=error,
            keeps_lease=is_due and not self._is_last,
        )
        if saved is None:
            self._of.steps["moved_by_others"] += 1
            return await self._read_again()
        after = replace(
            self._stored,
            checkout=saved,
            charge_ref=charge_ref or self._stored.charge_ref,
            last_error=error,
        )
        await settle_promo(self._stores, after)
        return after if is_due else None

    async def _read_again(self) -> StoredPayment | None:
        now = await self._payments.find(self._payment.payment_id)
        if now is not None:
            await settle_promo(self._stores, now)
        return now

    async def _raise_alarms(self, alarms: tuple[Alarm, ...]) -> None:
        for alarm in alarms:
            await self._raise_alarm(alarm.kind, alarm.payment_id, alarm.detail)

    async def _raise_alarm(self, kind: str, subject: str, detail: str) -> None:
        books = self._stores.books[self._of.database]
        if await books.raise_alarm(kind, subject, detail, self._payment.show_id):
            log.warning("alarm %s about %s: %s", kind, subject, detail)


async def settle_promo(stores: PaymentStores, stored: StoredPayment) -> None:
    """Keep the use of a promo code when its payment came to a booking; else give it back.

    A booking that is cancelled later has used it all the same.
    """
    if stored.promo is None:
        return
    payment = stored.payment
    if is_booked(payment):
        await stores.promo_uses.keep(payment.payment_id)
    elif payment.state in _ENDED_UNBOOKED:
        await stores.promo_uses.give_back(payment.payment_id)
