"""The seat-map cache on Valkey, or on any server that speaks the Redis 7.0 commands.

Three keys a show, all of which end by themselves:

    seat_map:1:{show}            an encoded image; 1 is its format
    seat_map:1:{show}:wanted     somebody looked for it within the last seconds
    seat_map:1:{show}:filling    somebody was told to read the database

While the server does not answer, nobody waits for it: the first question that fails begins a
**probe** in the background, and until a probe is answered every question is answered with "away".
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from persistence.coalesced import Coalesced
from persistence.seat_map_cache import (
    ENDS_SOON_MS,
    FILL_MS,
    MAP_TTL_MS,
    WANTED_MS,
    Finding,
    Offer,
)
from persistence.seat_map_image import FORMAT, SeatMapImage, decode
from reservation.ids import ShowId, derive_show_id

log = logging.getLogger(__name__)

TIMEOUT_MS = 250
"""Readers who have a map do not wait for it; the others do once, and then nobody."""

PROBE_EVERY_MS = 1_000
CONNECTIONS_MAX = 4
CLOCK_TRUSTED_S = 10.0
"""Two clocks do not drift apart by a millisecond within this time."""

LOG_EVERY_S = 60.0
"""A cache that comes and goes is not news each time."""

_Item = TypeVar("_Item")
_Answers = TypeVar("_Answers")
_TOLD_AT_LEAST_S = -1e9

# Common to both: the server's time, and the place of an image. A time-to-live that was not given
# by us means that somebody else put something there.
_TIME = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

_FIND = (
    _TIME
    + """
local wanted_ms, soon_ms, fill_ms, ttl_ms = \
    tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local left, image = redis.call('PTTL', KEYS[1]), ''
if left > 0 and left <= ttl_ms then
    image = redis.pcall('GET', KEYS[1])
    if type(image) ~= 'string' or string.sub(image, 1, #ARGV[6]) ~= ARGV[6] then
        left, image = 0, ''
    elseif string.sub(image, 1, #ARGV[5]) == ARGV[5] then
        image = '='
    end
else
    left = 0
end
if redis.call('PTTL', KEYS[2]) < wanted_ms / 2 then
    redis.call('SET', KEYS[2], '1', 'PX', wanted_ms)
end
local fill = 0
if left < soon_ms and redis.call('SET', KEYS[3], '1', 'NX', 'PX', fill_ms) then fill = 1 end
return {now, left, fill, image}
"""
)

_OFFER = (
    _TIME
    + """
local ttl_ms = tonumber(ARGV[3])
local left = math.min(ttl_ms, tonumber(ARGV[2]) + ttl_ms - now)
if left <= 0 then return {now, 0} end
local size = struct.size('>c4I8I8')
local there_left = redis.call('PTTL', KEYS[1])
if there_left > 0 and there_left <= ttl_ms then
    local there = redis.pcall('GETRANGE', KEYS[1], 0, size - 1)
    if type(there) == 'string' and #there == size then
        local form, epoch, seq = struct.unpack('>c4I8I8', there)
        local our_form, our_epoch, our_seq = struct.unpack('>c4I8I8', ARGV[1])
        if form == our_form then
            if epoch > our_epoch or (epoch == our_epoch and seq > our_seq) then
                return {now, 0}
            end
            if epoch == our_epoch and seq == our_seq then left = math.max(left, there_left) end
        end
    end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', left)
redis.call('DEL', KEYS[2])
return {now, 1}
"""
)


class _Script:
    """A script, and the name that the server gives it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_FIND_SCRIPT, _OFFER_SCRIPT = _Script(_FIND), _Script(_OFFER)


class _ServerTime(NamedTuple):
    """The server said ``at_ms`` before we heard it at ``heard_at_s``."""

    at_ms: int
    heard_at_s: float


class ValkeySeatMapCache:
    """See ``persistence.seat_map_cache`` for the promises. Belongs to one event loop.

    Args:
        url: for ``redis.asyncio.Redis.from_url``. Connects on first use.
        timeout_ms: of one round trip.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_ms: int = TIMEOUT_MS,
        map_ttl_ms: int = MAP_TTL_MS,
        fill_ms: int = FILL_MS,
        probe_every_ms: int = PROBE_EVERY_MS,
    ) -> None:
        timeout_s = timeout_ms / 1_000
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=timeout_s,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Redis = Redis.from_pool(pool)
        # Connecting takes some round trips of its own, and so does a script that was lost.
        self._patience_s = 2 * timeout_s
        self._map_ttl_ms = map_ttl_ms
        self._fill_ms = fill_ms
        self._probe_every_s = probe_every_ms / 1_000
        self._finds = Coalesced(partial(self._asked, self._find))
        self._offers = Coalesced(partial(self._asked, self._offer))
        self._server_time: _ServerTime | None = None
        self._probing: asyncio.Task[None] | None = None
        self._warned_at_s = _TOLD_AT_LEAST_S
        self._is_closed = False

    async def find(self, show_id: ShowId, have: SeatMapImage | None) -> Finding:
        """See ``SeatMapCache.find``."""
        asked_at_s = time.monotonic()
        answers = await self._finds([(show_id, b"-" if have is None else have.head)])
        if answers is None:
            return Finding(None, asked_at_s, should_fill=False, is_away=True)
        left_ms, should_fill, data = answers[0]
        known_at_s = asked_at_s - (self._map_ttl_ms - left_ms) / 1_000
        if data == b"=":
            return Finding(have, known_at_s, should_fill)
        if not data:
            return Finding(None, known_at_s, should_fill)
        try:
            return Finding(decode(data, show_id), known_at_s, should_fill)
        except ValueError as error:
            # It ends within its second, and until then the database is asked.
            self._warn("the seat-map cache holds something else at %s: %s", show_id, error)
            return Finding(None, known_at_s, should_fill=True)

    async def offer(self, offers: Sequence[Offer]) -> list[bool] | None:
        """See ``SeatMapCache.offer``."""
        return await self._offers(offers) if offers else []

    async def wanted(self, show_ids: Sequence[ShowId]) -> set[ShowId] | None:
        """See ``SeatMapCache.wanted``."""
        marks = await self._asked(self._marks, show_ids) if show_ids else []
        if marks is None:
            return None
        return {show_id for show_id, mark in zip(show_ids, marks, strict=True) if mark is not None}

    async def close(self) -> None:
        """See ``SeatMapCache.close``."""
        self._is_closed = True
        if self._probing is not None:
            self._probing.cancel()
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()
            await self._redis.connection_pool.disconnect()

    # -- one round trip each ----------------------------------------------------------------

    async def _find(self, asked: Sequence[tuple[ShowId, bytes]]) -> list[tuple[int, bool, bytes]]:
        calls = [
            (
                *(3, *_keys(show_id)),
                *(WANTED_MS, ENDS_SOON_MS, self._fill_ms, self._map_ttl_ms, head, FORMAT),
            )
            for show_id, head in asked
        ]
        answers = await self._run(_FIND_SCRIPT, calls)
        return [(left_ms, bool(fill), data) for _, left_ms, fill, data in answers]

    async def _offer(self, offers: Sequence[Offer]) -> list[bool]:
        told = self._server_time
        if told is None or time.monotonic() - told.heard_at_s > CLOCK_TRUSTED_S:
            seconds, microseconds = await self._redis.time()
            told = _ServerTime(seconds * 1_000 + microseconds // 1_000, time.monotonic())
        calls = []
        for image, known_at_s in offers:
            map_key, _, filling_key = _keys(image.show_id)
            # Heard later than said: the instant comes out too early rather than too late.
            known_at_ms = told.at_ms + math.floor((known_at_s - told.heard_at_s) * 1_000)
            calls.append((2, map_key, filling_key, image.encode(), known_at_ms, self._map_ttl_ms))
        return [bool(kept) for _, kept in await self._run(_OFFER_SCRIPT, calls)]

    async def _marks(self, show_ids: Sequence[ShowId]) -> Sequence[object]:
        return await self._redis.mget([_keys(show_id)[1] for show_id in show_ids])

    async def _run(self, script: _Script, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a script once for each call; its answers begin with the server's time."""
        for is_last in (False, True):
            pipeline = self._redis.pipeline(transaction=False)
            for call in calls:
                pipeline.evalsha(script.sha, *call)
            answers = await pipeline.execute(raise_on_error=False)
            failed = [answer for answer in answers if isinstance(answer, Exception)]
            if not failed:
                self._server_time = _ServerTime(answers[-1][0], time.monotonic())
                return answers
            if is_last or not isinstance(failed[0], NoScriptError):
                raise failed[0]
            await self._redis.script_load(script.text)
        raise AssertionError("unreachable")

    async def _asked(
        self, ask: Callable[[Sequence[_Item]], Awaitable[_Answers]], items: Sequence[_Item]
    ) -> _Answers | None:
        """The answers, or None while the server is away."""
        if self._probing is not None or self._is_closed:
            return None
        try:
            async with asyncio.timeout(self._patience_s):
                return await ask(items)
        except (RedisError, OSError) as error:
            # TimeoutError, ours too, is an OSError.
            if self._probing is None and not self._is_closed:
                self._warn("the seat-map cache is away, the database is read instead: %s", error)
                self._probing = asyncio.ensure_future(self._probe())
            return None

    async def _probe(self) -> None:
        """Return when the server does again all that a reader asks of it."""
        self._server_time = None
        while True:
            await asyncio.sleep(self._probe_every_s)
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._find([(_PROBED, b"-")])
                break
            except (RedisError, OSError):
                continue
        self._probing = None
        log.info("the seat-map cache is back")

    def _warn(self, text: str, *arguments: object) -> None:
        now_s = time.monotonic()
        is_news = now_s - self._warned_at_s > LOG_EVERY_S
        self._warned_at_s = now_s if is_news else self._warned_at_s
        log.log(logging.WARNING if is_news else logging.DEBUG, text, *arguments)


_PROBED = derive_show_id("the seat-map cache's probe")


def _keys(show_id: ShowId) -> tuple[str, str, str]:
    # The braces keep a show's keys together where a cluster spreads keys over its nodes.
    place = f"seat_map:1:{{{show_id}}}"
    return place, f"{place}:wanted", f"{place}:filling"
