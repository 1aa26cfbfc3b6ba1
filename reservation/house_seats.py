"""Seats that are not on general sale: blocked ones, and those of channels.

Theory of operation
-------------------
A *blocked* seat is nobody's on every leg until it is unblocked. An *allocated* seat belongs to a
channel: on every leg on which nobody holds or has booked it, only a hold through the channel may
claim it. What the channel has of a seat is therefore never stored: it is all legs but those that
are claimed. A hold that ends gives its seats back to whoever they belong to at that moment, which
is how they find their way back to the channel, or to everybody once the channel is closed.

Both look taken in ``Occupancy``, so the rules of general sale need not know about either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from reservation.commands import (
    AllocateSeats,
    BlockSeats,
    CloseChannel,
    DeallocateSeats,
    UnblockSeats,
)
from reservation.events import (
    SeatsAllocated,
    SeatsBlocked,
    SeatsDeallocated,
    SeatsUnblocked,
)
from reservation.ids import ChannelId
from reservation.occupancy import Occupancy
from reservation.outcome import Outcome, Repeated
from reservation.rejections import Rejected, Rejection


class HouseSeats:
    """The blocked and the allocated seats of one show.

    Shapes:
        blocked: seat_index -> reason.
        channel_of: seat_index -> the channel that it belongs to.
    """

    def __init__(
        self, occupancy: Occupancy, every_leg: int, gone: frozenset[int] = frozenset()
    ) -> None:
        """``gone`` are the seats that the plan has no more: nobody gets them back on sale."""
        self.gone = gone
        self.blocked: dict[int, str] = {}
        self.channel_of: dict[int, ChannelId] = {}
        self._occupancy = occupancy
        self._every_leg = every_leg
        self._seats_of: dict[ChannelId, set[int]] = {}

    # -- deciding -----------------------------------------------------------------------

    def decide_block(self, command: BlockSeats, now_ms: int) -> Outcome:
        """See ``BlockSeats``."""
        fresh = tuple([index for index in command.seat_indexes if index not in self.blocked])
        if not fresh:
            return Repeated(SeatsBlocked(command.seat_indexes, command.reason, now_ms))
        clashes = self._occupancy.clashes(fresh, self._every_leg)
        if clashes:
            return Rejected(Rejection.SEAT_UNAVAILABLE, clashes)
        return SeatsBlocked(fresh, command.reason, now_ms)

    def decide_unblock(self, command: UnblockSeats, now_ms: int) -> Outcome:
        """See ``UnblockSeats``."""
        strangers = tuple(
            [
                index
                for index in command.seat_indexes
                if index not in self.blocked or index in self.gone
            ]
        )
        if strangers:
            return Rejected(Rejection.SEAT_NOT_BLOCKED, strangers)
        return SeatsUnblocked(command.seat_indexes, now_ms)

    def decide_allocate(self, command: AllocateSeats, now_ms: int) -> Outcome:
        """See ``AllocateSeats``."""
        channel_id = command.channel_id
        fresh = tuple(
            [index for index in command.seat_indexes if self.channel_of.get(index) != channel_id]
        )
        if not fresh:
            return Repeated(SeatsAllocated(channel_id, command.seat_indexes, now_ms))
        clashes = self._occupancy.clashes(fresh, self._every_leg)
        clashes = clashes or tuple([index for index in fresh if index in self.gone])
        if clashes:
            return Rejected(Rejection.SEAT_UNAVAILABLE, clashes)
        return SeatsAllocated(channel_id, fresh, now_ms)

    def decide_deallocate(self, command: DeallocateSeats, now_ms: int) -> Outcome:
        """See ``DeallocateSeats``."""
        strangers = tuple(
            [
                index
                for index in command.seat_indexes
                if self.channel_of.get(index) != command.channel_id
            ]
        )
        if strangers:
            return Rejected(Rejection.SEAT_NOT_ALLOCATED, strangers)
        return SeatsDeallocated(command.channel_id, command.seat_indexes, now_ms)

    def decide_close(self, command: CloseChannel, now_ms: int) -> Outcome:
        """See ``CloseChannel``."""
        seats = tuple(sorted(self._seats_of.get(command.channel_id, ())))
        closed = SeatsDeallocated(command.channel_id, seats, now_ms)
        return closed if seats else Repeated(closed)

    @contextmanager
    def opened_for(self, channel_id: ChannelId) -> Iterator[None]:
        """While this is open, the channel's free seats look free.

        The map is changed in place and back, because a copy of a stadium for every hold through a
        channel would cost more than deciding it.
        """
        occupancy = self._occupancy
        mine = [(index, occupancy.reserved[index]) for index in self._seats_of[channel_id]]
        for index, legs in mine:
            occupancy.taken[index] &= ~legs
        try:
            yield
        finally:
            for index, legs in mine:
                occupancy.taken[index] |= legs

    def is_open(self, channel_id: ChannelId) -> bool:
        """Whether the channel has seats of this show."""
        return channel_id in self._seats_of

    def has_of(self, channel_id: ChannelId, seat_indexes: Iterable[int]) -> bool:
        """Whether one of these seats is the channel's."""
        return any(self.channel_of.get(index) == channel_id for index in seat_indexes)

    # -- applying -----------------------------------------------------------------------

    def restore(
        self, blocked: Iterable[tuple[int, str]], allocated: Iterable[tuple[int, ChannelId]]
    ) -> None:
        """Fill an empty house from stored state, after the holds have taken their places."""
        for seat_index, reason in blocked:
            self.blocked[seat_index] = reason
            self._occupancy.block((seat_index,))
        for seat_index, channel_id in allocated:
            self._give_to(channel_id, seat_index)

    def apply_blocked(self, event: SeatsBlocked) -> None:
        """See ``SeatsBlocked``."""
        self._occupancy.block(event.seat_indexes)
        self.blocked.update((index, event.reason) for index in event.seat_indexes)

    def apply_unblocked(self, event: SeatsUnblocked) -> None:
        """See ``SeatsUnblocked``."""
        self._occupancy.unblock(event.seat_indexes)
        for index in event.seat_indexes:
            del self.blocked[index]

    def apply_allocated(self, event: SeatsAllocated) -> None:
        """See ``SeatsAllocated``."""
        for seat_index in event.seat_indexes:
            assert not self._occupancy.taken[seat_index], f"seat {seat_index} is taken"
            self._give_to(event.channel_id, seat_index)

    def _give_to(self, channel_id: ChannelId, seat_index: int) -> None:
        assert seat_index not in self.channel_of, f"seat {seat_index} has a channel already"
        self.channel_of[seat_index] = channel_id
        self._seats_of.setdefault(channel_id, set()).add(seat_index)
        self._occupancy.reserve(seat_index, self._every_leg)

    def apply_deallocated(self, event: SeatsDeallocated) -> None:
        """See ``SeatsDeallocated``."""
        mine = self._seats_of[event.channel_id]
        for seat_index in event.seat_indexes:
            mine.remove(seat_index)
            del self.channel_of[seat_index]
            self._occupancy.unreserve(seat_index)
        if not mine:
            del self._seats_of[event.channel_id]

    def let_through(self, channel_id: ChannelId, seat_indexes: Iterable[int], legs: int) -> None:
        """A hold through the channel is about to claim these seats on these legs."""
        for seat_index in seat_indexes:
            if self.channel_of.get(seat_index) == channel_id:
                self._occupancy.let_through(seat_index, legs)

    def take_back(self, seat_indexes: Iterable[int], legs: int) -> None:
        """These seats have become free on these legs: what is a channel's goes back to it."""
        for seat_index in seat_indexes:
            if seat_index in self.channel_of:
                self._occupancy.reserve(seat_index, legs)
