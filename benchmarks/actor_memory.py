"""What show actors cost in memory: 2,000 runs of a timetable in pools, and one venue show.

    python -m benchmarks.actor_memory [--trips N] [--active N]

Private memory is what the process alone uses (``/proc/self/smaps_rollup``), asked of the actors.
The runs have 8 to 52 stops and eight coaches of 64 seats, and the active ones hold places.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import time

from actors.activation import RemoteShowActor, connect_refs
from actors.show_ref import ShowRefs
from benchmarks.private_house import UNLIMITED, PrivateHouse, private_house, put_show
from persistence.catalogue import Catalogue
from persistence.plan_codec import plan_id_of, route_id_of
from persistence.sessions import open_pool
from reservation.commands import HoldBestAvailable, ReleaseHold, Wish
from reservation.events import SeatsHeld
from reservation.fares import CategoryFare, FareTable
from reservation.faults import Fault
from reservation.ids import CustomerId, HoldId, ShowId, derive_hold_id, derive_show_id
from reservation.listing import ShowKind, ShowListing
from reservation.route import Route, Segment, Stop
from reservation.show import Placement
from tests.support.plans import arena, build_plan

MIB = 2**20
HOLDS_PER_SHOW = 20
COACHES, SEATS_PER_COACH = 8, 64
ARENA_SEATS = 20_000
IDLE_MS = 5_000


def route_of(number: int) -> Route:
    """One of 40 routes with 8 to 52 stops."""
    stops = 8 + number % 40 * 44 // 39
    return Route(
        tuple(
            Stop(f"S{number % 40}-{n}", f"Stop {n}", n * 600, n * 600 + 60, n * 9_000)
            for n in range(stops)
        )
    )


async def put_trips(catalogue: Catalogue, count: int) -> list[tuple[ShowId, Route]]:
    """Runs on sale, with one plan and few routes, as an imported timetable has them."""
    rows = [(f"Coach {c}", str(r), 4, (2,)) for c in range(COACHES) for r in range(16)]
    plan = build_plan(rows)
    assert plan.seat_count == COACHES * SEATS_PER_COACH
    plan_id = plan_id_of(plan)
    await catalogue.put_plan(plan_id, plan, {}, {})
    routes = [route_of(number) for number in range(40)]
    ids = [route_id_of(route) for route in routes]
    await catalogue.put_routes(
        {route_id: (route_id, route) for route_id, route in zip(ids, routes, strict=True)}
    )
    now_ms = time.time_ns() // 1_000_000
    listings = [
        ShowListing(
            derive_show_id(f"trip:{number}"),
            f"trip:{number}",
            ShowKind.TRAIN,
            f"Run {number}",
            "bench",
            now_ms,
            now_ms + 36_000_000,
            now_ms,
            "UTC",
            plan_id,
            ids[number % 40],
            FareTable("EUR", (CategoryFare(500, (100,) * routes[number % 40].leg_count),)),
            Placement.POOLED,
            UNLIMITED,
        )
        for number in range(count)
    ]
    await catalogue.put_shows(listings)
    return [(listing.show_id, routes[n % 40]) for n, listing in enumerate(listings)]


async def hold_some(refs: ShowRefs, show_id: ShowId, legs: int) -> list[HoldId]:
    """Parties of two on segments all over the route."""

    async def hold(number: int) -> HoldId:
        customer = CustomerId(f"c{number}")
        hold_id = derive_hold_id(show_id, customer, "k")
        first = number % legs
        segment = Segment(first, min(legs, first + 1 + number % 7))
        command = HoldBestAvailable(hold_id, customer, segment, Wish(2), "d")
        while True:
            try:
                outcome = await refs.ask(show_id, command, deadline_ms=30_000)
            except Fault:
                continue  # The same id again: the house is starting many shows at once.
            assert isinstance(outcome, SeatsHeld), outcome
            return hold_id

    return list(await asyncio.gather(*(hold(number) for number in range(HOLDS_PER_SHOW))))


async def measure(house: PrivateHouse, trips: int, active: int) -> None:
    """Put the timetable on sale, sell some of it, ask the actors."""
    pool = await open_pool(house.dsn, "bench", size_max=4)
    catalogue = Catalogue(pool)
    shows = await put_trips(catalogue, trips)
    refs = connect_refs(house.actors, catalogue.placement_of)
    for first in range(0, active, 50):
        await asyncio.gather(
            *(
                hold_some(refs, show_id, route.leg_count)
                for show_id, route in shows[first:active][:50]
            )
        )
    total = live = 0
    for slot in range(house.actors.pool_slots):
        status = await RemoteShowActor(f"pool:0:{slot}", house.actors).status()
        live += len(status.shows)
        total += status.private_bytes
        print(f"{status.name}: {len(status.shows)} shows, {status.private_bytes / MIB:.1f} MiB")
    print(f"{trips} trips on sale, {live} active: {total / MIB:.0f} MiB for all show actors")
    await measure_venue(house, refs)
    await pool.close()


async def measure_venue(house: PrivateHouse, refs: ShowRefs) -> None:
    """One dedicated show of 20,000 seats, active and then idle."""
    show_id = await put_show(house.dsn, "arena", arena(ARENA_SEATS))
    holds = await hold_some(refs, show_id, 1)
    name = f"show:{show_id}"
    status = await RemoteShowActor(name, house.actors).status()
    print(f"{name}: {ARENA_SEATS} seats, {status.private_bytes / MIB:.1f} MiB while active")
    for number, hold_id in enumerate(holds):
        await refs.ask(show_id, ReleaseHold(hold_id, CustomerId(f"c{number}")))
    begun = time.monotonic()
    while _is_alive(status.pid):
        assert time.monotonic() - begun < 60, "the idle actor does not leave"
        await asyncio.sleep(0.2)
    print(
        f"passivated {time.monotonic() - begun:.1f} s after its last command: process gone, 0 MiB"
    )


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description="Memory of show actors.")
    parser.add_argument("--trips", type=int, default=2_000)
    parser.add_argument("--active", type=int, default=500)
    options = parser.parse_args()
    with private_house() as house:
        actors = dataclasses.replace(house.actors, passivate_after_ms=IDLE_MS)
        asyncio.run(
            measure(dataclasses.replace(house, actors=actors), options.trips, options.active)
        )


if __name__ == "__main__":
    main()
