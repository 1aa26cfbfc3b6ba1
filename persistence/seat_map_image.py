"""A seat map as one value: small enough to be kept outside the database and sent around.

Every seat has a **state**: the legs on which it is held in the lowest bits, the legs on which it
is booked in the next, and one bit above them for a blocked seat.

    bit  0 .. legs-1          held on that leg
         legs .. 2*legs-1     booked on that leg
         2*legs               blocked, and nothing else

An image keeps a **code** a seat and a palette from codes to states. With up to three legs, which
is every venue, the code is the state itself: one byte a seat. A run with more legs has a palette
of the states that occur: one byte a seat while there are no more than 256 of them, two up to
65,536, and each state costs its 2*legs+1 bits once. A coach of 80 seats on 51 legs takes 93 bytes
while it is empty, and 1,120 if every seat were sold in another way than all others. To all that
come about 50 bytes of head, and four for every leg of a general-admission tier.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

from persistence.claim_reader import SeatMapSnapshot
from reservation.ids import ShowId
from reservation.limits import LEGS_PER_ROUTE_MAX, SEATS_PER_PLAN_MAX
from reservation.route import Segment

HEAD = struct.Struct(">4sQQ")
"""What a cache compares: the format, the epoch, the sequence number."""

PLAIN_LEGS_MAX = 3
"""Up to here a state fits into a byte, and needs no palette."""

FORMAT = b"HFM1"
"""How every image begins; raise it when the form changes."""

_REST = struct.Struct(">IBIHHBI")
_WIDTHS = {1: "B", 2: "H", 4: "I"}

Codes: TypeAlias = "bytes | array[int]"
States: TypeAlias = "bytearray | list[int]"


class Shape(NamedTuple):
    """What must agree before an image is read as the map of a show."""

    seat_count: int
    leg_count: int
    tier_count: int

    @property
    def blocked(self) -> int:
        """The state of a blocked seat."""
        return 1 << 2 * self.leg_count

    def no_states(self) -> States:
        """The states of a show of which nothing is sold."""
        if self.leg_count <= PLAIN_LEGS_MAX:
            return bytearray(self.seat_count)
        return [0] * self.seat_count

    def no_admissions(self) -> list[list[int]]:
        """The counters of a show of which nothing is sold."""
        return [[0] * self.leg_count for _ in range(self.tier_count)]


@dataclass(frozen=True, slots=True)
class SeatMapImage:
    """One moment of a show's seat map.

    Shapes:
        epoch: of the owner that said so, or that was there when it was read.
        seq: the journal's sequence number at that moment.
        codes, palette: see the module's docstring.
        admitted: places taken, a counter for each tier and leg, tier by tier.
    """

    show_id: ShowId
    epoch: int
    seq: int
    shape: Shape
    codes: Codes
    palette: Sequence[int]
    admitted: tuple[int, ...]

    @property
    def head(self) -> bytes:
        """The first bytes of ``encode``: what version this is."""
        return HEAD.pack(FORMAT, self.epoch, self.seq)

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        return len(self.codes) * _width_of(self.codes) + 40 * len(self.palette) + 500

    def with_epoch(self, epoch: int) -> SeatMapImage:
        """The same map, said by another owner."""
        return self if epoch == self.epoch else replace(self, epoch=epoch)

    def statuses(self, segment: Segment, marks: bytes) -> bytes:
        """One of four marks a seat: free, held, booked, blocked; the worst over the segment.

        Example:
            >>> shape = Shape(3, 1, 0)
            >>> image = image_of(ShowId("s"), 1, 9, shape, bytearray([0, 1, 4]), [])
            >>> image.statuses(Segment(0, 1), b"fhbx")
            b'fhx'
        """
        legs = self.shape.leg_count
        held = segment.mask
        booked = held << legs
        blocked = self.shape.blocked
        free_mark, held_mark, booked_mark, blocked_mark = marks
        table = bytes(
            [
                blocked_mark
                if state & blocked
                else booked_mark
                if state & booked
                else held_mark
                if state & held
                else free_mark
                for state in self.palette
            ]
        )
        if isinstance(self.codes, bytes):
            return self.codes.translate(table.ljust(256, b"\0"))
        return bytes(map(table.__getitem__, self.codes))

    def admitted_at_most(self, tier_index: int, segment: Segment) -> int:
        """The places of a tier that are taken on the busiest leg of the segment."""
        first = tier_index * self.shape.leg_count
        return max(self.admitted[first + segment.from_leg : first + segment.to_leg])

    def encode(self) -> bytes:
        """The bytes that ``decode`` reads."""
        show_id = self.show_id.encode("ascii")
        is_plain = self.shape.leg_count <= PLAIN_LEGS_MAX
        palette = () if is_plain else self.palette
        state_bytes = _state_bytes(self.shape.leg_count)
        body = b"".join(
            [
                show_id,
                _little_endian(array("I", self.admitted)).tobytes(),
                b"".join([state.to_bytes(state_bytes, "little") for state in palette]),
                self.codes
                if isinstance(self.codes, bytes)
                else _little_endian(self.codes).tobytes(),
            ]
        )
        rest = (len(show_id), *self.shape, _width_of(self.codes), len(palette))
        checksum = zlib.crc32(body, zlib.crc32(self.head + _REST.pack(0, *rest)))
        return self.head + _REST.pack(checksum, *rest) + body


def image_of(
    show_id: ShowId,
    epoch: int,
    seq: int,
    shape: Shape,
    states: States,
    admitted: Iterable[Iterable[int]],
) -> SeatMapImage:
    """The image of these states. For 20,000 seats of a venue it takes some microseconds."""
    counters = tuple([count for tier in admitted for count in tier])
    if isinstance(states, bytearray):
        palette: Sequence[int] = _plain_palette(shape.leg_count)
        return SeatMapImage(show_id, epoch, seq, shape, bytes(states), palette, counters)
    palette = sorted(set(states))
    code_of = {state: code for code, state in enumerate(palette)}.__getitem__
    width = 1 if len(palette) <= 256 else 2 if len(palette) <= 65_536 else 4
    codes: Codes
    if width == 1:
        codes = bytes(map(code_of, states))
    else:
        codes = array(_WIDTHS[width], map(code_of, states))
    return SeatMapImage(show_id, epoch, seq, shape, codes, palette, counters)


def image_of_snapshot(
    show_id: ShowId, epoch: int, shape: Shape, snapshot: SeatMapSnapshot
) -> SeatMapImage:
    """The image of what Postgres says.

    Seats and tiers that came with a later revision of the plan than the reader's are left out.
    """
    legs = shape.leg_count
    states = shape.no_states()
    held = snapshot.held
    for seat_index, taken in snapshot.taken.items():
        part = held.get(seat_index, 0) & taken
        if seat_index < shape.seat_count:
            states[seat_index] = part | (taken & ~part) << legs
    for seat_index in snapshot.blocked:
        if seat_index < shape.seat_count:
            states[seat_index] = shape.blocked
    admitted = shape.no_admissions()
    for tier_index, counters in snapshot.admitted.items():
        if tier_index < shape.tier_count:
            for leg, count in counters.items():
                admitted[tier_index][leg] = count
    return image_of(show_id, epoch, snapshot.seq, shape, states, admitted)


def decode(data: bytes, show_id: ShowId) -> SeatMapImage:
    """The image that these bytes are.

    Raises:
        ValueError: they are damaged, of another format, or of another show.
    """
    try:
        form, epoch, seq = HEAD.unpack_from(data)
        checksum, *rest = _REST.unpack_from(data, HEAD.size)
    except struct.error:
        raise ValueError("seat map image: it is cut off") from None
    if form != FORMAT:
        raise ValueError(f"seat map image: it begins with {form!r}")
    start = HEAD.size + _REST.size
    head = data[: HEAD.size] + _REST.pack(0, *rest)
    if zlib.crc32(memoryview(data)[start:], zlib.crc32(head)) != checksum:
        raise ValueError("seat map image: its checksum is wrong")
    id_bytes, seat_count, leg_count, tier_count, width, palette_count = rest
    shape = Shape(seat_count, leg_count, tier_count)
    state_bytes = _state_bytes(leg_count)
    admitted_at = start + id_bytes
    palette_at = admitted_at + 4 * leg_count * tier_count
    codes_at = palette_at + state_bytes * palette_count
    # The checksum says that it is what was written, not that a program of this version wrote it.
    if (
        not 1 <= leg_count <= LEGS_PER_ROUTE_MAX
        or seat_count > SEATS_PER_PLAN_MAX
        or width not in _WIDTHS
        or len(data) != codes_at + width * seat_count
    ):
        raise ValueError("seat map image: its parts do not add up")
    if data[start:admitted_at] != show_id.encode("ascii"):
        raise ValueError("seat map image: it is another show's")
    admitted = _little_endian(array("I", data[admitted_at:palette_at]))
    palette: Sequence[int] = _plain_palette(leg_count)
    if leg_count > PLAIN_LEGS_MAX:
        palette = [
            int.from_bytes(data[at : at + state_bytes], "little")
            for at in range(palette_at, codes_at, state_bytes)
        ]
    codes: Codes = data[codes_at:]
    if width > 1:
        codes = _little_endian(array(_WIDTHS[width], data[codes_at:]))
    if _has_strangers(codes, len(palette)):
        raise ValueError("seat map image: a seat has no state")
    return SeatMapImage(show_id, epoch, seq, shape, codes, palette, tuple(admitted))


def _has_strangers(codes: Codes, palette_count: int) -> bool:
    """Whether a code is not in the palette."""
    if isinstance(codes, bytes):
        return bool(codes.translate(None, bytes(range(min(palette_count, 256)))))
    return max(codes) >= palette_count


def _plain_palette(leg_count: int) -> Sequence[int]:
    return range((1 << 2 * leg_count) + 1) if leg_count <= PLAIN_LEGS_MAX else ()


def _state_bytes(leg_count: int) -> int:
    return (2 * leg_count + 8) // 8


def _width_of(codes: Codes) -> int:
    return 1 if isinstance(codes, bytes) else codes.itemsize


def _little_endian(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers
