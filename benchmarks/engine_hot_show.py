"""One hot show below HTTP: our actor against ``SELECT ... FOR UPDATE`` through a pool of 16.

    python -m benchmarks.engine_hot_show [--rounds N] [--seconds N] [--clients N]

Both hold two free seats a time and answer when the hold is durable; same Postgres, same process
of clients. Rounds are interleaved; quote the ratio, machines differ. Every round ends with an
audit of what was sold.
"""

from __future__ import annotations

import argparse
import itertools
import statistics

import asyncpg
import uvloop

from actors.activation import connect_refs
from actors.show_ref import ShowRefs
from benchmarks.closed_loop import Round, run_clients
from benchmarks.private_house import PrivateHouse, private_house, put_show
from benchmarks.row_lock import RowLock
from persistence.catalogue import Catalogue
from persistence.sessions import open_pool
from persistence.verification import verify_shows
from reservation.commands import HoldSeats, digest_request
from reservation.events import SeatsHeld
from reservation.ids import CustomerId, ShowId, derive_hold_id
from reservation.route import Segment
from tests.support.plans import build_plan

SEATS = 150_000
POOL = 16
WHOLE = Segment(0, 1)


async def actor_round(refs: ShowRefs, show_id: ShowId, clients: int, seconds: float) -> Round:
    """Our actor: each client holds its next two seats."""
    numbers = itertools.count()

    async def ask(client: int) -> bool | None:
        number = next(numbers)
        seats = (2 * number, 2 * number + 1)
        if seats[1] >= SEATS:
            return None
        customer = CustomerId(f"c{client}")
        command = HoldSeats(
            derive_hold_id(show_id, customer, str(number)),
            customer,
            WHOLE,
            seats,
            (),
            False,
            digest_request(seats),
        )
        return isinstance(await refs.ask(show_id, command), SeatsHeld)

    return await run_clients(clients, seconds, ask)


async def row_lock_round(contender: RowLock, show_id: int, clients: int, seconds: float) -> Round:
    """Row locks: the same seats in the same order."""
    numbers = itertools.count()

    async def ask(client: int) -> bool | None:
        number = next(numbers)
        if 2 * number + 1 >= SEATS:
            return None
        return await contender.hold(
            show_id, f"{show_id}-{number}", f"c{client}", [2 * number, 2 * number + 1]
        )

    return await run_clients(clients, seconds, ask)


async def measure(house: PrivateHouse, rounds: int, seconds: float, clients: int) -> None:
    """Interleaved rounds, a table and the ratio."""
    plan = build_plan([("hall", str(row), 50, ()) for row in range(SEATS // 50)])
    pool = await asyncpg.create_pool(house.dsn, min_size=POOL, max_size=POOL)
    contender = RowLock(pool)
    await contender.create_tables()
    catalogue_pool = await open_pool(house.dsn, "bench", size_max=2)
    refs = connect_refs(house.actors, Catalogue(catalogue_pool).placement_of)
    ratios: list[float] = []
    print(f"{clients} clients, holds of two seats, {seconds:g} s a round, pool of {POOL}")
    print("round   row_lock/s  p50 ms  p99 ms      actor/s  p50 ms  p99 ms    ratio")
    for number in range(rounds + 1):
        show_id = await put_show(house.dsn, f"hot show {number}", plan)
        await contender.create_show(number, SEATS)
        # The first hold activates the show; that is measured elsewhere.
        warm = await actor_round(refs, show_id, 1, 0.01)
        assert warm.rate_per_s, "the show does not sell"
        locked = await row_lock_round(contender, number, clients, seconds)
        acted = await actor_round(refs, show_id, clients, seconds)
        [verdict] = [v async for v in verify_shows([pool], house.actors.shards, [show_id])]
        assert not verdict.faults, verdict.faults
        if number == 0:
            continue  # Both were warming up.
        ratios.append(acted.rate_per_s / locked.rate_per_s)
        print(
            f"{number:5}{locked.rate_per_s:13,.0f}{locked.p50_ms:8.1f}{locked.p99_ms:8.1f}"
            f"{acted.rate_per_s:13,.0f}{acted.p50_ms:8.1f}{acted.p99_ms:8.1f}{ratios[-1]:9.1f}"
        )
    print(f"median ratio {statistics.median(ratios):.1f}; every round verified, no seat sold twice")
    await pool.close()
    await catalogue_pool.close()


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="One hot show below HTTP against row locks.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--clients", type=int, default=256)
    options = parser.parse_args()
    with private_house() as house:
        uvloop.run(measure(house, options.rounds, options.seconds, options.clients))


if __name__ == "__main__":
    main()
