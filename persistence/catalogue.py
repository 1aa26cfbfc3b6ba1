"""The catalogue: which shows there are, and what they are made of.

Plans and routes are named by a hash of their content, so they never change and are kept in
memory once they have been read. Shows are read from Postgres every time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import asyncpg
import orjson

from persistence import catalogue_writes
from persistence.catalogue_rows import fares_of, listing_of, policy_of
from persistence.catalogue_search import (
    PAGE_LENGTH_MAX,
    Cursor,
    Ride,
    SearchItem,
    SearchPage,
    ShowSearch,
    StopMatch,
    attempts_at,
    page_of,
    stop_words_of,
)
from persistence.catalogue_writes import PutCounts, RefusedShow
from persistence.coalesced import Coalesced
from persistence.content_cache import ContentCache
from persistence.plan_codec import decode_labels, decode_layout, decode_stops
from persistence.queries import load_queries
from persistence.sessions import reading, writing
from reservation.faults import ShowNotFound
from reservation.ids import is_show_id
from reservation.route import Route
from reservation.show import Placement, SalesPolicy, Show, ShowState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reservation.ids import ShowId
    from reservation.listing import ShowListing
    from reservation.seating_plan import SeatingPlan

__all__ = [
    "Catalogue",
    "Cursor",
    "Listed",
    "PutCounts",
    "RefusedShow",
    "Ride",
    "SearchItem",
    "SearchPage",
    "ShowSearch",
    "StopMatch",
]

SEATS_CACHED_MAX = 500_000
"""Each for layouts and for plans with labels: 28 bytes a seat without and 100 with labels."""

STOPS_CACHED_MAX = 100_000
"""Routes: 350 bytes a stop, so 35 MB; 2,000 runs of 50 stops."""

_QUERIES = load_queries("catalogue.sql")
_NO_ROUTE = Route()
_NEVER_MS = 1 << 62


class Listed(NamedTuple):
    """A listing as it was read; ``version`` changes with every change of it.

    Both are None when there is no such show, or only a draft.
    """

    listing: ShowListing | None
    version: int | None


class Catalogue:
    """Reads and changes the catalogue.

    What is promised:
        Everybody who reads through one object gets the same plan and route objects, as long as
        these are among the most recently used ones.
        Writes are atomic: a call changes everything that it reports, or nothing. They may be
        repeated; the second time changes nothing.
        Any text is safe to ask for. What Postgres cannot store is a ``ValueError`` that names
        the field, and never reaches it.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when the database went away in the middle;
            repeat the call.

    Args:
        pool: stays the caller's. Reading needs group ``housefull_application``, the methods
            that write need ``housefull_organiser``.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        *,
        seats_cached_max: int = SEATS_CACHED_MAX,
        stops_cached_max: int = STOPS_CACHED_MAX,
    ) -> None:
        self._pool = pool
        self._layouts = ContentCache["SeatingPlan"](seats_cached_max, _weight_of_plan)
        self._plans = ContentCache["SeatingPlan"](seats_cached_max, _weight_of_plan)
        self._routes = ContentCache[Route](stops_cached_max, _weight_of_route)
        self._placements = Coalesced["ShowId", Placement | None](self._read_placements)

    async def load_show(self, show_id: ShowId) -> Show | None:
        """What an actor needs to sell a show, its plan without labels; None when there is none.

        The sale of a draft never starts, whatever its policy says: its seats can be blocked and
        allocated, and not held.

        One statement when plan and route are in memory, otherwise up to two more.
        """
        row = await self._find("find_show", show_id)
        if row is None:
            return None
        plan = await self._layouts.get(row["plan_id"], self._read_layout)
        route = _NO_ROUTE if row["route_id"] is None else await self.load_route(row["route_id"])
        # The foreign keys of show promise both, and nobody may delete them.
        assert plan is not None
        assert route is not None
        return Show(
            show_id=show_id,
            plan=plan,
            route=route,
            fares=fares_of(row["currency"], row["fares"]),
            policy=_policy_of(row),
            placement=Placement(row["placement"]),
        )

    async def placement_of(self, show_id: ShowId) -> Placement | None:
        """Which kind of actor owns the show; None when there is no such show.

        Never from memory; but what many ask at the same time is asked together.
        """
        if not is_show_id(show_id):
            return None
        placements = await self._placements([show_id])
        assert placements is not None
        return placements[0]

    async def _read_placements(self, show_ids: Sequence[ShowId]) -> list[Placement | None]:
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["find_placements"], show_ids)
        found = {row["show_id"]: Placement(row["placement"]) for row in rows}
        return [found.get(show_id) for show_id in show_ids]

    async def set_placement(self, show_id: ShowId, placement: Placement) -> None:
        """Give the show to another kind of actor. Later imports leave this alone.

        Raises:
            ShowNotFound: there is no such show.
        """
        if is_show_id(show_id):
            async with writing(self._pool) as connection:
                status = await connection.execute(
                    _QUERIES["set_placement"], show_id, placement.value
                )
            if status != "UPDATE 0":
                return
        raise ShowNotFound(f"there is no show {show_id!r}")

    async def find_listing(self, show_id: ShowId) -> ShowListing | None:
        """Everything that is told about the show; None when there is no such show, or a draft.

        What is being prepared is for its organiser only (``OrganiserShows``).
        """
        found = await self.renew_listings({show_id: None})
        return found[show_id].listing if show_id in found else None

    async def renew_listings(self, known: Mapping[ShowId, int | None]) -> dict[ShowId, Listed]:
        """What has changed of the listings that a reader knows, in one statement.

        Shapes:
            known: the version of each as it was read; None where nothing is known.

        Returns:
            The shows whose listing is another one now; those that are as they are known, and those
            that are not known and not there, are left out.
        """
        versions = {show_id: version for show_id, version in known.items() if _may_be_id(show_id)}
        async with reading(self._pool) as connection:
            rows = await connection.fetch(
                _QUERIES["renew_listings"], list(versions), list(versions.values())
            )
        return {
            row["asked_id"]: Listed(
                None if row["show_id"] is None else listing_of(row), row["version"]
            )
            for row in rows
        }

    async def load_plan(self, plan_id: str) -> SeatingPlan | None:
        """The plan with its labels; None when there is no such plan."""
        if not _may_be_id(plan_id):
            return None
        return await self._plans.get(plan_id, self._read_plan)

    async def load_plan_document(
        self, plan_id: str
    ) -> tuple[dict[str, object], dict[str, object]] | None:
        """The imported drawing of a plan and what was added to it; None when there is no plan."""
        row = await self._find("load_plan_document", plan_id)
        return None if row is None else (orjson.loads(row["document"]), orjson.loads(row["extras"]))

    async def load_route(self, route_id: str) -> Route | None:
        """The route; None when there is no such route."""
        if not _may_be_id(route_id):
            return None
        return await self._routes.get(route_id, self._read_route)

    async def search(self, search: ShowSearch) -> SearchPage:
        """The next page of the shows on sale that satisfy ``search``; see ``ShowSearch``.

        Raises:
            ValueError: a field is out of its bounds or cannot be text in Postgres; the message
                begins with the name of the field.
        """
        rows: list[asyncpg.Record] = []
        attempts = attempts_at(search)
        if attempts:
            async with reading(self._pool) as connection:
                for query, arguments in attempts:
                    rows = await connection.fetch(_QUERIES[query], *arguments)
                    if len(rows) > search.limit:
                        break
        return page_of(rows, search.limit)

    async def stops_matching(self, prefix: str, limit: int = 20) -> tuple[StopMatch, ...]:
        """Different stops for a search box.

        Each word of ``prefix`` must begin a word of the stop's name, in any order; names that
        begin as ``prefix`` come first. A stop with exactly this code comes before all.

        Raises:
            ValueError: ``limit`` is not in 1..100, or ``prefix`` cannot be text in Postgres.
        """
        if not 1 <= limit <= PAGE_LENGTH_MAX:
            raise ValueError(f"limit: not in 1..{PAGE_LENGTH_MAX}")
        words = stop_words_of(prefix)
        if words is None:
            return ()
        async with reading(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["match_stops"], *words, limit)
        return tuple(StopMatch(row["place_code"], row["name"]) for row in rows)

    async def count_shows(self) -> int:
        """How many shows there are, cancelled ones and drafts included."""
        async with reading(self._pool) as connection:
            count: int = await connection.fetchval(_QUERIES["count_shows"])
        return count

    async def put_plan(
        self,
        plan_id: str,
        plan: SeatingPlan,
        document: Mapping[str, object],
        extras: Mapping[str, object],
    ) -> None:
        """Store a plan under ``plan_id_of(plan)``.

        A plan that is there keeps its seats, and takes the newer document and extras: they
        are for drawing and export only.

        Raises:
            ValueError: the id is not this plan's, or something cannot be stored; the message
                begins with the name of the field.
        """
        row = catalogue_writes.plan_row(plan_id, plan, document, extras)
        async with writing(self._pool) as connection:
            await connection.execute(_QUERIES["put_plan"], *row)

    async def put_routes(self, routes: Mapping[str, tuple[str, Route]]) -> int:
        """Store routes, name and content by ``route_id_of(route)``. Says how many are new.

        A route that is there is left alone, its name too.

        Raises:
            ValueError: an id is not its route's, or something cannot be stored; the message
                begins with the path of the field. Nothing was stored.
        """
        rows = catalogue_writes.check_routes(routes)
        async with writing(self._pool) as connection, connection.transaction():
            return await catalogue_writes.put_routes(connection, routes, rows)

    async def put_shows(self, listings: Sequence[ShowListing]) -> PutCounts:
        """Store shows, or renew those that are there.

        Title, venue, kind, times, fares and policy are renewed. The placement of a show that is
        there stays, because it may have been moved since; so do its status, description, series
        and venue id, which its organiser may have changed. Plan and route stay too, because
        seats may have been sold from them (a plan is changed by ``OrganiserShows.change_plan``).

        Refuses, and stores all others:
            a show id that its source key does not give, a tenant that is not there or is another
            one than before, a series or venue that is not the tenant's, a plan or route that is
            not there or is another one than before, fares that do not fit plan and route, times
            that are no instants or end before they start, texts that cannot be stored, and a
            second listing with the same source key and different content.
        """
        async with writing(self._pool) as connection, connection.transaction():
            return await catalogue_writes.put_shows(connection, listings)

    async def _find(self, query: str, key: str) -> asyncpg.Record | None:
        if not _may_be_id(key):
            return None
        async with reading(self._pool) as connection:
            return await connection.fetchrow(_QUERIES[query], key)

    async def _read_layout(self, plan_id: str) -> SeatingPlan | None:
        row = await self._find("load_layout", plan_id)
        return None if row is None else decode_layout(row["layout"])

    async def _read_plan(self, plan_id: str) -> SeatingPlan | None:
        row = await self._find("load_plan", plan_id)
        return None if row is None else decode_layout(row["layout"], decode_labels(row["labels"]))

    async def _read_route(self, route_id: str) -> Route | None:
        row = await self._find("load_route", route_id)
        return None if row is None else decode_stops(row["stops"])


def _may_be_id(text: str) -> bool:
    # All ids are plain ASCII; anything else is an id of nothing, and Postgres may refuse it.
    return text.isascii() and text.isprintable()


def _policy_of(row: asyncpg.Record) -> SalesPolicy:
    policy = policy_of(row["policy"])
    if ShowState(row["status"]) is not ShowState.DRAFT:
        return policy
    return replace(policy, on_sale_from_at_ms=_NEVER_MS, on_sale_until_at_ms=None)


def _weight_of_plan(plan: SeatingPlan) -> int:
    return max(1, plan.seat_count)


def _weight_of_route(route: Route) -> int:
    return max(1, len(route.stops))
