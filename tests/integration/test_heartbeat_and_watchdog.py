"""Signs of life, and the watchdog that reads them. The processes here are real; time is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from actors import heartbeat, watchdog
from actors.heartbeat import Heartbeat, read_signs
from actors.process import look_at, private_bytes
from actors.watchdog import (
    OWN_PAUSE_MS_MAX,
    SCAN_EVERY_MS,
    SILENCE_MS_MAX,
    STOPPED_SILENCE_MS_MAX,
    Watchdog,
)

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="needs /proc to tell a stopped process"
)


class Machine:
    """A clock for the watchdog, and processes that only we may end."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.now_ms = time.monotonic_ns() // 1_000_000
        self.processes: list[subprocess.Popen[bytes]] = []
        monkeypatch.setattr(watchdog, "_now_ms", lambda: self.now_ms)
        self.watchdog = Watchdog(str(directory))

    def start_process(self) -> int:
        process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self.processes.append(process)
        return process.pid

    def leave_sign(self, pid: int, *, silent_ms: int, birth: int | None = None) -> Path:
        """What the process left, so long ago."""
        if birth is None:
            look = look_at(pid)
            assert look is not None
            birth = look.birth
        path = self.directory / f"actor.{pid}"
        beat_at_ms = time.monotonic_ns() // 1_000_000 - silent_ms
        path.write_bytes(heartbeat._FORMAT.pack(pid, birth, beat_at_ms))
        return path

    def watch(self, duration_ms: int) -> None:
        """Scan as often as in life, for so long."""
        for _ in range(duration_ms // SCAN_EVERY_MS):
            self.now_ms += SCAN_EVERY_MS
            self.watchdog.scan()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(tmp_path, monkeypatch)
    yield machine
    for process in machine.processes:
        process.kill()
        process.wait()


def wait_for_state(pid: int, is_right: Callable[[str], bool]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        look = look_at(pid)
        if look is not None and is_right(look.state):
            return
        time.sleep(0.01)
    raise AssertionError(f"{pid} is {look_at(pid)}")


def test_a_heartbeat_leaves_a_sign_of_this_process(tmp_path: Path) -> None:
    beating = Heartbeat(str(tmp_path / "made when missing"), "pool:0:1")
    assert list(tmp_path.iterdir()) == []
    beating.beat()
    (sign,) = read_signs(str(tmp_path / "made when missing"))
    assert sign.pid == os.getpid()
    me = look_at(os.getpid())
    assert me is not None
    assert sign.birth == me.birth
    assert 0 <= sign.silent_ms < 60_000
    beating.stop()
    assert list(read_signs(str(tmp_path / "made when missing"))) == []


def test_a_heartbeat_writes_at_most_four_times_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock_ns = time.monotonic_ns()
    monkeypatch.setattr(heartbeat.time, "monotonic_ns", lambda: clock_ns)
    written: list[int] = []
    pwrite = os.pwrite

    def counting(file: int, content: bytes, offset: int) -> int:
        written.append(file)
        return pwrite(file, content, offset)

    monkeypatch.setattr(os, "pwrite", counting)
    beating = Heartbeat(str(tmp_path), "show:x")
    for _ in range(100):
        clock_ns += 10_000_000
        beating.beat()
    beating.stop()
    assert len(written) == 4


def test_signs_that_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "half.1").write_bytes(b"half a si")
    (tmp_path / "empty.2").touch()
    (tmp_path / "folder").mkdir()
    beating = Heartbeat(str(tmp_path), "show:x")
    beating.beat()
    assert [sign.pid for sign in read_signs(str(tmp_path))] == [os.getpid()]
    beating.stop()


def test_a_folder_that_is_not_there_has_no_signs(tmp_path: Path) -> None:
    assert list(read_signs(str(tmp_path / "nowhere"))) == []


def test_a_process_that_shows_life_is_left_alone(machine: Machine) -> None:
    pid = machine.start_process()
    for _ in range(40):
        machine.leave_sign(pid, silent_ms=300)
        machine.watch(SCAN_EVERY_MS)
    assert machine.watchdog.killed == []
    assert look_at(pid) is not None


def test_a_silent_process_is_killed_after_five_seconds_and_not_before(machine: Machine) -> None:
    pid = machine.start_process()
    machine.watch(2 * SILENCE_MS_MAX)
    machine.leave_sign(pid, silent_ms=SILENCE_MS_MAX - 500)
    machine.watch(SCAN_EVERY_MS)
    assert machine.watchdog.killed == []
    machine.leave_sign(pid, silent_ms=SILENCE_MS_MAX + 1)
    machine.watch(SCAN_EVERY_MS)
    assert machine.watchdog.killed == [pid]
    assert machine.processes[0].wait(timeout=10) == -signal.SIGKILL


@needs_proc
def test_a_stopped_process_is_killed_after_half_that_time(machine: Machine) -> None:
    pid = machine.start_process()
    machine.watch(2 * SILENCE_MS_MAX)
    os.kill(pid, signal.SIGSTOP)
    wait_for_state(pid, lambda state: state == "T")
    machine.leave_sign(pid, silent_ms=STOPPED_SILENCE_MS_MAX - 500)
    machine.watch(SCAN_EVERY_MS)
    assert machine.watchdog.killed == []
    machine.leave_sign(pid, silent_ms=STOPPED_SILENCE_MS_MAX + 1)
    machine.watch(SCAN_EVERY_MS)
    assert machine.watchdog.killed == [pid]
    assert machine.processes[0].wait(timeout=10) == -signal.SIGKILL


@needs_proc
def test_a_pause_of_one_second_is_forgiven(machine: Machine) -> None:
    pid = machine.start_process()
    machine.watch(2 * SILENCE_MS_MAX)
    os.kill(pid, signal.SIGSTOP)
    wait_for_state(pid, lambda state: state == "T")
    machine.leave_sign(pid, silent_ms=1_250)
    machine.watch(SCAN_EVERY_MS)
    os.kill(pid, signal.SIGCONT)
    assert machine.watchdog.killed == []


def test_after_a_pause_of_its_own_the_watchdog_gives_everybody_the_full_time(
    machine: Machine,
) -> None:
    pid = machine.start_process()
    machine.watch(1_000)
    machine.leave_sign(pid, silent_ms=60_000)
    machine.now_ms += OWN_PAUSE_MS_MAX + 60_000
    machine.watchdog.scan()
    machine.watch(SILENCE_MS_MAX - SCAN_EVERY_MS)
    assert machine.watchdog.killed == []
    machine.watch(2 * SCAN_EVERY_MS)
    assert machine.watchdog.killed[0] == pid


def test_a_new_watchdog_gives_everybody_the_full_time(machine: Machine) -> None:
    pid = machine.start_process()
    machine.leave_sign(pid, silent_ms=60_000)
    machine.watch(SILENCE_MS_MAX - SCAN_EVERY_MS)
    assert machine.watchdog.killed == []


def test_the_sign_of_a_process_that_is_gone_is_tidied_up(machine: Machine) -> None:
    pid = machine.start_process()
    path = machine.leave_sign(pid, silent_ms=0)
    machine.processes[0].kill()
    machine.processes[0].wait()
    machine.watch(SCAN_EVERY_MS)
    assert not path.exists()
    assert machine.watchdog.killed == []


@needs_proc
def test_a_process_that_is_dead_and_not_yet_buried_is_not_killed_again(machine: Machine) -> None:
    pid = machine.start_process()
    machine.watch(2 * SILENCE_MS_MAX)
    path = machine.leave_sign(pid, silent_ms=60_000)
    machine.processes[0].kill()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert look_at(pid) is None
    machine.watch(SCAN_EVERY_MS)
    assert machine.watchdog.killed == []
    assert not path.exists()


def test_a_stranger_with_the_number_of_a_dead_actor_is_never_killed(machine: Machine) -> None:
    stranger = machine.start_process()
    look = look_at(stranger)
    assert look is not None
    machine.watch(2 * SILENCE_MS_MAX)
    path = machine.leave_sign(stranger, silent_ms=60_000, birth=look.birth - 1)
    machine.watch(1_000)
    assert machine.watchdog.killed == []
    assert not path.exists()
    assert look_at(stranger) is not None


def test_one_silent_process_does_not_cost_its_neighbour_the_life(machine: Machine) -> None:
    silent, lively = machine.start_process(), machine.start_process()
    machine.watch(2 * SILENCE_MS_MAX)
    machine.leave_sign(silent, silent_ms=60_000)
    machine.leave_sign(lively, silent_ms=100)
    machine.watch(SCAN_EVERY_MS)
    assert machine.watchdog.killed == [silent]
    assert look_at(lively) is not None


@needs_proc
def test_a_process_name_with_spaces_and_brackets_does_not_confuse_the_reader(
    tmp_path: Path,
) -> None:
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "600"])
    try:
        wait_for_state(process.pid, lambda state: state == "S")
    finally:
        process.kill()
        process.wait()


@needs_proc
def test_private_memory_is_told_in_bytes() -> None:
    before = private_bytes()
    assert before > 1_000_000
    block = bytearray(os.urandom(32 * 2**20))
    assert private_bytes() - before >= 30 * 2**20
    del block
