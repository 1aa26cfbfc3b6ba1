"""What both applications know about a show without asking its actor: cached, per process.

Plans and routes never change and come out of the catalogue's own memory. A listing (title, times,
policy) may be renewed by an import, so it is believed for a few seconds:

    age up to 5 s       used as it is
    up to 60 s          used, while the database is asked whether it has changed; one that is away
                        for a moment does not stop the sale of shows that are known
    older, or unknown   fetched first

Thousands of shows are sold at the same time, few of them often. So what has grown old is asked for
together, a moment later, by its version: an answer names only what has changed.

What is put together for the shows that are asked for most is kept as well, while it is fresh.

A show that does not exist is remembered for one second, so that asking for it in a loop does
not reach the database each time. However many ask at once, one query answers them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from persistence.catalogue import Listed
from persistence.coalesced import Coalesced
from reservation.faults import Fault, ShowNotFound
from reservation.ids import ShowId
from reservation.listing import ShowListing
from reservation.route import Route
from reservation.seating_plan import SeatingPlan

log = logging.getLogger(__name__)

FRESH_S = 5.0
USABLE_S = 60.0
UNKNOWN_S = 1.0
LISTINGS_MAX = 40_000
"""About 40 MB. Some days of a national timetable have fewer runs that people ask for."""

RENEWAL_PAUSE_S = 0.25
"""A round trip costs as much as dozens of the listings that it asks for."""

RENEWED_TOGETHER_MAX = 500

HOT_SHOWS_MAX = 64
"""Few, because they keep plans in memory that the catalogue may have let go of."""

NO_STOPS = Route()


class CatalogueReader(Protocol):
    """The part of ``persistence.catalogue.Catalogue`` that is needed here."""

    async def renew_listings(self, known: Mapping[ShowId, int | None]) -> dict[ShowId, Listed]:
        """See ``Catalogue.renew_listings``."""
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
    version: int | None
    read_at_s: float


_NOTHING = Listed(None, None)


class _Hot(NamedTuple):
    known: _Known
    facts: ShowFacts


class ShowFactsCache:
    """See the module's docstring. Belongs to one event loop."""

    def __init__(self, catalogue: CatalogueReader) -> None:
        self._catalogue = catalogue
        self._known: OrderedDict[ShowId, _Known] = OrderedDict()
        self._hot: OrderedDict[ShowId, _Hot] = OrderedDict()
        self._ask = Coalesced[ShowId, ShowListing | None](self._renew)
        self._reading: dict[ShowId, asyncio.Task[ShowListing | None]] = {}
        self._old: dict[ShowId, None] = {}
        self._renewing: asyncio.Task[None] | None = None

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
                self._renew_soon(show_id)
                return known.listing
        return await self._read(show_id)

    async def _read(self, show_id: ShowId) -> ShowListing | None:
        task = self._reading.get(show_id)
        if task is None:
            task = asyncio.create_task(self._read_one(show_id))
            self._reading[show_id] = task
            task.add_done_callback(lambda done: self._is_read(show_id, done))
        # Shielded: one caller that hangs up must not take the answer away from the others.
        return await asyncio.shield(task)

    async def _read_one(self, show_id: ShowId) -> ShowListing | None:
        answers = await self._ask([show_id])
        assert answers is not None
        return answers[0]

    def _is_read(self, show_id: ShowId, done: asyncio.Task[ShowListing | None]) -> None:
        del self._reading[show_id]
        if not done.cancelled():
            _log_failure([show_id], done.exception())

    def _renew_soon(self, show_id: ShowId) -> None:
        self._old[show_id] = None
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew_old())

    async def _renew_old(self) -> None:
        try:
            while self._old:
                await asyncio.sleep(RENEWAL_PAUSE_S)
                show_ids = list(islice(self._old, RENEWED_TOGETHER_MAX))
                try:
                    await self._renew(show_ids)
                except Exception as error:
                    _log_failure(show_ids, error)
                # Not before: who asks in the meantime need not put them back.
                for show_id in show_ids:
                    del self._old[show_id]
        finally:
            self._renewing = None

    async def _renew(self, show_ids: Sequence[ShowId]) -> list[ShowListing | None]:
        """Ask the catalogue what has changed of these shows, and keep what it says."""
        known = {show_id: self._known.get(show_id) for show_id in show_ids}
        changed = await self._catalogue.renew_listings(
            {show_id: each and each.version for show_id, each in known.items()}
        )
        now_s = time.monotonic()
        listings = []
        for show_id in show_ids:
            each = known[show_id]
            listed = changed.get(show_id) or (
                Listed(each.listing, each.version) if each else _NOTHING
            )
            self._keep(show_id, _Known(*listed, now_s))
            listings.append(listed.listing)
        return listings

    def _keep(self, show_id: ShowId, known: _Known) -> None:
        hot = self._hot.get(show_id)
        if hot is not None and hot.known.listing is known.listing:
            self._hot[show_id] = hot._replace(known=known)
        self._known[show_id] = known
        self._known.move_to_end(show_id)
        while len(self._known) > LISTINGS_MAX:
            self._known.popitem(last=False)


def _log_failure(show_ids: Sequence[ShowId], error: BaseException | None) -> None:
    if isinstance(error, Fault):
        log.warning("listings of %d shows could not be read: %s", len(show_ids), error)
    elif error is not None:
        log.error("bug: the listings of %s could not be read", show_ids, exc_info=error)


def _age_s(known: _Known) -> float:
    return time.monotonic() - known.read_at_s
