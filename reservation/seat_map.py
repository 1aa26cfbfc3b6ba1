"""The live state of one show and every rule about changing it.

Theory of operation
-------------------
``decide`` reads, ``apply`` changes. A command goes through both in one event-loop step:

    command --decide--> event     --apply--> memory, and the journal
                    \\-> Rejected             nothing changed
                    \\-> Repeated             the command was already done; nothing changed

Nothing else changes a seat map. Replaying the events of the journal through ``apply`` gives
the same map, so a restart, the audit and a simulation all see what production saw.

Time is an argument. A hold is live while ``now_ms < expires_at_ms``; from that moment on it
cannot be confirmed or extended, although its seats are free only once ``HoldExpired`` has
been applied, which is the owner's duty within a second.

The shape of a command (indexes in range, strictly increasing) is the HTTP edge's to check; a
violation that comes this far is a bug and asserts before anything has changed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from math import inf

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
    assert_shape,
)
from reservation.events import (
    Arrangement,
    BookingCancelled,
    BookingConfirmed,
    Event,
    HeldFromChannel,
    HoldExpired,
    HoldExtended,
    HoldReleased,
    HoldsForgotten,
    SeatsAllocated,
    SeatsBlocked,
    SeatsDeallocated,
    SeatsHeld,
    SeatsUnblocked,
    ShowCancelled,
)
from reservation.fares import FareTable
from reservation.hold import Booking, BookingState, HeldPlaces, Hold, HoldState
from reservation.house_seats import HouseSeats
from reservation.ids import ChannelId, CustomerId, HoldId
from reservation.occupancy import Occupancy
from reservation.outcome import Outcome as Outcome
from reservation.outcome import Repeated as Repeated
from reservation.rejections import Rejected, Rejection
from reservation.route import Segment
from reservation.seat_assignment import SeatChooser
from reservation.seating_plan import SeatTrait
from reservation.settling import Settling
from reservation.show import OrphanRule, Show

_SELLING = (HoldSeats, HoldBestAvailable, HoldFromChannel, ExtendHold, ConfirmHold)
"""What a cancelled show does not do any more."""


def _refusing_what_is_new(decide: Callable[..., Outcome]) -> Callable[..., Outcome]:
    def refuse(command: Command, now_ms: int) -> Outcome:
        outcome = decide(command, now_ms)
        return outcome if isinstance(outcome, Repeated) else Rejected(Rejection.SHOW_CANCELLED)

    return refuse


class _Totals:
    """What one customer has on this show."""

    __slots__ = ("live_holds", "places")

    def __init__(self) -> None:
        self.live_holds = 0
        self.places = 0


class SeatMap:
    """The seat map of one show: a pure state machine without clock, I/O or randomness.

    Example:
        See ``tests/unit/test_seat_map_transcripts.py`` for the rules as tables.
    """

    def __init__(self, show: Show, chooser: SeatChooser) -> None:
        self.show = show
        self.occupancy = Occupancy(show.plan, show.route)
        self.holds: dict[HoldId, Hold] = {}
        self.house = HouseSeats(self.occupancy, show.route.whole.mask, show.plan.gone)
        self.blocked = self.house.blocked
        self.cancelled: ShowCancelled | None = None
        self.live_hold_count = 0
        self._chooser = chooser
        self._totals: dict[CustomerId, _Totals] = {}
        # Ended holds in the order they ended, so that the oldest are forgotten first.
        self._ended: deque[tuple[int, HoldId]] = deque()
        self._special_seats = any(show.plan.traits)
        plan, policy, house = show.plan, show.policy, self.house
        settling = Settling(policy, self.holds)
        self._shape = (show.route.leg_count, plan.seat_count, len(plan.admission_tiers))
        # Read for every hold: a look into the show costs three times as much.
        self._fares, self._fares_change = show.fares, bool(show.fares.windows)
        self._category_of = plan.category_of
        self._hold_ttl_ms = policy.hold_ttl_ms
        self._on_sale_from_ms = (
            -inf if policy.on_sale_from_at_ms is None else policy.on_sale_from_at_ms
        )
        self._on_sale_until_ms = (
            inf if policy.on_sale_until_at_ms is None else policy.on_sale_until_at_ms
        )
        self._seats_per_hold_max = policy.seats_per_hold_max
        self._seats_per_customer_max = policy.seats_per_customer_max
        self._live_holds_per_customer_max = policy.live_holds_per_customer_max
        self._is_choosy = (
            self._special_seats or bool(plan.gone) or policy.orphan_rule is OrphanRule.STRICT
        )
        self._decide: dict[type, Callable[..., Outcome]] = {
            HoldSeats: self._decide_hold_seats,
            HoldBestAvailable: self._decide_hold_best,
            ExtendHold: settling.decide_extend,
            ReleaseHold: settling.decide_release,
            ConfirmHold: settling.decide_confirm,
            CancelBooking: settling.decide_cancel,
            BlockSeats: house.decide_block,
            UnblockSeats: house.decide_unblock,
            AllocateSeats: house.decide_allocate,
            DeallocateSeats: house.decide_deallocate,
            CloseChannel: house.decide_close,
            HoldFromChannel: self._decide_hold_from_channel,
            CancelShow: self._decide_cancel_show,
        }
        self._apply: dict[type, Callable[..., None]] = {
            SeatsHeld: self._apply_held,
            HoldExtended: self._apply_extended,
            HoldReleased: self._apply_released,
            HoldExpired: self._apply_expired,
            BookingConfirmed: self._apply_confirmed,
            BookingCancelled: self._apply_cancelled,
            SeatsBlocked: house.apply_blocked,
            SeatsUnblocked: house.apply_unblocked,
            SeatsAllocated: house.apply_allocated,
            SeatsDeallocated: house.apply_deallocated,
            HeldFromChannel: self._apply_held_from_channel,
            ShowCancelled: self._apply_show_cancelled,
            HoldsForgotten: self._apply_forgotten,
        }

    # -- deciding ---------------------------------------------------------------------

    def decide(self, command: Command, now_ms: int) -> Outcome:
        """What this command would do now. Reads the map, changes nothing.

        Units:
            now_ms: Unix milliseconds by the database's clock.

        Returns:
            The event to apply, or ``Repeated`` when the command's id was already done, or
            ``Rejected``.

        Raises:
            AssertionError: the command breaks a shape that the HTTP edge had to check.
        """
        assert_shape(command, *self._shape)
        return self._decide[type(command)](command, now_ms)

    def decide_expired(self, hold_ids: Iterable[HoldId], now_ms: int) -> list[HoldExpired]:
        """The expiries that are due among these holds, one a hold however often it is named."""
        return [
            HoldExpired(hold_id, now_ms)
            for hold_id in dict.fromkeys(hold_ids)
            if (hold := self.holds.get(hold_id)) is not None
            and hold.state is HoldState.HELD
            and hold.expires_at_ms <= now_ms
        ]

    @property
    def has_ended_holds(self) -> bool:
        """Whether ``decide_forgotten`` may find anything, now or later."""
        return bool(self._ended)

    def decide_forgotten(self, now_ms: int) -> HoldsForgotten | None:
        """The ended holds that need not answer repeated requests any more, oldest first."""
        due: list[HoldId] = []
        surplus = len(self._ended) - limits.ENDED_HOLDS_REMEMBERED_MAX
        for ended_at_ms, hold_id in self._ended:
            if len(due) >= surplus and ended_at_ms + limits.ENDED_HOLD_MEMORY_MS > now_ms:
                break
            due.append(hold_id)
        return HoldsForgotten(tuple(due)) if due else None

    def _decide_hold_seats(self, command: HoldSeats, now_ms: int) -> Outcome:
        refusal = self._refuse_claim(command, now_ms)
        if refusal is not None:
            return refusal
        seat_indexes = command.seat_indexes
        mask = command.segment.mask
        places = len(seat_indexes)
        if command.admissions:
            full = self._full_tiers(command)
            if full:
                return Rejected(Rejection.CAPACITY_UNAVAILABLE, tier_indexes=full)
            places += sum(count for _, count in command.admissions)
        if places > self._seats_per_hold_max:
            return Rejected(Rejection.TOO_MANY_SEATS_PER_HOLD)
        if self._exceeds_seats(command.customer_id, places):
            return Rejected(Rejection.TOO_MANY_SEATS)
        arrangement = Arrangement.NAMED if seat_indexes else Arrangement.ADMISSION
        clash = self._clash_of_named(seat_indexes, mask)
        if clash is not None:
            if not command.or_nearest or clash.code is Rejection.COMPANION_ALONE:
                return clash
            nearest = self._chooser.nearest(
                self.occupancy.taken, mask, seat_indexes, self.show.policy.orphan_rule
            )
            if nearest is None:
                return clash
            seat_indexes, arrangement = nearest
        return self._held(command, seat_indexes, command.admissions, arrangement, now_ms)

    def _full_tiers(self, command: HoldSeats) -> tuple[int, ...]:
        return tuple(
            tier_index
            for tier_index, count in command.admissions
            if self.occupancy.room(tier_index, command.segment) < count
        )

    def _clash_of_named(self, seat_indexes: tuple[int, ...], mask: int) -> Rejected | None:
        """Why exactly these seats cannot be had, or None."""
        taken = self.occupancy.taken
        for index in seat_indexes:
            if taken[index] & mask:
                return Rejected(
                    Rejection.SEAT_UNAVAILABLE, self.occupancy.clashes(seat_indexes, mask)
                )
        if not self._is_choosy or not seat_indexes:
            return None
        if self.house.gone:
            # They are blocked before they go; who unblocked one in between must not sell it.
            gone = tuple([index for index in seat_indexes if index in self.house.gone])
            if gone:
                return Rejected(Rejection.SEAT_UNAVAILABLE, gone)
        if self._special_seats:
            traits = self.show.plan.traits
            companions = tuple([i for i in seat_indexes if traits[i] & SeatTrait.COMPANION])
            if companions and not any(traits[i] & SeatTrait.ACCESSIBLE for i in seat_indexes):
                return Rejected(Rejection.COMPANION_ALONE, companions)
        if self.show.policy.orphan_rule is OrphanRule.STRICT:
            orphans = self._chooser.orphans_of(taken, mask, seat_indexes)
            if orphans:
                return Rejected(Rejection.ORPHAN_SEAT, orphans)
        return None

    def _decide_hold_best(self, command: HoldBestAvailable, now_ms: int) -> Outcome:
        refusal = self._refuse_claim(command, now_ms)
        if refusal is not None:
            return refusal
        wish = command.wish
        if wish.seat_count > self._seats_per_hold_max:
            return Rejected(Rejection.TOO_MANY_SEATS_PER_HOLD)
        if self._exceeds_seats(command.customer_id, wish.seat_count):
            return Rejected(Rejection.TOO_MANY_SEATS)
        assignment = self._chooser.best_available(
            self.occupancy.taken,
            command.segment.mask,
            wish,
            wish.orphan_rule or self.show.policy.orphan_rule,
        )
        if assignment is None:
            return Rejected(Rejection.NOT_ENOUGH_SEATS)
        return self._held(command, assignment.seat_indexes, (), assignment.arrangement, now_ms)

    def _decide_hold_from_channel(self, command: HoldFromChannel, now_ms: int) -> Outcome:
        hold, channel_id, house = command.hold, command.channel_id, self.house
        if not house.is_open(channel_id):
            refusal = self._refuse_claim(hold, now_ms)
            return refusal or Rejected(Rejection.CHANNEL_NOT_FOUND)
        with house.opened_for(channel_id):
            outcome: Outcome = (
                self._decide_hold_seats(hold, now_ms)
                if isinstance(hold, HoldSeats)
                else self._decide_hold_best(hold, now_ms)
            )
        if isinstance(outcome, SeatsHeld) and house.has_of(channel_id, outcome.seat_indexes):
            return HeldFromChannel(channel_id, outcome)
        return outcome

    def _refuse_claim(
        self, command: HoldSeats | HoldBestAvailable, now_ms: int
    ) -> Repeated | Rejected | None:
        """What every new claim is checked for, whichever way its seats are found."""
        hold = self.holds.get(command.hold_id)
        if hold is not None:
            if hold.held.request_digest == command.request_digest:
                return Repeated(hold.held)
            return Rejected(Rejection.EXISTS_WITH_DIFFERENT_REQUEST)
        if not self._on_sale_from_ms <= now_ms < self._on_sale_until_ms:
            return Rejected(Rejection.NOT_ON_SALE)
        totals = self._totals.get(command.customer_id)
        if totals is not None and totals.live_holds >= self._live_holds_per_customer_max:
            return Rejected(Rejection.TOO_MANY_HOLDS)
        return None

    def _exceeds_seats(self, customer_id: CustomerId, places: int) -> bool:
        totals = self._totals.get(customer_id)
        has = totals.places if totals is not None else 0
        return has + places > self._seats_per_customer_max

    def _held(
        self,
        command: HoldSeats | HoldBestAvailable,
        seat_indexes: tuple[int, ...],
        admissions: tuple[tuple[int, int], ...],
        arrangement: Arrangement,
        now_ms: int,
    ) -> SeatsHeld:
        segment = command.segment
        fares = self._fares.at(now_ms) if self._fares_change else self._fares
        return SeatsHeld(
            command.hold_id,
            command.customer_id,
            segment,
            seat_indexes,
            fares.seats_minor(self._category_of, seat_indexes, segment),
            self._priced(admissions, fares, segment) if admissions else (),
            arrangement,
            now_ms,
            now_ms + self._hold_ttl_ms,
            command.request_digest,
        )

    def _priced(
        self, admissions: tuple[tuple[int, int], ...], fares: FareTable, segment: Segment
    ) -> tuple[tuple[int, int, int], ...]:
        tiers = self.show.plan.admission_tiers
        return tuple(
            [
                (tier, count, fares.amount_minor(tiers[tier].category_index, segment))
                for tier, count in admissions
            ]
        )

    def _decide_cancel_show(self, command: CancelShow, now_ms: int) -> Outcome:
        if self.cancelled is not None:
            return Repeated(self.cancelled)
        live = [each for each, hold in self.holds.items() if hold.state is HoldState.HELD]
        return ShowCancelled(command.reason, tuple(live), now_ms)

    # -- applying ---------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Change the map by something that happened. Never fails for a decided event.

        Raises:
            AssertionError: the event contradicts the map; memory is wrong and must be dropped.
        """
        self._apply[type(event)](event)

    def restore(
        self,
        holds: Iterable[Hold],
        blocked: Iterable[tuple[int, str]],
        allocated: Iterable[tuple[int, ChannelId]] = (),
        cancelled: ShowCancelled | None = None,
    ) -> None:
        """Fill an empty map from stored state: the shortcut that spares replaying the journal.

        Shapes:
            holds: every hold that is live, booked, or ended and not yet forgotten; the ended
                ones in the order they ended.
            blocked, allocated: (seat_index, reason), (seat_index, channel).
        """
        assert not self.holds, "restore fills an empty map"
        known = self.holds
        for hold in holds:
            places = hold.places
            hold_id = places.hold_id
            known[hold_id] = hold
            if hold.keeps_places:
                self._take_places(places)
            if hold.state is HoldState.HELD:
                self._totals[places.customer_id].live_holds += 1
                self.live_hold_count += 1
            elif not hold.is_booked:
                assert hold.ended_at_ms is not None
                self._ended.append((hold.ended_at_ms, hold_id))
        self.house.restore(blocked, allocated)
        if cancelled is not None:
            self._stop_selling(cancelled)

    def _take_places(self, held: HeldPlaces) -> _Totals:
        """Count these places as taken; returns what their customer has now."""
        customer_id, seat_indexes = held.customer_id, held.seat_indexes
        self.occupancy.claim(seat_indexes, held.segment.mask)
        totals = self._totals.get(customer_id)
        if totals is None:
            totals = self._totals[customer_id] = _Totals()
        totals.places += len(seat_indexes)
        for tier_index, count, _ in held.admissions:
            self.occupancy.admit(tier_index, held.segment, count)
            totals.places += count
        return totals

    def _give_places(self, held: SeatsHeld) -> None:
        self.occupancy.release(held.seat_indexes, held.segment.mask)
        if self.house.channel_of:
            self.house.take_back(held.seat_indexes, held.segment.mask)
        for tier_index, count, _ in held.admissions:
            self.occupancy.admit(tier_index, held.segment, -count)
        totals = self._totals[held.customer_id]
        totals.places -= held.place_count
        if not totals.places and not totals.live_holds:
            del self._totals[held.customer_id]

    def _apply_held(self, event: SeatsHeld) -> None:
        hold_id, holds = event.hold_id, self.holds
        assert hold_id not in holds, f"{hold_id} held twice"
        holds[hold_id] = Hold(event)
        self._take_places(event).live_holds += 1
        self.live_hold_count += 1

    def _apply_extended(self, event: HoldExtended) -> None:
        self.holds[event.hold_id].expires_at_ms = event.expires_at_ms

    def _apply_released(self, event: HoldReleased) -> None:
        self._end(event.hold_id, HoldState.RELEASED, event.at_ms)

    def _apply_expired(self, event: HoldExpired) -> None:
        self._end(event.hold_id, HoldState.EXPIRED, event.at_ms)

    def _end(self, hold_id: HoldId, state: HoldState, at_ms: int) -> None:
        hold = self._leave_held(hold_id, state)
        hold.ended_at_ms = at_ms
        self._give_places(hold.held)
        self._ended.append((at_ms, hold_id))

    def _leave_held(self, hold_id: HoldId, state: HoldState) -> Hold:
        hold = self.holds[hold_id]
        assert hold.state is HoldState.HELD, f"{hold_id} is {hold.state}, not held"
        hold.state = state
        self._totals[hold.held.customer_id].live_holds -= 1
        self.live_hold_count -= 1
        return hold

    def _apply_confirmed(self, event: BookingConfirmed) -> None:
        hold = self._leave_held(event.hold_id, HoldState.CONFIRMED)
        hold.ended_at_ms = event.at_ms
        hold.booking = Booking(event)

    def _apply_cancelled(self, event: BookingCancelled) -> None:
        hold = self.holds[event.hold_id]
        assert hold.booking is not None, f"{event.hold_id} has no booking"
        assert hold.booking.state is BookingState.CONFIRMED, f"{event.booking_id} cancelled twice"
        hold.booking.state = BookingState.CANCELLED
        hold.booking.cancelled_at_ms = event.at_ms
        hold.booking.refund_terms = event.refund
        self._give_places(hold.held)

    def _apply_held_from_channel(self, event: HeldFromChannel) -> None:
        held = event.held
        self.house.let_through(event.channel_id, held.seat_indexes, held.segment.mask)
        self._apply_held(held)

    def _apply_show_cancelled(self, event: ShowCancelled) -> None:
        assert self.cancelled is None, "cancelled twice"
        for hold_id in event.hold_ids:
            self._end(hold_id, HoldState.RELEASED, event.at_ms)
        assert not self.live_hold_count, "a live hold outlives its show"
        self._stop_selling(event)

    def _stop_selling(self, event: ShowCancelled) -> None:
        """From now on only what is over already is answered, and what gives seats back."""
        # Which holds ended with it is the journal's to tell, and is not stored.
        self.cancelled = event._replace(hold_ids=())
        for kind in _SELLING:
            self._decide[kind] = _refusing_what_is_new(self._decide[kind])

    def _apply_forgotten(self, event: HoldsForgotten) -> None:
        left = set(event.hold_ids)
        for hold_id in event.hold_ids:
            hold = self.holds.pop(hold_id)
            assert hold.ended_at_ms is not None, f"{hold_id} is forgotten but had not ended"
            assert hold.booking is None, f"{hold_id} is forgotten but was booked"
        while self._ended and self._ended[0][1] in left:
            left.discard(self._ended.popleft()[1])
        if left:
            # Holds that ended in one millisecond have no order of their own; an owner that
            # restored them may have another one than the owner that ended them.
            self._ended = deque(entry for entry in self._ended if entry[1] not in left)
