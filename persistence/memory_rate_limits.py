"""Rate limits of one process, in its memory: for a house without Redis, and while Redis is away."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from persistence.rate_limits import (
    KEYS_KEPT_MAX,
    NOTHING_CHARGED,
    Charge,
    Verdict,
    judge,
    welcome,
)


class MemoryRateLimiter:
    """See ``persistence.rate_limits`` for the promises.

    Args:
        clock: seconds that only ever grow.
        keys_max: how many keys are remembered. Who makes up keys to have others forgotten gains
            nothing for his own, which he uses all the time.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, keys_max: int = KEYS_KEPT_MAX
    ) -> None:
        self._clock = clock
        self._keys_max = keys_max
        self._empty_at_us: OrderedDict[tuple[str, str], int] = OrderedDict()

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._empty_at_us)

    async def take(self, charges: Sequence[Charge]) -> Verdict:
        """See ``RateLimiter.take``."""
        if not charges:
            return NOTHING_CHARGED
        now_us = int(self._clock() * 1e6)
        debts_us = [
            max(0, self._empty_at_us.get((limit.name, key), 0) - now_us) for limit, key in charges
        ]
        if any(
            limit.wait_us(debt_us) > 0
            for (limit, _), debt_us in zip(charges, debts_us, strict=True)
        ):
            # Also whoever is refused uses his keys, so they are not the ones to be forgotten.
            for limit, key in charges:
                place = (limit.name, key)
                if place in self._empty_at_us:
                    self._empty_at_us.move_to_end(place)
            return judge(charges, debts_us)
        for position, (limit, key) in enumerate(charges):
            debts_us[position] += limit.interval_us
            self._keep((limit.name, key), now_us + debts_us[position])
        return welcome(charges, debts_us)

    async def close(self) -> None:
        """See ``RateLimiter.close``."""

    def _keep(self, place: tuple[str, str], empty_at_us: int) -> None:
        self._empty_at_us[place] = empty_at_us
        self._empty_at_us.move_to_end(place)
        if len(self._empty_at_us) > self._keys_max:
            self._empty_at_us.popitem(last=False)
