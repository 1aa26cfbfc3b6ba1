"""Tenants: whoever puts shows on sale."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from persistence.account_fields import PAGE_LENGTH_MAX, checked_limit
from persistence.audit_log import AuditEntry, write_entry
from persistence.catalogue_text import checked_text
from persistence.new_ids import new_id
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.ids import TenantId, is_tenant_id

NAME_LENGTH_MAX = 200

_QUERIES = load_queries("accounts.sql")


class TenantRow(NamedTuple):
    """One tenant."""

    tenant_id: TenantId
    name: str
    created_at_ms: int


class TenantPage(NamedTuple):
    """Some tenants; ``next`` is where to go on, None on the last page."""

    tenants: list[TenantRow]
    next: TenantId | None


class Tenants:
    """Makes and finds tenants.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from ``create_tenant``, when it went away in the middle.

    Args:
        pool: stays the caller's. Every group of roles may read; ``housefull_accounts`` may write.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create_tenant(
        self, name: str, *, audit: Callable[[TenantId], AuditEntry] | None = None
    ) -> TenantId:
        """A new tenant. Names need not be unique.

        Args:
            audit: makes the entry of the audit log, which is written in the same transaction.

        Raises:
            ValueError: ``name`` is blank or cannot be stored.
        """
        if not checked_text("name", name, NAME_LENGTH_MAX).strip():
            raise ValueError("name: blank")
        tenant_id = TenantId(new_id("tnt_"))
        async with writing(self._pool) as connection, connection.transaction():
            await connection.execute(_QUERIES["create_tenant"], tenant_id, name)
            if audit is not None:
                await write_entry(connection, audit(tenant_id))
        return tenant_id

    async def find_tenant(self, tenant_id: TenantId) -> TenantRow | None:
        """The tenant; None when there is none with this id."""
        if not is_tenant_id(tenant_id):
            return None
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(_QUERIES["find_tenant"], tenant_id)
        return None if row is None else TenantRow(*row)

    async def list_tenants(
        self, after: TenantId | None = None, limit: int = PAGE_LENGTH_MAX
    ) -> TenantPage:
        """A page of all tenants, in the order of their ids.

        Raises:
            ValueError: ``limit`` is not in 1..100, or ``after`` is no tenant's id.
        """
        checked_limit(limit)
        if after is not None and not is_tenant_id(after):
            raise ValueError("after: not the id of a tenant")
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["list_tenants"], after or "", limit + 1)
        tenants = [TenantRow(*row) for row in rows[:limit]]
        return TenantPage(tenants, tenants[-1].tenant_id if len(rows) > limit else None)
