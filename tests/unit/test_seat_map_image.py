"""Images of seat maps: what is written is read, what is damaged is not."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from persistence.claim_reader import SeatMapSnapshot
from persistence.seat_map_image import (
    SeatMapImage,
    Shape,
    States,
    decode,
    image_of,
    image_of_snapshot,
)
from reservation.ids import ShowId, derive_show_id
from reservation.route import Segment

SHOW_ID = derive_show_id("image")
HEAD_BYTES_MAX = 64


def random_states(shape: Shape, rng: random.Random, *, kinds: int = 10**9) -> States:
    """Held, booked, blocked and free seats by chance, in so many different ways at most."""
    states = shape.no_states()
    legs = shape.leg_count
    ways = [0, shape.blocked]
    for _ in range(min(kinds, shape.seat_count)):
        held, booked = rng.getrandbits(legs), rng.getrandbits(legs)
        ways.append(held & ~booked | booked << legs)
    for seat in range(shape.seat_count):
        states[seat] = rng.choice(ways[: kinds + 1])
    return states


def make_image(shape: Shape, seed: int = 1, *, kinds: int = 10**9) -> SeatMapImage:
    rng = random.Random(seed)
    admitted = [
        [rng.randrange(10**6) for _ in range(shape.leg_count)] for _ in range(shape.tier_count)
    ]
    states = random_states(shape, rng, kinds=kinds)
    return image_of(SHOW_ID, 3, 77, shape, states, admitted)


@settings(deadline=None)
@given(
    st.integers(0, 700),
    st.sampled_from([1, 2, 3, 4, 8, 51, 255]),
    st.integers(0, 3),
    st.integers(0, 2**32),
)
def test_an_image_is_read_as_it_was_written(seats: int, legs: int, tiers: int, seed: int) -> None:
    image = make_image(Shape(seats, legs, tiers), seed)
    again = decode(image.encode(), SHOW_ID)
    assert again == image
    assert again.statuses(Segment(0, legs), b"fhbx") == image.statuses(Segment(0, legs), b"fhbx")


@pytest.mark.parametrize("legs", [1, 2, 3])
def test_a_venue_takes_one_byte_a_seat(legs: int) -> None:
    image = make_image(Shape(20_000, legs, 0))
    assert len(image.encode()) <= 20_000 + HEAD_BYTES_MAX


@pytest.mark.parametrize(
    ("seats", "kinds", "bytes_max"),
    [
        (1_000, 100, 1_000 + 102 * 13),
        (1_000, 1_000, 1_000 * (2 + 13)),
        (80, 0, 80 + 13),
    ],
)
def test_a_train_takes_one_byte_a_seat_and_some_for_each_way_of_being_sold(
    seats: int, kinds: int, bytes_max: int
) -> None:
    image = make_image(Shape(seats, 51, 0), kinds=kinds)
    assert len(image.encode()) <= bytes_max + HEAD_BYTES_MAX


def test_a_map_of_more_states_than_two_bytes_can_tell_apart_is_read_as_written() -> None:
    shape = Shape(70_000, 20, 0)
    image = image_of(SHOW_ID, 1, 1, shape, list(range(70_000)), [])
    again = decode(image.encode(), SHOW_ID)
    assert again == image
    assert len(set(again.palette)) == 70_000


@pytest.mark.parametrize("legs", [1, 8, 51])
def test_no_damage_of_a_byte_goes_unnoticed(legs: int) -> None:
    data = make_image(Shape(40, legs, 2)).encode()
    for at in range(len(data)):
        for bits in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= bits
            with pytest.raises(ValueError, match="seat map image"):
                decode(bytes(damaged), SHOW_ID)


def test_a_piece_of_an_image_or_something_else_is_refused() -> None:
    data = make_image(Shape(40, 51, 2)).encode()
    for end in range(len(data)):
        with pytest.raises(ValueError, match="seat map image"):
            decode(data[:end], SHOW_ID)
    for foreign in (data + b"\0", b"hello", b"", b"HFM1" + b"\0" * 200):
        with pytest.raises(ValueError, match="seat map image"):
            decode(foreign, SHOW_ID)


def test_an_image_of_another_show_is_refused() -> None:
    data = make_image(Shape(4, 1, 0)).encode()
    with pytest.raises(ValueError, match="another show"):
        decode(data, ShowId("shw_zzzzzzzzzzzzzzzz"))


def test_a_seat_without_a_state_is_refused_although_the_checksum_is_right() -> None:
    plain = make_image(Shape(4, 1, 0))
    with pytest.raises(ValueError, match="no state"):
        decode(replace(plain, codes=b"\0\0\0\5").encode(), SHOW_ID)
    train = make_image(Shape(4, 9, 0))
    codes = bytes([len(train.palette)]) * 4
    with pytest.raises(ValueError, match="no state"):
        decode(replace(train, codes=codes).encode(), SHOW_ID)


SEATS = 5


@st.composite
def snapshots(draw: st.DrawFn, legs: int) -> SeatMapSnapshot:
    masks = st.integers(0, 2**legs - 1)
    taken = draw(st.dictionaries(st.integers(0, SEATS - 1), masks))
    held = {seat: bits & draw(masks) for seat, bits in taken.items()}
    blocked = draw(st.sets(st.integers(0, SEATS - 1)))
    for seat in blocked:
        taken[seat] = 2**legs - 1
        held.pop(seat, None)
    admitted = draw(
        st.dictionaries(
            st.integers(0, 1), st.dictionaries(st.integers(0, legs - 1), st.integers(0, 9))
        )
    )
    return SeatMapSnapshot(9, taken, held, dict.fromkeys(blocked, "why"), admitted)


@pytest.mark.parametrize("legs", [1, 3, 4])
def test_the_image_of_a_snapshot_says_what_the_snapshot_says(legs: int) -> None:
    @settings(deadline=None)
    @given(snapshots(legs))
    def check(snapshot: SeatMapSnapshot) -> None:
        image = image_of_snapshot(SHOW_ID, 2, Shape(SEATS, legs, 2), snapshot)
        assert (image.epoch, image.seq) == (2, 9)
        for leg in range(legs):
            marks = image.statuses(Segment(leg, leg + 1), b"fhbx").decode()
            bit = 1 << leg
            for seat in range(SEATS):
                expected = "f"
                if snapshot.taken.get(seat, 0) & bit:
                    expected = "h" if snapshot.held.get(seat, 0) & bit else "b"
                assert marks[seat] == ("x" if seat in snapshot.blocked else expected)
            for tier in range(2):
                expected_count = snapshot.admitted.get(tier, {}).get(leg, 0)
                assert image.admitted_at_most(tier, Segment(leg, leg + 1)) == expected_count

    check()
