"""Passwords: what is stored, what it costs, and who waits for whom."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import argon2
import pytest

from serve_app.access.hashing_process import HashingFailed
from serve_app.access.password_hasher import (
    PASSWORD_LENGTH_MAX,
    REFUSALS_SAID_EVERY_S,
    WAIT_MAX_S,
    PasswordHasher,
    TooManyPasswords,
    Verdict,
)

PASSWORD = "correct horse battery staple"

stops_processes = pytest.mark.skipif(
    sys.platform == "win32", reason="a process cannot be stopped and resumed here"
)


@pytest.fixture
async def hasher() -> AsyncIterator[PasswordHasher]:
    hasher = PasswordHasher(gives_way=False)
    yield hasher
    hasher.close()


def pid_of(hasher: PasswordHasher) -> int:
    pid = hasher._process.pid
    assert pid is not None
    return pid


@contextmanager
def stopped(hasher: PasswordHasher) -> Iterator[None]:
    """While nothing is computed."""
    pid = pid_of(hasher)
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def test_only_the_password_itself_is_right(hasher: PasswordHasher) -> None:
    stored = await hasher.hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.hash(PASSWORD) != stored, "salted"
    assert await hasher.verify(stored, PASSWORD) == Verdict(True)
    for wrong in ("", PASSWORD + " ", PASSWORD.upper(), stored, "\x00"):
        assert await hasher.verify(stored, wrong) == Verdict(False)


async def test_nobody_has_a_password_and_finding_out_costs_the_same(
    hasher: PasswordHasher,
) -> None:
    assert await hasher.verify(None, PASSWORD) == Verdict(False)
    assert await hasher.verify(None, "") == Verdict(False)
    real = argon2.extract_parameters(await hasher.hash(PASSWORD))
    assert argon2.extract_parameters(hasher._nobodys) == real
    other = PasswordHasher(gives_way=False)
    assert other._nobodys != hasher._nobodys
    other.close()


async def test_a_hash_of_old_parameters_is_replaced_when_its_password_is_shown(
    hasher: PasswordHasher,
) -> None:
    old = argon2.PasswordHasher(time_cost=1, memory_cost=8_192, parallelism=1).hash(PASSWORD)
    right, rehash = await hasher.verify(old, PASSWORD)
    assert right
    assert rehash is not None
    assert rehash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await hasher.verify(rehash, PASSWORD) == Verdict(True)
    assert await hasher.verify(old, "wrong") == Verdict(False)


async def test_a_password_is_the_same_on_every_keyboard(hasher: PasswordHasher) -> None:
    composed, decomposed, wide = (
        "Žluťoučký 1",
        "Z\u030clut\u030couc\u030cky\u0301 1",
        "Žluťoučký １",
    )
    stored = await hasher.hash(composed)
    for written in (composed, decomposed, wide):
        assert (await hasher.verify(stored, written)).is_right


async def test_a_password_has_at_most_128_characters(hasher: PasswordHasher) -> None:
    longest = "ř" * PASSWORD_LENGTH_MAX
    assert (await hasher.verify(await hasher.hash(longest), longest)).is_right
    for work in (hasher.hash(longest + "x"), hasher.verify(None, longest + "x")):
        with pytest.raises(ValueError, match="128 characters"):
            await work
    assert (await hasher.verify(await hasher.hash(longest), longest)).is_right


async def test_what_cannot_be_read_lets_nobody_in(hasher: PasswordHasher) -> None:
    for broken in ("", "plain", "$argon2id$v=19$m=19456,t=2,p=1$", "$2b$12$abcdefghijklmnopqrstuv"):
        assert await hasher.verify(broken, PASSWORD) == Verdict(False)
        assert await hasher.verify(broken, broken) == Verdict(False)


@stops_processes
async def test_who_comes_when_the_line_is_full_is_sent_away() -> None:
    hasher = PasswordHasher(waiting_max=2, gives_way=False)
    await hasher.start()
    with stopped(hasher):
        waiting = [asyncio.ensure_future(hasher.verify(None, PASSWORD)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyPasswords) as refused:
            await asyncio.wait_for(hasher.hash(PASSWORD), 20)
        assert refused.value.retry_after_ms >= 1_000
    assert await asyncio.gather(*waiting) == [Verdict(False)] * 3
    assert await hasher.verify(await hasher.hash(PASSWORD), PASSWORD) == Verdict(True)
    hasher.close()


@stops_processes
async def test_a_crowd_that_is_sent_away_is_one_line_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hasher = PasswordHasher(waiting_max=0, gives_way=False)
    await hasher.start()
    with stopped(hasher):
        waiting = asyncio.ensure_future(hasher.verify(None, PASSWORD))
        await asyncio.sleep(0)
        for _ in range(50):
            with pytest.raises(TooManyPasswords):
                await hasher.hash(PASSWORD)
        assert len(caplog.records) == 1
        hasher._refusals_said_at_s -= REFUSALS_SAID_EVERY_S
        with pytest.raises(TooManyPasswords):
            await hasher.hash(PASSWORD)
    assert [record.getMessage().rpartition(" ")[2] for record in caplog.records] == ["1", "50"]
    assert await waiting == Verdict(False)
    hasher.close()


@stops_processes
async def test_the_line_is_shorter_when_a_turn_takes_long(
    hasher: PasswordHasher,
) -> None:
    await hasher.verify(None, PASSWORD)
    with stopped(hasher):
        waiting = [asyncio.ensure_future(hasher.verify(None, PASSWORD)) for _ in range(3)]
        await asyncio.sleep(0)
        hasher._turn_s = WAIT_MAX_S / 2
        with pytest.raises(TooManyPasswords) as refused:
            await asyncio.wait_for(hasher.hash(PASSWORD), 20)
        assert refused.value.retry_after_ms == 3 * WAIT_MAX_S / 4 * 1_000
        waiting.pop().cancel()
        await asyncio.sleep(0)
        waiting.append(asyncio.ensure_future(hasher.verify(None, PASSWORD)))
    assert await asyncio.gather(*waiting) == [Verdict(False)] * 3
    assert 0 < hasher._turn_s < WAIT_MAX_S / 2, "turns are fast again"


async def test_whoever_comes_first_has_his_turn_first(hasher: PasswordHasher) -> None:
    ends: list[int] = []

    async def come(number: int) -> None:
        async with hasher.turn() as turn:
            await turn.verify(None, PASSWORD)
            ends.append(number)

    await asyncio.gather(*map(come, range(4)))
    assert ends == [0, 1, 2, 3]


@stops_processes
async def test_hanging_up_makes_no_room_for_more_work_than_is_allowed() -> None:
    hasher = PasswordHasher(waiting_max=0, gives_way=False)
    stored = await hasher.hash(PASSWORD)
    with stopped(hasher):
        first = asyncio.ensure_future(hasher.verify(stored, PASSWORD))
        await asyncio.sleep(0.01)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        with pytest.raises(TooManyPasswords):
            await asyncio.wait_for(hasher.hash(PASSWORD), 20)
    async with asyncio.timeout(20):
        while hasher._under_way:  # noqa: ASYNC110 - a process changes it.
            await asyncio.sleep(0.005)
    # The answer that nobody waited for was yes; it must not be taken for another's.
    assert await hasher.verify(stored, "wrong") == Verdict(False)
    hasher.close()


@stops_processes
async def test_those_who_hang_up_while_they_wait_cost_nothing() -> None:
    hasher = PasswordHasher(waiting_max=5, gives_way=False)
    await hasher.start()
    with stopped(hasher):
        waiting = [asyncio.ensure_future(hasher.verify(None, PASSWORD)) for _ in range(6)]
        await asyncio.sleep(0)
        for each in waiting[1:]:
            each.cancel()
        await asyncio.gather(*waiting[1:], return_exceptions=True)
        assert hasher._under_way == 1
    assert await waiting[0] == Verdict(False)
    hasher.close()


@stops_processes
async def test_a_process_that_dies_is_replaced_and_nobody_notices(
    hasher: PasswordHasher,
) -> None:
    stored = await hasher.hash(PASSWORD)
    first = pid_of(hasher)
    with stopped(hasher):
        asking = asyncio.ensure_future(hasher.verify(stored, PASSWORD))
        await asyncio.sleep(0.01)
        os.kill(first, signal.SIGKILL)
    assert await asking == Verdict(True)
    assert pid_of(hasher) != first


async def test_a_process_that_cannot_be_started_is_a_fault_and_tried_again(
    hasher: PasswordHasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        for _ in range(3):
            with pytest.raises(HashingFailed):
                await hasher.hash(PASSWORD)
    assert await hasher.verify(await hasher.hash(PASSWORD), PASSWORD) == Verdict(True)


@stops_processes
async def test_closing_ends_the_process_and_whoever_waits_is_told() -> None:
    hasher = PasswordHasher(gives_way=False)
    await hasher.start()
    pid = pid_of(hasher)
    os.kill(pid, signal.SIGSTOP)
    waiting = [asyncio.ensure_future(hasher.verify(None, PASSWORD)) for _ in range(3)]
    await asyncio.sleep(0.01)
    hasher.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in told] == [HashingFailed] * 3
    assert hasher._process.pid is None, "no other process was started"
