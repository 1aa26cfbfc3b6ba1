"""What an owner publishes is what its seat map says once everything is durable."""

from __future__ import annotations

import pytest

from actors.durable_map import DurableMap
from persistence.journal import Activation
from persistence.memory_journal import MemoryJournal, MemoryStore
from persistence.seat_map_image import SeatMapImage, Shape, image_of
from reservation.commands import CancelShow
from reservation.events import HoldReleased, ShowCancelled
from reservation.hold import HoldState
from reservation.ids import CustomerId, derive_hold_id
from reservation.seat_map import SeatMap
from reservation.show import Show
from tests.support.histories import RandomLife, make_show


def image_of_seat_map(seat_map: SeatMap, epoch: int, seq: int) -> SeatMapImage:
    """The image of a map in memory, by its own tables."""
    show = seat_map.show
    legs = show.route.leg_count
    shape = Shape(show.plan.seat_count, legs, len(show.plan.admission_tiers))
    held = [0] * shape.seat_count
    for hold in seat_map.holds.values():
        if hold.state is HoldState.HELD:
            for seat in hold.held.seat_indexes:
                held[seat] |= hold.held.segment.mask
    states = shape.no_states()
    for seat, taken in enumerate(seat_map.occupancy.taken):
        states[seat] = held[seat] | (taken & ~held[seat]) << legs
    for seat in (*seat_map.blocked, *seat_map.house.channel_of):
        states[seat] = shape.blocked
    return image_of(show.show_id, epoch, seq, shape, states, seat_map.occupancy.admitted)


def a_show(legs: int) -> Show:
    return make_show(f"durable {legs}", legs=legs, capacities=(6, 2))


def fresh(show: Show) -> DurableMap:
    return DurableMap(show, Activation(1, 0, [], [], 0, 0))


@pytest.mark.parametrize("legs", [1, 2, 3, 4, 51, 255])
@pytest.mark.parametrize("is_watched", [True, False])
def test_it_says_what_the_seat_map_says_after_every_batch(legs: int, is_watched: bool) -> None:
    show = a_show(legs)
    life = RandomLife(show, 31 * legs)
    durable_map = fresh(show)
    kinds = set()
    for seq, batch in enumerate(life.batches(250), start=1):
        kinds.update(type(event).__name__ for event in batch)
        durable_map.landed(batch, seq, 0.0)
        if is_watched or seq % 50 == 0:
            assert durable_map.image() == image_of_seat_map(life.seat_map, 1, seq)
    assert len(kinds) == 12, f"some events never happened: {kinds}"


@pytest.mark.parametrize("legs", [1, 4])
@pytest.mark.parametrize("is_watched", [True, False])
def test_a_cancelled_show_gives_its_held_seats_back(legs: int, is_watched: bool) -> None:
    life = RandomLife(a_show(legs), 7)
    durable_map = fresh(life.seat_map.show)
    seq = 0
    while life.seat_map.live_hold_count < 3:
        seq += 1
        durable_map.landed(life.step(), seq, 0.0)
        if is_watched:
            durable_map.image()
    cancelled = life.seat_map.decide(CancelShow("storm"), life.now_ms)
    assert isinstance(cancelled, ShowCancelled)
    assert len(cancelled.hold_ids) >= 3
    life.seat_map.apply(cancelled)
    durable_map.landed([cancelled], seq + 1, 0.0)
    assert durable_map.image() == image_of_seat_map(life.seat_map, 1, seq + 1)


@pytest.mark.parametrize("legs", [1, 51])
async def test_after_an_activation_it_goes_on_from_what_was_stored(legs: int) -> None:
    show = a_show(legs)
    life = RandomLife(show, legs)
    store = MemoryStore()
    seq = 0
    for epoch in range(1, 6):
        journal = MemoryJournal(store, now_ms=life.now_ms)
        activation = await journal.activate(show)
        durable_map = DurableMap(show, activation)
        assert durable_map.image() == image_of_seat_map(life.seat_map, activation.epoch, seq)
        assert activation.epoch == epoch
        for batch in life.batches(30):
            seq = await journal.append(show.show_id, batch)
            durable_map.landed(batch, seq, 0.0)
            assert durable_map.image() == image_of_seat_map(life.seat_map, epoch, seq)


def test_an_image_does_not_change_with_the_map_it_was_made_of() -> None:
    show = a_show(1)
    life = RandomLife(show, 5)
    durable_map = fresh(show)
    images = []
    for seq, batch in enumerate(life.batches(30), start=1):
        durable_map.landed(batch, seq, 0.0)
        images.append((durable_map.image(), image_of_seat_map(life.seat_map, 1, seq)))
    assert all(image == expected for image, expected in images)


def test_an_event_that_contradicts_what_was_durable_is_not_taken() -> None:
    show = a_show(1)
    stranger = derive_hold_id(show.show_id, CustomerId("cus_ann"), "never held")
    with pytest.raises(KeyError):
        fresh(show).landed([HoldReleased(stranger, 0)], 1, 0.0)


def test_a_batch_that_lands_after_a_later_one_is_not_taken() -> None:
    durable_map = fresh(a_show(1))
    durable_map.landed([], 7, 0.0)
    with pytest.raises(AssertionError):
        durable_map.landed([], 6, 0.0)
