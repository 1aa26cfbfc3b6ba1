"""Too many callers, and callers that hang up: F31 and F23, below HTTP.

The same over HTTP, in both ingress modes, is in ``test_http_faults``.
"""

from __future__ import annotations

import asyncio
import logging
import random

from reservation.events import BookingConfirmed, SeatsHeld
from reservation.rejections import Rejected, Rejection
from reservation.seat_map import Repeated
from tests.support.house import confirm, hold
from tests.support.ray_house import RayHouse
from tests.support.recorded_history import Attempt, Recorder, Told

measured = logging.getLogger("measured")

CROWD = 10_000
CALLING_PROCESSES = 4
EVERY_NTH = 50


async def test_f31_ten_thousand_who_want_one_seat_are_all_answered_and_one_gets_it(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    refs = [house.open_refs() for _ in range(CALLING_PROCESSES)]
    recorders = [Recorder(each.ask) for each in refs]

    async def buy(number: int) -> BookingConfirmed | None:
        recorder, name = recorders[number % CALLING_PROCESSES], f"buyer-{number}"
        held = await recorder.insist(name, show_id, hold(show_id, 0, customer=name))
        if isinstance(held, Rejected):
            assert held.code is Rejection.SEAT_UNAVAILABLE
            return None
        assert isinstance(held, SeatsHeld)
        booking = await recorder.insist(name, show_id, confirm(held))
        assert isinstance(booking, BookingConfirmed)
        return booking

    bookings = await asyncio.gather(*(buy(number) for number in range(CROWD)))
    assert sum(booking is not None for booking in bookings) == 1
    told = [attempt.told for recorder in recorders for attempt in recorder.attempts]
    assert told.count(Told.REJECTED) == CROWD - 1
    measured.info("a crowd of %d: %d asked again", CROWD, len(told) - CROWD - 1)
    # Who was refused changed nothing: a part of them says as much about the order of the rest.
    checked = {f"buyer-{n}" for n, booking in enumerate(bookings) if booking or n % EVERY_NTH == 0}
    attempts = [
        attempt
        for recorder in recorders
        for attempt in recorder.attempts
        if attempt.client in checked
    ]
    await house.check_history([show], attempts)


async def test_f23_callers_that_hang_up_at_any_moment_leave_everything_in_order(
    house: RayHouse,
) -> None:
    show = await house.add_show()
    show_id = show.show_id
    dice = random.Random(7)
    recorder = Recorder(house.refs.ask)
    await recorder.once("first", show_id, hold(show_id, 9_999))
    commands = [hold(show_id, seat, customer=f"c{seat}") for seat in range(300)]
    outcomes = {"cancelled": 0, "answered": 0}
    for start in range(0, len(commands), 30):
        asking = [
            asyncio.ensure_future(recorder.once(command.customer_id, show_id, command))
            for command in commands[start : start + 30]
        ]
        await asyncio.sleep(dice.random() * 0.008)
        for task in asking:
            if dice.random() < 0.7:
                task.cancel()
        for result in await asyncio.gather(*asking, return_exceptions=True):
            if isinstance(result, asyncio.CancelledError):
                outcomes["cancelled"] += 1
            else:
                assert isinstance(result, Attempt)
                assert isinstance(result.outcome, SeatsHeld)
                outcomes["answered"] += 1
    assert min(outcomes.values()) > 10, outcomes
    stored = await house.pool.fetchval(
        "SELECT count(*) FROM every_hold WHERE show_id = $1", show_id
    )
    again = await asyncio.gather(
        *(recorder.once(command.customer_id, show_id, command) for command in commands)
    )
    assert all(isinstance(attempt.outcome, SeatsHeld | Repeated) for attempt in again)
    assert sum(attempt.told is Told.REPEATED for attempt in again) >= outcomes["answered"]
    measured.info("%s of 300 callers; %d holds were durable all the same", outcomes, stored)
    await house.check_history([show], recorder.attempts)
