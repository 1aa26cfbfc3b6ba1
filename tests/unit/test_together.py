"""Questions that share a statement: who shares, and who suffers when one of them is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from persistence.coalesced import COMPANY_WAIT_S_MAX, Coalesced
from persistence.together import Together
from reservation.faults import ShowUnavailable


class Statements:
    """Answers each number with its double, as a database would: all of a statement, or nothing."""

    def __init__(self, refused: Exception | None = None, bad: frozenset[int] = frozenset()) -> None:
        self.asked: list[list[int]] = []
        self._refused = refused
        self._bad = bad

    async def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.asked.append([*numbers])
        await asyncio.sleep(0)
        if self._refused is not None and self._bad.intersection(numbers):
            raise self._refused
        return [2 * number for number in numbers]


def gave_up() -> ShowUnavailable:
    fault = ShowUnavailable("others held it")
    fault.__cause__ = asyncpg.DeadlockDetectedError("deadlock detected")
    return fault


async def test_what_is_asked_while_a_statement_is_under_way_leaves_in_the_next_one() -> None:
    statements = Statements()
    together = Together(statements)
    assert await asyncio.gather(*map(together, range(5))) == [0, 2, 4, 6, 8]
    assert statements.asked == [[0, 1, 2, 3, 4]]
    first = asyncio.ensure_future(together(1))
    await asyncio.sleep(0)
    assert await asyncio.gather(first, *map(together, (2, 3))) == [2, 4, 6]
    assert statements.asked[1:] == [[1], [2, 3]]


@pytest.mark.parametrize("refused", [asyncpg.RaiseError("no"), gave_up()])
async def test_only_the_one_at_fault_hears_that_the_database_refuses(refused: Exception) -> None:
    together = Together(Statements(refused, frozenset({1})))
    answers = await asyncio.gather(*map(together, range(3)), return_exceptions=True)
    assert answers == [0, refused, 4]
    with pytest.raises(type(refused)):
        await together(1)


async def test_all_hear_at_once_that_the_database_is_away() -> None:
    statements = Statements(ShowUnavailable("away"), frozenset({1}))
    together = Together(statements)
    answers = await asyncio.gather(*map(together, range(3)), return_exceptions=True)
    assert [type(each) for each in answers] == [ShowUnavailable] * 3
    assert statements.asked == [[0, 1, 2]], "nobody asks a database that is away once more"
    assert await together(0) == 0


async def test_one_that_does_not_wait_any_more_takes_no_answer_from_the_others() -> None:
    together = Together(Statements())
    tasks = [asyncio.ensure_future(together(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    assert await asyncio.gather(*tasks[1:]) == [2, 4]


class _Asyncio:
    """``asyncio``, whose ``sleep`` is over at once and noted."""

    def __init__(self) -> None:
        self.pauses: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)


async def test_a_crowd_waits_for_company_and_who_is_alone_never_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def ask(numbers: Sequence[int]) -> list[int]:
        await asyncio.sleep(0.001 * len(numbers))
        return [*numbers]

    seen = _Asyncio()
    monkeypatch.setattr("persistence.coalesced.asyncio", seen)
    patient = Coalesced(ask, waits_for_company=True)
    await patient([1])
    await patient([1, 2, 3])
    assert seen.pauses == [], "one who asks for three things is alone"
    await asyncio.gather(patient([1]), patient([2]))
    await asyncio.gather(*(patient([number]) for number in range(50)))
    assert len(seen.pauses) == 2
    assert seen.pauses[0] >= 0.001
    assert seen.pauses[1] == COMPANY_WAIT_S_MAX
    hasty = Coalesced(ask)
    await asyncio.gather(hasty([1]), hasty([2]))
    assert len(seen.pauses) == 2
