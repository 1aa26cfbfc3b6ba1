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
    Requests that come in crowds and are worked on slowly wait here, few of them at a time with
    the application, and who would wait too long is told so here (``WaitingLine``). A crowd then
    costs those who ask for something else what it costs HAProxy to read its requests.

The configuration is corrected where Ray Serve wrote it, because Ray Serve recognises its own
HAProxy processes by that path in their command line. It writes the file anew before every start.

The binary must stay in its own directory, where its libraries are; hence no copy of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

REQUEST_HEAD_TIMEOUT = "10s"
IDLE_TIMEOUT = "75s"
HEADER_FIELDS_MAX = 128

_SECTION = re.compile(r"(global|defaults|frontend|backend|listen)\b\s*(\S*)")
_BIND = re.compile(r"(\s*bind\s+)\S*:(\d+)(.*)", re.DOTALL)
_SOCKET_MODE = re.compile(r"(\s*stats socket \S+ mode )\d+")
_LOG = re.compile(r"\s*log\s")
_PUBLIC_SECTION = "http_frontend"
_ROUTE = re.compile(r"\s*acl is_(\S+) path (\S+)\s*$")
_CHOICE = re.compile(r"\s*use_backend\s")
_SERVER = re.compile(r"\s*server (\S+) (\S+)(.*)")
_CHECK = re.compile(r"\s*(option httpchk|http-check|default-server)\b")
_LINE_SUFFIX = "-waiting-line"
_USAGE = "usage: haproxy_binary.py REAL_BINARY HTTP_HOST LINE HAPROXY_ARGUMENTS..."


class WaitingLine(NamedTuple):
    """Where the requests of one kind wait: POSTs to one path of one application.

    Args:
        route_prefix: of the application.
        path: whole, the prefix included.
        at_once: so many are with each of the application's processes.
        waiting_max: so many wait.
        wait_s: so long they wait.
        too_many: the rule that answers who comes when the line is full; it gets a condition.
        too_late: the directive with the words for who has waited for nothing.
    """

    route_prefix: str
    path: str
    at_once: int
    waiting_max: int
    wait_s: int
    too_many: str
    too_late: str


class ConfigurationError(ValueError):
    """Ray Serve writes another configuration than the one this file knows how to correct."""


def corrected(configuration: str, http_host: str, line: WaitingLine | None = None) -> str:
    """The configuration with the corrections above.

    Raises:
        ConfigurationError: something expected is missing; better no HAProxy than an open one.
    """
    lines = []
    section = ""
    sections_bound = set()
    is_socket_private = False
    for text in configuration.splitlines(keepends=True):
        if found := _SECTION.match(text):
            section = found[2] or found[1]
            lines.append(text)
            if section == "global":
                lines.append(f"    tune.http.maxhdr {HEADER_FIELDS_MAX}\n")
            if section == "defaults":
                lines.append(f"    timeout http-request {REQUEST_HEAD_TIMEOUT}\n")
                lines.append(f"    timeout http-keep-alive {IDLE_TIMEOUT}\n")
            continue
        if section == "global" and _LOG.match(text):
            continue
        if found := _BIND.match(text):
            host = http_host if section == _PUBLIC_SECTION else "127.0.0.1"
            address = f"[{host}]" if ":" in host else host
            text = f"{found[1]}{address}:{found[2]}{found[3]}"
            sections_bound.add(section)
        elif found := _SOCKET_MODE.match(text):
            text = f"{found[1]}600{text[found.end() :]}"
            is_socket_private = True
        lines.append(text)
    if _PUBLIC_SECTION not in sections_bound or not is_socket_private:
        raise ConfigurationError(
            f"no 'bind' of {_PUBLIC_SECTION} or no 'stats socket ... mode' in the configuration"
        )
    return "".join(lines if line is None else _with_line(lines, line))


def _with_line(lines: list[str], line: WaitingLine) -> list[str]:
    """The configuration with a second backend of the same servers, before which requests wait.

    Without the application, as while a house starts, there is nothing to wait for.
    """
    routes = {found[2]: found[1] for text in lines if (found := _ROUTE.match(text))}
    backend = routes.get(line.route_prefix)
    if backend is None:
        return lines
    name = backend + _LINE_SUFFIX
    choice = f"    use_backend {name} if METH_POST {{ path {line.path} }}\n"
    choices = [number for number, text in enumerate(lines) if _CHOICE.match(text)]
    if not choices:
        raise ConfigurationError(f"a path to {backend} and no 'use_backend' in the configuration")
    own = [
        f"backend {name}\n",
        *_for_the_line(_section_of(backend, lines), backend, line.at_once),
        f"    timeout queue {line.wait_s}s\n",
        f"    {line.too_late}\n",
        f"    {line.too_many} if {{ queue({name}) ge {line.waiting_max} }}\n",
    ]
    return [*lines[: choices[0]], choice, *lines[choices[0] :], *own]


def _section_of(backend: str, lines: list[str]) -> list[str]:
    """What stands in a backend's section."""
    section = ""
    inside = []
    for text in lines:
        if found := _SECTION.match(text):
            section = found[2]
        elif section == backend:
            inside.append(text)
    return inside


def _for_the_line(inside: list[str], backend: str, at_once: int) -> list[str]:
    """A backend's section for its line: the same servers, known to be well from the backend."""
    kept = []
    for text in inside:
        if _CHECK.match(text):
            continue
        if found := _SERVER.match(text):
            backup = " backup" if "backup" in found[3].split() else ""
            tracked = f"track {backend}/{found[1]} maxconn {at_once}"
            text = f"    server {found[1]} {found[2]} {tracked}{backup}\n"
        kept.append(text)
    return kept


def write_wrapper(
    path: Path,
    *,
    real_binary: Path,
    http_host: str,
    death_wrapper: Path,
    line: WaitingLine | None = None,
) -> None:
    """Write the program for Ray Serve to start.

    Args:
        real_binary: HAProxy's own.
        http_host: the address of the public port.
        death_wrapper: ``persistence/child_process.py``, which arms the parent-death signal.
    """
    python = [sys.executable, "-I", "-S"]
    command = [*python, str(death_wrapper), "--pdeathsig", "KILL", "--"]
    command += [*python, os.path.abspath(__file__), str(real_binary), http_host]
    # Of a tuple, JSON makes a list; of nothing, null.
    command.append(json.dumps(line))
    path.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    path.chmod(0o700)


def main(arguments: list[str]) -> int:
    """Correct the configuration that ``-f`` names and become HAProxy."""
    if len(arguments) < 3:
        print(_USAGE, file=sys.stderr)
        return 125
    real_binary, http_host, told, *rest = arguments
    fields = json.loads(told)
    line = None if fields is None else WaitingLine(*fields)
    try:
        if "-f" in rest:
            _correct_file(rest[rest.index("-f") + 1], http_host, line)
        os.execv(real_binary, [real_binary, *rest])
    except (OSError, ConfigurationError) as error:
        print(f"haproxy_binary: {error}", file=sys.stderr)
    return 126


def _correct_file(path: str, http_host: str, line: WaitingLine | None) -> None:
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
            file.write(corrected(configuration, http_host, line))
        os.replace(unfinished, path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
