"""``scripts/bench soak --minutes N [--seed S] [--http [INGRESS]] [--json FILE]``.

Ends with 0 when nothing was violated, with 1 when something was, with 2 for a command line that
cannot be followed, with 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from contextlib import nullcontext
from pathlib import Path

from benchmarks.machine import describe_machine, machine_line
from benchmarks.soak.ground import ground_below_http, ground_over_http, ray_of_our_own
from benchmarks.soak.report import Findings, as_json, as_text
from benchmarks.soak.run import Soak


def _read() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench soak",
        description="Random faults under load, then every check there is.",
    )
    parser.add_argument("--minutes", type=_minutes, default=20.0, help="how long; 20 without it")
    parser.add_argument("--seed", type=int, help="repeats the choice of faults of another run")
    parser.add_argument(
        "--http",
        nargs="?",
        const="haproxy",
        choices=("haproxy", "proxy"),
        help="through a whole house, with this ingress; below HTTP without it",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found")
    options = parser.parse_args()
    if options.json is not None:
        try:
            options.json.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            parser.error(f"cannot write in {options.json.parent}: {error.strerror}")
    return options


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0.2 <= minutes <= 24 * 60:
        raise argparse.ArgumentTypeError(f"{text} is not in 0.2..1440")
    return minutes


async def _soak(seed: int, minutes: float, ingress: str | None) -> Findings:
    epoch_s = time.monotonic()
    opened = (
        ground_below_http(seed, epoch_s)
        if ingress is None
        else ground_over_http(seed, epoch_s, ingress)
    )
    async with opened as ground:
        return await Soak(ground, seed, minutes * 60, _say).run()


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> int:
    """Soak and report; returns the exit status."""
    options = _read()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    machine = describe_machine()
    _say(f"seed {seed}; {machine_line(machine)}")
    over = "below HTTP" if options.http is None else f"over HTTP, {options.http}"
    try:
        with ray_of_our_own() if options.http is None else nullcontext():
            findings = asyncio.run(_soak(seed, options.minutes, options.http))
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    report = as_json(findings, seed, over, machine)
    print(as_text(report))
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if findings.violations else 0


if __name__ == "__main__":
    sys.exit(main())
