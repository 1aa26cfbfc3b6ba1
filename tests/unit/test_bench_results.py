"""What a run writes: stable keys, computed verdicts, a page that needs nothing else."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from benchmarks.load.http_client import Answer
from benchmarks.load.rounds import Round, Tally, Verdict, median_round, quantile
from benchmarks.machine import describe_machine, was_busy
from benchmarks.over_http import HttpHold, OverHttp
from benchmarks.report.ladder import RUNGS
from benchmarks.report.page import write_page
from benchmarks.report.text import describe_run, describe_scenario, write_table
from benchmarks.results import Aim, RunResult, ScenarioResult, in_short


def measured(rate: float, p99_ms: float = 20.0) -> Round:
    return Round(rate, p99_ms / 2, p99_ms, 2 * p99_ms, 3 * p99_ms, int(rate), 1, 0, 1.0)


@pytest.fixture
def run() -> RunResult:
    machine: dict[str, object] = {
        "cpu": "Test <CPU>",
        "cores": 2,
        "memory_gib": 4.0,
        "kernel": "Linux 6",
        "python": "3.11",
        "postgres": "18",
        "ray": "2",
        "uvicorn": "0",
        "fastapi": "0",
        "load_average_before": 0.1,
    }
    result = RunResult(
        machine, {"seconds": 1.0, "rounds": 3, "quick": False}, "2026-01-02T03:04:05"
    )
    hot = ScenarioResult("http_hot_show", "one <hot> show")
    for rate in (900, 1_000, 1_100):
        hot.add("actor", measured(rate))
        hot.add("row_lock", measured(rate / 4, 200.0))
    ratio = hot.ratio_of_rates("actor", "row_lock")
    hot.aims.append(Aim.at_least("http_hot_show: actor to row_lock", ratio, 2, "x"))
    hot.aims.append(Aim.at_most("http_hot_show: a wait", 4.5, 3, " s"))
    hot.figures["half_per_s"] = 500.0
    result.scenarios.append(hot)
    return result


def document_of(run: RunResult) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(json.dumps(run.as_json(), allow_nan=False))
    return document


def test_the_stable_keys_are_there(run: RunResult) -> None:
    document = document_of(run)
    ours = document["scenarios"]["http_hot_show"]["contenders"]["actor"]
    assert ours["rate_per_s"] == 1_000
    assert {"p50_ms", "p99_ms", "p999_ms", "errors"} <= ours.keys()
    assert document["scenarios"]["http_hot_show"]["ratios"]["actor_to_row_lock"] == 4
    assert document["audit"]["violations"] == 0
    assert document["failed"] is False


def test_medians_are_of_rounds_and_counts_are_added_up() -> None:
    middle = median_round([measured(100, 10.0), measured(300, 30.0), measured(200, 90.0)])
    assert (middle.rate_per_s, middle.p99_ms, middle.done) == (200, 30.0, 600)


@pytest.mark.parametrize(
    ("aim", "is_reached"),
    [
        (Aim.at_least("a", 12.0, 12), True),
        (Aim.at_least("a", 11.99, 12), False),
        (Aim.at_most("a", 2.0, 2), True),
        (Aim.at_most("a", 2.01, 2), False),
    ],
)
def test_an_aim_is_reached_by_its_figure_and_nothing_else(aim: Aim, is_reached: bool) -> None:
    assert aim.is_reached is is_reached
    assert aim.line.endswith(": reached" if is_reached else ": NOT reached")
    assert aim.as_json()["reached"] is is_reached


def test_a_violation_or_a_failure_makes_a_run_a_failed_run(run: RunResult) -> None:
    assert not run.is_failed
    run.scenarios[0].failure = "it fell over"
    assert run.is_failed
    run.scenarios[0].failure = None
    run.audit.faults.append("place 7 was sold twice")
    assert run.is_failed
    assert document_of(run)["audit"] == {
        "violations": 1,
        "shows": 0,
        "holds": 0,
        "faults": ["place 7 was sold twice"],
    }
    assert "FAILED" in describe_run(run)
    assert "place 7 was sold twice" in write_page(document_of(run))


def test_the_ladder_says_which_rungs_this_run_passed(run: RunResult) -> None:
    ladder = document_of(run)["ladder"]
    assert [rung["rate_per_s"] for rung in ladder] == sorted(rung.rate_per_s for rung in RUNGS)
    passed = [rung["rate_per_s"] for rung in ladder if rung["passed_over_http"]]
    assert passed == [rung.rate_per_s for rung in RUNGS if rung.rate_per_s < 1_000]
    assert {rung["passed_below_http"] for rung in ladder} == {None}
    assert all(rung["source"] for rung in ladder)


def test_the_terminal_shows_every_contender_ratio_and_aim(run: RunResult) -> None:
    shown = describe_scenario(run.scenarios[0])
    for wanted in ("actor", "row_lock", "p99.9 ms", "actor_to_row_lock 4", "half_per_s: 500"):
        assert wanted in shown
    assert "http_hot_show: actor to row_lock: 4x (target at least 2x): reached" in shown
    assert "http_hot_show: a wait: 4.5 s (target at most 3 s): NOT reached" in shown


def test_the_table_is_markdown_with_the_machine_and_the_aims(run: RunResult) -> None:
    table = write_table(document_of(run))
    assert "Test <CPU>" in table
    assert "| `http_hot_show` | row_lock | 250 | 100.00 | 200.00 | 400.00 | 4 x |" in table
    assert "| http_hot_show: a wait | 4.5 s | at most 3 s | **not reached** |" in table
    assert "0 violations" in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in rows)


class _Page(HTMLParser):
    """Notes everything that would be loaded, and whether tags are closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in ("src", "href", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Complete."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_opens_offline_and_is_well_formed(run: RunResult) -> None:
    content = write_page(document_of(run))
    page = _Page()
    page.feed(content)
    assert page.open == []
    assert page.loads == []
    assert not re.search(r"https?://|url\(|@import|<script", content)
    assert "one &lt;hot&gt; show" in content
    drawings = re.findall(r"<svg.*?</svg>", content)
    assert len(drawings) == 3
    for drawing in drawings:
        ElementTree.fromstring(drawing)


def test_bars_are_as_long_as_the_rates_are_high(run: RunResult) -> None:
    content = write_page(document_of(run))
    widths = [
        float(width) for width in re.findall(r'<rect class="bar[^>]*width="([\d.]+)"', content)
    ]
    assert len(widths) == 2
    assert widths[0] == pytest.approx(4 * widths[1], rel=0.01)


def test_a_run_without_any_rounds_still_has_a_page_and_a_table(run: RunResult) -> None:
    run.scenarios = [ScenarioResult("activation", "", failure="no disk")]
    document = document_of(run)
    assert "no disk" in write_page(document)
    assert "0 violations" in write_table(document)
    assert "FAILED: no disk" in describe_scenario(run.scenarios[0])


def test_a_busy_machine_is_said_everywhere(run: RunResult) -> None:
    run.machine = {**run.machine, "load_average_before": 3.0}
    document = document_of(run)
    for said in (describe_run(run), write_page(document), write_table(document)):
        assert "not quiet" in said


def test_this_machine_can_be_described() -> None:
    machine = describe_machine()
    assert all(machine.values()) or machine["load_average_before"] == 0
    assert isinstance(was_busy(machine), bool)


def test_quantiles_are_values_that_were_measured() -> None:
    ordered = list(range(1, 1_001))
    assert quantile(ordered, 0.5) == 500
    assert quantile(ordered, 0.99) == 990
    assert quantile(ordered, 0.999) == 999
    assert quantile([7], 0.999) == 7


def test_a_tally_counts_verdicts_and_rates_only_what_is_done() -> None:
    tally = Tally()
    for verdict in (Verdict.DONE, Verdict.DONE, Verdict.REFUSED, Verdict.FAILED):
        tally.note(verdict, 0.010)
    result = tally.round(2.0)
    assert (result.rate_per_s, result.answer_rate_per_s) == (1.0, 1.5)
    assert (result.done, result.refused, result.errors, result.answers) == (2, 1, 1, 4)
    assert Tally().round(0.0).rate_per_s == 0.0


@pytest.mark.parametrize(
    ("figure", "shown"), [(0.61234, "0.612"), (20_971.3, "20,971"), (3.0, "3"), (123.4, "123")]
)
def test_figures_are_shown_short(figure: float, shown: str) -> None:
    assert in_short(figure) == shown


def test_errors_are_told_with_what_they_were() -> None:
    http = OverHttp(*[cast(Any, None)] * 6)
    hold = HttpHold("hld_1", b"")
    busy = Answer(503, b"", b'{"type": "about:blank", "code": "BUSY", "status": 503}')
    answers = [Answer(201, b"", b""), busy, busy, Answer(0, b"", b""), Answer(500, b"", b"oops")]
    verdicts = [http.judge_hold(hold, answer, contender="redlock") for answer in answers]
    result = ScenarioResult("http_hot_show", "")
    result.note_errors(http.errors)
    assert verdicts == [Verdict.DONE] + [Verdict.FAILED] * 4
    assert http.promised_of("redlock") == ["hld_1"]
    assert result.notes == [
        "errors of redlock: 503 BUSY (2)",
        "errors of redlock: no answer (1)",
        "errors of redlock: 500 (1)",
    ]
