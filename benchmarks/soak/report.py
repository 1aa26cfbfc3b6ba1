"""What a soak has found, as text and as JSON."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.soak.faults import Done, Record
from reservation.commands import HoldSeats
from reservation.ids import ShowId
from tests.support.recorded_history import Attempt, Told, resolve

LATE_MS_MAX = 2_000
FAULT_LINGERS_S = 12.0
"""After a fault, until everything that waits for a time-out has met it."""

STANDSTILL_S_MAX = 60.0
"""Everybody wants every show all the time. Faults follow each other; each costs some seconds."""

VIOLATIONS_SHOWN_MAX = 20


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that is known when a soak is over.

    Shapes:
        expiries: deadline and end of every hold that expired, by the database's clock.
        entries: journal rows that the auditor has replayed.
    """

    attempts: Sequence[Attempt]
    record: Record
    violations: list[str]
    expiries: Sequence[tuple[int, int]]
    entries: int
    started_ns: int
    ended_ns: int

    @property
    def acknowledged_losses(self) -> list[str]:
        """Those violations that say that a promise is not kept."""
        return [each for each in self.violations if "acknowledged and not in the journal" in each]


def late_expiries(
    expiries: Sequence[tuple[int, int]], record: Record, clock_error_ms: int
) -> list[int]:
    """How late holds ended that were late although no fault was about. Milliseconds."""
    offset_ms = (time.time_ns() - time.monotonic_ns()) / 1_000_000
    troubled = [
        (
            done.from_ns / 1_000_000 + offset_ms,
            done.to_ns / 1_000_000 + offset_ms + FAULT_LINGERS_S * 1_000,
        )
        for done in record.done
    ]
    return [
        ended_ms - deadline_ms
        for deadline_ms, ended_ms in expiries
        if ended_ms - deadline_ms > LATE_MS_MAX + clock_error_ms
        and not any(from_ms < ended_ms and deadline_ms < to_ms for from_ms, to_ms in troubled)
    ]


def as_json(
    findings: Findings, seed: int, over: str, machine: dict[str, object]
) -> dict[str, object]:
    """The findings with stable keys."""
    attempts = findings.attempts
    seconds = (findings.ended_ns - findings.started_ns) / 10**9
    resolution = resolve(attempts)
    outcomes = Counter((type(each.command).__name__, each.told.value) for each in attempts)
    operations: dict[str, dict[str, int]] = {}
    for (command, told), count in sorted(outcomes.items()):
        operations.setdefault(command, {})[told] = count
    late_ms = sorted(ended - deadline for deadline, ended in findings.expiries)
    return {
        "seed": seed,
        "over": over,
        "seconds": round(seconds, 1),
        "machine": machine,
        "operations": operations,
        "answers_per_s": round(sum(each.told.is_certain for each in attempts) / seconds, 1),
        "faults": _faults_by_kind(findings),
        "unknown": {
            "answers": resolution.unknown_answers,
            "share": round(resolution.unknown_answers / max(1, len(attempts)), 5),
            "had_happened": resolution.had_happened,
            "had_not_happened": resolution.had_not,
            "unresolved": len(resolution.open),
        },
        "journal_entries_verified": findings.entries,
        "expiries": {
            "count": len(late_ms),
            "late_ms_p50": _percentile(late_ms, 0.5),
            "late_ms_p99": _percentile(late_ms, 0.99),
            "late_ms_max": late_ms[-1] if late_ms else 0,
        },
        "violations": findings.violations,
        "acknowledged_losses": len(findings.acknowledged_losses),
    }


def as_text(report: dict[str, object]) -> str:
    """The same for people."""
    lines = [f"seed {report['seed']}, {report['over']}, {report['seconds']} s", ""]
    lines.append(f"{'fault':28}{'done':>6}{'missed':>8}{'longest without a hold':>26}")
    faults = report["faults"]
    assert isinstance(faults, dict)
    for kind, facts in sorted(faults.items()):
        longest = f"{facts['longest_s_without_hold']:.1f} s" if facts["done"] else ""
        lines.append(f"{kind:28}{facts['done']:>6}{facts['missed']:>8}{longest:>26}")
    lines += ["", f"{'operation':20}" + "".join(f"{told.value:>12}" for told in Told)]
    operations = report["operations"]
    assert isinstance(operations, dict)
    for command, told in operations.items():
        lines.append(f"{command:20}" + "".join(f"{told.get(each.value, 0):>12,}" for each in Told))
    unknown, expiries = report["unknown"], report["expiries"]
    assert isinstance(unknown, dict)
    assert isinstance(expiries, dict)
    violations = report["violations"]
    assert isinstance(violations, list)
    lines += [
        "",
        f"{unknown['answers']:,} unknown answers ({unknown['share']:.2%} of all); asked again: "
        f"{unknown['had_happened']:,} had happened, {unknown['had_not_happened']:,} had not, "
        f"{unknown['unresolved']:,} unresolved",
        f"{expiries['count']:,} holds expired, {expiries['late_ms_p50']} ms late at the median, "
        f"{expiries['late_ms_p99']} ms at p99, {expiries['late_ms_max']} ms at most",
        f"{report['journal_entries_verified']:,} journal entries replayed",
        f"{len(violations)} violations, {report['acknowledged_losses']} acknowledged losses",
    ]
    lines += [f"  {violation}" for violation in violations[:VIOLATIONS_SHOWN_MAX]]
    if len(violations) > VIOLATIONS_SHOWN_MAX:
        lines.append(f"  and {len(violations) - VIOLATIONS_SHOWN_MAX} more")
    return "\n".join(lines)


def _faults_by_kind(findings: Findings) -> dict[str, dict[str, object]]:
    gaps = _gaps(findings)
    kinds = {done.kind for done in findings.record.done}
    kinds |= {missed.partition(":")[0] for missed in findings.record.missed}
    by_kind: dict[str, dict[str, object]] = {}
    for kind in sorted(kinds):
        done = [each for each in findings.record.done if each.kind == kind]
        by_kind[kind] = {
            "done": len(done),
            "missed": sum(each.startswith(f"{kind}:") for each in findings.record.missed),
            "longest_s_without_hold": round(
                max((_longest(each, gaps) for each in done), default=0.0), 2
            ),
            "proofs": [each.proof for each in done],
        }
    return by_kind


def _gaps(findings: Findings) -> list[list[int]]:
    """For each show, when a new hold was acknowledged. Nanoseconds, in order."""
    times: dict[str, list[int]] = {}
    for attempt in findings.attempts:
        if attempt.told is Told.EVENT and isinstance(attempt.command, HoldSeats):
            times.setdefault(attempt.show_id, []).append(attempt.answered_ns)
    return [sorted(each) for each in times.values()]


def standstills(
    attempts: Sequence[Attempt], show_ids: Sequence[ShowId], started_ns: int, ended_ns: int
) -> list[str]:
    """Shows of which nothing new was held for too long, whatever was done to them meanwhile."""
    held: dict[ShowId, list[int]] = {show_id: [started_ns] for show_id in show_ids}
    for attempt in attempts:
        if attempt.told is Told.EVENT and isinstance(attempt.command, HoldSeats):
            held[attempt.show_id].append(min(attempt.answered_ns, ended_ns))
    return [
        f"{show_id} sold nothing for {(later - earlier) / 10**9:.0f} s"
        for show_id, times in held.items()
        for earlier, later in pairwise([*sorted(times), ended_ns])
        if later - earlier > STANDSTILL_S_MAX * 10**9
    ]


def _longest(done: Done, shows: list[list[int]]) -> float:
    """The longest time without a new hold on one show that this fault was in, in seconds."""
    longest = 0
    for times in shows:
        first = max(0, bisect_right(times, done.from_ns) - 1)
        last = bisect_right(times, done.to_ns) + 1
        gaps = (later - earlier for earlier, later in pairwise(times[first:last]))
        longest = max(longest, *gaps, 0)
    return longest / 10**9


def _percentile(values: Sequence[int], share: float) -> int:
    return values[min(len(values) - 1, int(share * len(values)))] if values else 0
