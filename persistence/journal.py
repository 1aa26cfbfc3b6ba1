"""PORT ``Journal``: where a show's events become durable, and where ownership is decided.

What every implementation promises:

* ``activate`` takes the next epoch. From the moment it returns, no write of an older epoch
  can succeed, and what it loaded is complete.
* ``append`` never blocks: the events join the batch that leaves next. All events appended to
  one show in one batch get one sequence number and become durable together or not at all.
* The future of ``append`` ends with the sequence number once the events are durable, with
  ``Fenced`` when a newer epoch owns the show, or with ``Diverged`` when the store refuses what
  memory believed. It never ends with a guess: while the outcome of a write is unknown, the
  journal finds it out or keeps waiting. Only when the store refuses what may be written yet by
  an attempt without an answer, it ends with ``OutcomeUnknown``.
* A fenced or diverged show does not disturb its neighbours in the same batch. After either,
  the show must be activated anew before anything can be appended to it.
* Batches of one show are durable in the order of their sequence numbers, without a gap.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from reservation.events import Event, ShowCancelled
from reservation.hold import Hold
from reservation.ids import ChannelId, ShowId
from reservation.show import Show


@dataclass(frozen=True, slots=True)
class Activation:
    """A show as its store remembers it, and the right to change it.

    Shapes:
        holds: live, booked, and ended but not yet forgotten; the ended ones in the order
            they ended (see ``SeatMap.restore``).
        blocked, allocated: (seat_index, reason), (seat_index, channel).
        cancelled: when and why, for a show that is cancelled; without the holds that it ended.
        claimed_seat_legs, claimed_place_legs: what the store's own claims add up to; the
            restored map must count the same.
    """

    epoch: int
    seq: int
    holds: Sequence[Hold]
    blocked: Sequence[tuple[int, str]]
    claimed_seat_legs: int
    claimed_place_legs: int
    allocated: Sequence[tuple[int, ChannelId]] = ()
    cancelled: ShowCancelled | None = None


class Journal(Protocol):
    """See the module's docstring for the promises."""

    async def now_ms(self) -> int:
        """The store's clock, Unix milliseconds. Every deadline is measured by it."""
        ...

    async def activate(self, show: Show) -> Activation:
        """Take the next epoch of the show and load its state.

        Raises:
            ShowUnavailable: the store cannot be reached or the show is locked; nothing happened
                that matters (an epoch may have been used up).
            PlanTooSmall: more was sold from it than its plan has now; nothing happened.
        """
        ...

    def append(self, show_id: ShowId, events: Sequence[Event]) -> asyncio.Future[int]:
        """Make these events durable together. See the module's docstring."""
        ...

    def tail(self, show_id: ShowId) -> asyncio.Future[int] | None:
        """The future of the newest append of this show that is not durable yet, or None."""
        ...

    async def lost(self, show_ids: Iterable[ShowId]) -> set[ShowId]:
        """Which of these shows belong to a newer epoch by now.

        Raises:
            ShowUnavailable: the store cannot be reached.
        """
        ...

    def forget(self, show_id: ShowId) -> None:
        """Drop what is kept about a show that leaves memory. Its appends must have ended."""
        ...

    @property
    def waiting_commands(self) -> int:
        """Events appended and not yet durable: the length of the mailbox."""
        ...

    @property
    def stalled_ms(self) -> int:
        """For how long the store has not answered; 0 while it answers."""
        ...

    async def close(self) -> None:
        """Finish what is in flight and disconnect."""
        ...
