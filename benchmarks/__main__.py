"""``scripts/bench``: measures scenarios, audits what was sold, prints and writes what was found.

    scripts/bench [SCENARIO ...] [--quick] [--seconds N] [--json FILE] [--report DIR]
    scripts/bench PROGRAMME [ITS OWN OPTIONS ...]

Ends with 0 when everything was measured and no place was sold twice and no promise lost, with 1
when not, with 2 for a command line that cannot be followed, with 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import json
import pkgutil
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import benchmarks
from benchmarks import scenarios

EXIT_FAILED = 1
GC_THRESHOLDS = (20_000, 50, 50)
SECONDS_MIN, SECONDS_MAX = 0.1, 30
EXIT_INTERRUPTED = 130


def scenario_names() -> list[str]:
    """All scenarios, those of a run without names first and in its order."""
    found = [module.name for module in pkgutil.iter_modules(scenarios.__path__)]
    rest = sorted(set(found) - set(scenarios.ORDER))
    return [name for name in scenarios.ORDER if name in found] + rest


def programme_names() -> list[str]:
    """Measurements with a command line of their own: whatever here can be run as a program."""
    names = []
    for module in pkgutil.iter_modules(benchmarks.__path__):
        if module.name.startswith("_"):
            continue
        folder = Path(benchmarks.__path__[0])
        source = folder / module.name / "__main__.py" if module.ispkg else folder / module.name
        if module.ispkg:
            is_program = source.exists()
        else:
            is_program = '__name__ == "__main__"' in source.with_suffix(".py").read_text()
        if is_program:
            names.append(module.name)
    return sorted(names)


def main(arguments: Sequence[str]) -> int:
    """Run what the command line says; returns the exit status."""
    if arguments and arguments[0] in programme_names():
        sys.argv = [f"scripts/bench {arguments[0]}", *arguments[1:]]
        runpy.run_module(f"benchmarks.{arguments[0]}", run_name="__main__", alter_sys=False)
        return 0
    chosen = _read(arguments)
    try:
        with _as_a_measurement():
            return _measure(chosen)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _read(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure Housefull against the usual ways to sell seats.",
        epilog=_epilog(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help="all, when none is named")
    parser.add_argument("--quick", action="store_true", help="everything in about two minutes")
    parser.add_argument("--seconds", type=_seconds, help="length of one round of one contender")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write report.html, results.json and table.md"
    )
    options = parser.parse_args(arguments)
    known = scenario_names()
    for name in options.scenario:
        if name in programme_names():
            parser.error(f"{name} has options of its own: name it alone and first")
        if name not in known:
            parser.error(f"no scenario {name!r}; there are {', '.join(known)}")
    for path in (options.json and options.json.parent, options.report):
        if path is not None:
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                parser.error(f"cannot write in {path}: {error.strerror}")
    return options


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not SECONDS_MIN <= seconds <= SECONDS_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not in {SECONDS_MIN}..{SECONDS_MAX}")
    return seconds


def _epilog() -> str:
    lines = ["scenarios:"]
    for name in scenario_names():
        lines.append(f"  {name:18}{_first_line(Path(scenarios.__path__[0]) / f'{name}.py')}")
    lines.append("with options of their own (scripts/bench NAME --help):")
    folder = Path(benchmarks.__path__[0])
    for name in programme_names():
        source = (
            folder / name / "__init__.py" if (folder / name).is_dir() else folder / f"{name}.py"
        )
        lines.append(f"  {name:18}{_first_line(source)}")
    return "\n".join(lines)


def _first_line(source: Path) -> str:
    # Read, not imported: Ray alone takes seconds.
    return (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]


@contextmanager
def _as_a_measurement() -> Iterator[None]:
    """SIGTERM ends it like Ctrl-C, and the garbage collector looks less often."""
    thresholds = gc.get_threshold()
    earlier = signal.signal(signal.SIGTERM, _interrupt)
    # The clients keep much and leak no circles; the collector would cost all contenders alike.
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        signal.signal(signal.SIGTERM, earlier)


def _interrupt(number: int, frame: FrameType | None) -> None:
    # An event loop ends in good order on Ctrl-C; an exception in the middle of it would not.
    signal.raise_signal(signal.SIGINT)


class _Progress:
    """Says on standard error what is being done, and since when."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.scenario = ""

    @property
    def elapsed_s(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def __call__(self, what: str) -> None:
        where = f"{self.scenario}: " if self.scenario else ""
        print(f"[{self.elapsed_s:4.0f} s] {where}{what}", file=sys.stderr, flush=True)


def _measure(chosen: argparse.Namespace) -> int:
    from benchmarks.bench import ROUNDS, ROUNDS_QUICK, SECONDS, SECONDS_QUICK, Bench, Options
    from benchmarks.grounds import Grounds
    from benchmarks.machine import describe_machine
    from benchmarks.report.text import describe_run, describe_scenario
    from benchmarks.results import RunResult, ScenarioResult

    seconds = chosen.seconds or (SECONDS_QUICK if chosen.quick else SECONDS)
    options = Options(seconds, ROUNDS_QUICK if chosen.quick else ROUNDS, chosen.quick)
    result = RunResult(
        describe_machine(),
        {"seconds": options.seconds, "rounds": options.rounds, "quick": options.is_quick},
        datetime.now(UTC).isoformat(timespec="seconds"),
    )
    progress = _Progress()
    names = sorted(dict.fromkeys(chosen.scenario or scenario_names()), key=scenario_names().index)
    with Grounds(progress) as grounds:
        bench = Bench(grounds, options, result.audit, progress)
        for name in names:
            progress.scenario = name
            try:
                found = importlib.import_module(f"benchmarks.scenarios.{name}").run(bench)
            except Exception as error:
                traceback.print_exc()
                found = ScenarioResult(name, "", failure=f"{type(error).__name__}: {error}")
            result.scenarios.append(found)
            print(describe_scenario(found), flush=True)
        progress.scenario = ""
    result.elapsed_s = progress.elapsed_s
    print(describe_run(result), flush=True)
    _write(result.as_json(), chosen)
    return EXIT_FAILED if result.is_failed else 0


def _write(document: dict[str, object], chosen: argparse.Namespace) -> None:
    content = json.dumps(document, indent=2) + "\n"
    if chosen.json is not None:
        chosen.json.write_text(content)
    if chosen.report is not None:
        from benchmarks.report.page import write_page
        from benchmarks.report.text import write_table

        (chosen.report / "results.json").write_text(content)
        (chosen.report / "table.md").write_text(write_table(json.loads(content)))
        (chosen.report / "report.html").write_text(write_page(json.loads(content)))
        print(f"written: {chosen.report}/report.html, results.json, table.md", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
