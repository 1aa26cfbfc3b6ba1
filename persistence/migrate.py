"""Brings a database to the newest schema, and gives the application a role of its own.

Theory of operation

Migrations are the files ``sql/migrations/NNNN_name.sql``, numbered from 0001 without a gap and
only ever added to. Table ``schema_migration`` says which of them a database has. A runner takes
one advisory lock for its whole session, so of several that start at once one does the work and
the others find it done. Each file and its row in ``schema_migration`` are one transaction: a
file is applied completely and once, or not at all. There is no way back down; a mistake is
corrected by the next file.

A file that was applied must not change any more. Its checksum is compared on every run, because
an edited file would be right on new databases and silently missing from the old ones.

Tables belong to the role that migrates. The files grant what is needed to three group roles that
cannot log in: ``housefull_application`` (serves customers), ``housefull_organiser`` (changes the
catalogue) and ``housefull_accounts`` (passwords, sessions, keys). ``ensure_application_role`` makes
a login role that has the rights of the first, and may take on one of the others for a session
(``sessions.open_pool``): so a connection can do what its part of the program is for, no more.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import asyncpg

from reservation.faults import NotDone

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from asyncpg.pool import PoolConnectionProxy

_Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

APPLICATION_GROUP = "housefull_application"
ORGANISER_GROUP = "housefull_organiser"
ACCOUNTS_GROUP = "housefull_accounts"
GROUPS_TO_TAKE_ON = (ORGANISER_GROUP, ACCOUNTS_GROUP)
"""Groups whose rights a session has only when it asked for them."""

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")
_OWN_TRANSACTION = re.compile(
    r"^\s*(?:begin|start\s+transaction|commit|rollback)(?:\s+(?:work|transaction))?\s*;",
    re.IGNORECASE | re.MULTILINE,
)
_ADVISORY_LOCK = int.from_bytes(b"housefull"[:8], "big") >> 1
_SCRAM_ITERATIONS = 4096
_ROLE_ATTEMPTS_MAX = 10

_CREATE_TABLE = """
CREATE TABLE schema_migration (
    number     integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class MigrationFault(NotDone):
    """The database was left as the last migration that succeeded had made it.

    The message names the file and says what is wrong.
    """


class _Migration(NamedTuple):
    number: int
    name: str
    text: str
    checksum: str


async def migrate(
    dsn_or_connection: str | _Connection,
    *,
    directory: Traversable | None = None,
) -> list[str]:
    """Apply the migrations that the database does not have yet.

    Any number of processes may call this at the same time. The role must be allowed to create
    tables, and roles unless the group roles exist. The connection must be one session all
    the way: not through a pooler that changes servers between transactions.

    Args:
        dsn_or_connection: a connection must not be inside a transaction, and stays open. Its
            ``command_timeout``, if any, also limits the wait for another runner.
        directory: where the files are, instead of this package's own.

    Returns:
        The names of the files applied now, ``0001_catalogue`` and so on; empty when there was
        nothing to do.

    Raises:
        MigrationFault: the database is not encoded as UTF-8, a number is missing or there twice,
            an applied file has changed or is not known here, or a file failed; that file
            changed nothing, those before it are applied.
    """
    migrations = _read_migrations(directory or files("persistence") / "sql" / "migrations")
    if not isinstance(dsn_or_connection, str):
        return await _migrate(dsn_or_connection, migrations)
    connection = await asyncpg.connect(dsn_or_connection)
    try:
        return await _migrate(connection, migrations)
    finally:
        await connection.close()


def _read_migrations(directory: Traversable) -> list[_Migration]:
    migrations: list[_Migration] = []
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if not entry.name.endswith(".sql"):
            continue
        match = _FILE_NAME.fullmatch(entry.name)
        if match is None:
            raise MigrationFault(f"{entry.name}: a migration is called NNNN_name.sql")
        # A checkout may change line ends; that must not look like an edited file.
        text = entry.read_text(encoding="utf-8").replace("\r\n", "\n")
        own = _OWN_TRANSACTION.search(text)
        if own is not None:
            line = text.count("\n", 0, own.end()) + 1
            raise MigrationFault(f"{entry.name}:{line}: a migration is one transaction already")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        migrations.append(
            _Migration(int(match[1]), entry.name.removesuffix(".sql"), text, checksum)
        )
    for expected, migration in enumerate(migrations, start=1):
        if migration.number < expected:
            raise MigrationFault(
                f"{migration.name}.sql: number {migration.number:04} is there twice"
            )
        if migration.number > expected:
            raise MigrationFault(f"{migration.name}.sql: there is no migration {expected:04}")
    return migrations


async def _migrate(connection: _Connection, migrations: list[_Migration]) -> list[str]:
    if connection.is_in_transaction():
        raise ValueError("connection: it is inside a transaction")
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise MigrationFault(f"the database is encoded as {encoding}; create it with UTF8")
    await connection.execute("SELECT pg_advisory_lock($1)", _ADVISORY_LOCK)
    try:
        # Not even IF NOT EXISTS is allowed to somebody who may only use the tables.
        if await connection.fetchval("SELECT to_regclass('schema_migration')") is None:
            await connection.execute(_CREATE_TABLE)
        applied = await connection.fetch(
            "SELECT number, name, checksum FROM schema_migration ORDER BY number"
        )
        _compare(applied, migrations)
        fresh = migrations[len(applied) :]
        for migration in fresh:
            await _apply(connection, migration)
        return [migration.name for migration in fresh]
    finally:
        # The lock of a broken session is gone already.
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", _ADVISORY_LOCK)


def _compare(applied: list[asyncpg.Record], migrations: list[_Migration]) -> None:
    for expected, row in enumerate(applied, start=1):
        if row["number"] != expected:
            raise MigrationFault(f"schema_migration: the database has no migration {expected:04}")
        if expected > len(migrations):
            raise MigrationFault(
                f"{row['name']}.sql: the database has this migration and this program does not "
                "know it; the program is older than the database"
            )
        ours = migrations[expected - 1]
        if ours.name != row["name"]:
            raise MigrationFault(
                f"{ours.name}.sql: it was applied under the name {row['name']}; restore that name"
            )
        if ours.checksum != row["checksum"]:
            raise MigrationFault(
                f"{ours.name}.sql: it has changed since it was applied; restore it and put the "
                "change into a new migration"
            )


async def _apply(connection: _Connection, migration: _Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.text)
            await connection.execute(
                "INSERT INTO schema_migration (number, name, checksum) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationFault(f"{_place_of(error, migration)}: {error}") from error


def _place_of(error: asyncpg.PostgresError, migration: _Migration) -> str:
    # Postgres counts characters from 1 and gives no position for errors inside a function.
    position = getattr(error, "position", None)
    if position is None:
        return f"{migration.name}.sql"
    line = migration.text.count("\n", 0, int(position) - 1) + 1
    return f"{migration.name}.sql:{line}"


async def ensure_application_role(
    connection: _Connection,
    role: str,
    password: str | None,
) -> None:
    """Make sure that ``role`` can log in and may do what the application needs, no more.

    The role is made when missing. Afterwards its sessions have the rights of
    ``housefull_application``, and may take on those of ``GROUPS_TO_TAKE_ON`` instead; so
    ``migrate`` must have run. Safe to repeat, and safe from several processes at once.

    Args:
        password: printable ASCII; None leaves the password as it is. Only its SCRAM verifier
            is sent, so it appears in no log of the server.

    Raises:
        ValueError: an empty role name, or a password that is empty or not printable ASCII.
        NotDone: other sessions were changing the same role all the time.
    """
    if not role or "\0" in role or len(role.encode()) > 63:
        raise ValueError("role: not 1 to 63 bytes")
    verifier = None if password is None else _scram_verifier(password)
    for _ in range(_ROLE_ATTEMPTS_MAX):
        try:
            async with connection.transaction():
                await _ensure_role(connection, role, verifier)
                return
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            continue
        except asyncpg.InternalServerError as error:
            # Postgres has no row locks on its catalogues: "tuple concurrently updated".
            if "concurrently" not in str(error):
                raise
    raise NotDone(f"role {role}: other sessions keep changing it")


async def _ensure_role(
    connection: _Connection,
    role: str,
    verifier: str | None,
) -> None:
    can_login = await connection.fetchval(
        "SELECT rolcanlogin FROM pg_catalog.pg_roles WHERE rolname = $1", role
    )
    if can_login is None:
        await _execute_formatted(connection, "CREATE ROLE %I LOGIN", role)
    elif not can_login:
        await _execute_formatted(connection, "ALTER ROLE %I LOGIN", role)
    if verifier is not None:
        await _execute_formatted(connection, "ALTER ROLE %I PASSWORD %L", role, verifier)
    if not await _is_member(connection, role, APPLICATION_GROUP):
        await _execute_formatted(connection, "GRANT %I TO %I", APPLICATION_GROUP, role)
    if _members_inherit(connection):
        # A role inherits from all its groups or from none. So from none, and its sessions begin
        # as a member of the one group.
        await _execute_formatted(connection, "ALTER ROLE %I NOINHERIT", role)
        await _execute_formatted(connection, "ALTER ROLE %I SET role = %L", role, APPLICATION_GROUP)
    groups = await groups_missing(connection, role)
    if groups:
        await connection.execute(await grant_to_take_on(connection, groups, role))


async def take_on_groups(connection: _Connection) -> None:
    """Let the role that the connection is logged in as take on every group.

    Raises:
        asyncpg.InsufficientPrivilegeError: it may not, and may not grant itself that it may.
    """
    role = await connection.fetchval("SELECT current_user")
    groups = await groups_missing(connection, role)
    if groups:
        await connection.execute(await grant_to_take_on(connection, groups, role))


async def groups_missing(connection: _Connection, role: str) -> list[str]:
    """The groups that sessions of ``role`` could not take on, as far as all these exist."""
    privilege = "MEMBER" if _members_inherit(connection) else "SET"
    rows = await connection.fetch(
        "SELECT g.rolname FROM pg_catalog.pg_roles g, pg_catalog.pg_roles r"
        " WHERE g.rolname = ANY($1) AND r.rolname = $2 AND NOT pg_has_role(r.oid, g.oid, $3)"
        " ORDER BY g.rolname",
        GROUPS_TO_TAKE_ON,
        role,
        privilege,
    )
    return [row["rolname"] for row in rows]


async def grant_to_take_on(connection: _Connection, groups: list[str], role: str) -> str:
    """The statement that lets sessions of ``role`` take on these groups."""
    places = ", ".join(["%I"] * len(groups))
    option = "" if _members_inherit(connection) else " WITH INHERIT FALSE, SET TRUE"
    return await _formatted(connection, f"GRANT {places} TO %I{option}", *groups, role)


async def _is_member(connection: _Connection, role: str, group: str) -> bool:
    is_member: bool = await connection.fetchval("SELECT pg_has_role($1, $2, 'MEMBER')", role, group)
    return is_member


def _members_inherit(connection: _Connection) -> bool:
    """Whether this server cannot make somebody a member who does not inherit."""
    return connection.get_server_version().major < 16


async def _execute_formatted(connection: _Connection, template: str, *names: str) -> None:
    await connection.execute(await _formatted(connection, template, *names))


async def _formatted(connection: _Connection, template: str, *names: str) -> str:
    # Statements about roles take no parameters, so the server does the quoting.
    statement: str = await connection.fetchval(
        "SELECT format($1, VARIADIC $2::text[])", template, list(names)
    )
    return statement


def _scram_verifier(password: str) -> str:
    """What Postgres stores for a password (RFC 5803), made here so that the password stays here."""
    # Outside of printable ASCII a password has several spellings, which SASLprep would unify.
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("password: not printable ASCII, or empty")
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, _SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${_SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"
