"""What a run found: rounds, ratios, aims, and how they become the JSON of docs/BENCHMARKS.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.audit import FAULTS_SHOWN_MAX, Audit
from benchmarks.load.rounds import Round, median_round

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Aim:
    """A figure that was promised a bound; whether it keeps to it is computed, never said."""

    what: str
    figure: float
    bound: float
    is_lower_bound: bool
    unit: str = ""

    @classmethod
    def at_least(cls, what: str, figure: float, bound: float, unit: str = "") -> Aim:
        """The figure should not be below."""
        return cls(what, figure, bound, True, unit)

    @classmethod
    def at_most(cls, what: str, figure: float, bound: float, unit: str = "") -> Aim:
        """The figure should not be above."""
        return cls(what, figure, bound, False, unit)

    @property
    def is_reached(self) -> bool:
        """Whether the figure keeps to its bound."""
        return self.figure >= self.bound if self.is_lower_bound else self.figure <= self.bound

    @property
    def target(self) -> str:
        """The bound in words."""
        words = "at least" if self.is_lower_bound else "at most"
        return f"{words} {in_short(self.bound)}{self.unit}"

    @property
    def line(self) -> str:
        """One line for people.

        Example:
            >>> Aim.at_least("engine_hot_show: actor to row_lock", 12.34, 12, "x").line
            'engine_hot_show: actor to row_lock: 12.3x (target at least 12x): reached'
        """
        end = "reached" if self.is_reached else "NOT reached"
        return f"{self.what}: {in_short(self.figure)}{self.unit} (target {self.target}): {end}"

    def as_json(self) -> dict[str, object]:
        """See docs/BENCHMARKS.md."""
        return {
            "what": self.what,
            "figure": self.figure,
            "target": self.target,
            "unit": self.unit.strip(),
            "reached": self.is_reached,
        }


@dataclass
class ScenarioResult:
    """What one scenario found.

    Shapes:
        rounds: of every contender, in the order of measuring.
        ratios: of medians of rounds that were interleaved; the only figures to quote.
        figures: everything else, each name with its unit last.
    """

    name: str
    what: str
    unit: str = "holds/s"
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    aims: list[Aim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str | None = None

    def add(self, contender: str, measured: Round) -> None:
        """One more round of a contender."""
        self.rounds.setdefault(contender, []).append(measured)

    def median(self, contender: str) -> Round:
        """The medians of a contender's rounds."""
        return median_round(self.rounds[contender])

    def rate(self, contender: str) -> float:
        """The median rate of a contender."""
        return self.median(contender).rate_per_s

    def ratio_of_rates(self, one: str, other: str) -> float:
        """The ratio of two median rates, noted as ``one_to_other``; 0 when the other did nothing.

        The rounds of both must have been interleaved.
        """
        below = self.rate(other)
        ratio = self.rate(one) / below if below else 0.0
        self.ratios[f"{one}_to_{other}"] = ratio
        return ratio

    def note_errors(self, errors: Counter[str]) -> None:
        """Say what errors were met, and how often; nothing when there were none."""
        self.notes += [f"errors of {what} ({count:,})" for what, count in errors.items()]

    def as_json(self) -> dict[str, object]:
        """See docs/BENCHMARKS.md."""
        return {
            "what": self.what,
            "unit": self.unit,
            "contenders": {name: _contender_json(rounds) for name, rounds in self.rounds.items()},
            "ratios": self.ratios,
            "figures": self.figures,
            "aims": [aim.as_json() for aim in self.aims],
            "notes": self.notes,
            "failure": self.failure,
        }


@dataclass
class RunResult:
    """Everything that one command found.

    Shapes:
        machine: what it ran on, and the versions (see ``machine.describe_machine``).
    """

    machine: Mapping[str, object]
    options: Mapping[str, object]
    started_at: str
    audit: Audit = field(default_factory=Audit)
    scenarios: list[ScenarioResult] = field(default_factory=list)
    elapsed_s: float = 0.0

    @property
    def is_failed(self) -> bool:
        """A place sold twice, a hold lost, or a scenario that could not be measured."""
        return bool(self.audit.violations) or any(each.failure for each in self.scenarios)

    def find(self, name: str) -> ScenarioResult | None:
        """The scenario with this name, when it was measured."""
        return next((each for each in self.scenarios if each.name == name), None)

    def as_json(self) -> dict[str, object]:
        """See docs/BENCHMARKS.md."""
        from benchmarks.report.ladder import climbed

        return {
            "format": FORMAT,
            "started_at": self.started_at,
            "elapsed_s": round(self.elapsed_s, 1),
            "machine": self.machine,
            "options": self.options,
            "failed": self.is_failed,
            "scenarios": {each.name: each.as_json() for each in self.scenarios},
            "audit": {
                "violations": self.audit.violations,
                "shows": self.audit.shows,
                "holds": self.audit.holds,
                "faults": self.audit.faults[:FAULTS_SHOWN_MAX],
            },
            "ladder": [rung.as_json() for rung in climbed(self)],
        }


def _contender_json(rounds: Sequence[Round]) -> dict[str, object]:
    middle = median_round(rounds)
    return {
        "rate_per_s": middle.rate_per_s,
        "answers_per_s": middle.answer_rate_per_s,
        "p50_ms": middle.p50_ms,
        "p99_ms": middle.p99_ms,
        "p999_ms": middle.p999_ms,
        "max_ms": middle.max_ms,
        "done": middle.done,
        "refused": middle.refused,
        "errors": middle.errors,
        "client_late_p99_ms": middle.client_late_p99_ms,
        "rounds": [each._asdict() for each in rounds],
    }


def in_short(figure: float) -> str:
    """Three significant digits, whole numbers with separators.

    Example:
        >>> [in_short(each) for each in (12.345, 0.61234, 20971.3, 12, 0.0, 977)]
        ['12.3', '0.612', '20,971', '12', '0', '977']
    """
    if figure == int(figure) or abs(figure) >= 1_000:
        return f"{figure:,.0f}"
    if abs(figure) >= 100:
        return f"{figure:.0f}"
    return f"{figure:.3g}"
