"""The supervisor and the watchdogs on Ray: what keeps the house in order without being asked.

One supervisor per house, one watchdog per node, one payment actor per database, all named and
detached. The supervisor

* makes sure that every node has its watchdog, and every database its payment actor;
* looks for holds that are overdue, which means that nobody has their show in memory (its actor
  crashed, or the whole house was restarted), and wakes the show. Its owner then ends them.

The supervisor itself leaves signs of life, so a watchdog restarts it when it hangs. Both begin
their work in the constructor, so they go on after Ray has restarted them. (Ray runs the
constructor of an async actor on the actor's event loop.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.activation import RemoteShowActor
from actors.config import ActorsConfig
from actors.heartbeat import Heartbeat
from actors.naming import SUPERVISOR, actor_name, payment_actor_name, watchdog_name
from actors.payment_hosting import HostedPaymentActor
from actors.watchdog import SCAN_EVERY_MS, Watchdog
from persistence.overdue import OverdueHolds
from reservation.faults import Fault
from reservation.ids import ShowId

log = logging.getLogger(__name__)

SWEEP_EVERY_MS = 1_000
NODES_EVERY_MS = 2_000
TICK_MS = 250
WAKE_TIMEOUT_S = 10
WATCHDOG_ANSWERS_WITHIN_S = 5
PAYMENT_ACTOR_ANSWERS_WITHIN_S = 20


class HostedWatchdog:
    """A ``Watchdog`` as Ray runs it."""

    def __init__(self, name: str, heartbeat_dir: str) -> None:
        self._name = name
        self._watchdog = Watchdog(heartbeat_dir)
        self._scanning = asyncio.ensure_future(self._scan_forever())

    async def killed(self) -> list[int]:
        """The processes killed so far. An answer also says that the watchdog is there."""
        return self._watchdog.killed

    async def _scan_forever(self) -> None:
        while True:
            try:
                self._watchdog.scan()
            except OSError:
                log.exception("%s cannot scan", self._name)
            await asyncio.sleep(SCAN_EVERY_MS / 1_000)


class HostedSupervisor:
    """The supervisor. Its constructor contacts nobody; what it starts does."""

    def __init__(self, config: ActorsConfig) -> None:
        self._config = config
        self._heartbeat = Heartbeat(config.heartbeat_dir, SUPERVISOR)
        self._overdue = OverdueHolds(config.shards)
        self._watched: dict[str, Any] = {}
        self._payment_actors: dict[int, Any] = {}
        self._waking: dict[str, asyncio.Task[None]] = {}
        self._loops = [
            asyncio.ensure_future(self._every(TICK_MS, self._beat)),
            asyncio.ensure_future(self._every(SWEEP_EVERY_MS, self._wake_overdue)),
            asyncio.ensure_future(self._every(NODES_EVERY_MS, self._watch_nodes)),
            asyncio.ensure_future(self._every(NODES_EVERY_MS, self._watch_payment_actors)),
        ]

    async def watched_nodes(self) -> list[str]:
        """The nodes that have a watchdog. An answer also says that the supervisor is there."""
        return list(self._watched)

    async def _every(self, pause_ms: int, work: Callable[[], Awaitable[None]]) -> None:
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
        for name, show_ids in by_actor.items():
            # One actor that hangs must not keep the others' holds from ending.
            if name not in self._waking:
                self._waking[name] = task = asyncio.ensure_future(self._wake(name, show_ids))
                task.add_done_callback(partial(self._woken, name))

    def _woken(self, name: str, _: asyncio.Task[None]) -> None:
        del self._waking[name]

    async def _wake(self, name: str, show_ids: list[ShowId]) -> None:
        try:
            async with asyncio.timeout(WAKE_TIMEOUT_S):
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
        for node_id, watchdog in list(self._watched.items()):
            try:
                async with asyncio.timeout(WATCHDOG_ANSWERS_WITHIN_S):
                    await watchdog.killed.remote()
            except ActorDiedError:
                log.warning("the watchdog of node %s is gone: the next round starts it", node_id)
                del self._watched[node_id]
            except (RayError, TimeoutError) as error:
                log.warning("the watchdog of node %s does not answer: %r", node_id, error)

    async def _watch_payment_actors(self) -> None:
        for database in range(len(self._config.shards.dsns)):
            name = payment_actor_name(database)
            if database not in self._payment_actors:
                self._payment_actors[database] = await asyncio.to_thread(
                    start_payment_actor, database, self._config
                )
            try:
                async with asyncio.timeout(PAYMENT_ACTOR_ANSWERS_WITHIN_S):
                    await self._payment_actors[database].status.remote()
            except ActorDiedError:
                log.warning("%s is gone: the next round starts it", name)
                del self._payment_actors[database]
            except (RayError, TimeoutError) as error:
                log.warning("%s does not answer: %r", name, error)


def start_payment_actor(database: int, config: ActorsConfig) -> Any:
    """The payment actor of a database, started if it is not there. Blocks for a moment."""
    return _options(ray.remote(HostedPaymentActor), payment_actor_name(database), config).remote(
        database, config
    )


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
    """The house's supervisor, started if it is not there. Blocks until it answers."""
    supervisor = _options(ray.remote(HostedSupervisor), SUPERVISOR, config).remote(config)
    ray.get(supervisor.watched_nodes.remote())
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
