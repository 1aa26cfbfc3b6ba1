"""A plan that is revised while its show is sold, on a real database, from activation to audit."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from persistence.claim_reader import ClaimReader
from persistence.postgres_journal import PostgresJournal
from persistence.shards import ShardMap
from persistence.verification import verify_shows
from reservation.commands import (
    BlockSeats,
    Command,
    ConfirmHold,
    HoldBestAvailable,
    HoldSeats,
    UnblockSeats,
    Wish,
)
from reservation.events import Event, SeatsHeld
from reservation.ids import CustomerId, derive_hold_id
from reservation.plan_revision import Revision, revise
from reservation.rejections import Rejected
from reservation.seat_assignment import SeatChooser
from reservation.seat_map import Repeated, SeatMap
from reservation.seating_plan import SeatingPlan
from reservation.show import Show
from tests.conftest import House
from tests.support.drawings import Drawing, DrawnRow, imported
from tests.support.house import GENEROUS, make_show

ANN = CustomerId("ann")


def row(labels: str) -> Drawing:
    return (DrawnRow("Hall", "A", (tuple(labels.split()),)),)


class Owner:
    """Owns the show by one activation after another, as actors do."""

    def __init__(self, journal: PostgresJournal, show: Show) -> None:
        self._journal = journal
        self.show = show
        self._map = SeatMap(show, SeatChooser(show.plan))
        self._history: list[Event] = []

    async def activate(self, plan: SeatingPlan) -> None:
        self.show = replace(self.show, plan=plan)
        await self._journal.activate(self.show)
        self._map = SeatMap(self.show, SeatChooser(plan))
        for event in self._history:
            self._map.apply(event)

    async def do(self, command: Command) -> Event:
        event = self._map.decide(command, await self._journal.now_ms())
        assert not isinstance(event, Rejected | Repeated), event
        self._map.apply(event)
        await self._journal.append(self.show.show_id, [event])
        self._history.append(event)
        return event

    async def hold(self, label: str) -> None:
        hold_id = derive_hold_id(self.show.show_id, ANN, label)
        seats = (self.show.plan.labels.index(label),)
        whole = self.show.route.whole
        await self.do(HoldSeats(hold_id, ANN, whole, seats, (), False, label))

    async def book(self, label: str) -> None:
        await self.hold(label)
        hold_id = derive_hold_id(self.show.show_id, ANN, label)
        await self.do(ConfirmHold(hold_id, ANN, "card"))


@pytest.fixture
async def journal(empty_house: House) -> AsyncIterator[PostgresJournal]:
    journal = PostgresJournal(empty_house.application_dsn, "owner")
    yield journal
    await journal.close()


async def test_a_sale_goes_on_over_revisions_and_its_audit_is_clean(
    empty_house: House, journal: PostgresJournal
) -> None:
    plan = imported(row("a b c d"), category_count=1, tiers=())
    owner = Owner(journal, make_show("revised", plan=plan, policy=GENEROUS))
    await owner.activate(plan)
    await owner.book("a")
    await owner.hold("c")
    for drawing in (row("a x c d"), row("a x b c y d")):
        revision = revise(plan, imported(drawing, category_count=1, tiers=()))
        assert isinstance(revision, Revision)
        if revision.removed:
            await owner.do(BlockSeats(revision.removed, "plan_change"))
        plan = revision.plan
        await owner.activate(plan)
        if revision.restored:
            await owner.do(UnblockSeats(revision.restored))
    await owner.book("y")
    key = "best"
    best = await owner.do(
        HoldBestAvailable(
            derive_hold_id(owner.show.show_id, ANN, key), ANN, owner.show.route.whole, Wish(2), key
        )
    )
    assert isinstance(best, SeatsHeld)
    assert set(plan.labels_of(best.seat_indexes)) == {"x", "b"}
    async with asyncpg.create_pool(empty_house.application_dsn, min_size=1, max_size=1) as pool:
        snapshot = await ClaimReader([pool], ShardMap.even(("only",))).seat_map(owner.show.show_id)
        verdicts = [each async for each in verify_shows([pool], ShardMap.even(("only",)))]
    assert {plan.labels[seat] for seat in snapshot.taken} == {"a", "c", "y", "x", "b"}
    assert snapshot.blocked == {}
    (verdict,) = verdicts
    assert verdict.faults == []
    assert (verdict.show_id, verdict.seat_legs) == (owner.show.show_id, 5)
