"""The data directory: one user at a time, private files, nothing left of a crash."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from serve_app.house import data_directory
from serve_app.house.data_directory import (
    SESSIONS_KEPT,
    DataDirectory,
    HouseInUse,
    RunDirectory,
    RunningHouse,
    make_run_directory,
)
from serve_app.house_error import HouseError

REPOSITORY = Path(__file__).resolve().parents[2]

HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from serve_app.house.data_directory import DataDirectory
with DataDirectory(Path(sys.argv[2])).used_by("housefull run", int(sys.argv[3])):
    print("held", flush=True)
    time.sleep(float(sys.argv[4]))
"""

HOUSE = RunningHouse(
    pid=1,
    url="http://127.0.0.1:8000",
    database_urls=("postgresql://house:s3cret@/housefull",),
    admin_database_urls=("postgresql://postgres:s3cret@/housefull",),
    redis_url="unix://:s3cret@/run/valkey.sock",
    ray_address="127.0.0.1:1234",
    started_at_ms=1_790_000_000_000,
)


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    return DataDirectory(tmp_path / "a b" / "data")


def hold(data: DataDirectory, pid: int, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(REPOSITORY), str(data.path), str(pid)]
    process = subprocess.Popen([*command, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_second_user_is_told_which_process_to_stop(data: DataDirectory) -> None:
    with hold(data, os.getpid(), 60) as holder:
        with pytest.raises(HouseInUse, match=re.escape(f"`housefull run` (process {os.getpid()})")):
            data.used_by("housefull import", 1).__enter__()
        holder.kill()
    with data.used_by("housefull import", os.getpid()):
        assert data.is_used()
    assert not data.is_used()


def test_a_house_whose_launcher_is_gone_is_waited_for(data: DataDirectory) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with hold(data, gone.pid, 0.5), data.used_by("housefull run", os.getpid()):
        assert data.is_used()


def test_a_house_that_does_not_end_is_not_waited_for_forever(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_directory, "_STOPPING_PATIENCE_S", 0.3)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with hold(data, gone.pid, 60) as holder:
        with pytest.raises(HouseInUse):
            data.used_by("housefull run", os.getpid()).__enter__()
        holder.kill()


def test_a_place_that_cannot_be_written_is_an_error_that_names_it() -> None:
    with pytest.raises(HouseError, match="cannot keep data in /proc/nowhere"):
        DataDirectory(Path("/proc/nowhere")).create()


def test_a_running_house_is_found_while_it_runs_and_not_after(data: DataDirectory) -> None:
    assert data.running() is None
    with data.used_by("housefull run", os.getpid()):
        assert data.running() is None
        data.remember_running(HOUSE)
        assert data.running() == HOUSE
    assert data.running() is None


def test_what_a_killed_house_says_about_itself_is_forgotten_by_the_next(
    data: DataDirectory,
) -> None:
    with data.used_by("housefull run", os.getpid()):
        data.remember_running(HOUSE)
    with data.used_by("housefull run", os.getpid()):
        assert data.running() is None


def test_secrets_are_for_this_user_only(data: DataDirectory) -> None:
    with data.used_by("housefull run", os.getpid()):
        data.remember_running(HOUSE)
        data.application_password()
        token = data.renew_ray_token()
        files = [data.path / "running.json", data.path / "application.password", token]
        assert [mode(path) for path in files] == [0o600, 0o600, 0o600]
        assert mode(data.path) == 0o700


def test_the_password_stays_and_the_token_does_not(data: DataDirectory) -> None:
    data.create()
    assert data.application_password() == data.application_password()
    first = data.renew_ray_token().read_text()
    assert data.renew_ray_token().read_text() != first


def test_logs_of_the_latest_runs_are_kept(data: DataDirectory) -> None:
    data.create()
    names = [f"session_2026-11-{day:02}_10-00-00_000000_1" for day in range(1, 7)]
    for name in names:
        (data.ray / name / "logs").mkdir(parents=True)
    data.forget_old_sessions()
    assert sorted(path.name for path in data.ray.iterdir()) == names[-SESSIONS_KEPT:]


def test_a_run_directory_is_private_and_short_enough_for_rays_longest_socket(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long_parent = tmp_path / ("x" * 60)
    long_parent.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long_parent))
    path = make_run_directory()
    try:
        socket = path / "ray" / "session_2026-11-22_10-14-38_078273_4194304" / "sockets"
        assert len(str(socket / "plasma_store")) <= 103
        assert mode(path) == 0o700
        assert not list(long_parent.iterdir())
    finally:
        path.rmdir()


def test_a_run_directory_keeps_rays_logs_with_the_data_and_leaves_nothing(
    data: DataDirectory,
) -> None:
    data.create()
    path = make_run_directory()
    with RunDirectory(data, path) as run:
        (run.ray / "session_latest").mkdir()
        assert (data.ray / "session_latest").is_dir()
    assert not path.exists()
    assert not (data.path / "run").is_symlink()
    assert (data.ray / "session_latest").is_dir()


def test_what_a_killed_run_has_left_is_cleared_by_the_next(data: DataDirectory) -> None:
    data.create()
    left = make_run_directory()
    (left / "file").touch()
    (data.path / "run").symlink_to(left)
    with RunDirectory(data, make_run_directory()):
        assert not left.exists()


def test_a_crash_is_cleared_away_only_when_nobody_uses_the_directory(data: DataDirectory) -> None:
    data.create()
    left = make_run_directory()
    (data.path / "run").symlink_to(left)
    with hold(data, os.getpid(), 60) as holder:
        data.clear_after_crash()
        assert left.exists()
        holder.kill()
    data.clear_after_crash()
    assert not left.exists()
    assert not (data.path / "run").is_symlink()


def test_a_link_that_somebody_else_has_put_there_is_not_followed(
    data: DataDirectory, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    data.create()
    (data.path / "run").symlink_to(precious)
    data.clear_after_crash()
    assert precious.is_dir()
