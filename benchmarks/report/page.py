"""The HTML report: one file that needs nothing else, from the JSON."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from benchmarks.machine import machine_line, was_busy
from benchmarks.report.ladder import BELOW_HTTP, OVER_HTTP
from benchmarks.report.plots import plot_ladder, plot_latencies, plot_rates
from benchmarks.report.text import with_unit
from benchmarks.results import in_short

_STYLE = """
:root { --page: #fbfbfa; --ink: #1d2126; --soft: #5d6670; --rule: #dcdfe3; --ours: #1f6feb;
  --other: #8d97a3; --scale: #c48a1c; --good: #1a7f37; --bad: #c4322b; }
@media (prefers-color-scheme: dark) { :root { --page: #15181c; --ink: #e6e9ed; --soft: #9aa4af;
  --rule: #323941; --ours: #58a6ff; --other: #76808b; --scale: #d9a441; --good: #4cc26a;
  --bad: #ff7b72; } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 860px; padding: 2rem 1.25rem 4rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .25rem } h2 { font-size: 1.2rem; margin: 2.5rem 0 .25rem }
p { margin: .25rem 0 .75rem } .soft { color: var(--soft) }
svg { display: block; width: 100%; height: auto; margin: .75rem 0 }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink) }
svg .label { text-anchor: end } svg .tick { text-anchor: middle; fill: var(--soft) }
svg .unit { text-anchor: end; fill: var(--soft) } svg .grid { stroke: var(--rule) }
svg .spread { stroke: var(--ink); stroke-width: 1.5; opacity: .55 }
svg .stand { stroke: var(--ours); stroke-width: 2 }
.ours { fill: var(--ours) } .other { fill: var(--other) } .scale { fill: var(--scale) }
.p50_ms { fill-opacity: .35 } .p999_ms { fill-opacity: 1 } .p99_ms { fill-opacity: .7 }
.table { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-size: .9rem }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--rule); text-align: right;
  font-variant-numeric: tabular-nums }
th:first-child, td:first-child { text-align: left } th { color: var(--soft); font-weight: 600 }
.good { color: var(--good) } .bad { color: var(--bad); font-weight: 600 }
ul { padding-left: 1.2rem }
"""


def write_page(document: Mapping[str, Any]) -> str:
    """The whole page."""
    audit = document["audit"]
    violations = _marked(audit["violations"] == 0, f"{audit['violations']} violations")
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Housefull measured, {escape(document['started_at'])}</title>",
        f"<style>{_STYLE}</style></head><body>",
        "<h1>Housefull measured</h1>",
        f'<p class="soft">{escape(document["started_at"])}, {document["elapsed_s"]:g} s, '
        f"on {escape(machine_line(document['machine']))}.</p>",
        _verdict(document),
        f"<p>Audit of what was sold: {audit['holds']:,} holds of {audit['shows']:,} shows, "
        f"{violations}.</p>",
        _list(audit["faults"]),
        _aims(document),
        _ladder(document),
    ]
    parts += [_scenario(name, found) for name, found in document["scenarios"].items()]
    parts.append("</body></html>\n")
    return "".join(parts)


def _verdict(document: Mapping[str, Any]) -> str:
    options = document["options"]
    said = f"Medians of {options['rounds']} interleaved rounds of {options['seconds']:g} s."
    said += " Rates depend on the machine and its neighbours; ratios are what to compare."
    if was_busy(document["machine"]):
        load = document["machine"]["load_average_before"]
        said += f" The machine was not quiet: its load average was {load} before the run."
    failed = _marked(False, "This run failed. ") if document["failed"] else ""
    return f"<p>{failed}{escape(said)}</p>"


def _aims(document: Mapping[str, Any]) -> str:
    rows = []
    for scenario in document["scenarios"].values():
        for aim in scenario["aims"]:
            end = "reached" if aim["reached"] else "NOT reached"
            mark = _marked(aim["reached"], end)
            rows.append([escape(aim["what"]), with_unit(aim), aim["target"], mark])
    if not rows:
        return ""
    return "<h2>Aims</h2>" + _table(["aim", "figure", "target", ""], rows)


def _ladder(document: Mapping[str, Any]) -> str:
    ours = {}
    for scenario, where in ((OVER_HTTP, "over HTTP"), (BELOW_HTTP, "below HTTP")):
        contenders = document["scenarios"].get(scenario, {}).get("contenders", {})
        if "actor" in contenders:
            ours[where] = contenders["actor"]["rate_per_s"]
    if not ours:
        return ""
    rows = [
        [
            escape(f"{rung['who']}: {rung['what']}"),
            f"{rung['rate_per_s']:,g}",
            _passed(rung["passed_over_http"]),
            _passed(rung["passed_below_http"]),
            escape(rung["source"]),
        ]
        for rung in document["ladder"]
    ]
    stands = ", ".join(f"{in_short(rate)} {where}" for where, rate in ours.items())
    return (
        "<h2>The ladder</h2>"
        "<p>Published rates of real systems. They differ in hardware and in what an order is; "
        f"lines are durable holds of two seats a second in this run: {stands}.</p>"
        + plot_ladder(document["ladder"], ours)
        + _table(["published", "a second", "over HTTP", "below HTTP", "source"], rows)
    )


def _scenario(name: str, found: Mapping[str, Any]) -> str:
    parts = [f"<h2>{escape(name)}</h2><p>{escape(found['what'])}</p>"]
    if found["failure"]:
        parts.append(f"<p>{_marked(False, 'Failed: ' + found['failure'])}</p>")
    contenders = found["contenders"]
    if contenders:
        parts.append(plot_rates(contenders, found["unit"]))
        parts.append('<p class="soft">Latency: p50, p99 and p99.9, from pale to full.</p>')
        parts.append(plot_latencies(contenders))
        rows = [
            [
                escape(contender),
                *(f"{figures[key]:,.0f}" for key in ("rate_per_s",)),
                *(f"{figures[key]:.2f}" for key in ("p50_ms", "p99_ms", "p999_ms", "max_ms")),
                f"{figures['refused']:,}",
                f"{figures['errors']:,}",
            ]
            for contender, figures in contenders.items()
        ]
        heads = ["", found["unit"], "p50 ms", "p99 ms", "p99.9 ms", "max ms", "refused", "errors"]
        parts.append(_table(heads, rows))
    figures = {**found["ratios"], **found["figures"]}
    if figures:
        rows = [[escape(key), in_short(value)] for key, value in figures.items()]
        parts.append(_table(["ratios and figures", ""], rows))
    parts.append(_list(found["notes"]))
    return "".join(parts)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    head = "".join(f"<th>{escape(each)}</th>" for each in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="table"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _list(entries: list[str]) -> str:
    if not entries:
        return ""
    return "<ul>" + "".join(f"<li>{escape(entry)}</li>" for entry in entries) + "</ul>"


def _passed(passed: bool | None) -> str:
    return "" if passed is None else _marked(passed, "passed" if passed else "below")


def _marked(is_good: bool, content: str) -> str:
    return f'<span class="{"good" if is_good else "bad"}">{escape(content)}</span>'
