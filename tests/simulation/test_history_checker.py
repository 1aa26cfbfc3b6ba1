"""The checker of histories: it must see what is wrong, and nothing where nothing is."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from reservation.commands import (
    CancelBooking,
    CancelShow,
    Command,
    ConfirmHold,
    ExtendHold,
    HoldSeats,
    ReleaseHold,
)
from reservation.events import (
    BookingConfirmed,
    Event,
    HoldExpired,
    HoldReleased,
    SeatsHeld,
    ShowCancelled,
)
from reservation.faults import Fault, NotDone, OutcomeUnknown
from reservation.ids import CustomerId, booking_id_of
from reservation.rejections import Rejected, Rejection
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Outcome, Repeated, SeatMap
from reservation.show import OrphanRule, SalesPolicy
from tests.support.history_checker import History, Verdict, check_history
from tests.support.house import hold, make_plan, make_show

POLICY = SalesPolicy(
    hold_ttl_ms=1_000,
    hold_life_ms_max=2_000,
    live_holds_per_customer_max=2,
    seats_per_customer_max=3,
    orphan_rule=OrphanRule.OFF,
)
SHOW = make_show("checked", plan=make_plan(10), policy=POLICY)
ID = SHOW.show_id
RELEASED = Rejected(Rejection.HOLD_RELEASED)
EXPIRED = Rejected(Rejection.HOLD_EXPIRED)
TAKEN = Rejected(Rejection.SEAT_UNAVAILABLE, (1,))


class Book:
    """A history with its times in plain sight: ``say(asked, told, command, answer)``."""

    def __init__(self) -> None:
        self.history = History()

    def say(
        self,
        asked_at_ms: float,
        told_at_ms: float,
        command: Command,
        answer: Outcome | Fault | None,
        session: str = "ref",
    ) -> None:
        number = self.history.asked(session, ID, command, asked_at_ms)
        self.history.told(number, answer, told_at_ms)

    def check(self, journal: Iterable[Event] | None = None, stale_ms: float = 0) -> Verdict:
        written = None if journal is None else list(journal)
        return check_history(self.history.operations, SHOW, written, stale_ms=stale_ms)

    def broken(self, journal: Iterable[Event] | None = None, stale_ms: float = 0) -> set[str]:
        return {violation.invariant for violation in self.check(journal, stale_ms).violations}


def held_by(command: HoldSeats, at_ms: int) -> SeatsHeld:
    """The event that the shipped rules make of it on an empty show."""
    held = SeatMap(SHOW, SeatChooser(SHOW.plan)).decide(command, at_ms)
    assert isinstance(held, SeatsHeld)
    return held


def confirmed(held: SeatsHeld, at_ms: int) -> BookingConfirmed:
    booking_id = booking_id_of(held.hold_id)
    return BookingConfirmed(
        held.hold_id, booking_id, held.customer_id, "card", held.amount_minor, at_ms
    )


def pay(held: SeatsHeld) -> ConfirmHold:
    return ConfirmHold(held.hold_id, held.customer_id, "card")


ANN = hold(ID, 1, customer="ann", key="a")
BOB = hold(ID, 1, customer="bob", key="b")
ANNS = held_by(ANN, 10)


def test_a_life_without_contradictions_passes() -> None:
    book = Book()
    book.say(5, 15, ANN, ANNS)
    book.say(20, 30, BOB, TAKEN)
    book.say(40, 50, pay(ANNS), confirmed(ANNS, 45))
    book.say(60, 70, pay(ANNS), Repeated(confirmed(ANNS, 45)))
    assert book.check([ANNS, confirmed(ANNS, 45)]) == Verdict([])


def test_one_seat_acknowledged_to_two_holds_is_seen() -> None:
    book = Book()
    book.say(5, 15, ANN, ANNS)
    book.say(20, 30, BOB, held_by(BOB, 25))
    assert book.broken() == {"I9"}


def test_a_seat_is_free_for_another_from_the_deadline_on_and_not_before() -> None:
    late, early = Book(), Book()
    late.say(5, 15, ANN, ANNS)
    late.say(1_005, 1_015, BOB, held_by(BOB, 1_012))
    early.say(5, 15, ANN, ANNS)
    early.say(990, 1_005, BOB, held_by(BOB, 1_000))
    assert late.broken() == set()
    assert early.broken() == {"I9"}


def test_a_booked_seat_does_not_come_back_with_time() -> None:
    book = Book()
    book.say(5, 15, ANN, ANNS)
    book.say(20, 30, pay(ANNS), confirmed(ANNS, 25))
    book.say(5_000, 5_010, BOB, held_by(BOB, 5_005))
    assert book.broken() == {"I9"}


@pytest.mark.parametrize(
    ("cancelled_at_ms", "answers", "broken"),
    [
        (500, [RELEASED, RELEASED], set()),
        (500, [EXPIRED], {"I9"}),
        (1_500, [EXPIRED, EXPIRED], set()),
        (1_500, [RELEASED, RELEASED], set()),
        (1_500, [RELEASED, EXPIRED], {"I9"}),
        (1_500, [EXPIRED, RELEASED], {"I9"}),
    ],
)
def test_a_cancelled_show_ends_a_hold_unless_its_deadline_has(
    cancelled_at_ms: int, answers: list[Rejected], broken: set[str]
) -> None:
    book = Book()
    book.say(5, 15, ANN, ANNS)
    at_ms = cancelled_at_ms
    book.say(at_ms - 5, at_ms + 5, CancelShow("storm"), ShowCancelled("storm", (), at_ms))
    for number, answer in enumerate(answers):
        at_ms = 2_000 + 100 * number
        book.say(at_ms, at_ms + 10, _extend(), answer)
        book.say(at_ms + 20, at_ms + 30, ANN, Repeated(ANNS))
    assert book.broken() == broken


def test_an_unknown_release_explains_that_the_seat_was_free() -> None:
    book = Book()
    book.say(5, 15, ANN, ANNS)
    from_ann = pay(ANNS)
    book.say(20, 30, from_ann, OutcomeUnknown("?"))
    book.say(40, 50, BOB, held_by(BOB, 45))
    assert book.broken() == {"I9"}, "an unknown payment does not free a seat"
    book.say(22, 32, CancelBooking(booking_id_of(ANN.hold_id), CustomerId("ann")), None)
    assert book.broken() == set(), "an unknown payment and an unknown cancellation may"


def test_a_refusal_because_of_a_seat_that_nobody_had_is_seen() -> None:
    book = Book()
    book.say(5, 15, ANN, NotDone("no"))
    book.say(20, 30, BOB, TAKEN)
    assert book.broken() == {"I9"}


def test_a_refusal_may_lag_behind_others_but_never_behind_its_own_session() -> None:
    released = HoldReleased(ANN.hold_id, 25)
    book = Book()
    book.say(5, 15, ANN, ANNS, session="a")
    book.say(20, 30, _release(), released, session="a")
    book.say(100, 110, BOB, TAKEN, session="b")
    assert book.broken() == {"I9"}
    assert book.broken(stale_ms=200) == set()
    book.say(120, 130, BOB, TAKEN, session="a")
    assert book.broken(stale_ms=200) == {"I9"}


def _extend() -> Command:
    return ExtendHold(ANNS.hold_id, ANNS.customer_id)


def _release() -> Command:
    return ReleaseHold(ANN.hold_id, ANN.customer_id)


def test_an_acknowledged_hold_that_is_not_in_the_journal_is_seen() -> None:
    book = Book()
    book.say(5, 15, ANN, ANNS)
    assert book.broken([]) == {"I2"}
    assert book.broken([ANNS._replace(expires_at_ms=5)]) == {"I2"}
    assert book.broken([ANNS, HoldExpired(ANN.hold_id, 1_010)]) == set()


def test_what_everybody_was_told_did_not_happen_must_not_be_in_the_journal() -> None:
    book = Book()
    book.say(5, 15, ANN, NotDone("no"))
    assert book.broken([ANNS]) == {"I2"}
    book.say(20, 30, ANN, OutcomeUnknown("?"))
    assert book.broken([ANNS]) == set()


def test_what_nobody_asked_for_must_not_be_in_the_journal() -> None:
    assert Book().broken([ANNS]) == {"I2"}


def test_an_end_at_the_deadline_is_no_extension() -> None:
    # Both are a hold and a number, so as tuples they are equal.
    ended = HoldExpired(ANN.hold_id, ANNS.expires_at_ms)
    book = Book()
    book.say(5, 15, ANN, ANNS)
    assert book.broken([ANNS, ended]) == set()


def test_two_answers_for_one_id_are_seen() -> None:
    book = Book()
    book.say(5, 15, ANN, ANNS)
    book.say(20, 30, ANN, Repeated(ANNS._replace(expires_at_ms=ANNS.expires_at_ms + 1)))
    assert book.broken() == {"I6"}
    again = Book()
    again.say(5, 15, ANN, ANNS)
    again.say(20, 30, ANN, ANNS)
    assert "I6" in again.broken()


def test_more_than_the_policy_allows_is_seen() -> None:
    commands = [hold(ID, seat, customer="ann", key=str(seat)) for seat in range(3)]
    events = [held_by(command, 10) for command in commands]
    book = Book()
    for command, event in zip(commands, events, strict=True):
        book.say(5, 15, command, event)
    assert book.broken(events) == {"I10"}
    assert book.broken([events[0], events[1], HoldReleased(events[0].hold_id, 12), events[2]]) >= {
        "I2"
    }


def test_other_shows_are_left_out() -> None:
    other = make_show("other")
    history = History()
    for command in (hold(other.show_id, 1, key="x"), hold(other.show_id, 1, key="y")):
        number = history.asked("ref", other.show_id, command, 5)
        history.told(number, ANNS._replace(hold_id=command.hold_id), 15)
    assert check_history(history.operations, SHOW, []) == Verdict([])


def test_many_doubts_do_not_stop_the_search() -> None:
    book = Book()
    for number in range(12):
        claim = hold(ID, 1, customer=f"cus {number}", key="d")
        book.say(number, 0, claim, OutcomeUnknown("?"))
    book.say(100, 110, BOB, TAKEN)
    book.say(5_000, 5_010, ANN, held_by(ANN, 5_005))
    verdict = book.check()
    assert verdict == Verdict([])
