"""The inbox: every notice once and for ever, and one worker at a time for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from persistence.payments import Payments
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
from reservation.payment import PaymentState
from reservation.provider_view import ProviderState
from tests.conftest import House
from tests.support.stored_payments import AMOUNT_MINOR, begun, moved, new_payment, paid, read

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


async def left(payments: Payments, payment_id: PaymentId = PAYMENT_ID) -> tuple[bool, int, int]:
    payment = (await read(payments, payment_id)).payment
    assert payment.due_at_ms is not None
    return payment.is_noticed, payment.due_at_ms, payment.version


async def test_a_notice_wakes_its_payment_and_then_needs_no_worker(
    pool: Pool, inbox: WebhookInbox
) -> None:
    payments = Payments(pool)
    await paid(payments, new_payment(1))
    await moved(payments, PAYMENT_ID, due_at_ms=1 << 50)
    assert await inbox.receive(notice("evt_1"), b"")
    is_noticed, due_at_ms, version = await left(payments)
    assert is_noticed
    assert due_at_ms < 1 << 50
    assert version == 3
    assert await inbox.waiting() == WebhooksWaiting(0, None)
    rested = await moved(payments, PAYMENT_ID, due_at_ms=1 << 50, is_noticed=False)
    assert not await inbox.receive(notice("evt_1"), b"")
    assert await read(payments, PAYMENT_ID) == rested, "it was played again"


async def test_many_notices_of_a_payment_at_once_wake_it_once(
    pool: Pool, inbox: WebhookInbox
) -> None:
    payments = Payments(pool)
    for number in (1, 2):
        await begun(payments, new_payment(number))
        await moved(payments, new_payment(number).payment_id, state=PaymentState.OPEN)
    other = new_payment(2).payment_id
    told = [notice(f"evt_{n}") for n in range(5)] + [notice("evt_6")._replace(payment_id=other)]
    news = await asyncio.gather(*(inbox.receive(each, b"") for each in [*told, *told]))
    assert news.count(True) == 6
    assert (await left(payments))[::2] == (True, 2)
    assert (await left(payments, other))[::2] == (True, 2)


async def test_of_a_payment_that_is_being_made_is_noted_that_there_is_news(
    pool: Pool, inbox: WebhookInbox
) -> None:
    # Its provider is being asked at this moment. Without its answer, only a search finds it there.
    payments = Payments(pool)
    await begun(payments, new_payment(1, due_at_ms=1 << 50))
    await inbox.receive(notice("evt_1"), b"")
    assert await left(payments) == (True, 1 << 50, 1)


AUTHORISED = {"state": PaymentState.AUTHORISED}
TAKEN = {"state": PaymentState.CAPTURED, "captured_minor": AMOUNT_MINOR}


@pytest.mark.parametrize(
    ("row", "tells", "is_woken"),
    [
        ({"state": PaymentState.OPEN}, ProviderState.AUTHORISED, True),
        ({"state": PaymentState.VOID_DUE}, ProviderState.AUTHORISED, True),
        (AUTHORISED, ProviderState.AUTHORISED, False),
        (AUTHORISED, ProviderState.CAPTURED, True),
        (AUTHORISED, None, True),
        (TAKEN, ProviderState.AUTHORISED, False),
        (TAKEN, ProviderState.CAPTURED, False),
        ({**TAKEN, "captured_minor": 1}, ProviderState.CAPTURED, True),
        (TAKEN, None, True),
    ],
)
async def test_a_notice_of_what_the_row_says_already_wakes_nobody(
    pool: Pool,
    inbox: WebhookInbox,
    row: dict[str, object],
    tells: ProviderState | None,
    is_woken: bool,
) -> None:
    payments = Payments(pool)
    await begun(payments, new_payment(1, due_at_ms=1 << 50))
    await moved(payments, PAYMENT_ID, **row)
    await inbox.receive(notice("evt_1")._replace(tells=tells), b"")
    is_noticed, due_at_ms, version = await left(payments)
    assert (is_noticed, due_at_ms < 1 << 50, version > 1) == (is_woken,) * 3
    assert await inbox.waiting() == WebhooksWaiting(0, None)


async def test_a_notice_that_the_database_refuses_does_not_take_others_with_it(
    inbox: WebhookInbox,
) -> None:
    told = [notice("evt_1"), notice("evt_2")._replace(kind=""), notice("evt_3")]
    news = await asyncio.gather(
        *(inbox.receive(each, b"") for each in told), return_exceptions=True
    )
    assert news[::2] == [True, True]
    assert isinstance(news[1], asyncpg.CheckViolationError)
    assert sorted(await keys(inbox)) == ["evt_1", "evt_3"]


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
