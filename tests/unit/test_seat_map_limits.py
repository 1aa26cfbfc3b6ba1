"""Bounds of a seat map: the largest plan, the longest route, and commands that should not exist."""

from __future__ import annotations

import pytest

from reservation import limits
from reservation.commands import (
    BlockSeats,
    Command,
    ConfirmHold,
    HoldBestAvailable,
    HoldSeats,
    ReleaseHold,
    UnblockSeats,
    Wish,
)
from reservation.events import BookingConfirmed, SeatsHeld
from reservation.fares import CategoryFare, FareTable
from reservation.ids import CustomerId, HoldId, derive_show_id
from reservation.rejections import Rejected, Rejection
from reservation.route import Route, Segment, Stop
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Outcome, SeatMap
from reservation.show import SalesPolicy, Show
from tests.support.histories import START_AT_MS, make_show
from tests.support.plans import build_plan
from tests.support.transcript import assert_sound, replayed, restored, state_of

ANN, BOB = CustomerId("ann"), CustomerId("bob")
WHOLE = Segment(0, 1)


def named(
    number: int,
    seats: tuple[int, ...] = (),
    segment: Segment = WHOLE,
    admissions: tuple[tuple[int, int], ...] = (),
    customer: CustomerId = ANN,
) -> HoldSeats:
    return HoldSeats(HoldId(f"hld_{number}"), customer, segment, seats, admissions, False, "digest")


def open_map(show: Show) -> SeatMap:
    return SeatMap(show, SeatChooser(show.plan))


@pytest.mark.parametrize(
    "command",
    [
        named(1, ()),
        named(1, (-1,)),
        named(1, (11,)),
        named(1, (3, 3)),
        named(1, (4, 3)),
        named(1, (0,), Segment(0, 0)),
        named(1, (0,), Segment(2, 1)),
        named(1, (0,), Segment(-1, 1)),
        named(1, (0,), Segment(0, 4)),
        named(1, (), Segment(3, 4), ((0, 1),)),
        named(1, (0,), WHOLE, ((0, 0),)),
        named(1, (0,), WHOLE, ((0, -1),)),
        named(1, (0,), WHOLE, ((2, 1),)),
        named(1, (0,), WHOLE, ((-1, 1),)),
        named(1, (0,), WHOLE, ((0, 1), (0, 1))),
        named(1, (0,), WHOLE, ((1, 1), (0, 1))),
        HoldBestAvailable(HoldId("hld_1"), ANN, Segment(0, 4), Wish(1), "digest"),
        BlockSeats((-1,), "repair"),
        BlockSeats((0, 11), "repair"),
        BlockSeats((2, 2), "repair"),
        UnblockSeats((-1,)),
    ],
    ids=str,
)
def test_a_command_the_edge_should_have_refused_asserts_and_changes_nothing(
    command: Command,
) -> None:
    seat_map = open_map(make_show("edge", legs=3, capacities=(5, 5)))
    before = state_of(seat_map)
    with pytest.raises(AssertionError, match=r"seat|tier|segment|count|nothing"):
        seat_map.decide(command, START_AT_MS)
    assert state_of(seat_map) == before


@pytest.mark.parametrize(
    ("seat_count", "rejection"),
    [
        (0, Rejection.NOT_ENOUGH_SEATS),
        (12, Rejection.NOT_ENOUGH_SEATS),
        (limits.SEATS_PER_HOLD_MAX, Rejection.NOT_ENOUGH_SEATS),
        (limits.SEATS_PER_HOLD_MAX + 1, Rejection.TOO_MANY_SEATS_PER_HOLD),
        (10**9, Rejection.TOO_MANY_SEATS_PER_HOLD),
    ],
)
def test_a_wish_that_no_plan_can_satisfy_is_refused(seat_count: int, rejection: Rejection) -> None:
    show = make_show("wish", policy=SalesPolicy(seats_per_customer_max=2 * 10**9))
    command = HoldBestAvailable(HoldId("hld_1"), ANN, WHOLE, Wish(seat_count), "digest")
    assert open_map(show).decide(command, START_AT_MS) == Rejected(rejection)


def test_a_route_of_255_legs_keeps_every_leg_apart() -> None:
    legs = limits.LEGS_PER_ROUTE_MAX
    policy = SalesPolicy(live_holds_per_customer_max=1_000, seats_per_customer_max=1_000)
    show = make_show("long", rows=(2,), legs=legs, capacities=(1,), policy=policy)
    seat_map = open_map(show)
    history = []
    for leg in range(legs):
        held = seat_map.decide(named(leg, (0,), Segment(leg, leg + 1), ((0, 1),)), START_AT_MS)
        assert isinstance(held, SeatsHeld)
        seat_map.apply(held)
        history.append(held)
    full = seat_map.decide(named(999, (0,), Segment(254, 255)), START_AT_MS)
    assert full == Rejected(Rejection.SEAT_UNAVAILABLE, (0,))
    assert seat_map.occupancy.taken == [(1 << 255) - 1, 0]
    released = seat_map.decide(ReleaseHold(HoldId("hld_100"), ANN), START_AT_MS)
    assert not isinstance(released, Rejected)
    seat_map.apply(released)  # type: ignore[arg-type]
    history.append(released)  # type: ignore[arg-type]
    assert seat_map.occupancy.taken[0] == (1 << 255) - 1 - (1 << 100)
    assert_sound(seat_map, history)


def test_a_hold_may_have_as_many_seats_as_the_limit_and_the_plan_s_last_seat() -> None:
    count = limits.SEATS_PER_PLAN_MAX
    plan = build_plan([("S", str(row), 1_000, ()) for row in range(count // 1_000)])
    policy = SalesPolicy(seats_per_customer_max=limits.SEATS_PER_HOLD_MAX)
    fares = FareTable("EUR", (CategoryFare(5),))
    seat_map = open_map(Show(derive_show_id("stadium"), plan, Route(), fares, policy))
    seats = tuple(range(count - limits.SEATS_PER_HOLD_MAX, count))
    held = seat_map.decide(named(1, seats), START_AT_MS)
    assert isinstance(held, SeatsHeld)
    seat_map.apply(held)
    assert held.amount_minor == 5 * limits.SEATS_PER_HOLD_MAX
    assert seat_map.occupancy.claimed_seat_legs() == limits.SEATS_PER_HOLD_MAX
    assert seat_map.decide(named(2, (0,)), START_AT_MS) == Rejected(Rejection.TOO_MANY_SEATS)
    gone = seat_map.decide(named(3, (0, count - 1), customer=BOB), START_AT_MS)
    assert gone == Rejected(Rejection.SEAT_UNAVAILABLE, (count - 1,))


def test_a_tier_of_a_million_places_counts_to_the_last_one() -> None:
    million = limits.ADMISSION_CAPACITY_MAX
    policy = SalesPolicy(seats_per_customer_max=2 * million)
    seat_map = open_map(make_show("field", capacities=(million,), policy=policy))
    # One hold may not have so many, but it is one claim all the same.
    first = seat_map.decide(named(1, admissions=((0, 1),)), START_AT_MS)
    assert isinstance(first, SeatsHeld)
    seat_map.apply(first._replace(admissions=((0, million - 1, 1_010),)))

    def ask(number: int, count: int) -> Outcome:
        outcome = seat_map.decide(named(number, admissions=((0, count),)), START_AT_MS)
        if isinstance(outcome, SeatsHeld):
            seat_map.apply(outcome)
        return outcome

    assert ask(2, 2) == Rejected(Rejection.CAPACITY_UNAVAILABLE, tier_indexes=(0,))
    assert isinstance(ask(3, 1), SeatsHeld)
    assert ask(4, 1) == Rejected(Rejection.CAPACITY_UNAVAILABLE, tier_indexes=(0,))
    assert seat_map.occupancy.claimed_place_legs() == million


def test_a_flood_of_ended_holds_keeps_memory_bounded() -> None:
    seat_map = open_map(make_show("flood"))
    surplus = 250
    for number in range(limits.ENDED_HOLDS_REMEMBERED_MAX + surplus):
        for command in (named(number, (0,)), ReleaseHold(HoldId(f"hld_{number}"), ANN)):
            event = seat_map.decide(command, START_AT_MS + number)
            seat_map.apply(event)  # type: ignore[arg-type]
    forgotten = seat_map.decide_forgotten(START_AT_MS)
    assert forgotten is not None
    assert forgotten.hold_ids == tuple(f"hld_{number}" for number in range(surplus))
    seat_map.apply(forgotten)
    assert len(seat_map.holds) == limits.ENDED_HOLDS_REMEMBERED_MAX
    assert seat_map.decide_forgotten(START_AT_MS) is None
    assert not seat_map._totals


def test_the_limits_agree_with_each_other_and_with_the_database() -> None:
    assert limits.SEATS_PER_HOLD_MAX <= limits.SEATS_PER_PLAN_MAX
    # Postgres keeps amounts as bigint, counters as integer and legs as bit varying(255).
    places = limits.SEATS_PER_HOLD_MAX + limits.ADMISSION_CAPACITY_MAX
    assert limits.AMOUNT_MINOR_MAX * places < 2**63
    assert limits.ADMISSION_CAPACITY_MAX < 2**31
    assert limits.LEGS_PER_ROUTE_MAX == 255


@pytest.mark.parametrize("count", [1, 2])
def test_restoring_into_a_map_that_has_holds_is_a_bug(count: int) -> None:
    seat_map = open_map(make_show("twice"))
    for number in range(count):
        seat_map.apply(seat_map.decide(named(number, (number,)), START_AT_MS))  # type: ignore[arg-type]
    again = restored(seat_map)
    with pytest.raises(AssertionError, match="restore fills an empty map"):
        again.restore([], [])


def test_events_that_contradict_the_map_are_bugs() -> None:
    show = make_show("bugs", capacities=(1,))
    seat_map = open_map(show)
    held = seat_map.decide(named(1, (0,), admissions=((0, 1),)), START_AT_MS)
    assert isinstance(held, SeatsHeld)
    other = held._replace(hold_id=HoldId("hld_2"))
    confirmed = seat_map.decide(named(1, (0,)), START_AT_MS)
    assert isinstance(confirmed, SeatsHeld)
    with pytest.raises(AssertionError, match="held twice"):
        replayed(seat_map, [held, held])
    with pytest.raises(AssertionError, match="seat 0 claimed twice"):
        replayed(seat_map, [held, other])
    with pytest.raises(AssertionError, match="tier 0 oversold"):
        replayed(seat_map, [held, other._replace(seat_indexes=(1,))])
    once = replayed(seat_map, [held])
    booked = once.decide(ConfirmHold(HoldId("hld_1"), ANN, "card"), START_AT_MS)
    assert isinstance(booked, BookingConfirmed)
    with pytest.raises(AssertionError, match="not held"):
        replayed(seat_map, [held, booked, booked])


def test_stops_far_apart_do_not_change_what_a_seat_map_does() -> None:
    stops = (Stop("A", "A", 0, 0, 0), Stop("B", "B", 90_000, 90_000, 2_000_000))
    plan = build_plan([("S", "1", 2, ())])
    fares = FareTable("EUR", (CategoryFare(0),))
    show = Show(derive_show_id("two stops"), plan, Route(stops), fares)
    held = open_map(show).decide(named(1, (0, 1)), START_AT_MS)
    assert isinstance(held, SeatsHeld)
    assert held.amount_minor == 0
