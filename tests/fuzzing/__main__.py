"""Fuzzes applications for as long as one wants: ``scripts/fuzz [APPLICATION ...] --seconds N``.

Without ``--url`` the applications run here, over a database of their own. With it they are those
of a house that runs: ``scripts/fuzz booking --url http://127.0.0.1:8000``, as whoever the token in
the environment variable FUZZ_TOKEN is of. What is done there is done: holds, bookings, changes of
passwords. Turn off its limits, or most answers are 429.

Rounds have new seeds until the time is over. The first round that finds something is shown and
ends the program with status 1.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import migrate
from tests.fuzzing.applications import APPLICATIONS, Fuzzed
from tests.fuzzing.schemathesis_run import fuzz
from tests.support.http_house import House
from tests.support.served_apis import Prepared, served_apis

ROUND_SECONDS_MAX = 240
"""An access token lives ten minutes."""

TOKEN_VARIABLE = "FUZZ_TOKEN"

Target = tuple[str, Callable[[], str] | None, dict[str, str]]


def main() -> int:
    """Fuzz; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("applications", nargs="*", metavar="APPLICATION")
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--examples", type=int, default=200, help="of each operation and phase")
    parser.add_argument("--seed", type=int, help="of the first round")
    parser.add_argument("--url", help="of a house that runs")
    options = parser.parse_args()
    names = options.applications or [*APPLICATIONS]
    if unknown := [name for name in names if name not in APPLICATIONS]:
        parser.error(f"no application is called {unknown[0]}; there are {', '.join(APPLICATIONS)}")
    random.seed(options.seed)
    with _targets(names, options.url) as targets:
        return _fuzz(targets, options.seconds, options.examples, options.seed)


def _fuzz(targets: dict[str, Target], seconds: int, examples: int, seed: int | None) -> int:
    deadline = time.monotonic() + seconds
    rounds = 0
    while (left_s := deadline - time.monotonic()) > 0:
        for name, (url, bearer, parameters) in targets.items():
            # Every third round asks as nobody, and names what is not there.
            is_anonymous = rounds % 3 == 2 or bearer is None
            round_seed = random.randrange(2**31) if rounds or seed is None else seed
            run = fuzz(
                url,
                bearer=None if is_anonymous or bearer is None else bearer(),
                parameters={} if is_anonymous else parameters,
                examples_max=examples,
                seed=round_seed,
                seconds_max=max(5, min(ROUND_SECONDS_MAX, int(left_s / len(targets)))),
                workers=2,
            )
            print(f"{name}, seed {round_seed}: {_last_line(run.output)}", flush=True)
            if not run.has_passed:
                print(run.output)
                return 1
        rounds += 1
    return 0


@contextmanager
def _targets(names: list[str], url: str | None) -> Iterator[dict[str, Target]]:
    if url is not None:
        token = os.environ.get(TOKEN_VARIABLE)
        bearer = None if token is None else (lambda: f"Bearer {token}")
        yield {name: (f"{url.rstrip('/')}/api/{name}", bearer, {}) for name in names}
        return
    fuzzed: dict[str, Fuzzed] = {}
    with tempfile.TemporaryDirectory(prefix="hf-fuzz") as directory:

        async def prepare(house: House, opened: AsyncExitStack) -> Prepared:
            for name in names:
                fuzzed[name] = await APPLICATIONS[name](house, opened, Path(directory))
            return Prepared({one.prefix: one.app for one in fuzzed.values()})

        with EmbeddedPostgres(Path(directory) / "pg") as server:
            asyncio.run(migrate(server.dsn()))
            with served_apis(server.dsn(), prepare) as apis:
                yield {
                    name: (apis.url + one.prefix, one.bearer, dict(one.parameters))
                    for name, one in fuzzed.items()
                }


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1].strip("= ") if lines else "no output"


if __name__ == "__main__":
    sys.exit(main())
