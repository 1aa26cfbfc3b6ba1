"""A whole house at work: a customer pays and gets money back.

The provider is the house's own sandbox, and its webhooks are what tells the house.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import asyncpg
import psutil
import pytest

from serve_app.house.demo_logins import CUSTOMER, read_demo_logins
from tests.support.launched_house import CHECKOUT, LaunchedHouse
from tests.support.whole_house import WholeHouse

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lets a house be started like this"
)

PATIENCE_S = 30
BOOKED, REFUNDED = "booked", "refunded"


@pytest.fixture(scope="module")
def house(whole_house: WholeHouse) -> LaunchedHouse:
    return whole_house.house


def ask(method: str, url: str, body: object = None, **headers: str) -> Any:
    """What a server says; fails unless it is a success."""
    request = urllib.request.Request(
        url,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", **headers},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


def until(what: Callable[[], dict[str, Any]], state: str) -> dict[str, Any]:
    """What is there once it is in this state."""
    deadline = time.monotonic() + PATIENCE_S
    while (found := what())["state"] != state:
        assert time.monotonic() < deadline, f"it does not become {state}: {found}"
        time.sleep(0.2)
    return found


class Customer:
    """The demo customer of a house."""

    def __init__(self, house: LaunchedHouse) -> None:
        self._api = f"{house.url}/api"
        passwords = {login.email: login.password for login in read_demo_logins(house.data)}
        login = {"email": CUSTOMER, "password": passwords[CUSTOMER]}
        token = ask("POST", f"{self._api}/account/sessions", login)["access_token"]
        self._me = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> Any:
        return ask("GET", f"{self._api}/{path}", None, **self._me)

    def post(self, path: str, body: object = None, **headers: str) -> Any:
        return ask("POST", f"{self._api}/{path}", body, **self._me, **headers)

    def last_show(self) -> str:
        """A show that can be bought, and that nobody has thought of yet."""
        show_id: str = self.get("browse/shows?kind=performance&limit=9")["shows"][-1]["show_id"]
        return show_id

    def newest_payment(self) -> dict[str, Any]:
        """What the list says, which asks no provider."""
        (newest,) = self.get("payments/payments?limit=1")["payments"]
        found: dict[str, Any] = newest
        return found

    def checkout(self, show_id: str, provider: str) -> Any:
        """A payment for two places; the key is a new one for each provider."""
        key = {"Idempotency-Key": provider}
        places = {"best_available": {"count": 2}}
        hold = self.post(f"booking/shows/{show_id}/holds", places, **key)
        wish = {"provider": provider}
        return self.post(f"booking/holds/{hold['hold_id']}/checkout", wish, **key)


def verified(house: LaunchedHouse) -> str:
    """What ``housefull verify`` says of the house that runs."""
    done = subprocess.run(
        [sys.executable, "-m", "serve_app", "verify"],
        cwd=CHECKOUT,
        env={"PATH": "/usr/bin:/bin", "HOUSEFULL_DATA_DIR": str(house.data)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def payment_count(house: LaunchedHouse) -> int:
    connection = await asyncpg.connect(house.admin_dsn)
    try:
        count: int = await connection.fetchval("SELECT count(*) FROM payment")
    finally:
        await connection.close()
    return count


async def test_a_customer_pays_and_cancels_and_all_books_agree(house: LaunchedHouse) -> None:
    sandbox = f"{house.notes['sandbox_url']}/sandbox"
    # Others have paid in the house that was here before.
    before = {one["payment"] for one in ask("GET", f"{sandbox}/statement-of-payments")}
    count_before = await payment_count(house)
    customer = Customer(house)
    show_id = customer.last_show()
    for provider in ("stripe", "razorpay"):
        payment = customer.checkout(show_id, provider)
        assert payment["state"] == "waiting"
        ref = (
            payment["client"]["client_secret"].partition("_secret_")[0]
            if provider == "stripe"
            else payment["client"]["order_id"]
        )
        ask("POST", f"{sandbox}/{provider}/pay", {"ids": [ref]})
        # The list asks no provider, so it is the webhook that the house goes by.
        booked = until(customer.newest_payment, BOOKED)
        bookings = customer.get("booking/bookings")["bookings"]
        assert bookings[0]["booking_id"] == booked["booking_id"]
        assert bookings[0]["receipt"]["payment_id"] == payment["payment_id"]
        customer.post(f"booking/bookings/{booked['booking_id']}/cancel")
        refunded = until(customer.newest_payment, REFUNDED)
        assert refunded["refunded_minor"] == payment["amount_minor"]
    theirs = [
        (one["captured"], one["refunded"])
        for one in ask("GET", f"{sandbox}/statement-of-payments")
        if one["payment"] not in before
    ]
    amount = payment["amount_minor"]
    assert theirs == [(amount, amount)] * 2
    said = verified(house)
    books = f" {count_before + 2} payments: nothing was sold twice and all books agree"
    assert books in said
    started = psutil.Process(house.launcher.pid).children(recursive=True)
    lines = [" ".join(process.cmdline()) for process in started]
    assert any("integrations.sandbox" in line for line in lines)
