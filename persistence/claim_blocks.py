"""How Postgres keeps claims: the bits of a block of seats in one row.

Bit ``(seat_index % seats) * leg_count + leg`` of block ``seat_index // seats`` says whether that
leg of that seat is taken (docs/decisions/0017-claims-are-blocks-of-bits.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

BLOCK_BITS_MAX = 1_024
"""The same number is in ``claim_block_seats`` of the migration."""


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
