"""What both applications know about a show without asking its actor: cached, per process.

Plans and routes never change and come out of the catalogue's own memory. A listing (title, times,
policy) may be renewed by an import, so it is believed for a few seconds:

    age up to 5 s       used as it is
    up to 60 s          used, while a newer one is fetched; a database that is away for a moment
                        does not stop the sale of shows that are known
    older, or unknown   fetched first

What is put together for the shows that are asked for most is kept as well, while it is fresh.

A show that does not exist is remembered for one second, so that asking for it in a loop does
not reach the database each time. However many ask at once, one query answers them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import NamedTuple, Protocol

from reservation.faults import Fault, ShowNotFound
from reservation.ids import ShowId
from reservation.listing import ShowListing
from reservation.route import Route
from reservation.seating_plan import SeatingPlan

log = logging.getLogger(__name__)

FRESH_S = 5.0
USABLE_S = 60.0
UNKNOWN_S = 1.0
LISTINGS_MAX = 10_000
"""About 10 MB. A day of a national timetable has fewer runs that people ask for."""

HOT_SHOWS_MAX = 64
"""Few, because they keep plans in memory that the catalogue may have let go of."""

NO_STOPS = Route()


class CatalogueReader(Protocol):
    """The part of ``persistence.catalogue.Catalogue`` that is needed here."""

    async def find_listing(self, show_id: ShowId) -> ShowListing | None:
        """See ``Catalogue.find_listing``."""
        ...

    async def load_plan(self, plan_id: str) -> SeatingPlan | None:
        """See ``Catalogue.load_plan``."""
        ...

    async def load_route(self, route_id: str) -> Route | None:
        """See ``Catalogue.load_route``."""
        ...


class ShowFacts(NamedTuple):
    """One show, as far as it is known without its actor. ``plan`` has its labels."""

    listing: ShowListing
    plan: SeatingPlan
    route: Route


class _Known(NamedTuple):
    listing: ShowListing | None
    read_at_s: float


class _Hot(NamedTuple):
    known: _Known
    facts: ShowFacts


class ShowFactsCache:
    """See the module's docstring. Belongs to one event loop."""

    def __init__(self, catalogue: CatalogueReader) -> None:
        self._catalogue = catalogue
        self._known: OrderedDict[ShowId, _Known] = OrderedDict()
        self._hot: OrderedDict[ShowId, _Hot] = OrderedDict()
        self._reading: dict[ShowId, asyncio.Task[ShowListing | None]] = {}

    async def facts(self, show_id: ShowId) -> ShowFacts:
        """What is known about a show.

        Raises:
            ShowNotFound: there is no such show.
            ShowUnavailable: the catalogue cannot be reached.
        """
        known = self._known.get(show_id)
        hot = self._hot.get(show_id)
        if hot is not None and hot.known is known and _age_s(known) < FRESH_S:
            self._known.move_to_end(show_id)
            self._hot.move_to_end(show_id)
            return hot.facts
        listing = await self._listing(show_id)
        if listing is None:
            raise ShowNotFound(f"no show {show_id}")
        plan = await self._catalogue.load_plan(listing.plan_id)
        route: Route | None = NO_STOPS
        if listing.route_id is not None:
            route = await self._catalogue.load_route(listing.route_id)
        # The catalogue refuses shows whose plan or route it does not have.
        assert plan is not None, f"{show_id} has no plan"
        assert route is not None, f"{show_id} has no route"
        facts = ShowFacts(listing, plan, route)
        known = self._known.get(show_id)
        if known is not None and known.listing is listing:
            self._hot[show_id] = _Hot(known, facts)
            if len(self._hot) > HOT_SHOWS_MAX:
                self._hot.popitem(last=False)
        return facts

    async def _listing(self, show_id: ShowId) -> ShowListing | None:
        known = self._known.get(show_id)
        if known is not None:
            age_s = _age_s(known)
            if age_s < (UNKNOWN_S if known.listing is None else FRESH_S):
                self._known.move_to_end(show_id)
                return known.listing
            if known.listing is not None and age_s < USABLE_S:
                self._start_reading(show_id)
                return known.listing
        return await self._read(show_id)

    async def _read(self, show_id: ShowId) -> ShowListing | None:
        # Shielded: one caller that hangs up must not take the answer away from the others.
        return await asyncio.shield(self._start_reading(show_id))

    def _start_reading(self, show_id: ShowId) -> asyncio.Task[ShowListing | None]:
        task = self._reading.get(show_id)
        if task is None:
            task = asyncio.create_task(self._catalogue.find_listing(show_id))
            self._reading[show_id] = task
            task.add_done_callback(lambda done: self._keep(show_id, done))
        return task

    def _keep(self, show_id: ShowId, done: asyncio.Task[ShowListing | None]) -> None:
        del self._reading[show_id]
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self._known[show_id] = _Known(done.result(), time.monotonic())
            self._known.move_to_end(show_id)
            while len(self._known) > LISTINGS_MAX:
                self._known.popitem(last=False)
        elif isinstance(error, Fault):
            log.warning("the listing of %s could not be read: %s", show_id, error)
        else:
            log.error("bug: the listing of %s could not be read", show_id, exc_info=error)


def _age_s(known: _Known) -> float:
    return time.monotonic() - known.read_at_s
