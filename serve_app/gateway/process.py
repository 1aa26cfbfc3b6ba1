"""HAProxy in front of a house: one process that does not outlive this one.

Theory of operation

``start`` writes the files of one gateway into a private folder, has HAProxy check them, and runs
it in the foreground. ``refresh`` is called now and then: when the certificate's file has changed,
a second HAProxy takes the listening sockets over from the first, which finishes the requests it
has and ends; nobody is refused meanwhile. A certificate that cannot be used changes nothing.

    haproxy.cfg     the configuration; no secret in it
    secret.map      what applications know the gateway by; mode 0600, as everything here
    control.sock    HAProxy's own, for this user only
"""

from __future__ import annotations

import contextlib
import logging
import resource
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

from persistence.child_process import ChildProcess, EmbeddedServerError, own_identity
from serve_app.gateway.config import GatewayConfig, GatewayLimits
from serve_app.gateway.haproxy_text import configuration
from serve_app.house_error import HouseError

START_TIMEOUT_MS = 20_000
STOP_TIMEOUT_MS = 8_000

_CHECK_TIMEOUT_S = 30
_SOCKET_TIMEOUT_S = 2
_POLL_S = 0.02
# For what is no connection of a client: listening, logging, polling, health checks.
_DESCRIPTORS_SPARED = 100
# A client's connection and one to the house.
_DESCRIPTORS_A_CONNECTION = 2

_log = logging.getLogger(__name__)


class Gateway:
    """One running gateway.

    Call ``start`` and ``refresh`` from a thread that lives as long as the gateway shall, normally
    the main thread (see ``persistence/child_process.py``).

    Args:
        config: ``secret_map`` and ``control_socket`` are in ``folder``.
        binary: HAProxy's own; it stays where it is, its libraries are beside it.
        folder: private and for this gateway alone; its path is short enough for a socket.
        log_path: what HAProxy says.
        secret: what applications know the gateway by.
    """

    def __init__(
        self, config: GatewayConfig, *, binary: Path, folder: Path, log_path: Path, secret: str
    ) -> None:
        assert secret.isascii(), "it becomes a header"
        assert secret.isprintable(), "it becomes a line of a file"
        assert " " not in secret, "it becomes a word of a line"
        self.config = replace(config, limits=_within_descriptors(config))
        self._binary = binary
        self._folder = folder
        self._log_path = log_path
        self._secret = secret
        self._child = ChildProcess("the gateway", log_path)
        self._leaving: list[ChildProcess] = []
        self._certificate_stamp = (0, 0)

    @property
    def is_running(self) -> bool:
        """Whether HAProxy is there."""
        return self._child.is_running

    @property
    def pid(self) -> int:
        """HAProxy's process."""
        return self._child.pid

    def start(self) -> None:
        """Start it; returns when it accepts connections.

        Raises:
            HouseError: the configuration is refused; the message says what HAProxy objects to.
            EmbeddedServerError: it did not start; the message ends with its last words.
        """
        self._certificate_stamp = self._stamp()
        self._write_files()
        self._check()
        self._child = self._started([])

    def refresh(self) -> None:
        """Take up a certificate that was replaced; never raises because of a bad one."""
        self._leaving = [child for child in self._leaving if child.is_running]
        stamp = self._stamp()
        if stamp == self._certificate_stamp or not self.is_running:
            return
        self._certificate_stamp = stamp
        try:
            self.reload()
        except (HouseError, EmbeddedServerError) as error:
            _log.error("the gateway keeps its old certificate: %s", error)
        else:
            _log.info("the gateway has taken up its new certificate")

    def reload(self) -> None:
        """Replace the process by one that reads its files anew; no connection is refused.

        Raises:
            HouseError, EmbeddedServerError: as ``start``; the old process goes on.
        """
        self._check()
        taking_over = ["-x", str(self.config.control_socket), "-sf", str(self._child.pid)]
        successor = self._started(taking_over)
        self._leaving.append(self._child)
        self._child = successor

    def stop(self, timeout_ms: int = STOP_TIMEOUT_MS) -> None:
        """Let the requests under way finish, but no longer than that."""
        # HAProxy's word for: take no more, end when the last one is gone.
        self._child.stop(signal.SIGUSR1, timeout_ms=timeout_ms)
        for child in self._leaving:
            child.kill()
        self._leaving = []

    def _started(self, taking_over: list[str]) -> ChildProcess:
        child = ChildProcess("the gateway", self._log_path)
        child.start(
            [str(self._binary), "-db", "-f", str(self._config_path), *taking_over],
            death_signal="KILL",
            identity=own_identity(),
            inherited_descriptors=(),
        )
        child.wait_until_ready(lambda: self._is_ready(child.pid), timeout_ms=START_TIMEOUT_MS)
        return child

    def _is_ready(self, pid: int) -> bool:
        # The socket changes hands when the successor has everything it needs.
        with contextlib.suppress(OSError):
            return f"\nPid: {pid}\n" in self.ask("show info")
        return False

    def ask(self, command: str) -> str:
        """What HAProxy answers on its control socket.

        Raises:
            OSError: nobody is there.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_SOCKET_TIMEOUT_S)
            connection.connect(str(self.config.control_socket))
            connection.sendall(f"{command}\n".encode())
            answer = b""
            while received := connection.recv(65_536):
                answer += received
        return answer.decode(errors="replace")

    def wait_until_house_is_up(self, timeout_s: float) -> bool:
        """Whether a house behind it was found well in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            states = self.ask("show stat house -1 -1")
            if any(",UP," in line for line in states.splitlines() if ",BACKEND," not in line):
                return True
            time.sleep(_POLL_S)
        return False

    @property
    def _config_path(self) -> Path:
        return self._folder / "haproxy.cfg"

    def _write_files(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path, content in (
            (self._config_path, configuration(self.config)),
            (self.config.secret_map, f"secret {self._secret}\n"),
        ):
            path.unlink(missing_ok=True)
            path.touch(mode=0o600)
            path.write_text(content)

    def _check(self) -> None:
        checked = subprocess.run(
            [str(self._binary), "-c", "-f", str(self._config_path)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_CHECK_TIMEOUT_S,
            check=False,
        )
        if checked.returncode != 0:
            objections = [line for line in checked.stderr.splitlines() if "[ALERT]" in line]
            raise HouseError(
                "HAProxy refuses the gateway's configuration: "
                + "; ".join(line.partition(" : ")[2] for line in objections[:3])
            )

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self.config.certificate.stat()
        except OSError:
            # It is just being replaced; the next look will find it.
            return self._certificate_stamp
        return status.st_mtime_ns, status.st_ino


def _within_descriptors(config: GatewayConfig) -> GatewayLimits:
    """The limits, with no more connections than this process may open files for."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return config.limits
    possible = max(1, (hard - _DESCRIPTORS_SPARED) // _DESCRIPTORS_A_CONNECTION)
    return replace(config.limits, connections_max=min(config.limits.connections_max, possible))
