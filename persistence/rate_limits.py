"""How often somebody may do something: the port, and the arithmetic that all limiters share.

The arithmetic is GCRA, the generic cell rate algorithm. A limit of ``count`` in ``window_ms`` is a
jar that holds ``count`` drops and loses one every ``window_ms / count``; each request adds a drop,
and one that would overflow the jar is refused and adds none. So ``count`` requests may come at
once, and afterwards as many as leak out. All that is kept of a jar is the instant at which it will
be empty: one number, and no history.

Guarantees of every limiter:
    * In any span of time no key is allowed more than ``count`` requests, and one more for each
      ``window_ms / count`` in it. ``valkey_rate_limits`` says by how much several processes that
      share a server may exceed this.
    * A request that is charged to several keys is charged to all of them or to none.
    * ``retry_after_ms`` is enough: whoever waits so long and is alone with his keys is allowed.
    * It never fails and never waits for long: a server that is away is replaced by memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

KEYS_KEPT_MAX = 65_536
"""Per process. A key takes some 300 bytes; those that were used longest ago are forgotten."""


@dataclass(frozen=True, slots=True, eq=False)
class RateLimit:
    """``count`` requests in ``window_ms``, under a name that clients are shown.

    Shapes:
        is_exact: no request is allowed without asking whoever counts for all processes. For what
            is rare and dear, such as passwords.
        interval_us: one drop leaks out in this time.
        full_us: and the whole jar in this.
        free_count: as many requests of a key a process may allow before it tells the others.
    """

    name: str
    count: int
    window_ms: int = 60_000
    is_exact: bool = False
    interval_us: int = field(init=False)
    full_us: int = field(init=False)
    free_count: int = field(init=False)

    def __post_init__(self) -> None:
        if not 1 <= self.count <= self.window_ms * 1_000:
            raise ValueError(f"count: {self.count} in {self.window_ms} ms is no limit")
        interval_us = self.window_ms * 1_000 // self.count
        object.__setattr__(self, "interval_us", interval_us)
        object.__setattr__(self, "full_us", interval_us * self.count)
        object.__setattr__(self, "free_count", 0 if self.is_exact else self.count // 4)

    def remaining_at(self, debt_us: int) -> int:
        """How many requests still fit into a jar that will be empty in ``debt_us``."""
        return max(0, (self.full_us - max(0, debt_us)) // self.interval_us)

    def wait_us(self, debt_us: int) -> int:
        """How long until one more request fits; not above 0 when it does now."""
        return debt_us + self.interval_us - self.full_us


class Charge(NamedTuple):
    """One drop into the jar of ``key``. Keys of different limits have nothing in common."""

    limit: RateLimit
    key: str


class Verdict(NamedTuple):
    """Whether a request may go on.

    Shapes:
        limit: the one that refused, or else the one with the least left; None without charges.
        remaining: requests that ``limit`` would allow after this one, as far as is known here.
        retry_after_ms: 0 when allowed.
    """

    is_allowed: bool
    limit: RateLimit | None
    remaining: int
    retry_after_ms: int


NOTHING_CHARGED = Verdict(True, None, 0, 0)


class RateLimiter(Protocol):
    """See the module's docstring for the promises. Belongs to one event loop."""

    async def take(self, charges: Sequence[Charge]) -> Verdict:
        """Charge one request to these keys, unless one of them has no room for it."""
        ...

    async def close(self) -> None:
        """Disconnect. Afterwards memory alone decides."""
        ...


def judge(charges: Sequence[Charge], debts_us: Sequence[int]) -> Verdict:
    """The refusal of a request that finds its jars this full; of several, the longest wait."""
    waits_us = [charge.limit.wait_us(debt) for charge, debt in zip(charges, debts_us, strict=True)]
    longest = max(range(len(waits_us)), key=waits_us.__getitem__)
    limit = charges[longest].limit
    retry_after_ms = max(1, -(-waits_us[longest] // 1_000))
    return Verdict(False, limit, limit.remaining_at(debts_us[longest]), retry_after_ms)


def welcome(charges: Sequence[Charge], debts_us: Sequence[int]) -> Verdict:
    """The consent to a request that leaves its jars this full."""
    tightest: RateLimit | None = None
    remaining = 0
    for charge, debt_us in zip(charges, debts_us, strict=True):
        left = charge.limit.remaining_at(debt_us)
        if tightest is None or left < remaining:
            tightest, remaining = charge.limit, left
    return Verdict(True, tightest, remaining, 0)
