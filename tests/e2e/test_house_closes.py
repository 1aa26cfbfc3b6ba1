"""The house that many have used is closed: nothing of it is left, and it has given nothing away.

Secrets are looked for in the arguments of all its processes and in all its logs. By then customers
have paid, a gateway and a replica have been killed, crowds have come, and it has logged all of it
as talkatively as it can.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import sys
import urllib.error
import urllib.request

import psutil
import pytest

from serve_app.house.demo_logins import read_demo_logins
from tests.support.launched_house import STOP_S, LaunchedHouse
from tests.support.secrets_found import in_arguments, in_files, password_of
from tests.support.whole_house import MAIL_PASSWORD, WholeHouse

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lets a house be started like this"
)

PATIENCE_S = 30
FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhY2NfMSJ9.forged-forged-forged"
PATHS = (
    "/api/booking/holds",
    "/api/account/me",
    "/api/organiser/shows",
    "/api/browse/shows?q=password%3Ds3cret",
    "/nowhere",
)


@pytest.fixture(scope="module")
def house(whole_house: WholeHouse) -> LaunchedHouse:
    return whole_house.house


def ask_in_vain(url: str) -> None:
    """Any request that carries a secret; every answer will do."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {FORGED}"})
    with contextlib.suppress(urllib.error.HTTPError):
        urllib.request.urlopen(request, timeout=PATIENCE_S).read()


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
    for login in read_demo_logins(house.data):
        secrets[f"the password of {login.email}"] = login.password
    return secrets


@pytest.fixture(scope="module")
def secrets(house: LaunchedHouse) -> dict[str, str]:
    return secrets_of(house)


def processes_of(house: LaunchedHouse) -> list[psutil.Process]:
    launcher = psutil.Process(house.launcher.pid)
    return [launcher, *launcher.children(recursive=True)]


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_no_secret_is_seen_in_arguments(house: LaunchedHouse, secrets: dict[str, str]) -> None:
    for path in PATHS:
        ask_in_vain(house.url + path)
    processes = processes_of(house)
    lines = "\n".join(" ".join(process.cmdline()) for process in processes)
    for program in ("postgres", "valkey", "raylet", "haproxy", "ray::ServeReplica", "sandbox"):
        assert re.search(program, lines), f"{program} does not run, so nothing is shown"
    assert in_arguments(secrets, processes) == []


def test_ctrl_c_stops_everything_and_leaves_nothing(house: LaunchedHouse) -> None:
    processes = processes_of(house)
    assert any("/gateway/haproxy.cfg" in " ".join(process.cmdline()) for process in processes)
    link = house.data / "run"
    run_directory = link.readlink()
    house.launcher.send_signal(signal.SIGINT)
    assert house.launcher.wait(STOP_S) == 0
    assert all(is_gone(process) for process in processes)
    assert not run_directory.exists()
    assert not link.is_symlink()
    assert not (house.data / "running.json").exists()


def test_no_secret_is_in_what_it_has_said(house: LaunchedHouse, secrets: dict[str, str]) -> None:
    # What it says when it stops is in the logs, too.
    assert house.launcher.poll() is not None
    assert in_files(secrets, house.data / "logs") == in_files(secrets, house.data / "ray") == []
    assert not [name for name, secret in secrets.items() if secret in house.output]
    for folder in ("logs", "ray"):
        assert any((house.data / folder).rglob("*")), f"{folder} is empty, so nothing is shown"
