"""A whole house at work: a customer pays and gets money back, and no secret is seen anywhere.

The provider is the house's own sandbox, and its webhooks are what tells the house. Secrets are
looked for after that, in the arguments of all processes and in all logs.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest

from serve_app.house.demo_logins import CUSTOMER, read_demo_logins
from tests.support.launched_house import CHECKOUT, STOP_S, LaunchedHouse, launched_house
from tests.support.secrets_found import in_arguments, in_files, password_of

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lets a house be started like this"
)

PATIENCE_S = 30
BOOKED, REFUNDED = "booked", "refunded"
MAIL_PASSWORD = "s3cret-of-the-mail-server"
FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhY2NfMSJ9.forged-forged-forged"
PATHS = (
    "/api/booking/holds",
    "/api/account/me",
    "/api/organiser/shows",
    "/api/browse/shows?q=password%3Ds3cret",
    "/nowhere",
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LaunchedHouse]:
    """A house that tells all it does, and whose mail server is never there."""
    settings = {
        "http_replicas": "1",
        "demo": "auto",
        "sandbox_port": "0",
        "log_level": "debug",
        "smtp_url": f"smtps://house:{MAIL_PASSWORD}@127.0.0.1:1",
        "mail_from": "tickets@house.example",
    }
    data = tmp_path_factory.mktemp("at work") / "data"
    with launched_house(data, "haproxy", **settings) as house:
        yield house


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

    def first_show(self) -> str:
        """A show that can be bought."""
        show_id: str = self.get("browse/shows?kind=performance&limit=1")["shows"][0]["show_id"]
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


def test_a_customer_pays_and_cancels_and_all_books_agree(house: LaunchedHouse) -> None:
    sandbox = f"{house.notes['sandbox_url']}/sandbox"
    customer = Customer(house)
    show_id = customer.first_show()
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
    theirs = ask("GET", f"{sandbox}/statement-of-payments")
    amount = payment["amount_minor"]
    assert [(one["captured"], one["refunded"]) for one in theirs] == [(amount, amount)] * 2
    said = verified(house)
    assert "2 payments: nothing was sold twice and all books agree" in said
    started = psutil.Process(house.launcher.pid).children(recursive=True)
    lines = [" ".join(process.cmdline()) for process in started]
    assert any("integrations.sandbox" in line for line in lines)


def ask_in_vain(url: str) -> None:
    """Any request that carries a secret; every answer will do."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {FORGED}"})
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=30).read()


def secrets_of(house: LaunchedHouse) -> dict[str, str]:
    """Everything that only the house itself should know, by name."""
    urls = house.notes["database_urls"]
    assert isinstance(urls, list)
    secrets = {
        "the owner's password": password_of(house.admin_dsn),
        "the house's password": password_of(str(urls[0])),
        "Valkey's password": password_of(str(house.notes["redis_url"])),
        "the mail server's password": MAIL_PASSWORD,
        "a client's token": FORGED[20:],
    }
    for name in ("ray.token", "gateway.secret", "application.password"):
        secrets[name] = (house.data / name).read_text().strip()
    for name, value in json.loads((house.data / "sandbox.keys").read_text()).items():
        if "secret" in name:
            secrets[f"the sandbox's {name}"] = value
    logins = house.data / "demo.logins"
    if logins.exists():
        for line in logins.read_text().splitlines():
            if line and not line.startswith("#"):
                email, _, password = line.partition(" ")
                secrets[f"the password of {email}"] = password
    return secrets


def test_no_secret_of_a_house_is_seen_in_arguments_or_logs(house: LaunchedHouse) -> None:
    for path in PATHS:
        ask_in_vain(house.url + path)
    secrets = secrets_of(house)
    launcher = psutil.Process(house.launcher.pid)
    processes = [launcher, *launcher.children(recursive=True)]
    lines = "\n".join(" ".join(process.cmdline()) for process in processes)
    for program in ("postgres", "valkey", "raylet", "haproxy", "ray::ServeReplica", "sandbox"):
        assert re.search(program, lines), f"{program} does not run, so nothing is shown"
    assert in_arguments(secrets, processes) == []
    house.launcher.terminate()
    assert house.launcher.wait(STOP_S) == 0
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive
    # What it says when it stops is in them, too.
    assert MAIL_PASSWORD not in (house.data.parent / "data.output").read_text()
    for folder in ("logs", "ray"):
        assert any((house.data / folder).rglob("*")), f"{folder} is empty, so nothing is shown"
        assert in_files(secrets, house.data / folder) == []
