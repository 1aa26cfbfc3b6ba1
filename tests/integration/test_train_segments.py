"""A real timetable on sale: passengers share a seat leg by leg, and a brute-force model agrees."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import pytest

from actors.clock import SystemClock
from actors.show_actor import ShowActor
from integrations.gtfs_timetable import FareRule
from persistence.catalogue import Catalogue
from persistence.sessions import open_pool
from persistence.shards import ShardMap
from persistence.show_store import open_show_store
from persistence.verification import verify_shows
from reservation.commands import HoldSeats, ReleaseHold, digest_request
from reservation.events import HoldReleased, SeatsHeld
from reservation.ids import CustomerId, HoldId, ShowId, derive_hold_id, derive_show_id
from reservation.rejections import Rejected, Rejection
from reservation.route import Route, Segment
from reservation.show import OrphanRule, Placement, SalesPolicy
from serve_app.catalogue.demo_catalogue import DEMO_DIRECTORY
from serve_app.catalogue.importing import FareTerms, import_gtfs

FEED = Path(__file__).resolve().parents[3] / "shared" / "data" / "gtfs" / "sri-lanka-railways"
pytestmark = pytest.mark.skipif(not FEED.is_dir(), reason=f"the timetable {FEED.name} is missing")

FIRST_DAY, LAST_DAY = date(2026, 12, 1), date(2026, 12, 7)
UNLIMITED = SalesPolicy(
    orphan_rule=OrphanRule.OFF, seats_per_customer_max=10**6, live_holds_per_customer_max=10**6
)
REQUESTS = 10_000
BATCH_MAX = 60
"""Requests that come at once: the actor commits them together and answers each as in a line."""


@pytest.fixture
async def catalogue(fresh_database: str) -> AsyncIterator[Catalogue]:
    pool = await open_pool(fresh_database, "test", size_max=2)
    catalogue = Catalogue(pool)
    report = await import_gtfs(
        catalogue,
        FEED,
        from_date=FIRST_DAY,
        to_date=LAST_DAY,
        plan_path=DEMO_DIRECTORY / "train-coach.json",
        extras_path=DEMO_DIRECTORY / "train-coach-extras.json",
        fares=FareTerms("LKR", FareRule(1_000, 150)),
        policy=UNLIMITED,
    )
    # Seven days of 333 trips that run daily or on most days; one trip has a single stop.
    assert 333 * 5 < report.created <= 333 * 7
    yield catalogue
    await pool.close()


@pytest.fixture
async def train(catalogue: Catalogue) -> tuple[ShowId, Route]:
    """The run of trip 1045 on the first day: Colombo Fort to Nawalapitiya."""
    show_id = derive_show_id(f"gtfs:CR:1045:{FIRST_DAY.isoformat()}")
    show = await catalogue.load_show(show_id)
    assert show is not None
    assert show.placement is Placement.POOLED
    return show_id, show.route


@pytest.fixture
async def actor(fresh_database: str) -> AsyncIterator[ShowActor]:
    source, journal = await open_show_store(fresh_database, fresh_database, owner="pool:0:0")
    yield ShowActor(
        "pool:0:0",
        Placement.POOLED,
        source,
        journal,
        SystemClock(),
        passivate_after_ms=600_000,
        mailbox_commands_max=100_000,
    )
    await journal.close()


def hold(show_id: ShowId, number: int, segment: Segment, seats: tuple[int, ...]) -> HoldSeats:
    customer = CustomerId(f"passenger-{number}")
    hold_id = derive_hold_id(show_id, customer, str(number))
    return HoldSeats(hold_id, customer, segment, seats, (), False, digest_request(seats, segment))


async def test_two_passengers_share_a_seat_and_a_third_who_overlaps_both_is_refused(
    actor: ShowActor, train: tuple[ShowId, Route]
) -> None:
    show_id, route = train
    a_to_b = route.segment("FOT", "PDA")
    b_to_c = route.segment("PDA", "RZL")
    a_to_c = route.segment("FOT", "RZL")
    assert a_to_b is not None
    assert b_to_c is not None
    assert a_to_c is not None
    wishes = [hold(show_id, n, segment, (7,)) for n, segment in enumerate([a_to_b, b_to_c, a_to_c])]
    first, second, third = (await actor.submit([(show_id, wish) for wish in wishes])).answers
    assert isinstance(first, SeatsHeld)
    assert isinstance(second, SeatsHeld)
    assert third == Rejected(Rejection.SEAT_UNAVAILABLE, (7,))


async def test_a_brute_force_model_agrees_over_ten_thousand_segment_requests(
    actor: ShowActor,
    train: tuple[ShowId, Route],
    fresh_database: str,
) -> None:
    show_id, route = train
    legs = route.leg_count
    dice = random.Random(1045)
    owner_of: dict[tuple[int, int], HoldId] = {}  # (seat, leg): the whole model
    live: list[HoldSeats] = []
    asked: list[HoldSeats | ReleaseHold] = []
    expected: list[Rejected | tuple[int, ...] | None] = []
    accepted = refused = released = 0
    batch = dice.randint(1, BATCH_MAX)
    for number in range(REQUESTS):
        if live and dice.random() < 0.35:
            gone = live.pop(dice.randrange(len(live)))
            asked.append(ReleaseHold(gone.hold_id, gone.customer_id))
            expected.append(None)
            for key in [key for key, owner in owner_of.items() if owner == gone.hold_id]:
                del owner_of[key]
            released += 1
        else:
            from_leg = dice.randrange(legs)
            segment = Segment(from_leg, dice.randint(from_leg + 1, legs))
            seats = tuple(sorted(dice.sample(range(24), dice.randint(1, 3))))
            wish = hold(show_id, number, segment, seats)
            asked.append(wish)
            clashes = tuple(
                seat for seat in seats if any((seat, leg) in owner_of for leg in range(*segment))
            )
            if clashes:
                expected.append(Rejected(Rejection.SEAT_UNAVAILABLE, clashes))
                refused += 1
            else:
                expected.append(seats)
                owner_of.update(
                    {(seat, leg): wish.hold_id for seat in seats for leg in range(*segment)}
                )
                live.append(wish)
                accepted += 1
        if len(asked) == batch or number == REQUESTS - 1:
            reply = await actor.submit([(show_id, command) for command in asked])
            for answer, due in zip(reply.answers, expected, strict=True):
                if due is None:
                    assert isinstance(answer, HoldReleased)
                elif isinstance(due, Rejected):
                    assert answer == due
                else:
                    assert isinstance(answer, SeatsHeld)
                    assert answer.seat_indexes == due
            asked, expected, batch = [], [], dice.randint(1, BATCH_MAX)
    # A comparison that always refuses, or never does, would prove nothing.
    assert min(accepted, refused, released) > 1_000
    pool = await open_pool(fresh_database, "test", size_max=1)
    shards = ShardMap.even((fresh_database,))
    [verdict] = [verdict async for verdict in verify_shows([pool], shards, [show_id])]
    await pool.close()
    assert verdict.faults == []
    assert verdict.seat_legs == len(owner_of)
