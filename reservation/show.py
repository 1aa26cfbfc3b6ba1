"""What is known about a show before anybody asks for a seat."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from reservation import limits
from reservation.fares import FareTable
from reservation.ids import ShowId
from reservation.route import Route
from reservation.seating_plan import SeatingPlan


class Placement(StrEnum):
    """Which kind of actor owns a show."""

    DEDICATED = "dedicated"  #: One actor for this show alone: venue shows, hot runs.
    POOLED = "pooled"  #: One actor for many quiet shows: timetables, the long tail.


class ShowState(StrEnum):
    """Where a show is in its life: ``draft -> on_sale -> cancelled``, or from a draft at once."""

    DRAFT = "draft"  #: It is being prepared: nobody finds it, and nothing of it can be held.
    ON_SALE = "on_sale"  #: It takes place; when it is sold is for its policy to say.
    CANCELLED = "cancelled"  #: It does not take place. It stays so.


class OrphanRule(StrEnum):
    """Whether a choice of seats may leave one seat alone between taken ones."""

    STRICT = "strict"  #: Never offer such a choice while any other exists, and refuse a named one.
    LENIENT = "lenient"  #: Prefer other choices, but allow it.
    OFF = "off"  #: Do not look.


@dataclass(frozen=True, slots=True)
class SalesPolicy:
    """How a show is sold.

    ``seats_per_hold_max`` counts seats and admissions of one hold, ``seats_per_customer_max`` all
    that one customer holds and has booked, in every category.

    Units:
        hold_ttl_ms: life of a new hold; each extension gives as much again.
        hold_life_ms_max: hard cap of a hold's life, counted from its first moment.
        on_sale_from_at_ms, on_sale_until_at_ms: Unix milliseconds, None for no bound.
    """

    hold_ttl_ms: int = limits.HOLD_TTL_MS_DEFAULT
    hold_life_ms_max: int = limits.HOLD_LIFE_MS_DEFAULT
    seats_per_hold_max: int = limits.SEATS_PER_HOLD_MAX
    live_holds_per_customer_max: int = limits.LIVE_HOLDS_PER_CUSTOMER_DEFAULT
    seats_per_customer_max: int = limits.SEATS_PER_CUSTOMER_DEFAULT
    orphan_rule: OrphanRule = OrphanRule.LENIENT
    on_sale_from_at_ms: int | None = None
    on_sale_until_at_ms: int | None = None

    def __post_init__(self) -> None:
        if not limits.HOLD_TTL_MS_MIN <= self.hold_ttl_ms <= limits.HOLD_TTL_MS_MAX:
            raise ValueError(
                f"hold_ttl_ms: not in {limits.HOLD_TTL_MS_MIN}..{limits.HOLD_TTL_MS_MAX}"
            )
        if not self.hold_ttl_ms <= self.hold_life_ms_max <= limits.HOLD_LIFE_MS_MAX:
            raise ValueError(f"hold_life_ms_max: not in hold_ttl_ms..{limits.HOLD_LIFE_MS_MAX}")
        opens, closes = self.on_sale_from_at_ms, self.on_sale_until_at_ms
        if opens is not None and closes is not None and closes <= opens:
            raise ValueError("on_sale_until_at_ms: is not after on_sale_from_at_ms")
        if not 1 <= self.seats_per_hold_max <= limits.SEATS_PER_HOLD_MAX:
            raise ValueError(f"seats_per_hold_max: not in 1..{limits.SEATS_PER_HOLD_MAX}")
        if self.live_holds_per_customer_max < 1:
            raise ValueError("live_holds_per_customer_max: below 1")
        if self.seats_per_customer_max < 1:
            raise ValueError("seats_per_customer_max: below 1")


@dataclass(frozen=True, slots=True)
class Show:
    """One performance or one run: everything an actor needs to sell it."""

    show_id: ShowId
    plan: SeatingPlan
    route: Route
    fares: FareTable
    policy: SalesPolicy = field(default_factory=SalesPolicy)
    placement: Placement = Placement.DEDICATED
