"""The comparison of listening sockets finds what it shall find."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest

from tests.support.listening import (
    Allowed,
    Listener,
    allowed_listeners,
    listeners_of,
    not_allowed,
    public,
)


def test_a_socket_on_every_address_is_found_and_one_on_loopback_is_not_public() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as inside,
        socket.create_server(("0.0.0.0", 0)) as outside,
        socket.socket(type=socket.SOCK_DGRAM) as datagrams,
    ):
        datagrams.bind(("0.0.0.0", 0))
        found = listeners_of([psutil.Process()])
        ports = {listener.port for listener in public(found)}
        assert inside.getsockname()[1] in {listener.port for listener in found}
        assert inside.getsockname()[1] not in ports
        assert {outside.getsockname()[1], datagrams.getsockname()[1]} <= ports


@pytest.mark.parametrize(
    ("listener", "is_allowed"),
    [
        (Listener("haproxy", "0.0.0.0", 8443), True),
        (Listener("haproxy", "0.0.0.0", 8404), False),
        (Listener("haproxy", "::", 8443), False),
        (Listener("haproxy", "127.0.0.1", 8404), True),
        (Listener("haproxy", "::ffff:127.0.0.1", 8404), True),
        (Listener("haproxy", "::1", 8404), True),
        (Listener("haproxy", "10.0.0.5", 8443), False),
        (Listener("postgres", "0.0.0.0", 8443), False),
        (Listener("ray::ServeReplica", "::", 31_234), True),
    ],
)
def test_only_what_the_list_names_may_be_public(listener: Listener, is_allowed: bool) -> None:
    lines = [
        Allowed("haproxy", "0.0.0.0", "gateway", "reason"),
        Allowed("ray::ServeReplica", "::", "any", "reason"),
    ]
    assert (not_allowed([listener], lines, {"gateway": 8443}) == []) == is_allowed


def test_every_line_of_the_list_has_a_reason(tmp_path: Path) -> None:
    assert allowed_listeners()
    path = tmp_path / "list.txt"
    path.write_text("# process address port reason\n\npostgres 0.0.0.0 5432\n")
    with pytest.raises(AssertionError, match="line 3 has no reason"):
        allowed_listeners(path)
