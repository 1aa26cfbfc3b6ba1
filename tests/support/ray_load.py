"""Clients that hold, pay, let go and cancel until told to stop, and remember what they were told.

They work on whatever answers commands: refs, or an HTTP client that speaks like one.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Iterator, Sequence

from reservation.commands import CancelBooking, Command, HoldSeats, ReleaseHold
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.ids import BookingId, HoldId, ShowId, show_id_of
from reservation.rejections import Rejected
from reservation.seat_map import Outcome
from reservation.show import Show
from tests.support.house import confirm, hold
from tests.support.recorded_history import Ask, Recorder, Told

CONTESTED_SEATS = 40
"""The first seats of a show, which clients take from each other."""

SPARE_SEATS = 200
"""The last seats of a show, which the clients leave to the test."""

PAUSE_S = 0.005

_numbers = itertools.count(1)


class Load:
    """So many clients; each asks again with the same command until it is told something certain."""

    def __init__(
        self,
        ask: Ask,
        shows: Sequence[Show],
        *,
        clients: int = 8,
        seed: int = 1,
        first_seat: int = CONTESTED_SEATS,
        make_hold: Callable[..., HoldSeats] = hold,
    ) -> None:
        """``first_seat``: the first one that nobody else wants."""
        self.recorder = Recorder(ask)
        self.shows = shows
        self.held: set[HoldId] = set()
        self.booked: set[BookingId] = set()
        self.clashes = 0
        self.let_go = 0
        self._make_hold = make_hold
        self._is_over = False
        self._fresh = {
            show.show_id: iter(range(first_seat, show.plan.seat_count - SPARE_SEATS))
            for show in shows
        }
        self._clients = [asyncio.ensure_future(self._client(n, seed)) for n in range(clients)]

    @property
    def unknown(self) -> int:
        """How often somebody did not learn what became of a command."""
        return self.recorder.counts[Told.UNKNOWN]

    @property
    def not_done(self) -> int:
        """How often somebody was told that nothing had happened."""
        return self.recorder.counts[Told.NOT_DONE]

    @property
    def acknowledged(self) -> int:
        """How many certain answers there were."""
        return sum(1 for _ in self.recorder.certain())

    def acknowledged_since(self, moment_ns: int) -> int:
        """Certain answers to what was asked after this moment."""
        return sum(attempt.invoked_ns > moment_ns for attempt in self.recorder.certain())

    def answered_between(self, from_ns: int, to_ns: int) -> int:
        """Certain answers that came between these two moments."""
        return sum(from_ns < attempt.answered_ns < to_ns for attempt in self.recorder.certain())

    async def until_booked(self, more: int = 20, *, timeout_s: float = 40) -> None:
        """Wait until so many more bookings have been made."""
        wanted = len(self.booked) + more
        async with asyncio.timeout(timeout_s):
            while len(self.booked) < wanted:
                self._fail_if_a_client_failed()
                await asyncio.sleep(0.02)

    async def insist(self, show_id: ShowId, command: Command, client: str = "test") -> Outcome:
        """The certain outcome of a command, however often it takes."""
        return await self.recorder.insist(client, show_id, command)

    async def first_new_hold(self, show: Show, fault_at: float) -> float:
        """Seconds from the fault until one client, asking on and on, has a hold of its own."""
        seat = show.plan.seat_count - next(_numbers) % SPARE_SEATS - 1
        command = self._make_hold(show.show_id, seat, customer="last")
        held = await self.insist(show.show_id, command, "last")
        assert isinstance(held, SeatsHeld), held
        return time.monotonic() - fault_at

    async def stop(self) -> None:
        """Let every client finish what it has begun."""
        self._is_over = True
        await asyncio.gather(*self._clients)

    def _fail_if_a_client_failed(self) -> None:
        for client in self._clients:
            if client.done() and (error := client.exception()):
                raise error

    async def _client(self, number: int, seed: int) -> None:
        dice = random.Random(seed * 1_000 + number)
        name = f"client {number}".replace(" ", "-")
        for turn in itertools.count():
            show = self.shows[(number + turn) % len(self.shows)]
            seats = self._choose(dice, self._fresh[show.show_id])
            if self._is_over or not seats:
                return
            command = self._make_hold(show.show_id, *seats, customer=name)
            held = await self.insist(show.show_id, command, name)
            if isinstance(held, SeatsHeld):
                self.held.add(held.hold_id)
                await self._settle(held, name, dice, is_contested=seats[0] < CONTESTED_SEATS)
            else:
                assert isinstance(held, Rejected), held
                assert seats[0] < CONTESTED_SEATS, f"nobody else wants {seats}: {held}"
                self.clashes += 1
            await asyncio.sleep(PAUSE_S)

    @staticmethod
    def _choose(dice: random.Random, fresh: Iterator[int]) -> tuple[int, ...]:
        if dice.random() < 0.3:
            return tuple(sorted(dice.sample(range(CONTESTED_SEATS), 2)))
        seat = next(fresh, None)
        return () if seat is None else (seat,)

    async def _settle(
        self, held: SeatsHeld, name: str, dice: random.Random, *, is_contested: bool
    ) -> None:
        """What a client does with a hold. Contested seats are always given back."""
        show_id = show_id_of(held.hold_id)
        roll = dice.random()
        if roll < (0.5 if is_contested else 0.15):
            await self.insist(show_id, ReleaseHold(held.hold_id, held.customer_id), name)
            self.let_go += 1
        elif roll < 0.8 or is_contested:
            booking = await self.insist(show_id, confirm(held), name)
            assert isinstance(booking, BookingConfirmed), booking
            if is_contested or roll < 0.3:
                cancel = CancelBooking(booking.booking_id, held.customer_id)
                await self.insist(show_id, cancel, name)
                self.let_go += 1
            else:
                self.booked.add(booking.booking_id)
