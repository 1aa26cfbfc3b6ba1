"""Venues: where a tenant's shows take place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg

from persistence.catalogue_text import checked_text
from persistence.organiser_rows import (
    Page,
    Place,
    Put,
    PutOutcome,
    PutStatements,
    checked_name,
    digest_of,
    find_row,
    is_storable_id,
    key_of_name,
    list_rows,
    put_change,
    put_new,
)
from persistence.queries import load_queries
from persistence.sessions import Pool, writing
from reservation.ids import TenantId
from reservation.organiser_ids import VenueId

ADDRESS_LENGTH_MAX = 2_000

_QUERIES = load_queries("organisers.sql")


class VenueDraft(NamedTuple):
    """What an organiser says of a venue; ``time_zone`` is a name of the IANA database."""

    name: str
    address: str
    time_zone: str


@dataclass(frozen=True, slots=True)
class VenueRow:
    """One venue."""

    venue_id: VenueId
    tenant_id: TenantId
    name: str
    address: str
    time_zone: str
    version: int
    created_at_ms: int
    updated_at_ms: int


def _row_of(record: asyncpg.Record) -> VenueRow:
    return VenueRow(
        VenueId(record["venue_id"]),
        TenantId(record["tenant_id"]),
        record["name"],
        record["address"],
        record["time_zone"],
        record["version"],
        record["created_at_ms"],
        record["updated_at_ms"],
    )


_VENUE = PutStatements(
    _QUERIES["insert_venue"],
    _QUERIES["find_venue"],
    _QUERIES["update_venue"],
    _QUERIES["list_venues"],
    "venue_id",
    _row_of,
)


class Venues:
    """Makes, finds and changes venues. The names of one tenant's venues differ.

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
        self, tenant_id: TenantId, venue_id: VenueId, draft: VenueDraft
    ) -> Put[VenueRow]:
        """A new venue."""
        columns = _columns(draft)
        digest = digest_of(*draft)
        return await put_new(self._pool, _VENUE, tenant_id, venue_id, digest, *columns)

    async def find(self, tenant_id: TenantId, venue_id: VenueId) -> VenueRow | None:
        """The venue; None when the tenant has none with this id."""
        return await find_row(self._pool, _VENUE, tenant_id, venue_id)

    async def list(
        self, tenant_id: TenantId, limit: int = 50, after: Place | None = None
    ) -> Page[VenueRow]:
        """The tenant's venues, the newest first."""
        return await list_rows(self._pool, _VENUE, tenant_id, limit, after)

    async def update(
        self,
        tenant_id: TenantId,
        venue_id: VenueId,
        draft: VenueDraft,
        expected_version: int | None = None,
    ) -> Put[VenueRow]:
        """Another name, address or time zone. Shows that were made keep theirs."""
        columns = _columns(draft)
        return await put_change(self._pool, _VENUE, tenant_id, venue_id, expected_version, *columns)

    async def delete(self, tenant_id: TenantId, venue_id: VenueId) -> Put[VenueRow]:
        """Remove a venue; IN_USE while a plan, a series or a show refers to it."""
        if not is_storable_id(venue_id):
            return Put(PutOutcome.NOT_FOUND)
        try:
            async with writing(self._pool) as connection:
                record = await connection.fetchrow(_QUERIES["delete_venue"], tenant_id, venue_id)
        except asyncpg.ForeignKeyViolationError:
            return Put(PutOutcome.IN_USE)
        return Put(PutOutcome.NOT_FOUND if record is None else PutOutcome.DELETED)


def _columns(draft: VenueDraft) -> tuple[str, ...]:
    name = checked_name("name", draft.name)
    address = checked_text("address", draft.address, ADDRESS_LENGTH_MAX)
    return name, key_of_name(name), address, checked_time_zone(draft.time_zone)


def checked_time_zone(name: str) -> str:
    """``name`` itself, when it is a time zone.

    Raises:
        ValueError: it is not one that this machine knows.
    """
    try:
        ZoneInfo(checked_text("time_zone", name, 100))
    except (ZoneInfoNotFoundError, OSError, ValueError) as error:
        raise ValueError("time_zone: not a name of the IANA time zone database") from error
    return name
