"""The inbox: every notice once and for ever, and one worker at a time for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.sessions import Pool, open_pool
from persistence.shards import ShardMap
from persistence.webhook_inbox import (
    BODY_BYTES_MAX,
    WebhookInbox,
    WebhookNotice,
    WebhooksWaiting,
    inbox_of,
)
from reservation.ids import PaymentId, logical_shard_of, show_id_of
from tests.conftest import House
from tests.support.stored_payments import new_payment

LONG_MS = 600_000
PAYMENT_ID = new_payment(1).payment_id


def notice(key: str, provider: str = "stripe") -> WebhookNotice:
    return WebhookNotice(
        provider, key, "payment_intent.succeeded", "pi_1", PAYMENT_ID, 1_700_000_000_000, True
    )


@pytest.fixture
async def pool(empty_house: House) -> AsyncIterator[Pool]:
    pool = await open_pool(empty_house.application_dsn, "tests", size_max=6)
    yield pool
    await pool.close()


@pytest.fixture
def inbox(pool: Pool) -> WebhookInbox:
    return WebhookInbox(pool)


async def keys(inbox: WebhookInbox, limit: int = 100, lease_ms: int = LONG_MS) -> list[str]:
    return [each.notice.event_key for each in await inbox.take_unprocessed(limit, lease_ms)]


async def test_a_notice_comes_back_as_it_was_received(inbox: WebhookInbox) -> None:
    bare = WebhookNotice("razorpay", "k", "payment.failed", None, None, None, False)
    body = b'{"id": "evt_1", "\xff\x00": 1}'
    assert await inbox.receive(notice("evt_1"), body)
    assert await inbox.receive(bare, b"")
    first, second = await inbox.take_unprocessed(9, LONG_MS)
    assert (first.notice, first.body, first.attempts) == (notice("evt_1"), body, 1)
    assert (second.notice, second.body) == (bare, b"")
    assert first.received_at_ms <= second.received_at_ms


async def test_of_many_deliveries_of_one_event_exactly_one_is_new(inbox: WebhookInbox) -> None:
    news = await asyncio.gather(*(inbox.receive(notice("evt_1"), b"%d" % n) for n in range(8)))
    assert sorted(news) == [False] * 7 + [True]
    assert await inbox.receive(notice("evt_1", "razorpay"), b"")
    assert len(await keys(inbox)) == 2


async def test_a_notice_that_was_worked_on_is_still_known_when_it_is_sent_again(
    inbox: WebhookInbox,
) -> None:
    assert await inbox.receive(notice("evt_1"), b"")
    assert await keys(inbox) == ["evt_1"]
    assert await inbox.processed("stripe", "evt_1")
    assert not await inbox.processed("stripe", "evt_1")
    assert not await inbox.processed("stripe", "evt_unknown")
    assert not await inbox.receive(notice("evt_1"), b"")
    assert await keys(inbox) == []


async def test_two_workers_never_have_one_notice(inbox: WebhookInbox) -> None:
    for number in range(20):
        await inbox.receive(notice(f"evt_{number}"), b"")
    taken = await asyncio.gather(*(keys(inbox, 6) for _ in range(5)))
    flat = [key for each in taken for key in each]
    assert len(flat) == len(set(flat)) == 20


async def test_what_a_worker_did_not_finish_is_taken_again_the_oldest_first(
    inbox: WebhookInbox,
) -> None:
    for number in range(4):
        await inbox.receive(notice(f"evt_{number}"), b"")
    assert await keys(inbox, 2, -1) == ["evt_0", "evt_1"]
    again = await inbox.take_unprocessed(3, LONG_MS)
    assert [(each.notice.event_key, each.attempts) for each in again] == [
        ("evt_0", 2),
        ("evt_1", 2),
        ("evt_2", 1),
    ]


async def test_it_says_how_many_notices_wait_and_for_how_long(inbox: WebhookInbox) -> None:
    assert await inbox.waiting() == WebhooksWaiting(0, None)
    for number in range(3):
        await inbox.receive(notice(f"evt_{number}"), b"")
    first = (await inbox.take_unprocessed(1, LONG_MS))[0]
    assert await inbox.waiting() == WebhooksWaiting(3, first.received_at_ms)
    for number in range(3):
        await inbox.processed("stripe", f"evt_{number}")
    assert await inbox.waiting() == WebhooksWaiting(0, None)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("event_key", ""),
        ("event_key", "x" * 256),
        ("provider_ref", "a\0b"),
        ("payment_id", "é"),
    ],
)
async def test_what_no_provider_sends_is_not_written_down(
    inbox: WebhookInbox, field: str, wrong: str
) -> None:
    with pytest.raises(ValueError, match=field):
        await inbox.receive(WebhookNotice(**{**notice("evt_1")._asdict(), field: wrong}), b"")
    with pytest.raises(ValueError, match="body"):
        await inbox.receive(notice("evt_1"), b"x" * (BODY_BYTES_MAX + 1))
    assert await inbox.receive(notice("evt_1"), b"x" * BODY_BYTES_MAX)


async def test_a_notice_cannot_be_changed_or_forgotten_by_the_application(
    pool: Pool, inbox: WebhookInbox
) -> None:
    await inbox.receive(notice("evt_1"), b"")
    for statement in (
        "DELETE FROM webhook_inbox",
        "UPDATE webhook_inbox SET body = ''",
        "TRUNCATE webhook_inbox",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


def test_a_notice_goes_to_the_database_of_its_payment_and_to_the_first_if_it_has_none() -> None:
    shard = logical_shard_of(show_id_of(PAYMENT_ID))
    assert shard > 0
    shards = ShardMap(("postgresql:///a", "postgresql:///b"), (0, shard))
    assert inbox_of(shards, notice("evt_1")) == 1
    for stranger in (None, PaymentId("pay_" + "!" * 32), PaymentId("")):
        assert inbox_of(shards, notice("evt_1")._replace(payment_id=stranger)) == 0
