"""One statement and one commit for what many ask at once, without one being harmed by another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import asyncpg

from persistence.coalesced import Coalesced
from persistence.sessions import has_given_up
from reservation.faults import Fault

_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


class Together(Generic[_Item, _Answer]):
    """Asks for all that wait in one transaction; see ``Coalesced`` for when it leaves.

    What the database refuses to all together is asked for one by one, because a transaction that
    was refused changed nothing: only the one at fault hears of it. When the database is away, all
    hear of that.
    """

    def __init__(self, ask: Callable[[Sequence[_Item]], Awaitable[Sequence[_Answer]]]) -> None:
        """``ask`` answers in order."""
        self._ask = ask
        self._trips = Coalesced[_Item, _Answer | Exception](self._asked, waits_for_company=True)

    async def __call__(self, item: _Item) -> _Answer:
        """The answer.

        Raises:
            whatever asking for this one alone raises.
        """
        answers = await self._trips([item])
        assert answers is not None, "there is an answer"
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _asked(self, items: Sequence[_Item]) -> list[_Answer | Exception]:
        try:
            return [*await self._ask(items)]
        except asyncpg.PostgresError as error:
            return [error] if len(items) == 1 else [await self._alone(item) for item in items]
        except Fault as fault:
            if len(items) == 1 or not has_given_up(fault):
                raise
            return [await self._alone(item) for item in items]

    async def _alone(self, item: _Item) -> _Answer | Exception:
        try:
            return (await self._ask([item]))[0]
        except (Fault, asyncpg.PostgresError) as error:
            return error
