"""A whole house that stands for many tests, because it takes half a minute to start one.

Everything that can be turned on is on. Who needs less does not mind: limits count the addresses
that the gateway vouches for and nothing else, so whoever asks the applications directly is not
limited, and what is logged most talkatively is looked through for secrets in the end.

``tests/conftest.py`` has it as ``whole_house`` and says in which order tests use it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from serve_app.house.ports import PortReservation
from tests.support.launched_house import CHECKOUT, RUN, LaunchedHouse, launched_house

SCRIPT = ("sh", str(CHECKOUT / "scripts" / "run"))
SCRIPT_IS_READY = (CHECKOUT / ".venv" / "installed").exists()
"""Where scripts/test did not make .venv, scripts/run would install into it."""
COMMAND = SCRIPT if SCRIPT_IS_READY else RUN

REQUESTS_A_MINUTE = 30
"""From one address, when the gateway says which."""

MAIL_PASSWORD = "s3cret-of-the-mail-server"

_UNLIMITED = (
    "holds",
    "commands",
    "reads",
    "logins",
    "logins_of_address",
    "mails",
    "account_requests_of_address",
    "refreshes",
    "organiser",
    "device",
)


class WholeHouse(NamedTuple):
    """A house before the world.

    Shapes:
        ports: the gateway's, by the names that the list of listeners has for them.
        taken_port: where it was told to serve HTTP, and somebody else does.
    """

    house: LaunchedHouse
    ports: dict[str, int]
    taken_port: int


@contextmanager
def whole_house(data: Path) -> Iterator[WholeHouse]:
    """Start it as a user does and stop it again, if nobody has. Call from the main thread."""
    # The taken one first: with the others given back, it could be one of them.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with PortReservation() as reserved:
            names = ("gateway", "gateway-http", "gateway-metrics")
            ports = {name: reserved.choose(name, host="0.0.0.0").port for name in names}
        taken_port = taken.getsockname()[1]
        settings = _settings(ports, taken_port)
        with launched_house(data, "haproxy", command=COMMAND, **settings) as house:
            yield WholeHouse(house, ports, taken_port)


def _settings(ports: dict[str, int], http_port: int) -> dict[str, str]:
    return {
        "gateway": "on",
        "gateway_host": "0.0.0.0",
        "gateway_port": str(ports["gateway"]),
        "gateway_http_port": str(ports["gateway-http"]),
        "gateway_metrics_port": str(ports["gateway-metrics"]),
        "demo": "auto",
        # Before the world there is none unasked.
        "payments": "sandbox",
        "sandbox_port": "0",
        "limits": "on",
        "limit_address": str(REQUESTS_A_MINUTE),
        **{f"limit_{name}": "0" for name in _UNLIMITED},
        "log_level": "debug",
        # Never there.
        "smtp_url": f"smtps://house:{MAIL_PASSWORD}@127.0.0.1:1",
        "mail_from": "tickets@house.example",
        "http_port": str(http_port),
    }
