"""Results as text: for the terminal while a run goes on, and as the Markdown of the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.audit import FAULTS_SHOWN_MAX
from benchmarks.load.open_model import client_was_late
from benchmarks.machine import machine_line, was_busy
from benchmarks.results import RunResult, ScenarioResult, in_short

_WIDTH = 22


def describe_scenario(result: ScenarioResult) -> str:
    """A table of a scenario's contenders, its figures, and the lines of its aims."""
    lines = ["", f"{result.name}: {result.what}"]
    if result.failure:
        return "\n".join([*lines, f"  FAILED: {result.failure}"])
    if result.rounds:
        lines.append(
            f"  {'':{_WIDTH}}{result.unit:>12}  lowest - highest{'p50 ms':>10}{'p99 ms':>10}"
            f"{'p99.9 ms':>10}{'refused':>9}{'errors':>8}"
        )
    for name, rounds in result.rounds.items():
        middle = result.median(name)
        rates = [each.rate_per_s for each in rounds]
        spread = f"{min(rates):,.0f} - {max(rates):,.0f}"
        late = "  the client was late" if any(map(client_was_late, rounds)) else ""
        lines.append(
            f"  {name:{_WIDTH}}{middle.rate_per_s:12,.0f}{spread:>18}{middle.p50_ms:10.2f}"
            f"{middle.p99_ms:10.2f}{middle.p999_ms:10.2f}{middle.refused:9,}{middle.errors:8,}{late}"
        )
    if result.ratios:
        ratios = (f"{name} {in_short(value)}" for name, value in result.ratios.items())
        lines.append(f"  ratios: {', '.join(ratios)}")
    lines += [f"  {name}: {in_short(value)}" for name, value in result.figures.items()]
    lines += [f"  {note}" for note in result.notes]
    lines += [aim.line for aim in result.aims]
    return "\n".join(lines)


def describe_run(result: RunResult) -> str:
    """What a whole run came to: machine, ladder, aims, audit."""
    document = result.as_json()
    lines = ["", f"on {machine_line(dict(result.machine))}"]
    if was_busy(dict(result.machine)):
        load = result.machine["load_average_before"]
        lines.append(f"the machine was not quiet: load average {load} before the run")
    lines += _ladder_lines(document["ladder"])
    aims = [aim for each in result.scenarios for aim in each.aims]
    if aims:
        lines += ["", "aims:", *(aim.line for aim in aims)]
    audit = result.audit
    lines += [
        "",
        f"audit: {audit.holds:,} holds of {audit.shows:,} shows, {audit.violations} violations",
    ]
    lines += [f"  {fault}" for fault in audit.faults[:FAULTS_SHOWN_MAX]]
    lines.append(f"{'FAILED' if result.is_failed else 'done'} in {result.elapsed_s:.0f} s")
    return "\n".join(lines)


def _ladder_lines(ladder: Any) -> list[str]:
    if all(
        rung["passed_over_http"] is None and rung["passed_below_http"] is None for rung in ladder
    ):
        return []
    lines = ["", "the ladder (published rates a second; durable holds of this run against them):"]
    lines.append(f"  {'':>8}  {'HTTP':8}{'engine':8}")
    for rung in ladder:
        lines.append(
            f"  {rung['rate_per_s']:8,g}  {_mark(rung['passed_over_http']):8}"
            f"{_mark(rung['passed_below_http']):8}{rung['who']}: {rung['what']} ({rung['source']})"
        )
    return lines


def _mark(passed: bool | None) -> str:
    return "-" if passed is None else "passed" if passed else "below"


def write_table(document: Mapping[str, Any]) -> str:
    """The results as the README carries them, from the JSON."""
    options = document["options"]
    lines = [
        f"Measured {document['started_at'][:10]} on {machine_line(document['machine'])}, "
        "`fsync` on, clients on the same machine; medians of "
        f"{options['rounds']} interleaved rounds of {options['seconds']:g} s. "
        "Rates depend on the machine, so compare ratios." + _warning(document["machine"]),
        "",
        "| scenario | contender | a second | p50 ms | p99 ms | p99.9 ms | ours is |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for name, scenario in document["scenarios"].items():
        for contender, figures in scenario["contenders"].items():
            ratio = scenario["ratios"].get(f"actor_to_{contender}")
            times = "" if ratio is None else f"{in_short(ratio)} x"
            lines.append(
                f"| `{name}` | {contender} | {figures['rate_per_s']:,.0f} "
                f"| {figures['p50_ms']:.2f} | {figures['p99_ms']:.2f} | {figures['p999_ms']:.2f} "
                f"| {times} |"
            )
    aims = [aim for scenario in document["scenarios"].values() for aim in scenario["aims"]]
    if aims:
        lines += ["", "| aim | figure | target | |", "|---|--:|--:|---|"]
    for aim in aims:
        lines.append(
            f"| {aim['what']} | {with_unit(aim)} | {aim['target']} "
            f"| {'reached' if aim['reached'] else '**not reached**'} |"
        )
    lines += ["", _ladder_sentence(document["ladder"]), _audit_sentence(document["audit"])]
    return "\n".join(line for line in lines if line is not None) + "\n"


def _warning(machine: dict[str, object]) -> str:
    if not was_busy(machine):
        return ""
    load = machine["load_average_before"]
    return f" The machine was not quiet: its load average was {load} before the run."


def with_unit(aim: Mapping[str, Any]) -> str:
    """The figure of an aim of the JSON, as people write it."""
    space = "" if aim["unit"] in ("", "x", "%") else " "
    return f"{in_short(aim['figure'])}{space}{aim['unit']}"


def _ladder_sentence(ladder: list[Mapping[str, Any]]) -> str:
    sentences = []
    for key, where in (("passed_over_http", "over HTTP"), ("passed_below_http", "below HTTP")):
        passed = [rung for rung in ladder if rung[key]]
        if not any(rung[key] is not None for rung in ladder):
            continue
        if passed:
            top = passed[-1]
            rungs = f"{len(passed)} of {len(ladder)} rungs"
            highest = f"{top['who']}, {top['what']}: {top['rate_per_s']:,g} a second"
            sentences.append(f"Published rates passed {where}: {rungs}, the highest {highest}.")
        else:
            sentences.append(f"Published rates passed {where}: none.")
    return " ".join(sentences)


def _audit_sentence(audit: Mapping[str, Any]) -> str:
    return (
        f"Audit of what was sold: {audit['holds']:,} holds of {audit['shows']:,} shows, "
        f"{audit['violations']} violations."
    )
