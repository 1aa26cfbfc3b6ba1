"""Batches as bytes: what arrives is what was sent, in every kind there is."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from actors.messages import Reply
from actors.wire import pack_reply, pack_requests, unpack_reply, unpack_requests
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
from reservation.faults import Diverged, Fault, Overloaded, ShowMoved
from reservation.ids import BookingId, ChannelId, CustomerId, HoldId, derive_show_id
from reservation.refund_terms import RefundTerms
from reservation.rejections import Rejected, Rejection
from reservation.route import Segment
from reservation.seat_map import Repeated
from reservation.show import OrphanRule

SHOW, OTHER = derive_show_id("here"), derive_show_id("there")
CHANNEL = ChannelId("chn_1")
HOLD, ANN, BOOKING = HoldId("hld_1"), CustomerId("ann"), BookingId("bkg_1")
HELD = SeatsHeld(
    HOLD,
    ANN,
    Segment(2, 7),
    (3, 4),
    (10, 20),
    ((0, 2, 5),),
    Arrangement.NEAREST,
    1,
    2,
    "digest",
)
COMMANDS: list[Command] = [
    HoldSeats(HOLD, ANN, Segment(2, 7), (3, 4), ((0, 2),), True, "digest"),
    HoldSeats(HOLD, ANN, Segment(0, 1), (), (), False, ""),
    HoldBestAvailable(HOLD, ANN, Segment(0, 3), Wish(4, 1, 1, 1, OrphanRule.STRICT), "digest"),
    ExtendHold(HOLD, ANN),
    ReleaseHold(HOLD, ANN),
    ConfirmHold(HOLD, ANN, "counter"),
    CancelBooking(BOOKING, ANN),
    CancelBooking(BOOKING, ANN, RefundTerms.FULL),
    BlockSeats((1, 2), "repair"),
    UnblockSeats((1, 2)),
    AllocateSeats(CHANNEL, (1, 2)),
    DeallocateSeats(CHANNEL, (1, 2)),
    CloseChannel(CHANNEL),
    HoldFromChannel(CHANNEL, HoldSeats(HOLD, ANN, Segment(2, 7), (3, 4), (), True, "digest")),
    HoldFromChannel(CHANNEL, HoldBestAvailable(HOLD, ANN, Segment(0, 3), Wish(4), "digest")),
    CancelShow("storm"),
]
EVENTS: list[Event] = [
    HELD,
    HoldExtended(HOLD, 9),
    HoldReleased(HOLD, 9),
    HoldExpired(HOLD, 9),
    BookingConfirmed(HOLD, BOOKING, ANN, "counter", 30, 9),
    BookingCancelled(HOLD, BOOKING, 9, RefundTerms.NONE),
    SeatsBlocked((1, 2), "repair", 9),
    SeatsUnblocked((1, 2), 9),
    HoldsForgotten((HOLD,)),
    SeatsAllocated(CHANNEL, (1, 2), 9),
    SeatsDeallocated(CHANNEL, (1, 2), 9),
    HeldFromChannel(CHANNEL, HELD),
    ShowCancelled("storm", (HOLD,), 9),
]


def types_of(value: object) -> Any:
    """The types of a value and of everything in it, because named tuples equal plain ones."""
    if isinstance(value, tuple):
        return type(value), [types_of(part) for part in value]
    return type(value)


def test_the_samples_are_of_every_kind() -> None:
    assert {type(command) for command in COMMANDS} == set(get_args(Command))
    assert {type(event) for event in EVENTS} == set(get_args(Event))


def test_requests_arrive_as_they_were_sent() -> None:
    requests = [(show_id, command) for command in COMMANDS for show_id in (SHOW, OTHER)]
    arrived = unpack_requests(pack_requests(requests))
    assert arrived == requests
    assert [types_of(each) for each in arrived] == [types_of(each) for each in requests]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_answers_arrive_as_they_were_sent(event: Event) -> None:
    answers = [event, Repeated(event), Rejected(Rejection.SEAT_UNAVAILABLE, (3,), (1,))]
    for command in COMMANDS:
        requests = [(SHOW, command)] * len(answers)
        packed = pack_reply(Reply(list(answers), {SHOW: 3, OTHER: 4}), requests)
        arrived = unpack_reply(packed, requests)
        assert arrived == Reply(list(answers), {SHOW: 3, OTHER: 4})
        assert types_of(tuple(arrived.answers)) == types_of(tuple(answers))


@pytest.mark.parametrize("admissions", [(), ((0, 2),)])
def test_of_a_hold_as_it_was_asked_for_only_what_is_new_travels(
    admissions: tuple[tuple[int, int], ...],
) -> None:
    asked = HoldSeats(HOLD, ANN, Segment(2, 7), (3, 4), admissions, False, "digest")
    requests = [(SHOW, asked), (SHOW, ReleaseHold(HOLD, ANN)), (OTHER, asked)]
    # What an owner makes of the requests that have arrived at its end.
    (_, there), _, _ = unpack_requests(pack_requests(requests))
    assert isinstance(there, HoldSeats)
    priced = tuple((tier, count, 5) for tier, count in admissions)
    held = SeatsHeld(*there[:4], (10, 20), priced, Arrangement.NAMED, 1, 2, there.request_digest)
    reply = Reply([held, HoldReleased(HOLD, 9), Overloaded("full")], {SHOW: 3})
    packed = pack_reply(reply, requests)
    whole = pack_reply(reply, [(SHOW, CloseChannel(CHANNEL))] * 3)
    # The seats that were asked for are known to be those by being the same object.
    assert packed == whole
    at_the_owner = [(SHOW, there), *requests[1:]]
    short = pack_reply(reply, at_the_owner)
    assert len(short) < len(packed) - len(HOLD) - len("digest")
    for arrived in (unpack_reply(short, requests), unpack_reply(packed, requests)):
        assert arrived.answers[:2] == reply.answers[:2]
        assert types_of(tuple(arrived.answers)) == types_of(tuple(reply.answers))
        assert arrived.epochs == {SHOW: 3}


def test_a_reply_to_other_requests_than_were_sent_is_a_bug_that_shows() -> None:
    packed = pack_reply(Reply([Rejected(Rejection.NOT_ON_SALE)], {}), [(SHOW, COMMANDS[0])])
    with pytest.raises(ValueError, match="zip"):
        unpack_reply(packed, [])


@pytest.mark.parametrize(
    "fault", [Overloaded("full"), ShowMoved("gone", retry_after_ms=50), Diverged("differs")]
)
def test_faults_arrive_as_the_exceptions_they_are(fault: Fault) -> None:
    requests = [(SHOW, COMMANDS[0])]
    (arrived,) = unpack_reply(pack_reply(Reply([fault], {}), requests), requests).answers
    assert type(arrived) is type(fault)
    assert str(arrived) == str(fault)
    assert vars(arrived) == vars(fault)


def test_an_empty_batch_is_a_batch() -> None:
    assert unpack_requests(pack_requests([])) == []
    assert unpack_reply(pack_reply(Reply([], {}), []), []) == Reply([], {})
