"""The settings of the gateway; part of ``serve_app.settings``."""

from __future__ import annotations

import ipaddress
import os
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_settings import NoDecode

from serve_app.gateway.config import Backend, GatewayLimits

_LIMITS = GatewayLimits()
_SECRET = re.compile(r"[!-~]{16,200}")
_BACKEND = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[0-9.]+|localhost):(?P<port>[1-9][0-9]{0,4})")


def check_host(host: str) -> str:
    """An IP address, also for a setting that says ``localhost``.

    Raises:
        ValueError: it is neither.
    """
    try:
        return str(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        if host.lower() == "localhost":
            return "127.0.0.1"
        raise ValueError("must be an IP address of this machine, or localhost") from None


def _split_commas(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(part.strip() for part in value.split(",") if part.strip())


def _check_backends(backends: tuple[str, ...]) -> tuple[str, ...]:
    for text in backends:
        read_backend(text)
    return backends


def read_backend(text: str) -> Backend:
    """``127.0.0.1:8000`` or ``[::1]:8000``, in parts.

    Raises:
        ValueError: it is not of this form.
    """
    found = _BACKEND.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:
        raise ValueError("must be addresses like 10.0.0.5:8000 or [fd00::5]:8000")
    return Backend(check_host(found["host"]), int(found["port"]))


def _check_secret(secret: str | None) -> str | None:
    if secret is not None and not _SECRET.fullmatch(secret):
        # Said without the value, which would end up in a log.
        raise ValueError("must be 16 to 200 visible ASCII characters")
    return secret


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(path.expanduser()))


_Switch = Annotated[
    Literal["on", "off"],
    BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
]
_Port = Annotated[int, Field(ge=0, le=65_535)]


class GatewaySettings(BaseModel):
    """Where the gateway listens, what it shows, and how much of it one address may have."""

    gateway: _Switch = Field(
        default="off", description="on starts the gateway with the house, as `run --tls` does."
    )
    gateway_host: Annotated[str, AfterValidator(check_host)] = Field(
        default="127.0.0.1", description="Address the gateway listens on; 0.0.0.0 and :: mean all."
    )
    gateway_port: _Port = Field(default=8443, description="HTTPS port; 0 picks a free one.")
    gateway_http_port: _Port = Field(
        default=8080, description="Port that sends plain HTTP to HTTPS; 0 picks a free one."
    )
    gateway_metrics_port: _Port = Field(
        default=8405, description="Port of the gateway's metrics, on loopback; 0 picks a free one."
    )
    gateway_certificate: Annotated[Path | None, AfterValidator(_absolute)] = Field(
        default=None,
        description="PEM file with chain and private key; without it one is made for development.",
    )
    gateway_backends: Annotated[
        tuple[str, ...], NoDecode, BeforeValidator(_split_commas), AfterValidator(_check_backends)
    ] = Field(
        default=(),
        description="Houses behind `housefull gateway`, like 10.0.0.5:8000, separated by commas.",
    )
    gateway_secret: Annotated[str | None, AfterValidator(_check_secret)] = Field(
        default=None,
        description="What a house knows its gateways by; without it one is kept with the data.",
    )
    gateway_rate_per_s: int = Field(
        default=_LIMITS.rate_per_s,
        ge=1,
        le=1_000_000,
        description="Requests a second of one address, averaged over ten seconds.",
    )
    gateway_connections_per_address: int = Field(
        default=_LIMITS.connections_per_address_max,
        ge=1,
        description="Connections of one address at a time.",
    )
    gateway_connections: int = Field(
        default=_LIMITS.connections_max, ge=10, description="All connections at a time."
    )
    gateway_threads: int = Field(
        default=1, ge=1, le=64, description="Threads of the gateway; rates are exact with one."
    )
