"""The projector waits for calm, gives up on nothing, and loses no show."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from persistence import hold_projector
from persistence.hold_projector import SHOWS_AT_ONCE, HoldProjector
from reservation.faults import ShowUnavailable
from reservation.ids import ShowId

ONE, TWO = ShowId("shw_1"), ShowId("shw_2")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_projector, "CALM_S", 0.01)
    monkeypatch.setattr(hold_projector, "RETRY_PAUSE_S", 0.01)


class Database:
    """Notes what it is asked for, and says what it was told to say, then that nothing is left."""

    def __init__(self, *answers: Sequence[ShowId] | Exception) -> None:
        self.asked: list[list[ShowId]] = []
        self._answers = list(answers)

    async def project(self, show_ids: Sequence[ShowId], _: int) -> list[ShowId]:
        self.asked.append(list(show_ids))
        await asyncio.sleep(0)
        answer = self._answers.pop(0) if self._answers else []
        if isinstance(answer, Exception):
            raise answer
        return list(answer)


async def asked(database: Database, times: int) -> list[list[ShowId]]:
    async with asyncio.timeout(5):
        while len(database.asked) < times:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    return database.asked


async def test_shows_that_have_more_are_asked_for_again() -> None:
    database = Database([TWO])
    HoldProjector(database.project).appended([ONE, TWO], [])
    assert await asked(database, 2) == [[ONE, TWO], [TWO]]


async def test_nothing_is_done_between_the_batches_of_a_crowd(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hold_projector, "CALM_S", 0.2)
    database = Database()
    projector = HoldProjector(database.project)
    for _ in range(60):
        projector.appended([ONE], [])
        await asyncio.sleep(0.005)
        assert database.asked == []
    assert await asked(database, 1) == [[ONE]]


async def test_a_show_that_is_calm_itself_waits_for_its_busy_owner_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hold_projector, "CALM_S", 0.2)
    monkeypatch.setattr(hold_projector, "LATE_S", 0.6)
    database = Database()
    projector = HoldProjector(database.project)
    projector.appended([ONE], [])
    async with asyncio.timeout(5):
        while not database.asked:
            projector.appended([TWO], [])
            await asyncio.sleep(0.005)
    assert database.asked == [[ONE]], "the other one has a crowd"
    assert await asked(database, 2) == [[ONE], [TWO]]


async def test_a_show_whose_rows_a_batch_has_made_is_left_alone() -> None:
    database = Database()
    projector = HoldProjector(database.project)
    projector.appended([ONE, TWO], [])
    projector.appended([], [ONE])
    assert await asked(database, 1) == [[TWO]]


async def test_a_database_that_is_away_is_asked_again() -> None:
    database = Database(ShowUnavailable("away"), ShowUnavailable("away"))
    HoldProjector(database.project).appended([ONE], [])
    assert await asked(database, 3) == [[ONE]] * 3


async def test_rows_that_cannot_be_made_are_said_and_do_not_stop_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database(RuntimeError("a bug"))
    projector = HoldProjector(database.project)
    projector.appended([ONE], [])
    assert await asked(database, 1) == [[ONE]]
    assert "cannot be made for ['shw_1']" in caplog.text
    projector.appended([TWO], [])
    assert await asked(database, 2) == [[ONE], [TWO]]


async def test_a_batch_that_is_written_meanwhile_is_not_forgotten() -> None:
    projector: HoldProjector

    async def project(show_ids: Sequence[ShowId], _: int) -> list[ShowId]:
        seen.append(list(show_ids))
        if len(seen) == 1:
            projector.appended([ONE], [])
        return []

    seen: list[list[ShowId]] = []
    projector = HoldProjector(project)
    projector.appended([ONE], [])
    async with asyncio.timeout(5):
        while len(seen) < 2:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0.001)
    assert seen == [[ONE], [ONE]]


async def test_many_shows_are_done_in_steps() -> None:
    shows = [ShowId(f"shw_{number}") for number in range(2 * SHOWS_AT_ONCE + 1)]
    database = Database()
    HoldProjector(database.project).appended(shows, [])
    steps = await asked(database, 3)
    assert [len(step) for step in steps] == [SHOWS_AT_ONCE, SHOWS_AT_ONCE, 1]
    assert [show for step in steps for show in step] == shows


async def test_the_longer_a_step_takes_the_longer_the_next_one_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hold_projector, "PAUSE_TO_STEP", 10_000)
    shows = [ShowId(f"shw_{number}") for number in range(SHOWS_AT_ONCE + 1)]
    database = Database()

    async def slow(show_ids: Sequence[ShowId], batches: int) -> list[ShowId]:
        await asyncio.sleep(0.01)
        return await database.project(show_ids, batches)

    projector = HoldProjector(slow)
    projector.appended(shows, [])
    assert await asked(database, 1) == [shows[:SHOWS_AT_ONCE]]
    await projector.close()


async def test_closed_it_does_nothing_more() -> None:
    database = Database()
    projector = HoldProjector(database.project)
    projector.appended([ONE], [])
    await projector.close()
    await asyncio.sleep(0.05)
    assert database.asked == []
