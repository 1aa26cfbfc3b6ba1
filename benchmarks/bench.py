"""What every scenario is handed: grounds to stand on, how long to measure, where to report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.audit import Audit
from benchmarks.contenders.line_up import FOUR, OTHERS
from benchmarks.grounds import Grounds

SECONDS = 3.0
SECONDS_QUICK = 0.5
ROUNDS = 5
ROUNDS_QUICK = 3


@dataclass(frozen=True, slots=True)
class Options:
    """How thorough to be.

    Units:
        seconds: of one round of one contender.
    """

    seconds: float = SECONDS
    rounds: int = ROUNDS
    is_quick: bool = False

    @property
    def others(self) -> Sequence[str]:
        """Who is measured beside ours where everybody is; the variants only when there is time."""
        return FOUR if self.is_quick else OTHERS


@dataclass(frozen=True, slots=True)
class Bench:
    """One run. A scenario adds to ``audit`` what it sold, and returns what it measured."""

    grounds: Grounds
    options: Options
    audit: Audit
    say: Callable[[str], None]
