"""Which channel an access key opens, and how often the database is asked."""

from __future__ import annotations

import asyncio
import hashlib
from typing import NamedTuple

import pytest

from reservation.access import HOUSE_TENANT
from reservation.ids import ChannelId, TenantId
from serve_app.api import channel_keys
from serve_app.api.channel_keys import KEYS_REMEMBERED_MAX, ChannelKeys
from tests.support.access import OTHER_TENANT

CLUB = ChannelId("chn_" + "0" * 20)


class FakeChannel(NamedTuple):
    """A channel of the house."""

    channel_id: ChannelId = CLUB
    tenant_id: TenantId = HOUSE_TENANT
    is_open: bool = True


class FakeChannels:
    """Channels by the digests of their keys; counts who asks."""

    def __init__(self, **channels: FakeChannel) -> None:
        self.by_digest = {
            hashlib.sha256(key.encode()).digest(): channel for key, channel in channels.items()
        }
        self.reads = 0

    async def find_by_key(self, key_sha256: bytes) -> FakeChannel | None:
        self.reads += 1
        await asyncio.sleep(0)
        return self.by_digest.get(key_sha256)


async def test_a_key_opens_an_open_channel_of_its_own_house() -> None:
    channels = FakeChannels(club=FakeChannel(), shut=FakeChannel(is_open=False))
    keys = ChannelKeys(channels)
    assert await keys.channel_of("club", HOUSE_TENANT) == CLUB
    assert await keys.channel_of("club", OTHER_TENANT) is None
    assert await keys.channel_of("shut", HOUSE_TENANT) is None
    assert await keys.channel_of("wrong", HOUSE_TENANT) is None


async def test_keys_right_and_wrong_are_remembered_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channels = FakeChannels(club=FakeChannel())
    keys = ChannelKeys(channels)
    for _ in range(3):
        await asyncio.gather(*(keys.channel_of("club", HOUSE_TENANT) for _ in range(50)))
        await asyncio.gather(*(keys.channel_of("wrong", HOUSE_TENANT) for _ in range(50)))
    # Two at most of each, because whoever asks is not told what was read before.
    assert channels.reads <= 4
    channels.by_digest.clear()
    monkeypatch.setattr(channel_keys, "FRESH_S", 0.0)
    assert await keys.channel_of("club", HOUSE_TENANT) is None


async def test_only_so_many_keys_are_remembered() -> None:
    channels = FakeChannels(club=FakeChannel())
    keys = ChannelKeys(channels)
    for number in range(KEYS_REMEMBERED_MAX + 50):
        await keys.channel_of(f"guess {number}", HOUSE_TENANT)
    assert len(keys._known) == KEYS_REMEMBERED_MAX
