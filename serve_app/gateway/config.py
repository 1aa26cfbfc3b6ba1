"""What the gateway is told: where it listens, whom it serves, how much of it anybody may have.

Everything here ends up in ``haproxy_text.configuration``; the sizes fit each other, see there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

KIB = 1024
MIB = 1024 * 1024

HEAD_BYTES_MAX = 16 * KIB
"""Names and values of a request's header fields."""

ADDRESS_BYTES_MAX = 8 * KIB

HEADER_FIELDS_MAX = 100


class Backend(NamedTuple):
    """Where a house's own HTTP port is.

    Shapes:
        host: an IP address, an IPv6 one without brackets.
    """

    host: str
    port: int

    @property
    def address(self) -> str:
        """As HAProxy and URLs write it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class LargeBody(NamedTuple):
    """A route whose requests may have larger bodies than others."""

    prefix: str
    bytes_max: int


PREFIXES = (
    "/api/browse",
    "/api/booking",
    "/api/payments",
    "/api/account",
    "/api/organiser",
)
"""What is served besides ``/`` itself. Serve's own addresses (``/-/...``) are not."""

LARGE_BODIES = (
    LargeBody("/api/payments/webhooks", 256 * KIB),
    LargeBody("/api/organiser/seating-plans", 16 * MIB),
    LargeBody("/api/organiser/timetable-imports", 32 * MIB),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayLimits:
    """How much of the gateway one address, and everybody together, may have.

    An IPv6 address counts as its /64 network, because that is what one subscriber gets.

    Shapes:
        rate_per_s: requests of one address, averaged over ``rate_window_s``; the whole amount of
            a window may come at once.
        body_bytes_max: of requests that ``large_bodies`` does not name.
    """

    rate_per_s: int = 100
    rate_window_s: int = 10
    connections_per_address_max: int = 100
    connections_max: int = 4_000
    body_bytes_max: int = 64 * KIB
    large_bodies: tuple[LargeBody, ...] = LARGE_BODIES
    head_timeout_s: int = 5
    body_timeout_s: int = 10
    idle_timeout_s: int = 30
    answer_timeout_s: int = 60

    def __post_init__(self) -> None:
        for name in (
            "rate_per_s",
            "rate_window_s",
            "connections_per_address_max",
            "connections_max",
            "body_bytes_max",
            "head_timeout_s",
            "body_timeout_s",
            "idle_timeout_s",
            "answer_timeout_s",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: below 1")

    @property
    def requests_per_window_max(self) -> int:
        """So many requests of one address are admitted in a window, and not one more."""
        return self.rate_per_s * self.rate_window_s


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayConfig:
    """One gateway.

    Shapes:
        host: the IP address to listen on; ``0.0.0.0`` and ``::`` mean all.
        certificate: a PEM file with the chain and its private key.
        backends: houses (nodes of one cluster) that share the requests; at least one.
        secret_map: a file whose line ``secret VALUE`` has what applications know the gateway by.
        control_socket: made by HAProxy; whoever can open it rules it.
        threads: with more than one, a rate limit may admit as many requests too many.
        is_root: give up root after the ports are open.
    """

    host: str
    https_port: int
    http_port: int
    metrics_port: int
    certificate: Path
    backends: tuple[Backend, ...]
    secret_map: Path
    control_socket: Path
    hsts_max_age_s: int
    threads: int = 1
    prefixes: tuple[str, ...] = PREFIXES
    limits: GatewayLimits = GatewayLimits()
    is_root: bool = False

    def __post_init__(self) -> None:
        if not self.backends:
            raise ValueError("backends: there is none")
        if self.threads < 1:
            raise ValueError("threads: below 1")
        for name in ("certificate", "secret_map", "control_socket"):
            path = str(getattr(self, name))
            # They stand between quotes in a file of lines.
            if any(character in path for character in "'\n\r\0"):
                raise ValueError(f"{name}: {path!r} has a quote or a line break")
