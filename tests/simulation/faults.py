"""What goes wrong in one seed, and when.

Every seed chooses some kinds of faults and leaves the others out (swarm testing): a story in
which everything goes wrong at once shows less than many that go wrong in different ways.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.simulation.database import ModelDatabase, Trouble
from tests.simulation.hosting import Hosting, Incarnation
from tests.simulation.network import Network
from tests.simulation.story import STORY_MS, Desk
from tests.simulation.world import Process, World

WATCHDOG_MS = 2_500
"""A process that is stopped for longer is killed (actors.watchdog)."""


class Faults:
    """The nemesis of one world."""

    def __init__(
        self,
        world: World,
        database: ModelDatabase,
        network: Network,
        hosting: Hosting,
        desks: Sequence[Desk],
    ) -> None:
        self._world = world
        self._database = database
        self._network = network
        self._hosting = hosting
        self._desks = desks
        self._have_healed = False

    def plan(self) -> None:
        """Choose what will go wrong, and put it on the agenda."""
        chance = self._world.random
        self._choose_rates()
        single: list[Callable[[], None]] = [
            self._kill_actor,
            self._pause_actor,
            self._stop_actor_until_killed,
            self._replace_actor,
            self._freeze_and_replace_actor,
            self._jump_wall_clock,
            self._crash_database,
            self._break_lines,
            self._pause_desk,
        ]
        chosen = [fault for fault in single if chance.random() < 0.35]
        if chance.random() < 0.3:
            # Two owners at one time are what the fence is for: they must not be rare.
            chosen += [self._replace_actor, self._freeze_and_replace_actor]
        for _ in range(chance.randint(0, 5) if chosen else 0):
            self._world.after(chance.uniform(200, STORY_MS), self._unless_healed(chosen))

    def plan_cut(self) -> None:
        """Only this goes wrong: an owner is replaced, and lives on among callers that have a line
        to it, or are led to it."""
        self._hosting.stale_directory = self._world.random.choice((0.0, 0.5))
        for _ in range(2):
            self._world.after(
                self._world.random.uniform(500, STORY_MS - 1_000),
                self._unless_healed([self._replace_actor, self._freeze_and_replace_actor]),
            )

    def _choose_rates(self) -> None:
        chance = self._world.random

        def rate(high: float) -> float:
            return chance.uniform(0, high) if chance.random() < 0.3 else 0.0

        self._database.trouble = Trouble(
            lost_request=rate(0.1),
            lost_reply=rate(0.15),
            late_request=rate(0.1),
            slow=rate(0.2),
            busy=rate(0.1),
            refused=rate(0.05),
        )
        self._network.slow_probability = rate(0.05)
        self._hosting.call_loss = rate(0.08)
        self._hosting.call_delay = rate(0.08)
        self._hosting.stale_directory = rate(0.5) or rate(0.5)
        for desk in self._desks:
            desk.hang_up = rate(0.2)

    def _unless_healed(self, chosen: Sequence[Callable[[], None]]) -> Callable[[], None]:
        fault = self._world.random.choice(chosen)

        def happen() -> None:
            if not self._have_healed:
                fault()

        return happen

    def heal(self) -> None:
        """From now on everything works."""
        self._have_healed = True
        self._database.trouble = Trouble()
        self._database.recover()
        self._network.slow_probability = 0.0
        self._hosting.call_loss = self._hosting.call_delay = 0.0
        self._hosting.stale_directory = 0.0
        for desk in self._desks:
            desk.hang_up = 0.0
            desk.process.resume()
        for zombie in list(self._hosting.zombies):
            self._hosting.end(zombie)
        if self._hosting.current is not None:
            self._hosting.current.process.resume()

    # -- single faults ------------------------------------------------------------------------

    def _note(self, what: str) -> None:
        self._world.faults[what] += 1
        self._world.say(f"FAULT {what}")

    def _kill_actor(self) -> None:
        if self._hosting.living:
            self._note("actor killed")
            self._hosting.end(self._world.random.choice(self._hosting.living))

    def _pause_actor(self) -> None:
        if self._hosting.living:
            self._note("actor paused")
            incarnation = self._world.random.choice(self._hosting.living)
            self._stop(incarnation.process, self._world.random.uniform(20, WATCHDOG_MS))

    def _stop_actor_until_killed(self) -> None:
        incarnation = self._hosting.current
        if incarnation is not None:
            self._note("actor stopped and killed by the watchdog")
            incarnation.process.stop_running()
            self._world.after(WATCHDOG_MS + 300, self._end_if_stopped, incarnation)

    def _end_if_stopped(self, incarnation: Incarnation) -> None:
        if incarnation.process.is_stopped and not incarnation.process.is_dead:
            self._hosting.end(incarnation)

    def _replace_actor(self) -> None:
        zombie = self._hosting.replace()
        if zombie is not None:
            self._note("actor replaced while it lives")
            self._world.after(self._world.random.uniform(1_000, 4_000), self._end_zombie, zombie)

    def _freeze_and_replace_actor(self) -> None:
        zombie = self._hosting.replace()
        if zombie is not None:
            self._note("actor frozen and replaced")
            frozen_ms = self._world.random.uniform(100, 3_000)
            self._stop(zombie.process, frozen_ms)
            self._world.after(frozen_ms + 1_500, self._end_zombie, zombie)

    def _end_zombie(self, zombie: Incarnation) -> None:
        if zombie in self._hosting.zombies:
            self._hosting.end(zombie)

    def _jump_wall_clock(self) -> None:
        for incarnation in self._hosting.living:
            self._note("wall clock jumps")
            incarnation.process.wall_error_ms += self._world.random.choice(
                (-3_600_000, -5_000, 5_000, 3_600_000)
            )

    def _crash_database(self) -> None:
        if not self._database.is_down:
            self._note("store crashes")
            self._database.crash()
            self._world.after(self._world.random.uniform(50, 2_500), self._database.recover)

    def _break_lines(self) -> None:
        for stream in self._network.streams:
            if not stream.is_broken:
                self._note("line breaks")
                stream.break_off()

    def _pause_desk(self) -> None:
        self._note("caller paused")
        desk = self._world.random.choice(self._desks)
        self._stop(desk.process, self._world.random.uniform(20, 1_500))

    def _stop(self, process: Process, duration_ms: float) -> None:
        process.stop_running()
        self._world.after(duration_ms, process.resume)
