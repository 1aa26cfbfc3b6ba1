"""An open model: requests come when they come, whether or not earlier ones were answered.

Theory of operation
-------------------
The moments of all requests are drawn before the clock starts. Each request is sent at its moment,
or as soon after it as this process gets to it, and its latency counts from that moment: a server
that stops for a second is charged for everybody who would have come in that second, not for the
few who were waiting already. A closed loop charges it for those few, and calls the rest fast
(tests/integration/test_bench_open_model.py shows both against a server that stops).

What the client itself adds is measured too: how late each request was sent. Timers of an event
loop tick in milliseconds, so a millisecond is normal. ``client_was_late`` says when it was more
than the figures can bear; such a round says as much about the client as about the server.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from benchmarks.load.rounds import Round, Tally, Verdict, quantile

LATE_MS_MAX = 5.0
LATE_SHARE_MAX = 0.25
"""Of the p99 latency: what the client may be late before its figures are its own."""

_SLEEP_S_MIN = 0.000_5


def arrivals(
    rate_per_s: float,
    seconds: float,
    *,
    seed: int,
    shape: Literal["poisson", "even"] = "poisson",
) -> list[float]:
    """The moments of all requests, in seconds from the start.

    Example:
        >>> arrivals(4, 1, seed=0, shape="even")
        [0.0, 0.25, 0.5, 0.75]
    """
    if shape == "even":
        return [number / rate_per_s for number in range(round(rate_per_s * seconds))]
    source = random.Random(seed)
    moments = []
    at_s = source.expovariate(rate_per_s)
    while at_s < seconds:
        moments.append(at_s)
        at_s += source.expovariate(rate_per_s)
    return moments


async def run_open(moments: Sequence[float], ask: Callable[[int], Awaitable[Verdict]]) -> Round:
    """Send request ``n`` at ``moments[n]``, wait for all answers.

    ``ask(n)`` returns what became of request ``n``; an exception counts as failed.
    """
    # Not the loop's own clock, which ticks in milliseconds.
    now = time.perf_counter
    tally = Tally()
    late_s: list[float] = []
    under_way: set[asyncio.Task[None]] = set()
    started = now()

    async def send(number: int, intended: float) -> None:
        try:
            verdict = await ask(number)
        except Exception:
            verdict = Verdict.FAILED
        tally.note(verdict, now() - intended)

    for number, moment in enumerate(moments):
        intended = started + moment
        while (early := intended - now()) > 0:  # noqa: ASYNC110 - a clock sets no event.
            await asyncio.sleep(max(early, _SLEEP_S_MIN))
        late_s.append(now() - intended)
        task = asyncio.ensure_future(send(number, intended))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    late_p99_ms = quantile(sorted(late_s), 0.99) * 1_000
    return tally.round(now() - started, client_late_p99_ms=late_p99_ms)


def client_was_late(result: Round) -> bool:
    """Whether the client's own lateness is a substantial part of what was measured."""
    bearable_ms = max(LATE_MS_MAX, LATE_SHARE_MAX * result.p99_ms)
    return result.client_late_p99_ms > bearable_ms
