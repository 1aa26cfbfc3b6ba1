"""How long a sold-out show of 50,000 seats takes to come back from Postgres.

    python -m benchmarks.activation [--seats N] [--rounds N]

25,000 bookings of two seats are made through the journal; then a new owner activates the show:
epoch, holds, bookings, claims counted, plan decoded, map restored, first hold decided and durable.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from actors.clock import SystemClock
from actors.process import calm_collector
from actors.show_actor import ShowActor
from benchmarks.private_house import put_show
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import migrate
from persistence.provisioning import ensure_database
from persistence.show_store import open_show_store
from reservation.commands import ConfirmHold, HoldSeats, digest_request
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.ids import CustomerId, ShowId, derive_hold_id
from reservation.route import Segment
from reservation.show import Placement
from tests.support.plans import build_plan

WHOLE = Segment(0, 1)
BATCH = 250


async def open_actor(dsn: str, show_id: ShowId) -> ShowActor:
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


def hold_of(show_id: ShowId, number: int) -> HoldSeats:
    """Two seats for one customer."""
    customer = CustomerId(f"c{number}")
    seats = (2 * number, 2 * number + 1)
    hold_id = derive_hold_id(show_id, customer, "k")
    return HoldSeats(hold_id, customer, WHOLE, seats, (), False, digest_request(seats))


async def sell_out(actor: ShowActor, show_id: ShowId, pairs: int) -> None:
    """Hold and confirm every pair but the last."""
    for first in range(0, pairs - 1, BATCH):
        holds = [hold_of(show_id, n) for n in range(first, min(first + BATCH, pairs - 1))]
        held = await actor.submit([(show_id, hold) for hold in holds])
        assert all(isinstance(answer, SeatsHeld) for answer in held.answers), held.answers[0]
        confirms = [ConfirmHold(hold.hold_id, hold.customer_id, "counter") for hold in holds]
        booked = await actor.submit([(show_id, confirm) for confirm in confirms])
        assert all(isinstance(answer, BookingConfirmed) for answer in booked.answers)


async def measure(dsn: str, server_dsn: str, seats: int, rounds: int) -> None:
    """Sell out once, activate again and again."""
    await ensure_database(server_dsn, "bench")
    await migrate(dsn)
    plan = build_plan([("hall", str(row), 50, ()) for row in range(seats // 50)])
    show_id = await put_show(dsn, "sold out", plan)
    await sell_out(await open_actor(dsn, show_id), show_id, seats // 2)
    print(f"{seats} seats, {seats // 2 - 1} bookings of two")
    times: list[float] = []
    for number in range(rounds):
        actor = await open_actor(dsn, show_id)
        begun = time.perf_counter()
        reply = await actor.submit([(show_id, hold_of(show_id, seats // 2 - 1))])
        times.append(time.perf_counter() - begun)
        print(f"round {number + 1}: {times[-1] * 1_000:.0f} ms until the first hold is durable")
        assert not isinstance(reply.answers[0], Exception), reply.answers[0]
    print(f"median {statistics.median(times) * 1_000:.0f} ms, worst {max(times) * 1_000:.0f} ms")


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Activation of a sold-out show.")
    parser.add_argument("--seats", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    calm_collector()
    with tempfile.TemporaryDirectory(prefix="hf") as home, EmbeddedPostgres(Path(home)) as postgres:
        asyncio.run(measure(postgres.dsn("bench"), postgres.dsn(), options.seats, options.rounds))


if __name__ == "__main__":
    main()
