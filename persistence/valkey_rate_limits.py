"""Rate limits that several processes share through Valkey, without asking it each time.

Asking costs more than most requests. So there are two tiers:

1. **Here.** A process allows up to a quarter of a limit's count to a key without asking
   (``RateLimit.free_count``; nothing of an exact limit), and notes these drops as untold.
2. **There.** The next request of the key is asked at the server, and what was untold goes with
   it. The server adds the untold drops in any case, because they were allowed, and then decides
   about this request. All that is asked in one turn of the event loop is one call.

A key that the server refused until some instant is refused here until then, without any call: one
who is over his limit costs a look into a dictionary.

How much may be allowed
    By N processes, in any span of time t, at most ``count + N * free_count + t / interval`` for a
    key; by a process that is alone, ``count + t / interval``. The proof: let D be the drops in the
    server's jar, and U the untold ones of all processes, each of which has at most free_count.
    A process allows by itself only after the server told it that there is room, or after the time
    had passed that the server refused. Until such a time is over every other process can tell
    untold drops once, because it is then refused for longer. So D + U never exceeds ``count + N *
    free_count``, and drops leave D only at the limit's rate, and U only into D.

What is told late is neither lost nor punished
    Drops that were allowed over an hour must not look like a burst. Along with their number the
    process tells how full the jar is at least, by what it heard and allowed itself; the server's
    jar becomes the larger of that and of "its own instant, plus the number". This is at least what
    it would be, had it been told at once, and exactly that if nobody else used the key lately;
    otherwise it can be too large by the untold drops.

When the server is away
    Each process counts alone at once (see ``valkey_jars``), from what it knew, and each allows the
    whole limit. When the server is back it is told how full each jar is here with the next
    question about it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from persistence.rate_limits import (
    KEYS_KEPT_MAX,
    NOTHING_CHARGED,
    Charge,
    RateLimit,
    Verdict,
    judge,
    welcome,
)
from persistence.valkey_jars import PROBE_EVERY_MS, TIMEOUT_MS, Jar, ValkeyJars

Clock = Callable[[], float]


class _Known:
    """What this process knows about one jar.

    Instants are of this process's clock. The jar will be empty by ``empty_at_us``, and not before
    ``not_before_us``, as far as is known here; they differ by the time that answers take.
    ``refused_until_us`` is the server's word. ``asking`` counts the questions under way.
    """

    __slots__ = (
        "asking",
        "empty_at_us",
        "key",
        "limit",
        "not_before_us",
        "refused_until_us",
        "untold",
    )

    def __init__(self, limit: RateLimit, key: str) -> None:
        self.limit = limit
        self.key = key
        self.empty_at_us = 0
        self.not_before_us = 0
        self.refused_until_us = 0
        self.untold = 0
        self.asking = 0

    def debt_us(self, now_us: int) -> int:
        return max(0, self.empty_at_us - now_us)

    def has_free_room(self, now_us: int) -> bool:
        """Whether one more drop needs no question."""
        limit = self.limit
        return (
            self.untold < limit.free_count
            and not self.asking
            and self.empty_at_us - now_us + limit.interval_us <= limit.full_us
        )

    def add_drop(self, now_us: int) -> int:
        """One more drop, allowed here; returns the debt with it."""
        interval_us = self.limit.interval_us
        self.not_before_us = max(self.not_before_us, now_us) + interval_us
        debt_us = max(0, self.empty_at_us - now_us) + interval_us
        self.empty_at_us = now_us + debt_us
        return debt_us


class ValkeyRateLimiter:
    """See ``persistence.rate_limits`` for the promises, and the module's docstring for more.

    Args:
        url: of the server. Connects on first use.
        clock: seconds that only ever grow; the server has its own.
        keys_max: how many jars this process knows. What was untold of one that is forgotten, at
            most free_count drops, is lost.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_ms: int = TIMEOUT_MS,
        probe_every_ms: int = PROBE_EVERY_MS,
        clock: Clock = time.monotonic,
        keys_max: int = KEYS_KEPT_MAX,
    ) -> None:
        self._jars = ValkeyJars(url, timeout_ms=timeout_ms, probe_every_ms=probe_every_ms)
        self._clock = clock
        self._keys_max = keys_max
        self._known: OrderedDict[tuple[str, str], _Known] = OrderedDict()

    def __len__(self) -> int:
        """How many jars are known here."""
        return len(self._known)

    @property
    def calls(self) -> int:
        """How often the server was asked."""
        return self._jars.calls

    @property
    def is_alone(self) -> bool:
        """Whether the server is away, and this process counts for itself."""
        return self._jars.is_away

    async def take(self, charges: Sequence[Charge]) -> Verdict:
        """See ``RateLimiter.take``."""
        if not charges:
            return NOTHING_CHARGED
        known = [self._find(charge) for charge in charges]
        now_us = self._now_us()
        for jar in known:
            if jar.refused_until_us > now_us:
                return _refused_before(charges, known, now_us)
        if self._jars.is_away:
            return _take_alone(charges, known, now_us)
        for jar in known:
            if not jar.has_free_room(now_us):
                return await self._take_there(charges, known)
        for jar in known:
            jar.untold += 1
        return welcome(charges, [jar.add_drop(now_us) for jar in known])

    async def close(self) -> None:
        """See ``RateLimiter.close``."""
        await self._jars.close()

    async def _take_there(self, charges: Sequence[Charge], known: Sequence[_Known]) -> Verdict:
        told = [0] * len(known)
        asked_at_us = 0

        def ask() -> list[Jar]:
            nonlocal asked_at_us
            asked_at_us = now_us = self._now_us()
            for position, jar in enumerate(known):
                told[position], jar.untold = jar.untold, 0
            return [
                Jar(jar.limit, jar.key, untold, jar.not_before_us - now_us)
                for jar, untold in zip(known, told, strict=True)
            ]

        for jar in known:
            jar.asking += 1
        try:
            taken = await self._jars.take(ask)
        finally:
            for jar in known:
                jar.asking -= 1
        now_us = self._now_us()
        if taken is None:
            # Whether it heard is not known. Telling it twice refuses too much, not too little.
            for jar, untold in zip(known, told, strict=True):
                jar.untold = min(jar.untold + untold, jar.limit.free_count)
            return _take_alone(charges, known, now_us)
        for jar, debt_us in zip(known, taken.debts_us, strict=True):
            jar.empty_at_us = now_us + debt_us
            jar.not_before_us = asked_at_us + debt_us
            if not taken.is_allowed:
                jar.refused_until_us = now_us + jar.limit.wait_us(debt_us)
        return (welcome if taken.is_allowed else judge)(charges, taken.debts_us)

    def _find(self, charge: Charge) -> _Known:
        place = (charge.limit.name, charge.key)
        found = self._known.get(place)
        if found is None or found.limit is not charge.limit:
            found = self._known[place] = _Known(charge.limit, charge.key)
            if len(self._known) > self._keys_max:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(place)
        return found

    def _now_us(self) -> int:
        return int(self._clock() * 1e6)


def _refused_before(charges: Sequence[Charge], known: Sequence[_Known], now_us: int) -> Verdict:
    """The server's refusal, once more."""
    # What remains until the instant that it named, whatever this process would say itself.
    debts_us = [
        max(jar.refused_until_us - now_us, 0) + jar.limit.full_us - jar.limit.interval_us
        if jar.refused_until_us > now_us
        else min(jar.debt_us(now_us), jar.limit.full_us - jar.limit.interval_us)
        for jar in known
    ]
    return judge(charges, debts_us)


def _take_alone(charges: Sequence[Charge], known: Sequence[_Known], now_us: int) -> Verdict:
    """Decide with what is known here."""
    debts_us = [jar.debt_us(now_us) for jar in known]
    if any(jar.limit.wait_us(debt) > 0 for jar, debt in zip(known, debts_us, strict=True)):
        return judge(charges, debts_us)
    return welcome(charges, [jar.add_drop(now_us) for jar in known])
