"""Show actors on Ray: finding or starting them by name, and translating Ray's bad news.

This is the one place where a show actor becomes a Ray actor. Ray gives liveness (it restarts
what dies); it does not give uniqueness, which is why every write is fenced in Postgres.

What Ray's exceptions mean for a command under way (tests/cluster/test_what_ray_says.py):

    ActorDiedError           it left on purpose: it answers everything before it goes, so this
                             command was never taken: NotDone, find or start it anew
                             it is gone for another reason: OutcomeUnknown, find or start it anew
    ActorUnavailableError    it is being restarted: the command was never sent: NotDone
                             it crashed or cannot be reached: OutcomeUnknown
    anything else            OutcomeUnknown

Ray tells the two cases of one class apart only in the text. If a new version words it
otherwise, everything becomes OutcomeUnknown, which is less helpful and still true.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, RayError

from actors.clock import SystemClock
from actors.config import ActorsConfig
from actors.heartbeat import Heartbeat
from actors.local_line import LineServer, LocalLine
from actors.messages import ActorStatus, Reply, Request
from actors.naming import actor_name, database_of_actor, placement_of_actor
from actors.process import calm_collector
from actors.seat_map_publisher import SeatMapPublisher
from actors.show_actor import ShowActor
from actors.show_ref import ShowRefs
from persistence.show_store import open_show_store
from reservation.faults import Fault, OutcomeUnknown, ShowNotFound, ShowUnavailable
from reservation.ids import ShowId
from reservation.show import Placement

log = logging.getLogger(__name__)

CONCURRENT_CALLS_MAX = 1_000

PUBLISHING_TIMEOUT_MS = 500
"""Nobody waits for it, and an actor that is busy is late by itself."""

_LEFT_ON_PURPOSE = "INTENDED_USER_EXIT"
_NEVER_SENT = "The actor is restarting"


class HostedShowActor:
    """A ``ShowActor`` as Ray runs it: connects on the first call and leaves when unused.

    The constructor contacts nobody: an exception in it would make the actor dead for good,
    whatever ``max_restarts`` says. But it sets the ticker going, so that an actor that nobody
    calls, after a restart for example, shows life and leaves in time. (Ray runs the constructor
    of an async actor on the actor's event loop.)
    """

    def __init__(self, name: str, config: ActorsConfig) -> None:
        self._name = name
        self._config = config
        self._heartbeat = Heartbeat(config.heartbeat_dir, name)
        self._line = LineServer(line_directory(config), name)
        self._line_path: str | None = None
        self._publisher = open_publisher(config)
        self._starting = asyncio.ensure_future(self._start())
        self._is_leaving = False

    async def line(self) -> tuple[str, str] | None:
        """The node and the path of this actor's line for callers on its node, if it has one."""
        await self._actor()
        if self._line_path is None:
            return None
        return ray.get_runtime_context().get_node_id(), self._line_path

    async def submit(self, requests: list[Request]) -> Reply:
        """See ``ShowActor.submit``."""
        try:
            return await (await self._actor()).submit(requests)
        except Fault as fault:
            return Reply([fault] * len(requests), {})

    async def wake(self, show_ids: Sequence[ShowId]) -> None:
        """See ``ShowActor.wake``."""
        await (await self._actor()).wake(show_ids)

    async def hand_over(self, show_id: ShowId) -> None:
        """See ``ShowActor.hand_over``."""
        await (await self._actor()).hand_over(show_id)

    async def renew(self, show_id: ShowId) -> Fault | None:
        """See ``ShowActor.renew``. A fault is returned: Ray would wrap it into one of its own."""
        try:
            await (await self._actor()).renew(show_id)
        except Fault as fault:
            return fault
        return None

    async def status(self) -> ActorStatus:
        """See ``ShowActor.status``."""
        return await (await self._actor()).status()

    async def leave_if_unused(self) -> None:
        """End this process when nobody needs it; Ray does not restart what leaves on purpose."""
        try:
            if await (await self._actor()).drain():
                await self._line.close()
                if self._publisher is not None:
                    await self._publisher.close()
                self._heartbeat.stop()
                ray.actor.exit_actor()  # type: ignore[no-untyped-call]  # Ray does not annotate it.
        finally:
            self._is_leaving = False

    async def _actor(self) -> ShowActor:
        if self._starting.done() and self._starting.exception():
            self._starting = asyncio.ensure_future(self._start())
        return await asyncio.shield(self._starting)

    async def _start(self) -> ShowActor:
        calm_collector()
        dsn = self._config.shards.dsns[database_of_actor(self._name, self._config.shards)]
        source, journal = await open_show_store(
            self._config.shards.catalogue_dsn, dsn, owner=self._name
        )
        actor = ShowActor(
            self._name,
            placement_of_actor(self._name),
            source,
            journal,
            SystemClock(),
            passivate_after_ms=self._config.passivate_after_ms,
            mailbox_commands_max=self._config.mailbox_commands_max,
            beat=self._heartbeat.beat,
            on_idle=self._ask_to_leave,
            publisher=self._publisher,
        )
        actor.start()
        try:
            self._line_path = await self._line.open(actor.submit)
        except OSError:
            log.exception("%s has no line; Ray's calls do", self._name)
        return actor

    def _ask_to_leave(self) -> None:
        # An actor can only exit from within a call, so it calls itself.
        if not self._is_leaving:
            self._is_leaving = True
            ray.get_runtime_context().current_actor.leave_if_unused.remote()


def open_publisher(config: ActorsConfig) -> SeatMapPublisher | None:
    """Where this actor shows seat maps to readers. Connects on first use."""
    if config.redis_url is None:
        return None
    # Here, because the client takes 6 MiB, and an actor without an address needs none.
    from persistence.valkey_seat_map_cache import ValkeySeatMapCache

    try:
        cache = ValkeySeatMapCache(config.redis_url, timeout_ms=PUBLISHING_TIMEOUT_MS)
    except ValueError:
        # An address that is none must not keep a show from being sold.
        log.exception("seat maps are not published")
        return None
    return SeatMapPublisher(cache)


def line_directory(config: ActorsConfig) -> str:
    """Where the actors of a node listen: beside their signs of life."""
    return str(Path(config.heartbeat_dir).with_name("lines"))


_RemoteShowActor = ray.remote(HostedShowActor)


def find_or_start(name: str, config: ActorsConfig) -> Any:
    """The handle of the actor with this name, started if nobody has it. Blocks for a moment."""
    return _RemoteShowActor.options(
        name=name,
        namespace=config.namespace,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        max_concurrency=CONCURRENT_CALLS_MAX,
        # Ray would report every call to its control service, for a dashboard.
        enable_task_events=False,
        num_cpus=0,
    ).remote(name, config)


class RemoteShowActor:
    """One show actor, seen from another process. Calling it submits a batch."""

    def __init__(self, name: str, config: ActorsConfig) -> None:
        self._name = name
        self._config = config
        self._handle: Any = None
        self._finding = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._line: LocalLine | None = None
        self._is_far = False

    async def __call__(self, requests: list[Request]) -> Reply:
        """Submit a batch.

        Raises:
            NotDone: it was not taken.
            OutcomeUnknown: it may have been.
        """
        line = await self._open_line()
        if line is None:
            return cast(Reply, await self._call("submit", requests))
        return await line(requests)

    async def _open_line(self) -> LocalLine | None:
        """The line to the actor as it lives now; None when it lives on another node.

        Raises:
            ShowUnavailable: the actor could not be asked. No command was sent yet, whatever
                became of the question.
        """
        if self._line is not None and self._line.is_open:
            return self._line
        if self._is_far and self._handle is not None:
            return None
        async with self._opening:
            if self._line is not None and self._line.is_open:
                return self._line
            try:
                found = cast(tuple[str, str] | None, await self._call("line"))
            except OutcomeUnknown as fault:
                raise ShowUnavailable(f"{self._name} could not be asked for its line") from fault
            self._is_far = found is None or found[0] != ray.get_runtime_context().get_node_id()
            if found is None or self._is_far:
                return None
            self._line = await LocalLine.connect(found[1], self._name)
            return self._line

    async def wake(self, show_ids: Sequence[ShowId]) -> None:
        """Let the actor bring shows into memory."""
        await self._call("wake", show_ids)

    async def hand_over(self, show_id: ShowId) -> None:
        """Let the actor finish with a show and forget it."""
        await self._call("hand_over", show_id)

    async def renew(self, show_id: ShowId) -> None:
        """Let the actor read a show anew from the catalogue.

        Raises:
            Fault: see ``ShowActor.renew``; ``OutcomeUnknown`` when the actor ended meanwhile.
        """
        fault = cast(Fault | None, await self._call("renew", show_id))
        if fault is not None:
            raise fault

    async def status(self) -> ActorStatus:
        """What the actor holds in memory."""
        return cast(ActorStatus, await self._call("status"))

    async def _call(self, method: str, *arguments: object) -> object:
        handle = self._handle or await self._find()
        try:
            return await getattr(handle, method).remote(*arguments)
        except ActorDiedError as error:
            self._handle = None
            if _LEFT_ON_PURPOSE in str(error):
                raise ShowUnavailable(f"{self._name} has left") from error
            raise OutcomeUnknown(f"{self._name} was ended while it was asked") from error
        except ActorUnavailableError as error:
            # It may come back on this node.
            self._is_far = False
            if _NEVER_SENT in str(error):
                raise ShowUnavailable(f"{self._name} is being restarted") from error
            raise OutcomeUnknown(f"{self._name} stopped while it was asked") from error
        except RayError as error:
            log.exception("%s failed on %s", self._name, method)
            raise OutcomeUnknown(f"{self._name} failed") from error

    async def _find(self) -> Any:
        async with self._finding:
            if self._handle is None:
                try:
                    # Finding an actor asks Ray's control service and blocks.
                    self._handle = await asyncio.to_thread(find_or_start, self._name, self._config)
                except (RayError, ValueError) as error:
                    raise ShowUnavailable(f"{self._name} cannot be started") from error
            return self._handle


def connect_refs(
    config: ActorsConfig, placement_of: Callable[[ShowId], Awaitable[Placement | None]]
) -> ShowRefs:
    """Refs to every show of the house.

    ``placement_of(show_id)`` looks a show up in the catalogue, not in a cache: it is asked when
    a show is new to this process or has moved. None means that there is no such show.
    """

    async def locate(show_id: ShowId) -> str:
        placement = await placement_of(show_id)
        if placement is None:
            raise ShowNotFound(f"no show {show_id}")
        return actor_name(show_id, placement, config.shards, config.pool_slots)

    remotes: dict[str, RemoteShowActor] = {}

    async def connect(name: str) -> RemoteShowActor:
        return remotes.setdefault(name, RemoteShowActor(name, config))

    async def renew(name: str, show_id: ShowId) -> None:
        # A line that nobody uses yet costs nothing before the first command.
        await (await connect(name)).renew(show_id)

    return ShowRefs(locate, connect, ask_deadline_ms=config.ask_deadline_ms, renew=renew)
