"""What scenarios stand on, started when the first one needs it and kept for the next.

One PostgreSQL and one Valkey serve everybody, so that nobody has the better database. There is
one Ray at a time: a house below HTTP ends before a whole house starts, and the other way round.
Servers of the other contenders stay; without requests they use nothing.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

from benchmarks.contenders.line_up import create_contender_tables
from benchmarks.contenders.served import contender_servers
from benchmarks.private_house import PrivateHouse, private_house
from benchmarks.whole_house import WholeHouse, whole_house
from persistence.embedded_postgres import EmbeddedPostgres
from persistence.embedded_valkey import EmbeddedValkey
from persistence.provisioning import ensure_database

CONTENDERS_DATABASE = "contenders"
HOUSE_DATABASE = "house"

# Counting statements costs a little, so it is there but asleep (see ``statement_counts``).
_POSTGRES_SETTINGS = {
    "max_connections": "300",
    "shared_preload_libraries": "pg_stat_statements",
    "compute_query_id": "off",
    "pg_stat_statements.track": "none",
}


@dataclass(frozen=True, slots=True)
class Databases:
    """Two servers that run, and the database of the other contenders, with its tables."""

    postgres: EmbeddedPostgres
    valkey: EmbeddedValkey

    @property
    def contenders_dsn(self) -> str:
        """Where the usual ways keep their places."""
        return self.postgres.dsn(CONTENDERS_DATABASE)


class Grounds:
    """See the module's docstring. Use from the main thread, outside an event loop."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._everything = ExitStack()
        self._ray = ExitStack()
        self._databases: Databases | None = None
        self._private: PrivateHouse | None = None
        self._whole: WholeHouse | None = None
        self._servers: dict[int, list[int]] = {}

    def __enter__(self) -> Grounds:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._say("stopping")
        try:
            self._leave_ray()
        finally:
            self._everything.close()

    def databases(self) -> Databases:
        """PostgreSQL and Valkey."""
        if self._databases is None:
            self._say("starting PostgreSQL and Valkey")
            home = Path(self._everything.enter_context(tempfile.TemporaryDirectory(prefix="hf")))
            postgres = EmbeddedPostgres(home / "postgres", settings=_POSTGRES_SETTINGS)
            valkey = EmbeddedValkey(home / "valkey")
            self._databases = Databases(
                self._everything.enter_context(postgres), self._everything.enter_context(valkey)
            )
            asyncio.run(ensure_database(postgres.dsn(), CONTENDERS_DATABASE))
            asyncio.run(create_contender_tables(self._databases.contenders_dsn))
        return self._databases

    def private_house(self) -> PrivateHouse:
        """Ray and show actors, and no HTTP."""
        if self._private is None:
            self._leave_ray()
            postgres = self.databases().postgres
            self._say("starting Ray")
            self._private = self._ray.enter_context(private_house(postgres))
        return self._private

    def whole_house(self) -> WholeHouse:
        """A house with all that ``scripts/run`` starts."""
        if self._whole is None:
            self._leave_ray()
            databases = self.databases()
            self._say("starting a whole house")
            postgres = databases.postgres
            asyncio.run(ensure_database(postgres.dsn(), HOUSE_DATABASE))
            url = postgres.dsn(HOUSE_DATABASE, "housefull", quote(secrets.token_urlsafe(16)))
            self._whole = self._ray.enter_context(
                whole_house(url, postgres.dsn(HOUSE_DATABASE), databases.valkey.url)
            )
        return self._whole

    def contender_servers(self, workers: int) -> list[int]:
        """The usual ways over HTTP, in so many processes; their ports."""
        if workers not in self._servers:
            databases = self.databases()
            self._say(f"starting {workers} uvicorn for the other contenders")
            self._servers[workers] = self._everything.enter_context(
                contender_servers(databases.contenders_dsn, databases.valkey.url, workers)
            )
        return self._servers[workers]

    def _leave_ray(self) -> None:
        self._private = self._whole = None
        self._ray.close()
