"""Operations as they happen: what callers ask and are told. See ``history_checker``."""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

from reservation.commands import Command, HoldBestAvailable, HoldFromChannel, HoldSeats
from reservation.events import Event, HeldFromChannel
from reservation.faults import Fault, NotDone
from reservation.ids import ShowId
from reservation.rejections import Rejected
from reservation.seat_map import Outcome, Repeated

NEVER = math.inf

Claim: TypeAlias = HoldSeats | HoldBestAvailable

Told: TypeAlias = Outcome | NotDone | None
"""None: nobody knows what became of it."""


class Operation(NamedTuple):
    """One question and what was said about it.

    Units:
        asked_at_ms, told_at_ms: by one clock that never runs backwards, the one that deadlines
            are measured by, fractions welcome; ``NEVER`` while there is no answer.

    ``session`` is whose view of the world must never go back: a ref.
    """

    number: int
    session: str
    show_id: ShowId
    command: Command
    asked_at_ms: float
    told_at_ms: float = NEVER
    told: Told = None

    @property
    def is_unknown(self) -> bool:
        """Whether it may have happened without anybody knowing."""
        return self.told is None

    @property
    def event(self) -> Event | None:
        """What it was told that happened, now or before."""
        if isinstance(self.told, Repeated):
            return self.told.event
        return None if isinstance(self.told, Rejected | NotDone) else self.told

    @property
    def claim(self) -> Claim | None:
        """The claim that it asks for, through a channel or not."""
        command = self.command
        command = command.hold if isinstance(command, HoldFromChannel) else command
        return command if isinstance(command, HoldSeats | HoldBestAvailable) else None

    def without_channel(self) -> Operation:
        """The same question and answer, as if all seats were on general sale."""
        claim, told = self.claim, self.told
        told = told.held if isinstance(told, HeldFromChannel) else told
        return self._replace(command=claim or self.command, told=told)

    @property
    def is_new(self) -> bool:
        """Whether it was told that it made something happen."""
        return self.event is not None and not isinstance(self.told, Repeated)


class History:
    """Operations as they happen."""

    def __init__(self) -> None:
        self.operations: list[Operation] = []

    def asked(self, session: str, show_id: ShowId, command: Command, at_ms: float) -> int:
        """Somebody asks. Returns the operation's number."""
        number = len(self.operations)
        self.operations.append(Operation(number, session, show_id, command, at_ms))
        return number

    def told(self, number: int, answer: Outcome | Fault | None, at_ms: float) -> None:
        """The answer is here; any fault but ``NotDone``, or None, says that it is unknown."""
        if isinstance(answer, Fault) and not isinstance(answer, NotDone):
            answer = None
        if answer is not None:
            operation = self.operations[number]
            self.operations[number] = operation._replace(told_at_ms=at_ms, told=answer)


class Violation(NamedTuple):
    """Something that must never happen did.

    Shapes:
        operations: the numbers of those it is about.
    """

    invariant: str
    what: str
    operations: tuple[int, ...] = ()


class Verdict(NamedTuple):
    """What the checker found.

    Shapes:
        undecided: seats whose search took too long.
    """

    violations: list[Violation]
    undecided: tuple[int, ...] = ()
