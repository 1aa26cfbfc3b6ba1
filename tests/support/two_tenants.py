"""Two tenants on a real database, and the stores of their work with the rights that these have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import asyncpg

from persistence.catalogue import Catalogue
from persistence.migrate import ORGANISER_GROUP
from persistence.organisers import Organisers
from persistence.sessions import Pool, open_pool
from reservation.ids import AccountId, TenantId
from reservation.organiser_ids import ObjectKind, derive_object_id
from tests.support.catalogue_house import COACH, COACH_ID, HALL, HALL_ID, LINE, LINE_ID

OURS = TenantId("tnt_" + "a" * 20)
THEIRS = TenantId("tnt_" + "b" * 20)
NOBODY = TenantId("tnt_" + "c" * 20)
ACCOUNT = AccountId("acc_" + "a" * 20)


class OrganiserStores(NamedTuple):
    """What a test works with; ``pool`` has the rights of ``housefull_organiser``."""

    organisers: Organisers
    catalogue: Catalogue
    pool: Pool
    superuser_dsn: str


def made(kind: ObjectKind, key: str, tenant_id: TenantId = OURS) -> str:
    """The id of what a tenant makes under this key."""
    return derive_object_id(kind, tenant_id, key)


@asynccontextmanager
async def open_organiser_stores(
    superuser_dsn: str, application_dsn: str
) -> AsyncIterator[OrganiserStores]:
    """An empty database with two tenants, two plans and a line."""
    connection = await asyncpg.connect(superuser_dsn)
    await connection.executemany(
        "INSERT INTO tenant (tenant_id, name, created_at_ms) VALUES ($1, $2, 0)",
        [(OURS, "Ours"), (THEIRS, "Theirs")],
    )
    await connection.close()
    pool = await open_pool(application_dsn, "organisers", size_max=6, role=ORGANISER_GROUP)
    async with pool:
        catalogue = Catalogue(pool)
        await catalogue.put_plan(HALL_ID, HALL, {}, {})
        await catalogue.put_plan(COACH_ID, COACH, {}, {})
        await catalogue.put_routes({LINE_ID: ("Main Line", LINE)})
        yield OrganiserStores(Organisers(pool), catalogue, pool, superuser_dsn)
