"""A soak of half a minute, as the command runs it: below HTTP and through a whole house."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.ray_house import CHECKOUT

pytestmark = pytest.mark.slow_faults


@pytest.mark.parametrize("options", [[], ["--http", "proxy"]], ids=["below HTTP", "over HTTP"])
def test_a_short_soak_finds_nothing_wrong(options: list[str], tmp_path: Path) -> None:
    path = tmp_path / "soak.json"
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "soak", "--minutes", "0.5"]
    ended = subprocess.run(
        [*command, "--seed", "7", "--json", path, *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(path.read_text())
    assert report["violations"] == []
    assert report["acknowledged_losses"] == 0
    assert report["unknown"]["unresolved"] == 0
    assert sum(facts["done"] for facts in report["faults"].values()) > 2
    assert report["operations"]["HoldSeats"]["event"] > 100
