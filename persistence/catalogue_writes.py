"""How content gets into the catalogue, thousands of rows at a time.

Each function runs in a transaction of its caller. Rows are always offered in the order of their
keys, so that two imports of the same things wait for each other and never deadlock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import orjson

from persistence.catalogue_rows import fares_json, instant_of, policy_json
from persistence.catalogue_text import (
    DESCRIPTION_LENGTH_MAX,
    NAME_LENGTH_MAX,
    SOURCE_KEY_LENGTH_MAX,
    STOP_CODE_LENGTH_MAX,
    STOP_NAME_LENGTH_MAX,
    checked_text,
    name_key_of,
    place_code_of,
    words_of,
)
from persistence.plan_codec import (
    encode_labels,
    encode_layout,
    encode_stops,
    plan_id_of,
    route_id_of_stops,
)
from persistence.queries import load_queries
from reservation.ids import ShowId, derive_show_id

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    from reservation.listing import ShowListing
    from reservation.route import Route
    from reservation.seating_plan import SeatingPlan

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

_QUERIES = load_queries("catalogue.sql")
_ROUTES_PER_STATEMENT = 500
_CALLS_PER_STATEMENT = 10_000
_SHOWS_PER_STATEMENT = 5_000
_TIME_ZONE_LENGTH_MAX = 100
# A zero character in JSON, when the backslashes before it are pairs.
_ZERO_IN_JSON = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class RefusedShow(NamedTuple):
    """A show that was not stored, and why; the reason begins with the name of the field."""

    source_key: str
    reason: str


@dataclass(frozen=True, slots=True)
class PutCounts:
    """What became of the shows of one import.

    ``updated_ids`` are the shows whose actors, if they are in memory, should learn of it.
    """

    created: int
    updated: int
    unchanged: int
    refused: tuple[RefusedShow, ...] = ()
    updated_ids: tuple[ShowId, ...] = ()


def plan_row(
    plan_id: str,
    plan: SeatingPlan,
    document: Mapping[str, object],
    extras: Mapping[str, object],
) -> tuple[object, ...]:
    """The arguments of ``put_plan``.

    Raises:
        ValueError: the id is not this plan's, or something cannot be stored; the message begins
            with the name of the field.
    """
    if plan_id != plan_id_of(plan):
        raise ValueError(f"plan_id: {plan_id} is not the id of this plan")
    return (
        plan_id,
        checked_text("name", plan.name, NAME_LENGTH_MAX),
        plan.seat_count,
        len(plan.categories),
        encode_layout(plan),
        encode_labels(plan.labels),
        document_json("document", document),
        document_json("extras", extras),
    )


def document_json(field: str, document: Mapping[str, object]) -> str:
    """``document`` as Postgres can store it.

    Raises:
        ValueError: it is no JSON, or has a zero character; the message begins with ``field``.
    """
    try:
        encoded = orjson.dumps(document)
    except TypeError as error:
        raise ValueError(f"{field}: cannot be stored ({error})") from error
    if _ZERO_IN_JSON.search(encoded):
        raise ValueError(f"{field}: has a zero character")
    return encoded.decode()


class _RouteRow(NamedTuple):
    route_id: str
    name: str
    leg_count: int
    stops: str


def check_routes(routes: Mapping[str, tuple[str, Route]]) -> list[_RouteRow]:
    """The rows that these routes make, in the order of their ids.

    Raises:
        ValueError: an id is not its route's, or something cannot be stored; the message begins
            with the path of the field.
    """
    rows: list[_RouteRow] = []
    for route_id, (name, route) in sorted(routes.items()):
        where = f"routes[{route_id}]"
        checked_text(f"{where}.name", name, NAME_LENGTH_MAX)
        for position, stop in enumerate(route.stops):
            place = f"{where}.stops[{position}]"
            checked_text(f"{place}.code", stop.code, STOP_CODE_LENGTH_MAX)
            checked_text(f"{place}.name", stop.name, STOP_NAME_LENGTH_MAX)
        try:
            stops = encode_stops(route)
        except ValueError as error:
            raise ValueError(f"{where}.{error}") from error
        if route_id != route_id_of_stops(stops):
            raise ValueError(f"{where}: this is not the id of this route")
        rows.append(_RouteRow(route_id, name, route.leg_count, stops.decode()))
    return rows


async def put_routes(
    connection: Connection,
    routes: Mapping[str, tuple[str, Route]],
    rows: Sequence[_RouteRow],
) -> int:
    """Store the routes that are not there; says how many those were."""
    new_ids: list[str] = []
    for start in range(0, len(rows), _ROUTES_PER_STATEMENT):
        batch = rows[start : start + _ROUTES_PER_STATEMENT]
        new = await connection.fetch(_QUERIES["put_routes"], *_columns(batch))
        new_ids += [row["route_id"] for row in new]
    calls = [call for route_id in new_ids for call in _calls_of(route_id, routes[route_id][1])]
    places = sorted({(call.place_code, call.name) for call in calls})
    if places:
        await connection.execute(
            _QUERIES["put_stops"],
            [code for code, _ in places],
            [name for _, name in places],
            [name_key_of(name) for _, name in places],
        )
    for start in range(0, len(calls), _CALLS_PER_STATEMENT):
        calls_batch = calls[start : start + _CALLS_PER_STATEMENT]
        await connection.execute(_QUERIES["put_route_stops"], *_columns(calls_batch))
    return len(new_ids)


class _Call(NamedTuple):
    route_id: str
    position: int
    place_code: str
    name: str
    stop_code: str
    arrival_s: int
    departure_s: int


def _calls_of(route_id: str, route: Route) -> list[_Call]:
    codes = {stop.code for stop in route.stops}
    return [
        _Call(
            route_id,
            position,
            place_code_of(stop.code, codes),
            stop.name,
            stop.code,
            stop.arrival_s,
            stop.departure_s,
        )
        for position, stop in enumerate(route.stops)
    ]


async def put_shows(connection: Connection, listings: Sequence[ShowListing]) -> PutCounts:
    """Store shows; see ``Catalogue.put_shows``."""
    refused: list[RefusedShow] = []
    wanted: dict[str, ShowListing] = {}
    shapes = await _load_shapes(connection, listings)
    for listing in listings:
        reason = _objection_to(listing, shapes)
        earlier = wanted.get(listing.show_id)
        if reason is None and earlier is not None:
            if earlier == listing:
                continue
            reason = "source_key: it is here twice with different content"
        if reason is None:
            wanted[listing.show_id] = listing
        else:
            refused.append(RefusedShow(_printable(listing.source_key), reason))
    rows = [show_row(wanted[show_id]) for show_id in sorted(wanted)]
    changed: dict[str, bool] = {}
    for start in range(0, len(rows), _SHOWS_PER_STATEMENT):
        batch = rows[start : start + _SHOWS_PER_STATEMENT]
        records = await connection.fetch(_QUERIES["put_shows"], *_columns(batch))
        changed.update((record["show_id"], record["is_new"]) for record in records)
    same = [show_id for show_id in wanted if show_id not in changed]
    refused += await _explain_unchanged(connection, same, wanted)
    created = sum(changed.values())
    return PutCounts(
        created=created,
        updated=len(changed) - created,
        unchanged=len(listings) - len(changed) - len(refused),
        refused=tuple(refused),
        updated_ids=tuple(ShowId(show_id) for show_id, is_new in changed.items() if not is_new),
    )


class _Shapes(NamedTuple):
    """What fares must fit: categories by plan id, legs by route id; and whose things are."""

    category_count: dict[str, int]
    leg_count: dict[str, int]
    tenant_of: dict[str, str]


async def objection_to(connection: Connection, listing: ShowListing) -> str | None:
    """Why the listing cannot be stored, or None; the reason begins with the name of a field."""
    return _objection_to(listing, await _load_shapes(connection, [listing]))


async def _load_shapes(connection: Connection, listings: Sequence[ShowListing]) -> _Shapes:
    plan_ids = {_storable_id(listing.plan_id) for listing in listings}
    route_ids = {_storable_id(listing.route_id or "") for listing in listings}
    plans = await connection.fetch(_QUERIES["count_categories"], sorted(plan_ids))
    routes = await connection.fetch(_QUERIES["count_legs"], sorted(route_ids))
    references = {
        _storable_id(reference or "")
        for listing in listings
        for reference in (listing.tenant_id, listing.series_id, listing.venue_id)
    }
    known = await connection.fetch(_QUERIES["list_known_references"], sorted(references))
    return _Shapes(
        {row["plan_id"]: row["category_count"] for row in plans},
        {row["route_id"]: row["leg_count"] for row in routes},
        {row["reference_id"]: row["tenant_id"] for row in known},
    )


def _storable_id(content_id: str) -> str:
    # An id that Postgres could not even read is one that is not there.
    return content_id if content_id.isascii() and content_id.isprintable() else ""


def _objection_to(listing: ShowListing, shapes: _Shapes) -> str | None:
    """Why the listing cannot be stored, or None."""
    try:
        _check_listing(listing, shapes)
    except ValueError as error:
        return str(error)
    return None


def _check_listing(listing: ShowListing, shapes: _Shapes) -> None:
    checked_text("source_key", listing.source_key, SOURCE_KEY_LENGTH_MAX)
    if not listing.source_key:
        raise ValueError("source_key: empty")
    if listing.show_id != derive_show_id(listing.source_key):
        raise ValueError("show_id: not the id that the source key gives")
    checked_text("title", listing.title, NAME_LENGTH_MAX)
    checked_text("venue", listing.venue, NAME_LENGTH_MAX)
    checked_text("description", listing.description, DESCRIPTION_LENGTH_MAX)
    checked_text("time_zone", listing.time_zone, _TIME_ZONE_LENGTH_MAX)
    if not listing.time_zone:
        raise ValueError("time_zone: empty")
    for field in ("starts_at_ms", "ends_at_ms", "service_day_at_ms"):
        instant_of(field, getattr(listing, field))
    if listing.ends_at_ms < listing.starts_at_ms:
        raise ValueError("ends_at_ms: before starts_at_ms")
    policy_json(listing.policy)
    _check_owner(listing, shapes)
    category_count = shapes.category_count.get(listing.plan_id)
    if category_count is None:
        raise ValueError(f"plan_id: there is no plan {_printable(listing.plan_id)}")
    leg_count = 1 if listing.route_id is None else shapes.leg_count.get(listing.route_id)
    if leg_count is None:
        raise ValueError(f"route_id: there is no route {_printable(listing.route_id or '')}")
    fares = listing.fares.fares
    if len(fares) != category_count:
        raise ValueError(f"fares: {len(fares)} fares for the {category_count} categories")
    for window in listing.fares.windows:
        instant_of("fares", window.from_at_ms)
    for fare in listing.fares.every_fare:
        if len(fare.leg_minor) not in (0, leg_count):
            raise ValueError(f"fares: {len(fare.leg_minor)} amounts for the {leg_count} legs")


def _check_owner(listing: ShowListing, shapes: _Shapes) -> None:
    if listing.tenant_id not in shapes.tenant_of:
        raise ValueError(f"tenant_id: there is no tenant {_printable(listing.tenant_id)}")
    # What belongs to somebody else is not there, here as everywhere.
    for field in ("series_id", "venue_id"):
        reference: str | None = getattr(listing, field)
        if reference is not None and shapes.tenant_of.get(reference) != listing.tenant_id:
            raise ValueError(f"{field}: there is no {field[:-3]} {_printable(reference)}")


def _printable(text: str) -> str:
    # A reason travels on in JSON and logs, which some texts must not reach.
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\0")


def show_row(listing: ShowListing) -> tuple[object, ...]:
    return (
        listing.show_id,
        listing.source_key,
        listing.kind.value,
        listing.title,
        listing.venue,
        instant_of("starts_at_ms", listing.starts_at_ms),
        instant_of("ends_at_ms", listing.ends_at_ms),
        instant_of("service_day_at_ms", listing.service_day_at_ms),
        listing.time_zone,
        listing.plan_id,
        listing.route_id,
        listing.fares.currency,
        fares_json(listing.fares),
        listing.placement.value,
        policy_json(listing.policy),
        search_words_of(listing.title, listing.venue),
        listing.tenant_id,
        listing.status.value,
        listing.description,
        listing.series_id,
        listing.venue_id,
    )


def search_words_of(title: str, venue: str) -> str:
    """What column ``search_words`` has."""
    return " ".join(dict.fromkeys(words_of(f"{title} {venue}")))


def _columns(rows: Sequence[tuple[object, ...]]) -> list[list[object]]:
    return [list(column) for column in zip(*rows, strict=True)]


async def _explain_unchanged(
    connection: Connection,
    show_ids: Sequence[str],
    wanted: Mapping[str, ShowListing],
) -> list[RefusedShow]:
    """Which of the shows that were left alone offered other content, which is not allowed."""
    refused: list[RefusedShow] = []
    for row in await connection.fetch(_QUERIES["find_content_of_shows"], show_ids):
        listing = wanted[row["show_id"]]
        if row["tenant_id"] != listing.tenant_id:
            reason = "tenant_id: the show belongs to another tenant"
        elif row["plan_id"] != listing.plan_id:
            reason = f"plan_id: the show is sold with plan {row['plan_id']} already"
        elif row["route_id"] != listing.route_id:
            reason = f"route_id: the show is sold with route {row['route_id']} already"
        else:
            continue
        refused.append(RefusedShow(listing.source_key, reason))
    return refused
