"""The rules of a show as tables; ``tests/support/transcript.py`` says how to read them."""

from __future__ import annotations

import pytest

from reservation import limits
from tests.support.transcript import START_AT_MS, Transcript, check

# -- one command, every state of its hold -------------------------------------------------------

LIFE_OF = {
    "held": """
        hold    H1 ann A1       -> held A1
        """,
    "due": """
        hold    H1 ann A1       -> held A1
        tick    600
        """,
    "expired": """
        hold    H1 ann A1       -> held A1
        tick    600
        expire                  -> expired H1
        """,
    "released": """
        hold    H1 ann A1       -> held A1
        release H1 ann          -> released
        """,
    "confirmed": """
        hold    H1 ann A1       -> held A1
        confirm H1 ann card     -> booked
        """,
    "cancelled": """
        hold    H1 ann A1       -> held A1
        confirm H1 ann card     -> booked
        cancel  H1 ann          -> cancelled
        """,
    "unknown": "",
}

ANSWERS = {
    # The same request again gets the first answer, whatever has become of the hold since.
    "hold H1 ann A1": {
        "held": "again held A1",
        "due": "again held A1",
        "expired": "again held A1",
        "released": "again held A1",
        "confirmed": "again held A1",
        "cancelled": "again held A1",
        "unknown": "held A1",
    },
    "hold H1 ann A2": {
        "held": "exists_with_different_request",
        "due": "exists_with_different_request",
        "expired": "exists_with_different_request",
        "released": "exists_with_different_request",
        "confirmed": "exists_with_different_request",
        "cancelled": "exists_with_different_request",
        "unknown": "held A2",
    },
    # Until the owner has ended the hold its seat is not free; a cancelled booking's is at once.
    "hold H2 bob A1": {
        "held": "seat_unavailable A1",
        "due": "seat_unavailable A1",
        "expired": "held A1",
        "released": "held A1",
        "confirmed": "seat_unavailable A1",
        "cancelled": "held A1",
        "unknown": "held A1",
    },
    "extend H1 ann": {
        "held": "again extended until 600",
        "due": "hold_expired",
        "expired": "hold_expired",
        "released": "hold_released",
        "confirmed": "hold_already_confirmed",
        "cancelled": "hold_already_confirmed",
        "unknown": "hold_not_found",
    },
    "release H1 ann": {
        "held": "released",
        "due": "hold_expired",
        "expired": "hold_expired",
        "released": "again released",
        "confirmed": "hold_already_confirmed",
        "cancelled": "hold_already_confirmed",
        "unknown": "hold_not_found",
    },
    "confirm H1 ann card": {
        "held": "booked 1100 card",
        "due": "hold_expired",
        "expired": "hold_expired",
        "released": "hold_released",
        "confirmed": "again booked 1100 card",
        "cancelled": "booking_cancelled",
        "unknown": "hold_not_found",
    },
    "confirm H1 ann cash": {
        "held": "booked 1100 cash",
        "due": "hold_expired",
        "expired": "hold_expired",
        "released": "hold_released",
        "confirmed": "exists_with_different_request",
        "cancelled": "booking_cancelled",
        "unknown": "hold_not_found",
    },
    "cancel H1 ann": {
        "held": "booking_not_found",
        "due": "booking_not_found",
        "expired": "booking_not_found",
        "released": "booking_not_found",
        "confirmed": "cancelled",
        "cancelled": "again cancelled",
        "unknown": "booking_not_found",
    },
    "block A1": {
        "held": "seat_unavailable A1",
        "due": "seat_unavailable A1",
        "expired": "blocked A1",
        "released": "blocked A1",
        "confirmed": "seat_unavailable A1",
        "cancelled": "blocked A1",
        "unknown": "blocked A1",
    },
    "expire": {
        "held": "expired nothing",
        "due": "expired H1",
        "expired": "expired nothing",
        "released": "expired nothing",
        "confirmed": "expired nothing",
        "cancelled": "expired nothing",
        "unknown": "expired nothing",
    },
}

DONE = {"held", "released", "booked", "cancelled", "blocked"}

# Somebody else's hold does not exist, in whatever state it is.
ANSWERS |= {
    f"{command} H1 eve{rest}": dict.fromkeys(LIFE_OF, answer)
    for command, rest, answer in (
        ("extend", "", "hold_not_found"),
        ("release", "", "hold_not_found"),
        ("confirm", " card", "hold_not_found"),
        ("cancel", "", "booking_not_found"),
    )
}


@pytest.mark.parametrize("restart", ["", "restart -> restored"], ids=["live", "restored"])
@pytest.mark.parametrize("state", LIFE_OF)
@pytest.mark.parametrize("command", ANSWERS)
def test_every_command_has_its_answer_in_every_state(
    command: str, state: str, restart: str
) -> None:
    # Asked twice: what was done is answered again, what was refused is refused again.
    first = ANSWERS[command][state]
    is_done = first.split()[0] in DONE
    second = "expired nothing" if command == "expire" else f"again {first}" if is_done else first
    check(f"""
        show    rows=4
        {LIFE_OF[state]}
        {restart}
        {command} -> {first}
        {command} -> {second}
        """)


def test_a_wrong_answer_is_found_in_its_line() -> None:
    with pytest.raises(AssertionError, match=r"line 2: .*\n.*answered: held A1 for 1100"):
        check("""
            show    rows=4
            hold    H1 ann A1     -> held A2
            """)
    with pytest.raises(AssertionError, match="line 2: no answer is expected"):
        check("""
            show    rows=4
            hold    H1 ann A1
            """)


# -- legs ---------------------------------------------------------------------------------------


def test_two_passengers_share_a_seat_on_different_legs() -> None:
    check("""
        show    rows=2 stops=PUNE,LONAVALA,MUMBAI
        hold    H1 ann A1    PUNE-LONAVALA     -> held A1 for 1100
        hold    H2 bob A1    LONAVALA-MUMBAI   -> held A1 for 1100
        hold    H3 eve A1,A2 PUNE-MUMBAI       -> seat_unavailable A1
        hold    H4 eve A2    PUNE-MUMBAI       -> held A2 for 1200
        hold    H4 eve A1    PUNE-MUMBAI       -> exists_with_different_request
        hold    H4 eve A2    PUNE-LONAVALA     -> exists_with_different_request
        release H1 ann                         -> released
        hold    H5 eve A1    PUNE-MUMBAI       -> seat_unavailable A1
        hold    H6 eve A1    PUNE-LONAVALA     -> held A1
        """)


def test_a_long_ride_frees_all_its_legs_and_no_neighbour_leg() -> None:
    check("""
        show    rows=1 stops=A,B,C,D,E
        hold    H1 ann A1 A-B    -> held
        hold    H2 bob A1 B-D    -> held
        hold    H3 eve A1 D-E    -> held
        confirm H2 bob card      -> booked 1200
        cancel  H2 bob           -> cancelled
        hold    H4 eve A1 A-C    -> seat_unavailable
        hold    H5 eve A1 C-E    -> seat_unavailable
        hold    H6 eve A1 C-D    -> held
        hold    H7 eve A1 B-C    -> held
        """)


def test_a_blocked_seat_is_off_sale_on_every_leg_and_needs_every_leg_free() -> None:
    check("""
        show    rows=3 stops=A,B,C
        hold    H1 ann A1 B-C    -> held
        block   A1,A2            -> seat_unavailable A1
        block   A2,A3 broken     -> blocked A2,A3 broken
        hold    H2 bob A2 A-B    -> seat_unavailable A2
        hold    H3 bob A1 A-B    -> held
        """)


# -- general admission --------------------------------------------------------------------------


def test_a_tier_has_its_capacity_on_every_leg() -> None:
    check("""
        show    rows=1 stops=A,B,C tiers=F:3,G:1 places=50
        hold    H1 ann F:2 A-B       -> held F:2 for 2200
        hold    H2 bob F:3 B-C       -> held F:3 for 3300
        hold    H3 eve F:2 A-B       -> capacity_unavailable F
        hold    H4 eve F:1 A-C       -> capacity_unavailable F
        hold    H5 eve F:1 A-B       -> held F:1
        hold    H6 eve F:1 A-B       -> capacity_unavailable F
        release H1 ann               -> released
        hold    H7 ann F:2 A-B       -> held F:2
        """)


def test_seats_and_places_of_one_hold_are_all_or_nothing() -> None:
    check("""
        show    rows=2 tiers=F:2,G:1
        hold    H1 ann A1 F:1 G:1    -> held A1 F:1 G:1 for 3300
        hold    H2 bob A2 F:1 G:1    -> capacity_unavailable G
        hold    H3 bob A2 F:2 G:1    -> capacity_unavailable F,G
        hold    H4 bob A1 F:1        -> seat_unavailable A1
        hold    H5 bob A2 F:1        -> held A2 F:1
        confirm H1 ann card          -> booked 3300
        cancel  H1 ann               -> cancelled
        hold    H6 eve F:1 G:1       -> held F:1 G:1
        """)


def test_an_expired_hold_gives_its_places_back() -> None:
    check("""
        show    rows=1 tiers=F:2
        hold    H1 ann F:2           -> held
        tick    600
        hold    H2 bob F:1           -> capacity_unavailable
        expire                       -> expired H1
        hold    H3 bob F:2           -> held
        """)


# -- time ---------------------------------------------------------------------------------------


def test_a_hold_is_live_until_the_last_millisecond_before_its_deadline() -> None:
    check("""
        show    rows=4 ttl=60 life=600
        hold    H1 ann A1            -> held A1 for 1100 until 60
        hold    H2 ann A2            -> held
        hold    H3 ann A3            -> held
        tick    60-
        expire                       -> expired nothing
        confirm H1 ann card          -> booked
        extend  H2 ann               -> extended until 119.999
        tick    0+
        confirm H3 ann card          -> hold_expired
        extend  H3 ann               -> hold_expired
        release H3 ann               -> hold_expired
        expire                       -> expired H3
        hold    H3 ann A3            -> again held A3 for 1100 until 60
        hold    H4 bob A3            -> held
        confirm H2 ann card          -> booked
        """)


def test_extensions_end_at_the_hard_cap() -> None:
    check("""
        show    rows=1 ttl=100 life=240
        hold    H1 ann A1            -> held A1 for 1100 until 100
        extend  H1 ann               -> again extended until 100
        tick    60
        extend  H1 ann               -> extended until 160
        extend  H1 ann               -> again extended until 160
        tick    90
        extend  H1 ann               -> extended until 240
        extend  H1 ann               -> extension_cap_reached
        tick    90-
        extend  H1 ann               -> extension_cap_reached
        confirm H1 ann card          -> booked
        """)


def test_a_life_no_longer_than_the_first_deadline_leaves_nothing_to_extend() -> None:
    check("""
        show    rows=1 ttl=100 life=100
        hold    H1 ann A1            -> held
        tick    50
        extend  H1 ann               -> extension_cap_reached
        """)


def test_an_extended_hold_expires_once_and_at_its_new_deadline() -> None:
    check("""
        show    rows=1 ttl=100 life=250
        hold    H1 ann A1            -> held
        tick    40
        extend  H1 ann               -> extended until 140
        tick    60
        expire                       -> expired nothing
        tick    40
        expire                       -> expired H1
        expire                       -> expired nothing
        extend  H1 ann               -> hold_expired
        """)


def test_a_hold_with_two_deadlines_behind_it_expires_once() -> None:
    # The owner's heap has one entry for each deadline that a hold ever had.
    transcript = Transcript(["rows=1", "ttl=100", "life=250"])
    transcript.run(["hold", "H1", "ann", "A1"])
    transcript.now_ms += 5
    assert transcript.run(["extend", "H1", "ann"]) == "extended until 100.005"
    (hold_id,) = transcript.seat_map.holds
    due = transcript.seat_map.decide_expired([hold_id, hold_id], START_AT_MS + 200_000)
    assert [event.hold_id for event in due] == [hold_id]


def test_the_sales_window_is_open_from_its_first_moment_and_closed_at_its_end() -> None:
    check("""
        show    rows=4 sale=100..200
        hold    H1 ann A1            -> not_on_sale
        best    H2 ann 1             -> not_on_sale
        tick    100-
        hold    H1 ann A1            -> not_on_sale
        tick    0+
        hold    H1 ann A1            -> held
        best    H2 ann 1             -> row
        tick    100-
        hold    H3 ann A4            -> held
        tick    0+
        hold    H4 ann A3            -> not_on_sale
        best    H5 ann 1             -> not_on_sale
        hold    H1 ann A1            -> again held
        hold    H1 ann A2            -> exists_with_different_request
        extend  H1 ann               -> extended
        confirm H1 ann card          -> booked
        cancel  H1 ann               -> cancelled
        release H2 ann               -> released
        """)


# -- limits -------------------------------------------------------------------------------------


def test_live_holds_of_one_customer_are_limited() -> None:
    check("""
        show    rows=8 holds=2
        hold    H1 ann A1            -> held
        best    H2 ann 1             -> row
        hold    H3 ann A3            -> too_many_holds
        best    H4 ann 1             -> too_many_holds
        hold    H1 ann A1            -> again held
        hold    H5 bob A3            -> held
        confirm H1 ann card          -> booked
        hold    H6 ann A4            -> held
        hold    H7 ann A5            -> too_many_holds
        release H6 ann               -> released
        hold    H8 ann A5            -> held
        tick    600
        hold    H9 ann A6            -> too_many_holds
        expire                       -> expired H2,H5,H8
        hold    H9 ann A6            -> held
        """)


def test_seats_and_places_of_one_customer_are_limited_held_and_booked_together() -> None:
    check("""
        show    rows=8 tiers=F:9 places=4 holds=9
        hold    H1 ann A1,A2,A3,A4 F:1   -> too_many_seats
        hold    H2 ann A1,A2 F:1         -> held
        best    H3 ann 2                 -> too_many_seats
        confirm H2 ann card              -> booked
        hold    H4 ann A3,A4             -> too_many_seats
        hold    H5 ann F:1               -> held
        hold    H6 ann F:1               -> too_many_seats
        hold    H7 bob A3,A4 F:2         -> held
        cancel  H2 ann                   -> cancelled
        best    H8 ann 3                 -> row
        hold    H9 ann A8                -> too_many_seats
        restart                          -> restored
        hold    H9 ann A8                -> too_many_seats
        """)


# -- who is refused first -----------------------------------------------------------------------


def test_refusals_win_in_a_fixed_order() -> None:
    # Repetition, sales window, live holds, tiers, places, taken, companion, orphan.
    check("""
        show    rows=6 tiers=F:1 places=3 holds=1 sale=0..100 orphan=strict companion=A6
        hold    H1 ann A1                 -> held A1
        hold    H9 bob A2 F:1             -> held A2 F:1
        hold    H1 ann A1,A2,A3,A4 F:2    -> exists_with_different_request
        hold    H2 ann A1,A2,A3,A4 F:2    -> too_many_holds
        best    H2 ann 4                  -> too_many_holds
        hold    H3 eve A1,A2,A3,A4 F:2    -> capacity_unavailable F
        hold    H4 eve A1,A2,A3,A4        -> too_many_seats
        best    H4 eve 4                  -> too_many_seats
        hold    H5 eve A1,A4,A6           -> seat_unavailable A1
        hold    H6 eve A4,A6              -> companion_alone A6
        hold    H7 eve A4                 -> orphan_seat
        tick    100
        hold    H2 ann A1,A2,A3,A4 F:2    -> not_on_sale
        hold    H1 ann A1                 -> again held
        """)


# -- special seats, orphans, the house's choice ----------------------------------------------------


def test_a_companion_seat_needs_an_accessible_one_in_the_same_hold() -> None:
    check("""
        show    rows=4 accessible=A1 companion=A2
        hold    H1 ann A2            -> companion_alone A2
        hold    H2 ann A2,A3         -> companion_alone A2
        hold    H3 ann A2 nearest    -> companion_alone A2
        hold    H4 ann A1,A2         -> held A1,A2
        """)


def test_an_accessible_seat_may_be_taken_without_its_companion() -> None:
    check("""
        show    rows=4 accessible=A1 companion=A2
        hold    H1 ann A1            -> held A1
        best    H2 bob 2             -> row A3,A4
        """)


def test_a_party_with_a_wheelchair_gets_the_accessible_and_the_companion_seat() -> None:
    check("""
        show    rows=4,4 accessible=B1 companion=B2
        best    H1 ann 2 accessible=1 companion=1    -> row B1,B2
        best    H2 bob 2 accessible=1 companion=1    -> not_enough_seats
        """)


def test_a_strict_show_refuses_a_choice_that_leaves_a_single_seat() -> None:
    check("""
        show    rows=5 orphan=strict
        hold    H1 ann A2            -> orphan_seat A1
        hold    H2 ann A1            -> held A1
        hold    H3 bob A3            -> orphan_seat A2
        hold    H4 bob A2            -> held A2
        """)


def test_a_lenient_show_accepts_a_named_choice_that_leaves_a_single_seat() -> None:
    check("""
        show    rows=5 orphan=lenient
        hold    H1 ann A2            -> held A2
        best    H2 bob 2             -> row A3,A4
        """)


def test_a_wish_can_ask_for_another_orphan_rule_than_the_show_s() -> None:
    check("""
        show    rows=3 orphan=off
        best    H1 ann 2 orphan=strict           -> row
        """)


def test_a_taken_seat_is_replaced_by_the_nearest_equivalent_only_when_asked() -> None:
    check("""
        show    rows=4,4
        hold    H1 ann A1,A2             -> held A1,A2
        hold    H2 bob A2,A3             -> seat_unavailable A2
        hold    H2 bob A2,A3 nearest     -> nearest A3,A4
        hold    H2 bob A2,A3 nearest     -> again nearest A3,A4
        hold    H2 bob A2,A3             -> exists_with_different_request
        hold    H3 eve B1 nearest        -> held B1
        """)


def test_nearest_seats_are_free_on_every_leg_of_the_ride() -> None:
    check("""
        show    rows=3 stops=A,B,C
        hold    H1 ann A1 A-B            -> held
        hold    H2 ann A2 B-C            -> held
        hold    H3 bob A1 A-C nearest    -> nearest A3
        hold    H4 bob A1 A-C nearest    -> seat_unavailable A1
        hold    H5 bob A1 B-C nearest    -> held A1
        """)


def test_nearest_seats_are_of_the_same_category_and_cost_the_same() -> None:
    check("""
        show    rows=4 categories=A3,A4
        hold    H1 ann A4                -> held A4 for 500
        hold    H2 bob A4 nearest        -> nearest A3 for 500
        hold    H3 bob A4 nearest        -> seat_unavailable A4
        best    H4 eve 1                 -> row A1 for 1100
        best    H5 eve 1 category=1      -> not_enough_seats
        """)


def test_the_house_chooses_side_by_side_then_wherever_seats_are_left() -> None:
    check("""
        show    rows=4,2
        best    H1 ann 3      -> row A1,A2,A3
        best    H2 bob 2      -> row B1,B2
        best    H3 eve 2      -> not_enough_seats
        release H1 ann        -> released
        hold    H4 eve A2     -> held A2
        best    H5 eve 3      -> section A1,A3,A4
        best    H6 eve 1      -> not_enough_seats
        """)


def test_best_available_is_asked_for_the_legs_of_the_ride() -> None:
    check("""
        show    rows=2 stops=A,B,C
        hold    H1 ann A1 A-B    -> held
        best    H2 bob 2 A-C     -> not_enough_seats
        best    H3 bob 2 B-C     -> row A1,A2
        best    H4 eve 1 A-B     -> row A2
        best    H4 eve 1 A-B     -> again row A2
        best    H4 eve 1 B-C     -> exists_with_different_request
        best    H4 eve 2 A-B     -> exists_with_different_request
        """)


# -- blocks ---------------------------------------------------------------------------------------


def test_blocking_takes_what_is_not_blocked_yet_and_repeats_what_is() -> None:
    check("""
        show    rows=4
        block   A1,A2 repair      -> blocked A1,A2 repair
        block   A1,A2 repair      -> again blocked A1,A2
        block   A1,A2,A3 rain     -> blocked A3 rain
        best    H1 ann 2          -> not_enough_seats
        hold    H2 ann A1         -> seat_unavailable A1
        unblock A1,A4             -> seat_not_blocked A4
        unblock A1,A3             -> unblocked A1,A3
        unblock A1                -> seat_not_blocked A1
        hold    H3 ann A1,A2      -> seat_unavailable A2
        hold    H4 ann A1,A3      -> held
        block   A1                -> seat_unavailable A1
        restart                   -> restored
        unblock A2                -> unblocked A2
        """)


# -- memory ---------------------------------------------------------------------------------------

A_DAY_S = limits.ENDED_HOLD_MEMORY_MS // 1_000


def test_ended_holds_are_forgotten_after_their_time_the_oldest_first() -> None:
    check(f"""
        show    rows=8 holds=9
        hold    H1 ann A1         -> held
        hold    H2 ann A2         -> held
        hold    H3 ann A3         -> held
        hold    H4 ann A4         -> held
        confirm H3 ann card       -> booked
        confirm H4 ann card       -> booked
        cancel  H4 ann            -> cancelled
        release H2 ann            -> released
        tick    10
        release H1 ann            -> released
        forget                    -> forgotten nothing
        tick    {A_DAY_S - 11}
        forget                    -> forgotten nothing
        tick    1
        forget                    -> forgotten H2
        hold    H1 ann A1         -> again held A1
        release H2 ann            -> hold_not_found
        hold    H2 ann A5         -> held A5
        tick    10
        forget                    -> forgotten H1
        forget                    -> forgotten nothing
        confirm H3 ann card       -> again booked
        cancel  H4 ann            -> again cancelled
        """)


def test_holds_that_ended_together_are_forgotten_in_any_order() -> None:
    # Two owners may have them in different orders, and the journal is replayed by a third.
    transcript = Transcript(["rows=3", "holds=9"])
    for number in (1, 2, 3):
        transcript.run(["hold", f"H{number}", "ann", f"A{number}"])
    transcript.run(["tick", "600"])
    assert transcript.run(["expire"]) == "expired H1,H2,H3"
    transcript.run(["tick", str(A_DAY_S)])
    forgotten = transcript.seat_map.decide_forgotten(transcript.now_ms)
    assert forgotten is not None
    transcript.seat_map.apply(forgotten._replace(hold_ids=forgotten.hold_ids[::-1]))
    assert not transcript.seat_map.holds
    assert transcript.run(["forget"]) == "forgotten nothing"


def test_a_flood_of_ended_holds_is_forgotten_before_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "ENDED_HOLDS_REMEMBERED_MAX", 2)
    check("""
        show    rows=4
        hold    H1 ann A1         -> held
        release H1 ann            -> released
        hold    H2 ann A1         -> held
        release H2 ann            -> released
        forget                    -> forgotten nothing
        hold    H3 ann A1         -> held
        release H3 ann            -> released
        hold    H4 ann A1         -> held
        release H4 ann            -> released
        forget                    -> forgotten H1,H2
        release H3 ann            -> again released
        """)
