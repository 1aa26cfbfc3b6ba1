"""Series: productions with several shows, and what a new show of one starts from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import asyncpg

from persistence.catalogue_rows import (
    fares_json,
    fares_of,
    instant_of,
    policy_json,
    policy_of,
)
from persistence.catalogue_text import DESCRIPTION_LENGTH_MAX, checked_text
from persistence.organiser_rows import (
    Page,
    Place,
    Put,
    PutStatements,
    checked_name,
    digest_of,
    find_row,
    is_storable_id,
    list_rows,
    put_change,
    put_new,
)
from persistence.queries import load_queries
from persistence.sessions import Pool
from reservation.fares import FareTable
from reservation.ids import TenantId
from reservation.organiser_ids import SeriesId, VenueId
from reservation.show import SalesPolicy

_QUERIES = load_queries("organisers.sql")

DURATION_MS_MAX = 366 * 24 * 3_600_000


class SeriesDraft(NamedTuple):
    """What an organiser says of a series; what is None must be said of every show of it.

    Units:
        duration_ms: from the start of a show to its end.
    """

    title: str
    description: str = ""
    venue_id: VenueId | None = None
    plan_id: str | None = None
    duration_ms: int | None = None
    fares: FareTable | None = None
    policy: SalesPolicy | None = None


@dataclass(frozen=True, slots=True)
class SeriesRow:
    """One series."""

    series_id: SeriesId
    tenant_id: TenantId
    draft: SeriesDraft
    version: int
    created_at_ms: int
    updated_at_ms: int


def _row_of(record: asyncpg.Record) -> SeriesRow:
    fares, policy = record["fares_text"], record["policy_text"]
    return SeriesRow(
        SeriesId(record["series_id"]),
        TenantId(record["tenant_id"]),
        SeriesDraft(
            record["title"],
            record["description"],
            None if record["venue_id"] is None else VenueId(record["venue_id"]),
            record["plan_id"],
            record["duration_ms"],
            None if fares is None else fares_of(record["currency"], fares),
            None if policy is None else policy_of(policy),
        ),
        record["version"],
        record["created_at_ms"],
        record["updated_at_ms"],
    )


_SERIES = PutStatements(
    _QUERIES["insert_series"],
    _QUERIES["find_series"],
    _QUERIES["update_series"],
    _QUERIES["list_series"],
    "series_id",
    _row_of,
)


class SeriesStore:
    """Makes, finds and changes series.

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
        self, tenant_id: TenantId, series_id: SeriesId, draft: SeriesDraft
    ) -> Put[SeriesRow]:
        """A new series."""
        columns = _columns(draft)
        digest = digest_of(*columns)
        return await put_new(self._pool, _SERIES, tenant_id, series_id, digest, *columns)

    async def find(self, tenant_id: TenantId, series_id: SeriesId) -> SeriesRow | None:
        """The series; None when the tenant has none with this id."""
        return await find_row(self._pool, _SERIES, tenant_id, series_id)

    async def list(
        self, tenant_id: TenantId, limit: int = 50, after: Place | None = None
    ) -> Page[SeriesRow]:
        """The tenant's series, the newest first."""
        return await list_rows(self._pool, _SERIES, tenant_id, limit, after)

    async def update(
        self,
        tenant_id: TenantId,
        series_id: SeriesId,
        draft: SeriesDraft,
        expected_version: int | None = None,
    ) -> Put[SeriesRow]:
        """Other terms for the shows to come; those that were made stay as they are."""
        return await put_change(
            self._pool, _SERIES, tenant_id, series_id, expected_version, *_columns(draft)
        )


def _columns(draft: SeriesDraft) -> tuple[object, ...]:
    for field in ("venue_id", "plan_id"):
        reference: str | None = getattr(draft, field)
        if reference is not None and not is_storable_id(reference):
            raise ValueError(f"{field}: not an id")
    if draft.duration_ms is not None and not 0 <= draft.duration_ms <= DURATION_MS_MAX:
        raise ValueError(f"duration_ms: not in 0..{DURATION_MS_MAX}")
    for window in () if draft.fares is None else draft.fares.windows:
        instant_of("fares", window.from_at_ms)
    return (
        checked_name("title", draft.title, 500),
        checked_text("description", draft.description, DESCRIPTION_LENGTH_MAX),
        draft.venue_id,
        draft.plan_id,
        draft.duration_ms,
        None if draft.fares is None else draft.fares.currency,
        None if draft.fares is None else fares_json(draft.fares),
        None if draft.policy is None else policy_json(draft.policy),
    )
