"""A lock in Redis, then Postgres: fast to ask, and safe only as far as Postgres checks again.

The lock is as Redis documents it: a random token, a time to live, and a release that deletes the
key only while it still holds the token. With one server this is Redlock on one node: more nodes
guard against the loss of a server, not against a holder that is paused beyond the time to live.

    guarded       Postgres takes the places only while they are free; a holder whose lock has
                  ended is refused there
    unguarded     the holder looks whether the places are free and then writes, trusting its
                  lock, as many shops do; it sells twice when it was paused in between
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import asyncpg
from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks.contenders.contender import Held, HoldAnswer, Refusal
from benchmarks.contenders.place_tables import FREE, PlaceRequest, PlaceTables

LOCK_TTL_MS = 5_000
ATTEMPTS_MAX = 60
RETRY_MS = 5
REDIS_CONNECTIONS_MAX = 32

Scope: TypeAlias = Literal["seat", "show"]

# All keys or none, in one round trip.
_ACQUIRE = """
for _, key in ipairs(KEYS) do
    if redis.call('EXISTS', key) == 1 then return 0 end
end
for _, key in ipairs(KEYS) do redis.call('SET', key, ARGV[1], 'PX', ARGV[2]) end
return 1
"""
_RELEASE = """
for _, key in ipairs(KEYS) do
    if redis.call('GET', key) == ARGV[1] then redis.call('DEL', key) end
end
return 1
"""

# The hold refuses to be written (its places are NOT NULL) unless all its places were taken, and
# then nothing of the statement remains. Two holders of one lock meet here at a row.
_GUARDED = f"""
WITH known AS (SELECT 1 FROM place_hold WHERE hold_id = $3),
free AS (SELECT place FROM place WHERE show = $1 AND place = ANY ($2::integer[]) AND ({FREE})),
taken AS (
    UPDATE place SET hold_id = $3, expires_at = now() + $5::integer * interval '1 millisecond'
    WHERE show = $1 AND place = ANY ($2::integer[]) AND ({FREE}) AND NOT EXISTS (SELECT FROM known)
        AND (SELECT count(*) FROM free) = cardinality($2::integer[])
    RETURNING place)
INSERT INTO place_hold (hold_id, show, customer_id, places, expires_at)
SELECT $3, $1, $4,
    CASE WHEN (SELECT count(*) FROM taken) = cardinality($2::integer[]) THEN $2::integer[] END,
    now() + $5::integer * interval '1 millisecond'
WHERE (SELECT count(*) FROM taken) > 0
RETURNING (extract(epoch FROM expires_at) * 1000)::bigint
"""
_LOOK = f"""
SELECT count(*) FROM place WHERE show = $1 AND place = ANY ($2::integer[]) AND ({FREE})
"""
_TRUSTING = """
WITH made AS (
    INSERT INTO place_hold (hold_id, show, customer_id, places, expires_at)
    VALUES ($3, $1, $4, $2::integer[], now() + $5::integer * interval '1 millisecond')
    ON CONFLICT DO NOTHING RETURNING expires_at)
UPDATE place p SET hold_id = $3, expires_at = made.expires_at
FROM made WHERE p.show = $1 AND p.place = ANY ($2::integer[])
RETURNING (extract(epoch FROM made.expires_at) * 1000)::bigint
"""


async def _no_pause() -> None:
    """Nothing stands in the way between looking and writing."""


class RedLock(PlaceTables):
    """See ``Contender``; without ``is_guarded`` it does not keep its promises.

    Args:
        scope: one lock for each place, or one for the show.
        pause: awaited by the holder of the lock before it writes, for tests of what a pause does.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        redis: Redis,
        *,
        scope: Scope = "seat",
        is_guarded: bool = True,
        lock_ttl_ms: int = LOCK_TTL_MS,
        pause: Callable[[], Awaitable[None]] = _no_pause,
    ) -> None:
        super().__init__(pool)
        self._redis: Any = redis
        self._scope = scope
        self._is_guarded = is_guarded
        self._lock_ttl_ms = lock_ttl_ms
        self._pause = pause
        self._random = random.Random(os.urandom(8))
        self._scripts: tuple[str, str] | None = None

    async def hold(self, prepared: PlaceRequest) -> HoldAnswer:
        """See ``Contender``."""
        if self._scripts is None:
            self._scripts = (
                await self._redis.script_load(_ACQUIRE),
                await self._redis.script_load(_RELEASE),
            )
        acquire, release = self._scripts
        keys = self._keys(prepared)
        token = os.urandom(16).hex()
        for attempt in range(ATTEMPTS_MAX):
            if await self._redis.evalsha(acquire, len(keys), *keys, token, self._lock_ttl_ms):
                break
            # The wait grows and is never the same, so that a crowd does not come back as one.
            wait_ms = RETRY_MS * min(attempt + 1, 10) * self._random.uniform(0.5, 1.5)
            await asyncio.sleep(wait_ms / 1_000)
        else:
            answer = await self.known(prepared)
            return Refusal.BUSY if answer is Refusal.TAKEN else answer
        try:
            return await self._write(prepared)
        finally:
            await self._redis.evalsha(release, len(keys), *keys, token)

    def _keys(self, request: PlaceRequest) -> list[str]:
        if self._scope == "show":
            return [f"lock:{request.show}"]
        return [f"lock:{request.show}:{place}" for place in request.places]

    async def _write(self, request: PlaceRequest) -> HoldAnswer:
        show, hold_id, customer_id, places, ttl_ms = request
        statement = _GUARDED
        if not self._is_guarded:
            statement = _TRUSTING
            if await self.pool.fetchval(_LOOK, show, places) < len(places):
                return await self.known(request)
        await self._pause()
        try:
            expires_at_ms = await self.pool.fetchval(
                statement, show, places, hold_id, customer_id, ttl_ms
            )
        except (asyncpg.NotNullViolationError, asyncpg.UniqueViolationError):
            # Somebody had the same lock, and was here first.
            expires_at_ms = None
        if expires_at_ms is not None:
            return Held(hold_id, expires_at_ms)
        return await self.known(request)


def open_lock_server(url: str) -> Redis:
    """A client for the locks; more callers than connections wait for one."""
    return Redis(
        connection_pool=BlockingConnectionPool.from_url(
            url, max_connections=REDIS_CONNECTIONS_MAX, timeout=None
        )
    )
