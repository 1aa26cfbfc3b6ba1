"""What payment providers told us, written down before anybody thinks about it.

Whoever receives a webhook has verified it, writes it down here and answers. In the same transaction
its payment is woken: a notice is a reason to look at a payment, never a fact. One that does not
name its payment, or names one that is not here, waits for a worker of the database. Rows stay for
ever, because some providers do not sign the time: the same notice may be sent again after years, by
anybody who has seen it once, and must then find that it was here before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from persistence.queries import load_queries
from persistence.sessions import Pool, reading, writing
from persistence.shards import ShardMap
from persistence.together import Together
from reservation.ids import PaymentId, is_payment_id, show_id_of
from reservation.provider_view import ProviderState

_QUERIES = load_queries("webhooks.sql")

TAKEN_AT_ONCE_MAX = 1_000
BODY_BYTES_MAX = 256 * 1024

_REFERENCE_LENGTH_MAX = 255


class WebhookNotice(NamedTuple):
    """A verified notice of a provider.

    Shapes:
        event_key: equal for every delivery of one event.
        kind: the provider's own name of what happened.
        provider_ref, payment_id: as far as the body tells.
        sent_at_ms: when the provider says that it happened; None when it does not.
        tells: how far the payment is by such a notice; a payment that is known to be that far is
            not woken. None when it may be about anything.
    """

    provider: str
    event_key: str
    kind: str
    provider_ref: str | None
    payment_id: PaymentId | None
    sent_at_ms: int | None
    is_live: bool
    tells: ProviderState | None = None


class InboxRow(NamedTuple):
    """A notice that waits; ``attempts`` counts how often it was taken, this time included."""

    notice: WebhookNotice
    body: bytes
    received_at_ms: int
    attempts: int


class WebhooksWaiting(NamedTuple):
    """How many notices wait, and since when the oldest one does."""

    notice_count: int
    oldest_at_ms: int | None


def inbox_of(shards: ShardMap, notice: WebhookNotice) -> int:
    """The position of the database that a notice is written to.

    That of its payment; the first one, when it names none of ours.
    """
    if notice.payment_id is None or not is_payment_id(notice.payment_id):
        return 0
    return shards.database_of(show_id_of(notice.payment_id))


class WebhookInbox:
    """The inbox of one database.

    Raises:
        ShowUnavailable: from every method, when the database cannot be reached; nothing changed.
        OutcomeUnknown: from the writing methods, when it went away in the middle; repeat it.

    Args:
        pool: stays the caller's, with the rights of ``housefull_application``.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._receipts = Together(self._receive_all)

    async def receive(self, notice: WebhookNotice, body: bytes) -> bool:
        """Write a notice down; False when it was here before.

        Raises:
            ValueError: it is longer than any that means something.
        """
        if len(body) > BODY_BYTES_MAX:
            raise ValueError(f"body: more than {BODY_BYTES_MAX} bytes")
        for name in ("event_key", "provider_ref", "payment_id"):
            text = getattr(notice, name)
            if text is not None and not _is_reference(text):
                raise ValueError(f"{name}: not 1 to {_REFERENCE_LENGTH_MAX} ASCII characters")
        return await self._receipts((notice, body))

    async def take_unprocessed(self, limit: int, lease_ms: int) -> list[InboxRow]:
        """Take notices that nobody has worked on, the oldest first; nobody else gets them so long.

        One that is not ``processed`` by then is taken again.
        """
        assert 1 <= limit <= TAKEN_AT_ONCE_MAX, "so many notices at once"
        async with writing(self._pool) as connection:
            rows = await connection.fetch(_QUERIES["take_webhooks"], limit, lease_ms)
        return [
            InboxRow(
                WebhookNotice(
                    row["provider"],
                    row["event_key"],
                    row["kind"],
                    row["provider_ref"],
                    row["payment_id"],
                    row["sent_at_ms"],
                    row["is_live"],
                ),
                row["body"],
                row["received_at_ms"],
                row["attempts"],
            )
            for row in rows
        ]

    async def processed(self, provider: str, event_key: str) -> bool:
        """A notice needs no more work; False when it is not here, or needed none any more."""
        async with writing(self._pool) as connection:
            is_done: bool = await connection.fetchval(
                _QUERIES["finish_webhook"], provider, event_key
            )
        return is_done

    async def _receive_all(self, told: Sequence[tuple[WebhookNotice, bytes]]) -> list[bool]:
        notices = [{"n": n, **notice._asdict()} for n, (notice, _) in enumerate(told, 1)]
        bodies = [body for _, body in told]
        async with writing(self._pool) as connection:
            rows = await connection.fetch(
                _QUERIES["receive_webhooks"], orjson.dumps(notices).decode(), bodies
            )
        return [row[0] for row in rows]

    async def waiting(self) -> WebhooksWaiting:
        """How many notices wait for a worker."""
        async with reading(self._pool) as connection:
            row = await connection.fetchrow(_QUERIES["count_unprocessed_webhooks"])
        assert row is not None, "a count without groups is one row"
        return WebhooksWaiting(*row)


def _is_reference(text: str) -> bool:
    return 1 <= len(text) <= _REFERENCE_LENGTH_MAX and text.isascii() and text.isprintable()
