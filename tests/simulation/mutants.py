"""Planted bugs: what the simulator must find, or it proves nothing.

Each one breaks shipped code (or, where it says so, the model of what shipped code relies on) in
one place, and names the invariants that may catch it. A test plays seeds until one of them does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from heapq import heappush
from typing import Any

from actors import show_ref
from actors.clock import SystemClock
from actors.live_show import LiveShow
from actors.local_line import LocalLine
from actors.messages import Reply
from actors.show_actor import ShowActor
from actors.show_ref import ShowRefs
from persistence import memory_journal
from persistence.group_commit import GroupCommitJournal
from persistence.memory_journal import MemoryStore
from reservation.commands import HoldBestAvailable, HoldSeats
from reservation.events import SeatsHeld
from reservation.faults import Fault, OutcomeUnknown, ShowUnavailable
from reservation.hold import HoldState
from reservation.house_seats import HouseSeats
from reservation.ids import derive_hold_id
from reservation.occupancy import Occupancy
from reservation.rejections import Rejected
from reservation.seat_map import Repeated, SeatMap
from reservation.settling import Settling
from tests.simulation.database import ModelStore
from tests.simulation.world import VirtualTime

Patch = tuple[Any, str, Any]


@dataclass(frozen=True)
class Mutant:
    """One planted bug.

    Shapes:
        caught_by: the invariants that may catch it.
        patches: (module or class, attribute, what to put there).
    """

    what: str
    caught_by: tuple[str, ...]
    patches: tuple[Patch, ...]

    @contextlib.contextmanager
    def planted(self) -> Iterator[None]:
        """The bug is there while this is open."""
        # All are looked up before any is changed: a name that is gone is an error, not a patch.
        before = [(where, name, vars(where)[name]) for where, name, _ in self.patches]
        try:
            for where, name, value in self.patches:
                setattr(where, name, value)
            yield
        finally:
            for where, name, value in before:
                setattr(where, name, value)


# -- the fence, and the claims behind it -------------------------------------------------------


def _any_epoch(self: Any, part: Any) -> bool:
    return part.show_id in self._shows


def _claim_without_looking(self: Any, seat_index: int, mask: int) -> None:
    self._taken[seat_index] = self._taken_of(seat_index) | mask


def _free_without_looking(self: Any, seat_index: int, mask: int) -> None:
    self._taken[seat_index] = self._taken_of(seat_index) & ~mask


def _find_held_in_any_state(self: Any, hold_id: str) -> Any:
    return self._find(hold_id)


_NO_FENCE: tuple[Patch, ...] = ((MemoryStore, "_is_next", _any_epoch),)
_NO_CLAIMS: tuple[Patch, ...] = (
    (memory_journal._Change, "_claim_seat", _claim_without_looking),
    (memory_journal._Change, "_free_seat", _free_without_looking),
    (memory_journal._Change, "_find_held", _find_held_in_any_state),
)


async def _load_before_the_epoch(self: Any, show: Any) -> Any:
    store = self._database.store
    early = await self._read(
        lambda: store.load(show, 0, 0) if store.epoch_of(show.show_id) else None
    )
    await asyncio.sleep(0.3)
    epoch, seq = await self._read(lambda: self._database.take_epoch(show))
    loaded = early or store.load(show, epoch, seq)
    return type(loaded)(
        epoch,
        seq,
        loaded.holds,
        loaded.blocked,
        loaded.claimed_seat_legs,
        loaded.claimed_place_legs,
        loaded.allocated,
        loaded.cancelled,
    )


# -- answers ------------------------------------------------------------------------------------

_wait_durable = ShowActor._wait_durable


async def _wait_for_nothing(self: Any, step: Any) -> Any:
    return step.broken


async def _wait_only_for_events(self: Any, step: Any) -> Any:
    if all(isinstance(answer, Rejected) for answer in step.answers):
        return step.broken
    return await _wait_durable(self, step)


async def _prove_nothing(self: Any, shows: Any) -> dict[Any, Fault]:
    return {}


def _never_drop(self: Any, show_id: Any, live: Any, appended_at_ms: int, durable: Any) -> None:
    durable.exception()


async def _do_not_look_up(self: Any, asked: Any, entries: Any) -> None:
    pass


_connection_lost = LocalLine.connection_lost


def _good_bye_that_nobody_said(self: Any, exc: Any) -> None:
    self._was_told = True
    _connection_lost(self, exc)


_withdraw = show_ref._Channel.withdraw


def _withdraw_what_has_left(self: Any, waiting: Any) -> bool:
    _withdraw(self, waiting)
    return True


_ask = ShowRefs.ask


async def _ask_again_as_another(self: Any, show_id: Any, command: Any, **more: Any) -> Any:
    try:
        return await _ask(self, show_id, command, **more)
    except OutcomeUnknown:
        if not isinstance(command, HoldSeats | HoldBestAvailable):
            raise
        hold_id = derive_hold_id(show_id, command.customer_id, command.hold_id)
        return await _ask(self, show_id, command._replace(hold_id=hold_id), **more)


async def _ask_again_and_say_no(self: Any, show_id: Any, command: Any, **more: Any) -> Any:
    try:
        return await _ask(self, show_id, command, **more)
    except OutcomeUnknown as fault:
        raise ShowUnavailable("try again later") from fault


# -- time ---------------------------------------------------------------------------------------


def _by_the_wall_clock(self: Any) -> int:
    return VirtualTime.time_ns() // 1_000_000


def _keep_own_time(self: Any, database_now_ms: int) -> None:
    pass


def _expire_nothing(self: Any, now_ms: int) -> None:
    pass


_live_show_init = LiveShow.__init__


def _forget_deadlines(self: Any, *arguments: Any) -> None:
    _live_show_init(self, *arguments)
    self._deadlines.clear()


def _no_new_deadline(self: Any, event: Any) -> None:
    self.seat_map.apply(event)
    self._step.append(event)
    if isinstance(event, SeatsHeld):
        heappush(self._deadlines, (event.expires_at_ms, event.hold_id))


_decide_expired = SeatMap.decide_expired


def _expire_by_any_deadline(self: Any, hold_ids: Any, now_ms: int) -> Any:
    held = [each for each in hold_ids if self.holds[each].state is HoldState.HELD]
    deadlines = {each: self.holds[each].expires_at_ms for each in held}
    try:
        for each in held:
            self.holds[each].expires_at_ms = now_ms
        return _decide_expired(self, held, now_ms)
    finally:
        for each, deadline_ms in deadlines.items():
            self.holds[each].expires_at_ms = deadline_ms


_live_hold = Settling._live_hold


def _live_for_ever(self: Any, hold_id: Any, customer_id: Any, now_ms: int) -> Any:
    return _live_hold(self, hold_id, customer_id, 0)


# -- rules --------------------------------------------------------------------------------------

_restore = SeatMap.restore


def _restore_without_the_ended(self: Any, holds: Any, *others: Any) -> None:
    _restore(self, [each for each in holds if each.keeps_places], *others)


_decide = SeatMap.decide


def _answer_with_a_new_deadline(self: Any, command: Any, now_ms: int) -> Any:
    outcome = _decide(self, command, now_ms)
    if isinstance(outcome, Repeated) and isinstance(outcome.event, SeatsHeld):
        return Repeated(outcome.event._replace(expires_at_ms=now_ms))
    return outcome


def _nothing_exceeds(self: Any, customer_id: Any, places: int) -> bool:
    return False


def _give_to_everybody(self: Any, seat_indexes: Any, legs: int) -> None:
    pass


def _stop_nothing(self: Any, event: Any) -> None:
    self.cancelled = event._replace(hold_ids=())


async def _renew_nothing(self: Any, show_id: Any) -> None:
    pass


async def _renew_what_is_in_memory(self: Any, show_id: Any) -> None:
    # A show that is being activated, perhaps by what the catalogue said a moment ago, is not.
    if self._live.get(show_id) is not None:
        await _renew(self, show_id)


_renew = ShowActor.renew


def _trust_every_epoch(self: Any, reply: Any) -> set[Any]:
    return set()


async def _resolve_by_guessing(self: Any, asked: Any, entries: Any) -> None:
    self._written([each for each in asked if each in entries], entries)


def _occupy_without_looking(self: Any, seat_indexes: Any, mask: int) -> None:
    for index in seat_indexes:
        self.taken[index] |= mask


def _vacate_without_looking(self: Any, seat_indexes: Any, mask: int) -> None:
    for index in seat_indexes:
        self.taken[index] &= ~mask


async def _let_go_while_deciding(self: Any, requests: Any) -> Any:
    """Decides, lets go of the event loop, and only then applies."""
    answers: list[Any] = []
    epochs: dict[Any, int] = {}
    self.start()
    faults = await self._activate_all(
        dict.fromkeys([each for each, _ in requests if each not in self._live])
    )
    for show_id, command in requests:
        live = self._live.get(show_id)
        if live is None:
            answers.append(faults.get(show_id, ShowUnavailable("it is being activated")))
            continue
        outcome = live.seat_map.decide(command, self._clock.now_ms())
        await asyncio.sleep(0.03)
        try:
            if not isinstance(outcome, Rejected | Repeated):
                live._happened(outcome)
                self._append(show_id, live)
            if live.tail is not None:
                await asyncio.shield(live.tail)
            answers.append(outcome)
            epochs[show_id] = live.epoch
        except Fault as fault:
            answers.append(fault)
        except Exception:
            answers.append(self._stop_serving_after_bug(show_id, command))
    return Reply(answers, epochs)


MUTANTS: dict[str, Mutant] = {
    "no_fence": Mutant("the store takes batches of any epoch", ("I7",), _NO_FENCE),
    "no_fence_no_claims": Mutant(
        "the store takes batches of any epoch, and claims of what is claimed",
        ("I1",),
        (*_NO_FENCE, *_NO_CLAIMS),
    ),
    "load_before_epoch": Mutant(
        "an activation loads the show before its epoch fences the others (model of the store)",
        ("I1", "I5", "I7", "I9", "I10"),
        ((ModelStore, "activate", _load_before_the_epoch),),
    ),
    "ack_before_commit": Mutant(
        "answers leave before anything is durable",
        ("I2",),
        ((ShowActor, "_wait_durable", _wait_for_nothing),),
    ),
    "refusal_before_commit": Mutant(
        "rejections leave before what they rest on is durable",
        ("I9",),
        ((ShowActor, "_wait_durable", _wait_only_for_events),),
    ),
    "unproved_answers": Mutant(
        "answers without a commit leave without a proof of ownership",
        ("I9",),
        ((ShowActor, "_prove_ownership", _prove_nothing),),
    ),
    "stale_epochs_trusted": Mutant(
        "a ref takes answers of an owner that it knows to be replaced",
        ("I9",),
        ((show_ref._Channel, "_stale_shows", _trust_every_epoch),),
    ),
    "fenced_show_kept": Mutant(
        "a show whose append failed stays in memory",
        ("I11", "I7"),
        ((ShowActor, "_landed", _never_drop),),
    ),
    "no_look_up": Mutant(
        "after silence a batch is sent again, and nobody looks whether it was written",
        ("I2",),
        ((GroupCommitJournal, "_look_up", _do_not_look_up),),
    ),
    "silence_means_yes": Mutant(
        "after silence a batch counts as written",
        ("I2", "I7"),
        ((GroupCommitJournal, "_look_up", _resolve_by_guessing),),
    ),
    "line_end_means_no": Mutant(
        "a line that breaks counts as a good-bye: NotDone for what was taken",
        ("I2",),
        ((LocalLine, "connection_lost", _good_bye_that_nobody_said),),
    ),
    "deadline_means_no": Mutant(
        "a question without an answer counts as NotDone",
        ("I2",),
        ((show_ref._Channel, "withdraw", _withdraw_what_has_left),),
    ),
    "unknown_means_no": Mutant(
        "a ref says NotDone where it does not know",
        ("I2",),
        ((ShowRefs, "ask", _ask_again_and_say_no),),
    ),
    "retry_with_new_id": Mutant(
        "a ref asks again under another id when it does not know",
        ("I2",),
        ((ShowRefs, "ask", _ask_again_as_another),),
    ),
    "wall_clock": Mutant(
        "deadlines are measured by the wall clock of the node",
        ("I5", "I4"),
        ((SystemClock, "now_ms", _by_the_wall_clock),),
    ),
    "clock_not_anchored": Mutant(
        "the database is never asked for the time",
        ("I5", "I4"),
        ((SystemClock, "anchor", _keep_own_time),),
    ),
    "no_expiry": Mutant(
        "the ticker ends no hold", ("I4",), ((LiveShow, "expire_due", _expire_nothing),)
    ),
    "timers_lost_at_activation": Mutant(
        "an owner forgets the deadlines of the holds that it loads",
        ("I4",),
        ((LiveShow, "__init__", _forget_deadlines),),
    ),
    "timer_lost_at_extension": Mutant(
        "an extended hold loses its timer", ("I4",), ((LiveShow, "_happened", _no_new_deadline),)
    ),
    "old_deadline": Mutant(
        "an extended hold ends by its old deadline",
        ("I5",),
        ((SeatMap, "decide_expired", _expire_by_any_deadline),),
    ),
    "confirm_after_deadline": Mutant(
        "a hold can be confirmed until its seats are freed",
        ("I5",),
        ((Settling, "_live_hold", _live_for_ever),),
    ),
    "ended_holds_not_restored": Mutant(
        "an owner does not know the ended holds that it took over",
        ("I1", "I7", "I9", "I11"),
        ((SeatMap, "restore", _restore_without_the_ended),),
    ),
    "another_answer": Mutant(
        "a repeated question gets another deadline",
        ("I6",),
        ((SeatMap, "decide", _answer_with_a_new_deadline),),
    ),
    "no_limits": Mutant(
        "nobody counts the places of a customer",
        ("I10",),
        ((SeatMap, "_exceeds_seats", _nothing_exceeds),),
    ),
    "channel_seats_for_everybody": Mutant(
        "a seat that comes back is on general sale, whatever channel it belongs to",
        ("I1", "I7", "I9"),
        ((HouseSeats, "take_back", _give_to_everybody),),
    ),
    "sold_after_cancelling": Mutant(
        "a cancelled show is sold on",
        ("I1",),
        ((SeatMap, "_stop_selling", _stop_nothing),),
    ),
    "renewed_without_reading": Mutant(
        "an owner that is told that its show was changed goes on as before",
        ("I12",),
        ((ShowActor, "renew", _renew_nothing),),
    ),
    "renewed_while_activating": Mutant(
        "an activation under way is not minded when a show is renewed",
        ("I12",),
        ((ShowActor, "renew", _renew_what_is_in_memory),),
    ),
    "decide_and_apply_apart": Mutant(
        "other commands run between deciding and applying, and neither book of claims minds",
        ("I1",),
        (
            (ShowActor, "submit", _let_go_while_deciding),
            (Occupancy, "claim", _occupy_without_looking),
            (Occupancy, "release", _vacate_without_looking),
            *_NO_CLAIMS,
        ),
    ),
}
