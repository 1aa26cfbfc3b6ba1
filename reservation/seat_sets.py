"""Sets of seats, and the seats that are free, as values that one operation goes through.

A set of seats is one big integer, with bit *i* for seat *i*. Where more than one bit a seat is
needed there are *signs*, one byte per seat, and *flags*, one letter "0" or "1" per seat.
"""

from __future__ import annotations

from binascii import unhexlify
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

SeatSet = int
"""A set of seats: bit *i* is set when seat *i* is in it."""

_BYTE_VALUES: Final = 256


def free_seats(taken: Sequence[int], mask: int) -> bytes:
    """One byte per seat: 255 when no leg of the mask is taken, 0 otherwise.

    Up to eight legs this runs at the speed of a copy (0.2 ms for a list of 50,000 seats, less
    for a ``bytearray``); above, and for long runs of many legs, at that of a loop.
    """
    try:
        # ``bytes`` takes more than twice as long to read a list.
        legs = (
            taken
            if isinstance(taken, bytes | bytearray)
            else bytearray(taken if isinstance(taken, list) else list(taken))
        )
    except ValueError:  # Some seat is taken on a ninth leg or later.
        return bytes([0 if seat_legs & mask else 255 for seat_legs in taken])
    return bytes(legs.translate(_free_table(mask & 255)))


@lru_cache(maxsize=_BYTE_VALUES)
def _free_table(mask: int) -> bytes:
    return bytes(0 if legs & mask else 255 for legs in range(_BYTE_VALUES))


_FLAG_OF_SIGN: Final = bytes(49 if sign else 48 for sign in range(_BYTE_VALUES))
# What two hexadecimal digits packed into a byte are, as one digit of the next packing: the first
# has the lower seats. The last one leaves the byte of eight seats.
_DIGIT_OF_PAIR: Final = bytes(
    b"0123"[pair >> 4 & 1 | pair << 1 & 2] for pair in range(_BYTE_VALUES)
)
_DIGIT_OF_FOUR: Final = bytes(
    b"0123456789abcdef"[four >> 4 & 3 | four << 2 & 12] for four in range(_BYTE_VALUES)
)
_BYTE_OF_EIGHT: Final = bytes(eight >> 4 | eight << 4 & 240 for eight in range(_BYTE_VALUES))


def as_seat_set(signs: bytes) -> SeatSet:
    """The seats whose byte is not 0."""
    return seat_set_of(signs.translate(_FLAG_OF_SIGN))


def seat_set_of(flags: bytes) -> SeatSet:
    """The seats whose flag is "1"."""
    # ``int(flags[::-1], 2)``, in two thirds of its time: each packing halves the length.
    pairs = unhexlify(flags + b"0" * (-len(flags) % 8)).translate(_DIGIT_OF_PAIR)
    fours = unhexlify(pairs).translate(_DIGIT_OF_FOUR)
    return int.from_bytes(unhexlify(fours).translate(_BYTE_OF_EIGHT), "little")


def flags_of(seats: SeatSet) -> str:
    """Text with "1" at the index of every seat of the set; it may end before the last seat."""
    return bin(seats)[:1:-1]


def seats_in(seats: SeatSet) -> list[int]:
    """The indexes of the seats of the set, increasing."""
    return flagged(flags_of(seats), 0, None)


def flagged(flags: str, first: int, end: int | None) -> list[int]:
    """The indexes from ``first`` to ``end`` (exclusive) where the text has a "1"."""
    found: list[int] = []
    position = flags.find("1", first, end)
    while position >= 0:
        found.append(position)
        position = flags.find("1", position + 1, end)
    return found


def windows(seats: SeatSet, linked: SeatSet, seat_count: int) -> SeatSet:
    """The seats that start ``seat_count`` consecutive seats of the set.

    ``linked`` holds the seats whose next seat may follow; -1 lets any follow.
    """
    if seat_count == 1:
        return seats
    pairs = seats & (seats >> 1) & linked
    found, length = pairs, 1
    while length < seat_count - 1:
        step = min(length, seat_count - 1 - length)
        found &= found >> step
        length += step
    return found


def reaching(seats: SeatSet, seat_count: int) -> SeatSet:
    """The starts of all windows of ``seat_count`` seats that contain a seat of the set."""
    found, length = seats, 1
    while length < seat_count:
        step = min(length, seat_count - length)
        found |= found >> step
        length += step
    return found
