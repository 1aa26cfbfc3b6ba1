"""Journal events as JSON: nothing is lost, old rows stay readable, nonsense is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persistence.codec import confirmed_of, decode_events, encode_events, held_of, record_of
from reservation import limits
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
from reservation.ids import BookingId, ChannelId, CustomerId, HoldId
from reservation.refund_terms import RefundTerms
from reservation.route import Segment
from tests.support.histories import RandomLife, make_show

CHANNEL = ChannelId("chn_1")
HOLD, BOOKING = HoldId("hld_1"), BookingId("bkg_1")

# What is in databases already. A change here is a change of history: add a kind instead.
STORED = [
    (
        '{"kind":"seats_held","hold_id":"hld_1","customer_id":"cus_1","from_leg":0,"to_leg":2,'
        '"seats":[3,4],"seat_minor":[1000,900],"admissions":[[1,2,500]],"arrangement":"named",'
        '"held_at_ms":5,"expires_at_ms":9,"request_digest":"ab12"}',
        SeatsHeld(
            HOLD,
            CustomerId("cus_1"),
            Segment(0, 2),
            (3, 4),
            (1000, 900),
            ((1, 2, 500),),
            Arrangement.NAMED,
            5,
            9,
            "ab12",
        ),
    ),
    ('{"kind":"hold_extended","hold_id":"hld_1","expires_at_ms":9}', HoldExtended(HOLD, 9)),
    ('{"kind":"hold_released","hold_id":"hld_1","at_ms":9}', HoldReleased(HOLD, 9)),
    ('{"kind":"hold_expired","hold_id":"hld_1","at_ms":9}', HoldExpired(HOLD, 9)),
    (
        '{"kind":"booking_confirmed","hold_id":"hld_1","booking_id":"bkg_1","customer_id":"cus_1",'
        '"payment":"card 4242","amount_minor":2900,"at_ms":9}',
        BookingConfirmed(HOLD, BOOKING, CustomerId("cus_1"), "card 4242", 2900, 9),
    ),
    (
        '{"kind":"booking_cancelled","hold_id":"hld_1","booking_id":"bkg_1","at_ms":9,'
        '"refund":"full"}',
        BookingCancelled(HOLD, BOOKING, 9, RefundTerms.FULL),
    ),
    (
        '{"kind":"seats_blocked","seats":[1,2],"reason":"camera","at_ms":9}',
        SeatsBlocked((1, 2), "camera", 9),
    ),
    ('{"kind":"seats_unblocked","seats":[1,2],"at_ms":9}', SeatsUnblocked((1, 2), 9)),
    ('{"kind":"holds_forgotten","hold_ids":["hld_1"]}', HoldsForgotten((HOLD,))),
    (
        '{"kind":"seats_allocated","channel_id":"chn_1","seats":[1,2],"at_ms":9}',
        SeatsAllocated(CHANNEL, (1, 2), 9),
    ),
    (
        '{"kind":"seats_deallocated","channel_id":"chn_1","seats":[1,2],"at_ms":9}',
        SeatsDeallocated(CHANNEL, (1, 2), 9),
    ),
    (
        '{"kind":"show_cancelled","reason":"storm","hold_ids":["hld_1"],"at_ms":9}',
        ShowCancelled("storm", (HOLD,), 9),
    ),
]
_HELD_TEXT, _HELD = STORED[0]
assert isinstance(_HELD, SeatsHeld)
STORED.append(
    (
        _HELD_TEXT.replace('"seats_held"', '"held_from_channel","channel_id":"chn_1"'),
        HeldFromChannel(CHANNEL, _HELD),
    )
)


def test_every_kind_of_event_is_pinned_down() -> None:
    assert {type(event) for _, event in STORED} == set(Event.__args__)


@pytest.mark.parametrize(("text", "event"), STORED, ids=lambda value: type(value).__name__)
def test_events_are_written_and_read_as_they_are_stored(text: str, event: Event) -> None:
    assert decode_events(f"[{text}]") == [event]
    assert decode_events(f"[{text}]".encode()) == [event]
    assert json.loads(encode_events([event])) == [json.loads(text)]
    assert type(decode_events(f"[{text}]")[0]) is type(event)


def test_a_booking_cancelled_before_there_were_terms_was_cancelled_by_policy() -> None:
    text = '[{"kind":"booking_cancelled","hold_id":"hld_1","booking_id":"bkg_1","at_ms":9}]'
    assert decode_events(text) == [BookingCancelled(HOLD, BOOKING, 9, RefundTerms.POLICY)]


amounts = st.integers(0, limits.AMOUNT_MINOR_MAX)
instants = st.integers(0, 2**53 - 1)
texts = st.text(st.characters(exclude_categories=("Cs",)))
seat_tuples = st.lists(st.integers(0, limits.SEATS_PER_PLAN_MAX - 1)).map(tuple)
holds = st.builds(
    SeatsHeld,
    texts,
    texts,
    st.builds(Segment, st.integers(0, 254), st.integers(1, 255)),
    seat_tuples,
    st.lists(amounts).map(tuple),
    st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10**6), amounts)).map(tuple),
    st.sampled_from(Arrangement),
    instants,
    instants,
    texts,
)
events = st.one_of(
    holds,
    st.builds(HeldFromChannel, texts, holds),
    st.builds(SeatsAllocated, texts, seat_tuples, instants),
    st.builds(SeatsDeallocated, texts, seat_tuples, instants),
    st.builds(ShowCancelled, texts, st.lists(texts).map(tuple), instants),
    st.builds(HoldExtended, texts, instants),
    st.builds(HoldReleased, texts, instants),
    st.builds(HoldExpired, texts, instants),
    st.builds(BookingConfirmed, texts, texts, texts, texts, amounts, instants),
    st.builds(BookingCancelled, texts, texts, instants, st.sampled_from(RefundTerms)),
    st.builds(SeatsBlocked, seat_tuples, texts, instants),
    st.builds(SeatsUnblocked, seat_tuples, instants),
    st.builds(HoldsForgotten, st.lists(texts).map(tuple)),
)


@given(st.lists(events, max_size=5))
def test_any_events_survive_the_journey(batch: list[Event]) -> None:
    again = decode_events(encode_events(batch))
    assert again == batch
    # Tuples of another type may be equal all the same; the map dispatches by type.
    assert [type(event) for event in again] == [type(event) for event in batch]


def test_a_whole_life_survives_the_journey() -> None:
    life = RandomLife(make_show("codec", legs=3, capacities=(5,)), 7)
    for _ in range(300):
        life.step()
    assert decode_events(encode_events(life.history)) == life.history


def test_records_say_their_kind_and_read_like_rows() -> None:
    held, confirmed = STORED[0][1], STORED[4][1]
    assert record_of(held)["kind"] == "seats_held"
    assert held_of(record_of(held)) == held
    assert confirmed_of({**record_of(confirmed), "seq": 5}) == confirmed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[",
        "5",
        "null",
        "{}",
        '""',
        '{"kind":"hold_released","hold_id":"hld_1","at_ms":9}',
        "[5]",
        "[null]",
        "[[]]",
        "[{}]",
        '[{"kind":"seat_stolen"}]',
        '[{"kind":null}]',
        '[{"kind":"hold_released"}]',
        '[{"kind":"hold_released","hold_id":"hld_1"}]',
        "[" + STORED[0][0].replace('"named"', '"guessed"') + "]",
        "[" + STORED[0][0].replace("[[1,2,500]]", "[[1,2]]") + "]",
        "[" + STORED[0][0].replace("[3,4]", "7") + "]",
    ],
)
def test_what_is_no_list_of_known_events_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError):
        decode_events(text)


def test_text_that_json_cannot_carry_is_refused_before_it_is_sent() -> None:
    with pytest.raises(TypeError):
        encode_events([SeatsBlocked((1,), "\ud800", 9)])
