"""The payment actor on Ray: one per database, named and detached, kept alive by the supervisor."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import ray
from ray.exceptions import RayError

from actors.activation import connect_refs
from actors.config import ActorsConfig
from actors.heartbeat import BEAT_EVERY_MS, Heartbeat
from actors.naming import payment_actor_name
from actors.payment_actor import PaymentActor
from actors.payment_stores import PaymentStores
from actors.process import calm_collector
from actors.provider_calls import open_gateways

log = logging.getLogger(__name__)


class HostedPaymentActor:
    """A ``PaymentActor`` as Ray runs it.

    The constructor contacts nobody, so that the actor lives while a database or a provider is away.
    (Ray runs the constructor of an async actor on the actor's event loop.)
    """

    def __init__(self, database: int, config: ActorsConfig) -> None:
        self._name = payment_actor_name(database)
        self._database = database
        self._config = config
        self._heartbeat = Heartbeat(config.heartbeat_dir, self._name)
        self._actor: PaymentActor | None = None
        self._starting = asyncio.ensure_future(self._start())
        self._beating = asyncio.ensure_future(self._beat_forever())

    async def ring(self) -> None:
        """See ``PaymentActor.ring``."""
        if self._actor is not None:
            self._actor.ring()

    async def status(self) -> dict[str, int]:
        """See ``PaymentActor.status``. An answer also says that the actor is there."""
        await asyncio.shield(self._starting)
        assert self._actor is not None
        return self._actor.status()

    async def _start(self) -> None:
        calm_collector()
        stores = await PaymentStores(self._config.shards, self._name).open()
        self._actor = PaymentActor(
            self._name,
            stores,
            self._database,
            connect_refs(self._config, stores.catalogue.placement_of),
            open_gateways(self._config.payments),
        )
        self._actor.start()

    async def _beat_forever(self) -> None:
        while True:
            self._heartbeat.beat()
            await asyncio.sleep(BEAT_EVERY_MS / 1_000)


RINGS_APART_S = 0.02
"""A ring is a remote call, and costs as much as some payments."""


class PaymentBell:
    """Rings at the payment actors from another process. Nobody waits for it.

    One that is not heard is no loss: the actor looks by itself twice a second. Whoever rings soon
    after another shares the next ring.
    """

    def __init__(self, config: ActorsConfig) -> None:
        self._config = config
        self._handles: dict[int, Any] = {}
        self._finding: dict[int, asyncio.Task[None]] = {}
        self._rung_at_s: dict[int, float] = {}
        self._to_ring: set[int] = set()

    def __call__(self, database: int) -> None:
        """Ring at the actor of this database."""
        if database in self._to_ring:
            return
        loop = asyncio.get_running_loop()
        next_at_s = self._rung_at_s.get(database, 0.0) + RINGS_APART_S
        if loop.time() >= next_at_s:
            self._ring(database)
        else:
            self._to_ring.add(database)
            loop.call_at(next_at_s, self._ring, database)

    def _ring(self, database: int) -> None:
        self._to_ring.discard(database)
        self._rung_at_s[database] = asyncio.get_running_loop().time()
        handle = self._handles.get(database)
        if handle is not None:
            handle.ring.remote()
        elif database not in self._finding:
            task = asyncio.ensure_future(self._find(database))
            self._finding[database] = task
            task.add_done_callback(lambda _: self._finding.pop(database))

    async def _find(self, database: int) -> None:
        name = payment_actor_name(database)
        try:
            # Finding an actor asks Ray's control service and blocks.
            handle = await asyncio.to_thread(ray.get_actor, name, self._config.namespace)
        except (RayError, ValueError) as error:
            log.info("%s cannot be rung at: %r", name, error)
            return
        self._handles[database] = handle
        handle.ring.remote()
