"""The guardian, with a small house whose processes do all they can to survive.

The house starts daemons: forked twice, each in a session of its own, deaf to every polite signal.
Its control twin, the same house without a guardian, must leave them behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="subreapers and parent-death signals exist on Linux only"
)

REPOSITORY = Path(__file__).resolve().parents[2]
PROMISE_S = 10
DAEMON_COUNT = 3

# Arguments: a folder for notes, then words that say how this house behaves.
HOUSE = """
import os, signal, sys, time
folder, words = sys.argv[1], sys.argv[2:]

def note(text):
    with open(os.path.join(folder, "notes"), "a") as file:
        file.write(text + "\\n")

def daemonize(number):
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    for polite in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(polite, signal.SIG_IGN)
    note(f"daemon {number}")
    while True:
        time.sleep(60)

def stop(*_):
    note("asked to stop")
    if "stubborn" in words:
        return
    time.sleep(0.3)
    note("stopped in good order")
    sys.exit(0)

signal.signal(signal.SIGTERM, stop)
for number in range(int(words[0])):
    daemonize(number)
note("ready")
if "exit-7" in words:
    sys.exit(7)
while True:
    time.sleep(0.05)
"""

LAUNCHER = """
import subprocess, sys
sys.path.insert(0, sys.argv[1])
from serve_app.house.guardian import run_guarded
if "--with-sibling" in sys.argv:
    sys.argv.remove("--with-sibling")
    sibling = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", sys.argv[3]])
    print("sibling", sibling.pid, flush=True)
grace_ms = 60_000 if "--patient" in sys.argv else 2_000
end = run_guarded([sys.executable, *sys.argv[2:]], grace_ms=grace_ms, orphan_grace_ms=2_000)
print(*end, flush=True)
sys.exit(end.status)
"""


class House:
    """One launched house, and what of it is still there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._script = folder / "house.py"
        self._script.write_text(HOUSE)

    def launch(
        self, *words: str, daemons: int = DAEMON_COUNT, options: tuple[str, ...] = ()
    ) -> None:
        house = [str(self._script), str(self.folder), str(daemons), *words]
        self._start([sys.executable, "-c", LAUNCHER, str(REPOSITORY), *house, *options], daemons)

    def launch_unguarded(self) -> None:
        words = [str(DAEMON_COUNT)]
        self._start([sys.executable, str(self._script), str(self.folder), *words], DAEMON_COUNT)

    def _start(self, command: list[str], daemons: int) -> None:
        self.launcher = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        wait_until(lambda: self.notes().count("ready") == 1)
        wait_until(lambda: sum(note.startswith("daemon") for note in self.notes()) == daemons)

    def notes(self) -> list[str]:
        path = self.folder / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def pids(self) -> dict[int, str]:
        """Every process whose command line names this house, the launcher too."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if entry.name.isdecimal() and str(self.folder) in command:
                found[int(entry.name)] = command.replace("\0", " ")
        return found

    def guardian_pid(self) -> int:
        (pid,) = (pid for pid, command in self.pids().items() if "guardian.py" in command)
        return pid

    def house_pid(self) -> int:
        children = Path(f"/proc/{self.guardian_pid()}/task/{self.guardian_pid()}/children")
        # Daemons are adopted by the guardian; only the house itself leads a process group there
        # without leading a session.
        (pid,) = (
            int(pid)
            for pid in children.read_text().split()
            if os.getpgid(int(pid)) == int(pid) != os.getsid(int(pid))
        )
        return pid

    def is_gone(self) -> bool:
        return not self.pids()


def wait_until(condition: Callable[[], bool], timeout_s: float = PROMISE_S) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path / "house")
    try:
        yield house
    finally:
        for pid in house.pids():
            os.kill(pid, signal.SIGKILL)
        wait_until(house.is_gone)
        house.launcher.communicate()


def test_without_a_guardian_the_daemons_survive(house: House) -> None:
    house.launch_unguarded()
    house.launcher.kill()
    house.launcher.wait()
    time.sleep(1)
    assert len(house.pids()) == DAEMON_COUNT


def test_nothing_survives_kill_9_of_the_launcher(house: House) -> None:
    house.launch()
    assert len(house.pids()) == DAEMON_COUNT + 3
    house.launcher.kill()
    house.launcher.wait()
    wait_until(house.is_gone)
    assert house.notes()[-1] == "stopped in good order"


def test_nothing_survives_kill_9_of_the_launchers_whole_process_group(house: House) -> None:
    house.launch()
    os.killpg(house.launcher.pid, signal.SIGKILL)
    house.launcher.wait()
    wait_until(house.is_gone)
    assert house.notes()[-1] == "stopped in good order"


def test_a_house_that_will_not_stop_does_not_survive_kill_9_of_the_launcher(house: House) -> None:
    house.launch("stubborn")
    house.launcher.kill()
    house.launcher.wait()
    wait_until(house.is_gone)
    assert house.notes()[-1] == "asked to stop"


def test_nothing_survives_kill_9_of_the_guardian(house: House) -> None:
    house.launch()
    os.kill(house.guardian_pid(), signal.SIGKILL)
    wait_until(house.is_gone)
    assert house.notes()[-1] == "stopped in good order"
    out, error = house.launcher.communicate()
    assert house.launcher.returncode == 128 + signal.SIGKILL
    assert out == "137 False\n"
    assert "the guardian was ended by signal 9" in error


def test_a_stubborn_house_does_not_survive_kill_9_of_the_guardian(house: House) -> None:
    house.launch("stubborn")
    os.kill(house.guardian_pid(), signal.SIGKILL)
    wait_until(house.is_gone)


def test_a_process_that_the_launcher_had_before_is_spared_when_the_guardian_is_killed(
    house: House,
) -> None:
    house.launch(options=("--with-sibling",))
    assert house.launcher.stdout is not None
    sibling_pid = int(house.launcher.stdout.readline().split()[1])
    os.kill(house.guardian_pid(), signal.SIGKILL)
    house.launcher.wait(PROMISE_S)
    assert set(house.pids()) == {sibling_pid}


def test_kill_9_of_launcher_and_guardian_together_makes_the_house_stop_by_itself(
    house: House,
) -> None:
    house.launch(daemons=0)
    guardian = house.guardian_pid()
    os.kill(guardian, signal.SIGSTOP)
    house.launcher.kill()
    os.kill(guardian, signal.SIGKILL)
    house.launcher.wait()
    wait_until(house.is_gone)
    assert house.notes()[-1] == "stopped in good order"


def test_a_house_that_dies_takes_its_daemons_along_and_its_status_says_how(house: House) -> None:
    house.launch()
    os.kill(house.house_pid(), signal.SIGKILL)
    out, _ = house.launcher.communicate(timeout=PROMISE_S)
    assert out == "137 False\n"
    assert house.is_gone()


def test_the_exit_status_passes_through_and_left_over_daemons_are_ended(house: House) -> None:
    house.launch("exit-7")
    out, _ = house.launcher.communicate(timeout=PROMISE_S)
    assert out == "7 False\n"
    assert house.launcher.returncode == 7
    assert house.is_gone()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_launcher_stops_the_house_in_good_order(
    house: House, number: signal.Signals
) -> None:
    house.launch()
    house.launcher.send_signal(number)
    out, error = house.launcher.communicate(timeout=PROMISE_S)
    assert house.notes()[-2:] == ["asked to stop", "stopped in good order"]
    assert out == "0 True\n"
    assert ("Ctrl-C again" in error) == (number == signal.SIGINT)
    assert house.is_gone()


def test_ctrl_c_in_the_terminal_reaches_the_launcher_alone(house: House) -> None:
    house.launch()
    # A terminal sends it to the whole foreground process group.
    os.killpg(house.launcher.pid, signal.SIGINT)
    house.launcher.wait(PROMISE_S)
    assert house.notes().count("asked to stop") == 1
    assert house.launcher.returncode == 0
    assert house.is_gone()


def test_a_stubborn_house_is_ended_after_its_time(house: House) -> None:
    house.launch("stubborn")
    house.launcher.send_signal(signal.SIGTERM)
    out, _ = house.launcher.communicate(timeout=PROMISE_S)
    assert out == "137 True\n"
    assert house.is_gone()


def test_the_second_ctrl_c_does_not_wait_for_the_house(house: House) -> None:
    house.launch("stubborn", options=("--patient",))
    house.launcher.send_signal(signal.SIGINT)
    wait_until(lambda: "asked to stop" in house.notes())
    house.launcher.send_signal(signal.SIGINT)
    house.launcher.wait(PROMISE_S)
    assert house.is_gone()


def test_a_command_that_does_not_exist_is_an_error_and_not_a_hang(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LAUNCHER, str(REPOSITORY), str(tmp_path / "nothing.py")],
        capture_output=True,
        text=True,
        timeout=PROMISE_S,
        check=False,
    )
    assert ended.returncode == 2
    assert "nothing.py" in ended.stderr
