"""The supervisor and the watchdogs on Ray: what keeps the house in order without being asked.

One supervisor per house, one watchdog per node, all named and detached. The supervisor

* makes sure that every node has its watchdog;
* looks for holds that are overdue, which means that nobody has their show in memory (its actor
  crashed, or the whole house was restarted), and wakes the show. Its owner then ends them.

The supervisor itself leaves signs of life, so a watchdog restarts it when it hangs.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.activation import RemoteShowActor
from actors.config import ActorsConfig
from actors.heartbeat import Heartbeat
from actors.naming import SUPERVISOR, actor_name, watchdog_name
from actors.watchdog import SCAN_EVERY_MS, Watchdog
from persistence.overdue import OverdueHolds
from reservation.faults import Fault
from reservation.ids import ShowId

log = logging.getLogger(__name__)

SWEEP_EVERY_MS = 1_000
NODES_EVERY_MS = 2_000
TICK_MS = 250


class HostedWatchdog:
    """A ``Watchdog`` as Ray runs it."""

    def __init__(self, name: str, heartbeat_dir: str) -> None:
        self._name = name
        self._watchdog = Watchdog(heartbeat_dir)
        self._scanning: asyncio.Task[None] | None = None

    async def start(self) -> list[int]:
        """Begin scanning, once. Returns the processes killed so far."""
        if self._scanning is None:
            self._scanning = asyncio.ensure_future(self._scan_forever())
        return self._watchdog.killed

    async def _scan_forever(self) -> None:
        while True:
            try:
                self._watchdog.scan()
            except OSError:
                log.exception("%s cannot scan", self._name)
            await asyncio.sleep(SCAN_EVERY_MS / 1_000)


class HostedSupervisor:
    """The supervisor. Contacts nobody before ``start``."""

    def __init__(self, config: ActorsConfig) -> None:
        self._config = config
        self._heartbeat = Heartbeat(config.heartbeat_dir, SUPERVISOR)
        self._overdue = OverdueHolds(config.shards)
        self._loops: list[asyncio.Task[None]] = []
        self._watched: dict[str, Any] = {}

    async def start(self) -> None:
        """Begin to keep order, once."""
        if not self._loops:
            await self._watch_nodes()
            self._loops = [
                asyncio.ensure_future(self._every(TICK_MS, self._beat)),
                asyncio.ensure_future(self._every(SWEEP_EVERY_MS, self._wake_overdue)),
                asyncio.ensure_future(self._every(NODES_EVERY_MS, self._watch_nodes)),
            ]

    async def _every(self, pause_ms: int, work: Any) -> None:
        while True:
            try:
                await work()
            except Exception:
                # Whatever went wrong, order must be kept again a moment later.
                log.exception("the supervisor cannot do its work")
            await asyncio.sleep(pause_ms / 1_000)

    async def _beat(self) -> None:
        self._heartbeat.beat()

    async def _wake_overdue(self) -> None:
        by_actor: dict[str, list[ShowId]] = {}
        for show_id, placement in await self._overdue.find():
            name = actor_name(show_id, placement, self._config.shards, self._config.pool_slots)
            by_actor.setdefault(name, []).append(show_id)
        await asyncio.gather(*(self._wake(name, shows) for name, shows in by_actor.items()))

    async def _wake(self, name: str, show_ids: list[ShowId]) -> None:
        try:
            async with asyncio.timeout(10):
                await RemoteShowActor(name, self._config).wake(show_ids)
        except (Fault, TimeoutError) as error:
            log.warning("%s could not be woken for overdue holds: %r", name, error)

    async def _watch_nodes(self) -> None:
        alive = {node["NodeID"] for node in await asyncio.to_thread(ray.nodes) if node["Alive"]}
        for node_id in alive - self._watched.keys():
            watchdog = await asyncio.to_thread(start_watchdog, node_id, self._config)
            self._watched[node_id] = watchdog
        for node_id in self._watched.keys() - alive:
            del self._watched[node_id]
        for node_id, watchdog in self._watched.items():
            try:
                # A watchdog that was restarted by Ray has to be told to start again.
                async with asyncio.timeout(5):
                    await watchdog.start.remote()
            except (RayError, TimeoutError) as error:
                log.warning("the watchdog of node %s does not answer: %r", node_id, error)


def start_watchdog(node_id: str, config: ActorsConfig) -> Any:
    """The watchdog of a node, started if it is not there. Blocks for a moment."""
    name = watchdog_name(node_id)
    return _options(
        ray.remote(HostedWatchdog),
        name,
        config,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
    ).remote(name, config.heartbeat_dir)


def start_supervisor(config: ActorsConfig) -> Any:
    """The house's supervisor, started if it is not there and told to begin. Blocks."""
    supervisor = _options(ray.remote(HostedSupervisor), SUPERVISOR, config).remote(config)
    ray.get(supervisor.start.remote())
    return supervisor


def _options(actor_class: Any, name: str, config: ActorsConfig, **more: Any) -> Any:
    return actor_class.options(
        name=name,
        namespace=config.namespace,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=0,
        **more,
    )
