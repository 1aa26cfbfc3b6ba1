"""The show actor: owns one show, or a pool of them, and answers for them.

Theory of operation
-------------------
A batch of commands arrives. Shows that are not in memory are activated first; for one that takes
long only its own callers wait, by asking again. Then, in one event-loop step, every command is
decided and applied and the events of each show are appended to the journal. Then the actor waits
until what it decided on is durable, and answers.

    submit -> activate missing shows -> [ decide, apply, ... append ] -> durable -> answer
              (await)                      one event-loop step           (await)

Commands are never processed in the caller's coroutine across an ``await``: a caller that hangs
up can cancel the waiting, never the deciding. An answer leaves only when the newest event of
its show is durable, also a rejection, because it may be the consequence of a hold that is not
durable yet.

A ticker runs ten times a second: it expires holds, leaves a sign of life for the watchdog,
lets idle shows go. There are no other timers.

What makes the actor stop serving a show (never the whole process, a neighbour has done nothing
wrong): a newer epoch, a store that refuses what memory believed, an assertion. The show is
dropped from memory and the next command activates it again from the store.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import NamedTuple

from actors.choosers import Choosers
from actors.clock import Clock, anchor
from actors.live_show import LiveShow, restored_map
from actors.messages import ActorStatus, Reply, Request, ShowStatus
from actors.process import private_bytes, process_id
from actors.seat_map_publisher import NoPublisher, Publisher
from actors.show_source import ShowSource, load_own
from persistence.journal import Journal
from reservation.commands import BeyondPlan, Priority, priority_of
from reservation.faults import (
    Fault,
    NotDone,
    OutcomeUnknown,
    Overloaded,
    ShowMoved,
    ShowUnavailable,
)
from reservation.ids import ShowId
from reservation.seat_map import Outcome
from reservation.show import Placement

log = logging.getLogger(__name__)

TICK_MS = 100
"""Ten times a second: a hold ends well within a second of its deadline, for 20 microseconds."""

CLOSE_TIMEOUT_MS = 3_000
"""A database that does not answer must not keep an actor from leaving."""

OWNERSHIP_TRUSTED_MS = 2_000
"""An answer that was not proved by a commit needs a proof of ownership younger than this."""

STALL_TOLERATED_MS = 1_500
"""While the store has been silent for longer, new claims are refused instead of queued."""

HOUSEKEEPING_MS = 1_000
"""From the end of one round through all shows to the next."""

SHOWS_KEPT_AT_ONCE_MAX = 100
"""At one tick: looking after thousands of shows at once would hold up every command. Nothing is in
a hurry here; ten thousand shows have their turn every ten seconds."""

ACTIVATION_AWAITED_S = 0.25
"""So long after its activation began, a batch waits for a show. Then its neighbours are answered
without it, and whoever asks for it hears that nothing was done."""

_PENDING: Fault = ShowUnavailable("the show is being activated")


class _Activating(NamedTuple):
    """A show on its way into memory."""

    task: asyncio.Task[Fault | None]
    begun_at_s: float


class _Step(NamedTuple):
    """What one event-loop step decided, and what its answers wait for."""

    answers: list[Outcome | Fault]
    touched: dict[ShowId, LiveShow]
    tails: dict[ShowId, asyncio.Future[int] | None]
    written: set[ShowId]
    broken: dict[ShowId, Fault]


class ShowActor:
    """One or many shows, held in memory by one process; journaled before any answer leaves.

    What an answer means:
        Event: durable in Postgres; it survives the loss of this process.
        Repeated: the same command was done before and is durable.
        Rejected: nothing changed. Asking again can help only if ``code.is_transient``.
        NotDone: nothing changed and nothing will; ask again freely.
        OutcomeUnknown: it may or may not have happened. Ask again with the SAME id.

    One writer: the epoch taken at activation fences every older copy of this actor.
    """

    def __init__(
        self,
        name: str,
        placement: Placement,
        source: ShowSource,
        journal: Journal,
        clock: Clock,
        *,
        passivate_after_ms: int,
        mailbox_commands_max: int,
        beat: Callable[[], None] = lambda: None,
        on_idle: Callable[[], None] = lambda: None,
        publisher: Publisher | None = None,
    ) -> None:
        """Make the actor; nothing is loaded and nobody is contacted yet.

        ``beat`` leaves a sign of life; ``on_idle`` tells the host that a dedicated actor has
        nothing to do any more; ``publisher`` shows readers what is durable.
        """
        self.name = name
        self._placement = placement
        self._source = source
        self._journal = journal
        self._clock = clock
        self._passivate_after_ms = passivate_after_ms
        self._mailbox_commands_max = mailbox_commands_max
        self._beat = beat
        self._on_idle = on_idle
        self._publisher = publisher or NoPublisher()
        self._live: dict[ShowId, LiveShow] = {}
        self._activating: dict[ShowId, _Activating] = {}
        # When to look at which show; a show that is not awaited then has left, or comes later.
        self._deadlines: list[tuple[int, ShowId]] = []
        self._to_keep: list[ShowId] | None = None
        self._choosers = Choosers()
        self._ticker: asyncio.Task[None] | None = None
        self._answering = 0
        self._is_anchored = False
        self._housekept_at_ms = clock.now_ms()
        self._last_used_at_ms = clock.now_ms()
        self._is_retiring = False

    # -- what callers may ask -----------------------------------------------------------

    async def submit(self, requests: Sequence[Request]) -> Reply:
        """Answer a batch of commands, each as if it were alone.

        Never raises for a single command's trouble: a fault is an answer.
        """
        if self._is_retiring:
            gone = ShowMoved("the actor is leaving", retry_after_ms=50)
            return Reply([gone] * len(requests), {})
        self._last_used_at_ms = self._clock.now_ms()
        self._answering += 1
        self.start()
        try:
            # Not a set: in which order shows are activated must be the same in every run.
            missing = dict.fromkeys([each for each, _ in requests if each not in self._live])
            faults = await self._activate_all(missing, ACTIVATION_AWAITED_S) if missing else {}
            step = self._step(requests, faults)
            return self._reply(requests, step, await self._wait_durable(step))
        finally:
            self._answering -= 1
            self._last_used_at_ms = self._clock.now_ms()

    async def wake(self, show_ids: Sequence[ShowId]) -> None:
        """Bring shows into memory, so that their overdue holds end."""
        if self._is_retiring:
            return
        self.start()
        # A show in memory here may have been taken over by an owner that is gone again.
        live = {each: self._live[each] for each in show_ids if each in self._live}
        if live:
            await self._prove_ownership(live)
        await self._activate_all([each for each in show_ids if each not in self._live])

    async def hand_over(self, show_id: ShowId) -> None:
        """Let a show go and finish what is in flight for it, so that another actor can own it."""
        activating = self._activating.get(show_id)
        if activating is not None:
            await asyncio.wait([activating.task])
        self._drop(show_id, "handed over")
        await self._settle(show_id)

    async def renew(self, show_id: ShowId) -> None:
        """Read anew what the show is made of: its plan, fares, policy.

        When this returns, nothing is sold any more by what the catalogue said before it was called,
        not even by a replaced owner that is not dead yet: the show is active with a new epoch.
        Nothing is lost: what is on its way becomes durable first, and commands that come meanwhile
        wait.

        Raises:
            NotDone: the show is not active, or as it was; ``ShowMoved`` when its owner is another.
        """
        if self._is_retiring:
            raise ShowMoved("the actor is leaving", retry_after_ms=50)
        self._last_used_at_ms = self._clock.now_ms()
        self.start()
        activating = self._activating.get(show_id)
        if activating is not None:
            # It may have read the catalogue already.
            await asyncio.wait([activating.task])
        self._drop(show_id, "its facts have changed")
        faults = await self._activate_all([show_id])
        self._forget_unused_choosers()
        if show_id in faults:
            raise faults[show_id]

    async def drain(self) -> bool:
        """Stop taking commands and disconnect, when nobody needs this actor.

        Returns:
            False when somebody needs it after all; then it goes on serving.
        """
        if self._activating or not self._is_unused(self._clock.now_ms()):
            return False
        self._is_retiring = True
        if self._ticker is not None:
            self._ticker.cancel()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_MS / 1_000):
                await self._journal.close()
        except Exception:
            # Everything is durable; only the good manners towards the database are lost.
            log.exception("%s could not disconnect before it leaves", self.name)
        return True

    async def status(self) -> ActorStatus:
        """What this actor holds in memory."""
        shows = [
            ShowStatus(show_id, live.epoch, live.seat_map.live_hold_count, len(live.seat_map.holds))
            for show_id, live in self._live.items()
        ]
        return ActorStatus(
            self.name, process_id(), private_bytes(), self._journal.waiting_commands, shows
        )

    # -- the step -----------------------------------------------------------------------

    def _step(self, requests: Sequence[Request], faults: dict[ShowId, Fault]) -> _Step:
        """Decide and apply every command and append the events: one event-loop step."""
        now_ms = self._clock.now_ms()
        answers: list[Outcome | Fault] = []
        touched: dict[ShowId, LiveShow] = {}
        broken: dict[ShowId, Fault] = {}
        refusal = self._refusals()
        for show_id, command in requests:
            live = self._live.get(show_id)
            if live is None:
                answers.append(broken.get(show_id) or faults.get(show_id, _PENDING))
                continue
            fault = refusal[priority_of(command)] if refusal else None
            if fault is not None:
                answers.append(fault)
                continue
            try:
                answers.append(live.run(command, now_ms))
                touched[show_id] = live
            except BeyondPlan as error:
                broken[show_id] = self._read_plan_anew(show_id, error)
                answers.append(broken[show_id])
                touched.pop(show_id, None)
            except Exception:
                broken[show_id] = self._stop_serving_after_bug(show_id, command)
                answers.append(broken[show_id])
                touched.pop(show_id, None)
        written = {show_id for show_id, live in touched.items() if self._append(show_id, live)}
        # The tails are read in this very step: after an await they may be others', or gone.
        tails = {show_id: live.tail for show_id, live in touched.items()}
        return _Step(answers, touched, tails, written, broken)

    def _append(self, show_id: ShowId, live: LiveShow) -> bool:
        """Hand what happened to the journal, if anything did, and watch over its journey.

        Not the callers watch over it: they may hang up, and an expiry has none.
        """
        step = live.take_step()
        if not step:
            return False
        self._await_deadline(show_id, live)
        durable = self._journal.append(show_id, step)
        durable.add_done_callback(partial(self._landed, show_id, live, self._clock.now_ms()))
        live.appended(durable)
        self._publisher.appended(show_id, step, durable)
        return True

    def _landed(
        self, show_id: ShowId, live: LiveShow, appended_at_ms: int, durable: asyncio.Future[int]
    ) -> None:
        """An append has ended; when it failed, this activation of the show is over."""
        fault = durable.exception()
        if fault is None:
            # When it became durable is not known, only that it was later than this. The answer
            # may have waited for a process that was suspended.
            live.owned_at_ms = max(live.owned_at_ms, appended_at_ms)
        elif self._live.get(show_id) is live:
            self._drop(show_id, str(fault))

    def _refusals(self) -> dict[Priority, Fault | None] | None:
        """Which commands cannot be taken now; settling commands have twice the room."""
        waiting = self._journal.waiting_commands
        if self._journal.stalled_ms > STALL_TOLERATED_MS:
            claim: Fault | None = ShowUnavailable("the database does not answer")
        elif waiting >= self._mailbox_commands_max:
            claim = Overloaded(f"{waiting} commands are waiting")
        else:
            return None
        too_long = waiting >= 2 * self._mailbox_commands_max
        settle = Overloaded(f"{waiting} commands are waiting") if too_long else None
        return {Priority.CLAIM: claim, Priority.SETTLE: settle}

    def _stop_serving_after_bug(self, show_id: ShowId, command: object) -> Fault:
        """Memory of this show cannot be trusted any more: drop it, reload on the next command."""
        log.exception("bug: %s stops serving %s on %r", self.name, show_id, command)
        self._drop(show_id, "a bug")
        return OutcomeUnknown("an internal error stopped the show; it reloads")

    def _read_plan_anew(self, show_id: ShowId, error: BeyondPlan) -> Fault:
        """A caller knows seats that this owner does not: the plan was revised a moment ago."""
        self._drop(show_id, f"its plan may be an old one: {error}")
        return ShowUnavailable("the show's plan is read anew", retry_after_ms=50)

    # -- answering ----------------------------------------------------------------------

    async def _wait_durable(self, step: _Step) -> dict[ShowId, Fault]:
        """Wait until everything the step decided on is durable.

        Returns:
            The shows whose answers cannot be given, with the fault to give instead.
        """
        faults = step.broken
        unproved: dict[ShowId, LiveShow] = {}
        for show_id, tail in step.tails.items():
            if tail is not None:
                try:
                    if not tail.done():  # Those of one commit end together.
                        # Shielded: a caller that hangs up must not cancel what others wait for.
                        await asyncio.shield(tail)
                    tail.result()
                except Fault as fault:
                    faults[show_id] = fault
                    continue
                if show_id in step.written:
                    continue
                # An earlier step's commit may be from before this process was suspended.
            live = step.touched[show_id]
            if self._clock.now_ms() - live.owned_at_ms > OWNERSHIP_TRUSTED_MS:
                unproved[show_id] = live
        if unproved:
            faults.update(await self._prove_ownership(unproved))
        return faults

    async def _prove_ownership(self, shows: dict[ShowId, LiveShow]) -> dict[ShowId, Fault]:
        """Ask the store whether these shows are still ours: answers without a commit need it.

        This is also how an actor that was suspended, or cut off, finds out before it answers.
        """
        asked_at_ms = self._clock.now_ms()
        try:
            lost = await self._journal.lost(shows)
        except NotDone as fault:
            return dict.fromkeys(shows, fault)
        faults: dict[ShowId, Fault] = {}
        for show_id, live in shows.items():
            # If it is another activation by now, the proof is not about the one that answered.
            is_current = self._live.get(show_id) is live
            if is_current and show_id not in lost:
                live.owned_at_ms = max(live.owned_at_ms, asked_at_ms)
                continue
            faults[show_id] = ShowUnavailable("the show moved", retry_after_ms=50)
            if is_current:
                self._drop(show_id, "a newer owner exists")
        return faults

    @staticmethod
    def _reply(requests: Sequence[Request], step: _Step, faults: dict[ShowId, Fault]) -> Reply:
        answers = step.answers
        if faults:
            answers = [
                answer if isinstance(answer, Fault) else faults.get(show_id, answer)
                for (show_id, _), answer in zip(requests, answers, strict=True)
            ]
        return Reply(answers, {show_id: live.epoch for show_id, live in step.touched.items()})

    # -- activation and passivation ---------------------------------------------------------

    async def _activate_all(
        self, show_ids: Iterable[ShowId], within_s: float = math.inf
    ) -> dict[ShowId, Fault]:
        """Activate these shows, each once however many callers wait for it.

        Returns:
            The shows that are not active, with the reason. ``within_s`` after its activation began,
            a show is not waited for any more; the activation goes on.
        """
        now_s = asyncio.get_running_loop().time()
        all_of_them: dict[ShowId, _Activating] = {}
        for show_id in show_ids:
            activating = self._activating.get(show_id)
            if activating is None:
                activating = _Activating(asyncio.ensure_future(self._activate(show_id)), now_s)
                self._activating[show_id] = activating
                activating.task.add_done_callback(partial(self._activated, show_id))
            all_of_them[show_id] = activating
        left_s = {each.task: each.begun_at_s + within_s - now_s for each in all_of_them.values()}
        awaited = [task for task, seconds in left_s.items() if seconds > 0]
        if awaited:
            longest_s = max(left_s.values())
            await asyncio.wait(awaited, timeout=longest_s if longest_s < math.inf else None)
        faults: dict[ShowId, Fault] = {}
        for show_id, (task, _) in all_of_them.items():
            fault = task.result() if task.done() else _PENDING
            if fault is not None:
                faults[show_id] = fault
        return faults

    def _activated(self, show_id: ShowId, _: asyncio.Task[Fault | None]) -> None:
        del self._activating[show_id]

    async def _activate(self, show_id: ShowId) -> Fault | None:
        try:
            # Events of an earlier activation may still be on their way; they must land
            # before a new epoch would fence them.
            await self._settle(show_id)
            show = await load_own(self._source, show_id, self._placement)
            await self._anchor_clock()
            while True:
                owned_at_ms = self._clock.now_ms()
                activation = await self._journal.activate(show)
                again = await load_own(self._source, show_id, self._placement)
                if again == show:
                    break
                # It was renewed by another owner before our epoch fenced that one.
                show = again
            seat_map = restored_map(show, self._choosers.of(show.plan), activation)
        except Fault as fault:
            return fault
        except Exception:
            log.exception("bug: %s cannot activate %s", self.name, show_id)
            return ShowUnavailable(f"{show_id} cannot be loaded", retry_after_ms=5_000)
        now_ms = self._clock.now_ms()
        live = LiveShow(seat_map, activation.epoch, now_ms, owned_at_ms)
        self._live[show_id] = live
        self._publisher.opened(show, activation)
        self._work_on(show_id, live, partial(live.expire_due, now_ms))
        self._await_deadline(show_id, live)
        return None

    async def _anchor_clock(self) -> None:
        """Take the store's time, once: from then on only the monotonic clock counts."""
        if not self._is_anchored:
            await anchor(self._clock, self._journal.now_ms)
            self._is_anchored = True
            # These were taken from a clock that may have been hours away.
            self._housekept_at_ms = self._last_used_at_ms = self._clock.now_ms()

    async def _settle(self, show_id: ShowId) -> None:
        tail = self._journal.tail(show_id)
        if tail is not None:
            await asyncio.wait([tail])
        self._journal.forget(show_id)

    def _drop(self, show_id: ShowId, reason: str) -> None:
        if self._live.pop(show_id, None) is not None:
            self._publisher.closed(show_id)
            log.warning("%s drops %s from memory: %s", self.name, show_id, reason)

    # -- the ticker ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin to show life and to do what nobody asks for. Harmless to repeat."""
        if self._ticker is None or self._ticker.done():
            self._ticker = asyncio.ensure_future(self._tick_forever())

    async def _tick_forever(self) -> None:
        while True:
            for duty in (self._beat, self.tick):
                try:
                    duty()
                except Exception:
                    # A full disk stops the signs of life; holds must end all the same.
                    log.exception("the ticker of %s cannot do its work", self.name)
            await asyncio.sleep(TICK_MS / 1_000)

    def tick(self) -> None:
        """What must happen without anybody asking. Called ten times a second."""
        now_ms = self._clock.now_ms()
        # All of them first: a show that has a deadline behind it even afterwards waits for the
        # next tick, and cannot keep this one from ending.
        due = []
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            due.append(heappop(self._deadlines))
        for deadline_ms, show_id in due:
            live = self._live.get(show_id)
            if live is not None and live.awaited_at_ms == deadline_ms:
                live.awaited_at_ms = None
                self._work_on(show_id, live, partial(live.expire_due, now_ms))
                self._await_deadline(show_id, live)
        if self._to_keep is None and now_ms - self._housekept_at_ms >= HOUSEKEEPING_MS:
            self._to_keep = list(self._live)
        if self._to_keep is not None:
            self._keep_house(self._to_keep, now_ms)

    def _await_deadline(self, show_id: ShowId, live: LiveShow) -> None:
        """Look at the show when the next of its holds may expire, if that is not awaited yet."""
        deadline_ms = live.next_deadline_ms
        if deadline_ms is None:
            return
        if live.awaited_at_ms is None or deadline_ms < live.awaited_at_ms:
            live.awaited_at_ms = deadline_ms
            heappush(self._deadlines, (deadline_ms, show_id))

    def _keep_house(self, to_keep: list[ShowId], now_ms: int) -> None:
        kept = to_keep[:SHOWS_KEPT_AT_ONCE_MAX]
        del to_keep[:SHOWS_KEPT_AT_ONCE_MAX]
        has_let_go = False
        for show_id in kept:
            live = self._live.get(show_id)
            if live is None:
                continue
            # Most shows have nothing to forget and were asked a moment ago.
            if live.seat_map.has_ended_holds:
                self._work_on(show_id, live, partial(live.forget_ended, now_ms))
            if live.is_idle(now_ms, self._passivate_after_ms) and live.tail is None:
                del self._live[show_id]
                self._publisher.closed(show_id)
                self._journal.forget(show_id)
                has_let_go = True
        if has_let_go:
            self._forget_unused_choosers()
        if to_keep:
            return
        self._to_keep = None
        self._housekept_at_ms = now_ms
        if self._placement is Placement.DEDICATED and self._is_unused(now_ms):
            self._on_idle()

    def _work_on(self, show_id: ShowId, live: LiveShow, work: Callable[[], None]) -> None:
        """Run work that may make events without a caller."""
        try:
            work()
        except Exception:
            self._stop_serving_after_bug(show_id, "the ticker's own work")
        else:
            self._append(show_id, live)

    def _is_unused(self, now_ms: int) -> bool:
        if now_ms - self._last_used_at_ms < self._passivate_after_ms:
            return False
        return not (self._live or self._answering or self._journal.waiting_commands)

    def _forget_unused_choosers(self) -> None:
        self._choosers.keep_only(each.seat_map.show.plan for each in self._live.values())
