"""The command line of ``scripts/bench``: what it finds, and what it refuses."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.__main__ import _read, main, programme_names, scenario_names
from benchmarks.bench import Bench
from benchmarks.results import Aim, ScenarioResult
from benchmarks.scenarios import ORDER

NAMES = frozenset(
    {
        "engine_hot_show",
        "http_hot_show",
        "http_no_op",
        "long_tail",
        "train_legs",
        "contention",
        "browse_storm",
        "activation",
        "failover",
        "pause_fault",
        "login_flood",
        "checkout",
    }
)


def test_every_scenario_of_the_order_is_there() -> None:
    assert set(ORDER) <= set(scenario_names())
    assert set(scenario_names()) >= NAMES


def test_measurements_with_options_of_their_own_are_found_by_their_files() -> None:
    found = programme_names()
    assert {"best_available", "actor_memory", "claim_shapes"} <= set(found)
    assert not set(found) & set(scenario_names())


def test_help_names_everything(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for name in (*scenario_names(), *programme_names()):
        assert f"  {name}" in shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["hot_show"], "no scenario 'hot_show'; there are engine_hot_show"),
        (["--seconds", "soon"], "'soon' is not a number"),
        (["--seconds", "0"], "0 is not in 0.1..30"),
        (["--seconds", "nan"], "nan is not in 0.1..30"),
        (["activation", "best_available"], "best_available has options of its own"),
    ],
)
def test_a_command_line_that_cannot_be_followed_says_why(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    assert reason in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stopped:
        main(["activation", "--report", str(tmp_path / "file" / "report")])
    assert stopped.value.code == 2
    assert "cannot write in" in capsys.readouterr().err


def test_the_directories_of_json_and_report_are_made(tmp_path: Path) -> None:
    _read(["--json", str(tmp_path / "a" / "results.json"), "--report", str(tmp_path / "b" / "c")])
    assert (tmp_path / "a").is_dir()
    assert (tmp_path / "b" / "c").is_dir()


def test_a_programme_gets_its_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["best_available", "--help"])
    assert stopped.value.code == 0
    assert "--repeats" in capsys.readouterr().out


def _plant(monkeypatch: pytest.MonkeyPatch, run: Callable[[Bench], ScenarioResult]) -> None:
    module = importlib.import_module("benchmarks.scenarios.http_no_op")
    monkeypatch.setattr(module, "run", run)


def test_a_run_that_sold_twice_fails_whatever_else_it_reached(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(bench: Bench) -> ScenarioResult:
        bench.audit.faults.append("row_lock: sold twice: place 7")
        return ScenarioResult("http_no_op", "planted", aims=[Aim.at_least("speed", 100, 1)])

    _plant(monkeypatch, run)
    assert main(["http_no_op"]) == 1
    shown = capsys.readouterr().out
    assert "speed: 100 (target at least 1): reached" in shown
    assert "1 violations" in shown
    assert "row_lock: sold twice: place 7" in shown


def test_a_scenario_that_breaks_is_reported_and_the_next_one_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def run(bench: Bench) -> ScenarioResult:
        raise ConnectionError("no house")

    def run_next(bench: Bench) -> ScenarioResult:
        return ScenarioResult("long_tail", "planted", figures={"shows": 3})

    _plant(monkeypatch, run)
    following = importlib.import_module("benchmarks.scenarios.long_tail")
    monkeypatch.setattr(following, "run", run_next)
    assert main(["long_tail", "http_no_op", "--json", str(tmp_path / "r.json")]) == 1
    shown = capsys.readouterr().out
    assert "FAILED: ConnectionError: no house" in shown
    assert "shows: 3" in shown
    document = json.loads((tmp_path / "r.json").read_text())
    assert list(document["scenarios"]) == ["http_no_op", "long_tail"]
    assert document["failed"] is True


def test_a_run_in_which_nothing_broke_ends_well_whatever_it_did_not_reach(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run(bench: Bench) -> ScenarioResult:
        assert bench.options.seconds == 0.2
        return ScenarioResult("http_no_op", "planted", aims=[Aim.at_least("speed", 1, 100)])

    _plant(monkeypatch, run)
    assert main(["http_no_op", "--seconds", "0.2"]) == 0
