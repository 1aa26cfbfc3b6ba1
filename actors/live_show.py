"""A show in memory: its seat map, the epoch it was activated with, and its deadlines."""

from __future__ import annotations

from asyncio import Future
from heapq import heappop, heappush

from persistence.journal import Activation
from reservation.commands import Command
from reservation.events import Event, HeldFromChannel, HoldExtended, SeatsHeld
from reservation.hold import HoldState
from reservation.ids import HoldId
from reservation.rejections import Rejected
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Outcome, Repeated, SeatMap
from reservation.show import Show

_NOTHING_HAPPENED = (Rejected, Repeated)


class LiveShow:
    """One activated show.

    Everything that changes the show goes through ``run`` or ``expire_due``: decide and apply
    in one call without an ``await``, the events of the step collected for the journal.

    Units:
        last_command_at_ms: when somebody last asked for something.
        owned_at_ms: a moment at which this epoch is known to have owned the show.
        awaited_at_ms: for which deadline somebody will look at the show again; its owner's note.
    """

    __slots__ = (
        "_deadlines",
        "_step",
        "_tail",
        "awaited_at_ms",
        "epoch",
        "last_command_at_ms",
        "owned_at_ms",
        "seat_map",
    )

    def __init__(self, seat_map: SeatMap, epoch: int, now_ms: int, owned_at_ms: int) -> None:
        self.seat_map = seat_map
        self.epoch = epoch
        self.last_command_at_ms = now_ms
        self.owned_at_ms = owned_at_ms
        self.awaited_at_ms: int | None = None
        self._step: list[Event] = []
        self._tail: Future[int] | None = None
        self._deadlines: list[tuple[int, HoldId]] = []
        for hold_id, hold in seat_map.holds.items():
            if hold.state is HoldState.HELD:
                heappush(self._deadlines, (hold.expires_at_ms, hold_id))

    def run(self, command: Command, now_ms: int) -> Outcome:
        """Decide and apply one command. What happened waits in ``take_step``."""
        self.last_command_at_ms = now_ms
        outcome = self.seat_map.decide(command, now_ms)
        if isinstance(outcome, _NOTHING_HAPPENED):
            return outcome
        self._happened(outcome)
        return outcome

    def expire_due(self, now_ms: int) -> None:
        """End every hold whose deadline has passed."""
        due: list[HoldId] = []
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            due.append(heappop(self._deadlines)[1])
        if not due:
            return
        # An extended hold is still in the heap with its old deadline: it is not due, and its
        # new deadline was pushed when it was extended.
        for event in self.seat_map.decide_expired(due, now_ms):
            self._happened(event)

    def forget_ended(self, now_ms: int) -> None:
        """Let go of ended holds that no request can mean any more."""
        forgotten = self.seat_map.decide_forgotten(now_ms)
        if forgotten is not None:
            self._happened(forgotten)

    def take_step(self) -> list[Event]:
        """The events since the last call, for the journal."""
        step, self._step = self._step, []
        return step

    def appended(self, durable: Future[int]) -> None:
        """Remember what the next answers wait for: the journal's promise about the newest step."""
        self._tail = durable

    @property
    def tail(self) -> Future[int] | None:
        """The newest append while it is not durable, or when it failed; None when all is well.

        A failed append stays: until the show is dropped, memory holds what never happened.
        """
        if self._tail is not None and self._tail.done() and self._tail.exception() is None:
            self._tail = None
        return self._tail

    @property
    def next_deadline_ms(self) -> int | None:
        """When the next hold may expire, or None."""
        return self._deadlines[0][0] if self._deadlines else None

    def is_idle(self, now_ms: int, idle_ms: int) -> bool:
        """Whether nobody needs this show in memory: no live hold, no recent command."""
        is_quiet = now_ms - self.last_command_at_ms >= idle_ms
        return is_quiet and not self.seat_map.live_hold_count

    def _happened(self, event: Event) -> None:
        self.seat_map.apply(event)
        self._step.append(event)
        if isinstance(event, (SeatsHeld, HoldExtended)):
            heappush(self._deadlines, (event.expires_at_ms, event.hold_id))
        elif isinstance(event, HeldFromChannel):
            heappush(self._deadlines, (event.held.expires_at_ms, event.held.hold_id))


def restored_map(show: Show, chooser: SeatChooser, activation: Activation) -> SeatMap:
    """The seat map of a show as its store remembers it.

    Raises:
        AssertionError: the two books of the store contradict each other.
    """
    seat_map = SeatMap(show, chooser)
    seat_map.restore(
        activation.holds, activation.blocked, activation.allocated, activation.cancelled
    )
    # Two independent books must agree before anything is sold from them.
    occupancy = seat_map.occupancy
    seat_legs, place_legs = occupancy.claimed_seat_legs(), occupancy.claimed_place_legs()
    assert seat_legs == activation.claimed_seat_legs, "claims and holds disagree"
    assert place_legs == activation.claimed_place_legs, "admissions and holds disagree"
    return seat_map
