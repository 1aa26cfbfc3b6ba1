"""What one round of asking came to, and several rounds together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple


class Verdict(IntEnum):
    """What became of one request."""

    DONE = 0  #: It counts.
    REFUSED = 1  #: An orderly no.
    FAILED = 2  #: An error, or no answer.


class Round(NamedTuple):
    """What one round did.

    Units:
        rate_per_s: answers a second that counted.
        p50_ms, p99_ms, p999_ms, max_ms: of all answers.
        elapsed_s: from the first request to the last answer.
        client_late_p99_ms: how late the client itself sent, in an open model; 0 in a closed one.
    """

    rate_per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    done: int
    refused: int
    errors: int
    elapsed_s: float
    client_late_p99_ms: float = 0.0

    @property
    def answers(self) -> int:
        """All requests that came to an end."""
        return self.done + self.refused + self.errors

    @property
    def answer_rate_per_s(self) -> float:
        """All answers a second, the orderly refusals included."""
        return (self.done + self.refused) / self.elapsed_s if self.elapsed_s else 0.0


class Tally:
    """Collects the answers of one round."""

    def __init__(self) -> None:
        self.latencies_s: list[float] = []
        self.counts = [0, 0, 0]

    def note(self, verdict: Verdict, latency_s: float) -> None:
        """One answer."""
        self.counts[verdict] += 1
        self.latencies_s.append(latency_s)

    def round(self, elapsed_s: float, *, client_late_p99_ms: float = 0.0) -> Round:
        """The round, when it is over."""
        ordered = sorted(self.latencies_s)
        done, refused, errors = self.counts
        return Round(
            done / elapsed_s if elapsed_s else 0.0,
            quantile(ordered, 0.5) * 1_000,
            quantile(ordered, 0.99) * 1_000,
            quantile(ordered, 0.999) * 1_000,
            (ordered[-1] if ordered else 0.0) * 1_000,
            done,
            refused,
            errors,
            elapsed_s,
            client_late_p99_ms,
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of the values does not exceed; 0 of nothing.

    Example:
        >>> quantile([1, 2, 3, 4], 0.5), quantile([1, 2, 3, 4], 0.99), quantile([], 0.5)
        (2, 4, 0.0)
    """
    if not ordered:
        return 0.0
    rank = -int(-share * len(ordered) // 1)
    return ordered[max(rank, 1) - 1]


def median_round(rounds: Sequence[Round]) -> Round:
    """The median of every figure; counts are added up. At least one round."""
    assert rounds, "no round was measured"
    figures = {
        name: statistics.median(getattr(each, name) for each in rounds)
        for name in ("rate_per_s", "p50_ms", "p99_ms", "p999_ms", "max_ms", "client_late_p99_ms")
    }
    totals = {
        name: sum(getattr(each, name) for each in rounds)
        for name in ("done", "refused", "errors", "elapsed_s")
    }
    return Round(**figures, **totals)
