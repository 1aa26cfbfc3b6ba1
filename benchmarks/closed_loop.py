"""A closed loop: a fixed number of clients, each asking again as soon as it has its answer.

It measures a ceiling. It says nothing about latency under a given load, because clients that
wait do not ask.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple


class Round(NamedTuple):
    """What one round did.

    Units:
        rate_per_s: answers a second that counted.
        p50_ms, p99_ms: of all answers.
    """

    rate_per_s: float
    p50_ms: float
    p99_ms: float
    refused: int


async def run_clients(
    client_count: int, seconds: float, ask: Callable[[int], Awaitable[bool | None]]
) -> Round:
    """Let clients ask for a while.

    ``ask(client)`` returns whether the answer counts; None ends that client.
    """
    latencies: list[float] = []
    counted = refused = 0
    started = time.perf_counter()
    end = started + seconds

    async def client(index: int) -> None:
        nonlocal counted, refused
        while (begun := time.perf_counter()) < end:
            counts = await ask(index)
            if counts is None:
                return
            latencies.append(time.perf_counter() - begun)
            if counts:
                counted += 1
            else:
                refused += 1

    await asyncio.gather(*(client(index) for index in range(client_count)))
    elapsed = time.perf_counter() - started
    latencies.sort()
    if not latencies:
        return Round(0.0, 0.0, 0.0, 0)
    return Round(
        counted / elapsed,
        latencies[len(latencies) // 2] * 1_000,
        latencies[int(len(latencies) * 0.99)] * 1_000,
        refused,
    )
