"""The HTTP applications over a real database, with show actors in this process instead of Ray.

Every response that a client here receives is held against the application's own OpenAPI
description: its status, its media type and its body.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import jsonschema
from fastapi import FastAPI

from actors.checkouts import Checkouts, open_checkouts
from actors.clock import SystemClock
from actors.config import ActorsConfig
from actors.naming import actor_name, placement_of_actor
from actors.payment_actor import PaymentActor
from actors.payment_stores import PaymentStores
from actors.provider_calls import open_gateways
from actors.seat_map_publisher import SeatMapPublisher
from actors.show_actor import ShowActor
from actors.show_ref import ShowRefs, Submit
from integrations.payments.provider_config import PaymentProvidersConfig
from persistence.catalogue import Catalogue
from persistence.channels import Channels
from persistence.claim_reader import ClaimReader
from persistence.migrate import migrate
from persistence.payments import Payments
from persistence.plan_codec import plan_id_of, route_id_of
from persistence.promo_codes import PromoCodes
from persistence.seat_map_cache import SeatMapCache
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from persistence.show_store import open_show_store
from persistence.show_terms import ShowTermsStore
from persistence.valkey_seat_map_cache import ValkeySeatMapCache
from reservation.access import Role
from reservation.fares import CategoryFare, FareTable
from reservation.faults import ShowNotFound
from reservation.ids import ShowId, derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.plan_export import write_plan
from reservation.route import Route, Stop
from reservation.seating_plan import SeatingPlan, SeatTrait
from reservation.show import Placement, SalesPolicy
from serve_app.api.booking import BookingDesk, build_booking_api
from serve_app.api.booking_checkout import CheckoutCounter
from serve_app.api.browse import BrowseDesk, build_browse_api
from serve_app.api.channel_keys import ChannelKeys
from serve_app.api.limits import RequestLimits
from serve_app.api.payments.application import PaymentsDesk, build_payments_api
from serve_app.api.payments.own_payments import OwnPayments
from serve_app.api.payments.recent_looks import RecentLooks
from serve_app.api.principals import Gate
from serve_app.api.seat_maps import SeatMaps
from serve_app.api.show_facts import ShowFactsCache
from tests.support.access import open_gate, signed_in
from tests.support.plans import build_plan
from tests.support.quick_postgres import quick_postgres

BODY_BYTES_MAX = 65_536
BOOKING = "/api/booking"
BROWSE = "/api/browse"
PAYMENTS = "/api/payments"
LOOPBACK = ("127.0.0.1", 50_000)

HOUR_MS = 3_600_000
NOW_MS = 1_790_000_000_000
STARTS_AT_MS = NOW_MS + 24 * HOUR_MS

SOON_MS = 3_000

NO_PROVIDERS = PaymentProvidersConfig()

numbers = itertools.count(1)

# Stalls A: 8 seats, of which A-7 is accessible and A-8 its companion; B: 8; Balcony: 4.
HALL = build_plan(
    [("Stalls", "A", 8, ()), ("Stalls", "B", 8, ()), ("Balcony", "A", 4, ())],
    name="Hall",
    categories=("Stalls", "Balcony"),
    category_of=lambda seat: 1 if seat >= 16 else 0,
    traits={6: SeatTrait.ACCESSIBLE, 7: SeatTrait.COMPANION},
    admission_tiers=[("standing", 100), ("lawn", 3)],
)
COACH = build_plan([("Coach", "1", 4, (2,)), ("Coach", "2", 4, (2,))], name="Coach")
_CALLS = [
    ("PRG", "Praha hl.n.", 480),
    ("KOL", "Kolín", 520),
    ("PCE", "Pardubice", 545),
    ("OLO", "Olomouc", 630),
    ("OVA", "Ostrava", 690),
]
LINE = Route(
    tuple(
        Stop(code, name, 60 * minute - 60, 60 * minute, 1_000 * position, 50.0, 14.5)
        for position, (code, name, minute) in enumerate(_CALLS)
    )
)
HALL_FARES = FareTable("EUR", (CategoryFare(4_500), CategoryFare(2_000)))
LINE_FARES = FareTable("CZK", (CategoryFare(1_000, (500, 300, 700, 400)),))


class House:
    """A catalogue, actors on demand, and the applications of customers."""

    checkouts: Checkouts
    payment_actor: PaymentActor
    payment_stores: PaymentStores

    def __init__(
        self, dsn: str, opened: AsyncExitStack, pool: Any, redis_url: str | None = None
    ) -> None:
        self.dsn = dsn
        self.redis_url = redis_url
        self.started: list[str] = []
        self.shards = ShardMap.even((dsn,))
        self.catalogue = Catalogue(pool)
        self.claims = ClaimReader([pool], self.shards)
        self._actors: dict[str, ShowActor] = {}
        self.refs = ShowRefs(self._locate, self._connect, ask_deadline_ms=10_000, renew=self._renew)
        self.payments = OwnPayments([Payments(pool)], self.shards)
        self._opened = opened
        self.pool = pool

    async def open_checkouts(self, providers: PaymentProvidersConfig) -> None:
        """Take money with these. The payment actor works when ``work`` says so."""
        config = ActorsConfig(self.shards, "", payments=providers)
        stores = await PaymentStores(self.shards, "payments").open()
        self._opened.push_async_callback(stores.close)
        gateways = open_gateways(providers)
        for gateway in gateways.values():
            self._opened.push_async_callback(gateway.close)
        self.payment_actor = PaymentActor("payments:0", stores, 0, self.refs, gateways)
        self.payment_stores = stores
        self.checkouts = await open_checkouts(config, self.refs)
        self._opened.push_async_callback(self.checkouts.close)

    async def work(self) -> None:
        """Let the payment actor do all that is due now or in a moment."""
        stores = self.payment_stores
        while True:
            await self.payment_actor.look()
            await self.payment_actor.until_calm()
            if (await stores.inboxes[0].waiting()).notice_count:
                continue
            due_at_ms = await stores.payments[0].next_due_at_ms()
            left_ms = SOON_MS if due_at_ms is None else due_at_ms - await stores.now_ms(0)
            if left_ms >= SOON_MS:
                return
            await asyncio.sleep(max(left_ms, 0) / 1_000)

    async def add_plan(self, plan: SeatingPlan) -> str:
        """Put a plan into the catalogue."""
        plan_id = plan_id_of(plan)
        await self.catalogue.put_plan(plan_id, plan, *write_plan(plan))
        return plan_id

    async def add_show(
        self,
        title: str = "Hamlet",
        *,
        plan: SeatingPlan = HALL,
        policy: SalesPolicy | None = None,
        starts_at_ms: int = STARTS_AT_MS,
        fares: FareTable = HALL_FARES,
        placement: Placement = Placement.DEDICATED,
    ) -> ShowId:
        """A new show of its own in the hall, or on another plan."""
        key = f"test:{next(numbers)}"
        listing = ShowListing(
            derive_show_id(key),
            key,
            ShowKind.PERFORMANCE,
            title,
            "Grand Theatre",
            starts_at_ms,
            starts_at_ms + 2 * HOUR_MS,
            starts_at_ms,
            "Europe/Prague",
            plan_id_of(plan),
            None,
            fares,
            placement,
            policy or SalesPolicy(),
        )
        return await self._put(listing)

    async def add_run(self, title: str = "Express", *, policy: SalesPolicy | None = None) -> ShowId:
        """A new run of the coach on the line."""
        key = f"test:{next(numbers)}"
        day_ms = STARTS_AT_MS
        listing = ShowListing(
            derive_show_id(key),
            key,
            ShowKind.TRAIN,
            title,
            "Railways",
            day_ms + LINE.stops[0].departure_s * 1_000,
            day_ms + LINE.stops[-1].arrival_s * 1_000,
            day_ms,
            "Europe/Prague",
            plan_id_of(COACH),
            route_id_of(LINE),
            LINE_FARES,
            Placement.POOLED,
            policy or SalesPolicy(),
        )
        return await self._put(listing)

    async def _put(self, listing: ShowListing) -> ShowId:
        counts = await self.catalogue.put_shows([listing])
        assert not counts.refused, counts
        return listing.show_id

    async def stored(self, show_id: ShowId) -> tuple[int, int]:
        """How many holds the show has in the database, and how far its journal is."""
        holds = await self.pool.fetchval(
            "SELECT count(*) FROM every_hold WHERE show_id = $1", show_id
        )
        return holds, await self.claims.version_of(show_id)

    def booking_app(
        self,
        refs: ShowRefs | None = None,
        *,
        gate: Gate | None = None,
        limits: RequestLimits | None = None,
        cors_origins: Sequence[str] = (),
    ) -> FastAPI:
        """The booking application over this house."""
        desk = BookingDesk(
            refs or self.refs,
            ShowFactsCache(self.catalogue),
            self.claims,
            ChannelKeys(Channels(self.pool)),
            CheckoutCounter(
                self.checkouts,
                self.payments,
                ShowTermsStore(self.pool),
                PromoCodes(self.pool),
            ),
            [lambda: self.claims.version_of(derive_show_id("probe"))],
        )

        @asynccontextmanager
        async def open_desk() -> AsyncIterator[BookingDesk]:
            yield desk

        return build_booking_api(
            open_desk,
            gate=gate or open_gate(),
            body_bytes_max=BODY_BYTES_MAX,
            limits=limits,
            cors_origins=cors_origins,
        )

    def payments_app(
        self, *, gate: Gate | None = None, limits: RequestLimits | None = None
    ) -> FastAPI:
        """The payments application over this house."""
        looks = RecentLooks(self.checkouts)
        desk = PaymentsDesk(self.checkouts, looks, self.payments, [self.payments.probe])

        @asynccontextmanager
        async def open_desk() -> AsyncIterator[PaymentsDesk]:
            yield desk

        return build_payments_api(
            open_desk, gate=gate or open_gate(), body_bytes_max=BODY_BYTES_MAX, limits=limits
        )

    def browse_app(
        self, cache: SeatMapCache | None = None, *, limits: RequestLimits | None = None
    ) -> FastAPI:
        """The browse application over this house, as a process of its own."""
        desk = BrowseDesk(
            self.catalogue,
            ShowFactsCache(self.catalogue),
            SeatMaps(self.claims, cache),
            [lambda: self.claims.version_of(derive_show_id("probe"))],
            now_ms=lambda: NOW_MS,
        )

        @asynccontextmanager
        async def open_desk() -> AsyncIterator[BrowseDesk]:
            yield desk
            await desk.seat_maps.close()

        return build_browse_api(open_desk, body_bytes_max=BODY_BYTES_MAX, limits=limits)

    async def _locate(self, show_id: ShowId) -> str:
        placement = await self.catalogue.placement_of(show_id)
        if placement is None:
            raise ShowNotFound(f"no show {show_id}")
        return actor_name(show_id, placement, self.shards, 1)

    async def _connect(self, name: str) -> Submit:
        self.started.append(name)
        source, journal = await open_show_store(self.dsn, self.dsn, owner=name)
        self._opened.push_async_callback(journal.close)
        publisher: SeatMapPublisher | None = None
        if self.redis_url is not None:
            publisher = SeatMapPublisher(ValkeySeatMapCache(self.redis_url, timeout_ms=5_000))
            self._opened.push_async_callback(publisher.close)
        actor = ShowActor(
            name,
            placement_of_actor(name),
            source,
            journal,
            SystemClock(),
            passivate_after_ms=60_000,
            mailbox_commands_max=4_096,
            publisher=publisher,
        )
        self._actors[name] = actor
        return actor.submit

    async def _renew(self, name: str, show_id: ShowId) -> None:
        if name not in self._actors:
            await self._connect(name)
        await self._actors[name].renew(show_id)


@asynccontextmanager
async def open_house(
    dsn: str, redis_url: str | None = None, providers: PaymentProvidersConfig = NO_PROVIDERS
) -> AsyncIterator[House]:
    """A house over an empty, migrated database; its owners publish where ``redis_url`` says."""
    async with AsyncExitStack() as opened:
        pool = await open_pool(dsn, "tests", size_max=5)
        opened.push_async_callback(pool.close)
        house = House(dsn, opened, pool, redis_url)
        await house.open_checkouts(providers)
        for plan in (HALL, COACH):
            await house.add_plan(plan)
        await house.catalogue.put_routes({route_id_of(LINE): ("Line", LINE)})
        yield house


@asynccontextmanager
async def open_client(
    app: FastAPI, root_path: str, *, peer: tuple[str, int] = LOOPBACK
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of one application; see the module's docstring for what it checks."""
    described = Described(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app, root_path=root_path, client=peer),
            base_url=f"http://house{root_path}",
            event_hooks={"response": [described.check]},
        ) as client,
    ):
        yield client


class Described:
    """Holds responses against the OpenAPI description of their application."""

    def __init__(self, app: FastAPI) -> None:
        self.document: dict[str, Any] = app.openapi()
        self._operations = [
            (method, re.compile(re.sub(r"\{\w+\}", "[^/]*", path)), operation)
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        ]

    async def check(self, response: httpx.Response) -> None:
        """Fail unless the description foresees this response."""
        await response.aread()
        request = response.request
        operation = self._find(request.method.lower(), request.url.path)
        assert response.headers["x-request-id"]
        if operation is None:
            assert response.status_code in (404, 405), response.text
            assert response.headers["content-type"] == "application/problem+json"
            return
        described = operation["responses"].get(str(response.status_code))
        assert described is not None, f"{response.status_code} is not described: {response.text}"
        content = described.get("content")
        if not content:
            assert response.content == b""
            return
        media_type = response.headers["content-type"]
        assert media_type in content, f"{media_type} is not described"
        if media_type != "text/csv":
            self.validate(response.json(), content[media_type]["schema"])

    def validate(self, value: object, schema: dict[str, Any]) -> None:
        """Fail unless ``value`` fits a schema of the description."""
        whole = {**schema, "components": self.document["components"]}
        jsonschema.validate(value, whole, cls=jsonschema.Draft202012Validator)

    def _find(self, method: str, path: str) -> dict[str, Any] | None:
        path = re.sub(r"^/api/[a-z]+", "", path)
        for known, pattern, operation in self._operations:
            if known == method and pattern.fullmatch(path):
                found: dict[str, Any] = operation
                return found
        return None


@asynccontextmanager
async def open_new_house(
    redis_url: str | None = None,
    providers: PaymentProvidersConfig = NO_PROVIDERS,
) -> AsyncIterator[House]:
    """A house over a server of its own."""
    with quick_postgres() as server:
        await migrate(server.dsn())
        async with open_house(server.dsn(), redis_url, providers) as house:
            yield house


def as_customer(name: str, key: str | None = None) -> dict[str, str]:
    """Headers of a customer, with an idempotency key of its own when none is given."""
    return {**signed_in(name), "Idempotency-Key": key or f"key-{next(numbers)}"}


def as_seller(name: str, key: str | None = None) -> dict[str, str]:
    """Headers of somebody at the box office, who may confirm; otherwise as ``as_customer``."""
    return {**selling(name), "Idempotency-Key": key or f"key-{next(numbers)}"}


def selling(name: str) -> dict[str, str]:
    """Headers of somebody at the box office of the house whose shows these are."""
    return signed_in(name, Role.BOX_OFFICE)


def code_of(response: httpx.Response) -> str:
    """The code of a problem; fails when the response is none."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["type"] == f"urn:housefull:problem:{problem['code']}"
    code: str = problem["code"]
    return code


def fields_of(response: httpx.Response) -> list[str]:
    """The fields that a problem names."""
    return [error["field"] for error in response.json()["errors"]]
