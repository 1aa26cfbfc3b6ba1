"""Publishing seat maps from the actor that owns them, for readers who never wake it.

Theory of operation
-------------------
    append --> durable --> taken into the show's DurableMap, the show is **changed**
    every 100 ms: of the changed shows, those that somebody looked for lately are offered
                  to the cache (``persistence.seat_map_cache``), one image each

Nobody waits for any of it: a command costs the taking of its event, and an image is made at most
ten times a second. The first change after a quiet time is offered at once,
and the last one is always offered too.

Only what is durable is published, with the epoch and the sequence number under which it is, and
with the moment before its append as the moment of its truth. So an owner that was replaced has
nothing to publish that the new owner's readers would mind: the cache refuses what is older, and
what comes too late.

While the cache is away, changed shows wait; readers have the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple, Protocol

from actors.durable_map import DurableMap
from persistence.journal import Activation
from persistence.seat_map_cache import Offer, SeatMapCache
from reservation.events import Event
from reservation.ids import ShowId
from reservation.show import Show

log = logging.getLogger(__name__)

PUBLISH_EVERY_MS = 100

SHOWS_AT_ONCE_MAX = 64
"""Making their images takes some milliseconds at most; the others have their turn next."""


class Publisher(Protocol):
    """Whom a show actor tells what becomes durable. Returns at once, and never raises."""

    def opened(self, show: Show, activation: Activation) -> None:
        """A show was activated; nothing has changed since."""
        ...

    def appended(
        self, show_id: ShowId, events: Sequence[Event], durable: asyncio.Future[int]
    ) -> None:
        """These events are on their way to the journal; ``durable`` ends as ``append`` says."""
        ...

    def closed(self, show_id: ShowId) -> None:
        """A show has left memory."""
        ...


class NoPublisher:
    """A ``Publisher`` for a house without a cache."""

    def opened(self, show: Show, activation: Activation) -> None:
        """See ``Publisher.opened``."""

    def appended(
        self, show_id: ShowId, events: Sequence[Event], durable: asyncio.Future[int]
    ) -> None:
        """See ``Publisher.appended``."""

    def closed(self, show_id: ShowId) -> None:
        """See ``Publisher.closed``."""


class _Trip(NamedTuple):
    """What is on its way into the journal, since when."""

    durable_map: DurableMap
    durable: asyncio.Future[int]
    steps: list[Sequence[Event]]
    began_at_s: float


class SeatMapPublisher:
    """See the module's docstring. One for each actor; belongs to its event loop."""

    def __init__(self, cache: SeatMapCache, *, publish_every_ms: int = PUBLISH_EVERY_MS) -> None:
        self._cache = cache
        self._publish_every_s = publish_every_ms / 1_000
        self._maps: dict[ShowId, DurableMap] = {}
        self._under_way: dict[ShowId, _Trip] = {}
        self._changed: dict[ShowId, DurableMap] = {}
        self._has_changed = asyncio.Event()
        self._publishing: asyncio.Task[None] | None = None

    def opened(self, show: Show, activation: Activation) -> None:
        """See ``Publisher.opened``."""
        self._maps[show.show_id] = DurableMap(show, activation)
        if self._publishing is None:
            self._publishing = asyncio.ensure_future(self._publish_forever())

    def appended(
        self, show_id: ShowId, events: Sequence[Event], durable: asyncio.Future[int]
    ) -> None:
        """See ``Publisher.appended``."""
        durable_map = self._maps.get(show_id)
        if durable_map is None:
            return
        trip = self._under_way.get(show_id)
        if trip is not None and trip.durable is durable:
            # All that the journal takes into one batch lands together.
            trip.steps.append(events)
            return
        self._under_way[show_id] = trip = _Trip(durable_map, durable, [events], time.monotonic())
        durable.add_done_callback(partial(self._landed, trip))

    def closed(self, show_id: ShowId) -> None:
        """See ``Publisher.closed``."""
        self._maps.pop(show_id, None)
        self._under_way.pop(show_id, None)
        self._changed.pop(show_id, None)

    async def close(self) -> None:
        """Offer what has changed, then stop. Takes as long as the cache's patience at most."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait([self._publishing])
            await self._publish()
        await self._cache.close()

    def _landed(self, trip: _Trip, durable: asyncio.Future[int]) -> None:
        durable_map = trip.durable_map
        show_id = durable_map.show_id
        if self._under_way.get(show_id) is trip:
            del self._under_way[show_id]
        if self._maps.get(show_id) is not durable_map:
            return
        if durable.cancelled() or durable.exception() is not None:
            # What is durable is not known here any more; the show will be activated anew.
            self.closed(show_id)
            return
        try:
            for events in trip.steps:
                durable_map.landed(events, durable.result(), trip.began_at_s)
        except (KeyError, AssertionError):
            log.exception("bug: %s is not published any more", show_id)
            self.closed(show_id)
            return
        if show_id not in self._changed:
            self._changed[show_id] = durable_map
            self._has_changed.set()

    async def _publish_forever(self) -> None:
        while True:
            await self._has_changed.wait()
            self._has_changed.clear()
            try:
                await self._publish()
            except Exception:
                log.exception("seat maps cannot be published")
            await asyncio.sleep(self._publish_every_s)

    async def _publish(self) -> None:
        """Offer the changed shows that somebody wants; those for which it fails stay changed."""
        batch = dict(list(self._changed.items())[:SHOWS_AT_ONCE_MAX])
        for show_id in batch:
            del self._changed[show_id]
        wanted = await self._cache.wanted(list(batch))
        offers: list[Offer] = []
        for show_id in wanted or ():
            durable_map = batch[show_id]
            if self._maps.get(show_id) is durable_map:
                # What landed meanwhile is in this image.
                offers.append(Offer(durable_map.image(), durable_map.known_at_s))
                # Commands go first.
                await asyncio.sleep(0)
        is_away = wanted is None or await self._cache.offer(offers) is None
        if is_away:
            for show_id, durable_map in batch.items():
                if self._maps.get(show_id) is durable_map:
                    self._changed.setdefault(show_id, durable_map)
        if self._changed:
            self._has_changed.set()
