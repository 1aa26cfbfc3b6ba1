"""What a process learns of keys and revocations, and what it does when nobody tells it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import pytest

from reservation.access import Principal
from reservation.faults import ShowUnavailable
from reservation.ids import SessionId
from serve_app.access import access_watch
from serve_app.access.access_tokens import (
    KeysUnknown,
    Refusal,
    TokenIssuer,
    TokenRefused,
    TokenVerifier,
)
from serve_app.access.access_watch import AccessWatch, watching
from serve_app.access.key_ring import PublicKey, SigningKey, new_signing_key
from tests.support.access import principal_named

ANN = principal_named("ann")


class FakeReader:
    """An accounts database in memory that can be away."""

    def __init__(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.revoked: list[SessionId] = []
        self.fault: Exception | None = None
        self.key_reads = 0
        self.cursors: list[int] = []

    async def list_public_keys(self) -> Sequence[PublicKey]:
        self.key_reads += 1
        if self.fault is not None:
            raise self.fault
        return [key.public for key in self.keys]

    async def revoked_since(self, cursor: int) -> tuple[int, Sequence[SessionId]]:
        self.cursors.append(cursor)
        if self.fault is not None:
            raise self.fault
        return len(self.revoked), self.revoked[cursor:]


@pytest.fixture
def key() -> SigningKey:
    return new_signing_key()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_watch, "KEYS_AGAIN_AFTER_S", 0.02)
    monkeypatch.setattr(access_watch, "REVOCATIONS_EVERY_S", 0.02)


def token_of(key: SigningKey, principal: Principal = ANN) -> bytes:
    return TokenIssuer([key]).issue(principal, int(time.time())).encode()


def verdict(verifier: TokenVerifier, token: bytes) -> str:
    """Who it is, or why not."""
    try:
        return verifier.verify(token, time.time()).account_id
    except TokenRefused as refused:
        return refused.reason.value
    except KeysUnknown:
        return "keys unknown"


async def eventually(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - many things are waited for in this way.
            await asyncio.sleep(0.005)


async def until(verifier: TokenVerifier, token: bytes, wanted: str) -> None:
    await eventually(lambda: verdict(verifier, token) == wanted)


@pytest.fixture
def verifier() -> TokenVerifier:
    return TokenVerifier()


async def test_a_process_learns_keys_and_then_revocations(
    verifier: TokenVerifier, key: SigningKey
) -> None:
    reader, token = FakeReader(key), token_of(key)
    assert verdict(verifier, token) == "keys unknown"
    async with watching(reader, verifier):
        await until(verifier, token, ANN.account_id)
        reader.revoked.append(ANN.session_id)
        await until(verifier, token, Refusal.REVOKED)


async def test_a_database_that_is_away_changes_nothing_and_is_said_once(
    verifier: TokenVerifier, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    reader, token = FakeReader(key), token_of(key)
    reader.revoked.append(principal_named("bob").session_id)
    with caplog.at_level(logging.INFO, access_watch.__name__):
        async with watching(reader, verifier):
            await until(verifier, token, ANN.account_id)
            await eventually(lambda: reader.cursors[-1] == 1)
            reader.fault = ShowUnavailable("away")
            seen = len(reader.cursors)
            await eventually(lambda: len(reader.cursors) >= seen + 3)
            assert verdict(verifier, token) == ANN.account_id
            reader.revoked.append(ANN.session_id)
            reader.fault = None
            await until(verifier, token, Refusal.REVOKED)
    # A fault may have hidden what the cursor has passed: everything is asked for again.
    assert reader.cursors[seen + 1 : seen + 3] == [0, 0]
    ours = [record.levelname for record in caplog.records if record.name == access_watch.__name__]
    assert ours == ["WARNING", "INFO"]


async def test_a_process_that_starts_before_its_database_waits_and_lets_nobody_in(
    verifier: TokenVerifier, key: SigningKey
) -> None:
    reader, token = FakeReader(key), token_of(key)
    reader.fault = ShowUnavailable("away")
    async with watching(reader, verifier):
        await eventually(lambda: reader.key_reads >= 3)
        assert verdict(verifier, token) == "keys unknown"
        assert verdict(verifier, b"nonsense") == "keys unknown"
        reader.fault = None
        await until(verifier, token, ANN.account_id)


async def test_a_house_without_a_key_is_silent_until_it_has_one(
    verifier: TokenVerifier, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    reader = FakeReader()
    async with watching(reader, verifier):
        await eventually(lambda: reader.key_reads >= 3)
        reader.keys.append(key)
        await until(verifier, token_of(key), ANN.account_id)
        reader.keys.clear()
        seen = reader.key_reads
        verifier.met_unknown_key.set()
        await eventually(lambda: reader.key_reads != seen)
        assert verdict(verifier, token_of(key)) == ANN.account_id, "the known keys stay"
    assert not [record for record in caplog.records if record.name == access_watch.__name__]


async def test_a_key_that_nobody_knows_yet_is_looked_for_at_once(
    verifier: TokenVerifier, key: SigningKey
) -> None:
    reader, new = FakeReader(key), new_signing_key()
    async with watching(reader, verifier):
        await until(verifier, token_of(key), ANN.account_id)
        reader.keys.append(new)
        # Nothing but the token itself tells the process before half a minute has passed.
        assert verdict(verifier, token_of(new)) == Refusal.UNKNOWN_KEY
        await until(verifier, token_of(new), ANN.account_id)
        assert verdict(verifier, token_of(key)) == ANN.account_id


async def test_a_flood_of_unknown_keys_reads_the_database_once(
    verifier: TokenVerifier, key: SigningKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_watch, "KEYS_AGAIN_AFTER_S", 0.5)
    reader, strangers = FakeReader(key), token_of(new_signing_key())
    async with watching(reader, verifier):
        await until(verifier, token_of(key), ANN.account_id)
        assert reader.key_reads == 1
        for _ in range(1_000):
            assert verdict(verifier, strangers) == Refusal.UNKNOWN_KEY
        await asyncio.sleep(0)
        assert reader.key_reads == 1, "not twice in so short a time"
        await eventually(lambda: reader.key_reads != 1)
        await asyncio.sleep(0.1)
        assert reader.key_reads == 2
        assert not verifier.met_unknown_key.is_set()


async def test_a_bug_in_reading_is_logged_and_reading_goes_on(
    verifier: TokenVerifier, key: SigningKey, caplog: pytest.LogCaptureFixture
) -> None:
    reader = FakeReader(key)
    reader.fault = KeyError("column")
    async with watching(reader, verifier):
        await eventually(lambda: reader.key_reads >= 2)
        reader.fault = None
        await until(verifier, token_of(key), ANN.account_id)
    assert "bug: keys and revocations could not be read" in caplog.text


async def test_the_first_reading_can_be_waited_for(
    verifier: TokenVerifier, key: SigningKey
) -> None:
    watch = AccessWatch(FakeReader(key), verifier)
    assert await watch.refresh_keys()
    with pytest.raises(KeysUnknown):
        verifier.check_informed()
    assert await watch.refresh_revocations()
    verifier.check_informed()
