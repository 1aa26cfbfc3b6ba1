"""What every contender promises, and the words for it.

The promises:
    All or nothing: a hold has every place it asked for, or the show is as it was.
    Durable: what is answered as held survives a crash of every process.
    Idempotent: the same hold id asked twice gives the same hold, and never a second one, also
        when both are asked at one moment.
    Holds end: a place whose hold has ended can be held again.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeAlias, TypeVar

from reservation.ids import CustomerId, HoldId, ShowId, derive_show_id

HOLD_TTL_MS = 10 * 60_000
"""The same for all, and longer than any round."""


class ShowSpec(NamedTuple):
    """A show to be put on sale.

    Shapes:
        leg_count: 1 for a venue show.
    """

    name: str
    seat_count: int
    leg_count: int = 1
    hold_ttl_ms: int = HOLD_TTL_MS

    @property
    def show_id(self) -> ShowId:
        """The show's id, the same for every contender."""
        return derive_show_id(self.name)


class HoldRequest(NamedTuple):
    """A customer wants these seats on legs ``from_leg`` to ``to_leg - 1``.

    Shapes:
        seats: strictly increasing.
    """

    show_id: ShowId
    hold_id: HoldId
    customer_id: CustomerId
    seats: tuple[int, ...]
    from_leg: int = 0
    to_leg: int = 1


class Held(NamedTuple):
    """The customer has the seats until ``expires_at_ms`` by the store's clock."""

    hold_id: str
    expires_at_ms: int


class Refusal(StrEnum):
    """Why there is no hold."""

    TAKEN = "taken"  #: A place is held by somebody else.
    BUSY = "busy"  #: Somebody else's lock was not free in time.
    REUSED = "reused"  #: The hold id was used for other places.


HoldAnswer: TypeAlias = Held | Refusal

Prepared = TypeVar("Prepared")


class Contender(Protocol[Prepared]):
    """See the module's docstring for the promises.

    Requests are prepared before a clock starts and held while it runs, so that no contender is
    charged for what the measurement needs.
    """

    async def open_shows(self, specs: Sequence[ShowSpec]) -> None:
        """Put shows of one size and one number of legs on sale, with all seats free."""
        ...

    def prepare(self, request: HoldRequest) -> Prepared:
        """The request in this contender's own form; the show must be open."""
        ...

    async def hold(self, prepared: Prepared) -> HoldAnswer:
        """Hold the places, or none of them."""
        ...
