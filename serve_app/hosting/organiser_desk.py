"""Opens, in a replica, what the routes of the organiser application turn to, and runs imports.

Waits for no database, like ``desks``.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from actors.activation import connect_refs
from persistence.audit_log import AuditLog
from persistence.catalogue import Catalogue
from persistence.claim_reader import ClaimReader
from persistence.migrate import ORGANISER_GROUP
from persistence.organisers import Organisers
from persistence.plan_change_locks import PlanChangeLocks
from persistence.sales_reader import SalesReader
from persistence.sessions import Pool, open_pool
from persistence.tenants import Tenants
from reservation.ids import derive_show_id
from serve_app.access.access_tokens import TokenVerifier
from serve_app.api.organiser.desk import OrganiserDesk
from serve_app.api.organiser.money_desk import MoneyDesk
from serve_app.catalogue.timetable_jobs import TimetableJobs, renewing, running
from serve_app.hosting.desks import close_pool, probe_access, watch_access
from serve_app.hosting.edge_config import EdgeConfig

_NAME = "organiser"
# Per replica; the second per database.
_ORGANISER_CONNECTIONS_MAX = 4
_SALES_CONNECTIONS_MAX = 2
_IMPORT_CONNECTIONS_MAX = 2

_ANSWER_WITHIN_S = 60.0
"""Sums over all sales of a show, and statements that put thousands of shows, take their time."""


@asynccontextmanager
async def open_organiser_desk(
    edge: EdgeConfig, verifier: TokenVerifier
) -> AsyncIterator[OrganiserDesk]:
    """The desk of the organiser application, which keeps ``verifier`` informed.

    Imports that wait are run while it is open.
    """
    async with AsyncExitStack() as opened:

        async def pool(dsn: str, connections_max: int, role: str | None = None) -> Pool:
            made = await open_pool(
                dsn,
                _NAME,
                size_max=connections_max,
                role=role,
                answer_within_s=_ANSWER_WITHIN_S,
            )
            opened.push_async_callback(close_pool, made)
            return made

        own = await pool(edge.catalogue_dsn, _ORGANISER_CONNECTIONS_MAX, ORGANISER_GROUP)
        shards = edge.actors.shards
        shard_pools = [await pool(dsn, _SALES_CONNECTIONS_MAX) for dsn in shards.dsns]
        await opened.enter_async_context(watch_access(edge, _NAME, verifier))
        catalogue, organisers = Catalogue(own), Organisers(own)
        sales = SalesReader(shard_pools, shards, own)
        refs = connect_refs(edge.actors, catalogue.placement_of)
        renew = renewing(refs, ClaimReader(shard_pools, shards))
        jobs = TimetableJobs(organisers.import_jobs, lambda: open_import_catalogue(edge), renew)
        await opened.enter_async_context(running(jobs))
        probe_id = derive_show_id("probe")
        yield OrganiserDesk(
            refs=refs,
            catalogue=catalogue,
            organisers=organisers,
            sales=sales,
            money=MoneyDesk(shard_pools, shards, own),
            plan_changes=PlanChangeLocks(own),
            tenants=Tenants(own),
            audit_log=AuditLog(own),
            wake_imports=jobs.wake,
            now_ms=lambda: time.time_ns() // 1_000_000,
            probes=[lambda: catalogue.placement_of(probe_id), probe_access(verifier)],
        )


@asynccontextmanager
async def open_import_catalogue(edge: EdgeConfig) -> AsyncIterator[Catalogue]:
    """A catalogue for an import, which has an event loop, and so connections, of its own."""
    pool = await open_pool(
        edge.catalogue_dsn,
        "timetable import",
        size_max=_IMPORT_CONNECTIONS_MAX,
        role=ORGANISER_GROUP,
        answer_within_s=_ANSWER_WITHIN_S,
    )
    try:
        yield Catalogue(pool)
    finally:
        await close_pool(pool)
