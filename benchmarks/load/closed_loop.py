"""A closed loop: a fixed number of clients, each asking again as soon as it has its answer.

It measures a ceiling. It says nothing about latency under a given load, because clients that
wait do not ask.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable

from benchmarks.load.rounds import Round, Tally, Verdict


async def run_clients(
    client_count: int, seconds: float, ask: Callable[[int], Awaitable[Verdict | None]]
) -> Round:
    """Let clients ask for a while.

    ``ask(client)`` returns what became of one request; None ends that client.
    """
    tally = Tally()
    note = tally.note
    now = time.perf_counter
    # What was prepared is not looked through again and again while the clock runs.
    gc.collect()
    gc.freeze()
    started = now()
    end = started + seconds

    async def client(index: int) -> None:
        begun = now()
        while begun < end:
            verdict = await ask(index)
            if verdict is None:
                return
            answered = now()
            note(verdict, answered - begun)
            begun = answered

    await asyncio.gather(*(client(index) for index in range(client_count)))
    elapsed_s = now() - started
    gc.unfreeze()
    return tally.round(elapsed_s)
