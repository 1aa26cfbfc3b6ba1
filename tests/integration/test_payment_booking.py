"""Bookings that are paid for: the booking and its payment are one transaction, or nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from persistence.journal import Journal
from persistence.payment_books import PaymentBooks
from persistence.payments import Payments
from persistence.postgres_journal import PostgresJournal
from persistence.refund_jobs import JobState, RefundJobs
from persistence.sessions import Connection, Pool, open_pool
from reservation.events import Event, HoldReleased, ShowCancelled
from reservation.faults import Diverged
from reservation.ids import PaymentId, is_payment_id
from reservation.ledger import EntryKind
from reservation.payment import CaptureMode, PaymentState
from reservation.refund_terms import RefundTerms
from tests.conftest import House
from tests.support.stored_payments import (
    AMOUNT_MINOR,
    AT_MS,
    BOB,
    OTHER,
    SHOW,
    booked,
    cancelled,
    held,
    hold_and_book,
    hold_of,
    moved,
    new_payment,
    paid,
    read,
)

AUTOMATIC = CaptureMode.AUTOMATIC


@pytest.fixture
async def pool(empty_house: House) -> AsyncIterator[Pool]:
    pool = await open_pool(empty_house.application_dsn, "tests", size_max=4)
    yield pool
    await pool.close()


@pytest.fixture
def payments(pool: Pool) -> Payments:
    return Payments(pool)


@pytest.fixture
async def journal(empty_house: House) -> AsyncIterator[Journal]:
    journal = PostgresJournal(empty_house.application_dsn, "tests")
    for show in (SHOW, OTHER):
        await journal.activate(show)
    yield journal
    await journal.close()


@pytest.fixture
async def superuser(empty_house: House) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_house.superuser_dsn)
    yield connection
    await connection.close()


async def everything(superuser: Connection) -> dict[str, list[Any]]:
    tables = ("hold", "booking", "payment", "ledger_entry", "ledger_end", "journal", "outbox")
    return {
        table: [tuple(row) for row in await superuser.fetch(f"SELECT * FROM {table} ORDER BY 1")]
        for table in tables
    }


async def kinds(pool: Pool) -> list[str]:
    return [entry.kind for _, entry in await PaymentBooks(pool).ledger(SHOW.show_id)]


@pytest.mark.parametrize("in_one_batch", [False, True])
@pytest.mark.parametrize(
    ("mode", "state"),
    [(CaptureMode.MANUAL, PaymentState.BOOKED), (AUTOMATIC, PaymentState.SETTLED)],
)
async def test_a_booking_makes_its_payment_booked_or_settled_and_due(
    pool: Pool,
    payments: Payments,
    journal: Journal,
    mode: CaptureMode,
    state: PaymentState,
    in_one_batch: bool,
) -> None:
    payment = await paid(payments, new_payment(1, mode=mode, due_at_ms=None))
    payment_id = payment.payment_id
    if in_one_batch:
        await journal.append(SHOW.show_id, [held(1), booked(1, payment_id)])
    else:
        await hold_and_book(journal, [1], [payment_id])
    now = (await read(payments, payment_id)).payment
    assert (now.state, now.booking_hold_id) == (state, hold_of(1))
    assert now.version > payment.version
    assert now.due_at_ms == now.state_at_ms == AT_MS + 5_000
    assert [each.payment for each in await payments.lease_due("worker", 9, 60_000)] == [
        (await read(payments, payment_id)).payment
    ]
    expected = ["captured", "booked"] if mode is AUTOMATIC else ["booked"]
    assert await kinds(pool) == expected


async def test_another_hold_of_the_same_customer_may_be_booked_when_the_first_one_ended(
    payments: Payments, journal: Journal
) -> None:
    payment = await paid(payments, new_payment(1))
    await journal.append(SHOW.show_id, [held(1), HoldReleased(hold_of(1), AT_MS + 1)])
    await hold_and_book(journal, [2], [payment.payment_id])
    now = (await read(payments, payment.payment_id)).payment
    assert (now.hold_id, now.booking_hold_id) == (hold_of(1), hold_of(2))


async def payment_in(payments: Payments, state: str) -> str:
    """The id of a payment that nothing can be booked with."""
    if state == "missing":
        return new_payment(1).payment_id
    if state == "of another show":
        return (await paid(payments, new_payment(1, show=OTHER))).payment_id
    if state == "of another customer":
        return (await paid(payments, new_payment(1, customer=BOB))).payment_id
    if state == "captured in part":
        payment_id = (await paid(payments, new_payment(1, due_at_ms=None))).payment_id
        part = AMOUNT_MINOR - 1
        await moved(payments, payment_id, state=PaymentState.CAPTURED, captured_minor=part)
        return payment_id
    payment = await paid(payments, new_payment(1, mode=AUTOMATIC))
    if state in ("refund_due", "refunded"):
        return (
            await moved(payments, payment.payment_id, state=PaymentState(state))
        ).payment.payment_id
    raise AssertionError(state)


UNUSABLE = [
    "missing",
    "of another show",
    "of another customer",
    "captured in part",
    "refund_due",
    "refunded",
]


@pytest.mark.parametrize("state", UNUSABLE)
@pytest.mark.parametrize("in_one_batch", [False, True])
async def test_a_payment_that_cannot_be_used_books_nothing_and_stays_as_it_is(
    payments: Payments, journal: Journal, superuser: Connection, state: str, in_one_batch: bool
) -> None:
    payment_id = await payment_in(payments, state)
    if not in_one_batch:
        await journal.append(SHOW.show_id, [held(1)])
    before = await everything(superuser)
    events: list[Event] = [held(1)] if in_one_batch else []
    with pytest.raises(Diverged, match="cannot be used any more"):
        await journal.append(SHOW.show_id, [*events, booked(1, payment_id)])
    assert await everything(superuser) == before


async def test_the_refusal_says_which_rule_was_broken(
    payments: Payments, journal: Journal, pool: Pool
) -> None:
    await journal.append(SHOW.show_id, [held(1)])
    refused = journal.append(SHOW.show_id, [booked(1, new_payment(1).payment_id)])
    with pytest.raises(Diverged) as raised:
        await refused
    assert "payments to book with are not there, or cannot be used any more" in str(raised.value)


async def test_one_payment_pays_for_one_booking(payments: Payments, journal: Journal) -> None:
    payment_id = (await paid(payments, new_payment(1))).payment_id
    await journal.append(SHOW.show_id, [held(1), held(2), held(3)])
    twice = journal.append(SHOW.show_id, [booked(1, payment_id), booked(2, payment_id)])
    with pytest.raises(Diverged):
        await twice
    await journal.activate(SHOW)
    await journal.append(SHOW.show_id, [booked(1, payment_id)])
    with pytest.raises(Diverged):
        await journal.append(SHOW.show_id, [booked(3, payment_id)])
    assert (await read(payments, payment_id)).payment.booking_hold_id == hold_of(1)


async def test_a_show_with_a_wrong_payment_does_not_disturb_its_neighbour(
    payments: Payments, journal: Journal, superuser: Connection
) -> None:
    good = (await paid(payments, new_payment(1, show=OTHER))).payment_id
    await journal.append(SHOW.show_id, [held(1)])
    await journal.append(OTHER.show_id, [held(1, OTHER)])
    poisoned = journal.append(SHOW.show_id, [booked(1, new_payment(1).payment_id)])
    neighbour = journal.append(OTHER.show_id, [booked(1, good, OTHER)])
    outcomes = await asyncio.gather(poisoned, neighbour, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Diverged, int]
    assert (await read(payments, good)).payment.state is PaymentState.BOOKED
    assert await superuser.fetchval("SELECT array_agg(show_id) FROM booking") == [OTHER.show_id]


async def test_a_void_and_a_booking_at_once_are_never_both(
    payments: Payments, journal: Journal, superuser: Connection
) -> None:
    # The worker gives up in the very moment in which the actor books: the row lets one of them.
    rounds = 12
    ids = []
    for number in range(rounds):
        ids.append((await paid(payments, new_payment(number))).payment_id)
        await journal.append(SHOW.show_id, [held(number)])

    async def give_up(payment_id: PaymentId) -> bool:
        before = await read(payments, payment_id)
        changed = replace(before.payment, state=PaymentState.VOID_DUE)
        return await payments.save(before, replace(before, payment=changed)) is not None

    for number, payment_id in enumerate(ids):
        is_voided, booking = await asyncio.gather(
            give_up(payment_id),
            journal.append(SHOW.show_id, [booked(number, payment_id)]),
            return_exceptions=True,
        )
        is_booked = not isinstance(booking, BaseException)
        assert is_voided is not is_booked
        state = (await read(payments, payment_id)).payment.state
        assert state is (PaymentState.BOOKED if is_booked else PaymentState.VOID_DUE)
        if not is_booked:
            await journal.activate(SHOW)
    rows = await superuser.fetch(
        "SELECT p.state = 'booked', b.hold_id IS NOT NULL FROM payment p"
        " LEFT JOIN booking b ON b.payment = p.payment_id"
    )
    assert all(is_booked == has_booking for is_booked, has_booking in rows)


@pytest.mark.parametrize("terms", RefundTerms)
@pytest.mark.parametrize("in_one_batch", [False, True])
async def test_a_cancelled_booking_makes_its_payment_due_on_its_terms(
    pool: Pool, payments: Payments, journal: Journal, terms: RefundTerms, in_one_batch: bool
) -> None:
    payment = await paid(payments, new_payment(1, mode=AUTOMATIC))
    payment_id = payment.payment_id
    if in_one_batch:
        events: list[Event] = [held(1), booked(1, payment_id), cancelled(1, terms)]
        await journal.append(SHOW.show_id, events)
    else:
        await hold_and_book(journal, [1], [payment_id])
        await moved(payments, payment_id, due_at_ms=None)
        await journal.append(SHOW.show_id, [cancelled(1, terms)])
    now = (await read(payments, payment_id)).payment
    assert (now.state, now.cancelled_at_ms) == (PaymentState.SETTLED, AT_MS + 9_000)
    assert (now.refund_terms, now.due_at_ms) == (terms, AT_MS + 9_000)
    assert await kinds(pool) == ["captured", "booked", "cancelled"]


async def test_bookings_that_were_paid_otherwise_need_no_payment(
    pool: Pool, journal: Journal
) -> None:
    await hold_and_book(journal, [1, 2, 3], ["counter", "pay_" + "x" * 20, "card"])
    await journal.append(SHOW.show_id, [cancelled(1), cancelled(2)])
    assert await kinds(pool) == []


async def test_cancelling_a_show_starts_its_refunds_in_the_same_transaction(
    pool: Pool, payments: Payments, journal: Journal, superuser: Connection
) -> None:
    ids = [(await paid(payments, new_payment(n))).payment_id for n in range(3)]
    await hold_and_book(journal, [0, 1, 2, 3], [*ids, "counter"])
    await journal.append(SHOW.show_id, [cancelled(1), held(7)])
    storm = ShowCancelled("storm", (hold_of(7),), AT_MS + 20_000)
    await journal.append(SHOW.show_id, [held(8), booked(8, "counter"), storm])
    job = await RefundJobs(pool).find(SHOW.show_id)
    assert job is not None
    assert (job.state, job.total, job.done) == (JobState.RUNNING, 4, 0)
    written = await superuser.fetchval("SELECT xmin::text FROM refund_job")
    assert await superuser.fetchval("SELECT xmin::text FROM cancelled_show") == written
    await journal.append(OTHER.show_id, [ShowCancelled("no one came", (), AT_MS)])
    empty = await RefundJobs(pool).find(OTHER.show_id)
    assert empty is not None
    assert (empty.state, empty.total, empty.finished_at_ms) == (JobState.DONE, 0, AT_MS)


async def test_entries_of_one_batch_have_the_numbers_of_their_own_shows(
    pool: Pool, payments: Payments, journal: Journal
) -> None:
    for show in (SHOW, OTHER):
        numbers = range(10)
        ids = [(await paid(payments, new_payment(n, show=show))).payment_id for n in numbers]
        await journal.append(show.show_id, [held(n, show) for n in numbers])
        journal.append(show.show_id, [booked(n, ids[n], show) for n in numbers])
    await asyncio.gather(
        *(
            journal.append(show.show_id, [cancelled(n, show=show) for n in range(5)])
            for show in (SHOW, OTHER)
        )
    )
    for show in (SHOW, OTHER):
        entries = await PaymentBooks(pool).ledger(show.show_id)
        assert [number for number, _ in entries] == list(range(1, 16))
        assert [entry.kind for _, entry in entries] == [EntryKind.BOOKED] * 10 + [
            EntryKind.CANCELLED
        ] * 5


async def test_the_batch_of_a_crowd_looks_at_no_payment(
    journal: Journal, superuser: Connection
) -> None:
    # Whoever has all tables of money locked does not stand in its way.
    async with superuser.transaction():
        await superuser.execute(
            "LOCK TABLE payment, refund, ledger_entry, ledger_end, refund_job"
            " IN ACCESS EXCLUSIVE MODE"
        )
        async with asyncio.timeout(30):
            assert await journal.append(SHOW.show_id, [held(n) for n in range(40)]) == 1


async def test_a_payment_id_means_the_same_to_the_database_as_to_the_program(
    superuser: Connection,
) -> None:
    good = new_payment(1).payment_id
    texts = [good, good + "0", good[:-1], good.upper(), "xpay" + good[4:], good + "\n", "counter"]
    texts += [good[:10] + letter + good[11:] for letter in "iluoA-é9z"]
    told = {text: await superuser.fetchval("SELECT is_payment_id($1)", text) for text in texts}
    assert told == {text: is_payment_id(text) for text in texts}
    assert {True, False} == set(told.values())
