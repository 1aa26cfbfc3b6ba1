"""Which seats may be bought from a stretch of free seats without leaving an orphan.

Theory of operation. A *stretch* is a longest series of free neighbouring seats. Whether a
seat becomes an orphan depends on its own stretch only, so each stretch is looked at alone and
the results are added up.

A stretch is walked seat by seat, by a small machine that takes or leaves each one. What it
has to remember is what its last seat was:

    CLOSED   nothing yet: the end of the run or a taken seat
    LONELY   left, with nothing free before it: an orphan unless the next one is left too
    OPEN     left, and safe
    TAKEN    taken, in a group of one or of more, that holds no special seat, a companion
             without its accessible seat so far, or an accessible seat

What was taken is a *tally*: how many seats of each kind, written as one integer in a mixed
radix, so that two tallies are added by adding the integers. All tallies that a stretch allows
are a set of small integers, kept as the bits of one integer again. Sets of different
stretches are then added with shifts, and "can seven seats be bought here without an orphan"
is one bit.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final, NamedTuple

ORDINARY: Final = 0
COMPANION: Final = 1  # Must share its group with an accessible seat.
ACCESSIBLE: Final = 2

_CLOSED, _LONELY, _OPEN, _TAKEN = 0, 1, 2, 3
_LINKS = 3
_STATE_COUNT = _TAKEN + 2 * _LINKS  # Groups of one, then groups of more, per link.
_NEVER = -1

_REMEMBERED_STRETCHES_MAX = 1024

TALLY_SIZE_MAX = 8192
"""A demand whose ``tally_size`` is above this costs milliseconds per stretch to decide."""


class SeatUse(NamedTuple):
    """What a free seat may be used for.

    Shapes:
        step: what taking it adds to the tally; 0 when it may not be taken.
        may_be_orphan: whether leaving it alone counts; it does not for special seats.
        link: ORDINARY, COMPANION or ACCESSIBLE.
    """

    step: int
    may_be_orphan: bool
    link: int = ORDINARY


class Demand(NamedTuple):
    """How many seats of each kind are wanted, and how tallies are written.

    Shapes:
        counts, steps: per kind, the seats wanted and what one seat adds to a tally.
        bound: the set of all tallies that exceed no count.
        target: the tally that has everything.
        group_step: what starting a group adds to a tally; 0 when groups are not counted.
    """

    counts: tuple[int, ...]
    steps: tuple[int, ...]
    bound: int
    target: int
    group_step: int

    @property
    def seat_count(self) -> int:
        """Seats wanted in all."""
        return sum(self.counts)

    def seats_of(self, tally: int) -> int:
        """How many seats this tally has."""
        total = 0
        for step in reversed(self.steps):
            total, tally = total + tally // step, tally % step
        return total

    def with_all_of(self, steps: Collection[int]) -> int:
        """The set of tallies that have all seats of the kinds with these steps."""
        tallies = 1
        for count, step in zip(self.counts, self.steps, strict=True):
            tallies = tallies << count * step if step in steps else _spread(tallies, step, count)
        return tallies


def tally_size(counts: tuple[int, ...]) -> int:
    """How many integers the tallies of such a demand are spread over: what it costs to decide."""
    size = 1
    for count in counts:
        size *= 2 * count + 1
    return size


@lru_cache(maxsize=256)
def demand_for(counts: tuple[int, ...], group_count_max: int = 0) -> Demand:
    """A demand for so many seats of each kind, none of them 0; optionally in so many groups."""
    steps: list[int] = []
    bound, size, target = 1, 1, 0
    for count in (*counts, group_count_max):
        # Room for the sum of two tallies, so that it never spills into the next kind.
        steps.append(size)
        bound = _spread(bound, size, count)
        target += size * count
        size *= 2 * count + 1
    group_step = steps.pop()
    return Demand(
        counts,
        tuple(steps),
        bound,
        target - group_step * group_count_max,
        group_step if group_count_max else 0,
    )


def _spread(tallies: int, step: int, count: int) -> int:
    spread = 0
    for taken in range(count + 1):
        spread |= tallies << (taken * step)
    return spread


def add_tallies(left: int, right: int, bound: int) -> int:
    """Every sum of a tally of the one set and a tally of the other that is within bounds."""
    if left.bit_count() < right.bit_count():
        left, right = right, left
    total = 0
    while right:
        lowest = right & -right
        total |= left << (lowest.bit_length() - 1)
        right ^= lowest
    return total & bound


class StretchRules:
    """What may be taken from stretches, for one demand and one strictness.

    A stretch is ``bytes``: each byte says which of ``uses`` the seat has.
    """

    def __init__(
        self,
        uses: tuple[SeatUse, ...],
        demand: Demand,
        *,
        avoids_orphans: bool,
        avoids_singles: bool,
    ) -> None:
        self.uses: Final = uses
        self.demand: Final = demand
        self.avoids_orphans: Final = avoids_orphans
        self.avoids_singles: Final = avoids_singles
        self._moves: Final = tuple(self._moves_of(use) for use in uses)
        self._remembered: dict[bytes, int] = {}

    def options(self, stretch: bytes) -> int:
        """The set of tallies that this stretch allows; 0, buying nothing, is always in it."""
        known = self._remembered.get(stretch)
        if known is None:
            known = self._walk(stretch)[0][_CLOSED]
            # Only a memory of results: forgetting it costs time, never changes an answer.
            if len(self._remembered) >= _REMEMBERED_STRETCHES_MAX:
                self._remembered.clear()
            self._remembered[stretch] = known
        return known

    def place(self, stretch: bytes, tally: int) -> list[int]:
        """Positions within the stretch that make up this tally, one of its options."""
        rests = self._walk(stretch)
        assert rests[0][_CLOSED] >> tally & 1, "not an option of this stretch"
        state, taken = _CLOSED, []
        for position, code in enumerate(stretch):
            leave, take, step = self._moves[code][state]
            if take != _NEVER and tally >= step and rests[position + 1][take] >> tally - step & 1:
                taken.append(position)
                state, tally = take, tally - step
            else:
                state = leave
        return taken

    def _walk(self, stretch: bytes) -> list[list[int]]:
        """From each position and state on, the set of tallies that the rest allows."""
        final = [0] * _STATE_COUNT
        for state in range(_STATE_COUNT):
            final[state] = int(self._may_end(state, len(stretch)))
        rests = [final]
        bound = self.demand.bound
        for code in reversed(stretch):
            after = rests[-1]
            here = [0] * _STATE_COUNT
            for state, (leave, take, step) in enumerate(self._moves[code]):
                tallies = after[leave] if leave != _NEVER else 0
                if take != _NEVER:
                    tallies |= after[take] << step & bound
                here[state] = tallies
            rests.append(here)
        rests.reverse()
        return rests

    def _may_end(self, state: int, length: int) -> bool:
        if state == _LONELY:
            # The only seat of its stretch was an orphan already.
            return length == 1
        return state <= _OPEN or self._may_close(state)

    def _may_close(self, state: int) -> bool:
        size, link = divmod(state - _TAKEN, _LINKS)
        return link != COMPANION and not (self.avoids_singles and size == 0)

    def _moves_of(self, use: SeatUse) -> tuple[tuple[int, int, int], ...]:
        """Per state: the state after leaving such a seat, after taking it, and what that adds."""
        return tuple(
            (self._after_leaving(use, state), *self._after_taking(use, state))
            for state in range(_STATE_COUNT)
        )

    def _after_leaving(self, use: SeatUse, state: int) -> int:
        if state in (_LONELY, _OPEN):
            return _OPEN
        if state >= _TAKEN and not self._may_close(state):
            return _NEVER
        return _LONELY if use.may_be_orphan and self.avoids_orphans else _OPEN

    def _after_taking(self, use: SeatUse, state: int) -> tuple[int, int]:
        if not use.step or state == _LONELY:
            return _NEVER, 0
        if state < _TAKEN:
            return _TAKEN + use.link, use.step + self.demand.group_step
        link = (state - _TAKEN) % _LINKS
        return _TAKEN + _LINKS + max(link, use.link), use.step


@lru_cache(maxsize=64)
def rules_for(
    uses: tuple[SeatUse, ...], demand: Demand, *, avoids_orphans: bool, avoids_singles: bool
) -> StretchRules:
    """The rules for this demand, the same object for the same arguments."""
    return StretchRules(uses, demand, avoids_orphans=avoids_orphans, avoids_singles=avoids_singles)
