"""Nothing that asks Postgres waits for ever: a silent line is given up, and with it its like.

The journal's own lines are in ``tests/integration/test_postgres_journal.py``.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from persistence import sessions, timed_connection
from persistence.catalogue import Catalogue
from persistence.sessions import Pool, open_pool, reading, writing
from persistence.timed_connection import TimedConnection
from reservation.faults import OutcomeUnknown, ShowUnavailable
from reservation.ids import derive_show_id
from tests.conftest import House
from tests.support.lossy_proxy import LossyProxy

LIVENESS_S = 30.0
SOON_S = 0.5
NOBODYS = derive_show_id("nobody's")

Silence = Callable[[LossyProxy], None]
silences = pytest.mark.parametrize(
    "silence", [LossyProxy.freeze_lines, LossyProxy.abandon_lines], ids=["frozen", "half open"]
)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TimedConnection, "answer_within_s", SOON_S)


@pytest.fixture
async def line(empty_house: House) -> AsyncIterator[LossyProxy]:
    with tempfile.TemporaryDirectory(prefix="line") as directory:
        async with LossyProxy(empty_house.application_dsn, Path(directory)).running() as proxy:
            yield proxy


@pytest.fixture
async def pool(line: LossyProxy) -> AsyncIterator[Pool]:
    pool = await open_pool(line.dsn, "test", size_max=3)
    yield pool
    pool.terminate()


async def open_all(pool: Pool) -> None:
    """Let every connection of the pool be there."""
    async with pool.acquire(), pool.acquire(), pool.acquire():
        pass


@silences
async def test_a_reader_is_told_once_and_the_other_silent_lines_of_its_pool_are_not_tried(
    line: LossyProxy, pool: Pool, silence: Silence
) -> None:
    catalogue = Catalogue(pool)
    await open_all(pool)
    silence(line)
    async with asyncio.timeout(LIVENESS_S):
        with pytest.raises(ShowUnavailable):
            await catalogue.load_show(NOBODYS)
        for _ in range(3):
            assert await catalogue.load_show(NOBODYS) is None


async def test_silent_lines_do_not_stay_open(
    line: LossyProxy, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_connection, "CLOSE_WITHIN_S", SOON_S)
    ended: list[object] = []
    async with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:
        for connection in (one, two, three):
            connection.add_termination_listener(ended.append)
    line.freeze_lines()
    catalogue = Catalogue(pool)
    async with asyncio.timeout(LIVENESS_S):
        with pytest.raises(ShowUnavailable):
            await catalogue.load_show(NOBODYS)
        await open_all(pool)
        while len(ended) < 3:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.01)


async def test_who_hangs_up_on_a_silent_line_does_not_keep_its_connection(
    line: LossyProxy, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "CLOSE_WITHIN_S", SOON_S)
    monkeypatch.setattr(TimedConnection, "answer_within_s", 2 * LIVENESS_S)
    catalogue = Catalogue(pool)
    await open_all(pool)
    line.freeze_lines()
    hanging_up = [asyncio.ensure_future(catalogue.load_show(NOBODYS)) for _ in range(3)]
    await asyncio.sleep(0.05)
    for each in hanging_up:
        each.cancel()
    _, under_way = await asyncio.wait(hanging_up, timeout=LIVENESS_S)
    assert not under_way
    async with asyncio.timeout(LIVENESS_S):
        assert await catalogue.load_show(NOBODYS) is None


async def test_a_connection_that_is_given_back_over_a_silent_line_keeps_nobody(
    line: LossyProxy, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "CLOSE_WITHIN_S", SOON_S)
    async with asyncio.timeout(LIVENESS_S):
        async with reading(pool) as connection:
            await connection.fetchval("SELECT 1")
            line.freeze_lines()
            # As when others find out meanwhile what has become of the pool's lines.
            await pool.expire_connections()
        async with reading(pool) as connection:
            assert await connection.fetchval("SELECT 2") == 2


@silences
async def test_a_writer_is_told_that_nobody_knows(
    line: LossyProxy, pool: Pool, silence: Silence
) -> None:
    async def write() -> None:
        async with writing(pool) as connection, connection.transaction():
            await connection.fetchval("SELECT 1")
            silence(line)
            await connection.execute("SELECT 2")

    await open_all(pool)
    async with asyncio.timeout(LIVENESS_S):
        with pytest.raises(OutcomeUnknown):
            await write()
        async with writing(pool) as connection:
            assert await connection.fetchval("SELECT 3") == 3


async def test_all_who_ask_at_once_over_silent_lines_are_told(line: LossyProxy, pool: Pool) -> None:
    catalogue = Catalogue(pool)
    await open_all(pool)
    line.freeze_lines()
    async with asyncio.timeout(LIVENESS_S):
        told = await asyncio.gather(
            *(catalogue.load_show(NOBODYS) for _ in range(20)), return_exceptions=True
        )
        # Whoever came after the first three met new lines.
        refused = [each for each in told if isinstance(each, ShowUnavailable)]
        assert 1 <= len(refused) <= 3
        assert told.count(None) == 20 - len(refused)
        assert await catalogue.load_show(NOBODYS) is None


async def test_a_line_that_is_only_slow_is_not_given_up(line: LossyProxy, pool: Pool) -> None:
    async with reading(pool) as connection:
        before = await connection.fetchval("SELECT pg_backend_pid()")
    line.delay_s = SOON_S / 5
    async with reading(pool) as connection, connection.transaction(readonly=True):
        for _ in range(8):
            await connection.fetchrow("SELECT 1")
        assert await connection.fetchval("SELECT pg_backend_pid()") == before


async def test_a_request_that_may_take_longer_says_so(pool: Pool) -> None:
    slow = f"SELECT pg_sleep({SOON_S * 2})"
    async with asyncio.timeout(LIVENESS_S):
        async with writing(pool) as connection:
            await connection.execute(slow, timeout=LIVENESS_S)
            await connection.fetchval(slow, timeout=LIVENESS_S)
        with pytest.raises(ShowUnavailable):
            async with reading(pool) as connection:
                await connection.fetch(slow)


async def test_a_pool_may_be_more_patient_than_others(line: LossyProxy) -> None:
    pool = await open_pool(line.dsn, "patient", size_max=1, answer_within_s=LIVENESS_S)
    async with asyncio.timeout(LIVENESS_S), reading(pool) as connection:
        await connection.execute(f"SELECT pg_sleep({SOON_S * 2})")
    await pool.close()


async def test_nobody_waits_for_ever_for_a_connection_that_others_have(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "FREE_WITHIN_S", SOON_S)
    async with asyncio.timeout(LIVENESS_S):
        async with reading(pool), reading(pool), reading(pool):
            with pytest.raises(ShowUnavailable):
                async with writing(pool):
                    raise AssertionError("there is a fourth connection")
        async with reading(pool) as connection:
            assert await connection.fetchval("SELECT 1") == 1
