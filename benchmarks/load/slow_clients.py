"""Clients that send as slowly as they are let, in a process of their own.

    python -m benchmarks.load.slow_clients PORT COUNT SECONDS CERTIFICATE

Each of them connects by TLS and then sends a head that never ends, or a body, one octet a second;
some do not even begin the handshake. Who is hung up on comes again at once. They come from as many
addresses as it takes for none to have more connections than a gateway grants. The last line of the
output is JSON: see ``SlowReport``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

HOST = "127.0.0.1"
CLIENTS_PER_ADDRESS = 100

_EVERY_S = 1.0
_AGAIN_S = 0.05
_HEAD = b"GET /api/browse/shows HTTP/1.1\r\nHost: house\r\nX-Slow: "
_BODY = (
    b"POST /api/booking/shows/shw_none/holds HTTP/1.1\r\nHost: house\r\n"
    b"Content-Type: application/json\r\nContent-Length: 60000\r\n\r\n"
)
# Of ten clients: four with a slow head, four with a slow body, two that do not say a word.
_KINDS = (_HEAD, _BODY, _HEAD, _BODY, b"", _HEAD, _BODY, _HEAD, _BODY, b"")


@dataclass
class SlowReport:
    """What became of all of them.

    Units:
        lived_max_s: the longest time that one was listened to.
        held_mean: connections that were open, on average over the time.
    """

    connected: int = 0
    refused: int = 0
    answered_200: int = 0
    lived_max_s: float = 0.0
    held_mean: float = 0.0


def address_of(number: int) -> str:
    """Where client ``number`` comes from; all of 127.0.0.0/8 is this machine.

    Example:
        >>> address_of(0), address_of(99), address_of(100)
        ('127.0.1.0', '127.0.1.0', '127.0.1.1')
    """
    return f"127.0.1.{number // CLIENTS_PER_ADDRESS}"


async def attack(port: int, count: int, seconds: float, certificate: str) -> SlowReport:
    """Keep ``count`` slow clients at it for so long."""
    trusted = ssl.create_default_context(cafile=certificate)
    trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    report = SlowReport()
    end = time.perf_counter() + seconds

    async def client(number: int) -> None:
        words = _KINDS[number % len(_KINDS)]
        while time.perf_counter() < end:
            begun = time.perf_counter()
            try:
                await _once(port, address_of(number), words, trusted, end, report)
            except (OSError, ssl.SSLError):
                report.refused += 1
            finally:
                lived_s = time.perf_counter() - begun
                report.lived_max_s = max(report.lived_max_s, lived_s)
                report.held_mean += lived_s / seconds
            await asyncio.sleep(_AGAIN_S)

    # Not all in one moment: five hundred handshakes would be another attack.
    async with asyncio.TaskGroup() as clients:
        for number in range(count):
            clients.create_task(client(number))
            await asyncio.sleep(0.004)
    return report


async def _once(
    port: int, address: str, words: bytes, trusted: ssl.SSLContext, end: float, report: SlowReport
) -> None:
    is_silent = not words
    reader, writer = await asyncio.open_connection(
        HOST,
        port,
        ssl=None if is_silent else trusted,
        server_hostname=None if is_silent else "localhost",
        local_addr=(address, 0),
    )
    report.connected += 1
    try:
        writer.write(words)
        while time.perf_counter() < end:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_EVERY_S):
                    received = await reader.read(65_536)
                report.answered_200 += received.startswith(b"HTTP/1.1 200")
                return
            if not is_silent:
                writer.write(b"a")
    finally:
        writer.transport.abort()


def main(arguments: list[str]) -> None:
    """The program."""
    port, count, seconds, certificate = arguments
    report = uvloop.run(attack(int(port), int(count), float(seconds), certificate))
    print(json.dumps(asdict(report)))


if __name__ == "__main__":
    main(sys.argv[1:])
