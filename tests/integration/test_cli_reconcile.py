"""``housefull reconcile`` against a provider and a database that really are there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from integrations.payments.gateways import build_gateways
from integrations.payments.payment_gateway import PaymentRequest
from persistence.payments import Payments
from persistence.sessions import open_pool
from reservation.ids import PaymentId
from reservation.payment import PaymentState
from tests.support.payment_benches import sandbox_config
from tests.support.sandbox import RunningSandbox, running_sandbox
from tests.support.stored_payments import AMOUNT_MINOR, begun, new_payment, read

REPOSITORY = Path(__file__).resolve().parents[2]

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    with running_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def housefull(fresh_database: str, sandbox: RunningSandbox, tmp_path: Path) -> Command:
    """Runs a command against the database of the test, with the sandbox for Stripe."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "serve_app", *arguments],
            cwd=tmp_path,
            env={
                "PATH": "/usr/bin:/bin",
                "PYTHONPATH": str(REPOSITORY),
                "HOUSEFULL_DATABASE_URLS": fresh_database,
                "HOUSEFULL_PAYMENTS": "providers",
                "HOUSEFULL_STRIPE_SECRET_KEY": sandbox.secret_key,
                "HOUSEFULL_STRIPE_PUBLISHABLE_KEY": sandbox.publishable_key,
                "HOUSEFULL_STRIPE_API_URL": sandbox.stripe_url,
                **settings,
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def pay_at_provider(sandbox: RunningSandbox, number: int) -> tuple[PaymentId, str]:
    """A payment that is paid at the provider; its id and the provider's."""
    payment = new_payment(number)

    async def create() -> str:
        gateways = build_gateways(replace(sandbox_config(sandbox), razorpay=None))
        request = PaymentRequest(
            payment.payment_id,
            AMOUNT_MINOR,
            "EUR",
            payment.capture_mode,
            f"pi:{payment.payment_id}",
            "Places",
        )
        made = await gateways["stripe"].create(request)
        await gateways["stripe"].close()
        return made.provider_ref

    provider_ref = asyncio.run(create())
    assert sandbox.control("POST", "stripe/pay", ids=[provider_ref])
    return payment.payment_id, provider_ref


def store(dsn: str, number: int, provider_ref: str) -> None:
    """The row of that payment, which nobody has looked at since it was made."""

    async def begin() -> None:
        pool = await open_pool(dsn, "tests", size_max=1)
        payments = Payments(pool)
        await begun(payments, new_payment(number, due_at_ms=None))
        before = await read(payments, new_payment(number).payment_id)
        opened = replace(
            before.payment, state=PaymentState.OPEN, provider_ref=provider_ref, due_at_ms=None
        )
        assert await payments.save(before, replace(before, payment=opened)) is not None
        await pool.close()

    asyncio.run(begin())


def is_noticed(dsn: str, payment_id: PaymentId) -> bool:
    async def look() -> bool:
        pool = await open_pool(dsn, "tests", size_max=1)
        checkout = await read(Payments(pool), payment_id)
        await pool.close()
        return checkout.payment.is_noticed

    return asyncio.run(look())


def open_alarms(dsn: str) -> int:
    async def count() -> int:
        pool = await open_pool(dsn, "tests", size_max=1)
        number: int = await pool.fetchval("SELECT count(*) FROM payment_alarm")
        await pool.close()
        return number

    return asyncio.run(count())


def test_a_house_and_a_provider_that_agree_end_well(housefull: Command) -> None:
    done = housefull("reconcile")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert "the providers' books and ours agree" in done.stdout


def test_a_lost_webhook_is_found_and_its_payment_is_woken(
    housefull: Command, sandbox: RunningSandbox, fresh_database: str
) -> None:
    housefull("migrate")
    payment_id, provider_ref = pay_at_provider(sandbox, 1)
    store(fresh_database, 1, provider_ref)
    looked = housefull("reconcile", "--look-only")
    assert looked.returncode == 1, looked
    assert f"{payment_id}: lags: open here, authorised there" in looked.stderr
    assert not is_noticed(fresh_database, payment_id), "it only looked"
    done = housefull("reconcile", "--since", "1")
    assert done.returncode == 1
    assert is_noticed(fresh_database, payment_id)


def test_money_that_nobody_here_knows_is_an_alarm(
    housefull: Command, sandbox: RunningSandbox, fresh_database: str
) -> None:
    payment_id, provider_ref = pay_at_provider(sandbox, 2)
    done = housefull("reconcile")
    assert done.returncode == 1
    assert f"stripe {provider_ref}: no_row: {payment_id}" in done.stderr
    assert open_alarms(fresh_database) == 1


def test_a_provider_that_is_away_is_not_said_to_agree(housefull: Command) -> None:
    done = housefull("reconcile", HOUSEFULL_STRIPE_API_URL="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "not compared: stripe: " in done.stderr
    assert "agree" not in done.stdout


def test_a_sandbox_is_there_only_with_its_house(housefull: Command, tmp_path: Path) -> None:
    done = housefull("reconcile", HOUSEFULL_PAYMENTS="sandbox", HOUSEFULL_DATA_DIR=str(tmp_path))
    assert done.returncode == 2, done
    assert "start the house first" in done.stderr


@pytest.mark.parametrize("hours", ["0", "-1", "soon"])
def test_a_time_that_is_none_is_refused(housefull: Command, hours: str) -> None:
    assert housefull("reconcile", "--since", hours).returncode == 2
