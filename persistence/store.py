"""PORT ``Store``: what a journal needs of a database, one request at a time.

A store answers, refuses, or is silent; it never repeats a request by itself and never guesses.
``GroupCommitJournal`` makes the promises of ``Journal`` out of that, over any store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from persistence.journal import Activation
from reservation.events import Event
from reservation.ids import ShowId
from reservation.show import Show


class Part(NamedTuple):
    """One show's share of a batch: its next sequence number, written as this epoch."""

    show_id: ShowId
    epoch: int
    seq: int
    events: Sequence[Event]
    leg_count: int


class StoreSilent(Exception):
    """The line ended without an answer: the batch was written, or it was not."""


class StoreBusy(Exception):
    """The store cannot take the batch now. Nothing was written."""


class ShowsLost(Exception):
    """A newer epoch owns these shows. Nothing was written, of no show."""

    def __init__(self, show_ids: Sequence[ShowId]) -> None:
        super().__init__(" ".join(show_ids))
        self.show_ids = show_ids


class Store(Protocol):
    """A database, seen by one owner."""

    async def now_ms(self) -> int:
        """The store's clock, Unix milliseconds.

        Raises:
            ShowUnavailable: it cannot be reached.
        """
        ...

    async def activate(self, show: Show) -> Activation:
        """Take the next epoch of a show and load its state.

        Raises:
            ShowUnavailable: it cannot be reached, or the show is locked.
            PlanTooSmall: see ``Journal.activate``.
        """
        ...

    async def epochs(self, show_ids: Sequence[ShowId]) -> Mapping[ShowId, int]:
        """The epoch that may write each of these shows.

        Raises:
            ShowUnavailable: it cannot be reached.
        """
        ...

    async def append(self, parts: Sequence[Part]) -> None:
        """Make all parts durable, or none.

        Raises:
            ShowsLost, StoreBusy: nothing was written.
            StoreSilent: it is not known.
            Exception: any other says that the batch cannot be written; nothing was.
        """
        ...

    async def written(self, parts: Sequence[Part]) -> list[ShowId]:
        """Which of these parts are durable, written by the epochs that they name.

        Raises:
            StoreBusy, StoreSilent: there is no answer.
        """
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...
