"""How long a sold-out show takes to come back from Postgres: the first hold after it, durable.

Bookings of two seats are made through the journal; then a new owner activates the show: epoch,
holds, bookings, claims counted, plan decoded, map restored, first hold decided and durable.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import uvloop

from actors.clock import SystemClock
from actors.process import calm_collector
from actors.show_actor import ShowActor
from benchmarks.below_http import new_show_name, request_of
from benchmarks.bench import Bench
from benchmarks.contenders.actor import plan_of
from benchmarks.private_house import put_show
from benchmarks.results import ScenarioResult
from persistence.migrate import migrate
from persistence.provisioning import ensure_database
from persistence.shards import ShardMap
from persistence.show_store import open_show_store
from reservation.commands import ConfirmHold, HoldSeats, digest_request
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.ids import ShowId
from reservation.route import Segment
from reservation.show import Placement

NAME = "activation"
SEATS = 50_000
SEATS_QUICK = 20_000
WHOLE = Segment(0, 1)
BATCH = 250


def run(bench: Bench) -> ScenarioResult:
    """See the module's docstring."""
    postgres = bench.grounds.databases().postgres
    asyncio.run(ensure_database(postgres.dsn(), NAME))
    asyncio.run(migrate(postgres.dsn(NAME)))
    # As every process of an actor does when it begins.
    calm_collector()
    return uvloop.run(_run(bench, postgres.dsn(NAME)))


async def _run(bench: Bench, dsn: str) -> ScenarioResult:
    seats = SEATS_QUICK if bench.options.is_quick else SEATS
    result = ScenarioResult(NAME, f"a sold-out show of {seats:,} seats comes back")
    show_id = await put_show(dsn, new_show_name(NAME), plan_of(seats))
    bench.say(f"selling {seats:,} seats")
    seller = await _open_actor(dsn, show_id)
    booked = await _sell_out(seller, show_id, seats // 2)
    times_ms = []
    last = _hold_of(show_id, seats // 2 - 1)
    for number in range(1, bench.options.rounds + 1):
        bench.say(f"round {number} of {bench.options.rounds}")
        owner = await _open_actor(dsn, show_id)
        begun = time.perf_counter()
        reply = await owner.submit([(show_id, last)])
        times_ms.append((time.perf_counter() - begun) * 1_000)
        assert not isinstance(reply.answers[0], Exception), reply.answers[0]
    await bench.audit.check_ours(ShardMap.even((dsn,)), [show_id], [*booked, last.hold_id])
    result.figures |= {
        "seats": seats,
        "bookings": len(booked),
        "first_hold_median_ms": statistics.median(times_ms),
        "first_hold_worst_ms": max(times_ms),
    }
    return result


async def _open_actor(dsn: str, show_id: ShowId) -> ShowActor:
    """A new owner, as another process would be."""
    source, journal = await open_show_store(dsn, dsn, owner=f"show:{show_id}")
    return ShowActor(
        f"show:{show_id}",
        Placement.DEDICATED,
        source,
        journal,
        SystemClock(),
        passivate_after_ms=600_000,
        mailbox_commands_max=100_000,
    )


def _hold_of(show_id: ShowId, number: int) -> HoldSeats:
    """Two seats for one customer."""
    wanted = request_of(show_id, number, (2 * number, 2 * number + 1))
    digest = digest_request(wanted.seats)
    return HoldSeats(wanted.hold_id, wanted.customer_id, WHOLE, wanted.seats, (), False, digest)


async def _sell_out(actor: ShowActor, show_id: ShowId, pairs: int) -> list[str]:
    """Hold and confirm every pair but the last."""
    sold: list[str] = []
    for first in range(0, pairs - 1, BATCH):
        holds = [_hold_of(show_id, n) for n in range(first, min(first + BATCH, pairs - 1))]
        held = await actor.submit([(show_id, hold) for hold in holds])
        assert all(isinstance(answer, SeatsHeld) for answer in held.answers), held.answers[0]
        confirms = [ConfirmHold(hold.hold_id, hold.customer_id, "counter") for hold in holds]
        booked = await actor.submit([(show_id, confirm) for confirm in confirms])
        assert all(isinstance(answer, BookingConfirmed) for answer in booked.answers)
        sold += [hold.hold_id for hold in holds]
    return sold
