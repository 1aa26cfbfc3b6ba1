"""The command line: one line per expected error, and an exit status that says whose fault it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "serve_app" / "catalogue" / "demo"
PLAN = DEMO / "coach.json"
FEED = DEMO / "bus-network"
GTFS = ["import", "gtfs", str(FEED), "--seating-plan", str(PLAN)]
DAYS = ["--from", "2026-11-25", "--to", "2026-11-26"]


def housefull(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY), **variables}
    return subprocess.run(
        [sys.executable, "-m", "serve_app", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([*GTFS, "--from", "2026-11-26", "--to", "2026-11-25"], "--to: 2026-11-25 is before"),
        ([*GTFS, "--from", "2026-01-01", "--to", "2036-01-01"], "--to: 2026-01-01 to 2036-01-01"),
        ([*GTFS, *DAYS, "--fare-per-km", "much"], "--fare-per-km: 'much' is not an amount"),
        ([*GTFS, *DAYS, "--fare-base", "-1"], "--fare-base: '-1' is not an amount"),
        ([*GTFS, *DAYS, "--fare-base", "nan"], "--fare-base: 'nan' is not an amount"),
        ([*GTFS, *DAYS, "--fare-base", "1.005"], "--fare-base: 1.005 has more digits than EUR has"),
        ([*GTFS, *DAYS, "--fare-base", "1.5", "--currency", "jpy"], "--fare-base: 1.5 has more"),
        ([*GTFS, *DAYS, "--currency", "euro"], "--currency: 'euro' is not three letters"),
        (["verify", "shw_short"], "'shw_short' is not the id of a show"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    tmp_path: Path, arguments: list[str], line: str
) -> None:
    ended = housefull(tmp_path, *arguments)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"housefull: {line}")
    assert ended.stderr.count("\n") == 1
    # It was noticed before anything was started.
    assert not (tmp_path / ".housefull").exists()


@pytest.mark.parametrize("command", ["run", "migrate", "settings", "verify"])
def test_every_command_refuses_a_setting_that_nobody_knows(tmp_path: Path, command: str) -> None:
    ended = housefull(tmp_path, command, HOUSEFULL_HTTP_PROT="1")
    assert ended.returncode == 2
    assert ended.stderr == (
        "housefull: HOUSEFULL_HTTP_PROT: no setting has this name (in the environment); "
        "did you mean HOUSEFULL_HTTP_PORT?\n"
    )


def test_a_place_that_cannot_be_written_is_a_failure_without_a_traceback(tmp_path: Path) -> None:
    ended = housefull(tmp_path, "run", HOUSEFULL_DATA_DIR="/proc/nowhere")
    assert ended.returncode == 1
    assert ended.stderr == (
        "housefull: cannot keep data in /proc/nowhere: No such file or directory\n"
    )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    ended = housefull(tmp_path, "import", "seating-plan", "nothing.json")
    assert ended.returncode == 2
    assert "nothing.json" in ended.stderr


def test_printed_settings_can_be_used_as_env_file(tmp_path: Path) -> None:
    url = "postgresql:///seats"
    printed = housefull(
        tmp_path, "settings", HOUSEFULL_DATABASE_URLS=url, HOUSEFULL_HTTP_PORT="8123"
    )
    assert printed.returncode == 0
    (tmp_path / ".env").write_text(printed.stdout)
    assert housefull(tmp_path, "settings").stdout == printed.stdout


def test_the_version_is_printed(tmp_path: Path) -> None:
    ended = housefull(tmp_path, "--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("housefull ")


def test_help_does_not_wait_for_ray(tmp_path: Path) -> None:
    script = (
        "import sys; from serve_app import cli; print(sorted({'ray', 'fastapi'} & {*sys.modules}))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == "[]\n"
