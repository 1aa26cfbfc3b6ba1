"""Ours: the show's actor decides; see ``actors.show_ref``."""

from __future__ import annotations

import time
from collections.abc import Sequence

from actors.show_ref import ShowRefs
from benchmarks.contenders.contender import Held, HoldAnswer, HoldRequest, Refusal, ShowSpec
from persistence.catalogue import Catalogue
from persistence.plan_codec import plan_id_of, route_id_of
from reservation.commands import HoldSeats, digest_request
from reservation.events import SeatsHeld
from reservation.fares import CategoryFare, FareTable
from reservation.ids import ShowId
from reservation.listing import ShowKind, ShowListing
from reservation.rejections import Rejected, Rejection
from reservation.route import Route, Segment, Stop
from reservation.seat_map import Repeated
from reservation.seating_plan import SeatingPlan
from reservation.show import Placement, SalesPolicy
from tests.support.plans import build_plan

ROW_SEATS = 50
NO_LIMIT = 10**9


class Actor:
    """Holds seats through ``ShowRefs``; see ``Contender``."""

    def __init__(self, refs: ShowRefs, catalogue: Catalogue) -> None:
        self._refs = refs
        self._catalogue = catalogue

    async def open_shows(self, specs: Sequence[ShowSpec]) -> None:
        """See ``Contender``."""
        placement = Placement.DEDICATED if specs[0].leg_count == 1 else Placement.POOLED
        await put_on_sale(self._catalogue, specs, plan_of(specs[0].seat_count), placement)

    def prepare(self, request: HoldRequest) -> tuple[ShowId, HoldSeats]:
        """See ``Contender``."""
        segment = Segment(request.from_leg, request.to_leg)
        digest = digest_request("named", request.seats, (), False, tuple(segment))
        return request.show_id, HoldSeats(
            request.hold_id, request.customer_id, segment, request.seats, (), False, digest
        )

    async def hold(self, prepared: tuple[ShowId, HoldSeats]) -> HoldAnswer:
        """See ``Contender``."""
        outcome = await self._refs.ask(*prepared)
        if isinstance(outcome, SeatsHeld):
            return Held(outcome.hold_id, outcome.expires_at_ms)
        if isinstance(outcome, Repeated):
            assert isinstance(outcome.event, SeatsHeld)
            return Held(outcome.event.hold_id, outcome.event.expires_at_ms)
        assert isinstance(outcome, Rejected), outcome
        if outcome.code is Rejection.SEAT_UNAVAILABLE:
            return Refusal.TAKEN
        return Refusal.REUSED


def plan_of(seat_count: int) -> SeatingPlan:
    """A hall of rows of fifty."""
    full, rest = divmod(seat_count, ROW_SEATS)
    rows = [("hall", str(row), ROW_SEATS, ()) for row in range(full)]
    return build_plan([*rows, ("hall", "last", rest, ())] if rest else rows)


def route_of(leg_count: int) -> Route:
    """A line with so many legs."""
    return Route(
        tuple(
            Stop(f"S{leg_count}-{n}", f"Stop {n}", n * 600, n * 600 + 60, n * 9_000)
            for n in range(leg_count + 1)
        )
    )


async def put_on_sale(
    catalogue: Catalogue, specs: Sequence[ShowSpec], plan: SeatingPlan, placement: Placement
) -> None:
    """Put shows of one plan and one number of legs into the catalogue, without limits."""
    plan_id = plan_id_of(plan)
    await catalogue.put_plan(plan_id, plan, {}, {})
    leg_count = specs[0].leg_count
    route_id = None
    if leg_count > 1:
        route = route_of(leg_count)
        route_id = route_id_of(route)
        await catalogue.put_routes({route_id: (f"Line of {leg_count}", route)})
    now_ms = time.time_ns() // 1_000_000
    fares = FareTable(
        "EUR",
        tuple(
            CategoryFare(500, (100,) * leg_count) if leg_count > 1 else CategoryFare(1_000)
            for _ in plan.categories
        ),
    )
    listings = [
        ShowListing(
            spec.show_id,
            spec.name,
            ShowKind.PERFORMANCE if leg_count == 1 else ShowKind.TRAIN,
            spec.name,
            "bench",
            now_ms,
            now_ms,
            now_ms,
            "UTC",
            plan_id,
            route_id,
            fares,
            placement,
            SalesPolicy(
                hold_ttl_ms=spec.hold_ttl_ms,
                seats_per_customer_max=NO_LIMIT,
                live_holds_per_customer_max=NO_LIMIT,
            ),
        )
        for spec in specs
    ]
    counts = await catalogue.put_shows(listings)
    assert not counts.refused, counts.refused[0]
