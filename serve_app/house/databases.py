"""The databases of a house: found or started, migrated, and closed again.

A house that is told no DSN has one embedded PostgreSQL. Commands beside a running house use that
server; when nothing runs they start it for as long as they need it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from persistence.embedded_postgres import EmbeddedPostgres
from persistence.migrate import MigrationFault
from persistence.provisioning import DatabaseUnusable, ensure_database, prepare_database
from persistence.shards import ShardMap
from serve_app.house.data_directory import DataDirectory
from serve_app.house_error import HouseError
from serve_app.logs import masked
from serve_app.settings import Settings

DATABASE = "housefull"
APPLICATION_ROLE = "housefull"


@dataclass(frozen=True, slots=True, repr=False)
class Databases:
    """Data source names; secrets.

    Shapes:
        shards: for those who serve customers.
        admin_urls: the same databases in the same order, for those who migrate or change the
            catalogue.
        migrations_applied: names of the migrations that were applied when these were opened.
    """

    shards: ShardMap
    admin_urls: tuple[str, ...]
    migrations_applied: tuple[str, ...] = ()

    @property
    def catalogue_admin_url(self) -> str:
        """Where the catalogue can be changed."""
        return self.admin_urls[0]


def prepare_embedded(
    settings: Settings, data: DataDirectory, postgres: EmbeddedPostgres
) -> Databases:
    """Make the embedded server's database ready.

    Raises:
        HouseError: it could not be done; the message says why.
    """
    password = data.application_password()
    admin_url = postgres.dsn(DATABASE)
    with _explained("the embedded PostgreSQL"):
        asyncio.run(ensure_database(postgres.dsn(), DATABASE))
        applied = asyncio.run(prepare_database(admin_url, role=APPLICATION_ROLE, password=password))
    url = postgres.dsn(DATABASE, APPLICATION_ROLE, password)
    return Databases(settings.shard_map((url,)), (admin_url,), tuple(applied))


def prepare_configured(settings: Settings) -> Databases:
    """Migrate the databases that the settings name.

    With separate administrators' DSNs, the roles of the other DSNs are made or granted what they
    need.

    Raises:
        HouseError: it could not be done; the message names the database and says why.
    """
    admin_urls = settings.admin_database_urls or settings.database_urls
    applied: list[str] = []
    for url, admin_url in zip(settings.database_urls, admin_urls, strict=True):
        role, password = _role_to_grant(url, admin_url)
        with _explained(masked(admin_url)):
            applied += asyncio.run(prepare_database(admin_url, role=role, password=password))
    return Databases(settings.shard_map(), admin_urls, tuple(applied))


@contextmanager
def open_databases(settings: Settings, what: str) -> Iterator[Databases]:
    """The databases for a command that works alone, at the newest schema.

    Args:
        what: the command, for the message that another one will show meanwhile.

    Raises:
        HouseError: they cannot be used, or another command has the data directory.
        EmbeddedServerError: the embedded server did not start.
    """
    if not settings.is_embedded_postgres:
        yield prepare_configured(settings)
        return
    data = DataDirectory(settings.data_dir)
    if (house := data.running()) is not None:
        yield Databases(settings.shard_map(house.database_urls), house.admin_database_urls)
        return
    with data.used_by(what, os.getpid()), EmbeddedPostgres(data.postgres) as postgres:
        yield prepare_embedded(settings, data, postgres)


def _role_to_grant(url: str, admin_url: str) -> tuple[str | None, str | None]:
    role, admin = urlsplit(url).username, urlsplit(admin_url).username
    if role is None or role == admin:
        return None, None
    password = urlsplit(url).password
    return unquote(role), None if password is None else unquote(password)


@contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except (DatabaseUnusable, MigrationFault) as error:
        raise HouseError(f"{where}: {error}") from error
