"""What clients asked a real house and what they were told: the raw material of every check.

Every attempt is one record: when it was invoked, when it was answered, what was asked, and what
came back. An attempt without a certain answer stays on record as *unknown*; the same command is
asked again, as a client should, and that is another record. Instants are those of the machine's
monotonic clock, so that the records of several processes can be put together.
"""

from __future__ import annotations

import asyncio
import pickle
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, NamedTuple, TypeAlias

from reservation.commands import CancelBooking, Command, ConfirmHold
from reservation.faults import Fault, NotDone
from reservation.ids import ShowId
from reservation.rejections import Rejected
from reservation.seat_map import Outcome, Repeated

Ask: TypeAlias = Callable[[ShowId, Command], Awaitable[Outcome]]

CERTAIN_WITHIN_S = 60.0
"""A command whose outcome is still open after this long of asking is not resolved."""

ASK_AGAIN_AFTER_S = 0.02

UNTOLD_AT_MS = -1
"""Stands in an event for an instant that an answer did not tell."""


class Told(StrEnum):
    """What an attempt brought."""

    EVENT = "event"  #: It was done now.
    REPEATED = "repeated"  #: It had been done before.
    REJECTED = "rejected"  #: It was not done, and why.
    NOT_DONE = "not done"  #: A fault; nothing happened.
    UNKNOWN = "unknown"  #: A fault; it may have happened.

    @property
    def is_certain(self) -> bool:
        """Whether the client knows what became of its command."""
        return self in (Told.EVENT, Told.REPEATED, Told.REJECTED)


class Attempt(NamedTuple):
    """One command, asked once.

    Units:
        invoked_ns, answered_ns: the machine's monotonic clock.

    Shapes:
        outcome: None exactly when a fault came instead; ``fault`` then says which.
    """

    client: str
    show_id: ShowId
    command: Command
    invoked_ns: int
    answered_ns: int
    told: Told
    outcome: Outcome | None
    fault: str = ""


class NotResolved(Exception):
    """A command was asked again and again and its outcome did not get known."""


class Recorder:
    """Asks on behalf of clients and writes everything down."""

    def __init__(self, ask: Ask, *, file: IO[bytes] | None = None) -> None:
        """``ask`` reaches the house; ``file`` takes every record as soon as it is complete."""
        self._ask = ask
        self._file = file
        self.attempts: list[Attempt] = []
        self.under_way: dict[int, tuple[str, ShowId, Command]] = {}
        self.unresolved: list[Command] = []
        self._numbers = iter(range(2**62))

    async def once(self, client: str, show_id: ShowId, command: Command) -> Attempt:
        """Ask one time, whatever comes back. A caller that is cancelled leaves an unknown."""
        number = next(self._numbers)
        self.under_way[number] = (client, show_id, command)
        invoked_ns = time.monotonic_ns()
        told, outcome, fault = Told.UNKNOWN, None, "the client hung up"
        try:
            outcome = await self._ask(show_id, command)
            told, fault = _told(outcome), ""
        except NotDone as error:
            told, fault = Told.NOT_DONE, repr(error)
        except Fault as error:
            fault = repr(error)
        finally:
            del self.under_way[number]
            attempt = Attempt(
                client, show_id, command, invoked_ns, time.monotonic_ns(), told, outcome, fault
            )
            self._note(attempt)
        return attempt

    async def insist(
        self,
        client: str,
        show_id: ShowId,
        command: Command,
        *,
        within_s: float = CERTAIN_WITHIN_S,
    ) -> Outcome:
        """Ask with the same command until the outcome is certain; a repetition is its event.

        Raises:
            NotResolved: it never was.
        """
        deadline = time.monotonic() + within_s
        while True:
            attempt = await self.once(client, show_id, command)
            if attempt.outcome is not None:
                outcome = attempt.outcome
                return outcome.event if isinstance(outcome, Repeated) else outcome
            if time.monotonic() > deadline:
                self.unresolved.append(command)
                raise NotResolved(f"{command}: {attempt.fault}")
            await asyncio.sleep(ASK_AGAIN_AFTER_S)

    def _note(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)
        if self._file is not None:
            pickle.dump(tuple(attempt), self._file)
            self._file.flush()

    @property
    def counts(self) -> Counter[Told]:
        """How often clients were told what."""
        return Counter(attempt.told for attempt in self.attempts)

    def certain(self) -> Iterator[Attempt]:
        """The attempts whose outcome is known."""
        return (attempt for attempt in self.attempts if attempt.told.is_certain)


def read_records(path: Path) -> list[Attempt]:
    """What another process has recorded. A record that it was killed over is left out."""
    attempts = []
    with path.open("rb") as file:
        while True:
            try:
                attempts.append(Attempt(*pickle.load(file)))
            except (EOFError, pickle.UnpicklingError):
                return attempts


class Resolution(NamedTuple):
    """How the commands with an unknown answer ended.

    Shapes:
        had_happened, had_not: commands whose repetition was told *repeated*, or anything else.
        open: commands that nobody got to know about.
    """

    unknown_answers: int
    had_happened: int
    had_not: int
    open: list[Command]


def resolve(attempts: Iterable[Attempt]) -> Resolution:
    """What asking again brought for every command that once had an unknown answer."""
    by_command: dict[Command, list[Attempt]] = {}
    for attempt in attempts:
        by_command.setdefault(attempt.command, []).append(attempt)
    unknown_answers = had_happened = had_not = 0
    still_open = []
    for command, asked in by_command.items():
        unknowns = [attempt for attempt in asked if attempt.told is Told.UNKNOWN]
        if not unknowns:
            continue
        unknown_answers += len(unknowns)
        first_ns = unknowns[0].invoked_ns
        later = [a for a in asked if a.told.is_certain and a.answered_ns > first_ns]
        if not later:
            still_open.append(command)
        elif later[0].told is Told.REPEATED or _says_that_it_was_done(later[0]):
            had_happened += 1
        else:
            had_not += 1
    return Resolution(unknown_answers, had_happened, had_not, still_open)


def _says_that_it_was_done(attempt: Attempt) -> bool:
    """A confirmation whose booking was cancelled since was done, too."""
    outcome = attempt.outcome
    return (
        isinstance(attempt.command, ConfirmHold | CancelBooking)
        and isinstance(outcome, Rejected)
        and outcome.code.value == "booking_cancelled"
    )


def _told(outcome: Outcome) -> Told:
    if isinstance(outcome, Rejected):
        return Told.REJECTED
    return Told.REPEATED if isinstance(outcome, Repeated) else Told.EVENT
