"""Rows of the catalogue and the values they stand for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

import orjson

from reservation.fares import CategoryFare, FareTable, FareWindow
from reservation.ids import ShowId, TenantId
from reservation.listing import ShowKind, ShowListing
from reservation.organiser_ids import SeriesId, VenueId
from reservation.show import OrphanRule, Placement, SalesPolicy, ShowState

if TYPE_CHECKING:
    import asyncpg

DIFFERENT_KEPT_MAX = 256
"""Many shows have the same fares and the same policy: thousands of runs of a timetable do. Taking
them apart is most of what reading a listing takes, and one object for all is enough."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST_MS = (datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND
_END_MS = (datetime(9999, 1, 1, tzinfo=UTC) - _EPOCH) // _MILLISECOND


def instant_of(field: str, at_ms: int) -> datetime:
    """The instant of Unix milliseconds, exactly.

    Raises:
        ValueError: it is not in the years 1900 to 9998; the message begins with ``field``.
    """
    # The driver takes the ends of Python's calendar for the infinities of Postgres.
    if not _FIRST_MS <= at_ms < _END_MS:
        raise ValueError(f"{field}: {at_ms} is not an instant of the years 1900 to 9998")
    return _EPOCH + timedelta(milliseconds=at_ms)


def ms_of(instant: datetime) -> int:
    """The Unix milliseconds of an instant."""
    return (instant - _EPOCH) // _MILLISECOND


def fares_json(fares: FareTable) -> str:
    """What column ``fares`` has: ``[base_minor, [leg_minor, ...]]`` for each category.

    Fares that change with time are one such list a window, each in an object with the instant it
    is charged from: ``[{"from_at_ms": null, "fares": [...]}, {"from_at_ms": 1767222000000, ...}]``.
    """
    if not fares.windows:
        return orjson.dumps(_plain(fares.fares)).decode()
    moments = [(None, fares.fares), *fares.windows]
    return orjson.dumps(
        [{"from_at_ms": from_at_ms, "fares": _plain(each)} for from_at_ms, each in moments]
    ).decode()


@lru_cache(DIFFERENT_KEPT_MAX)
def fares_of(currency: str, fares: str) -> FareTable:
    """The fares of columns ``currency`` and ``fares``."""
    moments = orjson.loads(fares)
    if not moments or isinstance(moments[0], list):
        return FareTable(currency, _fares_of_plain(moments))
    first, *windows = moments
    return FareTable(
        currency,
        _fares_of_plain(first["fares"]),
        tuple(FareWindow(each["from_at_ms"], _fares_of_plain(each["fares"])) for each in windows),
    )


def _plain(fares: tuple[CategoryFare, ...]) -> list[tuple[int, tuple[int, ...]]]:
    return [(fare.base_minor, fare.leg_minor) for fare in fares]


def _fares_of_plain(plain: list[tuple[int, list[int]]]) -> tuple[CategoryFare, ...]:
    return tuple(CategoryFare(base, tuple(legs)) for base, legs in plain)


def policy_json(policy: SalesPolicy) -> str:
    """What column ``policy`` has: the fields by their names.

    Raises:
        ValueError: a number is beyond 64 bits.
    """
    try:
        return orjson.dumps(policy).decode()
    except TypeError as error:
        raise ValueError(f"policy: cannot be stored ({error})") from error


@lru_cache(DIFFERENT_KEPT_MAX)
def policy_of(policy: str) -> SalesPolicy:
    """The policy of column ``policy``. A field that came later than the row has its default."""
    fields = orjson.loads(policy)
    if "orphan_rule" in fields:
        fields["orphan_rule"] = OrphanRule(fields["orphan_rule"])
    return SalesPolicy(**fields)


def listing_of(row: asyncpg.Record) -> ShowListing:
    """The listing of a row of ``renew_listings`` that has a show."""
    return ShowListing(
        show_id=ShowId(row["show_id"]),
        source_key=row["source_key"],
        kind=ShowKind(row["kind"]),
        title=row["title"],
        venue=row["venue"],
        starts_at_ms=ms_of(row["starts_at"]),
        ends_at_ms=ms_of(row["ends_at"]),
        service_day_at_ms=ms_of(row["service_day_at"]),
        time_zone=row["time_zone"],
        plan_id=row["plan_id"],
        route_id=row["route_id"],
        fares=fares_of(row["currency"], row["fares"]),
        placement=Placement(row["placement"]),
        policy=policy_of(row["policy"]),
        tenant_id=TenantId(row["tenant_id"]),
        status=ShowState(row["status"]),
        description=row["description"],
        series_id=None if row["series_id"] is None else SeriesId(row["series_id"]),
        venue_id=None if row["venue_id"] is None else VenueId(row["venue_id"]),
    )
