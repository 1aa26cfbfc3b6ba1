"""``python -m benchmarks.soak.clients JOB RECORDS``: one process of clients.

It works until its standard input ends, then lets every client finish what it has begun. Once a
second it prints one line: operations that got a certain answer, and those that did not.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import pickle
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.config import ActorsConfig
from reservation.commands import CancelBooking, Command, ExtendHold, HoldSeats, ReleaseHold
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.ids import ShowId
from reservation.seat_map import Outcome
from reservation.show import Show
from serve_app.access.key_ring import SigningKey
from tests.support.house import confirm, hold
from tests.support.recorded_history import Ask, NotResolved, Recorder

WINDOW_SEATS = 20
"""So many seats of a show are wanted by everybody at one time ..."""

WINDOW_S = 10
"""... and after so many seconds the next ones, so that the story of no seat grows too long."""

WINDOWS_MAX = 300
CONTESTED_SHARE = 0.3
PACE_S = 0.1
TOLD = "told"
"""What the lines begin with that tell of progress."""


@dataclass(frozen=True, slots=True)
class Job:
    """What one process of clients is to do.

    Shapes:
        number, processes: which one this is, and of how many.
        signing_key: the house's own, by which its clients are signed in.
        ray_address, actors: how its refs reach the shows; without them it speaks HTTP.
        epoch_s: when the soak began, by the machine's monotonic clock.
    """

    number: int
    processes: int
    clients: int
    seed: int
    shows: list[Show]
    epoch_s: float
    dsn: str
    ray_address: str = ""
    actors: ActorsConfig | None = None
    url: str = ""
    signing_key: SigningKey | None = None


class Customers:
    """The clients of one process."""

    def __init__(self, job: Job, ask: Ask, make_hold: Callable[..., HoldSeats], records: Path):
        self._job = job
        self._make_hold = make_hold
        self._file = records.open("ab")
        self.recorder = Recorder(ask, file=self._file)
        self._is_over = False
        self._names = itertools.count(1)
        self._fresh = {show.show_id: self._own_seats(show) for show in job.shows}

    def _own_seats(self, show: Show) -> itertools.cycle[int]:
        """Seats that nobody else wants; when all were asked for, from the beginning again."""
        first = WINDOW_SEATS * WINDOWS_MAX + self._job.number
        return itertools.cycle(range(first, show.plan.seat_count, self._job.processes))

    async def work(self) -> None:
        """Until standard input ends."""
        clients = [asyncio.ensure_future(self._client(n)) for n in range(self._job.clients)]
        saying = asyncio.ensure_future(self._say_how_it_goes())
        await asyncio.to_thread(sys.stdin.read)
        self._is_over = True
        await asyncio.gather(*clients)
        saying.cancel()
        self._file.close()

    async def _say_how_it_goes(self) -> None:
        certain = unknown = not_done = seen = 0
        while True:
            for attempt in self.recorder.attempts[seen:]:
                certain += attempt.told.is_certain
                unknown += attempt.told.value == "unknown"
                not_done += attempt.told.value == "not done"
            seen = len(self.recorder.attempts)
            # In one piece: Ray prints here, too, from a thread of its own.
            sys.stdout.write(f"{TOLD} {certain} {unknown} {not_done}\n")
            sys.stdout.flush()
            await asyncio.sleep(1)

    async def _client(self, number: int) -> None:
        dice = random.Random(f"{self._job.seed} {self._job.number} {number}")
        name = f"ref{self._job.number}-client{number}"
        await asyncio.sleep(dice.random() * PACE_S)
        while not self._is_over:
            show = dice.choice(self._job.shows)
            seats = self._choose(dice, show)
            # A customer of its own each time: the limits per customer are met by some of them.
            customer = f"{name}-{next(self._names) // 4}"
            try:
                await self._buy(dice, show.show_id, seats, customer, name)
            except NotResolved:
                continue  # It is on record.

    def _choose(self, dice: random.Random, show: Show) -> tuple[int, ...]:
        if dice.random() >= CONTESTED_SHARE:
            return (next(self._fresh[show.show_id]),)
        window = int((time.monotonic() - self._job.epoch_s) / WINDOW_S) % WINDOWS_MAX
        first = window * WINDOW_SEATS
        return tuple(sorted(dice.sample(range(first, first + WINDOW_SEATS), 2)))

    async def _buy(
        self,
        dice: random.Random,
        show_id: ShowId,
        seats: tuple[int, ...],
        customer: str,
        session: str,
    ) -> None:
        command = self._make_hold(show_id, *seats, customer=customer)
        held = await self._ask(show_id, command, session)
        if not isinstance(held, SeatsHeld):
            return
        roll = dice.random()
        if roll < 0.12:
            return  # It expires.
        if roll < 0.25:
            await self._ask(show_id, ReleaseHold(held.hold_id, held.customer_id), session)
            return
        if roll < 0.35:
            await self._ask(show_id, ExtendHold(held.hold_id, held.customer_id), session)
        booking = await self._ask(show_id, confirm(held), session)
        if isinstance(booking, BookingConfirmed) and roll > 0.8:
            cancel = CancelBooking(booking.booking_id, held.customer_id)
            await self._ask(show_id, cancel, session)

    async def _ask(self, show_id: ShowId, command: Command, session: str) -> Outcome:
        begun = time.monotonic()
        outcome = await self.recorder.insist(session, show_id, command)
        await asyncio.sleep(max(0.0, PACE_S - (time.monotonic() - begun)))
        return outcome


@asynccontextmanager
async def _asking(job: Job) -> AsyncIterator[tuple[Ask, Callable[..., HoldSeats]]]:
    if job.actors is None:
        from tests.support.access import Tokens
        from tests.support.http_clients import http_clients

        assert job.signing_key is not None
        tokens = Tokens(job.signing_key)
        async with http_clients(job.url, job.shows[0].plan, tokens) as clients:
            yield clients.ask, clients.make_hold
        return
    import ray

    from actors.activation import connect_refs
    from persistence.catalogue import Catalogue
    from persistence.sessions import open_pool

    ray.init(address=job.ray_address, namespace=job.actors.namespace, log_to_driver=False)
    pool = await open_pool(job.dsn, "soak clients", size_max=1)
    refs = connect_refs(job.actors, Catalogue(pool).placement_of)

    def make_hold(show_id: ShowId, *seats: int, customer: str) -> HoldSeats:
        # Numbers begin anew in every process; the customer's name does not.
        return hold(show_id, *seats, customer=customer)

    try:
        yield refs.ask, make_hold
    finally:
        await pool.close()


async def _work(job: Job, records: Path) -> None:
    async with _asking(job) as (ask, make_hold):
        await Customers(job, ask, make_hold, records).work()


def main() -> None:
    """Do what the job file says."""
    job: Job = pickle.loads(Path(sys.argv[1]).read_bytes())
    asyncio.run(_work(job, Path(sys.argv[2])))
    sys.stdout.flush()
    # Ray's own good-byes take seconds and are of no use here.
    os._exit(0)


if __name__ == "__main__":
    main()
