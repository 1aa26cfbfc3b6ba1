"""Nodes and Ray's own services are lost: F5 to F9 (docs/TESTING.md).

Each fault has a Ray of its own, in a process of its own: see ``node_scenarios``. F7, a node that
is cut off from Ray and still reaches Postgres, is to us the same as F6: an owner that Ray has
given up lives, has callers, and writes.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ray_house import CHECKOUT

pytestmark = [
    pytest.mark.slow_faults,
    pytest.mark.skipif(sys.platform != "linux", reason="nodes are frozen by a signal"),
]

measured = logging.getLogger("measured")

PATIENCE_S = 240


@pytest.fixture
def directory() -> Iterator[Path]:
    # Short, because sockets lie in it and their paths may not be long.
    with tempfile.TemporaryDirectory(prefix="hfn", dir="/tmp") as path:
        yield Path(path)


def facts_of(scenario: str, directory: Path) -> dict[str, Any]:
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.faults.node_scenarios", scenario, directory],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    lines = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    facts: dict[str, Any] = json.loads(lines[-1])
    measured.info("%s: %s", scenario, facts)
    return facts


def test_f5_shows_of_a_node_that_is_lost_are_sold_by_another_one(directory: Path) -> None:
    facts = facts_of("f5", directory)
    assert facts["has_moved"]
    assert facts["has_new_process"]
    assert facts["faults"] == []


def test_f6_two_owners_that_both_have_callers_sell_nothing_twice_and_lose_nothing(
    directory: Path,
) -> None:
    facts = facts_of("f6", directory)
    assert facts["old_pid"] != facts["new_pid"]
    assert facts["old_lived_beside_new"]
    assert facts["answered_by_old"] > 0, "the old owner had no callers"
    assert facts["answered_by_new"] > 0, "the new owner had no callers"
    assert facts["epochs"] >= 3, "they did not take the show from each other"
    assert facts["faults"] == []


def test_f8_shows_sell_on_without_rays_control_service(directory: Path) -> None:
    facts = facts_of("f8", directory)
    assert facts["control_is_dead"]
    assert facts["answered_without_control"] > 50
    assert facts["unknown_without_control"] == 0
    assert facts["faults"] == []


def test_f9_a_control_service_that_remembers_comes_back_and_restarts_actors_again(
    directory: Path,
) -> None:
    facts = facts_of("f9", directory)
    assert facts["control_is_dead"]
    assert facts["answered_without_control"] > 20
    assert facts["unknown_without_control"] == 0
    assert facts["same_process_after"]
    assert facts["new_process_after_kill"]
    assert facts["faults"] == []
