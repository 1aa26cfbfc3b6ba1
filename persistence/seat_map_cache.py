"""PORT ``SeatMapCache``: the newest image of each show's seat map, for those who only look.

Theory of operation
-------------------
An image is **known at** an instant: the moment at which the database is known to have said the
same. It is kept until ``MAP_TTL_MS`` after that moment, however long it was under way. So what is
found was true within the last second, even if whoever wrote it was suspended for a minute in
between: then its image is too old and is refused.

What every implementation promises:

* ``offer`` keeps the newer image, by (epoch, sequence number), whoever comes last. Offering the
  version that is there prolongs it. One server-side script compares and writes.
* ``find`` finds an image that was offered, whole, or none. Something else that lies in its place
  counts as none.
* Of all that find nothing, or an image that ends soon, one is told to read the database
  (``should_fill``); the next one only after ``FILL_MS``, or when an image was offered meanwhile.
* Owners ask which shows were looked for lately (``wanted``), and offer only those.
* Nothing here raises because the server is away, slow or full. While it is, answers come at once
  and say so; it is tried again in the background, and nobody waits for that.

Instants are seconds of the caller's monotonic clock. An implementation translates them to the
server's clock by the time that came with its latest answer, so that an instant is never taken for
later than it was. If the server's clock is set back, images live longer by as much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from persistence.seat_map_image import SeatMapImage
from reservation.ids import ShowId

MAP_TTL_MS = 1_000
"""An image is not found any more this long after it was known to be true."""

ENDS_SOON_MS = 250
"""An image that has no more left is renewed while it can still be found."""

FILL_MS = 200
"""How long the others wait for the one that was told to fill."""

WANTED_MS = 5_000
"""A show that nobody has looked for in this time is not offered."""


class Finding(NamedTuple):
    """What a reader found.

    Shapes:
        image: None when nothing was found.
        known_at_s: of the image.
        should_fill: this reader is to read the database, and to offer what it says.
        is_away: the cache could not be asked.
    """

    image: SeatMapImage | None
    known_at_s: float
    should_fill: bool
    is_away: bool = False


class Offer(NamedTuple):
    """An image, and since when it is known to be true."""

    image: SeatMapImage
    known_at_s: float


class SeatMapCache(Protocol):
    """See the module's docstring for the promises."""

    async def find(self, show_id: ShowId, have: SeatMapImage | None) -> Finding:
        """The newest image of a show. ``have`` itself comes back when it still is the newest."""
        ...

    async def offer(self, offers: Sequence[Offer]) -> list[bool] | None:
        """Put these images there, each unless a newer one is there or it is too old.

        Returns:
            For each, whether its version is there now; None when the cache is away.
        """
        ...

    async def wanted(self, show_ids: Sequence[ShowId]) -> set[ShowId] | None:
        """Those of these shows that somebody looked for lately; None when the cache is away."""
        ...

    async def close(self) -> None:
        """Disconnect. What is asked afterwards finds the cache away."""
        ...


class _Kept(NamedTuple):
    image: SeatMapImage
    known_at_s: float


class MemorySeatMapCache:
    """The cache of one process, for tests and simulations. ``is_away`` makes it fail."""

    def __init__(
        self,
        *,
        map_ttl_ms: int = MAP_TTL_MS,
        fill_ms: int = FILL_MS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_away = False
        self._fill_s = fill_ms / 1_000
        self._map_ttl_s = map_ttl_ms / 1_000
        self._clock = clock
        self._kept: dict[ShowId, _Kept] = {}
        self._wanted_until_s: dict[ShowId, float] = {}
        self._filling_until_s: dict[ShowId, float] = {}

    async def find(self, show_id: ShowId, have: SeatMapImage | None) -> Finding:
        """See ``SeatMapCache.find``."""
        now_s = self._clock()
        if self.is_away:
            return Finding(None, now_s, should_fill=False, is_away=True)
        self._wanted_until_s[show_id] = now_s + WANTED_MS / 1_000
        kept = self._at(show_id, now_s)
        left_s = 0.0 if kept is None else kept.known_at_s + self._map_ttl_s - now_s
        should_fill = (
            left_s < ENDS_SOON_MS / 1_000 and self._filling_until_s.get(show_id, 0.0) <= now_s
        )
        if should_fill:
            self._filling_until_s[show_id] = now_s + self._fill_s
        if kept is None:
            return Finding(None, now_s, should_fill)
        image = have if have is not None and have.head == kept.image.head else kept.image
        return Finding(image, kept.known_at_s, should_fill)

    async def offer(self, offers: Sequence[Offer]) -> list[bool] | None:
        """See ``SeatMapCache.offer``."""
        if self.is_away:
            return None
        return [self._offer(offer) for offer in offers]

    async def wanted(self, show_ids: Sequence[ShowId]) -> set[ShowId] | None:
        """See ``SeatMapCache.wanted``."""
        now_s = self._clock()
        if self.is_away:
            return None
        return {show_id for show_id in show_ids if self._wanted_until_s.get(show_id, now_s) > now_s}

    async def close(self) -> None:
        """See ``SeatMapCache.close``."""
        self.is_away = True

    def _offer(self, offer: Offer) -> bool:
        now_s = self._clock()
        image, known_at_s = offer.image, min(offer.known_at_s, now_s)
        if known_at_s + self._map_ttl_s <= now_s:
            return False
        kept = self._at(image.show_id, now_s)
        if kept is not None:
            there, here = (kept.image.epoch, kept.image.seq), (image.epoch, image.seq)
            if there > here:
                return False
            if there == here:
                known_at_s = max(known_at_s, kept.known_at_s)
        self._kept[image.show_id] = _Kept(image, known_at_s)
        self._filling_until_s.pop(image.show_id, None)
        return True

    def _at(self, show_id: ShowId, now_s: float) -> _Kept | None:
        kept = self._kept.get(show_id)
        if kept is None or kept.known_at_s + self._map_ttl_s <= now_s:
            return None
        return kept
