"""Which TCP ports a house listens on: the wanted one when it is free, else another.

``PortReservation`` keeps every port it has chosen open until ``release``, so two of its own
choices are never the same, and nobody else is given one of them while the house starts.
"""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from types import TracebackType

from serve_app.house_error import HouseError

_NEIGHBOURS = 20
_LOOPBACK = "127.0.0.1"


class PortError(HouseError):
    """This machine will not let the house listen there; the message says why."""


@dataclass(frozen=True, slots=True)
class PortChoice:
    """A port that was free a moment ago.

    ``sentence`` tells the user about a change of plan, and is empty when there was none.
    """

    name: str
    port: int
    sentence: str


class PortReservation:
    """Chooses ports and holds them until the servers that use them are about to start."""

    def __init__(self) -> None:
        self._held: list[socket.socket] = []

    def __enter__(self) -> PortReservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def choose(self, name: str, *, wanted: int = 0, host: str = _LOOPBACK) -> PortChoice:
        """The wanted port, else the next free one above it, else any; 0 means any.

        Args:
            name: what the port is for, as the sentence shall call it.

        Raises:
            PortError: ``host`` is no address of this machine, or ports this low need more rights.
        """
        candidates = [wanted]
        if wanted:
            # A neighbour is easier to guess for a person than any free port.
            candidates += range(wanted + 1, min(wanted + _NEIGHBOURS, 65535) + 1)
            candidates.append(0)
        for candidate in candidates:
            port = self._hold(host, candidate)
            if port:
                sentence = ""
                if wanted and port != wanted:
                    sentence = f"Port {wanted} ({name}) was taken; using {port} instead."
                return PortChoice(name, port, sentence)
        raise PortError(f"no free port on {host} for {name}")

    def release(self) -> None:
        """Let the servers have their ports."""
        while self._held:
            self._held.pop().close()

    def hand_over(self, choice: PortChoice) -> None:
        """Let one server have its port, that starts before the others."""
        for held in [held for held in self._held if held.getsockname()[1] == choice.port]:
            self._held.remove(held)
            held.close()

    def _hold(self, host: str, port: int) -> int:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        probe = socket.socket(family, socket.SOCK_STREAM)
        try:
            # As the servers do it: connections of an earlier run that are still closing do not
            # make the port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            # Without listening, Linux would give a second socket the same port.
            probe.listen(1)
        except OSError as error:
            probe.close()
            if error.errno == errno.EADDRINUSE:
                return 0
            reason = error.strerror or str(error)
            if error.errno == errno.EACCES:
                reason = "ports below 1024 need more rights than this user has"
            elif error.errno == errno.EADDRNOTAVAIL:
                reason = "this machine has no such address"
            raise PortError(f"cannot listen on {host} port {port}: {reason}") from error
        self._held.append(probe)
        return int(probe.getsockname()[1])
