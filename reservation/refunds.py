"""Money that goes back: how much of a booking, and the life of each refund.

    due -> requested -> succeeded
    requested -> due           the provider, looked up, has no such refund: ask again, same key
    requested -> failed        it has one, and that failed
    due -> failed              withdrawn: somebody else has paid it back
    succeeded -> failed        the bank sent the money back to us

A refund is written down (``due``) with its id before anybody asks for it, and asked for under the
key ``rf:<refund id>``. Whether a refund whose answer was lost has happened is never guessed: the
provider's list of refunds says it. One that failed is not repeated; what is still owed becomes a
new refund with a new id. So what is on its way or arrived never adds up to more than was captured.

The policy's rounding: the share is taken once, of all that was paid for the places that are given
back, rounded to the nearest minor unit, a half up; then the fixed fee is kept, as far as the rest
reaches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from reservation.ids import PaymentId, RefundId
from reservation.limits import AMOUNT_MINOR_MAX, REFUND_BANDS_MAX
from reservation.price import BASIS_POINTS_WHOLE, half_up
from reservation.refund_terms import RefundTerms

BEFORE_START_MS_MAX = 366 * 24 * 60 * 60_000


class RefundState(StrEnum):
    """Where a refund is in its life; see the module's docstring."""

    DUE = "due"  #: Written down; nobody has asked for it, or nothing came of asking.
    REQUESTED = "requested"  #: Asked for; the provider has it, or perhaps not.
    SUCCEEDED = "succeeded"  #: The money went back.
    FAILED = "failed"  #: It did not, and will not by this refund.


class RefundReason(StrEnum):
    """Why money goes back."""

    CANCELLED = "cancelled"  #: The booking was cancelled.
    NOT_BOOKED = "not_booked"  #: It was paid, and there are no places for it.
    EXCESS = "excess"  #: More was taken than was asked for.
    FOREIGN = "foreign"  #: Somebody made it at the provider, past this house.
    GRANTED = "granted"  #: The house gives back a part of a booking that stands.
    FORGONE = "forgone"  #: The house gives back what it had kept of a cancelled booking.


@dataclass(frozen=True, slots=True)
class Refund:
    """One try to give money back.

    Units:
        amount_minor: minor units of the currency that was captured.

    Shapes:
        number: counts the refunds of its payment from 1; the id contains it.
        created_at_ms: when it was written down.
        first_asked_at_ms: when its key was first used; None before.
        refund_ref: the provider's id; None before it is known to have one.
    """

    refund_id: RefundId
    payment_id: PaymentId
    number: int
    amount_minor: int
    reason: RefundReason
    state: RefundState = RefundState.DUE
    created_at_ms: int = 0
    first_asked_at_ms: int | None = None
    refund_ref: str | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.amount_minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"amount_minor: not in 1..{AMOUNT_MINOR_MAX}")

    @property
    def key(self) -> str:
        """The idempotency key under which it is asked for."""
        return f"rf:{self.refund_id}"

    @property
    def is_alive(self) -> bool:
        """Whether it may still become money that goes back."""
        return self.state in (RefundState.DUE, RefundState.REQUESTED)


class RefundBand(NamedTuple):
    """The share that goes back until so long before the start.

    Units:
        before_start_ms: it counts while at least this much time is left.
        share_basis_points: 10,000 is everything.
    """

    before_start_ms: int
    share_basis_points: int


@dataclass(frozen=True, slots=True)
class RefundPolicy:
    """What a customer gets back who cancels by himself.

    Without further words it is everything until the show starts.

    Shapes:
        bands: from the longest time to the shortest; after the last one nothing goes back.

    Units:
        kept_minor: a fee that the house keeps of every booking that is cancelled.

    Example:
        >>> day_ms = 86_400_000
        >>> policy = RefundPolicy((RefundBand(7 * day_ms, 10_000), RefundBand(day_ms, 5_000)), 100)
        >>> [policy.refund_minor(3_001, days * day_ms) for days in (7, 6, 1, 0)]
        [2901, 1401, 1401, 0]
    """

    bands: tuple[RefundBand, ...] = (RefundBand(0, BASIS_POINTS_WHOLE),)
    kept_minor: int = 0

    def __post_init__(self) -> None:
        if len(self.bands) > REFUND_BANDS_MAX:
            raise ValueError(f"bands: more than {REFUND_BANDS_MAX}")
        for band in self.bands:
            if not 0 <= band.before_start_ms <= BEFORE_START_MS_MAX:
                raise ValueError(f"before_start_ms: not in 0..{BEFORE_START_MS_MAX}")
            if not 0 <= band.share_basis_points <= BASIS_POINTS_WHOLE:
                raise ValueError(f"share_basis_points: not in 0..{BASIS_POINTS_WHOLE}")
        for longer, shorter in pairwise(self.bands):
            if longer.before_start_ms <= shorter.before_start_ms:
                raise ValueError("bands: one is not nearer to the start than the one before it")
            if longer.share_basis_points < shorter.share_basis_points:
                raise ValueError("bands: a share grows as the start comes nearer")
        if not 0 <= self.kept_minor <= AMOUNT_MINOR_MAX:
            raise ValueError(f"kept_minor: not in 0..{AMOUNT_MINOR_MAX}")

    def share_basis_points(self, left_ms: int | None) -> int:
        """The share that goes back when so much time is left; None when there is no start."""
        for band in self.bands:
            if left_ms is None or left_ms >= band.before_start_ms:
                return band.share_basis_points
        return 0

    def refund_minor(
        self, paid_minor: int, left_ms: int | None, *, is_fee_kept_already: bool = False
    ) -> int:
        """What goes back of this much.

        Args:
            is_fee_kept_already: for the second and later parts of one booking.
        """
        share = half_up(paid_minor * self.share_basis_points(left_ms), BASIS_POINTS_WHOLE)
        return share if is_fee_kept_already else max(0, share - self.kept_minor)


def refund_minor_of(
    terms: RefundTerms, paid_minor: int, policy: RefundPolicy, left_ms: int | None
) -> int:
    """What goes back of a whole booking that was paid with this much.

    Example:
        >>> refund_minor_of(RefundTerms.FULL, 500, RefundPolicy((), 100), 0)
        500
    """
    if terms is RefundTerms.FULL:
        return paid_minor
    return 0 if terms is RefundTerms.NONE else policy.refund_minor(paid_minor, left_ms)


def refund_minor_of_places(paid_minor: tuple[int, ...], place_numbers: Iterable[int]) -> int:
    """What was paid for these places of a price, counted from 0."""
    chosen = set(place_numbers)
    assert chosen <= set(range(len(paid_minor))), "no such place"
    return sum(paid_minor[number] for number in chosen)
