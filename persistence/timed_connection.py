"""A connection to Postgres on which every request ends: with an answer, or with the connection.

A line can fall silent without ending: a firewall forgets it, a node is lost, a server is stopped by
a signal. Whoever waits on it would wait for ever, and so would everybody who waits for them.

asyncpg's own time-outs ask the server to cancel the statement, over one more connection. That one
may be silent, too; and a commit that is cancelled while it waits for a synchronous replica looks
like a success. Ending the line is honest: what became of the request is not known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import asyncpg

if TYPE_CHECKING:
    _Base = asyncpg.Connection[asyncpg.Record]
else:
    _Base = asyncpg.Connection

T = TypeVar("T")

CLOSE_WITHIN_S = 5.0
"""So long a server has to say good-bye, or that it has stopped what nobody waits for any more."""


class TimedConnection(_Base):
    """A connection that is ended when a request on it has no answer in time.

    The request then fails as one whose line was lost. ``timeout`` of a request is its own time, in
    seconds, instead of the connection's. Cursors and prepared statements are not timed.
    """

    answer_within_s = 10.0

    async def execute(self, query: str, *args: object, timeout: float | None = None) -> str:
        return await self._within(timeout, super().execute(query, *args))

    async def executemany(self, command: str, args: Any, *, timeout: float | None = None) -> None:
        await self._within(timeout, super().executemany(command, args))

    async def fetch(
        self, query: str, *args: object, timeout: float | None = None, record_class: Any = None
    ) -> Any:
        return await self._within(timeout, super().fetch(query, *args, record_class=record_class))

    async def fetchrow(
        self, query: str, *args: object, timeout: float | None = None, record_class: Any = None
    ) -> Any:
        request = super().fetchrow(query, *args, record_class=record_class)
        return await self._within(timeout, request)

    async def fetchval(
        self, query: str, *args: object, column: int = 0, timeout: float | None = None
    ) -> Any:
        return await self._within(timeout, super().fetchval(query, *args, column=column))

    async def close(self, *, timeout: float | None = None) -> None:
        # A pool closes what it does not use any more in the background, where nobody would notice
        # that it never ends. In time or not, the connection is closed then.
        with suppress(TimeoutError):
            await super().close(timeout=CLOSE_WITHIN_S if timeout is None else timeout)

    async def _within(self, timeout_s: float | None, request: Coroutine[Any, Any, T]) -> T:
        seconds = self.answer_within_s if timeout_s is None else timeout_s
        timer = asyncio.get_running_loop().call_later(seconds, self.terminate)
        try:
            return await request
        finally:
            timer.cancel()


class WriterConnection(TimedConnection):
    """The connection of a journal: a hold that takes longer is of no use to anybody."""

    answer_within_s = 5.0


def timed_connection(answer_within_s: float | None) -> type[TimedConnection]:
    """The class of connections whose requests may take so long; None for the usual time."""
    if answer_within_s is None:
        return TimedConnection
    return type("PatientConnection", (TimedConnection,), {"answer_within_s": answer_within_s})
