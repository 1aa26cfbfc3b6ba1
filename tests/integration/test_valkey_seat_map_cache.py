"""The seat-map cache on a real Valkey that dies, hangs, fills up, forgets, and is meddled with."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from actors.durable_map import DurableMap
from persistence import valkey_seat_map_cache
from persistence.claim_reader import ClaimReader
from persistence.embedded_valkey import EmbeddedValkey
from persistence.postgres_journal import PostgresJournal
from persistence.seat_map_cache import Offer
from persistence.seat_map_image import Shape, image_of, image_of_snapshot
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from persistence.valkey_seat_map_cache import ValkeySeatMapCache
from reservation.ids import derive_show_id
from reservation.route import Segment
from tests.conftest import House
from tests.support.histories import RandomLife, make_show

SHOW_ID = derive_show_id("on valkey")
KEY = f"seat_map:1:{{{SHOW_ID}}}"
SHAPE = Shape(4, 1, 0)
LOGGER = "persistence.valkey_seat_map_cache"
PATIENT_MS = 5_000
LONG_MS = 600_000


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    with EmbeddedValkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
async def admin(valkey: EmbeddedValkey) -> AsyncIterator[Redis]:
    async with Redis.from_url(valkey.url) as client:
        yield client


@pytest.fixture
async def cache(valkey: EmbeddedValkey) -> AsyncIterator[ValkeySeatMapCache]:
    """Asks again soon after a failure, so that a test need not wait for it."""
    cache = ValkeySeatMapCache(
        valkey.url, timeout_ms=PATIENT_MS, map_ttl_ms=LONG_MS, probe_every_ms=20
    )
    yield cache
    await cache.close()


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOGGER)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the cache has told; what earlier tests have left running may say other things."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name == valkey_seat_map_cache.__name__
    ]


def offer(seq: int, *, epoch: int = 1) -> Offer:
    states = bytearray([seq % 2] * 4)
    return Offer(image_of(SHOW_ID, epoch, seq, SHAPE, states, []), time.monotonic())


async def seq_found(cache: ValkeySeatMapCache) -> int | None:
    found = (await cache.find(SHOW_ID, None)).image
    return None if found is None else found.seq


async def comes_back(cache: ValkeySeatMapCache) -> None:
    async with asyncio.timeout(20):
        while (await cache.find(SHOW_ID, None)).is_away:  # noqa: ASYNC110 - it does not call us.
            await asyncio.sleep(0.01)


# -- the same as Postgres -------------------------------------------------------------------------


@pytest.mark.parametrize("legs", [1, 3, 4, 51, 255])
async def test_what_the_owner_published_is_what_postgres_says(
    empty_house: House, cache: ValkeySeatMapCache, legs: int
) -> None:
    show = make_show(f"published {legs}", legs=legs, capacities=(6, 2))
    life = RandomLife(show, 7)
    pool = await open_pool(empty_house.application_dsn, "reader", size_max=1)
    reader = ClaimReader([pool], ShardMap.even(("only",)))
    shape = Shape(show.plan.seat_count, legs, 2)
    kinds = set()
    for epoch in (1, 2):
        journal = PostgresJournal(empty_house.application_dsn, f"owner#{epoch}")
        durable_map = DurableMap(show, await journal.activate(show))
        for batch in life.batches(110):
            kinds.update(type(event).__name__ for event in batch)
            seq = await journal.append(show.show_id, batch)
            durable_map.landed(batch, seq, time.monotonic())
            position = await reader.position_of(show.show_id)
            assert position == (epoch, seq)
            snapshot = await reader.seat_map(show.show_id)
            stored = image_of_snapshot(show.show_id, epoch, shape, snapshot)
            assert await cache.offer([Offer(durable_map.image(), time.monotonic())]) == [True]
            found = (await cache.find(show.show_id, None)).image
            assert found == stored
            for segment in (Segment(0, legs), Segment(0, 1), Segment(legs - 1, legs)):
                assert found.statuses(segment, b"fhbx") == stored.statuses(segment, b"fhbx")
        await journal.close()
    await pool.close()
    assert len(kinds) == 12, f"some events never happened: {kinds}"


# -- a server in trouble --------------------------------------------------------------------------


async def test_a_killed_server_is_away_at_once_is_told_of_once_and_comes_back(
    valkey: EmbeddedValkey, cache: ValkeySeatMapCache, caplog: pytest.LogCaptureFixture
) -> None:
    await cache.offer([offer(1)])
    assert await seq_found(cache) == 1
    valkey.kill()
    for _ in range(50):
        assert (await cache.find(SHOW_ID, None)).is_away
        assert await cache.offer([offer(2)]) is None
        assert await cache.wanted([SHOW_ID]) is None
        await asyncio.sleep(0.002)
    [message] = said(caplog)
    assert "is away" in message
    assert valkey.url.split("@")[0].split(":")[-1] not in message, "the password is a secret"
    valkey.start()
    await comes_back(cache)
    assert await cache.offer([offer(3)]) == [True]
    assert await seq_found(cache) == 3
    assert len(said(caplog)) == 1
    assert caplog.records[-1].getMessage() == "the seat-map cache is back"


async def test_a_server_that_hangs_is_waited_for_once_and_then_by_nobody(
    valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ValkeySeatMapCache(valkey.url, timeout_ms=100, map_ttl_ms=LONG_MS, probe_every_ms=20)
    await cache.offer([offer(1)])
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        findings = await asyncio.gather(*(cache.find(SHOW_ID, None) for _ in range(300)))
        assert all(finding.is_away for finding in findings)
        # Were each of these to wait its tenth of a second, this would take half an hour.
        async with asyncio.timeout(60):
            for _ in range(20_000):
                assert (await cache.find(SHOW_ID, None)).is_away
        assert len(said(caplog)) == 1
    finally:
        os.kill(valkey.pid, signal.SIGCONT)
    await comes_back(cache)
    assert await seq_found(cache) == 1, "no answer to an earlier question is taken for this one's"
    assert await cache.offer([offer(2)]) == [True]
    await cache.close()


async def test_a_server_that_was_never_there_is_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for url in (f"unix://{tmp_path}/nobody", "redis://127.0.0.1:1/0"):
        cache = ValkeySeatMapCache(url, probe_every_ms=20)
        for _ in range(5):
            assert (await cache.find(SHOW_ID, None)).is_away
            await asyncio.sleep(0.05)
        await cache.close()
    assert len(said(caplog)) == 2


async def test_a_wrong_password_is_told_of_without_telling_it(
    valkey: EmbeddedValkey, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ValkeySeatMapCache(valkey.url.replace("unix://:", "unix://:wrong"))
    assert (await cache.find(SHOW_ID, None)).is_away
    [message] = said(caplog)
    assert "wrong" not in message.replace("WRONGPASS", "")
    await cache.close()


async def test_a_server_whose_memory_is_full_is_away_until_there_is_room(
    admin: Redis, cache: ValkeySeatMapCache, caplog: pytest.LogCaptureFixture
) -> None:
    assert await cache.offer([offer(1)]) == [True]
    await admin.config_set("maxmemory", "1mb")
    try:
        assert await cache.offer([offer(2)]) is None
        await asyncio.sleep(0.2)
        assert (await cache.find(SHOW_ID, None)).is_away, "it would not come to be wanted"
        assert len(said(caplog)) == 1
    finally:
        await admin.config_set("maxmemory", "256mb")
    await comes_back(cache)
    assert await cache.offer([offer(2)]) == [True]


async def test_a_server_that_forgot_the_scripts_is_given_them_again(
    admin: Redis, cache: ValkeySeatMapCache, caplog: pytest.LogCaptureFixture
) -> None:
    await cache.offer([offer(1)])
    await admin.script_flush()
    assert await seq_found(cache) == 1
    await admin.script_flush()
    assert await cache.offer([offer(2), offer(3)]) == [True, True]
    assert await seq_found(cache) == 3
    assert said(caplog) == []


async def test_a_server_that_forgot_everything_is_filled_again(
    admin: Redis, cache: ValkeySeatMapCache
) -> None:
    await cache.offer([offer(9)])
    await admin.flushall()
    finding = await cache.find(SHOW_ID, None)
    assert finding.image is None
    assert finding.should_fill
    assert await cache.offer([offer(9)]) == [True]


# -- what others put there ------------------------------------------------------------------------


def damaged(data: bytes) -> dict[str, bytes]:
    return {
        "nothing": b"",
        "a word": b"hello",
        "a piece": data[: len(data) // 2],
        "a byte too many": data + b"x",
        "another byte": data[:-1] + bytes([data[-1] ^ 1]),
        "another format": b"HFM9" + data[4:],
        "zeros": b"\0" * len(data),
    }


@pytest.mark.parametrize("kind", list(damaged(b"x")))
async def test_something_damaged_counts_as_nothing_and_is_replaced(
    admin: Redis, cache: ValkeySeatMapCache, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    written = damaged(offer(5).image.encode())[kind]
    await admin.set(KEY, written, px=LONG_MS)
    for turn in range(3):
        finding = await cache.find(SHOW_ID, None)
        assert finding.image is None
        assert not finding.is_away
        assert finding.should_fill or turn > 0
    assert len(said(caplog)) <= 1
    assert await cache.offer([offer(5)]) == [True]
    assert await seq_found(cache) == 5


async def test_something_of_another_kind_counts_as_nothing_and_is_replaced(
    admin: Redis, cache: ValkeySeatMapCache
) -> None:
    put: list[Any] = [admin.lpush(KEY, "a"), admin.hset(KEY, "a", "b"), admin.sadd(KEY, "a")]
    for number, work in enumerate(put):
        await admin.delete(KEY, f"{KEY}:filling")
        await work
        await admin.pexpire(KEY, LONG_MS)
        finding = await cache.find(SHOW_ID, None)
        assert finding.image is None
        assert finding.should_fill
        assert await cache.offer([offer(number)]) == [True]
        assert await seq_found(cache) == number


@pytest.mark.parametrize("expiry_ms", [None, 10 * LONG_MS])
async def test_an_image_that_would_stay_too_long_is_not_believed(
    admin: Redis, cache: ValkeySeatMapCache, expiry_ms: int | None
) -> None:
    await admin.set(KEY, offer(900).image.encode(), px=expiry_ms)
    assert await seq_found(cache) is None
    assert await cache.offer([offer(5)]) == [True]
    assert await seq_found(cache) == 5


async def test_an_image_of_another_show_counts_as_nothing(
    admin: Redis, cache: ValkeySeatMapCache
) -> None:
    other = image_of(derive_show_id("other"), 1, 5, SHAPE, bytearray(4), [])
    await admin.set(KEY, other.encode(), px=LONG_MS)
    assert await seq_found(cache) is None


async def test_marks_of_another_kind_do_no_harm(admin: Redis, cache: ValkeySeatMapCache) -> None:
    for name in ("wanted", "filling"):
        put: Any = admin.lpush(f"{KEY}:{name}", "a")
        await put
    assert (await cache.find(SHOW_ID, None)).image is None
    assert await cache.offer([offer(1)]) == [True]
    assert await seq_found(cache) == 1


async def test_everything_that_is_kept_ends_by_itself(
    admin: Redis, cache: ValkeySeatMapCache
) -> None:
    await cache.find(SHOW_ID, None)
    await cache.offer([offer(1)])
    await cache.find(SHOW_ID, None)
    keys = await admin.keys("*")
    assert keys
    for key in keys:
        assert 0 < await admin.pttl(key) <= LONG_MS, key


async def test_an_owner_that_was_suspended_for_a_minute_cannot_bring_its_map_back(
    valkey: EmbeddedValkey,
) -> None:
    """Nobody has looked meanwhile, so nothing newer is there to compare with."""
    cache = ValkeySeatMapCache(valkey.url, timeout_ms=PATIENT_MS)
    await cache.offer([offer(1)])
    before = offer(2)
    late = Offer(before.image, before.known_at_s - 60)
    await asyncio.sleep(1.1)
    assert await cache.offer([late]) == [False]
    assert await seq_found(cache) is None
    await cache.close()


async def test_a_clock_that_was_last_compared_long_ago_is_compared_again(
    cache: ValkeySeatMapCache,
) -> None:
    await cache.offer([offer(1)])
    told = cache._server_time
    assert told is not None
    # As after ten minutes in which the server's clock was set forward by ten more.
    cache._server_time = told._replace(
        at_ms=told.at_ms - 1_200_000, heard_at_s=told.heard_at_s - 600
    )
    assert await cache.offer([offer(2)]) == [True]
    assert await seq_found(cache) == 2
