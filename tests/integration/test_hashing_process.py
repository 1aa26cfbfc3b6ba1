"""The process that hashes passwords: how it lives, how it ends, and what others can see of it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from persistence.child_process import process_is_alive
from serve_app.access import hashing_program
from serve_app.access.hashing_process import HashingProcess

PASSWORD = "a password that nobody else may see"
SECRET_SETTING = "HOUSEFULL_TEST_SECRET"
END_TIMEOUT_S = 20

_OWNER = """
import asyncio, sys
from serve_app.access.hashing_process import HashingProcess

async def own():
    process = HashingProcess()
    await process.start()
    print(process.pid, flush=True)
    request = {"password": "x"}
    while "busy" in sys.argv:
        await process.ask(request)
    await asyncio.Event().wait()

asyncio.run(own())
"""

FEW_CORES, MANY_CORES = hashing_program.FEW_CORES, hashing_program.FEW_CORES + 1
A_MOMENT_S = 0.1

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc here")


@pytest.fixture
async def process(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[HashingProcess]:
    monkeypatch.setenv(SECRET_SETTING, PASSWORD)
    process = HashingProcess(gives_way=False)
    yield process
    process.close()


def _about(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


async def _pid(process: HashingProcess) -> int:
    # An answer proves that the program is what runs there now, and past its start.
    await process.ask({"password": PASSWORD})
    assert process.pid is not None
    return process.pid


@on_linux
async def test_nothing_secret_is_in_its_arguments_or_environment(process: HashingProcess) -> None:
    pid = await _pid(process)
    told = _about(pid, "cmdline") + _about(pid, "environ")
    assert b"hashing_program" in told
    assert PASSWORD.encode() not in told
    assert SECRET_SETTING.encode() not in told
    assert b"HOUSEFULL" not in told


@on_linux
async def test_it_gives_way_to_everything_else(process: HashingProcess) -> None:
    shipped = HashingProcess()
    stored = str((await shipped.ask({"password": PASSWORD}))["hash"])
    pid = shipped.pid
    assert pid is not None
    assert os.getsid(pid) == pid != os.getsid(0)
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19
    assert os.sched_getscheduler(pid) == os.SCHED_IDLE
    if Path(f"/proc/{pid}/autogroup").exists():
        assert _about(pid, "autogroup").endswith(b" nice 19\n")
    shipped.close()
    # What it computes is the same.
    answer = await process.ask({"password": PASSWORD, "stored": stored})
    assert answer == {"right": True, "rehash": None}


@on_linux
async def test_it_gives_no_way_when_its_owner_says_so(process: HashingProcess) -> None:
    pid = await _pid(process)
    assert os.getpriority(os.PRIO_PROCESS, pid) == os.getpriority(os.PRIO_PROCESS, 0)
    assert os.sched_getscheduler(pid) == os.sched_getscheduler(0)


def test_where_it_cannot_give_way_it_says_so_and_works_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(hashing_program, "_AUTOGROUP", tmp_path)
    monkeypatch.setattr(os, "setpriority", refused)
    monkeypatch.setattr(os, "sched_setscheduler", refused, raising=False)
    with caplog.at_level(logging.WARNING):
        hashing_program.give_way()
    assert len(caplog.records) == (3 if sys.platform == "linux" else 2)


def _in_two_turns(file: Path, cores: int) -> list[str]:
    """What happens when a second program wants its turn while the first has it."""
    happened: list[str] = []

    def come_second() -> None:
        with hashing_program.turn(file, cores):
            happened.append("the second has its turn")

    second = threading.Thread(target=come_second)
    with hashing_program.turn(file, cores):
        second.start()
        time.sleep(A_MOMENT_S)
        happened.append("the first is done")
    second.join()
    return happened


@on_linux
@pytest.mark.parametrize("cores", [FEW_CORES, MANY_CORES])
def test_on_few_cores_programs_compute_in_turns(tmp_path: Path, cores: int) -> None:
    file = tmp_path / "program"
    file.touch()
    in_turns = ["the first is done", "the second has its turn"]
    assert _in_two_turns(file, cores) == (in_turns if cores == FEW_CORES else in_turns[::-1])


@on_linux
def test_nobody_is_kept_out_by_a_program_that_does_not_end_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "program"
    file.touch()
    monkeypatch.setattr(hashing_program, "TURN_WAIT_S_MAX", A_MOMENT_S / 10)
    assert _in_two_turns(file, FEW_CORES)[0] == "the second has its turn"


def test_it_rests_as_long_as_it_worked_and_longer_where_others_wanted_the_core() -> None:
    calm, busy, hopeless = (hashing_program.rest_s(0.03, wait_s) for wait_s in (0, 0.03, 60))
    assert calm == 0.03
    assert calm < busy < hopeless == hashing_program.REST_S_MAX


@pytest.mark.parametrize("what", ["idle", "busy"])
def test_it_ends_with_its_owner_however_that_ends(what: str) -> None:
    with subprocess.Popen([sys.executable, "-c", _OWNER, what], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        try:
            pid = int(owner.stdout.readline())
            assert process_is_alive(pid)
        finally:
            owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + END_TIMEOUT_S
    while process_is_alive(pid):
        assert time.monotonic() < deadline, "it outlives its owner"
        time.sleep(0.01)


async def test_it_is_replaced_when_it_has_died_between_two_hashes(
    process: HashingProcess,
) -> None:
    first = await _pid(process)
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(END_TIMEOUT_S):
        while process_is_alive(first):  # noqa: ASYNC110 - a process sets no event.
            await asyncio.sleep(0.005)
    assert await _pid(process) != first


async def test_it_ends_when_it_is_closed(process: HashingProcess) -> None:
    pid = await _pid(process)
    process.close()
    assert not process_is_alive(pid)
