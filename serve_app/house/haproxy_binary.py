"""The HAProxy that Ray Serve starts, on a short leash.

Ray Serve writes HAProxy's configuration and starts its binary, at every change of the replicas
anew. ``write_wrapper`` makes a program for it to start instead, which becomes the real binary
after some corrections Ray Serve has no option for:

    It dies with the process that started it. Otherwise it would keep the ports of a dead house.
    The public port listens on the house's address, and the ports for metrics and statistics,
    which ask nobody who they are, on loopback only.
    The control socket, through which everything can be changed, is for this user only; and a
    client has a limited time to send its request head, which may have as many header fields as the
    gateway lets through and adds.
    It does not send a line for every request to a syslog that is not there, from a socket that is
    open to everybody.

The configuration is corrected where Ray Serve wrote it, because Ray Serve recognises its own
HAProxy processes by that path in their command line. It writes the file anew before every start.

The binary must stay in its own directory, where its libraries are; hence no copy of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shlex
import sys
from pathlib import Path

REQUEST_HEAD_TIMEOUT = "10s"
IDLE_TIMEOUT = "75s"
HEADER_FIELDS_MAX = 128

_SECTION = re.compile(r"(global|defaults|frontend|backend|listen)\b\s*(\S*)")
_BIND = re.compile(r"(\s*bind\s+)\S*:(\d+)(.*)", re.DOTALL)
_SOCKET_MODE = re.compile(r"(\s*stats socket \S+ mode )\d+")
_LOG = re.compile(r"\s*log\s")
_PUBLIC_SECTION = "http_frontend"
_USAGE = "usage: haproxy_binary.py REAL_BINARY HTTP_HOST HAPROXY_ARGUMENTS..."


class ConfigurationError(ValueError):
    """Ray Serve writes another configuration than the one this file knows how to correct."""


def corrected(configuration: str, http_host: str) -> str:
    """The configuration with the corrections above.

    Raises:
        ConfigurationError: something expected is missing; better no HAProxy than an open one.
    """
    lines = []
    section = ""
    sections_bound = set()
    is_socket_private = False
    for line in configuration.splitlines(keepends=True):
        if found := _SECTION.match(line):
            section = found[2] or found[1]
            lines.append(line)
            if section == "global":
                lines.append(f"    tune.http.maxhdr {HEADER_FIELDS_MAX}\n")
            if section == "defaults":
                lines.append(f"    timeout http-request {REQUEST_HEAD_TIMEOUT}\n")
                lines.append(f"    timeout http-keep-alive {IDLE_TIMEOUT}\n")
            continue
        if section == "global" and _LOG.match(line):
            continue
        if found := _BIND.match(line):
            host = http_host if section == _PUBLIC_SECTION else "127.0.0.1"
            address = f"[{host}]" if ":" in host else host
            line = f"{found[1]}{address}:{found[2]}{found[3]}"
            sections_bound.add(section)
        elif found := _SOCKET_MODE.match(line):
            line = f"{found[1]}600{line[found.end() :]}"
            is_socket_private = True
        lines.append(line)
    if _PUBLIC_SECTION not in sections_bound or not is_socket_private:
        raise ConfigurationError(
            f"no 'bind' of {_PUBLIC_SECTION} or no 'stats socket ... mode' in the configuration"
        )
    return "".join(lines)


def write_wrapper(path: Path, *, real_binary: Path, http_host: str, death_wrapper: Path) -> None:
    """Write the program for Ray Serve to start.

    Args:
        real_binary: HAProxy's own.
        http_host: the address of the public port.
        death_wrapper: ``persistence/child_process.py``, which arms the parent-death signal.
    """
    python = [sys.executable, "-I", "-S"]
    command = [*python, str(death_wrapper), "--pdeathsig", "KILL", "--"]
    command += [*python, os.path.abspath(__file__), str(real_binary), http_host]
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o700)


def main(arguments: list[str]) -> int:
    """Correct the configuration that ``-f`` names and become HAProxy."""
    if len(arguments) < 2:
        print(_USAGE, file=sys.stderr)
        return 125
    real_binary, http_host, *rest = arguments
    try:
        if "-f" in rest:
            _correct_file(rest[rest.index("-f") + 1], http_host)
        os.execv(real_binary, [real_binary, *rest])
    except (OSError, ConfigurationError) as error:
        print(f"haproxy_binary: {error}", file=sys.stderr)
    return 126


def _correct_file(path: str, http_host: str) -> None:
    # The lock that Ray Serve itself takes to write the file.
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(path) as file:
            configuration = file.read()
        unfinished = f"{path}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w") as file:
            file.write(corrected(configuration, http_host))
        os.replace(unfinished, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
