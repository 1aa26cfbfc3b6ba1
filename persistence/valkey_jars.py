"""The jars of rate limits on Valkey, or on any server that speaks the Redis 7.0 commands.

One key a jar, ``{limit}:1:name:key``: the microsecond of the server's clock at which it will be
empty. It ends by itself one window after that. Nobody else's clock counts. The braces keep all
of them on one node where a cluster spreads keys, because a script may use the keys of one only.

Requests that are asked while a round trip is under way leave together with the next, as one call
of one script. While the server does not answer, nobody waits for it: the first call that fails
begins a **probe** in the background, and until that is answered every request is told "away" at
once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from persistence.coalesced import Coalesced
from persistence.rate_limits import RateLimit

log = logging.getLogger(__name__)

TIMEOUT_MS = 250
PROBE_EVERY_MS = 1_000
LOG_EVERY_S = 60.0
CONNECTIONS_MAX = 2

JARS_MAX = 17
"""A jar is never believed to hold more than so many times its limit. It can hold more than once,
because processes tell late what they allowed; a clock that was set back makes it look fuller
still, and that must not lock anybody out for long."""

# ARGV: for each request how many jars it has, then for each of them: the interval, the count,
# drops that were allowed without asking, and the debt that there is at least as far as is known
# there. For the arithmetic of what is told late see valkey_rate_limits.
_TAKE = """
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local key, at, answer = 0, 1, {}
while at <= #ARGV do
    local jars = tonumber(ARGV[at])
    at = at + 1
    local debts, changed, fits = {}, {}, 1
    for jar = 1, jars do
        local base = at + (jar - 1) * 4
        local interval, count = tonumber(ARGV[base]), tonumber(ARGV[base + 1])
        local untold, known_debt = tonumber(ARGV[base + 2]), tonumber(ARGV[base + 3])
        local there = redis.pcall('GET', KEYS[key + jar])
        local empty_at = type(there) == 'string' and tonumber(there) or 0
        local debt = math.min(empty_at - now, JARS_MAX * count * interval)
        debt = math.max(debt + untold * interval, known_debt)
        changed[jar] = debt ~= empty_at - now and debt > 0
        debts[jar] = math.max(debt, 0)
        if debts[jar] + interval > count * interval then fits = 0 end
    end
    answer[#answer + 1] = fits
    for jar = 1, jars do
        local base = at + (jar - 1) * 4
        local interval, count = tonumber(ARGV[base]), tonumber(ARGV[base + 1])
        if fits == 1 then debts[jar] = debts[jar] + interval end
        if fits == 1 or changed[jar] then
            redis.call('SET', KEYS[key + jar], string.format('%.0f', now + debts[jar]),
                'PX', math.ceil((debts[jar] + count * interval) / 1000) + 1)
        end
        answer[#answer + 1] = debts[jar]
    end
    key, at = key + jars, at + jars * 4
end
return answer
""".replace("JARS_MAX", str(JARS_MAX))

_SHA = hashlib.sha1(_TAKE.encode(), usedforsecurity=False).hexdigest()


class Jar(NamedTuple):
    """One jar of a request, and what the server has not been told about it yet.

    Shapes:
        untold: drops that were allowed here.
        knknown_debt_us: as far as is known here, the jar is not empty before; may be negative.
    """

    limit: RateLimit
    key: str
    untold: int
    known_debt_us: int


class Taken(NamedTuple):
    """Whether the request found room in all its jars, and how full each is now."""

    is_allowed: bool
    debts_us: tuple[int, ...]


Ask = Callable[[], Sequence[Jar]]
"""Says what to ask when the call leaves, because more may be untold by then."""


class ValkeyJars:
    """See the module's docstring. Belongs to one event loop.

    Args:
        url: for ``redis.asyncio.Redis.from_url``. Connects on first use.
        timeout_ms: of one round trip.
    """

    def __init__(
        self, url: str, *, timeout_ms: int = TIMEOUT_MS, probe_every_ms: int = PROBE_EVERY_MS
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
        self._probe_every_s = probe_every_ms / 1_000
        self._trips: Coalesced[Ask, Taken] = Coalesced(self._asked)
        self._probing: asyncio.Task[None] | None = None
        self._warned_at_s = -LOG_EVERY_S
        self._is_closed = False
        self.calls = 0

    @property
    def is_away(self) -> bool:
        """Whether it is known that the server does not answer."""
        return self._probing is not None or self._is_closed

    async def take(self, ask: Ask) -> Taken | None:
        """Put one drop into each of these jars if all have room; None while the server is away."""
        answers = await self._trips([ask])
        return None if answers is None else answers[0]

    async def close(self) -> None:
        """Disconnect. What is asked afterwards finds the server away."""
        self._is_closed = True
        if self._probing is not None:
            self._probing.cancel()
        with contextlib.suppress(RedisError, OSError):
            await self._redis.aclose()
            await self._redis.connection_pool.disconnect()

    async def _asked(self, asks: Sequence[Ask]) -> list[Taken] | None:
        if self.is_away:
            return None
        try:
            async with asyncio.timeout(self._patience_s):
                return await self._run([ask() for ask in asks])
        except (RedisError, OSError) as error:
            # TimeoutError, ours too, is an OSError.
            if self._probing is None and not self._is_closed:
                self._warn("rate limits are counted by each process alone: %s", error)
                self._probing = asyncio.ensure_future(self._probe())
            return None

    async def _run(self, requests: Sequence[Sequence[Jar]]) -> list[Taken]:
        keys: list[str] = []
        arguments: list[int] = []
        for jars in requests:
            arguments.append(len(jars))
            for limit, key, untold, known_debt_us in jars:
                keys.append(f"{{limit}}:1:{limit.name}:{key}")
                arguments += (limit.interval_us, limit.count, untold, known_debt_us)
        self.calls += 1
        try:
            answer = await self._redis.evalsha(_SHA, len(keys), *keys, *arguments)
        except NoScriptError:
            answer = await self._redis.eval(_TAKE, len(keys), *keys, *arguments)
        taken = []
        at = 0
        for jars in requests:
            end = at + 1 + len(jars)
            taken.append(Taken(bool(answer[at]), tuple(answer[at + 1 : end])))
            at = end
        return taken

    async def _probe(self) -> None:
        """Return when the server does again all that a request asks of it."""
        while True:
            await asyncio.sleep(self._probe_every_s)
            try:
                async with asyncio.timeout(self._patience_s):
                    await self._run([[Jar(_PROBED, "probe", 0, 0)]])
                break
            except (RedisError, OSError):
                continue
        self._probing = None
        log.info("rate limits are counted together again")

    def _warn(self, text: str, *arguments: object) -> None:
        now_s = time.monotonic()
        is_news = now_s - self._warned_at_s > LOG_EVERY_S
        self._warned_at_s = now_s if is_news else self._warned_at_s
        log.log(logging.WARNING if is_news else logging.DEBUG, text, *arguments)


_PROBED = RateLimit("probe", 1_000, 1_000)
