"""The audit log: who changed what, for ever.

Entries are only added. The roles of the program have no right to change or remove one, and a
trigger stops whoever has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import orjson

from persistence.account_fields import PAGE_LENGTH_MAX, checked_limit
from persistence.catalogue_text import checked_text
from persistence.catalogue_writes import document_json
from persistence.queries import load_queries
from persistence.sessions import Pool, PooledConnection, reading, writing
from reservation.ids import AccountId, TenantId, is_account_id, is_tenant_id

if TYPE_CHECKING:
    import asyncpg

DETAIL_BYTES_MAX = 64 * 1024
"""Of ``before`` and ``after``, each, as JSON. What is larger is told by its id or its hash."""

_ACTION_LENGTH_MAX = 100
_ID_LENGTH_MAX = 200
_BEGINNING = 2**63 - 1
_QUERIES = load_queries("accounts.sql")


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One administrative change.

    Shapes:
        account_id: who did it; None for the command line.
        tenant_id: whose it is; None when it belongs to the whole house.
        action: snake_case and in the past, for example ``show_cancelled``.
        object_id: what was changed.
        before, after: what a person needs to understand the change; None where there was or is
            nothing. No secrets: entries are never removed.
    """

    at_ms: int
    account_id: AccountId | None
    tenant_id: TenantId | None
    action: str
    object_id: str
    before: Mapping[str, object] | None = None
    after: Mapping[str, object] | None = None
    request_id: str | None = None


class AuditRecord(NamedTuple):
    """An entry and its place in the log: what was written later has a larger number."""

    entry_id: int
    entry: AuditEntry


class AuditPage(NamedTuple):
    """Some entries, the newest first; ``next`` is the cursor of the rest, None at the end."""

    records: list[AuditRecord]
    next: int | None


class AuditLog:
    """Adds to the log and reads it.

    Raises:
        ShowUnavailable: from both methods, when the database cannot be reached.
        OutcomeUnknown: from ``append_audit``, when it went away in the middle.

    Args:
        pool: stays the caller's, with the rights of ``housefull_accounts`` or
            ``housefull_organiser``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def append_audit(self, entry: AuditEntry) -> None:
        """Add an entry. ``write_entry`` does so inside a transaction of the caller.

        Raises:
            ValueError: a field cannot be stored; the message begins with its name.
        """
        async with writing(self._pool) as connection:
            await write_entry(connection, entry)

    async def list_audit(
        self,
        tenant_id: TenantId | None,
        cursor: int | None = None,
        limit: int = PAGE_LENGTH_MAX,
    ) -> AuditPage:
        """A page of the log, the newest entries first.

        Args:
            tenant_id: only what belongs to this tenant; None is everything there is.
            cursor: the ``next`` of the page before; None for the first page.

        Raises:
            ValueError: ``limit`` is not in 1..100, or ``cursor`` is no place in a log.
        """
        checked_limit(limit)
        before_id = _BEGINNING if cursor is None else cursor
        if not 0 <= before_id <= _BEGINNING:
            raise ValueError("cursor: not a place in the log")
        if tenant_id is not None and not is_tenant_id(tenant_id):
            return AuditPage([], None)
        query, arguments = "list_audit", [before_id, limit + 1, tenant_id]
        if tenant_id is None:
            query, arguments = "list_whole_audit", arguments[:2]
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES[query], *arguments)
        records = [_record_of(row) for row in rows[:limit]]
        return AuditPage(records, records[-1].entry_id if len(rows) > limit else None)


async def write_entry(connection: PooledConnection, entry: AuditEntry) -> None:
    """Add an entry in the caller's transaction: it is there exactly if the change is.

    Raises:
        ValueError: a field cannot be stored; the message begins with its name.
    """
    if not checked_text("action", entry.action, _ACTION_LENGTH_MAX):
        raise ValueError("action: empty")
    if entry.account_id is not None and not is_account_id(entry.account_id):
        raise ValueError("account_id: not the id of an account")
    if entry.tenant_id is not None and not is_tenant_id(entry.tenant_id):
        raise ValueError("tenant_id: not the id of a tenant")
    if entry.request_id is not None:
        checked_text("request_id", entry.request_id, _ID_LENGTH_MAX)
    await connection.execute(
        _QUERIES["append_audit"],
        entry.at_ms,
        entry.account_id,
        entry.tenant_id,
        entry.action,
        checked_text("object_id", entry.object_id, _ID_LENGTH_MAX),
        _detail_json("before", entry.before),
        _detail_json("after", entry.after),
        entry.request_id,
    )


def _detail_json(field: str, detail: Mapping[str, object] | None) -> str | None:
    if detail is None:
        return None
    encoded = document_json(field, detail)
    if len(encoded.encode()) > DETAIL_BYTES_MAX:
        raise ValueError(f"{field}: longer than {DETAIL_BYTES_MAX} bytes as JSON")
    return encoded


def _record_of(row: asyncpg.Record) -> AuditRecord:
    entry = AuditEntry(
        at_ms=row["at_ms"],
        account_id=None if row["account_id"] is None else AccountId(row["account_id"]),
        tenant_id=None if row["tenant_id"] is None else TenantId(row["tenant_id"]),
        action=row["action"],
        object_id=row["object_id"],
        before=None if row["before"] is None else orjson.loads(row["before"]),
        after=None if row["after"] is None else orjson.loads(row["after"]),
        request_id=row["request_id"],
    )
    return AuditRecord(row["entry_id"], entry)
