"""The organiser application over a real database and real show actors, in this process.

Its connections have the rights that they have in a house, and no more. Imports run as in a house.
"""

from __future__ import annotations

import io
import itertools
import time
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from persistence.audit_log import AuditLog
from persistence.catalogue import Catalogue
from persistence.migrate import APPLICATION_GROUP, ORGANISER_GROUP
from persistence.organisers import Organisers
from persistence.plan_change_locks import PlanChangeLocks
from persistence.sales_reader import SalesReader
from persistence.sessions import Pool, open_pool
from persistence.tenants import Tenants
from reservation.access import HOUSE_TENANT, Role
from reservation.ids import TenantId
from reservation.plan_export import write_plan
from reservation.seating_plan import SeatingPlan
from serve_app.api.organiser.application import build_organiser_api
from serve_app.api.organiser.desk import OrganiserDesk
from serve_app.api.organiser.money_desk import MoneyDesk
from serve_app.catalogue.timetable_jobs import TimetableJobs, renewing, running
from tests.support.access import OTHER_TENANT, account_named, open_gate, signed_in
from tests.support.http_house import BODY_BYTES_MAX, HALL, House, open_new_house

ORGANISER = "/api/organiser"
DEMO_TRAINS = Path(__file__).parents[2] / "serve_app" / "catalogue" / "demo" / "train-line"
STARTS_AT = "2026-12-24T18:00:00.000Z"
ENDS_AT = "2026-12-24T21:00:00.000Z"
HALL_PRICES: dict[str, Any] = {
    "currency": "EUR",
    "categories": {"Stalls": {"amount_minor": 4_500}, "Balcony": {"amount_minor": 2_000}},
}

_numbers = itertools.count(1)


class OrganiserHouse:
    """A house with two tenants, and what its organiser application turns to."""

    def __init__(self, house: House, own: Pool, shard_pool: Pool, admin_pool: Pool) -> None:
        self.house = house
        self.own_pool = own
        self.catalogue = Catalogue(own)
        self.organisers = Organisers(own)
        self.audit_log = AuditLog(own)
        self.sales = SalesReader([shard_pool], house.shards, own)
        self.money = MoneyDesk([shard_pool], house.shards, own)
        self.admin_pool = admin_pool
        self.jobs = TimetableJobs(
            self.organisers.import_jobs, self.open_catalogue, renewing(house.refs, house.claims)
        )
        self._tenants = Tenants(own)

    def desk(self) -> OrganiserDesk:
        """What the routes turn to."""
        return OrganiserDesk(
            refs=self.house.refs,
            catalogue=self.catalogue,
            organisers=self.organisers,
            sales=self.sales,
            money=self.money,
            plan_changes=PlanChangeLocks(self.own_pool),
            tenants=self._tenants,
            audit_log=self.audit_log,
            wake_imports=self.jobs.wake,
            now_ms=lambda: time.time_ns() // 1_000_000,
            probes=[lambda: self.organisers.shows.list(HOUSE_TENANT, limit=1)],
        )

    def app(self, *, runs_imports: bool = True) -> FastAPI:
        """The organiser application over this house."""

        @asynccontextmanager
        async def open_desk() -> AsyncIterator[OrganiserDesk]:
            async with AsyncExitStack() as opened:
                if runs_imports:
                    await opened.enter_async_context(running(self.jobs))
                yield self.desk()

        return build_organiser_api(open_desk, gate=open_gate(), body_bytes_max=BODY_BYTES_MAX)

    async def add_account(self, name: str, shown_name: str) -> None:
        """A customer whose name and address attendee lists have."""
        await self.admin_pool.execute(
            "INSERT INTO account "
            "(account_id, email, email_key, name, role, password_hash, created_at_ms) "
            "VALUES ($1, $2, $2, $3, 'customer', 'none', 0) ON CONFLICT DO NOTHING",
            account_named(name),
            f"{name}@example.org",
            shown_name,
        )

    @asynccontextmanager
    async def open_catalogue(self) -> AsyncIterator[Catalogue]:
        """A catalogue with connections of its own, for an import."""
        pool = await open_pool(self.house.dsn, "imports", size_max=2, role=ORGANISER_GROUP)
        try:
            yield Catalogue(pool)
        finally:
            await pool.close()


@asynccontextmanager
async def open_organiser_house() -> AsyncIterator[OrganiserHouse]:
    """A house over a server of its own, with the house's tenant and ``OTHER_TENANT``."""
    async with open_new_house() as house, AsyncExitStack() as opened:
        pools = []
        for role in (ORGANISER_GROUP, APPLICATION_GROUP, None):
            pool = await open_pool(house.dsn, "tests", size_max=4, role=role)
            opened.push_async_callback(pool.close)
            pools.append(pool)
        await pools[2].execute(
            "INSERT INTO tenant (tenant_id, name, created_at_ms) VALUES ($1, 'Other house', 0)",
            OTHER_TENANT,
        )
        yield OrganiserHouse(house, *pools)


class Organiser:
    """Somebody who uses the application, with a key of its own for everything that is made."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        name: str = "olga",
        role: Role = Role.ORGANISER,
        tenant_id: TenantId = HOUSE_TENANT,
    ) -> None:
        self.client = client
        self.name = name
        self._headers = signed_in(name, role, tenant_id)

    async def ask(
        self, method: str, path: str, body: object = None, *, key: str | None = None, **more: Any
    ) -> httpx.Response:
        """One request."""
        headers = {**self._headers, **more.pop("headers", {})}
        if method == "POST":
            headers["Idempotency-Key"] = key or f"organiser-{next(_numbers)}"
        if body is not None:
            more["json"] = body
        return await self.client.request(method, path, headers=headers, **more)

    async def get(self, path: str, **params: Any) -> Any:
        """What is there; fails when there is nothing."""
        return await self._done("GET", path, None, 200, params=params)

    async def make(self, path: str, body: object, **more: Any) -> Any:
        """Make something; fails when it is refused."""
        return await self._done("POST", path, body, 201, **more)

    async def do(self, path: str, body: object = None) -> Any:
        """Do something to something; fails when it is refused."""
        return await self._done("POST", path, body, 200)

    async def change(self, path: str, body: object) -> Any:
        """Change something; fails when it is refused."""
        return await self._done("PATCH", path, body, 200)

    async def _done(self, method: str, path: str, body: object, status: int, **more: Any) -> Any:
        response = await self.ask(method, path, body, **more)
        assert response.status_code == status, response.text
        return response.json()

    async def make_venue(self, name: str | None = None) -> str:
        """A new venue; its id."""
        name = name or f"Grand Theatre {next(_numbers)}"
        venue = await self.make("/venues", {"name": name, "time_zone": "Europe/Prague"})
        venue_id: str = venue["venue_id"]
        return venue_id

    async def make_plan(self, plan: SeatingPlan = HALL) -> str:
        """A new seating plan; its id."""
        body = {"name": f"Plan {next(_numbers)}", **plan_body(plan)}
        made = await self.make("/seating-plans", body)
        plan_id: str = made["seating_plan_id"]
        return plan_id

    async def make_show(self, **more: Any) -> Any:
        """A new show in the hall, on sale unless said otherwise."""
        if "venue_id" not in more:
            more["venue_id"] = await self.make_venue()
        if "seating_plan_id" not in more and "plan_id" not in more:
            more["seating_plan_id"] = await self.make_plan()
        return await self.make("/shows", {**show_body(), **more})


def show_body() -> dict[str, Any]:
    """What a show in the hall is made of, but for its venue and plan."""
    return {
        "title": f"Hamlet {next(_numbers)}",
        "starts_at": STARTS_AT,
        "ends_at": ENDS_AT,
        "prices": HALL_PRICES,
        "is_on_sale": True,
    }


def drawing_of(plan: SeatingPlan) -> tuple[Any, Any]:
    """A plan as two documents that a test may damage."""
    return write_plan(plan)


def plan_body(plan: SeatingPlan) -> dict[str, Any]:
    """A plan as it is sent."""
    document, extras = write_plan(plan)
    return {"document": document, "extras": extras}


def zipped(folder: Path) -> bytes:
    """The files of a folder as a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return content.getvalue()
