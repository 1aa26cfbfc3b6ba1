"""How Postgres keeps claims: the bits of a block of seats in one row.

Bit ``(seat_index % seats) * leg_count + leg`` of block ``seat_index // seats`` says whether that
leg of that seat is taken (docs/decisions/0017-claims-are-blocks-of-bits.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from persistence.projection import Projection
from reservation.ids import ShowId

BLOCK_BITS_MAX = 1_024
"""The same number is in ``claim_block_seats`` of the migration."""


class BlockClaims(NamedTuple):
    """The SQL type ``block_claims``, each column as the text of an array.

    As texts, because asyncpg asks of every single element of a list whether it is a list itself.
    """

    show_numbers: str
    blocks: str
    masks: str
    leg_counts: str


def claims_of(batch: Projection, shows: Sequence[tuple[ShowId, int]]) -> BlockClaims:
    """The places that a batch takes, block by block: new holds and blocked seats.

    Args:
        shows: the batch's shows in its order, each with its number of legs.

    Raises:
        ValueError, TypeError: a hold has what its row could not have. The row is made later, when
            nobody could refuse it any more.
    """
    books = [_Book(leg_count) for _, leg_count in shows]
    unclaimed = batch.unclaimed
    for number, held in zip(batch.show_numbers, batch.held, strict=True):
        # Unpacked in one go: this runs for every hold.
        hold_id, _, (from_leg, to_leg), seats, seat_minor, _, _, held_at_ms, expires_at_ms, _ = held
        if len(seats) != len(seat_minor) or held_at_ms > expires_at_ms or sum(seat_minor) < 0:
            raise ValueError(f"{hold_id} is not in itself right")
        book = books[number - 1]
        if not 0 <= from_leg < to_leg <= book.leg_count:
            raise ValueError(f"{hold_id} rides legs that do not exist")
        if not unclaimed or hold_id not in unclaimed:
            book.claim(seats, from_leg, to_leg)
    if batch.sections["blocked"]:
        book_of = dict(zip((show_id for show_id, _ in shows), books, strict=True))
        for row in batch.sections["blocked"]:
            book = book_of[row["show_id"]]
            book.claim((row["seat_index"],), 0, book.leg_count)
    numbers: list[int] = []
    blocks: list[int] = []
    masks: list[str] = []
    counts: list[int] = []
    for number, book in enumerate(books, 1):
        for block, mask in book.masks.items():
            numbers.append(number)
            blocks.append(block)
            masks.append(_bits(mask, book.bits))
            counts.append(book.counts[block])
    return BlockClaims(_array(numbers), _array(blocks), _array(masks), _array(counts))


class _Book:
    """The claims on one show, put together block by block."""

    __slots__ = ("bits", "block_seats", "counts", "leg_count", "masks")

    def __init__(self, leg_count: int) -> None:
        self.leg_count = leg_count
        self.block_seats = BLOCK_BITS_MAX // leg_count
        self.bits = self.block_seats * leg_count
        self.masks: dict[int, int] = {}
        self.counts: dict[int, int] = {}

    def claim(self, seat_indexes: Iterable[int], from_leg: int, to_leg: int) -> None:
        leg_count, block_seats, masks, counts = (
            self.leg_count,
            self.block_seats,
            self.masks,
            self.counts,
        )
        legs = to_leg - from_leg
        # The first bit of a block is the highest of the number.
        run = ((1 << legs) - 1) << (self.bits - to_leg)
        for seat_index in seat_indexes:
            block, seat = divmod(seat_index, block_seats)
            if block in masks:
                # Two claims that overlap have fewer bits together than apart; the database counts.
                masks[block] |= run >> seat * leg_count
                counts[block] += legs
            else:
                masks[block] = run >> seat * leg_count
                counts[block] = legs


def _bits(mask: int, length: int) -> str:
    """A bit string as Postgres reads it. Four bits a character, where it has whole characters, are
    read in a quarter of the time; a batch of many shows has a kilobit for each.
    """
    return f"{mask:0{length}b}" if length % 4 else f"x{mask:0{length // 4}x}"


def _array(column: Sequence[Any]) -> str:
    return "{" + ",".join(map(str, column)) + "}"


def taken_seats(blocks: Iterable[tuple[int, str]], leg_count: int) -> Iterator[tuple[int, int]]:
    """The seats of these blocks that are taken on any leg.

    Shapes:
        blocks: (block, its bits as a text of zeros and ones).

    Returns:
        Pairs of seat_index and legs, the first leg in the lowest bit.
    """
    block_seats = BLOCK_BITS_MAX // leg_count
    for block, bits in blocks:
        first = block * block_seats
        at = bits.find("1")
        while at >= 0:
            seat = at // leg_count
            end = (seat + 1) * leg_count
            yield first + seat, int(bits[seat * leg_count : end][::-1], 2)
            at = bits.find("1", end)
