"""What an organiser may change of a show on sale, as tables (``tests.support.transcript``)."""

from __future__ import annotations

import pytest

from persistence.catalogue_rows import fares_json, fares_of
from reservation.commands import (
    AllocateSeats,
    BeyondPlan,
    BlockSeats,
    CancelShow,
    HoldFromChannel,
    HoldSeats,
)
from reservation.events import SeatsAllocated, ShowCancelled
from reservation.fares import CategoryFare, FareTable, FareWindow
from reservation.ids import ChannelId, CustomerId, HoldId
from reservation.limits import FARE_WINDOWS_MAX, SEATS_PER_HOLD_MAX
from reservation.route import Segment
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Repeated, SeatMap
from reservation.show import SalesPolicy
from tests.support.histories import START_AT_MS, RandomLife, make_show
from tests.support.transcript import assert_sound, check, restored

# -- channels -----------------------------------------------------------------------------------


def test_a_channels_seats_are_taken_for_everybody_else() -> None:
    check("""
        show      rows=4
        allocate  fans A1,A2              -> allocated A1,A2
        hold      H1 ann A1               -> seat_unavailable A1
        hold      H2 ann A1 nearest       -> nearest A3
        best      H3 bob 2                -> not_enough_seats
        block     A2                      -> seat_unavailable A2
        through   press hold H4 bob A1    -> channel_not_found
        allocate  press A4                -> allocated A4
        through   press hold H5 bob A1    -> seat_unavailable A1
        through   fans hold H6 bob A1     -> through fans held A1
        through   fans hold H7 cid A1     -> seat_unavailable A1
    """)


@pytest.mark.parametrize("end", ["release", "expire", "cancel"])
def test_a_seat_that_comes_back_comes_back_to_its_channel(end: str) -> None:
    ends = {
        "release": "release H1 ann -> released",
        "expire": "tick 600\nexpire -> expired H1",
        "cancel": "confirm H1 ann card -> booked\ncancel H1 ann -> cancelled",
    }
    check(f"""
        show      rows=4
        allocate  fans A1,A2              -> allocated A1,A2
        through   fans hold H1 ann A1,A2  -> through fans held A1,A2
        {ends[end]}
        hold      H2 bob A1               -> seat_unavailable A1
        restart                           -> restored
        hold      H3 bob A1               -> seat_unavailable A1
        through   fans hold H4 bob A1     -> through fans held A1
    """)


def test_on_a_train_a_seat_comes_back_leg_by_leg() -> None:
    check("""
        show      rows=1 stops=PUNE,LONAVALA,KALYAN,MUMBAI
        allocate  fans A1                                  -> allocated A1
        through   fans hold H1 ann A1 PUNE-LONAVALA        -> through fans held A1
        hold      H2 bob A1 LONAVALA-KALYAN                -> seat_unavailable A1
        through   fans hold H3 bob A1 LONAVALA-MUMBAI      -> through fans held A1
        release   H3 bob                                   -> released
        hold      H4 cid A1 LONAVALA-MUMBAI                -> seat_unavailable A1
        restart                                            -> restored
        close     fans                                     -> deallocated A1
        hold      H5 cid A1 PUNE-MUMBAI                    -> seat_unavailable A1
        hold      H6 cid A1 LONAVALA-MUMBAI                -> held A1
        release   H1 ann                                   -> released
        hold      H7 bob A1 PUNE-LONAVALA                  -> held A1
    """)


def test_closing_a_channel_puts_what_is_free_on_general_sale_and_keeps_what_is_held() -> None:
    check("""
        show      rows=4
        allocate  fans A1,A2,A3           -> allocated A1,A2,A3
        through   fans hold H1 ann A1     -> through fans held A1
        close     fans                    -> deallocated A1,A2,A3
        close     fans                    -> again deallocated
        hold      H2 bob A2               -> held A2
        through   fans hold H3 bob A3     -> channel_not_found
        through   fans hold H1 ann A1     -> again held A1
        confirm   H1 ann card             -> booked 1100
        cancel    H1 ann                  -> cancelled
        hold      H4 bob A1               -> held A1
    """)


def test_only_free_seats_are_allocated_and_only_a_channels_own_are_taken_from_it() -> None:
    check("""
        show      rows=4
        hold      H1 ann A1               -> held A1
        block     A2                      -> blocked A2
        allocate  fans A1,A2,A3           -> seat_unavailable A1,A2
        allocate  fans A3                 -> allocated A3
        allocate  fans A3                 -> again allocated A3
        allocate  fans A3,A4              -> allocated A4
        allocate  press A3                -> seat_unavailable A3
        dealloc   press A3                -> seat_not_allocated A3
        dealloc   fans A1,A3              -> seat_not_allocated A1
        dealloc   fans A3                 -> deallocated A3
        hold      H2 bob A3               -> held A3
    """)


def test_through_a_channel_seats_of_general_sale_can_be_had_too() -> None:
    check("""
        show      rows=4
        allocate  fans A1,A2              -> allocated A1,A2
        through   fans hold H1 ann A2,A3  -> through fans held A2,A3
        through   fans hold H2 bob A4     -> held A4
        release   H1 ann                  -> released
        hold      H3 cid A2               -> seat_unavailable A2
        hold      H4 cid A3               -> held A3
        through   fans best H5 bob 2      -> through fans row A1,A2
    """)


def test_the_rules_of_a_hold_are_those_of_a_hold_through_a_channel() -> None:
    check("""
        show      rows=6 places=3 holds=2 sale=10..
        allocate  fans A1,A2,A3,A4        -> allocated A1,A2,A3,A4
        through   fans hold H1 ann A1     -> not_on_sale
        tick      10
        through   fans hold H1 ann A1,A2  -> through fans held A1,A2
        through   fans hold H1 ann A1,A2  -> again held A1,A2
        through   fans hold H1 ann A3     -> exists_with_different_request
        through   fans hold H2 ann A3,A4  -> too_many_seats
        through   fans hold H3 ann A3     -> through fans held A3
        through   fans hold H4 ann A4     -> too_many_holds
        extend    H3 ann                  -> again extended
        confirm   H3 ann card             -> booked
    """)


# -- limits -------------------------------------------------------------------------------------


def test_one_hold_may_not_have_more_than_the_show_allows() -> None:
    check("""
        show      rows=6 tiers=F:9 perhold=3
        hold      H1 ann A1,A2,A3,A4      -> too_many_seats_per_hold
        hold      H1 ann A1,A2 F:2        -> too_many_seats_per_hold
        best      H1 ann 4                -> too_many_seats_per_hold
        hold      H1 ann A1,A2 F:1        -> held A1,A2 F:1
        best      H2 ann 3                -> row
        allocate  fans A6                 -> allocated A6
        through   fans best H3 bob 4      -> too_many_seats_per_hold
    """)


def test_a_customers_limit_counts_every_category_every_tier_and_every_order() -> None:
    check("""
        show      rows=4,4 tiers=F:9,G:9 categories=B1,B2,B3,B4 places=6 holds=9
        hold      H1 ann A1               -> held A1
        confirm   H1 ann card             -> booked
        hold      H2 ann B1               -> held B1
        hold      H3 ann F:1              -> held F:1
        confirm   H3 ann card             -> booked
        hold      H4 ann G:1              -> held G:1
        best      H5 ann 1                -> row
        allocate  fans B4                 -> allocated B4
        through   fans hold H6 ann B4     -> through fans held B4
        hold      H7 ann A4               -> too_many_seats
        hold      H7 ann G:1              -> too_many_seats
        best      H7 ann 1 category=1     -> too_many_seats
        restart                           -> restored
        hold      H7 ann A4               -> too_many_seats
        hold      H8 bob A4               -> held A4
        cancel    H1 ann                  -> cancelled
        hold      H7 ann G:1              -> held G:1
        hold      H9 ann G:1              -> too_many_seats
    """)


@pytest.mark.parametrize("count", [0, -1, SEATS_PER_HOLD_MAX + 1])
def test_a_limit_of_a_hold_beyond_the_house_s_own_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="seats_per_hold_max"):
        SalesPolicy(seats_per_hold_max=count)


# -- prices -------------------------------------------------------------------------------------


def test_a_hold_keeps_the_price_of_the_moment_it_was_made() -> None:
    check("""
        show      rows=6 prices=60:2000,120:3000
        hold      H1 ann A1               -> held A1 for 1100
        tick      60-
        hold      H2 ann A2               -> held A2 for 1100
        tick      0+
        hold      H3 ann A3               -> held A3 for 2000
        extend    H1 ann                  -> extended
        tick      60
        hold      H1 ann A1               -> again held A1 for 1100
        confirm   H1 ann card             -> booked 1100
        hold      H4 ann A4               -> held A4 for 3000
    """)


FLAT, DEAR = (CategoryFare(900),), (CategoryFare(1_200),)


def test_a_table_says_what_is_charged_at_a_moment() -> None:
    table = FareTable("EUR", FLAT, (FareWindow(50, DEAR), FareWindow(70, FLAT)))
    charged = [table.at(now_ms).fares[0].base_minor for now_ms in (-1, 49, 50, 69, 70, 10**15)]
    assert charged == [900, 900, 1_200, 1_200, 900, 900]
    assert table.at(50) == FareTable("EUR", DEAR)
    plain = FareTable("EUR", FLAT)
    assert plain.at(50) is plain
    assert plain != table
    assert len({plain, table, FareTable("EUR", FLAT)}) == 2
    assert set(table.every_fare) == {*FLAT, *DEAR}


@pytest.mark.parametrize(
    ("windows", "words"),
    [
        ((FareWindow(50, DEAR), FareWindow(50, FLAT)), "after the one before"),
        ((FareWindow(50, DEAR), FareWindow(49, FLAT)), "after the one before"),
        ((FareWindow(50, ()),), "one fare for each category"),
        ((FareWindow(50, (*DEAR, *DEAR)),), "one fare for each category"),
        (tuple(FareWindow(n, DEAR) for n in range(FARE_WINDOWS_MAX + 1)), "more than"),
    ],
)
def test_windows_that_make_no_sense_are_refused(
    windows: tuple[FareWindow, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        FareTable("EUR", FLAT, windows)


@pytest.mark.parametrize(
    ("table", "stored"),
    [
        (FareTable("EUR", ()), "[]"),
        (FareTable("EUR", (CategoryFare(5, (1, 2)), CategoryFare(9))), "[[5,[1,2]],[9,[]]]"),
        (
            FareTable("EUR", FLAT, (FareWindow(50, DEAR), FareWindow(70, FLAT))),
            '[{"from_at_ms":null,"fares":[[900,[]]]},{"from_at_ms":50,"fares":[[1200,[]]]},'
            '{"from_at_ms":70,"fares":[[900,[]]]}]',
        ),
        (
            FareTable("EUR", (), (FareWindow(50, ()),)),
            '[{"from_at_ms":null,"fares":[]},{"from_at_ms":50,"fares":[]}]',
        ),
    ],
    ids=["none", "as before there were windows", "windows", "windows of nothing"],
)
def test_fares_come_back_from_the_catalogue_as_they_went_in(table: FareTable, stored: str) -> None:
    assert fares_json(table) == stored
    assert fares_of("EUR", stored) == table


# -- cancelled shows ----------------------------------------------------------------------------


def test_a_cancelled_show_ends_every_live_hold_and_sells_nothing_more() -> None:
    check("""
        show      rows=6 tiers=F:2
        allocate  fans A5                 -> allocated A5
        hold      H1 ann A1 F:1           -> held A1 F:1
        hold      H2 bob A2               -> held A2
        confirm   H2 bob card             -> booked
        hold      H3 bob A3               -> held A3
        release   H3 bob                  -> released
        through   fans hold H4 ann A5     -> through fans held A5
        stop      storm                   -> stopped storm H1,H4
        stop      again                   -> again stopped storm
        hold      H5 cid A6               -> show_cancelled
        best      H6 cid 1                -> show_cancelled
        through   fans hold H7 cid A5     -> show_cancelled
        extend    H1 ann                  -> show_cancelled
        confirm   H1 ann card             -> show_cancelled
        confirm   H2 bob card             -> again booked
        hold      H1 ann A1 F:1           -> again held A1 F:1
        release   H1 ann                  -> again released
        expire                            -> expired nothing
        restart                           -> restored
        stop      again                   -> again stopped storm
        hold      H5 cid A6               -> show_cancelled
        extend    H1 ann                  -> show_cancelled
        confirm   H2 bob card             -> again booked
        cancel    H2 bob                  -> cancelled
        cancel    H2 bob                  -> again cancelled
        block     A1                      -> blocked A1
        close     fans                    -> deallocated A5
    """)


def test_a_show_may_be_cancelled_before_anybody_wanted_it() -> None:
    check("""
        show      rows=1
        stop      storm                   -> stopped storm
        hold      H1 ann A1               -> show_cancelled
    """)


# -- whole lives ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_a_life_with_channels_and_its_end_is_sound(seed: int) -> None:
    show = make_show("changes", legs=1 + seed % 4, capacities=(6, 2))
    life = RandomLife(show, seed, cancels=0.01)
    for _ in range(200):
        life.step()
    assert_sound(life.seat_map, life.history)


def test_deciding_a_hold_through_a_channel_changes_nothing_whatever_comes_of_it() -> None:
    show = make_show("pure", legs=3)
    seat_map = SeatMap(show, SeatChooser(show.plan))
    for channel, seats in (("chn_fans", (0, 1, 2)), ("chn_press", (5, 6))):
        allocated = seat_map.decide(AllocateSeats(ChannelId(channel), seats), START_AT_MS)
        assert isinstance(allocated, SeatsAllocated)
        seat_map.apply(allocated)
    taken, reserved = seat_map.occupancy.taken, seat_map.occupancy.reserved
    before = (list(taken), dict(reserved))
    for seat in range(11):
        for channel in ("chn_fans", "chn_press", "chn_none"):
            hold = HoldSeats(
                HoldId("h"), CustomerId("c"), Segment(0, 2), (seat,), (), seat % 2 == 0, "d"
            )
            seat_map.decide(HoldFromChannel(ChannelId(channel), hold), START_AT_MS)
            assert (list(taken), dict(reserved)) == before


def test_a_seat_of_a_later_plan_is_told_apart_from_nonsense() -> None:
    seat_map = SeatMap(show := make_show("later"), SeatChooser(show.plan))
    with pytest.raises(BeyondPlan):
        seat_map.decide(BlockSeats((show.plan.seat_count,), "x"), START_AT_MS)
    with pytest.raises(AssertionError) as nonsense:
        seat_map.decide(BlockSeats((3, 2), "x"), START_AT_MS)
    assert not isinstance(nonsense.value, BeyondPlan)


def test_what_ended_with_a_show_is_the_journals_to_tell() -> None:
    life = RandomLife(make_show("told"), 3)
    while not life.seat_map.live_hold_count:
        life.step()
    cancelled = life.seat_map.decide(CancelShow("storm"), life.now_ms)
    assert isinstance(cancelled, ShowCancelled)
    assert cancelled.hold_ids
    life.seat_map.apply(cancelled)
    for seat_map in (life.seat_map, restored(life.seat_map)):
        assert seat_map.decide(CancelShow("x"), life.now_ms) == Repeated(
            ShowCancelled("storm", (), cancelled.at_ms)
        )
