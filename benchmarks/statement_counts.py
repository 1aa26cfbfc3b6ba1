"""Counts the statements that reach a PostgreSQL, while it is asked to.

``pg_stat_statements`` is loaded by the grounds and sleeps, because it costs a little; here it is
woken for one measurement. It counts what the server executes, whoever sent it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

_WAKE = (
    "CREATE EXTENSION IF NOT EXISTS pg_stat_statements",
    "ALTER SYSTEM SET compute_query_id = on",
    "ALTER SYSTEM SET pg_stat_statements.track = 'top'",
    "SELECT pg_reload_conf()",
)
_SLEEP = (
    "ALTER SYSTEM RESET compute_query_id",
    "ALTER SYSTEM RESET pg_stat_statements.track",
    "SELECT pg_reload_conf()",
)
# What writes is told by the functions through which alone the owners of shows write.
_READS = """
SELECT query, calls FROM pg_stat_statements s JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = current_database()
    AND query !~* 'append_batch|activate_show|project_holds'
    AND query !~* 'pg_stat_|pg_reload|^(begin|commit|rollback|set|show)'
"""


class StatementCounts:
    """The statements of one database since ``restart``."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def restart(self) -> None:
        """Count from zero."""
        await self._connection.execute("SELECT pg_stat_statements_reset()")

    async def reads(self) -> dict[str, int]:
        """How often each statement was executed that is not the write path's."""
        return {row["query"]: row["calls"] for row in await self._connection.fetch(_READS)}


@asynccontextmanager
async def statement_counts(dsn: str) -> AsyncIterator[StatementCounts]:
    """Counting, for a while; ``dsn`` is the superuser's."""
    connection = await asyncpg.connect(dsn)
    try:
        for statement in _WAKE:
            await connection.execute(statement)
        yield StatementCounts(connection)
        for statement in _SLEEP:
            await connection.execute(statement)
    finally:
        await connection.close()
