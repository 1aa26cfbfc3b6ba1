"""The model of Ray: it starts actors by name, restarts what dies, and does not promise uniqueness.

``Incarnation`` does what ``actors.activation.HostedShowActor`` does, around the shipped actor,
journal and line; ``RemoteActor`` does what ``RemoteShowActor`` does, around the shipped line. What
bad news of a call means is that module's table:

    the actor left on purpose                   NotDone, and the next call starts it anew
    it is being restarted                       NotDone
    it died, or cannot be reached               OutcomeUnknown
    the question for its line failed            NotDone: no command was sent

A *zombie* is an incarnation that goes on after another one has been started in its place, because
its node was cut off. Who has a line to it keeps it; who asks Ray for the actor by name may, from
the wrong side of the cut, still be led to it.
"""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Sequence
from typing import Any, cast

from actors.clock import SystemClock
from actors.local_line import LineServer, LocalLine
from actors.messages import Reply, Request
from actors.show_actor import ShowActor
from actors.show_ref import ShowRefs
from persistence.group_commit import GroupCommitJournal
from reservation.faults import Fault, OutcomeUnknown, ShowNotFound, ShowUnavailable
from reservation.ids import ChannelId, ShowId
from reservation.show import Placement, Show
from tests.simulation.database import ModelDatabase, ModelStore
from tests.simulation.network import Network
from tests.simulation.world import Process, World

ACTOR_NAME = "show:simulated"
SWEEP_EVERY_MS = 1_000


class Shelf:
    """The catalogue. It lies in another database and is always there.

    Shapes:
        shows: every show as it is now; a story may replace one by a revision of itself.
        offers: what channels were told that they may sell.
    """

    def __init__(self, world: World, shows: Sequence[Show]) -> None:
        self.shows = {show.show_id: show for show in shows}
        self.offers: dict[tuple[ShowId, ChannelId], tuple[int, ...]] = {}
        self._world = world

    async def load_show(self, show_id: ShowId) -> Show | None:
        await asyncio.sleep(0.001)
        show = self.shows.get(show_id)
        # What was read may be old when it arrives.
        await asyncio.sleep(self._world.random.choice((0.0005, 0.0005, 0.05)))
        return show


class Incarnation:
    """One process that hosts the show actor."""

    def __init__(self, hosting: Hosting, number: int) -> None:
        self.process = hosting.world.new_process(f"actor#{number}")
        self.process.wall_error_ms = hosting.world.random.choice((0, 0, -3_600_000, 3_600_000))
        self.hosting = hosting
        self.is_leaving = False
        self.has_left = False
        self.actor: ShowActor | None = None
        self.line_path: str | None = None
        self.calls: dict[_Call, None] = {}
        self._line = LineServer(hosting.line_directory, f"{ACTOR_NAME}#{number}")
        self._number = number
        self._started = asyncio.Event()
        self.process.spawn(self._start())

    async def _start(self) -> None:
        hosting = self.hosting
        store = ModelStore(hosting.database, self.process)
        self.actor = ShowActor(
            ACTOR_NAME,
            hosting.placement,
            hosting.shelf,
            GroupCommitJournal(store, f"{ACTOR_NAME}#{self._number}"),
            SystemClock(),
            passivate_after_ms=hosting.passivate_after_ms,
            mailbox_commands_max=hosting.mailbox_commands_max,
            on_idle=self._ask_to_leave,
        )
        self.actor.start()
        self.line_path = await self._line.open(self.actor.submit)
        assert self.line_path is not None, "the folder of the lines has too long a name"
        self._started.set()

    def _ask_to_leave(self) -> None:
        if not self.is_leaving:
            self.is_leaving = True
            self.process.call_later(0.005, self._begin_to_leave)

    def _begin_to_leave(self) -> None:
        self.process.spawn(self._leave_if_unused())

    async def _leave_if_unused(self) -> None:
        assert self.actor is not None
        try:
            if await self.actor.drain():
                await self._line.close()
                self.has_left = True
                self.hosting.world.faults["actor left"] += 1
                self.hosting.end(self)
        finally:
            self.is_leaving = False

    async def answer(self, call: _Call) -> None:
        """Do what a call asks for."""
        try:
            await self._started.wait()
            assert self.actor is not None
            result: object = None
            if call.method == "line":
                result = self.line_path
            elif call.method == "wake":
                await self.actor.wake(call.argument)
            elif call.method == "renew":
                result = await self._renew(call.argument)
            else:
                result = await self._submit(pickle.loads(call.argument))
        except Exception as error:
            call.done(None, error)
        else:
            call.done(result, None)

    async def _renew(self, show_id: ShowId) -> Fault | None:
        assert self.actor is not None
        try:
            await self.actor.renew(show_id)
        except Fault as fault:
            return fault
        return None

    async def _submit(self, requests: list[Request]) -> bytes:
        assert self.actor is not None
        try:
            reply = await self.actor.submit(requests)
        except Fault as fault:
            reply = Reply([fault] * len(requests), {})
        return pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)


class _Call:
    """One remote call, seen by Ray."""

    def __init__(self, hosting: Hosting, caller: Process, method: str, argument: Any) -> None:
        self.method = method
        self.argument = argument
        self.answer: asyncio.Future[Any] = caller.create_future()
        self._hosting = hosting
        self._caller = caller
        self._target: Incarnation | None = None

    def send(self) -> None:
        """Find out where to, and go."""
        hosting, world = self._hosting, self._hosting.world
        target = hosting.target()
        if target is None and hosting.is_restarting:
            world.faults["ray: never sent"] += 1
            self._later(ShowUnavailable("the actor is being restarted"))
        elif target is None:
            # Calls of an actor that is started for the first time wait for it.
            hosting.waiting.append(self)
        else:
            self.send_to(target)

    def send_to(self, target: Incarnation) -> None:
        """Go to this incarnation."""
        hosting, world = self._hosting, self._hosting.world
        self._target = target
        target.calls[self] = None
        if world.random.random() < hosting.call_loss:
            world.faults["ray: lost request"] += 1
            self._later(OutcomeUnknown("the actor cannot be reached"), 1_000)
            return
        delay_ms = world.random.uniform(0.3, 2)
        if world.random.random() < hosting.call_delay:
            world.faults["ray: late request"] += 1
            delay_ms = world.random.uniform(100, 2_500)
        world.after(delay_ms, self._arrive)

    def _arrive(self) -> None:
        assert self._target is not None
        target = self._target
        if target.process.is_dead:
            self.target_died()
        else:
            target.process.spawn(target.answer(self))

    def done(self, result: object, error: Exception | None) -> None:
        """The actor has answered."""
        hosting, world = self._hosting, self._hosting.world
        assert self._target is not None
        # What is answered is out of the actor's hands: its end does not change the answer.
        self._target.calls.pop(self, None)
        if world.random.random() < hosting.call_loss:
            world.faults["ray: lost reply"] += 1
            self._later(OutcomeUnknown("the actor cannot be reached"), 1_000)
            return
        delay_ms = world.random.uniform(0.3, 2)
        if world.random.random() < hosting.call_delay:
            world.faults["ray: late reply"] += 1
            delay_ms = world.random.uniform(100, 2_500)
        world.after(delay_ms, self._settle, result, error)

    def target_died(self) -> None:
        """Ray has noticed that the process is gone."""
        assert self._target is not None
        if self._target.has_left:
            self._later(ShowUnavailable("the actor has left"))
        else:
            self._later(OutcomeUnknown("the actor stopped while it was asked"))

    def _later(self, fault: Fault, delay_ms_max: float = 100) -> None:
        world = self._hosting.world
        world.after(world.random.uniform(0.2, delay_ms_max), self._settle, None, fault)

    def _settle(self, result: object, error: Exception | None) -> None:
        if self._target is not None:
            self._target.calls.pop(self, None)
        self._caller.post(self._set, result, error)

    def _set(self, result: object, error: Exception | None) -> None:
        if self.answer.done():
            return
        if error is None:
            self.answer.set_result(result)
        else:
            self.answer.set_exception(error)


class RemoteActor:
    """The show actor, seen from another process. Calling it submits a batch."""

    def __init__(self, hosting: Hosting, caller: Process, *, is_near: bool) -> None:
        self._hosting = hosting
        self._caller = caller
        self._is_near = is_near
        self._opening = asyncio.Lock()
        self._line: LocalLine | None = None

    async def __call__(self, requests: list[Request]) -> Reply:
        """See ``Submit``."""
        if self._is_near:
            return await (await self._open_line())(requests)
        content = pickle.dumps(requests, pickle.HIGHEST_PROTOCOL)
        return cast(Reply, pickle.loads(await self._call("submit", content)))

    async def _open_line(self) -> LocalLine:
        if self._line is not None and self._line.is_open:
            return self._line
        async with self._opening:
            if self._line is not None and self._line.is_open:
                return self._line
            try:
                path = await self._call("line", None)
            except OutcomeUnknown as fault:
                raise ShowUnavailable("the actor could not be asked for its line") from fault
            self._line = await LocalLine.connect(path, ACTOR_NAME)
            return self._line

    async def wake(self, show_ids: Sequence[ShowId]) -> None:
        """Let the actor bring shows into memory."""
        await self._call("wake", show_ids)

    async def renew(self, show_id: ShowId) -> None:
        """Let the actor read a show anew."""
        fault = await self._call("renew", show_id)
        if fault is not None:
            raise fault

    async def _call(self, method: str, argument: object) -> Any:
        call = _Call(self._hosting, self._caller, method, argument)
        call.send()
        return await call.answer


class Hosting:
    """All incarnations of one actor, the supervisor, and the faults of both.

    Units:
        call_loss, call_delay: probabilities, for each of a call's two ways.
        stale_directory: how probable it is to be led to a zombie.
    """

    def __init__(
        self,
        world: World,
        network: Network,
        database: ModelDatabase,
        shows: Sequence[Show],
        line_directory: str,
        *,
        passivate_after_ms: int,
        mailbox_commands_max: int,
    ) -> None:
        self.world = world
        self.database = database
        self.shows = shows
        self.shelf = Shelf(world, shows)
        self.placement: Placement = shows[0].placement
        self.line_directory = line_directory
        self.passivate_after_ms = passivate_after_ms
        self.mailbox_commands_max = mailbox_commands_max
        self.call_loss = 0.0
        self.call_delay = 0.0
        self.stale_directory = 0.0
        self.current: Incarnation | None = None
        self.zombies: list[Incarnation] = []
        self._network = network
        self._number = 0
        self._is_starting = False
        self.is_restarting = False
        self.waiting: list[_Call] = []
        self._supervisor = world.new_process("supervisor")
        self._supervisor.spawn(self._supervise())

    # -- what callers need ----------------------------------------------------------------

    def refs_of(self, process: Process, *, is_near: bool, ask_deadline_ms: int) -> ShowRefs:
        """The refs of one calling process. To be made in that process."""

        async def locate(show_id: ShowId) -> str:
            if all(show.show_id != show_id for show in self.shows):
                raise ShowNotFound(f"no show {show_id}")
            return ACTOR_NAME

        async def connect(_: str) -> RemoteActor:
            return RemoteActor(self, process, is_near=is_near)

        async def renew(_: str, show_id: ShowId) -> None:
            await RemoteActor(self, process, is_near=False).renew(show_id)

        return ShowRefs(locate, connect, ask_deadline_ms=ask_deadline_ms, renew=renew)

    def target(self) -> Incarnation | None:
        """Where a call goes now; None while the actor is being (re)started."""
        if self.zombies and self.world.random.random() < self.stale_directory:
            self.world.faults["ray: led to a zombie"] += 1
            return self.world.random.choice(self.zombies)
        if self.current is None and not self._is_starting:
            self._is_starting = True
            self.world.after(self.world.random.uniform(5, 60), self._start)
        return self.current

    def _start(self) -> None:
        self._is_starting = self.is_restarting = False
        self._number += 1
        self.current = Incarnation(self, self._number)
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call.send_to(self.current)
        self.world.say(f"incarnation {self._number} starts")

    # -- what can happen to them ------------------------------------------------------------

    def end(self, incarnation: Incarnation) -> None:
        """A process is gone, killed or by itself. Ray learns of it in its own time."""
        self.world.kill(incarnation.process)
        self._network.process_died(incarnation.process)
        for call in list(incarnation.calls):
            call.target_died()
        if incarnation is self.current:
            self.current = None
            if not incarnation.has_left:
                self._is_starting = self.is_restarting = True
                self.world.after(self.world.random.uniform(50, 600), self._start)
        elif incarnation in self.zombies:
            self.zombies.remove(incarnation)

    def replace(self) -> Incarnation | None:
        """Cut the current incarnation off: another one is started while it lives on."""
        zombie = self.current
        if zombie is None:
            return None
        self.zombies.append(zombie)
        self.current = None
        self._is_starting = self.is_restarting = True
        self.world.after(self.world.random.uniform(1, 300), self._start)
        for call in list(zombie.calls):
            if self.world.random.random() < 0.5:
                call.target_died()
        return zombie

    @property
    def living(self) -> list[Incarnation]:
        """Every incarnation whose process has not ended."""
        return [*([self.current] if self.current else []), *self.zombies]

    # -- the supervisor -----------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Wake shows whose holds nobody ends, as ``actors.supervision`` does."""
        remote = RemoteActor(self, self._supervisor, is_near=False)
        while True:
            await asyncio.sleep(SWEEP_EVERY_MS / 1_000)
            if self.database.is_down:
                continue
            overdue = self.database.overdue(self.shows)
            if overdue:
                self.world.outcomes["woken by the supervisor"] += 1
                try:
                    async with asyncio.timeout(10):
                        await remote.wake(overdue)
                except (Fault, TimeoutError):
                    self.world.outcomes["could not be woken"] += 1
