"""The program that computes password hashes, for one owner, in a process of its own.

Theory of operation

The owner starts this file as a program (see ``hashing_process``) and talks to it through the
socket that is its standard input. A frame is four bytes that say how long the JSON after them is:

    {"password": P}                  is answered with  {"hash": H}
    {"password": P, "stored": H}     is answered with  {"right": true or false, "rehash": H or null}

One request is answered before the next is read; the line before them is the owner's. The program
ends when the owner's end of the socket is closed, in whatever way the owner ended.

It gives way to everything else on the machine. Priorities of threads would not: where Linux groups
the processes of each session and shares the processor among the groups first, a thread of low
priority inside the group of its application runs as often as a database that has a group too.
Hence a session of its own, whose group is low, and a policy below all priorities for machines
that do not group. It rests after each hash, because a core that computes hashes makes its
neighbour slower at whatever priority: they share caches and memory. It rests longer when the hash
had to wait for a core: whoever it waited for will want that core again.

On a machine of few cores all such programs together compute and rest as one, in turns. A core that
is never quite idle takes over nothing of what waits at the others, so while every core has a hash
to compute, however low, some of those who buy wait for longer than the hash takes away. What they
agree on is a lock of the kernel's on this very file, which needs nobody to keep it and ends with
whoever holds it. Who does not get his turn in time goes without, lest a program that was stopped
in the middle keep everybody out.

An owner whose few hashes are in nobody's way says ``--give-no-way``: they are then computed at
the owner's priority, without rests and turns. On a busy machine they would wait for minutes
otherwise, which is the point of it.

Only argon2 and the standard library are used: this file runs where no package of ours can be
imported, and nothing that the owner knows is in its arguments or its environment.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import struct
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

try:
    import fcntl
except ImportError:  # pragma: no cover - not on every system.
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Iterator

    from argon2 import PasswordHasher

MEMORY_KIB = 19_456
PASSES = 2
LANES = 1

GIVE_NO_WAY = "--give-no-way"
"""The only argument that there is; see the module's docstring."""

LENGTH = struct.Struct("!I")
REST_TO_WORK = 1.0
"""So long it rests after a hash, in the time that a core worked on it: half a core at most."""

REST_TO_WAIT = 3.0
"""So long it rests besides, in the time that the hash had to wait for a core: where others want the
cores too, they soon get them back."""

REST_S_MAX = 0.5
"""Where there is no end of others, a hash a second is better than none."""

FEW_CORES = 4
"""On so many, hashes are computed one after the other, whoever asks for them."""

TURN_WAIT_S_MAX = 2.0

_TURN_POLL_S = 0.005
_LOWEST_PRIORITY = 19
_AUTOGROUP = Path("/proc/self/autogroup")
_TRIES = 20
_TRY_AGAIN_S = 0.05

log = logging.getLogger("hashing_program")


def main() -> int:
    """Do what the module's docstring says."""
    logging.basicConfig(format="%(name)s: %(message)s", stream=sys.stderr)
    gives_way = GIVE_NO_WAY not in sys.argv[1:]
    if gives_way:
        give_way()
    # After that, because loading it takes longer than a hash.
    from argon2 import PasswordHasher, Type

    argon2 = PasswordHasher(
        time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID
    )
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as owner:
        owner.setblocking(True)
        while (request := _receive(owner)) is not None:
            if not gives_way:
                _send(owner, _answer(argon2, request))
                continue
            with turn():
                begun, worked = time.monotonic(), time.process_time()
                _send(owner, _answer(argon2, request))
                took, work = time.monotonic() - begun, time.process_time() - worked
                time.sleep(rest_s(work, max(0.0, took - work)))
    return 0


@contextlib.contextmanager
def turn(file: Path = Path(__file__), cores: int | None = os.cpu_count()) -> Iterator[None]:
    """While no other such program of this machine computes or rests; see the module's docstring."""
    if fcntl is None or (cores or 1) > FEW_CORES:
        yield
        return
    with file.open("rb") as lock:
        given_up_at = time.monotonic() + TURN_WAIT_S_MAX
        while time.monotonic() < given_up_at:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                time.sleep(_TURN_POLL_S)
        yield
    # The kernel hands a lock to nobody: whoever asks again at once would have it again.
    time.sleep(2 * _TURN_POLL_S)


def give_way() -> None:
    """Let this process run when nobody else wants to, as far as the system knows how."""
    for lower in (_lower_group, _lower_priority, _lower_policy):
        try:
            lower()
        except (OSError, AttributeError) as error:
            # Hashes are right at any priority, so whoever cannot give way works all the same.
            log.warning("passwords are hashed at a higher priority than they should: %s", error)


def _lower_group() -> None:
    if not _AUTOGROUP.exists():
        return
    for attempt in range(1, _TRIES + 1):
        try:
            _AUTOGROUP.write_text(str(_LOWEST_PRIORITY))
            return
        except BlockingIOError:
            # All users of a machine together may change ten groups a second.
            if attempt == _TRIES:
                raise
            time.sleep(_TRY_AGAIN_S)


def _lower_priority() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, _LOWEST_PRIORITY)


def _lower_policy() -> None:
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def rest_s(work_s: float, wait_s: float) -> float:
    """Seconds to rest after a hash on which a core worked so long and that waited so long."""
    return min(REST_TO_WORK * work_s + REST_TO_WAIT * wait_s, REST_S_MAX)


def _answer(argon2: PasswordHasher, request: dict[str, str]) -> dict[str, object]:
    from argon2.exceptions import Argon2Error, InvalidHashError

    password, stored = request["password"], request.get("stored")
    if stored is None:
        return {"hash": argon2.hash(password)}
    try:
        argon2.verify(stored, password)
    except InvalidHashError:
        log.error("bug: the password hash of an account cannot be read")
        return {"right": False, "rehash": None}
    except Argon2Error:
        return {"right": False, "rehash": None}
    is_old = argon2.check_needs_rehash(stored)
    return {"right": True, "rehash": argon2.hash(password) if is_old else None}


def _receive(owner: socket.socket) -> dict[str, str] | None:
    head = _read(owner, LENGTH.size)
    if head is None:
        return None
    body = _read(owner, LENGTH.unpack(head)[0])
    if body is None:
        return None
    request: dict[str, str] = json.loads(body)
    return request


def _read(owner: socket.socket, size: int) -> bytes | None:
    """So many bytes; None when the owner is gone."""
    read = b""
    while len(read) < size:
        try:
            part = owner.recv(size - len(read))
        except ConnectionError:
            return None
        if not part:
            return None
        read += part
    return read


def _send(owner: socket.socket, answer: dict[str, object]) -> None:
    body = json.dumps(answer).encode()
    try:
        owner.sendall(LENGTH.pack(len(body)) + body)
    except ConnectionError:
        # The next request is the end of the line, which says the same.
        return


if __name__ == "__main__":
    sys.exit(main())
