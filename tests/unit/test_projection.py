"""What a batch leaves behind: its net effect, and the same however a life is cut into batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from persistence.hold_columns import hold_columns
from persistence.memory_journal import MemoryStore
from persistence.projection import SECTIONS, Projection
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
    assert set(projection.sections) == set(SECTIONS)
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


def test_columns_are_as_long_as_there_are_holds_and_seats() -> None:
    projection = Projection()
    admitted = held(TWO, 6, 7, 8)._replace(admissions=((0, 2, 50), (1, 1, 70)))
    projection.add(SHOW, 7, [held(), admitted, released()])
    assert hold_columns(projection) == (
        "{1, 1}",
        f"{ONE}\n{TWO}",
        f"{ANN}\n{ANN}",
        "{0, 0}",
        "{1, 1}",
        "{1, 3}",
        "{5, 6, 7, 8}",
        "{100, 100, 100, 100}",
        "[]\n[[0,2,50],[1,1,70]]",
        "named\nnamed",
        "{1000, 1000}",
        "{2000, 2000}",
        "digest\ndigest",
        "{1}",
    )


@pytest.mark.parametrize("field", ["hold_id", "customer_id", "request_digest"])
def test_a_line_break_cannot_make_two_holds_of_one(field: str) -> None:
    projection = Projection()
    projection.add(SHOW, 7, [held(), held(TWO, 6)._replace(**{field: "one\ntwo"})])
    with pytest.raises(ValueError, match="line break"):
        hold_columns(projection)


def test_a_batch_without_new_holds_has_as_many_columns() -> None:
    empty, one = Projection(), Projection()
    one.add(SHOW, 7, [held()])
    assert len(hold_columns(empty)) == len(hold_columns(one))
    assert set(hold_columns(empty)) == {"", "{}"}


@pytest.mark.parametrize("seed", range(12))
def test_a_life_leaves_the_same_state_however_it_is_cut_into_batches(seed: int) -> None:
    show = make_show("cut", legs=1 + seed % 3, capacities=(6, 2))
    life = RandomLife(show, seed)
    for _ in range(250):
        life.step()
    for batch_max in (1, 4, 60, len(life.history)):
        store, rng = MemoryStore(), random.Random(seed)
        epoch = store.activate(show).epoch
        rest, seq = life.history, 0
        while rest:
            count, seq = rng.randint(1, batch_max), seq + 1
            store.write([Part(show.show_id, epoch, seq, rest[:count])])
            rest = rest[count:]
        activation = store.activate(show)
        seat_map = SeatMap(show, SeatChooser(show.plan))
        seat_map.restore(activation.holds, activation.blocked)
        assert state_of(seat_map) == state_of(life.seat_map)
        assert activation.claimed_seat_legs == life.seat_map.occupancy.claimed_seat_legs()
        assert activation.claimed_place_legs == life.seat_map.occupancy.claimed_place_legs()
