"""I9: whether what callers saw of each seat can be put in one order. See ``history_checker``.

The search is Wing and Gong's with the memory of visited states that Lowe added. A seat is checked
on its own, with every hold that touches it (linearizability is local, so that suffices for
operations on one seat; that several seats of a hold are taken together is the auditor's to see).
Expiry is nobody's operation: a hold may end by itself at any time from its deadline on. A search
that would take too long ends *undecided*, which is said and is neither good nor bad.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from reservation.commands import (
    AllocateSeats,
    BlockSeats,
    CancelBooking,
    CancelShow,
    CloseChannel,
    Command,
    ConfirmHold,
    DeallocateSeats,
    ExtendHold,
    HoldBestAvailable,
    HoldFromChannel,
    HoldSeats,
    ReleaseHold,
    UnblockSeats,
)
from reservation.events import HoldExtended, SeatsBlocked, SeatsHeld
from reservation.faults import NotDone
from reservation.ids import HoldId, hold_id_of
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import Repeated
from tests.support.operations import NEVER, Operation, Told, Verdict, Violation

VISITS_MAX = 20_000

_ABSENT, _LIVE, _BOOKED, _RELEASED, _EXPIRED, _CANCELLED, _ENDED = range(7)
"""A hold that a cancelled show ended after its deadline may have ended before: ``_ENDED`` is either
released or expired, and the first answer about it says which."""

_KEEPING = (_LIVE, _BOOKED)


class _Step(NamedTuple):
    """What one operation says about one seat.

    Shapes:
        hold: a position among the holds of the seat; -1 where it is about no hold.
        mask: the legs it is about.
        after: the steps, one bit each, that its session had seen before.
        is_sure: False for what may never have happened.
    """

    kind: str
    hold: int
    mask: int
    deadline_ms: float
    asked_at_ms: float
    told_at_ms: float
    after: int
    is_sure: bool
    number: int


_State: TypeAlias = tuple[bool, tuple[tuple[int, float], ...]]
"""Whether the seat is blocked; for each hold of the seat what it is, and its deadline."""


def check_seats(
    operations: Sequence[Operation], *, stale_ms: float = 0, clock_error_ms: float = 0
) -> Verdict:
    """I9 (and with it I5): for every seat there is an order that explains all answers."""
    reader = _SeatReader(operations, stale_ms)
    violations: list[Violation] = []
    undecided: list[int] = []
    for seat_index in sorted(reader.seats):
        steps, masks = reader.steps_of(seat_index)
        is_explained = _linearize(steps, masks, clock_error_ms)
        if is_explained is None:
            undecided.append(seat_index)
        elif not is_explained:
            what = f"no order explains what was said about seat {seat_index}"
            numbers = tuple(step.number for step in steps if step.is_sure)
            violations.append(Violation("I9", what, numbers))
    return Verdict(violations, tuple(undecided))


class _SeatReader:
    """Takes operations apart into what they say about single seats."""

    def __init__(self, operations: Sequence[Operation], stale_ms: float) -> None:
        self._operations = operations
        self._stale_ms = stale_ms
        self._held: dict[HoldId, SeatsHeld] = {}
        self._claims: dict[HoldId, HoldSeats | HoldBestAvailable] = {}
        self._allocated: set[int] = set()
        self.seats: set[int] = set()
        for operation in operations:
            event, command = operation.event, operation.command
            if isinstance(event, SeatsHeld):
                self._held[event.hold_id] = event
                self.seats.update(event.seat_indexes)
            if isinstance(command, HoldSeats | HoldBestAvailable):
                self._claims.setdefault(command.hold_id, command)
            if isinstance(command, AllocateSeats):
                self._allocated.update(command.seat_indexes)
            if isinstance(command, HoldSeats | BlockSeats | UnblockSeats):
                self.seats.update(command.seat_indexes)

    def _touches(self, hold_id: HoldId, seat_index: int) -> bool:
        """Whether the hold has, or may have had, this seat."""
        held = self._held.get(hold_id)
        if held is not None:
            return seat_index in held.seat_indexes
        claim = self._claims.get(hold_id)
        if isinstance(claim, HoldSeats) and not claim.or_nearest:
            return seat_index in claim.seat_indexes
        return claim is not None

    def steps_of(self, seat_index: int) -> tuple[list[_Step], list[int]]:
        """The steps about a seat, and the legs of each hold that they name."""
        position: dict[HoldId, int] = {}
        masks: list[int] = []
        for hold_id, claim in self._claims.items():
            if self._touches(hold_id, seat_index):
                position[hold_id] = len(masks)
                held = self._held.get(hold_id)
                masks.append((held or claim).segment.mask)
        steps: list[_Step] = []
        doubts: set[tuple[str, int]] = set()
        seen: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)
        for operation in self._operations:
            said = self._said(operation, seat_index, position)
            if said is None:
                continue
            kind, hold, mask, deadline_ms = said
            if operation.is_unknown:
                # Twice the same doubt is one doubt; these can happen only once.
                if hold >= 0 and (kind, hold) in doubts:
                    continue
                doubts.add((kind, hold))
            asked_at_ms = operation.asked_at_ms
            session = seen[operation.session]
            after = sum(1 << n for told_at_ms, n in session if told_at_ms < asked_at_ms)
            if operation.is_new:
                session.append((operation.told_at_ms, len(steps)))
            elif not operation.is_unknown:
                asked_at_ms -= self._stale_ms
            steps.append(
                _Step(
                    kind,
                    hold,
                    mask,
                    deadline_ms,
                    asked_at_ms,
                    operation.told_at_ms,
                    after,
                    not operation.is_unknown,
                    operation.number,
                )
            )
        return steps, masks

    def _said(
        self, operation: Operation, seat_index: int, position: dict[HoldId, int]
    ) -> tuple[str, int, int, float] | None:
        command, told = operation.command, operation.told
        if isinstance(told, NotDone):
            return None
        if isinstance(command, CancelShow):
            return None if isinstance(told, Repeated) else ("stop", -1, -1, 0)
        if isinstance(command, AllocateSeats | DeallocateSeats | CloseChannel):
            return None
        is_taken = isinstance(told, Rejected) and told.code is Rejection.SEAT_UNAVAILABLE
        if is_taken and seat_index in self._allocated:
            return None  # Perhaps it is a channel's; whose seats are whose is not asked here.
        if isinstance(command, BlockSeats | UnblockSeats):
            return self._said_of_block(command, told, seat_index)
        if isinstance(command, CancelBooking):
            hold_id = hold_id_of(command.booking_id)
        else:
            assert not isinstance(command, HoldFromChannel), "see Operation.without_channel"
            hold_id = command.hold_id
        if isinstance(told, Rejected):
            return self._said_no(command, told, hold_id, seat_index, position)
        hold = position.get(hold_id)
        if hold is None:
            return None
        again = " again" if isinstance(told, Repeated) else ""
        match command:
            case HoldSeats() | HoldBestAvailable():
                held = self._held.get(hold_id)
                return f"hold{again}", hold, 0, held.expires_at_ms if held else -NEVER
            case ExtendHold():
                if not isinstance(operation.event, HoldExtended):
                    return None  # An extension that nobody knows of only makes a hold live longer.
                return f"extend{again}", hold, 0, operation.event.expires_at_ms
            case ConfirmHold():
                return f"confirm{again}", hold, 0, 0
            case ReleaseHold():
                return f"release{again}", hold, 0, 0
            case CancelBooking():
                return f"cancel{again}", hold, 0, 0
        return None

    @staticmethod
    def _said_of_block(
        command: BlockSeats | UnblockSeats, told: Told, seat_index: int
    ) -> tuple[str, int, int, float] | None:
        if isinstance(told, Rejected):
            if seat_index not in told.seat_indexes:
                return None
            is_block = isinstance(command, BlockSeats)
            return ("taken" if is_block else "not blocked"), -1, -1, 0
        if seat_index not in command.seat_indexes:
            return None
        if isinstance(command, UnblockSeats):
            return "unblock", -1, -1, 0
        if isinstance(told, Repeated):
            return "blocked", -1, -1, 0
        if isinstance(told, SeatsBlocked) and seat_index not in told.seat_indexes:
            return "blocked", -1, -1, 0
        return "block", -1, -1, 0

    def _said_no(
        self,
        command: Command,
        told: Rejected,
        hold_id: HoldId,
        seat_index: int,
        position: dict[HoldId, int],
    ) -> tuple[str, int, int, float] | None:
        if told.code is Rejection.SEAT_UNAVAILABLE:
            if seat_index not in told.seat_indexes:
                return None
            assert isinstance(command, HoldSeats | HoldBestAvailable)
            return "taken", -1, command.segment.mask, 0
        hold = position.get(hold_id)
        kind = _NO.get(told.code)
        if hold is None or kind is None:
            return None
        claim = self._claims[hold_id]
        is_own = getattr(command, "customer_id", claim.customer_id) == claim.customer_id
        return (kind, hold, 0, 0) if is_own else None


_NO = {
    Rejection.HOLD_NOT_FOUND: "not found",
    Rejection.HOLD_EXPIRED: "expired",
    Rejection.HOLD_RELEASED: "release again",
    Rejection.HOLD_ALREADY_CONFIRMED: "sold",
    Rejection.EXTENSION_CAP_REACHED: "extend again",
    Rejection.BOOKING_CANCELLED: "cancel again",
    Rejection.BOOKING_NOT_FOUND: "not sold",
    Rejection.EXISTS_WITH_DIFFERENT_REQUEST: "hold again",
}


def _linearize(steps: list[_Step], masks: list[int], clock_error_ms: float) -> bool | None:
    """Whether some order explains these steps; None when that takes too long to find out."""
    sure = sum(1 << n for n, step in enumerate(steps) if step.is_sure)
    order = sorted(range(len(steps)), key=lambda n: (steps[n].told_at_ms, n), reverse=True)
    start: _State = (False, ((_ABSENT, 0.0),) * len(masks))
    stack: list[tuple[int, _State, float]] = [(0, start, -NEVER)]
    visited: set[tuple[int, _State]] = set()
    while stack:
        done, state, now_ms = stack.pop()
        missing = sure & ~done
        if not missing:
            return True
        if (done, state) in visited:
            continue
        if len(visited) >= VISITS_MAX:
            return None
        visited.add((done, state))
        # Nothing that is still to come may have been asked after another's answer.
        limit_ms = min(steps[n].told_at_ms for n in order if missing >> n & 1)
        if now_ms > limit_ms:
            continue
        for n in order:
            step = steps[n]
            if done >> n & 1 or step.asked_at_ms > limit_ms or step.after & ~done:
                continue
            next_state = _take(step, state, masks, limit_ms + clock_error_ms)
            if next_state is not None:
                stack.append((done | 1 << n, next_state, max(now_ms, step.asked_at_ms)))
    return False


def _take(step: _Step, state: _State, masks: list[int], limit_ms: float) -> _State | None:
    """The seat after this step, which is taken not later than ``limit_ms``; None if it cannot be.

    Holds end by themselves as late as they can: when a step needs the place or the end.
    """
    is_blocked, holds = state
    if step.hold >= 0:
        return _take_hold(step, state, masks, limit_ms)
    match step.kind:
        case "taken":
            is_taken = is_blocked or any(
                status in _KEEPING and mask & step.mask
                for (status, _), mask in zip(holds, masks, strict=True)
            )
            return state if is_taken else None
        case "blocked":
            return state if is_blocked else None
        case "not blocked":
            return None if is_blocked else state
        case "unblock":
            return (False, holds) if is_blocked else None
        case "stop":
            return is_blocked, tuple(_stopped(hold, limit_ms) for hold in holds)
        case "block":
            freed = None if is_blocked else _free(holds, masks, -1, limit_ms)
            return None if freed is None else (True, freed)
    raise AssertionError(step.kind)


_NEEDS = {
    "confirm": (_LIVE,),
    "extend": (_LIVE,),
    "release": (_LIVE,),
    "cancel": (_BOOKED,),
    "hold again": (_LIVE, _BOOKED, _RELEASED, _EXPIRED, _CANCELLED, _ENDED),
    "extend again": (_LIVE,),
    "release again": (_RELEASED, _ENDED),
    "confirm again": (_BOOKED,),
    "cancel again": (_CANCELLED,),
    "sold": (_BOOKED, _CANCELLED),
    "not sold": (_ABSENT, _LIVE, _RELEASED, _EXPIRED, _ENDED),
    "not found": (_ABSENT,),
}
_BECOMES = {
    "confirm": _BOOKED,
    "release": _RELEASED,
    "release again": _RELEASED,
    "cancel": _CANCELLED,
}


def _take_hold(step: _Step, state: _State, masks: list[int], limit_ms: float) -> _State | None:
    is_blocked, holds = state
    status, deadline_ms = holds[step.hold]
    if step.kind == "hold":
        if status != _ABSENT or is_blocked:
            return None
        freed = _free(holds, masks, masks[step.hold], limit_ms)
        return None if freed is None else _put(False, freed, step.hold, _LIVE, step.deadline_ms)
    if step.kind == "expired":
        # From its deadline on a hold is over for its customer, though not yet for the seat.
        if status == _ENDED:
            return _put(is_blocked, holds, step.hold, _EXPIRED, deadline_ms)
        is_over = status == _EXPIRED or (status == _LIVE and deadline_ms <= limit_ms)
        return state if is_over else None
    if status not in _NEEDS[step.kind]:
        return None
    if step.kind == "extend":
        return _put(is_blocked, holds, step.hold, _LIVE, step.deadline_ms)
    if step.kind in _BECOMES:
        return _put(is_blocked, holds, step.hold, _BECOMES[step.kind], deadline_ms)
    return state


def _stopped(hold: tuple[int, float], limit_ms: float) -> tuple[int, float]:
    status, deadline_ms = hold
    if status != _LIVE:
        return hold
    return (_RELEASED if deadline_ms > limit_ms else _ENDED), deadline_ms


def _free(
    holds: tuple[tuple[int, float], ...], masks: list[int], mask: int, limit_ms: float
) -> tuple[tuple[int, float], ...] | None:
    """The holds once these legs are free, if time alone can free them."""
    for n, (status, deadline_ms) in enumerate(holds):
        if status in _KEEPING and masks[n] & mask:
            if status == _BOOKED or deadline_ms > limit_ms:
                return None
            holds = (*holds[:n], (_EXPIRED, deadline_ms), *holds[n + 1 :])
    return holds


def _put(
    is_blocked: bool,
    holds: tuple[tuple[int, float], ...],
    n: int,
    status: int,
    deadline_ms: float,
) -> _State:
    return is_blocked, (*holds[:n], (status, deadline_ms), *holds[n + 1 :])
