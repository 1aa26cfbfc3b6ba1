"""Channels: who sells a tenant's seats besides its own box office, and the keys they show.

Which seats are allocated to a channel is known by each show's actor. Here is who the channel is.
An access key is stored as its SHA-256 only; it is random and long, so nothing slower is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import asyncpg

from persistence.organiser_rows import (
    Page,
    Place,
    Put,
    PutStatements,
    checked_name,
    digest_of,
    find_row,
    key_of_name,
    list_rows,
    put_change,
    put_new,
)
from persistence.queries import load_queries
from persistence.sessions import Pool, reading
from reservation.ids import ChannelId, TenantId

_QUERIES = load_queries("organisers.sql")
_DIGEST_BYTES = 32


class ChannelDraft(NamedTuple):
    """What an organiser says of a channel."""

    name: str


@dataclass(frozen=True, slots=True)
class ChannelRow:
    """One channel; nothing can be held through a closed one."""

    channel_id: ChannelId
    tenant_id: TenantId
    name: str
    is_open: bool
    version: int
    created_at_ms: int
    updated_at_ms: int


def _row_of(record: asyncpg.Record) -> ChannelRow:
    return ChannelRow(
        ChannelId(record["channel_id"]),
        TenantId(record["tenant_id"]),
        record["name"],
        record["is_open"],
        record["version"],
        record["created_at_ms"],
        record["updated_at_ms"],
    )


_CHANNEL = PutStatements(
    _QUERIES["insert_channel"],
    _QUERIES["find_channel"],
    _QUERIES["update_channel"],
    _QUERIES["list_channels"],
    "channel_id",
    _row_of,
)


class Channels:
    """Makes, finds and changes channels. The names of one tenant's channels differ.

    Raises:
        ValueError: from the writing methods, a field that cannot be stored; the message begins
            with its name.
        Fault: from every method, when the database is away.

    Args:
        pool: stays the caller's, with the rights of ``housefull_organiser``; ``find_by_key``
            needs those of ``housefull_application`` only.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def create(
        self, tenant_id: TenantId, channel_id: ChannelId, draft: ChannelDraft, key_sha256: bytes
    ) -> Put[ChannelRow]:
        """A new, open channel.

        A repeated request does not bring another key into force, so its maker may have lost the
        first one with the answer: then ``replace_key``.
        """
        digest = digest_of(*draft)
        columns = (*_columns(draft), _checked_digest(key_sha256))
        return await put_new(self._pool, _CHANNEL, tenant_id, channel_id, digest, *columns)

    async def find(self, tenant_id: TenantId, channel_id: ChannelId) -> ChannelRow | None:
        """The channel; None when the tenant has none with this id."""
        return await find_row(self._pool, _CHANNEL, tenant_id, channel_id)

    async def find_by_key(self, key_sha256: bytes) -> ChannelRow | None:
        """The channel whose access key has this SHA-256, open or closed; None for no channel's."""
        async with reading(self._pool) as connection:
            record = await connection.fetchrow(
                _QUERIES["find_channel_by_key"], _checked_digest(key_sha256)
            )
        return None if record is None else _row_of(record)

    async def list(
        self, tenant_id: TenantId, limit: int = 50, after: Place | None = None
    ) -> Page[ChannelRow]:
        """The tenant's channels, the newest first."""
        return await list_rows(self._pool, _CHANNEL, tenant_id, limit, after)

    async def update(
        self,
        tenant_id: TenantId,
        channel_id: ChannelId,
        draft: ChannelDraft,
        expected_version: int | None = None,
    ) -> Put[ChannelRow]:
        """Another name."""
        return await put_change(
            self._pool, _CHANNEL, tenant_id, channel_id, expected_version, *_columns(draft)
        )

    async def set_open(
        self,
        tenant_id: TenantId,
        channel_id: ChannelId,
        is_open: bool,
        expected_version: int | None = None,
    ) -> Put[ChannelRow]:
        """Open or close the channel. Its seats are put back on sale by the shows' actors."""
        return await put_change(
            self._pool,
            _CHANNEL,
            tenant_id,
            channel_id,
            expected_version,
            is_open,
            update=_QUERIES["set_channel_open"],
        )

    async def replace_key(
        self,
        tenant_id: TenantId,
        channel_id: ChannelId,
        key_sha256: bytes,
        expected_version: int | None = None,
    ) -> Put[ChannelRow]:
        """Another access key; the one before opens nothing from now on."""
        return await put_change(
            self._pool,
            _CHANNEL,
            tenant_id,
            channel_id,
            expected_version,
            _checked_digest(key_sha256),
            update=_QUERIES["replace_channel_key"],
        )


def _columns(draft: ChannelDraft) -> tuple[str, str]:
    name = checked_name("name", draft.name)
    return name, key_of_name(name)


def _checked_digest(key_sha256: bytes) -> bytes:
    assert len(key_sha256) == _DIGEST_BYTES, "a SHA-256 has 32 bytes"
    return key_sha256
