"""What a batch leaves behind: its net effect, and the same however a life is cut into batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from persistence.claim_blocks import BLOCK_BITS_MAX, claims_of, taken_seats
from persistence.memory_journal import MemoryStore
from persistence.projection import HOLD_SECTIONS, OTHER_SECTIONS, Projection
from persistence.store import Part
from reservation.events import (
    Arrangement,
    BookingCancelled,
    BookingConfirmed,
    Event,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    HoldsForgotten,
    SeatsBlocked,
    SeatsHeld,
    SeatsUnblocked,
)
from reservation.ids import BookingId, CustomerId, HoldId, ShowId
from reservation.route import Segment
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import SeatMap
from tests.support.histories import RandomLife, make_show
from tests.support.transcript import state_of

SHOW = ShowId("shw_0000000000000000")
ANN = CustomerId("cus_ann")
ONE, TWO = HoldId("hld_1"), HoldId("hld_2")


def held(hold_id: HoldId = ONE, *seats: int) -> SeatsHeld:
    indexes = seats or (5,)
    return SeatsHeld(
        hold_id,
        ANN,
        Segment(0, 1),
        indexes,
        (100,) * len(indexes),
        (),
        Arrangement.NAMED,
        1_000,
        2_000,
        "digest",
    )


def confirmed(hold_id: HoldId = ONE) -> BookingConfirmed:
    return BookingConfirmed(hold_id, BookingId(f"bkg_{hold_id[4:]}"), ANN, "card", 100, 1_500)


def cancelled(hold_id: HoldId = ONE) -> BookingCancelled:
    return BookingCancelled(hold_id, BookingId(f"bkg_{hold_id[4:]}"), 1_700)


def released(hold_id: HoldId = ONE) -> HoldReleased:
    return HoldReleased(hold_id, 1_600)


BLOCK, UNBLOCK = SeatsBlocked((5,), "repair", 1_000), SeatsUnblocked((5,), 1_100)


def effect(*events: Event) -> dict[str, list[dict[str, Any]]]:
    """The sections that are not empty; the outbox is looked at elsewhere."""
    projection = Projection()
    projection.add(SHOW, 7, events)
    assert set(projection.sections) == {*HOLD_SECTIONS, *OTHER_SECTIONS}
    is_changed = any(projection.sections[name] for name in HOLD_SECTIONS)
    assert projection.changed == ([SHOW] if is_changed else [])
    rows = {name: rows for name, rows in projection.sections.items() if rows and name != "outbox"}
    if projection.held:
        rows["held"] = [
            {"hold_id": held.hold_id, "claims": held.hold_id not in projection.unclaimed}
            for held in projection.held
        ]
    return rows


def facts(events: Sequence[Event], *names: str) -> dict[str, list[tuple[Any, ...]]]:
    """These columns of the rows of each section, where they are there."""
    return {
        section: [tuple(row[name] for name in names if name in row) for row in rows]
        for section, rows in effect(*events).items()
    }


HOLD_FACTS = ("hold_id", "state", "claims", "ended_at_ms", "deadline_at_ms", "cancelled_at_ms")


@pytest.mark.parametrize(
    ("events", "rows"),
    [
        ([held()], {"held": [(ONE, True)]}),
        (
            [held(), HoldExtended(ONE, 3_000)],
            {"held": [(ONE, True)], "settled": [(ONE, "held", None, 3_000)]},
        ),
        (
            [held(), released()],
            {"held": [(ONE, False)], "settled": [(ONE, "released", 1_600, 2_000)]},
        ),
        (
            [held(), HoldExpired(ONE, 2_000)],
            {"held": [(ONE, False)], "settled": [(ONE, "expired", 2_000, 2_000)]},
        ),
        (
            [held(), HoldExtended(ONE, 3_000), released()],
            {"held": [(ONE, False)], "settled": [(ONE, "released", 1_600, 3_000)]},
        ),
        (
            [held(), confirmed()],
            {
                "held": [(ONE, True)],
                "settled": [(ONE, "confirmed", 1_500, 2_000)],
                "booked": [(ONE, None)],
            },
        ),
        (
            [held(), confirmed(), cancelled()],
            {
                "held": [(ONE, False)],
                "settled": [(ONE, "confirmed", 1_500, 2_000)],
                "booked": [(ONE, 1_700)],
            },
        ),
        (
            [held(), released(), held(TWO)],
            {
                "held": [(ONE, False), (TWO, True)],
                "settled": [(ONE, "released", 1_600, 2_000)],
            },
        ),
        ([held(), released(), HoldsForgotten((ONE,))], {}),
        (
            [held(), released(), HoldsForgotten((ONE,)), held()],
            {"held": [(ONE, True)]},
        ),
        ([released()], {"ended": [(ONE, "released")]}),
        (
            [HoldExtended(ONE, 3_000), HoldExtended(ONE, 4_000)],
            {"extended": [(ONE, 4_000)]},
        ),
        (
            [HoldExtended(ONE, 3_000), released()],
            {"extended": [(ONE, 3_000)], "ended": [(ONE, "released")]},
        ),
        (
            [HoldExtended(ONE, 3_000), confirmed()],
            {"extended": [(ONE, 3_000)], "confirmed": [(ONE,)]},
        ),
        ([confirmed(), cancelled()], {"confirmed": [(ONE,)], "cancelled": [(ONE,)]}),
        (
            [released(), HoldsForgotten((ONE,))],
            {"ended": [(ONE, "released")], "forgotten": [(ONE,)]},
        ),
        (
            [HoldsForgotten((ONE,)), held()],
            {"forgotten": [(ONE,)], "held": [(ONE, True)]},
        ),
    ],
)
def test_holds_leave_their_net_effect(
    events: list[Event], rows: dict[str, list[tuple[Any, ...]]]
) -> None:
    assert facts(events, *HOLD_FACTS) == rows


@pytest.mark.parametrize(
    ("events", "rows"),
    [
        ([BLOCK], {"blocked": [(5, "repair")]}),
        ([UNBLOCK], {"unblocked": [(5,)]}),
        ([BLOCK, UNBLOCK], {}),
        ([UNBLOCK, BLOCK], {"unblocked": [(5,)], "blocked": [(5, "repair")]}),
        ([BLOCK, UNBLOCK, BLOCK], {"blocked": [(5, "repair")]}),
        ([UNBLOCK, BLOCK, UNBLOCK], {"unblocked": [(5,)]}),
        ([SeatsBlocked((5,), "", 1), UNBLOCK], {}),
    ],
)
def test_blocks_leave_their_net_effect(
    events: list[Event], rows: dict[str, list[tuple[Any, ...]]]
) -> None:
    assert facts(events, "seat_index", "reason") == rows


def test_the_outbox_tells_of_bookings_in_order_without_gaps() -> None:
    projection = Projection()
    projection.add(SHOW, 7, [held(), confirmed(), held(TWO, 6), cancelled(), confirmed(TWO)])
    other = ShowId("shw_1111111111111111")
    projection.add(other, 3, [confirmed()])
    rows = projection.sections["outbox"]
    assert [(row["show_id"], row["seq"], row["n"], row["topic"]) for row in rows] == [
        (SHOW, 7, 0, "booking_confirmed"),
        (SHOW, 7, 1, "booking_cancelled"),
        (SHOW, 7, 2, "booking_confirmed"),
        (other, 3, 0, "booking_confirmed"),
    ]
    assert rows[0]["payload"] == {
        "hold_id": ONE,
        "booking_id": "bkg_1",
        "customer_id": ANN,
        "payment": "card",
        "amount_minor": 100,
        "at_ms": 1_500,
    }


def test_shows_in_one_batch_do_not_mix() -> None:
    projection = Projection()
    other = ShowId("shw_1111111111111111")
    projection.add(SHOW, 7, [held(), BLOCK])
    projection.add(other, 3, [released(), UNBLOCK])
    projection.add(SHOW, 8, [])
    projection.add(other, 4, [held(TWO, 6)])
    shows = {
        name: [row["show_id"] for row in rows] for name, rows in projection.sections.items() if rows
    }
    assert shows == {"blocked": [SHOW], "ended": [other], "unblocked": [other]}
    assert list(zip(projection.show_numbers, projection.held, strict=True)) == [
        (1, held()),
        (4, held(TWO, 6)),
    ]


def test_the_places_without_numbers_of_a_hold_are_admitted_unless_it_ended() -> None:
    admitted = held()._replace(admissions=((0, 2, 50), (1, 1, 70)))
    row = {"show_id": SHOW, "from_leg": 0, "to_leg": 1, "admissions": admitted.admissions}
    assert effect(admitted)["admitted"] == [row]
    assert "admitted" not in effect(admitted, released())


def claimed(*shows: tuple[int, Sequence[Event]]) -> dict[tuple[int, int], tuple[int, int]]:
    """(number of the show, seat) -> its legs, and the count of legs of its block."""
    projection, shapes = Projection(), []
    for number, (legs, events) in enumerate(shows):
        shapes.append((ShowId(f"shw_{number:016}"), legs))
        projection.add(shapes[-1][0], 7, events)
    found = {}
    columns = (column[1:-1].split(",") for column in claims_of(projection, shapes))
    for number_text, block, mask, count in zip(*columns, strict=True):
        legs = shapes[int(number_text) - 1][1]
        bits = "".join(f"{int(each, 16):04b}" for each in mask[1:]) if mask[0] == "x" else mask
        assert len(bits) == BLOCK_BITS_MAX // legs * legs
        for seat, taken in taken_seats([(int(block), bits)], legs):
            found[int(number_text), seat] = (taken, int(count))
    return found


def test_claims_are_the_bits_of_the_legs_ridden_in_their_blocks() -> None:
    ride = held(ONE, 3, 342)._replace(segment=Segment(1, 3), seat_minor=(1, 1))
    assert claimed((3, [ride]), (1, [held(TWO, 1023, 1024)])) == {
        (1, 3): (0b110, 2),
        (1, 342): (0b110, 2),
        (2, 1023): (1, 1),
        (2, 1024): (1, 1),
    }


def test_what_was_given_back_is_not_claimed_and_what_is_blocked_is_claimed_whole() -> None:
    assert claimed((2, [held(ONE, 5), released(), SeatsBlocked((6,), "", 1)])) == {
        (1, 6): (0b11, 2)
    }


def test_claims_that_overlap_are_counted_twice() -> None:
    assert claimed((1, [held(ONE, 5), held(TWO, 5)])) == {(1, 5): (1, 2)}


@pytest.mark.parametrize(
    "wrong",
    [
        {"segment": Segment(0, 2)},
        {"segment": Segment(-1, 1)},
        {"segment": Segment(1, 1)},
        {"seat_minor": ()},
        {"seat_minor": (-1,)},
        {"expires_at_ms": "soon"},
        {"expires_at_ms": 999},
    ],
)
@pytest.mark.parametrize("rest", [(), (released(),)], ids=["held", "released"])
def test_a_hold_whose_row_could_not_be_made_is_not_written(
    wrong: dict[str, Any], rest: tuple[Event, ...]
) -> None:
    with pytest.raises((ValueError, TypeError)):
        claimed((1, [held()._replace(**wrong), *rest]))


@pytest.mark.parametrize("seed", range(12))
def test_a_life_leaves_the_same_state_however_it_is_cut_into_batches(seed: int) -> None:
    show = make_show("cut", legs=1 + seed % 3, capacities=(6, 2))
    life = RandomLife(show, seed, cancels=0.002)
    for _ in range(250):
        life.step()
    for batch_max in (1, 4, 60, len(life.history)):
        store, rng = MemoryStore(), random.Random(seed)
        epoch = store.activate(show).epoch
        rest, seq = life.history, 0
        while rest:
            count, seq = rng.randint(1, batch_max), seq + 1
            store.write([Part(show.show_id, epoch, seq, rest[:count], show.route.leg_count)])
            rest = rest[count:]
        activation = store.activate(show)
        seat_map = SeatMap(show, SeatChooser(show.plan))
        seat_map.restore(
            activation.holds, activation.blocked, activation.allocated, activation.cancelled
        )
        assert state_of(seat_map) == state_of(life.seat_map)
        assert activation.claimed_seat_legs == life.seat_map.occupancy.claimed_seat_legs()
        assert activation.claimed_place_legs == life.seat_map.occupancy.claimed_place_legs()
