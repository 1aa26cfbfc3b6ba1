"""The wrapper that turns into a server, and the owner's handle on it, with real processes."""

import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from persistence.child_process import (
    LOG_BYTES_MAX,
    NOBODY_ID,
    ChildProcess,
    EmbeddedServerError,
    ServerIdentity,
    Way,
    own_identity,
    process_is_alive,
    unprivileged_way,
)

REPOSITORY = Path(__file__).resolve().parents[2]
WRAPPER = REPOSITORY / "persistence" / "child_process.py"
LIVENESS_S = 10

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: prctl, /proc")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to change the user")


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + LIVENESS_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def run_wrapper(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(WRAPPER), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
    )


def python_child(tmp_path: Path, code: str) -> ChildProcess:
    child = ChildProcess("example", tmp_path / "example.log")
    child.start(
        [sys.executable, "-u", "-c", code],
        death_signal="KILL",
        identity=own_identity(),
        inherited_descriptors=(),
    )
    return child


def test_the_wrapper_runs_by_path_from_a_directory_without_the_package(tmp_path: Path) -> None:
    answer = run_wrapper("--", "echo", "two words", "--clean-env", cwd=tmp_path)
    assert (answer.returncode, answer.stdout) == (0, "two words --clean-env\n")


def test_the_wrapper_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "persistence.child_process", "--pdeathsig", "TERM"]
    answer = subprocess.run(
        [*command, "--", "echo", "here"], capture_output=True, text=True, cwd=REPOSITORY, check=True
    )
    assert answer.stdout == "here\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--", "/nowhere/at/all"], 127, "/nowhere/at/all: No such file"),
        (["--", "/"], 126, "/: Permission denied"),
        (["--pdeathsig", "HUP", "--", "true"], 125, "--pdeathsig: bad value 'HUP'"),
        (["--parent=father", "--", "true"], 125, "--parent: bad value 'father'"),
        (["--unprivileged=daemon", "--", "true"], 125, "WAY is namespace or nobody"),
        (["true"], 125, "unknown option 'true'"),
    ],
)
def test_the_wrapper_names_what_it_cannot_do(arguments: list[str], code: int, message: str) -> None:
    answer = run_wrapper(*arguments)
    assert answer.returncode == code
    assert message in answer.stderr


@linux_only
def test_nothing_starts_when_the_owner_is_already_gone(tmp_path: Path) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    proof = tmp_path / "started"
    answer = run_wrapper("--pdeathsig=INT", f"--parent={gone.pid}", "--", "touch", str(proof))
    assert answer.returncode == 125
    assert f"process {gone.pid}, is already gone" in answer.stderr
    assert not proof.exists()


@linux_only
def test_the_child_ends_when_its_owner_is_killed() -> None:
    owner = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, *sys.argv[1:]])\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(600)",
            *(str(WRAPPER), "--pdeathsig", "TERM", "--", "sleep", "600"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    child_pid = int(owner.stdout.readline())
    try:
        name = Path(f"/proc/{child_pid}/comm")
        assert eventually(lambda: name.read_text() == "sleep\n")
        owner.kill()
        owner.wait()
        assert eventually(lambda: not process_is_alive(child_pid))
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()
        if process_is_alive(child_pid):
            os.kill(child_pid, signal.SIGKILL)


@linux_only
@pytest.mark.parametrize("way", ["same", "namespace", "nobody"])
def test_the_death_signal_outlives_the_change_of_user(tmp_path: Path, way: Way) -> None:
    """It belongs to the thread, so ending the thread shows it without killing this process."""
    if way == "namespace" and unprivileged_way() != "namespace":
        pytest.skip("needs user namespaces, which this kernel or container forbids")
    if way == "nobody" and os.geteuid() != 0:
        pytest.skip("needs root, to change the user")
    identity = ServerIdentity(way, os.geteuid(), os.getegid())
    child = ChildProcess("sleep", tmp_path / "sleep.log")
    name = ""

    def start_and_end() -> None:
        nonlocal name
        child.start(
            ["sleep", "600"], death_signal="TERM", identity=identity, inherited_descriptors=()
        )
        comm = Path(f"/proc/{child.pid}/comm")
        eventually(lambda: comm.read_text() == "sleep\n")
        name = comm.read_text()

    thread = threading.Thread(target=start_and_end)
    thread.start()
    thread.join()
    try:
        assert name == "sleep\n"
        assert child.wait(timeout_ms=LIVENESS_S * 1000) == -signal.SIGTERM
    finally:
        child.kill()


@linux_only
def test_in_a_namespace_the_process_is_not_root_and_its_files_are_still_ours(
    tmp_path: Path,
) -> None:
    if unprivileged_way() != "namespace":
        pytest.skip("needs user namespaces, which this kernel or container forbids")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    code = "import os, sys; print(os.geteuid(), os.getegid()); open(sys.argv[1], 'x').close()"
    answer = run_wrapper(
        "--unprivileged=namespace", "--", sys.executable, "-c", code, str(closed / "file")
    )
    assert answer.stderr == ""
    assert answer.stdout.split() == [str(NOBODY_ID), str(NOBODY_ID)]
    assert (closed / "file").stat().st_uid == os.geteuid()


@root_only
def test_as_nobody_the_process_has_no_way_into_a_closed_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "file").touch(mode=0o644)
    who = run_wrapper("--unprivileged=nobody", "--", "id", "-u")
    assert who.stdout == f"{NOBODY_ID}\n"
    groups = run_wrapper("--unprivileged=nobody", "--", "id", "-G")
    assert groups.stdout == f"{NOBODY_ID}\n"
    what = run_wrapper("--unprivileged=nobody", "--", "cat", str(tmp_path / "file"))
    assert what.returncode == 1
    assert "Permission denied" in what.stderr


@root_only
def test_unprivileged_without_a_way_never_leaves_the_process_root() -> None:
    assert run_wrapper("--unprivileged", "--", "id", "-u").stdout == f"{NOBODY_ID}\n"


@root_only
def test_whether_a_user_can_reach_a_path_is_told_from_owner_group_and_others(
    tmp_path: Path,
) -> None:
    nobody = ServerIdentity("nobody", NOBODY_ID, NOBODY_ID)
    us = ServerIdentity("namespace", os.geteuid(), os.getegid())
    open_to_all = Path("/usr")
    assert nobody.can_reach(open_to_all)
    tmp_path.chmod(0o700)
    below = tmp_path / "below"
    below.mkdir(mode=0o755)
    assert us.can_reach(below)
    assert not nobody.can_reach(below)
    user = pwd.getpwuid(NOBODY_ID)
    os.chown(tmp_path, user.pw_uid, user.pw_gid)
    assert not us.can_reach(below)


@linux_only
def test_the_environment_of_the_owner_stays_with_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAYMENT_KEY_OF_THE_OWNER", "secret")
    child = python_child(tmp_path, "import os; print(sorted(os.environ))")
    assert child.wait(timeout_ms=LIVENESS_S * 1000) == 0
    assert child.log_since_start() == "['LC_ALL', 'PATH', 'TZ']\n"


def test_a_child_that_ends_at_its_start_is_reported_with_its_last_words(tmp_path: Path) -> None:
    child = python_child(tmp_path, "print('out of cheese'); raise SystemExit(3)")
    with pytest.raises(EmbeddedServerError, match=r"code 3 at its start(?s:.*)out of cheese"):
        child.wait_until_ready(lambda: False, timeout_ms=LIVENESS_S * 1000)


def test_a_child_that_never_gets_ready_is_not_left_behind(tmp_path: Path) -> None:
    child = python_child(tmp_path, "import time; time.sleep(600)")
    with pytest.raises(EmbeddedServerError, match="not ready within 100 ms"):
        child.wait_until_ready(lambda: False, timeout_ms=100)
    assert not child.is_running
    assert not process_is_alive(child.pid)


def test_an_interrupted_wait_leaves_no_child_behind(tmp_path: Path) -> None:
    child = python_child(tmp_path, "import time; time.sleep(600)")

    def interrupt() -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child.wait_until_ready(interrupt, timeout_ms=LIVENESS_S * 1000)
    assert not process_is_alive(child.pid)


def test_a_child_deaf_to_its_stop_signal_is_killed(tmp_path: Path) -> None:
    child = python_child(
        tmp_path,
        "import signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf')\n"
        "time.sleep(600)",
    )
    child.wait_until_ready(lambda: "deaf" in child.log_since_start(), timeout_ms=LIVENESS_S * 1000)
    child.stop(signal.SIGTERM, timeout_ms=100)
    assert child.wait() == -signal.SIGKILL


def test_ctrl_c_in_the_owners_terminal_does_not_reach_the_child(tmp_path: Path) -> None:
    """The terminal signals the whole foreground process group, and the child is not in it."""
    child = python_child(tmp_path, "import time; time.sleep(600)")
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgrp()
    finally:
        child.kill()


def test_a_log_above_the_limit_is_put_aside_at_the_next_start(tmp_path: Path) -> None:
    log = tmp_path / "example.log"
    log.write_bytes(b"old\n" + b"x" * LOG_BYTES_MAX)
    child = python_child(tmp_path, "print('new')")
    child.wait(timeout_ms=LIVENESS_S * 1000)
    assert log.read_text() == "new\n"
    assert (tmp_path / "example.log.1").read_bytes().startswith(b"old\n")


def test_a_log_below_the_limit_is_continued_and_only_the_new_part_reported(
    tmp_path: Path,
) -> None:
    log = tmp_path / "example.log"
    log.write_text("old\n")
    child = python_child(tmp_path, "print('new')")
    child.wait(timeout_ms=LIVENESS_S * 1000)
    assert log.read_text() == "old\nnew\n"
    assert "old" not in str(child.failure("ended"))
    assert "new" in str(child.failure("ended"))


def test_a_zombie_does_not_count_as_alive() -> None:
    zombie = subprocess.Popen(["true"])
    try:
        if sys.platform == "linux":
            assert eventually(lambda: not process_is_alive(zombie.pid))
        assert process_is_alive(os.getpid())
    finally:
        zombie.wait()
    assert not process_is_alive(zombie.pid)
