"""A seat map against the simplest model there is: who owns this seat on this leg.

Hypothesis chooses shows and commands. After every step the map must have given the answer that
the model expects, both must agree about every seat, leg and place, and nothing may be lost:
held + booked + blocked + free = capacity. When a life ends, its history is replayed and audited.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from reservation import limits
from reservation.commands import (
    BlockSeats,
    CancelBooking,
    Command,
    ConfirmHold,
    ExtendHold,
    HoldBestAvailable,
    HoldSeats,
    ReleaseHold,
    UnblockSeats,
    Wish,
)
from reservation.events import (
    Arrangement,
    BookingCancelled,
    BookingConfirmed,
    Event,
    HoldExtended,
    HoldReleased,
    SeatsBlocked,
    SeatsHeld,
    SeatsUnblocked,
)
from reservation.hold import HoldState
from reservation.ids import CustomerId, HoldId, booking_id_of, hold_id_of
from reservation.rejections import Rejected, Rejection
from reservation.route import Segment
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Outcome, Repeated, SeatMap
from tests.support.histories import START_AT_MS, make_show
from tests.support.transcript import assert_conserved, assert_sound, restored

LIVES, STEPS_OF_A_LIFE = 400, 50
"""Of fifty possible steps a life has forty-six on average."""
STEPS_MIN = 10_000
TTL_MS, LIFE_MS, HOLDS_MAX, PLACES_MAX = 10_000, 25_000, 3, 9

SEATS = 8
CAPACITIES = (4, 2)
customers = st.sampled_from([CustomerId(name) for name in ("ann", "bob")])
hold_ids = st.sampled_from([HoldId(f"hld_{number}") for number in range(40)])
# Which hold to settle, the newest first: most commands should meet a hold that is there.
picks = st.integers(0, 7)
strangers = st.sampled_from([None, None, None, CustomerId("eve")])
seats = st.lists(st.integers(0, SEATS - 1), max_size=3, unique=True).map(sorted).map(tuple)
ends = st.tuples(st.integers(0, 3), st.integers(1, 4))

Answer = tuple[object, ...]


@dataclass
class Claim:
    """A hold as the model sees it."""

    customer: str
    legs: range
    seats: tuple[int, ...]
    places: tuple[tuple[int, int], ...]
    digest: str
    born: int
    deadline: int
    state: str = "held"
    payment: str = ""
    ended: int = 0

    @property
    def size(self) -> int:
        return len(self.seats) + sum(count for _, count in self.places)


@dataclass
class Model:
    """The rules in their plainest form; every question looks at everything."""

    leg_count: int
    claims: dict[str, Claim] = field(default_factory=dict)
    owner: dict[tuple[int, int], str] = field(default_factory=dict)
    now: int = START_AT_MS

    def admitted(self, tier: int, leg: int) -> int:
        return sum(
            count
            for claim in self.claims.values()
            for claimed, count in claim.places
            if claimed == tier and leg in claim.legs and claim.state in ("held", "booked")
        )

    def blocked(self) -> set[int]:
        return {seat for (seat, _), owner in self.owner.items() if owner == "house"}

    def free(self, legs: range) -> set[int]:
        taken = {seat for seat, leg in self.owner if leg in legs}
        return set(range(SEATS)) - taken

    def _own(self, hold_id: str, customer: str) -> Claim | None:
        claim = self.claims.get(hold_id)
        return claim if claim and claim.customer == customer else None

    def _is_live(self, claim: Claim) -> bool:
        return claim.state == "held" and self.now < claim.deadline

    def refuse_claim(self, hold_id: str, customer: str, digest: str) -> Answer | None:
        claim = self.claims.get(hold_id)
        if claim:
            if claim.digest != digest:
                return (Rejection.EXISTS_WITH_DIFFERENT_REQUEST,)
            return ("again", "held", claim.seats, claim.places)
        held = [c for c in self.claims.values() if c.customer == customer and c.state == "held"]
        return (Rejection.TOO_MANY_HOLDS,) if len(held) >= HOLDS_MAX else None

    def exceeds(self, customer: str, size: int) -> bool:
        has = sum(
            claim.size
            for claim in self.claims.values()
            if claim.customer == customer and claim.state in ("held", "booked")
        )
        return has + size > PLACES_MAX

    def hold(self, command: HoldSeats) -> Answer:
        """What the command must answer; without an answer of the house's own choice."""
        legs = range(*command.segment)
        refusal = self.refuse_claim(command.hold_id, command.customer_id, command.request_digest)
        if refusal:
            return refusal
        full = tuple(
            tier
            for tier, count in command.admissions
            if any(self.admitted(tier, leg) + count > CAPACITIES[tier] for leg in legs)
        )
        if full:
            return Rejection.CAPACITY_UNAVAILABLE, full
        size = len(command.seat_indexes) + sum(count for _, count in command.admissions)
        if self.exceeds(command.customer_id, size):
            return (Rejection.TOO_MANY_SEATS,)
        free = self.free(legs)
        clashes = tuple(seat for seat in command.seat_indexes if seat not in free)
        if clashes and not (command.or_nearest and len(free) >= len(command.seat_indexes)):
            return Rejection.SEAT_UNAVAILABLE, clashes
        return ("nearest",) if clashes else ("held", command.seat_indexes, command.admissions)

    def take(self, event: SeatsHeld) -> None:
        legs = range(*event.segment)
        places = tuple((tier, count) for tier, count, _ in event.admissions)
        claim = Claim(
            event.customer_id, legs, event.seat_indexes, places, event.request_digest, self.now,
            self.now + TTL_MS,
        )  # fmt: skip
        for seat in event.seat_indexes:
            for leg in legs:
                assert (seat, leg) not in self.owner, f"{seat} is sold twice on {leg}"
                self.owner[seat, leg] = event.hold_id
        self.claims[event.hold_id] = claim

    def give(self, hold_id: str, state: str) -> None:
        claim = self.claims[hold_id]
        claim.state, claim.ended = state, self.now
        self.owner = {place: owner for place, owner in self.owner.items() if owner != hold_id}

    def _refuse_settling(self, claim: Claim | None) -> Answer | None:
        if claim is None:
            return (Rejection.HOLD_NOT_FOUND,)
        refusal = {
            "released": Rejection.HOLD_RELEASED,
            "expired": Rejection.HOLD_EXPIRED,
            "booked": Rejection.HOLD_ALREADY_CONFIRMED,
            "cancelled": Rejection.HOLD_ALREADY_CONFIRMED,
        }.get(claim.state)
        if refusal:
            return (refusal,)
        return None if self._is_live(claim) else (Rejection.HOLD_EXPIRED,)

    def extend(self, hold_id: str, customer: str) -> Answer:
        claim = self._own(hold_id, customer)
        refusal = self._refuse_settling(claim)
        if refusal or claim is None:
            return refusal or ()
        cap = claim.born + LIFE_MS
        if claim.deadline >= cap:
            return (Rejection.EXTENSION_CAP_REACHED,)
        if self.now + TTL_MS <= claim.deadline:
            return "again", "extended", claim.deadline
        claim.deadline = min(cap, self.now + TTL_MS)
        return "extended", claim.deadline

    def release(self, hold_id: str, customer: str) -> Answer:
        claim = self._own(hold_id, customer)
        if claim and claim.state == "released":
            return "again", "released", claim.ended
        refusal = self._refuse_settling(claim)
        if refusal:
            return refusal
        self.give(hold_id, "released")
        return "released", self.now

    def confirm(self, hold_id: str, customer: str, payment: str) -> Answer:
        claim = self._own(hold_id, customer)
        if claim and claim.state == "cancelled":
            return (Rejection.BOOKING_CANCELLED,)
        if claim and claim.state == "booked":
            is_same = claim.payment == payment
            return (
                ("again", "booked", payment)
                if is_same
                else (Rejection.EXISTS_WITH_DIFFERENT_REQUEST,)
            )
        refusal = self._refuse_settling(claim)
        if refusal or claim is None:
            return refusal or ()
        claim.state, claim.payment = "booked", payment
        return "booked", payment

    def cancel(self, hold_id: str, customer: str) -> Answer:
        claim = self._own(hold_id, customer)
        if claim is None or claim.state not in ("booked", "cancelled"):
            return (Rejection.BOOKING_NOT_FOUND,)
        if claim.state == "cancelled":
            return "again", "cancelled", claim.ended
        self.give(hold_id, "cancelled")
        return "cancelled", self.now

    def block(self, wanted: tuple[int, ...]) -> Answer:
        fresh = tuple(seat for seat in wanted if seat not in self.blocked())
        if not fresh:
            return "again", "blocked", wanted
        clashes = tuple(seat for seat in fresh if seat not in self.free(range(self.leg_count)))
        if clashes:
            return Rejection.SEAT_UNAVAILABLE, clashes
        self.owner |= {(seat, leg): "house" for seat in fresh for leg in range(self.leg_count)}
        return "blocked", fresh

    def unblock(self, wanted: tuple[int, ...]) -> Answer:
        strangers = tuple(seat for seat in wanted if seat not in self.blocked())
        if strangers:
            return Rejection.SEAT_NOT_BLOCKED, strangers
        for seat in wanted:
            for leg in range(self.leg_count):
                del self.owner[seat, leg]
        return "unblocked", wanted

    def expire(self) -> list[str]:
        due = [
            hold_id
            for hold_id, claim in self.claims.items()
            if claim.state == "held" and claim.deadline <= self.now
        ]
        for hold_id in due:
            self.give(hold_id, "expired")
        return due

    def forget(self) -> set[str]:
        old = {
            hold_id
            for hold_id, claim in self.claims.items()
            if claim.state in ("released", "expired")
            and claim.ended + limits.ENDED_HOLD_MEMORY_MS <= self.now
        }
        for hold_id in old:
            del self.claims[hold_id]
        return old


def say(outcome: Outcome) -> Answer:
    """An outcome in the model's words."""
    if isinstance(outcome, Rejected):
        about = outcome.seat_indexes or outcome.tier_indexes
        return (outcome.code, about) if about else (outcome.code,)
    if isinstance(outcome, Repeated):
        return "again", *say(outcome.event)
    match outcome:
        case SeatsHeld():
            places = tuple((tier, count) for tier, count, _ in outcome.admissions)
            return "held", outcome.seat_indexes, places
        case HoldExtended():
            return "extended", outcome.expires_at_ms
        case HoldReleased():
            return "released", outcome.at_ms
        case BookingConfirmed():
            return "booked", outcome.payment
        case BookingCancelled():
            return "cancelled", outcome.at_ms
        case SeatsBlocked():
            return "blocked", outcome.seat_indexes
        case SeatsUnblocked():
            return "unblocked", outcome.seat_indexes
    raise AssertionError(f"unexpected: {outcome}")


class SeatMapLife(RuleBasedStateMachine):
    """One show's life."""

    steps = 0
    answers: ClassVar[Counter[str]] = Counter()

    @initialize(legs=st.integers(1, 4))
    def open_show(self, legs: int) -> None:
        show = make_show("stateful", rows=(5, 3), legs=legs, capacities=CAPACITIES)
        self.seat_map = SeatMap(show, SeatChooser(show.plan))
        self.model = Model(legs)
        self.history: list[Event] = []

    def ask(self, command: Command, expected: Answer) -> None:
        outcome = self.seat_map.decide(command, self.model.now)
        assert say(outcome) == expected, f"{command}"
        self.answers[str(expected[0])] += 1
        if not isinstance(outcome, Rejected | Repeated):
            self.happened(outcome)

    def happened(self, event: Event) -> None:
        self.seat_map.apply(event)
        self.history.append(event)

    def segment(self, wanted: tuple[int, int]) -> Segment:
        low = min(wanted[0], self.model.leg_count - 1)
        return Segment(low, min(max(wanted[1], low + 1), self.model.leg_count))

    @rule(
        hold_id=hold_ids,
        customer=customers,
        wanted=seats,
        ends=ends,
        places=st.sampled_from([(), (), ((0, 1),), ((0, 2), (1, 1)), ((1, 2),), ((0, 5),)]),
        or_nearest=st.booleans(),
    )
    def hold(
        self,
        hold_id: HoldId,
        customer: CustomerId,
        wanted: tuple[int, ...],
        ends: tuple[int, int],
        places: tuple[tuple[int, int], ...],
        or_nearest: bool,
    ) -> None:
        wanted = wanted if wanted or places else (0,)
        segment = self.segment(ends)
        digest = f"{wanted}{places}{segment}"
        command = HoldSeats(hold_id, customer, segment, wanted, places, or_nearest, digest)
        expected = self.model.hold(command)
        if expected == ("nearest",):
            chosen = self.seat_map.decide(command, self.model.now)
            assert isinstance(chosen, SeatsHeld)
            assert chosen.arrangement is Arrangement.NEAREST
            assert len(set(chosen.seat_indexes)) == len(wanted)
            expected = ("held", chosen.seat_indexes, places)
        self.claim(command, expected)

    def claim(self, command: HoldSeats | HoldBestAvailable, expected: Answer) -> None:
        length = len(self.history)
        self.ask(command, expected)
        for event in self.history[length:]:
            assert isinstance(event, SeatsHeld)
            price = 1_000 + 10 * command.segment.leg_count
            assert event.seat_minor == (price,) * len(event.seat_indexes)
            assert all(each == price for _, _, each in event.admissions)
            assert event.expires_at_ms == self.model.now + TTL_MS
            self.model.take(event)

    @rule(hold_id=hold_ids, customer=customers, count=st.integers(1, 4), ends=ends)
    def best(
        self, hold_id: HoldId, customer: CustomerId, count: int, ends: tuple[int, int]
    ) -> None:
        segment = self.segment(ends)
        command = HoldBestAvailable(
            hold_id, customer, segment, Wish(count), f"best {count}{segment}"
        )
        expected = self.model.refuse_claim(hold_id, customer, command.request_digest)
        if expected is None and self.model.exceeds(customer, count):
            expected = (Rejection.TOO_MANY_SEATS,)
        if expected is None:
            if len(self.model.free(range(*segment))) < count:
                expected = (Rejection.NOT_ENOUGH_SEATS,)
            else:
                chosen = self.seat_map.decide(command, self.model.now)
                assert isinstance(chosen, SeatsHeld)
                assert len(set(chosen.seat_indexes)) == count
                expected = ("held", chosen.seat_indexes, ())
        self.claim(command, expected)

    def pick(self, number: int, stranger: CustomerId | None) -> tuple[HoldId, CustomerId]:
        """One of the newest holds, asked for by its customer or by a stranger."""
        known = list(self.model.claims)
        if not known:
            return HoldId("hld_unknown"), CustomerId("ann")
        hold_id = known[-1 - number % len(known)]
        return HoldId(hold_id), stranger or CustomerId(self.model.claims[hold_id].customer)

    @rule(number=picks, stranger=strangers)
    def extend(self, number: int, stranger: CustomerId | None) -> None:
        hold_id, customer = self.pick(number, stranger)
        self.ask(ExtendHold(hold_id, customer), self.model.extend(hold_id, customer))

    @rule(number=picks, stranger=strangers)
    def release(self, number: int, stranger: CustomerId | None) -> None:
        hold_id, customer = self.pick(number, stranger)
        self.ask(ReleaseHold(hold_id, customer), self.model.release(hold_id, customer))

    @rule(number=picks, stranger=strangers, payment=st.sampled_from(["card", "card", "cash"]))
    def confirm(self, number: int, stranger: CustomerId | None, payment: str) -> None:
        hold_id, customer = self.pick(number, stranger)
        expected = self.model.confirm(hold_id, customer, payment)
        self.ask(ConfirmHold(hold_id, customer, payment), expected)

    @rule(number=picks, stranger=strangers)
    def cancel(self, number: int, stranger: CustomerId | None) -> None:
        hold_id, customer = self.pick(number, stranger)
        booking_id = booking_id_of(hold_id)
        assert hold_id_of(booking_id) == hold_id
        self.ask(CancelBooking(booking_id, customer), self.model.cancel(hold_id, customer))

    @rule(wanted=seats.filter(bool))
    def block(self, wanted: tuple[int, ...]) -> None:
        self.ask(BlockSeats(wanted, "repair"), self.model.block(wanted))

    @rule(wanted=seats.filter(bool), all_blocked=st.booleans())
    def unblock(self, wanted: tuple[int, ...], all_blocked: bool) -> None:
        if all_blocked and self.model.blocked():
            wanted = tuple(sorted(self.model.blocked()))
        self.ask(UnblockSeats(wanted), self.model.unblock(wanted))

    @rule(wait_ms=st.sampled_from([1, 1_000, 4_000, 9_999, 10_000]))
    def wait(self, wait_ms: int) -> None:
        self.model.now += wait_ms

    @rule()
    def expire(self) -> None:
        twice = [*self.seat_map.holds, *self.seat_map.holds]
        events = self.seat_map.decide_expired(twice, self.model.now)
        for event in events:
            self.happened(event)
        assert sorted(event.hold_id for event in events) == sorted(self.model.expire())

    @rule(is_late=st.booleans())
    def forget(self, is_late: bool) -> None:
        if is_late:
            self.expire()
            self.model.now += limits.ENDED_HOLD_MEMORY_MS
        event = self.seat_map.decide_forgotten(self.model.now)
        assert set(event.hold_ids if event else ()) == self.model.forget()
        if event:
            self.happened(event)

    @rule()
    def restart(self) -> None:
        self.seat_map = restored(self.seat_map)

    @invariant()
    def map_and_model_agree(self) -> None:
        type(self).steps += 1
        model, occupancy = self.model, self.seat_map.occupancy
        taken = {
            (seat, leg)
            for seat in range(SEATS)
            for leg in range(model.leg_count)
            if occupancy.taken[seat] >> leg & 1
        }
        assert taken == model.owner.keys()
        for tier in range(len(CAPACITIES)):
            admitted = [model.admitted(tier, leg) for leg in range(model.leg_count)]
            assert admitted == occupancy.admitted[tier]
        assert self.seat_map.holds.keys() == model.claims.keys()
        live = [h for h in self.seat_map.holds.values() if h.state is HoldState.HELD]
        assert self.seat_map.live_hold_count == len(live)
        assert occupancy.claimed_seat_legs() == len(model.owner)
        assert_conserved(self.seat_map)

    def teardown(self) -> None:
        if hasattr(self, "seat_map"):
            assert_sound(self.seat_map, self.history)


def test_a_seat_map_answers_like_the_simplest_model_for_ten_thousand_steps() -> None:
    SeatMapLife.steps = 0
    SeatMapLife.answers.clear()
    run_state_machine_as_test(
        SeatMapLife,
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=STEPS_OF_A_LIFE,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert SeatMapLife.steps >= STEPS_MIN
    # A test that never got past a refusal would agree with any map.
    print(SeatMapLife.steps, SeatMapLife.answers)
    done = ("held", "extended", "released", "booked", "cancelled", "blocked", "unblocked", "again")
    for answer in done:
        assert SeatMapLife.answers[answer] >= 5, SeatMapLife.answers
