"""What one show actor needs of the databases: the catalogue to read, the journal to write."""

from __future__ import annotations

import secrets

from persistence.catalogue import Catalogue
from persistence.postgres_journal import PostgresJournal
from persistence.sessions import open_pool

OWNER_NAME_MAX = 63
"""Postgres cuts longer application names, and two owners could look like one."""


async def open_show_store(
    catalogue_dsn: str, dsn: str, *, owner: str
) -> tuple[Catalogue, PostgresJournal]:
    """The catalogue, and a journal for the shows of one database. Connects on first use."""
    incarnation = f"{owner}#{secrets.token_hex(4)}"
    assert len(incarnation) <= OWNER_NAME_MAX, incarnation
    pool = await open_pool(catalogue_dsn, incarnation, size_max=2)
    return Catalogue(pool), PostgresJournal(dsn, incarnation)
