"""Seating plans as organisers know them: a name, and versions whose content never changes.

What a version looks like is stored once for the whole house, by its content
(``Catalogue.put_plan``). Shows refer to that content, so a newer version changes nothing about
shows that are on sale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import asyncpg

from persistence.organiser_rows import (
    Page,
    Place,
    Put,
    PutOutcome,
    PutStatements,
    check_limit,
    checked_name,
    checked_place,
    digest_of,
    find_row,
    is_storable_id,
    key_of_name,
    list_rows,
    put_change,
    put_new,
)
from persistence.queries import load_queries
from persistence.sessions import Pool, reading
from reservation.ids import AccountId, TenantId
from reservation.organiser_ids import VenueId, VenuePlanId

_QUERIES = load_queries("organisers.sql")


class VenuePlanDraft(NamedTuple):
    """What an organiser says of a plan."""

    name: str
    venue_id: VenueId | None = None


@dataclass(frozen=True, slots=True)
class VenuePlanRow:
    """One named plan.

    Shapes:
        plan_id, seat_count, category_count: of its newest version, whose number is
            ``version_count``.
    """

    venue_plan_id: VenuePlanId
    tenant_id: TenantId
    venue_id: VenueId | None
    name: str
    plan_id: str
    seat_count: int
    category_count: int
    version_count: int
    version: int
    created_at_ms: int
    updated_at_ms: int


class PlanVersionRow(NamedTuple):
    """One version of a plan; numbers start at 1."""

    number: int
    plan_id: str
    seat_count: int
    category_count: int
    created_by: AccountId
    created_at_ms: int


def _row_of(record: asyncpg.Record) -> VenuePlanRow:
    venue_id = record["venue_id"]
    return VenuePlanRow(
        VenuePlanId(record["venue_plan_id"]),
        TenantId(record["tenant_id"]),
        None if venue_id is None else VenueId(venue_id),
        record["name"],
        record["plan_id"],
        record["seat_count"],
        record["category_count"],
        record["version_count"],
        record["version"],
        record["created_at_ms"],
        record["updated_at_ms"],
    )


_PLAN = PutStatements(
    _QUERIES["insert_venue_plan"],
    _QUERIES["find_venue_plan"],
    _QUERIES["update_venue_plan"],
    _QUERIES["list_venue_plans"],
    "venue_plan_id",
    _row_of,
)


class VenuePlans:
    """Makes, finds and changes named plans. The names of one tenant's plans differ.

    Raises:
        ValueError: from the writing methods, a field that cannot be stored; the message begins
            with its name.
        Fault: from every method, when the database is away.

    Args:
        pool: stays the caller's, with the rights of ``housefull_organiser``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self,
        tenant_id: TenantId,
        venue_plan_id: VenuePlanId,
        draft: VenuePlanDraft,
        plan_id: str,
        account_id: AccountId,
    ) -> Put[VenuePlanRow]:
        """A new plan, whose first version has this content, which must be stored already."""
        columns = _columns(draft)
        if not is_storable_id(plan_id):
            return Put(PutOutcome.REFERENCE_NOT_FOUND)
        digest = digest_of(*draft, plan_id)
        return await put_new(
            self._pool, _PLAN, tenant_id, venue_plan_id, digest, *columns, plan_id, account_id
        )

    async def add_version(
        self,
        tenant_id: TenantId,
        venue_plan_id: VenuePlanId,
        plan_id: str,
        account_id: AccountId,
        expected_version: int | None = None,
    ) -> Put[VenuePlanRow]:
        """A newer content; REPEATED when it is the content of the newest version."""
        if not is_storable_id(plan_id):
            return Put(PutOutcome.REFERENCE_NOT_FOUND)
        put = await put_change(
            self._pool,
            _PLAN,
            tenant_id,
            venue_plan_id,
            expected_version,
            plan_id,
            account_id,
            update=_QUERIES["add_plan_version"],
        )
        if put.outcome is not PutOutcome.STALE:
            return put
        known = await self.find(tenant_id, venue_plan_id)
        if known is not None and known.plan_id == plan_id:
            return Put(PutOutcome.REPEATED, known)
        return put

    async def find(self, tenant_id: TenantId, venue_plan_id: VenuePlanId) -> VenuePlanRow | None:
        """The plan; None when the tenant has none with this id."""
        return await find_row(self._pool, _PLAN, tenant_id, venue_plan_id)

    async def list(
        self, tenant_id: TenantId, limit: int = 50, after: Place | None = None
    ) -> Page[VenuePlanRow]:
        """The tenant's plans, the newest first."""
        return await list_rows(self._pool, _PLAN, tenant_id, limit, after)

    async def update(
        self,
        tenant_id: TenantId,
        venue_plan_id: VenuePlanId,
        draft: VenuePlanDraft,
        expected_version: int | None = None,
    ) -> Put[VenuePlanRow]:
        """Another name or venue."""
        return await put_change(
            self._pool, _PLAN, tenant_id, venue_plan_id, expected_version, *_columns(draft)
        )

    async def list_versions(
        self,
        tenant_id: TenantId,
        venue_plan_id: VenuePlanId,
        limit: int = 50,
        after: Place | None = None,
    ) -> Page[PlanVersionRow]:
        """The versions of a plan, the newest first; none when it is not the tenant's.

        Shapes:
            after: ``at_ms`` is the number of the version to go on below.
        """
        check_limit(limit)
        below = checked_place(after, Place(2**31 - 1, "")).at_ms
        versions = await self._versions(tenant_id, venue_plan_id, below, limit + 1)
        is_last = len(versions) <= limit
        following = None if is_last else Place(versions[limit - 1].number, venue_plan_id)
        return Page(versions[:limit], following)

    async def find_version(
        self, tenant_id: TenantId, venue_plan_id: VenuePlanId, number: int
    ) -> PlanVersionRow | None:
        """One version of a plan; None when there is none with this number."""
        if not 1 <= number < 2**31 - 1:
            return None
        found = await self._versions(tenant_id, venue_plan_id, number + 1, 1)
        return found[0] if found and found[0].number == number else None

    async def owns_plan(self, tenant_id: TenantId, plan_id: str) -> bool:
        """Whether the tenant may sell from this content: a version or a show of its own has it."""
        if not is_storable_id(plan_id):
            return False
        async with reading(self._pool) as connection:
            owns: bool = await connection.fetchval(_QUERIES["owns_plan"], tenant_id, plan_id)
        return owns

    async def owns_plan_alone(self, tenant_id: TenantId, plan_id: str) -> bool:
        """Whether no other tenant has this content, so that nobody minds another drawing of it."""
        if not is_storable_id(plan_id):
            return False
        async with reading(self._pool) as connection:
            query = _QUERIES["is_plan_of_others"]
            is_of_others: bool = await connection.fetchval(query, tenant_id, plan_id)
        return not is_of_others

    async def _versions(
        self, tenant_id: TenantId, venue_plan_id: VenuePlanId, below: int, count: int
    ) -> tuple[PlanVersionRow, ...]:
        if not is_storable_id(venue_plan_id):
            return ()
        below = max(0, min(below, 2**31 - 1))
        async with reading(self._pool) as connection:
            records = await connection.fetch(
                _QUERIES["list_plan_versions"], tenant_id, venue_plan_id, below, count
            )
        return tuple(
            PlanVersionRow(
                record["number"],
                record["plan_id"],
                record["seat_count"],
                record["category_count"],
                AccountId(record["created_by"]),
                record["created_at_ms"],
            )
            for record in records
        )


def _columns(draft: VenuePlanDraft) -> tuple[str | None, ...]:
    name = checked_name("name", draft.name)
    if draft.venue_id is not None and not is_storable_id(draft.venue_id):
        raise ValueError("venue_id: not an id")
    return name, key_of_name(name), draft.venue_id
