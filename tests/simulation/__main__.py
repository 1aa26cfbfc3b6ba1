"""``python -m tests.simulation``: play stories, and play one again.

--seeds N [--from S]          N seeds; prints the rate, what went wrong in them, what was
                              answered, and the first seed that violates something
--seed S [--trace]            one seed; with the story, line by line
--mutant NAME                 with a planted bug (tests/simulation/mutants.py)
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections import Counter

from tests.simulation.mutants import MUTANTS
from tests.simulation.simulation import Result, simulate


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="play this one seed")
    parser.add_argument("--seeds", type=int, default=300, help="play so many seeds")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--trace", action="store_true", help="tell the story")
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="plant this bug")
    options = parser.parse_args(arguments)
    planted = MUTANTS[options.mutant].planted() if options.mutant else contextlib.nullcontext()
    with planted:
        if options.seed is not None:
            return _play_one(options.seed, options.trace, options.mutant)
        return _play_many(range(options.first, options.first + options.seeds), options.mutant)


def _play_one(seed: int, is_traced: bool, mutant: str | None) -> int:
    result = simulate(seed, log=print if is_traced else None, with_digest=True)
    print(f"{result.operations} operations, digest {result.digest:012x}")
    _print_counts("faults", result.faults)
    _print_counts("outcomes", result.outcomes)
    _print_violations(result, mutant)
    return 1 if result.violations else 0


def _play_many(seeds: range, mutant: str | None) -> int:
    faults: Counter[str] = Counter()
    outcomes: Counter[str] = Counter()
    bad: list[Result] = []
    operations = undecided = 0
    started_s = time.process_time()
    for seed in seeds:
        result = simulate(seed)
        faults += result.faults
        outcomes += result.outcomes
        operations += result.operations
        undecided += result.undecided
        if result.violations:
            bad.append(result)
    elapsed_s = time.process_time() - started_s
    _print_counts("faults", faults)
    _print_counts("outcomes", outcomes)
    print(f"{operations} operations; {undecided} seats undecided")
    rate = len(seeds) / elapsed_s
    print(f"{len(seeds)} seeds in {elapsed_s:.2f} s of processor time: {rate:.0f} seeds/s")
    print(f"{len(bad)} seeds with violations {[result.seed for result in bad[:20]]}")
    if bad:
        _print_violations(bad[0], mutant)
    return 1 if bad else 0


def _print_counts(title: str, counts: Counter[str]) -> None:
    print(f"{title}:")
    for name, count in sorted(counts.items()):
        print(f"  {count:8}  {name}")


def _print_violations(result: Result, mutant: str | None) -> None:
    for violation in result.violations:
        numbers = ", ".join(map(str, violation.operations))
        print(f"{violation.invariant}: {violation.what}" + (f"  [{numbers}]" if numbers else ""))
    if result.violations:
        also = f" --mutant {mutant}" if mutant else ""
        print(f"again:  python -m tests.simulation --seed {result.seed} --trace{also}")


if __name__ == "__main__":
    sys.exit(main())
