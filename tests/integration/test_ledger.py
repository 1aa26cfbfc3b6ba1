"""The ledger: every change of money has its entry, and the entries add up to what there is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from persistence.payment_books import NumberedEntry, PaymentBooks
from persistence.payments import Payments
from persistence.postgres_journal import PostgresJournal
from persistence.sessions import Connection, Pool, open_pool
from reservation.checkout import Checkout
from reservation.faults import Diverged
from reservation.ledger import EntryKind, LedgerEntry, entries_of
from reservation.payment import CaptureMode, PaymentState
from reservation.refunds import RefundState
from tests.conftest import House
from tests.support.stored_payments import (
    AMOUNT_MINOR,
    OTHER,
    SHOW,
    booked,
    cancelled,
    held,
    hold_and_book,
    moved,
    new_payment,
    paid,
    read,
    refund,
    with_refund,
)

AUTOMATIC = CaptureMode.AUTOMATIC
REFUSALS = ("HF003", "HF008", asyncpg.CheckViolationError.sqlstate)


@pytest.fixture
async def pool(empty_house: House) -> AsyncIterator[Pool]:
    pool = await open_pool(empty_house.application_dsn, "tests", size_max=6)
    yield pool
    await pool.close()


@pytest.fixture
def payments(pool: Pool) -> Payments:
    return Payments(pool)


@pytest.fixture
def books(pool: Pool) -> PaymentBooks:
    return PaymentBooks(pool)


@pytest.fixture
async def journal(empty_house: House) -> AsyncIterator[PostgresJournal]:
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


def told(entries: list[NumberedEntry]) -> list[tuple[int, str, int]]:
    return [(number, entry.kind.value, entry.amount_minor) for number, entry in entries]


async def save(payments: Payments, before: Checkout, after: Checkout) -> Checkout:
    saved = await payments.save(before, after)
    assert saved is not None
    return saved


async def test_the_whole_life_of_a_payment_is_in_the_ledger(
    payments: Payments, books: PaymentBooks, journal: PostgresJournal
) -> None:
    payment_id = (await paid(payments, new_payment(1))).payment_id
    await hold_and_book(journal, [1], [payment_id])
    await moved(payments, payment_id, state=PaymentState.SETTLED, captured_minor=AMOUNT_MINOR)
    await journal.append(SHOW.show_id, [cancelled(1)])
    checkout = await moved(payments, payment_id, kept_minor=150)
    checkout = await save(payments, checkout, refund(refund(checkout, 500), 350))
    for number, state in (
        (1, RefundState.REQUESTED),
        (1, RefundState.SUCCEEDED),
        (2, RefundState.SUCCEEDED),
        (1, RefundState.FAILED),
    ):
        checkout = await save(payments, checkout, with_refund(checkout, number, state))
    entries = await books.ledger(SHOW.show_id)
    assert told(entries) == [
        (1, "booked", 1_000),
        (2, "captured", 1_000),
        (3, "cancelled", 1_000),
        (4, "kept", 150),
        (5, "refunded", 500),
        (6, "refunded", 350),
        (7, "returned", 500),
    ]
    assert {entry.payment_id for _, entry in entries} == {payment_id}
    assert [entry.refund_id for _, entry in entries[4:]] == [
        checkout.refunds[0].refund_id,
        checkout.refunds[1].refund_id,
        checkout.refunds[0].refund_id,
    ]
    times = [entry.at_ms for _, entry in entries]
    assert times == sorted(times)
    (money,) = await books.sums(SHOW.show_id)
    assert money.disagreements() == []
    assert (money.captured_minor, money.refunded_minor, money.kept_minor) == (1_000, 350, 150)
    assert (money.booked_minor, money.in_flight_minor) == (0, 500)
    assert told(await books.ledger(SHOW.show_id, after=5, limit=1)) == [(6, "refunded", 350)]


async def test_what_moves_no_money_leaves_no_entry(payments: Payments, books: PaymentBooks) -> None:
    payment_id = (await paid(payments, new_payment(1))).payment_id
    await payments.wake(payment_id)
    await moved(payments, payment_id, state=PaymentState.VOID_DUE)
    await moved(payments, payment_id, state=PaymentState.VOIDED, kept_minor=0)
    assert await books.ledger(SHOW.show_id) == []
    (money,) = await books.sums(SHOW.show_id)
    assert (money.captured_minor, money.in_flight_minor, money.disagreements()) == (0, 0, [])


async def test_money_in_another_currency_is_counted_by_itself(
    payments: Payments, books: PaymentBooks
) -> None:
    await paid(payments, new_payment(1, mode=AUTOMATIC))
    payment_id = (await paid(payments, new_payment(2))).payment_id
    before = await read(payments, payment_id)
    foreign = replace(
        before.payment,
        state=PaymentState.REFUND_DUE,
        captured_minor=77,
        paid_currency="USD",
    )
    checkout = refund(replace(before, payment=foreign), 77)
    checkout = await save(payments, before, checkout)
    await save(payments, checkout, with_refund(checkout, 1, RefundState.SUCCEEDED))
    euros, dollars = await books.sums(SHOW.show_id)
    assert (euros.currency, euros.captured_minor, euros.in_flight_minor) == ("EUR", 1_000, 1_000)
    assert (dollars.currency, dollars.captured_minor, dollars.refunded_minor) == ("USD", 77, 77)
    assert euros.disagreements() == dollars.disagreements() == []


async def test_what_is_written_stays(payments: Payments, superuser: Connection) -> None:
    await paid(payments, new_payment(1, mode=AUTOMATIC))
    for statement in (
        "UPDATE ledger_entry SET amount_minor = 1",
        "DELETE FROM ledger_entry",
        "TRUNCATE ledger_entry",
    ):
        with pytest.raises(asyncpg.PostgresError) as raised:
            await superuser.execute(statement)
        assert raised.value.sqlstate == "HF007"


async def test_entries_that_are_lost_or_made_up_are_noticed(
    payments: Payments, books: PaymentBooks, superuser: Connection
) -> None:
    for number in range(2):
        await paid(payments, new_payment(number, mode=AUTOMATIC))
    await superuser.execute("SET session_replication_role = replica")
    await superuser.execute("DELETE FROM ledger_entry WHERE number = 1")
    (money,) = await books.sums(SHOW.show_id)
    assert money.disagreements() == ["captured by the ledger: 1000 EUR, and 2000 by the payments"]
    await superuser.execute(
        "INSERT INTO ledger_entry SELECT show_id, 9, 'booked', 5, 'CHF', payment_id, NULL, 1"
        " FROM ledger_entry LIMIT 1"
    )
    francs, _ = await books.sums(SHOW.show_id)
    assert francs.disagreements() == ["booked by the ledger: 5 CHF, and 0 by the payments"]


async def test_many_at_once_leave_no_gap_and_no_number_twice(
    payments: Payments, books: PaymentBooks
) -> None:
    async def live(number: int) -> None:
        show = SHOW if number % 3 else OTHER
        checkout = Checkout(await paid(payments, new_payment(number, show=show, mode=AUTOMATIC)))
        due = replace(checkout.payment, state=PaymentState.REFUND_DUE)
        checkout = await save(payments, checkout, refund(replace(checkout, payment=due), 1_000))
        await save(payments, checkout, with_refund(checkout, 1, RefundState.SUCCEEDED))

    await asyncio.gather(*(live(number) for number in range(24)))
    for show, count in ((SHOW, 32), (OTHER, 16)):
        entries = await books.ledger(show.show_id)
        assert [number for number, _ in entries] == list(range(1, count + 1))
        (money,) = await books.sums(show.show_id)
        assert (money.disagreements(), money.in_flight_minor) == ([], 0)


class RandomMoney:
    """Customers, a worker and a show's actor that do anything, allowed or not."""

    def __init__(self, payments: Payments, journal: PostgresJournal, seed: int) -> None:
        self.payments = payments
        self.journal = journal
        self.refused = 0
        self.done = 0
        self.expected: list[LedgerEntry] = []
        self._random = random.Random(seed)
        self._numbers: list[int] = []

    async def step(self) -> None:
        """One thing that somebody tries."""
        rng = self._random
        if not self._numbers or rng.random() < 0.25:
            number = len(self._numbers)
            self._numbers.append(number)
            mode = rng.choice((CaptureMode.MANUAL, AUTOMATIC))
            payment = await paid(self.payments, new_payment(number, mode=mode))
            self.expected += entries_of(None, Checkout(payment), 0)
            await self.journal.append(SHOW.show_id, [held(number)])
            return
        number = rng.choice(self._numbers)
        before = await read(self.payments, new_payment(number).payment_id)
        attempt = rng.choice((self._book, self._cancel, self._move, self._move, self._pay_back))
        try:
            await attempt(number)
        except Diverged:
            self.refused += 1
            await self.journal.activate(SHOW)
        except asyncpg.PostgresError as error:
            if error.sqlstate not in REFUSALS:
                raise
            self.refused += 1
        else:
            self.done += 1
            after = await read(self.payments, new_payment(number).payment_id)
            self.expected += entries_of(before, after, 0)

    async def _book(self, number: int) -> None:
        await self.journal.append(SHOW.show_id, [booked(number, new_payment(number).payment_id)])

    async def _cancel(self, number: int) -> None:
        await self.journal.append(SHOW.show_id, [cancelled(number)])

    async def _move(self, number: int) -> None:
        before = await read(self.payments, new_payment(number).payment_id)
        payment, rng = before.payment, self._random
        captured_minor = rng.choice((payment.captured_minor, 0, 400, 1_000, 1_300))
        kept_minor = rng.choice((None, 0, 200)) if payment.cancelled_at_ms else None
        moved = replace(
            payment,
            state=rng.choice(tuple(PaymentState)),
            captured_minor=captured_minor,
            kept_minor=payment.kept_minor if kept_minor is None else kept_minor,
        )
        if moved.state is PaymentState.SETTLED:
            moved = replace(moved, captured_minor=max(payment.captured_minor, 1_000))
        await self.payments.save(before, replace(before, payment=moved))

    async def _pay_back(self, number: int) -> None:
        before = await read(self.payments, new_payment(number).payment_id)
        rng = self._random
        if not before.refunds or (rng.random() < 0.5 and len(before.refunds) < 20):
            state = rng.choice((RefundState.DUE, RefundState.SUCCEEDED))
            after = refund(before, rng.choice((1, 300, 1_000)), state)
        else:
            chosen = rng.choice(before.refunds)
            after = with_refund(before, chosen.number, rng.choice(tuple(RefundState)))
        await self.payments.save(before, after)


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_is_tried_the_books_agree(
    payments: Payments, books: PaymentBooks, journal: PostgresJournal, seed: int
) -> None:
    life = RandomMoney(payments, journal, seed)
    for _ in range(250):
        await life.step()
    assert life.done > 40
    assert life.refused > 40
    entries = await books.ledger(SHOW.show_id)
    assert [number for number, _ in entries] == list(range(1, len(entries) + 1))
    assert {EntryKind.CAPTURED, EntryKind.BOOKED, EntryKind.REFUNDED} <= {
        entry.kind for _, entry in entries
    }
    assert [entry._replace(at_ms=0) for _, entry in entries] == life.expected
    (money,) = await books.sums(SHOW.show_id)
    assert money.disagreements() == []
