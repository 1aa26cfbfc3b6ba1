"""Which channel an access key opens: asked of the database, and remembered for a moment.

A key that opens nothing is remembered as well, so that trying one after the other reaches the
database no more often than trying the same one. Whether a channel has any of the seats that are
asked for is the show's to say; so is whether they are its own still, the moment that it is closed.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from typing import NamedTuple, Protocol

from reservation.ids import ChannelId, TenantId
from serve_app.api.shared_reads import SharedReads

FRESH_S = 2.0
KEYS_REMEMBERED_MAX = 1_000


class Channel(Protocol):
    """A row of ``ChannelReader.find_by_key``."""

    @property
    def channel_id(self) -> ChannelId: ...
    @property
    def tenant_id(self) -> TenantId: ...
    @property
    def is_open(self) -> bool: ...


class ChannelReader(Protocol):
    """The part of ``persistence.channels.Channels`` that is needed here."""

    async def find_by_key(self, key_sha256: bytes) -> Channel | None:
        """See ``Channels.find_by_key``."""
        ...


class _Known(NamedTuple):
    channel: Channel | None
    read_at_s: float


class ChannelKeys:
    """See the module's docstring. Belongs to one event loop."""

    def __init__(self, channels: ChannelReader) -> None:
        self._channels = channels
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._reads: SharedReads[bytes, Channel | None] = SharedReads(self._read)

    async def channel_of(self, access_key: str, tenant_id: TenantId) -> ChannelId | None:
        """The open channel of this tenant that the key opens; None when it opens none.

        Raises:
            Fault: the database is away.
        """
        digest = hashlib.sha256(access_key.encode()).digest()
        known = self._known.get(digest)
        if known is not None and _now_s() - known.read_at_s < FRESH_S:
            channel = known.channel
        else:
            channel = await self._reads.get(digest)
        if channel is None or not channel.is_open or channel.tenant_id != tenant_id:
            return None
        return channel.channel_id

    async def _read(self, digest: bytes) -> Channel | None:
        channel = await self._channels.find_by_key(digest)
        self._known[digest] = _Known(channel, _now_s())
        self._known.move_to_end(digest)
        if len(self._known) > KEYS_REMEMBERED_MAX:
            self._known.popitem(last=False)
        return channel


def _now_s() -> float:
    return asyncio.get_running_loop().time()
