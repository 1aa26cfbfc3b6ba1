"""Terms of a cancellation, as the show keeps them."""

from __future__ import annotations

from reservation.commands import CancelBooking, ConfirmHold, HoldSeats
from reservation.events import BookingCancelled, BookingConfirmed, SeatsHeld
from reservation.ids import BookingId, CustomerId, HoldId
from reservation.outcome import Outcome, Repeated
from reservation.refund_terms import RefundTerms
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import SeatMap
from tests.support.histories import make_show

ANN = CustomerId("ann")
HOLD, BOOKING = HoldId("hld_1"), BookingId("bkg_1")


def booked() -> SeatMap:
    show = make_show("terms")
    seat_map = SeatMap(show, SeatChooser(show.plan))
    for command in (
        HoldSeats(HOLD, ANN, show.route.whole, (0,), (), False, "digest"),
        ConfirmHold(HOLD, ANN, "counter"),
    ):
        event = seat_map.decide(command, 5)
        assert isinstance(event, SeatsHeld | BookingConfirmed)
        seat_map.apply(event)
    return seat_map


def cancel(seat_map: SeatMap, refund: RefundTerms, now_ms: int) -> Outcome:
    outcome = seat_map.decide(CancelBooking(BOOKING, ANN, refund), now_ms)
    if isinstance(outcome, BookingCancelled):
        seat_map.apply(outcome)
    return outcome


def test_a_cancellation_says_on_which_terms() -> None:
    assert cancel(booked(), RefundTerms.FULL, 9) == BookingCancelled(
        HOLD, BOOKING, 9, RefundTerms.FULL
    )


def test_a_repeated_cancellation_is_answered_with_the_first_ones_terms() -> None:
    seat_map = booked()
    first = cancel(seat_map, RefundTerms.NONE, 9)
    assert isinstance(first, BookingCancelled)
    assert cancel(seat_map, RefundTerms.FULL, 20) == Repeated(first)


def test_whoever_says_nothing_cancels_by_the_shows_policy() -> None:
    assert CancelBooking(BOOKING, ANN).refund is RefundTerms.POLICY
    assert BookingCancelled(HOLD, BOOKING, 9).refund is RefundTerms.POLICY
