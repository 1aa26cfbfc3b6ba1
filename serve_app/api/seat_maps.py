"""Seat maps for readers: from this process's memory, from the cache, from the database.

Theory of operation
-------------------
    copy in memory, asked for less than 100 ms ago      used as it is
    older                                               the cache is asked
    not there either                                    the database is asked, and the cache told

What is promised:

* **Not stale by more than a second.** A map shows everything that was committed one second
  before the request came. While the owner lives and readers look, it is a fifth of that.
* **One version never turns into an older one** in one process while it keeps a copy. Nor for a
  client that shows the entity tag of the map it has: it is given that version or a newer one, from
  whichever process.
  A client that shows none, and is answered by another process, may see a map up to a second older
  than the one before.
* **The database is asked by one at a time** for each show and process, and ten times a second at
  most, whatever clients ask for and however the cache fares.
* **Nothing wakes an actor**, and a cache that is away is not an error.

Each image is known to be true at some instant (see ``persistence.seat_map_cache``). Of two images
the one with the higher sequence number is the newer one, and it is as true as the other is: what
the other says is part of it. One exception: if an image is older than the one we have, but was
true *after* we were given ours, then the database itself went back (it was restored from a
backup), and we follow it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from persistence.claim_reader import SeatMapSnapshot, ShowPosition
from persistence.seat_map_cache import MAP_TTL_MS, Finding, Offer, SeatMapCache
from persistence.seat_map_image import SeatMapImage, Shape, image_of_snapshot
from reservation.faults import Fault
from reservation.ids import ShowId
from serve_app.api.kept_bytes import KeptBytes
from serve_app.api.shared_reads import SharedReads

log = logging.getLogger(__name__)

FRESH_S = 0.1
"""Nobody is asked about a copy that was confirmed within this time."""

TRUE_FOR_S = MAP_TTL_MS / 1_000
"""A copy is not used without asking when it was known to be true longer ago than this."""

PATIENCE_S = 0.025
"""A reader waits no longer for the cache while there is a copy that may still be used."""

_NOTHING = -1
"""Less than any sequence number."""

COPIES_BYTES = 32 * 1024 * 1024

_FILL_WAITS_S = (0.005, 0.01, 0.02, 0.04, 0.08)
"""While another process reads the database; together not longer than it is given."""


class SeatMapSource(Protocol):
    """The part of ``persistence.claim_reader.ClaimReader`` that is needed here."""

    async def seat_map_since(
        self, show_id: ShowId, seq: int
    ) -> tuple[ShowPosition, SeatMapSnapshot | None]:
        """See ``ClaimReader.seat_map_since``."""


class _Key(NamedTuple):
    show_id: ShowId
    shape: Shape


@dataclass(frozen=True, slots=True)
class _Copy:
    """An image, since when it is known to be true, and when we were last told of it."""

    image: SeatMapImage
    known_at_s: float
    told_at_s: float

    @property
    def size_bytes(self) -> int:
        """See ``kept_bytes.Sized``."""
        return self.image.size_bytes


class SeatMaps:
    """See the module's docstring. Belongs to one event loop.

    Without a cache every map is as fresh as the database at the moment of the request.
    """

    def __init__(
        self,
        source: SeatMapSource,
        cache: SeatMapCache | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._source = source
        self._cache = cache
        self._clock = clock
        self._sleep = sleep
        self._fresh_s = 0.0 if cache is None else FRESH_S
        self._copies: KeptBytes[_Key, _Copy] = KeptBytes(COPIES_BYTES)
        self._refreshes: SharedReads[_Key, _Copy] = SharedReads(self._refresh)
        self._queries: SharedReads[_Key, _Copy] = SharedReads(self._query)
        self._newer_queries: SharedReads[_Key, _Copy] = SharedReads(self._query_unhurried)
        self._looking: dict[_Key, asyncio.Task[tuple[_Copy | None, Finding]]] = {}
        self._behind: set[asyncio.Task[None]] = set()

    async def read(self, show_id: ShowId, shape: Shape, *, at_least: int = 0) -> SeatMapImage:
        """The seat map of a show, as fresh as promised.

        Args:
            at_least: a sequence number that the caller has seen.

        Raises:
            ShowUnavailable: neither the cache nor the database has an answer.
        """
        asked_at_s = self._clock()
        key = _Key(show_id, shape)
        copy = self._copies.find(key)
        if copy is None or copy.image.seq < at_least or not self._is_fresh(copy, asked_at_s):
            copy = await self._refreshes.get(key)
            if copy.image.seq < at_least and self._cache is not None:
                copy = await self._newer_queries.get(key)
        return copy.image

    async def close(self) -> None:
        """Stop what goes on behind the readers."""
        tasks = [*self._behind, *self._looking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _is_fresh(self, copy: _Copy, at_s: float) -> bool:
        return at_s - copy.told_at_s < self._fresh_s and self._is_true(copy, at_s)

    @staticmethod
    def _is_true(copy: _Copy, at_s: float) -> bool:
        return at_s - copy.known_at_s < TRUE_FOR_S

    # -- the cache ----------------------------------------------------------------------

    async def _refresh(self, key: _Key) -> _Copy:
        if self._cache is None:
            return await self._query(key)
        asked_at_s = self._clock()
        copy = self._copies.find(key)
        if copy is not None and self._is_fresh(copy, asked_at_s):
            # It came while this one waited for its turn.
            return copy
        look = self._start_looking(key, self._cache)
        if copy is not None and self._is_true(copy, asked_at_s):
            await asyncio.wait([look], timeout=PATIENCE_S)
            if not look.done():
                return copy
        copy, finding = await asyncio.shield(look)
        if finding.is_away:
            return await self._queries.get(key)
        if copy is not None and self._is_true(copy, asked_at_s):
            if finding.should_fill:
                # It can still be used: nobody waits for its renewal.
                self._go_behind(self._renew(key))
            return copy
        for pause_s in _FILL_WAITS_S:
            if finding.should_fill or finding.is_away:
                break
            await self._sleep(pause_s)
            copy, finding = await self._look(key, self._cache)
            if copy is not None and self._is_true(copy, asked_at_s):
                return copy
        return await self._queries.get(key)

    def _start_looking(
        self, key: _Key, cache: SeatMapCache
    ) -> asyncio.Task[tuple[_Copy | None, Finding]]:
        """Ask the cache, or go on asking it: what is found tells how old it is."""
        task = self._looking.get(key)
        if task is None:
            task = self._looking[key] = asyncio.create_task(self._look(key, cache))
            task.add_done_callback(lambda _: self._looking.pop(key))
        return task

    async def _look(self, key: _Key, cache: SeatMapCache) -> tuple[_Copy | None, Finding]:
        """Ask the cache, and take what it says into account."""
        copy = self._copies.find(key)
        finding = await cache.find(key.show_id, None if copy is None else copy.image)
        if finding.image is None:
            return self._copies.find(key), finding
        if finding.image.shape != key.shape:
            log.warning("the cached seat map of %s has %s", key.show_id, finding.image.shape)
            return self._copies.find(key), finding._replace(image=None, should_fill=True)
        return self._take(key, finding.image, finding.known_at_s), finding

    def _take(self, key: _Key, image: SeatMapImage, known_at_s: float) -> _Copy:
        """Keep the newer one of this image and our copy; see the module's docstring."""
        copy = self._copies.find(key)
        if copy is not None and image.seq <= copy.image.seq:
            if image.seq == copy.image.seq:
                known_at_s = max(known_at_s, copy.known_at_s)
            elif known_at_s <= copy.told_at_s:
                image, known_at_s = copy.image, max(known_at_s, copy.known_at_s)
        copy = _Copy(image, known_at_s, self._clock())
        self._copies.keep(key, copy)
        return copy

    # -- the database -------------------------------------------------------------------

    async def _query(self, key: _Key) -> _Copy:
        """Ask the database, cheaply if it still says what we have, and tell the cache."""
        asked_at_s = self._clock()
        copy = self._copies.find(key)
        have = _NOTHING if copy is None else copy.image.seq
        # At one moment: an epoch that came before the map would make this image look like one of
        # the new owner, and newer than what the old one wrote last.
        position, snapshot = await self._source.seat_map_since(key.show_id, have)
        if snapshot is None:
            assert copy is not None, "to whom has nothing, everything is news"
            image = copy.image.with_epoch(position.epoch)
        else:
            image = image_of_snapshot(key.show_id, position.epoch, key.shape, snapshot)
        copy = self._take(key, image, asked_at_s)
        if self._cache is not None:
            offer = Offer(copy.image, copy.known_at_s)
            self._go_behind(self._tell(self._cache, offer))
        return copy

    async def _query_unhurried(self, key: _Key) -> _Copy:
        """Ask the database for a client that claims to have seen more; it may make that up."""
        copy = self._copies.find(key)
        if copy is not None:
            await self._sleep(max(0.0, copy.told_at_s + self._fresh_s - self._clock()))
        return await self._query(key)

    @staticmethod
    async def _tell(cache: SeatMapCache, offer: Offer) -> None:
        await cache.offer([offer])

    async def _renew(self, key: _Key) -> None:
        try:
            await self._queries.get(key)
        except Fault as fault:
            log.info("the seat map of %s could not be renewed: %s", key.show_id, fault)

    def _go_behind(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
