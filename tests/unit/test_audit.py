"""The auditor: finds nothing in honest histories, and every forgery planted in them."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence

import pytest

from reservation.audit import AuditFault, Auditor, JournalEntry
from reservation.events import (
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
from reservation.ids import BookingId, ChannelId, CustomerId, HoldId
from reservation.route import Segment
from reservation.seat_map import SeatMap
from tests.support.histories import RandomLife, make_show
from tests.support.transcript import assert_books_agree, assert_sound, audited

SEEDS = range(20)
STEPS = 150
NO_HOLD = HoldId("hld_nobody")
OTHER_CHANNEL = ChannelId("chn_other")
CANCELLED = ShowCancelled("storm", (), 0)


def live(seed: int, steps: int = STEPS) -> RandomLife:
    show = make_show("audit", legs=1 + seed % 4, capacities=(6, 2), has_special_seats=seed % 3 == 0)
    life = RandomLife(show, seed)
    for _ in range(steps):
        life.step()
    return life


@pytest.mark.parametrize("seed", SEEDS)
def test_an_honest_history_has_no_fault_and_its_books_are_the_map(seed: int) -> None:
    life = live(seed)
    kinds = {type(event) for event in life.history}
    assert len(kinds) >= 5, "the history is too dull to prove anything"
    assert_sound(life.seat_map, life.history)


def places_of(history: Sequence[Event], *kinds: type) -> list[int]:
    return [place for place, event in enumerate(history) if isinstance(event, kinds)]


def made(event: Event) -> SeatsHeld | None:
    """The hold that this event made, through a channel or not."""
    event = event.held if isinstance(event, HeldFromChannel) else event
    return event if isinstance(event, SeatsHeld) else None


Forgery = Callable[[list[Event], random.Random], list[Event] | None]


def hold_again(history: list[Event], rng: random.Random) -> list[Event] | None:
    """The same hold twice."""
    place = rng.choice(places_of(history, SeatsHeld))
    return [*history[: place + 1], history[place], *history[place + 1 :]]


def hold_for_another(history: list[Event], rng: random.Random) -> list[Event] | None:
    """Somebody else is given the very same seats at once."""
    places = [p for p in places_of(history, SeatsHeld) if history[p].seat_indexes]  # type: ignore
    place = rng.choice(places)
    held = history[place]
    assert isinstance(held, SeatsHeld)
    twin = held._replace(hold_id=NO_HOLD, customer_id=CustomerId("cus_twin"))
    return [*history[: place + 1], twin, *history[place + 1 :]]


def drop_an_end(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A release, an expiry or a cancellation whose seats were given to somebody else later."""
    held: dict[str, SeatsHeld] = {}
    ends: dict[str, int] = {}
    for place, event in enumerate(history):
        if isinstance(event, HoldReleased | HoldExpired | BookingCancelled):
            ends[event.hold_id] = place
        elif (new := made(event)) is not None:
            for hold_id, end in ends.items():
                before = held[hold_id]
                shares = set(before.seat_indexes) & set(new.seat_indexes)
                if shares and before.segment.mask & new.segment.mask:
                    return history[:end] + history[end + 1 :]
            held[new.hold_id] = new
    return None


def swap_hold_and_end(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold ends before it begins."""
    for place in rng.sample(places_of(history, SeatsHeld), len(places_of(history, SeatsHeld))):
        held = history[place]
        assert isinstance(held, SeatsHeld)
        for end in range(place + 1, len(history)):
            event = history[end]
            is_end = isinstance(event, HoldReleased | HoldExpired | BookingConfirmed)
            if is_end and event.hold_id == held.hold_id:
                forged = list(history)
                forged[place], forged[end] = event, held
                return forged
    return None


def change_a_seat(history: list[Event], rng: random.Random) -> list[Event] | None:
    """The hold of one seat is moved to a seat that somebody has at that moment."""
    owned: dict[str, SeatsHeld] = {}
    for place, event in enumerate(history):
        if isinstance(event, SeatsHeld):
            for other in owned.values():
                if other.segment.mask & event.segment.mask and event.seat_indexes:
                    stolen = (other.seat_indexes[0], *event.seat_indexes[1:])
                    forged = list(history)
                    forged[place] = event._replace(seat_indexes=stolen)
                    return forged
            if event.seat_indexes:
                owned[event.hold_id] = event
        elif isinstance(event, HoldReleased | HoldExpired | BookingCancelled):
            owned.pop(event.hold_id, None)
    return None


def lengthen_a_ride(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold rides a leg more than the route has."""
    place = rng.choice(places_of(history, SeatsHeld))
    held = history[place]
    assert isinstance(held, SeatsHeld)
    longer = held._replace(segment=Segment(held.segment.from_leg, 99))
    return [*history[:place], longer, *history[place + 1 :]]


def drop_a_hold(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold that is confirmed or ended later was never made."""
    ends = places_of(history, HoldReleased, HoldExpired, BookingConfirmed)
    hold_id = history[rng.choice(ends)].hold_id  # type: ignore[union-attr]
    return [e for e in history if (held := made(e)) is None or held.hold_id != hold_id]


def repeat_an_end(history: list[Event], rng: random.Random) -> list[Event] | None:
    """What ended ends once more."""
    place = rng.choice(places_of(history, HoldReleased, HoldExpired, BookingCancelled))
    return [*history[: place + 1], history[place], *history[place + 1 :]]


def confirm_too_late(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold is confirmed at its deadline."""
    place = rng.choice(places_of(history, BookingConfirmed))
    confirmed = history[place]
    assert isinstance(confirmed, BookingConfirmed)
    deadline = 0
    for event in history[:place]:
        event = made(event) or event
        if isinstance(event, SeatsHeld | HoldExtended) and event.hold_id == confirmed.hold_id:
            deadline = event.expires_at_ms
    return [*history[:place], confirmed._replace(at_ms=deadline), *history[place + 1 :]]


def expire_too_early(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold loses its seats although its customer still has time."""
    place = rng.choice(places_of(history, HoldExpired))
    expired = history[place]
    assert isinstance(expired, HoldExpired)
    return [*history[:place], expired._replace(at_ms=1), *history[place + 1 :]]


def forge_a_booking_id(history: list[Event], rng: random.Random) -> list[Event] | None:
    """Another booking is cancelled than was made."""
    place = rng.choice(places_of(history, BookingCancelled))
    cancelled = history[place]._replace(booking_id=BookingId("bkg_other"))  # type: ignore
    return [*history[:place], cancelled, *history[place + 1 :]]


def block_a_taken_seat(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A seat goes off sale while somebody has it."""
    places = [p for p in places_of(history, SeatsHeld) if history[p].seat_indexes]  # type: ignore
    place = rng.choice(places)
    block = SeatsBlocked(history[place].seat_indexes[:1], "forged", 0)  # type: ignore
    return [*history[: place + 1], block, *history[place + 1 :]]


def unblock_a_free_seat(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A seat goes back on sale that was never off."""
    return [SeatsUnblocked((0,), 0), *history]


def forget_a_live_hold(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold is forgotten while it still has its seats."""
    place = rng.choice(places_of(history, SeatsHeld))
    forgotten = HoldsForgotten((history[place].hold_id,))  # type: ignore[union-attr]
    return [*history[: place + 1], forgotten, *history[place + 1 :]]


def oversell_a_tier(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold has more places than the tier."""
    places = [p for p in places_of(history, SeatsHeld) if history[p].admissions]  # type: ignore
    place = rng.choice(places)
    held = history[place]
    assert isinstance(held, SeatsHeld)
    tier, _, each = held.admissions[0]
    forged = held._replace(admissions=((tier, 7, each),))
    return [*history[:place], forged, *history[place + 1 :]]


def hold_a_seat_beyond_the_plan(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold has a seat that is not there."""
    place = rng.choice(places_of(history, SeatsHeld))
    held = history[place]._replace(seat_indexes=(11,), seat_minor=(1,))  # type: ignore
    return [*history[:place], held, *history[place + 1 :]]


def block_a_seat_beyond_the_plan(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A seat is blocked that is not there."""
    return [*history, SeatsBlocked((11,), "forged", 0)]


def hold_places_of_no_tier(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A hold has places of a tier that is not there."""
    place = rng.choice(places_of(history, SeatsHeld))
    held = history[place]._replace(admissions=((2, 1, 5),))  # type: ignore[union-attr]
    return [*history[:place], held, *history[place + 1 :]]


def sell_a_channel_s_seat_to_everybody(
    history: list[Event], rng: random.Random
) -> list[Event] | None:
    """A hold takes a channel's seat and does not say through which channel."""
    places = places_of(history, HeldFromChannel)
    if not places:
        return None
    place = rng.choice(places)
    through = history[place]
    assert isinstance(through, HeldFromChannel)
    return [*history[:place], through.held, *history[place + 1 :]]


def sell_a_channel_s_seat_through_another(
    history: list[Event], rng: random.Random
) -> list[Event] | None:
    """A hold comes through a channel that does not have the seat."""
    places = places_of(history, HeldFromChannel)
    if not places:
        return None
    place = rng.choice(places)
    other = history[place]._replace(channel_id=OTHER_CHANNEL)  # type: ignore
    return [*history[:place], other, *history[place + 1 :]]


def allocate_a_taken_seat(history: list[Event], rng: random.Random) -> list[Event] | None:
    """A channel gets seats that a customer has."""
    places = [p for p in places_of(history, SeatsHeld) if history[p].seat_indexes]  # type: ignore
    place = rng.choice(places)
    held = history[place]
    assert isinstance(held, SeatsHeld)
    given = SeatsAllocated(OTHER_CHANNEL, held.seat_indexes, held.held_at_ms)
    return [*history[: place + 1], given, *history[place + 1 :]]


def allocate_a_seat_of_another_channel(
    history: list[Event], rng: random.Random
) -> list[Event] | None:
    """A channel gets seats that another channel has."""
    places = places_of(history, SeatsAllocated)
    if not places:
        return None
    place = rng.choice(places)
    twin = history[place]._replace(channel_id=OTHER_CHANNEL)  # type: ignore
    return [*history[: place + 1], twin, *history[place + 1 :]]


def take_a_stranger_s_seat_from_a_channel(
    history: list[Event], rng: random.Random
) -> list[Event] | None:
    """A channel gives back what it does not have."""
    place = rng.randrange(len(history))
    return [*history[:place], SeatsDeallocated(OTHER_CHANNEL, (0,), 0), *history[place:]]


def cancel_the_show_and_leave_a_hold(
    history: list[Event], rng: random.Random
) -> list[Event] | None:
    """The show is cancelled, and a hold stays live."""
    place = rng.choice(places_of(history, SeatsHeld))
    return [*history[: place + 1], CANCELLED]


def sell_after_the_show_was_cancelled(
    history: list[Event], rng: random.Random
) -> list[Event] | None:
    """The first hold comes after the end."""
    place = places_of(history, SeatsHeld)[0]
    return [*history[:place], CANCELLED, *history[place:]]


def cancel_the_show_twice(history: list[Event], rng: random.Random) -> list[Event] | None:
    """It is cancelled, and then again."""
    return [CANCELLED, CANCELLED]


FORGERIES: list[Forgery] = [
    hold_again,
    hold_for_another,
    drop_an_end,
    swap_hold_and_end,
    change_a_seat,
    lengthen_a_ride,
    drop_a_hold,
    repeat_an_end,
    confirm_too_late,
    expire_too_early,
    forge_a_booking_id,
    block_a_taken_seat,
    unblock_a_free_seat,
    forget_a_live_hold,
    oversell_a_tier,
    hold_a_seat_beyond_the_plan,
    block_a_seat_beyond_the_plan,
    hold_places_of_no_tier,
    sell_a_channel_s_seat_to_everybody,
    sell_a_channel_s_seat_through_another,
    allocate_a_taken_seat,
    allocate_a_seat_of_another_channel,
    take_a_stranger_s_seat_from_a_channel,
    cancel_the_show_and_leave_a_hold,
    sell_after_the_show_was_cancelled,
    cancel_the_show_twice,
]


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_history_is_found(forge: Forgery) -> None:
    tried = 0
    for seed in SEEDS:
        life = live(seed, steps=400)
        forged = forge(list(life.history), random.Random(seed))
        if forged is None:
            continue
        tried += 1
        assert audited(life.seat_map, forged).faults, f"seed {seed}: {forge.__doc__}"
    assert tried >= len(SEEDS) // 2


def test_a_seat_sold_twice_is_named_with_its_leg_and_both_owners() -> None:
    show = make_show("twice", legs=3)
    held = first_hold(RandomLife(show, 1))
    held = held._replace(seat_indexes=(4,), seat_minor=(1,), segment=Segment(0, 2))
    other = held._replace(hold_id=NO_HOLD, segment=Segment(1, 3))
    auditor = Auditor(3, 11, [])
    auditor.replay([JournalEntry(1, 1, 77, [held, other])])
    assert auditor.faults == [AuditFault(77, f"{NO_HOLD} takes what {held.hold_id} has", 4, 1)]


def first_hold(life: RandomLife) -> SeatsHeld:
    while True:
        for event in life.step():
            if isinstance(event, SeatsHeld):
                return event


def rows(*numbers: tuple[int, int]) -> list[JournalEntry]:
    return [JournalEntry(seq, epoch, 0, []) for seq, epoch in numbers]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (rows((1, 1), (3, 1)), "journal jumps from 1 to 3"),
        (rows((2, 1)), "journal jumps from 0 to 2"),
        (rows((1, 1), (1, 1)), "journal jumps from 1 to 1"),
        (rows((1, 2), (2, 1)), "journal 2 was written by a replaced epoch"),
    ],
)
def test_a_gap_a_repetition_and_a_zombie_are_found(entries: list[JournalEntry], words: str) -> None:
    auditor = Auditor(1, 1, [])
    auditor.replay(entries)
    assert [fault.what for fault in auditor.faults] == [words]


def test_rising_epochs_and_batches_of_many_events_are_fine() -> None:
    life = live(5)
    capacities = [tier.capacity for tier in life.seat_map.show.plan.admission_tiers]
    auditor = Auditor(life.seat_map.show.route.leg_count, 11, capacities)
    entries = [
        JournalEntry(seq, epoch, 0, life.history[place : place + 7])
        for seq, (epoch, place) in enumerate(
            ((1 + place // 30, place) for place in range(0, len(life.history), 7)), start=1
        )
    ]
    auditor.replay(entries[:4])
    auditor.replay(entries[4:])
    assert_books_agree(life.seat_map, auditor)
    assert auditor.books.seq == len(entries)


def test_a_forged_ride_of_a_thousand_million_legs_does_not_stop_the_auditor() -> None:
    held = first_hold(RandomLife(make_show("long", legs=2), 3))
    forged = held._replace(segment=Segment(-(10**12), 10**12))
    auditor = Auditor(2, 11, [])
    auditor.replay([JournalEntry(1, 1, 0, [forged, HoldReleased(held.hold_id, 5)])])
    assert [fault.what for fault in auditor.faults] == [
        f"{held.hold_id} rides legs that do not exist"
    ]


def test_the_auditor_shares_no_code_with_the_seat_map() -> None:
    used = vars(sys.modules[Auditor.__module__]).values()
    assert SeatMap not in used
    names = {getattr(value, "__module__", "") for value in used}
    assert not names & {"reservation.seat_map", "reservation.occupancy", "reservation.hold"}
