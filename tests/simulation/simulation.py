"""One seed from the first question to the last check."""

from __future__ import annotations

import atexit
import contextlib
import gc
import itertools
import logging
import shutil
import tempfile
from asyncio import events
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import actors.clock
from actors import show_actor, show_ref
from actors.process import calm_collector
from persistence.memory_journal import MemoryStore
from reservation.commands import ReleaseHold
from reservation.hold import HoldState
from reservation.ids import CustomerId, derive_hold_id
from tests.simulation import checks
from tests.simulation.database import ModelDatabase
from tests.simulation.faults import Faults
from tests.simulation.hosting import Hosting, RemoteActor
from tests.simulation.network import Network
from tests.simulation.story import CLIENTS_MAX, STORY_MS, Client, Customer, Desk, draw_shows
from tests.simulation.world import Process, VirtualTime, World
from tests.support.history_checker import History, Violation

TRUSTED_MS = show_actor.OWNERSHIP_TRUSTED_MS

HEALED_WITHIN_MS = 12_000
"""After the healing, until everybody has an answer. Generous: being slow is no violation."""

HOLDS_END_WITHIN_MS = 8_000
"""The longest life of a hold in a story, a second, and a round of the supervisor."""


WAKES_MAX = 10

SPARED: frozenset[str] = frozenset()
"""What the product cannot stand yet, and stories leave out for so long. Each has a test that is
expected to fail (test_found.py); with the repair it passes, and then it must go from here."""


class Result(NamedTuple):
    """What became of a seed."""

    seed: int
    violations: list[Violation]
    undecided: int
    faults: Counter[str]
    outcomes: Counter[str]
    operations: int
    digest: int | None


class Settings(NamedTuple):
    """Constants of shipped code that a story of a few seconds would hardly reach otherwise."""

    trusted_ms: int
    second_batch_min: int

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Shipped code uses these while this is open."""
        before = show_actor.OWNERSHIP_TRUSTED_MS, show_ref.SECOND_BATCH_COMMANDS_MIN
        show_actor.OWNERSHIP_TRUSTED_MS = self.trusted_ms
        show_ref.SECOND_BATCH_COMMANDS_MIN = self.second_batch_min
        try:
            yield
        finally:
            show_actor.OWNERSHIP_TRUSTED_MS, show_ref.SECOND_BATCH_COMMANDS_MIN = before


class Simulation:
    """Everything in one world."""

    def __init__(
        self,
        seed: int,
        *,
        log: Callable[[str], None] | None = None,
        spares: frozenset[str] = SPARED,
    ) -> None:
        self.seed = seed
        self.spares = spares
        self.world = world = World(seed)
        world.log = log
        chance = world.random
        self.shows = draw_shows(chance)
        self.network = Network(world, seed)
        self.database = ModelDatabase(
            world, new_store(), patience_ms=chance.choice((400, 1_000, 2_000))
        )
        self.database.spares = spares
        self.hosting = Hosting(
            world,
            self.network,
            self.database,
            self.shows,
            _line_directory(),
            passivate_after_ms=chance.choice((1_000, 1_500, 60_000)),
            mailbox_commands_max=chance.choice((2, 8, 4_096)),
        )
        self.history = History()
        self.desks: list[Desk] = []
        self.clients: list[Client] = []
        ask_deadline_ms = chance.choice((600, 1_200, 2_500))
        # Some stories are only about this: two owners, each with callers that cannot see the other.
        self.is_about_a_cut = chance.random() < 0.16
        self.settings = Settings(
            trusted_ms=300 if self.is_about_a_cut or chance.random() < 0.5 else TRUSTED_MS,
            second_batch_min=chance.choice((show_ref.SECOND_BATCH_COMMANDS_MIN, 1)),
        )
        for number in range(2 if self.is_about_a_cut else chance.choice((1, 2, 2))):
            # The first desk of a cut asks Ray and is led to the new owner.
            is_near = chance.random() < 0.6 and not (self.is_about_a_cut and number == 0)
            self._open_desk(number, ask_deadline_ms, is_near=is_near)
        self.faults = Faults(world, self.database, self.network, self.hosting, self.desks)

    def _open_desk(self, number: int, ask_deadline_ms: int, *, is_near: bool) -> None:
        world = self.world
        desk = Desk(world, world.new_process(f"desk {number}"), self.history)
        desk.refs = self.hosting.refs_of(
            desk.process, is_near=is_near, ask_deadline_ms=ask_deadline_ms
        )
        desk.shelf = self.hosting.shelf.shows
        desk.offers = self.hosting.shelf.offers
        self.desks.append(desk)

    def run(self, *, with_digest: bool = False) -> Result:
        """Play the story, heal, and check."""
        with self.settings.applied():
            return self._run(with_digest)

    def _run(self, with_digest: bool) -> Result:
        world, chance = self.world, self.world.random
        quiet_ms = chance.choice((300, 800, 3_000))
        for number in range(CLIENTS_MAX if self.is_about_a_cut else chance.randint(2, CLIENTS_MAX)):
            desk = self.desks[number % len(self.desks)]
            is_staff = number == 0 and chance.random() < 0.4
            customer = Customer(f"cus_{number}")
            if number > 1 and chance.random() < 0.4:
                customer = self.clients[-1].customer
            repeats = chance.choice((0.1, 0.1, 0.1, 0.4))
            if self.is_about_a_cut and desk is self.desks[1]:
                repeats = 0.7
            client = Client(customer, desk, self.shows, is_staff=is_staff, repeats=repeats)
            self.clients.append(client)
            desk.process.spawn(client.live(STORY_MS * 1_000, quiet_ms))
        if self.is_about_a_cut:
            self.faults.plan_cut()
        else:
            self.faults.plan()
        watch = checks.Watch(self)
        watch.start()
        world.run_until(STORY_MS * 1_000)
        world.say("HEALED")
        self.faults.heal()
        watch.healed()
        self._settle()
        violations, undecided = checks.check_all(self, watch)
        result = Result(
            self.seed,
            violations,
            undecided,
            world.faults,
            world.outcomes,
            len(self.history.operations),
            self._digest() if with_digest else None,
        )
        world.end()
        return result

    def _settle(self) -> None:
        """Let everybody get an answer, and every hold an end."""
        world = self.world
        # Those who still wait for something from before the healing get it first.
        limit_us = world.now_us + HEALED_WITHIN_MS * 1_000
        world.run_until(limit_us, lambda: all(client.has_stopped for client in self.clients))
        for client in self.clients:
            client.desk.process.spawn(client.settle())
        limit_us = world.now_us + HEALED_WITHIN_MS * 1_000
        world.run_until(limit_us, lambda: all(client.is_done for client in self.clients))
        if "an owner that nobody asks" in self.spares:
            self._ask_for_nothing()
        limit_us = world.now_us + HOLDS_END_WITHIN_MS * 1_000
        world.run_until(limit_us, self._have_holds_ended)
        world.run_until(world.now_us + 50_000)
        # The show is in memory when it is compared with its journal.
        remote = RemoteActor(self.hosting, self.desks[0].process, is_near=False)
        for _ in range(WAKES_MAX):
            if not self._is_in_memory():
                self.desks[0].process.spawn(_wake(remote, self))
                world.run_until(world.now_us + 500_000, self._is_in_memory)

    def _ask_for_nothing(self) -> None:
        """Somebody asks every show something, every second; a replaced owner finds out by it."""
        self.world.after(1_000, self._ask_for_nothing)
        for desk, show in itertools.product(self.desks, self.shows):
            nobody = CustomerId("nobody")
            command = ReleaseHold(derive_hold_id(show.show_id, nobody, "none"), nobody)
            desk.process.spawn(desk.ask(show, command))

    def _have_holds_ended(self) -> bool:
        return not self.database.late and all(
            hold.state is not HoldState.HELD
            for show in self.shows
            for hold in self.database.store.holds_of(show.show_id)
        )

    def _is_in_memory(self) -> bool:
        return checks.owner_of(self) is not None

    def _digest(self) -> int:
        """A number that is the same if, and only if, the same happened."""
        lines = [repr(operation) for operation in self.history.operations]
        lines += [repr(journal) for journal in self.database.journals.values()]
        lines.append(repr((sorted(self.world.faults.items()), self.world.now_us)))
        return checks.digest("\n".join(lines))


async def _wake(remote: RemoteActor, simulation: Simulation) -> None:
    with contextlib.suppress(Exception):
        await remote.wake([show.show_id for show in simulation.shows])


def new_store() -> MemoryStore:
    """The store of a new world."""
    return MemoryStore()


@cache
def _line_directory() -> str:
    """Where shipped code believes that sockets lie. Nothing is ever written there."""
    directory = tempfile.mkdtemp(prefix="simulated")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


@contextlib.contextmanager
def virtual_machine(log: Callable[[str], None] | None = None) -> Iterator[None]:
    """Shipped code reads virtual clocks, and its log goes to the story or nowhere."""
    loggers = [logging.getLogger(room) for room in ("actors", "persistence", "asyncio")]
    before = [(logger.level, logger.propagate) for logger in loggers]
    real_time = vars(actors.clock)["time"]
    handler = _StoryHandler(log) if log is not None else None
    collector = gc.get_threshold()
    calm_collector()
    setattr(actors.clock, "time", VirtualTime)  # noqa: B010 - the module says nothing of it.
    try:
        for logger in loggers:
            logger.propagate = False
            logger.setLevel(logging.WARNING if handler else logging.CRITICAL + 1)
            if handler:
                logger.addHandler(handler)
        yield
    finally:
        gc.set_threshold(*collector)
        setattr(actors.clock, "time", real_time)  # noqa: B010
        for logger, (level, propagates) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagates
            if handler:
                logger.removeHandler(handler)


class _StoryHandler(logging.Handler):
    """Tells the log of shipped code as part of the story."""

    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        process = _process_now()
        at_s = process.world.now_us / 1e6 if process else 0.0
        name = process.name if process else "-"
        self._log(f"{at_s:10.6f}  {name} logs: {record.getMessage()}")
        if record.exc_info and record.exc_info[1] is not None:
            self._log(f"{'':12}{record.exc_info[1]!r}")


def _process_now() -> Process | None:
    loop = events._get_running_loop()
    return loop if isinstance(loop, Process) else None


def simulate(
    seed: int,
    *,
    log: Callable[[str], None] | None = None,
    with_digest: bool = False,
    spares: frozenset[str] = SPARED,
) -> Result:
    """Play one seed.

    Args:
        log: takes the story, line by line.
        spares: what is left out; see ``SPARED``.
        with_digest: work out a number that tells whether two runs of a seed were the same.
    """
    with virtual_machine(log):
        return Simulation(seed, log=log, spares=spares).run(with_digest=with_digest)
