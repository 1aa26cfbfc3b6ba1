"""``python -m tests.faults.node_scenarios NAME DIRECTORY``: one fault of a node on its own Ray.

A process of its own, because a process can be in one Ray only, and because these Rays are told to
notice a lost node soon. It prints, as JSON, what happened and what the checks found; ``test_node_
faults`` says what that must be.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import ray
from ray.cluster_utils import Cluster

from actors.activation import RemoteShowActor
from actors.local_line import LocalLine
from actors.show_ref import ShowRefs, Submit
from persistence.verification import verify_shows
from reservation.events import SeatsHeld
from reservation.faults import Fault
from reservation.ids import ShowId
from reservation.show import Show
from tests.support.history_of_house import history_faults
from tests.support.house import hold
from tests.support.ray_house import ENVIRONMENT, RayHouse, open_ray_house
from tests.support.ray_load import Load
from tests.support.recorded_history import Attempt, Told

Facts = dict[str, object]

LOST_NODE_IS_NOTICED = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 1_000,
    "health_check_failure_threshold": 3,
}
BOTH_OWNERS_S = 6.0
WITHOUT_CONTROL_S = 20.0


class Ground:
    """A Ray of several nodes on one machine, and a house on it."""

    def __init__(self, cluster: Cluster, house: RayHouse) -> None:
        self.cluster = cluster
        self.house = house

    async def check(self, show: Show, attempts: list[Attempt]) -> list[str]:
        """Everything that is wrong with the show."""
        shards = self.house.config.shards
        verdicts = [v async for v in verify_shows([self.house.pool], shards, [show.show_id])]
        faults = [str(fault) for verdict in verdicts for fault in verdict.faults]
        return faults + await history_faults(self.house.pool, [show], attempts)


async def line_of(actor: RemoteShowActor) -> tuple[str, str]:
    """The node of an actor, and where it listens."""
    return cast(tuple[str, str], await actor._call("line"))


async def counted(load: Load) -> Facts:
    """What clients were told, and how many bookings came of it."""
    counts = load.recorder.counts
    return {"booked": len(load.booked), **{told.name.lower(): counts[told] for told in Told}}


async def f5(ground: Ground) -> Facts:
    """A node is lost: its raylet is killed, and its actors end with it."""
    node = ground.cluster.add_node(num_cpus=2)
    show = await first_held(ground, node.node_id)
    load = Load(ground.house.refs.ask, [show])
    await load.until_booked()
    victim = await ground.house.pid_of(show)
    ground.cluster.remove_node(node, allow_graceful=False)
    seconds = await load.first_new_hold(show, time.monotonic())
    await load.until_booked()
    await load.stop()
    new_node, _ = await line_of(ground.house.actor_of(show))
    return {
        "has_moved": new_node != node.node_id,
        "has_new_process": await ground.house.pid_of(show) != victim,
        "first_hold_after_s": round(seconds, 2),
        "faults": await ground.check(show, [*_warm_up(show), *load.recorder.attempts]),
        **await counted(load),
    }


async def f6(ground: Ground) -> Facts:
    """A node is frozen, but not its actors: two owners live at one time, and both have callers."""
    house = ground.house
    node = ground.cluster.add_node(num_cpus=2)
    show = await first_held(ground, node.node_id)
    _, path = await line_of(house.actor_of(show))
    old_pid = await house.pid_of(show)
    old_line = await LocalLine.connect(path, "the old owner")
    old_refs = _refs_over(house, old_line)
    raylet = node.all_processes["raylet"][0].process.pid
    old_load = Load(old_refs.ask, [show], clients=4, seed=2, first_seat=10_000)
    await old_load.until_booked()
    os.kill(raylet, signal.SIGSTOP)
    stopped_at = time.monotonic()
    try:
        new_pid = await _next_pid(house, show, old_pid)
        new_load = Load(house.refs.ask, [show], clients=4, seed=3)
        seconds = await new_load.first_new_hold(show, stopped_at)
        old_lives = _is_alive(old_pid)
        both_from_ns = time.monotonic_ns()
        await asyncio.sleep(BOTH_OWNERS_S)
        both_to_ns = time.monotonic_ns()
        await old_load.stop()
        await new_load.stop()
        still_lives = _is_alive(old_pid)
    finally:
        os.kill(raylet, signal.SIGCONT)
    epochs = await house.pool.fetch(
        "SELECT epoch FROM journal WHERE show_id = $1 ORDER BY seq", show.show_id
    )
    attempts = [*old_load.recorder.attempts, *new_load.recorder.attempts]
    return {
        "old_pid": old_pid,
        "new_pid": new_pid,
        "old_lived_beside_new": old_lives and still_lives,
        "answered_by_old": old_load.answered_between(both_from_ns, both_to_ns),
        "answered_by_new": new_load.answered_between(both_from_ns, both_to_ns),
        "epochs": len({row["epoch"] for row in epochs}),
        "first_hold_after_s": round(seconds, 2),
        "not_done_by_either": old_load.not_done + new_load.not_done,
        "faults": await ground.check(show, [*_warm_up(show), *attempts]),
    }


async def _next_pid(house: RayHouse, show: Show, old_pid: int) -> int:
    """The process of the show's next actor, as soon as Ray has given up the old one."""
    async with asyncio.timeout(90):
        while True:
            with suppress(Fault):
                pid = await house.pid_of(show)
                if pid != old_pid:
                    return pid
            await asyncio.sleep(0.2)


async def f8(ground: Ground) -> Facts:
    """Ray's control service dies and does not come back: what runs goes on."""
    return await _without_control(ground, comes_back=False)


async def f9(ground: Ground) -> Facts:
    """Ray's control service dies and comes back with what it had written down."""
    return await _without_control(ground, comes_back=True)


async def _without_control(ground: Ground, *, comes_back: bool) -> Facts:
    head: Any = ground.cluster.head_node
    show = await first_held(ground, None)
    load = Load(ground.house.refs.ask, [show])
    await load.until_booked()
    pid = await ground.house.pid_of(show)
    control = head.all_processes["gcs_server"][0].process.pid
    head.kill_gcs_server()
    killed_ns = time.monotonic_ns()
    await asyncio.sleep(8 if comes_back else WITHOUT_CONTROL_S)
    answered = load.acknowledged_since(killed_ns)
    facts: Facts = {
        "control_is_dead": not _is_alive(control),
        "answered_without_control": answered,
        "unknown_without_control": load.unknown,
    }
    if comes_back:
        await asyncio.to_thread(head.start_gcs_server)
        await asyncio.sleep(5)
        facts["same_process_after"] = await ground.house.pid_of(show) == pid
        os.kill(pid, signal.SIGKILL)
        seconds = await load.first_new_hold(show, time.monotonic())
        facts["first_hold_after_kill_s"] = round(seconds, 2)
        facts["new_process_after_kill"] = await ground.house.pid_of(show) != pid
    await load.until_booked()
    await load.stop()
    facts["faults"] = await ground.check(show, [*_warm_up(show), *load.recorder.attempts])
    return {**facts, **await counted(load)}


_warm: dict[ShowId, list[Attempt]] = {}


async def first_held(ground: Ground, node_id: str | None) -> Show:
    """A show with a first hold, on this node if one is named; the hold is on record."""
    for _ in range(30):
        show = await ground.house.add_show()
        first = Load(ground.house.refs.ask, [show], clients=0)
        held = await first.insist(show.show_id, hold(show.show_id, 9_999), "first")
        assert isinstance(held, SeatsHeld)
        _warm[show.show_id] = first.recorder.attempts
        if node_id in (None, (await line_of(ground.house.actor_of(show)))[0]):
            return show
    raise AssertionError("Ray places nothing on the second node")


def _warm_up(show: Show) -> list[Attempt]:
    return _warm[show.show_id]


def _refs_over(house: RayHouse, line: LocalLine) -> ShowRefs:
    """Refs of a process that has never heard of another owner."""

    async def locate(_: ShowId) -> str:
        return "the old owner"

    async def connect(_: str) -> Submit:
        return line

    return ShowRefs(locate, connect, ask_deadline_ms=house.config.ask_deadline_ms)


def _is_alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return status not in "ZX"


SCENARIOS = {"f5": f5, "f6": f6, "f8": f8, "f9": f9}


async def _run(name: str, directory: Path, cluster: Cluster) -> Facts:
    async with open_ray_house(directory) as house:
        return await SCENARIOS[name](Ground(cluster, house))


def main() -> int:
    """Run one scenario and print its facts."""
    name, directory = sys.argv[1], Path(sys.argv[2])
    os.environ.update(ENVIRONMENT)
    if name == "f9":
        storage = directory / "control"
        storage.mkdir()
        os.environ.update({"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": str(storage)})
    head: dict[str, Any] = {
        "num_cpus": 2,
        "include_dashboard": False,
        "temp_dir": str(directory / "r"),
        "_system_config": LOST_NODE_IS_NOTICED,
    }
    cluster: Any = Cluster(initialize_head=True, head_node_args=head)
    ray.init(
        cluster.address, namespace="housefull", log_to_driver=False, logging_level=logging.ERROR
    )
    facts = asyncio.run(_run(name, directory, cluster))
    print(json.dumps(facts), flush=True)
    if name == "f8":
        # Without its control service Ray does not end in good order; the kernel ends what is left.
        for process in (p for kind in cluster.head_node.all_processes.values() for p in kind):
            process.process.kill()
        os._exit(0)
    ray.shutdown()
    cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
