"""A tenant's own shows, drafts included: made, changed, published, cancelled, given new plans.

What a show is to everybody else is ``persistence.catalogue``. Nothing here tells a show's actor:
after a change that matters to the sale, ``ShowRefs.renew`` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import asyncpg

from persistence.catalogue_rows import fares_json, instant_of, listing_of, ms_of, policy_json
from persistence.catalogue_search import PAGE_LENGTH_MAX
from persistence.catalogue_text import (
    SEARCH_LENGTH_MAX,
    checked_text,
    prefix_query_of,
    words_of,
)
from persistence.catalogue_writes import (
    Connection,
    PutCounts,
    RefusedShow,
    objection_to,
    search_words_of,
    show_row,
)
from persistence.organiser_rows import (
    Page,
    Place,
    Put,
    PutOutcome,
    checked_place,
    digest_of,
    is_storable_id,
)
from persistence.plan_codec import decode_labels, decode_layout
from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from reservation.fares import FareTable
from reservation.ids import ShowId, TenantId
from reservation.listing import ShowKind, ShowListing
from reservation.organiser_ids import SeriesId, VenueId
from reservation.plan_revision import is_revision
from reservation.show import SalesPolicy, ShowState

SHOWS_PER_CALL_MAX = 1_000

_QUERIES = load_queries("organiser_shows.sql")
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_BEFORE = {
    ShowState.DRAFT: (),
    ShowState.ON_SALE: (ShowState.DRAFT.value,),
    ShowState.CANCELLED: (ShowState.DRAFT.value, ShowState.ON_SALE.value),
}
_REFERENCES = tuple(
    f"{field}: there is no"
    for field in ("tenant_id", "series_id", "venue_id", "plan_id", "route_id")
)


@dataclass(frozen=True, slots=True)
class ShowRow:
    """One show of a tenant."""

    listing: ShowListing
    version: int
    created_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class ShowFilter:
    """Which shows to list. Everything that is given must hold.

    Shapes:
        text: words in any order; each must begin a word of title or venue.

    Units:
        starts_from_ms, starts_before_ms: bounds of the start, the second one exclusive.
    """

    status: ShowState | None = None
    series_id: SeriesId | None = None
    kind: ShowKind | None = None
    text: str | None = None
    starts_from_ms: int = 0
    starts_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ShowChange:
    """What to change of a show; None leaves it as it is."""

    title: str | None = None
    description: str | None = None
    venue: str | None = None
    starts_at_ms: int | None = None
    ends_at_ms: int | None = None
    fares: FareTable | None = None
    policy: SalesPolicy | None = None
    series_id: SeriesId | None = None
    venue_id: VenueId | None = None


class OrganiserShows:
    """Makes, finds and changes the shows of tenants.

    Raises:
        ValueError: from the writing methods, a field that cannot be; the message begins with
            its name.
        Fault: from every method, when the database is away.

    Args:
        pool: stays the caller's, with the rights of ``housefull_organiser``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(self, listing: ShowListing) -> Put[ShowRow]:
        """A new show; REFERENCE_NOT_FOUND for a plan, series or venue that is not there.

        ``source_key`` is the caller's ``tenant_source_key``; a repeated request has the same.
        """
        async with writing(self._pool) as connection, connection.transaction():
            return await _create(connection, listing)

    async def create_many(self, listings: Sequence[ShowListing]) -> PutCounts:
        """Many new shows; those that cannot be made are named, and the others are made.

        Returns:
            Counts: shows that were made before are ``unchanged``, whatever became of them since.
        """
        if len(listings) > SHOWS_PER_CALL_MAX:
            raise ValueError(f"shows: more than {SHOWS_PER_CALL_MAX}")
        created, repeated = 0, 0
        refused: list[RefusedShow] = []
        async with writing(self._pool) as connection, connection.transaction():
            # In the order of their ids, so that two calls wait for each other and never deadlock.
            for listing in sorted(listings, key=lambda each: each.show_id):
                try:
                    put = await _create(connection, listing)
                except ValueError as error:
                    refused.append(RefusedShow(listing.source_key, str(error)))
                    continue
                created += put.outcome is PutOutcome.CREATED
                repeated += put.outcome is PutOutcome.REPEATED
                if put.outcome is PutOutcome.ID_TAKEN:
                    reason = "source_key: another show has it"
                    refused.append(RefusedShow(listing.source_key, reason))
                elif put.outcome is PutOutcome.REFERENCE_NOT_FOUND:
                    reason = str(await objection_to(connection, listing))
                    refused.append(RefusedShow(listing.source_key, reason))
        return PutCounts(created, 0, repeated, tuple(refused))

    async def find(self, tenant_id: TenantId, show_id: ShowId) -> ShowRow | None:
        """The show; None when the tenant has none with this id."""
        if not is_storable_id(show_id) or not is_storable_id(tenant_id):
            return None
        async with reading(self._pool) as connection:
            return await _find(connection, tenant_id, show_id)

    async def list(
        self,
        tenant_id: TenantId,
        wanted: ShowFilter | None = None,
        limit: int = 50,
        after: Place | None = None,
    ) -> Page[ShowRow]:
        """The tenant's shows in the order of their starts.

        Shapes:
            after: ``at_ms`` is the start of the show to go on after.

        Raises:
            ValueError: a bound of ``wanted``, ``limit`` or ``after`` cannot be.
        """
        wanted = wanted or ShowFilter()
        if not 1 <= limit <= PAGE_LENGTH_MAX:
            raise ValueError(f"limit: not in 1..{PAGE_LENGTH_MAX}")
        words = words_of(checked_text("text", wanted.text or "", SEARCH_LENGTH_MAX))
        if wanted.text is not None and wanted.text.strip() and not words:
            return Page((), None)
        if wanted.series_id is not None and not is_storable_id(wanted.series_id):
            return Page((), None)
        place = checked_place(after, Place(wanted.starts_from_ms, ""))
        place = max(place, Place(wanted.starts_from_ms, ""))
        before_ms = wanted.starts_before_ms
        async with reading(self._pool) as connection:
            records = await connection.fetch(
                _QUERIES["list_shows_of_tenant"],
                tenant_id,
                instant_of("after", place.at_ms),
                place.id,
                _END_OF_TIME if before_ms is None else instant_of("starts_before_ms", before_ms),
                None if wanted.status is None else wanted.status.value,
                wanted.series_id,
                None if wanted.kind is None else wanted.kind.value,
                prefix_query_of(words) if words else None,
                limit + 1,
            )
        rows = tuple(_row_of(record) for record in records[:limit])
        if len(records) <= limit:
            return Page(rows, None)
        last = rows[-1].listing
        return Page(rows, Place(last.starts_at_ms, last.show_id))

    async def update(
        self,
        tenant_id: TenantId,
        show_id: ShowId,
        change: ShowChange,
        expected_version: int | None = None,
    ) -> Put[ShowRow]:
        """Change a show; REPEATED when it is like this already.

        Refuses (ValueError), besides what the catalogue cannot store: other times of a run with
        stops, which has a timetable, and another currency of a show that is published, because
        bookings are in it.
        """
        if not is_storable_id(show_id) or not is_storable_id(tenant_id):
            return Put(PutOutcome.NOT_FOUND)
        async with writing(self._pool) as connection, connection.transaction():
            record = await connection.fetchrow(_QUERIES["lock_show_of_tenant"], tenant_id, show_id)
            if record is None:
                return Put(PutOutcome.NOT_FOUND)
            row = _row_of(record)
            if expected_version is not None and row.version != expected_version:
                return Put(PutOutcome.STALE)
            listing = _changed(row.listing, change)
            if listing == row.listing:
                return Put(PutOutcome.REPEATED, row)
            reason = await objection_to(connection, listing)
            if reason is not None:
                return _refused(reason)
            await connection.execute(_QUERIES["update_show"], *_update_columns(listing))
            return Put(PutOutcome.UPDATED, await _find(connection, tenant_id, show_id))

    async def set_status(
        self, tenant_id: TenantId, show_id: ShowId, status: ShowState
    ) -> Put[ShowRow]:
        """Publish or cancel a show; STALE when there is no way from its state to this one."""
        if not is_storable_id(show_id) or not is_storable_id(tenant_id):
            return Put(PutOutcome.NOT_FOUND)
        async with writing(self._pool) as connection, connection.transaction():
            changed = await connection.fetchrow(
                _QUERIES["set_show_status"], tenant_id, show_id, status.value, _BEFORE[status]
            )
            row = await _find(connection, tenant_id, show_id)
        if row is None:
            return Put(PutOutcome.NOT_FOUND)
        if changed is not None:
            return Put(PutOutcome.UPDATED, row)
        if row.listing.status is status:
            return Put(PutOutcome.REPEATED, row)
        return Put(PutOutcome.STALE)

    async def change_plan(
        self,
        tenant_id: TenantId,
        show_id: ShowId,
        expected_plan_id: str,
        plan_id: str,
        fares: FareTable | None = None,
    ) -> Put[ShowRow]:
        """Give a show a revised plan, which is stored already.

        The seats that the revision removed must be blocked before, and the show renewed after.
        May be repeated; STALE when the show has neither of the two plans.

        Args:
            expected_plan_id: the plan that the revision was made of.
            fares: one fare per category of the new plan; None when no category was added.

        Raises:
            ValueError: the new plan is no revision of the show's, or the fares do not fit it.
        """
        ids = (tenant_id, show_id, expected_plan_id, plan_id)
        if not all(map(is_storable_id, ids)):
            return Put(PutOutcome.NOT_FOUND)
        async with writing(self._pool) as connection, connection.transaction():
            row = await _find(connection, tenant_id, show_id)
            if row is None:
                return Put(PutOutcome.NOT_FOUND)
            if row.listing.plan_id not in (expected_plan_id, plan_id):
                return Put(PutOutcome.STALE)
            if not await _is_revision(connection, row.listing.plan_id, plan_id):
                return Put(PutOutcome.REFERENCE_NOT_FOUND)
            listing = replace(row.listing, plan_id=plan_id, fares=fares or row.listing.fares)
            _check_currency(row.listing, listing)
            reason = await objection_to(connection, listing)
            if reason is not None:
                return _refused(reason)
            outcome = PutOutcome(
                await connection.fetchval(
                    _QUERIES["change_show_plan"],
                    *ids,
                    listing.fares.currency,
                    fares_json(listing.fares),
                )
            )
            if outcome not in (PutOutcome.UPDATED, PutOutcome.REPEATED):
                return Put(outcome)
            return Put(outcome, await _find(connection, tenant_id, show_id))


def _row_of(record: asyncpg.Record) -> ShowRow:
    return ShowRow(
        listing_of(record),
        record["version"],
        ms_of(record["created_at"]),
        ms_of(record["updated_at"]),
    )


async def _find(connection: Connection, tenant_id: TenantId, show_id: ShowId) -> ShowRow | None:
    record = await connection.fetchrow(_QUERIES["find_show_of_tenant"], tenant_id, show_id)
    return None if record is None else _row_of(record)


async def _create(connection: Connection, listing: ShowListing) -> Put[ShowRow]:
    reason = await objection_to(connection, listing)
    if reason is not None:
        return _refused(reason)
    columns = show_row(listing)
    digest = digest_of(*columns)
    made = await connection.fetchrow(_QUERIES["insert_show"], *columns, digest)
    record = await connection.fetchrow(
        _QUERIES["find_show_of_tenant"], listing.tenant_id, listing.show_id
    )
    if record is None or (made is None and record["request_digest"] != digest):
        return Put(PutOutcome.ID_TAKEN)
    return Put(PutOutcome.REPEATED if made is None else PutOutcome.CREATED, _row_of(record))


def _refused(reason: str) -> Put[ShowRow]:
    if reason.startswith(_REFERENCES):
        return Put(PutOutcome.REFERENCE_NOT_FOUND)
    raise ValueError(reason)


def _changed(listing: ShowListing, change: ShowChange) -> ShowListing:
    starts_at_ms = listing.starts_at_ms if change.starts_at_ms is None else change.starts_at_ms
    ends_at_ms = listing.ends_at_ms if change.ends_at_ms is None else change.ends_at_ms
    if listing.route_id is not None and (starts_at_ms, ends_at_ms) != (
        listing.starts_at_ms,
        listing.ends_at_ms,
    ):
        raise ValueError("starts_at_ms: the times of a run are those of its timetable")
    changed = replace(
        listing,
        title=listing.title if change.title is None else change.title,
        description=listing.description if change.description is None else change.description,
        venue=listing.venue if change.venue is None else change.venue,
        starts_at_ms=starts_at_ms,
        ends_at_ms=ends_at_ms,
        service_day_at_ms=(starts_at_ms if listing.route_id is None else listing.service_day_at_ms),
        fares=change.fares or listing.fares,
        policy=change.policy or listing.policy,
        series_id=change.series_id or listing.series_id,
        venue_id=change.venue_id or listing.venue_id,
    )
    _check_currency(listing, changed)
    return changed


def _check_currency(before: ShowListing, after: ShowListing) -> None:
    if before.status is not ShowState.DRAFT and before.fares.currency != after.fares.currency:
        raise ValueError(f"fares: what is sold already was sold in {before.fares.currency}")


def _update_columns(listing: ShowListing) -> tuple[object, ...]:
    return (
        listing.show_id,
        listing.title,
        listing.venue,
        instant_of("starts_at_ms", listing.starts_at_ms),
        instant_of("ends_at_ms", listing.ends_at_ms),
        instant_of("service_day_at_ms", listing.service_day_at_ms),
        listing.fares.currency,
        fares_json(listing.fares),
        policy_json(listing.policy),
        search_words_of(listing.title, listing.venue),
        listing.description,
        listing.series_id,
        listing.venue_id,
    )


async def _is_revision(connection: Connection, before_id: str, after_id: str) -> bool:
    """Whether the plan is there and may follow the other one.

    Raises:
        ValueError: it is there, and seats, categories or tiers have other indexes in it.
    """
    records = await connection.fetch(_QUERIES["load_two_plans"], before_id, after_id)
    plans = {
        record["plan_id"]: decode_layout(record["layout"], decode_labels(record["labels"]))
        for record in records
    }
    if after_id not in plans:
        return False
    if not is_revision(plans[before_id], plans[after_id]):
        raise ValueError("plan_id: not a revision of the show's plan")
    return True
