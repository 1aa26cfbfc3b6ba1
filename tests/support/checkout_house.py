"""A house that takes money, in one process: a real database, real gateways, a sandbox provider.

Time is the house's own: ``advance`` moves the database's clock, the show actors' and the provider's
by the same amount, so that minutes and days pass at once.

Webhooks are collected by a real listener and read when a test says so (``deliver``), once, thrice,
in another order or never.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg

from actors.checkout_runner import LEASE_MS
from actors.checkouts import Checkouts, CheckoutWanted, OpenedCheckout, PromoWanted
from actors.clock import Clock
from actors.naming import actor_name, placement_of_actor
from actors.payment_actor import PaymentActor
from actors.payment_stores import PaymentStores
from actors.provider_calls import open_gateways
from actors.reconciliation import Reconciliation
from actors.show_actor import ShowActor
from actors.show_ref import ShowRefs, Submit
from actors.show_refunds import ShowRefunds
from integrations.payments.payment_gateway import PaymentGateway
from integrations.payments.provider_config import PaymentProvidersConfig
from persistence.catalogue import Catalogue
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.payment_rows import StoredPayment
from persistence.plan_codec import plan_id_of
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from persistence.show_store import open_show_store
from reservation.checkout import replacement_hold_id
from reservation.commands import CancelBooking, CancelShow, Command, HoldSeats, digest_request
from reservation.events import BookingCancelled, SeatsHeld, ShowCancelled
from reservation.faults import ShowNotFound
from reservation.hold import BookingState, Hold
from reservation.ids import (
    CustomerId,
    PaymentId,
    ShowId,
    booking_id_of,
    derive_hold_id,
    show_id_of,
)
from reservation.outcome import Outcome, Repeated
from reservation.payment import PaymentState
from reservation.plan_export import write_plan
from reservation.price import PriceTerms
from reservation.refund_terms import RefundTerms
from reservation.route import Route
from reservation.show import Placement, SalesPolicy
from tests.conftest import APPLICATION_PASSWORD, APPLICATION_ROLE
from tests.support.house import GENEROUS, make_listing, make_plan, make_show
from tests.support.payment_benches import WEBHOOK_SECRET, sandbox_config
from tests.support.quick_postgres import copy_of
from tests.support.sandbox import RunningSandbox, running_sandbox
from tests.support.webhook_listener import Taken, WebhookListener, webhook_listener

PLACE_MINOR = 1_000
SEATS = 2_000
MINUTE_MS = 60_000
NOTHING_MORE = (PaymentState.SETTLED, PaymentState.VOIDED, PaymentState.REFUNDED)

_SHIFT = """
CREATE TABLE time_shift (ms bigint NOT NULL);
INSERT INTO time_shift VALUES (0);
GRANT SELECT ON time_shift TO PUBLIC;
CREATE OR REPLACE FUNCTION house_now_ms() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN (extract(epoch FROM clock_timestamp()) * 1000)::bigint
        + (SELECT max(ms) FROM time_shift);
"""
_numbers = itertools.count(1)


class HouseClock:
    """The machine's time, and what the house is ahead of it."""

    def __init__(self) -> None:
        self.shift_ms = 0

    def now_ms(self) -> int:
        return (time.time_ns() + 500_000) // 1_000_000 + self.shift_ms

    def anchor(self, database_now_ms: int) -> None:
        """It is the database's already: both are of this machine."""


class CheckoutHouse:
    """One database with its show actors, checkouts and the parts of a payment actor."""

    def __init__(
        self,
        superuser_dsn: str,
        application_dsn: str,
        sandbox: RunningSandbox,
        listener: WebhookListener,
        opened: AsyncExitStack,
    ) -> None:
        self.clock = HouseClock()
        self.sandbox = sandbox
        self.shards = ShardMap.even((application_dsn,))
        self.providers = sandbox_config(sandbox)
        self.plan = make_plan(SEATS)
        self.refs = ShowRefs(self._locate, self._connect, ask_deadline_ms=10_000)
        self._superuser_dsn = superuser_dsn
        self._listener = listener
        self._opened = opened
        self._read_count = 0
        self._seats: dict[ShowId, itertools.count[int]] = {}

    # -- opening ------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open everything and put the plan into the catalogue."""
        self._superuser = await asyncpg.connect(self._superuser_dsn)
        self._opened.push_async_callback(self._superuser.close)
        await self._superuser.execute(_SHIFT)
        pool = await open_pool(self._superuser_dsn, "catalogue", size_max=2)
        self._opened.push_async_callback(pool.close)
        self.pool = pool
        self.catalogue = Catalogue(pool)
        plan_id = plan_id_of(self.plan)
        await self.catalogue.put_plan(plan_id, self.plan, *write_plan(self.plan))
        self.stores = await self.open_stores("tests")
        self.gateways = self.open_gateways(self.providers)
        self.checkouts = Checkouts(self.stores, self.refs, self.gateways)
        self.actor = self.new_actor()
        for provider in self.gateways:
            self.control(
                "webhooks", provider=provider, url=self._listener.url, secrets=[WEBHOOK_SECRET]
            )

    async def open_stores(self, owner: str) -> PaymentStores:
        def new_clock() -> Clock:
            return self.clock

        stores = PaymentStores(self.shards, owner, new_clock=new_clock, connections_max=8)
        await stores.open()
        self._opened.push_async_callback(stores.close)
        return stores

    def open_gateways(self, providers: PaymentProvidersConfig) -> dict[str, PaymentGateway]:
        gateways = open_gateways(providers)
        for gateway in gateways.values():
            self._opened.push_async_callback(gateway.close)
        return gateways

    def new_actor(
        self,
        *,
        stores: PaymentStores | None = None,
        gateways: dict[str, PaymentGateway] | None = None,
        refs: ShowRefs | None = None,
        name: str | None = None,
        lease_ms: int = LEASE_MS,
    ) -> PaymentActor:
        """One more payment actor, or one more incarnation of it; nothing runs by itself."""
        return PaymentActor(
            name or f"payments:{next(_numbers)}",
            stores or self.stores,
            0,
            refs or self.refs,
            gateways or self.gateways,
            lease_ms=lease_ms,
            draw=lambda: 0.0,
        )

    @asynccontextmanager
    async def database_away(self) -> AsyncIterator[None]:
        """Nobody but a superuser is connected to the database, or can connect to it."""
        name = await self._superuser.fetchval("SELECT current_database()")
        await self._superuser.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
        await self._superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = $1 AND usename = $2",
            name,
            APPLICATION_ROLE,
        )
        try:
            yield
        finally:
            await self._superuser.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")

    # -- the customers ------------------------------------------------------------------------

    async def add_show(self, policy: SalesPolicy = GENEROUS) -> ShowId:
        """A new show, each place for 10.00 EUR."""
        name = f"paid show {next(_numbers)}"
        show = make_show(name, plan=self.plan, policy=policy, placement=Placement.POOLED)
        counts = await self.catalogue.put_shows([make_listing(name, show)])
        assert not counts.refused, counts
        self._seats[show.show_id] = itertools.count()
        return show.show_id

    async def ask(self, show_id: ShowId, command: Command) -> Outcome:
        return await self.refs.ask(show_id, command)

    async def hold(
        self, show_id: ShowId, *seats: int, customer: str = "ann", key: str | None = None
    ) -> SeatsHeld:
        """A hold of these seats, or of the next one that nobody has had."""
        seats = seats or (next(self._seats[show_id]),)
        customer_id = CustomerId(customer)
        hold_id = derive_hold_id(show_id, customer_id, key or f"hold {next(_numbers)}")
        outcome = await self.ask(
            show_id,
            HoldSeats(hold_id, customer_id, Route().whole, seats, (), False, digest_request(seats)),
        )
        assert isinstance(outcome, SeatsHeld), outcome
        return outcome

    async def hold_when_free(self, show_id: ShowId, *seats: int, customer: str) -> SeatsHeld:
        """The same as soon as the show has ended the hold that has them."""
        while (await self.claimed(show_id)).intersection(seats):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return await self.hold(show_id, *seats, customer=customer)

    async def claimed(self, show_id: ShowId) -> set[int]:
        """The seats that somebody has."""
        return set((await self.stores.claims.seat_map(show_id)).taken)

    async def wanted(self, held: SeatsHeld, provider: str = "stripe", **changes: Any) -> Any:
        """What its customer asks for at the checkout."""
        hold = await self.stores.claims.find_hold(held.hold_id)
        assert hold is not None
        asked: dict[str, Any] = {
            "hold": hold,
            "customer_id": held.customer_id,
            "idempotency_key": "pay",
            "provider": provider,
            "currency": "EUR",
            "seat_categories": tuple("Stalls" for _ in held.seat_indexes),
            "admission_categories": tuple("floor" for _ in held.admissions),
            "terms": PriceTerms(),
        }
        return CheckoutWanted(**{**asked, **changes})

    async def open(
        self,
        held: SeatsHeld,
        provider: str = "stripe",
        *,
        checkouts: Checkouts | None = None,
        promo: PromoWanted | None = None,
        **changes: Any,
    ) -> OpenedCheckout:
        """The checkout of a hold."""
        wanted = await self.wanted(held, provider, promo=promo, **changes)
        opened = await (checkouts or self.checkouts).open(wanted)
        assert isinstance(opened, OpenedCheckout), opened
        return opened

    async def begin(self, show_id: ShowId, provider: str = "stripe", **changes: Any) -> PaymentId:
        """A new hold of a place and its checkout."""
        opened = await self.open(await self.hold(show_id), provider, **changes)
        return opened.stored.payment.payment_id

    async def pay(self, payment_id: PaymentId, outcome: str = "succeeds") -> dict[str, int]:
        """The customer tries to pay; how it went, in the provider's words."""
        payment = (await self.find(payment_id)).payment
        if payment.provider_ref is None:
            return {}
        data: dict[str, Any] = {"ids": [payment.provider_ref]}
        if payment.provider == "stripe":
            method = "pm_card_visa" if outcome == "succeeds" else "pm_card_chargeDeclined"
            said = await self.tell("stripe/pay", payment_method=method, **data)
        else:
            said = await self.tell("razorpay/pay", outcome=outcome, **data)
        return dict(said)

    async def cancel_booking(self, payment_id: PaymentId, terms: RefundTerms) -> Outcome:
        """Its customer wants his money back."""
        payment = (await self.find(payment_id)).payment
        hold_id = payment.booking_hold_id or payment.hold_id
        command = CancelBooking(booking_id_of(hold_id), payment.customer_id, terms)
        outcome = await self.ask(payment.show_id, command)
        event = outcome.event if isinstance(outcome, Repeated) else outcome
        assert isinstance(event, BookingCancelled), outcome
        return outcome

    async def cancel_show(self, show_id: ShowId) -> None:
        """The show does not take place."""
        outcome = await self.ask(show_id, CancelShow("fire"))
        assert isinstance(outcome, ShowCancelled), outcome

    # -- the provider -------------------------------------------------------------------------

    def control(self, path: str, **data: Any) -> Any:
        """Ask the sandbox's control plane."""
        return self.sandbox.control("POST", path, **data)

    async def tell(self, path: str, **data: Any) -> Any:
        """The same, while everything here goes on."""
        return await asyncio.to_thread(self.control, path, **data)

    async def webhooks(self) -> list[Taken]:
        """The webhooks that were sent since the last call, once all have come."""
        while (await self.counts())["webhooks"]["waiting"]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        taken = self._listener.taken[self._read_count :]
        self._read_count += len(taken)
        return taken

    async def counts(self) -> Any:
        """What the sandbox has counted."""
        return await asyncio.to_thread(self.sandbox.control, "GET", "counts")

    async def deliver(self, taken: Iterable[Taken] | None = None) -> None:
        """Hand webhooks to the house; those that were sent, if none are named."""
        for delivery in await self.webhooks() if taken is None else taken:
            await self.take(delivery)

    async def take(self, delivery: Taken) -> None:
        body, headers = delivery
        if "stripe-signature" not in headers:
            await self.checkouts.take_notice("razorpay", body, headers)
            return
        # Stripe signs the time of each delivery, and the sandbox by the machine's own clock.
        at_s = self.clock.now_ms() // 1_000
        signed = hmac.digest(WEBHOOK_SECRET.encode(), f"{at_s}.".encode() + body, "sha256").hex()
        headers = {**headers, "stripe-signature": f"t={at_s},v1={signed}"}
        await self.checkouts.take_notice("stripe", body, headers)

    # -- the house ----------------------------------------------------------------------------

    async def find(self, payment_id: PaymentId) -> StoredPayment:
        stored = await self.stores.payments[0].find(payment_id)
        assert stored is not None
        return stored

    async def state(self, payment_id: PaymentId) -> PaymentState:
        return (await self.find(payment_id)).payment.state

    async def work(self, actor: PaymentActor | None = None) -> None:
        """Let a payment actor do all that is due now."""
        actor = actor or self.actor
        while True:
            await actor.look()
            await actor.until_calm()
            due_at_ms = await self.stores.payments[0].next_due_at_ms()
            waiting = await self.stores.inboxes[0].waiting()
            if waiting.notice_count == 0 and (
                due_at_ms is None or due_at_ms > self.clock.now_ms() + 5
            ):
                return

    async def advance(self, duration_ms: int) -> None:
        """Let time pass, here and at the provider."""
        self.clock.shift_ms += duration_ms
        await self._superuser.execute("UPDATE time_shift SET ms = $1", self.clock.shift_ms)
        await self.tell("clock", advance_ms=duration_ms)

    def show_refunds(self, owner: str, refs: Any, bookings_per_page: int) -> ShowRefunds:
        """Who cancels the bookings of cancelled shows."""
        return ShowRefunds(self.stores, 0, refs, owner, bookings_per_page=bookings_per_page)

    async def refund_shows(self) -> None:
        """Let the bookings of cancelled shows be cancelled."""
        while await self.show_refunds("tests", self.refs, 100).work():
            pass

    async def settle(
        self,
        payment_ids: Sequence[PaymentId],
        *,
        hours: int = 3,
        actor: PaymentActor | None = None,
    ) -> None:
        """Let all come to an end: everybody does his work, and time passes."""
        for _ in range(hours * 12):
            await self.work(actor)
            if all(await asyncio.gather(*(self._is_over(each) for each in payment_ids))):
                return
            await self.advance(5 * MINUTE_MS)
            await self.reconcile()
        ends = [await self.find(each) for each in payment_ids]
        raise AssertionError(f"these do not end: {[e for e in ends if e.payment.due_at_ms]}")

    async def _is_over(self, payment_id: PaymentId) -> bool:
        payment = (await self.find(payment_id)).payment
        return payment.due_at_ms is None and payment.state in NOTHING_MORE

    async def reconcile(self) -> Any:
        return await Reconciliation(self.stores, self.gateways).run()

    # -- what must be -------------------------------------------------------------------------

    async def hold_of(self, stored: StoredPayment) -> Hold | None:
        """The hold that was booked with a payment, if one was."""
        payment = stored.payment
        for hold_id in (payment.hold_id, replacement_hold_id(payment)):
            hold = await self.stores.claims.find_hold(hold_id)
            if hold is not None and hold.booking is not None:
                assert hold.booking.confirmed.payment == payment.payment_id
                return hold
        return None

    async def check(self, payment_ids: Sequence[PaymentId]) -> dict[str, int]:
        """Everybody has his places or his money, and all books say the same.

        Returns:
            How many came to which end.
        """
        theirs = await self.statement()
        ends: dict[str, int] = {}
        for payment_id in payment_ids:
            stored = await self.find(payment_id)
            payment = stored.payment
            ref = stored.charge_ref or payment.provider_ref
            captured_minor, refunded_minor = theirs.get(ref or "", (0, 0))
            assert (payment.captured_minor, payment.refunded_minor) == (
                captured_minor,
                refunded_minor,
            ), f"{stored} and {theirs.get(ref or '')} at the provider"
            hold = await self.hold_of(stored)
            booking = None if hold is None else hold.booking
            has_places = booking is not None and booking.state is BookingState.CONFIRMED
            net_minor = captured_minor - refunded_minor
            expected_minor = payment.amount_minor if has_places else (payment.kept_minor or 0)
            assert net_minor == expected_minor, f"places: {has_places}, {net_minor} paid: {stored}"
            end = "places" if has_places else ("cancelled" if booking else str(payment.state))
            ends[end] = ends.get(end, 0) + 1
        for show_id in {show_id_of(each) for each in payment_ids}:
            for money in await self.stores.books[0].sums(show_id):
                assert money.disagreements() == []
                assert money.in_flight_minor == 0
        return ends

    async def statement(self) -> dict[str, tuple[int, int]]:
        """What the provider captured and gave back, by its id of the payment."""
        shown = await asyncio.to_thread(self.sandbox.control, "GET", "statement-of-payments")
        return {one["payment"]: (one["captured"], one["refunded"]) for one in shown}

    async def alarms(self, payment_id: PaymentId) -> set[str]:
        """What was raised about a payment."""
        return {
            row.kind for row in await self.stores.books[0].alarms() if row.subject == payment_id
        }

    # -- shows --------------------------------------------------------------------------------

    async def _locate(self, show_id: ShowId) -> str:
        placement = await self.catalogue.placement_of(show_id)
        if placement is None:
            raise ShowNotFound(f"no show {show_id}")
        return actor_name(show_id, placement, self.shards, 1)

    async def _connect(self, name: str) -> Submit:
        dsn = self.shards.dsns[0]
        source, journal = await open_show_store(dsn, dsn, owner=name)
        self._opened.push_async_callback(journal.close)
        actor = ShowActor(
            name,
            placement_of_actor(name),
            source,
            journal,
            self.clock,
            passivate_after_ms=600_000,
            mailbox_commands_max=4_096,
        )
        return actor.submit


@asynccontextmanager
async def open_checkout_house(
    postgres: EmbeddedPostgres, template: str
) -> AsyncIterator[CheckoutHouse]:
    """A house over a new, migrated database, with a sandbox of its own."""
    name = f"checkouts_{next(_numbers)}"
    server = await asyncpg.connect(postgres.dsn())
    await server.execute(f"CREATE DATABASE {name} {copy_of(template)}")
    await server.close()
    application_dsn = postgres.dsn(name, APPLICATION_ROLE, APPLICATION_PASSWORD)
    with running_sandbox() as sandbox, webhook_listener() as listener:
        async with AsyncExitStack() as opened:
            house = CheckoutHouse(postgres.dsn(name), application_dsn, sandbox, listener, opened)
            await house.start()
            yield house
