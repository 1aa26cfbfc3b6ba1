"""The payments of a database: who begins, leases and saves them, and what nobody may do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from persistence.migrate import ORGANISER_GROUP
from persistence.organiser_rows import PutOutcome
from persistence.payment_books import PaymentBooks
from persistence.payment_rows import PromoUse, new_payment_json, saved_payment_json
from persistence.payments import BeginOutcome, Payments
from persistence.promo_uses import PromoUses, TakeOutcome
from persistence.refund_jobs import JobState, RefundJobs
from persistence.sessions import Connection, Pool, open_pool
from persistence.show_terms import ShowTerms, ShowTermsStore
from reservation.access import HOUSE_TENANT
from reservation.checkout import Checkout
from reservation.ids import CustomerId, PaymentId, TenantId
from reservation.payment import CaptureMode, Claim, PaymentState
from reservation.price import (
    FeeBasis,
    FeeTerm,
    LineKind,
    Price,
    PriceLine,
    PriceTerms,
    TaxBase,
    TaxTerm,
)
from reservation.promo_codes import PromoUsage
from reservation.refunds import RefundBand, RefundPolicy, RefundState
from tests.conftest import House
from tests.support.stored_payments import (
    AMOUNT_MINOR,
    ANN,
    AT_MS,
    BOB,
    OTHER,
    PRICE,
    SHOW,
    begun,
    hold_of,
    moved,
    new_payment,
    paid,
    read,
    refund,
    with_refund,
)

LONG_MS = 600_000


@pytest.fixture
async def pool(empty_house: House) -> AsyncIterator[Pool]:
    pool = await open_pool(empty_house.application_dsn, "tests", size_max=6)
    yield pool
    await pool.close()


@pytest.fixture
def payments(pool: Pool) -> Payments:
    return Payments(pool)


@pytest.fixture
async def superuser(empty_house: House) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(empty_house.superuser_dsn)
    yield connection
    await connection.close()


def states(checkout: Checkout) -> tuple[PaymentState, list[RefundState]]:
    return checkout.payment.state, [each.state for each in checkout.refunds]


# -- beginning ------------------------------------------------------------------------------------


async def test_a_payment_comes_back_as_it_was_begun(payments: Payments) -> None:
    lines = (
        PriceLine(LineKind.PLACE, "Stalls", 1_100),
        PriceLine(LineKind.DISCOUNT, "SUMMER", -200),
        PriceLine(LineKind.FEE, "Gebühr", 100),
        PriceLine(LineKind.TAX, "VAT", 70, is_included=True),
    )
    price = Price("EUR", lines, (1_000,))
    payment = replace(new_payment(1), accepts_equivalent=True, hold_minor=1_100)
    promo = PromoUse(HOUSE_TENANT, "SUMMER")
    outcome, stored = await payments.begin(payment, price, promo)
    assert outcome is BeginOutcome.BEGUN
    assert stored is not None
    assert (stored.payment, stored.price, stored.promo) == (payment, price, promo)
    assert (stored.charge_ref, stored.last_error, stored.checkout.refunds) == (None, None, ())
    assert await payments.find(payment.payment_id) == stored
    assert await payments.find_by_hold(payment.hold_id) == stored
    assert await payments.find(new_payment(2).payment_id) is None


async def test_beginning_again_changes_nothing_and_finds_the_payment(payments: Payments) -> None:
    payment = new_payment(1)
    await begun(payments, payment)
    opened = await moved(payments, payment.payment_id, state=PaymentState.OPEN)
    later = replace(payment, created_at_ms=AT_MS + 5, state_at_ms=AT_MS + 5)
    outcome, stored = await payments.begin(later, PRICE)
    assert outcome is BeginOutcome.REPEATED
    assert stored is not None
    assert stored.checkout == opened


async def test_the_same_id_with_other_content_is_refused(payments: Payments) -> None:
    payment = new_payment(1)
    await begun(payments, payment)
    for changed, price, promo in (
        (replace(payment, accepts_equivalent=True), PRICE, None),
        (replace(payment, provider="razorpay"), PRICE, None),
        (replace(payment, capture_mode=CaptureMode.AUTOMATIC), PRICE, None),
        (payment, replace(PRICE, paid_minor=(999,)), None),
        (payment, PRICE, PromoUse(HOUSE_TENANT, "SUMMER")),
    ):
        outcome, stored = await payments.begin(changed, price, promo)
        assert outcome is BeginOutcome.OTHER_CONTENT
        assert stored is not None
        assert stored.payment == payment


async def test_a_hold_has_one_living_payment_at_a_time(payments: Payments) -> None:
    first = new_payment(1, "first")
    contenders = [new_payment(1, str(key)) for key in range(6)]
    await begun(payments, first)
    refused = await payments.begin(contenders[0], PRICE)
    assert refused.outcome is BeginOutcome.HOLD_HAS_PAYMENT
    assert refused.stored is not None
    assert refused.stored.payment == first
    await moved(payments, first.payment_id, state=PaymentState.VOID_DUE)
    # Until the provider has let go of it, it may still be paid.
    assert (await payments.begin(contenders[0], PRICE)).outcome is BeginOutcome.HOLD_HAS_PAYMENT
    await moved(payments, first.payment_id, state=PaymentState.VOIDED)
    outcomes = await asyncio.gather(*(payments.begin(each, PRICE) for each in contenders))
    assert sorted(outcome for outcome, _ in outcomes) == ["begun"] + ["hold_has_payment"] * 5
    (winner,) = [each.stored for each in outcomes if each.outcome is BeginOutcome.BEGUN]
    assert winner is not None
    assert await payments.find_by_hold(hold_of(1)) == winner


# -- finding --------------------------------------------------------------------------------------


async def test_a_payment_is_found_by_what_its_provider_calls_it(payments: Payments) -> None:
    for number in (1, 2):
        await begun(payments, new_payment(number))
        payment_id = new_payment(number).payment_id
        await moved(payments, payment_id, state=PaymentState.OPEN, provider_ref=f"pi_{number}")
    found = await payments.find_by_provider_ref("stripe", "pi_2")
    assert found is not None
    assert found.payment.payment_id == new_payment(2).payment_id
    assert await payments.find_by_provider_ref("razorpay", "pi_2") is None
    await begun(payments, new_payment(3))
    with pytest.raises(asyncpg.UniqueViolationError):
        await moved(payments, new_payment(3).payment_id, provider_ref="pi_2")


async def test_customers_see_their_own_payments_the_newest_first(payments: Payments) -> None:
    for number in range(7):
        payment = replace(new_payment(number), created_at_ms=AT_MS + number // 2)
        await begun(payments, payment)
    await begun(payments, new_payment(1, customer=BOB))
    seen, after = [], None
    while True:
        page = await payments.list_by_customer(ANN, 3, after)
        seen += [each.payment for each in page.items]
        after = page.next
        if after is None:
            break
    assert len(seen) == 7
    keys = [(each.created_at_ms, each.payment_id) for each in seen]
    assert keys == sorted(keys, reverse=True)
    assert {each.customer_id for each in seen} == {ANN}
    assert (await payments.list_by_customer(CustomerId("acc_nobody"))).items == ()


async def test_a_show_is_read_page_by_page(payments: Payments) -> None:
    for number in range(5):
        await begun(payments, new_payment(number))
    await begun(payments, new_payment(1, show=OTHER))
    first = await payments.list_by_show(SHOW.show_id, 3)
    rest = await payments.list_by_show(SHOW.show_id, 3, first[-1].payment.payment_id)
    ids = [each.payment.payment_id for each in (*first, *rest)]
    assert ids == sorted(new_payment(number).payment_id for number in range(5))


async def test_payments_that_do_not_move_are_found_and_ended_ones_are_not(
    payments: Payments,
) -> None:
    for number, state in enumerate((PaymentState.OPEN, PaymentState.VOIDED, PaymentState.FAILED)):
        await begun(payments, new_payment(number))
        at_ms = AT_MS + 100 * number
        await moved(payments, new_payment(number).payment_id, state=state, state_at_ms=at_ms)
    stuck = await payments.stuck(AT_MS + 200)
    assert [each.payment.state for each in stuck] == [PaymentState.OPEN]
    assert len(await payments.stuck(AT_MS + 201)) == 2


# -- leases ---------------------------------------------------------------------------------------


async def test_two_workers_never_have_one_payment(payments: Payments) -> None:
    for number in range(30):
        await begun(payments, new_payment(number, due_at_ms=AT_MS + number))
    leases = await asyncio.gather(*(payments.lease_due(f"w{n}", 7, LONG_MS) for n in range(6)))
    leased = [each.payment.payment_id for lease in leases for each in lease]
    assert len(leased) == len(set(leased)) == 30
    assert await payments.lease_due("late", 7, LONG_MS) == []


async def test_what_was_due_first_is_leased_first_and_what_is_not_due_is_not(
    payments: Payments,
) -> None:
    for number, due_at_ms in enumerate((AT_MS + 3, None, AT_MS + 1, 1 << 50, AT_MS + 2)):
        await begun(payments, new_payment(number, due_at_ms=due_at_ms))
    lease = await payments.lease_due("worker", 2, LONG_MS)
    assert [each.payment.due_at_ms for each in lease] == [AT_MS + 1, AT_MS + 2]
    lease = await payments.lease_due("worker", 9, LONG_MS)
    assert [each.payment.due_at_ms for each in lease] == [AT_MS + 3]


async def test_a_lease_that_is_over_goes_to_another_worker_and_the_first_cannot_save(
    payments: Payments,
) -> None:
    await begun(payments, new_payment(1))
    (slow,) = await payments.lease_due("slow", 9, -1)
    (quick,) = await payments.lease_due("quick", 9, LONG_MS)
    opened = replace(slow.payment, state=PaymentState.OPEN)
    assert await payments.save(slow.checkout, Checkout(opened)) is None
    assert await read(payments, slow.payment.payment_id) == quick.checkout
    saved = await payments.save(
        quick.checkout, Checkout(replace(opened, version=quick.payment.version))
    )
    assert saved is not None
    assert saved == await read(payments, slow.payment.payment_id)


async def test_a_lease_ends_with_the_saving_unless_it_is_kept(payments: Payments) -> None:
    await begun(payments, new_payment(1))
    assert await payments.next_due_at_ms() == AT_MS
    (leased,) = await payments.lease_due("worker", 9, LONG_MS)
    due_at_ms = await payments.next_due_at_ms()
    assert due_at_ms is not None
    assert due_at_ms > AT_MS
    kept = await payments.save(leased.checkout, leased.checkout, keeps_lease=True)
    assert kept is not None
    assert await payments.lease_due("other", 9, LONG_MS) == []
    assert await payments.save(kept, kept) is not None
    (again,) = await payments.lease_due("other", 9, LONG_MS)
    rest = Checkout(replace(again.payment, due_at_ms=None))
    assert await payments.save(again.checkout, rest) is not None
    assert await payments.lease_due("other", 9, LONG_MS) == []
    assert await payments.next_due_at_ms() is None


async def test_word_from_the_provider_wakes_a_payment_and_outdates_who_looked_before(
    payments: Payments,
) -> None:
    payment = new_payment(1, due_at_ms=1 << 50)
    stored = await begun(payments, payment)
    assert await payments.wake(payment.payment_id)
    rest = Checkout(replace(payment, due_at_ms=None))
    assert await payments.save(stored.checkout, rest) is None
    (leased,) = await payments.lease_due("worker", 9, LONG_MS)
    assert leased.payment.is_noticed
    assert not await payments.wake(new_payment(2).payment_id)


async def test_what_a_dead_incarnation_has_leased_is_free_for_the_next_one_at_once(
    payments: Payments,
) -> None:
    for number in (1, 2, 3):
        await begun(payments, new_payment(number))
    (dead,) = await payments.lease_due("payments:1/dead", 1, LONG_MS)
    await payments.lease_due("payments:10/other", 1, LONG_MS)
    (mine,) = await payments.lease_due("payments:1/mine", 1, LONG_MS)
    assert await payments.end_leases("payments:1", "payments:1/mine") == 1
    assert await payments.save(dead.checkout, dead.checkout) is None, "it came back to life"
    (taken,) = await payments.lease_due("payments:1/mine", 9, LONG_MS)
    assert taken.payment.payment_id == dead.payment.payment_id
    assert await payments.save(mine.checkout, mine.checkout) is not None
    assert await payments.end_leases("payments:1", "payments:1/mine") == 0


# -- saving ---------------------------------------------------------------------------------------


async def test_everything_a_step_learns_is_kept(payments: Payments) -> None:
    await begun(payments, new_payment(1))
    before = await read(payments, new_payment(1).payment_id)
    learned = replace(
        before.payment,
        state=PaymentState.CAPTURED,
        state_at_ms=AT_MS + 1,
        hold_expires_at_ms=AT_MS + 900_000,
        claim=Claim.HELD_AGAIN,
        booking_hold_id=hold_of(2),
        provider_ref="pi_1",
        is_noticed=True,
        seen_at_ms=AT_MS + 2,
        is_uncollectable=True,
        captured_minor=900,
        paid_currency="USD",
        due_at_ms=AT_MS + 3,
        attempt_count=4,
    )
    after = await payments.save(
        before, Checkout(learned), charge_ref="ch_1", last_error="too\0 many"
    )
    stored = await payments.find(new_payment(1).payment_id)
    assert stored is not None
    assert stored.checkout == after == Checkout(replace(learned, version=1))
    assert (stored.charge_ref, stored.last_error) == ("ch_1", "too many")
    assert await payments.save(stored.checkout, stored.checkout) is not None
    again = await payments.find(new_payment(1).payment_id)
    assert again is not None
    assert (again.charge_ref, again.last_error) == ("ch_1", None)


async def test_what_is_refused_to_one_of_many_who_save_at_once_is_refused_to_him_alone(
    payments: Payments,
) -> None:
    befores = []
    for number in (1, 2, 3):
        await begun(payments, new_payment(number))
        befores.append(await read(payments, new_payment(number).payment_id))
    states_after = (PaymentState.OPEN, PaymentState.BOOKED, PaymentState.OPEN)
    saved = await asyncio.gather(
        *(
            payments.save(before, Checkout(replace(before.payment, state=state)))
            for before, state in zip(befores, states_after, strict=True)
        ),
        return_exceptions=True,
    )
    assert isinstance(saved[0], Checkout)
    assert isinstance(saved[1], asyncpg.PostgresError)
    assert saved[1].sqlstate == "HF003"
    assert isinstance(saved[2], Checkout)
    found = await payments.find_each([before.payment.payment_id for before in befores])
    assert [each and each.payment.state for each in found] == [
        PaymentState.OPEN,
        PaymentState.CREATED,
        PaymentState.OPEN,
    ]


async def test_whoever_comes_second_changes_nothing(
    payments: Payments, superuser: Connection
) -> None:
    payment_id = (await paid(payments, new_payment(1, mode=CaptureMode.AUTOMATIC))).payment_id
    before = await read(payments, payment_id)
    contenders = []
    for n in range(1, 7):
        due = replace(before.payment, state=PaymentState.REFUND_DUE, attempt_count=n)
        contenders.append(refund(replace(before, payment=due), 100 * n))
    outcomes = await asyncio.gather(*(payments.save(before, after) for after in contenders))
    (winner,) = [outcome for outcome in outcomes if outcome is not None]
    assert await read(payments, payment_id) == winner
    assert await superuser.fetchval("SELECT count(*) FROM refund") == 1


async def test_what_is_fixed_is_not_saved(payments: Payments) -> None:
    stored = await begun(payments, new_payment(1))
    for field in ("amount_minor", "cancelled_at_ms", "created_at_ms"):
        changed = replace(stored.payment, **{field: 77})  # type: ignore[arg-type]  # by name
        with pytest.raises(AssertionError, match=field):
            await payments.save(stored.checkout, Checkout(changed))


UNPAID_ENDS = {"authorised", "captured", "void_due", "voided", "refund_due", "refunded"}
FORWARD = {
    "created": {"open", "failed", *UNPAID_ENDS},
    "open": {"failed", *UNPAID_ENDS},
    "failed": UNPAID_ENDS,
    "authorised": UNPAID_ENDS - {"authorised"},
    "captured": {"refund_due", "refunded"},
    "void_due": {"voided", "refund_due", "refunded"},
    "voided": {"refund_due", "refunded"},
    "refund_due": {"refunded"},
    "refunded": {"refund_due"},
}
"""Where saving takes a payment that no booking was made with."""


async def payment_at(payments: Payments, number: int, state: str) -> PaymentId:
    """A payment that went this far, on the shortest way."""
    payment_id = new_payment(number).payment_id
    await begun(payments, new_payment(number))
    if state != "created":
        await moved(payments, payment_id, state=PaymentState(state))
    return payment_id


async def may_become(payments: Payments, payment_id: PaymentId, target: PaymentState) -> bool:
    """Save the payment in this state, if the database lets it."""
    try:
        await moved(payments, payment_id, state=target)
    except asyncpg.PostgresError as error:
        if error.sqlstate != "HF003":
            raise
        return False
    return True


@pytest.mark.parametrize("source", FORWARD)
async def test_payments_go_forward_only_and_are_not_booked_by_saving(
    payments: Payments, source: str
) -> None:
    reached = set()
    for number, target in enumerate(PaymentState):
        payment_id = await payment_at(payments, number, source)
        before = await read(payments, payment_id)
        if await may_become(payments, payment_id, target):
            reached.add(target.value)
        else:
            assert await read(payments, payment_id) == before
    assert reached == {source, *FORWARD[source]}


async def test_a_booked_payment_is_settled_or_voided_when_its_booking_is_cancelled(
    payments: Payments, superuser: Connection
) -> None:
    for is_cancelled, expected in (
        (False, {"booked", "settled"}),
        (True, {"booked", "settled", "voided"}),
    ):
        reached = set()
        for number, target in enumerate(PaymentState, 100 if is_cancelled else 0):
            payment_id = await payment_at(payments, number, "authorised")
            await superuser.execute(
                "UPDATE payment SET state = 'booked', booking_hold_id = hold_id, booked_at_ms = 1,"
                " version = version + 1 WHERE payment_id = $1",
                payment_id,
            )
            if is_cancelled:
                await superuser.execute(
                    "UPDATE payment SET cancelled_at_ms = 2, refund_terms = 'full',"
                    " version = version + 1 WHERE payment_id = $1",
                    payment_id,
                )
            if await may_become(payments, payment_id, target):
                reached.add(target.value)
        assert reached == expected


@pytest.mark.parametrize(
    "change",
    [
        "amount_minor = amount_minor + 1",
        "currency = 'USD'",
        "captured_minor = captured_minor - 1",
        "hold_id = replace(hold_id, 'hld', 'hle')",
        "customer_id = 'acc_other'",
        "provider_ref = 'pi_other'",
        "price = '{}'",
        "state = 'created'",
        "version = version",
        "version = version - 1",
        "booked_at_ms = booked_at_ms + 1",
    ],
)
async def test_money_is_not_rewritten_not_even_by_hand(
    payments: Payments, superuser: Connection, change: str
) -> None:
    await paid(payments, new_payment(1, mode=CaptureMode.AUTOMATIC))
    await superuser.execute(
        "UPDATE payment SET state = 'settled', booking_hold_id = hold_id, booked_at_ms = 1,"
        " version = version + 1"
    )
    version = "" if "version" in change else ", version = version + 1"
    with pytest.raises(asyncpg.PostgresError) as raised:
        await superuser.execute(f"UPDATE payment SET {change}{version}")
    assert raised.value.sqlstate in ("HF003", "23514")


# -- paying back ----------------------------------------------------------------------------------


async def captured(payments: Payments, number: int = 1) -> Checkout:
    payment = await paid(payments, new_payment(number, mode=CaptureMode.AUTOMATIC))
    return Checkout(payment)


async def test_refunds_are_saved_with_their_payment_and_counted_when_they_succeed(
    payments: Payments,
) -> None:
    checkout = await captured(payments)
    saved = await payments.save(checkout, refund(refund(checkout, 300), 700))
    assert saved is not None
    assert saved == await read(payments, checkout.payment.payment_id)
    assert [each.amount_minor for each in saved.refunds] == [300, 700]
    for number, state, refunded_minor in (
        (1, RefundState.REQUESTED, 0),
        (1, RefundState.DUE, 0),
        (1, RefundState.SUCCEEDED, 300),
        (2, RefundState.SUCCEEDED, 1_000),
        (1, RefundState.FAILED, 700),
    ):
        after = await payments.save(saved, with_refund(saved, number, state))
        assert after is not None
        assert after.payment.refunded_minor == refunded_minor
        saved = await read(payments, checkout.payment.payment_id)
        assert saved == after
    once_more = await payments.save(saved, refund(saved, 300))
    assert once_more is not None
    assert [each.state.value for each in once_more.refunds] == ["failed", "succeeded", "due"]


@pytest.mark.parametrize("first", [RefundState.DUE, RefundState.REQUESTED, RefundState.SUCCEEDED])
async def test_all_refunds_together_stay_within_what_was_captured(
    payments: Payments, first: RefundState
) -> None:
    checkout = await captured(payments)
    saved = await payments.save(checkout, refund(checkout, 600, first))
    assert saved is not None
    with pytest.raises(asyncpg.PostgresError) as raised:
        await payments.save(saved, refund(saved, 401))
    assert raised.value.sqlstate == "HF008"
    assert await read(payments, checkout.payment.payment_id) == saved
    assert await payments.save(saved, refund(saved, 400)) is not None


async def test_nothing_is_paid_back_of_what_was_never_captured(payments: Payments) -> None:
    checkout = Checkout(await paid(payments, new_payment(1)))
    with pytest.raises(asyncpg.PostgresError):
        await payments.save(checkout, refund(checkout, 1))
    with pytest.raises(asyncpg.CheckViolationError):
        await payments.save(checkout, refund(checkout, 1, RefundState.SUCCEEDED))
    assert await read(payments, checkout.payment.payment_id) == checkout


async def test_a_refund_keeps_its_amount_and_its_end(payments: Payments) -> None:
    checkout = await captured(payments)
    saved = await payments.save(checkout, refund(checkout, 600, RefundState.SUCCEEDED))
    assert saved is not None
    other = replace(saved, refunds=(replace(saved.refunds[0], amount_minor=1),))
    for wrong in (
        other,
        with_refund(saved, 1, RefundState.DUE),
        with_refund(saved, 1, RefundState.REQUESTED),
    ):
        with pytest.raises(asyncpg.PostgresError) as raised:
            await payments.save(saved, wrong)
        assert raised.value.sqlstate == "HF003"
    failed = await payments.save(saved, with_refund(saved, 1, RefundState.FAILED))
    assert failed is not None
    with pytest.raises(asyncpg.PostgresError):
        await payments.save(failed, with_refund(failed, 1, RefundState.SUCCEEDED))
    assert states(await read(payments, checkout.payment.payment_id))[1] == [RefundState.FAILED]


# -- who may what ---------------------------------------------------------------------------------

TABLES = {
    "payment": "state",
    "refund": "state",
    "ledger_entry": "amount_minor",
    "ledger_end": "number",
    "payment_alarm": "resolved_by",
    "webhook_inbox": "body",
    "refund_job": "state",
    "promo_use": "is_kept",
    "promo_use_count": "use_count",
    "show_terms": "price_terms",
}


async def may(pool: Pool, statement: str) -> bool:
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


@pytest.mark.parametrize("role", [None, ORGANISER_GROUP])
async def test_money_is_changed_through_its_functions_only(
    empty_house: House, payments: Payments, role: str | None
) -> None:
    before = await captured(payments)
    pool = await open_pool(empty_house.application_dsn, "tests", size_max=1, role=role)
    for table, column in TABLES.items():
        for statement in (
            f"INSERT INTO {table} DEFAULT VALUES",
            f"UPDATE {table} SET {column} = {column}",
            f"DELETE FROM {table}",
            f"TRUNCATE {table}",
            f"SELECT FROM {table} FOR UPDATE",
            f"ALTER TABLE {table} DISABLE TRIGGER ALL",
            f"DROP TABLE {table}",
        ):
            if (role, table) == (ORGANISER_GROUP, "show_terms") and not statement.startswith(
                ("DELETE", "TRUNCATE", "ALTER", "DROP")
            ):
                continue
            assert not await may(pool, statement), statement
    for call in (
        "write_entry('x', 'captured', 1, 'EUR', 'x', NULL)",
        "settle_payments('{}')",
        "start_refund_jobs('[]')",
    ):
        assert not await may(pool, f"SELECT {call}"), call
    if role == ORGANISER_GROUP:
        for call in (
            "begin_payment('{}')",
            "lease_payments('x', 1, 1)",
            "save_checkout('x', 1, 'x', '{}', '[]', false)",
            "wake_payment('x')",
            "take_webhooks(1, 1)",
            "receive_webhooks('[]', '{}')",
            "end_leases('x', 'x')",
            "keep_promo_use('x')",
            "advance_refund_job('x', 'x', 'x', 'x', 1, true, 1, NULL)",
        ):
            assert not await may(pool, f"SELECT {call}"), call
    await pool.close()
    assert await read(payments, before.payment.payment_id) == before


async def test_tables_of_the_callers_own_do_not_take_the_place_of_the_real_ones(
    empty_house: House, superuser: Connection
) -> None:
    # The functions run as their owner, so what they find by name must not be the caller's.
    pool = await open_pool(empty_house.application_dsn, "tests", size_max=1)
    async with pool.acquire() as connection:
        for table in ("payment", "refund", "ledger_entry"):
            await connection.execute(
                f"CREATE TEMPORARY TABLE {table} (LIKE public.{table} INCLUDING ALL)"
            )
        await connection.fetchrow(
            "SELECT begin_payment($1::text::jsonb)",
            new_payment_json(new_payment(1), PRICE, None),
        )
        version = await connection.fetchval(
            "SELECT save_checkout($1, 0, 'created', $2::text::jsonb, '[]', false)",
            new_payment(1).payment_id,
            saved_payment_json(
                replace(new_payment(1), state=PaymentState.CAPTURED, captured_minor=AMOUNT_MINOR),
                None,
                None,
            ),
        )
        assert version == 1
        for table in ("payment", "refund", "ledger_entry"):
            assert await connection.fetchval(f"SELECT count(*) FROM pg_temp.{table}") == 0
    await pool.close()
    assert await superuser.fetchval("SELECT count(*) FROM payment") == 1
    assert await superuser.fetchval("SELECT count(*) FROM ledger_entry") == 1


# -- alarms, promo codes, terms, jobs -------------------------------------------------------------


async def test_an_alarm_is_raised_once_and_counts_until_somebody_looked(pool: Pool) -> None:
    books = PaymentBooks(pool)
    payment_id = new_payment(1).payment_id
    assert await books.raise_alarm("mismatch", payment_id, "999 EUR", SHOW.show_id)
    assert not await books.raise_alarm("mismatch", payment_id, "998 EUR", SHOW.show_id)
    assert await books.raise_alarm("mismatch", "stripe:pi_unknown", "not ours")
    first, second = await books.alarms()
    assert (first.subject, first.detail, first.seen_count) == (payment_id, "998 EUR", 2)
    assert (second.subject, second.show_id) == ("stripe:pi_unknown", None)
    assert await books.resolve_alarm(first.alarm_id, "ann")
    assert not await books.resolve_alarm(first.alarm_id, "bob")
    assert await books.alarms() == [second]
    assert await books.raise_alarm("mismatch", payment_id, "again")


async def take(uses: PromoUses, number: int, customer: CustomerId = ANN) -> TakeOutcome:
    return await uses.take(
        new_payment(number).payment_id,
        PromoUse(HOUSE_TENANT, "SUMMER"),
        customer,
        uses_max=5,
        uses_per_customer_max=3,
    )


async def test_the_last_use_of_a_promo_code_goes_to_one_customer(pool: Pool) -> None:
    uses = PromoUses(pool)
    customers = [CustomerId(f"acc_{number}") for number in range(12)]
    outcomes = await asyncio.gather(*(take(uses, n, customers[n]) for n in range(12)))
    assert sorted(outcomes) == [TakeOutcome.TAKEN] * 5 + [TakeOutcome.USED_UP] * 7
    use = PromoUse(HOUSE_TENANT, "SUMMER")
    winner = outcomes.index(TakeOutcome.TAKEN)
    assert await uses.usage(use, customers[winner]) == PromoUsage(5, 1)
    assert await take(uses, winner, customers[winner]) is TakeOutcome.REPEATED
    assert await uses.give_back(new_payment(winner).payment_id)
    assert not await uses.give_back(new_payment(winner).payment_id)
    assert await uses.usage(use, customers[winner]) == PromoUsage(4, 0)
    assert await take(uses, 50) is TakeOutcome.TAKEN


async def test_a_promo_code_is_counted_for_each_customer_and_kept_with_the_booking(
    pool: Pool,
) -> None:
    uses = PromoUses(pool)
    outcomes = await asyncio.gather(*(take(uses, number) for number in range(4)))
    assert sorted(outcomes) == ["taken"] * 3 + ["used_by_customer"]
    assert await take(uses, 9, BOB) is TakeOutcome.TAKEN
    assert await take(uses, 9, ANN) is TakeOutcome.OTHER_CONTENT
    payment_id = new_payment(9).payment_id
    assert payment_id in await uses.open_before(1 << 50)
    assert await uses.keep(payment_id)
    assert not await uses.give_back(payment_id)
    assert payment_id not in await uses.open_before(1 << 50)
    assert len(await uses.open_before(1 << 50)) == 3
    assert await uses.open_before(0) == []
    assert not await uses.keep(PaymentId("pay_unknown"))


TERMS = PriceTerms(
    (FeeTerm("Booking fee", FeeBasis.ORDER, 150), FeeTerm("Service", FeeBasis.PERCENTAGE, 250)),
    (TaxTerm("MwSt", TaxBase.PLACES, 700, is_included=True),),
)
POLICY = RefundPolicy((RefundBand(86_400_000, 10_000), RefundBand(0, 5_000)), 99)


async def test_a_show_has_the_terms_that_its_organiser_sets(
    empty_house: House, pool: Pool, superuser: Connection
) -> None:
    organisers = await open_pool(
        empty_house.application_dsn, "tests", size_max=1, role=ORGANISER_GROUP
    )
    store = ShowTermsStore(organisers)
    assert await store.find(SHOW.show_id) == ShowTerms()
    missing = await store.put(HOUSE_TENANT, SHOW.show_id, TERMS, POLICY)
    assert missing.outcome is PutOutcome.NOT_FOUND
    await superuser.execute(
        "INSERT INTO seating_plan VALUES ('pln_00000000000000000000', '', 0, 0, '', '', '{}', '{}')"
    )
    await superuser.execute(
        "INSERT INTO show (show_id, source_key, kind, title, venue, starts_at, ends_at,"
        " service_day_at, time_zone, plan_id, currency, fares, placement, policy, search_words)"
        " VALUES ($1, 'x', 'performance', '', '', now(), now(), now(), 'UTC',"
        " 'pln_00000000000000000000', 'EUR', '[]', 'pooled', '{}', '')",
        SHOW.show_id,
    )
    first = await store.put(HOUSE_TENANT, SHOW.show_id, TERMS, POLICY, 0)
    assert first.row is not None
    assert (first.row.price_terms, first.row.refund_policy) == (TERMS, POLICY)
    assert await ShowTermsStore(pool).find(SHOW.show_id) == first.row
    stale = await store.put(HOUSE_TENANT, SHOW.show_id, PriceTerms(), POLICY, 0)
    assert stale.outcome is PutOutcome.STALE
    second = await store.put(HOUSE_TENANT, SHOW.show_id, PriceTerms(), RefundPolicy(), 1)
    assert second.row is not None
    assert (second.row.price_terms, second.row.version) == (PriceTerms(), 2)
    foreign = await store.put(TenantId("tnt_" + "1" * 20), SHOW.show_id, TERMS, POLICY)
    assert foreign.outcome is PutOutcome.NOT_FOUND
    assert await store.find(SHOW.show_id) == second.row
    await organisers.close()


async def start_job(superuser: Connection, bookings: int) -> None:
    for number in range(bookings):
        hold_id = hold_of(number)
        await superuser.execute(
            "INSERT INTO hold VALUES ($1, $2, $3, 0, 1, '{1}', '{1000}', '[]', 'named', 1, 2, 2, 3,"
            " 'confirmed', '', 1)",
            hold_id,
            SHOW.show_id,
            ANN,
        )
        await superuser.execute(
            "INSERT INTO booking VALUES ($1, $2, $3, $4, 'counter', 1000, 3, NULL, 1)",
            hold_id,
            "bkg_" + hold_id[4:],
            SHOW.show_id,
            ANN,
        )
    await superuser.execute(
        "SELECT start_refund_jobs(jsonb_build_array(jsonb_build_object('show_id', $1::text,"
        " 'at_ms', 5)))",
        SHOW.show_id,
    )


async def test_a_refund_job_goes_on_where_the_last_worker_stopped(
    pool: Pool, superuser: Connection
) -> None:
    await start_job(superuser, 25)
    jobs = RefundJobs(pool)
    expected = sorted(hold_of(number) for number in range(25))
    seen: list[str] = []
    for worker in ("one", "two", "three", "four"):
        job = await jobs.lease(worker, LONG_MS)
        assert job is not None
        assert await jobs.lease("idle", LONG_MS) is None
        page = await jobs.page(job, 10)
        if not page:
            over = await jobs.advance(job, worker, page, LONG_MS)
            assert over is not None
            assert (over.state, over.done, over.total) == (JobState.DONE, 25, 25)
            break
        # The first worker dies without a word: its page is begun anew.
        if worker != "one":
            seen += [each.hold_id for each in page]
            ahead = await jobs.advance(job, worker, page, LONG_MS)
            assert ahead is not None
            assert ahead.done == len(seen)
            assert await jobs.advance(job, worker, page, LONG_MS) is None
            while True:
                page = await jobs.page(ahead, 10)
                going = await jobs.advance(ahead, worker, page, LONG_MS)
                assert going is not None
                seen += [each.hold_id for each in page]
                if not page:
                    break
                ahead = going
            assert (going.state, going.done) == (JobState.DONE, 25)
            break
        await superuser.execute("UPDATE refund_job SET lease_until_ms = 1")
    assert seen == expected
    assert await jobs.lease("late", LONG_MS) is None


async def test_a_worker_that_lost_its_job_does_not_move_it(
    pool: Pool, superuser: Connection
) -> None:
    await start_job(superuser, 3)
    jobs = RefundJobs(pool)
    slow = await jobs.lease("slow", -1)
    quick = await jobs.lease("quick", LONG_MS)
    assert slow is not None
    assert quick is not None
    page = await jobs.page(slow, 2)
    assert await jobs.advance(slow, "slow", page, LONG_MS) is None
    let_go = await jobs.give_up(quick, "quick", "the show does not answer\0")
    assert let_go is not None
    assert (let_go.last_error, let_go.done) == ("the show does not answer", 0)
    again = await jobs.lease("third", LONG_MS)
    assert again is not None
    assert again.attempts == 3


async def test_a_job_knows_who_cancelled_the_show(pool: Pool, superuser: Connection) -> None:
    jobs = RefundJobs(pool)
    assert not await jobs.name_requester(SHOW.show_id, "ann")
    await start_job(superuser, 1)
    assert await jobs.name_requester(SHOW.show_id, "ann")
    assert await jobs.name_requester(SHOW.show_id, "ann")
    assert not await jobs.name_requester(SHOW.show_id, "bob")
    job = await jobs.find(SHOW.show_id)
    assert job is not None
    assert job.requested_by == "ann"
