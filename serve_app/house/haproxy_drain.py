"""Lets HAProxy finish the requests under way before the house is closed.

Ray Serve kills its HAProxy first when it shuts down, which would cut every answer that is on its
way. So the public port is closed before, through HAProxy's control socket, and what was
accepted is waited for.
"""

from __future__ import annotations

import csv
import socket
import time
from pathlib import Path

_PUBLIC_FRONTEND = "http_frontend"
_POLL_S = 0.05
_SOCKET_TIMEOUT_S = 2


def drain(control_sockets: Path, timeout_s: float) -> int:
    """Accept no new connection, and wait for the requests under way.

    Args:
        control_sockets: the directory below which Ray Serve's HAProxy has its control socket.

    Returns:
        How many requests were still under way when the time was over: live feeds never end.
    """
    under_way = 0
    deadline = time.monotonic() + timeout_s
    for path in control_sockets.glob("*/admin.sock"):
        try:
            _ask(path, f"disable frontend {_PUBLIC_FRONTEND}")
            while (under_way := _requests_under_way(path)) and time.monotonic() < deadline:
                time.sleep(_POLL_S)
        except OSError:
            # It is gone, and so are its requests.
            continue
    return under_way


def _requests_under_way(path: Path) -> int:
    # Sessions of a frontend are connections, idle ones too; those of a backend are requests.
    rows = csv.DictReader(_ask(path, "show stat").removeprefix("# ").splitlines())
    return sum(
        int(row["scur"] or 0)
        for row in rows
        if row["svname"] == "BACKEND" and row["pxname"] != "stats"
    )


def _ask(path: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SOCKET_TIMEOUT_S)
        connection.connect(str(path))
        connection.sendall(f"{command}\n".encode())
        answer = b""
        while received := connection.recv(65_536):
            answer += received
    return answer.decode(errors="replace")
