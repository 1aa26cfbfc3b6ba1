"""Plots as inline SVG: bars with their spread, latencies on a logarithmic scale, the ladder.

Drawn here, because a page that opens offline in ten years can load nothing. Every mark carries a
title, so that a reader who points at it is told the figure; colours come from the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

from benchmarks.results import in_short

WIDTH = 760
LABEL_WIDTH = 170
ROW_HEIGHT = 26
AXIS_HEIGHT = 34
_RIGHT = 70


class Mark(NamedTuple):
    """One row of a bar chart.

    Shapes:
        lowest, highest: of the rounds.
    """

    name: str
    value: float
    lowest: float
    highest: float


def class_of(contender: str) -> str:
    """The CSS class of a contender's colour: ours, what is measured for scale, or the others."""
    if contender.startswith(("actor", "writer")):
        return "ours"
    if contender.startswith(("no_op", "readers", "hot_show")):
        return "scale"
    return "other"


def plot_rates(contenders: Mapping[str, Any], unit: str) -> str:
    """Horizontal bars of the median rates, with a line from the lowest to the highest round."""
    marks = []
    for name, figures in contenders.items():
        rates = [each["rate_per_s"] for each in figures["rounds"]]
        marks.append(Mark(name, figures["rate_per_s"], min(rates), max(rates)))
    top = max((mark.highest for mark in marks), default=0.0) or 1.0
    step = _nice_step(top)
    scale = (WIDTH - LABEL_WIDTH - _RIGHT) / (math.ceil(top / step) * step)
    height = len(marks) * ROW_HEIGHT + AXIS_HEIGHT
    parts = [_open(height, f"Median {unit} of every contender")]
    parts += _grid(
        [
            (LABEL_WIDTH + n * step * scale, in_short(n * step))
            for n in range(round(top / step) + 1)
        ],
        height,
        unit,
    )
    for row, mark in enumerate(marks):
        y = row * ROW_HEIGHT
        middle = y + ROW_HEIGHT / 2
        told = f"{mark.name}: {in_short(mark.value)} {unit}, rounds from {in_short(mark.lowest)} "
        told += f"to {in_short(mark.highest)}"
        parts += [
            _text(LABEL_WIDTH - 8, middle + 4, mark.name, "label"),
            f'<rect class="bar {class_of(mark.name)}" x="{LABEL_WIDTH}" y="{y + 4:.1f}" '
            f'width="{max(mark.value * scale, 1):.1f}" height="{ROW_HEIGHT - 8}" rx="2">'
            f"<title>{escape(told)}</title></rect>",
            _line(
                LABEL_WIDTH + mark.lowest * scale,
                middle,
                LABEL_WIDTH + mark.highest * scale,
                middle,
            ),
            _text(
                LABEL_WIDTH + mark.highest * scale + 6, middle + 4, in_short(mark.value), "value"
            ),
        ]
    return "".join([*parts, "</svg>"])


def plot_latencies(contenders: Mapping[str, Any]) -> str:
    """p50, p99 and p99.9 of every contender on a logarithmic scale."""
    keys = (("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9"))
    values = [
        figures[key] for figures in contenders.values() for key, _ in keys if figures[key] > 0
    ]
    if not values:
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    scale = (WIDTH - LABEL_WIDTH - _RIGHT) / (high - low)

    def across(value: float) -> float:
        return LABEL_WIDTH + (math.log10(value) - low) * scale

    height = len(contenders) * ROW_HEIGHT + AXIS_HEIGHT
    parts = [_open(height, "Latencies of every contender")]
    ticks = [(across(10.0**power), f"{10.0**power:g}") for power in range(low, high + 1)]
    parts += _grid(ticks, height, "ms")
    for row, (name, figures) in enumerate(contenders.items()):
        middle = row * ROW_HEIGHT + ROW_HEIGHT / 2
        parts.append(_text(LABEL_WIDTH - 8, middle + 4, name, "label"))
        points = [(key, word, figures[key]) for key, word in keys if figures[key] > 0]
        if points:
            parts.append(_line(across(points[0][2]), middle, across(points[-1][2]), middle))
        for key, word, value in points:
            told = escape(f"{name}: {word} {in_short(value)} ms")
            parts.append(
                f'<circle class="dot {class_of(name)} {key}" cx="{across(value):.1f}" '
                f'cy="{middle:.1f}" r="5"><title>{told}</title></circle>'
            )
    return "".join([*parts, "</svg>"])


def plot_ladder(ladder: Sequence[Mapping[str, Any]], ours: Mapping[str, float]) -> str:
    """The rungs on a logarithmic scale, and lines where this run stands.

    Shapes:
        ours: what was measured, and its rate.
    """
    rates = [rung["rate_per_s"] for rung in ladder] + [rate for rate in ours.values() if rate > 0]
    low, high = math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates)))
    left = LABEL_WIDTH + 190
    scale = (WIDTH - left - _RIGHT) / (high - low)

    def across(value: float) -> float:
        return left + (math.log10(value) - low) * scale

    height = len(ladder) * 22 + AXIS_HEIGHT
    parts = [_open(height, "Published rates, and where this run stands")]
    ticks = [(across(10.0**power), f"{10**power:,}") for power in range(low, high + 1)]
    parts += _grid(ticks, height, "a second")
    for name, rate in ours.items():
        if rate > 0:
            parts.append(
                f'<line class="stand" x1="{across(rate):.1f}" x2="{across(rate):.1f}" y1="0" '
                f'y2="{height - AXIS_HEIGHT}"><title>{escape(name)}: {in_short(rate)} a second'
                "</title></line>"
            )
    for row, rung in enumerate(ladder):
        middle = row * 22 + 11
        told = escape(f"{rung['who']}: {rung['what']}, {rung['rate_per_s']:,g} a second")
        kind = "ours" if rung["passed_over_http"] or rung["passed_below_http"] else "other"
        label = f"{rung['who']} {rung['rate_per_s']:,g}"
        parts += [
            _text(left - 8, middle + 4, label, "label"),
            f'<circle class="dot {kind} p99_ms" cx="{across(rung["rate_per_s"]):.1f}" '
            f'cy="{middle}" r="5"><title>{told}</title></circle>',
        ]
    return "".join([*parts, "</svg>"])


def _open(height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>"
    )


def _grid(ticks: Sequence[tuple[float, str]], height: float, unit: str) -> list[str]:
    bottom = height - AXIS_HEIGHT
    parts = []
    for x, label in ticks:
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{bottom:.0f}"/>')
        parts.append(_text(x, bottom + 16, label, "tick"))
    parts.append(_text(WIDTH, bottom + 30, unit, "unit"))
    return parts


def _text(x: float, y: float, content: str, kind: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(content)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="spread" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _nice_step(top: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides an axis into about five parts."""
    rough = top / 5
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
