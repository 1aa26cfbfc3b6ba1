"""A show whose plan is revised while it is sold: what was sold stays, and what is new is sold."""

from __future__ import annotations

from reservation.commands import (
    AllocateSeats,
    BlockSeats,
    Command,
    ConfirmHold,
    HoldBestAvailable,
    HoldSeats,
    UnblockSeats,
    Wish,
)
from reservation.events import Event, SeatsHeld
from reservation.fares import CategoryFare, FareTable
from reservation.ids import ChannelId, CustomerId, HoldId, derive_hold_id, derive_show_id
from reservation.plan_revision import Revision, revise
from reservation.rejections import Rejected, Rejection
from reservation.route import Route
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Repeated, SeatMap
from reservation.seating_plan import SeatingPlan
from reservation.show import OrphanRule, SalesPolicy, Show
from tests.support.drawings import Drawing, DrawnRow, imported

SHOW_ID = derive_show_id("revised")
ANN = CustomerId("ann")
NOW_MS = 1_900_000_000_000
FARES = FareTable("EUR", (CategoryFare(1000), CategoryFare(600), CategoryFare(300)))
POLICY = SalesPolicy(
    orphan_rule=OrphanRule.OFF, live_holds_per_customer_max=1_000, seats_per_customer_max=1_000
)
PLAN_CHANGE = "plan_change"


def row(labels: str) -> Drawing:
    return (DrawnRow("Hall", "A", (tuple(labels.split()),)),)


def hold_id(key: str) -> HoldId:
    return derive_hold_id(SHOW_ID, ANN, key)


class Sale:
    """A show's journal and its map, which a revision builds anew from the journal."""

    def __init__(self, drawing: Drawing) -> None:
        self.journal: list[Event] = []
        self.plan = imported(drawing, category_count=1)
        self.map = self._loaded()

    def _loaded(self) -> SeatMap:
        show = Show(SHOW_ID, self.plan, Route(), FARES, POLICY)
        seat_map = SeatMap(show, SeatChooser(self.plan))
        for event in self.journal:
            seat_map.apply(event)
        return seat_map

    def do(self, command: Command) -> Event | Repeated | Rejected:
        outcome = self.map.decide(command, NOW_MS)
        if not isinstance(outcome, Repeated | Rejected):
            self.map.apply(outcome)
            self.journal.append(outcome)
        return outcome

    def seats(self, labels: str) -> tuple[int, ...]:
        return tuple(sorted(self.plan.labels.index(label) for label in labels.split()))

    def hold(self, labels: str) -> Event | Repeated | Rejected:
        seats = self.seats(labels)
        return self.do(HoldSeats(hold_id(labels), ANN, Route().whole, seats, (), False, labels))

    def book(self, labels: str) -> None:
        assert isinstance(self.hold(labels), SeatsHeld)
        self.do(ConfirmHold(hold_id(labels), ANN, "card"))

    def best(self, count: int) -> str:
        key = f"best {len(self.journal)}"
        command = HoldBestAvailable(hold_id(key), ANN, Route().whole, Wish(count), key)
        outcome = self.do(command)
        if isinstance(outcome, Rejected):
            return outcome.code.value
        assert isinstance(outcome, SeatsHeld)
        held = set(outcome.seat_indexes)
        shown = self.plan.seats_at(0, self.plan.place_count)
        return " ".join(self.plan.labels[index] for index in shown if index in held)

    def revision(self, drawing: Drawing) -> Revision:
        revision = revise(self.plan, imported(drawing, category_count=1))
        assert isinstance(revision, Revision)
        return revision

    def take_over(self, plan: SeatingPlan) -> None:
        self.plan = plan
        self.map = self._loaded()

    def change(self, drawing: Drawing) -> Event | Repeated | Rejected | None:
        """What an organiser's change of the plan does, step by step."""
        revision = self.revision(drawing)
        outcome = None
        if revision.removed:
            outcome = self.do(BlockSeats(revision.removed, PLAN_CHANGE))
            if isinstance(outcome, Rejected):
                return outcome
        self.take_over(revision.plan)
        if revision.restored:
            self.do(UnblockSeats(revision.restored))
        return outcome


# What is special about a drawn seat depends on its label; these are not special.
ORDINARY = [
    label for label in (f"S{number}" for number in range(40)) if not imported(row(label)).traits[0]
]
A, B, C, D, E, F = ORDINARY[:6]


def test_a_change_that_drops_a_sold_or_held_seat_is_refused_and_names_them() -> None:
    sale = Sale(row(f"{A} {B} {C} {D}"))
    sale.book(B)
    sale.hold(C)
    before = list(sale.journal)
    outcome = sale.change(row(f"{A}"))
    assert isinstance(outcome, Rejected)
    assert outcome.code is Rejection.SEAT_UNAVAILABLE
    assert sale.plan.labels_of(outcome.seat_indexes) == [B, C]
    assert sale.journal == before
    assert sale.plan == imported(row(f"{A} {B} {C} {D}"), category_count=1)


def test_what_was_sold_is_still_sold_and_the_new_seat_sits_between() -> None:
    sale = Sale(row(f"{A} {B} {C}"))
    sale.book(B)
    sale.change(row(f"{A} {E} {B} {C}"))
    assert isinstance(sale.hold(B), Repeated)
    other = sale.do(
        HoldSeats(hold_id("other"), ANN, Route().whole, sale.seats(B), (), False, "other")
    )
    assert isinstance(other, Rejected)
    assert other.seat_indexes == sale.seats(B)
    assert sale.best(2) == f"{A} {E}"
    assert sale.best(1) == C


def test_a_seat_that_is_gone_is_neither_offered_nor_held_nor_put_back_on_sale() -> None:
    sale = Sale(row(f"{A} {B} {C}"))
    gone = sale.seats(B)
    sale.change(row(f"{A} {C}"))
    assert sale.best(2) == f"{A} {C}"
    for command in (
        HoldSeats(hold_id("b"), ANN, Route().whole, gone, (), False, "b"),
        HoldSeats(hold_id("n"), ANN, Route().whole, gone, (), True, "n"),
        UnblockSeats(gone),
        AllocateSeats(ChannelId("agency"), gone),
    ):
        outcome = sale.do(command)
        assert isinstance(outcome, Rejected)
        assert outcome.seat_indexes == gone


def test_a_block_that_somebody_lifted_in_between_puts_no_gone_seat_on_sale() -> None:
    sale = Sale(row(f"{A} {B} {C}"))
    revision = sale.revision(row(f"{A} {C}"))
    sale.do(BlockSeats(revision.removed, PLAN_CHANGE))
    sale.do(UnblockSeats(revision.removed))
    sale.take_over(revision.plan)
    outcome = sale.hold(B)
    assert isinstance(outcome, Rejected)
    assert (outcome.code, outcome.seat_indexes) == (Rejection.SEAT_UNAVAILABLE, revision.removed)
    outcome = sale.do(AllocateSeats(ChannelId("agency"), revision.removed))
    assert isinstance(outcome, Rejected)
    assert sale.best(3) == Rejection.NOT_ENOUGH_SEATS.value


def test_a_seat_that_comes_back_is_on_sale_again_under_its_old_index() -> None:
    sale = Sale(row(f"{A} {B} {C}"))
    sale.change(row(f"{A} {C}"))
    assert sale.best(3) == Rejection.NOT_ENOUGH_SEATS.value
    sale.change(row(f"{A} {B} {C}"))
    assert sale.map.blocked == {}
    assert sale.best(3) == f"{A} {B} {C}"


def test_a_change_that_was_broken_off_can_be_repeated_at_any_step() -> None:
    drawing = row(f"{A} {D} {C}")
    sale = Sale(row(f"{A} {B} {C}"))
    revision = sale.revision(drawing)
    # The block is there and the plan is not yet.
    sale.do(BlockSeats(revision.removed, PLAN_CHANGE))
    assert isinstance(sale.do(BlockSeats(revision.removed, PLAN_CHANGE)), Repeated)
    assert isinstance(sale.change(drawing), Repeated)
    assert sale.plan == revision.plan
    # All is done; doing it again changes nothing.
    journal = list(sale.journal)
    assert sale.change(drawing) is None
    assert sale.journal == journal
    assert sale.best(3) == f"{A} {D} {C}"
