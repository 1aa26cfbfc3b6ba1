"""Which sockets a house listens on, compared with the list of those that may be public."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil

ALLOWED = Path(__file__).resolve().parents[1] / "e2e" / "listening_allowed.txt"


class Listener(NamedTuple):
    """A process that listens, and where; ``::`` and ``0.0.0.0`` mean everywhere."""

    process: str
    address: str
    port: int


class Allowed(NamedTuple):
    """A line of the list. ``port`` is a number, ``any``, or what the test calls one."""

    process: str
    address: str
    port: str
    reason: str


def allowed_listeners(path: Path = ALLOWED) -> list[Allowed]:
    """The list; every line has a reason."""
    lines = []
    for number, text in enumerate(path.read_text().splitlines(), start=1):
        if not text.strip() or text.startswith("#"):
            continue
        process, address, port, reason = [*text.split(maxsplit=3), "", "", ""][:4]
        assert reason, f"{path.name} line {number} has no reason"
        lines.append(Allowed(process, address, port, reason))
    return lines


def listeners_of(processes: Iterable[psutil.Process]) -> list[Listener]:
    """Where these processes take connections or datagrams."""
    found = []
    for process in processes:
        try:
            name = _name_of(process)
            connections = process.net_connections("inet")
        except psutil.NoSuchProcess:
            continue
        for connection in connections:
            is_datagram = connection.type.name == "SOCK_DGRAM" and not connection.raddr
            if connection.status == psutil.CONN_LISTEN or is_datagram:
                found.append(Listener(name, connection.laddr.ip, connection.laddr.port))
    return found


def public(listeners: Iterable[Listener]) -> list[Listener]:
    """Those that somebody elsewhere can reach."""
    return [listener for listener in listeners if not _is_loopback(listener.address)]


def not_allowed(
    listeners: Iterable[Listener], allowed: Iterable[Allowed], ports: Mapping[str, int]
) -> list[Listener]:
    """The public ones that the list does not name.

    Args:
        ports: the numbers of the ports that the list calls by a name.
    """
    lines = list(allowed)
    return [
        listener
        for listener in public(listeners)
        if not any(_is_meant(line, listener, ports) for line in lines)
    ]


def _is_meant(line: Allowed, listener: Listener, ports: Mapping[str, int]) -> bool:
    is_port = line.port == "any" or ports.get(line.port, line.port) in (
        listener.port,
        str(listener.port),
    )
    return (line.process, line.address) == (listener.process, listener.address) and is_port


def _name_of(process: psutil.Process) -> str:
    """What it is called; Ray's workers give themselves names that end with their own ids."""
    command = process.cmdline()
    if command and command[0].startswith("ray::"):
        return ":".join(command[0].split(":")[:3])
    return process.name()


def _is_loopback(text: str) -> bool:
    address = ipaddress.ip_address(text)
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)
