"""Rate limits on a real Valkey that dies, hangs, forgets, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from persistence.embedded_valkey import EmbeddedValkey
from persistence.rate_limits import Charge, RateLimit
from persistence.valkey_rate_limits import ValkeyRateLimiter

HOUR_MS = 3_600_000
PATIENT_MS = 5_000
RULE = RateLimit("rule", 12, HOUR_MS)
EXACT = RateLimit("exact", 12, HOUR_MS, is_exact=True)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@asynccontextmanager
async def opened(url: str, *, timeout_ms: int = PATIENT_MS) -> AsyncIterator[ValkeyRateLimiter]:
    """A limiter that asks again soon after a failure, so that a test need not wait for it."""
    limiter = ValkeyRateLimiter(url, timeout_ms=timeout_ms, probe_every_ms=20)
    try:
        yield limiter
    finally:
        await limiter.close()


async def allowed(limiter: ValkeyRateLimiter, rule: RateLimit, times: int, key: str = "ann") -> int:
    """How many of so many requests, one after the other, are allowed."""
    return sum([(await limiter.take([Charge(rule, key)])).is_allowed for _ in range(times)])


async def until_it_is_back(limiter: ValkeyRateLimiter) -> None:
    # Nobody tells; a limiter is not waited for but in tests.
    while limiter.is_alone:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def test_when_the_server_dies_memory_goes_on_with_what_it_knew(
    valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(valkey.url) as limiter:
        assert await allowed(limiter, EXACT, 5) == 5
        valkey.stop()
        assert await allowed(limiter, EXACT, 30) == 7
        assert limiter.is_alone
        assert await allowed(limiter, EXACT, 30, "bob") == 12
    told = [record for record in caplog.records if "counted by each process alone" in record.msg]
    assert len(told) == 1, "an outage is news once"


async def test_while_the_server_is_away_nobody_asks_it(valkey: EmbeddedValkey) -> None:
    valkey.stop()
    # As good as never: then the only call is the one that found out.
    limiter = ValkeyRateLimiter(valkey.url, probe_every_ms=HOUR_MS)
    assert await allowed(limiter, EXACT, 100) == 12
    crowd = (limiter.take([Charge(EXACT, f"customer {number}")]) for number in range(500))
    assert all(verdict.is_allowed for verdict in await asyncio.gather(*crowd))
    assert limiter.calls == 1
    await limiter.close()


async def test_a_server_that_does_not_answer_is_waited_for_once() -> None:
    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        limiter = ValkeyRateLimiter(
            f"redis://127.0.0.1:{port}/0", timeout_ms=50, probe_every_ms=HOUR_MS
        )
        assert await allowed(limiter, EXACT, 100) == 12
        assert limiter.calls == 1
        await limiter.close()


async def test_a_server_that_hangs_and_goes_on_is_asked_again(valkey: EmbeddedValkey) -> None:
    async with opened(valkey.url, timeout_ms=200) as limiter:
        assert await allowed(limiter, EXACT, 2) == 2
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            assert await allowed(limiter, EXACT, 3) == 3
            assert limiter.is_alone
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        await until_it_is_back(limiter)
        # What the server heard while it hung, it may count as well; nothing is forgotten.
        assert await allowed(limiter, EXACT, 30) in (6, 7)


async def test_when_it_is_back_it_learns_what_was_allowed_meanwhile(
    valkey: EmbeddedValkey,
) -> None:
    async with opened(valkey.url) as limiter, opened(valkey.url) as other:
        valkey.stop()
        assert await allowed(limiter, RULE, 10) == 10
        valkey.start()
        await until_it_is_back(limiter)
        assert await allowed(limiter, RULE, 30) == 2
        # Free of charge a process allows what it does not know better.
        assert await allowed(other, RULE, 30) <= RULE.free_count


async def test_a_server_that_has_forgotten_everything_is_no_obstacle(
    valkey: EmbeddedValkey,
) -> None:
    async with opened(valkey.url) as limiter, Redis.from_url(valkey.url) as admin:
        assert await allowed(limiter, EXACT, 4) == 4
        await admin.flushall()
        await admin.script_flush()
        assert await allowed(limiter, EXACT, 30, "bob") == 12
        assert not limiter.is_alone


async def test_who_stops_waiting_harms_nobody(valkey: EmbeddedValkey) -> None:
    async with opened(valkey.url) as limiter:
        gone = asyncio.ensure_future(limiter.take([Charge(EXACT, "ann")]))
        there = asyncio.ensure_future(limiter.take([Charge(EXACT, "ann")]))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await there).is_allowed
        assert await allowed(limiter, RULE, 3) == 3
        assert limiter.calls >= 1
