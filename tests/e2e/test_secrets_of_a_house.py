"""A whole house at work: none of its secrets in an argument of any process, or in any log."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tests.support.launched_house import LaunchedHouse, launched_house
from tests.support.secrets_found import in_arguments, in_files, password_of

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux lets a house be started like this"
)

MAIL_PASSWORD = "s3cret-of-the-mail-server"
FORGED = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhY2NfMSJ9.forged-forged-forged"
PATHS = (
    "/api/booking/holds",
    "/api/account/me",
    "/api/organiser/shows",
    "/api/browse/shows?q=password%3Ds3cret",
    "/nowhere",
)


def ask(url: str) -> None:
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


def test_no_secret_of_a_house_is_seen_in_arguments_or_logs(tmp_path: Path) -> None:
    settings = {
        "http_replicas": "1",
        "demo": "auto",
        "log_level": "debug",
        "smtp_url": f"smtps://house:{MAIL_PASSWORD}@127.0.0.1:1",
        "mail_from": "tickets@house.example",
    }
    with launched_house(tmp_path / "data", "haproxy", **settings) as house:
        for path in PATHS:
            ask(house.url + path)
        secrets = secrets_of(house)
        launcher = psutil.Process(house.launcher.pid)
        processes = [launcher, *launcher.children(recursive=True)]
        lines = "\n".join(" ".join(process.cmdline()) for process in processes)
        for program in ("postgres", "valkey", "raylet", "haproxy", "ray::ServeReplica", "sandbox"):
            assert re.search(program, lines), f"{program} does not run, so nothing is shown"
        assert in_arguments(secrets, processes) == []
    assert MAIL_PASSWORD not in (tmp_path / "data.output").read_text()
    for folder in ("logs", "ray"):
        assert any((house.data / folder).rglob("*")), f"{folder} is empty, so nothing is shown"
        assert in_files(secrets, house.data / folder) == []
