"""Passwords: what is stored, what it costs, and who waits for whom."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import argon2
import pytest

from serve_app.access.password_hasher import (
    PASSWORD_LENGTH_MAX,
    PasswordHasher,
    TooManyPasswords,
    Verdict,
)

PASSWORD = "correct horse battery staple"


@pytest.fixture
async def hasher() -> AsyncIterator[PasswordHasher]:
    hasher = PasswordHasher()
    yield hasher
    hasher.close()


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
    other = PasswordHasher()
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


async def test_what_cannot_be_read_lets_nobody_in(hasher: PasswordHasher) -> None:
    for broken in ("", "plain", "$argon2id$v=19$m=19456,t=2,p=1$", "$2b$12$abcdefghijklmnopqrstuv"):
        assert await hasher.verify(broken, PASSWORD) == Verdict(False)
        assert await hasher.verify(broken, broken) == Verdict(False)


async def test_who_comes_when_the_line_is_full_is_sent_away() -> None:
    hasher = PasswordHasher(workers=1, waiting_max=2)
    gate = threading.Event()
    hasher._threads.submit(gate.wait)
    waiting = [asyncio.ensure_future(hasher.verify(None, PASSWORD)) for _ in range(3)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(TooManyPasswords) as refused:
            await asyncio.wait_for(hasher.hash(PASSWORD), 20)
        assert refused.value.retry_after_ms >= 1_000
    finally:
        gate.set()
    assert await asyncio.gather(*waiting) == [Verdict(False)] * 3
    assert await hasher.verify(await hasher.hash(PASSWORD), PASSWORD) == Verdict(True)
    hasher.close()


async def test_hanging_up_makes_no_room_for_more_work_than_is_allowed() -> None:
    hasher = PasswordHasher(workers=1, waiting_max=0)
    begun, gate = threading.Event(), threading.Event()

    def slow_hash(password: str) -> str:
        begun.set()
        gate.wait()
        return password

    slow: Any = SimpleNamespace(hash=slow_hash)
    hasher._argon2 = slow
    first = asyncio.ensure_future(hasher.hash(PASSWORD))
    await asyncio.to_thread(begun.wait)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    try:
        with pytest.raises(TooManyPasswords):
            await asyncio.wait_for(hasher.hash(PASSWORD), 20)
    finally:
        gate.set()
    async with asyncio.timeout(20):
        while hasher._under_way:  # noqa: ASYNC110 - a thread changes it.
            await asyncio.sleep(0.005)
    assert await hasher.hash(PASSWORD) == PASSWORD
    hasher.close()


async def test_those_who_hang_up_while_they_wait_cost_nothing() -> None:
    hasher = PasswordHasher(workers=1, waiting_max=5)
    gate = threading.Event()
    hasher._threads.submit(gate.wait)
    waiting = [asyncio.ensure_future(hasher.verify(None, PASSWORD)) for _ in range(5)]
    await asyncio.sleep(0)
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert hasher._under_way == 0
    gate.set()
    hasher.close()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities on Linux only")
async def test_the_threads_of_passwords_give_way_to_everything_else(
    hasher: PasswordHasher,
) -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert await asyncio.wrap_future(hasher._threads.submit(priority)) == 19
    assert priority() < 19
