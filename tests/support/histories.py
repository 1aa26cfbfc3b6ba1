"""Random lives of a show: everything that can be asked of it, by chance but repeatable."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from reservation import limits
from reservation.commands import (
    AllocateSeats,
    BlockSeats,
    CancelBooking,
    CancelShow,
    CloseChannel,
    Command,
    ConfirmHold,
    DeallocateSeats,
    ExtendHold,
    HoldBestAvailable,
    HoldFromChannel,
    HoldSeats,
    ReleaseHold,
    UnblockSeats,
    Wish,
    digest_request,
)
from reservation.events import Event
from reservation.fares import CategoryFare, FareTable
from reservation.ids import (
    ChannelId,
    CustomerId,
    HoldId,
    booking_id_of,
    derive_hold_id,
    derive_show_id,
)
from reservation.rejections import Rejected
from reservation.route import Route, Segment, Stop
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Repeated, SeatMap
from reservation.seating_plan import SeatTrait
from reservation.show import OrphanRule, SalesPolicy, Show
from tests.support.plans import build_plan

START_AT_MS = 1_700_000_000_000
CHANNELS = (ChannelId("chn_fans"), ChannelId("chn_press"))
CUSTOMERS = tuple(CustomerId(f"cus_{name}") for name in ("ann", "bob", "eve"))


def make_show(
    source_key: str,
    *,
    rows: Sequence[int] = (6, 5),
    legs: int = 1,
    capacities: Sequence[int] = (),
    policy: SalesPolicy | None = None,
    has_special_seats: bool = False,
) -> Show:
    """A small show; seats cost 1,000 and 10 more for every leg."""
    traits = {0: SeatTrait.ACCESSIBLE, 1: SeatTrait.COMPANION} if has_special_seats else {}
    plan = build_plan(
        [("S", str(number), count, (count // 2,)) for number, count in enumerate(rows)],
        traits=traits,
        admission_tiers=[(f"T{tier}", capacity) for tier, capacity in enumerate(capacities)],
    )
    stops = [Stop(f"P{n}", f"Place {n}", 60 * n, 60 * n, 1_000 * n) for n in range(legs + 1)]
    return Show(
        derive_show_id(source_key),
        plan,
        Route(tuple(stops) if legs > 1 else ()),
        FareTable("EUR", (CategoryFare(1_000, (10,) * legs),)),
        policy
        or SalesPolicy(
            hold_ttl_ms=10_000,
            hold_life_ms_max=25_000,
            live_holds_per_customer_max=3,
            seats_per_customer_max=9,
            orphan_rule=OrphanRule.OFF,
        ),
    )


class RandomLife:
    """A show that customers use at random. ``step`` says what happened.

    ``cancels`` says how probable it is that a command cancels the show.
    """

    def __init__(self, show: Show, seed: int, *, cancels: float = 0.0) -> None:
        self.seat_map = SeatMap(show, SeatChooser(show.plan))
        self.history: list[Event] = []
        self.now_ms = START_AT_MS
        self._random = random.Random(seed)
        self._cancels = cancels
        self._count = 0

    def batches(self, count: int, steps_max: int = 6) -> Iterator[list[Event]]:
        """So many batches of events, none of them empty."""
        while count:
            batch: list[Event] = []
            for _ in range(self._random.randint(1, steps_max)):
                batch.extend(self.step())
            if batch:
                count -= 1
                yield batch

    def step(self) -> list[Event]:
        """One command, or one of the owner's duties."""
        choice = self._random.random()
        if choice < 0.08:
            self.now_ms += self._random.choice((1, 900, 4_000, 10_000))
            return []
        if choice < 0.10:
            self.now_ms += limits.ENDED_HOLD_MEMORY_MS // 2
            return []
        if choice < 0.16:
            due = self.seat_map.decide_expired(list(self.seat_map.holds), self.now_ms)
            return self._happened(*due)
        if choice < 0.20:
            forgotten = self.seat_map.decide_forgotten(self.now_ms)
            return self._happened(*([forgotten] if forgotten else []))
        outcome = self.seat_map.decide(self._command(), self.now_ms)
        return [] if isinstance(outcome, Rejected | Repeated) else self._happened(outcome)

    def _happened(self, *events: Event) -> list[Event]:
        for event in events:
            self.seat_map.apply(event)
        self.history.extend(events)
        return list(events)

    def _command(self) -> Command:
        rng = self._random
        seat_count = self.seat_map.show.plan.seat_count
        choice = rng.random()
        if self._cancels and rng.random() < self._cancels:
            return CancelShow(rng.choice(("storm", "")))
        if choice < 0.45:
            claim = self._claim()
            return self._through_channel(claim) if rng.random() < 0.3 else claim
        if choice < 0.52:
            seats = rng.sample(range(seat_count), min(seat_count, rng.randint(1, 2)))
            return BlockSeats(tuple(sorted(seats)), rng.choice(("repair", "", "camera")))
        if choice < 0.58 and self.seat_map.blocked:
            return UnblockSeats((rng.choice(sorted(self.seat_map.blocked)),))
        if choice < 0.64:
            return self._change_of_channel()
        hold_id, customer_id = self._some_hold()
        return rng.choice(
            (
                ExtendHold(hold_id, customer_id),
                ReleaseHold(hold_id, customer_id),
                ConfirmHold(hold_id, customer_id, "card"),
                ConfirmHold(hold_id, customer_id, "card"),
                CancelBooking(booking_id_of(hold_id), customer_id),
            )
        )

    def _through_channel(self, claim: HoldSeats | HoldBestAvailable) -> Command:
        rng, channel_id = self._random, self._random.choice(CHANNELS)
        channel_of = self.seat_map.house.channel_of
        seats = sorted(seat for seat, channel in channel_of.items() if channel == channel_id)
        if seats and rng.random() < 0.8:
            wanted = tuple(sorted(rng.sample(seats, min(len(seats), rng.randint(1, 2)))))
            digest = digest_request(channel_id, wanted, claim.segment)
            claim = HoldSeats(
                claim.hold_id, claim.customer_id, claim.segment, wanted, (), False, digest
            )
        return HoldFromChannel(channel_id, claim)

    def _change_of_channel(self) -> Command:
        rng, channel_of = self._random, self.seat_map.house.channel_of
        channel_id = rng.choice(CHANNELS)
        choice = rng.random()
        if choice < 0.2:
            return CloseChannel(channel_id)
        if choice < 0.4 and channel_of:
            seat = rng.choice(sorted(channel_of))
            return DeallocateSeats(channel_of[seat], (seat,))
        seat_count = self.seat_map.show.plan.seat_count
        seats = rng.sample(range(seat_count), min(seat_count, rng.randint(1, 3)))
        return AllocateSeats(channel_id, tuple(sorted(seats)))

    def _claim(self) -> HoldSeats | HoldBestAvailable:
        rng = self._random
        show = self.seat_map.show
        customer_id = rng.choice(CUSTOMERS)
        self._count += 1
        # Now and then a request comes twice, or its id comes with another content.
        number = self._count if rng.random() < 0.9 else rng.randint(1, self._count)
        hold_id = derive_hold_id(show.show_id, customer_id, str(number))
        segment = self._segment()
        if rng.random() < 0.2:
            wish = Wish(rng.randint(1, 4))
            digest = digest_request(wish, segment)
            return HoldBestAvailable(hold_id, customer_id, segment, wish, digest)
        seat_count = show.plan.seat_count
        seats = tuple(sorted(rng.sample(range(seat_count), min(seat_count, rng.randint(0, 3)))))
        tiers = [
            (tier, rng.randint(1, 2))
            for tier in range(len(show.plan.admission_tiers))
            if rng.random() < 0.3
        ]
        if not seats and not tiers:
            seats = (rng.randrange(seat_count),)
        digest = digest_request(seats, segment, tiers)
        or_nearest = rng.random() < 0.3
        return HoldSeats(hold_id, customer_id, segment, seats, tuple(tiers), or_nearest, digest)

    def _segment(self) -> Segment:
        leg_count = self.seat_map.show.route.leg_count
        low, high = sorted(self._random.sample(range(leg_count + 1), 2))
        return Segment(low, high)

    def _some_hold(self) -> tuple[HoldId, CustomerId]:
        holds = list(self.seat_map.holds.values())
        if not holds:
            return derive_hold_id(self.seat_map.show.show_id, CUSTOMERS[0], "none"), CUSTOMERS[0]
        held = self._random.choice(holds[-8:]).held
        return held.hold_id, held.customer_id
