"""``verify`` and money: bookings and payments know each other, and the ledger adds up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from persistence.payments import Payments
from persistence.postgres_journal import PostgresJournal
from persistence.sessions import Connection, Pool, open_pool
from persistence.shards import ShardMap
from persistence.verification import Verdict, verify_shows
from reservation.checkout import Learned
from reservation.granting import learn_granted
from reservation.payment import CaptureMode, PaymentState
from reservation.refund_terms import RefundTerms
from reservation.refunds import RefundState
from tests.conftest import House
from tests.support.stored_payments import (
    AT_MS,
    BOB,
    SHOW,
    cancelled,
    hold_and_book,
    hold_of,
    moved,
    new_payment,
    paid,
    read,
    refund,
    with_refund,
)

AUTOMATIC = CaptureMode.AUTOMATIC


@pytest.fixture
async def pool(empty_house: House) -> AsyncIterator[Pool]:
    pool = await open_pool(empty_house.application_dsn, "tests", size_max=4)
    yield pool
    await pool.close()


@pytest.fixture
async def superuser(empty_house: House) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_house.superuser_dsn)
    # A corruption is something that no rule of the database has stopped.
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


@pytest.fixture
async def sold(empty_house: House, pool: Pool) -> list[str]:
    """Payments of everything: settled, paid back in part, cancelled and paid back, given up."""
    payments = Payments(pool)
    journal = PostgresJournal(empty_house.application_dsn, "tests")
    await journal.activate(SHOW)
    ids = [(await paid(payments, new_payment(n, mode=AUTOMATIC))).payment_id for n in range(4)]
    await hold_and_book(journal, [0, 1, 2], ids[:3])
    granted = learn_granted(before := await read(payments, ids[1]), 300, AT_MS)
    assert isinstance(granted, Learned)
    after = await payments.save(before, granted.checkout)
    assert after is not None
    await payments.save(after, with_refund(after, 1, RefundState.SUCCEEDED))
    await journal.append(SHOW.show_id, [cancelled(2, RefundTerms.FULL)])
    checkout = await moved(payments, ids[2], kept_minor=0, due_at_ms=None)
    await payments.save(checkout, refund(checkout, 1_000, RefundState.SUCCEEDED))
    checkout = await moved(payments, ids[3], state=PaymentState.REFUND_DUE)
    back = refund(checkout, 1_000, RefundState.SUCCEEDED)
    await payments.save(
        checkout, replace(back, payment=replace(back.payment, state=PaymentState.REFUNDED))
    )
    await journal.close()
    return list(ids)


async def verdict(pool: Pool) -> Verdict:
    (found,) = [v async for v in verify_shows([pool], ShardMap.even(("only",)), [SHOW.show_id])]
    return found


async def faults(pool: Pool) -> list[str]:
    return [fault.what for fault in (await verdict(pool)).faults]


async def corrupt(superuser: Connection, statement: str, *arguments: object) -> None:
    """Change exactly one row."""
    status = await superuser.execute(statement, *arguments)
    assert status.split()[-1] == "1", f"{status}: {statement}"


async def test_sound_money_has_no_fault(sold: list[str], pool: Pool) -> None:
    found = await verdict(pool)
    assert found.faults == []
    assert found.payments == 4


async def test_a_booking_whose_payment_is_gone_is_named(
    sold: list[str], pool: Pool, superuser: Connection
) -> None:
    await corrupt(superuser, "DELETE FROM payment WHERE payment_id = $1", sold[0])
    found = await faults(pool)
    assert any(what.endswith(f"is paid with {sold[0]}, which is not there") for what in found)
    assert f"ledger: {sold[0]}: has entries, and is no payment" in found


async def test_a_payment_whose_booking_is_gone_is_named(
    sold: list[str], pool: Pool, superuser: Connection
) -> None:
    await corrupt(superuser, "DELETE FROM booking WHERE hold_id = $1", hold_of(0))
    found = await faults(pool)
    assert f"{sold[0]} is settled by a booking that is not there" in found


async def test_a_booking_of_a_payment_that_was_paid_back_is_named(
    sold: list[str], pool: Pool, superuser: Connection
) -> None:
    await corrupt(
        superuser,
        "UPDATE payment SET state = 'refunded', booked_at_ms = NULL WHERE payment_id = $1",
        sold[0],
    )
    found = await faults(pool)
    assert any(what.endswith(f"is paid with {sold[0]}, which is refunded") for what in found)


async def test_a_cancellation_that_the_payment_does_not_know_of_is_named(
    sold: list[str], pool: Pool, superuser: Connection
) -> None:
    await corrupt(
        superuser,
        "UPDATE payment SET cancelled_at_ms = NULL, refund_terms = NULL WHERE payment_id = $1",
        sold[2],
    )
    found = await faults(pool)
    assert any("which was not cancelled with it" in what for what in found)


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("DELETE FROM ledger_entry WHERE number = 3", "the ledger has 4 where 3 should be"),
        ("UPDATE ledger_entry SET amount_minor = 999 WHERE number = 1", "captured_minor: 1000"),
        ("UPDATE payment SET captured_minor = 2000 WHERE payment_id = $1", "captured_minor: 2000"),
        ("UPDATE refund SET state = 'failed' WHERE payment_id = $1", "given_back_minor"),
    ],
)
async def test_a_ledger_that_does_not_add_up_is_told(
    sold: list[str], pool: Pool, superuser: Connection, statement: str, told: str
) -> None:
    await corrupt(superuser, statement, *([sold[1]] if "$1" in statement else []))
    assert any(told in what for what in await faults(pool))


async def test_money_of_another_customer_is_not_taken_for_a_booking(
    sold: list[str], pool: Pool, superuser: Connection
) -> None:
    payments = Payments(pool)
    other = await paid(payments, new_payment(9, customer=BOB, mode=AUTOMATIC))
    await corrupt(
        superuser,
        "UPDATE booking SET payment = $1 WHERE hold_id = $2",
        other.payment_id,
        hold_of(0),
    )
    found = await faults(pool)
    assert any(f"{other.payment_id}, which was used for another hold" in what for what in found)
    assert f"{sold[0]} is settled by a booking that is not there" in found
