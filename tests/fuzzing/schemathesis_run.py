"""One run of schemathesis against one application that is served somewhere.

All checks are on. Some statuses are no failures that it would take for some: 422, 410 and 400 for a
request that fits its schema, because a schema cannot say that a stop is on the line of this train,
or that a cursor was given out here; and 413 for a list that is too long for its schema and for us.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_HOOKS = {"SCHEMATHESIS_HOOKS": "tests.fuzzing.hooks"}
PHASES = ("examples", "coverage", "fuzzing", "stateful")
STOP_S = 120

_ACCEPTED = ("2xx", "3xx", "400", "401", "403", "404", "409", "410", "415", "422", "429", "503")
_REJECTED = (*(status for status in _ACCEPTED if status[0] == "4"), "405", "408", "413", "5xx")
_CHECKOUT = Path(__file__).resolve().parents[2]


class Run(NamedTuple):
    """How a run ended, and what it said."""

    has_passed: bool
    output: str


def fuzz(
    url: str,
    *,
    bearer: str | None,
    parameters: Mapping[str, str],
    examples_max: int,
    phases: Sequence[str] = PHASES,
    seed: int | None = None,
    seconds_max: int | None = None,
    workers: int = 1,
) -> Run:
    """Send requests to the application whose prefix is at ``url``.

    Args:
        bearer: goes into ``Authorization`` of every request; through a file, not an argument.
        examples_max: for each operation and phase.
        seconds_max: of the phases that make things up.
    """
    with tempfile.TemporaryDirectory(prefix="hf-fuzz") as directory:
        config = Path(directory) / "schemathesis.toml"
        config.touch(mode=0o600)
        config.write_text(_config(bearer, parameters))
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)]
        command += ["run", f"{url}/openapi.json", "--url", url, "--checks", "all"]
        command += ["--phases", ",".join(phases), "--max-examples", str(examples_max)]
        command += ["--continue-on-failure", "--workers", str(workers), "--no-color"]
        if seed is not None:
            command += ["--seed", str(seed)]
        if seconds_max is not None:
            command += ["--max-time", str(seconds_max)]
        done = subprocess.run(
            command,
            cwd=directory,
            env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(_CHECKOUT), "PYTHONUTF8": "1"} | _HOOKS,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    return Run(done.returncode == 0, done.stdout + done.stderr)


def _config(bearer: str | None, parameters: Mapping[str, str]) -> str:
    # A JSON string is a TOML string, and so is a list of them.
    lines = [] if bearer is None else [f"headers = {{ Authorization = {json.dumps(bearer)} }}"]
    lines += ["[parameters]"]
    lines += [f'"path.{name}" = {json.dumps(value)}' for name, value in parameters.items()]
    lines += ["[checks.positive_data_acceptance]"]
    lines += [f"expected-statuses = {json.dumps(_ACCEPTED)}"]
    lines += ["[checks.negative_data_rejection]"]
    lines += [f"expected-statuses = {json.dumps(_REJECTED)}"]
    return "\n".join(lines) + "\n"
